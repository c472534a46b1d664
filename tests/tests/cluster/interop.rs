//! Clients that nobody here wrote: they fetch from us, and we fetch from them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lab::tool::Tool;
use lab::{BitRate, Cmd, Node, Proc};

use super::fixture::{Cluster, LIMIT, Revision, wait_complete};

const CTORRENT: Tool = Tool::new(
    "ctorrent",
    "the client of the 2015 system, as a foreign peer",
    "ctorrent",
    "ctorrent",
);
const ARIA2: Tool = Tool::new("aria2c", "a foreign peer", "aria2", "aria2");

const IMAGE: usize = 6 << 20;

#[derive(Debug, Clone, Copy)]
enum Foreign {
    Ctorrent,
    Aria2,
}

impl Foreign {
    /// Runs the client on a node; it seeds when it is complete. `have` says that the file is there.
    fn run(self, node: &Node, torrent: &Path, have: bool) -> Proc {
        let command = match self {
            Self::Ctorrent => {
                let force = if have { ["-f", "-v"] } else { ["-v", "-v"] };
                Cmd::new(CTORRENT.find().unwrap())
                    .args(force)
                    .args(["-e", "1", "-p", "6881", "-s", "rootimg.sfs"])
                    .arg(torrent)
            }
            Self::Aria2 => Cmd::new(ARIA2.find().unwrap())
                .args(["--seed-ratio=0.0", "--enable-dht=false", "--enable-dht6=false"])
                .args(["--bt-enable-lpd=false", "--listen-port=6881", "--allow-overwrite=true"])
                .args(["--check-integrity=true", "--bt-tracker-interval=3"])
                .arg(torrent),
        };
        node.spawn(&command.folder(node.scratch())).unwrap()
    }
}

fn wait_for_image(cluster: &Cluster, node: &Node, proc: &mut Proc, revision: &Revision) {
    let file = cluster.outside(&node.scratch().join("rootimg.sfs"));
    let deadline = Instant::now() + LIMIT;
    while fs::read(&file).ok().as_ref() != Some(&revision.image) {
        let ended = proc.try_wait().unwrap();
        let output = || fs::read_to_string(proc.out_path()).unwrap_or_default();
        assert!(ended.is_none(), "the client ended: {}", output());
        assert!(Instant::now() < deadline, "not complete after {LIMIT:?}: {}", output());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn both_directions(test: &str, client: Foreign) {
    let cluster = Cluster::start(test, 2, BitRate::mbit(100));
    let revision = cluster.publish(30, IMAGE);
    let _tracker = cluster.tracker();
    let mut seeder = cluster.seeder(&[]);
    cluster.wait_seeding(&mut seeder, &revision);
    let [theirs, ours] = &cluster.nodes[..] else { panic!("two nodes") };
    // it fetches from our seeder …
    let mut foreign = client.run(theirs, &revision.torrent, false);
    wait_for_image(&cluster, theirs, &mut foreign, &revision);
    // … and is then the only one that has the image
    seeder.terminate(Duration::from_secs(5)).unwrap();
    foreign.terminate(Duration::from_secs(5)).unwrap();
    let _foreign = client.run(theirs, &revision.torrent, true);
    let done = wait_complete(&mut cluster.fetch(ours, revision.torrent.to_str().unwrap()));
    assert_eq!(done["sources"]["peers"].as_u64(), Some(IMAGE as u64), "{done}");
    assert!(cluster.image_on(ours) == revision.image);
}

#[test]
fn ctorrent_fetches_from_us_and_we_from_it() {
    both_directions("ctorrent", Foreign::Ctorrent);
}

#[test]
fn aria2_fetches_from_us_and_we_from_it() {
    both_directions("aria2", Foreign::Aria2);
}

#[test]
fn a_swarm_of_both_kinds_completes() {
    let cluster = Cluster::start("mixed", 6, BitRate::mbit(50));
    let revision = cluster.publish(31, IMAGE);
    let _tracker = cluster.tracker();
    let mut seeder = cluster.seeder(&[]);
    cluster.wait_seeding(&mut seeder, &revision);
    let (theirs, ours) = cluster.nodes.split_at(3);
    let kinds = [Foreign::Ctorrent, Foreign::Aria2, Foreign::Ctorrent];
    let mut foreign: Vec<_> = theirs
        .iter()
        .zip(kinds)
        .map(|(node, kind)| kind.run(node, &revision.torrent, false))
        .collect();
    let mut fetches: Vec<_> =
        ours.iter().map(|node| cluster.fetch(node, &revision.url())).collect();
    for (fetch, node) in fetches.iter_mut().zip(ours) {
        wait_complete(fetch);
        assert!(cluster.image_on(node) == revision.image);
    }
    for (proc, node) in foreign.iter_mut().zip(theirs) {
        wait_for_image(&cluster, node, proc, &revision);
    }
}
