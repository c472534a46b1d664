//! A disk that does not do what it should. File systems of their own, in mount namespaces: needs root.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::bed::{exchange, get, wait_until};
use crate::events::batch;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bee-tracker");
const EVENTS: &str = "/api/v1/nodes/52:54:00:12:34:56/events";

/// A shell in a mount namespace of its own; `$1` is the state directory, `$2` the program.
fn namespace(dir: &Path, script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
    command.arg(dir).arg(PROGRAM);
    command
}

/// Ends with the test; its mounts end with it.
struct Running(Child, SocketAddr);

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().expect("needs root, and unshare of util-linux").unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self(child, event["address"].as_str().unwrap().parse().unwrap())
    }

    fn post(&self, seq: u64) -> (u16, String) {
        let event =
            json!({ "seq": seq, "uptime_ms": seq, "stage": "attach", "device": "d".repeat(400) });
        let body = batch("b", json!([event]));
        let head = format!(
            "POST {EVENTS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let reply = exchange(self.1, &[head.as_bytes(), &body].concat());
        (reply.status, String::from_utf8(reply.body).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_full_disk_is_told_of_and_nothing_is_acknowledged_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=700k none \"$1\"
        printf '[limits]\\nevents_per_node = 100000\\n' > \"$1/settings\"
        exec \"$2\" --listen 127.0.0.1:0 --json --state \"$1/state\" --config \"$1/settings\"";
    let tracker = Running::start(namespace(dir.path(), script));
    let refused = (0..5000).find_map(|seq| {
        let (status, text) = tracker.post(seq);
        (status != 204).then_some((seq, status, text))
    });
    let (seq, status, text) = refused.expect("700 KB are full some day");
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("the file system is full. Make room there"), "{text}");
    // it is shown all the same, and so is the trouble
    assert!(get(tracker.1, "/healthz", "").text().contains("file system is full"));
    assert!(get(tracker.1, "/", "").text().contains("file system is full"));
    let node = get(tracker.1, "/api/v1/nodes/52:54:00:12:34:56", "").json();
    assert_eq!(node["events"].as_array().unwrap().last().unwrap()["seq"], seq);
    assert_eq!(tracker.post(seq).0, 503, "known, but not stored");

    let room = Command::new("nsenter")
        .args(["--mount", "--target", &tracker.0.id().to_string()])
        .args(["mount", "-o", "remount,size=64m", "none"])
        .arg(dir.path())
        .status();
    assert!(room.unwrap().success());
    wait_until("it is stored", || tracker.post(seq).0 == 204);
    assert_eq!(get(tracker.1, "/healthz", "").json()["status"], "ok");
}

#[test]
fn a_read_only_disk_ends_the_start_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"
        exec \"$2\" --listen 127.0.0.1:0 --state \"$1\"";
    let output = namespace(dir.path(), script).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("must belong to the user of bee-tracker"), "{error}");
    assert!(error.contains("Read-only file system"), "{error}");
}
