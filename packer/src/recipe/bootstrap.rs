//! The command that installs a distribution into an empty directory.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::document::Recipe;
use crate::tool::{DNF, MMDEBSTRAP, SETPRIV, Tool};

/// A program in mount and process namespaces of its own, which dies with us: what it mounted and
/// started goes with it.
pub(super) fn contained(program: &str) -> Command {
    let mut command = SETPRIV.command();
    command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"]);
    command.args(["--kill-child=KILL", "--mount-proc", "--propagation", "private", "--"]);
    command.arg(program).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// The program that installs the base, and its arguments. `keyring` is absolute.
pub(super) fn bootstrap(
    recipe: &Recipe,
    keyring: Option<&Path>,
    into: &Path,
) -> (Tool, Vec<OsString>) {
    let packages = recipe.packages.iter().chain(&recipe.kernel).map(String::as_str);
    if recipe.base.is_debian() {
        (MMDEBSTRAP, mmdebstrap(recipe, &packages.collect::<Vec<_>>(), keyring, into))
    } else {
        (DNF, dnf(recipe, packages, keyring, into))
    }
}

fn mmdebstrap(
    recipe: &Recipe,
    packages: &[&str],
    keyring: Option<&Path>,
    into: &Path,
) -> Vec<OsString> {
    let mut args: Vec<OsString> =
        ["--mode=root", "--format=directory", "--variant=minbase"].map(OsString::from).into();
    if !packages.is_empty() {
        args.push(format!("--include={}", packages.join(",")).into());
    }
    if !recipe.components.is_empty() {
        args.push(format!("--components={}", recipe.components.join(",")).into());
    }
    if let Some(keyring) = keyring {
        args.push(option("--keyring=", keyring));
    }
    args.push((&recipe.suite).into());
    args.push(into.into());
    // its default is the distribution's own, with updates and security
    args.extend(recipe.mirrors.iter().map(OsString::from));
    args
}

fn dnf<'a>(
    recipe: &Recipe,
    packages: impl Iterator<Item = &'a str>,
    keyring: Option<&Path>,
    into: &Path,
) -> Vec<OsString> {
    let mut args = vec![OsString::from("--assumeyes"), option("--installroot=", into)];
    args.push(format!("--releasever={}", recipe.suite).into());
    args.push("--setopt=install_weak_deps=False".into());
    args.push("--setopt=tsflags=nodocs".into());
    for (number, mirror) in recipe.mirrors.iter().enumerate() {
        // only these, once any is named
        if number == 0 {
            args.push("--disablerepo=*".into());
        }
        let name = format!("recipe{number}");
        args.push(format!("--repofrompath={name},{mirror}").into());
        args.push(format!("--enablerepo={name}").into());
        args.push(format!("--setopt={name}.gpgcheck=1").into());
        if let Some(keyring) = keyring {
            args.push(option(&format!("--setopt={name}.gpgkey=file://"), keyring));
        }
    }
    args.push("install".into());
    args.push(format!("{}-release", recipe.base.name()).into());
    args.extend(packages.map(OsString::from));
    args
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str, keyring: Option<&str>) -> (&'static str, String) {
        let recipe = Recipe::parse(text).unwrap();
        let (tool, args) = bootstrap(&recipe, keyring.map(Path::new), Path::new("/new"));
        let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        (tool.program, words.join(" "))
    }

    #[test]
    fn debian_is_installed_by_mmdebstrap() {
        let text = "base = 'debian'\nsuite = 'bookworm'\nkernel = 'linux-image-amd64'\n\
                    packages = ['systemd-sysv', 'libc6=2.36-9']\ncomponents = ['main', 'contrib']";
        let (program, words) = command(text, Some("/k.gpg"));
        assert_eq!(program, "mmdebstrap");
        assert_eq!(
            words,
            "--mode=root --format=directory --variant=minbase \
             --include=systemd-sysv,libc6=2.36-9,linux-image-amd64 --components=main,contrib \
             --keyring=/k.gpg bookworm /new"
        );
        let mirrors = "base = 'debian'\nsuite = 'bookworm'\nmirrors = ['http://m/debian']";
        assert!(command(mirrors, None).1.ends_with("bookworm /new http://m/debian"));
        let ubuntu = command("base = 'ubuntu'\nsuite = 'noble'", None).1;
        assert!(ubuntu.ends_with("noble /new"), "{ubuntu}");
    }

    #[test]
    fn fedora_is_installed_by_dnf() {
        let text = "base = 'fedora'\nsuite = '42'\nkernel = 'kernel-core'\npackages = ['systemd']";
        let (program, words) = command(text, None);
        assert_eq!(program, "dnf");
        assert_eq!(
            words,
            "--assumeyes --installroot=/new --releasever=42 --setopt=install_weak_deps=False \
             --setopt=tsflags=nodocs install fedora-release systemd kernel-core"
        );
        let rocky = "base = 'rocky'\nsuite = '9'\nmirrors = ['http://m/a', 'http://m/b']\n\
                     keyring = 'key'";
        let words = command(rocky, Some("/key")).1;
        for part in [
            "--disablerepo=* --repofrompath=recipe0,http://m/a --enablerepo=recipe0",
            "--setopt=recipe1.gpgcheck=1 --setopt=recipe1.gpgkey=file:///key",
            "install rocky-release",
        ] {
            assert!(words.contains(part), "{words}");
        }
    }
}
