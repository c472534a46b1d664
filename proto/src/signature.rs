//! Signatures over `manifest.json`, in the format of minisign (Ed25519).
//!
//! A signature file has four lines: a comment that nothing protects, the signature, a *trusted*
//! comment, and a signature over both of them. Ours are prehashed (BLAKE2b, `ED`); those over the
//! bytes themselves (`Ed`), which minisign wrote before 0.10, are read as well. The manifest names
//! everything else by SHA-256, so one signature covers a whole revision.
//!
//! The trusted comment holds fields `KEY:VALUE` with a tab between them, as minisign itself writes
//! them: `timestamp` (seconds since 1970), `file`, and of ours `name` and `revision`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::manifest::MANIFEST_FILE;
use crate::unix_time::UnixTime;

/// What a signature file's name has more than that of the signed file.
pub const SIGNATURE_SUFFIX: &str = ".minisig";

/// Name of the signature in a revision.
pub const SIGNATURE_FILE: &str = "manifest.json.minisig";

/// Largest signature file accepted, in bytes (minisign's own comments may have 8 KiB).
pub const MAX_SIGNATURE_LEN: usize = 16 * 1024;

/// Base64 digits of a public key: two letters, the id, 32 bytes of Ed25519.
const KEY_DIGITS: usize = 56;

/// Names a key pair: random, and in every signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// Of a key or a signature in base64: both begin with two letters and the id.
    fn of_base64(text: &str) -> Option<Self> {
        let mut bytes = [0; 12];
        let digits = text.as_bytes().get(..16)?;
        for (out, digits) in bytes.chunks_exact_mut(3).zip(digits.chunks_exact(4)) {
            let mut bits = 0;
            for digit in digits {
                bits = bits << 6 | u32::from(base64_digit(*digit)?);
            }
            out.copy_from_slice(&bits.to_be_bytes()[1..]);
        }
        bytes[2..10].try_into().ok().map(Self)
    }
}

fn base64_digit(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

impl fmt::Display for KeyId {
    /// As minisign prints it: 16 hexadecimal digits, the last byte first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

/// A public key of minisign.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    text: String,
    id: KeyId,
    key: minisign_verify::PublicKey,
}

/// A text that is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no public key of minisign; expected 56 base64 digits that begin with RW, or a .pub file")]
pub struct PublicKeyError;

impl PublicKey {
    /// Which key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The 56 base64 digits that minisign takes with `-P`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    /// Takes the digits, or the text of a `.pub` file: a comment and the digits.
    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let digits = match text.trim().split_once('\n') {
            Some((comment, rest)) if comment.starts_with("untrusted comment:") => rest.trim(),
            Some(_) => return Err(PublicKeyError),
            None => text.trim(),
        };
        if digits.len() != KEY_DIGITS {
            return Err(PublicKeyError);
        }
        let key = minisign_verify::PublicKey::from_base64(digits).map_err(|_| PublicKeyError)?;
        let id = KeyId::of_base64(digits).ok_or(PublicKeyError)?;
        Ok(Self { text: digits.to_owned(), id, key })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Several key ids for a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyIds(pub Vec<KeyId>);

impl KeyIds {
    /// The ids of these keys.
    #[must_use]
    pub fn of(keys: &[PublicKey]) -> Self {
        Self(keys.iter().map(PublicKey::id).collect())
    }
}

impl fmt::Display for KeyIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, id) in self.0.iter().enumerate() {
            write!(f, "{}{id}", if at == 0 { "" } else { " or " })?;
        }
        Ok(())
    }
}

/// What the trusted comment says. Fields that are unknown or not readable are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedComment {
    /// When it was signed; minisign writes it, too.
    pub time: Option<UnixTime>,
    /// Name of the image.
    pub name: Option<String>,
    /// Revision id.
    pub revision: Option<String>,
}

impl TrustedComment {
    /// Reads the fields; a later one does not replace an earlier one.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for (key, value) in text.split('\t').filter_map(|field| field.split_once(':')) {
            match key {
                "timestamp" => found.time = found.time.or(value.parse().ok().map(UnixTime)),
                "name" => found.name = found.name.or_else(|| Some(value.to_owned())),
                "revision" => found.revision = found.revision.or_else(|| Some(value.to_owned())),
                _ => {}
            }
        }
        found
    }

    /// The comment of a signature over a manifest. `name` and `revision` are those of the store:
    /// letters, digits, '.', '_' and '-'.
    #[must_use]
    pub fn text(time: UnixTime, name: &str, revision: &str) -> String {
        format!("timestamp:{}\tfile:{MANIFEST_FILE}\tname:{name}\trevision:{revision}", time.0)
    }
}

/// Who signed, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The key, one of those that are trusted.
    pub key: KeyId,
    /// What the signer says about it.
    pub comment: TrustedComment,
}

/// Why a signature is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not four lines of minisign.
    #[error("the signature file is damaged: it is no signature of minisign")]
    Malformed,
    /// A key that is not trusted.
    #[error("it is signed by key {by}, and trusted is {trusted}")]
    OtherKey {
        /// Who signed.
        by: KeyId,
        /// Whose signature counts.
        trusted: KeyIds,
    },
    /// It bears a trusted key's id, but the key did not sign these bytes and this comment.
    #[error("it is not what key {by} signed: the file or its signature was altered")]
    Altered {
        /// Who is said to have signed.
        by: KeyId,
    },
}

/// Who claims to have signed, and what the comment claims; nothing is checked.
///
/// # Errors
/// [`SignatureError::Malformed`].
pub fn claimed(signature: &[u8]) -> Result<Signed, SignatureError> {
    decode(signature).map(|(_, signed)| signed)
}

/// Checks that one of `keys` signed `data`, and returns which, with the trusted comment.
///
/// # Errors
/// [`SignatureError`].
pub fn verify(keys: &[PublicKey], data: &[u8], signature: &[u8]) -> Result<Signed, SignatureError> {
    let (decoded, signed) = decode(signature)?;
    let mut is_named = false;
    for key in keys.iter().filter(|key| key.id == signed.key) {
        is_named = true;
        if key.key.verify(data, &decoded, true).is_ok() {
            return Ok(signed);
        }
    }
    if is_named {
        return Err(SignatureError::Altered { by: signed.key });
    }
    Err(SignatureError::OtherKey { by: signed.key, trusted: KeyIds::of(keys) })
}

fn decode(bytes: &[u8]) -> Result<(minisign_verify::Signature, Signed), SignatureError> {
    let read = || {
        let text = std::str::from_utf8(bytes).ok().filter(|t| t.len() <= MAX_SIGNATURE_LEN)?;
        let decoded = minisign_verify::Signature::decode(text).ok()?;
        let key = KeyId::of_base64(text.lines().nth(1)?)?;
        let comment = TrustedComment::parse(decoded.trusted_comment());
        Some((decoded, Signed { key, comment }))
    };
    read().ok_or(SignatureError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // made by minisign 0.11 for this test: `minisign -G -W`, `-S` (prehashed), `-S -l` (legacy)
    const DATA: &[u8] = b"test";
    const KEY: &str = "RWTD+mhVfKxMpsFXpLq2G+5LpO3zVO2t7Bt89bbG8MYj4q8YlzgBAmbU";
    const OTHER: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const PREHASHED: &str = "untrusted comment: signature from minisign secret key\n\
        RUTD+mhVfKxMpqc0pskEnbi/jNTq2XrylFf2dcpya23KaPzzgI6tq9v/l2APndH777ph3cTpVaVaYE8L3YStxLOe0wxLbRY6UQs=\n\
        trusted comment: timestamp:1763744000\tfile:manifest.json\tname:demo\trevision:0123456789ab\n\
        5T0empT4AA6SKTIu0hTvzb+7jz5cMTyvkziUZSIVBRah+mRnWq3BNj57DhpSLVH9SVSTZKsjeE2E1wDMgxmHBA==\n";
    const LEGACY: &str = "untrusted comment: signature from minisign secret key\n\
        RWTD+mhVfKxMphC+6u8pZdch+FyqYmyBvoaSZgUuqllGYeV88CJyqsKTMaFZW8xVrlzQu9pCydQNe1kdjZcvgm+M10+dN9/U2wI=\n\
        trusted comment: timestamp:1763744000\tfile:manifest.json\tname:demo\trevision:0123456789ab\n\
        AJ3YT4PjwKQRTh2NhXr5Ab30wPW0t57kGhLQ0W2w4V2JtcbYeLiTAbpAWfakGK3VJgaxFVLJ51MFh3AH6HpsAA==\n";

    fn key(text: &str) -> PublicKey {
        text.parse().unwrap()
    }

    #[test]
    fn both_kinds_of_signature_are_accepted() {
        for text in [PREHASHED, LEGACY, &PREHASHED.replace('\n', "\r\n")] {
            let keys = [key(OTHER), key(KEY)];
            let signed = verify(&keys, DATA, text.as_bytes()).unwrap();
            assert_eq!(signed.key, keys[1].id());
            assert_eq!(signed.comment.time, Some(UnixTime(1_763_744_000)));
            assert_eq!(signed.comment.name.as_deref(), Some("demo"));
            assert_eq!(signed.comment.revision.as_deref(), Some("0123456789ab"));
            assert_eq!(claimed(text.as_bytes()), Ok(signed));
        }
    }

    #[test]
    fn whatever_is_changed_is_refused() {
        let keys = [key(KEY)];
        let check = |data: &[u8], text: &str| verify(&keys, data, text.as_bytes()).unwrap_err();
        let by = keys[0].id();
        assert_eq!(check(b"Test", PREHASHED), SignatureError::Altered { by });
        assert_eq!(check(b"Test", LEGACY), SignatureError::Altered { by });
        // the trusted comment is signed with it
        let newer = PREHASHED.replace("1763744000", "1863744000");
        assert_eq!(check(DATA, &newer), SignatureError::Altered { by });
        // a prehashed signature passed off as the other kind
        let mixed = PREHASHED.replacen("\nRU", "\nRW", 1);
        assert_ne!(mixed, PREHASHED);
        assert_eq!(check(DATA, &mixed), SignatureError::Altered { by });
        let other = verify(&[key(OTHER)], DATA, PREHASHED.as_bytes()).unwrap_err();
        let trusted = KeyIds(vec![key(OTHER).id()]);
        assert_eq!(other, SignatureError::OtherKey { by, trusted });
        assert!(other.to_string().contains("E7620F1842B4E81F"), "{other}");
        for broken in ["", "<html>", &PREHASHED[..100], &PREHASHED.replacen("RU", "XX", 1)] {
            assert_eq!(check(DATA, broken), SignatureError::Malformed, "{broken}");
        }
        assert_eq!(verify(&keys, DATA, &[0xff; 10]), Err(SignatureError::Malformed));
    }

    #[test]
    fn a_key_is_read_from_digits_and_from_its_file() {
        let file = format!("untrusted comment: minisign public key E7620F1842B4E81F\n{OTHER}\n");
        assert_eq!(key(&file), key(OTHER));
        assert_eq!(key(OTHER).id().to_string(), "E7620F1842B4E81F");
        let json = serde_json::to_string(&key(OTHER)).unwrap();
        assert_eq!(serde_json::from_str::<PublicKey>(&json).unwrap(), key(OTHER));
        for bad in ["", "RWQ", &OTHER[1..], &OTHER.replace("RW", "XX"), &format!("x\n{OTHER}")] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_comment_is_read_as_written() {
        let text = TrustedComment::text(UnixTime(7), "demo", "0123456789ab");
        let read = TrustedComment::parse(&text);
        let (name, revision) = (Some("demo".to_owned()), Some("0123456789ab".to_owned()));
        assert_eq!(read, TrustedComment { time: Some(UnixTime(7)), name, revision });
        assert_eq!(TrustedComment::parse("for the test cluster"), TrustedComment::default());
        assert_eq!(TrustedComment::parse("timestamp:soon"), TrustedComment::default());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,80}") {
            let _ = verify(&[], &bytes, &bytes);
            let _ = text.parse::<PublicKey>();
            let _ = TrustedComment::parse(&text);
            let changed = format!("untrusted comment: x\n{text}\ntrusted comment: {text}\n{text}\n");
            let _ = verify(&[key(KEY)], DATA, changed.as_bytes());
        }
    }
}
