//! Values that end up in a DHCP server's configuration: each type admits only what cannot change the
//! meaning of the text around it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use crate::boot::values::Authority;

/// A value that cannot go into a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DhcpValueError {
    /// Not an address of a host.
    #[error("expected the IPv4 address of a host, such as 10.20.0.1")]
    Address,
    /// Not a network.
    #[error("expected NETWORK/BITS, 8 to 30 bits, such as 10.20.0.0/16")]
    Subnet,
    /// A host's address where the network's is expected.
    #[error("{0} is an address inside of a network: the network is {1}")]
    HostBits(String, String),
    /// Not a range.
    #[error("expected FIRST-LAST, such as 10.20.1.0-10.20.3.255, or static")]
    Range,
    /// Not a name of a card.
    #[error(
        "expected the name of a network card: 1 to 15 letters, digits, '.', '-', '_', ':' or '@'"
    )]
    Interface,
    /// Not a lease time.
    #[error("expected a number of minutes, hours or days: 30m, 12h, 2d; at least 2m")]
    Lease,
    /// Not a usable folder.
    #[error("expected an absolute path of letters, digits, '/', '.', '-' and '_'")]
    Folder,
}

/// IPv4 address of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerAddress(pub Ipv4Addr);

impl ServerAddress {
    /// With a port.
    pub(super) fn authority(self, port: u16) -> Authority {
        Authority::from(SocketAddr::from((self.0, port)))
    }
}

impl FromStr for ServerAddress {
    type Err = DhcpValueError;

    fn from_str(text: &str) -> Result<Self, DhcpValueError> {
        let ip: Ipv4Addr = text.parse().map_err(|_| DhcpValueError::Address)?;
        let nobody = ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast();
        if nobody || ip.is_loopback() { Err(DhcpValueError::Address) } else { Ok(Self(ip)) }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    network: Ipv4Addr,
    bits: u8,
}

impl Subnet {
    /// First address.
    #[must_use]
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// Netmask.
    #[must_use]
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX << (32 - u32::from(self.bits)))
    }

    /// Whether it has this address.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask().to_bits() == self.network.to_bits()
    }
}

impl FromStr for Subnet {
    type Err = DhcpValueError;

    fn from_str(text: &str) -> Result<Self, DhcpValueError> {
        let (network, bits) = text.split_once('/').ok_or(DhcpValueError::Subnet)?;
        let given: Ipv4Addr = network.parse().map_err(|_| DhcpValueError::Subnet)?;
        let bits: u8 = bits.parse().map_err(|_| DhcpValueError::Subnet)?;
        if !(8..=30).contains(&bits) {
            return Err(DhcpValueError::Subnet);
        }
        let mask = Self { network: given, bits }.mask().to_bits();
        let subnet = Self { network: Ipv4Addr::from_bits(given.to_bits() & mask), bits };
        if subnet.network == given {
            Ok(subnet)
        } else {
            Err(DhcpValueError::HostBits(text.to_owned(), subnet.to_string()))
        }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

/// Which addresses are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Those reserved for a node, and no others.
    Static,
    /// From, to; both included.
    Pool(Ipv4Addr, Ipv4Addr),
}

impl FromStr for Range {
    type Err = DhcpValueError;

    fn from_str(text: &str) -> Result<Self, DhcpValueError> {
        if text == "static" {
            return Ok(Self::Static);
        }
        let (first, last) = text.split_once('-').ok_or(DhcpValueError::Range)?;
        let ip = |text: &str| text.parse::<Ipv4Addr>().map_err(|_| DhcpValueError::Range);
        let (first, last) = (ip(first)?, ip(last)?);
        if first <= last { Ok(Self::Pool(first, last)) } else { Err(DhcpValueError::Range) }
    }
}

/// Name of a network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface(String);

impl FromStr for Interface {
    type Err = DhcpValueError;

    fn from_str(text: &str) -> Result<Self, DhcpValueError> {
        let plain =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'@');
        let good = (1..=15).contains(&text.len()) && text.bytes().all(plain);
        if good { Ok(Self(text.to_owned())) } else { Err(DhcpValueError::Interface) }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How long an address is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease(String);

impl FromStr for Lease {
    type Err = DhcpValueError;

    fn from_str(text: &str) -> Result<Self, DhcpValueError> {
        let (number, seconds) = match text.as_bytes().last() {
            Some(b'm') => (&text[..text.len() - 1], 60),
            Some(b'h') => (&text[..text.len() - 1], 3600),
            Some(b'd') => (&text[..text.len() - 1], 86_400),
            _ => return Err(DhcpValueError::Lease),
        };
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let total = number.parse::<u32>().ok().and_then(|number| number.checked_mul(seconds));
        // dnsmasq takes no shorter one
        match total {
            Some(120..) if digits => Ok(Self(text.to_owned())),
            _ => Err(DhcpValueError::Lease),
        }
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Folder of a TFTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TftpRoot(String);

impl FromStr for TftpRoot {
    type Err = DhcpValueError;

    fn from_str(text: &str) -> Result<Self, DhcpValueError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_');
        let good = text.starts_with('/') && text.len() <= 1000 && text.bytes().all(plain);
        if good { Ok(Self(text.to_owned())) } else { Err(DhcpValueError::Folder) }
    }
}

impl fmt::Display for TftpRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let net: Subnet = "10.20.0.0/14".parse().unwrap();
        assert_eq!(
            (net.mask().to_string(), net.to_string()),
            ("255.252.0.0".into(), "10.20.0.0/14".into())
        );
        assert!(net.contains("10.23.255.255".parse().unwrap()));
        assert!(!net.contains("10.24.0.0".parse().unwrap()));
        let error = "10.20.1.1/16".parse::<Subnet>().unwrap_err().to_string();
        assert!(error.contains("10.20.0.0/16"), "{error}");
        for bad in ["10.20.0.0", "10.20.0.0/7", "10.20.0.0/31", "10.20.0.0/x", "x/16", "fd00::/64"]
        {
            assert_eq!(bad.parse::<Subnet>(), Err(DhcpValueError::Subnet), "{bad}");
        }
    }

    #[test]
    fn nothing_breaks_out_of_its_line() {
        for bad in ["", "eth 0", "eth0\nuser=root", "a-name-too-long-0", "e,f", "e#f"] {
            assert!(bad.parse::<Interface>().is_err(), "{bad:?}");
        }
        for bad in ["", "srv", "/a b", "/a\nb", "/a,b", "/a#b", "/\u{e4}"] {
            assert!(bad.parse::<TftpRoot>().is_err(), "{bad:?}");
        }
        for bad in ["", "h", "12", "1m", "-3h", "12x", "12 h", "99999999d", "+5h"] {
            assert!(bad.parse::<Lease>().is_err(), "{bad:?}");
        }
        for bad in ["10.0.0.9-10.0.0.1", "10.0.0.1", "a-b", "", "dynamic"] {
            assert!(bad.parse::<Range>().is_err(), "{bad:?}");
        }
        for bad in ["0.0.0.0", "255.255.255.255", "127.0.0.1", "224.0.0.1", "admin", "fd00::1"] {
            assert!(bad.parse::<ServerAddress>().is_err(), "{bad:?}");
        }
        for good in ["2m", "12h", "7d"] {
            assert_eq!(good.parse::<Lease>().unwrap().to_string(), good);
        }
    }
}
