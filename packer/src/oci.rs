//! Container images as a source: OCI layouts and archives, and what `docker save` writes.
//!
//! ```text
//! index.json ─ tag, platform ─▶ manifest ─▶ configuration ─ diff_ids ┐
//!                                  └─ layers ─ digest, size ─ decoder ─ diff_id ─ tree
//! ```
//!
//! Each blob is hashed while it is read, and compared with what named it, before the next layer is
//! begun. Environment, command, user and labels of the configuration are for a container's process;
//! a node that boots has no use for them.

use std::fs::File;
use std::path::{Path, PathBuf};

use proto::hash::Sha256Digest;

use crate::archive::{self, Decoder, Members, Opened, Role, Tree};
use crate::error::PackError;
use crate::event::{Event, Observer};
use crate::tool::Place;

mod blobs;
mod check;
mod choose;
mod document;
mod error;
mod platform;

use blobs::Blobs;
pub(crate) use blobs::{is_image, is_layout};
use check::Checked;
use choose::Chosen;
pub use error::OciError;
pub use platform::Platform;

/// How the parts of an image are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OCI's `index.json`.
    Oci,
    /// Docker's `manifest.json`.
    Docker,
    /// The first if it is there, else the second.
    Any,
}

/// Where an image is.
#[derive(Debug)]
pub(crate) enum Container {
    /// A directory: `oci-layout`, `index.json`, `blobs/`.
    Directory(PathBuf),
    /// A tar of such a directory, perhaps compressed.
    Archive(PathBuf),
}

/// What to take of it.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) format: Format,
    pub(crate) tag: Option<String>,
    pub(crate) platform: Platform,
}

/// A layer: where it is, and what it must be.
#[derive(Debug)]
struct Layer {
    name: String,
    /// Of the blob as it is stored; Docker's archives do not say.
    stored: Option<(Sha256Digest, u64)>,
    /// Of the tar in it.
    diff_id: Sha256Digest,
}

/// Unpacks the image that is wanted into a new directory `into`; returns facts for the manifest.
///
/// # Errors
/// [`PackError::Oci`], [`PackError::Archive`], [`PackError::DiskFull`], [`PackError::ToolMissing`].
pub(crate) fn unpack(
    container: &Container,
    wanted: &Wanted,
    work: &Path,
    into: &Path,
    place: &Place<'_>,
    observe: Observer<'_>,
) -> Result<Vec<(&'static str, String)>, PackError> {
    let (Container::Directory(path) | Container::Archive(path)) = container;
    let failed = |source| PackError::Oci { path: path.clone(), source };
    let blobs = match container {
        Container::Directory(path) => Blobs::Directory(path.clone()),
        Container::Archive(path) => Blobs::of_archive(plain_archive(path, work, place)?)
            .map_err(|error| PackError::archive(path.display().to_string(), error, place))?,
    };
    let Chosen { layers, facts } = choose::choose(&blobs, wanted).map_err(failed)?;
    let mut tree = archive::new_tree(into, Role::Layer, place)?;
    for (number, layer) in layers.iter().enumerate() {
        let what = format!("layer {} of {}", number + 1, layers.len());
        apply(&blobs, layer, &what, &mut tree, |error| match error {
            Fault::Oci(error) => failed(error),
            Fault::Pack(error) => error,
            Fault::Archive(error) => {
                PackError::archive(format!("{what} of {}", path.display()), error, place)
            }
        })?;
    }
    let starts = ["sbin/init", "usr/sbin/init", "lib/systemd/systemd", "usr/lib/systemd/systemd"];
    if !starts.iter().any(|init| tree.has(init)) {
        let text = "the image has no /sbin/init: it was made for containers, and a node that boots \
                    it would stop there. Install an init system in it (Debian: systemd-sysv)";
        observe(Event::Warning { text: text.to_owned() });
    }
    archive::finish(tree, into, place, observe)?;
    Ok(facts)
}

/// What can go wrong with a layer.
enum Fault {
    Oci(OciError),
    Archive(archive::ArchiveError),
    Pack(PackError),
}

fn apply(
    blobs: &Blobs,
    layer: &Layer,
    what: &str,
    tree: &mut Tree,
    error: impl Fn(Fault) -> PackError,
) -> Result<(), PackError> {
    let oci = |fault| error(Fault::Oci(fault));
    let part = format!("{what} ({})", layer.name);
    let blob = blobs.open(&layer.name, &part).map_err(oci)?;
    if let Some((_, expected)) = layer.stored
        && blob.length() != expected
    {
        return Err(oci(OciError::Length { part, expected, found: blob.length() }));
    }
    let compression = blob.compression();
    let compression =
        compression.map_err(|source| oci(OciError::Read { part: part.clone(), source }))?;
    let decoder = Decoder::new(Checked::new(blob), compression);
    let decoder = decoder.map_err(|fault| error(Fault::Pack(fault)))?;
    let mut members = Members::new(Checked::new(decoder));
    let unpacked = tree.unpack(&mut members);
    let mut content = members.into_input();
    // what follows the archive's end is part of the digest
    let rest = content.read_to_end();
    let (decoder, diff_id) = content.finish();
    let (stored, decoded) = decoder.finish();
    let (_, digest) = stored.finish();
    // a wrong digest explains everything else that went wrong
    if let Some((expected, _)) = layer.stored
        && digest != expected
    {
        return Err(oci(OciError::Digest { part, expected, found: digest }));
    }
    decoded.map_err(|fault| error(Fault::Archive(fault)))?;
    unpacked.map_err(|fault| error(Fault::Archive(fault)))?;
    rest.map_err(|source| oci(OciError::Read { part: part.clone(), source }))?;
    if diff_id != layer.diff_id {
        let part = format!("{part}, without compression,");
        return Err(oci(OciError::Digest { part, expected: layer.diff_id, found: diff_id }));
    }
    Ok(())
}

/// Opens the archive; one that is compressed as a whole is decoded into `work` first, since its
/// parts are not read in the order that they have in it.
fn plain_archive(path: &Path, work: &Path, place: &Place<'_>) -> Result<File, PackError> {
    let unreadable = |source| PackError::Source { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let (input, compression): (Opened, _) = archive::open(file, path)?;
    if compression == archive::Compression::Plain {
        return File::open(path).map_err(unreadable);
    }
    let plain = work.join("image.tar");
    let unwritable = |error| place.write_error(plain.clone(), error);
    let mut decoder = Decoder::new(input, compression)?;
    let mut file = File::create_new(&plain).map_err(unwritable)?;
    let copied = std::io::copy(&mut decoder, &mut file);
    let (_, decoded) = decoder.finish();
    decoded.map_err(|error| PackError::archive(path.display().to_string(), error, place))?;
    copied.map_err(unwritable)?;
    File::open(&plain).map_err(unwritable)
}
