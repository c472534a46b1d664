//! `fetch` when something is wrong: the cause is named, and it goes on when the cause is gone.

use crate::boot::serve;
use crate::image::Image;
use crate::peers::Seeder;
use crate::process::{Process, fetch_args};
use crate::server::{Answer, Server};

#[test]
fn a_server_that_comes_late_is_waited_for() {
    let address = Server::start().address(); // closed again at once
    let tracker = Server::start();
    let image = Image::noise(300_000, &[tracker.url("/announce")]);
    let _seeder = Seeder::start(&image);
    let url = format!("http://{address}/rev/manifest.json");
    let mut process = Process::fetch(fetch_args(&url, &image.output()));
    let stall = process.stall("refused");
    assert_eq!(stall["cause"], "source-unreachable");
    assert!(stall["detail"].as_str().unwrap().contains(&address.to_string()), "{stall}");
    let server = Server::start_on(address);
    process.stall("404");
    server.put("/rev/manifest.json", Answer::Status(503));
    process.stall("503");
    server.put("/rev/manifest.json", Answer::Bytes(b"<html>starting up</html>".to_vec()));
    process.stall("a web page");
    server.put("/rev/manifest.json", Answer::Bytes(image.manifest.clone()));
    let mut half = image.torrent.clone();
    half.truncate(100);
    server.put("/rev/rootimg.torrent", Answer::Bytes(half));
    process.stall("SHA-256");
    server.put("/rev/rootimg.torrent", Answer::Bytes(image.torrent.clone()));
    process.event("complete");
    assert_eq!(process.exit(), 0);
}

#[test]
fn a_tracker_that_comes_late_is_waited_for() {
    let address = Server::start().address();
    let image = Image::noise(300_000, &[format!("http://{address}/announce")]);
    let seeder = Seeder::start(&image);
    let mut process =
        Process::fetch(fetch_args(image.torrent_file().to_str().unwrap(), &image.output()));
    let stall = process.stall("refused");
    assert_eq!(stall["cause"], "tracker-unreachable", "{stall}");
    let tracker = Server::start_on(address);
    tracker.put("/announce", Answer::Bytes(b"<html>who are you</html>".to_vec()));
    let stall = process.wait_for("refusal", |event| event["cause"] == "tracker-refuses");
    assert!(!stall["detail"].as_str().unwrap().is_empty());
    tracker.put("/announce", Answer::Failure("this image is not published"));
    process.stall("this image is not published");
    tracker.remove("/announce");
    process.event("complete");
    assert_eq!(process.exit(), 0);
    drop(seeder);
}

#[test]
fn a_tracker_whose_name_does_not_resolve_is_named() {
    let image = Image::noise(300_000, &["http://tracker.invalid:6969/announce".to_owned()]);
    let mut process =
        Process::fetch(fetch_args(image.torrent_file().to_str().unwrap(), &image.output()));
    let stall = process.stall("tracker.invalid");
    assert!(
        ["name-resolution", "tracker-unreachable"].contains(&stall["cause"].as_str().unwrap()),
        "{stall}"
    );
    process.terminate();
    assert_eq!(process.exit(), 6);
}

#[test]
fn another_tracker_can_be_given() {
    let tracker = Server::start();
    let image = Image::noise(300_000, &[tracker.url("/announce")]);
    let _seeder = Seeder::start(&image);
    let wrong = Image::of(image.bytes.clone(), &["http://tracker.invalid/announce".to_owned()]);
    let mut args = fetch_args(wrong.torrent_file().to_str().unwrap(), &wrong.output());
    args.extend(["--tracker".into(), tracker.url("/announce")]);
    let mut process = Process::fetch(args);
    process.event("complete");
    assert_eq!(process.exit(), 0);
}

#[test]
fn a_wrong_pin_ends_it_at_once() {
    let server = Server::start();
    let image = Image::noise(300_000, &[server.url("/announce")]);
    serve(&server, &image);
    for pin in [format!("sha256:{}", "ab".repeat(32)), format!("btih:{}", "ab".repeat(20))] {
        let mut args = fetch_args(&server.url("/rev/"), &image.output());
        args.extend(["--pin".into(), pin]);
        let mut process = Process::fetch(args);
        let failed = process.event("failed");
        assert!(failed["message"].as_str().unwrap().contains("beeswarm.pin="), "{failed}");
        assert_eq!(process.exit(), 4);
    }
    assert!(!image.output().exists(), "something was written");
}

#[test]
fn a_corrupt_torrent_file_is_refused() {
    let image = Image::noise(300_000, &[]);
    let torrent = image.torrent_file();
    std::fs::write(&torrent, &image.torrent[..100]).unwrap();
    let mut process = Process::fetch(fetch_args(torrent.to_str().unwrap(), &image.output()));
    let failed = process.event("failed");
    assert!(failed["message"].as_str().unwrap().contains("no usable torrent"), "{failed}");
    assert_eq!(process.exit(), 4);
    let mut process = Process::fetch(fetch_args("/nonexistent.torrent", &image.output()));
    assert!(process.event("failed")["message"].as_str().unwrap().contains("/nonexistent.torrent"));
    assert_eq!(process.exit(), 2);
}

#[test]
fn too_little_space_is_said_before_the_first_byte() {
    let image = Image::noise(3_000_000, &["http://127.0.0.1:9/announce".to_owned()]);
    let small = image.dir.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("mount -t tmpfs -o size=1m tmpfs \"$1\" && shift && exec \"$@\"");
    command.arg("sh").arg(&small).arg(crate::process::program()).args(["fetch", "--json"]);
    command.args(fetch_args(image.torrent_file().to_str().unwrap(), &small.join("image")));
    let mut process = Process::spawn(command);
    let failed = process.event("failed");
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("no room") && message.contains("3000000"), "{message} (needs root)");
    assert_eq!(process.exit(), 3);
}

#[test]
fn a_lie_never_reaches_the_image() {
    let tracker = Server::start();
    let image = Image::noise(600_000, &[tracker.url("/announce")]);
    let _liar = Seeder::liar(&image);
    let mut process =
        Process::fetch(fetch_args(image.torrent_file().to_str().unwrap(), &image.output()));
    let progress =
        process.wait_for("a hash failure", |event| event["hash_failures"].as_u64() > Some(0));
    assert_eq!(progress["bytes"], 0, "{progress}");
    let written = std::fs::read(image.output()).unwrap();
    assert!(written.iter().all(|byte| *byte == 0), "a lie was written");
    let stall = process.stall("wrong data");
    assert_eq!(stall["cause"], "hash-failures", "{stall}");
    assert!(stall["detail"].as_str().unwrap().contains("peer 127.0.0.1"), "{stall}");
    let _seeder = Seeder::start(&image);
    let complete = process.event("complete");
    assert!(complete["hash_failures"].as_u64() > Some(0), "{complete}");
    assert_eq!(process.exit(), 0);
    assert_eq!(std::fs::read(image.output()).unwrap(), image.bytes);
}
