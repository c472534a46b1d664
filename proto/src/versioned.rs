//! JSON documents that say in `version` which shape they have.

use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Why a document cannot be used.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// More bytes than such a document ever has.
    TooLarge(usize),
    /// Not JSON of this shape, with what the parser said.
    Json(String),
    /// Of another version.
    Version(u32),
}

/// Reads a document of at most `limit` bytes. Its version is looked at before its shape: that of
/// another version may be another.
pub(crate) fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    limit: usize,
    wanted: RangeInclusive<u32>,
) -> Result<T, Unfit> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    if bytes.len() > limit {
        return Err(Unfit::TooLarge(bytes.len()));
    }
    let json = |error: serde_json::Error| Unfit::Json(error.to_string());
    let Versioned { version } = serde_json::from_slice(bytes).map_err(json)?;
    if !wanted.contains(&version) {
        return Err(Unfit::Version(version));
    }
    serde_json::from_slice(bytes).map_err(json)
}
