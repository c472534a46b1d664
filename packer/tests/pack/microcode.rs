//! CPU microcode in front of the initrd, for each tool that makes one: read by the cpio that everybody has,
//! as the kernel reads it, unpacked and first.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::initrd::{bootable_root, our_module};
use crate::support::{complete, packer, run, scratch, text};

const INTEL: [(&str, &str); 2] = [("06-55-04", "of a Skylake"), ("06-8f-08", "of a Sapphire")];
const AMD: [(&str, &str); 2] =
    [("microcode_amd.bin", "of an Opteron"), ("microcode_amd_fam19h.bin", "of a Milan")];

/// What an image has when intel-microcode and amd64-microcode are installed in it.
fn with_microcode(root: &Path) {
    for (dir, files) in [("intel-ucode", INTEL), ("amd-ucode", AMD)] {
        let dir = root.join("usr/lib/firmware").join(dir);
        fs::create_dir_all(&dir).unwrap();
        for (name, contents) in files {
            fs::write(dir.join(name), contents).unwrap();
        }
    }
    // beside them, and nothing for a processor
    fs::write(root.join("usr/lib/firmware/amd-ucode/microcode_amd.bin.asc"), "signed").unwrap();
}

/// As much of initramfs-tools as the packer asks of it: the root's own program, in the root.
fn with_initramfs_tools(root: &Path) {
    let busybox = run("sh", &["-c", "command -v busybox"]);
    let programs = root.join("usr/bin");
    fs::copy(busybox.trim(), programs.join("busybox")).unwrap();
    for name in ["sh", "env", "mkdir", "cp", "find", "cpio", "gzip", "dirname"] {
        std::os::unix::fs::symlink("busybox", programs.join(name)).unwrap();
    }
    std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
    for dir in ["usr/sbin", "tmp", "proc", "dev"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    // mkinitramfs -d CONFIG -o OUTPUT RELEASE
    let script = "#!/bin/sh\nset -e\nmkdir -p /tmp/tree/usr/bin /tmp/tree/scripts\n\
                  cp $2/beeswarm/bee-initrd-client /tmp/tree/usr/bin/\n\
                  cp -r $2/scripts/. /tmp/tree/scripts/\n\
                  cd /tmp/tree\nfind . | cpio -o -H newc | gzip > $4\n";
    let program = root.join("usr/sbin/mkinitramfs");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `bee-packer pack`; where the initrd is.
fn initrd(root: &Path, store: &Path, further: &[&str]) -> PathBuf {
    let args =
        ["pack", "--json", "--name", "test", "--client", "/bin/true", "--source", text(root)];
    let packed = complete(&packer(&[&args[..], &["--store", text(store)], further].concat()));
    Path::new(packed["path"].as_str().unwrap()).join("initrd.img")
}

/// What cpio(1) says of the first archive of a file.
fn first_archive(initrd: &Path, args: &[&str]) -> Vec<u8> {
    let file = fs::File::open(initrd).unwrap();
    let output =
        Command::new("cpio").args(["--quiet"]).args(args).stdin(Stdio::from(file)).output();
    let output = output.expect("cpio must be installed for this test");
    assert!(output.status.success(), "cpio {args:?}: {output:?}");
    output.stdout
}

#[test]
fn every_initrd_has_the_microcode_in_front_and_without_it_none() {
    let dir = scratch();
    let root = bootable_root(dir.path());
    with_microcode(&root);
    with_initramfs_tools(&root);
    let ours = our_module();
    let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join("../initramfs-tools");
    let dracut = ["--dracut-module", text(&ours), "--dracut-arg=--gzip"];
    for (tool, further) in [
        ("dracut-busybox", &dracut[..]),
        ("dracut", &dracut),
        ("initramfs-tools", &["--initramfs-tools", text(&hook)]),
    ] {
        let further = [&["--initrd-tool", tool], further].concat();
        let with = initrd(&root, &dir.path().join(tool), &further);
        let list = String::from_utf8(first_archive(&with, &["--list"])).unwrap();
        let directories = ["kernel", "kernel/x86", "kernel/x86/microcode"];
        let [amd, intel] =
            ["AuthenticAMD", "GenuineIntel"].map(|v| format!("kernel/x86/microcode/{v}.bin"));
        let mut found: Vec<_> = list.lines().collect();
        found.sort_unstable();
        assert_eq!(found, [&directories[..], &[&amd, &intel]].concat(), "{tool}");
        for (path, files) in [(&intel, INTEL), (&amd, AMD)] {
            let bytes = first_archive(&with, &["--extract", "--to-stdout", path]);
            let whole: String = files.iter().map(|(_, contents)| *contents).collect();
            assert_eq!(String::from_utf8(bytes).unwrap(), whole, "{tool}: {path}");
        }
        // the rest is an initrd as it was before: dracut's own reader finds it
        let list = run("lsinitrd", &[text(&with)]);
        assert!(list.contains("bin/bee-initrd-client"), "{tool}: {list}");
        assert!(list.contains("microcode"), "{tool}: {list}");

        let store = dir.path().join(format!("{tool}-without"));
        let without = initrd(&root, &store, &[&further[..], &["--no-microcode"]].concat());
        assert!(!run("lsinitrd", &[text(&without)]).contains("kernel/x86"), "{tool}");
        let (with, without) = (fs::read(&with).unwrap(), fs::read(&without).unwrap());
        // the stand-in for mkinitramfs notes when it ran
        if tool != "initramfs-tools" {
            let early = with.len() - without.len();
            assert!(with.ends_with(&without) && early % 512 == 0, "{tool}: not the same behind it");
        }
        let word = b"kernel/x86/microcode";
        assert!(!without.windows(word.len()).any(|part| part == word), "{tool}");
    }
}
