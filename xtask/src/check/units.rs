//! systemd units, verified in a scratch root.
//!
//! `systemd-analyze verify` wants every program a unit starts and every unit it names. So the
//! scratch root gets this system's own units, ours, and an empty program for each path they start.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::cargo::problem;
use super::tree::Tree;
use crate::steps::Outcome;

/// Highest exposure accepted for a host unit, in tenths of systemd's scale of 0 to 10.
const MAX_EXPOSURE: u32 = 25;

/// Endings of unit files.
const ENDINGS: [&str; 6] = ["service", "socket", "mount", "target", "timer", "path"];

/// All units of ours, host and initrd, are free of errors and warnings.
pub(crate) fn verify(tree: &Tree) -> anyhow::Result<Outcome> {
    let mut problems = Vec::new();
    // one root each: an initrd unit and a host unit may have the same name
    for folder in ["systemd", "dracut-module"] {
        let units = unit_files(tree, folder)?;
        ensure!(!units.is_empty(), "no units below {folder}/");
        let root = scratch_root(tree, &units)?;
        for unit in &units {
            let mut command = analyze(root.path(), "verify");
            let output = command.args(["--man=no", &name_of(unit)]).output()?;
            let text = String::from_utf8_lossy(&output.stderr);
            // an unknown key is only a warning to systemd: any word at all is a finding
            if !output.status.success() || !text.trim().is_empty() {
                problems.push(format!("{}: {}\n{}", unit.display(), output.status, text.trim()));
            }
        }
    }
    Ok(Outcome::of(problems))
}

/// Host services are locked down; the initrd's must mount things and have no such limit.
pub(crate) fn exposure(tree: &Tree) -> anyhow::Result<Outcome> {
    let units = unit_files(tree, "systemd")?;
    let root = scratch_root(tree, &units)?;
    let (mut notes, mut problems) = (Vec::new(), Vec::new());
    for unit in units.iter().filter(|unit| unit.extension().is_some_and(|e| e == "service")) {
        let name = name_of(unit);
        let security = || {
            let mut command = analyze(root.path(), "security");
            command.args(["--no-pager", "--offline=true"]).arg(&name);
            command
        };
        let mut judged = security();
        judged.arg(format!("--threshold={MAX_EXPOSURE}"));
        problems.extend(problem(&mut judged, "")?.map(|text| format!("{name}:\n{text}")));
        let said = security().output().context("cannot start systemd-analyze")?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let overall = said.lines().rev().find(|line| line.contains("Overall exposure level"));
        notes.extend(overall.map(|line| line.trim_start_matches(['→', ' ']).to_owned()));
    }
    ensure!(!notes.is_empty(), "systemd-analyze said nothing about any service");
    match problems.is_empty() {
        true => Ok(Outcome::Passed { notes }),
        false => Ok(Outcome::Failed { problems }),
    }
}

fn analyze(root: &Path, verb: &str) -> Command {
    let mut command = Command::new("systemd-analyze");
    command.arg(verb).arg(format!("--root={}", root.display()));
    command
}

fn unit_files(tree: &Tree, folder: &str) -> anyhow::Result<Vec<PathBuf>> {
    tree.files(|path| {
        path.starts_with(folder)
            && path.extension().is_some_and(|e| ENDINGS.iter().any(|ending| e == *ending))
    })
}

fn name_of(unit: &Path) -> String {
    unit.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A root folder with the system's units, ours, and stand-ins for all programs.
fn scratch_root(tree: &Tree, units: &[PathBuf]) -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir().context("cannot create a folder in the temporary folder")?;
    let root = folder.path();
    let into = root.join("usr/lib/systemd/system");
    fs::create_dir_all(&into).with_context(|| format!("cannot create {}", into.display()))?;
    let host = ["/usr/lib/systemd/system", "/lib/systemd/system"];
    let host = host.iter().map(Path::new).find(|folder| folder.is_dir());
    let host = host.context("this system has no systemd units; install systemd")?;
    let mut copy = Command::new("cp");
    copy.arg("--archive").arg(host.join(".")).arg(&into);
    if let Some(text) = problem(&mut copy, "")? {
        anyhow::bail!("cannot copy {}: {text}", host.display());
    }
    for unit in units {
        let to = into.join(name_of(unit));
        let text = tree.read(unit)?.text;
        fs::write(&to, &text).with_context(|| format!("cannot write {}", to.display()))?;
    }
    for entry in fs::read_dir(&into).context("cannot list the scratch root")? {
        // symbolic links may lead out of the scratch root or nowhere
        if let Ok(text) = fs::read_to_string(entry?.path()) {
            programs(&text).try_for_each(|program| stand_in(root, program))?;
        }
    }
    Ok(folder)
}

/// Absolute paths that a unit starts.
fn programs(unit: &str) -> impl Iterator<Item = &str> {
    unit.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let program = value.trim_start_matches(['-', '@', ':', '+', '!', '|', ' ']);
        let program = program.split_whitespace().next()?;
        (key.starts_with("Exec") && program.starts_with('/')).then_some(program)
    })
}

fn stand_in(root: &Path, program: &str) -> anyhow::Result<()> {
    let path = root.join(program.trim_start_matches('/'));
    let context = || format!("cannot create {}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(root)).with_context(context)?;
    fs::write(&path, "#!/bin/sh\n").with_context(context)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_a_unit() {
        let unit = "[Service]\nExecStartPre=-/usr/bin/a b\nExecStart=@/usr/bin/c c\nExecStop=:kill x\nUser=/x\n";
        assert_eq!(programs(unit).collect::<Vec<_>>(), ["/usr/bin/a", "/usr/bin/c"]);
    }

    #[test]
    fn a_bad_unit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("systemd")).unwrap();
        fs::create_dir(folder.path().join("dracut-module")).unwrap();
        let unit = "[Service]\nExecStart=/usr/bin/no-such-program\n";
        for (name, extra) in
            [("systemd/zz-a.service", "Colour=blue\n"), ("dracut-module/zz-b.service", "")]
        {
            fs::write(folder.path().join(name), format!("{unit}{extra}")).unwrap();
        }
        let tree = Tree::at(folder.path());
        let Outcome::Failed { problems } = verify(&tree).unwrap() else { panic!("passed") };
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("Colour"), "{problems:?}");
        let Outcome::Failed { problems } = exposure(&tree).unwrap() else { panic!("passed") };
        assert!(problems[0].contains("zz-a.service"), "{problems:?}");
    }
}
