//! Running the host's dracut for the image's kernel, with our module, whatever is installed.
//!
//! dracut finds modules in one directory only. So it is given a private one: copies of its
//! scripts, links to its modules, and our module among them. It runs in the draft's work
//! directory and gets every path by a configuration file there, because it writes its command
//! line into the initrd: with paths in it, two packings would differ.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use crate::error::PackError;
use crate::initrd_compression::Compression;
use crate::kernel::Kernel;
use crate::kernel_files::KernelFiles;
use crate::log_tail;
use crate::tool::{BUSYBOX, DRACUT, LSINITRD, Output, Place, keep_log};

/// Where distributions install dracut.
const BASE_DIRS: [&str; 2] = ["/usr/lib/dracut", "/lib/dracut"];

/// Name of the client in the initrd, as `lsinitrd` prints it.
const CLIENT_INSIDE: &str = "bin/bee-initrd-client";

/// Name of busybox in the initrd, as `lsinitrd` prints it: a module that does not know of it would leave
/// it out.
const BUSYBOX_INSIDE: &str = "bin/busybox";

/// What our init needs of busybox beside what every busybox has.
const APPLETS: [&str; 5] = ["ip", "modprobe", "setsid", "switch_root", "udhcpc"];

/// The module beside ours that removes what a node does not run.
const TRIM: &str = "99beeswarm-trim";

/// Name of the trust policy in the initrd, as `lsinitrd` prints it.
const TRUST_INSIDE: &str = "etc/beeswarm/trust.json";

/// What dracut is to make.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) kernel: &'a Kernel,
    /// The part of it that goes into the initrd.
    pub(crate) files: &'a KernelFiles,
    /// busybox and our own init in place of systemd and udev.
    pub(crate) busybox: bool,
    pub(crate) compression: Compression,
    pub(crate) module: &'a Path,
    pub(crate) client: &'a Path,
    /// The trust policy, if nodes are to demand signatures.
    pub(crate) trust: Option<&'a Path>,
    /// Of the user, after ours: they win.
    pub(crate) extra: &'a [String],
    /// Scratch directory, absolute.
    pub(crate) work: &'a Path,
    pub(crate) place: Place<'a>,
}

/// Makes the initrd and returns its path, in the work directory.
///
/// # Errors
/// [`PackError::ToolFailed`] with cause and remedy, [`PackError::InitrdIncomplete`].
pub(crate) fn run(job: &Job<'_>) -> Result<PathBuf, PackError> {
    if job.busybox {
        check_busybox(&job.place)?;
    }
    let dir = job.work.join("dracut");
    let write = |path: &Path, e| job.place.write_error(path.to_owned(), e);
    for sub in ["conf.d", "tmp", "no-firmware"] {
        let path = dir.join(sub);
        fs::create_dir_all(&path).map_err(|e| write(&path, e))?;
    }
    let base = dir.join("base");
    shadow(&base, job.module).map_err(|e| write(&base, e))?;
    symlink(&job.files.firmware, dir.join("firmware")).map_err(|e| write(&dir, e))?;
    let conf = dir.join("dracut.conf");
    fs::write(&conf, configuration(job, &dir)).map_err(|e| write(&conf, e))?;

    let output = DRACUT.run(command(job, &dir, &base), |_| {})?;
    let initrd = dir.join("initrd.img");
    if !output.status.success() || !initrd.is_file() {
        return Err(DRACUT.failed(&output, &job.place, remedy(&output.text)));
    }
    let mut list = LSINITRD.command();
    list.arg(&initrd);
    let list = LSINITRD.run(list, |_| {})?.text;
    // a module that does not know of the policy would leave it out, and nodes would demand nothing
    let trust = job.trust.map(|_| (TRUST_INSIDE, "the public key (etc/beeswarm/trust.json)"));
    let busybox = job.busybox.then_some((BUSYBOX_INSIDE, "busybox"));
    let wanted = [(CLIENT_INSIDE, "bee-initrd-client")].into_iter().chain(busybox).chain(trust);
    if let Some((_, missing)) = wanted.into_iter().find(|(name, _)| !list.contains(name)) {
        return Err(PackError::InitrdIncomplete {
            missing,
            tail: log_tail::tail(&output.text),
            log: keep_log("dracut", &output.text),
        });
    }
    Ok(initrd)
}

/// True if this host has a busybox that can do it.
pub(crate) fn has_busybox() -> bool {
    list_busybox().is_ok_and(|output| output.status.success() && lacking(&output.text).is_none())
}

/// What this host's busybox can do.
fn list_busybox() -> Result<Output, PackError> {
    let mut command = BUSYBOX.command();
    command.arg("--list");
    BUSYBOX.run(command, |_| {})
}

/// That this host has a busybox that can do it: dracut goes on without.
fn check_busybox(place: &Place<'_>) -> Result<(), PackError> {
    let output = list_busybox()?;
    let Some(applet) = lacking(&output.text) else { return Ok(()) };
    let text = format!("the busybox of this host has no {applet}");
    let remedy = format!("Install {}, or take --initrd-tool dracut", BUSYBOX.package);
    Err(BUSYBOX.failed(&Output { text, ..output }, place, &remedy))
}

/// What is not in the list of `busybox --list`, one name a line.
fn lacking(list: &str) -> Option<&'static str> {
    APPLETS.into_iter().find(|applet| !list.lines().any(|line| line == *applet))
}

fn command(job: &Job<'_>, dir: &Path, base: &Path) -> Command {
    let mut command = DRACUT.command();
    command.current_dir(dir).env("dracutbasedir", base).env("BEESWARM_CLIENT", job.client);
    // never that of the caller: it would be trusted by every node
    command.env_remove("BEESWARM_TRUST");
    if let Some(trust) = job.trust {
        command.env("BEESWARM_TRUST", trust);
    }
    command.args(["--conf", "./dracut.conf", "--confdir", "./conf.d"]);
    // the nodes are not this host
    command.args(["--no-hostonly", "--no-hostonly-cmdline", "--no-early-microcode"]);
    command.args(["--reproducible", "--force"]);
    // `--gzip` and the like among the extra options come later and win
    command.args(["--compress", &job.compression.command_line()]);
    // exactly our module and what it depends on: no disk, GPU, sound
    let modules = match (job.busybox, job.module.with_file_name(TRIM).is_dir()) {
        (true, _) => "beeswarm",
        (false, true) => "base beeswarm beeswarm-trim",
        (false, false) => "base beeswarm",
    };
    command.args(["--modules", modules]);
    // never that of the caller
    command.env_remove("BEESWARM_BUSYBOX");
    if job.busybox {
        command.env("BEESWARM_BUSYBOX", "yes");
    }
    command.env("BEESWARM_DRIVERS", job.files.names.join(" "));
    command.env("BEESWARM_LEFT_OUT", &job.files.left_out);
    // dracut would install it under the path that it has on this host
    command.args(["--include", "./firmware", "/usr/lib/firmware"]);
    command.args(job.extra);
    command.args(["initrd.img", &job.kernel.release]);
    command
}

/// Shell assignments (dracut.conf(5)).
fn configuration(job: &Job<'_>, dir: &Path) -> String {
    let path = |path: &Path| quote(&path.display().to_string());
    format!(
        "drivers_dir={}\nfw_dir={}\ntmpdir={}\n",
        path(&job.files.modules),
        path(&dir.join("no-firmware")),
        path(&dir.join("tmp")),
    )
}

/// Quotes for the shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A dracut directory with our module in it.
fn shadow(base: &Path, module: &Path) -> io::Result<()> {
    let installed =
        BASE_DIRS.iter().map(Path::new).find(|dir| dir.join("modules.d").is_dir()).ok_or_else(
            || io::Error::new(io::ErrorKind::NotFound, "no /usr/lib/dracut/modules.d"),
        )?;
    let modules = base.join("modules.d");
    fs::create_dir_all(&modules)?;
    for entry in fs::read_dir(installed)? {
        let entry = entry?;
        let (from, to) = (entry.path(), base.join(entry.file_name()));
        if from.is_file() {
            fs::copy(&from, &to)?;
            // dracut gives this time to everything it makes
            File::options().write(true).open(&to)?.set_modified(UNIX_EPOCH)?;
        } else if entry.file_name() != "modules.d" {
            symlink(&from, &to)?;
        }
    }
    for entry in fs::read_dir(installed.join("modules.d"))? {
        let entry = entry?;
        let name = entry.file_name();
        // an installed module of ours gives way to the one that was chosen
        let plain = name.to_string_lossy();
        let plain = plain.trim_start_matches(|c: char| c.is_ascii_digit());
        if !["beeswarm", "beeswarm-trim"].contains(&plain) {
            symlink(entry.path(), modules.join(name))?;
        }
    }
    let trim = module.with_file_name(TRIM);
    if trim.is_dir() {
        symlink(trim, modules.join(TRIM))?;
    }
    symlink(module, modules.join("55beeswarm"))
}

/// What to do, by what dracut said.
fn remedy(text: &str) -> &'static str {
    let causes = [
        (
            "systemd-networkd",
            "cannot be",
            "Install the network backend of the initrd on this host: systemd with \
             systemd-networkd, or dracut-network",
        ),
        (
            "Module '",
            "cannot be",
            "This host's dracut lacks that module: install dracut-network (and dracut-core)",
        ),
        ("modules.dep", "depmod", "Run `depmod -b ROOT KVER` for the root's kernel"),
        ("cpio", "not found", "Install cpio on this host"),
        ("zstd", "not found", "Install zstd on this host, or give --dracut-arg=--gzip"),
        ("xz", "not found", "Install xz (xz-utils) on this host, or give --dracut-arg=--gzip"),
        ("Permission denied", "", "Reading the host's programs needs root: run it with sudo"),
    ];
    causes.iter().find(|(a, b, _)| text.lines().any(|l| l.contains(a) && l.contains(b))).map_or(
        "Its output above names the cause; --dracut-arg passes options, --keep-initrd takes an \
         initrd made by hand",
        |cause| cause.2,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_cause_has_its_own_remedy() {
        let says = |text: &str| remedy(text).to_owned();
        let text = "x\ndracut: Module 'systemd-networkd' cannot be installed.\n";
        assert!(says(text).contains("systemd-networkd"));
        assert!(says("dracut: Module 'network' cannot be found.").contains("dracut-network"));
        assert!(says("whatever").contains("--keep-initrd"));
    }

    #[test]
    fn what_busybox_lacks_is_named() {
        let all = APPLETS.join("\n");
        assert_eq!(lacking(&all), None);
        assert_eq!(lacking(&all.replace("udhcpc", "udhcpc6")), Some("udhcpc"));
    }

    #[test]
    fn paths_are_quoted_for_the_shell() {
        assert_eq!(quote("/a b/it's"), r"'/a b/it'\''s'");
    }

    #[test]
    fn the_shadow_has_our_module_and_the_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let module = dir.path().join("mine");
        fs::create_dir(&module).unwrap();
        fs::write(module.join("module-setup.sh"), "").unwrap();
        let base = dir.path().join("base");
        shadow(&base, &module).expect("dracut-core must be installed for this test");
        assert!(base.join("modules.d/55beeswarm/module-setup.sh").is_file());
        assert!(base.join("modules.d/99base/module-setup.sh").is_file());
        let modified = fs::metadata(base.join("dracut-functions.sh")).unwrap().modified().unwrap();
        assert_eq!(modified, UNIX_EPOCH);
    }
}
