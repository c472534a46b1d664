//! What this host's apt knows: mirrors of its own release, and how to reach mirrors at all.

use std::path::Path;
use std::process::Command;

/// Settings of apt that say how mirrors are reached and trusted; the rest is the host's business.
const SETTINGS: [&str; 8] = [
    "Acquire::http",
    "Acquire::https",
    "Acquire::ftp",
    "Acquire::Retries",
    "Acquire::ForceIPv4",
    "Acquire::ForceIPv6",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
];

/// Where Debian's keyring is, by release.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// Where Ubuntu's keyring is, on Debian and on Ubuntu.
pub const UBUNTU_KEYRING: &str = "/usr/share/keyrings/ubuntu-archive-keyring.gpg";

/// Mirrors and settings, as mmdebstrap takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources {
    /// One-line entries for sources.list; empty: the default mirrors.
    pub(super) lines: Vec<String>,
    /// apt.conf settings.
    pub(super) settings: Vec<String>,
}

impl Sources {
    /// Asks apt. A host without apt has nothing to say.
    pub(super) fn of_host(suite: Option<&str>) -> Sources {
        let keyring = KEYRINGS.into_iter().find(|path| Path::new(path).exists());
        let lines = match suite {
            Some(suite) => {
                let format = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)";
                let targets = ["indextargets", "--format", format, "Created-By: Packages"];
                lines(&output("apt-get", &targets), suite, keyring)
            }
            None => Vec::new(),
        };
        let dump = output("apt-config", &["dump", "--no-empty", "--format", "%f \"%v\";%n"]);
        Sources { lines, settings: settings(&dump) }
    }
}

/// Ubuntu's own mirror, with what it keeps outside `main`: busybox.
pub(super) fn ubuntu(suite: &str) -> Vec<String> {
    let line = |part: &str| {
        format!(
            "deb [signed-by={UBUNTU_KEYRING}] http://archive.ubuntu.com/ubuntu {suite}{part} main universe"
        )
    };
    ["", "-updates", "-security"].map(line).to_vec()
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
}

/// Debian's own entries of the release and its updates, without repeats.
fn lines(targets: &str, suite: &str, keyring: Option<&str>) -> Vec<String> {
    let option = keyring.map_or(String::new(), |path| format!("[signed-by={path}] "));
    let mut lines = Vec::new();
    for target in targets.lines() {
        let mut fields = target.split('|');
        let (Some(origin), Some(uri), Some(release), Some("main")) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        // before the first `apt-get update` apt does not know the origin: go by the folder
        let folder = uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let debian = origin == "Debian" || (origin.is_empty() && folder.starts_with("debian"));
        let part = release.strip_prefix(suite);
        let ours = debian && part.is_some_and(|p| ["", "-updates", "-security"].contains(&p));
        let line = format!("deb {option}{uri} {release} main");
        if ours && !lines.contains(&line) {
            lines.push(line);
        }
    }
    // updates alone make no release
    let complete = lines.iter().any(|line| line.contains(&format!(" {suite} ")));
    if complete { lines } else { Vec::new() }
}

fn settings(dump: &str) -> Vec<String> {
    let wanted = |line: &&str| {
        SETTINGS.iter().any(|prefix| {
            line.strip_prefix(prefix).is_some_and(|rest| rest.starts_with([' ', ':']))
        })
    };
    dump.lines().filter(wanted).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debians_own_entries_of_the_release_are_taken() {
        let targets = "Debian|http://m/debian/|bookworm|main\n\
                       Debian|http://m/debian/|bookworm|main\n\
                       Debian|http://m/debian/|bookworm|contrib\n\
                       Debian|http://m/debian/|bookworm-updates|main\n\
                       Debian|http://m/debian/|bookworm-backports|main\n\
                       Other|http://o/|bookworm|main\n";
        assert_eq!(
            lines(targets, "bookworm", Some("/k.gpg")),
            [
                "deb [signed-by=/k.gpg] http://m/debian/ bookworm main",
                "deb [signed-by=/k.gpg] http://m/debian/ bookworm-updates main"
            ]
        );
        assert_eq!(lines("|http://m/debian|bookworm|main", "bookworm", None).len(), 1);
        assert!(lines("|http://m/node_20.x|bookworm|main", "bookworm", None).is_empty());
        assert!(lines("Debian|http://m/|bookworm-updates|main", "bookworm", None).is_empty());
    }

    #[test]
    fn proxies_are_taken_over_and_folders_are_not() {
        let dump = "Acquire::http::Proxy \"http://p:3128\";\nAcquire::httpsx \"no\";\n\
                    Acquire::Check-Valid-Until \"false\";\nDir::Etc \"etc\";\n";
        assert_eq!(
            settings(dump),
            ["Acquire::http::Proxy \"http://p:3128\";", "Acquire::Check-Valid-Until \"false\";"]
        );
    }
}
