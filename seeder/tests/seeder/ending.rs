//! How seeding ends: told to, without descriptors, or because the device fails.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proto::metainfo::Metainfo;
use sys::loop_device::{self, AttachOptions};
use tempfile::TempDir;
use tokio::net::TcpSocket;

use crate::leecher::fetch;
use crate::program::Program;
use crate::support::{DEADLINE, image, torrent, wait_for};

/// A torrent and its image in a folder.
struct Files {
    dir: TempDir,
    bytes: Vec<u8>,
    metainfo: Metainfo,
}

impl Files {
    fn new(tracker: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bytes = image(1 << 20, 7);
        let metainfo = torrent(&bytes, &[tracker]);
        fs::write(dir.path().join("torrent"), metainfo.to_bytes().unwrap()).unwrap();
        fs::write(dir.path().join("image"), &bytes).unwrap();
        Self { dir, bytes, metainfo }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Arguments of `seed` for this data.
    fn args<'a>(torrent: &'a str, data: &'a str) -> [&'a str; 8] {
        ["seed", "--torrent", torrent, "--data", data, "--listen", "127.0.0.1:0", "--no-lsd"]
    }

    fn start(&self, data: &str, wrapper: &[&str]) -> Program {
        let torrent = self.path("torrent");
        Program::wrapped(wrapper, &Self::args(torrent.to_str().unwrap(), data), &[])
    }

    fn seed(&self) -> Program {
        self.start(self.path("image").to_str().unwrap(), &[])
    }
}

const NO_TRACKER: &str = "http://127.0.0.1:9/announce";

/// Answers announces until there is one with this event; fails after the deadline.
fn until_announced(tracker: &TcpListener, event: &str) {
    tracker.set_nonblocking(true).unwrap();
    wait_for(event, || {
        let Ok((mut stream, _)) = tracker.accept() else { return false };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let reply = "d8:intervali5e5:peers0:e";
        let length = reply.len();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{reply}").unwrap();
        String::from_utf8_lossy(&head).contains(&format!("event={event}"))
    });
}

#[test]
fn sigterm_is_announced_and_ends_it_within_a_second() {
    let tracker = TcpListener::bind("127.0.0.1:0").unwrap();
    let files = Files::new(&format!("http://{}/announce", tracker.local_addr().unwrap()));
    let seeder = files.seed();
    seeder.event("seeding", |_| true);
    until_announced(&tracker, "started");
    let started = Instant::now();
    seeder.signal("-TERM");
    until_announced(&tracker, "stopped");
    let (status, ..) = seeder.end();
    let took = started.elapsed();
    assert!(status.success() && took < Duration::from_secs(1), "{status} after {took:?}");
    // nobody takes the next one's announces any more, although the port is open
    let seeder = files.seed();
    seeder.event("seeding", |_| true);
    let started = Instant::now();
    let events = seeder.stop();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(events.last().unwrap()["event"], "stopped");
}

#[test]
fn a_device_that_fails_ends_it_with_the_reason() {
    let files = Files::new(NO_TRACKER);
    let options = AttachOptions { autoclear: true, ..AttachOptions::default() };
    let device = loop_device::attach(&files.path("image"), &options).expect("needs root");
    let seeder = files.start(device.path().to_str().unwrap(), &[]);
    let address = seeder.address("swarm");
    // what the device has no backing for any more cannot be read: EIO
    let file = fs::File::options().write(true).open(files.path("image")).unwrap();
    file.set_len(300 * 1024).unwrap();
    let mut stopped = false;
    let got = fetch(&files.metainfo, address, || {
        stopped = stopped || seeder.poll("stopped").is_some();
        stopped
    });
    assert!(got.unwrap_err() <= 300 * 1024, "nothing that is not there was sent");
    let (status, _, log) = seeder.end();
    assert_eq!(status.code(), Some(4), "{log}");
    assert!(log.contains("cannot read the image at byte"), "{log}");
    assert!(log.contains("Input/output error"), "{log}");
}

#[test]
fn without_descriptors_it_says_so_and_recovers() {
    let files = Files::new(NO_TRACKER);
    let limited = ["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"];
    let seeder = files.start(files.path("image").to_str().unwrap(), &limited);
    let to = seeder.address("swarm");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let held = runtime.block_on(async {
        let mut held = Vec::new();
        for _ in 0..100 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 0, 66], 0))).unwrap();
            held.push(socket.connect(to).await.unwrap());
        }
        held
    });
    let open = || fs::read_dir(format!("/proc/{}/fd", seeder.pid())).unwrap().count();
    wait_for("all descriptors in use", || open() >= 64);
    drop(held);
    assert!(fetch(&files.metainfo, to, || false).unwrap() == files.bytes, "it serves again");
    seeder.signal("-TERM");
    let (status, _, log) = seeder.end();
    assert!(status.success(), "{log}");
    assert!(log.contains("no file descriptor is left") && log.contains("LimitNOFILE="), "{log}");
}
