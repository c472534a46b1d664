//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueEnum};
use packer::pack::{Platform, Source, TorrentFormat};
use store::{Channel, RevisionName, RevisionRef};

use crate::content_args::ContentArgs;
use crate::diff::DiffArgs;
use crate::image_args::ImageArgs;
use crate::initrd_cli::{InitrdArgs, InitrdCommand};
use crate::keys::{KeygenArgs, PasswordArgs, SignArgs};
use crate::prune::{self, PruneArgs};
use crate::reimage::{self, ReimageArgs, UnassignArgs};
use crate::status::{self, HistoryArgs, StatusArgs};
use crate::{diff, keys, manage, run, show};

/// Packs a root tree into an image that a cluster boots by BitTorrent, and manages the store of
/// such images.
#[derive(Debug, Parser)]
#[command(name = "bee-packer", version, help_expected = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Print one JSON object per line on stdout instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed for another reason
  2  wrong command line
  3  the source, a given file, or a named revision is not usable
  4  a program (mksquashfs, dracut, gzip) is missing or failed
  5  the store cannot be written: full, read-only, no permission
  6  a revision is damaged
  7  a revision is not signed, or not by the key that was given
  8  the source holds secrets that --allow-secret does not name

Example:
  bee-packer pack --source /srv/debian --name debian --store /var/lib/beeswarm \\
      --tracker http://admin:6969 --publish";

#[derive(Debug, Subcommand)]
enum Command {
    /// Pack a root tree and store it as a revision
    Pack(Box<PackArgs>),
    /// Make a pair of keys: one that signs, one that nodes trust
    Keygen(KeygenArgs),
    /// Sign a revision that is in the store
    Sign(SignArgs),
    /// Seed a revision, and let a channel boot it
    Publish(PublishArgs),
    /// Stop seeding a revision that no channel boots; its files stay
    Unpublish(RevisionArgs),
    /// Let a channel boot what was published before
    Rollback(RollbackArgs),
    /// Let nodes boot a revision, from their next boot on or rebooted in batches
    Reimage(ReimageArgs),
    /// Let nodes that were reimaged one by one follow their channel again
    Unassign(UnassignArgs),
    /// Remove all but the newest revisions of an image, never one that a channel boots or nodes run
    Prune(PruneArgs),
    /// How many nodes run which revision
    Status(StatusArgs),
    /// What was done to the channels, and when
    History(HistoryArgs),
    /// What two revisions differ in: packages, files, size, pieces (needs root, it mounts both)
    Diff(DiffArgs),
    /// Make only an initrd, or show what takes the room in one
    #[command(subcommand)]
    Initrd(InitrdCommand),
    /// List the revisions in the store
    List(StoreArg),
    /// Show what a revision, a .torrent or a manifest.json says
    Inspect(InspectArgs),
    /// Read revisions back and compare every byte with manifest and torrent; with --public-key
    /// their signatures, too
    Verify(VerifyArgs),
}

/// Where the store is.
#[derive(Debug, Args)]
pub(crate) struct StoreArg {
    /// Directory of the store
    #[arg(long, value_name = "DIR", env = "BEESWARM_STORE")]
    pub(crate) store: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    /// Root tree: a directory; a tar (plain, gzip, zstd, xz, bzip2; told by its contents), or - for
    /// one on standard input; a container image: oci:DIR, oci-archive:FILE or docker-archive:FILE,
    /// with :TAG behind it where there are several; a recipe: recipe:FILE or FILE.toml
    #[arg(long, value_name = "SOURCE", value_parser = OsStringValueParser::new().map(Source::parse))]
    pub(crate) source: Source,
    /// Kind of machine, for an image that is for several: linux/amd64 [default: that of this host]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// Name of the image: 1 to 64 of a-z, 0-9, '.', '_', '-'
    #[arg(long)]
    pub(crate) name: RevisionName,
    #[command(flatten)]
    pub(crate) store: StoreArg,
    /// Announce URL, http or udp; repeat for fallbacks, tried in order. http://HOST:PORT gets
    /// /announce added
    #[arg(long = "tracker", value_name = "URL")]
    pub(crate) trackers: Vec<String>,
    /// URL of the image for nodes without peers (BEP 19); ends in '/' for a directory, and
    /// {info_hash} in it is replaced. Repeatable
    #[arg(long = "web-seed", value_name = "URL")]
    pub(crate) web_seeds: Vec<String>,
    /// Only the trackers name peers (BEP 27): no peer exchange, no multicast. The info-hash differs
    #[arg(long)]
    pub(crate) private: bool,
    #[command(flatten)]
    pub(crate) contents: ContentArgs,
    /// Hashes in the torrent: hybrid has SHA-256 of each 16 KiB (BEP 52) beside SHA-1 of each piece
    /// (BEP 3), for clients of both kinds
    #[arg(long, value_enum, default_value_t)]
    pub(crate) torrent: TorrentArg,
    /// Kernel image to boot [default: that of the source]
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
    /// Kernel release, as `uname -r` says; fails when the source has no modules for it
    /// [default: that of --kernel, or the newest in the source]
    #[arg(long, value_name = "VER")]
    pub(crate) kver: Option<String>,
    /// Nodes that will fetch at the same time: sets the length of a piece
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub(crate) nodes: u32,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    /// Static bee-initrd-client for the initrd [default: next to this program,
    /// /usr/lib/beeswarm, PATH]
    #[arg(long, value_name = "FILE", env = "BEESWARM_CLIENT")]
    pub(crate) client: Option<PathBuf>,
    /// Directory of the dracut module [default: /usr/lib/dracut/modules.d/55beeswarm,
    /// then ../lib/dracut/modules.d/55beeswarm and 55beeswarm next to this program]
    #[arg(long, value_name = "DIR", env = "BEESWARM_DRACUT_MODULE")]
    pub(crate) dracut_module: Option<PathBuf>,
    /// Further argument for dracut, after ours; repeatable: --dracut-arg=--add=ssh-server
    #[arg(long = "dracut-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) dracut_args: Vec<String>,
    #[command(flatten)]
    pub(crate) initrd: InitrdArgs,
    /// Take this finished initrd instead of running dracut
    #[arg(long, value_name = "FILE", conflicts_with_all = ["client", "dracut_module", "dracut_args", "hardware", "drivers", "initrd_tool", "initramfs_tools"])]
    pub(crate) keep_initrd: Option<PathBuf>,
    /// Neither kernel nor initrd: something else boots the image
    #[arg(long, conflicts_with_all = ["kernel", "kver", "keep_initrd", "dracut_args"])]
    pub(crate) image_only: bool,
    /// Secret key (of keygen, or of minisign) that signs the revision. Its public key goes into the
    /// initrd: nodes then boot nothing that is not signed
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) password: PasswordArgs,
    /// Further public key that nodes trust, as digits or a file; repeatable
    #[arg(long = "trust-key", value_name = "KEY|FILE", conflicts_with_all = ["keep_initrd", "image_only"])]
    pub(crate) trust_keys: Vec<String>,
    /// Let the kernel argument beeswarm.key= name other keys than those in the initrd
    #[arg(long)]
    pub(crate) allow_key_override: bool,
    /// Nodes refuse what was signed before: 2026-11-21, 2026-11-21T17:00:00Z, or NAME@REV of a
    /// signed revision in the store
    #[arg(long, value_name = "TIME|REVISION")]
    pub(crate) oldest: Option<String>,
    /// Publish the revision when it is packed
    #[arg(long)]
    pub(crate) publish: bool,
    /// Channel for --publish
    #[arg(long, default_value_t, requires = "publish")]
    pub(crate) channel: Channel,
}

/// `--torrent`.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum TorrentArg {
    /// BEP 3 and BEP 52
    #[default]
    Hybrid,
    /// BEP 3 alone: a smaller file
    V1,
}

impl From<TorrentArg> for TorrentFormat {
    fn from(arg: TorrentArg) -> Self {
        match arg {
            TorrentArg::Hybrid => Self::Hybrid,
            TorrentArg::V1 => Self::V1,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// NAME@REV, or NAME for its newest revision
    pub(crate) revision: String,
    #[command(flatten)]
    pub(crate) store: StoreArg,
    /// Channel that boots it
    #[arg(long, default_value_t)]
    pub(crate) channel: Channel,
}

#[derive(Debug, Args)]
pub(crate) struct RevisionArgs {
    /// NAME@REV
    pub(crate) revision: RevisionRef,
    #[command(flatten)]
    pub(crate) store: StoreArg,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// Name of the image
    pub(crate) name: RevisionName,
    #[command(flatten)]
    pub(crate) store: StoreArg,
    /// Channel to roll back
    #[arg(long, default_value_t)]
    pub(crate) channel: Channel,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// NAME@REV, NAME (what --channel boots, or else the newest), or a .torrent or manifest.json
    pub(crate) what: String,
    /// Directory of the store; not needed for a file
    #[arg(long, value_name = "DIR", env = "BEESWARM_STORE")]
    pub(crate) store: Option<PathBuf>,
    /// Channel to look in for a NAME
    #[arg(long, default_value_t)]
    pub(crate) channel: Channel,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// NAME@REV or NAME (every revision of it) [default: every revision in the store]
    pub(crate) revision: Option<String>,
    #[command(flatten)]
    pub(crate) store: StoreArg,
    /// Every revision must be signed by this public key (digits or a file), or one of several
    #[arg(long = "public-key", value_name = "KEY|FILE")]
    pub(crate) public_keys: Vec<String>,
}

impl Cli {
    /// Does what was asked for.
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let json = self.json;
        match &self.command {
            Command::Pack(args) => run::pack(args, json),
            Command::Keygen(args) => keys::keygen(args, json),
            Command::Sign(args) => keys::sign(args, json),
            Command::Publish(args) => manage::publish(args, json),
            Command::Unpublish(args) => manage::unpublish(args, json),
            Command::Rollback(args) => manage::rollback(args, json),
            Command::Reimage(args) => reimage::reimage(args, json),
            Command::Unassign(args) => reimage::unassign(args, json),
            Command::Prune(args) => prune::prune(args, json),
            Command::Status(args) => status::status(args, json),
            Command::History(args) => status::history(args, json),
            Command::Diff(args) => diff::diff(args, json),
            Command::Initrd(command) => command.run(json),
            Command::List(args) => show::list(args, json),
            Command::Inspect(args) => show::inspect(args, json),
            Command::Verify(args) => show::verify(args, json),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_contract_of_the_design_is_accepted() {
        let line = "bee-packer pack --source /r --name debian --store /s --tracker http://a:1 \
                    --tracker http://b:1 --web-seed http://c/ --kernel /k --kver 6.1.0 \
                    --nodes 30 --dracut-module /m --client /c --dracut-arg --add=x \
                    --compression xz --format erofs --level 3 --block-size 64K --order /l --publish --json --sign-key /k.key --password-file /p \
                    --trust-key RWQ --allow-key-override --oldest debian@0123456789ab --exclude usr/share/doc/* --overlay /o --overlay /p \
                    --overlay-owner root --authorized-key /a.pub --build-fact TICKET=42 \
                    --allow-secret /etc/ssl/private/*";
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Pack(args) = cli.command else { panic!("pack") };
        assert_eq!(args.trackers.len(), 2);
        assert_eq!(args.dracut_args, ["--add=x"]);
        assert!(cli.json && args.publish);
        for bad in [
            "bee-packer pack --source /r --name ../evil --store /s",
            "bee-packer pack --source /r --name x",
            "bee-packer unpublish debian --store /s",
            "bee-packer prune debian --store /s",
            "bee-packer reimage debian --store /s --at-next-boot",
            "bee-packer reimage debian --store /s --all",
            "bee-packer reimage debian --store /s --all --nodes x --at-next-boot",
            "bee-packer reimage debian --nodes x --at-next-boot --batch 2 --store /s",
            "bee-packer reimage debian --nodes x --batch ten --tracker-url http://t",
            "bee-packer reimage debian --revision debian --nodes x --tracker-url http://t",
            "bee-packer reimage --status --stop --tracker-url http://t",
            "bee-packer unassign --store /s",
            "bee-packer unassign --all",
            "bee-packer unassign --all --store /s --token-file /t",
            "bee-packer reimage debian --all --at-next-boot --store /s --kernel-args quiet",
            "bee-packer keygen",
            "bee-packer sign debian --store /s",
            "bee-packer pack --source /r --name x --store /s --build-fact ticket=42",
            "bee-packer pack --source /r --name x --store /s --build-fact A=1 --no-build-facts",
            "bee-packer keygen --sign-key k --password-file p --empty-password",
        ] {
            assert!(Cli::try_parse_from(bad.split_whitespace()).is_err(), "{bad}");
        }
    }
}
