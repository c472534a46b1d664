//! Network boot service in a lab: DHCP with fixed addresses, TFTP, and the way to `boot.ipxe`.
//!
//! ```text
//! firmware without iPXE ── DHCP: undionly.kpxe or ipxe.efi ── TFTP ──▶ iPXE
//! iPXE ── DHCP: beeswarm.ipxe ── TFTP ──▶ chain http://ADMIN:6969/boot.ipxe
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::LabError;
use crate::node::Node;
use crate::process::{Cmd, Proc};
use crate::tool::Tool;

/// DHCP and TFTP server.
pub const DNSMASQ: Tool =
    Tool::new("dnsmasq", "DHCP and TFTP for nodes that boot by network", "dnsmasq-base", "dnsmasq");

/// Where distributions put iPXE's network boot programs.
const IPXE_FOLDERS: [&str; 3] = ["/usr/lib/ipxe", "/usr/share/ipxe", "/boot/ipxe"];

/// Programs served to firmware that does not speak iPXE: BIOS and UEFI x86-64. The second name is
/// Fedora's.
const IPXE_PROGRAMS: [(&str, &[&str]); 2] =
    [("undionly.kpxe", &["undionly.kpxe"]), ("ipxe.efi", &["ipxe.efi", "ipxe-x86_64.efi"])];

/// A folder with iPXE's network boot programs, when they are installed (`ipxe` on Debian,
/// `ipxe-bootimgs-x86` on Fedora).
pub fn ipxe_folder() -> Option<PathBuf> {
    let mut folders = IPXE_FOLDERS.iter().map(PathBuf::from);
    folders.find(|folder| folder.join("undionly.kpxe").is_file())
}

/// Starts dnsmasq on `admin` for `machines`; they are sent to `boot_url` (`http://…/boot.ipxe`).
///
/// # Errors
/// [`LabError::MissingTool`] when dnsmasq or iPXE is not installed; [`LabError::File`] and
/// [`LabError::Spawn`].
pub fn start(admin: &Node, machines: &[Node], boot_url: &str) -> Result<Proc, LabError> {
    let program = DNSMASQ.find()?;
    let ipxe = ipxe_folder().ok_or(LabError::MissingTool {
        program: "undionly.kpxe",
        why: "iPXE for firmware that has none",
        debian: "ipxe",
        fedora: "ipxe-bootimgs-x86",
    })?;
    let inside = admin.scratch().join("netboot");
    let outside = admin.outside(&inside);
    let tftp = outside.join("tftp");
    fs::create_dir_all(&tftp).map_err(LabError::file("create", &tftp))?;
    for (name, sources) in IPXE_PROGRAMS {
        if let Some(source) = sources.iter().map(|s| ipxe.join(s)).find(|path| path.is_file()) {
            fs::copy(&source, tftp.join(name)).map_err(LabError::file("copy", source))?;
        }
    }
    write(&tftp.join("beeswarm.ipxe"), &chain_script(boot_url))?;
    write(&outside.join("dnsmasq.conf"), &configuration(admin, machines, &inside))?;
    let conf = format!("--conf-file={}", inside.join("dnsmasq.conf").display());
    admin.spawn(&Cmd::new(program).args(["--keep-in-foreground", &conf]).log("dnsmasq"))
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text).map_err(LabError::file("write", path))
}

/// What iPXE gets by TFTP. The whole chain can fail while the tracker starts, so it tries again.
fn chain_script(boot_url: &str) -> String {
    format!(
        "#!ipxe\n\
         :again\n\
         chain --replace --autofree {boot_url} ||\n\
         echo {boot_url} did not answer, next try in 3 s\n\
         sleep 3 ||\n\
         goto again\n"
    )
}

fn configuration(admin: &Node, machines: &[Node], folder: &Path) -> String {
    let folder = folder.display();
    let ip = admin.ip();
    let mut conf = format!(
        "# DHCP and TFTP only; every machine has its fixed address\n\
         port=0\n\
         interface=eth0\n\
         bind-interfaces\n\
         user=root\n\
         log-facility=-\n\
         log-dhcp\n\
         no-ping\n\
         dhcp-authoritative\n\
         dhcp-leasefile={folder}/leases\n\
         dhcp-range={ip},static,255.255.0.0,12h\n\
         # no way out of the lab, and no name server\n\
         dhcp-option=option:router\n\
         dhcp-option=option:dns-server\n\
         enable-tftp\n\
         tftp-root={folder}/tftp\n\
         dhcp-userclass=set:ipxe,iPXE\n\
         dhcp-match=set:efi,option:client-arch,7\n\
         dhcp-match=set:efi,option:client-arch,9\n\
         dhcp-boot=tag:!ipxe,tag:!efi,undionly.kpxe\n\
         dhcp-boot=tag:!ipxe,tag:efi,ipxe.efi\n\
         dhcp-boot=tag:ipxe,beeswarm.ipxe\n"
    );
    for machine in machines {
        conf.push_str(&format!(
            "dhcp-host={},{},{}\n",
            machine.mac(),
            machine.ip(),
            machine.name()
        ));
    }
    conf
}
