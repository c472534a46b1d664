//! What a boot has recorded, used: the image packed again in that order, and whether the files that the
//! boot opened lie first in it.
//!
//! What proves it is an image of which all data behind a point is gone: how much must be left for all of
//! these files to be read is compared with what they take when nothing else is packed.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lab::contained;
use lab::tool::Tool;

use super::Args;
use super::build::Programs;
use super::image::{NAME, assemble, tail};
use super::run_folder::RunFolder;
use super::steps::note;
use super::table::megabytes;
use crate::workspace::lab_folder;

/// Reads files out of an image.
pub(crate) const UNSQUASHFS: Tool =
    Tool::new("unsquashfs", "reads files of a packed image", "squashfs-tools", "squashfs-tools");

/// Where the data of a squashfs begins: behind its superblock.
const SUPERBLOCK: u64 = 96;

/// Where the superblock says that the inodes begin, which is where the data ends.
const INODES_AT: u64 = 64;

/// How exactly the end of the files is looked for.
const STEP: u64 = 256 << 10;

/// Files whose place is looked for.
#[derive(Debug)]
struct Listed<'a> {
    /// The root that was packed.
    tree: &'a Path,
    /// Those that are files of the root, from there on.
    files: Vec<PathBuf>,
    /// Scratch folder.
    work: PathBuf,
}

/// Packs the demo's root again with the list at `order`, and looks where the files of it lie.
pub(crate) fn play(
    args: &Args,
    programs: &Programs,
    folder: &RunFolder,
    order: &Path,
) -> Result<()> {
    let work = lab_folder().join("ordered");
    remove(&work)?;
    fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
    let tree = lab_folder().join("root");
    assemble(args, programs, folder, &tree)?;
    let more = ["--order".as_ref(), order.as_os_str()];
    let image = pack(programs, folder, &tree, &work.join("whole"), &more)?;

    let text = fs::read_to_string(order).context("cannot read the list")?;
    let files = files_of(&text, &tree);
    ensure!(files.len() > 100, "only {} files of the list are in the root", files.len());
    let listed = Listed { tree: &tree, files, work: work.clone() };
    let (needed, data) = (listed.needed(&image)?, data_length(&image)?);

    let alone = pack(programs, folder, &listed.extracted(), &work.join("alone"), &[])?;
    let alone = data_length(&alone)?;
    ensure!(
        needed <= alone + alone / 20 + 4 * STEP,
        "the files of the boot take {alone} bytes by themselves, but lie in the first {needed} of {data}"
    );
    ensure!(
        needed < data / 2,
        "the files of the boot are {needed} of {data} bytes: nothing is proved"
    );
    note(format_args!(
        "{} files that a boot has opened lie in the first {} of {} of data; by themselves they take {}",
        listed.files.len(),
        megabytes(needed),
        megabytes(data),
        megabytes(alone)
    ));
    remove(&work)?;
    remove(&tree)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Packs `source` as a squashfs into a store of its own; returns the image's path.
fn pack(
    programs: &Programs,
    folder: &RunFolder,
    source: &Path,
    store: &Path,
    more: &[&std::ffi::OsStr],
) -> Result<PathBuf> {
    let log = folder.path().join("packer-ordered.log");
    let file = File::options().create(true).append(true).open(&log);
    let file = file.with_context(|| format!("cannot open {}", log.display()))?;
    let mut command = contained(&programs.packer)?;
    command.args(["--json", "pack", "--image-only", "--publish", "--name", NAME]);
    command.arg("--source").arg(source).arg("--store").arg(store).args(more);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).status();
    let status = status.context("cannot run bee-packer")?;
    ensure!(status.success(), "bee-packer pack failed ({status}): {}", tail(&log, 20));
    Ok(store.join("channels/stable").join(NAME).join("rootimg.sfs"))
}

/// The lines of a list that are files of the root with something in them.
fn files_of(list: &str, tree: &Path) -> Vec<PathBuf> {
    let paths = list.lines().filter_map(|line| line.strip_prefix('/'));
    let is_file = |path: &Path| {
        fs::symlink_metadata(tree.join(path)).is_ok_and(|file| file.is_file() && file.len() > 0)
    };
    paths.map(PathBuf::from).filter(|path| is_file(path)).collect()
}

/// Bytes of a squashfs that are contents of files.
fn data_length(image: &Path) -> Result<u64> {
    let mut bytes = [0; 8];
    let file = File::open(image).and_then(|file| file.read_exact_at(&mut bytes, INODES_AT));
    file.with_context(|| format!("cannot read {}", image.display()))?;
    u64::from_le_bytes(bytes).checked_sub(SUPERBLOCK).context("this is no squashfs")
}

impl Listed<'_> {
    /// Where they lie once they were read.
    fn extracted(&self) -> PathBuf {
        self.work.join("files")
    }

    /// How many bytes of the data must be there for all of them, up to [`STEP`] too many.
    fn needed(&self, image: &Path) -> Result<u64> {
        let (mut few, mut enough) = (0, data_length(image)?);
        ensure!(self.readable(image, enough)?, "the image lacks files of the list");
        while enough - few > STEP {
            let middle = few.midpoint(enough);
            *(if self.readable(image, middle)? { &mut enough } else { &mut few }) = middle;
        }
        // their last copy is that of an image with enough of it
        ensure!(self.readable(image, enough)?, "the same image gives other files now");
        Ok(enough)
    }

    /// Whether each of them is what it is in the root when only the first `kept` bytes of the data are
    /// there.
    fn readable(&self, image: &Path, kept: u64) -> Result<bool> {
        let cut = self.work.join("cut.sfs");
        cut_data(image, kept, &cut).with_context(|| format!("cannot write {}", cut.display()))?;
        let (list, out) = (self.work.join("list"), self.extracted());
        let lines = self.files.iter().flat_map(|path| [path.as_os_str().as_encoded_bytes(), b"\n"]);
        fs::write(&list, lines.collect::<Vec<_>>().concat()).context("cannot write a list")?;
        remove(&out)?;
        let mut command = Command::new(UNSQUASHFS.find()?);
        command.args(["-no-progress", "-no-wildcards", "-dest"]).arg(&out);
        command.arg("-ef").arg(&list).arg(&cut);
        let output = command.stdin(Stdio::null()).output().context("cannot run unsquashfs")?;
        if !output.status.success() {
            return Ok(false);
        }
        let same = |path: &PathBuf| {
            let read = |root: &Path| fs::read(root.join(path));
            read(self.tree).is_ok_and(|wanted| read(&out).is_ok_and(|found| found == wanted))
        };
        Ok(self.files.iter().all(same))
    }
}

/// A copy of a squashfs in which only the first `kept` bytes of the data are left, and all that is behind
/// the data.
fn cut_data(image: &Path, kept: u64, to: &Path) -> Result<()> {
    let data = data_length(image)?;
    let (mut from, mut cut) = (File::open(image)?, File::create(to)?);
    io::copy(&mut (&from).take(SUPERBLOCK + kept), &mut cut)?;
    let behind = SeekFrom::Start(SUPERBLOCK + data);
    from.seek(behind)?;
    cut.seek(behind)?;
    io::copy(&mut from, &mut cut)?;
    Ok(cut.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_root_count() {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [("a", "x"), ("empty", "")] {
            fs::write(dir.path().join(path), text).unwrap();
        }
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        let list = "# a comment\n/a\n/empty\n/link\n/folder\n/gone\n";
        assert_eq!(files_of(list, dir.path()), [PathBuf::from("a")]);
    }

    #[test]
    fn the_place_of_files_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // what no compressor makes smaller
        let noise = |name: &str| {
            let mut bytes = Vec::new();
            let random = File::open("/dev/urandom").unwrap();
            random.take(4 * STEP).read_to_end(&mut bytes).unwrap();
            fs::write(tree.join(name), bytes).unwrap();
        };
        ["1", "2", "3", "4"].iter().for_each(|name| noise(name));
        let image = dir.path().join("image");
        let mut make = Command::new("mksquashfs");
        make.arg(&tree).arg(&image).args(["-quiet", "-no-progress"]);
        assert!(make.status().unwrap().success());
        assert_eq!(data_length(&image).unwrap() / (4 * STEP), 4);
        for (files, blocks) in [(["1", "2"], 2), (["1", "4"], 4)] {
            let files = files.map(PathBuf::from).to_vec();
            let listed = Listed { tree: &tree, files, work: dir.path().to_owned() };
            let needed = listed.needed(&image).unwrap();
            assert!(needed.abs_diff(blocks * 4 * STEP) <= 2 * STEP, "{needed}");
        }
    }
}
