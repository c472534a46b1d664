//! `boot`: real loop devices and mounts, in a mount namespace that ends with the test.

use std::path::PathBuf;
use std::process::Command;

use proto::boot_record::BootRecord;
use proto::event::{EventBatch, EventKind, StallCause};
use proto::hash::Sha256Digest;
use proto::merkle;

use crate::image::Image;
use crate::peers::Seeder;
use crate::process::{Process, program};
use crate::server::{Answer, Server};
use crate::signed::{Bed, check};

/// A place to boot in.
pub(crate) struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new(cmdline: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // peers of other tests are on the same loopback interface
        let cmdline = format!("{cmdline} beeswarm.lsd=off");
        std::fs::write(dir.path().join("cmdline"), cmdline).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Boots, then runs `then` (a shell script with $root, $run and $boot) in the same namespace.
    pub(crate) fn boot(&self, extra: &[&str], then: &str) -> Process {
        self.script(extra, &format!("$boot || exit $?; {then}"))
    }

    /// Runs a shell script with $root, $run and $boot in a mount namespace.
    pub(crate) fn script(&self, extra: &[&str], script: &str) -> Process {
        let mut boot = format!(
            "{} boot --json --cmdline {} --root {} --run {}",
            program().display(),
            self.path("cmdline").display(),
            self.path("root").display(),
            self.path("run").display()
        );
        for arg in extra {
            boot.push_str(&format!(" {arg}"));
        }
        let script = format!(
            "root={}; run={}; boot='{boot}'; {script}",
            self.path("root").display(),
            self.path("run").display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        Process::spawn(command)
    }

    pub(crate) fn record(&self) -> BootRecord {
        BootRecord::parse(&std::fs::read(self.path("run/boot.json")).unwrap()).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // the namespace is gone, and with it every mount: nothing holds the device but itself
        if let Ok(bytes) = std::fs::read(self.path("run/boot.json")) {
            let record = BootRecord::parse(&bytes).unwrap();
            sys::loop_device::detach(record.device.as_ref()).unwrap();
        }
    }
}

pub(crate) fn serve(server: &Server, image: &Image) {
    server.put("/rev/manifest.json", Answer::Bytes(image.manifest.clone()));
    server.put("/rev/rootimg.torrent", Answer::Bytes(image.torrent.clone()));
}

#[test]
fn a_root_is_mounted_and_the_record_says_how_to_go_on() {
    let server = Server::start();
    let image = Image::root(&[server.url("/announce")]);
    serve(&server, &image);
    let _seeder = Seeder::start(&image);
    let pin = proto::hash::Sha256Digest::of(&image.manifest);
    let machine = Machine::new(&format!(
        "quiet root=beeswarm:{} beeswarm.pin=sha256:{pin} beeswarm.node=52:54:00:00:00:05 \
         beeswarm.listen=127.0.0.1:0 beeswarm.upload_limit=10MiB beeswarm.overlay=tmpfs:16MiB\n",
        server.url("/rev/")
    ));
    let mut process = machine.boot(
        &[],
        "set -e
         test \"$(cat $root/etc/hostname)\" = from-the-image
         echo changed > $root/etc/hostname; test \"$(cat $root/etc/hostname)\" = changed
         test \"$(stat -c %a $root)\" = 755
         findmnt -n -o FSTYPE $root | grep -q overlay
         findmnt -n -o SIZE $run/image | grep -q .
         ! findmnt -n $run/lower; ! findmnt -n $run/overlay
         cmp $run/image/rootimg.sfs $(sed -n 's/.*\"device\": \"\\(.*\\)\",/\\1/p' $run/boot.json)
         $boot # once more: nothing to do
         echo '{\"event\":\"checked\"}'",
    );
    let verify = process.event("complete");
    assert_eq!(verify["sources"]["admin"], image.bytes.len() as u64);
    let device = process.event("attach")["device"].as_str().unwrap().to_owned();
    process.event("mount");
    assert!(process.event("handover")["peak_memory"].as_u64().unwrap() > 0);
    let note = process.event("note");
    assert!(note["text"].as_str().unwrap().contains("mounted already"), "{note}");
    process.event("checked");
    assert_eq!(process.exit(), 0);
    let record = machine.record();
    assert_eq!(record.device, device);
    assert_eq!(record.length, image.bytes.len() as u64);
    assert_eq!(record.info_hash, image.metainfo.info_hash);
    assert_eq!(record.manifest_sha256, Some(pin));
    assert_eq!(record.trackers, image.metainfo.trackers);
    assert_eq!(record.node.unwrap().to_string(), "52:54:00:00:00:05");
    assert_eq!(record.report.as_deref(), Some(server.url("").as_str()));
    assert_eq!(record.upload_limit.unwrap().0, 10 << 20);
    assert_eq!(record.sources.admin, image.bytes.len() as u64);
    assert_eq!(record.torrent, machine.path("run/rootimg.torrent").display().to_string());
    assert_eq!(std::fs::read(machine.path("run/rootimg.torrent")).unwrap(), image.torrent);
    // the tracker of the torrent heard of every stage
    let stages: Vec<String> = server
        .events()
        .iter()
        .flat_map(|body| proto::event::EventBatch::parse(body).unwrap().events)
        .map(|event| event.kind.stage().to_owned())
        .collect();
    for stage in ["discover", "verify", "attach", "mount", "handover"] {
        assert!(stages.iter().any(|seen| seen == stage), "{stage}: {stages:?}");
    }
}

#[test]
fn an_erofs_image_is_mounted_as_well() {
    let server = Server::start();
    let image = Image::erofs(&[server.url("/announce")]);
    assert_eq!(image.bytes[1024..1028], 0xE0F5_E1E2_u32.to_le_bytes());
    serve(&server, &image);
    let _seeder = Seeder::start(&image);
    let pin = proto::hash::Sha256Digest::of(&image.manifest);
    let machine = Machine::new(&format!(
        "root=beeswarm:{} beeswarm.pin=sha256:{pin} beeswarm.listen=127.0.0.1:0",
        server.url("/rev/")
    ));
    let mut process = machine.boot(
        &[],
        "set -e
         test \"$(cat $root/etc/hostname)\" = from-the-image
         test \"$(stat -c %s $root/filler)\" = 400000
         echo changed > $root/etc/hostname; test \"$(cat $root/etc/hostname)\" = changed
         echo '{\"event\":\"checked\"}'",
    );
    process.event("mount");
    process.event("checked");
    assert_eq!(process.exit(), 0);
}

#[test]
fn a_torrent_in_the_initrd_needs_no_web_server() {
    let server = Server::start();
    let image = Image::root(&[server.url("/announce")]);
    let _seeder = Seeder::start(&image);
    let machine = Machine::new(&format!(
        "root=beeswarm:{} beeswarm.pin=btih:{} beeswarm.listen=127.0.0.1:0",
        image.torrent_file().display(),
        image.metainfo.info_hash
    ));
    let mut process =
        machine.boot(&[], "test -e $root/sbin/init && echo '{\"event\":\"checked\"}'");
    process.event("checked");
    assert_eq!(process.exit(), 0);
    assert_eq!(machine.record().manifest_sha256, None);
}

#[test]
fn an_interrupted_boot_can_be_started_again() {
    let server = Server::start();
    let image = Image::root(&[server.url("/announce")]);
    serve(&server, &image);
    let machine =
        Machine::new(&format!("root=beeswarm:{} beeswarm.listen=127.0.0.1:0", server.url("/rev/")));
    // nobody has the image yet: the first attempt cannot do more than wait
    let mut process = machine.script(
        &[],
        "timeout --preserve-status --signal TERM 3 $boot; echo \"{\\\"event\\\":\\\"ended\\\",\\\"code\\\":$?}\"
         test -s $run/image/rootimg.sfs && $boot && test -e $root/sbin/init",
    );
    process.event("failed");
    assert_eq!(process.event("ended")["code"], 6);
    let _seeder = Seeder::start(&image);
    process.event("handover");
    assert_eq!(process.exit(), 0);
}

#[test]
fn wrong_kernel_arguments_end_it_at_once() {
    for (line, part) in [
        ("quiet", "expected root=beeswarm:"),
        ("root=/dev/sda1", "root=/dev/sda1"),
        ("root=beeswarm:https://h/", "https"),
        ("root=beeswarm:http://h/ beeswarm.pni=x", "beeswarm.pni"),
        ("root=beeswarm:/x.torrent beeswarm.pin=1", "sha256:"),
    ] {
        let machine = Machine::new(line);
        let mut process = machine.boot(&[], "true");
        let failed = process.event("failed");
        assert!(failed["message"].as_str().unwrap().contains(part), "{line}: {failed}");
        assert_eq!(process.exit(), 2, "{line}");
    }
}

/// The cause of the failure that a tracker heard of.
fn failure(server: &Server) -> Option<StallCause> {
    let batches = server.events().into_iter().map(|body| EventBatch::parse(&body).unwrap());
    batches.flat_map(|batch| batch.events).find_map(|event| match event.kind {
        EventKind::Failed { cause, .. } => cause,
        _ => None,
    })
}

#[test]
fn what_cannot_be_mounted_is_named() {
    let server = Server::start();
    let image = Image::noise(512 << 10, &[server.url("/announce")]);
    serve(&server, &image);
    let _seeder = Seeder::start(&image);
    let machine = Machine::new(&format!(
        "root=beeswarm:{} beeswarm.node=52:54:00:00:00:05 beeswarm.listen=127.0.0.1:0",
        server.url("/rev/")
    ));
    let mut process = machine.boot(&[], "true");
    let failed = process.event("failed");
    assert_eq!(failed["cause"], "mount", "{failed}");
    assert_eq!(process.exit(), 5);
    assert_eq!(failure(&server), Some(StallCause::Mount));
}

#[test]
fn too_little_memory_is_said_before_the_first_byte() {
    let server = Server::start();
    let image = Image::root(&[server.url("/announce")]);
    serve(&server, &image);
    let machine = Machine::new(&format!(
        "root=beeswarm:{} beeswarm.node=52:54:00:00:00:05",
        server.url("/rev/")
    ));
    let meminfo = machine.path("meminfo");
    std::fs::write(&meminfo, "MemTotal: 131072 kB\nMemFree: 1 kB\nMemAvailable: 65536 kB\n")
        .unwrap();
    let mut process = machine.boot(&["--meminfo", meminfo.to_str().unwrap()], "true");
    let failed = process.event("failed");
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("only 64 MiB of 128 MiB are free"), "{message}");
    assert_eq!(failed["cause"], "memory");
    assert_eq!(process.exit(), 3);
    // the torrent's tracker is known by then, and hears of it
    assert_eq!(failure(&server), Some(StallCause::Memory));
    assert_eq!(server.requests("/announce"), 0, "something was fetched");
    assert!(!machine.path("run/image").exists());
}

#[test]
fn a_wrong_pin_mounts_nothing() {
    let server = Server::start();
    let image = Image::root(&[server.url("/announce")]);
    serve(&server, &image);
    let machine = Machine::new(&format!(
        "root=beeswarm:{} beeswarm.pin=sha256:{}",
        server.url("/rev/"),
        "00".repeat(32)
    ));
    let mut process = machine.boot(&[], "true");
    assert!(process.event("failed")["message"].as_str().unwrap().contains("beeswarm.pin="));
    assert_eq!(process.exit(), 4);
    assert!(!machine.path("run/image").exists());
}

/// Boots with the policy of the bed's key in the initrd.
fn boot_signed(bed: &Bed, more: &str, then: &str) -> (Machine, Process) {
    let url = bed.server.url("/rev/");
    let machine = Machine::new(&format!("root=beeswarm:{url} beeswarm.listen=127.0.0.1:0 {more}"));
    let trust = bed.key.policy(None);
    let process = machine.boot(&["--trust", trust.to_str().unwrap()], then);
    (machine, process)
}

#[test]
fn a_signed_root_is_mounted_and_the_record_says_by_whom() {
    let server = Server::start();
    let image = Image::root(&[server.url("/announce")]);
    let bed = Bed::of(server, image);
    let (machine, mut process) = boot_signed(&bed, "", "test -e $root/sbin/init");
    process.event("handover");
    assert_eq!(process.exit(), 0);
    assert_eq!(machine.record().signed_by, Some(bed.key.public().id().to_string()));
}

#[test]
fn an_unsigned_root_or_another_key_mounts_nothing() {
    let server = Server::start();
    let image = Image::root(&[server.url("/announce")]);
    let bed = Bed::of(server, image);
    let other = "beeswarm.key=RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let (machine, mut process) = boot_signed(&bed, other, "true");
    check(&process.event("failed"), 13, "policy", &["E7620F1842B4E81F", "beeswarm.key="]);
    assert_eq!(process.exit(), 13);
    bed.server.remove("/rev/manifest.json.minisig");
    let (unsigned, mut process) = boot_signed(&bed, "", "true");
    check(&process.event("failed"), 7, "unsigned", &["bee-packer sign"]);
    assert_eq!(process.exit(), 7);
    for machine in [machine, unsigned] {
        assert!(!machine.path("run/image").exists() && !machine.path("run/boot.json").exists());
    }
}

#[test]
fn an_image_that_was_not_signed_is_not_attached() {
    let server = Server::start();
    let image = Image::root(&[server.url("/announce")]);
    let bed = Bed::of(server, image);
    let digest = merkle::pieces_root(&merkle::blocks(&bed.image.bytes)).to_string();
    let manifest = String::from_utf8(bed.image.manifest.clone()).unwrap();
    assert!(manifest.contains(&digest), "{manifest}");
    let manifest = manifest.replace(&digest, &"09".repeat(32)).into_bytes();
    bed.put("manifest.json", &manifest);
    bed.put_signature(&bed.key.sign(&manifest, "timestamp:1000", &[]));
    let (machine, mut process) = boot_signed(&bed, "", "true");
    let failed = process.event("failed");
    check(&failed, 11, "wrong-image", &["0909"]);
    assert_eq!(process.exit(), 11);
    let stages: Vec<_> = process.seen().iter().map(|event| event["event"].clone()).collect();
    assert!(!stages.iter().any(|stage| stage == "attach" || stage == "complete"), "{stages:?}");
    assert!(!machine.path("run/boot.json").exists());
}

#[test]
fn a_node_without_a_key_says_what_proves_its_image() {
    let server = Server::start();
    let image = Image::root(&[server.url("/announce")]);
    serve(&server, &image);
    let _seeder = Seeder::start(&image);
    for (pin, words) in [
        (String::new(), "nothing proves"),
        (format!("beeswarm.pin=sha256:{}", Sha256Digest::of(&image.manifest)), "pin= alone"),
    ] {
        let url = server.url("/rev/");
        let machine =
            Machine::new(&format!("root=beeswarm:{url} beeswarm.listen=127.0.0.1:0 {pin}"));
        let trust = machine.path("no-policy").display().to_string();
        let mut process = machine.boot(&["--trust", &trust], "true");
        let note = process.event("note");
        assert!(note["text"].as_str().unwrap().contains(words), "{note}");
        process.event("handover");
        assert_eq!(process.exit(), 0);
        assert_eq!(machine.record().signed_by, None);
        assert_eq!(server.requests("/rev/manifest.json.minisig"), 0);
    }
}

#[test]
fn an_image_that_is_no_system_is_refused_and_leaves_nothing() {
    let server = Server::start();
    let image = Image::no_system(&[server.url("/announce")]);
    serve(&server, &image);
    let _seeder = Seeder::start(&image);
    let machine =
        Machine::new(&format!("root=beeswarm:{} beeswarm.listen=127.0.0.1:0", server.url("/rev/")));
    let mut process = machine.boot(&[], "true");
    let device = process.event("attach")["device"].as_str().unwrap().to_owned();
    let failed = process.event("failed");
    assert!(failed["message"].as_str().unwrap().contains("/sbin/init"), "{failed}");
    assert_eq!(process.exit(), 4);
    let number = sys::loop_device::DeviceNumber::of_path(device.as_ref()).unwrap();
    let backing = sys::loop_device::backing_file(number);
    let own = machine.path("run/image/rootimg.sfs");
    assert!(backing.is_none_or(|file| file != own), "{device} is still attached");
}
