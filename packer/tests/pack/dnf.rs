//! A recipe that dnf follows, from a repository that is made for it: packages of a distribution that is a file,
//! and of a shell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::layout::image;
use crate::support::{
    Mounted, assert_store_is_clean, files, pack_image, packer, run, scratch, stderr, text,
};

const RELEASE: &str = "
Name: rocky-release
Provides: system-release(releasever) = 9
%description
What dnf takes for the distribution.
%install
mkdir -p %{buildroot}/etc
echo 'ID=rocky' >%{buildroot}/etc/os-release
%files
/etc/os-release
";

/// With all that the steps of a recipe run in the root.
const TOOLS: &str = "
Name: node-tools
%description
A shell.
%install
mkdir -p %{buildroot}/usr/bin
cp /usr/bin/busybox %{buildroot}/usr/bin/
for name in sh rm cat; do ln -s busybox %{buildroot}/usr/bin/$name; done
ln -s usr/bin %{buildroot}/bin
%files
/usr/bin
/bin
";

/// A folder with a key of its own, and a repository that is signed with it.
struct Bed {
    dir: tempfile::TempDir,
}

impl Drop for Bed {
    fn drop(&mut self) {
        // gpg leaves an agent running
        let mut command = Command::new("gpgconf");
        let _ = command.arg("--homedir").arg(self.path("home")).args(["--kill", "all"]).status();
    }
}

impl Bed {
    fn new() -> Self {
        // short: the agent's socket lies in it
        let this = Self { dir: tempfile::tempdir_in("/var/tmp").unwrap() };
        let home = this.path("home");
        fs::create_dir(&home).unwrap();
        run("chmod", &["0700", text(&home)]);
        let gpg = ["--homedir", text(&home), "--batch", "--quiet", "--passphrase", ""];
        let name = "test <test@invalid>";
        let make = ["--quick-generate-key", name, "rsa2048", "sign", "never"];
        run("gpg", &[&gpg[..], &make].concat());
        let key = run("gpg", &["--homedir", text(&home), "--armor", "--export"]);
        fs::write(this.path("key"), key).unwrap();
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a package, perhaps a signed one.
    fn package(&self, spec: &str, signed: bool) {
        const HEAD: &str = "Version: 9\nRelease: 1\nSummary: for a test\nLicense: none\n\
                            AutoReqProv: no\n%define __spec_install_post %{nil}\n\
                            %define debug_package %{nil}";
        let (file, made) = (self.path("a.spec"), self.path("made"));
        fs::write(&file, format!("{HEAD}{spec}")).unwrap();
        let define = |name: &str, value: &Path| format!("{name} {}", value.display());
        let (top, to) = (define("_topdir", &self.path("build")), define("_rpmdir", &made));
        run("rpmbuild", &["--quiet", "-bb", "--define", &top, "--define", &to, text(&file)]);
        let repository = self.path("repository");
        fs::create_dir_all(&repository).unwrap();
        // where rpm was built gpg may have had another name
        let gpg = format!("__gpg {}", run("which", &["gpg"]).trim());
        for path in files(&made).into_iter().filter(|path| path.extension().is_some()) {
            let path = made.join(path);
            if signed {
                let home = define("_gpg_path", &self.path("home"));
                let key = ["--define", "_gpg_name test@invalid", "--define", &gpg];
                let options = [&["--addsign", "--define", &home], &key[..]].concat();
                run("rpmsign", &[&options[..], &[text(&path)]].concat());
            }
            fs::rename(&path, repository.join(path.file_name().unwrap())).unwrap();
        }
    }

    /// The recipe, when all packages are there.
    fn recipe(&self) -> PathBuf {
        let repository = self.path("repository");
        run("createrepo_c", &["--quiet", text(&repository)]);
        let recipe = self.path("node.toml");
        let base = "base = \"rocky\"\nsuite = \"9\"\nkeyring = \"key\"\n";
        let rest = "packages = [\"node-tools\"]\ncommands = [\"cat /etc/os-release >/etc/ran\"]\n\
                    [[files]]\npath = \"/etc/motd\"\ncontent = \"hello\\n\"\n";
        let mirrors = format!("mirrors = [\"file://{}\"]\n", repository.display());
        fs::write(&recipe, format!("{base}{mirrors}{rest}")).unwrap();
        recipe
    }
}

#[test]
fn a_recipe_is_followed_by_dnf() {
    let (bed, dir) = (Bed::new(), scratch());
    bed.package(RELEASE, true);
    bed.package(TOOLS, true);
    let packed = pack_image(&bed.recipe(), &dir.path().join("store"), &[]);
    let manifest = fs::read(image(&packed).with_file_name("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["build"]["source-base"], "rocky 9");
    let at = Mounted::new(&image(&packed), dir.path().join("at"));
    let read = |path: &str| fs::read_to_string(at.0.join(path)).unwrap();
    assert_eq!(read("etc/ran"), "ID=rocky\n");
    assert_eq!(read("etc/motd"), "hello\n");
    assert_eq!(read("etc/machine-id"), "");
    let caches = files(&at.0.join("var/cache/dnf"));
    assert!(caches.is_empty(), "{caches:?}");
}

#[test]
fn a_package_without_a_signature_is_refused() {
    let (bed, dir) = (Bed::new(), scratch());
    bed.package(RELEASE, true);
    bed.package(TOOLS, false);
    let (recipe, store) = (bed.recipe(), dir.path().join("store"));
    let args = ["pack", "--image-only", "--name", "test", "--source", text(&recipe)];
    let output = packer(&[&args[..], &["--store", text(&store)]].concat());
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{message}");
    for word in ["dnf failed", "node-tools-9-1", "not signed", "has its keys"] {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    assert_store_is_clean(&store);
}
