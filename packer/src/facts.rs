//! `/etc/bee-release`: on a node, what it runs and what that was made of.
//!
//! In the syntax of os-release(5), and as a line that is shown at login (`/etc/motd.d`, which
//! pam_motd reads beside `/etc/motd`). No time and no host name, unless they are given: the same
//! input gives the same image.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

use proto::unix_time::UnixTime;

use crate::error::PackError;
use crate::tool::Place;
use crate::tree::{Attributes, Tree};

/// The file with all facts, relative to the root.
pub(crate) const RELEASE: &str = "etc/bee-release";

/// The line that is shown at login, relative to the root.
pub(crate) const MOTD: &str = "etc/motd.d/beeswarm";

const COMMIT: &str = "BEE_GIT_COMMIT";

/// The distribution's name for itself, for people.
const DISTRIBUTION: &str = "BEE_DISTRIBUTION";

/// Facts about the root, which the manifest has in no other place.
const OF_ROOT: [&str; 3] = [COMMIT, DISTRIBUTION, "BEE_DISTRIBUTION_ID"];

/// `--build-fact KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    key: String,
    value: String,
}

/// What is wrong with a fact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write KEY=VALUE: KEY of A-Z, 0-9 and '_', not beginning with a digit, VALUE in one line")]
pub struct FactError;

impl FromStr for Fact {
    type Err = FactError;

    fn from_str(text: &str) -> Result<Self, FactError> {
        let (key, value) = text.split_once('=').ok_or(FactError)?;
        let first = key.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
        let rest = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if !first || !key.chars().all(rest) || value.chars().any(char::is_control) {
            return Err(FactError);
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// What the packer does not know by itself.
#[derive(Debug, Clone, Default)]
pub struct FactOptions {
    /// Further facts; they win over ours.
    pub further: Vec<Fact>,
    /// When it is said to be built (`SOURCE_DATE_EPOCH`).
    pub time: Option<UnixTime>,
}

/// All facts, by key.
#[derive(Debug)]
pub(crate) struct Facts(BTreeMap<String, String>);

impl Facts {
    /// Collects them; the commit is that of the first of `sources` that is in git. `os_release` is the
    /// root's, if it has one.
    pub(crate) fn collect<'a>(
        options: &FactOptions,
        name: &str,
        kernel: Option<&str>,
        os_release: Option<&[u8]>,
        sources: impl IntoIterator<Item = &'a Path>,
    ) -> Self {
        let mut facts = BTreeMap::new();
        let mut put = |key: &str, value: String| facts.insert(key.to_owned(), value);
        put("BEE_IMAGE", name.to_owned());
        put("BEE_PACKER_VERSION", env!("CARGO_PKG_VERSION").to_owned());
        if let Some(kernel) = kernel {
            put("BEE_KERNEL", kernel.to_owned());
        }
        if let Some(time) = options.time {
            put("BEE_BUILD_TIME", time.to_string());
        }
        if let Some(release) = os_release.map(OsRelease::parse) {
            let id = release.id();
            if let Some(name) = release.pretty_name.or_else(|| id.clone()) {
                put(DISTRIBUTION, name);
            }
            if let Some(id) = id {
                put("BEE_DISTRIBUTION_ID", id);
            }
        }
        if let Some(commit) = sources.into_iter().find_map(commit) {
            put(COMMIT, commit);
        }
        for fact in &options.further {
            put(&fact.key, fact.value.clone());
        }
        Self(facts)
    }

    /// Writes both files.
    ///
    /// # Errors
    /// [`PackError::Write`], [`PackError::DiskFull`].
    pub(crate) fn write(
        &self,
        tree: &Tree,
        attributes: Attributes,
        place: Place<'_>,
    ) -> Result<(), PackError> {
        for (path, text) in [(RELEASE, self.release()), (MOTD, self.motd())] {
            tree.write(Path::new(path), text.as_bytes(), Attributes { mode: 0o644, ..attributes })
                .map_err(|e| place.write_error(path.into(), e))?;
        }
        Ok(())
    }

    /// Those that the manifest does not have in another place: commit, distribution, and what was given.
    pub(crate) fn for_manifest(
        &self,
        options: &FactOptions,
    ) -> impl Iterator<Item = (String, String)> {
        let given = |key: &str| options.further.iter().any(|fact| fact.key == key);
        self.0
            .iter()
            .filter(|(key, _)| OF_ROOT.contains(&key.as_str()) || given(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Values in double quotes, where a shell gives a meaning to four characters.
    fn release(&self) -> String {
        let line = |(key, value): (&String, &String)| {
            let quoted: String = value
                .chars()
                .flat_map(|c| "\"\\$`".contains(c).then_some('\\').into_iter().chain([c]))
                .collect();
            format!("{key}=\"{quoted}\"\n")
        };
        self.0.iter().map(line).collect()
    }

    fn motd(&self) -> String {
        let fact = |key: &str| self.0.get(key).map(String::as_str).unwrap_or_default();
        let mut line = format!("Image {}", fact("BEE_IMAGE"));
        if !fact(DISTRIBUTION).is_empty() {
            line.push_str(&format!(" ({})", fact(DISTRIBUTION)));
        }
        line.push_str(&format!(", packed by bee-packer {}", fact("BEE_PACKER_VERSION")));
        let further =
            [("BEE_KERNEL", ", kernel "), ("BEE_BUILD_TIME", ", of "), (COMMIT, ", commit ")];
        for (key, words) in further {
            let value = fact(key);
            if !value.is_empty() {
                line.push_str(words);
                line.push_str(value);
            }
        }
        line + "; all facts: /etc/bee-release\n"
    }
}

/// What is said here of os-release(5), the file by which a root says of which distribution it is.
#[derive(Debug, Default)]
struct OsRelease {
    pretty_name: Option<String>,
    name: Option<String>,
    version: Option<String>,
}

impl OsRelease {
    fn parse(bytes: &[u8]) -> Self {
        let mut this = Self::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            let Some((key, value)) = line.trim().split_once('=') else { continue };
            let field = match key {
                "PRETTY_NAME" => &mut this.pretty_name,
                "ID" => &mut this.name,
                "VERSION_ID" => &mut this.version,
                _ => continue,
            };
            // in quotes where a shell needs them; what is shown at login must not command the terminal
            let value = value.trim_matches(['"', '\'']).chars();
            let value: String = value.filter(|c| *c != '\\' && !c.is_control()).collect();
            *field = Some(value).filter(|value| !value.is_empty());
        }
        this
    }

    /// `debian-12`; `arch`, which has no versions.
    fn id(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        Some(self.version.as_ref().map_or_else(|| name.clone(), |of| format!("{name}-{of}")))
    }
}

/// The commit that `path`, a file or directory, was checked out from, with `-dirty` behind it when
/// something in it is not as in the commit; `None` when git does not have it, or is not there.
///
/// A tree that merely lies in somebody's checkout, ignored, is not what is in the commit. Nor are files that git
/// does not know, or ignores, beside those that it has: they are packed, too.
fn commit(path: &Path) -> Option<String> {
    let (dir, name) = if path.is_dir() {
        (path, Path::new("."))
    } else {
        (
            path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")),
            Path::new(path.file_name()?),
        )
    };
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        // no program that the checkout's configuration names
        command.args(["-c", "core.fsmonitor=false", "--no-optional-locks", "-C"]).arg(dir);
        command.args(args).stdin(Stdio::null()).stderr(Stdio::null());
        command
    };
    let output = git(&["ls-files", "--error-unmatch", "--"]).arg(name).output().ok()?;
    if !output.status.success() || output.stdout.is_empty() {
        return None;
    }
    let head = git(&["rev-parse", "--verify", "HEAD"]).output().ok()?;
    let head = String::from_utf8(head.stdout).ok()?.trim().to_owned();
    if head.is_empty() {
        return None;
    }
    let mut status = git(&["status", "--porcelain", "--untracked-files=normal", "--ignored", "--"]);
    let status = status.arg(name).output().ok()?;
    let same = status.status.success() && status.stdout.is_empty();
    Some(if same { head } else { head + "-dirty" })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn facts(further: &[&str]) -> Facts {
        let further = further.iter().map(|text| text.parse().unwrap()).collect();
        let options = FactOptions { further, time: Some(UnixTime(1_700_000_000)) };
        let os_release = b"ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME='Debian \\$ \x1b[31m12'\n";
        Facts::collect(&options, "debian", Some("6.1.0"), Some(os_release), None)
    }

    #[test]
    fn a_shell_reads_the_facts_as_they_were_given() {
        let odd = "quotes \" ' and $HOME `id` \\";
        let text = facts(&[&format!("ODD={odd}"), "TICKET=42"]).release();
        let script =
            format!("{text}\nprintf '%s|' \"$BEE_IMAGE\" \"$BEE_BUILD_TIME\" \"$TICKET\" \"$ODD\"");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let expected = format!("debian|2023-11-14T22:13:20Z|42|{odd}|");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }

    #[test]
    fn the_distribution_is_what_the_root_says() {
        let facts = facts(&[]);
        assert_eq!(facts.0["BEE_DISTRIBUTION"], "Debian $ [31m12");
        assert_eq!(facts.0["BEE_DISTRIBUTION_ID"], "debian-12");
        assert!(facts.motd().starts_with("Image debian (Debian $ [31m12), packed by "));
        for (text, name, id) in [
            ("ID=arch", Some("arch"), Some("arch")),
            ("# ID=x\nVERSION_ID=3", None, None),
            ("NAME=x\nPRETTY_NAME=\"\"\nID=\"\"", None, None),
        ] {
            let options = FactOptions::default();
            let found = Facts::collect(&options, "x", None, Some(text.as_bytes()), None);
            let fact = |key: &str| found.0.get(key).map(String::as_str);
            assert_eq!(
                (fact("BEE_DISTRIBUTION"), fact("BEE_DISTRIBUTION_ID")),
                (name, id),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_given_wins() {
        let facts = facts(&["BEE_GIT_COMMIT=abc", "BEE_KERNEL=other"]);
        assert_eq!(facts.0["BEE_KERNEL"], "other");
        let line = facts.motd();
        assert!(line.contains("kernel other") && line.contains("commit abc"), "{line}");
        for bad in ["", "A", "a=b", "1A=b", "A B=c", "A=b\nc", "=x"] {
            assert!(bad.parse::<Fact>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_commit_is_that_of_what_is_in_git() {
        let dir = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            command.args(["-c", "user.name=x", "-c", "user.email=x@x", "-C"]).arg(dir.path());
            assert!(command.args(args).output().unwrap().status.success(), "{args:?}");
        };
        let (inside, ignored) = (dir.path().join("overlay"), dir.path().join("target"));
        for path in [&inside, &ignored] {
            fs::create_dir(path).unwrap();
            fs::write(path.join("file"), "1").unwrap();
        }
        assert_eq!(commit(&inside), None);
        git(&["init", "-q"]);
        git(&["add", "overlay"]);
        assert_eq!(commit(&inside), None, "no commit yet");
        git(&["commit", "-q", "-m", "x"]);
        let found = commit(&inside).expect("git is needed for this test");
        assert!(found.len() >= 40 && !found.contains("dirty"), "{found}");
        assert_eq!(commit(&inside.join("file")), Some(found.clone()));
        assert_eq!(commit(&ignored), None);
        let dirty = Some(found.clone() + "-dirty");
        fs::write(inside.join("file"), "2").unwrap();
        assert_eq!(commit(&inside), dirty);
        fs::write(inside.join("file"), "1").unwrap();
        assert_eq!(commit(&inside), Some(found.clone()));
        // a file that git does not know, and one that it is told to ignore, are packed all the same
        fs::write(inside.join("new"), "1").unwrap();
        assert_eq!(commit(&inside), dirty);
        assert_eq!(commit(&inside.join("file")), Some(found.clone()), "of another file");
        git(&["config", "status.showUntrackedFiles", "no"]);
        assert_eq!(commit(&inside), dirty, "whatever is configured");
        fs::write(dir.path().join(".git/info/exclude"), "new\n").unwrap();
        assert_eq!(commit(&inside), dirty);
        fs::remove_file(inside.join("new")).unwrap();
        assert_eq!(commit(&inside), Some(found));
    }
}
