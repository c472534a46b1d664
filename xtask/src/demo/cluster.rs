//! Fixed facts of the demo's network: who listens where.

use std::net::{Ipv4Addr, SocketAddr};

/// The admin host's address: the lab's first node.
pub(crate) const ADMIN: Ipv4Addr = Ipv4Addr::new(10, 87, 1, 1);

/// Port of the tracker.
pub(crate) const TRACKER_PORT: u16 = 6969;

/// Port of the store over HTTP.
pub(crate) const IMAGE_PORT: u16 = 8080;

/// Port of the peer wire.
pub(crate) const PEER_PORT: u16 = 6881;

/// The tracker, as nodes and the torrent name it.
pub(crate) const TRACKER: &str = "http://10.87.1.1:6969";

/// The store over HTTP, as nodes name it.
pub(crate) const IMAGES: &str = "http://10.87.1.1:8080";

/// The tracker's address.
pub(crate) fn tracker() -> SocketAddr {
    SocketAddr::from((ADMIN, TRACKER_PORT))
}

/// The store's address.
pub(crate) fn images() -> SocketAddr {
    SocketAddr::from((ADMIN, IMAGE_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_addresses_agree() {
        assert_eq!(TRACKER, format!("http://{}", tracker()));
        assert_eq!(IMAGES, format!("http://{}", images()));
    }
}
