//! Network boot service in a lab: DHCP with fixed addresses, TFTP, and the way to `boot.ipxe`.
//!
//! What dnsmasq says to whom is written by `bee-tracker dnsmasq-config`, as on an admin's host; the lab only
//! adds its machines' addresses and where its files are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::contain::contained;
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

/// Starts dnsmasq on `admin` for `machines`, as the program `bee_tracker` configures it for a tracker on
/// that host.
///
/// # Errors
/// [`LabError::MissingTool`] when dnsmasq or iPXE is not installed; [`LabError::Tracker`] when
/// `bee_tracker` writes no configuration; [`LabError::File`] and [`LabError::Spawn`].
pub fn start(admin: &Node, machines: &[Node], bee_tracker: &Path) -> Result<Proc, LabError> {
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
    let address = admin.ip().to_string();
    let tell = |arguments: &[&str]| configuration(bee_tracker, &address, arguments);
    write(&tftp.join("beeswarm.ipxe"), &tell(&["--server", "ipxe-script"])?)?;
    let root = inside.join("tftp").display().to_string();
    let network = ["--interface", "eth0", "--subnet", "10.87.0.0/16", "--range", "static"];
    let mut conf = tell(&[&network[..], &["--tftp-root", &root]].concat())?;
    conf.push_str(&of_the_lab(machines, &inside));
    write(&outside.join("dnsmasq.conf"), &conf)?;
    let conf = format!("--conf-file={}", inside.join("dnsmasq.conf").display());
    admin.spawn(&Cmd::new(program).args(["--keep-in-foreground", &conf]).log("dnsmasq"))
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text).map_err(LabError::file("write", path))
}

/// What `bee-tracker dnsmasq-config` writes.
fn configuration(program: &Path, address: &str, more: &[&str]) -> Result<String, LabError> {
    let mut command = contained(program)?;
    command.args(["dnsmasq-config", "--address", address]).args(more).stdin(Stdio::null());
    let output = command.output().map_err(LabError::file("run", program))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(LabError::Tracker { words });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What has nothing to do with booting.
fn of_the_lab(machines: &[Node], folder: &Path) -> String {
    let mut conf = format!(
        "\n# of the lab: everything in the foreground, and a fixed address for every machine\n\
         user=root\n\
         log-facility=-\n\
         no-ping\n\
         dhcp-leasefile={}/leases\n",
        folder.display()
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
