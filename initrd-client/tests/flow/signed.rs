//! Signatures that are demanded: the good one, and every refusal with its exit code, its message and
//! its boot event. Signatures are made by stock minisign.

use std::path::PathBuf;
use std::process::Command;

use proto::event::{EventBatch, EventKind};
use proto::hash::Sha256Digest;
use proto::manifest::{Artefact, ArtefactKind, Digest, Manifest};
use proto::signature::PublicKey;
use proto::trust_policy::TrustPolicy;
use proto::unix_time::UnixTime;
use serde_json::Value;

use crate::image::Image;
use crate::peers::Seeder;
use crate::process::{Process, fetch_args};
use crate::server::{Answer, Server};

const NODE: &str = "52:54:00:00:00:09";

/// A key pair of minisign, without a password.
pub(crate) struct Key {
    dir: tempfile::TempDir,
}

impl Key {
    pub(crate) fn new() -> Self {
        let key = Self { dir: tempfile::tempdir().unwrap() };
        key.minisign(&["-G", "-W", "-p", "k.pub", "-s", "k.key"]);
        key
    }

    fn minisign(&self, args: &[&str]) {
        let output = Command::new("minisign").args(args).current_dir(self.dir.path()).output();
        let output = output
            .expect("this test needs minisign: install minisign (Debian and Fedora: minisign)");
        assert!(output.status.success(), "{output:?}");
    }

    pub(crate) fn public(&self) -> PublicKey {
        std::fs::read_to_string(self.dir.path().join("k.pub")).unwrap().parse().unwrap()
    }

    pub(crate) fn sign(&self, bytes: &[u8], comment: &str, further: &[&str]) -> Vec<u8> {
        std::fs::write(self.dir.path().join("m"), bytes).unwrap();
        let args = ["-S", "-W", "-s", "k.key", "-m", "m", "-x", "sig", "-t", comment];
        self.minisign(&[&args[..], further].concat());
        std::fs::read(self.dir.path().join("sig")).unwrap()
    }

    /// A file as an initrd has it.
    pub(crate) fn policy(&self, not_before: Option<u64>) -> PathBuf {
        let policy = TrustPolicy::new(vec![self.public()]).unwrap();
        let policy = TrustPolicy { not_before: not_before.map(UnixTime), ..policy };
        let path = self.dir.path().join("trust.json");
        std::fs::write(&path, policy.to_bytes().unwrap()).unwrap();
        path
    }
}

/// A server with a signed revision, and a seeder of its image.
pub(crate) struct Bed {
    pub(crate) server: Server,
    pub(crate) image: Image,
    pub(crate) key: Key,
    _seeder: Seeder,
}

impl Bed {
    fn new() -> Self {
        let server = Server::start();
        let image = Image::noise(300_000, &[server.url("/announce")]);
        Self::of(server, image)
    }

    pub(crate) fn of(server: Server, image: Image) -> Self {
        let seeder = Seeder::start(&image);
        let bed = Self { server, image, key: Key::new(), _seeder: seeder };
        bed.put("manifest.json", &bed.image.manifest);
        bed.put("rootimg.torrent", &bed.image.torrent);
        bed.put_signature(&bed.key.sign(&bed.image.manifest, "timestamp:1000", &[]));
        bed
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        self.server.put(&format!("/rev/{name}"), Answer::Bytes(bytes.to_vec()));
    }

    pub(crate) fn put_signature(&self, bytes: &[u8]) {
        self.put("manifest.json.minisig", bytes);
    }

    /// A fetch that demands a signature of this key.
    fn fetch(&self, key: &Key, further: &[&str]) -> Process {
        let mut args = fetch_args(&self.server.url("/rev/"), &self.image.output());
        args.extend(["--key".into(), key.public().to_string()]);
        args.extend(["--report".into(), self.server.url(""), "--node".into(), NODE.into()]);
        args.extend(further.iter().map(ToString::to_string));
        Process::fetch(args)
    }

    /// It is refused for this reason, nothing of it stays, and the tracker hears of it.
    fn refused(&self, mut process: Process, exit: i32, word: &str, parts: &[&str]) {
        let failed = process.event("failed");
        check(&failed, exit, word, parts);
        assert_eq!(process.exit(), exit, "{failed}");
        assert!(!self.image.output().exists(), "something was left");
        self.heard(word);
    }

    /// The last failure that the tracker was told of was refused for this reason.
    pub(crate) fn heard(&self, word: &str) {
        let batches = self.server.events();
        let events = batches.iter().flat_map(|body| EventBatch::parse(body).unwrap().events);
        let mut told = events.filter_map(|event| match event.kind {
            EventKind::Failed { refused, .. } => Some(serde_json::to_value(refused).unwrap()),
            _ => None,
        });
        assert_eq!(told.next_back(), Some(Value::from(word)));
    }
}

/// The `failed` event says this.
pub(crate) fn check(failed: &Value, exit: i32, word: &str, parts: &[&str]) {
    assert_eq!((&failed["exit"], &failed["refused"]), (&exit.into(), &word.into()), "{failed}");
    let message = failed["message"].as_str().unwrap();
    for part in parts {
        assert!(message.contains(part), "{part}: {message}");
    }
}

/// The manifest with another digest for the image.
fn of_another_image(manifest: &[u8]) -> Vec<u8> {
    with_image(manifest, 2, Digest::PiecesRoot(Sha256Digest([9; 32])))
}

/// The manifest in that version, with that digest for the image.
fn with_image(manifest: &[u8], version: u32, digest: Digest) -> Vec<u8> {
    let mut manifest = Manifest::parse(manifest).unwrap();
    manifest.version = version;
    manifest.artefacts.get_mut(&ArtefactKind::Image).unwrap().digest = digest;
    manifest.to_bytes().unwrap()
}

#[test]
fn what_is_signed_is_fetched() {
    let bed = Bed::new();
    let (strange, id) = (Key::new(), bed.key.public().id().to_string());
    // one of several keys is enough; both kinds of signature count
    let several = ["--key".to_owned(), strange.public().to_string()];
    for kind in [&[][..], &["-l"]] {
        bed.put_signature(&bed.key.sign(&bed.image.manifest, "timestamp:1000", kind));
        let mut process = bed.fetch(&bed.key, &[&several[0], &several[1]]);
        let note = process.event("note");
        assert!(note["text"].as_str().unwrap().contains("only an image signed by key"), "{note}");
        let note = process.event("note");
        let text = note["text"].as_str().unwrap();
        assert!(text.contains(&id) && text.contains("1970-01-01T00:16:40Z"), "{text}");
        process.event("complete");
        assert_eq!(process.exit(), 0);
        assert_eq!(std::fs::read(bed.image.output()).unwrap(), bed.image.bytes);
        std::fs::remove_file(bed.image.output()).unwrap();
    }
    // a pin and a signature
    let wrong = format!("sha256:{}", "ab".repeat(32));
    let process = bed.fetch(&bed.key, &["--pin", &wrong]);
    bed.refused(process, 4, "content", &["beeswarm.pin="]);
}

#[test]
fn no_signature() {
    let bed = Bed::new();
    bed.server.remove("/rev/manifest.json.minisig");
    let id = bed.key.public().id().to_string();
    let parts = ["manifest.json is refused", "not signed", "bee-packer sign", &id];
    bed.refused(bed.fetch(&bed.key, &[]), 7, "unsigned", &parts);
    // one that comes a little later is in time
    let mut process = bed.fetch(&bed.key, &[]);
    process.stall("not signed");
    bed.put_signature(&bed.key.sign(&bed.image.manifest, "timestamp:1000", &[]));
    process.event("complete");
    assert_eq!(process.exit(), 0);
    std::fs::remove_file(bed.image.output()).unwrap();
    // a server in trouble does not say that there is none
    bed.server.put("/rev/manifest.json.minisig", Answer::Status(503));
    let mut process = bed.fetch(&bed.key, &[]);
    process.stall("503");
    bed.put_signature(&bed.key.sign(&bed.image.manifest, "timestamp:1000", &[]));
    process.event("complete");
    // and a torrent has none
    std::fs::remove_file(bed.image.output()).unwrap();
    let mut args = fetch_args(&bed.server.url("/rev/rootimg.torrent"), &bed.image.output());
    args.extend(["--key".into(), bed.key.public().to_string()]);
    let mut process = Process::fetch(args);
    check(&process.event("failed"), 7, "unsigned", &["URL of a revision"]);
    assert_eq!(process.exit(), 7);
}

#[test]
fn wrong_key() {
    let bed = Bed::new();
    let stranger = Key::new();
    bed.put_signature(&stranger.sign(&bed.image.manifest, "timestamp:1000", &[]));
    let (by, trusted) = (stranger.public().id().to_string(), bed.key.public().id().to_string());
    let parts = [&format!("signed by key {by}"), &format!("trusted is {trusted}"), "sign it with"];
    bed.refused(bed.fetch(&bed.key, &[]), 8, "wrong-key", &parts.map(|s| s as &str));
}

#[test]
fn altered_manifest() {
    let bed = Bed::new();
    bed.put("manifest.json", &of_another_image(&bed.image.manifest));
    let parts = ["not what key", "altered", "bee-packer verify"];
    bed.refused(bed.fetch(&bed.key, &[]), 9, "altered-manifest", &parts);
    // a time that was moved is an alteration, too
    bed.put("manifest.json", &bed.image.manifest);
    let signature = bed.key.sign(&bed.image.manifest, "timestamp:1000", &[]);
    let later = String::from_utf8(signature).unwrap().replace(":1000", ":9000");
    bed.put_signature(later.as_bytes());
    bed.refused(bed.fetch(&bed.key, &[]), 9, "altered-manifest", &parts);
    bed.put_signature(b"signed, honestly");
    bed.refused(bed.fetch(&bed.key, &[]), 9, "altered-manifest", &["damaged"]);
}

#[test]
fn torrent_of_another_image() {
    let bed = Bed::new();
    let other = Image::noise(300_000, &[bed.server.url("/announce"), "http://h/".to_owned()]);
    bed.put("rootimg.torrent", &other.torrent);
    let parts = ["rootimg.torrent is refused", "SHA-256", "the manifest names"];
    bed.refused(bed.fetch(&bed.key, &[]), 10, "wrong-torrent", &parts);
}

#[test]
fn image_that_fits_the_torrent_only() {
    let bed = Bed::new();
    let manifest = of_another_image(&bed.image.manifest);
    bed.put("manifest.json", &manifest);
    bed.put_signature(&bed.key.sign(&manifest, "timestamp:1000", &[]));
    let parts = ["signed manifest of test names 0909", "not used", "Pack and sign it again"];
    bed.refused(bed.fetch(&bed.key, &[]), 11, "wrong-image", &parts);
}

#[test]
fn hybrid_torrents_need_no_second_look() {
    let server = Server::start();
    let image = Image::hybrid(300_000, &[server.url("/announce")]);
    let bed = Bed::of(server, image);
    let mut process = bed.fetch(&bed.key, &[]);
    process.event("complete");
    assert_eq!(process.exit(), 0);
    assert_eq!(std::fs::read(bed.image.output()).unwrap(), bed.image.bytes);
    std::fs::remove_file(bed.image.output()).unwrap();
    // signed with the root of another image's blocks
    let root = Sha256Digest([9; 32]);
    let mut manifest = Manifest::parse(&bed.image.manifest).unwrap();
    manifest.v2.as_mut().unwrap().pieces_root = root;
    manifest.artefacts.get_mut(&ArtefactKind::Image).unwrap().digest = Digest::PiecesRoot(root);
    let manifest = manifest.to_bytes().unwrap();
    bed.put("manifest.json", &manifest);
    bed.put_signature(&bed.key.sign(&manifest, "timestamp:1000", &[]));
    let parts = ["names pieces root 0909", "packed wrongly"];
    bed.refused(bed.fetch(&bed.key, &[]), 10, "wrong-torrent", &parts);
}

#[test]
fn manifests_of_version_1_name_the_image_by_its_sha256() {
    let hybrid = |server: &Server| Image::hybrid(300_000, &[server.url("/announce")]);
    let plain = |server: &Server| Image::noise(300_000, &[server.url("/announce")]);
    for (make, read_again) in [(&plain as &dyn Fn(&Server) -> Image, true), (&hybrid, false)] {
        let server = Server::start();
        let image = make(&server);
        let bed = Bed::of(server, image);
        let sign = |digest| {
            let manifest = with_image(&bed.image.manifest, 1, Digest::Sha256(digest));
            bed.put("manifest.json", &manifest);
            bed.put_signature(&bed.key.sign(&manifest, "timestamp:1000", &[]));
        };
        sign(Sha256Digest::of(&bed.image.bytes));
        let mut process = bed.fetch(&bed.key, &[]);
        process.event("complete");
        assert_eq!(process.exit(), 0);
        assert_eq!(std::fs::read(bed.image.output()).unwrap(), bed.image.bytes);
        std::fs::remove_file(bed.image.output()).unwrap();
        if read_again {
            let root = Artefact::of(ArtefactKind::Image, &bed.image.bytes).digest.value();
            sign(root);
            let parts = ["the image has SHA-256", "signed manifest of test names"];
            bed.refused(bed.fetch(&bed.key, &[]), 11, "wrong-image", &parts);
        }
    }
}

#[test]
fn signed_too_early() {
    let bed = Bed::new();
    let trust = |time| bed.key.policy(Some(time)).display().to_string();
    let mut process = bed.fetch(&bed.key, &["--trust", &trust(1000)]);
    process.event("complete");
    assert_eq!(process.exit(), 0);
    std::fs::remove_file(bed.image.output()).unwrap();
    let process = bed.fetch(&bed.key, &["--trust", &trust(1001)]);
    let parts = ["test was signed at 1970-01-01T00:16:40Z", "before 1970-01-01T00:16:41Z"];
    bed.refused(process, 12, "too-old", &parts);
    bed.put_signature(&bed.key.sign(&bed.image.manifest, "no time at all", &[]));
    let process = bed.fetch(&bed.key, &["--trust", &trust(1001)]);
    bed.refused(process, 12, "too-old", &["without a time"]);
}

#[test]
fn a_policy_that_is_not_usable_or_forbids_the_key() {
    let bed = Bed::new();
    let trust = bed.key.policy(None);
    let stranger = Key::new();
    let process = bed.fetch(&stranger, &["--trust", trust.to_str().unwrap()]);
    let parts = ["--allow-key-override", &stranger.public().id().to_string()];
    bed.refused(process, 13, "policy", &parts);
    std::fs::write(&trust, "{}").unwrap();
    let process = bed.fetch(&bed.key, &["--trust", trust.to_str().unwrap()]);
    bed.refused(process, 13, "policy", &["trust.json", "not usable"]);
    let process = bed.fetch(&bed.key, &["--trust", "/nonexistent/trust.json"]);
    bed.refused(process, 13, "policy", &["cannot read", "/nonexistent/trust.json"]);
    assert_eq!(bed.server.requests("/rev/manifest.json"), 0, "asked before it knew the rules");
}
