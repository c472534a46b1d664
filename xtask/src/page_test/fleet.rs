//! Nodes that post events to a real tracker: some that live, and many as they were recorded.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use proto::bitfield::Bitfield;
use proto::event::exchange::{Exchange, Gift, Holding};
use proto::event::{
    Event, EventBatch, EventKind, FetchProgress, Refusal, Sources, Stall, StallCause,
};
use proto::geometry::PieceIndex;
use proto::hash::{PeerId, PeerRole};
use proto::node_id::NodeId;
use socket2::{Domain, Socket, Type};
use store::RevisionRef;

use super::crowd::address;
use super::site::INFO_HASH;

/// Bytes of the image that they boot.
pub(crate) const IMAGE: u64 = 800_000_000;

/// Its pieces.
const PIECES: u32 = 763;

/// Nodes of one rack.
const RACK: u16 = 40;

/// The id of a node.
pub(crate) fn id(n: u16) -> NodeId {
    let [a, b] = n.to_be_bytes();
    NodeId([0x52, 0x54, 0, 1, a, b])
}

/// The inventory of so many nodes, and two that were never heard.
pub(crate) fn inventory(to: &Path, nodes: u16, rack: u16) -> anyhow::Result<()> {
    let mut text = "mac,name,rack,group\n".to_owned();
    for n in 0..nodes + 2 {
        let (rack, place) = (n / rack + 1, n % rack + 1);
        text.push_str(&format!("{},r{rack}n{place:02},r{rack},compute\n", id(n)));
    }
    std::fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))
}

/// Nodes of a rack, when there are so many.
pub(crate) fn rack(nodes: u16) -> u16 {
    if nodes <= RACK { nodes.div_ceil(2) } else { RACK }
}

/// A connection that stays open, over which nodes post.
pub(crate) struct Poster(TcpStream);

impl Poster {
    /// From an address of this host.
    pub(crate) fn connect(to: SocketAddr, from: IpAddr) -> anyhow::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect(&to.into()).context("the tracker does not answer")?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Posts events of a node; they are on disk when this returns.
    pub(crate) fn post(
        &mut self,
        node: NodeId,
        (boot, token): (&str, Option<&str>),
        events: Vec<Event>,
    ) -> anyhow::Result<()> {
        let token = token.map(str::to_owned);
        let batch = EventBatch { events, token, ..EventBatch::new(boot.to_owned()) };
        let body = serde_json::to_vec(&batch)?;
        let head = format!(
            "POST /api/v1/nodes/{node}/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all(&[head.as_bytes(), &body].concat())?;
        let mut answer = Vec::new();
        let mut chunk = [0; 2048];
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = match self.0.read(&mut chunk) {
                // this process was stopped and goes on
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            };
            ensure!(count > 0, "the tracker closed the connection");
            answer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        }
        let text = String::from_utf8_lossy(&answer);
        ensure!(text.starts_with("HTTP/1.1 204"), "events were not taken: {text}");
        Ok(())
    }
}

/// How far a node is in its boot, from 0 (its client starts) to 1000 (it seeds), and what it says then.
pub(crate) fn story(n: u16, step: u64, nodes: u16, revision: &RevisionRef) -> Vec<Event> {
    let at = |uptime_ms: u64, kind: EventKind| Event { seq: uptime_ms, uptime_ms, kind };
    let RevisionRef { name, id } = revision;
    let source = format!("http://10.0.0.1:8080/revisions/{name}/{id}/manifest.json");
    let mut events = vec![at(4_000 + u64::from(n % 7) * 130, EventKind::Discover { source })];
    if step < 50 {
        return events;
    }
    let share = (step - 50).min(850);
    let bytes = IMAGE / 850 * share;
    let admin = bytes / 20 + u64::from(n % 5) * bytes / 200;
    let sources = Sources { admin, peers: bytes - admin, web: 0 };
    let progress = |bytes, sources| FetchProgress {
        bytes,
        total: IMAGE,
        rate: 95_000_000 + u64::from(n % 11) * 2_000_000,
        upload_rate: 90_000_000,
        uploaded: bytes / 10 * (7 + u64::from(n % 6)),
        peers: 18 + u32::from(n % 9),
        sources,
    };
    events.push(at(6_000 + share * 10, EventKind::Fetch(progress(bytes, sources))));
    let exchange = exchange(n, nodes, share, sources);
    events.push(at(6_000 + share * 10 + 1, EventKind::Exchange(exchange)));
    let stages = [
        (
            900,
            EventKind::Verify {
                bytes: IMAGE,
                seconds: 8.5,
                sources,
                hash_failures: u32::from(n % 50 == 7),
            },
        ),
        (930, EventKind::Attach { device: "/dev/loop0".into() }),
        (950, EventKind::Mount { root: "/sysroot".into(), verity: None }),
        (970, EventKind::Handover { peak_memory: 9_000_000 }),
        (
            1000,
            EventKind::Seeding {
                http: None,
                device: "/dev/loop0".into(),
                user: "beeswarm-node".into(),
                uploaded: u64::from(n % 13) * 40_000_000,
            },
        ),
    ];
    for (when, kind) in stages {
        if step >= when {
            events.push(at(14_500 + (when - 900) * 60 + u64::from(n % 17) * 40, kind));
        }
    }
    events
}

/// From whom a node has what it has, and what that is. `share`: of 850.
fn exchange(n: u16, nodes: u16, share: u64, sources: Sources) -> Exchange {
    let admin = Gift { from: [127, 0, 0, 1].into(), bytes: sources.admin };
    // neighbours gave most, and nobody gives to itself
    let gift = |k: u16| {
        let giver = (n + 1 + k * k * 3) % nodes;
        let bytes = sources.peers / 60 * u64::from(15 - k.min(14));
        (giver != n).then_some(Gift { from: address(giver), bytes })
    };
    let from: Vec<Gift> = std::iter::once(admin).chain((0..9).filter_map(gift)).collect();
    let named: u64 = from.iter().skip(1).map(|gift| gift.bytes).sum();
    let mut have = Bitfield::empty(PIECES);
    for piece in 0..PIECES {
        // rarest first: each node has pieces of its own, and some are behind everywhere
        let luck = (u64::from(piece) * 2_654_435_761 + u64::from(n) * 40_503) % 850;
        if share == 850 || luck + u64::from(piece % 97 == 5) * 400 < share {
            have.insert(PieceIndex(piece));
        }
    }
    let others = sources.peers.saturating_sub(named);
    Exchange { from, others, holding: Some(Holding::of(&have)) }
}

/// The admin host's seeder says that it is there.
pub(crate) fn announce_admin(tracker: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(tracker).context("the tracker does not answer")?;
    let escaped = |bytes: &[u8]| bytes.iter().map(|b| format!("%{b:02x}")).collect::<String>();
    let id = PeerId::new(PeerRole::Admin, [7; 12]);
    write!(
        stream,
        "GET /announce?info_hash={}&peer_id={}&port=6881&left=0&compact=1 HTTP/1.1\r\nHost: x\r\n\
         Connection: close\r\n\r\n",
        escaped(&INFO_HASH.0),
        escaped(&id.0)
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "the announce was not answered");
    ensure!(!answer.windows(7).any(|w| w == b"failure"), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// What goes wrong with a node, if something does.
pub(crate) fn mishap(n: u16) -> Option<EventKind> {
    let stall =
        |cause, detail: &str| EventKind::Stalled(Stall { cause, detail: detail.to_owned() });
    let failed = |message: &str, refused, cause| EventKind::Failed {
        message: message.to_owned(),
        refused,
        cause,
    };
    Some(match n {
        13 => stall(
            StallCause::HashFailures,
            "9 pieces came with wrong data; peer 10.1.3.7 is banned for it; no good data for 12 s",
        ),
        17 => failed(
            "too little memory: the image takes 763 MiB and the boot 96 MiB beside it",
            None,
            Some(StallCause::Memory),
        ),
        121 => stall(StallCause::NoData, "14 peers are connected, none sends for 21 s"),
        255 => failed(
            "cannot mount /run/beeswarm/image/rootimg.sfs: no such device",
            None,
            Some(StallCause::Mount),
        ),
        389 => failed(
            "the manifest is signed by key 1F00, and trusted is 83B2",
            Some(Refusal::WrongKey),
            None,
        ),
        402 => stall(
            StallCause::PeersUnreachable,
            "31 peers are known, none can be connected: connection refused",
        ),
        577 => stall(
            StallCause::TrackerRefuses,
            "announce to http://10.0.0.1:6969/announce: this image is not published",
        ),
        _ => return None,
    })
}

/// How far a recorded node is: a crowd in the middle of its boot.
pub(crate) fn recorded(n: u16) -> u64 {
    match n % 40 {
        0..4 => 1000,
        4 => 960,
        5 => 935,
        6 => 905,
        37.. => 10 + u64::from(n % 3) * 10,
        place => 860 - u64::from(place) * 22 + u64::from(n / 40) * 3,
    }
}
