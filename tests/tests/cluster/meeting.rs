//! Foreign clients and ours find each other without a tracker's help: by multicast alone (BEP 14), by
//! what peers tell of each other alone (BEP 11).

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lab::client::{Discovery, Foreign, Offer};
use lab::{BitRate, Cmd, Node, Proc};

use super::fixture::{ADMIN, Cluster, LIMIT, Loose, ip, wait_for_event};

const IMAGE: usize = 4 << 20;

/// Where every client here takes peers.
const PORT: u16 = 6881;

/// A tracker on the admin host that names the same one peer to everybody.
struct Pointer {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pointer {
    fn start(admin: &Node, to: Ipv4Addr) -> Pointer {
        let listener = admin.listen(SocketAddr::from(([0, 0, 0, 0], 6969))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let thread = std::thread::spawn(move || serve(&listener, to, &stop));
        Pointer { over, thread: Some(thread) }
    }
}

impl Drop for Pointer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // what it failed with is on standard error; the test fails for want of it
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, to: Ipv4Addr, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        match listener.accept() {
            // one that leaves early asks again
            Ok((stream, _)) => drop(answer(stream, to)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Answers whatever is asked (BEP 3, BEP 23).
fn answer(mut stream: TcpStream, to: Ipv4Addr) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut asked: Vec<u8> = Vec::new();
    while !asked.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        asked.extend(&bytes[..count]);
    }
    let mut body = b"d8:intervali5e5:peers6:".to_vec();
    body.extend(to.octets());
    body.extend(PORT.to_be_bytes());
    body.push(b'e');
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)
}

fn offer(loose: &Loose) -> Offer {
    Offer { torrent: loose.torrent.clone(), file: "rootimg.sfs".to_owned() }
}

/// Ours, which does not listen to multicast.
fn quiet(node: &Node, loose: &Loose) -> Proc {
    let command = Cmd::new(lab::program("bee-initrd-client").unwrap())
        .args(["fetch", "--json", "--no-lsd", "--listen", "0.0.0.0:6881", "--torrent"])
        .arg(&loose.torrent)
        .arg("--output")
        .arg(node.scratch().join("image"));
    node.spawn(&command).unwrap()
}

/// The foreign client, told of no peer at all, fetches from our seeder.
fn by_multicast(test: &str, client: Foreign) {
    let cluster = Cluster::start(test, 1, BitRate::mbit(50));
    let loose = cluster.loose(80, IMAGE, &[]);
    let node = &cluster.nodes[0];
    // transmission lets the routing table choose the interface, and this network has no router
    ip(node, "route add 239.0.0.0/8 dev eth0");
    let _seeder = cluster.seed(&cluster.admin, &loose);
    let launch = client.leecher_by(node, &offer(&loose), Discovery::Multicast).unwrap();
    let (mut proc, mut done) = (node.spawn(&launch.command).unwrap(), launch.done);
    let deadline = Instant::now() + LIMIT;
    while !done.reached(&mut proc).unwrap() {
        let log = || fs::read_to_string(proc.log_path()).unwrap_or_default();
        assert!(!proc.has_ended(), "{client:?} ended\n{}", log());
        assert!(Instant::now() < deadline, "{client:?}: not complete after {LIMIT:?}\n{}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let file = cluster.outside(&node.scratch().join("rootimg.sfs"));
    assert!(fs::read(file).unwrap() == loose.image);
}

/// Everybody is told of one peer, the first of these; the two others meet through it. Nobody has
/// anything, so no connection ends for being of no use.
fn through(test: &str, hub: Option<Foreign>, other: Option<Foreign>) {
    let cluster = Cluster::start(test, 3, BitRate::mbit(50));
    let tracker = format!("http://{ADMIN}:6969/announce");
    let loose = cluster.loose(81, IMAGE, &[&tracker]);
    let [middle, one, two] = &cluster.nodes[..] else { panic!("three nodes") };
    let _tracker = Pointer::start(&cluster.admin, middle.ip());
    let spawn = |client: Option<Foreign>, node: &Node| match client {
        Some(client) => {
            let launch = client.leecher_by(node, &offer(&loose), Discovery::Exchange).unwrap();
            node.spawn(&launch.command).unwrap()
        }
        None => quiet(node, &loose),
    };
    let _hub = spawn(hub, middle);
    let _other = spawn(other, two);
    let mut ours = spawn(None, one);
    // the hub, and the other
    wait_for_event(&mut ours, |event| event["peers"].as_u64() >= Some(2));
}

macro_rules! meetings {
    ($($name:ident: $client:ident;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn finds_us_by_multicast_alone() {
                by_multicast(concat!("lsd-", stringify!($name)), Foreign::$client);
            }

            #[test]
            fn tells_us_of_each_other() {
                through(concat!("pex-by-", stringify!($name)), Some(Foreign::$client), None);
            }

            #[test]
            fn is_met_by_what_we_tell() {
                through(concat!("pex-to-", stringify!($name)), None, Some(Foreign::$client));
            }
        }
    )*};
}

meetings! {
    aria2: Aria2;
    transmission: Transmission;
    libtorrent: Libtorrent;
}
