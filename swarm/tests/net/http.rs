//! The HTTP client and the event reporter against servers that behave and that do not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::event::{EventBatch, EventKind};
use proto::node_id::NodeId;
use swarm::http::{HttpError, Limits, get, get_range, post_json};
use swarm::report::Reporter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{read_head, reply};

/// Answers each connection with the next of `answers`, then closes it; keeps the requests.
async fn server(answers: Vec<Vec<u8>>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = heads.clone();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await.unwrap_or_default();
            kept.lock().unwrap().push(head);
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (url, heads)
}

fn limits() -> Limits {
    Limits { idle: Duration::from_secs(2), max_body: 1000, ..Limits::default() }
}

#[tokio::test]
async fn bodies_with_length_and_in_chunks() {
    let (url, heads) = server(vec![
        b"HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
            .to_vec(),
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\n\r\nell".to_vec(),
    ])
    .await;
    let response = get(&format!("{url}/a?b=%20c"), limits()).await.unwrap();
    assert_eq!((response.status, &response.body[..]), (200, &b"hello"[..]));
    assert_eq!(response.content_type.as_deref(), Some("text/x"));
    assert_eq!(get(&url, limits()).await.unwrap().body, b"hello");
    assert_eq!(get_range(&url, 1, 3, limits()).await.unwrap(), b"ell");
    let heads = heads.lock().unwrap();
    assert!(heads[0].starts_with("GET /a?b=%20c HTTP/1.1\r\n"), "{}", heads[0]);
    assert!(heads[2].to_lowercase().contains("range: bytes=1-3\r\n"), "{}", heads[2]);
}

#[tokio::test]
async fn errors_are_told_apart() {
    let big = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 5000]].concat();
    let (url, _) = server(vec![
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n".to_vec(),
        big,
        b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
    ])
    .await;
    match get(&url, limits()).await.unwrap_err() {
        HttpError::Status { status: 404, body, .. } => assert_eq!(body, b"gone"),
        other => panic!("{other}"),
    }
    for _ in 0..2 {
        let error = get(&url, limits()).await.unwrap_err();
        assert!(matches!(error, HttpError::TooLarge { limit: 1000, .. }), "{error}");
    }
    for _ in 0..2 {
        let error = get(&url, limits()).await.unwrap_err();
        assert!(matches!(error, HttpError::Protocol { .. }), "{error}");
    }
    let error = get_range(&url, 0, 2, limits()).await.unwrap_err();
    assert!(matches!(error, HttpError::Status { status: 200, .. }), "{error}");
    let error = get("http://127.0.0.1:1/", limits()).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }), "{error}");
    let error = get("http://nowhere.invalid/", limits()).await.unwrap_err();
    assert!(matches!(error, HttpError::Dns { .. }), "{error}");
}

#[tokio::test]
async fn broken_answers_are_no_data() {
    let endless = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'x'; 20_000]].concat();
    let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000);
    let bad = vec![
        endless,
        interim,
        b"".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec(),
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(),
    ];
    let count = bad.len();
    let (url, _) = server(bad).await;
    for number in 0..count {
        let error = get(&url, limits()).await.unwrap_err();
        let broken = matches!(error, HttpError::Protocol { .. } | HttpError::Broken { .. });
        assert!(broken, "{number}: {error}");
    }
    let many = b"1\r\nx\r\n".repeat(1001);
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (url, _) = server(vec![
        [chunked.to_vec(), many].concat(),
        [chunked.to_vec(), b"ffffffffffffff0\r\n".to_vec()].concat(),
    ])
    .await;
    for _ in 0..2 {
        let error = get(&url, limits()).await.unwrap_err();
        assert!(matches!(error, HttpError::TooLarge { limit: 1000, .. }), "{error}");
    }
}

#[tokio::test]
async fn interim_answers_and_long_error_pages() {
    let page =
        [b"HTTP/1.1 500 Oops\r\nContent-Length: 9000\r\n\r\n".to_vec(), vec![b'e'; 9000]].concat();
    let (url, _) = server(vec![
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
        page,
    ])
    .await;
    assert_eq!(get(&url, limits()).await.unwrap().body, b"ok");
    match get(&url, limits()).await.unwrap_err() {
        HttpError::Status { status: 500, body, .. } => assert_eq!(body, vec![b'e'; 4096]),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_server_that_trickles_has_a_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for head in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\nx: "] {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await.unwrap();
            let _ = stream.write_all(head).await;
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let short =
        Limits { total: Duration::from_millis(300), max_body: 1 << 20, ..Limits::default() };
    for what in ["send more", "answer"] {
        let error = get(&url, short).await.unwrap_err();
        assert!(matches!(error, HttpError::Timeout { what: w, .. } if w == what), "{error}");
    }
}

#[tokio::test]
async fn a_silent_server_has_a_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let short = Limits { idle: Duration::from_millis(100), ..Limits::default() };
    let error = get(&url, short).await.unwrap_err();
    assert!(matches!(error, HttpError::Timeout { what: "answer", .. }), "{error}");
}

#[tokio::test]
async fn redirects_are_followed_and_bounded() {
    let moved = b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n".to_vec();
    let fine = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    let (url, heads) = server(vec![moved.clone(), fine]).await;
    assert_eq!(get(&url, limits()).await.unwrap().url, format!("{url}/next"));
    assert!(heads.lock().unwrap()[1].starts_with("GET /next "));
    let (url, _) = server(vec![moved; 6]).await;
    assert!(matches!(get(&url, limits()).await.unwrap_err(), HttpError::Redirects { .. }));
}

#[tokio::test]
async fn a_post_carries_its_body() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await.unwrap();
        let mut body = [0; 7];
        stream.read_exact(&mut body).await.unwrap();
        reply(&mut stream, "204 No Content", "text/plain", b"").await;
        (head, body)
    });
    assert_eq!(post_json(&url, b"{\"a\":1}".to_vec(), limits()).await.unwrap().status, 204);
    let (head, body) = server.await.unwrap();
    assert!(head.starts_with("POST /x ") && head.to_lowercase().contains("content-length: 7"));
    assert_eq!(&body, b"{\"a\":1}");
}

#[tokio::test]
async fn events_arrive_once_in_order_although_the_server_fails_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let batches = Arc::new(Mutex::new(Vec::new()));
    let kept = batches.clone();
    tokio::spawn(async move {
        for attempt in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await.unwrap();
            assert!(head.starts_with("POST /api/v1/nodes/52:54:00:12:34:56/events "), "{head}");
            let length = head.to_lowercase().split("content-length: ").nth(1).unwrap().to_owned();
            let mut body = vec![0; length.split("\r\n").next().unwrap().parse().unwrap()];
            stream.read_exact(&mut body).await.unwrap();
            let status = if attempt == 0 { "503 Busy" } else { "204 No Content" };
            if attempt > 0 {
                kept.lock().unwrap().push(EventBatch::parse(&body).unwrap());
            }
            reply(&mut stream, status, "text/plain", b"").await;
        }
    });
    let node: NodeId = "52:54:00:12:34:56".parse().unwrap();
    let reporter = Reporter::start(&url, node, EventBatch::new("boot-1".to_owned()));
    for number in 0..5 {
        reporter.send(EventKind::Attach { device: format!("/dev/loop{number}") });
    }
    reporter.flush(Duration::from_secs(20)).await;
    let events: Vec<u64> =
        batches.lock().unwrap().iter().flat_map(|b| b.events.iter().map(|e| e.seq)).collect();
    assert_eq!(events, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_dead_tracker_does_not_hold_up_a_flush() {
    let reporter =
        Reporter::start("http://127.0.0.1:1", NodeId([2; 6]), EventBatch::new("boot-2".to_owned()));
    reporter.send(EventKind::Failed { message: "x".to_owned(), refused: None, cause: None });
    let started = std::time::Instant::now();
    reporter.flush(Duration::from_millis(300)).await;
    assert!(started.elapsed() < Duration::from_secs(5));
}
