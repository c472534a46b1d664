//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;
use proto::kernel_args::{KernelArgs, KernelArgsError, Source};

use crate::boot::BootOptions;
use crate::fetch::{FetchOptions, Seed};
use crate::narrator::Style;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `fetch`
    Fetch(FetchOptions),
    /// `boot`
    Boot(BootOptions),
    /// `--help`
    Help,
    /// `--version`
    Version,
}

/// A command line that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Unknown option, missing value and the like.
    #[error("{0} (bee-initrd-client --help lists everything)")]
    Syntax(String),
    /// A value that cannot be read.
    #[error("{option}: {reason}")]
    Value {
        /// The option.
        option: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl From<lexopt::Error> for CliError {
    fn from(error: lexopt::Error) -> Self {
        Self::Syntax(error.to_string())
    }
}

/// The text of `--help`, without the exit codes.
pub const HELP: &str = "\
bee-initrd-client: fetches a node's image from the swarm

Usage:
  bee-initrd-client boot  [--root DIR] [--run DIR] [--trust FILE] [--cmdline FILE] [--meminfo FILE]
                         [--mapper FILE] [--json]
  bee-initrd-client fetch --torrent FILE|URL --output PATH [options]

boot: what the initrd runs. Reads the kernel arguments, fetches the image into memory, verifies
every piece, mounts it with a writable layer as the new root, and writes /run/beeswarm/boot.json.
  --root DIR            where the root is mounted                     [/sysroot]
  --run DIR             folder for image, torrent and boot.json       [/run/beeswarm]
  --trust FILE          which signatures are demanded          [/etc/beeswarm/trust.json]
  --cmdline FILE        read kernel arguments from FILE instead of /etc/cmdline.d/*.conf,
                        /etc/cmdline and /proc/cmdline; no kernel log (for tests)
  --meminfo FILE        read FILE instead of /proc/meminfo (for tests)
  --mapper FILE         use FILE instead of /dev/mapper/control (for tests)
  --json                one event per line on standard output

Kernel arguments:
  root=beeswarm:URL             http URL of a revision, a manifest.json or a .torrent
  root=beeswarm:/PATH.torrent   a torrent in the initrd
  beeswarm.pin=sha256:HEX       SHA-256 that manifest.json must have
  beeswarm.pin=btih:HEX         info-hash that the torrent must have
  beeswarm.key=KEY              public key that must have signed the image, if the initrd has no key
                                or lets others be named; repeatable
  beeswarm.tracker=URL          announce URL (http or udp), instead of the torrent's; repeatable
  beeswarm.report=URL           where events go               [host of the first tracker]
  beeswarm.node=MAC             name of this node                     [BOOTIF, else a card's]
  beeswarm.overlay=tmpfs[:SIZE] limit of the writable layer           [half of the memory]
  beeswarm.upload_limit=RATE    most that is sent to peers, such as 800Mbit
  beeswarm.download_limit=RATE  most that is received from peers and web seeds
  beeswarm.listen=ADDR:PORT     where peers connect to                [[::]:6881]
  beeswarm.verity=auto|require|off
                                check each block that is read by dm-verity: where image and kernel
                                can, or boot only then, or never      [auto]
  beeswarm.lsd=on|off           look for peers on this network by multicast [on]

fetch: an image into a file. A file that exists is checked, and what fits is kept.
  --torrent FILE|URL    torrent file, or http URL of a .torrent, a manifest.json or a revision
  --output PATH         where the image goes
  --pin PIN             as beeswarm.pin= above
  --key KEY             public key of minisign that must have signed the manifest; repeatable
  --trust FILE          which signatures are demanded, as in an initrd
  --keep-seeding        hand the image on until SIGTERM or SIGINT
  --seed-for SECS       hand the image on for this long, then exit
  --listen ADDR:PORT    where peers connect to; port 0 takes a free one  [[::]:6881]
  --tracker URL         announce URL (http or udp), instead of the torrent's; repeatable
  --upload-limit RATE   most that is sent to peers, such as 800Mbit or 10MiB
  --download-limit RATE most that is received from peers and web seeds
  --no-lsd              do not look for peers on this network by multicast
  --report URL          send boot events to this tracker
  --node MAC            name in events                                [a card's address]
  --json                one event per line: progress at least once a second while fetching,
                        then {\"event\":\"complete\",...}, then seeding

Signals: SIGTERM and SIGINT leave the swarm and exit, within a second.

";

/// Reads the command line (without the program's name).
///
/// # Errors
/// [`CliError`] says what is expected.
pub fn parse<I>(args: I) -> Result<(Command, Style), CliError>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut parser = lexopt::Parser::from_args(args);
    match parser.next()? {
        Some(Value(command)) if command == "boot" => boot(&mut parser),
        Some(Value(command)) if command == "fetch" => fetch(&mut parser),
        Some(Short('h') | Long("help")) => Ok((Command::Help, Style::Human)),
        Some(Short('V') | Long("version")) => Ok((Command::Version, Style::Human)),
        Some(other) => Err(other.unexpected().into()),
        None => Err(CliError::Syntax("expected a command: boot or fetch".to_owned())),
    }
}

fn boot(parser: &mut lexopt::Parser) -> Result<(Command, Style), CliError> {
    let mut options = BootOptions::default();
    let mut style = Style::Human;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("root") => options.root = parser.value()?.into(),
            Long("run") => options.run = parser.value()?.into(),
            Long("cmdline") => options.cmdline = Some(parser.value()?.into()),
            Long("trust") => options.trust = parser.value()?.into(),
            Long("meminfo") => options.meminfo = Some(parser.value()?.into()),
            Long("mapper") => options.mapper = parser.value()?.into(),
            Long("json") => style = Style::Json,
            Short('h') | Long("help") => return Ok((Command::Help, style)),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok((Command::Boot(options), style))
}

fn fetch(parser: &mut lexopt::Parser) -> Result<(Command, Style), CliError> {
    let (mut torrent, mut output) = (None, None);
    let mut style = Style::Human;
    let mut options = FetchOptions {
        torrent: Source::BakedTorrent(String::new()),
        output: PathBuf::new(),
        pin: None,
        keys: Vec::new(),
        trust: None,
        trackers: Vec::new(),
        listen: None,
        upload_limit: None,
        download_limit: None,
        local_discovery: true,
        report: None,
        node: None,
        seed: Seed::No,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("torrent") => torrent = Some(source(parser.value()?)?),
            Long("output") => output = Some(PathBuf::from(parser.value()?)),
            Long("pin") => options.pin = kernel_arg("--pin", "pin", &text(parser)?)?.pin,
            Long("key") => options.keys.extend(kernel_arg("--key", "key", &text(parser)?)?.keys),
            Long("trust") => options.trust = Some(parser.value()?.into()),
            Long("keep-seeding") => options.seed = Seed::Forever,
            Long("seed-for") => {
                let seconds = parser.value()?.parse()?;
                options.seed = Seed::For(Duration::from_secs(seconds));
            }
            Long("listen") => options.listen = Some(parser.value()?.parse()?),
            Long("tracker") => {
                let args = kernel_arg("--tracker", "tracker", &text(parser)?)?;
                options.trackers.extend(args.trackers);
            }
            Long("upload-limit") => options.upload_limit = Some(parser.value()?.parse()?),
            Long("download-limit") => options.download_limit = Some(parser.value()?.parse()?),
            Long("no-lsd") => options.local_discovery = false,
            Long("report") => {
                options.report = kernel_arg("--report", "report", &text(parser)?)?.report;
            }
            Long("node") => options.node = Some(parser.value()?.parse()?),
            Long("json") => style = Style::Json,
            Short('h') | Long("help") => return Ok((Command::Help, style)),
            other => return Err(other.unexpected().into()),
        }
    }
    let missing = |what: &str| CliError::Syntax(format!("fetch needs {what}"));
    options.torrent = torrent.ok_or_else(|| missing("--torrent FILE|URL"))?;
    options.output = output.ok_or_else(|| missing("--output PATH"))?;
    Ok((Command::Fetch(options), style))
}

fn text(parser: &mut lexopt::Parser) -> Result<String, CliError> {
    Ok(parser.value()?.string()?)
}

/// `--torrent`: a URL is read as `root=beeswarm:` reads it, anything else is a path.
fn source(value: OsString) -> Result<Source, CliError> {
    match value.into_string() {
        Ok(url) if url.contains("://") => {
            let line = format!("root=beeswarm:{url}");
            KernelArgs::parse(&line).map(|args| args.source).map_err(bad("--torrent"))
        }
        Ok(path) => Ok(Source::BakedTorrent(path)),
        Err(_) => Err(CliError::Value {
            option: "--torrent",
            reason: "the path is not valid UTF-8".to_owned(),
        }),
    }
}

/// Reads a value exactly as the kernel argument `beeswarm.KEY=` is read.
fn kernel_arg(option: &'static str, key: &str, value: &str) -> Result<KernelArgs, CliError> {
    let line = format!("root=beeswarm:http://unused/ beeswarm.{key}={value}");
    KernelArgs::parse(&line).map_err(bad(option))
}

fn bad(option: &'static str) -> impl Fn(KernelArgsError) -> CliError {
    move |error| CliError::Value { option, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Command, Style), CliError> {
        parse(line.split_whitespace())
    }

    #[test]
    fn fetch_in_full() {
        let (command, style) = parsed(
            "fetch --torrent http://h:8080/channels/stable/demo/ --output /tmp/x --keep-seeding \
             --listen 127.0.0.1:0 --upload-limit 10MiB --download-limit 80Mbit --tracker http://a/announce \
             --tracker udp://b:1/announce --no-lsd --report http://a:6969 --node 52-54-00-00-00-01 --json",
        )
        .unwrap();
        let Command::Fetch(options) = command else { panic!("not fetch") };
        assert_eq!(style, Style::Json);
        assert_eq!(
            options.torrent,
            Source::Manifest("http://h:8080/channels/stable/demo/manifest.json".into())
        );
        assert_eq!(options.seed, Seed::Forever);
        assert_eq!(options.trackers, ["http://a/announce", "udp://b:1/announce"]);
        assert!(!options.local_discovery);
        assert_eq!(options.upload_limit.unwrap().0, 10 << 20);
        assert_eq!(options.download_limit.unwrap().0, 10_000_000);
        assert_eq!(options.node.unwrap().to_string(), "52:54:00:00:00:01");
    }

    #[test]
    fn a_path_is_a_file() {
        let (command, _) = parsed("fetch --torrent ./x.bin --output y --seed-for 3").unwrap();
        let Command::Fetch(options) = command else { panic!("not fetch") };
        assert_eq!(options.torrent, Source::BakedTorrent("./x.bin".into()));
        assert_eq!(options.seed, Seed::For(Duration::from_secs(3)));
    }

    #[test]
    fn boot_defaults() {
        let (command, style) = parsed("boot").unwrap();
        assert_eq!((command, style), (Command::Boot(BootOptions::default()), Style::Human));
        let (command, _) = parsed("boot --root /r --run /v --cmdline c").unwrap();
        let Command::Boot(options) = command else { panic!("not boot") };
        assert_eq!(options.record(), PathBuf::from("/v/boot.json"));
    }

    #[test]
    fn mistakes_are_explained() {
        for (line, part) in [
            ("", "boot or fetch"),
            ("bake", "bake"),
            ("fetch --output x", "--torrent FILE|URL"),
            ("fetch --torrent x", "--output PATH"),
            ("fetch --torrent https://h/x.torrent --output x", "https"),
            ("fetch --torrent x --output x --listen 6881", "6881"),
            ("fetch --torrent x --output x --upload-limit fast", "800Mbit"),
            ("fetch --torrent x --output x --download-limit fast", "800Mbit"),
            ("fetch --torrent x --output x --tracker udp://h", "udp://HOST:PORT"),
            ("fetch --torrent x --output x --no-lsd=1", "no-lsd"),
            ("fetch --torrent x --output x --pin abc", "sha256:"),
            ("fetch --torrent x --output x --key abc", "56 base64 digits"),
            ("boot --verbose", "--verbose"),
        ] {
            let error = parsed(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn help_names_every_option() {
        let source = include_str!("cli.rs");
        let options: Vec<&str> =
            source.split("Long(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(options.len() > 15);
        for option in options.into_iter().filter(|option| !["help", "version", ""].contains(option))
        {
            assert!(HELP.contains(&format!("--{option}")), "--{option} is not in --help");
        }
    }
}
