//! Which kernel the nodes boot, and where its modules are.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::PackError;
use crate::inside::resolve;

/// Where distributions put modules; the first that exists is used (the other is a link to it).
const MODULE_DIRS: [&str; 2] = ["usr/lib/modules", "lib/modules"];

/// A kernel with its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` gives it.
    pub release: String,
    /// The kernel image.
    pub image: PathBuf,
    /// Its modules, below the root.
    pub modules: PathBuf,
}

/// Finds the kernel: the one pinned with `pin`, the one that `image` is, or the newest.
///
/// # Errors
/// [`PackError::NoModules`], [`PackError::KernelVersion`] when there are none for the pinned one,
/// [`PackError::KernelPin`] when pin and image disagree, [`PackError::NoKernel`],
/// [`PackError::NoModulesDep`], [`PackError::Escapes`], [`PackError::Read`].
pub fn find(root: &Path, pin: Option<&str>, image: Option<&Path>) -> Result<Kernel, PackError> {
    let (dir, releases) = module_releases(root)?;
    let inside = image.map(release_of).transpose()?.flatten();
    if let (Some(pin), Some(kernel), Some(release)) = (pin, image, &inside)
        && pin != release
    {
        let (pin, kernel) = (pin.to_owned(), kernel.to_owned());
        return Err(PackError::KernelPin { pin, kernel, release: release.clone() });
    }
    let wanted = pin.map(str::to_owned).or(inside);
    let candidates = match &wanted {
        Some(wanted) if releases.contains(wanted) => vec![wanted.clone()],
        Some(wanted) => {
            let found = releases.join(", ");
            return Err(PackError::KernelVersion { wanted: wanted.clone(), found });
        }
        // newest first
        None => releases.into_iter().rev().collect(),
    };
    let mut looked = Vec::new();
    for release in &candidates {
        let found = match image {
            Some(image) => Some(image.to_owned()),
            None => image_in(root, release, &mut looked)?,
        };
        let Some(image) = found else { continue };
        let modules = dir.join(release);
        let dep = modules.join("modules.dep");
        let release = release.clone();
        if !dep.exists() {
            return Err(PackError::NoModulesDep { path: dep, root: root.to_owned(), release });
        }
        return Ok(Kernel { release, image, modules });
    }
    Err(PackError::NoKernel { release: candidates.join(", "), looked: looked.join(", ") })
}

/// Checks a kernel that is not of this root: nodes load modules from the image, so these must be
/// for it. A root without modules is for kernels that need none.
///
/// # Errors
/// [`PackError::KernelVersion`], [`PackError::Escapes`], [`PackError::Read`].
pub(crate) fn check_modules(root: &Path, release: &str) -> Result<(), PackError> {
    let releases = match module_releases(root) {
        Ok((_, releases)) => releases,
        Err(PackError::NoModules { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    if releases.iter().any(|found| found == release) {
        return Ok(());
    }
    Err(PackError::KernelVersion { wanted: release.to_owned(), found: releases.join(", ") })
}

/// The module directory and the kernel releases in it, oldest first; at least one.
fn module_releases(root: &Path) -> Result<(PathBuf, Vec<String>), PackError> {
    for relative in MODULE_DIRS {
        let Some(dir) = resolve(root, relative)? else { continue };
        let entries = fs::read_dir(&dir)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(|source| PackError::Read { path: dir.clone(), source })?;
        let mut releases: Vec<String> = entries
            .iter()
            // what a removed kernel package leaves behind has neither
            .filter(|e| ["kernel", "modules.dep"].iter().any(|f| e.path().join(f).exists()))
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        releases.sort_by(|a, b| compare_versions(a, b));
        if !releases.is_empty() {
            return Ok((dir, releases));
        }
    }
    Err(PackError::NoModules { root: root.to_owned() })
}

/// The kernel image of that release in the root.
fn image_in(
    root: &Path,
    release: &str,
    looked: &mut Vec<String>,
) -> Result<Option<PathBuf>, PackError> {
    for relative in [
        format!("boot/vmlinuz-{release}"),
        format!("usr/lib/modules/{release}/vmlinuz"),
        format!("lib/modules/{release}/vmlinuz"),
        format!("boot/vmlinux-{release}"),
    ] {
        if let Some(path) = resolve(root, &relative)?.filter(|p| p.is_file()) {
            return Ok(Some(path));
        }
        looked.push(relative);
    }
    Ok(None)
}

/// The release that a kernel image says it is; `None` when it is of a kind that does not say.
///
/// An x86 image has "HdrS" at 0x202 and, at 0x20e, the offset of its version string, less 0x200
/// (Documentation/arch/x86/boot.rst).
pub(crate) fn release_of(image: &Path) -> Result<Option<String>, PackError> {
    let error = |source| PackError::Read { path: image.to_owned(), source };
    let mut file = File::open(image).map_err(error)?;
    let mut header = Vec::new();
    (&mut file).take(0x210).read_to_end(&mut header).map_err(error)?;
    if header.get(0x202..0x206) != Some(b"HdrS") || header.len() < 0x210 {
        return Ok(None);
    }
    let offset = u16::from_le_bytes([header[0x20e], header[0x20f]]);
    if offset == 0 {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(u64::from(offset) + 0x200)).map_err(error)?;
    let mut text = Vec::new();
    file.take(256).read_to_end(&mut text).map_err(error)?;
    let release = text.split(|b| *b == 0 || *b == b' ').next().unwrap_or_default();
    Ok(std::str::from_utf8(release).ok().filter(|r| !r.is_empty()).map(str::to_owned))
}

/// Whether the root's own kernel configuration denies `option`; unknown counts as no.
pub(crate) fn lacks_option(root: &Path, release: &str, option: &str) -> bool {
    [format!("boot/config-{release}"), format!("usr/lib/modules/{release}/config")]
        .iter()
        .find_map(|path| fs::read_to_string(resolve(root, path).ok()??).ok())
        .is_some_and(|text| {
            let set = |line: &str| matches!(line.strip_prefix(option), Some("=y" | "=m"));
            !text.lines().any(set)
        })
}

/// 5.9 < 5.10 < 6.1.0-9 < 6.1.0-10: numbers by value, the rest as text.
fn compare_versions(a: &str, b: &str) -> Ordering {
    /// Splits off a leading run of digits, or of anything else.
    fn run(text: &str) -> (&str, &str) {
        let digit = text.starts_with(|c: char| c.is_ascii_digit());
        let end = text.find(|c: char| c.is_ascii_digit() != digit).unwrap_or(text.len());
        text.split_at(end)
    }
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let ((part_a, rest_a), (part_b, rest_b)) = (run(a), run(b));
        let order = match (part_a.parse::<u64>(), part_b.parse::<u64>()) {
            (Ok(x), Ok(y)) => x.cmp(&y),
            _ => part_a.cmp(part_b),
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(releases: &[&str], kernels: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("boot")).unwrap();
        for release in releases {
            let modules = dir.path().join("usr/lib/modules").join(release);
            fs::create_dir_all(modules.join("kernel")).unwrap();
            fs::write(modules.join("modules.dep"), "").unwrap();
        }
        for kernel in kernels {
            fs::write(dir.path().join("boot").join(format!("vmlinuz-{kernel}")), "").unwrap();
        }
        dir
    }

    /// As much of an x86 kernel as says its version.
    fn bz_image(release: &str) -> Vec<u8> {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        let text = format!("{release} (someone@somewhere) #1 SMP\0");
        image[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
        image
    }

    #[test]
    fn the_newest_kernel_with_modules_is_taken() {
        let dir = root(
            &["6.1.0-9-amd64", "6.1.0-10-amd64", "5.10.0-1"],
            &["6.1.0-9-amd64", "6.1.0-10-amd64", "5.10.0-1", "7.0.0"],
        );
        let found = find(dir.path(), None, None).unwrap();
        assert_eq!(found.release, "6.1.0-10-amd64");
        assert!(found.image.ends_with("boot/vmlinuz-6.1.0-10-amd64"));
        assert!(found.modules.ends_with("usr/lib/modules/6.1.0-10-amd64"));
        assert_eq!(find(dir.path(), Some("5.10.0-1"), None).unwrap().release, "5.10.0-1");
    }

    #[test]
    fn modules_whose_kernel_was_removed_are_passed_over() {
        let dir = root(&["5.10.0", "6.1.0"], &["5.10.0"]);
        fs::create_dir_all(dir.path().join("usr/lib/modules/6.9-leftover")).unwrap();
        assert_eq!(find(dir.path(), None, None).unwrap().release, "5.10.0");
    }

    #[test]
    fn fedora_keeps_the_kernel_with_its_modules() {
        let dir = root(&["6.5.6-300.fc39.x86_64"], &[]);
        let path = dir.path().join("usr/lib/modules/6.5.6-300.fc39.x86_64/vmlinuz");
        fs::write(&path, "").unwrap();
        assert_eq!(find(dir.path(), None, None).unwrap().image, fs::canonicalize(path).unwrap());
    }

    #[test]
    fn each_way_to_have_no_kernel_has_its_own_remedy() {
        let none = root(&[], &["6.1.0"]);
        let error = find(none.path(), None, None).unwrap_err();
        assert!(error.to_string().contains("install a kernel package"), "{error}");

        let bare = root(&["6.1.0"], &[]);
        let error = find(bare.path(), None, None).unwrap_err();
        assert!(error.to_string().contains("boot/vmlinuz-6.1.0"), "{error}");
        assert!(error.to_string().contains("--kernel FILE"), "{error}");

        let other = root(&["6.1.0", "6.1.1"], &["6.1.0"]);
        let error = find(other.path(), Some("6.2.0"), None).unwrap_err();
        assert!(error.to_string().contains("it has them for 6.1.0, 6.1.1"), "{error}");

        fs::remove_file(other.path().join("usr/lib/modules/6.1.0/modules.dep")).unwrap();
        let error = find(other.path(), Some("6.1.0"), None).unwrap_err();
        assert!(error.to_string().contains("depmod -b"), "{error}");
    }

    #[test]
    fn a_kernel_given_by_flag_says_its_own_version() {
        let dir = root(&["5.10.0", "6.1.0"], &[]);
        let kernel = dir.path().join("my-kernel");
        fs::write(&kernel, bz_image("5.10.0")).unwrap();
        let found = find(dir.path(), None, Some(&kernel)).unwrap();
        assert_eq!((found.release.as_str(), found.image), ("5.10.0", kernel.clone()));
        let error = find(dir.path(), Some("6.1.0"), Some(&kernel)).unwrap_err();
        assert!(matches!(error, PackError::KernelPin { .. }), "{error}");
        fs::write(&kernel, bz_image("9.9.9")).unwrap();
        let error = find(dir.path(), None, Some(&kernel)).unwrap_err();
        assert!(matches!(error, PackError::KernelVersion { .. }), "{error}");
        // of another architecture: taken on trust
        fs::write(&kernel, "MZ").unwrap();
        assert_eq!(find(dir.path(), None, Some(&kernel)).unwrap().release, "6.1.0");
        fs::remove_file(&kernel).unwrap();
        let error = find(dir.path(), None, Some(&kernel)).unwrap_err();
        assert!(matches!(error, PackError::Read { .. }), "{error}");
    }

    #[test]
    fn modules_for_other_kernels_are_no_modules_for_this_one() {
        let dir = root(&["5.10.0", "6.1.0"], &[]);
        check_modules(dir.path(), "6.1.0").unwrap();
        let error = check_modules(dir.path(), "6.2.0").unwrap_err();
        assert!(error.to_string().contains("it has them for 5.10.0, 6.1.0"), "{error}");
        check_modules(root(&[], &[]).path(), "6.2.0").unwrap();
    }

    #[test]
    fn a_kernel_that_cannot_read_the_image_is_noticed() {
        let dir = root(&["6.1.0"], &["6.1.0"]);
        let lacks = |option| lacks_option(dir.path(), "6.1.0", option);
        assert!(!lacks("CONFIG_SQUASHFS_ZSTD"), "unknown is not a no");
        let config = "CONFIG_SQUASHFS_XZ=y\n# CONFIG_SQUASHFS_ZSTD is not set\n";
        fs::write(dir.path().join("boot/config-6.1.0"), config).unwrap();
        assert!(lacks("CONFIG_SQUASHFS_ZSTD"));
        assert!(!lacks("CONFIG_SQUASHFS_XZ"));
    }

    #[test]
    fn versions_are_compared_by_number() {
        let sorted = ["5.9", "5.10", "6.1.0-9-amd64", "6.1.0-10-amd64", "6.1.1", "6.10.0"];
        for pair in sorted.windows(2) {
            assert_eq!(compare_versions(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare_versions(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare_versions("6.1", "6.1"), Ordering::Equal);
    }
}
