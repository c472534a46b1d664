//! Announces, scrapes and their answers.

use super::*;

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash(*b"\0\x01%&=+ \xff\xfe01234567890"),
        peer_id: PeerId(*b"-BN0100-abc+%&=?/\x00\x7f\xff"),
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        event: Some(AnnounceEvent::Started),
        numwant: Some(50),
        compact: false,
        no_peer_id: true,
        key: Some("a b".into()),
        ip: Some("10.0.0.1".parse().unwrap()),
        failed: ["10.0.0.8:2", "10.0.0.9:1", "[fd00::1]:3"].map(|a| a.parse().unwrap()).to_vec(),
    }
}

#[test]
fn query_round_trip() {
    assert_eq!(AnnounceRequest::parse(&request().to_query()).unwrap(), request());
}

#[test]
fn reports_of_failed_dials_are_bounded_and_harmless() {
    let read = |text: &str| failed::parse(text).len();
    assert_eq!(failed::parse(&failed::to_query(&request().failed)), request().failed);
    assert_eq!(failed::to_query(&[]), "");
    let many: Vec<SocketAddr> = (1..99).map(|port| ([10, 0, 0, 1], port).into()).collect();
    assert_eq!(read(&failed::to_query(&many)), MAX_FAILED);
    assert_eq!(read(&format!("failed={}", query::encode(&[1; 6 * 50]))), MAX_FAILED);
    for bad in ["failed=abc", "failed=%zz", "failed", "failed6=abcdef", "x=1"] {
        assert_eq!(read(bad), 0, "{bad}");
        let query = format!("{}&{bad}", request().to_query());
        assert!(AnnounceRequest::parse(&query).is_ok(), "an announce all the same: {bad}");
    }
}

#[test]
fn query_errors_name_the_parameter() {
    assert_eq!(AnnounceRequest::parse(""), Err(QueryError::Missing("info_hash")));
    assert_eq!(AnnounceRequest::parse("info_hash=abc"), Err(QueryError::Invalid("info_hash")));
    let port0 = request().to_query().replace("port=6881", "port=0");
    assert_eq!(AnnounceRequest::parse(&port0), Err(QueryError::Invalid("port")));
    assert_eq!(AnnounceRequest::parse(&"a".repeat(5000)), Err(QueryError::TooLong));
}

#[test]
fn reply_round_trip_in_both_forms() {
    let peers = |ids: bool| {
        ["10.0.0.1:1", "[fd00::1]:2"]
            .map(|a| PeerEntry {
                address: a.parse().unwrap(),
                peer_id: ids.then_some(PeerId(*b"-BN0100-aaaaaaaaaaaa")),
            })
            .to_vec()
    };
    for (compact, ids) in [(true, false), (false, true), (false, false)] {
        let reply = AnnounceResponse::Peers(AnnouncePeers {
            interval: 5,
            min_interval: Some(1),
            complete: 2,
            incomplete: 3,
            peers: peers(ids),
            warning: Some("careful".into()),
        });
        let bytes = reply.encode(compact).unwrap();
        assert_eq!(AnnounceResponse::parse(&bytes).unwrap(), reply);
    }
    let failure = AnnounceResponse::Failure("no such torrent".into());
    assert_eq!(AnnounceResponse::parse(&failure.encode(true).unwrap()).unwrap(), failure);
}

#[test]
fn reply_errors() {
    assert!(matches!(AnnounceResponse::parse(b"<html>"), Err(ResponseError::Bencode(_))));
    assert_eq!(AnnounceResponse::parse(b"de"), Err(ResponseError::Field("interval")));
    assert!(matches!(
        AnnounceResponse::parse(b"d8:intervali1e5:peers5:abcdee"),
        Err(ResponseError::Compact(_))
    ));
}

#[test]
fn scrape_reply_is_sorted() {
    let entry =
        |n| ScrapeEntry { info_hash: InfoHash([n; 20]), complete: 1, downloaded: 2, incomplete: 3 };
    let bytes = encode_scrape(&[entry(9), entry(1), entry(9)]).unwrap();
    let root = Value::parse(&bytes).unwrap();
    assert_eq!(
        root.get(b"files").unwrap().get(&[9; 20]).unwrap().get(b"downloaded"),
        Some(&Value::Integer(2))
    );
}
