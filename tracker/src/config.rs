//! Settings of the tracker: flag > environment > TOML file > default.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::units::ByteRate;
use serde::Deserialize;
use store::{Channel, RevisionName};

use crate::boot::values::{BaseUrl, KernelArgs};
use crate::cli::Cli;
use crate::error::ConfigError;
use crate::neighbours;
use crate::nodes::node::SEEDER_PATIENCE;
use crate::power;
use crate::tls::Tls;

/// TCP port of the tracker.
pub const DEFAULT_PORT: u16 = 6969;

/// Everything the server needs to know. [`Default`] is what an empty command line gives.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// Whether [`Config::listen`] is the default, which falls back to IPv4 on a host without IPv6.
    pub listen_is_default: bool,
    /// Where to answer announces over UDP, if at all.
    pub udp: Option<SocketAddr>,
    /// The revision store, if any.
    pub store: Option<PathBuf>,
    /// Where nodes fetch kernel and initrd; otherwise [`crate::boot::IMAGE_PORT`] of the host the
    /// request was made to.
    pub image_url: Option<BaseUrl>,
    /// Channel that nodes boot from.
    pub channel: Channel,
    /// Image that nodes boot, when the channel has several.
    pub image: Option<RevisionName>,
    /// Further kernel arguments.
    pub kernel_args: KernelArgs,
    /// Where state is kept; `None`: in memory only.
    pub state: Option<PathBuf>,
    /// The inventory, if any.
    pub inventory: Option<PathBuf>,
    /// For nodes without an image.
    pub nothing_to_boot: NothingToBoot,
    /// Whether booting nodes get kernel and initrd from running ones that serve them.
    pub mirrors: Mirrors,
    /// Where signatures of kernel and initrd for iPXE's `imgverify` are.
    pub imgverify: Option<BaseUrl>,
    /// The kernel's table of who has which address (proc_net(5)), to tell who asks for a boot script;
    /// `None`: whoever asks is believed.
    pub neighbours: Option<PathBuf>,
    /// iPXE's programs for UEFI HTTP boot; `None`: where distributions put them.
    pub ipxe: Option<PathBuf>,
    /// For events that anybody may have sent.
    pub events_without_token: EventsWithoutToken,
    /// What the admin host's link carries, for the status page.
    pub admin_link: Option<ByteRate>,
    /// Time from the end of a node's initrd until its re-seeder must have reported.
    pub seeder_patience: Duration,
    /// HTTPS beside plain HTTP, if at all.
    pub tls: Option<Tls>,
    /// How nodes are rebooted, if at all.
    pub reimage: Option<power::Settings>,
    /// Bounds of memory and connections.
    pub limits: Limits,
}

/// What a node does for which there is nothing to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum NothingToBoot {
    /// Shows the reason and asks again.
    #[default]
    Wait,
    /// Leaves iPXE, so that the firmware goes on to its next device.
    Disk,
}

/// Whether running nodes hand kernel and initrd to booting ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mirrors {
    /// They do not: all come from the admin host.
    #[default]
    Off,
    /// They do, and iPXE verifies what they hand out: `imgverify` says by which signatures.
    Verified,
    /// They do, and are believed: whoever can use a port of a node can give others another kernel.
    Unverified,
}

/// Who gets a boot token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TokensFor {
    /// Nobody whom the kernel's table of neighbours shows to be another machine.
    #[default]
    Neighbours,
    /// Whoever asks: for nodes behind a proxy or a router that shows its own address for theirs.
    Anybody,
}

/// What becomes of events without the token of the node's boot script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum EventsWithoutToken {
    /// They are taken, and the node is shown as not authenticated.
    #[default]
    Accept,
    /// They are refused with status 403. The node boots all the same, but is not seen.
    Refuse,
}

/// The configuration file. Every field may be left out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Address and port to listen on, text. Default `"[::]:6969"`, which takes IPv4 as well.
    listen: Option<SocketAddr>,
    /// Address and port for announces over UDP, text, for example `"[::]:6969"`, which takes IPv4 as well.
    /// Default: none, no UDP.
    udp: Option<SocketAddr>,
    /// Directory of the revision store, text. Default: none, every torrent is tracked.
    store: Option<PathBuf>,
    /// Base URL (http) under which nodes find `/revisions/…`, text. Default: port 8080 of the host
    /// name the node used.
    image_url: Option<String>,
    /// Channel that nodes boot from, text. Default `"stable"`.
    channel: Option<String>,
    /// Image that nodes boot, text. Default: the only one in the channel.
    image: Option<String>,
    /// Further kernel arguments for every node, text. Default none.
    kernel_args: Option<String>,
    /// Directory for what must outlive a restart, text. Default: `$STATE_DIRECTORY`, else none.
    state: Option<PathBuf>,
    /// Names and settings of nodes, path of a TOML or CSV file. Default none.
    inventory: Option<PathBuf>,
    /// `"wait"` or `"disk"`. Default `"wait"`.
    nothing_to_boot: Option<NothingToBoot>,
    /// `"off"`, `"verified"` (needs `imgverify`) or `"unverified"`. Default `"off"`.
    mirrors: Option<Mirrors>,
    /// Base URL (http) of signatures of kernel and initrd, text. Default none.
    imgverify: Option<String>,
    /// Folder of iPXE's programs, text. Default: where distributions put them.
    ipxe: Option<PathBuf>,
    /// `"neighbours"` or `"anybody"`. Default `"neighbours"`.
    tokens_for: Option<TokensFor>,
    /// `"accept"` or `"refuse"`. Default `"accept"`.
    events_without_token: Option<EventsWithoutToken>,
    /// Speed of the admin host's link for the status page, text, for example `"10Gbit"`. Default: that of the
    /// fastest network card with a carrier, as the kernel tells it.
    admin_link: Option<String>,
    /// Seconds that a system takes from the end of its initrd until its re-seeder reports; who takes longer is shown
    /// as stuck. Default 120.
    seeder_patience_secs: Option<u64>,
    /// HTTPS beside plain HTTP. Default: none.
    tls: Option<Tls>,
    /// How `bee-packer reimage` reboots nodes. Default: it does not, but for `--at-next-boot`.
    reimage: Option<power::File>,
    /// Bounds of memory and connections.
    #[serde(default)]
    limits: Limits,
}

/// Bounds; what was not heard for the longest time gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Torrents tracked without a store (with one: those it has published). Default 1000.
    pub torrents: usize,
    /// Peers of one torrent. Default 20000, about 5 MB.
    pub peers_per_torrent: usize,
    /// Peers of one torrent with one address, on different ports, loopback excepted. Default 64.
    pub peers_per_address: usize,
    /// Nodes remembered; those of the inventory are forgotten last. Default 20000.
    pub nodes: usize,
    /// Boot events remembered per node, about 150 bytes each. Default 100.
    pub events_per_node: usize,
    /// Boots that are over, remembered per node on disk, about 500 bytes each, with the end of its console (6 KB at
    /// most) where one ended in trouble. Default 20.
    pub past_boots: usize,
    /// Changes of channels remembered on disk. Default 5000.
    pub history: usize,
    /// Connections open at once; more wait in the kernel's queue. Default 4096.
    pub connections: usize,
    /// Connections open at once from one address, loopback excepted. Default 256.
    pub connections_per_address: usize,
    /// Requests per second of one address (IPv4, or a /64), over HTTP and UDP together; twice as many may come at
    /// once. Default 500, loopback excepted.
    pub requests_per_second: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            torrents: 1000,
            peers_per_torrent: 20_000,
            peers_per_address: 64,
            nodes: 20_000,
            events_per_node: 100,
            past_boots: 20,
            history: 5000,
            connections: 4096,
            connections_per_address: 256,
            requests_per_second: None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT)),
            listen_is_default: true,
            udp: None,
            store: None,
            image_url: None,
            channel: Channel::default(),
            image: None,
            kernel_args: KernelArgs::default(),
            state: None,
            inventory: None,
            nothing_to_boot: NothingToBoot::default(),
            mirrors: Mirrors::Off,
            imgverify: None,
            neighbours: Some(neighbours::TABLE.into()),
            ipxe: None,
            events_without_token: EventsWithoutToken::default(),
            admin_link: None,
            seeder_patience: SEEDER_PATIENCE,
            tls: None,
            reimage: None,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Merges the command line (which already holds the environment), the file it names, and defaults.
    ///
    /// # Errors
    /// When the file cannot be read or has an unknown field, or a value is not valid; the text names
    /// which.
    pub fn load(cli: Cli) -> Result<Self, ConfigError> {
        let file = cli.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let listen = cli.listen.or(file.listen);
        let default = Self::default();
        let limits = file.limits.check()?;
        let mirrors = cli.mirrors.or(file.mirrors).unwrap_or_default();
        let imgverify = value("imgverify", cli.imgverify.or(file.imgverify), |s| s.parse())?;
        if mirrors == Mirrors::Verified && imgverify.is_none() {
            return Err(ConfigError::Setting(
                "mirrors hand kernels to machines that cannot check them by themselves: say by which signatures \
                 iPXE does (imgverify), or that everybody who can use a port of a node is trusted (mirrors = \
                 \"unverified\", --mirrors=unverified)"
                    .into(),
            ));
        }
        Ok(Self {
            listen: listen.unwrap_or(default.listen),
            listen_is_default: listen.is_none(),
            udp: cli.udp.or(file.udp),
            store: cli.store.or(file.store),
            image_url: value("image_url", cli.image_url.or(file.image_url), |s| s.parse())?,
            channel: value("channel", cli.channel.or(file.channel), Channel::new)?
                .unwrap_or_default(),
            image: value("image", cli.image.or(file.image), RevisionName::new)?,
            kernel_args: value("kernel_args", cli.kernel_args.or(file.kernel_args), |s| s.parse())?
                .unwrap_or_default(),
            state: cli.state.or(file.state).or_else(state_directory),
            inventory: cli.inventory.or(file.inventory),
            nothing_to_boot: cli.nothing_to_boot.or(file.nothing_to_boot).unwrap_or_default(),
            mirrors,
            imgverify,
            neighbours: match cli.tokens_for.or(file.tokens_for).unwrap_or_default() {
                TokensFor::Neighbours => default.neighbours,
                TokensFor::Anybody => None,
            },
            ipxe: cli.ipxe.or(file.ipxe),
            events_without_token: cli
                .events_without_token
                .or(file.events_without_token)
                .unwrap_or_default(),
            admin_link: value("admin_link", cli.admin_link.or(file.admin_link), |s| s.parse())?,
            seeder_patience: match file.seeder_patience_secs {
                Some(0) => {
                    return Err(ConfigError::Setting("seeder_patience_secs cannot be 0".into()));
                }
                seconds => seconds.map_or(SEEDER_PATIENCE, Duration::from_secs),
            },
            tls: file.tls,
            reimage: file.reimage.map(power::File::check).transpose()?,
            limits,
        })
    }
}

impl Limits {
    fn check(self) -> Result<Self, ConfigError> {
        let all = [
            ("torrents", self.torrents),
            ("peers_per_torrent", self.peers_per_torrent),
            ("peers_per_address", self.peers_per_address),
            ("nodes", self.nodes),
            ("events_per_node", self.events_per_node),
            ("past_boots", self.past_boots),
            ("history", self.history),
            ("connections", self.connections),
            ("connections_per_address", self.connections_per_address),
            ("requests_per_second", self.requests_per_second.unwrap_or(1)),
        ];
        match all.into_iter().find(|(_, number)| *number == 0) {
            Some((field, _)) => Err(ConfigError::ZeroLimit { field }),
            None => Ok(self),
        }
    }
}

/// `StateDirectory=` of the unit; of several the first.
fn state_directory() -> Option<PathBuf> {
    let given = std::env::var("STATE_DIRECTORY").ok()?;
    given.split(':').find(|dir| !dir.is_empty()).map(PathBuf::from)
}

fn value<T, E: std::error::Error + Send + Sync + 'static>(
    field: &'static str,
    text: Option<String>,
    parse: impl FnOnce(String) -> Result<T, E>,
) -> Result<Option<T>, ConfigError> {
    text.map(|text| {
        parse(text.clone()).map_err(|e| ConfigError::Value { field, text, source: Box::new(e) })
    })
    .transpose()
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str, cli: Cli) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tracker.toml");
        std::fs::write(&path, toml).unwrap();
        Config::load(Cli { config: Some(path), ..cli })
    }

    #[test]
    fn the_flag_wins_over_the_file_and_the_file_over_the_default() {
        let toml = "listen = '127.0.0.1:1'\nchannel = 'gpu'\nkernel_args = 'quiet'\n\
                    [limits]\nnodes = 5\n";
        let cli = Cli { channel: Some("canary".into()), ..Cli::default() };
        let config = load(toml, cli).unwrap();
        assert_eq!(config.listen, "127.0.0.1:1".parse().unwrap());
        assert_eq!(config.channel.as_str(), "canary");
        assert_eq!(config.kernel_args.to_string(), "quiet");
        assert_eq!(config.limits, Limits { nodes: 5, ..Limits::default() });
        assert!(config.store.is_none() && !config.listen_is_default);
    }

    #[test]
    fn mirrors_need_signatures_or_a_word() {
        let error = load("mirrors = 'verified'", Cli::default()).unwrap_err().to_string();
        assert!(error.contains("imgverify") && error.contains("--mirrors=unverified"), "{error}");
        assert_eq!(
            load("mirrors = 'unverified'", Cli::default()).unwrap().mirrors,
            Mirrors::Unverified
        );
        let config = load("imgverify = 'http://a/sig'\nmirrors = 'verified'", Cli::default());
        assert_eq!(config.unwrap().mirrors, Mirrors::Verified);
        assert!(load("tokens_for = 'anybody'", Cli::default()).unwrap().neighbours.is_none());
    }

    #[test]
    fn nothing_given_is_the_default() {
        let config = Config::load(Cli::default()).unwrap();
        assert_eq!(config.listen, "[::]:6969".parse().unwrap());
        assert_eq!(config.channel.as_str(), "stable");
    }

    #[test]
    fn errors_name_the_field() {
        for (toml, expected) in [
            ("listne = 'x'", "listne"),
            ("listen = 'nonsense'", "listen"),
            ("image_url = 'ftp://x'", "image_url"),
            ("channel = '../x'", "channel"),
            ("kernel_args = \"a\\nb\"", "kernel_args"),
            ("nothing_to_boot = 'reboot'", "nothing_to_boot"),
            ("admin_link = 'fast'", "admin_link"),
            ("events_without_token = 1", "events_without_token"),
            ("seeder_patience_secs = 0", "seeder_patience_secs"),
            ("[limits]\nnodes = 0", "limits.nodes"),
            ("[limits]\nnode = 1", "node"),
        ] {
            let error = anyhow::Error::from(load(toml, Cli::default()).unwrap_err());
            let text = format!("{error:#}");
            assert!(text.contains(expected), "{toml}: {text}");
        }
        let missing = Cli { config: Some("/nonexistent/x.toml".into()), ..Cli::default() };
        assert!(Config::load(missing).unwrap_err().to_string().contains("/nonexistent/x.toml"));
    }
}
