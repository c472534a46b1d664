//! Before anything is built: packages, memory and disk space, each named when it is missing.

use std::fs;
use std::io::{self, IsTerminal};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use lab::Firmware;
use nix::sys::statvfs::statvfs;

use super::Args;
use super::packages::{NEEDS, Need, OVMF, UBUNTU_KEYRING};
use super::steps::note;
use crate::sudo::confirm;
use crate::workspace::{lab_folder, root, say};

/// Memory for the host, the tracker and seeder, and the builds, in MiB.
const HOST_MEMORY_MIB: u64 = 1024;

/// What a machine takes beside its memory, in MiB: QEMU and its translated code.
const QEMU_MEMORY_MIB: u64 = 300;

/// Disk space for builds, the root and the image, in MiB.
const DISK_MIB: u64 = 4096;

/// Disk space for a joining node's copy of the image when memory is short, in MiB.
const NODE_DISK_MIB: u64 = 150;

/// The distribution, as far as packages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// apt-get
    Debian,
    /// dnf
    Fedora,
    /// Neither.
    Other,
}

/// Checks and, on Debian, installs what is missing.
pub(crate) fn check(args: &Args) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the demo boots x86-64 machines and needs an x86-64 host"
    );
    packages(args)?;
    memory(args)?;
    disk(args)
}

fn missing(args: &Args) -> Vec<&'static Need> {
    let uefi = (args.firmware != Firmware::Bios).then_some(&OVMF);
    let ubuntu = args.recipe().is_ubuntu().then_some(&UBUNTU_KEYRING);
    NEEDS.iter().chain(uefi).chain(ubuntu).filter(|need| !need.is_met()).collect()
}

fn packages(args: &Args) -> Result<()> {
    let missing = missing(args);
    if missing.is_empty() {
        return Ok(());
    }
    let family = family(&fs::read_to_string("/etc/os-release").unwrap_or_default());
    let package = |need: &Need| match family {
        Family::Fedora => need.fedora,
        Family::Debian | Family::Other => need.debian,
    };
    say("Missing on this system:");
    for need in &missing {
        say(format_args!("  {:<28} {:<20} {}", need.what(), package(need), need.why));
    }
    let mut names: Vec<_> = missing.iter().map(|need| package(need)).collect();
    names.sort_unstable();
    names.dedup();
    match family {
        Family::Debian => install(args, &names),
        Family::Fedora => bail!("packages are missing. Run:\n  dnf install {}", names.join(" ")),
        Family::Other => bail!(
            "packages are missing (listed above by their Debian names), and this is a distribution \
             whose names are not known here: install them and run again"
        ),
    }
}

fn install(args: &Args, names: &[&str]) -> Result<()> {
    let line = format!("apt-get install --no-install-recommends {}", names.join(" "));
    if !args.yes && io::stdin().is_terminal() && !confirm(&format!("Run `{line}`?"))? {
        bail!("packages are missing. Run:\n  {line}");
    }
    note(&line);
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]).args(arguments);
        command.status().context("cannot run apt-get")
    };
    let mut arguments = vec!["install", "--no-install-recommends"];
    arguments.extend(names);
    // the list of packages may be missing or old: update and try once more
    if !apt(&arguments)?.success() {
        ensure!(
            apt(&["update"])?.success(),
            "apt-get update failed: is a package mirror reachable?"
        );
        ensure!(apt(&arguments)?.success(), "`{line}` failed: see its output above");
    }
    let still: Vec<_> = missing(args).iter().map(|need| need.what()).collect();
    ensure!(still.is_empty(), "installed, but still not found: {}", still.join(", "));
    Ok(())
}

fn family(os_release: &str) -> Family {
    let mut words = Vec::new();
    for line in os_release.lines() {
        if let Some(value) = line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")) {
            words.extend(value.trim_matches('"').split_whitespace());
        }
    }
    if words.iter().any(|word| ["debian", "ubuntu"].contains(word)) {
        Family::Debian
    } else if words.iter().any(|word| ["fedora", "rhel", "centos"].contains(word)) {
        Family::Fedora
    } else {
        Family::Other
    }
}

fn memory(args: &Args) -> Result<()> {
    let available = available_memory()? >> 20;
    // those that refuse their image run one at a time
    let machines = u64::from(args.vms) + u64::from(args.refusals);
    let needed = HOST_MEMORY_MIB + machines * (u64::from(args.vm_memory) + QEMU_MEMORY_MIB);
    ensure!(
        available >= needed,
        "too little memory: {} machines need about {needed} MiB, {available} MiB are available. \
         Remedy: --vms 2, or --vm-memory 768, or end other programs",
        machines
    );
    Ok(())
}

/// `MemAvailable` in bytes.
pub(crate) fn available_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10).context("/proc/meminfo has no MemAvailable")
}

fn disk(args: &Args) -> Result<()> {
    let lab = lab_folder();
    let path = if lab.exists() { lab.as_path() } else { root() };
    let stat =
        statvfs(path).with_context(|| format!("cannot ask for space at {}", path.display()))?;
    let free = stat.blocks_available().saturating_mul(stat.fragment_size()) >> 20;
    let needed = DISK_MIB + u64::from(args.nodes) * NODE_DISK_MIB;
    ensure!(
        free >= needed,
        "too little disk space at {}: {needed} MiB are needed for builds, root, image and the \
         nodes' copies, {free} MiB are free",
        path.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_told_apart() {
        assert_eq!(family("ID=debian\n"), Family::Debian);
        assert_eq!(family("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), Family::Debian);
        assert_eq!(family("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), Family::Fedora);
        assert_eq!(family("ID=arch\n"), Family::Other);
    }

    #[test]
    fn memory_can_be_read() {
        assert!(available_memory().unwrap() > 0);
    }
}
