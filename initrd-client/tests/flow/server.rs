//! A file server and a tracker on loopback, as small as they can be.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use proto::announce::{AnnounceEvent, AnnouncePeers, AnnounceRequest, AnnounceResponse, PeerEntry};

/// What is answered on a path. The tracker is the path `/announce`, events end in `/events`.
#[derive(Clone)]
pub(crate) enum Answer {
    /// 200 with these bytes.
    Bytes(Vec<u8>),
    /// This status and a web page.
    Status(u16),
    /// An announce reply with a failure reason.
    Failure(&'static str),
}

#[derive(Default)]
struct State {
    answers: BTreeMap<String, Answer>,
    peers: BTreeSet<SocketAddr>,
    requests: Vec<String>,
    events: Vec<Vec<u8>>,
    announced: Vec<AnnounceEvent>,
}

/// A server; stops when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn start_on(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let stop = Arc::<AtomicBool>::default();
        let thread = std::thread::spawn({
            let (state, stop) = (state.clone(), stop.clone());
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    // a client that goes away is no concern of the server
                    let _ = stream.and_then(|stream| serve(stream, &state));
                }
            }
        });
        Self { address, state, stop, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn put(&self, path: &str, answer: Answer) {
        self.state.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    /// Takes an answer back: 404, or for `/announce` the tracker's normal work.
    pub(crate) fn remove(&self, path: &str) {
        self.state.lock().unwrap().answers.remove(path);
    }

    pub(crate) fn requests(&self, path: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|request| request.as_str() == path).count()
    }

    /// Events of announces, in order.
    pub(crate) fn announced(&self) -> Vec<AnnounceEvent> {
        self.state.lock().unwrap().announced.clone()
    }

    /// Bodies that were posted.
    pub(crate) fn events(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().events.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // wakes `incoming`
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    std::io::Read::read_exact(&mut reader, &mut body)?;
    let target = first.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (status, bytes) = answer(path, query, body, &stream, state);
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&bytes)
}

fn answer(
    path: &str,
    query: &str,
    body: Vec<u8>,
    stream: &TcpStream,
    state: &Mutex<State>,
) -> (u16, Vec<u8>) {
    let mut state = state.lock().unwrap();
    state.requests.push(path.to_owned());
    match state.answers.get(path).cloned() {
        Some(Answer::Bytes(bytes)) => (200, bytes),
        Some(Answer::Status(status)) => (status, b"<html>no</html>".to_vec()),
        Some(Answer::Failure(reason)) => {
            (200, AnnounceResponse::Failure(reason.to_owned()).encode(true).unwrap())
        }
        None if path == "/announce" => (200, announce(query, stream, &mut state)),
        None if path.ends_with("/events") => {
            state.events.push(body);
            (200, b"{}".to_vec())
        }
        None => (404, b"<html>not here</html>".to_vec()),
    }
}

fn announce(query: &str, stream: &TcpStream, state: &mut State) -> Vec<u8> {
    let request = AnnounceRequest::parse(query).unwrap();
    state.announced.extend(request.event);
    let own = SocketAddr::new(stream.peer_addr().unwrap().ip(), request.port);
    let peers = state.peers.iter().filter(|peer| **peer != own);
    let peers = peers.map(|peer| PeerEntry { address: *peer, peer_id: None }).collect();
    state.peers.insert(own);
    let reply = AnnouncePeers { interval: 1, peers, ..AnnouncePeers::default() };
    AnnounceResponse::Peers(reply).encode(true).unwrap()
}
