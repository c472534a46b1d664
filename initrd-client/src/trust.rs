//! What was found against what is demanded.
//!
//! The chain: a key in the initrd signed the manifest, or `beeswarm.pin=` names it (or the
//! info-hash); the manifest names the torrent file, the info-hash and the image; the info-hash names
//! every piece. Servers, tracker and peers are outside of the chain: whatever they send either fits
//! or is not used.

use proto::hash::{InfoHash, Sha256Digest};
use proto::kernel_args::Pin;
use proto::manifest::{ArtefactKind, Manifest, ManifestError};
use proto::merkle::BlockTree;
use proto::metainfo::{Metainfo, MetainfoError};
use proto::signature::{self, KeyIds, SignatureError, Signed};
use proto::trust_policy::TrustPolicy;
use proto::unix_time::UnixTime;
use proto::verity::Verity;

use crate::exit::Exit;

/// What is demanded of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Demands {
    /// `beeswarm.pin=`
    pub pin: Option<Pin>,
    /// Whose signature the manifest must have, and from when on. `None`: it needs none.
    pub policy: Option<TrustPolicy>,
}

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
    /// Nobody signed the manifest.
    #[error(
        "it is not signed, and this node accepts only what key {trusted} signed; sign it with \
         `bee-packer sign` on the admin host"
    )]
    Unsigned {
        /// Whose signature counts.
        trusted: KeyIds,
    },
    /// No manifest that could be signed.
    #[error(
        "root= names a torrent, and this node accepts only what key {trusted} signed; signed are \
         manifests: name the URL of a revision"
    )]
    SignatureNeedsManifest {
        /// Whose signature counts.
        trusted: KeyIds,
    },
    /// The signature is not one that counts.
    #[error("{0}; {remedy}", remedy = remedy(.0))]
    Signature(SignatureError),
    /// Rollback protection.
    #[error(
        "{name} was signed {}, and this node refuses what was signed before {not_before}; publish a \
         newer revision, or sign this one again if it is to be booted", when(*.signed)
    )]
    TooOld {
        /// Name of the image.
        name: String,
        /// When, if the signature says it.
        signed: Option<UnixTime>,
        /// What the policy says.
        not_before: UnixTime,
    },
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

fn remedy(error: &SignatureError) -> &'static str {
    match error {
        SignatureError::OtherKey { .. } => {
            "sign it with the key that nodes trust, or pack an initrd that trusts this one"
        }
        _ => "`bee-packer verify --public-key` on the admin host tells whether it is so there, too",
    }
}

fn when(signed: Option<UnixTime>) -> String {
    signed.map_or_else(|| "without a time".to_owned(), |time| format!("at {time}"))
}

fn hint(html: bool) -> &'static str {
    if html { " but a web page: a proxy, a login page or a wrong URL" } else { "" }
}

/// Whether the same request may be answered better later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// A proxy's error page, a half-copied file: goes away.
    Endless,
    /// Two files that do not fit each other: a channel may have moved on between them, or a signature
    /// is about to be written. If not, it stays so.
    Short,
    /// It will be no other.
    None,
}

impl TrustError {
    /// How long to go on asking.
    #[must_use]
    pub fn patience(&self) -> Patience {
        match self {
            Self::Manifest { .. }
            | Self::Torrent { .. }
            | Self::TorrentDigest { html: true, .. } => Patience::Endless,
            Self::Unsigned { .. } | Self::Signature(_) | Self::TorrentDigest { .. } => {
                Patience::Short
            }
            _ => Patience::None,
        }
    }

    /// The exit code that says it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::PinNeedsManifest => Exit::Usage,
            Self::Unsigned { .. } | Self::SignatureNeedsManifest { .. } => Exit::Unsigned,
            Self::Signature(SignatureError::OtherKey { .. }) => Exit::WrongKey,
            Self::Signature(_) => Exit::AlteredManifest,
            Self::TooOld { .. } => Exit::TooOld,
            Self::TorrentDigest { .. } | Self::Contradiction { .. } => Exit::WrongTorrent,
            Self::ManifestPin { .. }
            | Self::InfoHashPin { .. }
            | Self::Manifest { .. }
            | Self::Torrent { .. } => Exit::Refused,
        }
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
    /// What a signature vouches for, when one was demanded.
    pub signed: Option<SignedImage>,
    /// The dm-verity tree that the manifest names.
    pub verity: Option<Verity>,
}

/// What a trusted key vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedImage {
    /// Which key, and when.
    pub by: Signed,
    /// Name of the image.
    pub name: String,
    /// What the whole image must have.
    pub sha256: Sha256Digest,
}

/// A manifest that fits pin and policy.
#[derive(Debug, Clone)]
pub struct Accepted {
    manifest: Manifest,
    digest: Sha256Digest,
    signed: Option<Signed>,
}

/// Reads a manifest and holds it against pin and policy. `signature` is the file beside it, `None`
/// when there is none; it is not looked at unless the policy demands one.
///
/// # Errors
/// [`TrustError`] when it is none, not the pinned one, or not signed as demanded.
pub fn manifest(
    bytes: &[u8],
    signature: Option<&[u8]>,
    demands: &Demands,
) -> Result<Accepted, TrustError> {
    let digest = Sha256Digest::of(bytes);
    let parsed = Manifest::parse(bytes);
    if is_html(bytes)
        && let Err(source) = parsed
    {
        return Err(TrustError::Manifest { html: true, source });
    }
    // before anything that it says is believed
    let signed = demands.policy.as_ref().map(|policy| signer(policy, bytes, signature));
    let signed = signed.transpose()?;
    let manifest = parsed.map_err(|source| TrustError::Manifest { html: false, source })?;
    match demands.pin {
        Some(Pin::Manifest(wanted)) if wanted != digest => {
            return Err(TrustError::ManifestPin { wanted, got: digest });
        }
        Some(Pin::InfoHash(wanted)) if wanted != manifest.info_hash => {
            return Err(TrustError::InfoHashPin { wanted, got: manifest.info_hash });
        }
        _ => {}
    }
    let not_before = demands.policy.as_ref().and_then(|policy| policy.not_before);
    if let (Some(not_before), Some(signed)) = (not_before, &signed) {
        let time = signed.comment.time;
        if time.is_none_or(|time| time < not_before) {
            return Err(TrustError::TooOld { name: manifest.name, signed: time, not_before });
        }
    }
    Ok(Accepted { manifest, digest, signed })
}

fn signer(
    policy: &TrustPolicy,
    manifest: &[u8],
    signature: Option<&[u8]>,
) -> Result<Signed, TrustError> {
    let trusted = || KeyIds::of(&policy.keys);
    let signature = signature.ok_or_else(|| TrustError::Unsigned { trusted: trusted() })?;
    signature::verify(&policy.keys, manifest, signature).map_err(TrustError::Signature)
}

/// Reads a torrent and holds it against its manifest, if there is one, and the demands.
///
/// # Errors
/// [`TrustError`] names what does not fit.
pub fn torrent(
    bytes: Vec<u8>,
    accepted: Option<Accepted>,
    demands: &Demands,
) -> Result<Trusted, TrustError> {
    let html = is_html(&bytes);
    if let Some(Accepted { manifest, .. }) = &accepted {
        let wanted = manifest
            .artefact(ArtefactKind::Torrent)
            .expect("Manifest::parse refuses a manifest without a torrent")
            .sha256;
        let got = Sha256Digest::of(&bytes);
        if wanted != got {
            return Err(TrustError::TorrentDigest { wanted, got, html });
        }
    } else if let Some(policy) = &demands.policy {
        return Err(TrustError::SignatureNeedsManifest { trusted: KeyIds::of(&policy.keys) });
    } else if let Some(Pin::Manifest(_)) = demands.pin {
        return Err(TrustError::PinNeedsManifest);
    }
    let metainfo =
        Metainfo::parse(&bytes).map_err(|source| TrustError::Torrent { html, source })?;
    let mut signed = None;
    if let Some(Accepted { manifest, signed: by, .. }) = &accepted {
        agree("info-hash", manifest.info_hash, metainfo.info_hash)?;
        let image = manifest
            .artefact(ArtefactKind::Image)
            .expect("Manifest::parse refuses a manifest without an image");
        agree("image length", image.length, metainfo.info.geometry.total())?;
        if let Some(v2) = manifest.v2 {
            let root = metainfo.info.tree().map_or(Sha256Digest::ZERO, BlockTree::root);
            agree("pieces root", v2.pieces_root, root)?;
        }
        let (name, sha256) = (&manifest.name, image.sha256);
        signed = by.clone().map(|by| SignedImage { by, name: name.clone(), sha256 });
    }
    match demands.pin {
        Some(Pin::InfoHash(wanted)) if wanted != metainfo.info_hash => {
            Err(TrustError::InfoHashPin { wanted, got: metainfo.info_hash })
        }
        _ => {
            let manifest_sha256 = accepted.as_ref().map(|accepted| accepted.digest);
            let verity = accepted.and_then(|accepted| accepted.manifest.verity);
            Ok(Trusted { metainfo, torrent: bytes, manifest_sha256, signed, verity })
        }
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
