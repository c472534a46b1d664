//! With real loop devices: needs root and the loop driver.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

use super::*;

/// Detaches also when the test fails.
struct Guard(Option<LoopDevice>);

impl Guard {
    fn attach(path: &Path, options: &AttachOptions) -> Self {
        Self(Some(attach(path, options).expect("loop devices need root and the loop driver")))
    }
    fn get(&self) -> &LoopDevice {
        self.0.as_ref().expect("taken only on drop")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(device) = self.0.take() {
            device.detach().expect("detaches");
        }
    }
}

fn image(dir: &Path, len: usize) -> (PathBuf, Vec<u8>) {
    let bytes: Vec<u8> = (0..len).map(|i| u8::try_from(i / 7 % 251).unwrap()).collect();
    let path = dir.join("image");
    fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

#[test]
fn device_shows_the_file_and_only_that() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = image(dir.path(), 1 << 20);
    let device = Guard::attach(&path, &AttachOptions::default());
    let device = device.get();
    assert_eq!(device.size().unwrap(), bytes.len() as u64);
    assert_eq!(device_size(device.path()).unwrap(), bytes.len() as u64);
    assert_eq!(device.number(), DeviceNumber::of_path(device.path()).unwrap());
    assert_eq!(device.number().major, 7);
    assert_eq!(backing_file(device.number()).unwrap(), path.canonicalize().unwrap());
    let mut read = Vec::new();
    File::open(device.path()).unwrap().read_to_end(&mut read).unwrap();
    assert!(read == bytes);
}

#[test]
fn read_only_device_refuses_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = image(dir.path(), 8192);
    let device = Guard::attach(&path, &AttachOptions::default());
    let written = OpenOptions::new().write(true).open(device.get().path()).and_then(|mut file| {
        file.write_all(b"changed")?;
        file.sync_all()
    });
    assert!(written.is_err());
    assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn unlinked_file_stays_readable_through_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = image(dir.path(), 64 << 10);
    let device = Guard::attach(&path, &AttachOptions::default());
    fs::remove_file(&path).unwrap();
    let mut read = vec![0; bytes.len()];
    device.get().file().read_exact_at(&mut read, 0).unwrap();
    assert!(read == bytes);
    let name = backing_file(device.get().number()).unwrap();
    assert!(name.to_string_lossy().ends_with(" (deleted)"), "{}", name.display());
}

#[test]
fn the_two_step_way_of_old_kernels_works_too() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = image(dir.path(), 64 << 10);
    let backing = File::open(&path).unwrap();
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control").unwrap();
    let options =
        AttachOptions { direct_io: true, block_size: Some(4096), ..AttachOptions::default() };
    let device = std::iter::repeat_with(|| {
        thread::sleep(Duration::from_millis(2));
        attach_to_free(&control, &backing, &path, &options, ioctl::configure_in_steps).unwrap()
    })
    .flatten()
    .next()
    .expect("the iterator has no end");
    let device = Guard(Some(device));
    assert_eq!(device.get().size().unwrap(), bytes.len() as u64);
    let mut read = vec![0; bytes.len()];
    device.get().file().read_exact_at(&mut read, 0).unwrap();
    assert!(read == bytes);
}

#[test]
fn a_refused_option_leaves_nothing_attached() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = image(dir.path(), 64 << 10);
    // Refused by the one-step ioctl and by the two steps tried after it.
    let bad = AttachOptions { block_size: Some(777), ..AttachOptions::default() };
    let error = attach(&path, &bad).unwrap_err();
    assert!(matches!(error, LoopError::Attach { .. }), "{error}");
    let canonical = path.canonicalize().unwrap();
    for entry in fs::read_dir("/sys/block").unwrap() {
        let name = entry.unwrap().path().join("loop/backing_file");
        let shown = fs::read_to_string(name).unwrap_or_default();
        assert_ne!(shown.trim_end(), canonical.to_string_lossy());
    }
    let big = AttachOptions { block_size: Some(4096), ..AttachOptions::default() };
    let device = Guard::attach(&path, &big);
    assert_eq!(device.get().size().unwrap(), bytes.len() as u64);
}

#[test]
fn autoclear_detaches_when_the_handle_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = image(dir.path(), 8192);
    let options = AttachOptions { autoclear: true, direct_io: true, ..AttachOptions::default() };
    let device = attach(&path, &options).expect("loop devices need root and the loop driver");
    let number = device.number();
    let canonical = path.canonicalize().unwrap();
    drop(device);
    // The kernel clears it in the background; another test may take the number at once.
    let gone = (0..1000).any(|_| {
        let cleared = backing_file(number).is_none_or(|shown| shown != canonical);
        if !cleared {
            thread::sleep(Duration::from_millis(10));
        }
        cleared
    });
    assert!(gone, "still attached after 10 s");
}

#[test]
fn concurrent_attaches_get_different_devices() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = image(dir.path(), 8192);
    let devices: Vec<Guard> = thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| Guard::attach(&path, &AttachOptions::default())))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut numbers: Vec<u32> = devices.iter().map(|d| d.get().number().minor).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 6);
}

#[test]
fn bad_input_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = image(dir.path(), 1000);
    let error = attach(&path, &AttachOptions::default()).unwrap_err();
    assert!(matches!(error, LoopError::Unaligned { len: 1000, .. }), "{error}");
    let error = attach(&dir.path().join("nothing"), &AttachOptions::default()).unwrap_err();
    assert!(matches!(error, LoopError::Open { .. }), "{error}");
    let error = DeviceNumber::of_path(&path).unwrap_err();
    assert!(matches!(error, LoopError::NotBlockDevice { .. }), "{error}");
    assert!(detach(&path).is_err());
}
