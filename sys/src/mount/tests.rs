//! With real mounts: needs root, and mksquashfs and mkfs.erofs for the images.

use std::fs;
use std::process::Command;

use super::*;
use crate::loop_device::{self, AttachOptions};

/// Unmounts also when the test fails.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0, true).expect("unmounts");
    }
}

const DATA: TmpfsOptions = TmpfsOptions {
    size: Some(1 << 20),
    mode: 0o700,
    interleave: true,
    huge: true,
    data_only: true,
};

fn tmpfs_on(path: &Path, options: &TmpfsOptions) -> Mounted {
    fs::create_dir_all(path).unwrap();
    tmpfs(path, options).expect("mounting needs root");
    Mounted(path.into())
}

#[test]
fn tmpfs_is_as_large_as_asked_and_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let point = dir.path().canonicalize().unwrap().join("with space");
    let mounted = tmpfs_on(&point, &DATA);
    assert!(is_mounted(&point).unwrap());
    assert!(!is_mounted(dir.path()).unwrap());
    let full = fs::write(point.join("big"), vec![1; 2 << 20]).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    drop(mounted);
    assert!(!is_mounted(&point).unwrap());
}

#[test]
fn what_is_granted_is_in_the_list_of_mounts() {
    let dir = tempfile::tempdir().unwrap();
    let point = dir.path().canonicalize().unwrap().join("image");
    fs::create_dir_all(&point).unwrap();
    let granted = tmpfs(&point, &DATA).expect("mounting needs root");
    let _mounted = Mounted(point.clone());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|line| line.contains(point.to_str().unwrap())).unwrap();
    for wish in ["mpol=interleave", "huge=within_size"] {
        assert_eq!(line.contains(wish), granted.contains(&wish), "{line}");
    }
    let huge = Path::new("/sys/kernel/mm/transparent_hugepage/shmem_enabled").exists();
    assert_eq!(granted.contains(&"huge=within_size"), huge, "{granted:?}");
}

#[test]
fn an_image_under_an_overlay_is_a_writable_root() {
    under_an_overlay("mksquashfs", "squashfs-tools", |command, source, image| {
        command.arg(source).arg(image);
    });
    under_an_overlay("mkfs.erofs", "erofs-utils", |command, source, image| {
        command.arg("-zlz4").arg(image).arg(source);
    });
}

fn under_an_overlay(program: &str, package: &str, args: impl Fn(&mut Command, &Path, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    let source = base.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("hello"), "from the image").unwrap();
    let image = base.join("image.sfs");
    let mut command = Command::new(program);
    args(&mut command, &source, &image);
    let made = command.output().unwrap_or_else(|e| panic!("install {package}: {e}"));
    assert!(made.status.success(), "{made:?}");

    let device =
        loop_device::attach(&image, &AttachOptions { autoclear: true, ..AttachOptions::default() })
            .expect("loop devices need root");
    let lower = base.join("lower");
    fs::create_dir(&lower).unwrap();
    super::image(device.path(), &lower).unwrap();
    let _lower = Mounted(lower.clone());
    drop(device);

    let writable = base.join("over,lay:dir");
    let _writable = tmpfs_on(&writable, &TmpfsOptions { data_only: false, ..DATA });
    let (upper, work, root) = (writable.join("upper"), writable.join("work"), base.join("root"));
    for path in [&upper, &work, &root] {
        fs::create_dir(path).unwrap();
    }
    overlay(&root, &[&lower], &upper, &work).unwrap();
    let _root = Mounted(root.clone());
    assert_eq!(fs::read_to_string(root.join("hello")).unwrap(), "from the image");
    fs::write(root.join("hello"), "changed").unwrap();
    assert_eq!(fs::read_to_string(lower.join("hello")).unwrap(), "from the image");
    assert_eq!(fs::read_to_string(upper.join("hello")).unwrap(), "changed");
}

#[test]
fn mounts_in_a_namespace_of_their_own_are_seen_by_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    // a thread has a namespace of its own then
    std::thread::spawn(move || {
        own_namespace().expect("needs root");
        tmpfs(&path, &DATA).unwrap();
        fs::write(path.join("inside"), "x").unwrap();
        let table = fs::read("/proc/thread-self/mountinfo").unwrap();
        assert!(is_listed(&table, &path));
    })
    .join()
    .unwrap();
    assert!(!is_mounted(dir.path()).unwrap());
    assert!(!dir.path().join("inside").exists());
}

#[test]
fn refusals_name_the_target_and_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let error = tmpfs(&dir.path().join("nowhere"), &DATA).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert!(error.to_string().contains("does not exist"), "{error}");

    let image = dir.path().join("zeros");
    fs::write(&image, vec![0; 1 << 16]).unwrap();
    let options = AttachOptions { autoclear: true, ..AttachOptions::default() };
    let device = loop_device::attach(&image, &options).expect("loop devices need root");
    let error = super::image(device.path(), dir.path()).unwrap_err();
    assert!(error.to_string().contains("neither a squashfs nor an EROFS"), "{error}");

    // the magic number alone
    let mut bytes = fs::read(&image).unwrap();
    bytes[..4].copy_from_slice(b"hsqs");
    fs::write(&image, bytes).unwrap();
    let device = loop_device::attach(&image, &options).expect("loop devices need root");
    let error = super::image(device.path(), dir.path()).unwrap_err();
    assert!(error.to_string().contains("damaged squashfs image"), "{error}");

    let error = unmount(&dir.path().join("nowhere"), false).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}
