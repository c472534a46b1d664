//! dnsmasq, as the DHCP server or beside one.

use std::net::Ipv4Addr;

use super::values::{Range, Subnet};
use super::{BIOS_PROGRAM, DhcpError, EFI, EFI_HTTP, EFI_PROGRAM, SCRIPT, Site};

/// A whole configuration: addresses, boot files, TFTP.
pub(super) fn full(site: &Site<'_>) -> Result<String, DhcpError> {
    let options = site.options;
    let subnet = options.subnet.ok_or(DhcpError::NoSubnet("dnsmasq"))?;
    let range = options.range.ok_or(DhcpError::NoRange)?;
    let inside = |what, address: Ipv4Addr| {
        let outside = DhcpError::Outside { what, address, subnet };
        if subnet.contains(address) { Ok(address) } else { Err(outside) }
    };
    let (mask, lease) = (subnet.mask(), &options.lease);
    let range = match range {
        Range::Static => format!(
            "# Only nodes with a line of their own get an address. One line each, or a file of them:\n\
             #dhcp-host=52:54:00:12:34:56,{first},node01\n\
             #dhcp-hostsfile=/etc/beeswarm/hosts\n\
             dhcp-range={network},static,{mask},{lease}\n",
            first = example(subnet),
            network = subnet.network(),
        ),
        Range::Pool(first, last) => format!(
            "# A node asks three times (firmware, iPXE, initrd), not always with the same client id: two\n\
             # addresses per node, or reserve them by MAC address:\n\
             #dhcp-host=52:54:00:12:34:56,{first},node01\n\
             dhcp-range={},{},{mask},{lease}\n",
            inside("--range: the address", first)?,
            inside("--range: the address", last)?,
        ),
    };
    let router = match options.router {
        Some(router) => format!("dhcp-option=option:router,{}\n", inside("--router", router.0)?),
        None => "# no gateway\ndhcp-option=option:router\n".to_owned(),
    };
    let dns = match options.dns {
        Some(dns) => format!("dhcp-option=option:dns-server,{dns}\n"),
        None => "# no name server\ndhcp-option=option:dns-server\n".to_owned(),
    };
    let mut text = head(site, "the DHCP and TFTP server of the nodes");
    text.push_str(
        "# The only DHCP server of this network: nodes with an address of elsewhere are corrected at once.\n\
         dhcp-authoritative\n",
    );
    text.push_str(&range);
    text.push_str(&router);
    text.push_str(&dns);
    text.push_str(&classes());
    text.push_str(&format!(
        "\n\
         # 1. BIOS firmware: iPXE by TFTP.\n\
         dhcp-boot=tag:!ipxe,tag:!efi,tag:!efi-http,{BIOS_PROGRAM}\n\
         # 2. UEFI firmware: iPXE by TFTP.\n\
         dhcp-boot=tag:!ipxe,tag:efi,{EFI_PROGRAM}\n\
         # 3. UEFI firmware that boots by HTTP: a URL, and the vendor class back, or it does not listen.\n\
         dhcp-boot=tag:!ipxe,tag:efi-http,{url}\n\
         dhcp-option-force=tag:!ipxe,tag:efi-http,option:vendor-class,HTTPClient\n\
         # 4. iPXE itself, from above or from the card's own memory.\n\
         dhcp-boot=tag:ipxe,{SCRIPT}\n",
        url = site.efi_url(),
    ));
    text.push_str(&tftp(site));
    Ok(text)
}

/// A whole configuration that gives no addresses: boot files and TFTP.
pub(super) fn proxy(site: &Site<'_>) -> Result<String, DhcpError> {
    let subnet = site.options.subnet.ok_or(DhcpError::NoSubnet("dnsmasq-proxy"))?;
    let mut text = head(site, "boot files beside a DHCP server that stays as it is (proxy-DHCP)");
    text.push_str(&format!(
        "# Addresses come from the other server. It must be in the same broadcast domain (or the relays must\n\
         # send to both), and must name no boot file of its own.\n\
         dhcp-range={},proxy,{}\n",
        subnet.network(),
        subnet.mask()
    ));
    text.push_str(&classes());
    text.push_str(&format!(
        "\n\
         # 1. BIOS firmware: iPXE by TFTP.\n\
         pxe-service=tag:!ipxe,x86PC,\"Beeswarm\",{BIOS_PROGRAM}\n\
         # 2. UEFI firmware: iPXE by TFTP.\n\
         pxe-service=tag:!ipxe,X86-64_EFI,\"Beeswarm\",{EFI_PROGRAM}\n\
         pxe-service=tag:!ipxe,BC_EFI,\"Beeswarm\",{EFI_PROGRAM}\n\
         # 3. UEFI HTTP boot has no proxy in dnsmasq: let firmware boot by PXE, or tell the other server.\n\
         # 4. iPXE itself, from above or from the card's own memory.\n\
         dhcp-boot=tag:ipxe,{SCRIPT},,{}\n",
        site.options.address
    ));
    text.push_str(&tftp(site));
    Ok(text)
}

fn head(site: &Site<'_>, what: &str) -> String {
    let interface = match &site.options.interface {
        Some(name) => format!("interface={name}\nbind-interfaces\n"),
        None => "# all network cards; one of them: interface=NAME\n".to_owned(),
    };
    format!(
        "# Beeswarm: dnsmasq as {what}.\n\
         # Written by bee-tracker dnsmasq-config; put it into /etc/dnsmasq.d/beeswarm.conf.\n\
         # Try it: dnsmasq --test --conf-file=FILE\n\
         \n\
         # no name server\n\
         port=0\n\
         {interface}\
         # a line per question in the log: the first thing to look at when a node does not boot\n\
         log-dhcp\n"
    )
}

/// Who asks.
fn classes() -> String {
    let efi: String =
        EFI.iter().map(|arch| format!("dhcp-match=set:efi,option:client-arch,{arch}\n")).collect();
    format!(
        "\n\
         # Who asks: iPXE says so itself; firmware tells its architecture.\n\
         dhcp-userclass=set:ipxe,iPXE\n\
         {efi}\
         dhcp-match=set:efi-http,option:client-arch,{EFI_HTTP}\n"
    )
}

fn tftp(site: &Site<'_>) -> String {
    let root = &site.options.tftp_root;
    format!(
        "\n\
         # What lies in this folder: {BIOS_PROGRAM} and {EFI_PROGRAM} of the package ipxe, and {SCRIPT}\n\
         # (bee-tracker dnsmasq-config --server ipxe-script), which goes to http://{tracker}/boot.ipxe.\n\
         enable-tftp\n\
         tftp-root={root}\n",
        tracker = site.tracker,
    )
}

/// An address inside of the network, for an example.
fn example(subnet: Subnet) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.network().to_bits() + 2)
}
