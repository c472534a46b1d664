//! What was found against what is demanded.
//!
//! The chain: `beeswarm.pin=` names the manifest (or the info-hash), the manifest names the torrent
//! file and the info-hash, the info-hash names every piece. Servers, tracker and peers are outside
//! of the chain: whatever they send either fits or is not used.

use proto::hash::{InfoHash, Sha256Digest};
use proto::kernel_args::Pin;
use proto::manifest::{ArtefactKind, Manifest, ManifestError};
use proto::metainfo::{Metainfo, MetainfoError};

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// A manifest, but another one.
    #[error(
        "beeswarm.pin=sha256: demands manifest {wanted} but the server has {got}; a channel that moved on or a wrong pin"
    )]
    ManifestPin {
        /// Pinned.
        wanted: Sha256Digest,
        /// Served.
        got: Sha256Digest,
    },
    /// A torrent, but another one.
    #[error("beeswarm.pin=btih: demands info-hash {wanted} but the torrent has {got}")]
    InfoHashPin {
        /// Pinned.
        wanted: InfoHash,
        /// Found.
        got: InfoHash,
    },
    /// A pin for a manifest, and no manifest in sight.
    #[error(
        "beeswarm.pin=sha256: pins a manifest, but root= names a torrent; use beeswarm.pin=btih: or a revision URL"
    )]
    PinNeedsManifest,
    /// Not a manifest at all.
    #[error("the server's answer is no manifest{}", hint(*.html))]
    Manifest {
        /// It looks like a web page.
        html: bool,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
    /// Not a torrent at all.
    #[error("this is no usable torrent{}", hint(*.html))]
    Torrent {
        /// It looks like a web page.
        html: bool,
        /// What is wrong with it.
        #[source]
        source: MetainfoError,
    },
    /// The torrent file is not the one that the manifest names.
    #[error("the torrent's SHA-256 is {got} but the manifest names {wanted}{}", hint(*.html))]
    TorrentDigest {
        /// In the manifest.
        wanted: Sha256Digest,
        /// Served.
        got: Sha256Digest,
        /// It looks like a web page.
        html: bool,
    },
    /// Manifest and torrent contradict each other.
    #[error("the manifest names {what} {wanted} but its torrent has {got}: packed wrongly")]
    Contradiction {
        /// Which field.
        what: &'static str,
        /// In the manifest.
        wanted: String,
        /// In the torrent.
        got: String,
    },
}

fn hint(html: bool) -> &'static str {
    if html { " but a web page: a proxy, a login page or a wrong URL" } else { "" }
}

impl TrustError {
    /// Whether the same request may be answered better later: a proxy's error page or a half-copied
    /// file goes away, a wrong pin does not.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Manifest { .. } | Self::Torrent { .. } | Self::TorrentDigest { .. })
    }
}

/// A torrent that fits everything that was demanded.
#[derive(Debug, Clone)]
pub struct Trusted {
    /// Parsed.
    pub metainfo: Metainfo,
    /// As found, byte for byte.
    pub torrent: Vec<u8>,
    /// Digest of the manifest, when there was one.
    pub manifest_sha256: Option<Sha256Digest>,
}

/// Reads a manifest and holds it against the pin.
///
/// # Errors
/// [`TrustError`] when it is none, or not the pinned one.
pub fn manifest(bytes: &[u8], pin: Option<Pin>) -> Result<(Manifest, Sha256Digest), TrustError> {
    let got = Sha256Digest::of(bytes);
    let manifest = Manifest::parse(bytes)
        .map_err(|source| TrustError::Manifest { html: is_html(bytes), source })?;
    match pin {
        Some(Pin::Manifest(wanted)) if wanted != got => {
            Err(TrustError::ManifestPin { wanted, got })
        }
        Some(Pin::InfoHash(wanted)) if wanted != manifest.info_hash => {
            Err(TrustError::InfoHashPin { wanted, got: manifest.info_hash })
        }
        _ => Ok((manifest, got)),
    }
}

/// Reads a torrent and holds it against its manifest, if there is one, and the pin.
///
/// # Errors
/// [`TrustError`] names what does not fit.
pub fn torrent(
    bytes: Vec<u8>,
    manifest: Option<(Manifest, Sha256Digest)>,
    pin: Option<Pin>,
) -> Result<Trusted, TrustError> {
    let html = is_html(&bytes);
    if let Some((manifest, _)) = &manifest {
        let wanted = manifest
            .artefact(ArtefactKind::Torrent)
            .expect("Manifest::parse refuses a manifest without a torrent")
            .sha256;
        let got = Sha256Digest::of(&bytes);
        if wanted != got {
            return Err(TrustError::TorrentDigest { wanted, got, html });
        }
    } else if let Some(Pin::Manifest(_)) = pin {
        return Err(TrustError::PinNeedsManifest);
    }
    let metainfo =
        Metainfo::parse(&bytes).map_err(|source| TrustError::Torrent { html, source })?;
    if let Some((manifest, _)) = &manifest {
        agree("info-hash", manifest.info_hash, metainfo.info_hash)?;
        let image = manifest
            .artefact(ArtefactKind::Image)
            .expect("Manifest::parse refuses a manifest without an image");
        agree("image length", image.length, metainfo.info.geometry.total())?;
    }
    match pin {
        Some(Pin::InfoHash(wanted)) if wanted != metainfo.info_hash => {
            Err(TrustError::InfoHashPin { wanted, got: metainfo.info_hash })
        }
        _ => Ok(Trusted {
            metainfo,
            torrent: bytes,
            manifest_sha256: manifest.map(|(_, digest)| digest),
        }),
    }
}

fn agree<T: PartialEq + std::fmt::Display>(
    what: &'static str,
    wanted: T,
    got: T,
) -> Result<(), TrustError> {
    if wanted == got {
        return Ok(());
    }
    Err(TrustError::Contradiction { what, wanted: wanted.to_string(), got: got.to_string() })
}

/// Whether bytes look like a web page.
fn is_html(bytes: &[u8]) -> bool {
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<')
}

#[cfg(test)]
mod tests;
