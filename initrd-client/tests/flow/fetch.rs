//! `fetch` when everything works.

use std::os::unix::fs::FileExt as _;

use crate::image::Image;
use crate::peers::Seeder;
use crate::process::{Process, fetch_args, fetch_args_with_lsd};
use crate::server::{Answer, Server};

#[test]
fn an_image_comes_complete_and_says_where_from() {
    let server = Server::start();
    let image = Image::noise(1_500_001, &[server.url("/announce")]);
    let _seeder = Seeder::start(&image);
    server.put("/x.torrent", Answer::Bytes(image.torrent.clone()));
    let mut args = fetch_args(&server.url("/x.torrent"), &image.output());
    args.extend(["--report".into(), server.url(""), "--node".into(), "52:54:00:00:00:09".into()]);
    let mut process = Process::fetch(args);
    let complete = process.event("complete");
    assert_eq!(process.exit(), 0);
    assert_eq!(complete["bytes"], 1_500_001);
    assert_eq!(complete["sources"]["admin"], 1_500_001, "{complete}");
    assert_eq!(complete["hash_failures"], 0);
    assert!(complete["memory"]["peak"].as_u64().unwrap() > 0);
    assert_eq!(std::fs::read(image.output()).unwrap(), image.bytes);
    assert!(process.seen().iter().any(|event| event["event"] == "discover"));
    assert!(server.requests("/api/v1/nodes/52:54:00:00:00:09/events") > 0);
    let batches: Vec<_> =
        server.events().iter().map(|body| proto::event::EventBatch::parse(body).unwrap()).collect();
    let stages: Vec<_> =
        batches.iter().flat_map(|batch| &batch.events).map(|event| event.kind.stage()).collect();
    assert!(stages.contains(&"discover") && stages.contains(&"verify"), "{stages:?}");
}

#[test]
fn what_is_there_is_kept() {
    let server = Server::start();
    let image = Image::noise(1_000_000, &[server.url("/announce")]);
    // all but the last pieces, and one of those damaged
    std::fs::write(image.output(), &image.bytes[..800_000]).unwrap();
    let file = std::fs::File::options().write(true).open(image.output()).unwrap();
    file.write_all_at(b"damage", 70_000).unwrap();
    let _seeder = Seeder::start(&image);
    let mut process =
        Process::fetch(fetch_args(image.torrent_file().to_str().unwrap(), &image.output()));
    let complete = process.event("complete");
    assert_eq!(process.exit(), 0);
    let fetched = complete["sources"]["admin"].as_u64().unwrap();
    // 12 whole pieces of 64 KiB were there, one of them damaged
    assert_eq!(fetched, 1_000_000 - 11 * 65_536, "{complete}");
    assert_eq!(std::fs::read(image.output()).unwrap(), image.bytes);
    // and once more: nothing is left to fetch
    let mut again =
        Process::fetch(fetch_args(image.torrent_file().to_str().unwrap(), &image.output()));
    let complete = again.event("complete");
    assert_eq!(complete["sources"]["admin"], 0, "{complete}");
    assert_eq!(again.exit(), 0);
}

#[test]
fn a_finished_peer_feeds_the_next_one() {
    let server = Server::start();
    let image = Image::noise(1_000_000, &[server.url("/announce")]);
    let seeder = Seeder::start(&image);
    let torrent = image.torrent_file();
    let mut args = fetch_args(torrent.to_str().unwrap(), &image.output());
    args.push("--keep-seeding".into());
    let mut first = Process::fetch(args);
    first.event("complete");
    first.event("seeding");
    drop(seeder);
    let output = image.dir.path().join("second");
    let mut second = Process::fetch(fetch_args(torrent.to_str().unwrap(), &output));
    let complete = second.event("complete");
    assert_eq!(complete["sources"]["peers"], 1_000_000, "{complete}");
    assert_eq!(second.exit(), 0);
    assert_eq!(std::fs::read(output).unwrap(), image.bytes);
    first.wait_for("uploaded bytes", |event| event["uploaded"].as_u64() >= Some(1_000_000));
    first.terminate();
    assert_eq!(first.exit(), 0);
}

#[test]
fn without_a_tracker_a_peer_on_this_network_is_found() {
    // the length makes it an image that no other test has
    let image = Image::noise(777_777, &["http://127.0.0.1:9/announce".to_owned()]);
    let _seeder = Seeder::start(&image);
    let torrent = image.torrent_file();
    let args = fetch_args_with_lsd(torrent.to_str().unwrap(), &image.output());
    let complete = Process::fetch(args).event("complete");
    assert_eq!(complete["sources"]["admin"], 777_777, "{complete}");
    assert_eq!(std::fs::read(image.output()).unwrap(), image.bytes);
    // and not when that is not wanted
    std::fs::remove_file(image.output()).unwrap();
    let mut deaf = Process::fetch(fetch_args(torrent.to_str().unwrap(), &image.output()));
    deaf.stall("127.0.0.1:9");
}

#[test]
fn seed_for_ends_by_itself() {
    let server = Server::start();
    let image = Image::noise(100_000, &[server.url("/announce")]);
    let _seeder = Seeder::start(&image);
    let mut args = fetch_args(image.torrent_file().to_str().unwrap(), &image.output());
    args.extend(["--seed-for".into(), "2".into()]);
    let mut process = Process::fetch(args);
    process.event("complete");
    process.event("seeding");
    assert_eq!(process.exit(), 0);
}
