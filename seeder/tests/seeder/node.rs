//! `bee-seeder node`: from a loop device. Needs root and the loop driver.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use proto::boot_record::{BOOT_RECORD_VERSION, BootRecord};
use proto::event::{EventBatch, EventKind, Sources};
use proto::metainfo::Metainfo;
use sys::loop_device::{self, AttachOptions, LoopDevice};
use tempfile::TempDir;

use crate::leecher::fetch;
use crate::program::Program;
use crate::support::{DEADLINE, image, torrent, wait_for};

/// A node as its boot leaves it.
struct Node {
    dir: TempDir,
    device: Option<LoopDevice>,
    image: Vec<u8>,
    metainfo: Metainfo,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = image(2 << 20, 1);
        let metainfo = torrent(&image, &[]);
        let mut node = Self { dir, device: None, image, metainfo };
        fs::write(node.path("torrent"), node.metainfo.to_bytes().unwrap()).unwrap();
        let bytes = node.image.clone();
        node.attach(&bytes);
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Attaches these bytes, in place of what was attached before.
    fn attach(&mut self, bytes: &[u8]) {
        self.detach();
        fs::write(self.path("image"), bytes).unwrap();
        let device = loop_device::attach(&self.path("image"), &AttachOptions::default());
        self.device = Some(device.expect("loop devices need root and the loop driver"));
    }

    fn detach(&mut self) {
        if let Some(device) = self.device.take() {
            device.detach().unwrap();
        }
    }

    fn record(&self) -> BootRecord {
        let device = self.device.as_ref().unwrap();
        let number = device.number();
        BootRecord {
            version: BOOT_RECORD_VERSION,
            device: device.path().to_str().unwrap().to_owned(),
            device_number: (number.major, number.minor),
            length: self.image.len() as u64,
            info_hash: self.metainfo.info_hash,
            torrent: self.path("torrent").to_str().unwrap().to_owned(),
            trackers: Vec::new(),
            report: None,
            node: None,
            token: None,
            manifest_sha256: None,
            signed_by: None,
            verity: None,
            source: "http://admin:8080/channels/stable/debian/".into(),
            upload_limit: None,
            no_lsd: true,
            sources: Sources::default(),
        }
    }

    fn start(&self, record: &BootRecord, more: &[&str]) -> Program {
        let path = self.path("boot.json");
        fs::write(&path, record.to_bytes().unwrap()).unwrap();
        start(&path, more)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.detach();
    }
}

fn start(record: &Path, more: &[&str]) -> Program {
    let args = ["node", "--boot-record", record.to_str().unwrap(), "--listen", "[::]:0"];
    Program::start(&[&args[..], &["--user", "nobody"], more].concat(), &[])
}

/// Waits for one request and reads it whole.
fn request(listener: &TcpListener) -> (TcpStream, Vec<u8>, Vec<u8>) {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    wait_for("a request", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (mut stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut request = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).unwrap();
        request.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text
                .find("content-length:")
                .map_or(0, |at| text[at + 15..].lines().next().unwrap().trim().parse().unwrap());
            if request.len() >= end + 4 + length {
                let body = request.split_off(end + 4);
                return (stream, request, body);
            }
        }
        assert_ne!(count, 0, "the request is cut off: {text}");
    }
}

#[test]
fn seeds_its_device_as_nobody_and_stops_when_told() {
    let node = Node::new();
    let seeder = node.start(&node.record(), &[]);
    seeder.address("swarm");
    let seeding = seeder.event("seeding", |_| true);
    assert_eq!(seeding["info_hash"], node.metainfo.info_hash.to_string());
    let status = fs::read_to_string(format!("/proc/{}/status", seeder.pid())).unwrap();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let nobody = sys::privileges::Identity::look_up("nobody", None).unwrap();
    assert_eq!(line("Uid:"), [nobody.uid; 4].map(|id| id.to_string()).join(" "));
    assert_eq!(line("Gid:"), [nobody.gid; 4].map(|id| id.to_string()).join(" "));
    assert_eq!(
        (line("CapEff:").as_str(), line("CapPrm:").as_str()),
        ("0000000000000000", "0000000000000000")
    );
    assert_eq!((line("NoNewPrivs:").as_str(), line("Groups:").as_str()), ("1", ""));
    // Every thread, not only the first.
    for thread in fs::read_dir(format!("/proc/{}/task", seeder.pid())).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(
            status.contains("NoNewPrivs:\t1") && status.contains(&format!("Uid:\t{}", nobody.uid))
        );
    }
    // Nothing is open but its image: no file of the disk, no other device.
    let device = node.device.as_ref().unwrap().path();
    let files: Vec<PathBuf> = fs::read_dir(format!("/proc/{}/fd", seeder.pid()))
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
        .filter(|target| target.is_absolute() && target != Path::new("/dev/null"))
        .collect();
    assert_eq!(files, [device]);
    seeder.stop();
}

#[test]
fn another_image_on_the_device_is_never_announced() {
    let tracker = TcpListener::bind("127.0.0.1:0").unwrap();
    tracker.set_nonblocking(true).unwrap();
    let mut node = Node::new();
    let record = |node: &Node| BootRecord {
        trackers: vec![vec![format!("http://{}/announce", tracker.local_addr().unwrap())]],
        ..node.record()
    };
    let mut last_piece_differs = node.image.clone();
    *last_piece_differs.last_mut().unwrap() ^= 1;
    let mut larger = image(3 << 20, 7);
    larger[..1000].copy_from_slice(&node.image[..1000]);
    for (bytes, text) in [
        (image(2 << 20, 2), "piece 0"),
        (last_piece_differs, "piece 63"),
        (larger, "piece 0"),
        (node.image[..1 << 20].to_vec(), "1048576 bytes, the image 2097152"),
    ] {
        node.attach(&bytes);
        let (status, events, log) = node.start(&record(&node), &[]).end();
        assert_eq!(status.code(), Some(4), "{log}");
        assert!(log.contains(text) && log.contains("another image"), "{log}");
        // The message names the file that is attached now.
        assert!(log.contains("/image)"), "{log}");
        assert!(events.is_empty(), "{events:?}");
    }
    let asked = tracker.accept().map(|_| ()).unwrap_err();
    assert_eq!(asked.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn what_the_boot_left_is_checked() {
    let node = Node::new();
    let good = node.record();
    let other = image(2 << 20, 3);
    fs::write(node.path("other"), torrent(&other, &[]).to_bytes().unwrap()).unwrap();
    let other = node.path("other").to_str().unwrap().to_owned();
    let file = node.path("image").to_str().unwrap().to_owned();
    let number = (good.device_number.0, good.device_number.1 + 1);
    for (record, more, code, text) in [
        (BootRecord { device_number: number, ..good.clone() }, &[][..], 4, "another device"),
        (BootRecord { device: file, ..good.clone() }, &[], 4, "not a block device"),
        (BootRecord { device: "/dev/none".into(), ..good.clone() }, &[], 3, "/dev/none"),
        (BootRecord { torrent: other, ..good.clone() }, &[], 3, "info-hash"),
        (BootRecord { torrent: "/none".into(), ..good.clone() }, &[], 3, "/none"),
        (BootRecord { length: 4096, ..good.clone() }, &[], 4, "4096 bytes"),
        (good.clone(), &["--user", "no-such-user"], 6, "no-such-user"),
        (good.clone(), &["--user", "root"], 6, "is root"),
    ] {
        // The last flag counts.
        let more: Vec<&str> = more.to_vec();
        let path = node.path("boot.json");
        fs::write(&path, record.to_bytes().unwrap()).unwrap();
        let user = if more.is_empty() { vec!["--user", "nobody"] } else { more };
        let args = ["node", "--boot-record", path.to_str().unwrap(), "--listen", "127.0.0.1:0"];
        let (status, events, log) = Program::start(&[&args[..], &user].concat(), &[]).end();
        assert_eq!(status.code(), Some(code), "{text}: {log}");
        assert!(log.contains(text), "{text}: {log}");
        assert!(events.is_empty(), "{events:?}");
    }
    fs::write(node.path("bad.json"), "{").unwrap();
    for name in ["bad.json", "none.json"] {
        let (status, _, log) = start(&node.path(name), &[]).end();
        assert_eq!(status.code(), Some(3), "{log}");
        assert!(log.contains(name), "{log}");
    }
}

#[test]
fn the_tracker_hears_that_the_node_seeds() {
    let node = Node::new();
    let tracker = TcpListener::bind("127.0.0.1:0").unwrap();
    let record = BootRecord {
        report: Some(format!("http://{}", tracker.local_addr().unwrap())),
        node: Some("52:54:00:12:34:56".parse().unwrap()),
        ..node.record()
    };
    let seeder = node.start(&record, &[]);
    let (mut stream, request, body) = request(&tracker);
    stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").unwrap();
    let path = b"POST /api/v1/nodes/52:54:00:12:34:56/events HTTP/1.1\r\n";
    assert!(request.starts_with(path), "{}", String::from_utf8_lossy(&request));
    let batch = EventBatch::parse(&body).unwrap();
    let [event] = &batch.events[..] else { panic!("{batch:?}") };
    let EventKind::Seeding { device, user, uploaded, http: None } = &event.kind else {
        panic!("{event:?}")
    };
    assert_eq!((device, user.as_str(), *uploaded), (&record.device, "nobody", 0));
    seeder.stop();
}

#[test]
fn a_peer_gets_the_whole_image_from_the_device() {
    let node = Node::new();
    let seeder = node.start(&node.record(), &[]);
    let address = local(seeder.address("swarm"));
    // The file goes, as it does when the initrd is left: the device is what counts.
    fs::remove_file(node.path("image")).unwrap();
    fs::remove_file(node.path("torrent")).unwrap();
    assert!(fetch(&node.metainfo, address, || false).unwrap() == node.image);
    seeder.event("uploaded", |event| event["swarm_bytes"] == 2 << 20);
    seeder.stop();
}

#[test]
fn damage_beyond_the_samples_is_found_before_it_is_sent() {
    let mut node = Node::new();
    // Pieces 20 and 40: chance may hit one of them at the start, and then nothing is announced.
    let mut damaged = node.image.clone();
    damaged[20 * 32768 + 5] ^= 1;
    damaged[40 * 32768 + 5] ^= 1;
    node.attach(&damaged);
    let seeder = node.start(&node.record(), &[]);
    let mut ended = false;
    if let Some(address) = seeder.try_address("swarm") {
        let got = fetch(&node.metainfo, local(address), || {
            ended = ended || seeder.poll("stopped").is_some();
            ended
        });
        assert!(got.unwrap_err() < 2 << 20);
    }
    let (status, _, log) = seeder.end();
    assert_eq!(status.code(), Some(4), "{log}");
    assert!(log.contains("piece 20") || log.contains("piece 40"), "{log}");
}

/// How the seeder's port is reached from this machine.
fn local(address: SocketAddr) -> SocketAddr {
    assert!(address.ip().is_unspecified(), "{address}");
    SocketAddr::from(([127, 0, 0, 1], address.port()))
}

#[test]
fn every_address_of_the_machine_is_served() {
    let node = Node::new();
    let seeder = node.start(&node.record(), &[]);
    let port = seeder.address("swarm").port();
    // An address that comes or goes later changes nothing: none is bound.
    for address in [([127, 0, 0, 1], port).into(), ([127, 9, 8, 7], port).into()] {
        assert!(fetch(&node.metainfo, address, || false).unwrap() == node.image, "{address}");
    }
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        assert!(fetch(&node.metainfo, six, || false).unwrap() == node.image);
    }
    seeder.stop();
}

#[test]
fn a_tracker_that_was_restarted_hears_of_the_node_again() {
    let node = Node::new();
    let tracker = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tracker.local_addr().unwrap();
    let trackers = vec![vec![format!("http://{address}/announce")]];
    let seeder = node.start(&BootRecord { trackers, ..node.record() }, &[]);
    let announce = |tracker: &TcpListener| {
        let (mut stream, head, _) = request(tracker);
        let head = String::from_utf8(head).unwrap();
        let line = head.lines().next().unwrap().to_owned();
        let body = "d8:intervali1e5:peers0:e";
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes()).unwrap();
        line
    };
    let first = announce(&tracker);
    assert!(first.contains("left=0") && first.contains("event=started"), "{first}");
    drop(tracker);
    // Gone for a while: the seeder is told so by its operating system, and stays.
    seeder.event("uploaded", |_| true);
    seeder.event("uploaded", |_| true);
    let tracker = TcpListener::bind(address).unwrap();
    let again = announce(&tracker);
    assert!(again.contains("left=0"), "{again}");
    seeder.signal("-TERM");
    // It says goodbye; announces of the interval may come before.
    let stopped = (0..5).map(|_| announce(&tracker)).any(|line| line.contains("event=stopped"));
    assert!(stopped);
    assert_eq!(seeder.end().0.code(), Some(0));
}

#[test]
fn the_service_manager_is_told() {
    let node = Node::new();
    let name = format!("beeswarm-seeder-test-{}", std::process::id());
    let address = UnixAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let path = node.path("boot.json");
    fs::write(&path, node.record().to_bytes().unwrap()).unwrap();
    let args = ["node", "--boot-record", path.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let socket = format!("@{name}");
    let environment = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "30000000")];
    let seeder = Program::start(&[&args[..], &["--user", "nobody"]].concat(), &environment);
    let next = || {
        let mut buf = [0; 256];
        let count = manager.recv(&mut buf).expect("a message");
        String::from_utf8(buf[..count].to_vec()).unwrap()
    };
    assert_eq!(next(), "READY=1");
    // Ready means: the port is open.
    std::net::TcpStream::connect(seeder.address("swarm")).unwrap();
    assert!(next().starts_with("STATUS=images: 1, "));
    assert_eq!(next(), "WATCHDOG=1");
    seeder.signal("-TERM");
    let told = (0..20).map(|_| next()).any(|message| message == "STOPPING=1");
    assert!(told);
    assert_eq!(seeder.end().0.code(), Some(0));
}

#[test]
fn killed_at_any_moment_it_starts_again_on_its_port() {
    let node = Node::new();
    let mut listen = "[::]:0".to_owned();
    for round in 0..3 {
        // Killed before it has done anything: on its way from root to nobody.
        drop(node.start(&node.record(), &[]));
        let path = node.path("boot.json");
        let args = ["node", "--boot-record", path.to_str().unwrap(), "--listen", &listen];
        let seeder = Program::start(&[&args[..], &["--user", "nobody"]].concat(), &[]);
        let address = seeder.address("swarm");
        assert!(fetch(&node.metainfo, local(address), || false).unwrap() == node.image, "{round}");
        seeder.signal("-KILL");
        assert_eq!(seeder.end().0.code(), None);
        listen = address.to_string();
    }
}
