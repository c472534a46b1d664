//! `bee-tracker dnsmasq-config`: what the DHCP server has to say so that nodes come to `boot.ipxe`.
//!
//! ```text
//! firmware, BIOS            ── undionly.kpxe ── TFTP ──▶ iPXE
//! firmware, UEFI x86-64     ── ipxe.efi ────── TFTP ──▶ iPXE
//! firmware, UEFI HTTP boot  ── ipxe.efi ────── HTTP ──▶ iPXE
//! iPXE (user class "iPXE")  ── beeswarm.ipxe ─ TFTP ──▶ http://TRACKER/boot.ipxe
//! ```
//!
//! Four kinds of question, which option 93 (client architecture, RFC 4578), option 77 (user class) and
//! option 60 (vendor class) tell apart. The text is pure: the same settings give the same bytes.

mod dnsmasq;
mod isc;
mod kea;
pub mod values;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::boot::values::Authority;
use crate::config::DEFAULT_PORT;
use values::{Interface, Lease, Range, ServerAddress, Subnet, TftpRoot};

/// iPXE for BIOS firmware.
pub const BIOS_PROGRAM: &str = "undionly.kpxe";

/// iPXE for UEFI firmware on x86-64.
pub const EFI_PROGRAM: &str = "ipxe.efi";

/// What iPXE itself is given.
pub const SCRIPT: &str = "beeswarm.ipxe";

/// Path of iPXE's programs at the tracker, for UEFI HTTP boot.
pub const HTTP_FOLDER: &str = "/ipxe";

/// Client architectures (option 93) of UEFI on x86-64: 7 by RFC 4578 as corrected, 9 by older firmware.
const EFI: [u16; 2] = [7, 9];

/// Of UEFI HTTP boot on x86-64.
const EFI_HTTP: u16 = 16;

/// Of BIOS.
const BIOS: u16 = 0;

/// Which server the text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Server {
    /// dnsmasq as DHCP and TFTP server: a whole configuration file
    #[default]
    Dnsmasq,
    /// dnsmasq beside a DHCP server that stays as it is (proxy-DHCP), and as TFTP server: a whole
    /// configuration file
    DnsmasqProxy,
    /// ISC dhcpd 4.4: lines for dhcpd.conf
    IscDhcpd,
    /// Kea 2.2 or later: client classes for "Dhcp4"
    Kea,
    /// The script that iPXE gets by TFTP from each of them: beeswarm.ipxe
    IpxeScript,
}

/// Options of `bee-tracker dnsmasq-config`.
#[derive(Debug, Clone, Args)]
pub struct DhcpOptions {
    /// What to write
    #[arg(long, value_name = "SERVER", value_enum, default_value_t)]
    pub server: Server,

    /// IPv4 address of the host with the tracker, and with the TFTP server; nodes must reach it
    #[arg(long, value_name = "IP")]
    pub address: ServerAddress,

    /// How nodes reach the tracker [default: --address, port 6969]
    #[arg(long, value_name = "HOST:PORT")]
    pub tracker: Option<Authority>,

    /// IPv4 address of the TFTP server, for isc-dhcpd and kea [default: --address]
    #[arg(long, value_name = "IP")]
    pub tftp: Option<ServerAddress>,

    /// Folder with undionly.kpxe, ipxe.efi and beeswarm.ipxe, for dnsmasq
    #[arg(long, value_name = "DIR", default_value = "/srv/tftp")]
    pub tftp_root: TftpRoot,

    /// Network card that dnsmasq listens on [default: all of them]
    #[arg(long, value_name = "NAME")]
    pub interface: Option<Interface>,

    /// The nodes' network, for example 10.20.0.0/16; needed for dnsmasq
    #[arg(long, value_name = "NETWORK/BITS")]
    pub subnet: Option<Subnet>,

    /// Addresses that dnsmasq gives out, FIRST-LAST; or `static`: only those of dhcp-host lines. Needed
    /// for --server dnsmasq
    #[arg(long, value_name = "FIRST-LAST")]
    pub range: Option<Range>,

    /// Gateway that nodes are told, for --server dnsmasq [default: none]
    #[arg(long, value_name = "IP")]
    pub router: Option<ServerAddress>,

    /// Name server that nodes are told, for --server dnsmasq [default: none]
    #[arg(long, value_name = "IP")]
    pub dns: Option<ServerAddress>,

    /// How long an address is given, such as 12h, for --server dnsmasq
    #[arg(long, value_name = "TIME", default_value = "12h")]
    pub lease: Lease,

    /// File to write, instead of standard output; it is replaced
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Settings that do not fit each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DhcpError {
    /// dnsmasq needs the network.
    #[error("--server {0} needs the nodes' network: --subnet NETWORK/BITS, such as 10.20.0.0/16")]
    NoSubnet(&'static str),
    /// And what to give out.
    #[error(
        "--server dnsmasq needs the addresses that it gives out: --range FIRST-LAST, or --range static \
         with a dhcp-host line for each node"
    )]
    NoRange,
    /// An address that its network does not have.
    #[error("{what} {address} is not in the nodes' network {subnet}")]
    Outside {
        /// Which option.
        what: &'static str,
        /// The address.
        address: std::net::Ipv4Addr,
        /// The network.
        subnet: Subnet,
    },
}

/// What all servers are told.
#[derive(Debug)]
struct Site<'a> {
    options: &'a DhcpOptions,
    tracker: Authority,
}

impl Site<'_> {
    /// Where UEFI HTTP boot finds iPXE.
    fn efi_url(&self) -> String {
        format!("http://{}{HTTP_FOLDER}/{EFI_PROGRAM}", self.tracker)
    }

    fn tftp(&self) -> &ServerAddress {
        self.options.tftp.as_ref().unwrap_or(&self.options.address)
    }
}

/// The text for the server that `options` name.
///
/// # Errors
/// [`DhcpError`] when something is missing or does not fit.
pub fn render(options: &DhcpOptions) -> Result<String, DhcpError> {
    let tracker =
        options.tracker.clone().unwrap_or_else(|| options.address.authority(DEFAULT_PORT));
    let site = Site { options, tracker };
    match options.server {
        Server::Dnsmasq => dnsmasq::full(&site),
        Server::DnsmasqProxy => dnsmasq::proxy(&site),
        Server::IscDhcpd => Ok(isc::lines(&site)),
        Server::Kea => Ok(kea::classes(&site)),
        Server::IpxeScript => Ok(crate::boot::script::chain(&site.tracker)),
    }
}
