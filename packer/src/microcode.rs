//! CPU microcode: an archive of its own, unpacked, in front of the initrd, where the kernel looks
//! for it before it can unpack anything (Documentation/arch/x86/microcode.rst).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::cpio;
use crate::error::PackError;
use crate::inside::resolve;
use crate::tool::Place;

/// Directory in the root, beginning and end of the files' names, and where the kernel looks.
const VENDORS: [(&str, &str, &str, &str); 2] = [
    ("usr/lib/firmware/intel-ucode", "", "", "kernel/x86/microcode/GenuineIntel.bin"),
    (
        "usr/lib/firmware/amd-ucode",
        "microcode_amd",
        ".bin",
        "kernel/x86/microcode/AuthenticAMD.bin",
    ),
];

/// Puts the microcode that the root has in front of `initrd`; nothing when it has none.
pub(crate) fn prepend(
    root: &Path,
    initrd: &Path,
    work: &Path,
    place: &Place<'_>,
) -> Result<(), PackError> {
    let mut found = Vec::new();
    for (dir, begin, end, name) in VENDORS {
        if let Some(dir) = resolve(root, dir)? {
            let bytes = all(&dir, begin, end)?;
            if !bytes.is_empty() {
                found.push((name, bytes));
            }
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let mut entries = vec![("kernel", None), ("kernel/x86", None), ("kernel/x86/microcode", None)];
    entries.extend(found.iter().map(|(name, bytes)| (*name, Some(&bytes[..]))));
    let whole = work.join("initrd-with-microcode.img");
    let write = |e| place.write_error(whole.clone(), e);
    let mut to = File::create(&whole).map_err(write)?;
    to.write_all(&cpio::write(&entries).map_err(write)?).map_err(write)?;
    let read = |source| PackError::Read { path: initrd.to_owned(), source };
    io::copy(&mut File::open(initrd).map_err(read)?, &mut to).map_err(write)?;
    fs::rename(&whole, initrd).map_err(write)
}

/// The contents of a directory's files, one after the other, by name.
fn all(dir: &Path, begin: &str, end: &str) -> Result<Vec<u8>, PackError> {
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| PackError::Read { path, source }
    };
    let entries = fs::read_dir(dir).map_err(read(dir))?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>().map_err(read(dir))?;
    paths.sort();
    let mut bytes = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(begin) && name.ends_with(end) && path.is_file() {
            bytes.extend(fs::read(&path).map_err(read(&path))?);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microcode_goes_in_front_and_nothing_when_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (root, initrd) = (dir.path().join("root"), dir.path().join("initrd"));
        fs::create_dir(&root).unwrap();
        fs::write(&initrd, "initrd").unwrap();
        let place = Place { store: dir.path(), step: "testing" };
        prepend(&root, &initrd, dir.path(), &place).unwrap();
        assert_eq!(fs::read(&initrd).unwrap(), b"initrd");

        let amd = root.join("usr/lib/firmware/amd-ucode");
        fs::create_dir_all(&amd).unwrap();
        fs::write(amd.join("microcode_amd_fam17h.bin"), "17").unwrap();
        fs::write(amd.join("microcode_amd_fam15h.bin"), "15").unwrap();
        fs::write(amd.join("microcode_amd.bin.asc"), "signature").unwrap();
        prepend(&root, &initrd, dir.path(), &place).unwrap();
        let bytes = fs::read(&initrd).unwrap();
        let mut seen = Vec::new();
        cpio::read(&mut &bytes[..], |entry, contents| seen.push((entry.path, contents))).unwrap();
        let last = seen.pop().unwrap();
        assert_eq!(last, ("kernel/x86/microcode/AuthenticAMD.bin".to_owned(), b"1517".to_vec()));
        assert!(bytes.ends_with(b"initrd") && (bytes.len() - 6) % 512 == 0);
    }
}
