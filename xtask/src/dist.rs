//! `cargo xtask dist`: static programs, units, the dracut module and the documents in one archive,
//! laid out as `make install` lays them out.
//!
//! The archive names no builder and no time (`SOURCE_DATE_EPOCH`, else the commit's time), so the
//! same commit and compiler give the same bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use lab::tool::Tool;
use proto::hash::Sha256Digest;
use proto::units::ByteSize;

use crate::check::tools::{self, Program};
use crate::workspace::{self, call, say};
use size::Sizes;

pub(crate) mod size;

/// Programs of hosts, and the one of the initrd with the profile that makes it small.
const BUILDS: [(&str, &[&str]); 2] =
    [("release", &["bee-packer", "bee-tracker", "bee-seeder"]), ("initrd", &[size::PROGRAM])];

const NEEDED: [Program; 4] = [
    Program::System(Tool::new("make", "lays the files out", "make", "make")),
    Program::System(Tool::new("tar", "the archive", "tar", "tar")),
    Program::System(Tool::new("zstd", "compresses the archive", "zstd", "zstd")),
    Program::System(Tool::new("musl-gcc", "the tracker's SQLite", "musl-tools", "musl-gcc")),
];

/// Arguments of `cargo xtask dist`.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Args {
    /// Folder for the archive
    #[arg(long, default_value = "target/dist")]
    output: PathBuf,
    /// Install missing tools with apt-get (needs root; always on when CI=true)
    #[arg(long)]
    install: bool,
}

/// Makes the archive.
///
/// # Errors
/// When a tool is missing, or building or packing fails.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.install || tools::in_ci() {
        tools::install_missing(&NEEDED)?;
    }
    let missing: Vec<String> = NEEDED.iter().filter_map(Program::missing_message).collect();
    if !missing.is_empty() {
        bail!("{}", missing.join("\n"));
    }
    let target = StaticTarget::choose()?;
    for (profile, programs) in BUILDS {
        target.build(profile, programs)?;
    }
    let name = format!("beeswarm-{}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let output = workspace::root().join(&args.output);
    let stage = output.join(&name);
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("cannot empty {}", stage.display()))?;
    }
    fs::create_dir_all(&stage).with_context(|| format!("cannot create {}", stage.display()))?;
    stage_files(&target, &stage)?;
    report_programs(&stage)?;
    check_size(&target, &stage.join("usr/bin").join(size::PROGRAM))?;
    let archive = pack(&output, &name)?;
    let bytes = fs::read(&archive).with_context(|| format!("cannot read {}", archive.display()))?;
    let (size, digest) = (ByteSize(bytes.len() as u64), Sha256Digest::of(&bytes));
    let sums = archive.with_extension("zst.sha256");
    fs::write(&sums, format!("{digest}  {name}.tar.zst\n"))
        .with_context(|| format!("cannot write {}", sums.display()))?;
    say(format_args!("{} ({size})\nsha256 {digest}", archive.display()));
    Ok(())
}

/// A compiler target that links everything statically.
#[derive(Debug)]
struct StaticTarget {
    triple: String,
    /// glibc can be linked statically as well, when musl is not to be had.
    rustflags: Option<&'static str>,
}

impl StaticTarget {
    fn choose() -> anyhow::Result<StaticTarget> {
        let musl = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        if has_target(&musl)? {
            return Ok(StaticTarget { triple: musl, rustflags: None });
        }
        let added = Command::new("rustup").args(["target", "add", &musl]).status();
        if added.is_ok_and(|status| status.success()) && has_target(&musl)? {
            return Ok(StaticTarget { triple: musl, rustflags: None });
        }
        let gnu = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        say(format_args!("{musl} is not installed and cannot be added; linking glibc statically"));
        Ok(StaticTarget { triple: gnu, rustflags: Some("-Ctarget-feature=+crt-static") })
    }

    fn build(&self, profile: &str, programs: &[&str]) -> anyhow::Result<()> {
        let mut command = tools::cargo();
        command.args(["build", "--locked", "--profile", profile, "--target", &self.triple]);
        // the packages are named as well: else features that others want come with them
        let package = |program: &str| program.replacen("bee-", "beeswarm-", 1);
        for program in programs {
            command.args(["-p", &package(program), "--bin", program]);
        }
        if let Some(flags) = self.rustflags {
            command.env("RUSTFLAGS", flags);
        }
        call(&mut command)
    }

    fn is_musl(&self) -> bool {
        self.triple.ends_with("musl")
    }

    fn built(&self, profile: &str) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        workspace::root().join(target).join(&self.triple).join(profile)
    }
}

/// Whether the compiler has the standard library of a target.
fn has_target(triple: &str) -> anyhow::Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", triple])
        .output()
        .context("cannot start rustc")?;
    Ok(output.status.success()
        && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

/// Lays the files out with the Makefile, so that there is one list of them.
fn stage_files(target: &StaticTarget, stage: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("make");
    command.current_dir(workspace::root()).args(["--silent", "install", "PREFIX=/usr"]);
    command.arg(format!("DESTDIR={}", stage.display()));
    command.arg(format!("BUILT={}", target.built("release").display()));
    command.arg(format!("BUILT_INITRD={}", target.built("initrd").display()));
    call(&mut command)
}

/// Prints the size of each program, and refuses one that needs a dynamic loader.
fn report_programs(stage: &Path) -> anyhow::Result<()> {
    for program in BUILDS.iter().flat_map(|(_, programs)| *programs) {
        let path = stage.join("usr/bin").join(program);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if needs_loader(&bytes) {
            bail!("{program} is not static: it names a dynamic loader");
        }
        say(format_args!("{program:<18} {}", ByteSize(bytes.len() as u64)));
    }
    Ok(())
}

/// Refuses a client that is larger than an initrd has room for. The limits are for musl.
fn check_size(target: &StaticTarget, client: &Path) -> anyhow::Result<()> {
    let sizes = Sizes::of(client)?;
    say(sizes);
    let problems = if target.is_musl() { sizes.problems() } else { Vec::new() };
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// Whether an ELF program has a `PT_INTERP` segment (elf(5); 64-bit little-endian).
fn needs_loader(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let word = |at: usize, len: usize| {
        let bytes = elf.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let headers = || {
        let first = usize::try_from(word(32, 8)?).ok()?;
        let (size, count) = (word(54, 2)?, word(56, 2)?);
        (0..count).map(|n| word(first + usize::try_from(n * size).ok()?, 4)).collect()
    };
    let kinds: Option<Vec<u64>> = headers();
    kinds.is_none_or(|kinds| kinds.contains(&u64::from(PT_INTERP)))
}

/// Makes `NAME.tar.zst` beside the folder.
fn pack(output: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let archive = output.join(format!("{name}.tar.zst"));
    let mut command = Command::new("tar");
    command.current_dir(output).args(["--create", "--sort=name", "--owner=0", "--group=0"]);
    command.args([
        "--numeric-owner",
        "--mode=u+rw,go+rX,go-w",
        "--use-compress-program=zstd -19 -T0",
    ]);
    command.arg(format!("--mtime=@{}", source_date()?)).arg("--file").arg(&archive).arg(name);
    call(&mut command)?;
    Ok(archive)
}

/// Seconds since 1970 that the archive's files carry.
fn source_date() -> anyhow::Result<u64> {
    if let Ok(seconds) = std::env::var("SOURCE_DATE_EPOCH") {
        return seconds.parse().context("SOURCE_DATE_EPOCH is not a number of seconds");
    }
    let output = Command::new("git")
        .current_dir(workspace::root())
        .args(["log", "-1", "--format=%ct"])
        .output()
        .context("cannot start git; set SOURCE_DATE_EPOCH when this is no git checkout")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().context("git names no commit; set SOURCE_DATE_EPOCH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_static_from_dynamic() {
        let mut elf = vec![0u8; 64 + 2 * 56];
        elf[32] = 64; // first program header
        elf[54] = 56; // size of one
        elf[56] = 2; // number
        elf[64] = 1; // PT_LOAD
        assert!(!needs_loader(&elf));
        elf[64 + 56] = 3; // PT_INTERP
        assert!(needs_loader(&elf));
        assert!(needs_loader(b"not a program"));
    }
}
