//! The JSON documents of an image: OCI image specification 1.1, and `manifest.json` of Docker's
//! archives. Only what unpacking needs.

use std::collections::HashMap;

use proto::hash::Sha256Digest;
use serde::Deserialize;

/// Type of an index, as OCI and Docker call it.
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// Type of an image.
const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// Type of what an image's layers are for.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// Types of layers; compression is told by their contents.
const LAYERS: [&str; 10] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// `sha256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Digest(pub(super) Sha256Digest);

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text
            .strip_prefix("sha256:")
            .ok_or_else(|| format!("{text:?} is no sha256 digest, the only kind known here"))?;
        digits.parse().map(Self).map_err(|error| format!("{text:?} is no digest: {error}"))
    }
}

impl Digest {
    /// Where a layout has the blob.
    pub(super) fn path(self) -> String {
        format!("blobs/sha256/{}", self.0)
    }
}

/// Names a blob.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) platform: Option<PlatformField>,
    #[serde(default)]
    pub(super) annotations: HashMap<String, String>,
}

impl Descriptor {
    pub(super) fn is_index(&self) -> bool {
        INDEXES.contains(&&*self.media_type)
    }

    /// Neither a signature nor a proof of origin, which lie beside images in an index.
    pub(super) fn is_image(&self) -> bool {
        MANIFESTS.contains(&&*self.media_type)
            && !self.annotations.contains_key("vnd.docker.reference.type")
    }

    pub(super) fn is_config(&self) -> bool {
        CONFIGS.contains(&&*self.media_type)
    }

    pub(super) fn is_layer(&self) -> bool {
        LAYERS.contains(&&*self.media_type)
    }

    /// What this image is called, if it is called anything.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        ["org.opencontainers.image.ref.name", "io.containerd.image.name"]
            .into_iter()
            .filter_map(|key| self.annotations.get(key))
            .map(String::as_str)
    }
}

/// `platform` of a descriptor.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct PlatformField {
    pub(super) os: String,
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) variant: Option<String>,
}

/// `index.json`, and indexes within it.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    pub(super) manifests: Vec<Descriptor>,
}

/// One image.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// What an image is for, and the digests of its layers without compression.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    #[serde(flatten)]
    pub(super) platform: PlatformField,
    pub(super) rootfs: RootFs,
}

/// `rootfs` of the configuration.
#[derive(Debug, Deserialize)]
pub(super) struct RootFs {
    pub(super) diff_ids: Vec<Digest>,
}

/// One image of Docker's `manifest.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Vec<String>,
}

/// Whether an image that is called `name` is meant by `tag`: the whole name, or what follows its
/// last colon.
pub(super) fn is_called(name: &str, tag: &str) -> bool {
    name == tag || name.rsplit_once(':').is_some_and(|(_, last)| last == tag)
}
