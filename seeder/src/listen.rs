//! Opening a listening TCP socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted: a whole cluster may knock in the same second.
const BACKLOG: u32 = 1024;

/// The address cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}{}", remedy(source))]
pub struct ListenError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What the system call said.
    #[source]
    pub source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": another program uses this port; stop it or choose another",
        io::ErrorKind::AddrNotAvailable => ": this machine does not have that address",
        io::ErrorKind::PermissionDenied => ": ports below 1024 need a privilege; choose another",
        _ => "",
    }
}

/// Listens on `address`, and tells the address that became of it (port 0 means any).
///
/// `[::]` means IPv4 and IPv6; on a machine without IPv6 it is taken as `0.0.0.0`.
///
/// # Errors
/// [`ListenError`].
pub fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let without_ipv6 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
    let listener = match try_listen(address) {
        Err(e) if address.is_ipv6() && address.ip().is_unspecified() && lacks_ipv6(&e) => {
            try_listen(without_ipv6)
        }
        other => other,
    };
    listener
        .and_then(|listener| Ok((listener.local_addr()?, listener)))
        .map(|(local, listener)| (listener, local))
        .map_err(|source| ListenError { address, source })
}

pub(crate) fn lacks_ipv6(error: &io::Error) -> bool {
    // EAFNOSUPPORT with ipv6.disable=1, EADDRNOTAVAIL with disable_ipv6 on every interface.
    error.raw_os_error() == Some(97) || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn try_listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted seeder must not wait for connections of its predecessor to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_a_remedy() {
        let (_listener, local) = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(local.port(), 0);
        let text = listen(local).unwrap_err().to_string();
        assert!(text.contains(&local.to_string()) && text.contains("another program"), "{text}");
    }
}
