//! IPMI over the network, by ipmitool.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use super::Subject;
use super::program::Program;
use super::template::Template;

/// How to reach a node's management controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ipmi {
    pub(super) program: PathBuf,
    pub(super) host: Template,
    pub(super) port: u16,
    pub(super) interface: String,
    pub(super) user: String,
    /// ipmitool reads it itself: a password on a command line is everybody's.
    pub(super) password_file: PathBuf,
}

impl Ipmi {
    pub(super) async fn reboot(&self, subject: &Subject, limit: Duration) -> Result<(), String> {
        let host = self.host.fill_controller(subject)?;
        let status = self.chassis(&host, "status", limit).await?;
        // a chassis that is off refuses a cycle
        let action = if status.trim_end().ends_with("off") { "on" } else { "cycle" };
        self.chassis(&host, action, limit).await.map(drop)
    }

    async fn chassis(&self, host: &str, action: &str, limit: Duration) -> Result<String, String> {
        let port = self.port.to_string();
        let arguments = ["-I", &self.interface, "-H", host, "-p", &port, "-U", &self.user, "-f"]
            .map(OsStr::new);
        let mut words = vec![self.program.as_os_str()];
        words.extend(arguments);
        words.push(self.password_file.as_os_str());
        words.extend(["chassis", "power", action].map(OsStr::new));
        Program::new(&words)?.run(limit).await
    }
}
