//! Running the root's own initramfs-tools, with our hook (Debian, Ubuntu).
//!
//! `mkinitramfs` only knows the system that it runs in. So it runs in the root, in a mount namespace
//! of its own where our configuration lies at `/tmp`, and the kernel's modules and firmware are those
//! that were chosen. Nothing of the root is changed, and nothing of the host is seen.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::PackError;
use crate::initrd_compression::Compression;
use crate::initrd_contents;
use crate::initrd_error::InitrdError;
use crate::inside::resolve;
use crate::kernel::Kernel;
use crate::kernel_files::KernelFiles;
use crate::log_tail;
use crate::tool::{Place, Tool, keep_log};

const UNSHARE: Tool =
    Tool { program: "unshare", purpose: "runs mkinitramfs in the root", package: "util-linux" };
const GZIP: Tool =
    Tool { program: "gzip", purpose: "unpacks what mkinitramfs made", package: "gzip" };

/// Everything chosen goes in, nothing else. Compressed by us, when all is in it.
const SETTINGS: &str = "\
MODULES=list
BUSYBOX=auto
COMPRESS=gzip
COMPRESSLEVEL=1
DEVICE=
RUNSIZE=10%
FSTYPE=squashfs
RESUME=none
";

/// `$@`: root, tmp, modules there, modules here, firmware there (or empty), firmware here, release.
const RUN: &str = r#"
set -e
root=$1 work=$2
mount --bind "$4" "$3"
[ -z "$5" ] || mount --bind "$6" "$5"
mount --bind "$work" "$root/tmp"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C TMPDIR=/tmp SOURCE_DATE_EPOCH=0 \
    chroot "$root" mkinitramfs -d /tmp/conf -o /tmp/initrd.gz "$7"
"#;

/// Names the cards without a driver, at boot.
const MISSING_DRIVER: &str = include_str!("../../dracut-module/55beeswarm/missing-driver.sh");

/// What to make.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) root: &'a Path,
    pub(crate) kernel: &'a Kernel,
    /// The part of it that goes into the initrd.
    pub(crate) files: &'a KernelFiles,
    pub(crate) compression: Compression,
    /// Directory with our hook and scripts.
    pub(crate) hook: &'a Path,
    pub(crate) client: &'a Path,
    pub(crate) trust: Option<&'a Path>,
    /// Scratch directory, absolute.
    pub(crate) work: &'a Path,
    pub(crate) place: Place<'a>,
}

/// Makes the initrd and returns its path, in the work directory.
///
/// # Errors
/// [`InitrdError::NotInRoot`], [`PackError::ToolFailed`], [`PackError::InitrdIncomplete`].
pub(crate) fn run(job: &Job<'_>) -> Result<PathBuf, PackError> {
    let missing = |missing| {
        let root = job.root.to_owned();
        PackError::Initrd(InitrdError::NotInRoot { root, missing })
    };
    let inside = |path: &str| resolve(job.root, path);
    inside("usr/sbin/mkinitramfs")?.ok_or_else(|| missing("usr/sbin/mkinitramfs"))?;
    for dir in ["tmp", "proc", "dev"] {
        inside(dir)?.filter(|path| path.is_dir()).ok_or_else(|| missing("tmp/, proc/ or dev/"))?;
    }
    let dir = job.work.join("initramfs-tools");
    configure(job, &dir).map_err(|e| job.place.write_error(dir.clone(), e))?;
    let firmware = inside("usr/lib/firmware")?;
    let output = UNSHARE.run(command(job, &dir, firmware.as_deref()), |_| {})?;
    let made = dir.join("initrd.gz");
    if !output.status.success() || !made.is_file() {
        return Err(Tool { program: "mkinitramfs", ..UNSHARE }.failed(
            &output,
            &job.place,
            remedy(&output.text),
        ));
    }
    let initrd = compress(job, &made, &dir)?;
    let contents = initrd_contents::read(&initrd)?;
    let has = |path: &str| contents.files.iter().any(|file| file.path.ends_with(path));
    // a hook that does not know of the policy would leave it out, and nodes would demand nothing
    let trust =
        job.trust.map(|_| ("etc/beeswarm/trust.json", "the public key (etc/beeswarm/trust.json)"));
    let wanted =
        [("bin/bee-initrd-client", "bee-initrd-client"), ("scripts/beeswarm", "our boot script")];
    match wanted.into_iter().chain(trust).find(|(path, _)| !has(path)) {
        None => Ok(initrd),
        Some((_, missing)) => Err(PackError::InitrdIncomplete {
            missing,
            tail: log_tail::tail(&output.text),
            log: keep_log("mkinitramfs", &output.text),
        }),
    }
}

/// Lays out what mkinitramfs(8) reads: settings, hook, scripts, and what the hook copies.
fn configure(job: &Job<'_>, dir: &Path) -> io::Result<()> {
    let conf = dir.join("conf");
    for sub in ["conf.d", "scripts", "beeswarm"] {
        fs::create_dir_all(conf.join(sub))?;
    }
    fs::write(conf.join("initramfs.conf"), SETTINGS)?;
    copy_tree(job.hook, &conf)?;
    let ours = conf.join("beeswarm");
    fs::copy(job.client, ours.join("bee-initrd-client"))?;
    fs::copy(&job.files.left_out, ours.join("left-out"))?;
    fs::write(ours.join("missing-driver"), MISSING_DRIVER)?;
    // what only other roots need may go
    fs::write(ours.join("alone"), "")?;
    if let Some(trust) = job.trust {
        fs::copy(trust, ours.join("trust.json"))?;
    }
    copy_tree(&job.files.firmware, &ours.join("firmware"))
}

/// Copies the files below a directory, with their permissions.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn command(job: &Job<'_>, dir: &Path, firmware: Option<&Path>) -> Command {
    let mut command = UNSHARE.command();
    command.args(["--mount", "--propagation", "private", "sh", "-c", RUN, "sh"]);
    command.arg(job.root).arg(dir).arg(&job.kernel.modules).arg(&job.files.modules);
    command.arg(firmware.unwrap_or(Path::new(""))).arg(&job.files.firmware);
    command.arg(&job.kernel.release);
    command
}

/// From gzip, which every kernel has, to what takes the least room.
fn compress(job: &Job<'_>, made: &Path, dir: &Path) -> Result<PathBuf, PackError> {
    let (plain, initrd) = (made.with_extension(""), dir.join("initrd.img"));
    let mut unpack = GZIP.command();
    unpack.arg("-d").arg(made);
    let output = GZIP.run(unpack, |_| {})?;
    if !output.status.success() {
        return Err(GZIP.failed(&output, &job.place, "Its output names the cause"));
    }
    let tool = job.compression.tool();
    let write = |e| job.place.write_error(initrd.clone(), e);
    let mut pack = tool.command();
    pack.args(job.compression.arguments());
    pack.stdin(File::open(&plain).map_err(write)?).stdout(File::create(&initrd).map_err(write)?);
    let missing = |source| PackError::ToolMissing {
        program: tool.program.to_owned(),
        purpose: tool.purpose,
        package: tool.package,
        source,
    };
    let status = pack.status().map_err(missing)?;
    if !status.success() {
        return Err(write(io::Error::other(format!("{}: {status}", tool.program))));
    }
    Ok(initrd)
}

/// What to do, by what mkinitramfs said.
fn remedy(text: &str) -> &'static str {
    if text.contains("unshare failed") || text.contains("must be superuser") {
        "Running the image's own programs needs root: run it with sudo"
    } else {
        "Its output above names the cause; --initrd-tool dracut makes an initrd without the image's \
         own programs"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_root_is_told() {
        assert!(remedy("unshare: unshare failed: Operation not permitted").contains("sudo"));
        assert!(remedy("E: whatever").contains("--initrd-tool dracut"));
    }

    #[test]
    fn trees_are_copied_with_their_permissions() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("hooks")).unwrap();
        fs::write(from.join("hooks/x"), "").unwrap();
        fs::set_permissions(from.join("hooks/x"), fs::Permissions::from_mode(0o755)).unwrap();
        copy_tree(&from, &to).unwrap();
        assert_eq!(fs::metadata(to.join("hooks/x")).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
