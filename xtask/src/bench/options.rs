//! The command line of `cargo xtask bench swarm`, and what it comes to.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::{Parser, ValueEnum};
use lab::{BitRate, Link, Loss};
use proto::units::ByteSize;

use super::contender::Client;
use super::outcome::Case;
use super::scenario::Scenario;

/// Arguments of `cargo xtask bench swarm`.
#[derive(Debug, Parser)]
pub(crate) struct SwarmArgs {
    /// The settings of one of the project's tables; options that are given as well win
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// What happens during a run; several, separated by commas, are measured one after another
    #[arg(long, value_enum, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Nodes that fetch; several numbers give the ratio over the number of nodes [default: 30]
    #[arg(long, value_delimiter = ',')]
    nodes: Vec<u32>,
    /// Rate of every link, each direction; may be several [default: 50Mbit]
    #[arg(long, value_delimiter = ',')]
    rate: Vec<BitRate>,
    /// Size of the image [default: 32MB]
    #[arg(long)]
    image: Option<ByteSize>,
    /// Length of a piece; the packer gives images of this size the same
    #[arg(long, default_value = "16KiB")]
    piece: ByteSize,
    /// Runs of each client, in turn; the table has the median; who has no swarm, or had no
    /// node done, is measured once [default: 1, presets: 5]
    #[arg(long)]
    runs: Option<u32>,
    /// Who takes part [default: beeswarm,ctorrent; presets: everybody]
    #[arg(long, value_enum, value_delimiter = ',')]
    clients: Vec<Client>,
    /// The other half of a mixed swarm
    #[arg(long, value_enum, default_value = "ctorrent")]
    mixed_with: Client,
    /// One-way delay that each link adds in each direction, such as 5ms (needs the kernel's netem)
    #[arg(long, value_parser = duration, default_value = "0ms")]
    delay: Duration,
    /// Share of packets that each link drops in each direction, such as 0.1% (needs nftables)
    #[arg(long, default_value = "0%")]
    loss: Loss,
    /// Nodes start spread over this time instead of all at once, such as 2s
    #[arg(long, value_parser = duration, default_value = "0ms")]
    start_jitter: Duration,
    /// Where the programs of Beeswarm are; built in release mode when not given
    #[arg(long)]
    pub(crate) programs: Option<PathBuf>,
    /// Folder for logs and results
    #[arg(long, default_value = "target/bench/swarm")]
    pub(crate) output: PathBuf,
    /// Keeps results, table and plots as docs/bench/NAME
    #[arg(long, value_name = "NAME")]
    pub(crate) publish: Option<String>,
    /// Gives up on a run after this many times the ideal; one that needs the sum of all images, for
    /// want of a swarm, has twice that sum when it is more
    #[arg(long, default_value_t = PATIENCE)]
    patience: u32,
}

/// Ideals after which a run is given up: the slowest client that is not stuck needs nine.
const PATIENCE: u32 = 12;

/// The tables that the project keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// 30 nodes, 25 and 50 Mbit/s, 32 MB
    Thirty,
    /// 100 nodes, 8 Mbit/s, 16 MB
    Hundred,
    /// 200 nodes, 2.5 Mbit/s, 16 MB
    TwoHundred,
    /// 5, 10, 20, 40 and 80 nodes, 8 Mbit/s, 16 MB: ratio and admin egress over the number of nodes
    Growth,
    /// Every scenario, 30 nodes, 25 Mbit/s, 32 MB
    Nasty,
}

/// What is measured: arguments with everything filled in.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) cases: Vec<Case>,
    pub(crate) image: ByteSize,
    pub(crate) piece: ByteSize,
    pub(crate) runs: u32,
    pub(crate) clients: Vec<Client>,
    pub(crate) mixed_with: Client,
    pub(crate) delay: Duration,
    pub(crate) loss: Loss,
    pub(crate) jitter: Duration,
    pub(crate) patience: u32,
}

impl Preset {
    fn nodes(self) -> Vec<u32> {
        match self {
            Preset::Thirty | Preset::Nasty => vec![30],
            Preset::Hundred => vec![100],
            Preset::TwoHundred => vec![200],
            Preset::Growth => vec![5, 10, 20, 40, 80],
        }
    }

    fn rates(self) -> Vec<BitRate> {
        match self {
            Preset::Thirty => vec![BitRate::mbit(25), BitRate::mbit(50)],
            Preset::Nasty => vec![BitRate::mbit(25)],
            Preset::Hundred | Preset::Growth => vec![BitRate::mbit(8)],
            Preset::TwoHundred => vec![BitRate::kbit(2_500)],
        }
    }

    fn image(self) -> ByteSize {
        ByteSize(match self {
            Preset::Thirty | Preset::Nasty => 32_000_000,
            Preset::Hundred | Preset::TwoHundred | Preset::Growth => 16_000_000,
        })
    }

    fn scenarios(self) -> Vec<Scenario> {
        match self {
            Preset::Nasty => Scenario::value_variants().to_vec(),
            _ => vec![Scenario::FlashCrowd],
        }
    }
}

impl SwarmArgs {
    /// Fills in presets and defaults.
    ///
    /// # Errors
    /// When there are too few nodes or runs for what is asked.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let preset = self.preset;
        let scenarios = or(&self.scenario, preset.map(Preset::scenarios), &[Scenario::FlashCrowd]);
        let nodes = or(&self.nodes, preset.map(Preset::nodes), &[30]);
        let rates = or(&self.rate, preset.map(Preset::rates), &[BitRate::mbit(50)]);
        let everybody = preset.map(|_| Client::value_variants().to_vec());
        let clients = or(&self.clients, everybody, &[Client::Beeswarm, Client::Ctorrent]);
        let runs = self.runs.unwrap_or(if preset.is_some() { 5 } else { 1 });
        let image = self.image.or(preset.map(Preset::image)).unwrap_or(ByteSize(32_000_000));
        ensure!(runs > 0 && self.patience > 0, "--runs and --patience must be at least 1");
        let mut cases = Vec::new();
        for scenario in scenarios {
            for rate in &rates {
                for nodes in &nodes {
                    let fewest = scenario.fewest_nodes();
                    ensure!(*nodes >= fewest, "{scenario} needs --nodes {fewest} or more");
                    cases.push(Case { scenario, nodes: *nodes, bits_per_second: rate.bits() });
                }
            }
        }
        Ok(Settings {
            cases,
            image,
            piece: self.piece,
            runs,
            clients,
            mixed_with: self.mixed_with,
            delay: self.delay,
            loss: self.loss,
            jitter: self.start_jitter,
            patience: self.patience,
        })
    }
}

/// Longest wait in front of a link.
const QUEUE: Duration = Duration::from_millis(50);

/// Bytes that a port of a switch keeps at least. Slow links stand for fast ones with more nodes than
/// this machine could feed: so they keep as many packets, not as many milliseconds.
const PORT_BUFFER: f64 = 160_000.0;

impl Settings {
    /// One flash crowd of ours, once.
    pub(crate) fn crowd(nodes: u32, rate: BitRate, image: ByteSize, piece: ByteSize) -> Settings {
        let scenario = Scenario::FlashCrowd;
        Settings {
            cases: vec![Case { scenario, nodes, bits_per_second: rate.bits() }],
            image,
            piece,
            runs: 1,
            clients: vec![Client::Beeswarm],
            mixed_with: Client::Ctorrent,
            delay: Duration::ZERO,
            loss: Loss::NONE,
            jitter: Duration::ZERO,
            patience: PATIENCE,
        }
    }

    /// A link with this rate, and with the delay and loss of every link.
    pub(crate) fn link(&self, rate: BitRate) -> Link {
        let queue = Duration::from_secs_f64(PORT_BUFFER / rate.bytes() as f64).max(QUEUE);
        Link::rate(rate).with_delay(self.delay).with_loss(self.loss).with_queue(queue)
    }
}

/// What was given; else the preset's; else the default.
fn or<T: Clone>(given: &[T], preset: Option<Vec<T>>, default: &[T]) -> Vec<T> {
    match (given, preset) {
        ([], Some(preset)) => preset,
        ([], None) => default.to_vec(),
        (given, _) => given.to_vec(),
    }
}

/// `250ms`, `1.5s`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, scale) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(""), 1.0),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * scale);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|duration| *duration <= Duration::from_secs(60))
        .ok_or_else(|| "write a time of at most a minute: 20ms, 1.5s".to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings(line: &str) -> anyhow::Result<Settings> {
        SwarmArgs::try_parse_from(["swarm"].into_iter().chain(line.split_whitespace()))?.settings()
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1_500)));
        for bad in ["", "5", "ms", "-1s", "1h", "61s", "nans"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_combination_is_a_case() {
        let settings =
            settings("--nodes 10,30 --rate 25Mbit,50Mbit --scenario reboot,mixed").unwrap();
        assert_eq!(settings.cases.len(), 8);
        assert_eq!(settings.cases[1].nodes, 30);
        assert_eq!(settings.cases[2].bits_per_second, 50_000_000);
        assert_eq!(settings.cases[7].scenario, Scenario::Mixed);
    }

    #[test]
    fn a_preset_gives_way_to_options() {
        let plain = settings("--preset thirty").unwrap();
        assert_eq!((plain.cases.len(), plain.runs, plain.image), (2, 5, ByteSize(32_000_000)));
        assert_eq!(plain.clients, Client::value_variants());
        let less = settings("--preset nasty --runs 1 --scenario liars --clients beeswarm").unwrap();
        assert_eq!((less.cases.len(), less.runs, less.clients.len()), (1, 1, 1));
        assert_eq!(settings("--preset two-hundred").unwrap().cases[0].nodes, 200);
        let hundred = settings("--preset hundred --rate 4Mbit").unwrap().cases;
        assert_eq!((hundred.len(), hundred[0].bits_per_second), (1, 4_000_000));
        let growth = settings("--preset growth").unwrap();
        let nodes: Vec<u32> = growth.cases.iter().map(|case| case.nodes).collect();
        assert_eq!(nodes, [5, 10, 20, 40, 80]);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        assert!(settings("--nodes 0").is_err());
        assert!(settings("--runs 0").is_err());
        let error = settings("--scenario mixed --nodes 2").unwrap_err().to_string();
        assert!(error.contains("mixed needs --nodes 4"), "{error}");
    }
}
