//! Memory that a run will use, touched before it.
//!
//! A virtual machine gives free memory back to its host within seconds and gets it again page by
//! page when it is touched: up to 2 processor seconds per GB, which would be counted as a client's,
//! and differ from run to run. A real node has its memory. So a file as large as what the nodes will
//! store is written to the lab's tmpfs, and removed at the run's first moment: the kernel hands out
//! first what was given back last.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use lab::Node;
use nix::sys::statvfs::statvfs;

use crate::demo::available_memory;

/// Of the memory that is available, the most that is touched: one part in so many.
const MOST: u64 = 2;

/// How much is written at a time.
const CHUNK: usize = 2 << 20;

/// Memory held from before a run to its first moment.
#[derive(Debug)]
pub(crate) struct Warm {
    file: PathBuf,
}

impl Warm {
    /// Touches `bytes`, or what can be spared. `admin` is any node of the lab.
    pub(crate) fn up(admin: &Node, bytes: u64) -> anyhow::Result<Warm> {
        let folder = admin.outside(&admin.scratch());
        let room = statvfs(&folder).context("cannot ask for the room in the lab's scratch")?;
        let room = room.blocks_available().saturating_mul(room.fragment_size());
        let mut left = usize::try_from(spared(bytes, room, available_memory()?))?;
        let warm = Warm { file: folder.join("warm") };
        let mut file = File::create(&warm.file).context("cannot touch memory")?;
        let chunk = vec![1; CHUNK];
        while left > 0 {
            let part = &chunk[..CHUNK.min(left)];
            file.write_all(part).context("cannot touch memory")?;
            left -= part.len();
        }
        Ok(warm)
    }

    /// Hands the memory to whom asks next.
    pub(crate) fn release(self) -> anyhow::Result<()> {
        fs::remove_file(&self.file).context("cannot give touched memory back")
    }
}

/// Of `bytes`, what fits in `room` and can be taken while `available` are free.
fn spared(bytes: u64, room: u64, available: u64) -> u64 {
    bytes.min(room).min(available / MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_there_is_room_and_half_of_what_is_free() {
        assert_eq!(spared(1 << 20, 1 << 30, 1 << 30), 1 << 20);
        assert_eq!(spared(1 << 40, 1 << 28, 1 << 30), 1 << 28);
        assert_eq!(spared(1 << 40, 1 << 40, 1 << 30), 1 << 29);
    }
}
