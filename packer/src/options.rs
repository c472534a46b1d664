//! What a packing is to do.

use std::path::PathBuf;
use std::sync::Arc;

use proto::unix_time::UnixTime;

use crate::contents::ContentOptions;
use crate::format::ImageFormat;
use crate::initrd::InitrdOptions;
use crate::oci::Platform;
use crate::order::Order;
use crate::signing::SigningKey;
use crate::source::Source;
use crate::torrent::TorrentFormat;

/// What to pack, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the root comes from.
    pub source: Source,
    /// Kind of machine, for images that are for several.
    pub platform: Platform,
    /// Name of the image.
    pub name: String,
    /// The store; made when absent.
    pub store: PathBuf,
    /// Announce URLs, tried in this order.
    pub trackers: Vec<String>,
    /// Web seed URLs (BEP 19); `{info_hash}` is replaced.
    pub web_seeds: Vec<String>,
    /// Only the trackers may name peers (BEP 27).
    pub private: bool,
    /// Which hashes the torrent has.
    pub torrent: TorrentFormat,
    /// How many nodes are expected to fetch at once.
    pub nodes: u32,
    /// What kind of image.
    pub image: ImageFormat,
    /// With a dm-verity tree behind the image.
    pub verity: bool,
    /// Which files lie first in it.
    pub order: Option<Order>,
    /// What to change of the source, and what it may hold.
    pub contents: ContentOptions,
    /// Kernel and initrd.
    pub boot: Boot,
    /// Signs the manifest, if at all.
    pub sign: Option<Signing>,
}

/// Who signs, and when that is said to be.
#[derive(Debug, Clone)]
pub struct Signing {
    /// The open key.
    pub key: Arc<SigningKey>,
    /// Goes into the trusted comment.
    pub time: UnixTime,
}

/// How nodes boot the image.
#[derive(Debug, Clone)]
pub enum Boot {
    /// An initrd is made for the root's kernel.
    Made {
        /// Kernel image, otherwise the root's.
        kernel: Option<PathBuf>,
        /// Kernel release, otherwise the newest.
        release: Option<String>,
        /// What goes into the initrd.
        initrd: InitrdOptions,
    },
    /// A finished initrd.
    Given {
        /// Kernel image, otherwise the root's.
        kernel: Option<PathBuf>,
        /// Kernel release, otherwise the newest.
        release: Option<String>,
        /// The initrd.
        initrd: PathBuf,
    },
    /// Neither: for images that something else boots.
    ImageOnly,
}
