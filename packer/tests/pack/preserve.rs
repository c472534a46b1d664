//! What a root has, its image has: packed from a directory and from a tar, mounted, compared.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{
    Mounted, complete, events, files, pack_image, packer, run, scratch, small_root, text,
};

/// A root with one of everything that gets lost easily.
fn nasty_root(dir: &Path) -> PathBuf {
    let root = small_root(dir);
    let srv = root.join("srv");
    fs::create_dir(&srv).unwrap();
    let file = |name: &[u8], content: &[u8]| {
        let path = srv.join(OsStr::from_bytes(name));
        fs::write(&path, content).unwrap();
        path
    };
    let original = file(b"original", b"linked twice");
    fs::hard_link(&original, srv.join("hard link")).unwrap();
    fs::hard_link(&original, root.join("etc/other directory")).unwrap();
    symlink("../etc/hostname", srv.join("relative link")).unwrap();
    symlink("/no/where", srv.join("dangling link")).unwrap();
    file("ünïcode ☃".as_bytes(), b"x");
    file(b"new\nline and \"quotes\" and \\", b"x");
    file(b"not \xff\xfe utf-8", b"x");
    file(b"-starts-with-dash", b"x");
    file(&[b'n'; 255], b"longest name");
    file(b"empty", b"");
    let sparse = file(b"sparse", b"");
    fs::File::options().write(true).open(&sparse).unwrap().set_len(10 << 20).unwrap();
    let owned = file(b"odd owner", b"x");
    std::os::unix::fs::chown(&owned, Some(4_000_000_000), Some(12_345)).unwrap();
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2750), ("no access", 0)] {
        let path = file(name.as_bytes(), b"x");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir(srv.join("sticky")).unwrap();
    fs::set_permissions(srv.join("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    run("mknod", &[text(&srv.join("block")), "b", "7", "1234"]);
    run("mknod", &[text(&srv.join("character")), "c", "240", "70000"]);
    run("mkfifo", &[text(&srv.join("fifo"))]);
    let tagged = file(b"tagged", b"x");
    run("setfattr", &["-n", "user.note", "-v", "0x00ff0a41", text(&tagged)]);
    run("setfattr", &["-n", "trusted.overlay.opaque", "-v", "y", text(&srv)]);
    let capable = file(b"capable", b"x");
    run("setcap", &["cap_net_raw,cap_net_admin+ep", text(&capable)]);
    for dir in ["proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir(root.join(dir)).unwrap();
        fs::write(root.join(dir).join("contents"), "goes").unwrap();
        fs::write(root.join(dir).join(".hidden"), "goes").unwrap();
    }
    run("touch", &["-h", "-d", "2001-02-03T04:05:06Z", text(&original), text(&srv)]);
    root
}

/// The same without the mark that an overlay mount would take for its own.
fn mountable_root(dir: &Path) -> PathBuf {
    let root = nasty_root(dir);
    run("setfattr", &["-x", "trusted.overlay.opaque", text(&root.join("srv"))]);
    root
}

/// Everything of one file that must be kept.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    size: u64,
    links: u64,
    device: u64,
    modified: i64,
    content: Option<Vec<u8>>,
    link: Option<PathBuf>,
    attributes: Vec<String>,
}

fn describe(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut entries = BTreeMap::new();
    for relative in files(root) {
        let path = root.join(&relative);
        let meta = path.symlink_metadata().unwrap();
        let kind = meta.file_type();
        let special = kind.is_block_device() || kind.is_char_device();
        entries.insert(
            relative,
            Entry {
                mode: meta.mode(),
                owner: (meta.uid(), meta.gid()),
                size: if kind.is_dir() { 0 } else { meta.size() },
                links: if kind.is_dir() { 0 } else { meta.nlink() },
                device: if special { meta.rdev() } else { 0 },
                modified: meta.mtime(),
                content: kind.is_file().then(|| fs::read(&path).unwrap()),
                link: kind.is_symlink().then(|| fs::read_link(&path).unwrap()),
                attributes: attributes(&path),
            },
        );
    }
    entries
}

/// Extended attributes, one per line, in order.
fn attributes(path: &Path) -> Vec<String> {
    let mut command = Command::new("getfattr");
    command.args(["-h", "-d", "-m-", "-e", "hex", "--absolute-names", "--"]).arg(path);
    let output = command.output().expect("getfattr (package attr) is needed for this test");
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<_> = text.lines().filter(|l| l.contains('=')).map(str::to_owned).collect();
    lines.sort();
    lines
}

fn compare(root: &Path, mounted: &Path) {
    let (expected, found) = (describe(root), describe(mounted));
    for emptied in ["proc", "sys", "dev", "run", "tmp"] {
        let below = |p: &&PathBuf| p.starts_with(emptied) && p.components().count() > 1;
        assert_eq!(expected.keys().filter(below).count(), 2);
        assert_eq!(found.keys().filter(below).count(), 0, "{emptied} is not empty");
        assert!(found.contains_key(Path::new(emptied)));
    }
    let kept = |p: &Path| {
        p.components().count() == 1
            || p.starts_with("etc")
            || p.starts_with("usr")
            || p.starts_with("srv")
    };
    for (path, entry) in expected.iter().filter(|(p, _)| kept(p)) {
        assert_eq!(found.get(path), Some(entry), "{path:?}");
    }
    let capable = &found[Path::new("srv/capable")].attributes;
    assert!(capable.iter().any(|a| a.starts_with("security.capability=0x")), "{capable:?}");
    let inode = |name| fs::metadata(mounted.join(name)).unwrap().ino();
    assert_eq!(inode("srv/original"), inode("srv/hard link"));
    assert_eq!(inode("srv/original"), inode("etc/other directory"));
    let blocks = fs::metadata(mounted.join("srv/sparse")).unwrap().blocks();
    // of 20,480; EROFS compresses holes
    assert!(blocks < 100, "{blocks} blocks: no longer sparse");
}

#[test]
fn erofs_keeps_what_squashfs_keeps_and_acls() {
    let dir = scratch();
    let root = nasty_root(dir.path());
    // more than erofs-utils 1.5 can store
    fs::remove_file(root.join("srv").join("n".repeat(255))).unwrap();
    run("setfacl", &["-m", "u:12345:rw", text(&root.join("srv/tagged"))]);
    run("setfacl", &["-d", "-m", "g:54321:rx", text(&root.join("srv"))]);
    let store = dir.path().join("store");
    let levels: [&[&str]; 2] = [&[], &["--level", "12", "--block-size", "16K"]];
    for (number, further) in levels.iter().enumerate() {
        let mut args = vec!["--format", "erofs"];
        args.extend(*further);
        let packed = pack_image(&root, &store, &args);
        let length = fs::metadata(image(&packed)).unwrap().len();
        assert_eq!(length % 4096, 0, "a loop device would drop the tail");
        let mounted = Mounted::new(&image(&packed), dir.path().join(format!("at-{number}")));
        compare(&root, &mounted.0);
        let attributes = attributes(&mounted.0.join("srv/tagged"));
        let kept = |name| attributes.iter().any(|a| a.starts_with(name));
        assert!(kept("system.posix_acl_access=0x"), "{attributes:?}");
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let line = mounts.lines().find(|line| line.contains(text(&mounted.0))).unwrap();
        assert!(line.contains(" erofs "), "{line}");
    }
}

fn image(complete: &serde_json::Value) -> PathBuf {
    Path::new(complete["path"].as_str().unwrap()).join("rootimg.sfs")
}

#[test]
fn a_directory_is_packed_as_it_is() {
    let dir = scratch();
    let root = nasty_root(dir.path());
    for compression in ["zstd", "xz", "lz4"] {
        let store = dir.path().join(format!("store-{compression}"));
        let packed = pack_image(&root, &store, &["--compression", compression]);
        let length = fs::metadata(image(&packed)).unwrap().len();
        assert_eq!(length % 4096, 0, "a loop device would drop the tail");
        assert_eq!(packed["image_bytes"], length);
        let mounted = Mounted::new(&image(&packed), dir.path().join(format!("at-{compression}")));
        compare(&root, &mounted.0);
    }
}

#[test]
fn a_directory_is_packed_as_it_is_by_each_way_to_change_it() {
    let dir = scratch();
    let root = mountable_root(dir.path());
    let before = describe(&root);
    let changes = ["--exclude", "usr/bin/nothing", "--build-fact", "SITE=x"];
    let mounted = pack_image(&root, &dir.path().join("mounted"), &changes);
    let at = Mounted::new(&image(&mounted), dir.path().join("at"));
    compare(&root, &at.0);

    // without the privilege to mount it is copied, and that is the same image
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
    command.arg(env!("CARGO_BIN_EXE_bee-packer"));
    command.args(["pack", "--json", "--image-only", "--name", "test", "--source", text(&root)]);
    let output = command.args(["--store", text(&dir.path().join("copied"))]).args(changes).output();
    let output = output.unwrap();
    let copied = complete(&output);
    let warned = events(&output).into_iter().find(|e| e["event"] == "warning").unwrap();
    assert!(warned["text"].as_str().unwrap().contains("is copied"), "{warned}");
    assert_eq!(copied["info_hash"], mounted["info_hash"]);
    // and so is what was unpacked, which is changed in place
    let tar = dir.path().join("root.tar");
    let xattrs = ["--xattrs", "--xattrs-include=*", "--sparse", "--numeric-owner"];
    let mut args = vec!["-c", "--format=pax", "-f", text(&tar), "-C", text(&root)];
    args.extend(xattrs);
    args.push(".");
    run("tar", &args);
    let unpacked = pack_image(&tar, &dir.path().join("unpacked"), &changes);
    assert_eq!(unpacked["info_hash"], mounted["info_hash"]);
    assert_eq!(describe(&root), before, "the source was modified");
}

#[test]
fn layers_of_containers_in_the_source_stay_layers() {
    let dir = scratch();
    let root = nasty_root(dir.path());
    run("mknod", &[text(&root.join("srv/whiteout")), "c", "0", "0"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_bee-packer"));
    command.args(["pack", "--json", "--image-only", "--name", "test", "--source", text(&root)]);
    let output = command.args(["--store", text(&dir.path().join("store"))]).output().unwrap();
    let packed = complete(&output);
    let warned = events(&output).into_iter().find(|e| e["event"] == "warning").unwrap();
    assert!(warned["text"].as_str().unwrap().contains("is part of an overlay"), "{warned}");
    let at = Mounted::new(&image(&packed), dir.path().join("at"));
    compare(&root, &at.0);
    assert!(at.0.join("srv/whiteout").symlink_metadata().unwrap().file_type().is_char_device());
}

#[test]
fn a_tar_gives_the_same_image_as_its_directory() {
    let dir = scratch();
    let root = nasty_root(dir.path());
    let plain = pack_image(&root, &dir.path().join("store"), &[]);
    for option in ["--format=pax", "--gzip", "--zstd", "--xz"] {
        let tar = dir.path().join("root.tar");
        let xattrs = ["--xattrs", "--xattrs-include=*", "--sparse", "--numeric-owner"];
        let mut args = vec!["-c", option, "--format=pax", "-f", text(&tar), "-C", text(&root)];
        args.extend(xattrs);
        args.push(".");
        run("tar", &args);
        let packed = pack_image(&tar, &dir.path().join(format!("store{option}")), &[]);
        assert_eq!(packed["info_hash"], plain["info_hash"], "{option}");
    }
    let mounted = Mounted::new(&image(&plain), dir.path().join("at"));
    compare(&root, &mounted.0);
}

/// What an image cannot hold is said, and what it can is there, wherever it came from.
#[test]
fn access_control_lists_arrive_or_are_said_to_be_left_out() {
    let dir = scratch();
    let root = small_root(dir.path());
    run("setfacl", &["-m", "u:12345:rw", text(&root.join("etc/hostname"))]);
    let archive = |name: &str, options: &[&str]| {
        let path = dir.path().join(name);
        let fixed = ["--format=pax", "-cf", text(&path), "-C", text(&root), "."];
        run("tar", &[options, &fixed[..]].concat());
        path
    };
    let xattrs = ["--xattrs", "--xattrs-include=*"];
    for (number, (source, has_attributes)) in [
        (root.clone(), true),
        (archive("xattrs.tar", &xattrs), true),
        (archive("both.tar", &[&xattrs[..], &["--acls"]].concat()), true),
        (archive("text.tar", &["--acls"]), false),
    ]
    .into_iter()
    .enumerate()
    {
        for format in ["squashfs", "erofs"] {
            let store = dir.path().join(format!("{format}-{number}"));
            let args = ["pack", "--json", "--image-only", "--name", "test", "--format", format];
            let places = ["--no-build-facts", "--source", text(&source), "--store", text(&store)];
            let output = packer(&[&args[..], &places].concat());
            let packed = complete(&output);
            let told = events(&output).iter().any(|event| {
                event["event"] == "warning"
                    && event["text"].as_str().unwrap().contains("POSIX ACLs")
            });
            let mounted =
                Mounted::new(&image(&packed), dir.path().join(format!("at-{format}-{number}")));
            let attributes = attributes(&mounted.0.join("etc/hostname"));
            let kept = attributes.iter().any(|a| a.starts_with("system.posix_acl_access="));
            assert_eq!(kept, has_attributes && format == "erofs", "{source:?}: {attributes:?}");
            assert_eq!(told, !kept, "{source:?}, {format}");
        }
    }
}
