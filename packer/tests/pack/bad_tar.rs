//! Archives that want out, or that are not what they say: the image is right, or the error is clear.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::{Mounted, assert_store_is_clean, files, packer, run, scratch, stderr, text};
use crate::tarball::Tarball;

/// A tar, a store, and a directory that nothing may get into.
struct Bed {
    dir: TempDir,
}

impl Bed {
    fn new() -> Self {
        let dir = scratch();
        fs::create_dir(dir.path().join("outside")).unwrap();
        Self { dir }
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn pack(&self, bytes: &[u8]) -> Output {
        let tar = self.dir.path().join("root.tar");
        fs::write(&tar, bytes).unwrap();
        let output = packer(&[
            "pack",
            "--json",
            "--image-only",
            "--no-build-facts",
            "--name",
            "test",
            "--source",
            text(&tar),
            "--store",
            text(&self.store()),
        ]);
        assert_eq!(fs::read_dir(self.outside()).unwrap().count(), 0, "something got out");
        output
    }

    /// It is packed: the mounted image.
    fn packed(&self, bytes: &[u8]) -> Mounted {
        let complete = crate::support::complete(&self.pack(bytes));
        let image = Path::new(complete["path"].as_str().unwrap()).join("rootimg.sfs");
        Mounted::new(&image, self.dir.path().join("at"))
    }

    /// It is refused with these words, and nothing stays.
    fn refused(&self, bytes: &[u8], words: &[&str]) {
        let output = self.pack(bytes);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{message}");
        for word in words {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
        assert_store_is_clean(&self.store());
    }
}

#[test]
fn an_absolute_path_is_taken_as_one_in_the_root() {
    let bed = Bed::new();
    let escape = bed.outside().join("file");
    let at = bed.packed(&Tarball::root().file(text(&escape), "x").file("/srv/file", "y").bytes());
    assert_eq!(fs::read(at.0.join("srv/file")).unwrap(), b"y");
    assert_eq!(fs::read(at.0.join(escape.strip_prefix("/").unwrap())).unwrap(), b"x");
}

#[test]
fn a_path_that_leads_up_is_refused() {
    for path in ["../outside/file", "srv/../../outside/file", "srv/.."] {
        let bed = Bed::new();
        bed.refused(&Tarball::root().file(path, "x").bytes(), &[path, "leads out", "Leave it out"]);
        let link = Tarball::root().hard_link("srv/link", path).bytes();
        Bed::new().refused(&link, &["srv/link", "leads out"]);
    }
    let nul = Tarball::root().pax(&[("path", "srv/a\0b")]).file("x", "x").bytes();
    Bed::new().refused(&nul, &["NUL"]);
}

#[test]
fn links_lead_around_in_the_root() {
    let bed = Bed::new();
    let outside = bed.outside();
    let mut tar = Tarball::root();
    // straight out, up and out, and through a link that is replaced by another
    tar.symlink("absolute", text(&outside)).file("absolute/one", "1");
    tar.symlink("srv/up", "../../../../../../../../../..").file("srv/up/srv/two", "2");
    tar.directory("swapped").file("swapped/gone", "x");
    tar.symlink("swapped", text(&outside)).file("swapped/three", "3");
    tar.symlink("chain", "absolute").file("chain/four", "4");
    // a link to a directory that is not there yet
    tar.symlink("later", "srv/new/deep").file("later/five", "5");
    // links to what this host has, and the root has not, do not make it ours
    tar.symlink("host", "/etc").file("host/passwd", "of the root\n");
    let at = bed.packed(&tar.bytes());
    let inside = at.0.join(outside.strip_prefix("/").unwrap());
    for (path, content) in [("one", "1"), ("three", "3"), ("four", "4")] {
        assert_eq!(fs::read_to_string(inside.join(path)).unwrap(), content);
    }
    assert_eq!(fs::read_to_string(at.0.join("srv/two")).unwrap(), "2");
    assert_eq!(fs::read_to_string(at.0.join("srv/new/deep/five")).unwrap(), "5");
    assert_eq!(fs::read_to_string(at.0.join("etc/passwd")).unwrap(), "of the root\n");
    assert!(at.0.join("swapped").symlink_metadata().unwrap().is_symlink());
    assert!(!inside.join("gone").exists());
}

#[test]
fn links_in_a_circle_are_refused() {
    let mut tar = Tarball::root();
    tar.symlink("a", "b").symlink("b", "a").file("a/file", "x");
    Bed::new().refused(&tar.bytes(), &["a/file", "symbolic links"]);
}

#[test]
fn hard_links_reach_the_root_only() {
    let bed = Bed::new();
    let mut tar = Tarball::root();
    tar.hard_link("srv/absolute", "/etc/hostname").hard_link("srv/self", "srv/absolute");
    tar.hard_link("srv/self", "srv/self");
    tar.symlink("srv/link", "/no/where").hard_link("srv/link twice", "srv/link");
    let at = bed.packed(&tar.bytes());
    let inode = |path: &str| fs::symlink_metadata(at.0.join(path)).unwrap().ino();
    assert_eq!(inode("srv/absolute"), inode("etc/hostname"));
    assert_eq!(inode("srv/self"), inode("etc/hostname"));
    // squashfs makes two inodes of a symbolic link with two names
    for link in ["srv/link", "srv/link twice"] {
        assert_eq!(fs::read_link(at.0.join(link)).unwrap(), Path::new("/no/where"));
    }
    for target in ["/etc/passwd", "host/passwd", "srv/nothing"] {
        let mut tar = Tarball::root();
        tar.symlink("host", "/etc").hard_link("srv/link", target);
        Bed::new().refused(&tar.bytes(), &["srv/link", target, "not in it before"]);
    }
}

#[test]
fn devices_are_kept() {
    let bed = Bed::new();
    let mut tar = Tarball::root();
    tar.add(b"srv/null", b'3', b"", b"").add(b"srv/block", b'4', b"", b"");
    tar.add(b"srv/fifo", b'6', b"", b"");
    let at = bed.packed(&tar.bytes());
    let meta = |path: &str| fs::symlink_metadata(at.0.join(path)).unwrap();
    assert!(meta("srv/null").file_type().is_char_device());
    assert_eq!(meta("srv/null").rdev(), nix::sys::stat::makedev(1, 3));
    assert!(meta("srv/block").file_type().is_block_device());
    assert!(meta("srv/fifo").file_type().is_fifo());
}

#[test]
fn depth_without_end_is_refused() {
    let deep = "d/".repeat(100_000);
    Bed::new().refused(
        &Tarball::root().directory(&deep).bytes(),
        &["200000 bytes", "Linux takes 4095", "Leave it out"],
    );
    // in steps, each of which is short enough
    let mut tar = Tarball::root();
    for depth in 1..=600 {
        tar.directory(&"d/".repeat(depth));
    }
    Bed::new().refused(&tar.bytes(), &["\"d/d/", "512 directories deep", "leave it out"]);
    // by links, in paths that never get long
    let mut tar = Tarball::root();
    for step in 0..20 {
        let (from, here) = (format!("s{step}"), format!("s{}", step + 1));
        let deep = "d/".repeat(60);
        tar.directory(&format!(
            "{}{deep}",
            if step == 0 { String::new() } else { format!("{from}/") }
        ));
        let start = if step == 0 { String::new() } else { format!("{from}/") };
        tar.symlink(&here, &format!("{start}{deep}"));
    }
    Bed::new().refused(&tar.bytes(), &["512 directories deep"]);
    // as deep as is allowed
    let bed = Bed::new();
    let at = bed.packed(&Tarball::root().directory(&"d/".repeat(500)).bytes());
    assert!(at.0.join("d/".repeat(500)).is_dir());
}

#[test]
fn long_and_odd_names() {
    let bed = Bed::new();
    let source = bed.dir.path().join("source");
    let long = format!("srv/{}/{}/{}", "a".repeat(70), "b".repeat(70), "c".repeat(96));
    fs::create_dir_all(source.join(&long).parent().unwrap()).unwrap();
    fs::create_dir_all(source.join("usr")).unwrap();
    fs::write(source.join(&long), "long").unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"srv/\xff\xfe\n\x01");
    fs::write(source.join(odd), "odd").unwrap();
    use std::os::unix::ffi::OsStrExt as _;
    // ustar has 155 bytes for the directory and 100 for the name
    for format in ["ustar", "gnu", "pax"] {
        let tar = bed.dir.path().join("made.tar");
        run(
            "tar",
            &["-c", &format!("--format={format}"), "-f", text(&tar), "-C", text(&source), "."],
        );
        let at = bed.packed(&fs::read(&tar).unwrap());
        assert_eq!(fs::read(at.0.join(&long)).unwrap(), b"long", "{format}");
        assert_eq!(fs::read(at.0.join(odd)).unwrap(), b"odd", "{format}");
        drop(at);
        fs::remove_dir(bed.dir.path().join("at")).unwrap();
    }
    // a path of more than 300 bytes, and a name of 300
    let bed = Bed::new();
    let path = format!("srv/{0}/{0}/{0}", "p".repeat(100));
    let at = bed.packed(&Tarball::root().file(&path, "x").bytes());
    assert_eq!(fs::read(at.0.join(path)).unwrap(), b"x");
    let name = format!("srv/{}", "n".repeat(300));
    Bed::new().refused(&Tarball::root().file(&name, "x").bytes(), &["nnn", "255 bytes"]);
}

#[test]
fn sparse_files_of_every_format() {
    let bed = Bed::new();
    let source = bed.dir.path().join("source");
    fs::create_dir_all(source.join("usr")).unwrap();
    let path = source.join("sparse");
    let file = fs::File::create(&path).unwrap();
    use std::os::unix::fs::FileExt as _;
    // more regions than one header holds
    for region in 0..40_u64 {
        file.write_all_at(&[7; 4096], region * 100_000 * 8).unwrap();
    }
    file.set_len(50 << 20).unwrap();
    let expected = fs::read(&path).unwrap();
    for options in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let tar = bed.dir.path().join("made.tar");
        run("tar", &[options, &["-cSf", text(&tar), "-C", text(&source), "."]].concat());
        assert!(fs::metadata(&tar).unwrap().len() < 1 << 20, "the archive is not sparse");
        let at = bed.packed(&fs::read(&tar).unwrap());
        assert_eq!(files(&at.0), [Path::new("sparse"), Path::new("usr")], "{options:?}");
        assert!(fs::read(at.0.join("sparse")).unwrap() == expected, "{options:?}");
        drop(at);
        fs::remove_dir(bed.dir.path().join("at")).unwrap();
    }
    for (map, size) in [("0,4,2,4", "100"), ("96,8", "100"), ("0,4,18446744073709551615,4", "100")]
    {
        let mut tar = Tarball::root();
        tar.pax(&[("GNU.sparse.map", map), ("GNU.sparse.size", size)]).file("srv/bad", "12345678");
        Bed::new().refused(&tar.bytes(), &["srv/bad", "sparse map is wrong"]);
    }
}

#[test]
fn what_is_cut_short_or_damaged() {
    let whole = {
        let mut tar = Tarball::root();
        tar.file("srv/large", &"x".repeat(2000));
        tar
    };
    let members = whole.members();
    Bed::new().refused(members, &["cut short", "without its end mark"]);
    Bed::new().refused(&members[..members.len() - 1024], &["cut short", "srv/large"]);
    Bed::new().refused(&members[..members.len() - 2048 - 256], &["cut short", "inside a header"]);
    let mut damaged = whole.bytes();
    damaged[512 + 10] ^= 1;
    Bed::new().refused(&damaged, &["damaged at byte 512"]);
    let volume = Tarball::root().add(b"srv/rest", b'M', b"", b"x").bytes();
    Bed::new().refused(&volume, &["srv/rest", "several volumes"]);
    let unknown = Tarball::root().add(b"srv/what", b'?', b"", b"x").bytes();
    Bed::new().refused(&unknown, &["srv/what", "unknown type"]);
    // a damaged pax record behind a good one would take an attribute away in silence
    let mut pax = Tarball::root();
    pax.add(b"pax", b'x', b"", b"12 uid=1234\nrubbish").file("srv/file", "x");
    Bed::new().refused(&pax.bytes(), &["srv/file", "damaged pax header"]);
}

#[test]
fn a_tar_on_standard_input() {
    let bed = Bed::new();
    let tar = bed.dir.path().join("root.tar");
    // more than a pipe holds, however it is compressed
    let noise: String =
        crate::support::noise(1 << 20).iter().map(|byte| format!("{byte:02x}")).collect();
    Tarball::root().file("srv/file", "piped").file("srv/noise", &noise).write(&tar);
    let mut all = vec![tar.clone()];
    for (program, ending) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        run(program, &["-k", "-q", text(&tar)]);
        all.push(tar.with_extension(format!("tar.{ending}")));
    }
    let plain = crate::support::complete(&bed.pack(&fs::read(&tar).unwrap()));
    for path in all {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bee-packer"))
            .args(["pack", "--json", "--image-only", "--name", "test", "--source", "-"])
            .args(["--no-build-facts", "--store"])
            .arg(bed.store())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&fs::read(&path).unwrap()).unwrap();
        let complete = crate::support::complete(&child.wait_with_output().unwrap());
        assert_eq!(complete["info_hash"], plain["info_hash"]);
    }
}
