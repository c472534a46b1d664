//! What a base root is made of.

use std::fmt::Write as _;
use std::fs;

use sha2::{Digest, Sha256};

use super::apt::{self, Sources};

/// Releases that the demo's root is known to build with: of Debian, then of Ubuntu. The first is the
/// default.
pub const SUITES: [&str; 4] = ["bookworm", "trixie", "noble", "questing"];

/// Those of Ubuntu.
const UBUNTU: [&str; 2] = ["noble", "questing"];

/// Packages of every node, and what they are for.
const PACKAGES: [&str; 11] = [
    "systemd",        // init
    "systemd-sysv",   // /sbin/init
    "dbus",           // systemctl and networkd's host name
    "udev",           // devices
    "kmod",           // modules
    "openssh-server", // the admin's way in
    "iproute2",       // addresses
    "iputils-ping",   // network trouble
    "procps",         // ps
    // the initrd of `--initrd-tool initramfs-tools`: one root for both
    "initramfs-tools-core",
    "busybox",
];

/// Which kernel the image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// For virtual machines: fewer drivers, about 70 MB less in the image.
    Cloud,
    /// With the drivers of real hardware.
    Generic,
}

impl Kernel {
    fn package(self, suite: &str) -> &'static str {
        match (self, UBUNTU.contains(&suite)) {
            (Kernel::Cloud, false) => "linux-image-cloud-amd64",
            (Kernel::Generic, false) => "linux-image-amd64",
            (Kernel::Cloud, true) => "linux-image-virtual",
            (Kernel::Generic, true) => "linux-image-generic",
        }
    }
}

/// The recipe of a base root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Release.
    pub(super) suite: String,
    /// Packages to install.
    pub(super) packages: Vec<&'static str>,
    /// Where packages come from; empty for mmdebstrap's default mirrors.
    pub(super) sources: Sources,
}

impl Recipe {
    /// The host's release and mirrors on a Debian that is known, otherwise bookworm from Debian's
    /// default mirrors. The host's apt settings for proxies and the like are always taken over.
    pub fn for_this_host(kernel: Kernel) -> Recipe {
        Recipe::of(None, kernel)
    }

    /// The same for another release, one of [`SUITES`]; that of the host is `None`. The mirrors of a
    /// host with another release are not asked for: Debian's default mirrors have every release.
    pub fn of(suite: Option<&str>, kernel: Kernel) -> Recipe {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let host = host_suite(&release);
        let mut sources =
            Sources::of_host(host.filter(|host| suite.is_none_or(|suite| suite == *host)));
        let suite = suite.or(host).unwrap_or(SUITES[0]).to_owned();
        if UBUNTU.contains(&&*suite) {
            sources.lines = apt::ubuntu(&suite);
        }
        let mut packages = PACKAGES.to_vec();
        packages.push(kernel.package(&suite));
        Recipe { suite, packages, sources }
    }

    /// True if its packages are Ubuntu's.
    pub fn is_ubuntu(&self) -> bool {
        UBUNTU.contains(&&*self.suite)
    }

    /// The release.
    pub fn suite(&self) -> &str {
        &self.suite
    }

    /// Names what the recipe builds: the same key, the same packages by name and the same trimming.
    pub fn key(&self) -> String {
        let text = format!("{}\n{}\n{}", self.suite, self.packages.join(" "), super::base::TRIM);
        let digest = Sha256::digest(text.as_bytes());
        digest.iter().take(6).fold(String::new(), |mut key, byte| {
            // writing to a String cannot fail
            let _ = write!(key, "{byte:02x}");
            key
        })
    }
}

/// The release of a Debian host, when it is one of ours.
fn host_suite(os_release: &str) -> Option<&'static str> {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.strip_prefix('=')?.trim_matches('"'))
    };
    if value("ID") != Some("debian") {
        return None;
    }
    let name = value("VERSION_CODENAME")?;
    SUITES.into_iter().find(|suite| *suite == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_debian_lends_its_release() {
        let debian = "ID=debian\nVERSION_CODENAME=trixie\n";
        assert_eq!(host_suite(debian), Some("trixie"));
        assert_eq!(host_suite("ID=debian\nVERSION_CODENAME=buster\n"), None);
        assert_eq!(host_suite("ID=ubuntu\nVERSION_CODENAME=noble\nID_LIKE=debian\n"), None);
        assert_eq!(host_suite(""), None);
    }

    #[test]
    fn another_release_has_its_own_key_and_not_the_hosts_mirrors() {
        for suite in SUITES {
            let recipe = Recipe::of(Some(suite), Kernel::Generic);
            assert_eq!(recipe.suite(), suite);
            let others = SUITES.into_iter().filter(|other| *other != suite);
            for other in others {
                assert_ne!(Recipe::of(Some(other), Kernel::Generic).key(), recipe.key());
                let of = |line: &&String| line.contains(&format!(" {other}"));
                assert_eq!(recipe.sources.lines.iter().find(of), None);
            }
            assert_eq!(recipe.is_ubuntu(), recipe.packages.contains(&"linux-image-generic"));
        }
    }

    #[test]
    fn the_key_follows_the_packages() {
        let recipe = |kernel| Recipe::for_this_host(kernel).key();
        assert_eq!(recipe(Kernel::Cloud), recipe(Kernel::Cloud));
        assert_ne!(recipe(Kernel::Cloud), recipe(Kernel::Generic));
    }
}
