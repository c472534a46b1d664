//! A way from the host into a lab: connections to a local port go on to an address in the lab.
//!
//! Sockets keep the network namespace they were made in, so the listener is the host's and the
//! connection behind it is a node's, in one process.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::error::LabError;
use crate::node::Node;

/// How long the lab's side may take to accept.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A running relay. It lasts as long as this process, and refuses once the lab has ended.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
}

impl Relay {
    /// Listens on `port` of the host's loopback address (any free port when that is taken) and
    /// passes connections on to `target`, as seen from `node`.
    ///
    /// # Errors
    /// [`LabError::Relay`] when no port can be had.
    pub fn start(port: u16, node: &Node, target: SocketAddr) -> Result<Relay, LabError> {
        let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = bind(port).or_else(|_| bind(0)).map_err(LabError::Relay)?;
        let address = listener.local_addr().map_err(LabError::Relay)?;
        let node = node.clone();
        let accept = move || {
            for stream in listener.incoming().flatten() {
                let node = node.clone();
                // One connection's trouble is its own: the browser sees it closed.
                thread::spawn(move || {
                    if let Ok(inside) = node.connect(target, CONNECT_LIMIT) {
                        let _ = pass(&stream, &inside);
                    }
                });
            }
        };
        let thread = thread::Builder::new().name("lab-relay".to_owned());
        thread.spawn(accept).map_err(LabError::Relay)?;
        Ok(Relay { address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Copies both ways until both sides have ended.
fn pass(outside: &TcpStream, inside: &TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (outside.try_clone()?, inside.try_clone()?);
    let up = thread::spawn(move || {
        let copied = io::copy(&mut from, &mut to);
        // the other side may be gone already
        let _ = to.shutdown(Shutdown::Write);
        copied
    });
    let (mut from, mut to) = (inside, outside);
    let copied = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = up.join();
    copied.map(|_| ())
}
