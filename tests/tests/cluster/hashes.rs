//! Hashes on the wire (BEP 52) with libtorrent, which nobody here wrote: it tells us which block is wrong,
//! and learns the pieces of a torrent from us.
//!
//! A relay between the two reads along, so that what is asserted is what was said and not what came of it.

pub(super) mod liar;
mod wire;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use lab::client::libtorrent::{checked_seeder, leecher_without_layers};
use lab::client::{Foreign, Offer};
use lab::{BitRate, Cmd, Node, Proc};
use proto::geometry::{BLOCK_LEN, Geometry, PieceIndex};
use proto::hash::{InfoHash, PeerId, PeerRole, PieceHash};
use proto::hash_range::HashRange;
use proto::merkle::{self, BlockTree};
use proto::metainfo::{Info, Metainfo};
use proto::wire::{Features, HANDSHAKE_LEN, Handshake, Message};
use serde_json::Value;

use self::liar::WRONG;
use self::wire::{Meddling, Said, Side, Wire};
use super::fixture::{ADMIN, Cluster, LIMIT, wait_complete, wait_for_event};

/// Where every client here takes peers.
const PORT: u16 = 6881;

/// A hybrid torrent of random bytes, without trackers: who is not told of a peer finds none.
pub(super) struct Content {
    folder: tempfile::TempDir,
    image: Vec<u8>,
    metainfo: Metainfo,
}

impl Content {
    pub(super) fn new(seed: u64, length: usize, piece: u32) -> Content {
        let mut image = vec![0; length];
        fastrand::Rng::with_seed(seed).fill(&mut image);
        let geometry = Geometry::new(length as u64, piece.into()).unwrap();
        let hashes = image.chunks(piece as usize).map(PieceHash::of).collect();
        let info = Info::new("rootimg.sfs", geometry, true, hashes).unwrap();
        let info = info.with_tree(merkle::layer(&image, piece)).unwrap();
        let metainfo = Metainfo::new(info, vec![], vec![], None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("rootimg.sfs"), &image).unwrap();
        fs::write(folder.path().join("loose.torrent"), metainfo.to_bytes().unwrap()).unwrap();
        Content { folder, image, metainfo }
    }

    pub(super) fn offer(&self) -> Offer {
        let torrent = self.folder.path().join("loose.torrent");
        Offer { torrent, file: "rootimg.sfs".to_owned() }
    }

    fn tree(&self) -> &BlockTree {
        self.metainfo.info.tree().unwrap()
    }

    fn short(&self) -> InfoHash {
        self.metainfo.info_hash_v2.unwrap().truncated()
    }
}

fn at(node: &Node) -> SocketAddr {
    SocketAddr::from((node.ip(), PORT))
}

fn until(what: &str, mut test: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !test() {
        assert!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Tells the tracker of a seeder that does not do so itself.
pub(super) fn announce(node: &Node, content: &Content, id: u8) {
    let hash: String = content.metainfo.info_hash.0.iter().map(|b| format!("%{b:02x}")).collect();
    let path = format!(
        "/announce?info_hash={hash}&peer_id=-XX0001-0000000000{id:02}&port={PORT}\
         &uploaded=0&downloaded=0&left=0&compact=1&event=started"
    );
    let tracker = SocketAddr::new(ADMIN.parse().unwrap(), 6969);
    until("the tracker", || lab::http::get(node, tracker, &path, LIMIT).is_ok());
}

fn fetch(node: &Node, content: &Content) -> Proc {
    let command = Cmd::new(lab::program("bee-initrd-client").unwrap())
        .args(["fetch", "--json", "--no-lsd", "--listen", "0.0.0.0:6881", "--tracker"])
        .arg(format!("http://{ADMIN}:6969/announce"))
        .arg("--torrent")
        .arg(content.offer().torrent)
        .arg("--output")
        .arg(node.scratch().join("image"));
    node.spawn(&command).unwrap()
}

/// How a fetch went that a liar disturbed.
struct Outcome {
    done: Value,
    /// Between our client, which dials, and libtorrent.
    said: Vec<(Side, Said)>,
    /// The numbers of the blocks that the liar was asked for, sorted.
    lied: Vec<u32>,
    blocks: u32,
}

impl Outcome {
    /// The blocks of the piece that our client asked libtorrent for.
    fn fetched_again(&self, piece: PieceIndex) -> Vec<u32> {
        let wanted = self.said.iter().filter_map(|(_, said)| match said {
            Said::Wants(block) if block.piece == piece => Some(block.begin / BLOCK_LEN),
            _ => None,
        });
        let mut wanted: Vec<u32> = wanted.collect();
        wanted.sort_unstable();
        wanted
    }

    fn hellos(&self) -> Vec<(Side, InfoHash, bool)> {
        let hello = |(side, said): &(Side, Said)| match said {
            Said::Hello(hash, v2) => Some((*side, *hash, *v2)),
            _ => None,
        };
        self.said.iter().filter_map(hello).collect()
    }

    fn of_hashes(&self) -> Vec<&(Side, Said)> {
        let of_hashes =
            |said: &Said| matches!(said, Said::Asks(_) | Said::Tells(..) | Said::Refuses(_));
        self.said.iter().filter(|(_, said)| of_hashes(said)).collect()
    }
}

/// Our client fetches from libtorrent, the only one that has the image, and from a liar that has one
/// piece. libtorrent gives data only when the liar is gone, but answers questions before.
fn disturbed(
    test: &str,
    content: &Content,
    piece: PieceIndex,
    meddling: Meddling,
    checked: bool,
) -> Outcome {
    let cluster = Cluster::start(test, 4, BitRate::mbit(100));
    let [ours, theirs, relay, lying] = &cluster.nodes[..] else { panic!("four nodes") };
    let _tracker = cluster.tracker_for_all();
    let seeder = if checked {
        checked_seeder(theirs, &content.offer(), content.folder.path())
    } else {
        Foreign::Libtorrent.seeder(theirs, &content.offer(), content.folder.path())
    };
    let seeder = theirs.spawn(&seeder.unwrap()).unwrap();
    // not from the relay's address: libtorrent remembers by the address who speaks BEP 52
    until("libtorrent", || {
        assert!(!seeder.has_ended(), "{}", log(&seeder));
        is_ready(&cluster.admin, theirs, content, checked, piece)
    });
    let wire = Wire::start(relay, at(relay), at(theirs), meddling, false);
    let relay_wire = wire.clone();
    let asked = liar::start(lying, content, piece, move || {
        // who is called over it has been found to have something
        let interested = (Side::Caller, Said::Interested);
        until("the relay", || relay_wire.said().contains(&interested));
    });
    announce(relay, content, 1);
    announce(lying, content, 2);
    let mut fetch = fetch(ours, content);
    until("the end of the liar", || asked.lock().unwrap().iter().any(|(_, ended)| *ended));
    wire.open();
    let done = wait_complete(&mut fetch);
    assert!(cluster.image_on(ours) == content.image);
    let mut asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 1, "who is banned is not dialled again");
    let blocks = content.metainfo.info.geometry.blocks_in(piece);
    let mut lied = std::mem::take(&mut asked[0].0);
    lied.sort_unstable();
    Outcome { done, said: wire.said(), lied, blocks }
}

/// Whether libtorrent has read its file: it has no blocks to tell of before.
fn is_ready(from: &Node, to: &Node, content: &Content, checked: bool, piece: PieceIndex) -> bool {
    let Ok(mut stream) = from.connect(at(to), Duration::from_secs(5)) else { return false };
    if !checked {
        return true;
    }
    let features = Features { fast: true, extended: false, v2: true };
    let peer_id = PeerId::new(PeerRole::Node, [9; 12]);
    let hello = Handshake { info_hash: content.metainfo.info_hash, peer_id, features };
    let mut out = hello.encode().to_vec();
    Message::HaveNone.encode(&mut out);
    Message::HashRequest(content.tree().blocks_of(piece).unwrap()).encode(&mut out);
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut ask = || -> std::io::Result<bool> {
        stream.write_all(&out)?;
        stream.read_exact(&mut [0; HANDSHAKE_LEN])?;
        let (mut buffer, mut bytes) = (Vec::new(), [0; 4096]);
        loop {
            while let Some((message, used)) = Message::parse(&buffer).unwrap() {
                match message {
                    Message::Hashes { .. } => return Ok(true),
                    Message::HashReject(_) => return Ok(false),
                    _ => drop(buffer.drain(..used)),
                }
            }
            match stream.read(&mut bytes)? {
                0 => return Ok(false),
                count => buffer.extend(&bytes[..count]),
            }
        }
    };
    ask().unwrap_or(false)
}

/// Eight pieces of eight blocks, the last of six with a short one.
fn small(seed: u64) -> Content {
    Content::new(seed, 7 * 131_072 + 5 * 16_384 + 100, 131_072)
}

fn named_by_libtorrent(test: &str, seed: u64, piece: PieceIndex) {
    let content = small(seed);
    let outcome = disturbed(test, &content, piece, Meddling::None, true);
    let (v1, v2) = (content.metainfo.info_hash, content.short());
    // ours offers BEP 52, libtorrent takes it: the hash that it names says so, it sets no bit then
    assert_eq!(outcome.hellos(), [(Side::Caller, v1, true), (Side::Called, v2, false)]);
    let range = content.tree().blocks_of(piece).unwrap();
    let length = content.metainfo.info.geometry.piece_size(piece) as usize;
    let bytes = &content.image[piece.as_usize() * 131_072..][..length];
    let nodes = content.tree().answer(&range, &merkle::blocks(bytes)).unwrap();
    assert_eq!(
        outcome.of_hashes(),
        [&(Side::Caller, Said::Asks(range)), &(Side::Called, Said::Tells(range, nodes))]
    );
    // the liar is gone after one wrong block, and that alone comes again
    assert_eq!(outcome.lied, (0..outcome.blocks).collect::<Vec<_>>());
    assert_eq!(outcome.fetched_again(piece), [WRONG]);
    assert_eq!(outcome.done["hash_failures"].as_u64(), Some(1), "{}", outcome.done);
    assert_eq!(outcome.done["wasted"].as_u64(), Some(BLOCK_LEN.into()), "{}", outcome.done);
}

/// Without an answer the piece comes from the liar a second time, which is what bans it, and then all of
/// it from libtorrent.
fn named_by_nobody(outcome: &Outcome, piece: PieceIndex) {
    let twice = (0..outcome.blocks).flat_map(|block| [block, block]).collect::<Vec<_>>();
    assert_eq!(outcome.lied, twice);
    assert_eq!(outcome.fetched_again(piece), (0..outcome.blocks).collect::<Vec<_>>());
    assert_eq!(outcome.done["hash_failures"].as_u64(), Some(2), "{}", outcome.done);
    assert_eq!(outcome.done["wasted"].as_u64(), Some(2 * 131_072), "{}", outcome.done);
}

#[test]
fn libtorrent_names_the_wrong_block() {
    named_by_libtorrent("hashes-block", 101, PieceIndex(2));
}

#[test]
fn libtorrent_names_the_wrong_block_of_the_last_piece() {
    named_by_libtorrent("hashes-last", 102, PieceIndex(7));
}

#[test]
fn a_libtorrent_of_bep_3_is_not_asked() {
    let content = small(103);
    let piece = PieceIndex(2);
    let outcome = disturbed("hashes-v1", &content, piece, Meddling::HidesV2, true);
    let v1 = content.metainfo.info_hash;
    assert_eq!(outcome.hellos(), [(Side::Caller, v1, true), (Side::Called, v1, true)]);
    assert_eq!(outcome.of_hashes(), [] as [&(Side, Said); 0]);
    named_by_nobody(&outcome, piece);
}

#[test]
fn a_libtorrent_that_has_no_hashes_of_blocks_refuses() {
    let content = small(104);
    let piece = PieceIndex(2);
    let outcome = disturbed("hashes-refused", &content, piece, Meddling::None, false);
    let range = content.tree().blocks_of(piece).unwrap();
    let once = [(Side::Caller, Said::Asks(range)), (Side::Called, Said::Refuses(range))];
    // once for each wrong copy
    assert_eq!(outcome.of_hashes(), once.iter().chain(&once).collect::<Vec<_>>());
    named_by_nobody(&outcome, piece);
}

#[test]
fn hashes_that_lead_elsewhere_are_not_believed() {
    let content = small(107);
    let piece = PieceIndex(2);
    let outcome = disturbed("hashes-wrong", &content, piece, Meddling::SpoilsHashes, true);
    let range = content.tree().blocks_of(piece).unwrap();
    let of_hashes = outcome.of_hashes();
    let told = of_hashes.iter().filter(|note| tells(note) == Some((question(&range), 8))).count();
    assert_eq!((of_hashes.len(), told), (4, 2), "{of_hashes:?}");
    named_by_nobody(&outcome, piece);
}

/// libtorrent knows the info dictionary alone and fetches from our seeder, through the relay.
fn taught(test: &str, content: &Content, meddling: Meddling) -> (Cluster, Proc, Proc, Wire) {
    let cluster = Cluster::start(test, 2, BitRate::mbit(200));
    let [theirs, relay] = &cluster.nodes[..] else { panic!("two nodes") };
    let seed = Cmd::new(lab::program("bee-seeder").unwrap())
        .args(["seed", "--json", "--listen", "0.0.0.0:6881", "--torrent"])
        .arg(content.offer().torrent)
        .arg("--data")
        .arg(content.folder.path().join("rootimg.sfs"));
    let mut seeder = cluster.admin.spawn(&seed).unwrap();
    wait_for_event(&mut seeder, |e| e["event"] == "seeding");
    let wire = Wire::start(relay, at(relay), at(&cluster.admin), meddling, true);
    let launch = leecher_without_layers(theirs, &content.offer(), at(relay)).unwrap();
    let (mut proc, mut done) = (theirs.spawn(&launch.command).unwrap(), launch.done);
    let spoilt = meddling == Meddling::SpoilsHashes;
    until("libtorrent's verdict", || {
        assert!(!proc.has_ended(), "{}", log(&proc));
        if spoilt { log(&proc).contains(INVALID) } else { done.reached(&mut proc).unwrap() }
    });
    (cluster, seeder, proc, wire)
}

/// How libtorrent says that hashes do not lead to the root.
const INVALID: &str = "invalid hashes";

fn log(proc: &Proc) -> String {
    fs::read_to_string(proc.log_path()).unwrap_or_default()
}

#[test]
fn libtorrent_learns_the_pieces_from_us() {
    // more than are asked for at once, so the answers need a proof; pieces of two blocks
    let content = Content::new(105, 530 * 32_768 - 20_000, 32_768);
    let (cluster, _seeder, proc, wire) = taught("hashes-taught", &content, Meddling::None);
    let file = cluster.nodes[0].scratch().join("rootimg.sfs");
    assert!(fs::read(cluster.outside(&file)).unwrap() == content.image);
    let said = wire.said();
    assert!(said.contains(&(Side::Called, Said::Hello(content.short(), true))), "as of BEP 52");
    let mut asked: Vec<_> = said.iter().filter_map(asks).collect();
    let mut told: Vec<_> = said.iter().filter_map(tells).collect();
    asked.sort_unstable();
    told.sort_unstable();
    // it asks again after 3 s without an answer
    asked.dedup();
    told.dedup();
    // pieces 0 to 511 and the rest, up to the root
    assert_eq!(asked, [(1, 0, 512, 9), (1, 512, 32, 9)]);
    assert_eq!(told, [((1, 0, 512, 9), 512 + 1), ((1, 512, 32, 9), 32 + 5)]);
    assert!(!said.iter().any(|(_, said)| matches!(said, Said::Refuses(_))), "{said:?}");
    assert!(!log(&proc).contains(INVALID), "{}", log(&proc));
}

/// Level, first, number and proof layers.
type Question = (u32, u32, u32, u32);

fn question(range: &HashRange) -> Question {
    (range.base_layer, range.index, range.length, range.proof_layers)
}

fn asks((side, said): &(Side, Said)) -> Option<Question> {
    match said {
        Said::Asks(range) if *side == Side::Caller => Some(question(range)),
        _ => None,
    }
}

fn tells((side, said): &(Side, Said)) -> Option<(Question, usize)> {
    match said {
        Said::Tells(range, nodes) if *side == Side::Called => Some((question(range), nodes.len())),
        _ => None,
    }
}

#[test]
fn libtorrent_checks_what_it_is_told() {
    let content = Content::new(106, 530 * 32_768 - 20_000, 32_768);
    let (_cluster, _seeder, proc, wire) = taught("hashes-spoilt", &content, Meddling::SpoilsHashes);
    assert!(wire.said().iter().filter_map(tells).count() > 0);
    assert!(log(&proc).contains(INVALID), "{}", log(&proc));
}
