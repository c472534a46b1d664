//! The program under test as a child process that speaks JSON.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything; only reached when the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Path of the program.
pub(crate) fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_bee-initrd-client").into()
}

/// A running program; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<Value>,
}

impl Process {
    /// Runs `fetch --json` with these arguments.
    pub(crate) fn fetch<I: IntoIterator<Item = String>>(args: I) -> Self {
        let mut command = Command::new(program());
        command.args(["fetch", "--json"]).args(args);
        Self::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for an event for which `wanted` holds.
    pub(crate) fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let value: Value = serde_json::from_str(&line)
                        .unwrap_or_else(|error| panic!("no JSON ({error}): {line}"));
                    self.seen.push(value.clone());
                    if wanted(&value) {
                        return value;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {what} in time; saw {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended without {what}; saw {:#?}", self.seen)
                }
            }
        }
    }

    /// Waits for an event with this name.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        self.wait_for(name, |value| value["event"] == name)
    }

    /// Waits for a stall whose text contains `part`.
    pub(crate) fn stall(&mut self, part: &str) -> Value {
        self.wait_for(part, |value| {
            value["event"] == "stalled"
                && value["detail"].as_str().is_some_and(|text| text.contains(part))
        })
    }

    /// Everything said so far.
    pub(crate) fn seen(&self) -> &[Value] {
        &self.seen
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Waits for the end and gives the exit code.
    pub(crate) fn exit(&mut self) -> i32 {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
                    self.seen.push(serde_json::from_str(&line).unwrap_or_default());
                }
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < end, "did not end in time; saw {:#?}", self.seen);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Arguments of a fetch of `torrent` into `output`, on a free port. Other tests are on the same
/// loopback interface: their peers are not looked for.
pub(crate) fn fetch_args(torrent: &str, output: &std::path::Path) -> Vec<String> {
    let mut args = fetch_args_with_lsd(torrent, output);
    args.push("--no-lsd".into());
    args
}

/// The same, with local discovery.
pub(crate) fn fetch_args_with_lsd(torrent: &str, output: &std::path::Path) -> Vec<String> {
    ["--torrent", torrent, "--output", output.to_str().unwrap(), "--listen", "127.0.0.1:0"]
        .map(str::to_owned)
        .into()
}
