//! Bad input: the error names cause and remedy, the exit code says which kind, and nothing
//! half-written stays.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{
    SmallDisk, assert_store_is_clean, complete, files, pack_image, packer, run, scratch,
    small_root, stderr, text,
};

fn pack(source: &Path, store: &Path, further: &[&str]) -> Output {
    let mut args = vec!["pack", "--name", "test"];
    args.extend(["--source", text(source), "--store", text(store)]);
    args.extend(further);
    packer(&args)
}

fn refused(output: &Output, code: i32, words: &[&str]) {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn a_source_that_is_missing_or_no_root() {
    let dir = scratch();
    let store = dir.path().join("store");
    let missing = dir.path().join("no/where");
    refused(
        &pack(&missing, &store, &["--image-only"]),
        3,
        &["no/where", "give a directory or a tar"],
    );
    assert!(!store.exists(), "a wrong path made a store");

    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    refused(&pack(&empty, &store, &["--image-only"]), 3, &["does not look like the root"]);

    let no_tar = dir.path().join("image.iso");
    fs::write(&no_tar, "CD001").unwrap();
    refused(
        &pack(&no_tar, &store, &["--image-only"]),
        3,
        &["neither a directory nor a tar", "CD001"],
    );
    assert_store_is_clean(&store);
}

#[test]
fn a_tar_that_is_cut_short() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let tar = dir.path().join("root.tar.gz");
    run("tar", &["-czf", text(&tar), "-C", text(&root), "."]);
    let bytes = fs::read(&tar).unwrap();
    fs::write(&tar, &bytes[..bytes.len() / 2]).unwrap();
    let output = pack(&tar, &store, &["--image-only"]);
    refused(&output, 3, &["root.tar.gz", "unexpected end of file", "damaged or cut short"]);
    assert_store_is_clean(&store);
}

#[test]
fn a_root_without_kernel_modules() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    refused(
        &pack(&root, &store, &[]),
        3,
        &["no kernel modules", "linux-image-amd64", "--keep-initrd"],
    );
    assert_store_is_clean(&store);
}

#[test]
fn a_store_inside_its_source() {
    let dir = scratch();
    let root = small_root(dir.path());
    let store = root.join("srv/store");
    refused(&pack(&root, &store, &["--image-only"]), 3, &["lies inside the source"]);
}

#[test]
fn a_url_that_is_none() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let further = ["--image-only", "--tracker", "admin:6969"];
    refused(&pack(&root, &store, &further), 3, &["admin:6969", "http://HOST:PORT"]);
    let further = ["--image-only", "--web-seed", "ftp://admin/"];
    refused(&pack(&root, &store, &further), 3, &["ftp://admin/", "web seed"]);
    assert!(!store.exists());
}

#[test]
fn a_source_that_this_user_cannot_read() {
    // where that user can reach it, which a target directory may not be
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    fs::create_dir(&store).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_bee-packer"), dir.path().join("bee-packer")).unwrap();
    run("chmod", &["-R", "a+rX", text(dir.path())]);
    run("chmod", &["0777", text(&store)]);
    run("chmod", &["0600", text(&root.join("etc/hostname"))]);
    let nobody = |further: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(dir.path().join("bee-packer"));
        // where that user cannot leave a log behind
        command.env("TMPDIR", dir.path());
        command.args(["pack", "--image-only", "--name", "test", "--source"]).arg(&root);
        command.arg("--store").arg(&store).args(further).output().unwrap()
    };
    let output = nobody(&["--no-build-facts"]);
    refused(&output, 4, &["mksquashfs failed", "etc/hostname", "must be readable"]);
    assert_store_is_clean(&store);
    // what is to be changed of it needs root
    refused(&nobody(&[]), 3, &["/etc/bee-release need root", "--no-build-facts"]);
    assert_store_is_clean(&store);
}

#[test]
fn a_full_disk_at_each_stage() {
    let dir = scratch();
    let root = small_root(dir.path());
    let random = fs::read("/proc/self/exe").unwrap();
    fs::write(root.join("usr/bin/large"), &random[..2 << 20]).unwrap();
    let tar = dir.path().join("root.tar");
    run("tar", &["-cf", text(&tar), "-C", text(&root), "."]);
    let initrd = dir.path().join("initrd");
    fs::write(&initrd, vec![1; 3 << 20]).unwrap();
    let boot = ["--keep-initrd", text(&initrd), "--kernel", text(&initrd)];
    let overlay = dir.path().join("overlay");
    fs::create_dir_all(overlay.join("opt")).unwrap();
    fs::write(overlay.join("opt/large"), &random[..2 << 20]).unwrap();
    for (name, source, size, further) in [
        ("unpack", &tar, "1m", &["--image-only"][..]),
        ("contents", &root, "1m", &["--image-only", "--overlay", text(&overlay)]),
        ("image", &root, "256k", &["--image-only"]),
        ("initrd", &root, "4m", &boot),
    ] {
        let disk = SmallDisk::new(dir.path().join(format!("disk-{name}")), size);
        let store = disk.0.join("store");
        let output = pack(source, &store, further);
        refused(&output, 5, &["no space left", "nothing was stored", "prune"]);
        assert_store_is_clean(&store);
        // and with the remedy it works, in the same store
        run("mount", &["-o", "remount,size=64m", text(&disk.0)]);
        let output = pack(source, &store, further);
        assert!(output.status.success(), "{name}: {}", stderr(&output));
    }
}

#[test]
fn a_disk_that_is_full_when_the_image_is_on_it() {
    let dir = scratch();
    let root = small_root(dir.path());
    // store.json takes a page of a tmpfs, then the end of the dm-verity tree, the torrent, the manifest
    for (further, first, expected) in [
        (&["--image-only", "--no-build-facts"][..], 1, &[1, 2][..]),
        (&["--image-only", "--no-build-facts", "--verity"], 0, &[0, 1, 2]),
    ] {
        let store = dir.path().join(format!("large-{first}"));
        let image = pack_image(&root, &store, &further[1..])["image_bytes"].clone();
        let mut failed = Vec::new();
        for pages in first..=3 {
            let size = image.as_u64().unwrap() + pages * 4096;
            let disk =
                SmallDisk::new(dir.path().join(format!("disk-{first}-{pages}")), &size.to_string());
            let store = disk.0.join("store");
            let output = pack(&root, &store, further);
            if output.status.success() {
                continue;
            }
            refused(&output, 5, &["some space", "prune"]);
            assert_store_is_clean(&store);
            failed.push(pages);
        }
        assert_eq!(failed, expected);
    }
}

#[test]
fn a_store_that_cannot_be_written() {
    let dir = scratch();
    let root = small_root(dir.path());
    let disk = SmallDisk::new(dir.path().join("disk"), "16m");
    let store = disk.0.join("store");
    let packed = pack_image(&root, &store, &[]);
    run("mount", &["-o", "remount,ro", text(&disk.0)]);
    let words = ["Read-only file system", "remount it writable"];
    refused(&pack(&root, &store, &["--image-only"]), 5, &words);
    refused(&pack(&root, &disk.0.join("new"), &["--image-only"]), 5, &words);
    let publish = ["publish", "test", "--store", text(&store)];
    refused(&packer(&publish), 5, &words);
    let prune = ["prune", "test", "--keep", "0", "--ignore-nodes", "--store", text(&store)];
    refused(&packer(&prune), 5, &words);
    // reading it works
    let output = packer(&["verify", "--store", text(&store)]);
    assert!(output.status.success(), "{}", stderr(&output));
    run("mount", &["-o", "remount,rw", text(&disk.0)]);
    assert!(packer(&publish).status.success());
    assert!(Path::new(packed["path"].as_str().unwrap()).is_dir());

    // its directory is a file
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let output = pack(&root, &file.join("store"), &["--image-only"]);
    refused(&output, 5, &["/file", "a file is where a directory should be"]);
}

#[test]
fn orders_to_a_store_that_cannot_be_written() {
    let dir = scratch();
    let root = small_root(dir.path());
    let disk = SmallDisk::new(dir.path().join("disk"), "16m");
    let (store, boot, key) =
        (disk.0.join("store"), dir.path().join("boot"), dir.path().join("key"));
    fs::write(&boot, "kernel").unwrap();
    complete(&packer(&["keygen", "--json", "--empty-password", "--sign-key", text(&key)]));
    let boot = ["--kernel", text(&boot), "--keep-initrd", text(&boot), "--publish", "--json"];
    let [first, second] = ["1", "2"].map(|version| {
        fs::write(root.join("etc/version"), version).unwrap();
        let packed = complete(&pack(&root, &store, &boot));
        format!("test@{}", packed["revision"].as_str().unwrap())
    });
    let order = |args: &[&str]| packer(&[args, &["--store", text(&store)]].concat());
    let next = ["reimage", "--at-next-boot", &second];
    let (one, two) = (["--nodes", "52:54:00:00:00:01"], ["--nodes", "52:54:00:00:00:02"]);
    let told = order(&[&next[..], &one].concat());
    assert!(told.status.success(), "{}", stderr(&told));

    let state = || {
        let of = |path: std::path::PathBuf| {
            let bytes = fs::read(store.join(&path)).unwrap_or_default();
            let target = fs::read_link(store.join(&path)).unwrap_or_default();
            (path, bytes, target)
        };
        files(&store).into_iter().map(of).collect::<Vec<_>>()
    };
    let before = state();
    run("mount", &["-o", "remount,ro", text(&disk.0)]);
    let orders = [
        &["sign", &first, "--empty-password", "--sign-key", text(&key)][..],
        &[&next[..], &two].concat(),
        &[&["unassign"][..], &one].concat(),
        &["unassign", "--all"],
        &["rollback", "test"],
        &[&next[..], &["--all"]].concat(),
        &["unpublish", &first],
    ];
    for args in orders {
        refused(&order(args), 5, &["Read-only file system", "remount it writable"]);
    }
    assert!(state() == before, "what was refused has changed the store");
    run("mount", &["-o", "remount,rw", text(&disk.0)]);
    for args in orders {
        let done = order(args);
        assert!(done.status.success(), "{args:?}: {}", stderr(&done));
    }
}

#[test]
fn a_store_that_is_none() {
    let dir = scratch();
    let store = text(dir.path());
    refused(&packer(&["list", "--store", store]), 3, &["is no store", "bee-packer pack"]);
    refused(&packer(&["publish", "x", "--store", store]), 3, &["is no store"]);
}

#[test]
fn a_program_that_is_missing() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let output = Command::new(env!("CARGO_BIN_EXE_bee-packer"))
        .args(["pack", "--image-only", "--name", "test", "--source"])
        .arg(&root)
        .arg("--store")
        .arg(&store)
        .env("PATH", dir.path())
        .output()
        .unwrap();
    refused(&output, 4, &["cannot run mksquashfs", "makes the image", "install squashfs-tools"]);
    assert_store_is_clean(&store);
}

#[test]
fn a_kernel_that_cannot_mount_the_image() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let modules = root.join("usr/lib/modules/6.1.0");
    fs::create_dir_all(modules.join("kernel")).unwrap();
    fs::write(modules.join("modules.dep"), "").unwrap();
    fs::write(modules.join("vmlinuz"), "").unwrap();
    fs::write(modules.join("config"), "CONFIG_SQUASHFS=m\n# CONFIG_SQUASHFS_LZ4 is not set\n")
        .unwrap();
    let output = pack(&root, &store, &["--compression", "lz4"]);
    refused(
        &output,
        3,
        &["kernel 6.1.0 cannot read lz4 squashfs", "CONFIG_SQUASHFS_LZ4", "another --compression"],
    );
    let output = pack(&root, &store, &["--format", "erofs"]);
    refused(&output, 3, &["cannot read lz4 erofs", "CONFIG_EROFS_FS is not set"]);
    let output = pack(&root, &store, &["--compression", "xz", "--level", "9"]);
    refused(&output, 3, &["squashfs with xz has no level 9", "leave --level out"]);
    assert_store_is_clean(&store);
}
