//! Which signatures a node demands: a small file in its initrd, written when the image is packed.
//!
//! What is not understood is refused: a rule that a newer packer added must not be skipped by an
//! older client.

use serde::{Deserialize, Serialize};

use crate::signature::{KeyId, KeyIds, PublicKey};
use crate::unix_time::UnixTime;
use crate::versioned::{self, Unfit};

/// Version of the format.
pub const TRUST_POLICY_VERSION: u32 = 1;

/// Where the initrd has it.
pub const TRUST_POLICY_PATH: &str = "/etc/beeswarm/trust.json";

/// Largest file accepted, in bytes.
pub const MAX_TRUST_POLICY_LEN: usize = 16 * 1024;

/// Most keys in one policy.
pub const MAX_KEYS: usize = 16;

/// What a manifest must have before anything that it names is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustPolicy {
    /// [`TRUST_POLICY_VERSION`].
    pub version: u32,
    /// A signature by one of them is enough. Never empty.
    pub keys: Vec<PublicKey>,
    /// Whether `beeswarm.key=` may name other keys instead. Off unless it says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_override: bool,
    /// Rollback protection: what was signed before is refused, and so is what says no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<UnixTime>,
}

/// Why a policy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustPolicyError {
    /// Larger than [`MAX_TRUST_POLICY_LEN`].
    #[error("trust policy of {0} bytes is larger than {MAX_TRUST_POLICY_LEN}")]
    TooLarge(usize),
    /// Not JSON of this shape; the text says where.
    #[error("not a valid trust policy: {0}")]
    Json(String),
    /// Written by a newer packer.
    #[error(
        "trust policy has version {0}; this program reads version {TRUST_POLICY_VERSION}: update it"
    )]
    Version(u32),
    /// No key, or more than [`MAX_KEYS`].
    #[error("trust policy has {0} keys; it needs 1 to {MAX_KEYS}")]
    Keys(usize),
    /// The kernel command line names a key, and the policy does not let it.
    #[error(
        "beeswarm.key= names key {asked}, but this initrd accepts only {baked}: remove the argument, \
         or pack the initrd with --allow-key-override or with that key (--trust-key)"
    )]
    Override {
        /// On the command line.
        asked: KeyId,
        /// In the initrd.
        baked: KeyIds,
    },
}

impl From<Unfit> for TrustPolicyError {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::TooLarge(bytes) => Self::TooLarge(bytes),
            Unfit::Json(text) => Self::Json(text),
            Unfit::Version(version) => Self::Version(version),
        }
    }
}

impl TrustPolicy {
    /// Demands a signature by one of `keys`, and nothing else.
    ///
    /// # Errors
    /// [`TrustPolicyError::Keys`].
    pub fn new(keys: Vec<PublicKey>) -> Result<Self, TrustPolicyError> {
        let version = TRUST_POLICY_VERSION;
        Self { version, keys, allow_override: false, not_before: None }.checked()
    }

    fn checked(self) -> Result<Self, TrustPolicyError> {
        match self.keys.len() {
            1..=MAX_KEYS => Ok(self),
            other => Err(TrustPolicyError::Keys(other)),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`TrustPolicyError`] when it is too large, not JSON of exactly this shape, of another
    /// version, or without keys.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustPolicyError> {
        let versions = TRUST_POLICY_VERSION..=TRUST_POLICY_VERSION;
        versioned::parse::<Self>(bytes, MAX_TRUST_POLICY_LEN, versions)?.checked()
    }

    /// Writes the file: the same policy gives the same bytes.
    ///
    /// # Errors
    /// [`TrustPolicyError::Json`] when it cannot be written (none in practice).
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrustPolicyError> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| TrustPolicyError::Json(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// What holds for this boot: `asked` are the keys on the kernel command line. They replace
    /// those of the initrd when the policy lets them, and may always name fewer of the same. Without
    /// a policy they are one; without both nothing is demanded.
    ///
    /// # Errors
    /// [`TrustPolicyError::Override`], [`TrustPolicyError::Keys`].
    pub fn resolve(
        baked: Option<Self>,
        asked: &[PublicKey],
    ) -> Result<Option<Self>, TrustPolicyError> {
        if asked.is_empty() {
            return Ok(baked);
        }
        let Some(baked) = baked else { return Self::new(asked.to_vec()).map(Some) };
        let strange = asked.iter().find(|key| !baked.keys.contains(key));
        if let Some(key) = strange.filter(|_| !baked.allow_override) {
            let baked = KeyIds::of(&baked.keys);
            return Err(TrustPolicyError::Override { asked: key.id(), baked });
        }
        Self { keys: asked.to_vec(), ..baked }.checked().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const B: &str = "RWTD+mhVfKxMpsFXpLq2G+5LpO3zVO2t7Bt89bbG8MYj4q8YlzgBAmbU";

    fn key(text: &str) -> PublicKey {
        text.parse().unwrap()
    }

    fn baked(allow_override: bool) -> TrustPolicy {
        let policy = TrustPolicy::new(vec![key(A)]).unwrap();
        TrustPolicy { allow_override, not_before: Some(UnixTime(5)), ..policy }
    }

    #[test]
    fn round_trip() {
        for policy in [baked(true), baked(false), TrustPolicy::new(vec![key(A), key(B)]).unwrap()] {
            let bytes = policy.to_bytes().unwrap();
            assert_eq!(TrustPolicy::parse(&bytes).unwrap(), policy);
        }
        let least = format!("{{\"version\":1,\"keys\":[\"{A}\"]}}");
        let policy = TrustPolicy::parse(least.as_bytes()).unwrap();
        assert!(!policy.allow_override && policy.not_before.is_none());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let parse = |text: &str| TrustPolicy::parse(text.replace('\'', "\"").as_bytes());
        for (text, part) in [
            ("", "not a valid"),
            ("{'version':2,'keys':['x']}", "version 2"),
            ("{'version':1,'keys':[]}", "0 keys"),
            ("{'version':1,'keys':['RWQ']}", "56 base64 digits"),
            (&format!("{{'version':1,'keys':['{A}'],'not_after':7}}"), "not_after"),
            (&format!("{{'version':1,'keys':['{A}'],'not_before':'x'}}"), "not a valid"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let large = vec![b' '; MAX_TRUST_POLICY_LEN + 1];
        assert!(matches!(TrustPolicy::parse(&large), Err(TrustPolicyError::TooLarge(_))));
        assert_eq!(TrustPolicy::new(vec![key(A); 17]), Err(TrustPolicyError::Keys(17)));
    }

    #[test]
    fn the_command_line_replaces_keys_only_where_it_may() {
        let resolve = TrustPolicy::resolve;
        assert_eq!(resolve(None, &[]), Ok(None));
        assert_eq!(resolve(Some(baked(false)), &[]), Ok(Some(baked(false))));
        let alone = resolve(None, &[key(B)]).unwrap().unwrap();
        assert_eq!((alone.keys, alone.not_before), (vec![key(B)], None));
        // the same key says nothing new
        assert_eq!(resolve(Some(baked(false)), &[key(A)]), Ok(Some(baked(false))));
        for asked in [vec![key(B)], vec![key(A), key(B)]] {
            let error = resolve(Some(baked(false)), &asked).unwrap_err();
            assert!(matches!(error, TrustPolicyError::Override { .. }));
            for part in ["A64CAC7C5568FAC3", "only E7620F1842B4E81F", "--allow-key-override"] {
                assert!(error.to_string().contains(part), "{error}");
            }
        }
        // with leave: other keys, the same age
        let other = resolve(Some(baked(true)), &[key(B)]).unwrap().unwrap();
        assert_eq!((other.keys, other.not_before), (vec![key(B)], Some(UnixTime(5))));
    }
}
