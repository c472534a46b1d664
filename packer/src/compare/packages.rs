//! Packages that came, went or have another version: as dpkg or rpm have written it down.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::CompareError;

/// Where rpm keeps its database: today, and until Fedora 35 and RHEL 9.
const RPM: [&str; 2] = ["usr/lib/sysimage/rpm", "var/lib/rpm"];

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Its name, with the architecture where that is not the only one.
    pub name: String,
    /// Version before; none when it was not there.
    pub before: Option<String>,
    /// Version after; none when it is gone.
    pub after: Option<String>,
}

/// All of them, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PackageChanges {
    /// New ones.
    pub added: Vec<PackageChange>,
    /// Those that are gone.
    pub removed: Vec<PackageChange>,
    /// Those with another version.
    pub changed: Vec<PackageChange>,
}

/// Compares the packages of two roots; `scratch` is for copies of databases.
pub(super) fn compare(
    older: &Path,
    newer: &Path,
    scratch: &Path,
) -> Result<PackageChanges, CompareError> {
    let old = installed(older, &scratch.join("rpm-older"))?;
    let new = installed(newer, &scratch.join("rpm-newer"))?;
    Ok(changes(&old, &new))
}

type Packages = BTreeMap<String, String>;

fn changes(old: &Packages, new: &Packages) -> PackageChanges {
    let mut found = PackageChanges::default();
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (before, after) = (old.get(name).cloned(), new.get(name).cloned());
        let list = match (&before, &after) {
            (None, _) => &mut found.added,
            (_, None) => &mut found.removed,
            (before, after) if before != after => &mut found.changed,
            _ => continue,
        };
        list.push(PackageChange { name: name.clone(), before, after });
    }
    found
}

fn installed(root: &Path, scratch: &Path) -> Result<Packages, CompareError> {
    let mut found = Packages::new();
    let status = root.join("var/lib/dpkg/status");
    let mut files = vec![status];
    // roots without dpkg itself have a file per package
    if let Ok(entries) = fs::read_dir(root.join("var/lib/dpkg/status.d")) {
        let named = |path: &PathBuf| path.extension().is_none_or(|e| e != "md5sums");
        files.extend(entries.flatten().map(|entry| entry.path()).filter(named));
    }
    for path in files {
        match fs::read(&path) {
            Ok(bytes) => found.extend(dpkg(&String::from_utf8_lossy(&bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(CompareError::Read { path, source }),
        }
    }
    for dir in RPM.map(|dir| root.join(dir)) {
        if !dir.is_symlink() && fs::read_dir(&dir).is_ok_and(|mut dir| dir.next().is_some()) {
            found.extend(rpm(&dir, scratch)?);
        }
    }
    Ok(found)
}

/// Packages of dpkg's status file (deb822) that are installed.
fn dpkg(text: &str) -> Packages {
    let mut found = Packages::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            let value =
                |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
            stanza.lines().find_map(value)
        };
        let is_installed = field("Status").is_none_or(|s| s.ends_with(" installed"));
        if let (true, Some(name), Some(version)) =
            (is_installed, field("Package"), field("Version"))
        {
            let name = match field("Architecture") {
                // those of which a root may have several
                Some(arch) if field("Multi-Arch").as_deref() == Some("same") => {
                    format!("{name}:{arch}")
                }
                _ => name,
            };
            found.insert(name, version);
        }
    }
    found
}

/// Packages of an rpm database, asked of the host's rpm; of a copy, since it writes beside it.
fn rpm(database: &Path, scratch: &Path) -> Result<Packages, CompareError> {
    let error = |reason: String| CompareError::Packages { path: database.to_owned(), reason };
    let read = |source| CompareError::Read { path: database.to_owned(), source };
    fs::create_dir(scratch).map_err(read)?;
    for entry in fs::read_dir(database).map_err(read)? {
        let entry = entry.map_err(read)?;
        if entry.file_type().map_err(read)?.is_file() {
            fs::copy(entry.path(), scratch.join(entry.file_name())).map_err(read)?;
        }
    }
    let output = Command::new("rpm")
        .env("LC_ALL", "C")
        .args(["--query", "--all", "--queryformat", "%{NAME}.%{ARCH} %{EVR}\\n", "--dbpath"])
        .arg(scratch)
        .output()
        .map_err(|e| error(format!("cannot run rpm ({e}): install rpm on this host")))?;
    if !output.status.success() {
        return Err(error(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // a key that was imported is in the database like a package, without an architecture
    let line = |line: &str| {
        let (name, version) = line.split_once(' ')?;
        Some((name.strip_suffix(".(none)").unwrap_or(name).to_owned(), version.to_owned()))
    };
    let mut found = Packages::new();
    for (name, version) in text.lines().filter_map(line) {
        // kernels are installed side by side
        found
            .entry(name)
            .and_modify(|versions| *versions = format!("{versions} {version}"))
            .or_insert(version);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\n\
        Version: 5.2-1\nDescription: shell\n Package: not this\n\n\
        Package: gone\nStatus: install ok installed\nVersion: 1\n\n\
        Package: removed\nStatus: deinstall ok config-files\nVersion: 1\n\n\
        Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\n\
        Version: 2.36\n\n\
        Package: libc6\nStatus: install ok installed\nArchitecture: i386\nMulti-Arch: same\n\
        Version: 2.36\n";
    const NEW: &str = "Package: bash\nVersion: 5.2-2\n\nPackage: libc6\nArchitecture: amd64\n\
        Multi-Arch: same\nVersion: 2.36\n\nPackage: libc6\nArchitecture: i386\nMulti-Arch: same\n\
        Version: 2.36\n\nPackage: new\nVersion: 1:0\n";

    #[test]
    fn packages_come_go_and_change() {
        let dir = tempfile::tempdir().unwrap();
        let roots = ["a", "b"].map(|name| dir.path().join(name));
        fs::create_dir_all(roots[0].join("var/lib/dpkg")).unwrap();
        fs::write(roots[0].join("var/lib/dpkg/status"), OLD).unwrap();
        // without dpkg: a file per package
        fs::create_dir_all(roots[1].join("var/lib/dpkg/status.d")).unwrap();
        for (number, stanza) in NEW.split("\n\n").enumerate() {
            fs::write(roots[1].join(format!("var/lib/dpkg/status.d/{number}")), stanza).unwrap();
        }
        fs::write(roots[1].join("var/lib/dpkg/status.d/0.md5sums"), "x").unwrap();
        let found = compare(&roots[0], &roots[1], dir.path()).unwrap();
        let change = |name: &str, before: Option<&str>, after: Option<&str>| PackageChange {
            name: name.to_owned(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        };
        assert_eq!(found.added, [change("new", None, Some("1:0"))]);
        assert_eq!(found.removed, [change("gone", Some("1"), None)]);
        assert_eq!(found.changed, [change("bash", Some("5.2-1"), Some("5.2-2"))]);
        let none = dir.path().join("none");
        assert_eq!(compare(&none, &none, dir.path()).unwrap(), PackageChanges::default());
    }

    #[test]
    fn packages_of_rpm_are_found_by_the_hosts_rpm() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let run = |program: &str, args: &[&std::ffi::OsStr]| {
            let output = Command::new(program).args(args).output();
            let output =
                output.unwrap_or_else(|e| panic!("{program} is needed for this test: {e}"));
            assert!(output.status.success(), "{program}: {output:?}");
        };
        let spec = "Name: beetest\nVersion: 1.2\nRelease: 3\nEpoch: 1\nSummary: x\nLicense: x\n\
                    BuildArch: noarch\n%description\nx\n%files\n";
        fs::write(at("x.spec"), spec).unwrap();
        let top = format!("_topdir {}", dir.path().display());
        let (spec, root) = (at("x.spec"), at("root"));
        let flags =
            |words: &[&'static str]| words.iter().map(|w| (*w).as_ref()).collect::<Vec<_>>();
        run(
            "rpmbuild",
            &[&flags(&["-bb", "--define"])[..], &[top.as_ref(), spec.as_ref()]].concat(),
        );
        fs::create_dir_all(root.join("usr/lib/sysimage/rpm")).unwrap();
        let into = [&flags(&["--dbpath", "/usr/lib/sysimage/rpm", "--root"])[..], &[root.as_ref()]];
        let built = at("RPMS/noarch/beetest-1.2-3.noarch.rpm");
        run(
            "rpm",
            &[&into.concat()[..], &flags(&["--install", "--nodeps"]), &[built.as_ref()]].concat(),
        );
        let found = compare(&at("none"), &root, dir.path()).unwrap();
        let names: Vec<_> =
            found.added.iter().map(|p| (p.name.as_str(), p.after.as_deref())).collect();
        assert_eq!(names, [("beetest.noarch", Some("1:1.2-3"))]);
    }
}
