//! The kernel command line, as far as it concerns Beeswarm. One pure function reads it.

use std::net::SocketAddr;

use crate::hash::{InfoHash, Sha256Digest};
use crate::node_id::NodeId;
use crate::signature::PublicKey;
use crate::units::{ByteRate, ByteSize};

/// Longest command line read, in bytes (the kernel's own limit is 4 KiB on most machines).
const MAX_CMDLINE_LEN: usize = 64 * 1024;

/// Where the image is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// URL of `manifest.json`; a directory URL has been completed to it.
    Manifest(String),
    /// URL of a torrent file.
    Torrent(String),
    /// Path of a torrent file baked into the initrd.
    BakedTorrent(String),
}

/// What `beeswarm.pin=` demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// `sha256:HEX` of `manifest.json`, exactly as served.
    Manifest(Sha256Digest),
    /// `btih:HEX`, the torrent's info-hash.
    InfoHash(InfoHash),
}

/// Where the writable layer of the root lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overlay {
    /// Size limit of its tmpfs; `None` leaves the kernel's default (half of the memory).
    pub size: Option<ByteSize>,
}

/// What `beeswarm.verity=` says about the image's dm-verity tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerityMode {
    /// Used where the image has one and the kernel can.
    #[default]
    Auto,
    /// No boot without it.
    Require,
    /// Not used.
    Off,
}

/// Everything that the command line says to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelArgs {
    /// `root=beeswarm:…`
    pub source: Source,
    /// `beeswarm.pin=`
    pub pin: Option<Pin>,
    /// `beeswarm.key=`: whose signature counts; empty takes the initrd's.
    pub keys: Vec<PublicKey>,
    /// `beeswarm.tracker=`, each a tier of its own; empty takes the torrent's.
    pub trackers: Vec<String>,
    /// `beeswarm.report=`: base URL for events.
    pub report: Option<String>,
    /// `beeswarm.node=`, else `BOOTIF=`.
    pub node: Option<NodeId>,
    /// `beeswarm.token=`: shown with events; proves that the boot script came from the tracker.
    pub token: Option<String>,
    /// `beeswarm.overlay=`
    pub overlay: Overlay,
    /// `beeswarm.upload_limit=`
    pub upload_limit: Option<ByteRate>,
    /// `beeswarm.download_limit=`
    pub download_limit: Option<ByteRate>,
    /// `beeswarm.listen=`
    pub listen: Option<SocketAddr>,
    /// `beeswarm.lsd=`: whether peers are looked for by multicast (BEP 14).
    pub local_discovery: bool,
    /// `beeswarm.verity=`
    pub verity: VerityMode,
}

/// Why the command line cannot be used. The text says what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelArgsError {
    /// No `root=` at all.
    #[error(
        "no root= on the kernel command line; expected root=beeswarm:http://HOST:8080/revisions/NAME/REV/ or root=beeswarm:/rootimg.torrent"
    )]
    NoRoot,
    /// Another kind of root.
    #[error(
        "root={0} is not for Beeswarm; expected root=beeswarm:http://HOST:8080/revisions/NAME/REV/ or root=beeswarm:/rootimg.torrent"
    )]
    OtherRoot(String),
    /// `root=beeswarm:` with something that is neither URL nor path.
    #[error(
        "root=beeswarm:{0} names no image; expected an http:// URL or the path of a torrent in the initrd"
    )]
    BadSource(String),
    /// https is not available in the initrd.
    #[error(
        "root=beeswarm:{0} uses https, which the initrd does not speak; use http:// and beeswarm.pin=, which pins the content"
    )]
    Https(String),
    /// A value that cannot be read.
    #[error("{key}={value} is not valid; expected {expected}")]
    BadValue {
        /// The argument.
        key: &'static str,
        /// What was given.
        value: String,
        /// What it should look like.
        expected: &'static str,
    },
    /// A `beeswarm.` argument that does not exist.
    #[error(
        "unknown kernel argument {0}; known are beeswarm.pin, .key, .tracker, .report, .node, .token, .overlay, .upload_limit, .download_limit, .listen, .lsd, .verity, .record_order"
    )]
    Unknown(String),
    /// Longer than any kernel accepts.
    #[error("the kernel command line is longer than 64 KiB")]
    TooLong,
}

/// Whether a command line asks for Beeswarm at all: the dracut module stays inert otherwise.
#[must_use]
pub fn is_for_us(cmdline: &str) -> bool {
    words(cmdline).any(|word| word.starts_with("root=beeswarm:"))
}

/// `beeswarm.record_order=`: until when the recorder of `init=/usr/bin/bee-record-order` is to go on,
/// a unit or a number of seconds. The client does not need it.
#[must_use]
pub fn record_order(cmdline: &str) -> Option<&str> {
    words(cmdline).filter_map(|word| word.strip_prefix("beeswarm.record_order=")).last()
}

impl KernelArgs {
    /// Reads a command line. Later arguments win, `beeswarm.key=` and `beeswarm.tracker=` add up.
    ///
    /// # Errors
    /// [`KernelArgsError`] names the argument and what is expected.
    pub fn parse(cmdline: &str) -> Result<Self, KernelArgsError> {
        if cmdline.len() > MAX_CMDLINE_LEN {
            return Err(KernelArgsError::TooLong);
        }
        let mut root = None;
        let mut bootif = None;
        let mut args = Self {
            source: Source::BakedTorrent(String::new()),
            pin: None,
            keys: Vec::new(),
            trackers: Vec::new(),
            report: None,
            node: None,
            token: None,
            overlay: Overlay::default(),
            upload_limit: None,
            download_limit: None,
            listen: None,
            local_discovery: true,
            verity: VerityMode::default(),
        };
        for word in words(cmdline) {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "root" => root = Some(value),
                "BOOTIF" => bootif = value.parse().ok(),
                "beeswarm.pin" => args.pin = Some(pin(value)?),
                "beeswarm.key" => {
                    let expected = "a public key of minisign, 56 base64 digits";
                    args.keys.push(typed("beeswarm.key", value, expected)?);
                }
                "beeswarm.tracker" => args.trackers.push(tracker_url(value)?),
                "beeswarm.report" => args.report = Some(http_url("beeswarm.report", value)?),
                "beeswarm.node" => {
                    args.node =
                        Some(typed("beeswarm.node", value, "a MAC address like 52:54:00:12:34:56")?)
                }
                "beeswarm.token" => args.token = Some(value.to_owned()),
                "beeswarm.overlay" => args.overlay = overlay(value)?,
                "beeswarm.upload_limit" => {
                    args.upload_limit =
                        Some(typed("beeswarm.upload_limit", value, "a rate like 800Mbit")?);
                }
                "beeswarm.download_limit" => {
                    args.download_limit =
                        Some(typed("beeswarm.download_limit", value, "a rate like 800Mbit")?);
                }
                "beeswarm.listen" => {
                    args.listen =
                        Some(typed("beeswarm.listen", value, "ADDR:PORT like 0.0.0.0:6881")?)
                }
                "beeswarm.lsd" => {
                    args.local_discovery = match value {
                        "on" => true,
                        "off" => false,
                        _ => return Err(bad("beeswarm.lsd", value, "on or off")),
                    }
                }
                "beeswarm.verity" => {
                    args.verity = match value {
                        "auto" => VerityMode::Auto,
                        "require" => VerityMode::Require,
                        "off" => VerityMode::Off,
                        _ => return Err(bad("beeswarm.verity", value, "auto, require or off")),
                    }
                }
                // for the recorder in the image, see record_order()
                "beeswarm.record_order" => {}
                other if other.starts_with("beeswarm.") => {
                    return Err(KernelArgsError::Unknown(shorten(other)));
                }
                _ => {}
            }
        }
        args.source = source(root.ok_or(KernelArgsError::NoRoot)?)?;
        args.node = args.node.or(bootif);
        Ok(args)
    }
}

/// Splits at white space; double quotes keep a value together, as in the kernel.
fn words(cmdline: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    cmdline
        .split(move |c: char| {
            if c == '"' {
                quoted = !quoted;
            }
            c.is_whitespace() && !quoted
        })
        .map(|word| word.trim_matches('"'))
        .filter(|word| !word.is_empty())
}

fn source(root: &str) -> Result<Source, KernelArgsError> {
    let Some(rest) = root.strip_prefix("beeswarm:") else {
        return Err(KernelArgsError::OtherRoot(shorten(root)));
    };
    if rest.starts_with("https://") {
        return Err(KernelArgsError::Https(shorten(rest)));
    }
    if let Some(after) = rest.strip_prefix("http://") {
        let host = after.split('/').next().unwrap_or_default();
        if host.is_empty() {
            return Err(KernelArgsError::BadSource(shorten(rest)));
        }
        return Ok(if rest.ends_with(".torrent") {
            Source::Torrent(rest.to_owned())
        } else if rest.ends_with(".json") {
            Source::Manifest(rest.to_owned())
        } else {
            Source::Manifest(format!("{}/manifest.json", rest.trim_end_matches('/')))
        });
    }
    if rest.starts_with('/') && rest.ends_with(".torrent") {
        return Ok(Source::BakedTorrent(rest.to_owned()));
    }
    Err(KernelArgsError::BadSource(shorten(rest)))
}

fn pin(value: &str) -> Result<Pin, KernelArgsError> {
    let parsed = match value.split_once(':') {
        Some(("sha256", hex)) => hex.parse().ok().map(Pin::Manifest),
        Some(("btih", hex)) => hex.parse().ok().map(Pin::InfoHash),
        _ => None,
    };
    parsed.ok_or_else(|| {
        bad("beeswarm.pin", value, "sha256:64 hex digits of manifest.json, or btih:40 hex digits")
    })
}

fn overlay(value: &str) -> Result<Overlay, KernelArgsError> {
    let expected = "tmpfs or tmpfs:SIZE, such as tmpfs:2GiB";
    let size = match value.split_once(':').unwrap_or((value, "")) {
        ("tmpfs", "") => None,
        ("tmpfs", size) => Some(typed("beeswarm.overlay", size, expected)?),
        _ => return Err(bad("beeswarm.overlay", value, expected)),
    };
    Ok(Overlay { size })
}

fn http_url(key: &'static str, value: &str) -> Result<String, KernelArgsError> {
    let host = value.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or_default());
    match host {
        Some(host) if !host.is_empty() => Ok(value.to_owned()),
        _ => Err(bad(key, value, "an http:// URL")),
    }
}

/// An announce URL; over UDP the port cannot be left out (BEP 15 has no default).
fn tracker_url(value: &str) -> Result<String, KernelArgsError> {
    const EXPECTED: &str = "an announce URL, http://HOST[:PORT]/PATH or udp://HOST:PORT[/PATH]";
    let authority = value.strip_prefix("udp://").and_then(|rest| rest.split('/').next());
    let port = authority.and_then(|text| text.rsplit_once(':')).map(|(_, port)| port.parse());
    match (authority, port) {
        (None, _) => http_url("beeswarm.tracker", value)
            .map_err(|_| bad("beeswarm.tracker", value, EXPECTED)),
        (_, Some(Ok(1..=u16::MAX))) => Ok(value.to_owned()),
        _ => Err(bad("beeswarm.tracker", value, EXPECTED)),
    }
}

fn typed<T: std::str::FromStr>(
    key: &'static str,
    value: &str,
    expected: &'static str,
) -> Result<T, KernelArgsError> {
    value.parse().map_err(|_| bad(key, value, expected))
}

fn bad(key: &'static str, value: &str, expected: &'static str) -> KernelArgsError {
    KernelArgsError::BadValue { key, value: shorten(value), expected }
}

fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_a_full_line() {
        let hex = "ab".repeat(32);
        let line = format!(
            "BOOT_IMAGE=vmlinuz quiet root=beeswarm:http://10.0.0.1:8080/revisions/demo/0123456789ab/ \
             beeswarm.pin=sha256:{hex} beeswarm.tracker=http://10.0.0.1:6969/announce \
             beeswarm.key=RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3 \
             beeswarm.tracker=http://10.0.0.2:6969/announce beeswarm.overlay=tmpfs:512MiB \
             BOOTIF=01-52-54-00-00-00-07 beeswarm.token=00ff beeswarm.upload_limit=800Mbit \
             beeswarm.download_limit=2MiB console=\"ttyS0 115200\"\n"
        );
        let args = KernelArgs::parse(&line).unwrap();
        assert_eq!(
            args.source,
            Source::Manifest(
                "http://10.0.0.1:8080/revisions/demo/0123456789ab/manifest.json".into()
            )
        );
        assert_eq!(args.pin, Some(Pin::Manifest(hex.parse().unwrap())));
        assert_eq!(args.keys[0].id().to_string(), "E7620F1842B4E81F");
        assert_eq!(args.trackers.len(), 2);
        assert_eq!(args.node.unwrap().to_string(), "52:54:00:00:00:07");
        assert_eq!(args.token.as_deref(), Some("00ff"));
        assert_eq!(args.overlay.size, Some(ByteSize(512 << 20)));
        assert_eq!(args.upload_limit, Some(ByteRate(100_000_000)));
        assert_eq!(args.download_limit, Some(ByteRate(2 << 20)));
        assert_eq!(args.verity, VerityMode::Auto);
        for (word, mode) in
            [("auto", VerityMode::Auto), ("require", VerityMode::Require), ("off", VerityMode::Off)]
        {
            let line = format!("root=beeswarm:http://h beeswarm.verity={word}");
            assert_eq!(KernelArgs::parse(&line).unwrap().verity, mode);
        }
        assert!(is_for_us(&line));
    }

    #[test]
    fn sources() {
        for (root, expected) in [
            ("beeswarm:http://h/x.torrent", Source::Torrent("http://h/x.torrent".into())),
            ("beeswarm:http://h/m.json", Source::Manifest("http://h/m.json".into())),
            ("beeswarm:http://h", Source::Manifest("http://h/manifest.json".into())),
            ("beeswarm:/rootimg.torrent", Source::BakedTorrent("/rootimg.torrent".into())),
        ] {
            assert_eq!(KernelArgs::parse(&format!("root={root}")).unwrap().source, expected);
        }
    }

    #[test]
    fn errors_say_what_is_expected() {
        for (line, part) in [
            ("quiet", "expected root=beeswarm:"),
            ("root=/dev/sda1", "root=/dev/sda1 is not for Beeswarm"),
            ("root=beeswarm:", "names no image"),
            ("root=beeswarm:ftp://x/", "names no image"),
            ("root=beeswarm:http:///x", "names no image"),
            ("root=beeswarm:https://h/", "beeswarm.pin="),
            ("root=beeswarm:http://h beeswarm.pin=1234", "sha256:"),
            ("root=beeswarm:http://h beeswarm.key=RWQ", "56 base64 digits"),
            ("root=beeswarm:http://h beeswarm.node=x", "MAC"),
            ("root=beeswarm:http://h beeswarm.overlay=zram", "tmpfs"),
            ("root=beeswarm:http://h beeswarm.tracker=udp://h", "udp://HOST:PORT"),
            ("root=beeswarm:http://h beeswarm.tracker=ftp://h", "http://"),
            ("root=beeswarm:http://h beeswarm.lsd=no", "on or off"),
            ("root=beeswarm:http://h beeswarm.verity=yes", "auto, require or off"),
            (
                "root=beeswarm:http://h beeswarm.trakcer=x",
                "unknown kernel argument beeswarm.trakcer",
            ),
            ("root=beeswarm:http://h beeswarm.listen=6881", "ADDR:PORT"),
        ] {
            let text = KernelArgs::parse(line).unwrap_err().to_string();
            assert!(text.contains(part), "{line}: {text}");
        }
        assert!(!is_for_us("root=/dev/sda1 beeswarm.pin=x"));
    }

    #[test]
    fn what_the_recorder_is_told_is_no_concern_of_the_client() {
        let line = "root=beeswarm:http://h beeswarm.record_order=60 beeswarm.record_order=a.target";
        assert_eq!(KernelArgs::parse(line), KernelArgs::parse("root=beeswarm:http://h"));
        assert_eq!(record_order(line), Some("a.target"));
        assert_eq!(record_order("root=beeswarm:http://h"), None);
    }

    proptest! {
        #[test]
        fn never_panics(line in ".{0,300}", value in "\\PC{0,40}") {
            let _ = KernelArgs::parse(&line);
            let _ = KernelArgs::parse(&format!("root=beeswarm:{value} beeswarm.pin={value} beeswarm.overlay={value}"));
        }
    }
}
