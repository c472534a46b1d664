//! The command line of `bee-tracker`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{EventsWithoutToken, Mirrors, NothingToBoot, TokensFor};
use crate::dhcp::DhcpOptions;
use client::TlsArgs;

const AFTER_HELP: &str = "\
Every option can also be set by the environment variable shown, or in the configuration file by its
name with underscores (image_url = \"…\"). Flag wins over environment, environment over file, file over
default.

Exit codes:
  0  stopped by SIGTERM or SIGINT
  1  could not start: the address is in use, store, state or inventory cannot be used, …
  2  wrong command line or configuration file";

/// Announce, boot scripts, boot events and the status page of a Beeswarm cluster.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "bee-tracker", version, help_expected = true, after_help = AFTER_HELP)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Address to listen on (TCP); by default port 6969 of every address, IPv6 and IPv4
    #[arg(long, value_name = "ADDR:PORT", env = "BEESWARM_TRACKER_LISTEN")]
    pub listen: Option<SocketAddr>,

    /// Address to answer announces over UDP on, besides; without it there is no UDP. The port may be
    /// that of --listen. Announce URL: udp://HOST:PORT/announce
    #[arg(long, value_name = "ADDR:PORT", env = "BEESWARM_TRACKER_UDP")]
    pub udp: Option<SocketAddr>,

    /// Revision store: only its published torrents are tracked, and boot.ipxe boots from it.
    /// Without a store any torrent is tracked and nothing is offered to boot
    #[arg(long, value_name = "DIR", env = "BEESWARM_TRACKER_STORE")]
    pub store: Option<PathBuf>,

    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "BEESWARM_TRACKER_CONFIG")]
    pub config: Option<PathBuf>,

    /// Where nodes fetch kernel, initrd and image over HTTP (bee-seeder watch --http)
    /// [default: port 8080 of the host name that the node used to reach this tracker]
    #[arg(long, value_name = "URL", env = "BEESWARM_TRACKER_IMAGE_URL")]
    pub image_url: Option<String>,

    /// Channel that nodes boot from [default: stable]
    #[arg(long, value_name = "NAME", env = "BEESWARM_TRACKER_CHANNEL")]
    pub channel: Option<String>,

    /// Image that nodes boot; needed when the channel has several
    #[arg(long, value_name = "NAME", env = "BEESWARM_TRACKER_IMAGE")]
    pub image: Option<String>,

    /// Further kernel arguments for every node, for example "console=ttyS0,115200"
    #[arg(
        long,
        value_name = "ARGS",
        env = "BEESWARM_TRACKER_KERNEL_ARGS",
        allow_hyphen_values = true
    )]
    pub kernel_args: Option<String>,

    /// Directory for what must outlive a restart: nodes, events, assignments; made when it is not there
    /// [default: $STATE_DIRECTORY, which systemd sets; else nothing is kept]
    #[arg(long, value_name = "DIR", env = "BEESWARM_TRACKER_STATE")]
    pub state: Option<PathBuf>,

    /// Names, racks, images and kernel arguments of nodes, TOML or CSV; read again when it changes
    #[arg(long, value_name = "FILE", env = "BEESWARM_TRACKER_INVENTORY")]
    pub inventory: Option<PathBuf>,

    /// What a node does for which there is nothing to boot: wait and ask again, or go on to its disk
    /// [default: wait]
    #[arg(long, value_name = "WHAT", env = "BEESWARM_TRACKER_NOTHING_TO_BOOT")]
    pub nothing_to_boot: Option<NothingToBoot>,

    /// Send booting nodes for kernel and initrd to running ones that serve them (bee-seeder node --http), the
    /// nearest first; the admin host is the fallback. --mirrors is --mirrors=verified and needs --imgverify; with
    /// "unverified" whoever can use a port of a node can give others another kernel [default: off]
    #[arg(long, value_name = "WHICH", num_args = 0..=1, require_equals = true,
          default_missing_value = "verified", env = "BEESWARM_TRACKER_MIRRORS")]
    pub mirrors: Option<Mirrors>,

    /// Let iPXE verify what mirrors serve: base URL of signatures, URL/NAME/REV/vmlinuz.sig and initrd.img.sig.
    /// Needs an iPXE that is built with IMAGE_TRUST_CMD and the certificate; with another one nodes go to
    /// the admin host
    #[arg(long, value_name = "URL", env = "BEESWARM_TRACKER_IMGVERIFY")]
    pub imgverify: Option<String>,

    /// Folder with ipxe.efi, which is served at /ipxe/ipxe.efi for UEFI HTTP boot
    /// [default: where distributions put it]
    #[arg(long, value_name = "DIR", env = "BEESWARM_TRACKER_IPXE")]
    pub ipxe: Option<PathBuf>,

    /// Who gets a boot token: nobody whom the kernel's table of neighbours shows to be another machine than
    /// the one asked for, or anybody (behind a proxy that shows its own address for all nodes)
    /// [default: neighbours]
    #[arg(long, value_name = "WHOM", env = "BEESWARM_TRACKER_TOKENS_FOR")]
    pub tokens_for: Option<TokensFor>,

    /// Whether boot events are taken that do not carry the token of the node's boot script
    /// [default: accept, and say so]
    #[arg(long, value_name = "WHAT", env = "BEESWARM_TRACKER_EVENTS_WITHOUT_TOKEN")]
    pub events_without_token: Option<EventsWithoutToken>,

    /// What the admin host's link carries, for the status page: 1Gbit, 10Gbit, …
    /// [default: the speed of the fastest network card with a carrier, as the kernel tells it]
    #[arg(long, value_name = "RATE", env = "BEESWARM_TRACKER_ADMIN_LINK")]
    pub admin_link: Option<String>,

    /// Print one JSON object per event on standard output
    #[arg(long)]
    pub json: bool,
}

/// What `bee-tracker` does beside being one.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show the nodes of a running tracker in the terminal
    Nodes(NodesArgs),
    /// Write the configuration that brings nodes to boot.ipxe: for dnsmasq as the DHCP server, for dnsmasq
    /// beside one, for ISC dhcpd, for Kea
    DnsmasqConfig(DhcpOptions),
}

/// Options of `bee-tracker nodes`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Colours are used on a terminal only, and not with NO_COLOR set or TERM=dumb.

Exit codes:
  0  shown
  1  the tracker cannot be reached, or does not answer as one
  2  wrong command line")]
pub struct NodesArgs {
    /// Where the tracker is: http://HOST:PORT, https://HOST:PORT
    #[arg(
        long,
        value_name = "URL",
        env = "BEESWARM_TRACKER_URL",
        default_value = "http://127.0.0.1:6969"
    )]
    pub tracker: String,

    #[command(flatten)]
    pub(crate) tls: TlsArgs,

    /// Show them again and again, until interrupted
    #[arg(long)]
    pub watch: bool,

    /// With --watch: time between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub every: u64,

    /// Only those that need somebody's eye, with the cause and what to do; also those that were assigned
    /// a revision and never heard
    #[arg(long)]
    pub stalled: bool,

    /// One JSON array per look, as the API has it, on one line
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound_and_states_its_exit_codes() {
        Cli::command().debug_assert();
        let help = Cli::command().render_long_help().to_string();
        for text in ["Exit codes", "--listen", "--store", "--config", "BEESWARM_TRACKER_LISTEN"] {
            assert!(help.contains(text), "{text} in {help}");
        }
    }

    #[test]
    fn the_fixed_command_line_parses() {
        let cli =
            Cli::try_parse_from(["bee-tracker", "--listen", "0.0.0.0:6969", "--store", "/srv/s"])
                .unwrap();
        assert_eq!(cli.udp, None);
        let udp = Cli::try_parse_from(["bee-tracker", "--udp", "[::]:6969"]).unwrap();
        assert_eq!(udp.udp, Some("[::]:6969".parse().unwrap()));
        assert_eq!(cli.listen, Some("0.0.0.0:6969".parse().unwrap()));
        assert_eq!(cli.store, Some(PathBuf::from("/srv/s")));
        assert!(cli.command.is_none());
    }
}
