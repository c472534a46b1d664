//! Inventories as TOML: a table `[[node]]` for each.

use serde::Deserialize;
use toml::Spanned;

use super::{Entry, InventoryError, Raw};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    node: Vec<Spanned<Row>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    #[serde(default)]
    mac: Macs,
    #[serde(default)]
    name: String,
    #[serde(default)]
    rack: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    channel: String,
    #[serde(default)]
    kernel_args: String,
    #[serde(default)]
    boot: String,
    #[serde(default)]
    bmc: String,
}

/// One address or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Macs {
    One(String),
    Several(Vec<String>),
}

impl Default for Macs {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

/// The nodes, each with the line of its `[[node]]`.
pub(super) fn read(text: &str) -> Result<Vec<(usize, Entry)>, InventoryError> {
    let line = |offset: usize| text.get(..offset).map_or(1, |t| t.matches('\n').count() + 1);
    let document: Document = toml::from_str(text).map_err(|error| InventoryError {
        line: error.span().map_or(1, |span| line(span.start)),
        reason: error.message().to_owned(),
    })?;
    let mut nodes = Vec::new();
    for row in document.node {
        let at = line(row.span().start);
        let row = row.into_inner();
        let raw = Raw {
            macs: match &row.mac {
                Macs::One(mac) => vec![mac.as_str()],
                Macs::Several(macs) => macs.iter().map(String::as_str).collect(),
            },
            name: &row.name,
            rack: &row.rack,
            group: &row.group,
            image: &row.image,
            channel: &row.channel,
            kernel_args: &row.kernel_args,
            boot: &row.boot,
            bmc: &row.bmc,
        };
        let wrong = |reason| InventoryError { line: at, reason };
        nodes.push((at, raw.entry().map_err(wrong)?));
    }
    Ok(nodes)
}
