//! The direction of dependencies between our crates, from `cargo metadata`, and their lint tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use super::tools;
use super::tree::Tree;
use crate::steps::Outcome;

/// Folder of each crate, and the folders it may depend on. ARCHITECTURE.md has the same table.
const ALLOWED: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("sys", &[]),
    ("store", &["proto"]),
    ("swarm", &["proto", "sys"]),
    ("client", &[]),
    ("packer", &["client", "proto", "store", "sys"]),
    ("tracker", &["client", "proto", "store", "sys"]),
    ("seeder", &["proto", "store", "swarm", "sys"]),
    ("initrd-client", &["proto", "swarm", "sys"]),
    (
        "tests",
        &[
            "proto",
            "sys",
            "store",
            "swarm",
            "client",
            "packer",
            "tracker",
            "seeder",
            "initrd-client",
        ],
    ),
    ("sim", &["proto", "swarm"]),
    ("xtask", &["tests", "proto", "sim", "store", "swarm"]),
];

/// Crates of others that a crate of ours must not have, directly or through others.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("proto", &["tokio", "nix", "mio", "socket2"]),
    ("sys", &["tokio"]),
    ("store", &["tokio"]),
    ("initrd-client", &["clap", "axum", "openssl-sys", "rustls", "native-tls"]),
];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: String,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<ResolveNode>,
}

#[derive(Debug, Deserialize)]
struct ResolveNode {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Debug, Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

/// What the rules look at: folders of ours by package id, names, and edges with "only for tests".
#[derive(Debug, Default)]
struct Graph {
    ours: BTreeMap<String, String>,
    names: BTreeMap<String, String>,
    edges: BTreeMap<String, Vec<(String, bool)>>,
}

/// Every arrow goes down the table; nothing forbidden is reached.
pub(crate) fn direction(tree: &Tree) -> anyhow::Result<Outcome> {
    let output = tools::cargo()
        .current_dir(tree.root())
        .args(["metadata", "--format-version", "1"])
        .output()
        .context("cannot start cargo metadata")?;
    if !output.status.success() {
        anyhow::bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata = serde_json::from_slice(&output.stdout).context("output of cargo metadata")?;
    Ok(Outcome::of(violations(&graph(metadata))))
}

/// Every member takes the workspace's lints.
pub(crate) fn lints(tree: &Tree) -> anyhow::Result<Outcome> {
    let mut problems = Vec::new();
    for (folder, _) in ALLOWED {
        let manifest = tree.read(&Path::new(folder).join("Cargo.toml"))?;
        let table: toml::Table = manifest.text.parse().with_context(|| manifest.path.clone())?;
        let inherits = table
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool);
        if inherits != Some(true) {
            problems.push(format!("{}: add `[lints]` with `workspace = true`", manifest.path));
        }
    }
    Ok(Outcome::of(problems))
}

fn graph(metadata: Metadata) -> Graph {
    let mut graph = Graph::default();
    for package in metadata.packages {
        if metadata.workspace_members.contains(&package.id) {
            let folder = Path::new(&package.manifest_path).parent().and_then(Path::file_name);
            let folder = folder.unwrap_or_default().to_string_lossy().into_owned();
            graph.ours.insert(package.id.clone(), folder);
        }
        graph.names.insert(package.id, package.name);
    }
    for node in metadata.resolve.nodes {
        let edges = node.deps.into_iter().map(|edge| {
            let only_tests = edge.dep_kinds.iter().all(|kind| kind.kind.as_deref() == Some("dev"));
            (edge.pkg, only_tests)
        });
        graph.edges.insert(node.id, edges.collect());
    }
    graph
}

fn violations(graph: &Graph) -> Vec<String> {
    let mut problems = Vec::new();
    for (id, folder) in &graph.ours {
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| known == folder) else {
            problems.push(format!(
                "{folder}/ is not in the table: say in ARCHITECTURE.md and xtask what it may use"
            ));
            continue;
        };
        for (to, _) in graph.edges.get(id).into_iter().flatten() {
            if let Some(to) = graph.ours.get(to)
                && !allowed.contains(&to.as_str())
            {
                problems.push(format!("{folder} depends on {to}, which the table does not allow"));
            }
        }
        let reached = reached(graph, id);
        for (_, names) in FORBIDDEN.iter().filter(|(who, _)| who == folder) {
            let bad = names.iter().filter(|name| reached.contains(**name));
            problems.extend(bad.map(|name| format!("{folder} reaches {name}, which it must not")));
        }
    }
    for (folder, _) in ALLOWED.iter().filter(|(known, _)| !graph.ours.values().any(|f| f == known))
    {
        problems.push(format!("{folder}/ is in the table but not in the workspace"));
    }
    problems
}

/// Names of all packages that a crate is built with; what only tests use does not count.
fn reached<'a>(graph: &'a Graph, from: &'a str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(id) = open.pop() {
        for (to, only_tests) in graph.edges.get(id).into_iter().flatten() {
            if !only_tests && seen.insert(to) {
                open.push(to);
            }
        }
    }
    seen.remove(from);
    seen.iter().filter_map(|id| graph.names.get(*id)).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Graph {
        let mut graph = Graph::default();
        for (folder, _) in ALLOWED {
            graph.ours.insert((*folder).into(), (*folder).into());
            graph.names.insert((*folder).into(), format!("beeswarm-{folder}"));
        }
        for name in ["tokio", "serde"] {
            graph.names.insert(name.into(), name.into());
        }
        graph
    }

    fn add(graph: &mut Graph, from: &str, to: &str, only_tests: bool) {
        graph.edges.entry(from.into()).or_default().push((to.into(), only_tests));
    }

    #[test]
    fn arrows_down_are_fine() {
        let mut graph = sample();
        add(&mut graph, "swarm", "proto", false);
        add(&mut graph, "swarm", "tokio", false);
        add(&mut graph, "proto", "serde", false);
        assert_eq!(violations(&graph), Vec::<String>::new());
    }

    #[test]
    fn arrows_up_are_found_even_in_tests() {
        for only_tests in [false, true] {
            let mut graph = sample();
            add(&mut graph, "tracker", "swarm", only_tests);
            assert_eq!(violations(&graph).len(), 1);
        }
    }

    #[test]
    fn what_others_bring_is_found() {
        let mut graph = sample();
        add(&mut graph, "proto", "serde", false);
        add(&mut graph, "serde", "tokio", false);
        assert_eq!(violations(&graph), ["proto reaches tokio, which it must not"]);
    }

    #[test]
    fn unknown_and_missing_crates_are_found() {
        let mut graph = sample();
        graph.ours.insert("x".into(), "utils".into());
        graph.ours.remove("store");
        let problems = violations(&graph);
        assert!(problems[0].contains("utils/ is not in the table"), "{problems:?}");
        assert!(problems[1].contains("store/ is in the table but not"), "{problems:?}");
    }
}
