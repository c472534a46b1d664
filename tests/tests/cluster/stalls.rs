//! What stops a node that has network, tracker and peers: real clients stop, and their pages say why.

use std::fs;

use lab::{BitRate, Cmd};
use nix::sys::signal::Signal;
use proto::geometry::PieceIndex;

use super::fixture::{ADMIN, Cluster, wait_complete, wait_for_event, wait_percent};
use super::hashes::{Content, announce, liar};
use super::key_override::Boot;
use super::page;
use super::signed::{Site, at};

#[test]
fn a_seeder_that_hangs_and_a_peer_that_lies_are_named() {
    let cluster = Cluster::start("stalls", 3, BitRate::mbit(8));
    let [waiting, deceived, lying] = &cluster.nodes[..] else { panic!("three nodes") };
    let url = format!("http://{ADMIN}:6969/announce");
    let loose = cluster.loose(110, 4 << 20, &[&url]);
    let _tracker = cluster.tracker_for_all();
    let content = Content::new(112, 1 << 20, 128 << 10);
    let _asked = liar::start(lying, &content, PieceIndex(2), || ());
    announce(lying, &content, 1);
    let of_liar = content.offer().torrent;
    let _deceived = page::fetch(deceived, of_liar.to_str().unwrap(), &["--tracker", &url]);
    let seeder = cluster.seed(&cluster.admin, &loose);
    let mut fetch = page::fetch(waiting, loose.torrent.to_str().unwrap(), &[]);

    wait_percent(&mut fetch, 10.0);
    // its kernel still answers for it
    seeder.signal(Signal::SIGSTOP);
    page::troubled(&cluster, waiting, "peers, but no data", "connected, none sends for");
    seeder.signal(Signal::SIGCONT);
    wait_complete(&mut fetch);

    let who = format!("peer {} is banned for it", lying.ip());
    page::troubled(&cluster, deceived, "wrong data from a peer", &who);
}

#[test]
fn a_boot_that_ends_before_its_time_is_named() {
    let cluster = Cluster::start("ends", 3, BitRate::mbit(100));
    let [small, broken, quiet] = &cluster.nodes[..] else { panic!("three nodes") };
    let site = Site::new(&cluster.store);
    fs::create_dir(site.path("root/sbin")).unwrap();
    fs::write(site.path("root/sbin/init"), "#!/bin/sh\n").unwrap();
    // random bytes are no file system
    let [noise, root] = [cluster.publish(111, 2 << 20).reference, site.pack("1", &[])];
    let config = site.path("tracker.toml");
    fs::write(&config, "seeder_patience_secs = 3\n").unwrap();
    let _tracker = cluster.tracker_with(&["--config", &config]);
    let mut seeder = cluster.seeder(&[]);
    let name = root.to_string();
    wait_for_event(&mut seeder, |e| e["event"] == "seeding" && e["revision"] == name.as_str());

    let tmpfs = Cmd::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]);
    let mounted = small.run(&tmpfs.arg(small.scratch())).unwrap();
    assert!(mounted.status.success(), "{mounted:?}");
    let _small = page::fetch(small, &at(&noise), &[]);
    let source = |revision| format!("root=beeswarm:{}", at(revision));
    let _broken = Boot::start(&cluster, broken, "broken", &source(&noise), None);
    // nobody starts its re-seeder
    let mut boot = Boot::start(&cluster, quiet, "quiet", &source(&root), None);

    page::troubled(&cluster, small, "too little memory", "no room for");
    page::troubled(&cluster, broken, "mount failed", "holds neither a squashfs nor an EROFS");
    boot.event("handover");
    page::troubled(&cluster, quiet, "seeder not started", "it went over to its root");
}
