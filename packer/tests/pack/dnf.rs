//! Recipes that dnf follows, from a repository that is made for them: a distribution that is a file, a shell with
//! what adds users and enables units, and a kernel where Fedora keeps it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::initrd::our_module;
use crate::layout::image;
use crate::support::{
    Mounted, SmallDisk, assert_store_is_clean, complete, files, packer, run, scratch, stderr, text,
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

/// With all that the steps of a recipe run in the root: programs of this host, with their libraries.
const TOOLS: &str = r"
Name: node-tools
%description
A shell, and what adds users and enables units.
%install
cd %{buildroot}
mkdir -p usr/bin usr/sbin usr/lib/systemd/system usr/lib64 etc
for name in bin sbin lib lib64; do ln -s usr/$name $name; done
cp /usr/bin/busybox usr/bin/
for name in sh rm cat; do ln -s busybox usr/bin/$name; done
for program in $(PATH=$PATH:/usr/sbin command -v useradd) $(command -v systemctl); do
    for file in $program $(ldd $program | grep -o '/[^ ]*'); do
        mkdir -p .${file%/*}
        cp -L $file .$file
    done
done
printf '[Service]\nExecStart=/bin/sh\n[Install]\nWantedBy=multi-user.target\n' \
    >usr/lib/systemd/system/site.service
echo 'root:x:0:0:root:/root:/bin/sh' >etc/passwd
printf 'root:x:0:\nusers:x:100:\n' >etc/group
echo 'root:*:19000:0:99999:7:::' >etc/shadow
%files
/usr
/bin
/sbin
/lib
/lib64
/etc
";

const KERNEL_RELEASE: &str = "6.12.0-9.test";

const KERNEL: &str = r#"
Name: kernel-core
%description
A kernel with one module, as much of it as depmod and dracut read.
%install
dir=%{buildroot}/lib/modules/6.12.0-9.test
mkdir -p $dir/kernel/fs
echo kernel >$dir/vmlinuz
cat >overlay.c <<'END'
const char info[] __attribute__((section(".modinfo"), used)) = "license=GPL\0name=overlay";
END
cc -c -o $dir/kernel/fs/overlay.ko overlay.c
PATH=$PATH:/usr/sbin depmod -b %{buildroot} 6.12.0-9.test 2>/dev/null
mkdir %{buildroot}/usr
mv %{buildroot}/lib %{buildroot}/usr/lib
%files
/usr/lib/modules
"#;

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
                            %define debug_package %{nil}\n%define _binary_payload w1.gzdio";
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

    /// Makes the packages, and a repository of them; whether the tools are signed.
    fn repository(&self, signed: bool) -> PathBuf {
        self.package(RELEASE, true);
        self.package(KERNEL, true);
        self.package(TOOLS, signed);
        let repository = self.path("repository");
        run("createrepo_c", &["--quiet", text(&repository)]);
        repository
    }

    /// A recipe of these packages, from mirrors that are its own or from those of the host.
    fn recipe(&self, mirrors: &str) -> PathBuf {
        let recipe = self.path("node.toml");
        let text = format!("base = \"rocky\"\nsuite = \"9\"\n{mirrors}{RECIPE}");
        fs::write(&recipe, text).unwrap();
        recipe
    }

    /// One with its own mirror.
    fn recipe_of(&self, repository: &Path) -> PathBuf {
        let mirror = format!("mirrors = [\"file://{}\"]\n", repository.display());
        self.recipe(&format!("keyring = \"key\"\n{mirror}"))
    }
}

const RECIPE: &str = r#"
packages = ["node-tools"]
kernel = "kernel-core"
commands = ["cat /etc/os-release >/etc/ran"]
[services]
enable = ["site.service"]
mask = ["other.timer"]
[[files]]
path = "/etc/motd"
content = "hello\n"
[[users]]
name = "admin"
uid = 1500
groups = ["users"]
"#;

#[test]
fn a_recipe_is_followed_by_dnf() {
    let (bed, dir) = (Bed::new(), scratch());
    let recipe = bed.recipe_of(&bed.repository(true));
    let (module, store) = (our_module(), dir.path().join("store"));
    let args = ["pack", "--json", "--name", "test", "--client", "/bin/true", "--dracut-module"];
    let initrd = ["--initrd-tool", "dracut-busybox", "--dracut-arg=--gzip"];
    let from = ["--source", text(&recipe), "--store", text(&store)];
    let packed = complete(&packer(&[&args[..], &[text(&module)], &initrd, &from].concat()));
    assert_eq!(packed["kernel_release"], KERNEL_RELEASE);
    let kernel = fs::read(image(&packed).with_file_name("vmlinuz")).unwrap();
    assert_eq!(kernel, b"kernel\n");
    let list = run("lsinitrd", &[text(&image(&packed).with_file_name("initrd.img"))]);
    let module = format!("lib/modules/{KERNEL_RELEASE}/kernel/fs/overlay.ko");
    assert!(list.contains(&module), "{list}");
    let manifest = fs::read(image(&packed).with_file_name("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["build"]["source-base"], "rocky 9");
    let at = Mounted::new(&image(&packed), dir.path().join("at"));
    let read = |path: &str| fs::read_to_string(at.0.join(path)).unwrap();
    assert_eq!(read("etc/ran"), "ID=rocky\n");
    assert_eq!(read("etc/motd"), "hello\n");
    assert_eq!(read("etc/machine-id"), "");
    assert!(read("etc/passwd").contains("\nadmin:x:1500:"));
    assert!(read("etc/group").contains("\nusers:x:100:admin\n"));
    let link = |path: &str| fs::read_link(at.0.join("etc/systemd/system").join(path)).unwrap();
    let wants = link("multi-user.target.wants/site.service");
    assert!(wants.ends_with("lib/systemd/system/site.service"), "{}", wants.display());
    assert_eq!(link("other.timer"), Path::new("/dev/null"));
    let caches = files(&at.0.join("var/cache/dnf"));
    assert!(caches.is_empty(), "{caches:?}");
}

/// In a mount namespace whose dnf knows one repository, that of the test.
#[test]
fn without_mirrors_the_repositories_of_the_host_are_asked() {
    let (bed, dir) = (Bed::new(), scratch());
    let (repository, store) = (bed.repository(true), dir.path().join("store"));
    let (recipe, conf) = (bed.recipe(""), bed.path("dnf.conf"));
    let site = format!(
        "[main]\ngpgcheck=1\nreposdir={0}/none\n[site]\nname=site\nbaseurl=file://{1}\n\
         gpgkey=file://{0}/key\n",
        bed.dir.path().display(),
        repository.display()
    );
    fs::write(&conf, site).unwrap();
    let script = "mount --bind \"$0\" /etc/dnf/dnf.conf && exec \"$@\"";
    let namespace = ["--mount", "--propagation", "private", "sh", "-c", script, text(&conf)];
    let pack = [env!("CARGO_BIN_EXE_bee-packer"), "pack", "--json", "--image-only"];
    let from = ["--name", "test", "--source", text(&recipe), "--store", text(&store)];
    let said = run("unshare", &[&namespace[..], &pack, &from].concat());
    let packed: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let at = Mounted::new(&image(&packed), dir.path().join("at"));
    assert_eq!(fs::read_to_string(at.0.join("etc/ran")).unwrap(), "ID=rocky\n");
}

#[test]
fn a_package_without_a_signature_is_refused() {
    let (bed, dir) = (Bed::new(), scratch());
    let (recipe, store) = (bed.recipe_of(&bed.repository(false)), dir.path().join("store"));
    let args = ["pack", "--image-only", "--name", "test", "--source", text(&recipe)];
    let output = packer(&[&args[..], &["--store", text(&store)]].concat());
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{message}");
    for word in ["dnf failed", "node-tools-9-1", "not signed", "has its keys"] {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    assert_store_is_clean(&store);
}

/// dnf looks at the room before it begins, and says it in words of its own.
#[test]
fn a_disk_that_is_full_for_what_dnf_installs() {
    let (bed, dir) = (Bed::new(), scratch());
    let recipe = bed.recipe_of(&bed.repository(true));
    for limit in ["size=8m", "nr_inodes=45"] {
        let disk = SmallDisk::new(dir.path().join(limit), "64m");
        run("mount", &["-o", &format!("remount,{limit}"), text(&disk.0)]);
        let store = disk.0.join("store");
        let args = ["pack", "--image-only", "--name", "test", "--source", text(&recipe)];
        let pack = || packer(&[&args[..], &["--store", text(&store)]].concat());
        let output = pack();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(5), "{limit}: {message}");
        for word in ["no space left", "nothing was stored", "prune"] {
            assert!(message.contains(word), "{limit}: {word:?} is not in: {message}");
        }
        assert!(!message.contains("mirror"), "{limit}: {message}");
        assert_store_is_clean(&store);
        run("mount", &["-o", "remount,size=64m,nr_inodes=9999", text(&disk.0)]);
        let output = pack();
        assert!(output.status.success(), "{limit}: {}", stderr(&output));
    }
}
