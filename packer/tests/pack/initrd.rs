//! The initrd: made by the host's real dracut for a made-up kernel, with a module of the test's
//! own, so that it takes seconds. (The demo boots the real one.)

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use proto::trust_policy::TrustPolicy;

use crate::support::{
    assert_store_is_clean, complete, files, packer, run, scratch, small_root, stderr, text,
};

const RELEASE: &str = "6.1.0-test";

/// A root with a kernel that has no modules worth the name.
pub(crate) fn bootable_root(dir: &Path) -> PathBuf {
    let root = small_root(dir);
    fs::create_dir_all(root.join("usr/lib/modules").join(RELEASE).join("kernel")).unwrap();
    std::os::unix::fs::symlink("usr/lib", root.join("lib")).unwrap();
    run("depmod", &["-b", text(&root), RELEASE]);
    fs::create_dir(root.join("boot")).unwrap();
    fs::write(root.join("boot").join(format!("vmlinuz-{RELEASE}")), "kernel").unwrap();
    root
}

/// A dracut module that installs the client.
fn module(dir: &Path, depends: &str, install: &str) -> PathBuf {
    let module = dir.join("module");
    fs::create_dir_all(&module).unwrap();
    let setup = format!(
        "#!/bin/bash\ncheck() {{ return 255; }}\ndepends() {{ echo {depends}; }}\n\
         installkernel() {{ :; }}\ninstall() {{ {install}; }}\n"
    );
    fs::write(module.join("module-setup.sh"), setup).unwrap();
    module
}

const INSTALL: &str = "inst_simple \"$BEESWARM_CLIENT\" /usr/bin/bee-initrd-client";

fn pack(dir: &Path, root: &Path, store: &Path, further: &[&str]) -> Output {
    let module = dir.join("module");
    pack_plain(dir, root, store, &[&["--dracut-module", text(&module)], further].concat())
}

fn pack_plain(dir: &Path, root: &Path, store: &Path, further: &[&str]) -> Output {
    let client = dir.join("the client");
    fs::write(&client, "#!/bin/sh\n").unwrap();
    run("chmod", &["755", text(&client)]);
    let mut args = vec!["pack", "--json", "--name", "test", "--client", text(&client)];
    // these tests are about what is inside: the default takes ten times as long
    args.push("--dracut-arg=--gzip");
    args.extend(["--source", text(root), "--store", text(store)]);
    args.extend(further);
    packer(&args)
}

#[test]
fn dracut_makes_the_same_initrd_twice() {
    let dir = scratch();
    let root = bootable_root(dir.path());
    module(dir.path(), "base", INSTALL);
    let first = complete(&pack(dir.path(), &root, &dir.path().join("store"), &[]));
    assert_eq!(first["kernel_release"], RELEASE);
    let path = Path::new(first["path"].as_str().unwrap());
    assert_eq!(fs::read_to_string(path.join("vmlinuz")).unwrap(), "kernel");
    let list = run("lsinitrd", &[text(&path.join("initrd.img"))]);
    assert!(list.contains("usr/bin/bee-initrd-client"), "{list}");
    assert!(!list.contains("kernel/drivers/gpu"));

    let copy = dir.path().join("a copy elsewhere");
    run("cp", &["-a", text(&root), text(&copy)]);
    let second = complete(&pack(dir.path(), &copy, &dir.path().join("other"), &[]));
    assert_eq!(first["revision"], second["revision"]);
}

/// Our module, as it is installed.
pub(crate) fn our_module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dracut-module/55beeswarm")
}

#[test]
fn busybox_takes_the_place_of_systemd_udev_and_kmod() {
    let dir = scratch();
    let root = bootable_root(dir.path());
    let module = our_module();
    let further = ["--initrd-tool", "dracut-busybox", "--dracut-module", text(&module)];
    let pack = |store: &str| pack_plain(dir.path(), &root, &dir.path().join(store), &further);
    let first = complete(&pack("store"));
    assert_eq!(complete(&pack("other"))["revision"], first["revision"], "not the same twice");
    let initrd = Path::new(first["path"].as_str().unwrap()).join("initrd.img");
    let at = dir.path().join("unpacked");
    fs::create_dir(&at).unwrap();
    run("sh", &["-c", "cd $1 && lsinitrd --unpack $2", "sh", text(&at), text(&initrd)]);
    for path in ["init", "usr/bin/bee-initrd-client", "usr/lib/beeswarm/network", "sbin/modprobe"] {
        assert!(at.join(path).exists(), "{path}");
    }
    let found = files(&at);
    let heavy: Vec<_> = found
        .iter()
        .filter(|path| at.join(path).is_file())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            ["systemd", "udev", "kmod", "libcrypto", "bash"].iter().any(|word| name.contains(word))
        })
        .collect();
    assert!(heavy.is_empty(), "{heavy:?}");
    // the shell that will run them reads them
    for path in
        ["init", "usr/lib/beeswarm/drivers", "usr/lib/beeswarm/network", "usr/lib/beeswarm/lease"]
    {
        let mode = fs::metadata(at.join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{path} cannot be run");
    }
    let shell = "for file in /init /usr/lib/beeswarm/*; do\n\
                 [ \"$(head -c 2 $file)\" != '#!' ] || sh -n $file || exit 1\ndone\n\
                 for name in find sort tail modprobe ip udhcpc setsid switch_root; do\n\
                 command -v $name > /dev/null || { echo $name >&2; exit 1; }\ndone";
    run("chroot", &[text(&at), "/bin/sh", "-c", shell]);
}

/// Packs on a host that has every program of this one but busybox.
fn pack_without_busybox(dir: &Path, root: &Path, module: &Path, further: &[&str]) -> Output {
    let programs = dir.join("programs");
    fs::create_dir(&programs).unwrap();
    let link = "for dir in /usr/sbin /usr/bin; do ln -sf $dir/* $1; done; rm -f $1/busybox";
    run("sh", &["-c", link, "sh", text(&programs)]);
    std::process::Command::new(env!("CARGO_BIN_EXE_bee-packer"))
        .args(["pack", "--json", "--name", "test", "--client", "/bin/true"])
        .args(["--dracut-module", text(module), "--source", text(root)])
        .args(["--store", text(&dir.join("without"))])
        .args(further)
        .env("PATH", &programs)
        .env("TMPDIR", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .unwrap()
}

/// What made the initrd of a revision, by its manifest.
fn tool_of(packed: &Output) -> String {
    let path = complete(packed)["path"].as_str().unwrap().to_owned();
    let manifest = fs::read_to_string(Path::new(&path).join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    manifest["build"]["initrd-tool"].as_str().unwrap().to_owned()
}

#[test]
fn the_small_initrd_is_made_where_nothing_speaks_against_it() {
    let dir = scratch();
    let root = bootable_root(dir.path());
    let (ours, store) = (our_module(), dir.path().join("store"));
    let (from, to) = (["--source", text(&root)], ["--store", text(&store)]);
    let plain = ["pack", "--json", "--name", "test", "--client", "/bin/true", "--dracut-module"];
    let small = packer(&[&plain[..], &[text(&ours)], &from, &to].concat());
    assert_eq!(tool_of(&small), "dracut-busybox");

    let module = module(dir.path(), "base", INSTALL);
    assert_eq!(tool_of(&pack(dir.path(), &root, &store, &[])), "dracut", "it has a --dracut-arg");
    let without = pack_without_busybox(dir.path(), &root, &module, &[]);
    assert_eq!(tool_of(&without), "dracut");
}

#[test]
fn without_a_busybox_the_remedy_is_named() {
    let dir = scratch();
    let root = bootable_root(dir.path());
    let wanted = ["--initrd-tool", "dracut-busybox"];
    let output = pack_without_busybox(dir.path(), &root, &our_module(), &wanted);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{message}");
    assert!(message.contains("cannot run busybox"), "{message}");
    assert!(message.contains("busybox-static (Debian)"), "{message}");
}

/// The scripts of the network under busybox's own shell, in a network namespace.
#[test]
fn a_fixed_address_and_a_lease_are_set_by_busybox() {
    let dir = scratch();
    let module = our_module();
    let script = r#"
set -e
mkdir "$1/bin" && for name in $(busybox --list); do ln -s "$(command -v busybox)" "$1/bin/$name"; done
ip link add d0 type veth peer name d1
mount -t sysfs sysfs /sys
: > "$1/resolv.conf" && mount --bind "$1/resolv.conf" /etc/resolv.conf
mount -t tmpfs tmpfs /run
export PATH="$1/bin"
timeout 20 sh "$2/beeswarm-network.sh" "" \
    "quiet ip=10.9.8.7::10.9.8.1:255.255.255.0:node:d0:none:10.9.8.53 nameserver=10.9.8.54"
ip -4 addr show dev d0 | grep -F "10.9.8.7/24 brd 10.9.8.255"
ip route | grep -F "default via 10.9.8.1 dev d0"
tr '\n' ' ' < /etc/resolv.conf | grep -F "nameserver 10.9.8.54 nameserver 10.9.8.53"
ip link set d1 up
export interface=d1 ip=10.7.0.9 mask=16 router="10.7.0.1 10.7.0.2" dns="10.7.0.53" domain=example.org
for reason in deconfig bound renew; do sh "$2/beeswarm-lease.sh" $reason; done
ip -4 addr show dev d1 | grep -F "10.7.0.9/16 brd 10.7.255.255"
[ "$(ip route | grep -c "default via 10.7.0.1 dev d1")" = 1 ]
[ "$(cat /etc/resolv.conf)" = "nameserver 10.7.0.53
search example.org" ]
ip=10.7.0.10 sh "$2/beeswarm-lease.sh" renew
[ "$(ip -4 addr show dev d1 | grep -c inet)" = 1 ]
timeout 20 sh "$2/beeswarm-network.sh" "" ip=vlan0.3:what | grep "ip=vlan0.3:what is not known here"
timeout 20 sh "$2/beeswarm-network.sh" "" "ip=off bond=bond0:d0,d1" | grep "bond=bond0:d0,d1 is not known here"
"#;
    let namespaces = ["--mount", "--net", "--propagation", "private"];
    let arguments = ["sh", "-ec", script, "sh", text(dir.path()), text(&module)];
    run("unshare", &[&namespaces[..], &arguments].concat());
}

#[test]
fn the_public_key_goes_into_the_initrd_and_never_gets_lost() {
    let dir = scratch();
    let root = bootable_root(dir.path());
    let store = dir.path().join("store");
    let secret = dir.path().join("site.key");
    let keygen = ["keygen", "--json", "--empty-password", "--sign-key", text(&secret)];
    let key = complete(&packer(&keygen))["public_key"].clone();
    let sign = ["--sign-key", text(&secret), "--empty-password"];

    // a module of another version, which does not know of it: nodes would demand nothing
    module(dir.path(), "base", INSTALL);
    let output = pack(dir.path(), &root, &store, &sign);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("without the public key"), "{}", stderr(&output));
    assert_store_is_clean(&store);

    let install = format!("{INSTALL} && inst_simple \"$BEESWARM_TRUST\" /etc/beeswarm/trust.json");
    module(dir.path(), "base", &install);
    let policy = |packed: &serde_json::Value| {
        let initrd = Path::new(packed["path"].as_str().unwrap()).join("initrd.img");
        let text = run("lsinitrd", &["-f", "etc/beeswarm/trust.json", text(&initrd)]);
        TrustPolicy::parse(text.as_bytes()).unwrap()
    };
    let first = complete(&pack(dir.path(), &root, &store, &sign));
    let baked = policy(&first);
    let found = serde_json::to_value(&baked.keys).unwrap();
    assert_eq!(found, serde_json::json!([key]));
    assert!(!baked.allow_override && baked.not_before.is_none());
    // signed at another time, and still the same revision
    let second = complete(&pack(dir.path(), &root, &dir.path().join("other"), &sign));
    assert_eq!(first["revision"], second["revision"]);

    let stock = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let oldest = format!("test@{}", first["revision"].as_str().unwrap());
    let rules = ["--trust-key", stock, "--allow-key-override", "--oldest", &oldest];
    let third = complete(&pack(dir.path(), &root, &store, &[&sign[..], &rules].concat()));
    let baked = policy(&third);
    assert_eq!(baked.keys.len(), 2);
    assert!(baked.allow_override && baked.not_before.is_some_and(|time| time.0 > 1_700_000_000));
}

#[test]
fn a_failure_of_dracut_is_explained_and_leaves_nothing() {
    let dir = scratch();
    let root = bootable_root(dir.path());
    let store = dir.path().join("store");

    module(dir.path(), "no-such-module", INSTALL);
    let output = pack(dir.path(), &root, &store, &[]);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{message}");
    assert!(message.contains("no-such-module"), "{message}");
    assert_store_is_clean(&store);

    module(dir.path(), "base", "derror 'no client today'; return 1");
    let output = pack(dir.path(), &root, &store, &[]);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{message}");
    assert!(message.contains("without bee-initrd-client"), "{message}");
    assert_store_is_clean(&store);
}

#[test]
fn pins_and_files_that_disagree_are_refused() {
    let dir = scratch();
    let root = bootable_root(dir.path());
    let store = dir.path().join("store");
    module(dir.path(), "base", INSTALL);
    for (further, words) in [
        (vec!["--kver", "9.9.9"], vec!["no kernel modules for 9.9.9", RELEASE]),
        (vec!["--kernel", "/no/kernel"], vec!["/no/kernel"]),
        (vec!["--client", "/no/client"], vec!["/no/client"]),
    ] {
        // given twice is an error of its own, so without the helper's --client
        let client = further[0] == "--client";
        let output = if client {
            let args = ["pack", "--name", "test", "--source", text(&root), "--store", text(&store)];
            packer(&[&args[..], &further].concat())
        } else {
            pack(dir.path(), &root, &store, &further)
        };
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
        assert_store_is_clean(&store);
    }
}

/// As much of an x86 kernel as says its version.
fn kernel(dir: &Path, release: &str) -> PathBuf {
    let mut image = vec![0; 0x400];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
    image[0x300..0x300 + release.len()].copy_from_slice(release.as_bytes());
    let path = dir.join(format!("vmlinuz of {release}"));
    fs::write(&path, image).unwrap();
    path
}

#[test]
fn a_kernel_for_which_the_image_has_no_modules_is_refused() {
    let dir = scratch();
    let (root, store) = (bootable_root(dir.path()), dir.path().join("store"));
    module(dir.path(), "base", INSTALL);
    let (other, right) = (kernel(dir.path(), "7.0.0-other"), kernel(dir.path(), RELEASE));
    let initrd = dir.path().join("my-initrd");
    fs::write(&initrd, "initrd").unwrap();
    let base =
        ["pack", "--json", "--name", "test", "--source", text(&root), "--store", text(&store)];
    let given = [&base[..], &["--keep-initrd", text(&initrd)]].concat();
    let (other, right) = (["--kernel", text(&other)], ["--kernel", text(&right)]);
    let modules = ["no kernel modules for 7.0.0-other", RELEASE];
    for (output, words) in [
        (pack(dir.path(), &root, &store, &other), &modules[..]),
        (packer(&[&given[..], &other].concat()), &modules),
        (packer(&[&given[..], &right, &["--kver", "7.0.0-other"]].concat()), &["--kver says"]),
        (packer(&[&given[..], &["--kver", "7.0.0-other"]].concat()), &modules),
        (
            packer(&[&given[..], &["--exclude", &format!("usr/lib/modules/{RELEASE}")]].concat()),
            &["--exclude leaves out the modules", RELEASE],
        ),
    ] {
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert_store_is_clean(&store);
    }
    // modules for it come by overlay, and the kernel itself needs no room in the image
    let overlay = dir.path().join("overlay");
    let modules = overlay.join("lib/modules/7.0.0-other");
    fs::create_dir_all(modules.join("kernel")).unwrap();
    fs::write(modules.join("modules.dep"), "").unwrap();
    let further = ["--overlay", text(&overlay), "--exclude", "boot"];
    let packed = complete(&packer(&[&given[..], &other, &further].concat()));
    assert_eq!(packed["kernel_release"], "7.0.0-other");
}

#[test]
fn a_finished_initrd_is_taken_as_it_is() {
    let dir = scratch();
    let (root, store) = (bootable_root(dir.path()), dir.path().join("store"));
    let initrd = dir.path().join("my-initrd");
    fs::write(&initrd, "initrd").unwrap();
    let mut args = vec!["pack", "--json", "--name", "test", "--keep-initrd", text(&initrd)];
    args.extend(["--source", text(&root), "--store", text(&store)]);
    let packed = complete(&packer(&args));
    let path = Path::new(packed["path"].as_str().unwrap());
    assert_eq!(fs::read_to_string(path.join("initrd.img")).unwrap(), "initrd");
    assert_eq!(packed["kernel_release"], RELEASE);

    // and without modules, with its kernel
    fs::remove_dir_all(root.join("usr/lib/modules")).unwrap();
    args.extend(["--kernel", text(&initrd), "--kver", "6.2.0"]);
    let packed = complete(&packer(&args));
    assert_eq!(packed["kernel_release"], "6.2.0");
}
