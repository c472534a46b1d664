//! The first bytes of a connection, both ways.

use std::io;
use std::time::Duration;

use proto::hash::{InfoHash, PeerId};
use proto::wire::{Features, HANDSHAKE_LEN, Handshake, WireError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::outgoing::UNSENT;

/// What we say of ourselves and of one torrent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hello {
    pub(crate) info_hash: InfoHash,
    /// By which BEP 52 knows a hybrid torrent.
    pub(crate) v2: Option<InfoHash>,
    pub(crate) peer_id: PeerId,
}

impl Hello {
    /// Whether a peer that answered speaks BEP 52 from now on, as its info-hash says.
    pub(crate) fn is_upgraded_by(&self, theirs: &Handshake) -> bool {
        self.v2 == Some(theirs.info_hash)
    }

    /// The answer to who dialled us, and whether BEP 52 is spoken: who can, is answered with that
    /// info-hash, whichever it named.
    pub(crate) fn answer(&self, theirs: &Handshake) -> ([u8; HANDSHAKE_LEN], bool) {
        let named = self.is_upgraded_by(theirs);
        match self.v2.filter(|_| named || theirs.features.v2) {
            Some(hash) => (self.encode(hash), true),
            None => (self.encode(self.info_hash), false),
        }
    }

    /// Names the torrent as BEP 3 does, which every peer knows, and offers BEP 52.
    pub(crate) fn offer(&self) -> [u8; HANDSHAKE_LEN] {
        self.encode(self.info_hash)
    }

    fn encode(&self, info_hash: InfoHash) -> [u8; HANDSHAKE_LEN] {
        let features = Features { fast: true, extended: true, v2: self.v2.is_some() };
        Handshake { info_hash, peer_id: self.peer_id, features }.encode()
    }
}

/// Why a handshake did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("connection failed")]
    Connect(#[source] io::Error),
    #[error("connection lost")]
    Io(#[source] io::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("not a BitTorrent peer")]
    Wire(#[source] WireError),
    #[error("it serves another torrent")]
    OtherTorrent,
}

impl HandshakeError {
    /// Whether it is the peer that nobody reaches: it may also be full, or the network be ours.
    pub(crate) fn is_unreachable(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, TimedOut};
        match self {
            Self::Connect(error) => {
                matches!(error.kind(), ConnectionRefused | HostUnreachable | TimedOut)
            }
            Self::Timeout(_) => true,
            _ => false,
        }
    }
}

/// Dials and shakes hands.
pub(crate) async fn dial(
    address: std::net::SocketAddr,
    hello: Hello,
    limit: Duration,
) -> Result<(TcpStream, Handshake), HandshakeError> {
    let both = async {
        let mut stream = TcpStream::connect(address).await.map_err(HandshakeError::Connect)?;
        prepare(&stream);
        stream.write_all(&hello.offer()).await.map_err(HandshakeError::Io)?;
        let theirs = read(&mut stream).await?;
        if theirs.info_hash != hello.info_hash && !hello.is_upgraded_by(&theirs) {
            return Err(HandshakeError::OtherTorrent);
        }
        Ok((stream, theirs))
    };
    tokio::time::timeout(limit, both).await.map_err(|_| HandshakeError::Timeout(limit))?
}

/// Reads the handshake of a peer.
pub(crate) async fn read(stream: &mut TcpStream) -> Result<Handshake, HandshakeError> {
    let mut bytes = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut bytes).await.map_err(HandshakeError::Io)?;
    Handshake::parse(&bytes).map_err(HandshakeError::Wire)
}

/// Socket options of a peer connection. Failures only cost speed.
pub(crate) fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
}
