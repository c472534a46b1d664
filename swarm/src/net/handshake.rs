//! The first bytes of a connection, both ways.

use std::io;
use std::time::Duration;

use proto::hash::{InfoHash, PeerId};
use proto::wire::{Features, HANDSHAKE_LEN, Handshake, WireError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::outgoing::UNSENT;

/// What this program offers.
const FEATURES: Features = Features { fast: true, extended: true };

/// Why a handshake did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("connection failed")]
    Io(#[source] io::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("not a BitTorrent peer")]
    Wire(#[source] WireError),
    #[error("it serves another torrent")]
    OtherTorrent,
}

pub(crate) fn message(info_hash: InfoHash, peer_id: PeerId) -> [u8; HANDSHAKE_LEN] {
    Handshake { info_hash, peer_id, features: FEATURES }.encode()
}

/// Dials and shakes hands.
pub(crate) async fn dial(
    address: std::net::SocketAddr,
    info_hash: InfoHash,
    peer_id: PeerId,
    limit: Duration,
) -> Result<(TcpStream, Handshake), HandshakeError> {
    let both = async {
        let mut stream = TcpStream::connect(address).await.map_err(HandshakeError::Io)?;
        prepare(&stream);
        stream.write_all(&message(info_hash, peer_id)).await.map_err(HandshakeError::Io)?;
        let theirs = read(&mut stream).await?;
        if theirs.info_hash != info_hash {
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
