//! What is promised of the initrd: no driver that a node without disk does not need; for real hardware those of
//! common server cards, and a weight that one link can bear.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use lab::contained;
use lab::root::Kernel;
use proto::manifest::ArtefactKind;

use super::build::Programs;
use super::image::Image;
use super::steps::note;

/// Bytes of kernel and initrd together.
const GOAL: u64 = 20_000_000;

/// Modules of the cards that every initrd has a driver for: Intel, Broadcom, Mellanox, Realtek, virtio.
const DRIVERS: [&str; 12] = [
    "e1000e",
    "igb",
    "ixgbe",
    "i40e",
    "ice",
    "tg3",
    "bnxt_en",
    "mlx4_en",
    "mlx5_core",
    "r8169",
    "virtio_net",
    "e1000",
];

/// Where drivers lie that no initrd has: of disks, graphics, sound, USB storage.
const UNWANTED: [&str; 12] = [
    "kernel/sound/",
    "kernel/drivers/ata/",
    "kernel/drivers/cdrom/",
    "kernel/drivers/gpu/",
    "kernel/drivers/media/",
    "kernel/drivers/mmc/",
    "kernel/drivers/mtd/",
    "kernel/drivers/nvme/",
    "kernel/drivers/scsi/",
    "kernel/drivers/usb/storage/",
    "kernel/drivers/block/",
    "kernel/drivers/md/",
];

/// What may lie there all the same: the image's own loop device, and dm-verity with what it needs.
const WANTED_THERE: [&str; 4] = ["loop", "dm-mod", "dm-bufio", "dm-verity"];

/// Looks into the initrd of `image`, which has a kernel of that kind.
pub(crate) fn check(kernel: Kernel, programs: &Programs, image: &Image) -> Result<()> {
    let path = image.revision.join(ArtefactKind::Initrd.file_name());
    let mut command = contained(&programs.packer)?;
    command.args(["initrd", "show", "--files"]).arg(&path);
    let output = command.stdin(Stdio::null()).output().context("cannot run bee-packer")?;
    ensure!(output.status.success(), "bee-packer initrd show failed for {}", path.display());
    let list = String::from_utf8_lossy(&output.stdout);
    // otherwise the list is not what is looked for here
    ensure!(has_module(&list, "overlay"), "the initrd has no module overlay");
    let unwanted = unwanted(&list);
    ensure!(unwanted.is_empty(), "the initrd has drivers of no use: {}", unwanted.join(", "));
    if kernel != Kernel::Generic {
        return Ok(());
    }
    let lacking: Vec<&str> = DRIVERS.into_iter().filter(|name| !has_module(&list, name)).collect();
    ensure!(lacking.is_empty(), "the initrd has no driver {}", lacking.join(", "));
    let length = |kind| image.manifest.artefact(kind).map_or(0, |artefact| artefact.length);
    let sum = length(ArtefactKind::Kernel) + length(ArtefactKind::Initrd);
    // with systemd in it the goal is out of reach on some releases: docs/initrd.md
    let tool =
        image.manifest.build.get("initrd-tool").context("no tool is named for the initrd")?;
    ensure!(
        sum <= GOAL || tool == "dracut",
        "kernel and initrd take {sum} bytes, more than {GOAL}"
    );
    note(format_args!(
        "kernel and initrd ({tool}): {sum} bytes, drivers of {} kinds of cards",
        DRIVERS.len()
    ));
    Ok(())
}

/// Whether a module is in a list of paths, packed or not.
fn has_module(list: &str, name: &str) -> bool {
    list.lines().any(|line| module(line) == Some(name))
}

/// The module that a line of the list is about.
fn module(line: &str) -> Option<&str> {
    let file = line.rsplit('/').next()?;
    file.split_once(".ko").map(|(module, _)| module)
}

/// Modules of the list that no initrd should have.
fn unwanted(list: &str) -> Vec<&str> {
    let lies_there = |line: &&str| UNWANTED.iter().any(|place| line.contains(place));
    let modules = list.lines().filter(lies_there).filter_map(module);
    modules.filter(|name| !WANTED_THERE.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_found_by_its_whole_name() {
        let list =
            "   1234  usr/lib/modules/6.1/kernel/net/e1000e.ko.xz\n 1  a/igb.ko\n 1  a/igbvf.ko\n";
        assert!(has_module(list, "e1000e") && has_module(list, "igb"));
        assert!(!has_module(list, "e1000") && !has_module(list, "ixgbe"));
    }

    #[test]
    fn drivers_of_disks_and_screens_are_named() {
        let list = "1 usr/lib/modules/6.1/kernel/drivers/ata/ahci.ko.xz\n\
            1 usr/lib/modules/6.1/kernel/drivers/block/loop.ko\n\
            1 usr/lib/modules/6.1/kernel/drivers/block/virtio_blk.ko\n\
            0 usr/lib/modules/6.1/kernel/drivers/scsi/\n\
            1 usr/lib/modules/6.1/kernel/drivers/md/dm-verity.ko\n\
            1 usr/lib/modules/6.1/kernel/drivers/md/raid1.ko\n\
            1 usr/lib/modules/6.1/kernel/drivers/net/igb.ko\n";
        assert_eq!(unwanted(list), ["ahci", "virtio_blk", "raid1"]);
    }
}
