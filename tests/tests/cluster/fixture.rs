//! An admin host and nodes, with made-up but complete revisions to distribute.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lab::{BitRate, Cmd, Lab, LabConfig, Link, Node, Proc, Scratch, program};
use proto::geometry::Geometry;
use proto::hash::{InfoHash, PieceHash};
use proto::manifest::{
    ARGUMENTS_FACT, ARGUMENTS_KNOWN, Artefact, ArtefactKind, HybridHashes, MANIFEST_VERSION,
    Manifest,
};
use proto::merkle;
use proto::metainfo::{Info, Metainfo};
use serde_json::Value;
use store::{Channel, RevisionName, RevisionRef, Store};

/// Address of the first node of a lab.
pub(crate) const ADMIN: &str = "10.87.1.1";

/// Longest that anything may take; nothing is asserted about how long it does take.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Piece length of the revisions, in bytes.
const PIECE: u64 = 32 * 1024;

pub(crate) struct Cluster {
    pub(crate) admin: Node,
    pub(crate) nodes: Vec<Node>,
    pub(crate) store: Store,
    lab: Lab,
    store_folder: tempfile::TempDir,
}

/// A torrent and its image outside of any store.
pub(crate) struct Loose {
    pub(crate) info_hash: InfoHash,
    pub(crate) torrent: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) image: Vec<u8>,
}

pub(crate) struct Revision {
    pub(crate) reference: RevisionRef,
    pub(crate) torrent: PathBuf,
    pub(crate) image: Vec<u8>,
}

impl Cluster {
    /// A lab with an admin host and nodes whose links all have this rate.
    pub(crate) fn start(test: &str, nodes: u32, rate: BitRate) -> Cluster {
        let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster").join(test);
        let _ = fs::remove_dir_all(&logs);
        let config = LabConfig::new(logs)
            .scratch(Scratch::Memory(u64::from(nodes + 2) * (24 << 20)))
            .expect_nodes(nodes + 1);
        let lab = Lab::start(config).expect("a lab (needs root)");
        let admin = lab.add_node("admin", Link::rate(rate)).unwrap();
        assert_eq!(admin.ip().to_string(), ADMIN);
        let nodes = (1..=nodes)
            .map(|n| lab.add_node(&format!("n{n}"), Link::rate(rate)).unwrap())
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::init(folder.path().join("store")).unwrap();
        Cluster { admin, nodes, store, lab, store_folder: folder }
    }

    /// Writes a public torrent of random bytes with these trackers.
    pub(crate) fn loose(&self, seed: u64, length: usize, trackers: &[&str]) -> Loose {
        self.loose_as(seed, length, trackers, false)
    }

    /// Of a private torrent trackers alone tell where peers are.
    pub(crate) fn loose_as(
        &self,
        seed: u64,
        length: usize,
        trackers: &[&str],
        private: bool,
    ) -> Loose {
        let mut image = vec![0; length];
        fastrand::Rng::with_seed(seed).fill(&mut image);
        let geometry = Geometry::new(length as u64, PIECE).unwrap();
        let pieces = image.chunks(usize::try_from(PIECE).unwrap()).map(PieceHash::of).collect();
        let info = Info::new("rootimg.sfs", geometry, private, pieces).unwrap();
        let tiers = trackers.iter().map(|url| vec![(*url).to_owned()]).collect();
        let metainfo = Metainfo::new(info, tiers, vec![], None).unwrap();
        let folder = self.store_folder.path();
        let (torrent, data) = (folder.join("loose.torrent"), folder.join("rootimg.sfs"));
        fs::write(&torrent, metainfo.to_bytes().unwrap()).unwrap();
        fs::write(&data, &image).unwrap();
        Loose { info_hash: metainfo.info_hash, torrent, data, image }
    }

    /// `bee-seeder seed` of a loose torrent; returns when it listens.
    pub(crate) fn seed(&self, node: &Node, loose: &Loose) -> Proc {
        let command = Cmd::new(program("bee-seeder").unwrap())
            .args(["seed", "--json", "--listen", "[::]:6881"])
            .arg("--torrent")
            .arg(&loose.torrent)
            .arg("--data")
            .arg(&loose.data);
        let mut proc = node.spawn(&command).unwrap();
        wait_for_event(&mut proc, |e| e["event"] == "seeding");
        proc
    }

    /// Makes a revision of random bytes, with a hybrid torrent, and publishes it in the channel `stable`.
    pub(crate) fn publish(&self, seed: u64, length: usize) -> Revision {
        self.publish_as(seed, length, true)
    }

    /// With `hybrid` the torrent is one of BEP 3 and BEP 52, otherwise of BEP 3 alone.
    pub(crate) fn publish_as(&self, seed: u64, length: usize, hybrid: bool) -> Revision {
        self.publish_with(seed, length, hybrid, (b"kernel", b"initrd"))
    }

    /// With this kernel and initrd, whose client knows `beeswarm.token=`.
    pub(crate) fn publish_with(
        &self,
        seed: u64,
        length: usize,
        hybrid: bool,
        (kernel, initrd): (&[u8], &[u8]),
    ) -> Revision {
        let mut image = vec![0; length];
        fastrand::Rng::with_seed(seed).fill(&mut image);
        let geometry = Geometry::new(length as u64, PIECE).unwrap();
        let pieces = image.chunks(usize::try_from(PIECE).unwrap()).map(PieceHash::of).collect();
        let mut info = Info::new("rootimg.sfs", geometry, true, pieces).unwrap();
        if hybrid {
            let layer = merkle::layer(&image, u32::try_from(PIECE).unwrap());
            info = info.with_tree(layer).unwrap();
        }
        let tracker = format!("http://{ADMIN}:6969/announce");
        let metainfo = Metainfo::new(info, vec![vec![tracker]], vec![], None).unwrap();
        let draft = self.store.begin().unwrap();
        let mut manifest = Manifest {
            version: MANIFEST_VERSION,
            name: "demo".into(),
            artefacts: Default::default(),
            info_hash: metainfo.info_hash,
            v2: HybridHashes::of(&metainfo),
            verity: None,
            kernel_release: None,
            build: [(ARGUMENTS_FACT.to_owned(), ARGUMENTS_KNOWN.to_owned())].into(),
        };
        let torrent = metainfo.to_bytes().unwrap();
        for (kind, bytes) in [
            (ArtefactKind::Image, image.as_slice()),
            (ArtefactKind::Torrent, &torrent),
            (ArtefactKind::Kernel, kernel),
            (ArtefactKind::Initrd, initrd),
        ] {
            fs::write(draft.dir().join(kind.file_name()), bytes).unwrap();
            manifest.artefacts.insert(kind, Artefact::of(kind, bytes));
        }
        let revision = self.store.commit(draft, &manifest).unwrap().revision;
        let reference = revision.reference().clone();
        self.store.publish(&reference, &Channel::new("stable").unwrap()).unwrap();
        Revision { reference, torrent: revision.torrent(), image }
    }

    pub(crate) fn name(&self) -> RevisionName {
        RevisionName::new("demo").unwrap()
    }

    pub(crate) fn tracker(&self) -> Proc {
        self.tracker_with(&[])
    }

    /// With further flags.
    pub(crate) fn tracker_with(&self, flags: &[&str]) -> Proc {
        let command = Cmd::new(program("bee-tracker").unwrap())
            .args(["--listen", "0.0.0.0:6969", "--store"])
            .arg(self.store.root())
            .args(flags);
        self.admin.spawn(&command).unwrap()
    }

    /// A tracker of every torrent, whatever is published.
    pub(crate) fn tracker_for_all(&self) -> Proc {
        self.tracker_on(&self.admin)
    }

    /// The same on another node.
    pub(crate) fn tracker_on(&self, node: &Node) -> Proc {
        let command = Cmd::new(program("bee-tracker").unwrap()).args(["--listen", "0.0.0.0:6969"]);
        node.spawn(&command).unwrap()
    }

    /// `bee-seeder watch` with these further flags; returns when its HTTP port is open.
    pub(crate) fn seeder(&self, flags: &[&str]) -> Proc {
        let command = Cmd::new(program("bee-seeder").unwrap())
            .args(["watch", "--json", "--listen", "0.0.0.0:6881", "--http", "0.0.0.0:8080"])
            .arg("--store")
            .arg(self.store.root())
            .args(flags);
        let mut proc = self.admin.spawn(&command).unwrap();
        wait_for_event(&mut proc, |e| e["event"] == "listening" && e["service"] == "http");
        proc
    }

    /// `bee-initrd-client fetch` on a node, which seeds when it is done.
    pub(crate) fn fetch(&self, node: &Node, source: &str) -> Proc {
        let command = Cmd::new(program("bee-initrd-client").unwrap())
            .args(["fetch", "--keep-seeding", "--json", "--listen", "[::]:6881"])
            .args(["--torrent", source, "--output"])
            .arg(node.scratch().join("image"));
        node.spawn(&command).unwrap()
    }

    /// The image as it lies on a node.
    pub(crate) fn image_on(&self, node: &Node) -> Vec<u8> {
        fs::read(self.lab.outside(&node.scratch().join("image"))).unwrap()
    }

    /// Where a machine can be plugged in.
    pub(crate) fn machine_port(&self, name: &str) -> Node {
        self.lab.add_machine_port(name, Link::rate(BitRate::mbit(400))).unwrap()
    }

    /// A path of the lab as this process can open it.
    pub(crate) fn outside(&self, inside: &Path) -> PathBuf {
        self.lab.outside(inside)
    }

    /// Waits until `bee-seeder watch` has told of seeding this revision.
    pub(crate) fn wait_seeding(&self, seeder: &mut Proc, revision: &Revision) {
        let name = revision.reference.to_string();
        wait_for_event(seeder, |e| e["event"] == "seeding" && e["revision"] == name.as_str());
    }
}

impl Revision {
    /// URL of its directory at the admin host.
    pub(crate) fn url(&self) -> String {
        let RevisionRef { name, id } = &self.reference;
        format!("http://{ADMIN}:8080/revisions/{name}/{id}/")
    }
}

/// Runs `ip LINE` on a node.
pub(crate) fn ip(node: &Node, line: &str) {
    let output = node.run(&Cmd::new("ip").args(line.split(' '))).unwrap();
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The JSON lines that a program has printed so far; an unfinished last line is left out.
pub(crate) fn events(proc: &Proc) -> Vec<Value> {
    let text = fs::read_to_string(proc.out_path()).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits for an event of a running program, and returns it.
pub(crate) fn wait_for_event(proc: &mut Proc, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(event) = events(proc).into_iter().find(&wanted) {
            return event;
        }
        let ended = proc.try_wait().unwrap();
        if ended.is_some() || Instant::now() > deadline {
            let log = fs::read_to_string(proc.log_path()).unwrap_or_default();
            panic!("waited in vain (ended: {ended:?}); last: {:?}\n{log}", events(proc).last());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks again and again until the answer is right; the last answer is told otherwise.
pub(crate) fn wait(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + limit;
    while let Err(answer) = ask() {
        assert!(Instant::now() < deadline, "waited for {what}; last: {answer}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits until a fetch is complete; its last word.
pub(crate) fn wait_complete(proc: &mut Proc) -> Value {
    wait_for_event(proc, |e| e["event"] == "complete")
}

/// Waits until a fetch has this share of the image, 0 to 100.
pub(crate) fn wait_percent(proc: &mut Proc, percent: f64) {
    wait_for_event(proc, |e| {
        e["event"] == "complete" || e["percent"].as_f64().is_some_and(|p| p >= percent)
    });
}
