//! `/run/beeswarm/boot.json`: what the initrd hands to the running node's seeder.

use serde::{Deserialize, Serialize};

use crate::event::Sources;
use crate::hash::{InfoHash, Sha256Digest};
use crate::node_id::NodeId;
use crate::units::ByteRate;

/// Version of the format.
pub const BOOT_RECORD_VERSION: u32 = 1;

/// Where the record lies; `/run` survives `switch_root`.
pub const BOOT_RECORD_PATH: &str = "/run/beeswarm/boot.json";

/// What was booted, from where, and how to go on seeding it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRecord {
    /// [`BOOT_RECORD_VERSION`].
    pub version: u32,
    /// Block device that holds the image, such as `/dev/loop0`.
    pub device: String,
    /// Its device number (major, minor), so that a device renamed or re-used is noticed.
    pub device_number: (u32, u32),
    /// Bytes of the image; the device may not be smaller.
    pub length: u64,
    /// Info-hash that every piece was verified against.
    pub info_hash: InfoHash,
    /// Path of the torrent file, below `/run`.
    pub torrent: String,
    /// Announce URLs in tiers, as used by the initrd.
    pub trackers: Vec<Vec<String>>,
    /// Where boot events go, if anywhere: base URL.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub report: Option<String>,
    /// Node id used for events.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<NodeId>,
    /// `beeswarm.token=`, shown with events.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// Digest of the manifest, when there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub manifest_sha256: Option<Sha256Digest>,
    /// Id of the key that signed the manifest, when a signature was demanded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signed_by: Option<String>,
    /// The device that checks what is read of the image, when there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verity: Option<VerityRecord>,
    /// What `root=` named.
    pub source: String,
    /// Upload limit in bytes per second.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub upload_limit: Option<ByteRate>,
    /// `beeswarm.lsd=off`: peers are not looked for by multicast.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub no_lsd: bool,
    /// Where the bytes came from.
    pub sources: Sources,
}

/// dm-verity in front of the image. Who reads the tree, too, reads [`BootRecord::device`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerityRecord {
    /// Block device that the root is mounted from, such as `/dev/dm-0`.
    pub mapped: String,
    /// What its blocks are checked against.
    pub root_hash: Sha256Digest,
}

/// Why a record was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootRecordError {
    /// Not JSON of this shape.
    #[error("not a valid boot record: {0}")]
    Json(String),
    /// Another version.
    #[error("boot record has version {0}; this program reads {BOOT_RECORD_VERSION}")]
    Version(u32),
}

impl BootRecord {
    /// Reads the record.
    ///
    /// # Errors
    /// [`BootRecordError`] when it is not JSON of this shape or version.
    pub fn parse(bytes: &[u8]) -> Result<Self, BootRecordError> {
        let record: Self = serde_json::from_slice(bytes)
            .map_err(|error| BootRecordError::Json(error.to_string()))?;
        if record.version != BOOT_RECORD_VERSION {
            return Err(BootRecordError::Version(record.version));
        }
        Ok(record)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// [`BootRecordError::Json`] when it cannot be written (none in practice).
    pub fn to_bytes(&self) -> Result<Vec<u8>, BootRecordError> {
        serde_json::to_vec_pretty(self).map_err(|error| BootRecordError::Json(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let record = BootRecord {
            version: BOOT_RECORD_VERSION,
            device: "/dev/loop7".into(),
            device_number: (7, 7),
            length: 4096,
            info_hash: InfoHash([1; 20]),
            torrent: "/run/beeswarm/rootimg.torrent".into(),
            trackers: vec![vec!["http://10.0.0.1:6969/announce".into()]],
            report: None,
            node: Some("52:54:00:00:00:01".parse().unwrap()),
            token: Some("00ff".into()),
            manifest_sha256: Some(Sha256Digest([2; 32])),
            signed_by: Some("E7620F1842B4E81F".into()),
            verity: Some(VerityRecord {
                mapped: "/dev/dm-0".into(),
                root_hash: Sha256Digest([4; 32]),
            }),
            source: "http://10.0.0.1:8080/revisions/demo/0123456789ab/".into(),
            upload_limit: Some(ByteRate(1000)),
            no_lsd: true,
            sources: Sources { admin: 1, peers: 2, web: 3 },
        };
        assert_eq!(BootRecord::parse(&record.to_bytes().unwrap()).unwrap(), record);
        let newer = BootRecord { version: 2, ..record };
        assert_eq!(BootRecord::parse(&newer.to_bytes().unwrap()), Err(BootRecordError::Version(2)));
        assert!(BootRecord::parse(b"").is_err());
    }
}
