//! The same input gives the same revision: on another day, in another place, by another umask.

use std::path::Path;
use std::process::Command;

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

#[test]
fn another_user_makes_the_same_revision_later() {
    // where that user can reach it, which a target directory may not be
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let root = small_root(dir.path());
    let (program, store) = (dir.path().join("bee-packer"), dir.path().join("two"));
    std::fs::copy(env!("CARGO_BIN_EXE_bee-packer"), &program).unwrap();
    std::fs::create_dir(&store).unwrap();
    run("chmod", &["-R", "a+rX", text(dir.path())]);
    run("chmod", &["0777", text(&store)]);
    let first = pack_image(&root, &dir.path().join("one"), &["--no-build-facts"]);
    // clocks in images have seconds
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c"]);
    nobody.arg("umask 007; exec \"$0\" \"$@\"").arg(&program);
    nobody.args(["pack", "--json", "--image-only", "--no-build-facts", "--name", "test"]);
    nobody.arg("--source").arg(&root).arg("--store").arg(&store).current_dir("/");
    let second = complete(&nobody.output().unwrap());
    assert_eq!(first["revision"], second["revision"]);
}

#[test]
fn erofs_images_are_the_same_wherever_and_whenever_they_are_made() {
    let dir = scratch();
    let root = small_root(dir.path());
    let copy = dir.path().join("copy");
    // with the time of the topmost directory, which mkfs.erofs keeps
    run("cp", &["-a", text(&root), text(&copy)]);
    let further = ["--format", "erofs"];
    let first = pack_image(&root, &dir.path().join("one"), &further);
    // its clock has seconds
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second = pack_image(&copy, &dir.path().join("two"), &further);
    assert_eq!(first["revision"], second["revision"]);
    let plain = pack_image(&root, &dir.path().join("one"), &[]);
    assert_ne!(plain["info_hash"], first["info_hash"]);
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
