//! What the three commands do alike with the swarm engine, signals and the service manager.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use swarm::{Role, Session, SessionConfig, SessionError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::PeerSettings;

/// Opens the peer wire. `[::]` means IPv4 and IPv6, or IPv4 alone on a machine without IPv6.
///
/// # Errors
/// [`SessionError::Listen`].
pub async fn bind(peers: &PeerSettings, role: Role) -> Result<Session, SessionError> {
    let mut config = SessionConfig::new(role);
    config.listen = peers.listen;
    config.upload_limit = peers.upload_limit;
    config.upload_limit_per_peer = peers.upload_limit_per_peer;
    config.local_discovery = peers.local_discovery.unwrap_or(true);
    match Session::bind(config.clone()).await {
        Err(SessionError::Listen { source, .. })
            if peers.listen.is_ipv6()
                && peers.listen.ip().is_unspecified()
                && crate::listen::lacks_ipv6(&source) =>
        {
            config.listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, peers.listen.port()));
            Session::bind(config).await
        }
        other => other,
    }
}

/// SIGTERM and SIGINT, caught from the moment this is made.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches the signals. Needs a tokio runtime.
    ///
    /// # Errors
    /// No handler can be set up.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Cancels `stop` at the first signal; returns at the second, when waiting is over.
    pub async fn obey(mut self, stop: CancellationToken) {
        for _ in 0..2 {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            stop.cancel();
        }
    }
}
