//! Which kernel modules an initrd gets: what every one needs, and the drivers of network cards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::PackError;
use crate::hardware::{self, BadLine, Entry};
use crate::initrd_error::InitrdError;
use crate::kernel::Kernel;
use crate::tool::Tool;

/// What every initrd needs. The dracut module reads the same file when it is used by hand.
const ALWAYS: &str = include_str!("../../dracut-module/55beeswarm/modules.list");

/// What an image with a dm-verity tree needs; device-mapper comes with it.
const VERITY: &str = "dm_verity";

/// SHA-256 for it: built into most kernels, and faster with the processor's instructions.
const VERITY_HASHES: [&str; 2] = ["sha256_generic", "sha256_ssse3"];

/// The cards that are found without being asked for.
const CARDS: &str = include_str!("../../dracut-module/55beeswarm/drivers.list");

const MODPROBE: Tool =
    Tool { program: "modprobe", purpose: "finds what a driver depends on", package: "kmod" };

/// Which network cards an initrd can drive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DriverOptions {
    /// Only the cards in this list, instead of the common ones.
    pub hardware: Option<PathBuf>,
    /// Further modules by name.
    pub named: Vec<String>,
}

/// The modules of an initrd.
#[derive(Debug, Default)]
pub(crate) struct Drivers {
    /// Files below the kernel's module directory, without repeats, sorted, relative to it.
    pub(crate) files: Vec<PathBuf>,
    /// What every initrd needs, and this kernel does not have at all.
    pub(crate) lacking: Vec<&'static str>,
}

/// Finds the modules for `options`, and those of dm-verity if wanted, with everything they depend on.
///
/// # Errors
/// [`InitrdError::Hardware`], [`InitrdError::NoDriver`], [`InitrdError::NoCard`];
/// [`PackError::Read`]; a missing modprobe.
pub(crate) fn find(
    kernel: &Kernel,
    options: &DriverOptions,
    verity: bool,
) -> Result<Drivers, PackError> {
    let mut found = BTreeMap::new();
    let mut drivers = Drivers::default();
    let mut add = |name: &str| -> Result<bool, PackError> {
        let files = resolve(kernel, name)?;
        let known = files.is_some();
        found.extend(files.into_iter().flatten().map(|file| (file, ())));
        Ok(known)
    };
    for name in names(ALWAYS) {
        if !add(name)? {
            drivers.lacking.push(name);
        }
    }
    if verity {
        if !add(VERITY)? {
            let release = kernel.release.clone();
            return Err(PackError::Initrd(InitrdError::NoVerity { release }));
        }
        for name in VERITY_HASHES {
            add(name)?;
        }
    }
    match &options.hardware {
        None => {
            // not every kernel has all of them
            for name in names(CARDS) {
                add(name)?;
            }
        }
        Some(path) => from_list(kernel, path, &mut add)?,
    }
    for name in &options.named {
        if !hardware::is_module_name(name) || !add(name)? {
            return Err(no_driver(kernel, format!("--driver {name}")));
        }
    }
    drivers.files = found.into_keys().collect();
    Ok(drivers)
}

fn from_list(
    kernel: &Kernel,
    path: &Path,
    add: &mut impl FnMut(&str) -> Result<bool, PackError>,
) -> Result<(), PackError> {
    let text = fs::read_to_string(path)
        .map_err(|source| PackError::Read { path: path.to_owned(), source })?;
    let bad = |BadLine { line, text }| {
        PackError::Initrd(InitrdError::Hardware { path: path.to_owned(), line, text })
    };
    let mut cards = 0;
    for (line, entry) in hardware::parse(&text).map_err(bad)? {
        let (Entry::Module(name) | Entry::Modalias(name)) = entry else { continue };
        if !add(&name)? {
            let wanted = format!("line {line} of {} ({name})", path.display());
            return Err(no_driver(kernel, wanted));
        }
        cards += 1;
    }
    if cards == 0 {
        return Err(PackError::Initrd(InitrdError::NoCard { path: path.to_owned() }));
    }
    Ok(())
}

fn no_driver(kernel: &Kernel, wanted: String) -> PackError {
    PackError::Initrd(InitrdError::NoDriver { wanted, release: kernel.release.clone() })
}

/// The entries of one of our lists.
fn names(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The files of a module, or of the driver of a modalias, and of all it depends on, relative to the
/// module directory; empty when it is built in, `None` when the kernel does not know it.
fn resolve(kernel: &Kernel, name: &str) -> Result<Option<Vec<PathBuf>>, PackError> {
    // …/lib/modules/RELEASE
    let Some(dir) = kernel.modules.ancestors().nth(3) else { return Ok(None) };
    let mut command = MODPROBE.command();
    // the host's configuration says nothing about the nodes
    command.env_remove("MODPROBE_OPTIONS").arg("--dirname").arg(dir);
    command.args(["--config", "/dev/null", "--set-version", &kernel.release]);
    command.args(["--show-depends", "--", name]);
    let output = MODPROBE.run(command, |_| {})?;
    if !output.status.success() {
        return Ok(None);
    }
    Ok(Some(output.text.lines().filter_map(|line| file(line, &kernel.modules)).collect()))
}

/// `insmod DIR/x/y.ko.xz options` → `x/y.ko.xz`.
fn file(line: &str, modules: &Path) -> Option<PathBuf> {
    let path = line.strip_prefix("insmod ")?;
    // the root's own path may have blanks in it
    let relative = path.strip_prefix(modules.to_str()?)?.strip_prefix('/')?;
    Some(PathBuf::from(relative.split(' ').next()?))
}

/// The name of a module's file as modprobe(8) takes it.
pub(crate) fn module_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.split(".ko").next().unwrap_or_default().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_lists_of_modules() {
        for list in [ALWAYS, CARDS] {
            assert!(names(list).all(hardware::is_module_name));
        }
        let all: Vec<&str> = names(CARDS).chain(names(ALWAYS)).collect();
        let wanted = "e1000e igb ixgbe i40e ice tg3 bnxt_en mlx4_en mlx5_core virtio_net r8169 \
                      loop squashfs overlay erofs";
        for name in wanted.split_whitespace() {
            assert!(all.contains(&name), "{name}");
        }
        let mut unique = all.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), all.len(), "a driver is listed twice");
    }

    #[test]
    fn modprobes_lines_are_read_whatever_the_path() {
        let modules = Path::new("/a root/lib/modules/6.1");
        let line = "insmod /a root/lib/modules/6.1/kernel/net/x-y.ko.zst debug=1 ";
        let found = file(line, modules).unwrap();
        assert_eq!(found, Path::new("kernel/net/x-y.ko.zst"));
        assert_eq!(module_name(&found), "x_y");
        assert_eq!(file("builtin unix", modules), None);
        assert_eq!(file("insmod /elsewhere/x.ko", modules), None);
    }
}
