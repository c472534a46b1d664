//! A server, a store, and a client that sends exactly the bytes it is told.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use beeswarm_tracker::{Config, Handle, Server};
use proto::hash::InfoHash;
use proto::manifest::{Artefact, ArtefactKind, MANIFEST_VERSION, Manifest};
use store::{Channel, RevisionRef, Store};

/// Long enough for any answer on a busy machine; reached only when a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Bed {
    pub(crate) addr: SocketAddr,
    /// Where it answers over UDP; an address of nobody without.
    pub(crate) udp: SocketAddr,
    runtime: tokio::runtime::Runtime,
    handle: Option<Handle>,
}

impl Bed {
    /// On IPv4 loopback.
    pub(crate) fn start(config: Config) -> Self {
        Self::start_on("127.0.0.1:0", config)
    }

    pub(crate) fn start_on(listen: &str, config: Config) -> Self {
        let config = Config { listen: listen.parse().unwrap(), ..config };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let handle = runtime.block_on(Server::bind(config)).unwrap();
        let udp = handle.udp_addr().unwrap_or(SocketAddr::from(([0; 4], 0)));
        Self { addr: handle.local_addr(), udp, runtime, handle: Some(handle) }
    }

    /// Where it speaks TLS.
    pub(crate) fn tls(&self) -> Option<SocketAddr> {
        self.handle.as_ref().unwrap().tls_addr()
    }

    pub(crate) fn with_store(store: &Store) -> Self {
        Self::start(Config { store: Some(store.root().to_owned()), ..Config::default() })
    }

    /// Stops the server and waits for its end.
    pub(crate) fn stop(mut self) -> SocketAddr {
        let handle = self.handle.take().unwrap();
        handle.shutdown();
        self.runtime.block_on(handle.join());
        self.addr
    }

    pub(crate) fn get(&self, target: &str) -> Reply {
        get(self.addr, target, "")
    }

    pub(crate) fn post(&self, target: &str, body: &[u8]) -> Reply {
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            self.addr,
            body.len()
        );
        exchange(self.addr, &[head.as_bytes(), body].concat())
    }
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// `headers` are whole lines with their line ends.
pub(crate) fn get(addr: SocketAddr, target: &str, headers: &str) -> Reply {
    let host = if headers.to_ascii_lowercase().contains("host:") {
        String::new()
    } else {
        format!("Host: {addr}\r\n")
    };
    let request = format!("GET {target} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n");
    exchange(addr, request.as_bytes())
}

/// Sends bytes, reads until the server closes.
pub(crate) fn exchange(addr: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // a server that refuses early may close before it has read everything
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    parse(&answer)
}

fn parse(answer: &[u8]) -> Reply {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("an HTTP answer");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head, body: answer[end + 4..].to_vec() }
}

/// Waits until `done` holds; fails with `what` after [`PATIENCE`].
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn stable() -> Channel {
    Channel::default()
}

/// A store in a directory that goes with the guard.
pub(crate) fn empty_store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::init(dir.path()).unwrap();
    (dir, store)
}

/// A small revision whose torrent is `info_hash`; kernel and initrd only when `bootable`.
pub(crate) fn add_revision(
    store: &Store,
    name: &str,
    info_hash: InfoHash,
    bootable: bool,
) -> RevisionRef {
    let draft = store.begin().unwrap();
    let mut artefacts = BTreeMap::new();
    for kind in ArtefactKind::ALL {
        if !bootable && matches!(kind, ArtefactKind::Kernel | ArtefactKind::Initrd) {
            continue;
        }
        let content = format!("{name} {info_hash} {}", kind.file_name());
        std::fs::write(draft.dir().join(kind.file_name()), &content).unwrap();
        artefacts.insert(kind, Artefact::of(kind, content.as_bytes()));
    }
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        name: name.to_owned(),
        artefacts,
        info_hash,
        v2: None,
        verity: None,
        kernel_release: Some("6.1.0-<b>".to_owned()),
        build: BTreeMap::new(),
    };
    store.commit(draft, &manifest).unwrap().revision.reference().clone()
}
