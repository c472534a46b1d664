//! A list of hardware: which network cards the nodes have, as one of them says it.
//!
//! One entry per line: a modalias (`/sys/class/net/*/device/modalias`), a line of `lspci -n`, an
//! `8086:10d3`, or the name of a module. `#` begins a comment.

/// One line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Name of a kernel module.
    Module(String),
    /// A device, as the kernel looks for its driver.
    Modalias(String),
    /// A device that is no network card: a whole `lspci -n` may be given.
    Other,
}

/// A line that is none of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadLine {
    /// Counted from 1.
    pub(crate) line: usize,
    /// Itself.
    pub(crate) text: String,
}

/// Reads a list: the entries with the number of their line, from 1.
pub(crate) fn parse(text: &str) -> Result<Vec<(usize, Entry)>, BadLine> {
    let mut entries = Vec::new();
    for (line, text) in text.lines().enumerate().map(|(n, text)| (n + 1, text)) {
        let text = text.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let bad = || BadLine { line, text: text.to_owned() };
        entries.push((line, entry(text).ok_or_else(bad)?));
    }
    Ok(entries)
}

fn entry(text: &str) -> Option<Entry> {
    let mut words = text.split_whitespace();
    let (first, second, third) = (words.next()?, words.next(), words.next());
    // "00:03.0 0200: 8086:10d3 (rev 01)"
    if let (Some(class), Some(id)) = (second.and_then(|word| word.strip_suffix(':')), third) {
        let (class, id) = (hex(class, 4)?, pci(id)?);
        return Some(if class.starts_with("02") { Entry::Modalias(id) } else { Entry::Other });
    }
    if second.is_some() {
        return None;
    }
    if let Some(alias) = pci(first) {
        return Some(Entry::Modalias(alias));
    }
    if first.contains(':') {
        return modalias(first);
    }
    is_module_name(first).then(|| Entry::Module(first.to_owned()))
}

/// Whether a text can be the name of a module: in particular no option of modprobe(8).
pub(crate) fn is_module_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(inner)
}

/// A modalias as the kernel writes it: nothing that a shell or modprobe(8) takes for an option.
fn modalias(text: &str) -> Option<Entry> {
    let (bus, rest) = text.split_once(':')?;
    let plain = |c: char| c.is_ascii_graphic() && !"\"'`$\\;&|<>".contains(c);
    if bus.is_empty() || !bus.chars().all(|c| c.is_ascii_alphanumeric()) || !rest.chars().all(plain)
    {
        return None;
    }
    // bridges and the like lie between card and processor
    let class = rest.split_once("bc").map(|(_, class)| class);
    if bus == "pci" && class.is_some_and(|class| !class.starts_with("02")) {
        return Some(Entry::Other);
    }
    Some(Entry::Modalias(text.to_owned()))
}

/// `8086:10d3` as the modalias of a network card.
fn pci(text: &str) -> Option<String> {
    let (vendor, device) = text.split_once(':')?;
    let (vendor, device) = (hex(vendor, 4)?, hex(device, 4)?);
    Some(format!("pci:v0000{vendor}d0000{device}sv00000000sd00000000bc02sc00i00"))
}

fn hex(text: &str, digits: usize) -> Option<String> {
    let right = text.len() == digits && text.chars().all(|c| c.is_ascii_hexdigit());
    right.then(|| text.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Option<Entry> {
        parse(line).ok()?.pop().map(|(_, entry)| entry)
    }

    #[test]
    fn every_way_to_name_a_card_is_understood() {
        let alias = "pci:v00008086d000010D3sv00000000sd00000000bc02sc00i00".to_owned();
        for line in ["8086:10d3", "00:03.0 0200: 8086:10d3 (rev 01)", "8086:10D3  # e1000e", &alias]
        {
            assert_eq!(one(line), Some(Entry::Modalias(alias.clone())), "{line}");
        }
        let virtio = "virtio:d00000001v00001AF4";
        assert_eq!(one(virtio), Some(Entry::Modalias(virtio.to_owned())));
        assert_eq!(one("hid-generic"), Some(Entry::Module("hid-generic".to_owned())));
    }

    #[test]
    fn what_is_no_network_card_is_passed_over() {
        for line in [
            "00:1f.2 0106: 8086:2922 (rev 02)",
            "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01",
        ] {
            assert_eq!(one(line), Some(Entry::Other), "{line}");
        }
        assert_eq!(parse("\n  # nothing\n").unwrap(), []);
    }

    #[test]
    fn what_cannot_be_read_is_named_by_line() {
        for bad in ["two words", "--remove", "pci:$(reboot)", "8086:10d3 0200:", ":x", "ü"] {
            let error = parse(&format!("e1000e\n{bad}\n"));
            assert_eq!(error, Err(BadLine { line: 2, text: bad.to_owned() }), "{bad}");
        }
    }
}
