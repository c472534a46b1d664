//! Clients that do not behave.

use crate::bed::{Bed, PATIENCE, exchange};
use beeswarm_tracker::Config;
use beeswarm_tracker::config::Limits;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Half of a request head, then silence: the server must hang up by itself.
#[test]
fn a_client_that_never_finishes_its_request_is_dropped() {
    let bed = Bed::start(Config::default());
    let mut slow = TcpStream::connect(bed.addr).unwrap();
    slow.write_all(b"GET /announce HTTP/1.1\r\nHost: x\r\nX-Slow: ").unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).expect("the server closes before the client's patience ends");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

/// The announced body never comes.
#[test]
fn a_client_that_never_sends_its_body_is_answered() {
    let bed = Bed::start(Config::default());
    let reply = exchange(
        bed.addr,
        b"POST /api/v1/nodes/52:54:00:00:00:01/events HTTP/1.1\r\nHost: x\r\n\
          Content-Length: 100\r\nConnection: close\r\n\r\n{\"version\":",
    );
    assert_eq!(reply.status, 408);
}

#[test]
fn silent_connections_do_not_lock_others_out_for_ever() {
    let limits = Limits { connections: 4, ..Limits::default() };
    let bed = Bed::start(Config { limits, ..Config::default() });
    let idle: Vec<_> = (0..4).map(|_| TcpStream::connect(bed.addr).unwrap()).collect();
    assert_eq!(bed.get("/healthz").status, 200, "waited for the idle ones to be dropped");
    drop(idle);
}

#[test]
fn nonsense_is_refused_and_the_server_lives() {
    let bed = Bed::start(Config::default());
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let many_headers = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(5000));
    for bad in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        long_path.as_bytes(),
        many_headers.as_bytes(),
    ] {
        let mut stream = TcpStream::connect(bed.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(bad);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    assert_eq!(bed.get("/healthz").status, 200);
    assert_eq!(bed.get("/../../etc/passwd").status, 404);
    assert_eq!(bed.post("/announce", b"").status, 405);
}

#[test]
fn one_connection_carries_many_requests() {
    let bed = Bed::start(Config::default());
    let mut stream = TcpStream::connect(bed.addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..50 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0u8; 1024];
        while !answer.ends_with(b"}") {
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "closed early");
            answer.extend_from_slice(&buffer[..n]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
    drop(stream);
    assert!(bed.get("/metrics").text().contains("beeswarm_tracker_connections_total 2\n"));
}
