//! What is asked of squashfs, read from the image.

use std::fs;
use std::path::Path;

use crate::support::{pack_image, run, scratch, small_root, text};

const XZ: u16 = 4;
const LZ4: u16 = 5;
const ZSTD: u16 = 6;

/// Compressor of a superblock (squashfs-tools, `squashfs_fs.h`), and its block size in bytes.
fn superblock(image: &[u8]) -> (u16, u32) {
    let short = u16::from_le_bytes(image[20..22].try_into().unwrap());
    (short, u32::from_le_bytes(image[12..16].try_into().unwrap()))
}

#[test]
fn compressor_block_size_and_level_are_those_asked_for() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let cases: [(&[&str], u16, u32, &str); 5] = [
        (&[], ZSTD, 128 << 10, ""),
        (&["--block-size", "256K", "--level", "19"], ZSTD, 256 << 10, "compression-level 19"),
        (&["--level", "3"], ZSTD, 128 << 10, "compression-level 3"),
        (&["--compression", "xz", "--block-size", "1M"], XZ, 1 << 20, ""),
        (&["--compression", "lz4", "--level", "2"], LZ4, 128 << 10, "High Compression"),
    ];
    for (args, compressor, block, level) in cases {
        let packed = pack_image(&root, &store, args);
        let image = Path::new(packed["path"].as_str().unwrap()).join("rootimg.sfs");
        assert_eq!(superblock(&fs::read(&image).unwrap()), (compressor, block), "{args:?}");
        let shown = run("unsquashfs", &["-s", text(&image)]);
        assert!(shown.contains(level), "{level:?} is not in: {shown}");
    }
}
