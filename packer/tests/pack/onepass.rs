//! Hashing an image while it is written: nothing is read again, and what comes of it is what reading gives.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use proto::hash::Sha256Digest;
use proto::manifest::{ArtefactKind, Digest, Manifest};
use serde_json::Value;

use crate::support::{
    complete, events, noise, pack_image, packer, run, scratch, small_root, stderr, text,
};
use crate::trace::{Call, STARTS, own, traced};

/// What is held of an image is a multiple of the longest piece.
const CHUNK: u64 = 2 << 20;

/// A root of `megabytes` that no compressor makes smaller, some of them twice.
fn root_of_noise(dir: &Path, megabytes: usize) -> std::path::PathBuf {
    let root = small_root(dir);
    let bytes = noise(megabytes << 20);
    fs::write(root.join("usr/bin/first"), &bytes).unwrap();
    fs::write(root.join("usr/bin/second"), &bytes[..bytes.len() / 3]).unwrap();
    fs::write(root.join("usr/bin/third"), &bytes).unwrap();
    root
}

/// `pack` where `hidden` commands were run before, in a mount namespace of its own.
fn without(hidden: &str, source: &Path, store: &Path, further: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{hidden} && exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_bee-packer"));
    command.args(["pack", "--json", "--image-only", "--name", "test", "--source"]).arg(source);
    command.arg("--store").arg(store).args(further).output().unwrap()
}

fn warnings(output: &Output) -> Vec<String> {
    let warnings = events(output).into_iter().filter(|event| event["event"] == "warning");
    warnings.map(|event| event["text"].as_str().unwrap().to_owned()).collect()
}

fn number(event: &Value, key: &str) -> u64 {
    event[key].as_u64().unwrap_or_else(|| panic!("{key} in {event}"))
}

#[test]
fn no_byte_of_an_image_is_read_to_hash_it() {
    let dir = scratch();
    let root = root_of_noise(dir.path(), 30);
    for (name, further) in [("squashfs", &["--compression", "lz4"][..]), ("erofs", &[])] {
        let store = dir.path().join(name);
        let further = [&["--format", name][..], further].concat();
        let packed = pack_image(&root, &store, &further);
        assert!(number(&packed, "image_bytes") > 30 << 20, "{packed}");
        assert_eq!(number(&packed, "image_bytes_read_back"), 0, "{name}");
        let verified = packer(&["verify", "--store", text(&store)]);
        assert!(verified.status.success(), "{}", stderr(&verified));
    }
}

/// mkfs.erofs tells paths and nothing of how far it is in a long file.
#[test]
fn progress_is_seen_by_what_moves_when_the_program_says_nothing() {
    let dir = scratch();
    let root = root_of_noise(dir.path(), 4);
    let programs = dir.path().join("programs");
    fs::create_dir(&programs).unwrap();
    let mkfs = run("which", &["mkfs.erofs"]);
    // it goes on to hold the pipe
    let script = format!("#!/bin/sh\nexec {} \"$@\" 9>&1 > /dev/null 2>&1\n", mkfs.trim());
    fs::write(programs.join("mkfs.erofs"), script).unwrap();
    run("chmod", &["0755", text(&programs.join("mkfs.erofs"))]);
    let output = Command::new(env!("CARGO_BIN_EXE_bee-packer"))
        .args(["pack", "--json", "--image-only", "--name", "test", "--format", "erofs"])
        .args(["--source", text(&root), "--store", text(&dir.path().join("store"))])
        .env("PATH", format!("{}:{}", text(&programs), std::env::var("PATH").unwrap()))
        .output()
        .unwrap();
    complete(&output);
    let told = events(&output).into_iter().filter(|event| event["stage"] == "image");
    let told: Vec<(u64, u64, u64)> = told
        .filter(|event| event["event"] == "progress")
        .map(|event| {
            (number(&event, "percent"), number(&event, "bytes"), number(&event, "written"))
        })
        .collect();
    assert!(told.iter().any(|(percent, ..)| (1..100).contains(percent)), "{told:?}");
    assert!(told.iter().any(|(_, _, written)| *written > 0), "{told:?}");
    assert!(told.windows(2).all(|w| w[0].1 <= w[1].1 && w[0].2 <= w[1].2), "{told:?}");
}

/// A directory with a mksquashfs that gets little memory, and is run by `runner`.
fn little_memory(programs: &Path, runner: &str) {
    fs::create_dir(programs).unwrap();
    let mksquashfs = run("which", &["mksquashfs"]);
    let script = format!(
        "#!/bin/sh\nfor word; do shift; [ \"$word\" = 1G ] && word=32M; set -- \"$@\" \"$word\"; done\n\
         exec {runner} {} \"$@\"\n",
        mksquashfs.trim(),
    );
    fs::write(programs.join("mksquashfs"), script).unwrap();
    run("chmod", &["0755", text(&programs.join("mksquashfs"))]);
}

/// With little memory mksquashfs writes a large file before it finds that it has it already, and takes it
/// back.
#[test]
fn what_mksquashfs_takes_back_is_read_by_pieces_only() {
    let dir = scratch();
    let root = root_of_noise(dir.path(), 60);
    let programs = dir.path().join("programs");
    let calls = format!("strace -f -qq -e trace=ftruncate -o {}", text(&dir.path().join("calls")));
    little_memory(&programs, &calls);
    let path = format!("{}:{}", text(&programs), std::env::var("PATH").unwrap());
    let store = dir.path().join("store");
    let output = Command::new(env!("CARGO_BIN_EXE_bee-packer"))
        .args(["pack", "--json", "--image-only", "--name", "test", "--compression", "lz4"])
        .args(["--source", text(&root), "--store", text(&store)])
        .env("PATH", path)
        .output()
        .unwrap();
    let packed = complete(&output);
    let cuts = fs::read_to_string(dir.path().join("calls")).unwrap().matches("ftruncate(").count();
    assert!(cuts > 0, "nothing was taken back: this test shows nothing");
    let read_back = number(&packed, "image_bytes_read_back");
    assert!(read_back <= cuts as u64 * CHUNK, "{read_back} bytes for {cuts} cuts: {packed}");
    let verified = packer(&["verify", "--store", text(&store)]);
    assert!(verified.status.success(), "{}", stderr(&verified));
}

#[test]
fn without_fuse_the_image_is_read_and_the_revision_is_the_same() {
    let dir = scratch();
    let root = root_of_noise(dir.path(), 5);
    let no_device = "mount --bind /dev/null /dev/fuse";
    for (number_of, further) in
        [&[][..], &["--torrent", "v1", "--compression", "lz4"], &["--format", "erofs"]]
            .into_iter()
            .enumerate()
    {
        let store = |way| dir.path().join(format!("{way}-{number_of}"));
        let followed = pack_image(&root, &store("followed"), further);
        assert!(number(&followed, "image_bytes_read_back") <= CHUNK, "{followed}");
        let output = without(no_device, &root, &store("read"), further);
        let read = complete(&output);
        assert_eq!(read["revision"], followed["revision"]);
        assert_eq!(read["image_bytes_read_back"], read["image_bytes"]);
        let told = warnings(&output);
        let about: Vec<_> = told.iter().filter(|text| text.contains("second time")).collect();
        assert_eq!(about.len(), 1, "{told:?}");
        assert!(about[0].contains("FUSE is not usable"), "{about:?}");
        for file in ["rootimg.torrent", "manifest.json", "rootimg.sfs"] {
            let of = |packed: &Value| {
                fs::read(Path::new(packed["path"].as_str().unwrap()).join(file)).unwrap()
            };
            assert!(of(&read) == of(&followed), "{file} differs");
        }
    }
}

#[test]
fn who_may_not_mount_asks_fusermount() {
    // where that user can reach it, which a target directory may not be
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let root = root_of_noise(dir.path(), 5);
    let store = dir.path().join("store");
    fs::create_dir(&store).unwrap();
    let program = dir.path().join("bee-packer");
    fs::copy(env!("CARGO_BIN_EXE_bee-packer"), &program).unwrap();
    run("chmod", &["-R", "a+rX", text(dir.path())]);
    run("chmod", &["0777", text(&store)]);
    let nobody = |path: &str, store: &Path| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(["/usr/bin/env", &format!("PATH={path}")]).arg(&program);
        command.args(["pack", "--json", "--image-only", "--no-build-facts", "--name", "test"]);
        command.arg("--source").arg(&root).arg("--store").arg(store);
        command.output().unwrap()
    };
    let output = nobody(&std::env::var("PATH").unwrap(), &store);
    let packed = complete(&output);
    assert_eq!(warnings(&output), [""; 0], "install fuse3, which this test needs");
    assert!(number(&packed, "image_bytes_read_back") <= CHUNK, "{packed}");
    // and where it is missing
    let programs = dir.path().join("programs");
    fs::create_dir(&programs).unwrap();
    let mksquashfs = run("which", &["mksquashfs"]);
    std::os::unix::fs::symlink(mksquashfs.trim(), programs.join("mksquashfs")).unwrap();
    let again = store.join("again");
    let output = nobody(text(&programs), &again);
    assert_eq!(complete(&output)["revision"], packed["revision"]);
    let told = warnings(&output);
    assert!(told.len() == 1 && told[0].contains("fusermount3"), "{told:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(text(dir.path())), "{mounts}");
}

/// Processes that have `word` among their arguments.
fn processes_of(word: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(word)).collect()
}

#[test]
fn a_killed_packer_leaves_no_mount_and_no_program_that_waits_for_it() {
    let dir = scratch();
    let root = root_of_noise(dir.path(), 80);
    let store = dir.path().join("store");
    let mut child = Command::new(env!("CARGO_BIN_EXE_bee-packer"))
        .args(["pack", "--json", "--image-only", "--name", "test", "--compression", "xz"])
        .args(["--no-build-facts", "--source", text(&root), "--store", text(&store)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let seen =
        lines.map(Result::unwrap).any(|line| line.contains("\"progress\",\"stage\":\"image"));
    assert!(seen, "the image was never written");
    assert!(processes_of(text(&root)).iter().any(|line| line.contains("mksquashfs")));
    child.kill().unwrap();
    child.wait().unwrap();
    let start = Instant::now();
    while !processes_of(text(&root)).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", processes_of(text(&root)));
        std::thread::sleep(Duration::from_millis(50));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("beeswarm-image"), "{mounts}");
}

#[test]
fn revisions_with_a_manifest_of_version_1_are_read_and_verified() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let packed = pack_image(&root, &store, &[]);
    let new = Path::new(packed["path"].as_str().unwrap());
    // as it was written then
    let mut manifest = Manifest::parse(&fs::read(new.join("manifest.json")).unwrap()).unwrap();
    let image = fs::read(new.join("rootimg.sfs")).unwrap();
    let sha256 = Sha256Digest::of(&image);
    manifest.version = 1;
    manifest.artefacts.get_mut(&ArtefactKind::Image).unwrap().digest = Digest::Sha256(sha256);
    let bytes = manifest.to_bytes().unwrap();
    let id = Sha256Digest::of(&bytes).to_string()[..12].to_owned();
    let old = new.with_file_name(&id);
    fs::rename(new, &old).unwrap();
    run("chmod", &["-R", "u+w", text(&old)]);
    fs::write(old.join("manifest.json"), bytes).unwrap();
    let reference = format!("test@{id}");
    let shown = packer(&["inspect", &reference, "--store", text(&store)]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(&sha256.to_string()), "{shown}");
    let verify = || packer(&["verify", "--store", text(&store)]);
    assert!(verify().status.success(), "{}", stderr(&verify()));
    let mut damaged = image.clone();
    damaged[500] ^= 1;
    fs::write(old.join("rootimg.sfs"), damaged).unwrap();
    let output = verify();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    assert!(!output.status.success() && told.contains("SHA-256"), "{told}");
    // a new one is published and found beside it
    fs::write(old.join("rootimg.sfs"), image).unwrap();
    pack_image(&root, &store, &["--publish"]);
    let listed = packer(&["list", "--store", text(&store)]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains(&id), "{listed}");
}

/// All that gets something out of a file.
const READS: &str = "read,pread64,readv,preadv,preadv2,mmap,copy_file_range,splice,sendfile";

/// Bytes of an image that a call got.
fn read_of_image(call: &Call) -> u64 {
    let source = usize::from(call.name == "sendfile");
    // by its name, or as the file that programs are given in its place
    let is_image =
        |path: &std::path::PathBuf| path.ends_with("rootimg.sfs") || path == Path::new("/");
    if !call.descriptors().get(source).is_some_and(is_image) {
        return 0;
    }
    // what is mapped counts as read, all of it
    if call.name == "mmap" { call.argument(1).parse().unwrap() } else { call.result }
}

/// The counter that the other tests go by counts all: seen from outside.
#[test]
fn what_the_packer_says_it_has_read_is_all_that_it_reads() {
    let dir = scratch();
    let root = root_of_noise(dir.path(), 60);
    let programs = dir.path().join("programs");
    little_memory(&programs, "");
    let little = format!("PATH={}:$PATH", text(&programs));
    let no_device = "mount --bind /dev/null /dev/fuse";
    for (number_of, shell) in ["true", &little, no_device].into_iter().enumerate() {
        let store = dir.path().join(format!("store-{number_of}"));
        let args = ["pack", "--json", "--image-only", "--name", "test", "--compression", "lz4"];
        let args = [&args[..], &["--source", text(&root), "--store", text(&store)]].concat();
        let log = dir.path().join("log");
        let (output, calls) = traced(shell, &format!("{READS},{STARTS}"), &log, &args);
        let packed = complete(&output);
        let all: u64 = calls.iter().map(read_of_image).sum();
        let ours: u64 = own(&calls).into_iter().map(read_of_image).sum();
        // mksquashfs compares what it wrote with what it is about to write
        let theirs = all - ours;
        assert!(theirs > 0, "mksquashfs's own reading was not seen: {shell}");
        // and where we answer for its file, we get for it what it asks for
        let for_it = if shell == no_device { 0 } else { theirs };
        assert_eq!(ours, for_it + number(&packed, "image_bytes_read_back"), "{shell}: {packed}");
        let written = number(&packed, "image_bytes");
        assert!(shell != no_device || ours == written, "read once, for everything: {packed}");
    }
}
