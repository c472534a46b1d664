//! Valid inputs that mutations start from, made by our own encoders or written out.

use std::collections::BTreeMap;

use proto::announce::{
    AnnounceEvent, AnnouncePeers, AnnounceRequest, AnnounceResponse, PeerEntry, encode_scrape,
};
use proto::event::audit::{Audit, Finding, Verdict};
use proto::event::console::Console;
use proto::event::{Event, EventBatch, EventKind, FetchProgress, Stall, StallCause};
use proto::extension::ExtendedHandshake;
use proto::geometry::{Block, Geometry, PieceIndex};
use proto::hash::{InfoHash, PeerId, PeerRole, PieceHash, Sha256Digest};
use proto::hash_range::HashRange;
use proto::lsd::{self as lsd_codec, Announcement};
use proto::manifest::{Artefact, ArtefactKind, Manifest};
use proto::metainfo::{Info, Metainfo};
use proto::node_id::NodeId;
use proto::pex::{Contact, PexMessage};
use proto::udp_tracker;
use proto::wire::{Features, Handshake, Message};

/// Seeds of a target; at least one.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "bencode" => [torrents(), replies(), vec![extended(), scrape()]].concat(),
        "metainfo" => torrents(),
        "announce_query" => vec![
            request(None).to_query().into_bytes(),
            request(Some(AnnounceEvent::Started)).to_query().into_bytes(),
        ],
        "scrape_query" => {
            vec![b"info_hash=%00abcdefghijklmnopqrs&info_hash=aaaaaaaaaaaaaaaaaaaa".to_vec()]
        }
        "announce_response" => replies(),
        "compact_peers" => vec![vec![1; 36], (0..180).collect()],
        "handshake" => vec![hello().to_vec()],
        "wire_stream" => vec![messages(), hash_messages()],
        "hash_answer" => questions(),
        "extended_handshake" => vec![extended()],
        "pex" => vec![pex()],
        "lsd" => vec![lsd().into_bytes()],
        "udp_reply" => udp_replies(),
        "udp_request" => udp_requests(),
        "manifest" => vec![manifest()],
        "signature" => vec![SIGNATURE.as_bytes().to_vec()],
        "usage" => vec![
            br#"{"uptime_s":400,"revisions":[{"name":"debian","revision":"0123456789ab","nodes":3,
                "up":2,"peers":1,"assigned":4,"pending":0}]}"#
                .to_vec(),
        ],
        "trust_policy" => vec![TRUST_POLICY.as_bytes().to_vec()],
        "event_batch" => vec![events()],
        "host_list" => vec![b"rack[1-4]n[01-32],login1 gpu[7,9-11]x".to_vec()],
        "rollout_order" => vec![
            br#"{"revision":"debian@0123456789ab","nodes":["n01"],"addresses":{"n01":["52:54:00:00:00:01"]},
                "batch":"10%","max_failed":"2","patience_s":1200}"#
                .to_vec(),
        ],
        "boot_record" => vec![BOOT_RECORD.as_bytes().to_vec()],
        "kernel_args" => KERNEL_ARGS.iter().map(|line| line.as_bytes().to_vec()).collect(),
        "units" => UNITS.iter().map(|text| text.as_bytes().to_vec()).collect(),
        other => panic!("no seeds for target {other}"),
    }
}

/// By minisign 0.11, of the text `test`.
const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
    RUTD+mhVfKxMpqc0pskEnbi/jNTq2XrylFf2dcpya23KaPzzgI6tq9v/l2APndH777ph3cTpVaVaYE8L3YStxLOe0wxLbRY6UQs=\n\
    trusted comment: timestamp:1763744000\tfile:manifest.json\tname:demo\trevision:0123456789ab\n\
    5T0empT4AA6SKTIu0hTvzb+7jz5cMTyvkziUZSIVBRah+mRnWq3BNj57DhpSLVH9SVSTZKsjeE2E1wDMgxmHBA==\n";

const TRUST_POLICY: &str = "{\"version\":1,\"keys\":[\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"],\
    \"allow_override\":true,\"not_before\":1763744000}";

const UNITS: [&str; 8] = [
    "1.5GiB",
    "800Mbit/s",
    "4096",
    "64 K",
    "52:54:00:ab:cd:ef",
    "01-52-54-00-ab-cd-ef",
    "00112233445566778899aabbccddeeff00112233",
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
];

const KERNEL_ARGS: [&str; 2] = [
    "BOOT_IMAGE=vmlinuz quiet root=beeswarm:http://10.0.0.1:8080/channels/stable/demo/ \
     beeswarm.pin=sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff \
     beeswarm.tracker=http://10.0.0.1:6969/announce beeswarm.report=http://10.0.0.1:6969/ \
     beeswarm.overlay=tmpfs:512MiB beeswarm.upload_limit=800Mbit beeswarm.download_limit=1Gbit beeswarm.listen=0.0.0.0:6881",
    "root=beeswarm:/rootimg.torrent beeswarm.node=52:54:00:00:00:01 BOOTIF=01-52-54-00-00-00-01 \
     beeswarm.pin=btih:00112233445566778899aabbccddeeff00112233 console=\"ttyS0 115200\"",
];

const BOOT_RECORD: &str = r#"{"version":1,"device":"/dev/loop0","device_number":[7,0],"length":4096,
"info_hash":"00112233445566778899aabbccddeeff00112233","torrent":"/run/beeswarm/rootimg.torrent",
"trackers":[["http://10.0.0.1:6969/announce"]],"report":"http://10.0.0.1:6969",
"node":"52:54:00:00:00:01","source":"http://10.0.0.1:8080/x/","upload_limit":"10MiB",
"sources":{"admin":1,"peers":2,"web":3}}"#;

fn torrents() -> Vec<Vec<u8>> {
    let geometry = Geometry::new(40_000, 16_384).unwrap();
    let pieces = vec![PieceHash([1; 20]); 3];
    let info = Info::new("rootimg.sfs", geometry, true, pieces).unwrap();
    let url = |s: &str| s.to_owned();
    let tiers = vec![vec![url("http://a/announce"), url("http://b/x")], vec![url("http://c/y")]];
    let one = Metainfo::new(info.clone(), vec![vec![url("http://a/announce")]], vec![], None);
    let all = Metainfo::new(info, tiers, vec![url("http://w/")], Some(url("bee-packer")));
    let hybrid = Metainfo::new(hybrid_info(40_000), vec![], vec![], None);
    let short = Metainfo::new(hybrid_info(9_000), vec![], vec![], None);
    [one, all, hybrid, short].map(|torrent| torrent.unwrap().to_bytes().unwrap()).into()
}

/// With the hashes of BEP 52 as well.
fn hybrid_info(length: u64) -> Info {
    let geometry = Geometry::new(length, 16_384).unwrap();
    let pieces = vec![PieceHash([1; 20]); geometry.pieces() as usize];
    let layer = vec![Sha256Digest([2; 32]); pieces.len()];
    Info::new("rootimg.sfs", geometry, false, pieces).unwrap().with_tree(layer).unwrap()
}

fn range(base_layer: u32, index: u32, length: u32, proof_layers: u32) -> HashRange {
    HashRange { root: Sha256Digest([3; 32]), base_layer, index, length, proof_layers }
}

fn hash_messages() -> Vec<u8> {
    let (range, mut out) = (range(0, 8, 4, 5), Vec::new());
    Message::HashRequest(range).encode(&mut out);
    Message::Hashes { range, nodes: &[[4; 32]; 6] }.encode(&mut out);
    Message::HashReject(range).encode(&mut out);
    out
}

/// About 20 pieces of 8 blocks: the blocks of one, pairs of blocks, pieces, with and without proof.
fn questions() -> Vec<Vec<u8>> {
    let ranges = [range(0, 8, 8, 0), range(0, 8, 8, 7), range(0, 30, 2, 4), range(3, 16, 4, 4)];
    ranges.map(|range| [&[19, 3][..], &range.encode()[32..]].concat()).into()
}

fn request(event: Option<AnnounceEvent>) -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash(*b"\0\x01%&=+ \xff\xfe01234567890"),
        peer_id: PeerId::new(PeerRole::Node, [9; 12]),
        port: 6881,
        uploaded: 5,
        downloaded: u64::MAX,
        left: 0,
        event,
        numwant: Some(50),
        compact: true,
        no_peer_id: true,
        key: Some("k&=%".into()),
        ip: Some([10, 0, 0, 1].into()),
        failed: vec![([10, 0, 0, 7], 6881).into()],
    }
}

fn replies() -> Vec<Vec<u8>> {
    let id = PeerId::new(PeerRole::Admin, [3; 12]);
    let entry = |address: &str| PeerEntry { address: address.parse().unwrap(), peer_id: Some(id) };
    let reply = AnnounceResponse::Peers(AnnouncePeers {
        interval: 30,
        min_interval: Some(5),
        complete: 1,
        incomplete: 2,
        peers: vec![entry("10.0.0.1:6881"), entry("[fd00::1]:6882"), entry("10.0.0.3:6881")],
        warning: Some("slow".into()),
    });
    let refusal = AnnounceResponse::Failure("unknown info-hash".into());
    let encoded = [reply.encode(true), reply.encode(false), refusal.encode(true)];
    encoded.map(Result::unwrap).into()
}

fn scrape() -> Vec<u8> {
    let entry = proto::announce::ScrapeEntry {
        info_hash: InfoHash([7; 20]),
        complete: 1,
        downloaded: 2,
        incomplete: 3,
    };
    encode_scrape(&[entry]).unwrap()
}

fn hello() -> [u8; 68] {
    let features = Features { fast: true, extended: true, v2: false };
    let peer_id = PeerId::new(PeerRole::Node, [1; 12]);
    Handshake { info_hash: InfoHash([5; 20]), peer_id, features }.encode()
}

fn messages() -> Vec<u8> {
    let block = Block { piece: PieceIndex(1), begin: 16_384, length: 16_384 };
    let (extended, piece) = (extended(), block.piece);
    let mut out = Vec::new();
    for message in [
        Message::Extended { id: 0, payload: &extended },
        Message::Bitfield(&[0xff, 0x80]),
        Message::KeepAlive,
        Message::Interested,
        Message::Unchoke,
        Message::Request(block),
        Message::Piece { piece, begin: 0, data: b"sixteen bytes or" },
        Message::Have(piece),
        Message::HaveAll,
        Message::HaveNone,
        Message::Reject(block),
        Message::Cancel(block),
        Message::AllowedFast(piece),
        Message::Suggest(piece),
        Message::Port(6881),
        Message::NotInterested,
        Message::Choke,
    ] {
        message.encode(&mut out);
    }
    out
}

fn extended() -> Vec<u8> {
    let handshake = ExtendedHandshake {
        extensions: BTreeMap::from([("ut_pex".to_owned(), 1), ("ut_metadata".to_owned(), 2)]),
        client: Some("Beeswarm 0.1".into()),
        port: Some(6881),
        request_queue: Some(250),
        upload_only: true,
        run: Some(131_072),
    };
    handshake.encode().unwrap()
}

fn manifest() -> Vec<u8> {
    let manifest = Manifest {
        version: proto::manifest::MANIFEST_VERSION,
        name: "demo".into(),
        artefacts: ArtefactKind::ALL.map(|kind| (kind, Artefact::of(kind, b"hello"))).into(),
        info_hash: InfoHash([7; 20]),
        v2: None,
        verity: None,
        kernel_release: Some("6.1.0-1-amd64".into()),
        build: [("packer".to_owned(), "0.1.0".to_owned())].into(),
    };
    manifest.to_bytes().unwrap()
}

fn events() -> Vec<u8> {
    let kinds = [
        EventKind::Discover { source: "http://admin/".into() },
        EventKind::Fetch(FetchProgress { bytes: 1, total: 4, ..FetchProgress::default() }),
        EventKind::Verify {
            bytes: 4,
            seconds: 1.5,
            sources: proto::event::Sources::default(),
            hash_failures: 1,
        },
        EventKind::Stalled(Stall { cause: StallCause::NoPeers, detail: "none".into() }),
        EventKind::Failed { message: "m".into(), refused: None, cause: None },
        EventKind::Console(Console { lines: vec!["[    1.000] beeswarm: x".into(); 2] }),
        EventKind::Audit(Audit {
            verdict: Verdict::Fail,
            text: "a disk is missing".into(),
            findings: vec![Finding {
                name: "sda".into(),
                verdict: Verdict::Fail,
                detail: "d".into(),
            }],
        }),
    ];
    let events = (1..).zip(kinds).map(|(seq, kind)| Event { seq, uptime_ms: seq, kind }).collect();
    let batch = EventBatch {
        token: Some("00ff".into()),
        macs: vec![NodeId([2; 6])],
        uuid: Some("4c4c4544-0042-3510-8052-b4c04f4a3332".into()),
        events,
        ..EventBatch::new("b".into())
    };
    serde_json::to_vec(&batch).unwrap()
}

fn pex() -> Vec<u8> {
    let contact = |address: &str, complete| Contact {
        address: address.parse().unwrap(),
        complete,
        reachable: true,
    };
    let message = PexMessage {
        added: vec![contact("10.0.0.1:6881", true), contact("[fd00::1]:6881", false)],
        dropped: vec!["10.0.0.2:6881".parse().unwrap()],
    };
    message.encode().unwrap()
}

fn lsd() -> String {
    let info_hashes = vec![InfoHash([7; 20]), InfoHash([8; 20])];
    let message = Announcement { port: 6881, info_hashes, cookie: Some("c00c1e".into()) };
    message.encode((lsd_codec::GROUP_V4, lsd_codec::PORT).into())
}

fn udp_requests() -> Vec<Vec<u8>> {
    let announce =
        udp_tracker::announce(1 << 50, 7, &request(None), 9, "/announce?failed=%0A%00%00%07%1A%E1");
    let scrape = [announce[..8].to_vec(), vec![0, 0, 0, 2, 0, 0, 0, 7], vec![3; 40]].concat();
    vec![udp_tracker::connect(7), announce, scrape]
}

fn udp_replies() -> Vec<Vec<u8>> {
    let head = |action: u8| vec![0, 0, 0, action, 0, 0, 0, 7];
    vec![
        [head(0), vec![3; 8]].concat(),
        [head(1), vec![0, 0, 0, 60, 0, 0, 0, 1, 0, 0, 0, 2], vec![9; 36]].concat(),
        [head(3), b"torrent not registered".to_vec()].concat(),
    ]
}
