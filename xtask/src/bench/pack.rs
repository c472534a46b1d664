//! `cargo xtask bench pack`: `bee-packer pack` beside mksquashfs and tar2sqfs, on the demo's root and on
//! a root of 2 GB, with the same compressor, level and block size.
//!
//! Everything lies in memory: on a disk one would measure fsync(2), which only our packer calls.

mod measure;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::Parser;
use lab::root::{Base, Kernel, Recipe};
use lab::tool::Tool;
use proto::units::ByteSize;
use serde::Serialize;

use super::facts::Facts;
use super::places::Places;
use super::{publish, report, stats};
use crate::workspace::{self, lab_folder};

use measure::Used;
pub(crate) use measure::{MeasureArgs, measure};

/// Block size of all three, in bytes: the default of each.
const BLOCK: &str = "131072";

/// Our whole pipeline may take so many times as long as mksquashfs alone.
const GOAL: f64 = 1.05;

const MKSQUASHFS: Tool =
    Tool::new("mksquashfs", "is compared with", "squashfs-tools", "squashfs-tools");
const TAR2SQFS: Tool =
    Tool::new("tar2sqfs", "is compared with", "squashfs-tools-ng", "squashfs-tools-ng");
const TAR: Tool = Tool::new("tar", "unpacks the root", "tar", "tar");

/// Arguments of `cargo xtask bench pack`.
#[derive(Debug, Parser)]
pub(crate) struct PackArgs {
    /// Root to pack, a tar, instead of the demo's (which mmdebstrap builds when it is not there)
    #[arg(long, value_name = "TAR")]
    root: Option<PathBuf>,
    /// Size of the large root: copies of the other, each with other bytes. 0 leaves it out
    #[arg(long, default_value = "2GB")]
    large: ByteSize,
    /// Level of zstd
    #[arg(long, default_value_t = 15)]
    level: u32,
    /// Runs of each program, in turn; the result has the medians
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Folder for roots and images, in memory
    #[arg(long, value_name = "DIR", default_value = "/dev/shm/beeswarm-bench-pack")]
    work: PathBuf,
    /// Where the programs of Beeswarm are; built in release mode when not given
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Folder for logs and results
    #[arg(long, default_value = "target/bench/pack")]
    output: PathBuf,
    /// Keeps the results as docs/bench/NAME
    #[arg(long, value_name = "NAME")]
    publish: Option<String>,
}

/// Who packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Packer {
    Mksquashfs,
    Ours,
    Tar2sqfs,
}

const PACKERS: [Packer; 3] = [Packer::Mksquashfs, Packer::Ours, Packer::Tar2sqfs];

impl Packer {
    fn name(self) -> &'static str {
        match self {
            Self::Mksquashfs => "mksquashfs alone",
            Self::Ours => "bee-packer, everything",
            Self::Tar2sqfs => "tar2sqfs alone",
        }
    }
}

/// One run.
#[derive(Debug, Clone, Serialize)]
struct PackRun {
    root: &'static str,
    packer: Packer,
    /// Bytes of the image.
    image: u64,
    #[serde(flatten)]
    used: Used,
}

/// A root to pack.
#[derive(Debug, Clone, Serialize)]
struct Root {
    name: &'static str,
    #[serde(skip)]
    path: PathBuf,
    bytes: u64,
    files: u64,
}

/// Removes the work folder, whatever happens.
struct Work(PathBuf);

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            workspace::say(format_args!("cannot remove {}: {error}", self.0.display()));
        }
    }
}

/// Measures.
pub(crate) fn run(args: &PackArgs) -> anyhow::Result<()> {
    ensure!(args.runs > 0, "--runs must be at least 1");
    ensure!((1..=22).contains(&args.level), "--level is 1 to 22");
    let places = Places::prepare(args.programs.as_deref(), &args.output, args.publish.as_deref())?;
    for tool in [MKSQUASHFS, TAR2SQFS, TAR] {
        tool.find()?;
    }
    let tar = match &args.root {
        Some(tar) => tar.clone(),
        None => {
            let recipe = Recipe::for_this_host(Kernel::Cloud);
            Base::get(&recipe, &lab_folder().join("cache"), &places.output)?.tar().to_owned()
        }
    };
    fs::create_dir(&args.work).with_context(|| {
        format!("cannot make {}: remove what a killed run left there", args.work.display())
    })?;
    let work = Work(args.work.canonicalize()?);
    let roots = roots(args, &tar, &work.0)?;
    let mut facts = Facts::gather();
    for (packer, root) in PACKERS.into_iter().filter_map(|packer| Some((packer, roots.first()?))) {
        let command = command(args, &places.programs, &work.0, root, packer);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        facts.programs.note(packer.name(), &[words.join(" ")], &places.aliases());
    }
    // these are found by a shell, and by their names
    for tool in [MKSQUASHFS, TAR2SQFS] {
        facts.programs.note(tool.program, &[tool.find()?.display().to_string()], &[]);
    }
    let mut runs = Vec::new();
    for root in &roots {
        for number in 1..=args.runs {
            for packer in PACKERS {
                let run = one(args, &places.programs, &work.0, root, packer)?;
                report::progress(&format!("run {number}, {}: {}", root.name, line(&run)));
                runs.push(run);
            }
        }
    }
    let table = table(args, &roots, &runs);
    workspace::say(format_args!("\n{table}"));
    for folder in places.results() {
        publish::write(folder, "Packing", &facts, &runs, &table, &[])?;
        workspace::say(format_args!("results: {}", folder.display()));
    }
    Ok(())
}

/// The demo's root, unpacked, and the large one.
fn roots(args: &PackArgs, tar: &Path, work: &Path) -> anyhow::Result<Vec<Root>> {
    let demo = work.join("demo");
    fs::create_dir(&demo)?;
    let mut unpack = Command::new(TAR.program);
    unpack.args(["--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--file"]);
    workspace::call(unpack.arg(tar).arg("--directory").arg(&demo))?;
    let count = |name, path: PathBuf| -> anyhow::Result<Root> {
        let (files, bytes) = tree::count(&path)?;
        Ok(Root { name, path, bytes, files })
    };
    let mut roots = vec![count("the demo's root", demo.clone())?];
    if args.large.0 > 0 {
        let large = work.join("large");
        tree::enlarge(&demo, &large, args.large.0)?;
        roots.push(count("the large root", large)?);
    }
    Ok(roots)
}

/// What packs a root.
fn command(args: &PackArgs, programs: &Path, work: &Path, root: &Root, packer: Packer) -> Command {
    let image = work.join("image");
    let store = work.join("store");
    let level = args.level.to_string();
    match packer {
        Packer::Mksquashfs => {
            let mut command = Command::new(MKSQUASHFS.program);
            command.arg(&root.path).arg(&image);
            command.args(["-comp", "zstd", "-Xcompression-level", &level, "-b", BLOCK]);
            // as bee-packer calls it
            command.args(["-noappend", "-no-recovery", "-exit-on-error", "-mem", "1G"]);
            command.args(["-mkfs-time", "0", "-no-progress"]);
            command
        }
        Packer::Ours => {
            let mut command = Command::new(programs.join("bee-packer"));
            command.args(["pack", "--json", "--image-only", "--name", "bench", "--source"]);
            command.arg(&root.path).arg("--store").arg(&store);
            command.args(["--tracker", "http://10.0.0.1:6969", "--compression", "zstd"]);
            command.args(["--level", &level, "--block-size", "128K"]);
            command
        }
        Packer::Tar2sqfs => {
            let mut command = Command::new("sh");
            command.args([
                "-c",
                "tar --create --sparse --xattrs --xattrs-include='*' --directory \"$1\" . \
                | tar2sqfs --quiet --force --compressor zstd --comp-extra level=\"$2\" \
                  --block-size \"$3\" \"$4\"",
                "sh",
            ]);
            command.arg(&root.path).args([&level, BLOCK]).arg(&image);
            command
        }
    }
}

/// Packs once, and removes the result.
fn one(
    args: &PackArgs,
    programs: &Path,
    work: &Path,
    root: &Root,
    packer: Packer,
) -> anyhow::Result<PackRun> {
    let (image, store) = (work.join("image"), work.join("store"));
    let mut command = command(args, programs, work, root, packer);
    let used = measure::command(&mut command)?;
    let file = match packer {
        Packer::Ours => find_image(&store)?,
        _ => image.clone(),
    };
    let length = fs::metadata(&file).context("the image")?.len();
    if packer == Packer::Ours {
        fs::remove_dir_all(&store)?
    } else {
        fs::remove_file(&image)?
    }
    Ok(PackRun { root: root.name, packer, image: length, used })
}

fn find_image(store: &Path) -> anyhow::Result<PathBuf> {
    let revisions = store.join("revisions/bench");
    let entry = fs::read_dir(&revisions)?.next().context("bee-packer stored nothing")??;
    Ok(entry.path().join("rootimg.sfs"))
}

fn line(run: &PackRun) -> String {
    format!(
        "{}: {:.1} s, {:.1} CPU s, {:.0} MB of memory, image {:.2} MB",
        run.packer.name(),
        run.used.seconds,
        run.used.cpu,
        run.used.memory as f64 / 1e6,
        run.image as f64 / 1e6
    )
}

fn table(args: &PackArgs, roots: &[Root], runs: &[PackRun]) -> String {
    let mut text = format!(
        "zstd level {}, blocks of 128 KiB, roots and images in memory, medians of {} runs in turn. \
         Memory is that of the largest process. Read again: bytes of the image that were read to hash \
         it, beside those that were hashed while they were written.\n",
        args.level, args.runs
    );
    let mut goals = String::from("\n| goal | wanted | measured | |\n|---|---|---|---|\n");
    for root in roots {
        let middle = |packer: Packer, of: fn(&PackRun) -> f64| {
            let fits = |run: &&PackRun| run.root == root.name && run.packer == packer;
            stats::median(runs.iter().filter(fits).map(of)).unwrap_or(f64::NAN)
        };
        let (files, megabytes) = (root.files, root.bytes as f64 / 1e6);
        text.push_str(&format!(
            "\n{}: {files} files, {megabytes:.0} MB\n\n| program | s | times mksquashfs | CPU s | \
             memory, MB | read from disk, MB | read again, MB | image, MB |\n\
             |---|---|---|---|---|---|---|---|\n",
            root.name
        ));
        let alone = middle(Packer::Mksquashfs, |run| run.used.seconds);
        let times = |packer| middle(packer, |run: &PackRun| run.used.seconds) / alone;
        for packer in PACKERS {
            let again = runs.iter().filter(|run| run.root == root.name && run.packer == packer);
            let again = again.filter_map(|run| run.used.read_back).max();
            text.push_str(&format!(
                "| {} | {:.1} | {:.3} | {:.1} | {:.0} | {:.1} | {} | {:.2} |\n",
                packer.name(),
                middle(packer, |run| run.used.seconds),
                times(packer),
                middle(packer, |run| run.used.cpu),
                middle(packer, |run| run.used.memory as f64 / 1e6),
                middle(packer, |run| run.used.disk as f64 / 1e6),
                again.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e6)),
                middle(packer, |run| run.image as f64 / 1e6),
            ));
        }
        let factor = times(Packer::Ours);
        let verdict = if factor <= GOAL { "met" } else { "**missed**" };
        goals.push_str(&format!(
            "| {}, times mksquashfs alone | ≤ {GOAL:.2} | {factor:.3} | {verdict} |\n",
            root.name
        ));
    }
    text + &goals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_medians_and_per_root() {
        let args = PackArgs::try_parse_from(["pack"]).unwrap();
        let root = |name| Root { name, path: PathBuf::new(), bytes: 358_000_000, files: 11_091 };
        let run = |root, packer, seconds| PackRun {
            root,
            packer,
            image: 100_000_000,
            used: Used {
                seconds,
                cpu: 2.0 * seconds,
                memory: 500_000_000,
                disk: 0,
                read_back: (packer == Packer::Ours).then_some(2_097_152),
            },
        };
        let runs = [
            run("a", Packer::Mksquashfs, 10.0),
            run("a", Packer::Mksquashfs, 10.0),
            run("a", Packer::Mksquashfs, 99.0),
            run("a", Packer::Ours, 10.4),
            run("b", Packer::Mksquashfs, 100.0),
            run("b", Packer::Ours, 106.0),
        ];
        let text = table(&args, &[root("a"), root("b")], &runs);
        let line = "| bee-packer, everything | 10.4 | 1.040 | 20.8 | 500 | 0.0 | 2.1 | 100.00 |";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("| mksquashfs alone | 10.0 | 1.000 | 20.0 | 500 | 0.0 | - |"));
        assert!(text.contains("| a, times mksquashfs alone | ≤ 1.05 | 1.040 | met |"), "{text}");
        assert!(text.contains("| b, times mksquashfs alone | ≤ 1.05 | 1.060 | **missed** |"));
        assert!(text.contains("a: 11091 files, 358 MB"));
    }
}
