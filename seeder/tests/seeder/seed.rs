//! `bee-seeder seed`: one torrent.

use std::fs;

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
