//! SIGTERM: the tracker is told, and it is over within a second, whoever else hangs.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use proto::announce::AnnounceEvent;

use crate::image::Image;
use crate::process::{Process, fetch_args};
use crate::server::Server;

const SECOND: Duration = Duration::from_secs(1);

/// Sends SIGTERM; the exit code, and how long it took.
fn end(process: &mut Process) -> (i32, Duration) {
    let started = Instant::now();
    process.terminate();
    (process.exit(), started.elapsed())
}

#[test]
fn a_seeding_node_says_good_bye() {
    let tracker = Server::start();
    let image = Image::noise(1_000_000, &[tracker.url("/announce")]);
    std::fs::write(image.output(), &image.bytes).unwrap();
    let mut args = fetch_args(image.torrent_file().to_str().unwrap(), &image.output());
    args.push("--keep-seeding".into());
    let mut process = Process::fetch(args);
    process.event("seeding");
    let end_of_wait = Instant::now() + Duration::from_secs(30);
    while tracker.announced().is_empty() {
        assert!(Instant::now() < end_of_wait, "nothing was announced");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, took) = end(&mut process);
    assert!(code == 0 && took < SECOND, "{code} after {took:?}");
    assert_eq!(tracker.announced(), [AnnounceEvent::Started, AnnounceEvent::Stopped]);
}

#[test]
fn servers_that_never_answer_do_not_hold_up_the_end() {
    // connections are made by the kernel, and nobody takes them
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    for complete in [true, false] {
        let image = Image::noise(1_000_000, &[format!("{url}/announce")]);
        if complete {
            std::fs::write(image.output(), &image.bytes).unwrap();
        }
        let mut args = fetch_args(image.torrent_file().to_str().unwrap(), &image.output());
        args.extend(["--keep-seeding", "--report", &url].map(str::to_owned));
        args.extend(["--node", "52:54:00:00:00:09"].map(str::to_owned));
        let mut process = Process::fetch(args);
        process.event(if complete { "seeding" } else { "progress" });
        let (code, took) = end(&mut process);
        assert!(took < SECOND, "{took:?}");
        assert_eq!(code == 0, complete, "{code}");
    }
}
