//! `cargo xtask demo`: the whole path on one machine, with everything real.
//!
//! ```text
//! preflight ▶ build ▶ Debian root ▶ pack + publish ▶ lab: tracker, seeder, dnsmasq
//!   ▶ machines boot by network ▶ nodes join as processes ▶ all complete, machines re-seed
//!   ▶ the admin host's image service stops ▶ a late machine boots from its peers alone
//!   ▶ every image is checked ▶ summary
//! ```

use std::time::Instant;

use anyhow::{Result, ensure};
use lab::root::{Kernel, Recipe, SUITES};
use lab::{BitRate, Firmware};

use crate::interrupt::{CtrlC, Interrupt};
use crate::sudo::require_root;
use crate::workspace::say;

mod build;
mod check;
mod cluster;
mod image;
mod initrd;
mod machine;
mod ordered;
pub(crate) mod packages;
mod preflight;
mod process;
mod refusals;
mod run_folder;
mod scene;
mod services;
mod show;
mod siblings;
mod steps;
mod summary;
mod table;
mod tracker;
mod variant;

pub(crate) use preflight::available_memory;
use run_folder::RunFolder;
use steps::Steps;

/// The value of `--initrd-tool` that is not the default.
const INITRAMFS_TOOLS: &str = "initramfs-tools";

/// The card of virtual machines.
const CARD: &str = "virtio-net-pci";

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Nodes that join as processes in network namespaces
    #[arg(long, value_name = "N", default_value_t = 20)]
    nodes: u32,
    /// QEMU machines that boot by network; the last one boots when the admin host's image service
    /// is stopped. At least 2
    #[arg(long, value_name = "M", default_value_t = 3)]
    vms: u32,
    /// Rate of each link, in each direction
    #[arg(long, value_name = "RATE", default_value = "100Mbit")]
    rate: BitRate,
    /// Memory of each machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    vm_memory: u32,
    /// Kernel with the drivers of real hardware in the image, not that for virtual machines
    #[arg(long)]
    generic_kernel: bool,
    /// Release of Debian or Ubuntu in the image [default: that of this host, when it is one of Debian's]
    #[arg(long, value_name = "SUITE", value_parser = SUITES)]
    suite: Option<String>,
    /// What makes the initrd: dracut of this host with busybox or with systemd, or initramfs-tools of
    /// the image
    #[arg(long, value_name = "TOOL", default_value = "dracut-busybox",
        value_parser = ["dracut", "dracut-busybox", INITRAMFS_TOOLS])]
    initrd_tool: String,
    /// File system of the image
    #[arg(long, value_name = "FORMAT", default_value = "squashfs", value_parser = ["squashfs", "erofs"])]
    format: String,
    /// Let the machines record which files their boot opens; the first one's list is kept beside the
    /// logs, and the image is packed again in that order
    #[arg(long)]
    record_order: bool,
    /// Boot two machines more, by the other kinds of initrd, one of them from the other kind of image
    #[arg(long)]
    every_initrd: bool,
    /// Then boot three machines more, one after the other, that must refuse their image for its dm-verity
    /// tree
    #[arg(long)]
    refusals: bool,
    /// QEMU's model of the machines' network cards; virtio-net-pci, e1000e and rtl8139 have iPXE.
    /// Another than the default implies --generic-kernel
    #[arg(long, value_name = "MODEL", default_value = CARD)]
    card: String,
    /// Firmware of the machines: bios, uefi (OVMF, by DHCP and TFTP) or uefi-http (OVMF, by DHCP and HTTP)
    #[arg(long, value_name = "KIND", default_value = "bios")]
    firmware: Firmware,
    /// Install missing packages without asking
    #[arg(long)]
    yes: bool,
    /// Leave everything running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

impl Args {
    fn kernel(&self) -> Kernel {
        // the kernel for virtual machines has drivers for their cards alone
        let real = self.generic_kernel || self.card != CARD;
        if real { Kernel::Generic } else { Kernel::Cloud }
    }

    /// What the image is made of.
    fn recipe(&self) -> Recipe {
        Recipe::of(self.suite.as_deref(), self.kernel())
    }

    /// Nodes in all that boot: admin, processes and machines.
    fn hosts(&self) -> u32 {
        self.nodes.saturating_add(self.vms).saturating_add(1)
    }

    /// Nodes in all, with those that must refuse and those that boot by another initrd.
    fn lab_nodes(&self) -> u32 {
        let more = self.refusing().count() + siblings::kinds(self).len();
        self.hosts().saturating_add(u32::try_from(more).unwrap_or(u32::MAX))
    }

    /// Names of the machines that must refuse.
    fn refusing(&self) -> impl Iterator<Item = &'static str> {
        let cases = refusals::CASES.iter().filter(|_| self.refusals);
        cases.map(|case| case.name)
    }
}

/// Runs the demo; an error is what did not happen.
pub(crate) fn run(args: Args) -> Result<()> {
    ensure!(args.vms >= 2, "--vms: at least 2, one that boots first and one that boots late");
    ensure!(args.lab_nodes() <= 500, "--nodes and --vms: together at most 496");
    require_root("network namespaces, QEMU taps, a root file system with its owners")?;
    let interrupt = Interrupt::install(CtrlC::Ends)?;
    let begin = Instant::now();
    let folder = RunFolder::create()?;
    let result = perform(&args, &interrupt, &folder, begin);
    interrupt.give_way();
    say(format_args!("Logs: {}", folder.path().display()));
    result
}

fn perform(args: &Args, interrupt: &Interrupt, folder: &RunFolder, begin: Instant) -> Result<()> {
    let mut steps = Steps::new(begin);
    steps.run("System packages, memory and disk", || preflight::check(args))?;
    let programs = steps.run("Building the programs", build::programs)?;
    let image = steps.run("Root and image", || image::prepare(args, &programs, folder))?;
    let kinds = siblings::kinds(args);
    let others = match kinds.is_empty() {
        true => Vec::new(),
        false => steps.run("Images with the other kinds of initrd", || {
            image::prepare_others(args, &programs, folder, &image, &kinds)
        })?,
    };
    let mut scene = steps.run("Starting the lab", || {
        scene::Scene::start(args, &programs, (&image, others), folder, interrupt)
    })?;
    let mut result = scene.play(&mut steps);
    if let (Ok(()), Some(order)) = (&result, scene.boot_order()) {
        result = steps.run("The image is packed again, in the order of the first boot", || {
            ordered::play(args, &programs, folder, order)
        });
    }
    interrupt.give_way();
    summary::print(&mut scene, &steps, folder)?;
    result?;
    say(format_args!("All of it happened, in {}.", steps::minutes(begin.elapsed())));
    if args.keep {
        scene.keep()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::test::{self, OTHER_BOOT};

    #[derive(Debug, Parser)]
    struct Demo {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_other_boot_is_one_that_the_demo_knows() {
        let parse = |words: &[&str]| Demo::try_parse_from([&["demo"], words].concat());
        let Demo { args } = parse(&OTHER_BOOT).unwrap();
        let plain = parse(&[]).unwrap().args;
        assert_eq!(args.kernel(), Kernel::Generic, "a card of real hardware needs its drivers");
        assert!(args.record_order && args.refusals && args.refusing().count() == 3);
        for (other, default) in [
            (&args.initrd_tool, &plain.initrd_tool),
            (&args.format, &plain.format),
            (&args.card, &plain.card),
        ] {
            assert_ne!(other, default);
        }
        assert!((2..).contains(&args.vms) && args.lab_nodes() <= 500);
        assert!(parse(&["--suite", "trixie"]).is_ok());
        assert!(parse(&["--suite", "buster"]).is_err());
        for alone in ["--quick", "--no-boot"] {
            let both = test::Args::try_parse_from(["test", "--other-boot", alone]);
            assert!(both.is_err(), "--other-boot would be passed over in silence");
        }
    }
}
