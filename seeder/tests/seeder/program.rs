//! The program itself, listened to through `--json`.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use serde_json::Value;

use crate::support::DEADLINE;

/// A running `bee-seeder`; killed when dropped.
pub(crate) struct Program {
    child: Child,
    events: Receiver<Value>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Program {
    /// Starts `bee-seeder --json ARGS`, with these variables in its environment.
    pub(crate) fn start(args: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::wrapped(&[], args, environment)
    }

    /// The same, started by another program that ends with running its arguments.
    pub(crate) fn wrapped(wrapper: &[&str], args: &[&str], environment: &[(&str, &str)]) -> Self {
        let program = env!("CARGO_BIN_EXE_bee-seeder");
        let mut command = match wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("--json").args(args).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, events) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).expect("every line is JSON");
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            // What was written until the program was killed is enough.
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self { child, events, stderr: Some(stderr) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next event with this name for which `matches` holds; others are skipped.
    pub(crate) fn event(&self, name: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if event["event"] == name && matches(&event) => return event,
                Ok(event) => seen.push(event),
                Err(e) => panic!("no event {name:?}: {e}; seen: {seen:?}"),
            }
        }
    }

    /// An event with this name, if one has come already; others are skipped.
    pub(crate) fn poll(&self, name: &str) -> Option<Value> {
        self.events.try_iter().find(|event| event["event"] == name)
    }

    /// The address of a service.
    pub(crate) fn address(&self, service: &str) -> SocketAddr {
        let event = self.event("listening", |event| event["service"] == service);
        event["address"].as_str().unwrap().parse().unwrap()
    }

    /// The address of a service, or nothing when the program ends without opening it.
    pub(crate) fn try_address(&self, service: &str) -> Option<SocketAddr> {
        let event = self.events.recv_timeout(DEADLINE).ok()?;
        assert_eq!(event["service"], service);
        Some(event["address"].as_str()?.parse().unwrap())
    }

    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").arg(name).arg(self.pid().to_string()).status().unwrap();
        assert!(done.success());
    }

    /// Waits for the end; returns how it ended, every event not yet taken, and the log.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<Value>, String) {
        let end = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "still running after {DEADLINE:?}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        let log = self.stderr.take().unwrap().join().unwrap();
        (status, self.events.iter().collect(), log)
    }

    /// SIGTERM, and the end that must come of it.
    pub(crate) fn stop(self) -> Vec<Value> {
        self.signal("-TERM");
        let (status, events, log) = self.end();
        assert_eq!(status.code(), Some(0), "{log}");
        assert_eq!(events.last().map(|event| &event["event"]), Some(&Value::from("stopped")));
        events
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
