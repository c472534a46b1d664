//! Overlays, exclusions, keys and facts, seen in the mounted image.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{
    Mounted, complete, files, pack_image, packer, run, scratch, small_root, stderr, text,
};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me@host";

fn mount(packed: &Value, at: PathBuf) -> Mounted {
    Mounted::new(&Path::new(packed["path"].as_str().unwrap()).join("rootimg.sfs"), at)
}

fn mode(path: &Path) -> (u32, u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.mode() & 0o7777, meta.uid(), meta.gid())
}

/// A root as distributions make it: /lib is a link, /var/run one to the root's /run.
fn merged_root(dir: &Path) -> PathBuf {
    let root = small_root(dir);
    for path in ["usr/lib/modules", "usr/share/doc/pkg", "run", "var", "root"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    symlink("usr/lib", root.join("lib")).unwrap();
    symlink("/run", root.join("var/run")).unwrap();
    symlink("hostname", root.join("etc/link")).unwrap();
    for path in ["usr/share/doc/pkg/changelog", "usr/share/doc/.hidden", "usr/lib/cache.pyc"] {
        fs::write(root.join(path), "x").unwrap();
    }
    fs::set_permissions(root.join("root"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    root
}

#[test]
fn overlays_are_laid_over_the_root_as_if_it_ran() {
    let dir = scratch();
    let (root, store) = (merged_root(dir.path()), dir.path().join("store"));
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    for path in ["lib/firmware", "etc", "var/run", "opt/new"] {
        fs::create_dir_all(one.join(path)).unwrap();
    }
    fs::create_dir_all(two.join("etc")).unwrap();
    fs::write(one.join("lib/firmware/nic.bin"), "firmware").unwrap();
    fs::write(one.join("etc/hostname"), "one").unwrap();
    fs::write(one.join("etc/link"), "a file now").unwrap();
    fs::write(one.join("var/run/here"), "in the root's own run").unwrap();
    fs::write(one.join("opt/new/tool"), "tool").unwrap();
    fs::hard_link(one.join("opt/new/tool"), one.join("opt/second")).unwrap();
    run("setcap", &["cap_net_raw+ep", text(&one.join("opt/new/tool"))]);
    run("chown", &["-R", "1234:1234", text(&one)]);
    // chown takes them away
    run("setcap", &["cap_net_raw+ep", text(&one.join("opt/new/tool"))]);
    fs::set_permissions(one.join("opt/new"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(two.join("etc/hostname"), "two").unwrap();
    let overlays = ["--overlay", text(&one), "--overlay", text(&two)];
    let before = files(&root);

    let packed = pack_image(&root, &store, &overlays);
    let at = mount(&packed, dir.path().join("at"));
    let read = |path: &str| fs::read_to_string(at.0.join(path)).unwrap();
    assert_eq!(read("usr/lib/firmware/nic.bin"), "firmware");
    assert!(at.0.join("lib").is_symlink(), "/lib was replaced");
    assert_eq!(read("etc/hostname"), "two");
    assert_eq!(read("etc/link"), "a file now");
    // of a file that is there, the overlay's owner; of a directory, its own
    assert_eq!(mode(&at.0.join("etc/link")), (0o644, 1234, 1234));
    assert_eq!(mode(&at.0.join("etc")), mode(&root.join("etc")));
    assert_eq!(mode(&at.0), mode(&root));
    assert_eq!(mode(&at.0.join("opt/new")), (0o750, 1234, 1234));
    assert!(!Path::new("/run/here").exists(), "a link of the root led to this host");
    let caps = run("getcap", &[text(&at.0.join("opt/second"))]);
    assert!(caps.contains("cap_net_raw"), "{caps}");
    let inode = |path: &str| fs::metadata(at.0.join(path)).unwrap().ino();
    assert_eq!(inode("opt/new/tool"), inode("opt/second"));

    let owned = [&overlays[..], &["--overlay-owner", "root"]].concat();
    let at = mount(&pack_image(&root, &store, &owned), dir.path().join("owned"));
    assert_eq!(mode(&at.0.join("opt/new")), (0o750, 0, 0));
    assert_eq!(mode(&at.0.join("etc/link")), (0o644, 0, 0));
    // the source is as it was
    assert_eq!(files(&root), before);
    assert_eq!(fs::read_to_string(root.join("etc/hostname")).unwrap(), "node\n");

    // a file where the root has a directory
    fs::write(two.join("usr"), "").unwrap();
    let args =
        ["pack", "--image-only", "--name", "t", "--source", text(&root), "--store", text(&store)];
    let output = packer(&[&args[..], &overlays].concat());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("directory (/usr)"), "{}", stderr(&output));
    let output = packer(&[&args[..], &["--overlay", "/no/overlay"]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("/no/overlay"), "{}", stderr(&output));
}

#[test]
fn what_is_excluded_of_the_source_is_not_in_the_image() {
    let dir = scratch();
    let (root, store) = (merged_root(dir.path()), dir.path().join("store"));
    let overlay = dir.path().join("overlay");
    fs::create_dir_all(overlay.join("srv/doc")).unwrap();
    for path in ["usr/share/doc/own", "lib/firmware", "opt/empty"] {
        fs::create_dir_all(overlay.join(path)).unwrap();
    }
    for path in ["srv/doc/a.pyc", "usr/share/doc/own/file", "lib/firmware/nic.bin"] {
        fs::write(overlay.join(path), "own").unwrap();
    }
    // in both
    fs::create_dir_all(root.join("usr/lib/firmware")).unwrap();
    fs::create_dir_all(root.join("opt/empty/old")).unwrap();
    for path in ["usr/lib/firmware/nic.bin", "usr/lib/firmware/old.bin"] {
        fs::write(root.join(path), "old").unwrap();
    }
    run("touch", &["-d", "2001-02-03T04:05:06Z", text(&root.join("usr/share/doc"))]);
    let exclude = |patterns: &[&str], store: &Path| {
        let mut args = vec!["pack", "--json", "--image-only", "--name", "test"];
        args.extend(["--source", text(&root), "--store", text(store), "--overlay", text(&overlay)]);
        for pattern in patterns {
            args.extend(["--exclude", pattern]);
        }
        packer(&args)
    };
    let patterns =
        ["/usr/share/doc/*", "**/*.pyc", "no/such", "etc/motd.d/", "usr/lib/firmware", "opt"];
    let output = exclude(&patterns, &store);
    let warnings = String::from_utf8_lossy(&output.stdout).matches("matches nothing").count();
    assert_eq!(warnings, 1, "{output:?}");
    let at = mount(&complete(&output), dir.path().join("at"));
    let left = files(&at.0);
    for gone in [
        "usr/share/doc/pkg",
        "usr/share/doc/.hidden",
        "usr/lib/cache.pyc",
        "etc/motd.d",
        "usr/lib/firmware/old.bin",
        "opt/empty/old",
    ] {
        assert!(!left.contains(&PathBuf::from(gone)), "{gone} is in the image");
    }
    for kept in ["usr/share/doc", "etc/hostname", "etc/bee-release", "usr/bin/tool"] {
        assert!(left.contains(&PathBuf::from(kept)), "{kept} is not in the image");
    }
    // overlays are applied last
    for own in ["usr/share/doc/own/file", "srv/doc/a.pyc", "usr/lib/firmware/nic.bin"] {
        assert_eq!(fs::read_to_string(at.0.join(own)).unwrap(), "own", "{own}");
    }
    assert!(left.contains(&PathBuf::from("opt/empty")));
    let modified = |path: &Path| fs::metadata(path).unwrap().mtime();
    let doc = "usr/share/doc";
    assert_eq!(modified(&at.0.join(doc)), modified(&root.join(doc)), "the directory's time");
    assert_eq!(mode(&at.0.join(doc)), mode(&root.join(doc)));
    assert!(root.join("usr/share/doc/pkg/changelog").exists(), "the source was modified");

    let output = exclude(&["../etc"], &store);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("leads out of the root"), "{}", stderr(&output));
}

#[test]
fn keys_and_facts_are_where_programs_look_for_them() {
    let dir = scratch();
    let (root, store) = (merged_root(dir.path()), dir.path().join("store"));
    let (key, tree) = (dir.path().join("key.pub"), dir.path().join("site"));
    fs::write(&key, format!("{KEY}\n")).unwrap();
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::write(tree.join("etc/site"), "x").unwrap();
    for args in [
        &["init", "-q"][..],
        &["add", "."],
        &["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"],
    ] {
        run("git", &[&["-C", text(&tree)], args].concat());
    }
    let commit = run("git", &["-C", text(&tree), "rev-parse", "HEAD"]).trim().to_owned();
    let further =
        ["--authorized-key", text(&key), "--overlay", text(&tree), "--build-fact", "TICKET=4 2"];
    let packed = pack_image(&root, &store, &further);
    let at = mount(&packed, dir.path().join("at"));
    assert!(!at.0.join(".git").exists(), "the history of the overlay is in the image");
    let keys = at.0.join("root/.ssh/authorized_keys");
    assert_eq!(fs::read_to_string(&keys).unwrap(), format!("{KEY}\n"));
    assert_eq!(mode(&keys), (0o600, 0, 0));
    assert_eq!(mode(&at.0.join("root/.ssh")), (0o700, 0, 0));
    let release = at.0.join("etc/bee-release");
    let shell = format!(
        ". {} && printf '%s|%s|%s' \"$BEE_IMAGE\" \"$TICKET\" \"$BEE_GIT_COMMIT\"",
        text(&release)
    );
    assert_eq!(run("sh", &["-c", &shell]), format!("test|4 2|{commit}"));
    assert!(!fs::read_to_string(&release).unwrap().contains("BUILD_TIME"));
    assert_eq!((mode(&release), fs::metadata(&release).unwrap().mtime()), ((0o644, 0, 0), 0));
    let motd = fs::read_to_string(at.0.join("etc/motd.d/beeswarm")).unwrap();
    assert!(motd.contains("Image test") && motd.contains(&commit), "{motd}");
    let manifest = Path::new(packed["path"].as_str().unwrap()).join("manifest.json");
    let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
    assert_eq!(manifest["build"]["TICKET"], "4 2");
    assert_eq!(manifest["build"]["BEE_GIT_COMMIT"], commit.as_str());

    // a key that is there already is not added again, others stay
    fs::create_dir(root.join("root/.ssh")).unwrap();
    fs::write(root.join("root/.ssh/authorized_keys"), format!("{KEY}\nother")).unwrap();
    let again = mount(&pack_image(&root, &store, &further), dir.path().join("again"));
    let keys = fs::read_to_string(again.0.join("root/.ssh/authorized_keys")).unwrap();
    assert_eq!(keys, format!("{KEY}\nother\n"));
    // and where those of the source are left out, what is given is alone
    let alone = [&further[..], &["--exclude", "root/.ssh"]].concat();
    let alone = mount(&pack_image(&root, &store, &alone), dir.path().join("alone"));
    let keys = alone.0.join("root/.ssh/authorized_keys");
    assert_eq!(fs::read_to_string(&keys).unwrap(), format!("{KEY}\n"));
    assert_eq!(mode(&keys), (0o600, 0, 0));

    // a time only when it is given
    let mut command = Command::new(env!("CARGO_BIN_EXE_bee-packer"));
    command.args(["pack", "--json", "--image-only", "--name", "test", "--source", text(&root)]);
    command.args(["--store", text(&store)]).env("SOURCE_DATE_EPOCH", "1700000000");
    let at = mount(&complete(&command.output().unwrap()), dir.path().join("dated"));
    let release = at.0.join("etc/bee-release");
    assert!(fs::read_to_string(&release).unwrap().contains("2023-11-14T22:13:20Z"));
    assert_eq!(fs::metadata(&release).unwrap().mtime(), 1_700_000_000);
    let at = mount(&pack_image(&root, &store, &["--no-build-facts"]), dir.path().join("bare"));
    assert!(!at.0.join("etc/bee-release").exists() && !at.0.join("etc/motd.d").exists());
}
