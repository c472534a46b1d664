//! Name servers for the C library's resolver.
//!
//! The program is linked against musl, whose resolver reads `/etc/resolv.conf` at each look-up.
//! dhclient and NetworkManager write that file. systemd-networkd does not: it leaves it to
//! systemd-resolved, which is not in the initrd. So the name servers that networkd learned are
//! copied from its state file (systemd-networkd.service(8)) when nobody else wrote any.

use std::io;
use std::path::Path;

/// Writes `resolv_conf` from networkd's `state` file, if the first names no server and the second
/// does. Returns whether it wrote.
///
/// # Errors
/// When `resolv_conf` cannot be written.
pub fn fill_in(resolv_conf: &Path, state: &Path) -> io::Result<bool> {
    if knows_server(resolv_conf) {
        return Ok(false);
    }
    let Some(text) = from_state(&std::fs::read_to_string(state).unwrap_or_default()) else {
        return Ok(false);
    };
    // a dangling link to resolved's file would swallow the write
    if resolv_conf.is_symlink() {
        std::fs::remove_file(resolv_conf)?;
    }
    std::fs::write(resolv_conf, text)?;
    Ok(true)
}

/// Whether a resolv.conf(5) names a server. Without one the resolver asks this machine, and waits
/// for seconds for an answer that cannot come.
#[must_use]
pub fn knows_server(resolv_conf: &Path) -> bool {
    let text = std::fs::read_to_string(resolv_conf).unwrap_or_default();
    text.lines().any(|line| line.trim_start().starts_with("nameserver"))
}

/// Whether the host of a URL is a name, not an address.
#[must_use]
pub fn needs_name_server(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    !authority.starts_with('[') && host.parse::<std::net::IpAddr>().is_err()
}

/// The text of a resolv.conf(5); `None` when the state names no server.
fn from_state(state: &str) -> Option<String> {
    let words = |key: &str| {
        state.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
    };
    let mut text = String::new();
    for server in words("DNS").split_whitespace() {
        // `ADDRESS%INTERFACE`, `ADDRESS#NAME`: the address is what the resolver takes
        let address = server.split(['%', '#']).next().unwrap_or_default();
        text.push_str(&format!("nameserver {address}\n"));
    }
    if text.is_empty() {
        return None;
    }
    let domains = words("DOMAINS");
    if !domains.is_empty() {
        text.push_str(&format!("search {domains}\n"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "# private\nOPER_STATE=routable\nDNS=10.0.2.3 fec0::3%eth0\nDOMAINS=lab\n";

    #[test]
    fn fills_in_what_networkd_knows() {
        let dir = tempfile::tempdir().unwrap();
        let (conf, state) = (dir.path().join("resolv.conf"), dir.path().join("state"));
        assert!(!fill_in(&conf, &state).unwrap());
        assert!(!conf.exists());
        std::os::unix::fs::symlink("/nonexistent/stub", &conf).unwrap();
        std::fs::write(&state, STATE).unwrap();
        assert!(fill_in(&conf, &state).unwrap());
        let text = std::fs::read_to_string(&conf).unwrap();
        assert_eq!(text, "nameserver 10.0.2.3\nnameserver fec0::3\nsearch lab\n");
        assert!(!fill_in(&conf, &state).unwrap(), "wrote twice");
    }

    #[test]
    fn only_names_need_a_server() {
        for (url, expected) in [
            ("http://admin.lab:8080/x", true),
            ("http://admin/", true),
            ("http://10.0.0.1:8080/x", false),
            ("http://10.0.0.1", false),
            ("http://[fd00::1]:8080/x", false),
            ("/rootimg.torrent", false),
        ] {
            assert_eq!(needs_name_server(url), expected, "{url}");
        }
    }

    #[test]
    fn leaves_the_work_of_others_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (conf, state) = (dir.path().join("resolv.conf"), dir.path().join("state"));
        std::fs::write(&conf, "nameserver 192.0.2.1\n").unwrap();
        std::fs::write(&state, STATE).unwrap();
        assert!(!fill_in(&conf, &state).unwrap());
        assert_eq!(std::fs::read_to_string(&conf).unwrap(), "nameserver 192.0.2.1\n");
    }
}
