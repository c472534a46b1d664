//! `bee-packer pack --allow-key-override` and `beeswarm.key=`, from end to end: the policy is taken out of the
//! initrd that was packed, a node boots with it, and the revision is signed with a key that is not in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{BitRate, Cmd, Node, Proc, program};
use proto::boot_record::BootRecord;
use serde_json::Value;
use store::RevisionRef;

use super::fixture::{ADMIN, Cluster, wait_for_event};
use super::signed::{Site, at, ended, told_to_the_tracker};

const RELEASE: &str = "6.1.0-test";

/// Makes the site's root one that boots: with an init, and with a kernel that has no modules worth the name.
fn make_bootable(site: &Site) {
    let root = PathBuf::from(site.path("root"));
    for folder in ["sbin", "boot", &format!("usr/lib/modules/{RELEASE}/kernel")] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("sbin/init"), "#!/bin/sh\n").unwrap();
    fs::write(root.join(format!("boot/vmlinuz-{RELEASE}")), "kernel").unwrap();
    std::os::unix::fs::symlink("usr/lib", root.join("lib")).unwrap();
    let depmod = Command::new("depmod").arg("-b").arg(&root).arg(RELEASE).output();
    let depmod = depmod.expect("this test needs depmod: install kmod");
    assert!(depmod.status.success(), "{depmod:?}");
}

/// Packs with an initrd that trusts the site's key; the revision, and the policy as its initrd has it.
fn pack(site: &Site, rules: &[&str]) -> (RevisionRef, Vec<u8>) {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dracut-module/55beeswarm");
    let (key, module) = (site.path("site.key"), module.to_str().unwrap());
    let args = ["--sign-key", &key, "--empty-password", "--client", "/bin/true"];
    // the default takes ten times as long
    let dracut =
        ["--dracut-module", module, "--initrd-tool", "dracut-busybox", "--dracut-arg=--gzip"];
    let revision = site.pack_with("override", &[&args[..], &dracut, rules].concat());
    let initrd = site.file(&revision, "initrd.img");
    let list =
        Command::new("lsinitrd").args(["-f", "etc/beeswarm/trust.json"]).arg(initrd).output();
    let policy = list.unwrap().stdout;
    assert!(!policy.is_empty(), "no policy is in the initrd");
    (revision, policy)
}

/// A node that boots what a kernel command line says, with that policy in its initrd.
pub(super) struct Boot<'a> {
    cluster: &'a Cluster,
    folder: PathBuf,
    process: Proc,
}

impl<'a> Boot<'a> {
    pub(super) fn start(
        cluster: &'a Cluster,
        node: &Node,
        name: &str,
        line: &str,
        policy: Option<&[u8]>,
    ) -> Self {
        let folder = node.scratch().join(name);
        fs::create_dir(cluster.outside(&folder)).unwrap();
        let mac = node.mac();
        let line = format!(
            "{line} beeswarm.node={mac} beeswarm.report=http://{ADMIN}:6969 beeswarm.lsd=off"
        );
        fs::write(cluster.outside(&folder.join("cmdline")), line).unwrap();
        if let Some(policy) = policy {
            fs::write(cluster.outside(&folder.join("trust.json")), policy).unwrap();
        }
        let script = "cd \"$1\" && \"$0\" boot --json --cmdline cmdline --trust trust.json \
                      --root \"$1/root\" --run \"$1/run\" || exit $?\n\
                      test \"$(cat root/etc/version)\" = override";
        let command = Cmd::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(program("bee-initrd-client").unwrap())
            .arg(&folder);
        Self { cluster, folder, process: node.spawn(&command).unwrap() }
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.cluster.outside(&self.folder.join(name))
    }

    pub(super) fn event(&mut self, name: &str) -> Value {
        wait_for_event(&mut self.process, |event| event["event"] == name)
    }

    /// It ends with this code and word, and with nothing mounted; the tracker knows why.
    fn refused(mut self, exit: i32, word: &str, text: &str) {
        let failed = self.event("failed");
        assert_eq!((&failed["exit"], &failed["refused"]), (&exit.into(), &word.into()), "{failed}");
        let message = failed["message"].as_str().unwrap();
        assert!(message.contains(text), "{text}: {message}");
        assert_eq!(ended(&mut self.process), Some(exit), "{message}");
        assert!(!self.outside("run/boot.json").exists(), "it was mounted");
        told_to_the_tracker(self.cluster, word, text);
    }
}

impl Drop for Boot<'_> {
    fn drop(&mut self) {
        // its mounts went with its namespace; the device stays
        let Ok(record) = fs::read(self.outside("run/boot.json")) else { return };
        let device = BootRecord::parse(&record).unwrap().device;
        assert!(Command::new("losetup").args(["--detach", &device]).status().unwrap().success());
    }
}

#[test]
fn a_leave_that_was_packed_lets_a_node_trust_another_key() {
    let cluster = Cluster::start("override", 1, BitRate::mbit(100));
    let site = Site::new(&cluster.store);
    make_bootable(&site);
    let _tracker = cluster.tracker();
    let (revision, strict) = pack(&site, &[]);
    let (same, lenient) = pack(&site, &["--allow-key-override"]);
    let _seeder = cluster.seeder(&[]);
    let secret = site.path("stranger.key");
    for revision in [&revision, &same] {
        let sign = ["sign", &revision.to_string(), "--sign-key", &secret, "--empty-password"];
        site.packer(&[&sign[..], &["--store", cluster.store.root().to_str().unwrap()]].concat());
    }
    let (key, url) = (site.key("stranger.pub"), at(&same));
    let id = |name: &str| {
        let key: proto::signature::PublicKey = site.key(name).parse().unwrap();
        key.id().to_string()
    };
    let asked = format!("root=beeswarm:{url} beeswarm.key={key}");

    let node = &cluster.nodes[0];
    let boot = Boot::start(&cluster, node, "strict", &asked, Some(&strict));
    boot.refused(13, "policy", "pack the initrd with --allow-key-override");
    let unasked = format!("root=beeswarm:{url}");
    let boot = Boot::start(&cluster, node, "unasked", &unasked, Some(&lenient));
    boot.refused(8, "wrong-key", &format!("trusted is {}", id("site.pub")));

    let mut boot = Boot::start(&cluster, node, "lenient", &asked, Some(&lenient));
    boot.event("handover");
    assert_eq!(ended(&mut boot.process), Some(0), "another root is mounted");
    let record = fs::read(boot.outside("run/boot.json")).unwrap();
    assert_eq!(BootRecord::parse(&record).unwrap().signed_by, Some(id("stranger.pub")));
}
