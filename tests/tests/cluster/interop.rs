//! Clients that nobody here wrote: each fetches from us and we from each, three of them at a time
//! share a swarm with us, under our tracker and under opentracker.
//!
//! All are set up as the benchmark sets them up. Two of them (ctorrent, transmission) decide every
//! ten seconds whom they serve: that is where most of the time here goes.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lab::client::{Done, Foreign, Offer, opentracker};
use lab::{BitRate, Node, Proc};
use proto::hash::{InfoHash, Sha256Digest};
use proto::metainfo::Metainfo;

use super::fixture::{ADMIN, Cluster, LIMIT, Revision, wait_complete};

const IMAGE: usize = 8 << 20;

/// How long a program may take to end when asked to; then it is killed.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
enum Tracker {
    Ours,
    Opentracker,
}

/// A cluster with one revision, for clients that take its torrent as a file.
struct Bed {
    cluster: Cluster,
    revision: Revision,
    offer: Offer,
    info_hash: InfoHash,
    digest: Sha256Digest,
}

/// A client that fetches, and how one learns that it is done.
struct Fetch {
    proc: Proc,
    done: Done,
}

impl Bed {
    fn new(test: &str, nodes: u32, kinds: &[Foreign]) -> Bed {
        let cluster = Cluster::start(test, nodes, BitRate::mbit(100));
        // aria2 1.36 gets another info-hash out of a hybrid torrent than everybody else, transmission
        // 3.00 does not open one
        let v1_only = [Foreign::Aria2, Foreign::Transmission];
        let hybrid = kinds.iter().all(|kind| !v1_only.contains(kind));
        let revision = cluster.publish_as(30, IMAGE, hybrid);
        let torrent = revision.torrent.clone();
        let info_hash = Metainfo::parse(&fs::read(&torrent).unwrap()).unwrap().info_hash;
        let digest = Sha256Digest::of(&revision.image);
        let offer = Offer { torrent, file: "rootimg.sfs".to_owned() };
        Bed { cluster, revision, offer, info_hash, digest }
    }

    fn tracker(&self, kind: Tracker) -> Proc {
        match kind {
            Tracker::Ours => self.cluster.tracker(),
            Tracker::Opentracker => {
                let admin = &self.cluster.admin;
                admin.spawn(&opentracker(admin, self.info_hash).unwrap()).unwrap()
            }
        }
    }

    /// Our seeder; returns when a tracker that runs knows it.
    fn seeder(&self) -> Proc {
        let mut seeder = self.cluster.seeder(&[]);
        self.cluster.wait_seeding(&mut seeder, &self.revision);
        self.wait_for_seeds(1);
        seeder
    }

    /// Waits until the tracker knows of this many complete peers (BEP 48).
    fn wait_for_seeds(&self, wanted: u32) {
        let hash: String = self.info_hash.0.iter().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/scrape?info_hash={hash}");
        let tracker: SocketAddr = format!("{ADMIN}:6969").parse().unwrap();
        let deadline = Instant::now() + LIMIT;
        let wanted = format!("8:completei{wanted}e");
        loop {
            let limit = Duration::from_secs(5);
            let reply = lab::http::get(&self.cluster.admin, tracker, &path, limit);
            let text = reply.map(|reply| String::from_utf8_lossy(&reply.body).into_owned());
            match text {
                Ok(text) if text.contains(&wanted) => return,
                other => assert!(Instant::now() < deadline, "no seed in: {other:?}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn fetch(&self, client: Foreign, node: &Node) -> Fetch {
        let launch = client.leecher(node, &self.offer).unwrap();
        Fetch { proc: node.spawn(&launch.command).unwrap(), done: launch.done }
    }

    /// Waits for a foreign client and compares what it has.
    fn wait(&self, client: Foreign, node: &Node, fetch: &mut Fetch) {
        let deadline = Instant::now() + LIMIT;
        while !fetch.done.reached(&mut fetch.proc).unwrap() {
            let ended = fetch.proc.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let log = last_words(&fetch.proc);
                panic!("{client:?} on {} is not done (ended: {ended:?})\n{log}", node.name());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.digest_of(self.theirs(node)), self.digest, "{client:?}, {}", node.name());
    }

    /// Where a foreign client has the image.
    fn theirs(&self, node: &Node) -> PathBuf {
        self.cluster.outside(&node.scratch().join(&self.offer.file))
    }

    fn digest_of(&self, file: PathBuf) -> Sha256Digest {
        Sha256Digest::of(&fs::read(file).unwrap())
    }
}

/// The end of what a program has printed, to wherever it prints.
fn last_words(proc: &Proc) -> String {
    let tail = |path: &Path| {
        let bytes = fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(2000)..]).into_owned()
    };
    format!("{}\n{}", tail(proc.log_path()), tail(proc.out_path()))
}

/// The client fetches from our seeder; then it is the only one that has the image, and we fetch it.
fn both_directions(test: &str, client: Foreign, tracker: Tracker) {
    let bed = Bed::new(test, 2, &[client]);
    let [theirs, ours] = &bed.cluster.nodes[..] else { panic!("two nodes") };
    {
        let _tracker = bed.tracker(tracker);
        let mut seeder = bed.seeder();
        let mut fetch = bed.fetch(client, theirs);
        bed.wait(client, theirs, &mut fetch);
        seeder.terminate(GRACE).unwrap();
        fetch.proc.terminate(GRACE).unwrap();
    }
    // a tracker that knows nobody yet
    let _tracker = bed.tracker(tracker);
    let seeder = client.seeder(theirs, &bed.offer, &theirs.scratch()).unwrap();
    let _seeder = theirs.spawn(&seeder).unwrap();
    bed.wait_for_seeds(1);
    let done = wait_complete(&mut bed.cluster.fetch(ours, bed.offer.torrent.to_str().unwrap()));
    assert_eq!(done["sources"]["peers"].as_u64(), Some(IMAGE as u64), "{done}");
    let got = bed.digest_of(bed.cluster.outside(&ours.scratch().join("image")));
    assert_eq!(got, bed.digest);
}

/// Three kinds of clients and two of ours share a swarm that starts with our seeder alone.
fn mixed(test: &str, kinds: [Foreign; 3], tracker: Tracker) {
    let bed = Bed::new(test, 5, &kinds);
    let _tracker = bed.tracker(tracker);
    let _seeder = bed.seeder();
    let (theirs, ours) = bed.cluster.nodes.split_at(kinds.len());
    let mut foreign: Vec<_> =
        kinds.iter().zip(theirs).map(|(kind, node)| bed.fetch(*kind, node)).collect();
    let torrent = bed.offer.torrent.to_str().unwrap();
    let mut fetches: Vec<_> = ours.iter().map(|node| bed.cluster.fetch(node, torrent)).collect();
    for (fetch, node) in fetches.iter_mut().zip(ours) {
        wait_complete(fetch);
        let got = bed.digest_of(bed.cluster.outside(&node.scratch().join("image")));
        assert_eq!(got, bed.digest, "{}", node.name());
    }
    for ((fetch, kind), node) in foreign.iter_mut().zip(kinds).zip(theirs) {
        bed.wait(kind, node, fetch);
    }
}

/// A test for each client with each tracker, and for each three that follow each other in the list
/// of clients: so each two meet.
macro_rules! matrix {
    ($($name:ident: $client:ident with $second:ident, $third:ident;)*) => {$(
        mod $name {
            use super::*;

            const KINDS: [Foreign; 3] = [Foreign::$client, Foreign::$second, Foreign::$third];

            #[test]
            fn both_directions_with_our_tracker() {
                both_directions(concat!(stringify!($name), "-ours"), KINDS[0], Tracker::Ours);
            }

            #[test]
            fn both_directions_with_opentracker() {
                let test = concat!(stringify!($name), "-opentracker");
                both_directions(test, KINDS[0], Tracker::Opentracker);
            }

            #[test]
            fn a_mixed_swarm_with_our_tracker() {
                mixed(concat!(stringify!($name), "-mixed-ours"), KINDS, Tracker::Ours);
            }

            #[test]
            fn a_mixed_swarm_with_opentracker() {
                let test = concat!(stringify!($name), "-mixed-opentracker");
                mixed(test, KINDS, Tracker::Opentracker);
            }
        }
    )*};
}

matrix! {
    ctorrent: Ctorrent with Aria2, Transmission;
    aria2: Aria2 with Transmission, Libtorrent;
    transmission: Transmission with Libtorrent, Librqbit;
    libtorrent: Libtorrent with Librqbit, Ctorrent;
    librqbit: Librqbit with Ctorrent, Aria2;
}
