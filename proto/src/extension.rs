//! The extension protocol's handshake (BEP 10).

use std::collections::BTreeMap;

use bendy::encoding::{Encoder, Error as EncodeError};

use crate::bencode::{BencodeError, Value};

/// Most extension names kept from one handshake.
const MAX_EXTENSIONS: usize = 32;

/// What two peers tell each other once, in the extended message with id 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtendedHandshake {
    /// Extension name → message id the sender wants to receive it with.
    pub extensions: BTreeMap<String, u8>,
    /// `v`: client name and version, for people and statistics.
    pub client: Option<String>,
    /// `p`: TCP port on which the sender listens.
    pub port: Option<u16>,
    /// `reqq`: requests the sender queues before it drops some.
    pub request_queue: Option<u32>,
    /// `upload_only` (BEP 21): the sender wants nothing.
    pub upload_only: bool,
    /// `bee_run`, of Beeswarm: the sender takes adjacent blocks in one message of up to so many bytes, and
    /// requests for so many bytes, which it answers in any number of such messages.
    pub run: Option<u32>,
}

impl ExtendedHandshake {
    /// Reads the body; unknown keys are ignored, values of the wrong type count as absent.
    ///
    /// # Errors
    /// [`BencodeError`] when the body is no bencode.
    pub fn parse(bytes: &[u8]) -> Result<Self, BencodeError> {
        let (root, _) = Value::parse_prefix(bytes)?;
        // one by one: to collect them would bring a sort that nothing else needs
        let mut extensions = BTreeMap::new();
        if let Some(Value::Dict(pairs)) = root.get(b"m") {
            for (name, id) in pairs.iter().take(MAX_EXTENSIONS) {
                let id = id.as_unsigned().and_then(|id| u8::try_from(id).ok());
                if let (Ok(name), Some(id)) = (std::str::from_utf8(name), id) {
                    extensions.insert(name.to_owned(), id);
                }
            }
        }
        let number = |key: &[u8]| root.get(key).and_then(Value::as_unsigned);
        Ok(Self {
            extensions,
            client: root.get(b"v").and_then(Value::as_str).map(|v| v.chars().take(80).collect()),
            port: number(b"p").and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0),
            request_queue: number(b"reqq").map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            upload_only: number(b"upload_only").is_some_and(|n| n != 0),
            run: number(b"bee_run").map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        })
    }

    /// Writes the body.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut encoder = Encoder::new();
        encoder.emit_dict(|mut dict| {
            if let Some(run) = self.run {
                dict.emit_pair(b"bee_run", run)?;
            }
            dict.emit_pair_with(b"m", |e| {
                e.emit_dict(|mut m| {
                    self.extensions
                        .iter()
                        .try_for_each(|(name, id)| m.emit_pair(name.as_bytes(), *id))
                })
            })?;
            if let Some(port) = self.port {
                dict.emit_pair(b"p", port)?;
            }
            if let Some(queue) = self.request_queue {
                dict.emit_pair(b"reqq", queue)?;
            }
            if self.upload_only {
                dict.emit_pair(b"upload_only", 1)?;
            }
            if let Some(client) = &self.client {
                dict.emit_pair(b"v", client.as_str())?;
            }
            Ok(())
        })?;
        encoder.get_output()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let full = ExtendedHandshake {
            extensions: [("ut_pex".to_owned(), 1), ("ut_metadata".to_owned(), 2)].into(),
            client: Some("Beeswarm 0.1 (admin)".into()),
            port: Some(6881),
            request_queue: Some(250),
            upload_only: true,
            run: Some(131_072),
        };
        for handshake in [full, ExtendedHandshake::default()] {
            assert_eq!(ExtendedHandshake::parse(&handshake.encode().unwrap()).unwrap(), handshake);
        }
    }

    #[test]
    fn wrong_types_count_as_absent() {
        let parsed = ExtendedHandshake::parse(b"d1:m3:foo1:p1:x4:reqqi-1ee").unwrap();
        assert_eq!(parsed, ExtendedHandshake::default());
        assert!(ExtendedHandshake::parse(b"nonsense").is_err());
    }
}
