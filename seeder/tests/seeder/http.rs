//! The HTTP side, spoken to byte by byte.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use beeswarm_seeder::http::{Counters, HttpConfig, HttpServer, Scope};
use store::{Channel, RevisionRef, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::client::{Client, get};
use crate::support::{image, publish, tamper, wait_for};

struct Fixture {
    runtime: Runtime,
    server: Option<HttpServer>,
    address: SocketAddr,
    counters: Arc<Counters>,
    store: Store,
    reference: RevisionRef,
    image: Vec<u8>,
    _dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut HttpConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::init(dir.path().join("store")).unwrap();
        let image = image(3 << 20, 1);
        let reference = publish(&store, "debian", &image, &[]);
        let mut config = HttpConfig::new("127.0.0.1:0".parse().unwrap());
        config.grace = Duration::from_millis(100);
        change(&mut config);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let server = {
            let _inside = runtime.enter();
            let more = Arc::new(|| "more 1\n".to_owned());
            HttpServer::bind(config, store.clone(), more).unwrap()
        };
        let (address, counters) = (server.local_addr(), server.counters());
        let server = Some(server);
        Self { runtime, server, address, counters, store, reference, image, _dir: dir }
    }

    fn path(&self, file: &str) -> String {
        format!("/revisions/debian/{}/{file}", self.reference.id)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.shutdown());
        }
    }
}

#[test]
fn serves_every_file_of_a_revision_under_both_names() {
    let fixture = Fixture::new();
    for (file, kind) in [
        ("rootimg.sfs", "application/octet-stream"),
        ("rootimg.torrent", "application/x-bittorrent"),
        ("vmlinuz", "application/octet-stream"),
        ("initrd.img", "application/octet-stream"),
        ("manifest.json", "application/json"),
    ] {
        let revision = fixture.store.revision(&fixture.reference).unwrap();
        let bytes = std::fs::read(revision.file(file).unwrap()).unwrap();
        let direct = get(fixture.address, &fixture.path(file));
        assert_eq!((direct.status, direct.header("content-type")), (200, Some(kind)), "{file}");
        assert!(direct.body == bytes, "{file}");
        assert!(direct.header("cache-control").unwrap().contains("immutable"));
        let channel = get(fixture.address, &format!("/channels/stable/debian/{file}"));
        assert!(channel.status == 200 && channel.body == bytes, "{file}");
        assert_eq!(channel.header("cache-control"), Some("no-cache"));
        assert_eq!(channel.header("etag"), direct.header("etag"));
        assert!(channel.header("date").unwrap().ends_with(" GMT"));
    }
    // Counted after it went out: the client may have it a moment earlier.
    let both = 2 * fixture.image.len() as u64;
    wait_for("both are counted", || fixture.counters.image_bytes() == both);
    assert_eq!(get(fixture.address, "/healthz").text(), "ok\n");
    let metrics = get(fixture.address, "/metrics").text();
    let line = format!("http_bytes_total{{file=\"image\"}} {}\n", 2 * fixture.image.len());
    assert!(metrics.contains(&line) && metrics.ends_with("more 1\n"), "{metrics}");
}

#[test]
fn a_signature_is_served_as_it_is_now() {
    let fixture = Fixture::new();
    let path = fixture.path("manifest.json.minisig");
    assert_eq!(get(fixture.address, &path).status, 404);
    let mut tags = Vec::new();
    for text in ["first", "again"] {
        fixture.store.put_signature(&fixture.reference, text.as_bytes()).unwrap();
        let answer = get(fixture.address, &path);
        assert_eq!((answer.status, answer.text()), (200, text.to_owned()));
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        tags.push(answer.header("etag").unwrap().to_owned());
    }
    assert_ne!(tags[0], tags[1]);
}

#[test]
fn head_tells_the_same_without_a_body_and_the_connection_stays() {
    let fixture = Fixture::new();
    let mut client = Client::connect(fixture.address);
    let path = fixture.path("rootimg.sfs");
    for _ in 0..3 {
        let head = client.request(&format!("HEAD {path} HTTP/1.1\r\nHost: t\r\n\r\n"), false);
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-length"), Some("3145728"));
        assert_eq!(head.header("connection"), Some("keep-alive"));
        let range = client.get(&path, "Range: bytes=5-9\r\n");
        assert_eq!((range.status, &range.body[..]), (206, &fixture.image[5..10]));
        let missing = client.get("/nothing", "");
        assert_eq!(missing.status, 404);
    }
    assert_eq!(fixture.counters.connections(), 1);
    // Two requests in one packet get two answers in their order.
    let get = |file: &str| format!("GET {} HTTP/1.1\r\nHost: t\r\n\r\n", fixture.path(file));
    client.0.write_all((get("vmlinuz") + &get("initrd.img")).as_bytes()).unwrap();
    assert_eq!(client.answer(true).text(), "a kernel");
    assert_eq!(client.answer(true).text(), "an initrd");
    let last = client.get("/healthz", "Connection: close\r\n");
    assert_eq!(last.header("connection"), Some("close"));
    assert!(client.is_closed());
    // HTTP/1.0, as old boot loaders speak it.
    let mut old = Client::connect(fixture.address);
    assert_eq!(old.request("GET /healthz HTTP/1.0\r\n\r\n", true).text(), "ok\n");
    assert!(old.is_closed());
}

#[test]
fn ranges_etags_and_conditions() {
    let fixture = Fixture::new();
    let mut client = Client::connect(fixture.address);
    let path = fixture.path("rootimg.sfs");
    let (len, image) = (fixture.image.len(), &fixture.image);
    let last = format!("bytes {}-{}/{len}", len - 4, len - 1);
    let etag = format!("\"{}-rootimg.sfs\"", fixture.reference.id);
    for (headers, status, content_range, body) in [
        (String::new(), 200, None, &image[..]),
        ("Range: bytes=-4\r\n".into(), 206, Some(last.as_str()), &image[len - 4..]),
        ("Range: bytes=0-1,5-6\r\n".into(), 200, None, &image[..]),
        (format!("Range: bytes={len}-\r\n"), 416, Some("bytes */3145728"), &[]),
        (
            format!("Range: bytes=1-2\r\nIf-Range: {etag}\r\n"),
            206,
            Some("bytes 1-2/3145728"),
            &image[1..3],
        ),
        ("Range: bytes=1-2\r\nIf-Range: \"other\"\r\n".into(), 200, None, &image[..]),
        (format!("If-None-Match: {etag}\r\n"), 304, None, &[]),
        ("If-None-Match: \"other\"\r\n".into(), 200, None, &image[..]),
    ] {
        let answer = client.get(&path, &headers);
        assert_eq!(answer.status, status, "{headers}");
        assert_eq!(answer.header("content-range"), content_range, "{headers}");
        assert_eq!(answer.header("etag"), Some(etag.as_str()), "{headers}");
        assert!(answer.body == body, "{headers}");
    }
}

#[test]
fn nothing_outside_the_published_revisions_is_served() {
    let fixture = Fixture::new();
    let unpublished = crate::support::pack(&fixture.store, "debian", &image(1 << 16, 2), &[]);
    let secret = fixture.store.root().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let mut client = Client::connect(fixture.address);
    for path in [
        "/store.json".to_owned(),
        "/secret".to_owned(),
        "/revisions/debian/../../../secret".to_owned(),
        "/revisions/debian/%2e%2e/secret".to_owned(),
        fixture.path("../../../secret"),
        fixture.path("..%2f..%2f..%2fsecret"),
        fixture.path("%2e%2e"),
        fixture.path(""),
        fixture.path("secret"),
        format!("/revisions/debian/{}/vmlinuz", unpublished.id),
        "/channels/none/debian/vmlinuz".to_owned(),
    ] {
        assert_eq!(client.get(&path, "").status, 404, "{path}");
    }
    fixture.store.publish(&unpublished, &Channel::default()).unwrap();
    let path = format!("/revisions/debian/{}/vmlinuz", unpublished.id);
    assert_eq!(client.get(&path, "").status, 200);
}

#[test]
fn image_can_be_left_to_the_swarm() {
    let fixture = Fixture::with(|config| config.scope = Scope::WithoutImage);
    let mut client = Client::connect(fixture.address);
    assert_eq!(client.get(&fixture.path("rootimg.sfs"), "").status, 403);
    assert_eq!(client.get("/channels/stable/debian/rootimg.sfs", "").status, 403);
    for file in ["vmlinuz", "initrd.img", "manifest.json", "rootimg.torrent"] {
        assert_eq!(client.get(&fixture.path(file), "").status, 200, "{file}");
    }
    assert_eq!(fixture.counters.image_bytes(), 0);
}

#[test]
fn what_is_no_request_gets_a_reason_and_the_end() {
    let fixture = Fixture::new();
    for (text, status) in [
        ("POST / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(), 413),
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000)), 431),
    ] {
        let mut client = Client::connect(fixture.address);
        let answer = client.request(&text, true);
        assert_eq!(answer.status, status, "{}", answer.head);
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.is_closed(), "{status}");
    }
}

#[test]
fn slow_and_silent_clients_are_let_go() {
    let fixture = Fixture::with(|config| {
        config.head_timeout = Duration::from_millis(100);
        config.idle_timeout = Duration::from_millis(300);
        config.write_timeout = Duration::from_millis(300);
    });
    let mut silent = Client::connect(fixture.address);
    assert!(silent.is_closed());
    let mut slow = Client::connect(fixture.address);
    assert_eq!(slow.request("GET /heal", true).status, 408);
    assert!(slow.is_closed());
    // Asks for the image and never reads: the server must not wait for ever.
    let mut greedy = Client::connect(fixture.address);
    let request = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", fixture.path("rootimg.sfs"));
    greedy.0.write_all(request.repeat(20).as_bytes()).unwrap();
    let before = || fixture.counters.image_bytes();
    wait_for("the transfer begins", || before() > 0);
    wait_for("the transfer is given up", || {
        let sent = before();
        std::thread::sleep(Duration::from_millis(700));
        sent == before()
    });
    let mut rest = Vec::new();
    // A reset is as good an end as a close.
    let _ = greedy.0.read_to_end(&mut rest);
    assert!(rest.len() < 20 * fixture.image.len());
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let fixture = Fixture::with(|config| config.max_connections = 2);
    let mut first = Client::connect(fixture.address);
    let mut second = Client::connect(fixture.address);
    assert_eq!(first.get("/healthz", "").status, 200);
    assert_eq!(second.get("/healthz", "").status, 200);
    let mut third = Client::connect(fixture.address);
    let refused = third.answer(true);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("2")));
    assert!(third.is_closed());
    assert_eq!(fixture.counters.refused_connections(), 1);
    drop(first);
    wait_for("a place is free again", || {
        Client::connect(fixture.address).get("/healthz", "").status == 200
    });
    assert_eq!(second.get("/healthz", "").status, 200);
}

#[test]
fn a_running_transfer_survives_a_prune() {
    let fixture = Fixture::new();
    let mut client = Client::connect(fixture.address);
    let big = image(24 << 20, 4);
    let reference = publish(&fixture.store, "big", &big, &[]);
    let path = format!("/revisions/big/{}/rootimg.sfs", reference.id);
    // Far more than the sockets hold: the transfer stands still until it is read.
    client.0.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    wait_for("the transfer begins", || fixture.counters.image_bytes() > 0);
    publish(&fixture.store, "big", &image(1 << 20, 3), &[]);
    let pruned = fixture.store.prune(&reference.name, 1).unwrap();
    assert_eq!(pruned, [reference]);
    assert_eq!(get(fixture.address, &path).status, 404);
    assert!(client.answer(true).body == big);
}

#[test]
fn a_damaged_file_is_not_handed_out() {
    let fixture = Fixture::new();
    let revision = fixture.store.revision(&fixture.reference).unwrap();
    tamper(&revision.kernel(), |bytes| bytes.truncate(3));
    assert_eq!(get(fixture.address, &fixture.path("vmlinuz")).status, 500);
    assert_eq!(get(fixture.address, &fixture.path("initrd.img")).status, 200);
    tamper(&revision.manifest_path(), |bytes| bytes.push(b' '));
    assert_eq!(get(fixture.address, &fixture.path("initrd.img")).status, 500);
}

#[test]
fn a_file_cut_during_its_transfer_ends_the_connection() {
    let fixture = Fixture::new();
    let revision = fixture.store.revision(&fixture.reference).unwrap();
    let big = image(24 << 20, 5);
    let reference = publish(&fixture.store, "big", &big, &[]);
    let path = fixture.store.revision(&reference).unwrap().image();
    let mut client = Client::connect(fixture.address);
    let request =
        format!("GET /revisions/big/{}/rootimg.sfs HTTP/1.1\r\nHost: a\r\n\r\n", reference.id);
    client.0.write_all(request.as_bytes()).unwrap();
    wait_for("the transfer begins", || fixture.counters.image_bytes() > 0);
    std::fs::File::options().write(true).open(path).unwrap().set_len(1000).unwrap();
    let mut received = Vec::new();
    let _ = client.0.read_to_end(&mut received);
    assert!(received.len() < big.len(), "{}", received.len());
    assert_eq!(get(fixture.address, &fixture.path("vmlinuz")).status, 200);
    drop(revision);
}

#[test]
fn many_clients_at_once_get_whole_files() {
    let fixture = Fixture::new();
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let answer = get(fixture.address, &fixture.path("rootimg.sfs"));
                assert!(answer.status == 200 && answer.body == fixture.image);
            });
        }
    });
    let all = 40 * fixture.image.len() as u64;
    wait_for("all are counted", || fixture.counters.image_bytes() == all);
}

#[test]
fn shutdown_frees_the_port_also_under_load() {
    let mut fixture = Fixture::new();
    let mut busy = Client::connect(fixture.address);
    let request = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", fixture.path("rootimg.sfs"));
    busy.0.write_all(request.repeat(10).as_bytes()).unwrap();
    wait_for("the transfer begins", || fixture.counters.image_bytes() > 0);
    let server = fixture.server.take().unwrap();
    fixture.runtime.block_on(server.shutdown());
    wait_for("the port is free", || std::net::TcpListener::bind(fixture.address).is_ok());
}
