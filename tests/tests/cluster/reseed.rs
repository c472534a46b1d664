//! The running node's service: it seeds from the loop device, unprivileged, and comes back.

use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;

use lab::{BitRate, Cmd, Node, Proc, program};
use proto::boot_record::{BOOT_RECORD_VERSION, BootRecord};
use proto::event::Sources;
use proto::metainfo::Metainfo;

use super::fixture::{ADMIN, Cluster, Revision, wait_complete, wait_for_event};

const IMAGE: usize = 4 << 20;

/// A loop device on a file; detached when dropped.
pub(super) struct Loop(PathBuf);

impl Loop {
    pub(super) fn attach(file: &std::path::Path) -> Loop {
        let output = Command::new("losetup").args(["-r", "-f", "--show"]).arg(file).output();
        let output = output.expect("losetup (package mount)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Loop(String::from_utf8(output.stdout).unwrap().trim().into())
    }

    fn number(&self) -> (u32, u32) {
        let device = fs::metadata(&self.0).unwrap().st_rdev();
        let part = |n: u64| u32::try_from(n & 0xff).unwrap();
        (part(device >> 8), part(device))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

fn service(cluster: &Cluster, node: &Node, revision: &Revision, device: &Loop) -> Proc {
    run(cluster, node, &record(node, revision, device), &[])
}

/// What the boot of a revision leaves on a node.
pub(super) fn record(node: &Node, revision: &Revision, device: &Loop) -> BootRecord {
    let metainfo = Metainfo::parse(&fs::read(&revision.torrent).unwrap()).unwrap();
    BootRecord {
        version: BOOT_RECORD_VERSION,
        device: device.0.to_str().unwrap().to_owned(),
        device_number: device.number(),
        length: revision.image.len() as u64,
        info_hash: metainfo.info_hash,
        torrent: revision.torrent.to_str().unwrap().to_owned(),
        trackers: metainfo.trackers,
        report: Some(format!("http://{ADMIN}:6969")),
        node: Some(node.mac().parse().unwrap()),
        token: None,
        manifest_sha256: None,
        signed_by: None,
        verity: None,
        source: revision.url(),
        upload_limit: None,
        no_lsd: false,
        sources: Sources::default(),
    }
}

/// `bee-seeder node` with this record and further flags.
pub(super) fn run(cluster: &Cluster, node: &Node, record: &BootRecord, flags: &[&str]) -> Proc {
    let path = node.scratch().join("boot.json");
    fs::write(cluster.outside(&path), record.to_bytes().unwrap()).unwrap();
    let command = Cmd::new(program("bee-seeder").unwrap())
        .args(["node", "--json", "--user", "nobody", "--listen", "0.0.0.0:6881", "--boot-record"])
        .arg(path)
        .args(flags);
    node.spawn(&command).unwrap()
}

fn seeding(proc: &mut Proc) {
    wait_for_event(proc, |e| e["event"] == "seeding");
}

#[test]
fn a_node_serves_the_image_alone_and_again_after_it_was_killed() {
    let cluster = Cluster::start("reseed", 3, BitRate::mbit(100));
    let revision = cluster.publish(20, IMAGE);
    let image = cluster.store.revision(&revision.reference).unwrap().image();
    let _tracker = cluster.tracker();
    let _http = cluster.seeder(&["--no-swarm", "--http-exclude-image"]);
    let device = Loop::attach(&image);
    let [server, first, second] = &cluster.nodes[..] else { panic!("three nodes") };
    let mut service_proc = service(&cluster, server, &revision, &device);
    seeding(&mut service_proc);
    let status = fs::read_to_string(format!("/proc/{}/status", service_proc.pid())).unwrap();
    let line = |key: &str| status.lines().find(|l| l.starts_with(key)).unwrap().to_owned();
    for key in ["Uid:", "Gid:"] {
        let ids = line(key);
        assert!(ids.split_whitespace().skip(1).all(|id| id != "0"), "{ids}");
    }
    assert_eq!(line("CapEff:").split_whitespace().nth(1), Some("0000000000000000"));
    for node in [first, second] {
        let done = wait_complete(&mut cluster.fetch(node, &revision.url()));
        assert_eq!(done["sources"]["peers"].as_u64(), Some(IMAGE as u64), "{done}");
        assert!(cluster.image_on(node) == revision.image);
        service_proc.kill().unwrap();
        service_proc = service(&cluster, server, &revision, &device);
        seeding(&mut service_proc);
    }
}

#[test]
fn a_device_with_another_image_is_not_announced() {
    let cluster = Cluster::start("wrong-device", 1, BitRate::mbit(100));
    let booted = cluster.publish(21, IMAGE);
    let other = cluster.publish(22, IMAGE);
    let _tracker = cluster.tracker();
    let device = Loop::attach(&cluster.store.revision(&other.reference).unwrap().image());
    let mut proc = service(&cluster, &cluster.nodes[0], &booted, &device);
    let status = proc.wait(super::fixture::LIMIT).unwrap().expect("it gives up");
    assert!(!status.success());
    let log = fs::read_to_string(proc.log_path()).unwrap();
    assert!(log.contains("another image") || log.contains("not the image"), "{log}");
    let scrape = cluster
        .admin
        .connect(format!("{ADMIN}:6969").parse().unwrap(), std::time::Duration::from_secs(5));
    let swarm = lab_get(scrape.unwrap(), "/api/v1/swarm");
    assert!(!swarm.contains("\"seeds\":1") && !swarm.contains("\"complete\":1"), "{swarm}");
}

fn lab_get(mut stream: std::net::TcpStream, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    write!(stream, "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}
