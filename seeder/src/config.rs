//! Settings of the three commands: flag, environment, file, default.
//!
//! One structure per command serves both the command line (clap, which also reads the
//! environment) and the file (serde). What the command line left open is taken from the file.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use proto::boot_record::BOOT_RECORD_PATH;
use proto::units::ByteRate;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::exit::EXIT_CODES;

/// Port of the peer wire unless told otherwise.
const PEER_PORT: u16 = 6881;

/// Port of HTTP unless told otherwise.
const HTTP_PORT: u16 = 8080;

/// User that a node seeds as unless told otherwise.
const NODE_USER: &str = "beeswarm-node";

/// Settings that do not work.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The settings file cannot be read.
    #[error("cannot read the settings file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system call said.
        #[source]
        source: io::Error,
    },
    /// The settings file is not valid.
    #[error("the settings file {} is not valid", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: toml::de::Error,
    },
    /// A setting without a default is missing.
    #[error("{flag} is missing: give the flag, or `{key}` in the settings file")]
    Missing {
        /// The flag.
        flag: &'static str,
        /// The key in the file.
        key: &'static str,
    },
    /// Everything is turned off.
    #[error("--no-swarm and --no-http together leave nothing to do: take one away")]
    NothingToDo,
}

/// Settings of `seed`, as far as they were given.
#[derive(Debug, Default, Clone, Args, Deserialize)]
#[command(after_help = EXIT_CODES)]
#[serde(default, deny_unknown_fields)]
pub struct SeedOptions {
    /// Torrent file
    #[arg(long, value_name = "FILE", env = "BEESWARM_SEEDER_TORRENT")]
    pub torrent: Option<PathBuf>,
    /// Image: a file or a block device; it is opened read-only
    #[arg(long, value_name = "PATH", env = "BEESWARM_SEEDER_DATA")]
    pub data: Option<PathBuf>,
    /// Address for peers [default: port 6881 of every address, IPv6 and IPv4]
    #[arg(long, value_name = "ADDR:PORT", env = "BEESWARM_SEEDER_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Most that is sent to peers, such as 800Mbit [default: no limit]
    #[arg(long, value_name = "RATE", env = "BEESWARM_SEEDER_UPLOAD_LIMIT")]
    pub upload_limit: Option<ByteRate>,
    /// Most that is sent to one peer, such as 80Mbit [default: no limit]
    #[arg(long, value_name = "RATE", env = "BEESWARM_SEEDER_UPLOAD_LIMIT_PER_PEER")]
    pub upload_limit_per_peer: Option<ByteRate>,
    /// Do not look for peers on this network by multicast (local service discovery)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", env = "BEESWARM_SEEDER_NO_LSD")]
    pub no_lsd: Option<bool>,
    /// Announce URL (http or udp), instead of those in the torrent; may be repeated
    #[arg(long, value_name = "URL", env = "BEESWARM_SEEDER_TRACKER", value_delimiter = ',')]
    pub tracker: Vec<String>,
}

/// Settings of `watch`, as far as they were given.
#[derive(Debug, Default, Clone, Args, Deserialize)]
#[command(after_help = EXIT_CODES)]
#[serde(default, deny_unknown_fields)]
pub struct WatchOptions {
    /// Store that `bee-packer` writes
    #[arg(long, value_name = "DIR", env = "BEESWARM_SEEDER_STORE")]
    pub store: Option<PathBuf>,
    /// Address for peers [default: port 6881 of every address, IPv6 and IPv4]
    #[arg(long, value_name = "ADDR:PORT", env = "BEESWARM_SEEDER_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Address for HTTP [default: port 8080 of every address, IPv6 and IPv4]
    #[arg(long, value_name = "ADDR:PORT", env = "BEESWARM_SEEDER_HTTP")]
    pub http: Option<SocketAddr>,
    /// Most that is sent to peers, such as 800Mbit; HTTP is not counted [default: no limit]
    #[arg(long, value_name = "RATE", env = "BEESWARM_SEEDER_UPLOAD_LIMIT")]
    pub upload_limit: Option<ByteRate>,
    /// HTTP connections served at once; others get 503 and try again [default: 512]
    #[arg(long, value_name = "N", env = "BEESWARM_SEEDER_HTTP_CONNECTIONS")]
    pub http_connections: Option<u16>,
    /// Of these, from one address; loopback is not counted [default: 64]
    #[arg(long, value_name = "N", env = "BEESWARM_SEEDER_HTTP_CONNECTIONS_PER_ADDRESS")]
    pub http_connections_per_address: Option<u16>,
    /// Most that is sent to one peer, such as 80Mbit [default: no limit]
    #[arg(long, value_name = "RATE", env = "BEESWARM_SEEDER_UPLOAD_LIMIT_PER_PEER")]
    pub upload_limit_per_peer: Option<ByteRate>,
    /// Do not look for peers on this network by multicast (local service discovery)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", env = "BEESWARM_SEEDER_NO_LSD")]
    pub no_lsd: Option<bool>,
    /// Announce URL (http or udp), instead of those in the torrents; may be repeated
    #[arg(long, value_name = "URL", env = "BEESWARM_SEEDER_TRACKER", value_delimiter = ',')]
    pub tracker: Vec<String>,
    /// Do not seed: HTTP only, for example while the host's link is needed for other work
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", env = "BEESWARM_SEEDER_NO_SWARM")]
    pub no_swarm: Option<bool>,
    /// Do not serve over HTTP: peer wire only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", env = "BEESWARM_SEEDER_NO_HTTP")]
    pub no_http: Option<bool>,
    /// Serve everything but the image over HTTP. Together with --no-swarm this takes the host out
    /// of the image's way: nodes boot with its kernel and initrd and take the image from each other
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", env = "BEESWARM_SEEDER_HTTP_EXCLUDE_IMAGE")]
    pub http_exclude_image: Option<bool>,
}

/// Settings of `node`, as far as they were given.
#[derive(Debug, Default, Clone, Args, Deserialize)]
#[command(after_help = EXIT_CODES)]
#[serde(default, deny_unknown_fields)]
pub struct NodeOptions {
    /// What the boot left behind [default: /run/beeswarm/boot.json]
    #[arg(long, value_name = "FILE", env = "BEESWARM_SEEDER_BOOT_RECORD")]
    pub boot_record: Option<PathBuf>,
    /// Address for peers [default: port 6881 of every address, IPv6 and IPv4]
    #[arg(long, value_name = "ADDR:PORT", env = "BEESWARM_SEEDER_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Most that is sent to peers, such as 200Mbit [default: as in the boot record]
    #[arg(long, value_name = "RATE", env = "BEESWARM_SEEDER_UPLOAD_LIMIT")]
    pub upload_limit: Option<ByteRate>,
    /// Most that is sent to one peer, such as 80Mbit [default: no limit]
    #[arg(long, value_name = "RATE", env = "BEESWARM_SEEDER_UPLOAD_LIMIT_PER_PEER")]
    pub upload_limit_per_peer: Option<ByteRate>,
    /// Do not look for peers on this network by multicast (local service discovery)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", env = "BEESWARM_SEEDER_NO_LSD")]
    pub no_lsd: Option<bool>,
    /// Announce URL (http or udp), instead of those in the boot record; may be repeated
    #[arg(long, value_name = "URL", env = "BEESWARM_SEEDER_TRACKER", value_delimiter = ',')]
    pub tracker: Vec<String>,
    /// Address to serve kernel and initrd of this node's revision on, over HTTP, for nodes that boot next,
    /// such as `[::]:8080`; they are fetched again and kept in memory, 20 to 40 MB. The tracker sends nodes
    /// here with --mirrors [default: they are not served]
    #[arg(long, value_name = "ADDR:PORT", env = "BEESWARM_SEEDER_NODE_HTTP")]
    pub http: Option<SocketAddr>,
    /// User to become once the device is open [default: beeswarm-node]
    #[arg(long, value_name = "NAME", env = "BEESWARM_SEEDER_USER")]
    pub user: Option<String>,
    /// Group to become [default: the user's own]
    #[arg(long, value_name = "NAME", env = "BEESWARM_SEEDER_GROUP")]
    pub group: Option<String>,
    /// Nice value, 0 to 19: the node's own work goes first [default: 10]
    #[arg(long, value_name = "N", env = "BEESWARM_SEEDER_NICE",
          value_parser = clap::value_parser!(i32).range(0..=19))]
    pub nice: Option<i32>,
}

/// Settings of `seed`.
#[derive(Debug, Clone)]
pub struct SeedSettings {
    /// Torrent file.
    pub torrent: PathBuf,
    /// File or block device.
    pub data: PathBuf,
    /// Peer wire.
    pub peers: PeerSettings,
}

/// Settings of the peer wire.
#[derive(Debug, Clone)]
pub struct PeerSettings {
    /// Address for peers.
    pub listen: SocketAddr,
    /// Most that is sent, in bytes per second.
    pub upload_limit: Option<ByteRate>,
    /// Most that is sent to one peer, in bytes per second.
    pub upload_limit_per_peer: Option<ByteRate>,
    /// Look for peers by multicast; `None`: not said.
    pub local_discovery: Option<bool>,
    /// Announce URLs in tiers, instead of those known otherwise.
    pub trackers: Option<Vec<Vec<String>>>,
}

/// Settings of `watch`.
#[derive(Debug, Clone)]
pub struct WatchSettings {
    /// Root of the store.
    pub store: PathBuf,
    /// Peer wire; `None`: not at all.
    pub peers: Option<PeerSettings>,
    /// HTTP; `None`: not at all.
    pub http: Option<crate::http::HttpConfig>,
}

/// Settings of `node`.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// The boot record.
    pub boot_record: PathBuf,
    /// Peer wire.
    pub peers: PeerSettings,
    /// Where kernel and initrd are served; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// User to become.
    pub user: String,
    /// Group to become; `None`: the user's own.
    pub group: Option<String>,
    /// Nice value.
    pub nice: i32,
}

/// Reads the settings file, if one is named.
///
/// # Errors
/// [`ConfigError::Read`], [`ConfigError::Parse`].
pub fn read<T: DeserializeOwned + Default>(path: Option<&Path>) -> Result<T, ConfigError> {
    let Some(path) = path else { return Ok(T::default()) };
    let text = std::fs::read_to_string(path)
        .map_err(|e| ConfigError::Read { path: path.into(), source: e })?;
    toml::from_str(&text).map_err(|e| ConfigError::Parse { path: path.into(), source: e })
}

impl SeedOptions {
    /// Completes the settings from the file and the defaults.
    ///
    /// # Errors
    /// [`ConfigError::Missing`].
    pub fn resolve(self, file: Self) -> Result<SeedSettings, ConfigError> {
        let missing = |flag, key| ConfigError::Missing { flag, key };
        Ok(SeedSettings {
            torrent: self.torrent.or(file.torrent).ok_or(missing("--torrent", "torrent"))?,
            data: self.data.or(file.data).ok_or(missing("--data", "data"))?,
            peers: PeerSettings {
                listen: self.listen.or(file.listen).unwrap_or(any(PEER_PORT)),
                upload_limit: self.upload_limit.or(file.upload_limit),
                upload_limit_per_peer: self.upload_limit_per_peer.or(file.upload_limit_per_peer),
                local_discovery: self.no_lsd.or(file.no_lsd).map(|no| !no),
                trackers: tiers(self.tracker, file.tracker),
            },
        })
    }
}

impl WatchOptions {
    /// Completes the settings from the file and the defaults.
    ///
    /// # Errors
    /// [`ConfigError::Missing`], [`ConfigError::NothingToDo`].
    pub fn resolve(self, file: Self) -> Result<WatchSettings, ConfigError> {
        let on = |flag: Option<bool>, file: Option<bool>| flag.or(file).unwrap_or(false);
        let peers = (!on(self.no_swarm, file.no_swarm)).then(|| PeerSettings {
            listen: self.listen.or(file.listen).unwrap_or(any(PEER_PORT)),
            upload_limit: self.upload_limit.or(file.upload_limit),
            upload_limit_per_peer: self.upload_limit_per_peer.or(file.upload_limit_per_peer),
            local_discovery: self.no_lsd.or(file.no_lsd).map(|no| !no),
            trackers: tiers(self.tracker, file.tracker),
        });
        let http = (!on(self.no_http, file.no_http)).then(|| {
            let address = self.http.or(file.http).unwrap_or(any(HTTP_PORT));
            let mut http = crate::http::HttpConfig::new(address);
            if let Some(count) = self.http_connections.or(file.http_connections) {
                http.max_connections = usize::from(count);
            }
            let per_address =
                self.http_connections_per_address.or(file.http_connections_per_address);
            if let Some(count) = per_address {
                http.max_per_address = usize::from(count);
            }
            if on(self.http_exclude_image, file.http_exclude_image) {
                http.scope = crate::http::Scope::WithoutImage;
            }
            http
        });
        if peers.is_none() && http.is_none() {
            return Err(ConfigError::NothingToDo);
        }
        let missing = ConfigError::Missing { flag: "--store", key: "store" };
        Ok(WatchSettings { store: self.store.or(file.store).ok_or(missing)?, peers, http })
    }
}

impl NodeOptions {
    /// Completes the settings from the file and the defaults.
    pub fn resolve(self, file: Self) -> NodeSettings {
        NodeSettings {
            boot_record: self
                .boot_record
                .or(file.boot_record)
                .unwrap_or_else(|| BOOT_RECORD_PATH.into()),
            peers: PeerSettings {
                listen: self.listen.or(file.listen).unwrap_or(any(PEER_PORT)),
                upload_limit: self.upload_limit.or(file.upload_limit),
                upload_limit_per_peer: self.upload_limit_per_peer.or(file.upload_limit_per_peer),
                local_discovery: self.no_lsd.or(file.no_lsd).map(|no| !no),
                trackers: tiers(self.tracker, file.tracker),
            },
            http: self.http.or(file.http),
            user: self.user.or(file.user).unwrap_or_else(|| NODE_USER.into()),
            group: self.group.or(file.group),
            nice: self.nice.or(file.nice).unwrap_or(10).clamp(0, 19),
        }
    }
}

fn any(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

/// Every URL is a tier of its own: tried in the order given.
fn tiers(flags: Vec<String>, file: Vec<String>) -> Option<Vec<Vec<String>>> {
    let urls = if flags.is_empty() { file } else { flags };
    (!urls.is_empty()).then(|| urls.into_iter().map(|url| vec![url]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_that_over_defaults() {
        let file: WatchOptions = toml::from_str(
            "store = '/srv/images'\nupload_limit = '80Mbit'\nhttp = '127.0.0.1:80'\n\
             tracker = ['http://a/announce', 'http://b/announce']\nno_swarm = true",
        )
        .unwrap();
        let flags = WatchOptions {
            upload_limit: Some(ByteRate(5)),
            no_swarm: Some(false),
            ..WatchOptions::default()
        };
        let settings = flags.resolve(file).unwrap();
        assert_eq!(settings.store, Path::new("/srv/images"));
        let peers = settings.peers.unwrap();
        assert_eq!(peers.upload_limit, Some(ByteRate(5)));
        assert_eq!(peers.listen, "[::]:6881".parse().unwrap());
        assert_eq!(peers.trackers.unwrap(), [["http://a/announce"], ["http://b/announce"]]);
        let http = settings.http.unwrap();
        assert_eq!(http.listen, "127.0.0.1:80".parse().unwrap());
        assert_eq!((http.max_connections, http.scope), (512, crate::http::Scope::Everything));
    }

    #[test]
    fn a_host_can_leave_the_way_of_the_image() {
        let options = |no_swarm, no_http| WatchOptions {
            store: Some("/s".into()),
            no_swarm: Some(no_swarm),
            no_http: Some(no_http),
            http_exclude_image: Some(true),
            ..WatchOptions::default()
        };
        let settings = options(true, false).resolve(WatchOptions::default()).unwrap();
        assert!(settings.peers.is_none());
        assert_eq!(settings.http.unwrap().scope, crate::http::Scope::WithoutImage);
        assert!(options(false, true).resolve(WatchOptions::default()).unwrap().http.is_none());
        let error = options(true, true).resolve(WatchOptions::default()).unwrap_err();
        assert!(matches!(error, ConfigError::NothingToDo));
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let error = WatchOptions::default().resolve(WatchOptions::default()).unwrap_err();
        assert!(error.to_string().contains("--store"), "{error}");
        let error = SeedOptions::default().resolve(SeedOptions::default()).unwrap_err();
        assert!(error.to_string().contains("--torrent"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seeder.toml");
        std::fs::write(&path, "stoer = '/x'\n").unwrap();
        let error = read::<WatchOptions>(Some(&path)).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.to_string().contains("seeder.toml") && cause.contains("stoer"), "{cause}");
        assert!(read::<WatchOptions>(Some(&dir.path().join("none"))).is_err());
    }

    #[test]
    fn a_node_needs_no_setting_at_all() {
        let settings = NodeOptions::default().resolve(NodeOptions::default());
        assert_eq!(settings.boot_record, Path::new("/run/beeswarm/boot.json"));
        assert_eq!((settings.user.as_str(), settings.nice), ("beeswarm-node", 10));
    }

    #[test]
    fn the_units_let_local_discovery_list_the_interfaces() {
        for unit in [
            include_str!("../../systemd/beeswarm-seeder.service"),
            include_str!("../../systemd/beeswarm-node-seeder.service"),
        ] {
            let line = unit.lines().find(|line| line.starts_with("RestrictAddressFamilies="));
            assert!(line.is_none_or(|line| line.contains("AF_NETLINK")), "{line:?}");
        }
    }

    /// The samples for /etc/beeswarm, as they are and with every setting taken in.
    #[test]
    fn samples_are_valid_and_name_every_setting() {
        fn check<T: DeserializeOwned + std::fmt::Debug>(sample: &str, settings: usize) {
            let is_setting = |line: &&str| {
                let key = line.trim_start_matches('#').split(" =").next().unwrap_or_default();
                line.contains(" = ") && !key.contains(' ')
            };
            assert_eq!(sample.lines().filter(is_setting).count(), settings);
            let all: Vec<&str> = sample
                .lines()
                .filter(is_setting)
                .map(|line| line.trim_start_matches('#'))
                .collect();
            for text in [sample, &all.join("\n")] {
                let parsed: T = toml::from_str(text).unwrap();
                assert!(!format!("{parsed:?}").is_empty());
            }
            let parsed: T = toml::from_str(&all.join("\n")).unwrap();
            assert!(!format!("{parsed:?}").contains("None"), "a setting is missing: {parsed:?}");
        }
        check::<WatchOptions>(include_str!("../../systemd/etc/beeswarm/seeder.toml"), 12);
        check::<NodeOptions>(include_str!("../../systemd/etc/beeswarm/node-seeder.toml"), 10);
    }
}
