//! The same input gives the same revision: on another day, in another place, by another umask.

use std::path::Path;
use std::process::Command;

use crate::initrd::{bootable_root, our_module};
use crate::support::{complete, pack_image, run, scratch, small_root, text};

#[test]
fn two_copies_of_a_root_give_one_revision() {
    let dir = scratch();
    let root = small_root(dir.path());
    let copy = dir.path().join("a/much/longer/path/to the copy");
    std::fs::create_dir_all(&copy).unwrap();
    run("cp", &["-a", text(&root.join("usr")), text(&copy)]);
    run("cp", &["-a", text(&root.join("etc")), text(&copy)]);
    let further = ["--tracker", "http://10.0.0.1:6969", "--nodes", "30"];
    let first = pack_image(&root, &dir.path().join("one"), &further);

    // another store, directory and umask
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_bee-packer")]);
    command.args(["pack", "--json", "--image-only", "--name", "test", "--source", "."]);
    command.arg("--store").arg(dir.path().join("two")).args(further).current_dir(&copy);
    let second = complete(&command.output().unwrap());
    assert_eq!(first["info_hash"], second["info_hash"]);
    assert_eq!(first["revision"], second["revision"]);

    // into the same store: it is there already
    assert_eq!(first["new"], true);
    let third = pack_image(&copy, &dir.path().join("one"), &further);
    assert_eq!(third["new"], false);
    assert_eq!(third["revision"], first["revision"]);
}

/// Also of the initrd: dracut must not write down who has called it.
#[test]
fn another_user_makes_the_same_revision_later() {
    // where that user can reach it, which a target directory may not be
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let root = bootable_root(dir.path());
    let (program, store) = (dir.path().join("bee-packer"), dir.path().join("two"));
    let (module, client) = (dir.path().join("module"), dir.path().join("client"));
    std::fs::copy(env!("CARGO_BIN_EXE_bee-packer"), &program).unwrap();
    std::fs::copy("/bin/true", &client).unwrap();
    run("cp", &["-r", text(&our_module()), text(&module)]);
    std::fs::create_dir(&store).unwrap();
    run("chmod", &["-R", "a+rX", text(dir.path())]);
    run("chmod", &["0777", text(&store)]);
    let first = dir.path().join("one");
    let pack = |store: &Path| {
        let mut args = vec!["pack", "--json", "--no-build-facts", "--name", "test"];
        args.extend(["--client", text(&client), "--dracut-module", text(&module)]);
        args.extend(["--source", text(&root), "--store", text(store)]);
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let first = complete(&Command::new(&program).args(pack(&first)).output().unwrap());
    // clocks in images have seconds
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c"]);
    nobody.arg("umask 007; exec \"$0\" \"$@\"").arg(&program).args(pack(&store));
    // where that user can leave a log
    let second = complete(&nobody.env("TMPDIR", "/tmp").current_dir("/").output().unwrap());
    assert_eq!(first["revision"], second["revision"]);
    assert!(first["initrd_bytes"].as_u64() > Some(0), "{first}");
}

/// A copy on another file system, which lists its directories in another order, and which was made by hand: the
/// topmost directory has a time and an entry's place of its own.
fn another_copy(root: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for part in ["usr", "etc", "boot", "lib"].iter().filter(|part| root.join(part).exists()) {
        run("cp", &["-a", text(&root.join(part)), text(to)]);
    }
    run("touch", &["-d", "2009-08-07T06:05:04.3Z", text(to)]);
}

#[test]
fn erofs_images_are_the_same_wherever_and_whenever_they_are_made() {
    let dir = scratch();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let (root, copy) = (small_root(dir.path()), memory.path().join("copy"));
    another_copy(&root, &copy);
    let tar = dir.path().join("root.tar");
    // the kind that keeps the whole of a time, as EROFS does
    run("tar", &["--format=posix", "-cf", text(&tar), "-C", text(&copy), "."]);
    // the directory itself is packed where there is nothing to change in it
    for further in [&["--format", "erofs"][..], &["--format", "erofs", "--no-build-facts"]] {
        let name = |of: &str| dir.path().join(format!("{of}{}", further.len()));
        let first = pack_image(&root, &name("one"), further);
        // its clock has seconds
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let second = pack_image(&copy, &name("two"), further);
        assert_eq!(first["revision"], second["revision"], "{further:?}");
        let third = pack_image(&tar, &name("three"), further);
        assert_eq!(first["info_hash"], third["info_hash"], "{further:?}");
        let plain = pack_image(&root, &name("one"), &further[2..]);
        assert_ne!(plain["info_hash"], first["info_hash"]);
    }
    // the admin's own directories keep their times
    let time = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
    assert_ne!(time(&root), time(&copy));
    assert_ne!(time(&root), std::time::UNIX_EPOCH);
}

/// All of a revision, the initrd by our own module with it, on what tells one machine from another of the same
/// distribution.
#[test]
fn two_machines_make_the_same_revision() {
    let dir = scratch();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let (root, copy) = (bootable_root(dir.path()), memory.path().join("some/other place"));
    another_copy(&root, &copy);
    let (module, home) = (our_module(), memory.path().join("home"));
    for name in ["home/tmp", "etc"] {
        std::fs::create_dir_all(memory.path().join(name)).unwrap();
    }
    for file in ["hostname", "machine-id", "hosts", "resolv.conf"] {
        std::fs::write(memory.path().join("etc").join(file), "another\n").unwrap();
    }
    let command = |source: &Path, store: &Path, format: &str| {
        let mut args = vec![env!("CARGO_BIN_EXE_bee-packer"), "pack", "--json", "--name", "test"];
        args.extend(["--client", "/bin/true", "--dracut-module", text(&module)]);
        args.extend(["--tracker", "http://10.0.0.1:6969", "--format", format]);
        args.extend(["--source", text(source), "--store", text(store)]);
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let elsewhere = "hostname elsewhere && cd \"$1\" && for f in *; do mount --bind $f /etc/$f || exit; done\n\
                     umask 077 && shift && cd / && exec \"$@\"";
    let mut revisions = Vec::new();
    for format in ["squashfs", "erofs"] {
        let here = command(&root, &dir.path().join(format), format);
        let here = complete(&Command::new(&here[0]).args(&here[1..]).output().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let mut there = Command::new("unshare");
        there.args(["--uts", "--mount", "sh", "-c", elsewhere, "sh"]);
        there.arg(memory.path().join("etc"));
        there.args(command(&copy, &memory.path().join(format), format));
        there.env("HOME", &home).env("TMPDIR", home.join("tmp")).env("USER", "somebody");
        there.env("TZ", "Asia/Tokyo").env("LANG", "de_DE.UTF-8").env("LC_ALL", "C.UTF-8");
        let there = complete(&there.output().unwrap());
        let path = |packed: &serde_json::Value, file: &str| {
            Path::new(packed["path"].as_str().unwrap()).join(file)
        };
        for file in ["rootimg.sfs", "initrd.img", "vmlinuz", "rootimg.torrent", "manifest.json"] {
            let [one, other] =
                [&here, &there].map(|packed| std::fs::read(path(packed, file)).unwrap());
            assert!(one == other, "{format}: {file} differs");
        }
        assert_eq!(here["revision"], there["revision"], "{format}");
        revisions.push(here["revision"].clone());
    }
    assert_ne!(revisions[0], revisions[1]);
}

#[test]
fn a_change_of_content_is_another_revision_and_a_tracker_is_not_another_image() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let first = pack_image(&root, &store, &[]);
    let tracked = pack_image(&root, &store, &["--tracker", "http://10.0.0.1:6969"]);
    assert_eq!(tracked["info_hash"], first["info_hash"]);
    assert_ne!(tracked["revision"], first["revision"]);
    std::fs::write(root.join("etc/hostname"), "other\n").unwrap();
    let changed = pack_image(&root, &store, &[]);
    assert_ne!(changed["info_hash"], first["info_hash"]);
    assert!(Path::new(changed["path"].as_str().unwrap()).join("manifest.json").is_file());
}
