//! One function per parser of outside bytes. Each must return for any input: it may not panic, loop
//! or allocate without bound. Where a parser accepts its input, the function also demands that
//! writing the result and reading it again gives the same result.
//!
//! Used by `fuzz_smoke.rs` with fixed mutations, and by the libFuzzer targets under `fuzz/`.

use std::net::SocketAddr;

use proto::announce::{
    AnnounceRequest, AnnounceResponse, MAX_QUERY_LEN, PeerEntry, failed, parse_scrape,
};
use proto::bencode::{Value, raw_value};
use proto::bitfield::Bitfield;
use proto::boot_record::BootRecord;
use proto::event::{EventBatch, EventKind, MAX_BATCH_LEN, MAX_TEXT_LEN, audit, console};
use proto::extension::ExtendedHandshake;
use proto::geometry::{BLOCK_LEN, Geometry, PieceIndex};
use proto::hash::{InfoHash, Sha256Digest};
use proto::hash_range::HashRange;
use proto::kernel_args::{KernelArgs, is_for_us};
use proto::lsd::{self as lsd_codec, Announcement};
use proto::manifest::{MAX_MANIFEST_LEN, Manifest};
use proto::merkle::{self, BlockTree, Node};
use proto::metainfo::Metainfo;
use proto::node_id::NodeId;
use proto::pex::{MAX_PEERS as MAX_PEX, PexMessage};
use proto::rollout::RolloutOrder;
use proto::signature::{self as minisign, PublicKey};
use proto::trust_policy::TrustPolicy;
use proto::udp_tracker::server::{Ask, MAX_SCRAPE, Request};
use proto::udp_tracker::{self, Family, Reply};
use proto::units::{ByteRate, ByteSize};
use proto::usage::Usage;
use proto::wire::{Handshake, Message};
use proto::{host_list, peers, query};

/// A parser under test; says whether it accepted the input.
pub(crate) type Target = fn(&[u8]) -> bool;

/// Every target by name; the name is also that of the libFuzzer binary.
pub(crate) const ALL: [(&str, Target); 24] = [
    ("bencode", bencode),
    ("metainfo", metainfo),
    ("announce_query", announce_query),
    ("scrape_query", scrape_query),
    ("announce_response", announce_response),
    ("compact_peers", compact_peers),
    ("handshake", handshake),
    ("wire_stream", wire_stream),
    ("hash_answer", hash_answer),
    ("extended_handshake", extended_handshake),
    ("pex", pex),
    ("lsd", lsd),
    ("udp_reply", udp_reply),
    ("udp_request", udp_request),
    ("manifest", manifest),
    ("signature", signature),
    ("trust_policy", trust_policy),
    ("usage", usage),
    ("event_batch", event_batch),
    ("host_list", host_list),
    ("rollout_order", rollout_order),
    ("boot_record", boot_record),
    ("kernel_args", kernel_args),
    ("units", units),
];

/// Bencode: what is accepted is canonical, so writing it again gives the very same bytes.
pub(crate) fn bencode(data: &[u8]) -> bool {
    let _ = raw_value(data, b"info");
    let Ok((value, used)) = Value::parse_prefix(data) else { return false };
    assert_eq!(written(&value), data[..used], "accepted bencode is not canonical");
    assert_eq!(Value::parse(data).is_ok(), used == data.len());
    if let Some(info) = value.get(b"info")
        && matches!(info, Value::Dict(_) | Value::List(_))
    {
        let raw = raw_value(&data[..used], b"info").expect("parsed before").expect("is there");
        assert_eq!(raw, written(info), "raw bytes are not those of the value");
    }
    used == data.len()
}

fn written(value: &Value<'_>) -> Vec<u8> {
    let string = |bytes: &[u8]| [format!("{}:", bytes.len()).as_bytes(), bytes].concat();
    match value {
        Value::Integer(number) => format!("i{number}e").into_bytes(),
        Value::Bytes(bytes) => string(bytes),
        Value::List(items) => {
            [b"l".to_vec(), items.iter().flat_map(written).collect(), b"e".to_vec()].concat()
        }
        Value::Dict(pairs) => {
            let pairs =
                pairs.iter().flat_map(|(key, value)| [string(key), written(value)].concat());
            [b"d".to_vec(), pairs.collect(), b"e".to_vec()].concat()
        }
    }
}

/// Torrent files.
pub(crate) fn metainfo(data: &[u8]) -> bool {
    let Ok(torrent) = Metainfo::parse(data) else { return false };
    let bytes = torrent.to_bytes().expect("what was read can be written");
    assert_eq!(Metainfo::parse(&bytes).expect("own output"), torrent);
    assert!(torrent.info.geometry.indices().all(|p| torrent.info.piece_hash(p).is_some()));
    let tree = torrent.info.tree();
    assert_eq!(tree.is_some(), torrent.info_hash_v2.is_some());
    assert!(tree.is_none_or(|t| t.layer().len() == torrent.info.geometry.pieces() as usize));
    true
}

/// Query string of an announce.
pub(crate) fn announce_query(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let _ = query::decode(&text);
    let Ok(request) = AnnounceRequest::parse(&text) else { return false };
    assert_ne!(request.port, 0);
    assert_eq!(AnnounceRequest::parse(&request.to_query()).expect("own output"), request);
    true
}

/// Query string of a scrape.
pub(crate) fn scrape_query(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let Ok(hashes) = parse_scrape(&text) else { return false };
    assert!(hashes.len() <= text.len() / "info_hash=".len());
    !hashes.is_empty()
}

/// A tracker's reply, compact or not.
pub(crate) fn announce_response(data: &[u8]) -> bool {
    let Ok(reply) = AnnounceResponse::parse(data) else { return false };
    if let AnnounceResponse::Peers(reply) = &reply {
        assert!(reply.peers.len() <= 2 * peers::MAX_PEERS);
        assert!(reply.peers.iter().all(|peer| peer.address.port() != 0));
    }
    for compact in [true, false] {
        let bytes = reply.encode(compact).expect("what was read can be written");
        let again = AnnounceResponse::parse(&bytes).expect("own output");
        match (&reply, &again) {
            (AnnounceResponse::Failure(a), AnnounceResponse::Failure(b)) => assert_eq!(a, b),
            (AnnounceResponse::Peers(a), AnnounceResponse::Peers(b)) => {
                assert_eq!((a.interval, a.min_interval), (b.interval, b.min_interval));
                assert_eq!((a.complete, a.incomplete), (b.complete, b.incomplete));
                assert_eq!(a.warning, b.warning);
                if a.peers.len() <= peers::MAX_PEERS {
                    assert_eq!(addresses(&a.peers), addresses(&b.peers));
                }
            }
            _ => panic!("a refusal became an answer, or the reverse"),
        }
    }
    true
}

fn addresses(list: &[PeerEntry]) -> Vec<SocketAddr> {
    let mut list: Vec<_> = list.iter().map(|peer| peer.address).collect();
    list.sort();
    list
}

/// Compact peer lists.
pub(crate) fn compact_peers(data: &[u8]) -> bool {
    let lists = [peers::decode_v4(data), peers::decode_v6(data)];
    let accepted = lists.iter().any(Result::is_ok);
    for mut list in lists.into_iter().flatten() {
        assert!(list.len() <= peers::MAX_PEERS && list.iter().all(|peer| peer.port() != 0));
        let (v4, v6) = peers::encode(&list);
        let mut again = peers::decode_v4(&v4).expect("own output");
        again.extend(peers::decode_v6(&v6).expect("own output"));
        list.sort();
        again.sort();
        assert_eq!(again, list);
    }
    accepted
}

/// The handshake of the peer wire.
pub(crate) fn handshake(data: &[u8]) -> bool {
    let Some(front) = data.first_chunk() else { return false };
    let Ok(parsed) = Handshake::parse(front) else { return false };
    assert_eq!(Handshake::parse(&parsed.encode()).expect("own output"), parsed);
    let _ = parsed.peer_id.role();
    true
}

/// A run of peer-wire messages, as a receive buffer holds them.
pub(crate) fn wire_stream(data: &[u8]) -> bool {
    let mut rest = data;
    while let Ok(Some((message, used))) = Message::parse(rest) {
        assert!(used >= 4 && used <= rest.len());
        let mut again = Vec::new();
        message.encode(&mut again);
        match message {
            Message::Unknown { .. } => assert!(again.is_empty()),
            _ => assert_eq!(again, rest[..used], "message changes when written again"),
        }
        assert_eq!(Message::parse(&rest[..used - 1]), Ok(None), "read before it was complete");
        match message {
            Message::Bitfield(bytes) => [1, 8, 9, 1000].iter().for_each(|n| bitfield(bytes, *n)),
            Message::Extended { payload, .. } => drop(extended_handshake(payload)),
            _ => {}
        }
        rest = &rest[used..];
    }
    rest.is_empty()
}

/// A question for hashes (BEP 52) about a file of up to 64 pieces, which the first two bytes describe;
/// the others are the question without its root. What is answered with a whole proof leads to the root.
pub(crate) fn hash_answer(data: &[u8]) -> bool {
    let Some((&[pieces, step], rest)) = data.split_first_chunk() else { return false };
    let mut question = [0; HashRange::LEN];
    let Some(rest) = rest.get(..16) else { return false };
    question[32..].copy_from_slice(rest);
    let (pieces, length) = (u64::from(pieces % 64) + 1, u64::from(BLOCK_LEN) << (step % 6));
    let geometry = Geometry::new(pieces * length - 100, length).expect("valid sizes");
    let level = merkle::piece_level(geometry.total(), geometry.piece_length());
    let blocks = |piece: PieceIndex| -> Vec<Node> {
        (0..geometry.blocks_in(piece))
            .map(|n| Node::of(&(piece.0 << 8 | n).to_be_bytes()))
            .collect()
    };
    let layer = geometry.indices().map(|piece| merkle::root(&blocks(piece), 0, level)).collect();
    let tree = BlockTree::new(&geometry, layer).expect("a node for each piece");
    let range = HashRange { root: tree.root(), ..HashRange::parse(&question) };
    assert_eq!(HashRange::parse(&range.encode()), range);
    let piece = tree.piece_of(&range).filter(|piece| geometry.piece(piece.0).is_some());
    let Some(answer) = tree.answer(&range, &piece.map(blocks).unwrap_or_default()) else {
        return false;
    };
    let (base, uncles) = answer.split_at(range.length as usize);
    let up = range.length.ilog2();
    let mut node = merkle::root(base, 0, up);
    for (side, uncle) in (up..).zip(uncles) {
        node = match (range.index >> side) & 1 {
            0 => merkle::parent(node, *uncle),
            _ => merkle::parent(*uncle, node),
        };
    }
    let height = level + geometry.pieces().next_power_of_two().ilog2();
    let top = range.base_layer + up + u32::try_from(uncles.len()).expect("few");
    assert!(top <= height);
    assert!(top < height || node == tree.root(), "the proof leads elsewhere");
    true
}

fn bitfield(bytes: &[u8], pieces: u32) {
    if let Ok(field) = Bitfield::from_bytes(bytes, pieces) {
        assert_eq!(field.iter().count(), field.count() as usize);
        assert_eq!(field.as_bytes(), bytes);
    }
}

/// The handshake of the extension protocol.
pub(crate) fn extended_handshake(data: &[u8]) -> bool {
    let Ok(parsed) = ExtendedHandshake::parse(data) else { return false };
    let bytes = parsed.encode().expect("what was read can be written");
    assert_eq!(ExtendedHandshake::parse(&bytes).expect("own output"), parsed);
    true
}

/// A message of peer exchange.
pub(crate) fn pex(data: &[u8]) -> bool {
    let Ok(parsed) = PexMessage::parse(data) else { return false };
    assert!(parsed.added.len() <= MAX_PEX && parsed.dropped.len() <= MAX_PEX);
    assert!(parsed.added.iter().all(|contact| contact.address.port() != 0));
    let bytes = parsed.encode().expect("what was read can be written");
    let again = PexMessage::parse(&bytes).expect("own output");
    let sorted = |message: PexMessage| {
        let PexMessage { mut added, mut dropped } = message;
        added.sort();
        dropped.sort();
        (added, dropped)
    };
    // IPv4 written as IPv6 changes its place
    assert_eq!(sorted(again), sorted(parsed));
    true
}

/// A datagram of local service discovery.
pub(crate) fn lsd(data: &[u8]) -> bool {
    let Ok(parsed) = Announcement::parse(data) else { return false };
    assert!(parsed.port != 0 && !parsed.info_hashes.is_empty());
    let group = SocketAddr::from((lsd_codec::GROUP_V4, lsd_codec::PORT));
    let text = parsed.encode(group);
    if text.len() <= lsd_codec::MAX_LEN {
        assert_eq!(Announcement::parse(text.as_bytes()).expect("own output"), parsed);
    }
    true
}

/// A request to a UDP tracker.
pub(crate) fn udp_request(data: &[u8]) -> bool {
    let Ok(request) = Request::parse(data) else { return false };
    match request.ask {
        Ask::Connect => {}
        Ask::Announce(announce) => {
            let url_data = announce.url_data();
            assert!(url_data.len() <= MAX_QUERY_LEN);
            assert!(failed::parse(&url_data).len() <= failed::MAX_FAILED);
        }
        Ask::Scrape(hashes) => assert!(hashes.len() <= MAX_SCRAPE),
    }
    true
}

/// A reply of a UDP tracker to transaction 7.
pub(crate) fn udp_reply(data: &[u8]) -> bool {
    let replies = [Family::V4, Family::V6].map(|family| udp_tracker::parse(data, 7, family));
    for reply in replies.iter().flatten() {
        match reply {
            Reply::Peers(reply) => {
                assert!(reply.peers.len() <= peers::MAX_PEERS);
                assert!(reply.peers.iter().all(|peer| peer.address.port() != 0));
            }
            Reply::Refused(text) => assert!(text.len() <= 4 * 500),
            Reply::Connected(_) => {}
        }
    }
    replies.iter().any(Result::is_ok)
}

/// `manifest.json`.
pub(crate) fn manifest(data: &[u8]) -> bool {
    let Ok(parsed) = Manifest::parse(data) else { return false };
    let bytes = parsed.to_bytes().expect("what was read can be written");
    // pretty printing may push a manifest at the limit over it
    if bytes.len() <= MAX_MANIFEST_LEN {
        assert_eq!(Manifest::parse(&bytes).expect("own output"), parsed);
    }
    true
}

/// Key and text that the seed of `signature` was made with.
const SIGNER: &str = "RWTD+mhVfKxMpsFXpLq2G+5LpO3zVO2t7Bt89bbG8MYj4q8YlzgBAmbU";
const SIGNED: &[u8] = b"test";

/// A signature, by whoever made it; a valid one says what its signer said.
pub(crate) fn signature(data: &[u8]) -> bool {
    let key: PublicKey = SIGNER.parse().expect("a key");
    let claimed = minisign::claimed(data);
    if let Ok(signed) = minisign::verify(&[key], SIGNED, data) {
        assert_eq!(signed.comment.name.as_deref(), Some("demo"), "forged");
        assert_eq!(signed.comment.time.map(|time| time.0), Some(1_763_744_000), "forged");
        assert_eq!(claimed.as_ref(), Ok(&signed));
    }
    claimed.is_ok()
}

/// `/etc/beeswarm/trust.json`.
pub(crate) fn trust_policy(data: &[u8]) -> bool {
    let Ok(parsed) = TrustPolicy::parse(data) else { return false };
    assert!(!parsed.keys.is_empty(), "a policy that demands nothing");
    let bytes = parsed.to_bytes().expect("what was read can be written");
    assert_eq!(TrustPolicy::parse(&bytes).expect("own output"), parsed);
    true
}

/// What the tracker answers about who runs what.
pub(crate) fn usage(data: &[u8]) -> bool {
    let Ok(parsed) = Usage::parse(data) else { return false };
    let bytes = serde_json::to_vec(&parsed).expect("what was read can be written");
    assert_eq!(Usage::parse(&bytes), Ok(parsed), "own output");
    true
}

/// Names of nodes with ranges.
pub(crate) fn host_list(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(hosts) = host_list::expand(text) else { return false };
    assert!(hosts.len() <= host_list::MAX_HOSTS);
    let single = hosts.iter().take(100).find(|host| !host.contains(['[', ']', ',']));
    if let Some(host) = single {
        assert_eq!(host_list::expand(host).as_deref(), Ok([host.clone()].as_slice()));
    }
    true
}

/// An order to reimage nodes.
pub(crate) fn rollout_order(data: &[u8]) -> bool {
    let Ok(order) = serde_json::from_slice::<RolloutOrder>(data) else { return false };
    for share in [order.batch, order.max_failed] {
        assert!(share.at_least_one(1000) >= 1 && share.at_most(1000) <= share.at_least_one(1000));
    }
    let bytes = serde_json::to_vec(&order).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<RolloutOrder>(&bytes).expect("own output"), order);
    true
}

/// A batch of boot events.
pub(crate) fn event_batch(data: &[u8]) -> bool {
    let Ok(batch) = EventBatch::parse(data) else { return false };
    let bytes = serde_json::to_vec(&batch).expect("what was read can be written");
    if bytes.len() <= MAX_BATCH_LEN {
        // not compared as a whole: a float may come back with another last digit
        let again = EventBatch::parse(&bytes).expect("own output");
        assert_eq!(again.events.len(), batch.events.len());
        for (a, b) in again.events.iter().zip(&batch.events) {
            assert_eq!((a.seq, a.uptime_ms), (b.seq, b.uptime_ms));
            assert_eq!(a.kind.stage(), b.kind.stage());
            bounded(&a.kind);
            if a.kind.is_report() {
                assert_eq!(a.kind, b.kind, "own output");
            }
        }
    }
    true
}

/// What is kept of an event, and shown, has a length.
fn bounded(kind: &EventKind) {
    let short = |text: &str, most: usize| assert!(text.chars().count() <= most, "{text}");
    match kind {
        EventKind::Console(console) => {
            assert!(console.lines.len() <= console::MAX_LINES);
            for line in &console.lines {
                short(line, console::MAX_LINE_LEN);
                assert!(!line.contains(char::is_control), "{line:?} is no line");
            }
        }
        EventKind::Audit(audit) => {
            short(&audit.text, MAX_TEXT_LEN);
            assert!(audit.findings.len() <= audit::MAX_FINDINGS);
            for finding in &audit.findings {
                short(&finding.name, audit::MAX_NAME_LEN);
                short(&finding.detail, audit::MAX_DETAIL_LEN);
            }
        }
        _ => {}
    }
}

/// `/run/beeswarm/boot.json`.
pub(crate) fn boot_record(data: &[u8]) -> bool {
    let Ok(parsed) = BootRecord::parse(data) else { return false };
    let bytes = parsed.to_bytes().expect("what was read can be written");
    assert_eq!(BootRecord::parse(&bytes).expect("own output"), parsed);
    true
}

/// The kernel command line.
pub(crate) fn kernel_args(data: &[u8]) -> bool {
    let line = String::from_utf8_lossy(data);
    let parsed = KernelArgs::parse(&line);
    match &parsed {
        Ok(_) => assert!(is_for_us(&line), "used although it does not ask for us"),
        Err(error) => assert!(error.to_string().len() < 2048, "message is not bounded"),
    }
    parsed.is_ok()
}

/// Sizes, rates, node ids and digests in text form.
pub(crate) fn units(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let size = text.parse::<ByteSize>();
    if let Ok(size) = &size {
        assert!(!size.to_string().is_empty());
        assert_eq!(size.0.to_string().parse::<ByteSize>().expect("a plain number"), *size);
    }
    let rate = text.parse::<ByteRate>();
    if let Ok(rate) = &rate {
        assert_eq!(rate.0.to_string().parse::<ByteRate>().expect("a plain number"), *rate);
    }
    let node = text.parse::<NodeId>();
    if let Ok(node) = &node {
        assert_eq!(node.to_string().parse::<NodeId>().expect("own output"), *node);
    }
    let digests = [
        text.parse::<InfoHash>().map(|hash| hash.to_string()),
        text.parse::<Sha256Digest>().map(|digest| digest.to_string()),
    ];
    for written in digests.iter().flatten() {
        assert_eq!(*written, text.to_lowercase());
    }
    size.is_ok() || rate.is_ok() || node.is_ok() || digests.iter().any(Result::is_ok)
}
