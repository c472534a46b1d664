//! `bee-packer initrd`, and the options of the initrd in `pack`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use packer::event::Event;
use packer::initrd_contents::{self, Contents};
use packer::pack::{DriverOptions, InitrdOptions, InitrdTool};
use proto::units::ByteSize;
use serde_json::json;

use crate::output::{self, Progress};

/// What goes into the initrd.
#[derive(Debug, Args)]
pub(crate) struct InitrdArgs {
    /// Drivers for these network cards only: a file with modaliases, lines of `lspci -n`, or names
    /// of modules [default: those of common server cards]
    #[arg(long, value_name = "FILE")]
    hardware: Option<PathBuf>,
    /// Further kernel module for the initrd, with what it depends on and its firmware; repeatable
    #[arg(long = "driver", value_name = "NAME")]
    drivers: Vec<String>,
    /// What makes the initrd [default: dracut-busybox where this host has a busybox that can do it,
    /// and there is no --dracut-arg; else dracut]
    #[arg(long, value_enum)]
    initrd_tool: Option<InitrdToolArg>,
    /// Directory of our hook for initramfs-tools [default: /usr/share/beeswarm/initramfs-tools,
    /// then ../share/beeswarm/initramfs-tools and initramfs-tools next to this program]
    #[arg(long, value_name = "DIR", env = "BEESWARM_INITRAMFS_TOOLS")]
    initramfs_tools: Option<PathBuf>,
    /// Leave out the CPU microcode that is installed in the source
    #[arg(long)]
    no_microcode: bool,
}

/// `--initrd-tool`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum InitrdToolArg {
    /// dracut of this host, with systemd: knows VLANs, bonds and other roots
    Dracut,
    /// dracut of this host, with its busybox in place of systemd: half as large, for
    /// root=beeswarm: alone
    DracutBusybox,
    /// initramfs-tools of the source (Debian, Ubuntu): smaller
    InitramfsTools,
}

impl InitrdArgs {
    /// What they say; the rest is left open.
    pub(crate) fn options(&self) -> InitrdOptions {
        InitrdOptions {
            tool: self.initrd_tool.map(|tool| match tool {
                InitrdToolArg::Dracut => InitrdTool::Dracut,
                InitrdToolArg::DracutBusybox => InitrdTool::DracutBusybox,
                InitrdToolArg::InitramfsTools => InitrdTool::InitramfsTools,
            }),
            initramfs_tools: self.initramfs_tools.clone(),
            drivers: DriverOptions { hardware: self.hardware.clone(), named: self.drivers.clone() },
            no_microcode: self.no_microcode,
            ..InitrdOptions::default()
        }
    }
}

/// What to do with an initrd.
#[derive(Debug, Subcommand)]
pub(crate) enum InitrdCommand {
    /// Make an initrd for the kernel of a root tree, without an image and without a store
    Make(Box<MakeArgs>),
    /// Show what takes the room in an initrd
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct MakeArgs {
    /// Root tree: a directory
    #[arg(long, value_name = "DIR")]
    source: PathBuf,
    /// Where the initrd goes
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Kernel release, as `uname -r` says [default: the newest in the source]
    #[arg(long, value_name = "VER")]
    kver: Option<String>,
    /// Static bee-initrd-client, as for pack
    #[arg(long, value_name = "FILE", env = "BEESWARM_CLIENT")]
    client: Option<PathBuf>,
    /// Directory of the dracut module, as for pack
    #[arg(long, value_name = "DIR", env = "BEESWARM_DRACUT_MODULE")]
    dracut_module: Option<PathBuf>,
    /// Further argument for dracut, after ours; repeatable
    #[arg(long = "dracut-arg", value_name = "ARG", allow_hyphen_values = true)]
    dracut_args: Vec<String>,
    /// With the kernel modules for images that have a dm-verity tree
    #[arg(long)]
    verity: bool,
    #[command(flatten)]
    initrd: InitrdArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The initrd
    file: PathBuf,
    /// Its kernel, for the sum of both
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// List every file instead
    #[arg(long)]
    files: bool,
}

impl InitrdCommand {
    /// Does what was asked for.
    pub(crate) fn run(&self, json: bool) -> anyhow::Result<ExitCode> {
        match self {
            Self::Make(args) => make(args, json),
            Self::Show(args) => show(args, json),
        }
    }
}

fn make(args: &MakeArgs, json: bool) -> anyhow::Result<ExitCode> {
    let progress = Progress::new(json);
    let options = InitrdOptions {
        client: args.client.clone(),
        dracut_module: args.dracut_module.clone(),
        dracut_args: args.dracut_args.clone(),
        verity: args.verity,
        ..args.initrd.options()
    };
    let observe = |event: Event| progress.event(&event);
    let kver = args.kver.as_deref();
    let kernel = packer::make_initrd(&args.source, kver, &options, &args.output, &observe)?;
    let contents = initrd_contents::read(&args.output)?;
    let kernel_bytes = std::fs::metadata(&kernel.image)?.len();
    if json {
        output::json(&json!({
            "event": "complete",
            "path": args.output,
            "kernel_release": kernel.release,
            "kernel_bytes": kernel_bytes,
            "initrd_bytes": contents.packed,
        }));
    } else {
        print_sum(&contents, Some(kernel_bytes));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ShowArgs, json: bool) -> anyhow::Result<ExitCode> {
    let contents = initrd_contents::read(&args.file)?;
    if args.files {
        for file in &contents.files {
            if json {
                output::json(&json!({"event": "file", "path": file.path, "bytes": file.length}));
            } else {
                output::line(&format!("{:>10}  {}", file.length, file.path));
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let kernel = args.kernel.as_ref().map(std::fs::metadata).transpose()?.map(|meta| meta.len());
    for group in contents.groups().context("cannot run zstd, which the table needs")? {
        if json {
            output::json(&json!({
                "event": "group",
                "name": group.name,
                "files": group.files,
                "bytes": group.length,
                "share_bytes": group.share,
            }));
        } else {
            let (share, bytes) = (megabytes(group.share), megabytes(group.length));
            let line =
                format!("{share:>7} MB  {bytes:>7} MB in {:>4} files  {}", group.files, group.name);
            output::line(&line);
        }
    }
    if json {
        output::json(&json!({
            "event": "complete", "initrd_bytes": contents.packed, "kernel_bytes": kernel,
        }));
    } else {
        print_sum(&contents, kernel);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_sum(contents: &Contents, kernel: Option<u64>) {
    output::line(&format!(
        "{:>7} MB  initrd ({})",
        megabytes(contents.packed),
        ByteSize(contents.packed)
    ));
    if let Some(kernel) = kernel {
        output::line(&format!("{:>7} MB  kernel ({})", megabytes(kernel), ByteSize(kernel)));
        output::line(&format!("{:>7} MB  together", megabytes(kernel + contents.packed)));
    }
}

/// With two places, rounded up.
fn megabytes(bytes: u64) -> String {
    let hundredths = bytes.div_ceil(10_000);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
