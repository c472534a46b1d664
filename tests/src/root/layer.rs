//! What comes on top of the base root: our programs and units, and what a demo node needs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::RootError;
use super::base::Base;
use crate::contain::contained;
use crate::tool::Tool;

/// Makes the demo's ssh key.
pub const SSH_KEYGEN: Tool =
    Tool::new("ssh-keygen", "the demo's key for its nodes", "openssh-client", "openssh");

const TAR: Tool = Tool::new("tar", "unpacks the base root", "tar", "tar");
const SHELL: Tool = Tool::new("sh", "runs set-up steps in the root", "dash", "bash");

/// Every Ethernet interface by DHCP, known to the server by its MAC address as in the initrd.
const NETWORK: &str =
    "[Match]\nType=ether\n\n[Network]\nDHCP=ipv4\n\n[DHCPv4]\nClientIdentifier=mac\n";

/// Host keys are no part of an image that every node hands on; each node makes its own.
const SSH_KEYS: &str = "[Service]\nExecStartPre=\nExecStartPre=/bin/sh -c 'test -s \
    /etc/ssh/ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N \"\" -f /etc/ssh/ssh_host_ed25519_key'\n\
    ExecStartPre=/usr/sbin/sshd -t\n";

/// Runs in the root: makes the users of our units, enables what a node runs, and masks what a
/// stateless node has no use for. `$@` are the units to enable.
const SETTLE: &str = r#"
set -e
systemd-sysusers
# as `make install` does
ln -sf bee-seeder /usr/bin/bee-record-order
systemctl --quiet enable systemd-networkd.service ssh.service "$@"
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer systemd-pstore.service getty@tty1.service; do
    systemctl --quiet mask "$unit"
done
"#;

/// One of our programs: the file and its path in the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Statically linked, so that it runs on any root.
    pub file: PathBuf,
    /// Name in `/usr/bin`.
    pub name: String,
}

/// What to put on a base root.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Programs for `/usr/bin`.
    pub programs: Vec<Program>,
    /// The project's `systemd` folder: units, `sysusers.d`, `tmpfiles.d`, `etc/beeswarm`.
    pub systemd: PathBuf,
    /// Units to enable.
    pub enable: Vec<String>,
    /// Public key that may log in as root; the password stays locked.
    pub authorized_key: String,
}

impl Layer {
    /// Unpacks `base` into `target` (which is replaced) and adds this layer.
    ///
    /// # Errors
    /// [`RootError::File`] and [`RootError::Step`] with what the step printed.
    pub fn assemble(&self, base: &Base, target: &Path) -> Result<(), RootError> {
        if target.exists() {
            fs::remove_dir_all(target).map_err(RootError::file("remove", target))?;
        }
        fs::create_dir_all(target).map_err(RootError::file("create", target))?;
        let mut unpack = Command::new(TAR.find()?);
        unpack.args(["--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*"]);
        unpack.arg("--file").arg(base.tar()).arg("--directory").arg(target);
        step("unpacking the base root", &mut unpack)?;

        for program in &self.programs {
            install(&program.file, &target.join("usr/bin").join(&program.name), 0o755)?;
        }
        self.install_units(target)?;
        write(target, "etc/systemd/network/80-ether.network", NETWORK, 0o644)?;
        write(target, "etc/systemd/system/ssh.service.d/beeswarm-keys.conf", SSH_KEYS, 0o644)?;
        write(target, "root/.ssh/authorized_keys", &self.authorized_key, 0o600)?;
        set_mode(&target.join("root/.ssh"), 0o700)?;

        let mut settle = contained(SHELL.find()?)?;
        settle.args(["-c", "exec chroot \"$0\" sh -c \"$@\""]).arg(target);
        settle.args([SETTLE, "sh"]).args(&self.enable);
        settle.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        step("setting up the root", &mut settle)
    }

    /// Files by what they are: units (`NAME.service` and the like), `sysusers.d/*`, `tmpfiles.d/*`,
    /// and settings in `etc/beeswarm/*`.
    fn install_units(&self, target: &Path) -> Result<(), RootError> {
        let folders = [
            ("", "usr/lib/systemd/system"),
            ("sysusers.d", "usr/lib/sysusers.d"),
            ("tmpfiles.d", "usr/lib/tmpfiles.d"),
            ("etc/beeswarm", "etc/beeswarm"),
        ];
        for (from, to) in folders {
            let folder = self.systemd.join(from);
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(RootError::file("read", folder)(error)),
            };
            for entry in entries {
                let path = entry.map_err(RootError::file("read", &folder))?.path();
                let unit = path.extension().is_some_and(|extension| {
                    ["service", "socket", "timer", "target", "slice", "conf", "toml"]
                        .iter()
                        .any(|known| extension == *known)
                });
                if let (true, Some(name)) = (unit, path.file_name()) {
                    install(&path, &target.join(to).join(name), 0o644)?;
                }
            }
        }
        Ok(())
    }
}

/// The demo's own ssh key in `folder`, made when missing: the private key's path and the public
/// key's text. The private key never goes into an image.
///
/// # Errors
/// A missing ssh-keygen, [`RootError::Step`], [`RootError::File`].
pub fn demo_key(folder: &Path) -> Result<(PathBuf, String), RootError> {
    fs::create_dir_all(folder).map_err(RootError::file("create", folder))?;
    set_mode(folder, 0o700)?;
    let private = folder.join("id_ed25519");
    if !private.is_file() {
        let mut keygen = Command::new(SSH_KEYGEN.find()?);
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "beeswarm-demo", "-f"]).arg(&private);
        step("making the demo's ssh key", &mut keygen)?;
    }
    let public = private.with_extension("pub");
    let text = fs::read_to_string(&public).map_err(RootError::file("read", &public))?;
    Ok((private, text))
}

fn step(what: &'static str, command: &mut Command) -> Result<(), RootError> {
    let program = command.get_program().to_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(RootError::file("run", PathBuf::from(program)))?;
    if output.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(RootError::Step { what, output })
}

fn install(from: &Path, to: &Path, mode: u32) -> Result<(), RootError> {
    make_folder(to)?;
    fs::copy(from, to).map_err(RootError::file("copy", from))?;
    set_mode(to, mode)
}

fn write(root: &Path, path: &str, text: &str, mode: u32) -> Result<(), RootError> {
    let path = root.join(path);
    make_folder(&path)?;
    fs::write(&path, text).map_err(RootError::file("write", &path))?;
    set_mode(&path, mode)
}

fn make_folder(path: &Path) -> Result<(), RootError> {
    match path.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(RootError::file("create", folder)),
        None => Ok(()),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), RootError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(RootError::file("change the mode of", path))
}
