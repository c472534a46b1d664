//! Patterns for paths inside a root: what `--exclude` and `--allow-secret` take.
//!
//! A pattern is matched against the whole path, from the root on, with or without a `/` in front.
//! `*` and `?` stand for anything but `/`, hidden names included, `**` for any number of
//! directories, `[a-z]` and `{one,other}` as in a shell, a backslash takes a meaning away; a `/`
//! at the end demands a directory. A path that is equal to the pattern always matches.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::PackError;

/// Patterns of one flag, which remember what they matched.
#[derive(Debug)]
pub(crate) struct Patterns {
    set: GlobSet,
    items: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    /// As given.
    text: String,
    /// Without slashes at the ends.
    literal: Vec<u8>,
    directory: bool,
    used: bool,
}

impl Patterns {
    /// Reads the values of `flag`.
    ///
    /// # Errors
    /// [`PackError::Pattern`] with the flag and what is wrong.
    pub(crate) fn new(flag: &'static str, texts: &[String]) -> Result<Self, PackError> {
        let mut set = GlobSetBuilder::new();
        let mut items = Vec::new();
        for text in texts {
            let error = |reason: String| PackError::Pattern { flag, text: text.clone(), reason };
            let trimmed = text.trim_start_matches("./").trim_matches('/');
            if trimmed.is_empty() {
                return Err(error("it names the whole root".to_owned()));
            }
            if Path::new(trimmed).components().any(|c| c == Component::ParentDir) {
                return Err(error("`..` leads out of the root".to_owned()));
            }
            let mut glob = GlobBuilder::new(trimmed);
            let glob = glob.literal_separator(true).backslash_escape(true).build();
            let glob = glob.map_err(|e| error(e.kind().to_string()))?;
            set.add(glob);
            items.push(Pattern {
                text: text.clone(),
                literal: trimmed.as_bytes().to_owned(),
                directory: text.ends_with('/'),
                used: false,
            });
        }
        let set = set.build().map_err(|e| PackError::Pattern {
            flag,
            text: texts.join(" "),
            reason: e.to_string(),
        })?;
        Ok(Self { set, items })
    }

    /// Those that mean nothing.
    pub(crate) fn none() -> Self {
        Self { set: GlobSet::empty(), items: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether `path`, relative to the root, is meant. Those that mean it count as used.
    pub(crate) fn matches(&mut self, path: &[u8], directory: bool) -> bool {
        if self.items.is_empty() {
            return false;
        }
        let mut found = false;
        for at in self.set.matches(OsStr::from_bytes(path)) {
            if let Some(item) = self.items.get_mut(at)
                && (directory || !item.directory)
            {
                item.used = true;
                found = true;
            }
        }
        for item in &mut self.items {
            if item.literal == path && (directory || !item.directory) {
                item.used = true;
                found = true;
            }
        }
        found
    }

    /// Those that have matched nothing.
    pub(crate) fn unused(&self) -> impl Iterator<Item = &str> {
        self.items.iter().filter(|item| !item.used).map(|item| item.text.as_str())
    }
}

/// A pattern that means exactly this path.
///
/// The path itself, in almost every case: it always matches. A name that is no UTF-8 cannot be
/// written on a command line that is, so each such byte becomes `?`.
pub(crate) fn exactly(path: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(path) {
        return text.to_owned();
    }
    let mut pattern = String::new();
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if "*?[]{}\\,!".contains(c) {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern.extend(chunk.invalid().iter().map(|_| '?'));
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str, directory: bool) -> bool {
        let mut patterns = Patterns::new("--exclude", &[pattern.to_owned()]).unwrap();
        let found = patterns.matches(path.as_bytes(), directory);
        assert_eq!(patterns.unused().count(), usize::from(!found));
        found
    }

    #[test]
    fn a_pattern_means_whole_paths_from_the_root_on() {
        for (pattern, path, meant) in [
            ("etc/hostname", "etc/hostname", true),
            ("/etc/hostname", "etc/hostname", true),
            ("./etc/hostname", "etc/hostname", true),
            ("hostname", "etc/hostname", false),
            ("etc/*", "etc/hostname", true),
            ("etc/*", "etc/.hidden", true),
            ("etc/*", "etc/ssh/sshd_config", false),
            ("etc/**", "etc/ssh/sshd_config", true),
            ("**/*.pyc", "usr/lib/python3/a.pyc", true),
            ("**/*.pyc", "a.pyc", true),
            ("**/tests/**", "usr/lib/x/tests/a/b", true),
            ("usr/share/{doc,man}", "usr/share/man", true),
            ("usr/share/{doc,man}", "usr/share/info", false),
            ("etc/[a-c]*", "etc/bash", true),
            ("etc/a\\*", "etc/a*", true),
            ("etc/a\\*", "etc/ab", false),
            // a name that looks like a pattern, as a finding prints it
            ("etc/[x]", "etc/[x]", true),
        ] {
            assert_eq!(matches(pattern, path, false), meant, "{pattern} {path}");
        }
        assert!(matches("var/cache/", "var/cache", true));
        assert!(!matches("var/cache/", "var/cache", false));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (pattern, word) in
            [("", "whole root"), ("/", "whole root"), ("../x", "`..`"), ("a/../b", "`..`")]
        {
            let error = Patterns::new("--exclude", &[pattern.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("--exclude"), "{error}");
        }
        assert!(Patterns::new("--exclude", &["etc/[".to_owned()]).is_err());
    }

    #[test]
    fn names_that_are_no_text_get_a_pattern_too() {
        for path in [&b"srv/not \xff\xfe utf-8"[..], b"srv/\xff[x]*{a,b}", b"plain", b"we[i]rd"] {
            let mut patterns = Patterns::new("--allow-secret", &[exactly(path)]).unwrap();
            assert!(patterns.matches(path, false), "{}", path.escape_ascii());
        }
        let mut patterns = Patterns::new("--allow-secret", &[exactly(b"\xff*")]).unwrap();
        assert!(!patterns.matches(b"\xffother", false));
    }
}
