//! The one link that booting over HTTP would be stuck at: that of the admin host.

use std::fs;
use std::path::Path;

/// What it can carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Bytes per second.
    pub(crate) rate: u64,
    /// How that is known.
    pub(crate) source: String,
}

impl Link {
    /// As configured, or else that of the fastest card with a carrier. Bridges and virtual cards say
    /// nothing useful, so only cards with a device behind them count.
    pub(crate) fn find(configured: Option<u64>, net: &Path) -> Option<Self> {
        if let Some(rate) = configured {
            return Some(Self { rate, source: "--admin-link".to_owned() });
        }
        let cards = fs::read_dir(net).ok()?.filter_map(Result::ok);
        let speeds = cards.filter(|card| card.path().join("device").exists()).filter_map(|card| {
            let megabits: i64 = read(&card.path().join("speed"))?.parse().ok()?;
            let carrier = read(&card.path().join("carrier"))? == "1";
            // -1: not known
            let rate = u64::try_from(megabits).ok().filter(|rate| carrier && *rate > 0)?;
            Some((rate, card.file_name().to_string_lossy().into_owned()))
        });
        let (megabits, card) = speeds.max()?;
        let rate = megabits.saturating_mul(1_000_000) / 8;
        Some(Self { rate, source: format!("card {card} of this host") })
    }
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_card_with_a_carrier_unless_configured() {
        let dir = tempfile::tempdir().unwrap();
        let card = |name: &str, speed: &str, carrier: &str, real: bool| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("speed"), speed).unwrap();
            fs::write(path.join("carrier"), carrier).unwrap();
            if real {
                fs::create_dir(path.join("device")).unwrap();
            }
        };
        assert_eq!(Link::find(None, dir.path()), None);
        card("veth0", "10000\n", "1\n", false);
        card("eth2", "-1\n", "1\n", true);
        assert_eq!(Link::find(None, dir.path()), None);
        card("eth0", "1000\n", "1\n", true);
        card("eth1", "100000\n", "0\n", true);
        let found = Link::find(None, dir.path()).unwrap();
        assert_eq!((found.rate, found.source.as_str()), (125_000_000, "card eth0 of this host"));
        assert_eq!(Link::find(Some(5), dir.path()).unwrap().rate, 5);
    }
}
