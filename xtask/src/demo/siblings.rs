//! Machines that boot the same root by the other kinds of initrd, one of them from the other kind of image.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab::{Node, VmConfig};
use store::Store;

use super::Args;
use super::image::{Image, Manner, revision};
use super::machine::Machine;
use super::services::Services;
use super::steps::note;
use super::{tracker, variant};

/// A kind of initrd, and of image beside it: both kinds of image are booted.
const KINDS: [Manner<'static>; 3] = [
    Manner { name: "demo-for-busybox", initrd_tool: "dracut-busybox", format: "squashfs" },
    Manner { name: "demo-for-systemd", initrd_tool: "dracut", format: "squashfs" },
    Manner { name: "demo-for-initramfs", initrd_tool: super::INITRAMFS_TOOLS, format: "erofs" },
];

/// The kinds that the demo's own machines do not boot by, if they are asked for.
pub(crate) fn kinds(args: &Args) -> Vec<Manner<'static>> {
    let other = |kind: &Manner<'_>| args.every_initrd && kind.initrd_tool != args.initrd_tool;
    KINDS.into_iter().filter(other).collect()
}

/// Lets each machine boot its own image.
pub(crate) fn assign(others: &[(Node, Image)]) -> Result<()> {
    for (port, image) in others {
        let node = port.mac().parse().context("the address of a machine")?;
        let (store, name) = (Store::open(&image.store)?, &image.manifest.name);
        let reference = revision(&store, name)?;
        store.assign(&reference, &[node])?;
    }
    Ok(())
}

/// Boots all of them together, for `limit` at most, looks into them, and takes away what was made for them.
pub(crate) fn play(
    admin: &Node,
    others: &[(Node, Image)],
    services: &mut Services,
    (vm, limit): (&VmConfig, Duration),
) -> Result<()> {
    let mut machines = Vec::new();
    for (port, _) in others {
        machines.push(Machine::power_on(port, vm)?);
    }
    let deadline = Instant::now() + limit;
    while !machines.iter().all(Machine::is_up) {
        services.look()?;
        let seen = tracker::nodes(admin)?;
        for machine in &mut machines {
            let seen = seen.get(machine.node().mac());
            machine.look(seen)?;
            if let Some(failed) = seen.and_then(|seen| seen.failed.as_deref()) {
                bail!("{} says: {failed}; {}", machine.node().name(), machine.last_words());
            }
        }
        if Instant::now() > deadline {
            let late = machines.iter().filter(|machine| !machine.is_up());
            let words: Vec<String> = late.map(Machine::last_words).collect();
            bail!("waited in vain for the other kinds of initrd:\n{}", words.join("\n"));
        }
        thread::sleep(Duration::from_millis(500));
    }
    for (machine, (_, image)) in machines.iter_mut().zip(others) {
        machine.look_into(admin, image)?;
        let tool = image.manifest.build.get("initrd-tool").map_or("?", String::as_str);
        note(format_args!("{}: booted by {tool}", machine.node().name()));
    }
    let store = others.first().map(|(_, image)| Store::open(&image.store)).transpose()?;
    store.map_or(Ok(()), |store| variant::remove_all(&store))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_for_them_is_found_and_removed() {
        assert!(KINDS.iter().all(|kind| kind.name.starts_with(variant::PREFIX)));
    }
}
