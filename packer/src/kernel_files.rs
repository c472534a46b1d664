//! The part of a kernel that goes into an initrd, laid out in a directory of its own: modules as
//! they are loaded, not as they are packed, and the firmware they ask for.
//!
//! ```text
//! DIR/lib/modules/RELEASE/…   the modules, with what depmod(8) makes of them
//! DIR/firmware/…              what they ask for, as far as the root has it
//! DIR/left-out                `8086:10d3 e1000e`: the drivers of network cards that stay behind
//! ```
//!
//! Whatever makes the initrd finds only this, so it cannot take more. Modules and firmware are
//! unpacked: inside the initrd, which is packed as a whole, they take less room so. They are not
//! stripped: that would remove their signatures, which Secure Boot demands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use crate::drivers::{Drivers, module_name};
use crate::error::PackError;
use crate::inside::resolve;
use crate::kernel::Kernel;
use crate::tool::{Place, Tool};

const DEPMOD: Tool =
    Tool { program: "depmod", purpose: "lists the initrd's modules", package: "kmod" };
const MODINFO: Tool =
    Tool { program: "modinfo", purpose: "says which firmware a driver needs", package: "kmod" };
const XZ: Tool = Tool { program: "xz", purpose: "unpacks kernel modules", package: "xz-utils" };
const ZSTD: Tool = Tool { program: "zstd", purpose: "unpacks kernel modules", package: "zstd" };
const GZIP: Tool = Tool { program: "gzip", purpose: "unpacks kernel modules", package: "gzip" };

/// Endings of packed modules and firmware, and who unpacks them.
const PACKED: [(&str, Tool); 3] = [("xz", XZ), ("zst", ZSTD), ("gz", GZIP)];

/// Where a kernel looks for firmware, in this order; RELEASE is put in.
const FIRMWARE: [&str; 4] = [
    "lib/firmware/updates/RELEASE",
    "lib/firmware/updates",
    "lib/firmware/RELEASE",
    "lib/firmware",
];

/// What was laid out.
#[derive(Debug)]
pub(crate) struct KernelFiles {
    /// `…/lib/modules/RELEASE`.
    pub(crate) modules: PathBuf,
    /// The firmware's directory; it may be empty.
    pub(crate) firmware: PathBuf,
    /// The list of drivers that stay behind.
    pub(crate) left_out: PathBuf,
    /// Names of all modules, sorted.
    pub(crate) names: Vec<String>,
    /// Drivers none of whose firmware is in the root, with the first file that they ask for.
    pub(crate) without_firmware: Vec<(String, String)>,
}

/// Lays it out in `dir`, which is made.
///
/// # Errors
/// [`PackError::Read`], [`PackError::Write`], [`PackError::DiskFull`], [`PackError::Escapes`];
/// programs that are missing or fail.
pub(crate) fn lay_out(
    root: &Path,
    kernel: &Kernel,
    drivers: &Drivers,
    dir: &Path,
    place: &Place<'_>,
) -> Result<KernelFiles, PackError> {
    let modules = dir.join("lib/modules").join(&kernel.release);
    let firmware = dir.join("firmware");
    for path in [&modules, &firmware] {
        fs::create_dir_all(path).map_err(|e| place.write_error(path.clone(), e))?;
    }
    let mut names = BTreeSet::new();
    let mut without_firmware = Vec::new();
    for relative in &drivers.files {
        let to = modules.join(unpacked(relative));
        copy(&kernel.modules.join(relative), &to, place)?;
        names.insert(module_name(relative));
        let wanted = firmware_of(&to)?;
        let mut found = wanted.is_empty();
        for name in &wanted {
            found |= copy_firmware(root, kernel, name, &firmware, place)?;
        }
        if let (false, Some(first)) = (found, wanted.into_iter().next()) {
            without_firmware.push((module_name(relative), first));
        }
    }
    for list in ["modules.order", "modules.builtin"] {
        let (from, to) = (kernel.modules.join(list), modules.join(list));
        let text = match fs::read_to_string(&from) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(PackError::Read { path: from, source }),
        };
        // depmod warns of an order of modules that are not there
        let there = |line: &&str| list != "modules.order" || modules.join(line).exists();
        let text: String = text.lines().filter(there).flat_map(|line| [line, "\n"]).collect();
        fs::write(&to, text).map_err(|e| place.write_error(to, e))?;
    }
    let mut command = DEPMOD.command();
    command.arg("-b").arg(dir).arg(&kernel.release);
    let output = DEPMOD.run(command, |_| {})?;
    if !output.status.success() {
        return Err(DEPMOD.failed(&output, place, "Its output names the cause"));
    }
    let left_out = dir.join("left-out");
    fs::write(&left_out, left_behind(kernel, &names)?)
        .map_err(|e| place.write_error(left_out.clone(), e))?;
    let names = names.into_iter().collect();
    Ok(KernelFiles { modules, firmware, left_out, names, without_firmware })
}

/// Copies a file, unpacked, with the directories that lead to it.
fn copy(from: &Path, to: &Path, place: &Place<'_>) -> Result<(), PackError> {
    let write = |e| place.write_error(to.to_owned(), e);
    let read = |source| PackError::Read { path: from.to_owned(), source };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(write)?;
    }
    let ending = from.extension().unwrap_or_default();
    let Some((_, tool)) = PACKED.iter().find(|(packed, _)| ending == *packed) else {
        let mut source = File::open(from).map_err(read)?;
        let mut target = File::create(to).map_err(write)?;
        return io::copy(&mut source, &mut target).map(|_| ()).map_err(write);
    };
    let source = File::open(from).map_err(read)?;
    let target = File::create(to).map_err(write)?;
    let mut command = tool.command();
    command.args(["-d", "-c"]).stdin(source).stdout(target).stderr(Stdio::null());
    let missing = |source| PackError::ToolMissing {
        program: tool.program.to_owned(),
        purpose: tool.purpose,
        package: tool.package,
        source,
    };
    if command.status().map_err(missing)?.success() {
        return Ok(());
    }
    Err(read(io::Error::new(io::ErrorKind::InvalidData, format!("{} refuses it", tool.program))))
}

/// A path without the ending of a packed file.
fn unpacked(path: &Path) -> PathBuf {
    let packed = path.extension().is_some_and(|e| PACKED.iter().any(|(ending, _)| e == *ending));
    if packed { path.with_extension("") } else { path.to_owned() }
}

/// What a module asks for.
fn firmware_of(module: &Path) -> Result<BTreeSet<String>, PackError> {
    let mut command = MODINFO.command();
    command.args(["-F", "firmware"]).arg(module);
    let output = MODINFO.run(command, |_| {})?;
    let names = output.text.lines().filter(|name| output.status.success() && is_inside(name));
    Ok(names.map(str::to_owned).collect())
}

/// Whether a name from a module leads to no other place.
fn is_inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|c| matches!(c, Component::Normal(_)))
}

/// Whether the root has that firmware; it is copied then.
fn copy_firmware(
    root: &Path,
    kernel: &Kernel,
    name: &str,
    into: &Path,
    place: &Place<'_>,
) -> Result<bool, PackError> {
    let to = into.join(name);
    if to.exists() {
        return Ok(true);
    }
    for base in FIRMWARE.map(|base| base.replace("RELEASE", &kernel.release)) {
        for ending in ["", ".xz", ".zst"] {
            for usr in ["usr/", ""] {
                let relative = format!("{usr}{base}/{name}{ending}");
                if let Some(from) = resolve(root, &relative)?.filter(|path| path.is_file()) {
                    copy(&from, &to, place)?;
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Which driver of the kernel drives which network card on PCI, of those that are not in `names`:
/// a node that has no driver for its card says what to add.
fn left_behind(kernel: &Kernel, names: &BTreeSet<String>) -> Result<String, PackError> {
    let read = |list: &str| {
        let path = kernel.modules.join(list);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PackError::Read { path, source: error })
            }
            text => Ok(text.unwrap_or_default()),
        }
    };
    let (dep, alias) = (read("modules.dep")?, read("modules.alias")?);
    let files = dep.lines().filter_map(|line| line.split(':').next()).map(Path::new);
    let network: BTreeSet<String> = files
        .filter(|file| file.starts_with("kernel/drivers/net"))
        .filter(|file| !file.starts_with("kernel/drivers/net/wireless"))
        .map(module_name)
        .filter(|name| !names.contains(name))
        .collect();
    let mut cards = BTreeMap::new();
    for line in alias.lines() {
        let mut words = line.split(' ');
        let (Some("alias"), Some(alias), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if let Some(card) = card(alias).filter(|_| network.contains(name)) {
            cards.entry(card).or_insert(name);
        }
    }
    Ok(cards.iter().map(|(card, name)| format!("{card} {name}\n")).collect())
}

/// `pci:v00008086d000010D3sv*sd*bc*sc*i*` → `8086:10d3`; a device may be `*`.
fn card(alias: &str) -> Option<String> {
    let (vendor, rest) = alias.strip_prefix("pci:v0000")?.split_at_checked(4)?;
    let device = match rest.strip_prefix("d0000").and_then(|rest| rest.split_at_checked(4)) {
        Some((device, _)) => device,
        None => rest.starts_with("d*").then_some("*")?,
    };
    Some(format!("{vendor}:{device}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_read_from_aliases() {
        let alias = "pci:v00008086d000010D3sv*sd*bc*sc*i*";
        assert_eq!(card(alias).as_deref(), Some("8086:10d3"));
        assert_eq!(card("pci:v000014E4d*sv*sd*bc02sc*i*").as_deref(), Some("14e4:*"));
        for other in ["usb:v0bdap8152d*", "pci:v*d*sv*sd*bc0Csc03i30*", "pci:v0000", "virtio:d1"] {
            assert_eq!(card(other), None, "{other}");
        }
    }

    #[test]
    fn names_from_modules_lead_nowhere_else() {
        assert!(is_inside("intel/ice/ddp/ice.pkg"));
        for bad in ["", "/etc/shadow", "../../etc/shadow", "a/../../b"] {
            assert!(!is_inside(bad), "{bad}");
        }
    }

    #[test]
    fn only_the_ending_of_a_packed_file_goes() {
        for (path, plain) in [("a/x.ko.xz", "a/x.ko"), ("x.ko.zst", "x.ko"), ("x.ko", "x.ko")] {
            assert_eq!(unpacked(Path::new(path)), Path::new(plain));
        }
    }

    #[test]
    fn a_packed_file_that_is_damaged_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("x.ko.xz");
        fs::write(&from, "not xz").unwrap();
        let place = Place { store: dir.path(), step: "testing" };
        let error = copy(&from, &dir.path().join("x.ko"), &place).unwrap_err();
        assert!(matches!(&error, PackError::Read { path, .. } if *path == from), "{error:?}");
    }
}
