//! `/announce` and `/scrape`.

use crate::bed::{Bed, get};
use beeswarm_tracker::Config;
use beeswarm_tracker::config::Limits;
use proto::announce::{AnnouncePeers, AnnounceResponse};
use proto::hash::InfoHash;
use proto::query;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Every kind of byte that has to be escaped, and some that need not be.
const HASH: [u8; 20] = *b"\x00\xff %&=+?#/\r\n\"az09-_~";

fn id(n: u8) -> String {
    query::encode(&[b"-XX0001-01234567890".as_slice(), &[n]].concat())
}

fn target(n: u8, extra: &str) -> String {
    let (hash, id) = (query::encode(&HASH), id(n));
    let port = 7000 + u16::from(n);
    format!("/announce?info_hash={hash}&peer_id={id}&port={port}&uploaded=0&downloaded=0{extra}")
}

fn announce(bed: &Bed, n: u8, extra: &str) -> AnnouncePeers {
    let reply = bed.get(&target(n, extra));
    assert_eq!(reply.status, 200);
    match AnnounceResponse::parse(&reply.body).unwrap() {
        AnnounceResponse::Peers(peers) => peers,
        AnnounceResponse::Failure(reason) => panic!("{reason}"),
    }
}

fn failure(bed: &Bed, target: &str) -> String {
    let reply = bed.get(target);
    assert_eq!(reply.status, 200, "{target}");
    match AnnounceResponse::parse(&reply.body).unwrap() {
        AnnounceResponse::Failure(reason) => reason,
        AnnounceResponse::Peers(peers) => panic!("{target}: {peers:?}"),
    }
}

fn ports(peers: &AnnouncePeers) -> Vec<u16> {
    let mut ports: Vec<_> = peers.peers.iter().map(|p| p.address.port()).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn peers_find_each_other_and_leave() {
    let bed = Bed::start(Config::default());
    let first = announce(&bed, 1, "&left=0&event=started");
    assert!(first.peers.is_empty());
    assert_eq!((first.complete, first.incomplete), (1, 0));
    assert!((60..=90).contains(&first.interval), "nobody fetches: {}", first.interval);

    let second = announce(&bed, 2, "&left=9&event=started");
    assert_eq!(second.peers[0].address, "127.0.0.1:7001".parse().unwrap());
    assert_eq!((second.complete, second.incomplete), (1, 1));
    assert!((3..=5).contains(&second.interval), "a crowd boots: {}", second.interval);

    assert_eq!(ports(&announce(&bed, 3, "&left=9")), [7001, 7002]);
    assert_eq!(ports(&announce(&bed, 1, "&left=0")), [7002, 7003]);
    assert_eq!(ports(&announce(&bed, 2, "&left=0&event=completed")), [7003]);
    assert_eq!(announce(&bed, 3, "&left=9&numwant=1").peers.len(), 1);
    assert!(announce(&bed, 3, "&left=9&numwant=0").peers.is_empty());
    assert_eq!(announce(&bed, 3, "&left=9&numwant=-1").peers.len(), 2);

    assert!(announce(&bed, 3, "&left=9&event=stopped").peers.is_empty());
    assert!(announce(&bed, 2, "&left=0").peers.is_empty());

    let scrape = bed.get(&format!("/scrape?info_hash={}", query::encode(&HASH)));
    let expected =
        [b"d5:filesd20:".as_slice(), &HASH, b"d8:completei2e10:downloadedi1e10:incompletei0eeee"];
    assert_eq!(scrape.body, expected.concat());
    assert_eq!(bed.get("/scrape").body, expected.concat());
    let other = query::encode(&[9; 20]);
    assert_eq!(bed.get(&format!("/scrape?info_hash={other}")).body, b"d5:filesdee");
}

/// The exact bytes: what a client that knows only BEP 3 or only BEP 23 reads.
#[test]
fn compact_and_plain_forms() {
    let bed = Bed::start(Config::default());
    announce(&bed, 1, "&left=0");
    let raw = |extra: &str| {
        let body = bed.get(&target(2, &format!("&left=1{extra}"))).body;
        String::from_utf8_lossy(&body).into_owned()
    };
    let compact = "5:peers6:\x7f\0\0\x01\x1bY";
    for extra in ["", "&compact=1"] {
        let body = raw(extra);
        assert!(body.contains(compact) && !body.contains("6:peers6"), "{body:?}");
    }
    let with_id = "5:peersld2:ip9:127.0.0.17:peer id20:-XX0001-01234567890\x014:porti7001eee";
    let body = raw("&compact=0");
    assert!(body.contains(with_id), "{body:?}");
    let body = raw("&compact=0&no_peer_id=1");
    assert!(body.contains("5:peersld2:ip9:127.0.0.14:porti7001eee"), "{body:?}");
}

#[test]
fn both_address_families_on_one_listener() {
    let bed = Bed::start_on("[::]:0", Config::default());
    let port = bed.addr.port();
    let via = |host: &str, n: u8| {
        let addr: SocketAddr = format!("{host}:{port}").parse().unwrap();
        get(addr, &target(n, "&left=5"), "").body
    };
    via("127.0.0.1", 1);
    let body = String::from_utf8_lossy(&via("[::1]", 2)).into_owned();
    assert!(body.contains("5:peers6:\x7f\0\0\x01\x1bY"), "v4 is not shown as mapped: {body:?}");
    let AnnounceResponse::Peers(third) = AnnounceResponse::parse(&via("[::1]", 3)).unwrap() else {
        panic!("refused");
    };
    let mut addresses: Vec<_> = third.peers.iter().map(|p| p.address.to_string()).collect();
    addresses.sort();
    assert_eq!(addresses, ["127.0.0.1:7001", "[::1]:7002"]);
    let body = via("[::1]", 3);
    let peers6 = [b"6:peers618:".as_slice(), &[0; 15], &[1], &7002u16.to_be_bytes()].concat();
    assert!(body.windows(peers6.len()).any(|w| w == peers6), "{body:?}");
}

#[test]
fn what_a_client_states_for_itself_counts_on_loopback_only() {
    let bed = Bed::start(Config::default());
    announce(&bed, 1, "&left=0&ip=10.9.8.7");
    let peers = announce(&bed, 2, "&left=5").peers;
    assert_eq!(peers[0].address, "10.9.8.7:7001".parse().unwrap());
}

#[test]
fn bad_queries_get_a_reason_and_do_no_harm() {
    let bed = Bed::start(Config::default());
    let good = target(1, "&left=1");
    let hash = query::encode(&HASH);
    for (bad, reason) in [
        ("/announce".to_owned(), "missing parameter info_hash"),
        ("/announce?".to_owned(), "missing parameter info_hash"),
        ("/announce?&&==&=x&%&%%%".to_owned(), "missing parameter info_hash"),
        (good.replace("port=7001", "port=0"), "invalid parameter port"),
        (good.replace("port=7001", "port=65536"), "invalid parameter port"),
        (good.replace("port=7001", "prt=7001"), "missing parameter port"),
        (good.replace("peer_id", "peerid"), "missing parameter peer_id"),
        (good.replace(&hash, "%00%01"), "invalid parameter info_hash"),
        (good.replace(&hash, &query::encode(&[0; 21])), "invalid parameter info_hash"),
        (good.replace(&hash, "%0"), "invalid parameter info_hash"),
        (good.replace("uploaded=0", "uploaded=-4"), "invalid parameter uploaded"),
        (format!("{good}&x={}", "y".repeat(3000)), "longer than"),
    ] {
        let text = failure(&bed, &bad);
        assert!(text.contains(reason), "{bad}: {text}");
    }
    assert!(failure(&bed, "/scrape?info_hash=x").contains("bad scrape"));
    announce(&bed, 1, "&left=1");
    assert!(bed.get("/metrics").text().contains("beeswarm_tracker_announce_failures_total 12\n"));
}

#[test]
fn random_bytes_never_end_the_server() {
    let bed = Bed::start(Config::default());
    let mut rng = fastrand::Rng::with_seed(11);
    let alphabet = b"%&=0123456789abcdefXYZ?#/;:+-info_hashpeer_idportleft";
    for _ in 0..300 {
        let length = rng.usize(..200);
        let query: String =
            (0..length).map(|_| char::from(alphabet[rng.usize(..alphabet.len())])).collect();
        for path in ["/announce", "/scrape", "/boot.ipxe", "/api/v1/nodes"] {
            let status = bed.get(&format!("{path}?{query}")).status;
            assert!(status == 200 || status == 400, "{path}?{query}: {status}");
        }
    }
    assert_eq!(bed.get("/healthz").json()["status"], "ok");
}

#[test]
fn a_flood_of_info_hashes_is_bounded() {
    let limits = Limits { torrents: 20, ..Limits::default() };
    let bed = Bed::start(Config { limits, ..Config::default() });
    for n in 0..100u8 {
        let target = target(1, "&left=1").replace(&query::encode(&HASH), &query::encode(&[n; 20]));
        assert_eq!(bed.get(&target).status, 200);
    }
    let swarm = bed.get("/api/v1/swarm").json();
    assert_eq!(swarm["torrents"].as_array().unwrap().len(), 20);
    assert!(swarm.to_string().contains(&InfoHash([99; 20]).to_string()), "the newest stay");
}

#[test]
fn a_restarted_tracker_takes_peers_it_never_saw() {
    let bed = Bed::start(Config::default());
    announce(&bed, 1, "&left=0");
    let addr = bed.stop();
    let bed = Bed::start_on(&addr.to_string(), Config::default());
    announce(&bed, 1, "&left=0");
    assert_eq!(ports(&announce(&bed, 2, "&left=0&event=completed")), [0u16; 0]);
    assert_eq!(ports(&announce(&bed, 3, "&left=4")), [7001, 7002]);
}

/// One that comes in one piece and ends its connection is answered without the general server.
#[test]
fn however_an_announce_comes_its_answer_is_the_same() {
    let bed = Bed::start(Config::default());
    announce(&bed, 1, "&left=0");
    let ask = |fields: &str| {
        let target = target(2, "&left=9&compact=1");
        format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes()
    };
    let whole = |pieces: &[&[u8]]| {
        let mut stream = TcpStream::connect(bed.addr).unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece).unwrap();
            // long enough for the tracker to read it by itself
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        // what the clock says may differ
        let lines = text.split("\r\n").filter(|line| !line.starts_with("date: "));
        let body: Vec<_> = lines.map(|line| line.split("8:interval").next().unwrap()).collect();
        assert_eq!(text.matches("\r\ndate: ").count(), 1, "{text}");
        let mut head: Vec<String> = body.iter().map(|line| (*line).to_owned()).collect();
        head.sort();
        head
    };
    let close = ask("Connection: close\r\n");
    let at_once = whole(&[&close]);
    for pieces in [
        vec![&close[..1], &close[1..]],
        vec![&close[..close.len() - 2], &close[close.len() - 2..]],
        vec![b"", &close],
        vec![&ask("Connection: close\r\nX-Other: 1\r\n")],
    ] {
        assert_eq!(whole(&pieces), at_once);
    }
    let connections = bed.get("/metrics");
    assert!(connections.text().contains("beeswarm_tracker_announces_total 6"));
}

/// Connections that say nothing hold nobody up, also when there are more than a queue of the kernel's usual size.
#[test]
fn silent_connections_are_no_obstacle() {
    let bed = Bed::start(Config::default());
    let silent: Vec<_> = (0..300).map(|_| TcpStream::connect(bed.addr).unwrap()).collect();
    announce(&bed, 1, "&left=0");
    let mut late = silent.into_iter().next_back().unwrap();
    let target = target(2, "&left=9");
    write!(late, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = late.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}
