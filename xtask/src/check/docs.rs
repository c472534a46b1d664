//! Documents: what they must contain, and that their links lead somewhere.

use std::path::Path;

use super::tree::{Text, Tree};
use crate::steps::Outcome;

/// What a document must say: file, text, and why.
const MUST_SAY: [(&str, &str, &str); 5] = [
    ("README.md", "cargo xtask demo", "the first of the two commands"),
    ("README.md", "cargo xtask test", "the second of the two commands"),
    ("CHANGELOG.md", "## [Unreleased]", "changes since the last release"),
    ("LICENSE", "Apache-2.0 OR MIT", "the choice of licence"),
    ("docs/operations.md", "# ", "a title"),
];

/// Checks every Markdown file and the documents that must be there.
pub(crate) fn check(tree: &Tree) -> anyhow::Result<Outcome> {
    let mut problems = Vec::new();
    for (path, text, why) in MUST_SAY {
        match tree.read(Path::new(path)) {
            Ok(file) if file.text.contains(text) => {}
            Ok(_) => problems.push(format!("{path} does not contain `{text}`: {why}")),
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    for file in tree.texts(&["md"])? {
        problems.extend(broken_links(tree.root(), &file));
    }
    Ok(Outcome::of(problems))
}

fn broken_links(root: &Path, file: &Text) -> Vec<String> {
    let folder = root.join(&file.path);
    let folder = folder.parent().unwrap_or(root);
    let mut problems = Vec::new();
    let mut in_code = false;
    for (number, line) in (1..).zip(file.text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for target in link_targets(line) {
            let path = target.split('#').next().unwrap_or_default();
            let elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
            if !elsewhere && !folder.join(path).exists() {
                problems.push(format!("{}:{number}: no file {path}", file.path));
            }
        }
    }
    problems
}

/// Targets of `[text](target)` in a line.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_links() {
        let line = "see [a](x.md) and [b](http://h/y#z), not (this)";
        assert_eq!(link_targets(line).collect::<Vec<_>>(), ["x.md", "http://h/y#z"]);
    }

    #[test]
    fn broken_links_are_found_outside_code() {
        let root = Tree::here();
        let text = "[a](Cargo.toml) [b](no-such-file.md) [c](#part)\n```\n[d](nor-this.md)\n```\n";
        let file = Text { path: "README.md".into(), text: text.into() };
        assert_eq!(broken_links(root.root(), &file), ["README.md:1: no file no-such-file.md"]);
    }
}
