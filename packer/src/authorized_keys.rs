//! `--authorized-key`: who may log in to the nodes as root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ct_codecs::{Base64, Decoder as _};

use crate::error::PackError;
use crate::tool::Place;
use crate::tree::{Attributes, Tree};

/// Public keys of files in the format of authorized_keys (sshd(8)), one per line.
#[derive(Debug, Default)]
pub(crate) struct AuthorizedKeys(Vec<String>);

impl AuthorizedKeys {
    /// Reads the files; comments and empty lines are left out.
    ///
    /// # Errors
    /// [`PackError::Read`], [`PackError::NoPublicKey`].
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self, PackError> {
        let mut keys = Vec::new();
        for path in files {
            let text = fs::read_to_string(path)
                .map_err(|source| PackError::Read { path: path.clone(), source })?;
            let error = |reason| PackError::NoPublicKey { path: path.clone(), reason };
            if text.contains("PRIVATE KEY") {
                return Err(error("it is a private key; give the .pub file beside it".to_owned()));
            }
            let before = keys.len();
            for (number, line) in (1..).zip(text.lines().map(str::trim)) {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                if !is_key(line) {
                    return Err(error(format!("line {number} is no public key of OpenSSH")));
                }
                keys.push(line.to_owned());
            }
            if keys.len() == before {
                return Err(error("there is no key in it".to_owned()));
            }
        }
        Ok(Self(keys))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the keys to those that root has in the tree.
    ///
    /// # Errors
    /// [`PackError::Write`], [`PackError::DiskFull`].
    pub(crate) fn add(
        &self,
        tree: &Tree,
        attributes: Attributes,
        place: Place<'_>,
    ) -> Result<(), PackError> {
        let mut path = PathBuf::new();
        self.write(tree, attributes, &mut path).map_err(|e| place.write_error(path.clone(), e))
    }

    fn write(&self, tree: &Tree, attributes: Attributes, path: &mut PathBuf) -> io::Result<()> {
        let home = home(&tree.read(Path::new("etc/passwd"))?.unwrap_or_default());
        *path = home.join(".ssh");
        let private = Attributes { mode: 0o700, owner: (0, 0), ..attributes };
        tree.make_dirs(&home, private)?;
        tree.make_dirs(path, private)?;
        path.push("authorized_keys");
        let mut text =
            String::from_utf8_lossy(&tree.read(path)?.unwrap_or_default()).trim_end().to_owned();
        if !text.is_empty() {
            text.push('\n');
        }
        for key in &self.0 {
            if !text.lines().any(|line| line.trim() == key) {
                text.push_str(key);
                text.push('\n');
            }
        }
        tree.write(path, text.as_bytes(), Attributes { mode: 0o600, ..private })
    }
}

/// Where root is at home, relative to the root; usually `root`.
fn home(passwd: &[u8]) -> PathBuf {
    let text = String::from_utf8_lossy(passwd);
    let line = text.lines().find(|line| line.starts_with("root:"));
    let home = line.and_then(|line| line.split(':').nth(5)).unwrap_or("/root");
    let relative = home.trim_matches('/');
    PathBuf::from(if relative.is_empty() { "root" } else { relative })
}

/// Whether a line has, after options perhaps, a type of key and a key of that type: both in the
/// blob, too (RFC 4253, section 6.6).
fn is_key(line: &str) -> bool {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    words.windows(2).any(|pair| {
        let Ok(blob) = Base64::decode_to_vec(pair[1], None) else { return false };
        let Some(length) = blob.first_chunk::<4>().map(|b| u32::from_be_bytes(*b)) else {
            return false;
        };
        let name = usize::try_from(length).ok().and_then(|length| blob.get(4..4 + length));
        name == Some(pair[0].as_bytes()) && blob.len() > 4 + pair[0].len() + 16
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me@host";

    #[test]
    fn keys_are_told_from_what_is_none() {
        assert!(is_key(KEY));
        assert!(is_key(&format!("from=\"10.0.0.0/8\",command=\"uptime now\" {KEY}")));
        for none in [
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
            "me@host ssh-ed25519",
            "hello world",
        ] {
            assert!(!is_key(none), "{none}");
        }
    }

    #[test]
    fn files_are_refused_for_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for (text, word) in [
            ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "give the .pub file"),
            ("# nothing\n\n", "no key in it"),
            (&format!("{KEY}\nnonsense\n"), "line 2"),
        ] {
            fs::write(&path, text).unwrap();
            let error = AuthorizedKeys::read(std::slice::from_ref(&path)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        fs::write(&path, format!("# mine\n{KEY}\n")).unwrap();
        assert_eq!(AuthorizedKeys::read(&[path]).unwrap().0, [KEY]);
    }

    #[test]
    fn root_is_at_home_where_passwd_says() {
        assert_eq!(home(b""), Path::new("root"));
        assert_eq!(
            home(b"bin:x:2:2:bin:/bin:\nroot:x:0:0:r:/var/roothome:/bin/sh\n"),
            Path::new("var/roothome")
        );
        assert_eq!(home(b"root:x:0:0:r:/:/bin/sh\n"), Path::new("root"));
    }
}
