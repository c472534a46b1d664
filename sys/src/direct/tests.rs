//! Against ordinary reads of the same bytes, on a disk file, a tmpfs and a loop device.

use std::fs;
use std::io::Write;

use super::*;
use crate::loop_device::{self, AttachOptions};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i / 3 + i / 4096) % 251).unwrap()).collect()
}

/// Ranges that cross every boundary: units, alignment, the tail, one byte, nothing.
fn check(reader: &DirectReader, bytes: &[u8]) {
    assert_eq!(reader.len(), bytes.len() as u64);
    let len = bytes.len();
    let ranges = [
        (0, len),
        (0, 0),
        (len, 0),
        (len - 1, 1),
        (0, 1),
        (1, len - 2),
        (UNIT - 1, 2),
        (UNIT - 5, UNIT + 10),
        (ALIGN + 1, BULK + 77),
        (len - 16384, 16384),
        (len - UNIT - 3, UNIT + 3),
    ];
    for (offset, count) in ranges {
        let mut buf = vec![0xEE; count];
        reader.read_exact_at(offset as u64, &mut buf).unwrap();
        assert!(buf == bytes[offset..offset + count], "{offset}+{count}");
    }
    // Blocks in random order, from several threads: more units than the cache keeps.
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            scope.spawn(move || {
                for step in 0..400_usize {
                    let offset = (step * 7919 + thread * 104_729) * 1013 % (len - 16384);
                    let mut buf = vec![0; 16384];
                    reader.read_exact_at(offset as u64, &mut buf).unwrap();
                    assert!(buf == bytes[offset..offset + 16384], "{offset}");
                }
            });
        }
    });
    for (offset, count) in [(len as u64, 1), (len as u64 - 1, 2), (u64::MAX, 1), (0, len + 1)] {
        let error = reader.read_exact_at(offset, &mut vec![0; count]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[test]
fn odd_sized_file_on_disk() {
    let bytes = pattern((5 << 20) + 12345);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    check(&DirectReader::open(file.path()).unwrap(), &bytes);
}

#[test]
fn file_without_direct_io_is_read_buffered() {
    // /proc refuses O_DIRECT on every kernel.
    let reader = DirectReader::from_file(File::open("/proc/self/maps").unwrap(), Path::new("maps"));
    // ... and has no length: it is refused or empty, but nothing panics.
    assert!(reader.is_err() || !reader.unwrap().is_direct());

    let bytes = pattern((6 << 20) + 1);
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").expect("/dev/shm is a tmpfs");
    file.write_all(&bytes).unwrap();
    let reader = DirectReader::open(file.path()).unwrap();
    check(&reader, &bytes);
    set_direct(reader.file(), false).unwrap();
    reader.direct.store(false, Ordering::Relaxed);
    check(&reader, &bytes);
}

#[test]
fn loop_device_is_read_directly() {
    let bytes = pattern((5 << 20) + 512 * 3);
    let dir = tempfile::tempdir_in("/dev/shm").expect("/dev/shm is a tmpfs");
    let path = dir.path().join("image");
    fs::write(&path, &bytes).unwrap();
    let options = AttachOptions { autoclear: true, ..AttachOptions::default() };
    let device = loop_device::attach(&path, &options).expect("loop devices need root");
    let reader = DirectReader::open(device.path()).unwrap();
    assert!(reader.is_direct());
    check(&reader, &bytes);
    assert!(reader.is_direct());
}

#[test]
fn file_truncated_behind_the_reader_is_an_error_not_zeros() {
    let bytes = pattern(4 << 20);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let reader = DirectReader::open(file.path()).unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    for count in [16384, 1 << 20] {
        let error = reader.read_exact_at(3 << 20, &mut vec![0; count]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
    }
}

#[test]
fn missing_file_is_named() {
    let error = DirectReader::open(Path::new("/nonexistent/image")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/image"));
}
