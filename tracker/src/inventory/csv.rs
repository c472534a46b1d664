//! Inventories as CSV (RFC 4180): the first line names the columns, in any order.

use super::{Entry, InventoryError, Raw};

const COLUMNS: [&str; 9] =
    ["mac", "name", "rack", "group", "image", "channel", "kernel_args", "boot", "bmc"];

/// The nodes, each with its line. `#` begins a comment line; several addresses are divided by spaces.
pub(super) fn read(text: &str) -> Result<Vec<(usize, Entry)>, InventoryError> {
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = ::csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .trim(::csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let header = reader.headers().map_err(failed)?.clone();
    let header_line = header.position().map_or(1, |at| line(text, at));
    let mut places = Vec::new();
    for column in &header {
        let place = COLUMNS.iter().position(|known| *known == column);
        match place {
            Some(place) if !places.contains(&place) => places.push(place),
            _ => {
                let reason = if place.is_some() {
                    format!("column {column:?} is there twice")
                } else {
                    format!(
                        "no column is called {column:?}; the first line names the columns, of {}",
                        COLUMNS.join(", ")
                    )
                };
                return Err(InventoryError { line: header_line, reason });
            }
        }
    }
    let mut nodes = Vec::new();
    for record in reader.records() {
        let record = record.map_err(failed)?;
        let at = record.position().map_or(header_line, |at| line(text, at));
        let wrong = |reason| InventoryError { line: at, reason };
        if record.len() != places.len() {
            return Err(wrong(format!(
                "{} columns where the first line has {}",
                record.len(),
                places.len()
            )));
        }
        let field = |name: &str| {
            let place = COLUMNS.iter().position(|known| *known == name);
            let at = places.iter().position(|p| Some(*p) == place);
            at.and_then(|at| record.get(at)).unwrap_or_default()
        };
        let raw = Raw {
            macs: field("mac").split_whitespace().collect(),
            name: field("name"),
            rack: field("rack"),
            group: field("group"),
            image: field("image"),
            channel: field("channel"),
            kernel_args: field("kernel_args"),
            boot: field("boot"),
            bmc: field("bmc"),
        };
        nodes.push((at, raw.entry().map_err(wrong)?));
    }
    Ok(nodes)
}

/// The line where a record is; its position is that of the empty lines and comments before it.
fn line(text: &str, position: &::csv::Position) -> usize {
    let start = usize::try_from(position.byte()).ok().and_then(|at| text.get(at..));
    let skipped = |line: &&str| line.is_empty() || line.starts_with('#');
    let before = start.unwrap_or_default().lines().take_while(skipped).count();
    usize::try_from(position.line()).unwrap_or(usize::MAX).saturating_add(before)
}

fn failed(error: ::csv::Error) -> InventoryError {
    let line = error.position().map_or(1, |at| usize::try_from(at.line()).unwrap_or(usize::MAX));
    InventoryError { line, reason: error.to_string() }
}
