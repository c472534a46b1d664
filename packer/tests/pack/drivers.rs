//! What of a kernel goes into an initrd: chosen drivers, unpacked, with their firmware where a kernel
//! looks for it, and the list of those that stay behind. The modules are made by the C compiler: as
//! much of one as modprobe, modinfo and depmod read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{assert_store_is_clean, packer, run, scratch, small_root, stderr, text};

const RELEASE: &str = "6.1.0-test";

/// A root with three network drivers, two of them packed, and the firmware of one, packed as well.
fn root(dir: &Path) -> PathBuf {
    let root = small_root(dir);
    std::os::unix::fs::symlink("usr/lib", root.join("lib")).unwrap();
    let modules = root.join("usr/lib/modules").join(RELEASE);
    let driver = |path: &str, device: &str, further: &str| {
        let file = modules.join("kernel/drivers").join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let source = dir.join("module.c");
        let alias = format!("alias=pci:v000014E4d0000{device}sv*sd*bc*sc*i*");
        let code = format!(
            "const char info[] __attribute__((section(\".modinfo\"), used)) =\n\
             \"license=GPL\\0{alias}\\0{further}name=x\";\n"
        );
        fs::write(&source, code).unwrap();
        run("cc", &["-c", "-o", text(&file), text(&source)]);
        file
    };
    let tg3 = driver("net/ethernet/broadcom/tg3.ko", "1657", "firmware=tigon/tg3.bin\\0");
    driver("net/ethernet/sfc/sfc.ko", "0A03", "");
    let nfp = driver("net/nfp.ko", "6000", "firmware=netronome/x.nffw\\0");
    driver("gpu/nothing.ko", "0001", "");
    driver("md/dm-mod.ko", "0002", "");
    driver("md/dm-verity.ko", "0003", "depends=dm-mod\\0");
    run("xz", &["--check=crc32", text(&tg3)]);
    run("zstd", &["-q", "--rm", text(&nfp)]);
    let firmware = root.join("usr/lib/firmware/tigon");
    fs::create_dir_all(&firmware).unwrap();
    fs::write(firmware.join("tg3.bin"), "firmware of tg3").unwrap();
    run("xz", &["--check=crc32", text(&firmware.join("tg3.bin"))]);
    run("depmod", &["-b", text(&root), RELEASE]);
    fs::create_dir(root.join("boot")).unwrap();
    fs::write(root.join("boot").join(format!("vmlinuz-{RELEASE}")), "kernel").unwrap();
    root
}

/// `bee-packer initrd make` with a dracut module that takes the drivers it is given.
fn make(dir: &Path, root: &Path, further: &[&str]) -> Output {
    let module = dir.join("module");
    fs::create_dir_all(&module).unwrap();
    let setup = "#!/bin/bash\ncheck() { return 255; }\ndepends() { echo base; }\n\
                 installkernel() { hostonly='' instmods $BEESWARM_DRIVERS; }\n\
                 install() { inst_simple \"$BEESWARM_CLIENT\" /usr/bin/bee-initrd-client\n\
                 inst_simple \"$BEESWARM_LEFT_OUT\" /usr/lib/beeswarm/left-out; }\n";
    fs::write(module.join("module-setup.sh"), setup).unwrap();
    let client = dir.join("client");
    fs::write(&client, "#!/bin/sh\n").unwrap();
    run("chmod", &["755", text(&client)]);
    let output = dir.join("initrd.img");
    let mut args = vec!["initrd", "make", "--source", text(root), "--output", text(&output)];
    args.extend(["--client", text(&client), "--dracut-module", text(&module)]);
    args.push("--dracut-arg=--gzip");
    args.extend(further);
    packer(&args)
}

/// Paths of the modules and the firmware in the initrd.
fn parts(dir: &Path) -> Vec<String> {
    let output = packer(&["initrd", "show", "--files", text(&dir.join("initrd.img"))]);
    assert!(output.status.success(), "{}", stderr(&output));
    let list = String::from_utf8(output.stdout).unwrap();
    let paths = list.lines().filter_map(|line| line.split_whitespace().nth(1));
    let kind = |path: &&str| path.contains(".ko") || path.contains("firmware/");
    let short =
        |path: &str| path.rsplit_once("kernel/drivers/").map_or(path, |(_, p)| p).to_owned();
    let mut parts: Vec<String> = paths.filter(kind).map(short).collect();
    parts.sort();
    parts
}

#[test]
fn an_initrd_has_the_chosen_drivers_unpacked_with_their_firmware() {
    let dir = scratch();
    let root = root(dir.path());
    let output = make(dir.path(), &root, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let image = dir.path().join("initrd.img");
    let tg3 = ["net/ethernet/broadcom/tg3.ko", "usr/lib/firmware/tigon/tg3.bin"];
    assert_eq!(parts(dir.path()), tg3);
    let inside = |path: &str| run("lsinitrd", &["-f", path, text(&image)]);
    assert_eq!(inside("usr/lib/firmware/tigon/tg3.bin"), "firmware of tg3");
    // a node names what would drive its card
    assert_eq!(inside("usr/lib/beeswarm/left-out"), "14e4:0a03 sfc\n14e4:6000 nfp\n");

    let output = make(dir.path(), &root, &["--driver", "sfc", "--driver", "nfp"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let message = stderr(&output);
    assert!(message.contains("no firmware for nfp (netronome/x.nffw)"), "{message}");
    let all = ["net/ethernet/broadcom/tg3.ko", "net/ethernet/sfc/sfc.ko", "net/nfp.ko"];
    assert_eq!(parts(dir.path()), [&all[..], &tg3[1..]].concat());
}

#[test]
fn dm_verity_goes_in_when_it_is_wanted() {
    let dir = scratch();
    let root = root(dir.path());
    let output = make(dir.path(), &root, &["--verity"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let all = parts(dir.path());
    for name in ["md/dm-mod.ko", "md/dm-verity.ko"] {
        assert!(all.iter().any(|part| part == name), "{name}: {all:?}");
    }
    // a kernel that could not check the image is no kernel for it
    let config = root.join("boot").join(format!("config-{RELEASE}"));
    let store = dir.path().join("store");
    let pack = || {
        let module = dir.path().join("module");
        let client = dir.path().join("client");
        packer(&[
            "pack",
            "--verity",
            "--name",
            "test",
            "--source",
            text(&root),
            "--store",
            text(&store),
            "--client",
            text(&client),
            "--dracut-module",
            text(&module),
            "--dracut-arg=--gzip",
        ])
    };
    fs::write(&config, "CONFIG_SQUASHFS=m\n# CONFIG_DM_VERITY is not set\n").unwrap();
    let without_option = pack();
    fs::remove_file(&config).unwrap();
    fs::remove_file(
        root.join("usr/lib/modules").join(RELEASE).join("kernel/drivers/md/dm-verity.ko"),
    )
    .unwrap();
    run("depmod", &["-b", text(&root), RELEASE]);
    for output in [without_option, pack(), make(dir.path(), &root, &["--verity"])] {
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(message.contains("--verity: kernel 6.1.0-test has no dm-verity"), "{message}");
    }
    assert_store_is_clean(&store);
}

#[test]
fn a_list_of_hardware_narrows_the_drivers() {
    let dir = scratch();
    let root = root(dir.path());
    let list = dir.path().join("hardware");
    let with = |text_of_list: &str, further: &[&str]| {
        fs::write(&list, text_of_list).unwrap();
        make(dir.path(), &root, &[&["--hardware", text(&list)][..], further].concat())
    };
    let lspci = "00:00.0 0600: 8086:29c0\n01:00.0 0200: 14e4:0a03 (rev 01)\n";
    let output = with(lspci, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(parts(dir.path()), ["net/ethernet/sfc/sfc.ko"]);

    for (text, further, words) in [
        ("14e4:0a03\nwhat is this\n", &[][..], "line 2 of"),
        ("14e4:ffff\n", &[], "line 1 of"),
        ("# nothing\n00:00.0 0600: 8086:29c0\n", &[], "names no network card"),
        (
            "14e4:0a03\n",
            &["--driver", "no_such_driver"],
            "--driver no_such_driver: kernel 6.1.0-test",
        ),
        ("14e4:0a03\n", &["--driver=--remove"], "--driver --remove"),
        ("14e4:0a03\n", &["--initrd-tool", "initramfs-tools"], "initramfs-tools"),
    ] {
        let before = fs::read(dir.path().join("initrd.img")).unwrap();
        let output = with(text, further);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(message.contains(words), "{words}: {message}");
        assert_eq!(fs::read(dir.path().join("initrd.img")).unwrap(), before, "{words}");
    }
    let left = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name());
    let work = left.filter(|name| name.to_string_lossy().contains(".work-")).count();
    assert_eq!(work, 0, "a work directory was left");
}
