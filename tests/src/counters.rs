//! What the kernel has counted in a node's network namespace.

use std::fs;

use crate::error::LabError;

const DEVICES: &str = "/proc/thread-self/net/dev";
const SNMP: &str = "/proc/thread-self/net/snmp";
const NETSTAT: &str = "/proc/thread-self/net/netstat";

/// Counters of a node since it was made.
///
/// Bytes are those of Ethernet frames as the interface sees them: a large segment that the card would
/// cut into packets counts with one header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received by `eth0`.
    pub received: u64,
    /// Bytes sent by `eth0`.
    pub sent: u64,
    /// TCP segments sent again (`RetransSegs`).
    pub retransmits: u64,
    /// Connections lost because a listener's queue was full (`ListenOverflows`).
    pub listen_overflows: u64,
}

impl Counters {
    /// Reads those of the calling thread's network namespace.
    pub(crate) fn read() -> Result<Counters, LabError> {
        let text =
            |path: &'static str| fs::read_to_string(path).map_err(LabError::file("read", path));
        let (received, sent) = interface(&text(DEVICES)?, "eth0")
            .ok_or(LabError::Counters { file: DEVICES, field: "eth0" })?;
        let field = |file: &'static str, group, field: &'static str| {
            table(&text(file)?, group, field).ok_or(LabError::Counters { file, field })
        };
        Ok(Counters {
            received,
            sent,
            retransmits: field(SNMP, "Tcp:", "RetransSegs")?,
            listen_overflows: field(NETSTAT, "TcpExt:", "ListenOverflows")?,
        })
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Counters) -> Counters {
        Counters {
            received: self.received.saturating_sub(earlier.received),
            sent: self.sent.saturating_sub(earlier.sent),
            retransmits: self.retransmits.saturating_sub(earlier.retransmits),
            listen_overflows: self.listen_overflows.saturating_sub(earlier.listen_overflows),
        }
    }
}

/// How often the machine's neighbour table was full, since the machine started: there is one table for
/// all namespaces, and a lab that overflows it loses packets for no reason of its own. `None` when
/// the kernel does not say.
pub fn neighbour_overflows() -> Option<u64> {
    column_sum(&fs::read_to_string("/proc/net/stat/arp_cache").ok()?, "table_fulls")
}

/// Received and sent bytes of a device in `/proc/net/dev`.
fn interface(text: &str, device: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| {
        let (name, rest) = line.split_once(':')?;
        (name.trim() == device).then_some(rest)
    })?;
    let fields: Vec<&str> = line.split_whitespace().collect();
    Some((fields.first()?.parse().ok()?, fields.get(8)?.parse().ok()?))
}

/// A field of a table where a line of names is followed by a line of numbers, both with the group's
/// name in front.
fn table(text: &str, group: &str, field: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let column = names.split_whitespace().position(|name| name == field)?;
    numbers.split_whitespace().nth(column)?.parse().ok()
}

/// Sum of a column of hexadecimal numbers below a line of names: one line per processor.
fn column_sum(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let column = lines.next()?.split_whitespace().position(|n| n == name)?;
    lines
        .map(|line| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok())
        .sum::<Option<u64>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_whole_name() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets\n\
                    veth0: 1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n  eth0:77 1 0 0 0 0 0 0 88 1 0 0 0 0 0 0\n";
        assert_eq!(interface(text, "eth0"), Some((77, 88)));
        assert_eq!(interface(text, "eth1"), None);
    }

    #[test]
    fn a_field_is_found_by_its_column() {
        let text = "Ip: A B\nIp: 1 2\nTcp: InSegs RetransSegs OutRsts\nTcp: 10 -1 3\n";
        assert_eq!(table(text, "Tcp:", "InSegs"), Some(10));
        assert_eq!(table(text, "Tcp:", "RetransSegs"), None, "not a count");
        assert_eq!(table(text, "Ip:", "B"), Some(2));
        assert_eq!(table(text, "Udp:", "B"), None);
    }

    #[test]
    fn processors_are_summed_up_in_hexadecimal() {
        let text = "entries  allocs table_fulls\n00000010 00000001 0000000a\n00000010 0 00000010\n";
        assert_eq!(column_sum(text, "table_fulls"), Some(26));
        assert_eq!(column_sum(text, "none"), None);
        assert_eq!(column_sum("a b\n1\n", "b"), None);
    }

    #[test]
    fn differences_never_go_below_zero() {
        let early = Counters { received: 5, sent: 1, retransmits: 9, listen_overflows: 0 };
        let late = Counters { received: 8, sent: 4, retransmits: 2, listen_overflows: 1 };
        let since = late.since(early);
        assert_eq!((since.received, since.sent, since.retransmits), (3, 3, 0));
    }
}
