//! `beeswarm.key=` on the kernel command line against the policy in the initrd: another key counts only where
//! the policy lets it.

use std::path::PathBuf;

use proto::trust_policy::TrustPolicy;
use proto::unix_time::UnixTime;

use crate::boot::Machine;
use crate::image::Image;
use crate::process::Process;
use crate::server::Server;
use crate::signed::{Bed, Key, check};

/// A bed whose image is signed by a key that no initrd of these tests has.
struct Foreign {
    bed: Bed,
    key: Key,
}

impl Foreign {
    fn new() -> Self {
        let server = Server::start();
        let image = Image::root(&[server.url("/announce")]);
        let (bed, key) = (Bed::of(server, image), Key::new());
        bed.put_signature(&key.sign(&bed.image.manifest, "timestamp:1000", &[]));
        Self { bed, key }
    }

    /// Boots with the bed's own key in the initrd, and this on the kernel command line.
    fn boot(
        &self,
        allow_override: bool,
        not_before: Option<u64>,
        more: &str,
    ) -> (Machine, Process) {
        let url = self.bed.server.url("/rev/");
        let machine = Machine::new(&format!(
            "root=beeswarm:{url} beeswarm.listen=127.0.0.1:0 beeswarm.node=52:54:00:00:00:0a \
             beeswarm.report={} {more}",
            self.bed.server.url("")
        ));
        let trust = self.policy(&machine, allow_override, not_before);
        let then = "test \"$(cat $root/etc/hostname)\" = from-the-image";
        let process = machine.boot(&["--trust", trust.to_str().unwrap()], then);
        (machine, process)
    }

    fn policy(&self, at: &Machine, allow_override: bool, not_before: Option<u64>) -> PathBuf {
        let policy = TrustPolicy::new(vec![self.bed.key.public()]).unwrap();
        let not_before = not_before.map(UnixTime);
        let policy = TrustPolicy { allow_override, not_before, ..policy };
        let path = at.path("trust.json");
        std::fs::write(&path, policy.to_bytes().unwrap()).unwrap();
        path
    }

    fn argument(&self) -> String {
        format!("beeswarm.key={}", self.key.public())
    }

    /// Nothing is mounted; console and tracker are told why.
    fn refused(
        &self,
        (machine, mut process): (Machine, Process),
        exit: i32,
        word: &str,
        text: &str,
    ) {
        check(&process.event("failed"), exit, word, &[text]);
        assert_eq!(process.exit(), exit);
        for path in ["run/image", "run/boot.json", "root"] {
            assert!(!machine.path(path).exists(), "{word}: {path} is there");
        }
        self.bed.heard(word);
    }
}

#[test]
fn another_key_counts_where_the_initrd_lets_it() {
    let foreign = Foreign::new();
    let (machine, mut process) = foreign.boot(true, None, &foreign.argument());
    let id = foreign.key.public().id().to_string();
    let note = process.event("note");
    assert!(note["text"].as_str().unwrap().contains(&format!("signed by key {id} ")), "{note}");
    process.event("handover");
    assert_eq!(process.exit(), 0);
    assert_eq!(machine.record().signed_by, Some(id));
    // the rest of the policy stays: the argument makes no old revision new
    let old = foreign.boot(true, Some(1001), &foreign.argument());
    foreign.refused(old, 12, "too-old", "before 1970-01-01T00:16:41Z");
}

#[test]
fn another_key_is_refused_where_the_initrd_does_not_let_it() {
    let foreign = Foreign::new();
    let (asked, baked) = (foreign.key.public().id(), foreign.bed.key.public().id());
    let text = format!("beeswarm.key= names key {asked}, but this initrd accepts only {baked}");
    foreign.refused(foreign.boot(false, None, &foreign.argument()), 13, "policy", &text);
    assert_eq!(foreign.bed.server.requests("/rev/manifest.json"), 0, "asked before it knew");
}

#[test]
fn a_leave_that_is_not_used_changes_nothing() {
    let foreign = Foreign::new();
    let baked = foreign.bed.key.public().id();
    let text = format!("trusted is {baked}");
    foreign.refused(foreign.boot(true, None, ""), 8, "wrong-key", &text);
    // and where it is used, the baked key counts no more: it replaces, it does not add
    let manifest = &foreign.bed.image.manifest;
    foreign.bed.put_signature(&foreign.bed.key.sign(manifest, "timestamp:1000", &[]));
    let text = format!("signed by key {baked}");
    foreign.refused(foreign.boot(true, None, &foreign.argument()), 8, "wrong-key", &text);
}
