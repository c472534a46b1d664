//! Why a container image cannot be used.

use std::io;

use proto::hash::Sha256Digest;

/// What is wrong with a container image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OciError {
    /// Neither of the known formats.
    #[error(
        "it has no {missing}: give what `skopeo copy`, `podman save` or `docker save` wrote, or the \
         root itself as a tar"
    )]
    NotAnImage {
        /// The file that tells the format.
        missing: &'static str,
    },
    /// A part cannot be read.
    #[error("cannot read its {part}")]
    Read {
        /// Which part.
        part: String,
        /// Why.
        source: io::Error,
    },
    /// A part is missing.
    #[error("its {part} is missing: copy the image again, with all layers")]
    Missing {
        /// Which part.
        part: String,
    },
    /// A part is not what its format says.
    #[error("its {part} is not understood")]
    Syntax {
        /// Which part.
        part: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A part is larger than any such part is.
    #[error("its {part} has {length} bytes, more than {most}")]
    TooLong {
        /// Which part.
        part: String,
        /// Its length.
        length: u64,
        /// The largest that is read.
        most: u64,
    },
    /// A part has another digest than the image says.
    #[error(
        "its {part} is damaged or was replaced: the image says sha256:{expected}, and it has \
         sha256:{found}. Copy the image again"
    )]
    Digest {
        /// Which part.
        part: String,
        /// What the image says.
        expected: Sha256Digest,
        /// What it has.
        found: Sha256Digest,
    },
    /// A part has another length than the image says.
    #[error(
        "its {part} is damaged or cut short: the image says {expected} bytes, and it has {found}. \
         Copy the image again"
    )]
    Length {
        /// Which part.
        part: String,
        /// What the image says.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// No image with that tag.
    #[error("it holds no image with the tag {tag}; it holds {found}")]
    NoTag {
        /// What was asked for.
        tag: String,
        /// What there is.
        found: String,
    },
    /// Nothing for this kind of machine.
    #[error(
        "it holds no image for {wanted}; it holds {found}. Name the nodes' kind of machine with \
         --platform"
    )]
    NoPlatform {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// More than one fits.
    #[error("it holds more than one image for {wanted}: {found}. Name one by its tag, as FILE:TAG")]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// A kind of part that cannot be unpacked.
    #[error("its {part} is of the type {media_type}, which cannot be unpacked here")]
    MediaType {
        /// Which part.
        part: String,
        /// Its type.
        media_type: String,
    },
    /// Manifest and configuration do not fit.
    #[error("its manifest has {layers} layers, and its configuration {diff_ids}")]
    LayerCount {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// Indexes within indexes.
    #[error("its index leads to indexes without end")]
    Nested,
}
