//! Nodes as an admin names them: MAC addresses, or names that ethers(5) has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, bail};
use proto::host_list;
use proto::node_id::NodeId;

/// Addresses by name.
pub(crate) type Addresses = BTreeMap<String, Vec<NodeId>>;

/// Reads `a,b,n[01-32]`: MAC addresses, names, and `@FILE` with one of them per line (`#` begins a comment).
///
/// # Errors
/// For a name that `ethers` does not have, a file that cannot be read, or no node at all.
pub(crate) fn read(list: &str, ethers: &Path) -> anyhow::Result<Vec<NodeId>> {
    let mut names = None;
    let mut nodes = BTreeSet::new();
    for word in &split(list)? {
        let found = resolve(word, ethers, &mut names)?;
        if found.is_empty() {
            bail!(
                "node {word:?} is neither a MAC address like 52:54:00:12:34:56 nor a name in {}",
                ethers.display()
            );
        }
        nodes.extend(found);
    }
    Ok(nodes.into_iter().collect())
}

/// The same for a tracker, which has names of its own: what `ethers` does not have is left to it.
///
/// # Errors
/// For a file that cannot be read, or no node at all.
pub(crate) fn words(list: &str, ethers: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = None;
    let mut nodes = BTreeSet::new();
    for word in split(list)? {
        let found = resolve(&word, ethers, &mut names)?;
        if found.is_empty() {
            nodes.insert(word);
        } else {
            nodes.extend(found.iter().map(ToString::to_string));
        }
    }
    Ok(nodes.into_iter().collect())
}

/// The words of `--nodes`, those in files among them.
fn split(list: &str) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    for word in expand(list)? {
        match word.strip_prefix('@') {
            Some(file) => {
                let text = fs::read_to_string(file)
                    .with_context(|| format!("cannot read the list of nodes {file}"))?;
                for line in lines(&text) {
                    words.extend(
                        line.first().map(|word| expand(word)).transpose()?.unwrap_or_default(),
                    );
                }
            }
            None => words.push(word),
        }
    }
    if words.is_empty() {
        bail!("--nodes names no node");
    }
    Ok(words)
}

fn expand(list: &str) -> anyhow::Result<Vec<String>> {
    host_list::expand(list).context("--nodes is wrong")
}

/// Words as they are, and the addresses of those that `ethers` has: a rollout keeps names.
///
/// # Errors
/// For a file that cannot be read, or no node at all.
pub(crate) fn named(list: &str, ethers: &Path) -> anyhow::Result<(Vec<String>, Addresses)> {
    let words = split(list)?;
    let mut addresses = Addresses::new();
    for (mac, name) in table(ethers)? {
        if words.contains(&name) {
            addresses.entry(name).or_default().push(mac);
        }
    }
    Ok((words, addresses))
}

/// The addresses behind a word; `names` is read when it is needed first. A host with several cards may boot
/// from any of them.
fn resolve(
    word: &str,
    ethers: &Path,
    names: &mut Option<Vec<(NodeId, String)>>,
) -> anyhow::Result<Vec<NodeId>> {
    if let Ok(node) = word.parse() {
        return Ok(vec![node]);
    }
    let known = match names {
        Some(known) => known,
        None => names.insert(table(ethers)?),
    };
    Ok(known.iter().filter(|(_, name)| name == word).map(|(node, _)| *node).collect())
}

/// The words of each line that has some.
fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().split_whitespace().collect())
        .filter(|words: &Vec<_>| !words.is_empty())
}

/// MAC address and name on each line; there may be no such file.
fn table(ethers: &Path) -> anyhow::Result<Vec<(NodeId, String)>> {
    let text = match fs::read_to_string(ethers) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        other => other.with_context(|| format!("cannot read {}", ethers.display()))?,
    };
    let entry = |words: Vec<&str>| match words.as_slice() {
        [mac, name, ..] => Some((mac.parse().ok()?, (*name).to_owned())),
        _ => None,
    };
    Ok(lines(&text).filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_names_and_files_name_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let (ethers, list) = (dir.path().join("ethers"), dir.path().join("list"));
        fs::write(
            &ethers,
            "# the cluster\n52:54:00:00:00:01 node1 # first\n52:54:00:00:00:02\tnode2\n\
             52:54:00:00:00:12 node2\n",
        )
        .unwrap();
        fs::write(&list, "node1\n\n# not this one: node2\n52-54-00-00-00-09 spare\n").unwrap();
        let text = format!("node2,@{}, 52:54:00:00:00:01", list.display());
        let found: Vec<String> =
            read(&text, &ethers).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:09", "52:54:00:00:00:12"]
        );
        for (bad, word) in [
            ("node3", "\"node3\" is neither"),
            ("", "names no node"),
            (" ,", "names no node"),
            ("@/no/such/file", "/no/such/file"),
            ("n[1-", "brackets"),
        ] {
            let error = format!("{:#}", read(bad, &ethers).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
        fs::write(&list, "rack[1-2]n[01-02]\n").unwrap();
        let (all, addresses) = named(&format!("node[1-3],@{}", list.display()), &ethers).unwrap();
        assert_eq!(
            all,
            ["node1", "node2", "node3", "rack1n01", "rack1n02", "rack2n01", "rack2n02"]
        );
        let known: Vec<_> =
            addresses.iter().map(|(name, macs)| (name.as_str(), macs.len())).collect();
        assert_eq!(known, [("node1", 1), ("node2", 2)]);
        let known = words("node2,n77,52-54-00-00-00-12", &ethers).unwrap();
        assert_eq!(known, ["52:54:00:00:00:02", "52:54:00:00:00:12", "n77"]);
        let missing = read("node1", &dir.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("neither a MAC"), "{missing}");
    }
}
