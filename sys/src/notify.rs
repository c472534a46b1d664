//! Telling systemd how the service does (sd_notify(3)), without libsystemd.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager's ear. Does nothing where there is none.
#[derive(Debug, Default)]
pub struct Notifier {
    peer: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From `$NOTIFY_SOCKET` and `$WATCHDOG_USEC`. An unusable socket is as good as none: a
    /// service must not die of it.
    pub fn from_env() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let mut notifier = Self::to_socket(&name).unwrap_or_else(|e| {
            tracing::warn!(socket = ?name, err = %e, "cannot reach the service manager");
            Self::default()
        });
        let ours =
            std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        notifier.watchdog = std::env::var("WATCHDOG_USEC")
            .ok()
            .filter(|_| ours)
            .and_then(|text| text.parse().ok())
            .map(Duration::from_micros);
        notifier
    }

    /// To the socket with this name: a path, or an abstract name after `@`.
    ///
    /// # Errors
    /// The name is neither, or no socket can be made.
    pub fn to_socket(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                let text = "neither a path nor an abstract socket";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not listen must not stop us.
        socket.set_nonblocking(true)?;
        Ok(Self { peer: Some((socket, address)), watchdog: None })
    }

    /// Half of the time within which the manager wants to hear [`Self::watchdog`]; `None`: never.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Start-up is over.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, text: &str) {
        // A newline would start another assignment.
        self.send(&format!("STATUS={}", text.replace(['\n', '\r'], " ")));
    }

    /// Shutdown has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Still alive.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.peer else { return };
        if let Err(e) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::debug!(err = %e, "service manager does not listen");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buf = [0; 256];
        let len = socket.recv(&mut buf).unwrap();
        String::from_utf8(buf[..len].to_vec()).unwrap()
    }

    fn speaks_to(name: &OsStr, manager: &UnixDatagram) {
        let notifier = Notifier::to_socket(name).unwrap();
        notifier.status("seeding\nREADY=1");
        notifier.ready();
        notifier.watchdog();
        notifier.stopping();
        assert_eq!(received(manager), "STATUS=seeding READY=1");
        assert_eq!(received(manager), "READY=1");
        assert_eq!(received(manager), "WATCHDOG=1");
        assert_eq!(received(manager), "STOPPING=1");
    }

    #[test]
    fn path_and_abstract_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        speaks_to(path.as_os_str(), &UnixDatagram::bind(&path).unwrap());

        let name = format!("beeswarm-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        speaks_to(OsStr::new(&format!("@{name}")), &manager);
    }

    #[test]
    fn nobody_listening_is_no_failure() {
        Notifier::default().ready();
        Notifier::to_socket(OsStr::new("/nonexistent/socket")).unwrap().ready();
        assert!(Notifier::to_socket(OsStr::new("relative")).is_err());
        assert_eq!(Notifier::default().watchdog_interval(), None);
    }
}
