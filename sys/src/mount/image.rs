//! Which file system an image is: asked of its superblock, since its name does not say.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use nix::mount::MsFlags;

use super::{MountError, mount};

/// Offset and bytes of the magic numbers: of squashfs 4.0 (0x73717368, little-endian) and of EROFS
/// (0xE0F5E1E2, in a superblock that begins at 1024).
const MAGIC: [(&str, usize, [u8; 4]); 2] =
    [("squashfs", 0, *b"hsqs"), ("erofs", 1024, [0xe2, 0xe1, 0xf5, 0xe0])];

/// Longest head that is looked at, in bytes.
const HEAD: usize = 1028;

/// The file-system type of an image that begins with `head`; `None` when it is neither of ours.
fn recognise(head: &[u8]) -> Option<&'static str> {
    MAGIC
        .iter()
        .find(|(_, offset, magic)| head.get(*offset..offset + magic.len()) == Some(magic))
        .map(|(kind, ..)| *kind)
}

/// Mounts the squashfs or EROFS image on the block device `source` read-only on `target`.
///
/// # Errors
/// [`MountError::Image`] when the device cannot be read or holds neither, [`MountError::Mount`].
pub fn image(source: &Path, target: &Path) -> Result<(), MountError> {
    let error = |reason| MountError::Image { device: source.into(), source: reason };
    let mut head = Vec::with_capacity(HEAD);
    let read = File::open(source).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head));
    read.map_err(error)?;
    let kind = recognise(&head).ok_or_else(|| error(io::ErrorKind::InvalidData.into()))?;
    mount(kind, Some(source.as_os_str()), target, MsFlags::MS_RDONLY, OsStr::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superblocks_are_told_apart() {
        let mut erofs = vec![0; HEAD];
        erofs[1024..].copy_from_slice(&0xE0F5_E1E2_u32.to_le_bytes());
        assert_eq!(recognise(&erofs), Some("erofs"));
        assert_eq!(recognise(b"hsqs\x01\0\0\0"), Some("squashfs"));
        // the byte order of squashfs before 4.0, and what is cut short
        for other in [&b"sqsh"[..], b"", b"hsq", &erofs[..1027]] {
            assert_eq!(recognise(other), None);
        }
    }
}
