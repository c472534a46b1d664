//! `bee-seeder seed`: one torrent.

use std::fs;

use sys::loop_device::{self, AttachOptions};

use crate::leecher::fetch;
use crate::program::Program;
use crate::support::{image, torrent};

#[test]
fn what_is_not_the_image_is_refused_before_anything_is_announced() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let bytes = image(200_000, 1);
    fs::write(path("torrent"), torrent(&bytes, &[]).to_bytes().unwrap()).unwrap();
    fs::write(path("short"), &bytes[..100_000]).unwrap();
    fs::write(path("html"), "<html>not found</html>").unwrap();
    for (torrent, data, code, text) in [
        ("torrent", "short", 4, "100000 bytes, but the torrent describes 200000"),
        ("torrent", "none", 3, "none"),
        ("html", "short", 3, "not usable"),
        ("none", "short", 3, "cannot read the torrent"),
    ] {
        let (torrent, data) = (path(torrent), path(data));
        let args = ["seed", "--torrent", &torrent, "--data", &data, "--listen", "127.0.0.1:0"];
        let (status, events, log) = Program::start(&args, &[]).end();
        assert_eq!(status.code(), Some(code), "{log}");
        assert!(log.contains(text), "{log}");
        assert!(events.is_empty(), "{events:?}");
    }
}

#[test]
fn a_file_and_a_block_device_reach_a_peer_whole() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = image(1 << 20, 1);
    let metainfo = torrent(&bytes, &[]);
    let (meta, data) = (dir.path().join("torrent"), dir.path().join("image"));
    fs::write(&meta, metainfo.to_bytes().unwrap()).unwrap();
    // The device is larger than the image on it: what follows is never sent.
    let larger = [&bytes[..], &[0xEE; 8192]].concat();
    fs::write(&data, larger).unwrap();
    let options = AttachOptions { autoclear: true, ..AttachOptions::default() };
    let device = loop_device::attach(&data, &options).expect("loop devices need root");
    for path in [device.path(), &data] {
        let [meta, path] = [&meta, path].map(|path| path.to_str().unwrap());
        let listen = ["--listen", "127.0.0.1:0", "--upload-limit", "800Mbit"];
        let args = [&["seed", "--torrent", meta, "--data", path], &listen[..]].concat();
        let seeder = Program::start(&args, &[]);
        let address = seeder.address("swarm");
        assert!(fetch(&metainfo, address, || false).unwrap() == bytes, "{path}");
        seeder.event("uploaded", |event| event["image_bytes"] == 1 << 20);
        let events = seeder.stop();
        assert_eq!(events.last().unwrap()["image_bytes"], 1 << 20);
    }
}

#[test]
fn an_image_cut_off_under_the_seeder_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = image(1 << 20, 1);
    let metainfo = torrent(&bytes, &[]);
    let (meta, data) = (dir.path().join("torrent"), dir.path().join("image"));
    fs::write(&meta, metainfo.to_bytes().unwrap()).unwrap();
    fs::write(&data, &bytes).unwrap();
    let [meta, path] = [&meta, &data].map(|path| path.to_str().unwrap());
    let args = ["seed", "--torrent", meta, "--data", path, "--listen", "127.0.0.1:0"];
    let seeder = Program::start(&args, &[]);
    let address = seeder.address("swarm");
    fs::File::options().write(true).open(&data).unwrap().set_len(300_000).unwrap();
    let mut stopped = false;
    let got = fetch(&metainfo, address, || {
        stopped = stopped || seeder.poll("stopped").is_some();
        stopped
    });
    assert!(got.unwrap_err() <= 300_000);
    let (status, _, log) = seeder.end();
    assert_eq!(status.code(), Some(4), "{log}");
    assert!(log.contains("cut off") || log.contains("cannot read the image"), "{log}");
}
