//! Files of a benchmark: results as JSON, tables as Markdown, pictures; and the copy under `docs/`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use super::facts::Facts;
use super::figures::Figure;

/// Written beside the pictures.
const RESULTS: &str = "results.json";
const TABLES: &str = "README.md";

/// Writes everything into `folder`, which is made when missing.
pub(crate) fn write<T: Serialize>(
    folder: &Path,
    title: &str,
    facts: &Facts,
    results: &T,
    tables: &str,
    figures: &[Figure],
) -> anyhow::Result<()> {
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let document = serde_json::json!({ "facts": facts, "results": results });
    put(RESULTS, &serde_json::to_vec_pretty(&document)?)?;
    put(TABLES, page(title, facts, tables, figures).as_bytes())?;
    figures.iter().try_for_each(|figure| put(&figure.file, figure.svg.as_bytes()))
}

/// The folder under `docs/` that a name stands for.
///
/// # Errors
/// When the name would lead elsewhere.
pub(crate) fn folder(root: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    ensure!(
        name.chars().all(good) && name.starts_with(|c: char| c.is_ascii_alphanumeric()),
        "--publish {name}: a name has letters, digits, `-`, `_` and `.`, such as 2026-11-thirty"
    );
    Ok(root.join("docs/bench").join(name))
}

fn page(title: &str, facts: &Facts, tables: &str, figures: &[Figure]) -> String {
    let mut text = format!(
        "# {title}\n\n\
         - Command: `{}`\n- Date: {}, commit {}\n- Machine: {}\n- Kernel: {}\n\n",
        facts.command, facts.date, facts.commit, facts.machine, facts.kernel
    );
    // writing to a String cannot fail
    let _ = writeln!(text, "{tables}");
    for Figure { file, .. } in figures {
        let _ = writeln!(text, "![{}]({file})\n", file.trim_end_matches(".svg"));
    }
    text.push_str("## Programs\n\n");
    for (program, version) in &facts.programs.versions {
        let _ = writeln!(text, "- {program}: {version}");
    }
    for (client, commands) in &facts.programs.commands {
        let _ = writeln!(text, "\n{client}:\n\n```\n{}\n```", commands.join("\n"));
    }
    let _ = writeln!(text, "\nEvery run: [{RESULTS}]({RESULTS}).");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_below_docs() {
        let root = Path::new("/r");
        assert_eq!(
            folder(root, "2026-11-thirty").unwrap(),
            Path::new("/r/docs/bench/2026-11-thirty")
        );
        for bad in ["", "..", "../x", "/etc", "a/b", ".hidden"] {
            assert!(folder(root, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn everything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        let figures = [Figure { file: "a.svg".to_owned(), svg: "<svg/>".to_owned() }];
        let mut facts = Facts::gather();
        facts.programs.note("us", &["/bin/true --x".to_owned()], &[]);
        write(&folder, "Title", &facts, &[1, 2], "| table |", &figures).unwrap();
        let page = fs::read_to_string(folder.join(TABLES)).unwrap();
        for part in ["# Title", &facts.kernel, "| table |", "![a](a.svg)", "true --x"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        let json = fs::read(folder.join(RESULTS)).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["results"][1], 2);
        assert!(folder.join("a.svg").is_file());
    }
}
