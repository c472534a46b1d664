//! From the index to one image: by its tag, and by the kind of machine that it is for.

use proto::hash::Sha256Digest;
use serde::de::DeserializeOwned;

use super::blobs::Blobs;
use super::document::{
    Config, Descriptor, Digest, DockerImage, Index, Manifest, PlatformField, is_called,
};
use super::error::OciError;
use super::{Format, Layer, Platform, Wanted};

/// Indexes within indexes; one is what builders for several platforms write.
const DEEPEST: u8 = 4;

/// The image that is unpacked.
#[derive(Debug)]
pub(super) struct Chosen {
    /// The lowest first.
    pub(super) layers: Vec<Layer>,
    /// For the manifest of the revision.
    pub(super) facts: Vec<(&'static str, String)>,
}

/// # Errors
/// [`OciError`]: nothing that fits, too much that fits, or damage.
pub(super) fn choose(blobs: &Blobs, wanted: &Wanted) -> Result<Chosen, OciError> {
    let has_index = blobs.has("index.json") && blobs.has("oci-layout");
    match wanted.format {
        Format::Oci if !has_index => Err(OciError::NotAnImage { missing: "oci-layout" }),
        Format::Docker | Format::Any if !has_index || wanted.format == Format::Docker => {
            docker(blobs, wanted)
        }
        _ => oci(blobs, wanted),
    }
}

/// An image and what it is called by, in the words of the index.
struct Candidate {
    manifest: Descriptor,
    platform: PlatformField,
    names: Vec<String>,
}

fn oci(blobs: &Blobs, wanted: &Wanted) -> Result<Chosen, OciError> {
    let index: Index = parse(&blobs.document("index.json", "index.json")?, "index.json")?;
    let mut tops = index.manifests;
    if let Some(tag) = &wanted.tag {
        let found = list(tops.iter().flat_map(Descriptor::names).map(str::to_owned));
        tops.retain(|top| top.names().any(|name| is_called(name, tag)));
        if tops.is_empty() {
            return Err(OciError::NoTag { tag: tag.clone(), found });
        }
    }
    let mut candidates = Vec::new();
    for top in &tops {
        let names: Vec<String> = top.names().map(str::to_owned).collect();
        collect(blobs, top, &names, DEEPEST, &mut candidates)?;
    }
    let chosen = only(candidates, wanted)?;
    let manifest: Manifest = verified(blobs, &chosen.manifest, "manifest")?;
    let config: Config = verified(blobs, &manifest.config, "configuration")?;
    check_platform(&config.platform, wanted)?;
    let (stored, diff_ids) = (&manifest.layers, &config.rootfs.diff_ids);
    check_count(stored.len(), diff_ids)?;
    let layers = stored.iter().zip(diff_ids).enumerate().map(|(number, (stored, diff_id))| {
        if !stored.is_layer() {
            let part = format!("layer {}", number + 1);
            return Err(OciError::MediaType { part, media_type: stored.media_type.clone() });
        }
        let name = stored.digest.path();
        Ok(Layer { name, stored: Some((stored.digest.0, stored.size)), diff_id: diff_id.0 })
    });
    let digest = format!("sha256:{}", chosen.manifest.digest.0);
    let facts = vec![("source", "oci".to_owned()), ("source-manifest", digest)];
    Ok(Chosen { layers: layers.collect::<Result<_, _>>()?, facts })
}

/// All images that a descriptor leads to.
fn collect(
    blobs: &Blobs,
    descriptor: &Descriptor,
    names: &[String],
    depth: u8,
    found: &mut Vec<Candidate>,
) -> Result<(), OciError> {
    if descriptor.is_index() {
        let depth = depth.checked_sub(1).ok_or(OciError::Nested)?;
        let index: Index = verified(blobs, descriptor, "index")?;
        return index
            .manifests
            .iter()
            .try_for_each(|inner| collect(blobs, inner, names, depth, found));
    }
    if !descriptor.is_image() {
        return Ok(());
    }
    let platform = match &descriptor.platform {
        Some(platform) => platform.clone(),
        None => {
            let manifest: Manifest = verified(blobs, descriptor, "manifest")?;
            // a signature or a chart, say, which lies in the index as an image does
            if !manifest.config.is_config() {
                return Ok(());
            }
            verified::<Config>(blobs, &manifest.config, "configuration")?.platform
        }
    };
    // twice in the index under two names is still one image
    if let Some(known) = found.iter_mut().find(|known| known.manifest.digest == descriptor.digest) {
        known.names.extend_from_slice(names);
    } else {
        let manifest = descriptor.clone();
        found.push(Candidate { manifest, platform, names: names.to_vec() });
    }
    Ok(())
}

/// The one candidate that fits.
fn only(candidates: Vec<Candidate>, wanted: &Wanted) -> Result<Candidate, OciError> {
    let platforms = list(candidates.iter().map(|c| Platform::from(&c.platform).to_string()));
    let mut fitting: Vec<Candidate> =
        candidates.into_iter().filter(|c| wanted.platform.fits(&c.platform)).collect();
    // without a variant is for all of them
    if fitting.len() > 1 && fitting.iter().filter(|c| c.platform.variant.is_none()).count() == 1 {
        fitting.retain(|c| c.platform.variant.is_none());
    }
    let wanted = wanted.platform.to_string();
    match fitting.pop() {
        None => Err(OciError::NoPlatform { wanted, found: platforms }),
        Some(one) if fitting.is_empty() => Ok(one),
        Some(last) => {
            let all = fitting.iter().chain([&last]).map(|candidate| {
                let platform = Platform::from(&candidate.platform);
                match &*candidate.names {
                    [] => format!(
                        "sha256:{} ({platform}, without a name)",
                        candidate.manifest.digest.0
                    ),
                    names => format!("{} ({platform})", names.join(" = ")),
                }
            });
            Err(OciError::Ambiguous { wanted, found: list(all) })
        }
    }
}

fn docker(blobs: &Blobs, wanted: &Wanted) -> Result<Chosen, OciError> {
    if !blobs.has("manifest.json") {
        let missing = match wanted.format {
            Format::Docker => "manifest.json",
            _ => "oci-layout and no manifest.json",
        };
        return Err(OciError::NotAnImage { missing });
    }
    let bytes = blobs.document("manifest.json", "manifest.json")?;
    let mut images: Vec<DockerImage> = parse(&bytes, "manifest.json")?;
    let tags = |image: &DockerImage| image.repo_tags.clone().unwrap_or_default();
    let all = |images: &[DockerImage]| {
        list(images.iter().map(|image| match &*tags(image) {
            [] => format!("{} (without a tag)", image.config),
            tags => tags.join(" = "),
        }))
    };
    if let Some(tag) = &wanted.tag {
        let found = all(&images);
        images.retain(|image| tags(image).iter().any(|name| is_called(name, tag)));
        if images.is_empty() {
            return Err(OciError::NoTag { tag: tag.clone(), found });
        }
    }
    let found = all(&images);
    let (Some(image), true) = (images.pop(), images.is_empty()) else {
        return Err(OciError::Ambiguous { wanted: wanted.platform.to_string(), found });
    };
    let bytes = blobs.document(&image.config, "configuration")?;
    let digest = Sha256Digest::of(&bytes);
    // named by its digest: HEX.json, or blobs/sha256/HEX
    let stem = image.config.rsplit('/').next().unwrap_or_default();
    if let Ok(expected) = stem.strip_suffix(".json").unwrap_or(stem).parse::<Sha256Digest>()
        && expected != digest
    {
        let part = "configuration".to_owned();
        return Err(OciError::Digest { part, expected, found: digest });
    }
    let config: Config = parse(&bytes, "configuration")?;
    check_platform(&config.platform, wanted)?;
    check_count(image.layers.len(), &config.rootfs.diff_ids)?;
    let layers = image.layers.into_iter().zip(&config.rootfs.diff_ids);
    let layers = layers.map(|(name, diff_id)| Layer { name, stored: None, diff_id: diff_id.0 });
    let id = format!("sha256:{digest}");
    let facts = vec![("source", "docker-archive".to_owned()), ("source-image", id)];
    Ok(Chosen { layers: layers.collect(), facts })
}

fn check_platform(found: &PlatformField, wanted: &Wanted) -> Result<(), OciError> {
    if wanted.platform.fits(found) {
        return Ok(());
    }
    let (wanted, found) = (wanted.platform.to_string(), Platform::from(found).to_string());
    Err(OciError::NoPlatform { wanted, found })
}

fn check_count(layers: usize, diff_ids: &[Digest]) -> Result<(), OciError> {
    let diff_ids = diff_ids.len();
    if layers == diff_ids { Ok(()) } else { Err(OciError::LayerCount { layers, diff_ids }) }
}

/// Reads a document that a descriptor names, and compares it with what that says.
fn verified<T: DeserializeOwned>(
    blobs: &Blobs,
    descriptor: &Descriptor,
    part: &str,
) -> Result<T, OciError> {
    let bytes = blobs.document(&descriptor.digest.path(), part)?;
    let (expected, found) = (descriptor.size, bytes.len() as u64);
    if expected != found {
        return Err(OciError::Length { part: part.to_owned(), expected, found });
    }
    let (expected, found) = (descriptor.digest.0, Sha256Digest::of(&bytes));
    if expected != found {
        return Err(OciError::Digest { part: part.to_owned(), expected, found });
    }
    parse(&bytes, part)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], part: &str) -> Result<T, OciError> {
    serde_json::from_slice(bytes)
        .map_err(|source| OciError::Syntax { part: part.to_owned(), source })
}

fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() { "none with a name".to_owned() } else { names.join(", ") }
}
