//! Signed revisions in a whole cluster: packed and signed by `bee-packer`, published, served by
//! `bee-seeder`, fetched by nodes that demand a signature; and everything that they refuse.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::client::nginx;
use lab::{BitRate, Cmd, Node, Proc, http, program};
use proto::hash::Sha256Digest;
use proto::manifest::{ArtefactKind, Digest, Manifest};
use serde_json::Value;
use store::{RevisionRef, Store};

use super::fixture::{ADMIN, Cluster, LIMIT, wait_complete, wait_for_event};

/// A folder with keys and a root to pack.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    store: Store,
}

impl Site {
    pub(crate) fn new(store: &Store) -> Site {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["root/etc", "root/usr/bin"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let mut tool = vec![0; 2 << 20];
        fastrand::Rng::with_seed(40).fill(&mut tool);
        fs::write(dir.path().join("root/usr/bin/tool"), tool).unwrap();
        let site = Site { dir, store: store.clone() };
        for name in ["site", "stranger"] {
            let secret = site.path(&format!("{name}.key"));
            site.packer(&["keygen", "--empty-password", "--sign-key", &secret]);
        }
        site
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Runs `bee-packer --json`; its last event.
    pub(crate) fn packer(&self, args: &[&str]) -> Value {
        let mut command = Command::new(program("bee-packer").unwrap());
        let output = command.arg("--json").args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    }

    fn minisign(&self, args: &[&str]) {
        let output = Command::new("minisign").args(args).current_dir(self.dir.path()).output();
        let output = output.expect("this test needs minisign: install minisign (Debian: minisign)");
        assert!(output.status.success(), "{args:?}: {output:?}");
    }

    /// Packs and publishes another version of the root.
    pub(crate) fn pack(&self, version: &str, further: &[&str]) -> RevisionRef {
        self.pack_with(version, &[&["--image-only"], further].concat())
    }

    /// The same, with kernel and initrd.
    pub(crate) fn pack_with(&self, version: &str, further: &[&str]) -> RevisionRef {
        fs::write(self.path("root/etc/version"), version).unwrap();
        let (root, store) = (self.path("root"), self.store.root().to_str().unwrap());
        let tracker = format!("http://{ADMIN}:6969");
        let mut args = vec!["pack", "--publish", "--name", "demo"];
        args.extend(["--source", &root, "--store", store, "--tracker", &tracker]);
        args.extend(further);
        let packed = self.packer(&args);
        format!("demo@{}", packed["revision"].as_str().unwrap()).parse().unwrap()
    }

    fn signed(&self, version: &str) -> RevisionRef {
        self.pack(version, &["--sign-key", &self.path("site.key"), "--empty-password"])
    }

    /// Signs with stock minisign and a key of its own, `stock.pub`.
    fn sign_stock(&self, file: &Path) {
        if !Path::new(&self.path("stock.pub")).exists() {
            self.minisign(&["-G", "-W", "-p", "stock.pub", "-s", "stock.key"]);
        }
        self.minisign(&["-S", "-W", "-s", "stock.key", "-m", file.to_str().unwrap()]);
    }

    /// The digits of a public key.
    pub(crate) fn key(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path(name)).unwrap();
        text.lines().nth(1).unwrap().to_owned()
    }

    /// A file of a revision.
    pub(crate) fn file(&self, revision: &RevisionRef, name: &str) -> PathBuf {
        self.store.revision(revision).unwrap().file(name).unwrap()
    }
}

/// Fetches from this URL, demanding a signature.
fn fetch(node: &Node, url: &str, further: &[&str]) -> Proc {
    let command = Cmd::new(program("bee-initrd-client").unwrap())
        .args(["fetch", "--json", "--listen", "[::]:6881", "--torrent", url, "--output"])
        .arg(node.scratch().join("image"))
        .args(["--report", &format!("http://{ADMIN}:6969"), "--node", node.mac()])
        .args(further);
    node.spawn(&command).unwrap()
}

/// It ends with this code and word, leaves no image, and the tracker knows why.
fn refused(cluster: &Cluster, mut fetch: Proc, exit: i32, word: &str, part: &str) {
    let node = &cluster.nodes[0];
    let failed = wait_for_event(&mut fetch, |e| e["event"] == "failed");
    assert_eq!((&failed["exit"], &failed["refused"]), (&exit.into(), &word.into()), "{failed}");
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains(part), "{part}: {message}");
    assert_eq!(ended(&mut fetch), Some(exit), "{message}");
    assert!(!cluster.outside(&node.scratch().join("image")).exists(), "{word}: an image stayed");
    told_to_the_tracker(cluster, word, part);
}

/// The tracker knows these words of a failure.
pub(crate) fn told_to_the_tracker(cluster: &Cluster, word: &str, part: &str) {
    let tracker = format!("{ADMIN}:6969").parse().unwrap();
    let nodes = http::get(&cluster.admin, tracker, "/api/v1/nodes", LIMIT).unwrap();
    let nodes = String::from_utf8(nodes.body).unwrap();
    assert!(nodes.contains(part), "the tracker was not told of {word}: {nodes}");
}

/// The exit code of a program that is about to end.
pub(crate) fn ended(proc: &mut Proc) -> Option<i32> {
    proc.wait(LIMIT).unwrap().expect("it ends in time").code()
}

/// A file server on a node that serves whatever lies there.
struct Mirror<'a> {
    node: &'a Node,
    folder: PathBuf,
    _server: Proc,
}

impl<'a> Mirror<'a> {
    fn start(cluster: &'a Cluster) -> Mirror<'a> {
        let node = &cluster.nodes[0];
        let inside = node.scratch().join("mirror");
        let folder = cluster.outside(&inside);
        fs::create_dir(&folder).unwrap();
        let server = node.spawn(&nginx(node, &inside).unwrap()).unwrap();
        let address = (node.ip(), 8080).into();
        let deadline = Instant::now() + LIMIT;
        while http::get(node, address, "/", LIMIT).is_err() {
            assert!(Instant::now() < deadline, "nginx does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Mirror { node, folder, _server: server }
    }

    /// A copy of a revision's small files in a folder of this name. Never the same folder twice: the
    /// server remembers files.
    fn copy(&self, name: &str, site: &Site, revision: &RevisionRef) -> PathBuf {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).unwrap();
        for name in ["manifest.json", "manifest.json.minisig", "rootimg.torrent"] {
            fs::copy(site.file(revision, name), folder.join(name)).unwrap();
        }
        folder
    }

    fn fetch(&self, name: &str, further: &[&str]) -> Proc {
        fetch(self.node, &format!("http://{}:8080/{name}/", self.node.ip()), further)
    }
}

/// URL of a revision at the admin host.
pub(crate) fn at(revision: &RevisionRef) -> String {
    format!("http://{ADMIN}:8080/revisions/{}/{}/", revision.name, revision.id)
}

#[test]
fn nodes_take_what_is_signed_and_nothing_else() {
    let cluster = Cluster::start("signed", 1, BitRate::mbit(100));
    let site = Site::new(&cluster.store);
    let node = &cluster.nodes[0];
    let _tracker = cluster.tracker();
    let key = site.key("site.pub");
    let trusted = ["--key", key.as_str()];

    let good = site.signed("1");
    let mut seeder = cluster.seeder(&[]);
    let mut wait_seeding = |revision: &RevisionRef| {
        let name = revision.to_string();
        wait_for_event(&mut seeder, |e| e["event"] == "seeding" && e["revision"] == name.as_str());
    };
    wait_seeding(&good);
    // stock minisign says the same
    let manifest = site.file(&good, "manifest.json");
    site.minisign(&["-V", "-H", "-p", "site.pub", "-m", manifest.to_str().unwrap()]);
    let mut first = fetch(node, &at(&good), &trusted);
    wait_complete(&mut first);
    assert_eq!(ended(&mut first), Some(0));
    let image = cluster.outside(&node.scratch().join("image"));
    assert!(fs::read(&image).unwrap() == fs::read(site.file(&good, "rootimg.sfs")).unwrap());
    fs::remove_file(&image).unwrap();

    let stranger = site.key("stranger.pub");
    let process = fetch(node, &at(&good), &["--key", &stranger]);
    refused(&cluster, process, 8, "wrong-key", "trusted is");

    let unsigned = site.pack("2", &[]);
    wait_seeding(&unsigned);
    let process = fetch(node, &at(&unsigned), &trusted);
    refused(&cluster, process, 7, "unsigned", "bee-packer sign");
    // signed later, by what everybody has: the seeder serves it at once
    site.sign_stock(&site.file(&unsigned, "manifest.json"));
    let mut late = fetch(node, &at(&unsigned), &["--key", &site.key("stock.pub")]);
    wait_complete(&mut late);
    assert_eq!(ended(&mut late), Some(0));
    fs::remove_file(&image).unwrap();

    // a signature of the one, a manifest of the other: the store's owner is not trusted
    let signature = site.file(&good, "manifest.json.minisig");
    fs::copy(&signature, site.file(&unsigned, "manifest.json.minisig")).unwrap();
    let process = fetch(node, &at(&unsigned), &trusted);
    refused(&cluster, process, 9, "altered-manifest", "not what key");

    // rollback: what was signed before the newest is refused
    let time = signature.metadata().unwrap().mtime() + 3600;
    let policy = format!("{{\"version\":1,\"keys\":[\"{key}\"],\"not_before\":{time}}}");
    let path = node.scratch().join("trust.json");
    fs::write(cluster.outside(&path), policy).unwrap();
    let process = fetch(node, &at(&good), &["--trust", path.to_str().unwrap()]);
    refused(&cluster, process, 12, "too-old", "was signed at");

    // a torrent of the other image: our seeder would not serve it, a file server does
    let mirror = Mirror::start(&cluster);
    let folder = mirror.copy("torrent", &site, &good);
    fs::copy(site.file(&unsigned, "rootimg.torrent"), folder.join("rootimg.torrent")).unwrap();
    refused(&cluster, mirror.fetch("torrent", &trusted), 10, "wrong-torrent", "the manifest names");

    // a manifest that was signed with the digests of another image: what is compared is the root of the
    // blocks, or the whole image where the torrent has none
    let key = site.path("site.key");
    let v1 = ["--torrent", "v1", "--sign-key", key.as_str(), "--empty-password"];
    let plain = site.pack("plain", &v1);
    let wrong = |name: &str, revision: &RevisionRef| {
        let path = mirror.copy(name, &site, revision).join("manifest.json");
        let mut manifest = Manifest::parse(&fs::read(&path).unwrap()).unwrap();
        let image = manifest.artefacts.get_mut(&ArtefactKind::Image).unwrap();
        image.digest = Digest::PiecesRoot(Sha256Digest([9; 32]));
        if let Some(v2) = &mut manifest.v2 {
            v2.pieces_root = Sha256Digest([9; 32]);
        }
        fs::write(&path, manifest.to_bytes().unwrap()).unwrap();
        site.sign_stock(&path);
        mirror.fetch(name, &["--key", &site.key("stock.pub")])
    };
    refused(&cluster, wrong("root", &good), 10, "wrong-torrent", "names pieces root 0909");
    refused(&cluster, wrong("image", &plain), 11, "wrong-image", "signed manifest of demo");
}

/// Bytes that a process has read from files so far (`rchar` of proc_pid_io(5)); what it received over
/// the network does not count.
fn read_from_files(proc: &Proc) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/io", proc.pid())).unwrap();
    let count = text.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    count.parse().unwrap()
}

#[test]
fn a_signed_hybrid_image_is_verified_while_it_comes() {
    let cluster = Cluster::start("spared", 1, BitRate::mbit(100));
    let site = Site::new(&cluster.store);
    let node = &cluster.nodes[0];
    let _tracker = cluster.tracker();
    let key = site.path("site.key");
    let v1 = ["--torrent", "v1", "--sign-key", key.as_str(), "--empty-password"];
    let hybrid = site.signed("hybrid");
    let mut seeder = cluster.seeder(&[]);
    let mut read = |revision: &RevisionRef| {
        let name = revision.to_string();
        wait_for_event(&mut seeder, |e| e["event"] == "seeding" && e["revision"] == name.as_str());
        let mut fetch =
            fetch(node, &at(revision), &["--key", &site.key("site.pub"), "--keep-seeding"]);
        wait_complete(&mut fetch);
        let read = read_from_files(&fetch);
        fetch.terminate(LIMIT).unwrap();
        let image = cluster.outside(&node.scratch().join("image"));
        let fetched = fs::read(&image).unwrap();
        assert!(fetched == fs::read(site.file(revision, "rootimg.sfs")).unwrap(), "{name}");
        fs::remove_file(&image).unwrap();
        (read, fetched.len() as u64)
    };
    let (bytes, length) = read(&hybrid);
    assert!(bytes < length / 4, "{bytes} of {length} bytes were read again");
    // SHA-1 alone is not believed: what was signed is the SHA-256 of the whole
    let (bytes, length) = read(&site.pack("plain", &v1));
    assert!(bytes >= length, "only {bytes} of {length} bytes were read again");
}
