//! The recipe file: TOML, every key known.

use std::path::PathBuf;

use serde::Deserialize;

/// What a root is made of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Recipe {
    /// Which distribution.
    pub(super) base: Base,
    /// Its release: `bookworm`, `noble`, `42`, `9`.
    pub(super) suite: String,
    /// Where packages come from; without, the distribution's own mirror (Debian, Ubuntu) or the
    /// repositories of this host (Fedora, Rocky).
    #[serde(default)]
    pub(super) mirrors: Vec<String>,
    /// Debian's `main`, `non-free-firmware`, …
    #[serde(default)]
    pub(super) components: Vec<String>,
    /// Keys that the packages are signed with, relative to the recipe; without, those of this host.
    pub(super) keyring: Option<PathBuf>,
    /// Kernel package; without, the root has no kernel unless a package brings it.
    pub(super) kernel: Option<String>,
    #[serde(default)]
    pub(super) packages: Vec<String>,
    #[serde(default)]
    pub(super) services: Services,
    /// For `sh -eu`, run in the root, in this order, when everything else is done.
    #[serde(default)]
    pub(super) commands: Vec<String>,
    #[serde(default)]
    pub(super) files: Vec<FileEntry>,
    #[serde(default)]
    pub(super) users: Vec<User>,
}

/// Distributions that a program of the host can install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Base {
    Debian,
    Ubuntu,
    Fedora,
    Rocky,
}

impl Base {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Ubuntu => "ubuntu",
            Self::Fedora => "fedora",
            Self::Rocky => "rocky",
        }
    }

    /// Whether it is made of .deb packages.
    pub(super) fn is_debian(self) -> bool {
        matches!(self, Self::Debian | Self::Ubuntu)
    }
}

/// Units of systemd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Services {
    #[serde(default)]
    pub(super) enable: Vec<String>,
    #[serde(default)]
    pub(super) disable: Vec<String>,
    #[serde(default)]
    pub(super) mask: Vec<String>,
}

/// A file that is put into the root.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileEntry {
    /// Where it goes: absolute.
    pub(super) path: String,
    /// Where it comes from: relative to the recipe, and not out of its folder.
    pub(super) source: Option<PathBuf>,
    /// Its text, instead of `source`.
    pub(super) content: Option<String>,
    /// Octal: "0644". Without: 0755 if the source is executable, else 0644.
    pub(super) mode: Option<String>,
    /// Owner; root without.
    #[serde(default)]
    pub(super) uid: u32,
    /// Group; root without.
    #[serde(default)]
    pub(super) gid: u32,
}

/// A user of the root. Its password is locked, unless a hash is given and allowed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: Option<u32>,
    #[serde(default)]
    pub(super) groups: Vec<String>,
    pub(super) shell: Option<String>,
    pub(super) home: Option<String>,
    /// As in /etc/shadow, crypt(5).
    pub(super) password_hash: Option<String>,
    /// Every node, and who can reach the swarm, can read the hash.
    #[serde(default)]
    pub(super) allow_password_hash: bool,
}
