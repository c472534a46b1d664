//! A node's link: its rate and delay, and the queueing rules that make them.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

/// A link rate in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitRate(u64);

impl BitRate {
    /// Millions of bits per second.
    pub const fn mbit(mega: u64) -> BitRate {
        BitRate(mega * 1_000_000)
    }

    /// Thousands of bits per second.
    pub const fn kbit(kilo: u64) -> BitRate {
        BitRate(kilo * 1_000)
    }

    /// Bits per second.
    pub const fn from_bits(bits: u64) -> BitRate {
        BitRate(bits)
    }

    /// A fraction of this rate, at least one bit per second.
    #[must_use]
    pub fn divided_by(self, divisor: NonZeroU32) -> BitRate {
        BitRate((self.0 / u64::from(divisor.get())).max(1))
    }

    /// Bits per second.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Bytes per second.
    pub const fn bytes(self) -> u64 {
        self.0 / 8
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(1_000_000_000, "Gbit"), (1_000_000, "Mbit"), (1_000, "kbit")] {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{}{name}", self.0 / unit);
            }
        }
        write!(f, "{}bit", self.0)
    }
}

/// The text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a rate; write a number and a unit: 500kbit, 100Mbit, 1Gbit")]
pub struct ParseRateError(String);

impl FromStr for BitRate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseRateError(text.to_owned());
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, unit) = text.split_at(split);
        let scale = match unit.to_ascii_lowercase().as_str() {
            "bit" => 1,
            "kbit" => 1_000,
            "mbit" => 1_000_000,
            "gbit" => 1_000_000_000,
            _ => return Err(bad()),
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        number.checked_mul(scale).filter(|bits| *bits > 0).map(BitRate).ok_or_else(bad)
    }
}

/// How a node is connected to the switch. Rate, delay and loss hold in each direction by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    rate: Option<BitRate>,
    uplink: Option<BitRate>,
    delay: Duration,
    loss: Loss,
    queue: Duration,
}

/// One of the two directions of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the node to the switch.
    Up,
    /// From the switch to the node.
    Down,
}

/// Share of packets that a link drops at random, in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loss {
    per_million: u32,
}

impl Loss {
    /// No packet.
    pub const NONE: Loss = Loss { per_million: 0 };
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.per_million) / 10_000.0)
    }
}

/// The text is not a share of packets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a share of packets below one half; write a percentage: 0.1%, 2%")]
pub struct ParseLossError(String);

impl FromStr for Loss {
    type Err = ParseLossError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
        let per_million = number.filter(|p| (0.0..50.0).contains(p)).map(|p| p * 10_000.0);
        // in range by the filter
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 500,000")]
        let per_million = per_million.map(|p| p.round() as u32);
        per_million
            .map(|per_million| Loss { per_million })
            .ok_or_else(|| ParseLossError(text.to_owned()))
    }
}

impl Link {
    /// A link of this rate, without added delay.
    pub const fn rate(rate: BitRate) -> Link {
        Link { rate: Some(rate), ..Link::unshaped() }
    }

    /// A link as fast as the machine can copy.
    pub const fn unshaped() -> Link {
        Link {
            rate: None,
            uplink: None,
            delay: Duration::ZERO,
            loss: Loss::NONE,
            queue: Duration::from_millis(50),
        }
    }

    /// Gives the direction from the node to the switch a rate of its own.
    #[must_use]
    pub const fn with_uplink(self, rate: BitRate) -> Link {
        Link { uplink: Some(rate), ..self }
    }

    /// Drops packets at random. Needs nftables, and a kernel with its `netdev` tables.
    #[must_use]
    pub const fn with_loss(self, loss: Loss) -> Link {
        Link { loss, ..self }
    }

    /// Adds a one-way delay in each direction. Needs a kernel with `sch_netem`.
    #[must_use]
    pub const fn with_delay(self, delay: Duration) -> Link {
        Link { delay, ..self }
    }

    /// How long a packet may wait in the link's queue before it is dropped (default 50 ms).
    #[must_use]
    pub const fn with_queue(self, queue: Duration) -> Link {
        Link { queue, ..self }
    }

    /// The rules, as `nft` takes them, that drop packets as they come in by `device`.
    pub(crate) fn nft_rules(&self, device: &str) -> Option<String> {
        let lost = self.loss.per_million;
        (lost > 0).then(|| {
            format!(
                "table netdev loss-{device} {{ chain drops {{ \
                 type filter hook ingress device {device} priority 0; \
                 numgen random mod 1000000 < {lost} drop; }}; }}"
            )
        })
    }

    /// Whether packets are delayed, which not every kernel can.
    pub(crate) fn has_delay(&self) -> bool {
        !self.delay.is_zero()
    }

    /// The `tc` lines that give `device` this link in the direction that it sends in, for one
    /// `tc -batch` run.
    pub(crate) fn tc_lines(&self, device: &str, direction: Direction) -> Vec<String> {
        let rate = match direction {
            Direction::Up => self.uplink.or(self.rate),
            Direction::Down => self.rate,
        };
        let mut lines = Vec::new();
        let mut parent = "root".to_owned();
        if !self.delay.is_zero() {
            // room for a full link during the delay, so that netem itself drops nothing
            let limit = rate.map_or(100_000, |rate| {
                (u128::from(rate.bytes()) * self.delay.as_micros() / 1_000_000 / 500 + 1_000)
                    .min(1_000_000)
            });
            lines.push(format!(
                "qdisc add dev {device} {parent} handle 1: netem delay {}us limit {limit}",
                self.delay.as_micros()
            ));
            parent = "parent 1:1".to_owned();
        }
        if let Some(rate) = rate {
            // tbf cuts a segment larger than the burst into packets; 64 KiB keeps offload whole,
            // and fast links need more than a timer tick's worth (4 ms)
            let burst = (rate.bytes() / 250).max(65_536);
            lines.push(format!(
                "qdisc add dev {device} {parent} handle 2: tbf rate {}bit burst {burst} latency {}us",
                rate.bits(),
                self.queue.as_micros()
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        for (text, bits) in
            [("100Mbit", 100_000_000), ("500kbit", 500_000), ("1gbit", 1_000_000_000), ("7bit", 7)]
        {
            let rate: BitRate = text.parse().unwrap();
            assert_eq!(rate.bits(), bits);
            assert_eq!(rate.to_string().parse::<BitRate>().unwrap(), rate);
        }
        for bad in ["", "100", "Mbit", "0Mbit", "-1Mbit", "1.5Mbit", "99999999999999999Gbit", "1MB"]
        {
            assert!(bad.parse::<BitRate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_link_shapes_by_tbf_under_netem() {
        let link = Link::rate(BitRate::mbit(8)).with_delay(Duration::from_millis(2));
        let lines = link.tc_lines("eth0", Direction::Up);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("netem delay 2000us"), "{lines:?}");
        assert!(lines[1].contains("parent 1:1") && lines[1].contains("tbf rate 8000000bit"));
        assert!(Link::unshaped().tc_lines("eth0", Direction::Up).is_empty());
    }

    #[test]
    fn a_thin_uplink_leaves_the_other_direction_alone() {
        let rate = BitRate::mbit(8);
        let half = rate.divided_by(NonZeroU32::new(2).unwrap());
        let link = Link::rate(rate).with_uplink(half);
        assert!(link.tc_lines("x", Direction::Up)[0].contains("rate 4000000bit"));
        assert!(link.tc_lines("x", Direction::Down)[0].contains("rate 8000000bit"));
    }

    #[test]
    fn loss_is_a_percentage() {
        let loss: Loss = "0.1%".parse().unwrap();
        assert_eq!((loss.per_million, loss.to_string().as_str()), (1_000, "0.1%"));
        let rules = Link::unshaped().with_loss(loss).nft_rules("sw3").unwrap();
        assert!(rules.contains("device sw3") && rules.contains("< 1000 drop"), "{rules}");
        assert_eq!(Link::unshaped().nft_rules("sw3"), None);
        for bad in ["", "1", "-1%", "50%", "x%", "nan%"] {
            assert!(bad.parse::<Loss>().is_err(), "{bad}");
        }
    }
}
