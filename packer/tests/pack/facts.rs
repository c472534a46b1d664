//! What a node says of itself: `/etc/bee-release` and the line at login, in the image that it runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use crate::support::{Mounted, complete, packer, run, scratch, small_root, text};

const RELEASE: &str = "6.1.0-test";

#[test]
fn an_image_says_what_it_is_and_what_it_was_made_of() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    fs::create_dir_all(root.join("usr/lib/modules").join(RELEASE)).unwrap();
    fs::write(root.join("usr/lib/modules").join(RELEASE).join("modules.dep"), "").unwrap();
    let os_release =
        "NAME=Test\nPRETTY_NAME=\"Test Linux 1.2 (Eins)\"\nID=testlinux\nVERSION_ID=1.2\n";
    fs::write(root.join("usr/lib/os-release"), os_release).unwrap();
    // the root's own, not this host's
    symlink("/usr/lib/os-release", root.join("etc/os-release")).unwrap();
    let boot = dir.path().join("boot file");
    fs::write(&boot, "kernel and initrd").unwrap();
    let overlay = dir.path().join("site");
    fs::create_dir_all(overlay.join("etc")).unwrap();
    fs::write(overlay.join("etc/site"), "x").unwrap();
    let git = |args: &[&str]| run("git", &[&["-C", text(&overlay)], args].concat());
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x"]);
    let commit = git(&["rev-parse", "HEAD"]).trim().to_owned();

    let pack = |at: &str| {
        let plain = ["pack", "--json", "--name", "test", "--kver", RELEASE];
        let files = ["--kernel", text(&boot), "--keep-initrd", text(&boot)];
        let places =
            ["--source", text(&root), "--store", text(&store), "--overlay", text(&overlay)];
        let packed = complete(&packer(&[&plain[..], &files, &places].concat()));
        let path = Path::new(packed["path"].as_str().unwrap()).to_owned();
        let manifest = fs::read(path.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        (Mounted::new(&path.join("rootimg.sfs"), dir.path().join(at)), manifest)
    };
    let facts = |at: &Mounted| {
        let names = ["IMAGE", "PACKER_VERSION", "KERNEL", "DISTRIBUTION", "DISTRIBUTION_ID"];
        let names = names.map(|name| format!("$BEE_{name}")).join("|");
        let shell = format!(". \"$0\" && printf %s \"{names}|$BEE_GIT_COMMIT\"");
        run("sh", &["-c", &shell, text(&at.0.join("etc/bee-release"))])
    };
    let motd = |at: &Mounted| fs::read_to_string(at.0.join("etc/motd.d/beeswarm")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let distribution = "Test Linux 1.2 (Eins)";

    let (at, manifest) = pack("clean");
    let expected = format!("test|{version}|{RELEASE}|{distribution}|testlinux-1.2|{commit}");
    assert_eq!(facts(&at), expected);
    let expected = format!(
        "Image test ({distribution}), packed by bee-packer {version}, kernel {RELEASE}, commit {commit}; all \
         facts: /etc/bee-release\n"
    );
    assert_eq!(motd(&at), expected);
    let build = &manifest["build"];
    assert_eq!(build["BEE_GIT_COMMIT"], *commit);
    assert_eq!(
        (&build["BEE_DISTRIBUTION"], &build["BEE_DISTRIBUTION_ID"]),
        (&distribution.into(), &"testlinux-1.2".into())
    );

    // a file that nobody has added to git yet is packed, and so it is not what is in the commit
    fs::write(overlay.join("etc/forgotten"), "x").unwrap();
    let (at, manifest) = pack("dirty");
    assert!(at.0.join("etc/forgotten").exists());
    let dirty = format!("{commit}-dirty");
    assert!(facts(&at).ends_with(&format!("|{dirty}")), "{}", facts(&at));
    assert!(motd(&at).contains(&format!(", commit {dirty};")), "{}", motd(&at));
    assert_eq!(manifest["build"]["BEE_GIT_COMMIT"], *dirty);
}
