//! Recipes: one that is followed for real, from a Debian mirror, and those that are refused.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::initrd::our_module;
use crate::layout::here;
use crate::support::{
    Mounted, assert_store_is_clean, complete, files, packer, run, scratch, stderr, text,
};

/// Base, suite and mirrors of a recipe: this host's on Debian, otherwise Debian's own.
fn base() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let debian = release.lines().any(|line| line == "ID=debian");
    let suite = codename.filter(|_| debian).unwrap_or("bookworm");
    let targets = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"])
        .arg("Created-By: Packages")
        .output();
    let targets = targets.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    let main = targets.unwrap_or_default().lines().find_map(|line| {
        line.strip_suffix(&format!("|{suite}|main")).map(|uri| format!("mirrors = [{uri:?}]\n"))
    });
    format!("base = \"debian\"\nsuite = \"{suite}\"\n{}", main.unwrap_or_default())
}

/// All that a recipe can say, a kernel among it, followed to a revision that boots: this is the one test for which
/// a whole Debian is installed.
#[test]
fn a_recipe_is_followed() {
    let dir = scratch();
    let (recipe, store) = (dir.path().join("node.toml"), dir.path().join("store"));
    fs::create_dir(dir.path().join("files")).unwrap();
    fs::write(dir.path().join("files/motd"), "from the recipe's folder\n").unwrap();
    let text_of = format!(
        r#"{}
packages = ["systemd"]
kernel = "linux-image-cloud-{}"
commands = ["echo ran >/etc/ran; test -e /proc/self/status -a -c /dev/null", "cat /etc/motd >>/etc/ran"]
[services]
enable = ["systemd-networkd.service"]
mask = ["apt-daily.timer"]
[[files]]
path = "/etc/motd"
source = "files/motd"
mode = "0640"
uid = 12
[[files]]
path = "/opt/new folder/it's"
content = "text\n"
[[users]]
name = "admin"
uid = 1500
groups = ["users"]
[[users]]
name = "guest"
password-hash = "$6$salt$hash"
allow-password-hash = true
"#,
        base(),
        here()
    );
    fs::write(&recipe, &text_of).unwrap();
    let module = our_module();
    let output = packer(&[
        "pack",
        "--json",
        "--client",
        "/bin/true",
        "--dracut-module",
        text(&module),
        "--initrd-tool",
        "dracut-busybox",
        // the default takes ten times as long
        "--dracut-arg=--gzip",
        "--compression",
        "lz4",
        // what the recipe may write, the gate still has to let pass
        "--allow-secret",
        "/etc/shadow",
        "--name",
        "test",
        "--source",
        text(&recipe),
        "--store",
        text(&store),
    ]);
    let complete = complete(&output);
    let revision = Path::new(complete["path"].as_str().unwrap());
    let manifest: Value =
        serde_json::from_slice(&fs::read(revision.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["build"]["source"], "recipe");
    assert!(manifest["build"]["source-base"].as_str().unwrap().starts_with("debian "));
    let at = Mounted::new(&revision.join("rootimg.sfs"), dir.path().join("at"));
    let read = |path: &str| fs::read_to_string(at.0.join(path)).unwrap();
    assert_eq!(read("etc/ran"), "ran\nfrom the recipe's folder\n");
    assert_eq!(read("opt/new folder/it's"), "text\n");
    let motd = fs::metadata(at.0.join("etc/motd")).unwrap();
    assert_eq!((motd.mode() & 0o7777, motd.uid(), motd.gid()), (0o640, 12, 0));
    let wants = "etc/systemd/system/multi-user.target.wants/systemd-networkd.service";
    assert!(at.0.join(wants).symlink_metadata().is_ok());
    let masked = fs::read_link(at.0.join("etc/systemd/system/apt-daily.timer")).unwrap();
    assert_eq!(masked, Path::new("/dev/null"));
    assert!(read("etc/passwd").contains("\nadmin:x:1500:"));
    let shadow = read("etc/shadow");
    assert!(shadow.contains("\nadmin:!:") && shadow.contains("\nguest:$6$salt$hash:"));
    // nothing of this host, and nothing that is to differ from node to node
    assert_eq!(read("etc/machine-id"), "");
    for gone in ["etc/hostname", "etc/resolv.conf"] {
        assert!(!at.0.join(gone).exists(), "{gone}");
    }
    assert_eq!(fs::read_dir(at.0.join("var/lib/apt/lists")).unwrap().count(), 0);
    let release = complete["kernel_release"].as_str().unwrap();
    assert_eq!(manifest["kernel_release"], release);
    kernel_fits(release, revision, &at.0, dir.path());
}

/// The modules of this kernel, and of no other, are in the image and in the initrd that was made of them.
fn kernel_fits(release: &str, revision: &Path, image: &Path, dir: &Path) {
    let boot = image.join("boot");
    let kernel = fs::read(boot.join(format!("vmlinuz-{release}"))).unwrap();
    assert!(kernel == fs::read(revision.join("vmlinuz")).unwrap(), "another kernel is booted");
    // an initrd of the kernel package would be loaded by nobody, but take room
    let names: Vec<_> = files(&boot).into_iter().filter(|p| text(p).contains("initrd")).collect();
    assert!(names.is_empty(), "{names:?}");
    let initrd = dir.join("initrd");
    fs::create_dir(&initrd).unwrap();
    let path = revision.join("initrd.img");
    run("sh", &["-c", "cd $1 && lsinitrd --unpack $2", "sh", text(&initrd), text(&path)]);
    assert!(initrd.join("usr/bin/bee-initrd-client").is_file());
    for (root, least) in [(image, 300), (&initrd, 10)] {
        let dir = root.join("usr/lib/modules");
        let releases: Vec<_> =
            fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(releases, [release], "in {}", dir.display());
        let modules = files(&dir.join(release));
        let named = |name: &str| {
            let found = modules.iter().find(|p| text(p).contains(&format!("/{name}.ko")));
            dir.join(release).join(found.unwrap_or_else(|| panic!("no {name} in {modules:?}")))
        };
        let count = modules.iter().filter(|path| text(path).contains(".ko")).count();
        assert!(count >= least, "only {count} modules in {}", dir.display());
        // what a node needs for its first packet and for its root
        for name in ["virtio_net", "squashfs", "overlay"] {
            let made_for = run("modinfo", &["-F", "vermagic", text(&named(name))]);
            assert!(made_for.starts_with(&format!("{release} ")), "{name}: {made_for}");
        }
    }
}

#[test]
fn what_a_recipe_cannot_say() {
    let dir = scratch();
    let (recipe, store) = (dir.path().join("node.toml"), dir.path().join("store"));
    let refused = |further: &str, words: &[&str]| {
        fs::write(&recipe, format!("base = \"debian\"\nsuite = \"bookworm\"\n{further}")).unwrap();
        let args = ["pack", "--name", "test", "--source", text(&recipe), "--store", text(&store)];
        let output = packer(&args);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{message}");
        for word in [&["cannot use the recipe"], words].concat() {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
        assert!(!store.exists(), "a wrong recipe made a store");
    };
    refused("\npackagess = []\n", &["line 4", "packagess", "packages"]);
    refused("[services]\nstart = []\n", &["line 4", "start"]);
    refused("[[users]]\nname = \"a\"\npassword = \"x\"\n", &["line 5", "password"]);
    refused("packages = 3\n", &["line 3"]);
    refused("packages = [\"--option\"]\n", &["packages", "--option"]);
    refused("packages = [\"a,b\"]\n", &["a,b"]);
    refused(
        "[[users]]\nname = \"a\"\npassword-hash = \"$6$s$h\"\n",
        &["allow-password-hash = true"],
    );
    refused(
        "[[users]]\nname = \"a\"\npassword-hash = \"plain\"\nallow-password-hash = true\n",
        &["/etc/shadow"],
    );
    refused("[[files]]\npath = \"/a/../b\"\ncontent = \"\"\n", &["/a/../b", "without .."]);
    refused("[[files]]\npath = \"/a\"\n", &["either source or content"]);
    refused("[[files]]\npath = \"/a\"\ncontent = \"\"\nmode = \"999\"\n", &["octal", "999"]);
    refused("[[files]]\npath = \"/a\"\nsource = \"missing\"\n", &["missing", "recipe's folder"]);
    refused("[[files]]\npath = \"/a\"\nsource = \"/etc/passwd\"\n", &["leads out of the folder"]);
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
    refused("[[files]]\npath = \"/a\"\nsource = \"link\"\n", &["leads out of the folder"]);
    let rocky = "base = \"rocky\"\nsuite = \"9\"\nmirrors = [\"http://mirror/\"]\n";
    fs::write(&recipe, rocky).unwrap();
    let args = ["pack", "--name", "test", "--source", text(&recipe), "--store", text(&store)];
    assert!(stderr(&packer(&args)).contains("keys of these mirrors"));
    fs::write(&recipe, "suite = \"bookworm\"\n").unwrap();
    let source = format!("recipe:{}", recipe.display());
    let args = ["pack", "--name", "test", "--source", &source, "--store", text(&store)];
    assert!(stderr(&packer(&args)).contains("base"));
}

#[test]
fn a_mirror_that_is_none_is_told_and_leaves_nothing() {
    let dir = scratch();
    let (recipe, store) = (dir.path().join("node.toml"), dir.path().join("store"));
    let mirror = format!("file://{}/no-mirror", dir.path().display());
    let text_of = format!("base = \"debian\"\nsuite = \"bookworm\"\nmirrors = [{mirror:?}]\n");
    fs::write(&recipe, text_of).unwrap();
    let args = ["pack", "--name", "test", "--source", text(&recipe), "--store", text(&store)];
    let output = packer(&args);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{message}");
    for word in ["mmdebstrap failed", "no-mirror", "reaches the mirror"] {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    assert_store_is_clean(&store);
}

#[test]
fn a_build_that_is_killed_leaves_no_process_and_no_mount() {
    let dir = scratch();
    let (recipe, store) = (dir.path().join("node.toml"), dir.path().join("store"));
    fs::write(&recipe, base()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_bee-packer"))
        .args(["pack", "--name", "test", "--source", text(&recipe), "--store", text(&store)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // apt or dpkg at work in the new root, below mmdebstrap
    let busy = || processes(&store) >= 3;
    wait(busy, "mmdebstrap did not start");
    child.kill().unwrap();
    child.wait().unwrap();
    wait(|| processes(&store) == 0, "something of the build goes on");
    assert!(!fs::read_to_string("/proc/mounts").unwrap().contains(text(&store)));
    // and the next one clears away what it left
    run(env!("CARGO_BIN_EXE_bee-packer"), &["list", "--store", text(&store)]);
}

/// Processes that have the store in their command line.
fn processes(store: &Path) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(text(store))).count()
}

fn wait(done: impl Fn() -> bool, failure: &str) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{failure}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
