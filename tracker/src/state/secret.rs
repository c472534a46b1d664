//! Secrets of a tracker: made once, in files or rows that only it can read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use subtle::ConstantTimeEq as _;

use super::error::{StateError, file};

/// Name of the file with the admin's token.
pub const ADMIN_TOKEN: &str = "admin-token";

/// Digits of a token.
const DIGITS: usize = 64;

/// Who has it may write: `Authorization: Bearer TOKEN`.
#[derive(Clone)]
pub struct AdminToken(String);

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

impl AdminToken {
    /// Reads the token of a state directory; the first time one is made, readable by its owner only.
    ///
    /// # Errors
    /// [`StateError::File`], [`StateError::Secret`].
    pub fn of(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(ADMIN_TOKEN);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = format!("{}\n", hex(&random::<32>(&path)?));
                create(dir, &path, &text)?;
                tracing::info!(path = %path.display(), "made the token for bee-packer --token-file");
                text
            }
            Err(source) => return Err(file("read", &path)(source)),
        };
        let token = text.trim_end();
        if token.len() != DIGITS || !token.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(StateError::Secret { path });
        }
        let mode = fs::metadata(&path).map_err(file("examine", &path))?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "others can read this token: chmod 600");
        }
        Ok(Self(token.to_owned()))
    }

    /// Whether `given` is the token, in a time that does not tell how much of it is right.
    #[must_use]
    pub fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// Whole or not there, also after a kill or a power cut: a half token would lock everybody out.
fn create(dir: &Path, path: &Path, text: &str) -> Result<(), StateError> {
    let scratch = dir.join(format!(".{ADMIN_TOKEN}"));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&scratch)
        .and_then(|mut to| to.write_all(text.as_bytes()).and_then(|()| to.sync_all()));
    written.map_err(file("write", &scratch))?;
    fs::rename(&scratch, path).map_err(file("create", path))?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(file("write", dir))
}

/// Bytes that nobody can guess; `path` is what they are for, in an error.
pub(crate) fn random<const N: usize>(path: &Path) -> Result<[u8; N], StateError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| file("make a secret for", path)(io::Error::other(e.to_string())))?;
    Ok(bytes)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}
