//! Programs of the system that the lab calls: where they are and which package brings them.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::LabError;

/// A program of the system, and how to get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// File name of the program.
    pub program: &'static str,
    /// What it is needed for, for people.
    pub why: &'static str,
    /// Package on Debian and Ubuntu.
    pub debian: &'static str,
    /// Package on Fedora and RHEL-likes.
    pub fedora: &'static str,
}

impl Tool {
    /// Describes a program.
    pub const fn new(
        program: &'static str,
        why: &'static str,
        debian: &'static str,
        fedora: &'static str,
    ) -> Tool {
        Tool { program, why, debian, fedora }
    }

    /// Looks the program up in `PATH`, then in the system folders that a user's `PATH` may lack.
    ///
    /// # Errors
    /// [`LabError::MissingTool`] when it is in none of them.
    pub fn find(&self) -> Result<PathBuf, LabError> {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/libexec"].map(PathBuf::from))
            .map(|folder| folder.join(self.program))
            .find(|candidate| is_program(candidate))
            .ok_or_else(|| self.missing())
    }

    /// Says that it is not there, and what brings it.
    pub(crate) fn missing(&self) -> LabError {
        let Tool { program, why, debian, fedora } = *self;
        LabError::MissingTool { program, why, debian, fedora }
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Links, addresses and namespaces.
pub const IP: Tool = Tool::new("ip", "network namespaces and links", "iproute2", "iproute");
/// Traffic shaping.
pub const TC: Tool = Tool::new("tc", "shaped links", "iproute2", "iproute-tc");
/// Drops packets of lossy links.
pub const NFT: Tool = Tool::new("nft", "links that lose packets", "nftables", "nftables");
/// Makes the holder's namespaces.
pub const UNSHARE: Tool = Tool::new("unshare", "namespaces of the lab", "util-linux", "util-linux");
/// Ties the holder's life to ours.
pub const SETPRIV: Tool =
    Tool::new("setpriv", "ends the lab with its parent", "util-linux", "util-linux");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let tool = Tool::new("no-such-program-at-all", "nothing", "some-deb", "some-rpm");
        let text = tool.find().unwrap_err().to_string();
        for part in ["no-such-program-at-all", "some-deb", "some-rpm"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_shell_is_found() {
        let shell = Tool::new("sh", "tests", "dash", "bash");
        assert!(shell.find().unwrap().is_absolute());
    }
}
