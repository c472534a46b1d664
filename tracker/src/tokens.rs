//! Boot tokens: what a node shows with its events, to prove that its boot script came from this tracker.
//!
//! A token is a number, which rises with each token, and a MAC (HMAC-SHA-256, 128 bits) of that number and
//! the node's address under a key that only the tracker has. So nothing is stored when one is handed out, and
//! a boot script waits for no disk; which number a boot uses is noted with its first events. A token proves
//! that its bearer asked this tracker for that address's script, and was not seen to be another machine
//! (`crate::neighbours`). Who reads the boot network can read tokens, as everything else there.

use hmac::{Hmac, KeyInit as _, Mac as _};
use proto::hash::Sha256Digest;
use proto::node_id::NodeId;
use sha2::Sha256;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::state::{KEY_LEN, hex};

/// Bytes of the number and of the MAC.
const NUMBER: usize = 8;
const PROOF: usize = 16;

/// Makes tokens and checks them.
pub(crate) struct BootTokens {
    key: [u8; KEY_LEN],
    last: AtomicU64,
}

impl std::fmt::Debug for BootTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BootTokens(…)")
    }
}

impl BootTokens {
    pub(crate) fn new(key: [u8; KEY_LEN]) -> Self {
        Self { key, last: AtomicU64::new(0) }
    }

    /// A token for one boot of a node: 48 hex digits.
    pub(crate) fn issue(&self, node: NodeId) -> String {
        // the clock lets numbers rise over restarts, too
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let clock = u64::try_from(now.as_micros()).unwrap_or(u64::MAX >> 1);
        let next = |last: u64| clock.max(last.saturating_add(1));
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)))
            .unwrap_or_default();
        let number = next(last).to_be_bytes();
        format!("{}{}", hex(&number), hex(&self.proof(node, number)))
    }

    /// The number of a token that was issued to this node, by whichever process with this key.
    pub(crate) fn check(&self, node: NodeId, token: &str) -> Option<u64> {
        let digits = NUMBER * 2;
        if token.len() != digits + PROOF * 2 || !token.is_ascii() {
            return None;
        }
        let (number, proof) = token.split_at(digits);
        let number = u64::from_str_radix(number, 16).ok()?.to_be_bytes();
        let expected = hex(&self.proof(node, number));
        let equal: bool =
            subtle::ConstantTimeEq::ct_eq(expected.as_bytes(), proof.as_bytes()).into();
        equal.then_some(u64::from_be_bytes(number))
    }

    fn proof(&self, node: NodeId, number: [u8; NUMBER]) -> [u8; PROOF] {
        let mut mac = Hmac::<Sha256>::new(&self.key.into());
        mac.update(&number);
        mac.update(&node.0);
        let whole = Sha256Digest(mac.finalize().into_bytes().into());
        let mut proof = [0; PROOF];
        proof.copy_from_slice(&whole.0[..PROOF]);
        proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_node_and_its_key_only() {
        let tokens = BootTokens::new([7; KEY_LEN]);
        let (one, two) = (NodeId([1; 6]), NodeId([2; 6]));
        let first = tokens.issue(one);
        let second = tokens.issue(one);
        assert_eq!(first.len(), 48);
        assert!(tokens.check(one, &first).unwrap() < tokens.check(one, &second).unwrap());
        assert_eq!(tokens.check(two, &first), None);
        assert_eq!(BootTokens::new([8; KEY_LEN]).check(one, &first), None);
        assert!(BootTokens::new([7; KEY_LEN]).check(one, &first).is_some(), "another process");
        for bad in ["", "é", &first[1..], &first.replace(|c| c != '0', "0"), &"é".repeat(24)] {
            assert_eq!(tokens.check(one, bad), None, "{bad}");
        }
    }
}
