//! What live-build leaves (`lb bootstrap && lb chroot`, then `lb binary`): the folder is laid out as it does it,
//! with a system of one program in `chroot`. A real one takes minutes and a mirror.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::initrd::our_module;
use crate::layout::image;
use crate::support::{
    Mounted, assert_store_is_clean, complete, packer, run, scratch, small_root, stderr, text,
};

const RELEASE: &str = "6.1.0-test";

/// The folder in which `lb` was called.
fn live_build(dir: &Path) -> PathBuf {
    let folder = dir.join("live");
    for name in [
        ".build",
        "auto",
        "binary/live",
        "cache/packages.chroot",
        "config/includes.chroot_after_packages/etc",
        "config/package-lists",
        "local/bin",
    ] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    // configuration has such a name, too
    for name in ["binary", "bootstrap", "chroot", "common"] {
        fs::write(folder.join("config").join(name), "LB_MODE=\"debian\"\n").unwrap();
    }
    for name in [".build/chroot_hooks", "chroot.files", "chroot.packages.live"] {
        fs::write(folder.join(name), "").unwrap();
    }
    fs::write(folder.join("binary/live/filesystem.squashfs"), "hsqs").unwrap();
    fs::rename(small_root(dir), folder.join("chroot")).unwrap();
    fill(&folder.join("chroot"));
    folder
}

/// Makes the root what `lb chroot` makes: a kernel with live-boot's own initrd, links to both, device nodes, a
/// file capability, and the names of the machine that built it.
fn fill(root: &Path) {
    symlink("usr/lib", root.join("lib")).unwrap();
    for name in ["boot", "dev/pts", "etc/live/boot", "proc", "run/lock", "sys"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::create_dir_all(root.join("usr/lib/modules").join(RELEASE).join("kernel")).unwrap();
    run("depmod", &["-b", text(root), RELEASE]);
    for (name, content) in [("vmlinuz", "kernel"), ("initrd.img", "of live-boot")] {
        let file = format!("boot/{name}-{RELEASE}");
        fs::write(root.join(&file), content).unwrap();
        symlink(&file, root.join(name)).unwrap();
    }
    run("mknod", &[text(&root.join("dev/null")), "c", "1", "3"]);
    run("setcap", &["cap_net_raw+ep", text(&root.join("usr/bin/tool"))]);
    fs::write(root.join("etc/machine-id"), "").unwrap();
}

fn pack(source: &Path, store: &Path) -> std::process::Output {
    let module = our_module();
    let args = ["pack", "--json", "--name", "live", "--client", "/bin/true", "--dracut-module"];
    let initrd = ["--initrd-tool", "dracut-busybox", "--dracut-arg=--gzip"];
    let from = ["--source", text(source), "--store", text(store)];
    packer(&[&args[..], &[text(&module)], &initrd, &from].concat())
}

#[test]
fn the_chroot_of_live_build_is_a_root_like_another() {
    let dir = scratch();
    let (live, store) = (live_build(dir.path()), dir.path().join("store"));
    let chroot = live.join("chroot");
    // a build that broke off leaves its mounts
    let proc = chroot.join("proc");
    run("mount", &["-t", "proc", "proc", text(&proc)]);
    let output = pack(&chroot, &store);
    run("umount", &[text(&proc)]);
    let packed = complete(&output);
    assert_eq!(packed["kernel_release"], RELEASE);
    let revision = image(&packed).with_file_name("");
    assert_eq!(fs::read_to_string(revision.join("vmlinuz")).unwrap(), "kernel");
    // ours, not that of live-boot
    let list = run("lsinitrd", &[text(&revision.join("initrd.img"))]);
    assert!(list.contains("usr/bin/bee-initrd-client"), "{list}");
    let manifest = fs::read(revision.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["build"]["source"], "directory");

    let at = Mounted::new(&image(&packed), dir.path().join("at"));
    let capability = run("getcap", &[text(&at.0.join("usr/bin/tool"))]);
    assert!(capability.contains("cap_net_raw"), "{capability}");
    // the processes of this host, and what the node's kernel makes itself
    for name in ["proc", "dev", "run"] {
        assert_eq!(fs::read_dir(at.0.join(name)).unwrap().count(), 0, "{name} is not empty");
    }
    assert_eq!(fs::read_to_string(at.0.join("vmlinuz")).unwrap(), "kernel");
    // nothing of what lies beside the root
    assert!(!at.0.join("config").exists() && !at.0.join("chroot.files").exists());
}

#[test]
fn the_folder_around_it_is_refused_and_the_chroot_named() {
    let dir = scratch();
    let (live, store) = (live_build(dir.path()), dir.path().join("store"));
    let refused = |source: &Path, words: &[&str]| {
        let output = pack(source, &store);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{message}");
        for word in [&[text(source)], words].concat() {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
        assert_store_is_clean(&store);
    };
    let hint = "The directory chroot in it does: give that";
    refused(&live, &["does not look like the root", hint]);
    refused(&live.join("config"), &["does not look like the root", "becomes / on the nodes"]);
    refused(&live.join("binary/live/filesystem.squashfs"), &["neither a directory nor a tar"]);
    // a tar of the directory instead of what is in it
    let tar = dir.path().join("chroot.tar");
    run("tar", &["-cf", text(&tar), "-C", text(&live), "chroot"]);
    refused(&tar, &["does not look like the root", hint]);
    // a link to a root is none: it may lead anywhere
    fs::rename(live.join("chroot"), dir.path().join("elsewhere")).unwrap();
    symlink("/", live.join("chroot")).unwrap();
    refused(&live, &["becomes / on the nodes"]);
}
