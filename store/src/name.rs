//! Names that become path components: each is checked once, when it is made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of an image or channel, in bytes.
const MAX_NAME: usize = 64;

/// Length of a revision id, in hex digits.
const ID_DIGITS: usize = 12;

/// A name, channel or revision id that the store does not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not `[a-z0-9][a-z0-9._-]{0,63}`.
    #[error(
        "{text:?} cannot be a {what}: use 1 to 64 of a-z, 0-9, '.', '_', '-', \
         and begin with a letter or digit"
    )]
    Name {
        /// "image name" or "channel".
        what: &'static str,
        /// What was given.
        text: String,
    },
    /// Not twelve lower-case hex digits.
    #[error("{text:?} is no revision id: it has 12 lower-case hex digits (see `bee-packer list`)")]
    Id {
        /// What was given.
        text: String,
    },
    /// Not `NAME@REV`.
    #[error("{text:?} names no revision: write NAME@REV (see `bee-packer list`)")]
    Reference {
        /// What was given.
        text: String,
    },
}

/// True for `[a-z0-9][a-z0-9._-]{0,63}`: no separator, no `..`, no hidden file.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= MAX_NAME
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks `text` and keeps it.
            ///
            /// # Errors
            /// [`NameError::Name`] when it is not `[a-z0-9][a-z0-9._-]{0,63}`.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                if is_name(&text) { Ok(Self(text)) } else { Err(NameError::Name { what: $what, text }) }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

name_type!(
    /// Name of an image: `[a-z0-9][a-z0-9._-]{0,63}`.
    RevisionName,
    "image name"
);

name_type!(
    /// Name of a channel: what nodes follow; same characters as [`RevisionName`].
    Channel,
    "channel"
);

impl Default for Channel {
    /// The channel that nodes boot unless told otherwise: `stable`.
    fn default() -> Self {
        Self("stable".to_owned())
    }
}

/// First 12 hex digits of the SHA-256 of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RevisionId(String);

impl RevisionId {
    /// Checks `text` and keeps it.
    ///
    /// # Errors
    /// [`NameError::Id`] when it is not twelve lower-case hex digits.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == ID_DIGITS && text.bytes().all(hex) {
            Ok(Self(text))
        } else {
            Err(NameError::Id { text })
        }
    }

    /// The id of the revision whose `manifest.json` holds exactly these bytes.
    #[must_use]
    pub fn of_manifest(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(bytes);
        Self(digest.iter().take(ID_DIGITS / 2).map(|b| format!("{b:02x}")).collect())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RevisionId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for RevisionId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<RevisionId> for String {
    fn from(id: RevisionId) -> String {
        id.0
    }
}

/// One revision of one image, written `NAME@REV`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RevisionRef {
    /// The image.
    pub name: RevisionName,
    /// Which revision of it.
    pub id: RevisionId,
}

impl fmt::Display for RevisionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.id)
    }
}

impl FromStr for RevisionRef {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, id) =
            text.split_once('@').ok_or_else(|| NameError::Reference { text: text.to_owned() })?;
        Ok(Self { name: RevisionName::new(name)?, id: RevisionId::new(id)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_safe_path_components_are_accepted() {
        for good in ["a", "0", "debian-12", "rocky9.4_gpu", &"x".repeat(64)] {
            assert_eq!(RevisionName::new(good).unwrap().as_str(), good);
            assert_eq!(Channel::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn names_that_could_leave_their_directory_are_refused() {
        let long = "x".repeat(65);
        for bad in [
            "", ".", "..", "../a", "a/b", "/a", ".hidden", "-x", "_x", "A", "a b", "a\0", "ä",
            &long,
        ] {
            let error = RevisionName::new(bad).unwrap_err();
            assert!(error.to_string().contains("1 to 64"), "{error}");
            assert!(Channel::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_twelve_lower_case_hex_digits() {
        assert_eq!(RevisionId::new("0123456789ab").unwrap().as_str(), "0123456789ab");
        for bad in
            ["", "0123456789a", "0123456789abc", "0123456789AB", "0123456789ag", "../../../etc"]
        {
            assert!(RevisionId::new(bad).is_err(), "{bad:?}");
        }
        // printf '' | sha256sum
        assert_eq!(RevisionId::of_manifest(b"").as_str(), "e3b0c44298fc");
    }

    #[test]
    fn a_reference_is_name_at_id() {
        let text = "debian@0123456789ab";
        assert_eq!(text.parse::<RevisionRef>().unwrap().to_string(), text);
        for bad in ["debian", "debian@", "@0123456789ab", "../x@0123456789ab"] {
            assert!(bad.parse::<RevisionRef>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn json_is_checked_too() {
        assert!(serde_json::from_str::<RevisionName>(r#""../etc""#).is_err());
        let channel: Channel = serde_json::from_str(r#""testing""#).unwrap();
        assert_eq!(serde_json::to_string(&channel).unwrap(), r#""testing""#);
    }
}
