//! The inventory: names, places and boot settings of nodes, in a file that the admin writes.
//!
//! TOML or CSV, told by the file's ending. It is read again when it changes; a wrong one is told of with
//! its line, and the former one stays in force, over a restart as well when the tracker keeps state.

mod csv;
mod follow;
mod toml;

use std::collections::HashMap;
use std::path::Path;

use proto::node_id::NodeId;
use serde::Deserialize;
use store::{Channel, RevisionName};

use crate::boot::values::KernelArgs;
pub(crate) use follow::{Follower, Stored};

/// Largest inventory, in bytes: some 50,000 nodes.
pub const MAX_LEN: u64 = 8 << 20;

/// Addresses of one node.
pub const MAX_MACS: usize = proto::event::MAX_MACS;

/// Longest name, rack or group, in bytes.
const MAX_WORD: usize = 64;

/// What a node does when its firmware asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootFrom {
    /// Boots its image.
    #[default]
    Image,
    /// Goes on to the next device of its firmware, the local disk.
    Disk,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What people call it.
    pub name: Word,
    /// Its addresses; at least one.
    pub macs: Vec<NodeId>,
    /// Where it stands.
    pub rack: Option<Word>,
    /// What it belongs to.
    pub group: Option<Word>,
    /// Image that it boots instead of the tracker's `--image`.
    pub image: Option<RevisionName>,
    /// Channel that it boots from instead of the tracker's `--channel`.
    pub channel: Option<Channel>,
    /// Kernel arguments behind those of all nodes.
    pub kernel_args: KernelArgs,
    /// From image or disk.
    pub boot: BootFrom,
    /// Its management controller.
    pub bmc: Option<Bmc>,
}

impl Entry {
    /// Its rack, as a heading.
    #[must_use]
    pub fn rack_title(&self) -> Option<String> {
        self.rack.as_ref().map(|rack| format!("rack {rack}"))
    }
}

/// A name, rack or group: letters, digits, `.`, `_`, and `-`, which does not come first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Word(String);

/// A text that is no [`Word`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} has something else than letters, digits, '.', '_' and '-', or not 1 to {MAX_WORD} of them, or begins \
     with '-'"
)]
pub struct WordError(String);

impl std::str::FromStr for Word {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        // as in Bmc below: it may become a word of a command
        let fits = (1..=MAX_WORD).contains(&text.len()) && !text.starts_with('-');
        if fits && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(WordError(text.chars().take(80).collect()))
        }
    }
}

impl Word {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a management controller is: a name or an address, as a program or a URL takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bmc(String);

impl std::str::FromStr for Bmc {
    type Err = BmcError;

    fn from_str(text: &str) -> Result<Self, BmcError> {
        let plain =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
        // a word that begins with '-' would be an option of the program that gets it
        let fits = (1..=255).contains(&text.len()) && !text.starts_with('-');
        if fits && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BmcError(text.chars().take(80).collect()))
        }
    }
}

impl std::fmt::Display for Bmc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no [`Bmc`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host name and no address")]
pub struct BmcError(String);

/// How the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `[[node]]` tables.
    Toml,
    /// A line per node below a line with the names of the columns.
    Csv,
}

impl Format {
    /// By the ending of the name; what is not `.toml` is CSV.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml")) {
            Self::Toml
        } else {
            Self::Csv
        }
    }
}

/// A wrong inventory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct InventoryError {
    /// Line, from 1 on.
    pub line: usize,
    /// What is wrong there, and what is expected.
    pub reason: String,
}

/// All nodes that the admin named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    entries: Vec<Entry>,
    by_mac: HashMap<NodeId, usize>,
    by_name: HashMap<String, usize>,
}

impl Inventory {
    /// Reads a text.
    ///
    /// # Errors
    /// [`InventoryError`] for the first line that is wrong.
    pub fn parse(format: Format, text: &str) -> Result<Self, InventoryError> {
        let mut inventory = Self::default();
        let rows = match format {
            Format::Toml => toml::read(text)?,
            Format::Csv => csv::read(text)?,
        };
        for (line, entry) in rows {
            inventory.add(entry).map_err(|reason| InventoryError { line, reason })?;
        }
        Ok(inventory)
    }

    /// Rows of one name are one node, when they differ in nothing but their addresses.
    fn add(&mut self, entry: Entry) -> Result<(), String> {
        if let Some(mac) = entry.macs.iter().find(|mac| self.by_mac.contains_key(mac)) {
            let other = self.of(*mac).map(|other| other.name.to_string()).unwrap_or_default();
            return Err(format!("{mac} is listed already, as an address of {other}"));
        }
        let index = match self.by_name.get(entry.name.as_str()) {
            Some(index) => *index,
            None => {
                let index = self.entries.len();
                self.by_name.insert(entry.name.to_string(), index);
                self.entries.push(Entry { macs: Vec::new(), ..entry.clone() });
                index
            }
        };
        let Some(known) = self.entries.get_mut(index) else { return Ok(()) };
        if (Entry { macs: known.macs.clone(), ..entry.clone() }) != *known {
            return Err(format!(
                "{} was listed above with other settings: give the same in each of its lines",
                entry.name
            ));
        }
        known.macs.extend(&entry.macs);
        if known.macs.len() > MAX_MACS {
            return Err(format!("{} has more than {MAX_MACS} addresses", entry.name));
        }
        self.by_mac.extend(entry.macs.into_iter().map(|mac| (mac, index)));
        Ok(())
    }

    /// The node with this address.
    #[must_use]
    pub fn of(&self, mac: NodeId) -> Option<&Entry> {
        self.entries.get(*self.by_mac.get(&mac)?)
    }

    /// What people call the node with this address: its name, else the address.
    #[must_use]
    pub fn name(&self, mac: NodeId) -> String {
        self.of(mac).map_or_else(|| mac.to_string(), |entry| entry.name.to_string())
    }

    /// The node with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Entry> {
        self.entries.get(*self.by_name.get(name)?)
    }

    /// All of them, in the file's order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// One row, before its texts are understood. Absent and empty are the same.
#[derive(Debug, Default)]
struct Raw<'a> {
    macs: Vec<&'a str>,
    name: &'a str,
    rack: &'a str,
    group: &'a str,
    image: &'a str,
    channel: &'a str,
    kernel_args: &'a str,
    boot: &'a str,
    bmc: &'a str,
}

impl Raw<'_> {
    fn entry(&self) -> Result<Entry, String> {
        let mut macs = Vec::new();
        for text in &self.macs {
            let mac: NodeId = text.parse().map_err(|e| format!("mac: {e}"))?;
            if macs.contains(&mac) {
                return Err(format!("mac: {mac} is there twice"));
            }
            macs.push(mac);
        }
        if macs.is_empty() {
            return Err("mac is missing: every node needs an address".to_owned());
        }
        if self.name.is_empty() {
            return Err("name is missing".to_owned());
        }
        Ok(Entry {
            macs,
            name: self.name.parse().map_err(|e| format!("name: {e}"))?,
            rack: value("rack", self.rack, str::parse)?,
            group: value("group", self.group, str::parse)?,
            image: value("image", self.image, RevisionName::new)?,
            channel: value("channel", self.channel, Channel::new)?,
            kernel_args: value("kernel_args", self.kernel_args, str::parse)?.unwrap_or_default(),
            boot: match self.boot {
                "" | "image" => BootFrom::Image,
                "disk" => BootFrom::Disk,
                other => return Err(format!("boot: {other:?} is neither image nor disk")),
            },
            bmc: value("bmc", self.bmc, str::parse)?,
        })
    }
}

fn value<'a, T, E: std::fmt::Display>(
    field: &str,
    text: &'a str,
    parse: impl FnOnce(&'a str) -> Result<T, E>,
) -> Result<Option<T>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    parse(text).map(Some).map_err(|e| format!("{field}: {e}"))
}

#[cfg(test)]
#[path = "inventory/tests.rs"]
mod tests;
