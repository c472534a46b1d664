//! The block device that the node runs from: open it, and make sure that it is the right one.

use std::fs::File;
use std::io;
use std::path::Path;

use proto::boot_record::BootRecord;
use proto::geometry::PieceIndex;
use proto::hash::PieceHash;
use proto::metainfo::Metainfo;
use sys::direct::{DirectError, DirectReader};
use sys::loop_device::{self, DeviceNumber, LoopError};
use thiserror::Error;

/// Random pieces that are hashed beside the first and the last one.
const SAMPLES: usize = 6;

/// The device is not the one that was booted.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// It cannot be opened.
    #[error(
        "cannot open {device}: start as root (privileges are dropped at once) or let the service manager open it (OpenFile=)"
    )]
    Open {
        /// The device.
        device: String,
        /// What open(2) said.
        #[source]
        source: io::Error,
    },
    /// It is no block device.
    #[error("the boot record names no usable block device")]
    Kind {
        /// Which, and why.
        #[source]
        source: LoopError,
    },
    /// Another device has its name now.
    #[error(
        "{device} is device {found}, the boot record says {recorded}: another device has that name now{}",
        shown(backing)
    )]
    Number {
        /// The device.
        device: String,
        /// Number it has.
        found: DeviceNumber,
        /// Number it should have.
        recorded: DeviceNumber,
        /// What it shows, if it is a loop device.
        backing: Option<String>,
    },
    /// Its length cannot be found out.
    #[error("cannot tell the length of {device}")]
    Length {
        /// The device.
        device: String,
        /// Why.
        #[source]
        source: DirectError,
    },
    /// It is too small for the image.
    #[error(
        "{device} has {found} bytes, the image {wanted}: another image was attached to it, or the image was cut off{}",
        shown(backing)
    )]
    TooSmall {
        /// The device.
        device: String,
        /// Bytes it has.
        found: u64,
        /// Bytes of the image.
        wanted: u64,
        /// What it shows, if it is a loop device.
        backing: Option<String>,
    },
    /// Record and torrent disagree about the length.
    #[error("the boot record says that the image has {recorded} bytes, its torrent {torrent}")]
    RecordLength {
        /// In the record.
        recorded: u64,
        /// In the torrent.
        torrent: u64,
    },
    /// It cannot be read.
    #[error("cannot read piece {piece} from {device}")]
    Read {
        /// The device.
        device: String,
        /// The piece.
        piece: u32,
        /// What the system call said.
        #[source]
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "piece {piece} on {device} is not the image that was booted: another image was attached to the device, or it was damaged; it is not announced{}",
        shown(backing)
    )]
    OtherImage {
        /// The device.
        device: String,
        /// The first piece found to differ.
        piece: u32,
        /// What it shows, if it is a loop device.
        backing: Option<String>,
    },
}

fn shown(backing: &Option<String>) -> String {
    backing.as_ref().map(|path| format!(" (it shows {path})")).unwrap_or_default()
}

/// Opens the recorded device read-only, or takes it from the service manager, and compares its
/// number with the record.
pub(super) fn open(record: &BootRecord) -> Result<File, DeviceError> {
    let file = match sys::inherited::take_first() {
        Some(file) => file,
        None => File::open(&record.device)
            .map_err(|e| DeviceError::Open { device: record.device.clone(), source: e })?,
    };
    let found = DeviceNumber::of_file(&file, Path::new(&record.device))
        .map_err(|e| DeviceError::Kind { source: e })?;
    let (major, minor) = record.device_number;
    let recorded = DeviceNumber { major, minor };
    if found != recorded {
        let (device, backing) = (record.device.clone(), backing(found));
        return Err(DeviceError::Number { device, found, recorded, backing });
    }
    Ok(file)
}

/// Hashes the first, the last and some random pieces.
pub(super) fn check(
    reader: &DirectReader,
    record: &BootRecord,
    metainfo: &Metainfo,
) -> Result<(), DeviceError> {
    let geometry = &metainfo.info.geometry;
    if record.length != geometry.total() {
        return Err(DeviceError::RecordLength {
            recorded: record.length,
            torrent: geometry.total(),
        });
    }
    let (major, minor) = record.device_number;
    let shows = || backing(DeviceNumber { major, minor });
    if reader.len() < record.length {
        return Err(DeviceError::TooSmall {
            device: record.device.clone(),
            found: reader.len(),
            wanted: record.length,
            backing: shows(),
        });
    }
    for piece in samples(geometry.pieces()) {
        let PieceIndex(number) = piece;
        let mut bytes = vec![0; usize::try_from(geometry.piece_size(piece)).unwrap_or(0)];
        reader.read_exact_at(geometry.piece_offset(piece), &mut bytes).map_err(|e| {
            DeviceError::Read { device: record.device.clone(), piece: number, source: e }
        })?;
        if metainfo.info.piece_hash(piece) != Some(PieceHash::of(&bytes)) {
            return Err(DeviceError::OtherImage {
                device: record.device.clone(),
                piece: number,
                backing: shows(),
            });
        }
    }
    Ok(())
}

/// First, last, and some in between, each once.
fn samples(pieces: u32) -> Vec<PieceIndex> {
    let Some(last) = pieces.checked_sub(1) else { return Vec::new() };
    let mut chosen = vec![0, last];
    chosen.extend((0..SAMPLES).map(|_| fastrand::u32(0..=last)));
    chosen.sort_unstable();
    chosen.dedup();
    chosen.into_iter().map(PieceIndex).collect()
}

fn backing(number: DeviceNumber) -> Option<String> {
    loop_device::backing_file(number).map(|path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_both_ends_and_no_piece_twice() {
        assert!(samples(0).is_empty());
        assert_eq!(samples(1), [PieceIndex(0)]);
        for pieces in [2, 3, 1000] {
            let chosen = samples(pieces);
            assert_eq!(chosen.first(), Some(&PieceIndex(0)));
            assert_eq!(chosen.last(), Some(&PieceIndex(pieces - 1)));
            assert!(chosen.is_sorted() && chosen.len() <= SAMPLES + 2);
        }
    }
}
