//! Which network card is behind an address, as the kernel's table of neighbours has it.
//!
//! A boot script is asked for by MAC address, and anybody can write any into a URL. Who is in the same Ethernet
//! segment had to answer for its IP address with its card's own, though, before its first packet was answered;
//! who may not send raw packets on its machine cannot choose another. So what the table says against an asker is
//! believed. Where it says nothing (behind a router, over loopback, IPv6) nothing is known.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::node_id::NodeId;

/// Where the table is (proc_net(5)).
pub(crate) const TABLE: &str = "/proc/net/arp";

/// What was read is good for this long: a rack that boots at once asks in one second.
const FRESH: Duration = Duration::from_secs(1);

/// The table is read no more often than this, whoever asks: with 5,000 lines that takes a millisecond or two.
const PAUSE: Duration = Duration::from_millis(50);

/// `ARPHRD_ETHER`, and the flag of an entry that has an address.
const ETHERNET: &str = "0x1";
const COMPLETE: u32 = 2;

/// The table, read when it is needed.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    /// `None`: nobody is to be told from anybody.
    path: Option<PathBuf>,
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    at: Option<Instant>,
    table: HashMap<Ipv4Addr, NodeId>,
}

impl Neighbours {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self { path, read: Mutex::default() }
    }

    /// The card behind `ip`, when it is none of `macs`.
    pub(crate) fn contradict(&self, ip: IpAddr, macs: &[NodeId], now: Instant) -> Option<NodeId> {
        let (Some(path), IpAddr::V4(ip)) = (&self.path, ip.to_canonical()) else { return None };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let age = read.at.map(|at| now.saturating_duration_since(at));
        let agrees = |read: &Read| read.table.get(&ip).is_some_and(|mac| macs.contains(mac));
        // what is old is no proof, and what contradicts may have changed
        let good = age.is_some_and(|age| age < FRESH) && agrees(&read);
        if !good && age.is_none_or(|age| age >= PAUSE) {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            *read = Read { at: Some(now), table: text.lines().filter_map(entry).collect() };
        }
        read.table.get(&ip).filter(|mac| !macs.contains(mac)).copied()
    }
}

/// `IP address, HW type, Flags, HW address, Mask, Device`
fn entry(line: &str) -> Option<(Ipv4Addr, NodeId)> {
    let mut words = line.split_ascii_whitespace();
    let ip = words.next()?.parse().ok()?;
    let ethernet = words.next()? == ETHERNET;
    let flags = u32::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    let mac = words.next()?.parse().ok()?;
    (ethernet && flags & COMPLETE != 0).then_some((ip, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "IP address       HW type     Flags       HW address            Mask     Device\n";

    fn mac(number: u8) -> NodeId {
        NodeId([0x52, 0x54, 0, 0, 0, number])
    }

    fn line(host: u8, kind: &str, flags: &str, number: u8) -> String {
        format!(
            "10.0.0.{host:<9} {kind}         {flags}         {}     *        br0\n",
            mac(number)
        )
    }

    #[test]
    fn only_an_entry_with_another_card_contradicts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("arp");
        let text = [
            HEAD.to_owned(),
            line(1, "0x1", "0x2", 1),
            line(2, "0x1", "0x0", 2),
            line(3, "0x20", "0x2", 3),
            line(4, "0x1", "0x6", 4),
        ];
        std::fs::write(&path, text.concat()).unwrap();
        let neighbours = Neighbours::new(Some(path.clone()));
        let start = Instant::now();
        let ip = |host: u8| IpAddr::from([10, 0, 0, host]);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(neighbours.contradict(ip(1), &[mac(1)], at(0)), None);
        assert_eq!(neighbours.contradict(ip(1), &[mac(9), mac(1)], at(0)), None, "a second card");
        assert_eq!(neighbours.contradict(ip(1), &[mac(9)], at(0)), Some(mac(1)));
        let mapped = "::ffff:10.0.0.4".parse().unwrap();
        assert_eq!(neighbours.contradict(mapped, &[mac(9)], at(0)), Some(mac(4)));
        // unanswered, not Ethernet, behind a router, another family
        for unknown in [ip(2), ip(3), ip(5), "fe80::1".parse().unwrap()] {
            assert_eq!(neighbours.contradict(unknown, &[mac(9)], at(100)), None, "{unknown}");
        }
        // an address that has moved to another machine
        std::fs::write(&path, line(1, "0x1", "0x2", 9)).unwrap();
        assert_eq!(neighbours.contradict(ip(1), &[mac(9)], at(120)), Some(mac(1)), "just read");
        assert_eq!(neighbours.contradict(ip(1), &[mac(9)], at(200)), None);
        assert_eq!(neighbours.contradict(ip(1), &[mac(1)], at(300)), Some(mac(9)));
        // a table that cannot be read, or is not to be
        std::fs::remove_file(&path).unwrap();
        assert_eq!(neighbours.contradict(ip(1), &[mac(1)], at(9000)), None);
        assert_eq!(Neighbours::new(None).contradict(ip(1), &[mac(1)], at(0)), None);
    }

    #[test]
    fn the_kernels_own_table_is_understood() {
        let text = std::fs::read_to_string(TABLE).unwrap();
        let lines = text.lines().skip(1);
        let complete = lines.filter(|line| line.contains(" 0x1 ") && !line.contains(" 0x0 "));
        assert!(complete.clone().all(|line| entry(line).is_some()), "{text}");
    }
}
