//! `bee-tracker` as a program: start, signals, exit codes, restart after SIGKILL.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends the test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bee-tracker");

/// A child that does not outlive its test.
struct Tracker {
    child: Child,
    addr: SocketAddr,
    udp: Option<SocketAddr>,
    lines: BufReader<std::process::ChildStdout>,
}

impl Tracker {
    fn start(listen: &str) -> Self {
        Self::spawn(Command::new(PROGRAM).args(["--listen", listen]))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child =
            command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event"], "listening");
        let addr = event["address"].as_str().unwrap().parse().unwrap();
        let udp = event["udp"].as_str().map(|addr| addr.parse().unwrap());
        Self { child, addr, udp, lines }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn healthy(&self) -> bool {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.starts_with("HTTP/1.1 200")
    }
}

impl Tracker {
    /// Resident memory, in bytes.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sigterm_ends_it_in_order_even_with_an_open_connection() {
    for signal in ["TERM", "INT"] {
        let mut tracker = Tracker::start("127.0.0.1:0");
        assert!(tracker.healthy());
        let idle = TcpStream::connect(tracker.addr).unwrap();
        tracker.signal(signal);
        assert_eq!(tracker.wait().code(), Some(0));
        let mut rest = String::new();
        tracker.lines.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("{\"event\":\"stopped\"}\n"), "{rest}");
        drop(idle);
    }
}

#[test]
fn it_starts_again_on_its_port_after_sigkill() {
    let mut tracker = Tracker::start("127.0.0.1:0");
    assert!(tracker.healthy());
    tracker.signal("KILL");
    tracker.wait();
    let again = Tracker::start(&tracker.addr.to_string());
    assert_eq!(again.addr, tracker.addr);
    assert!(again.healthy());
}

#[test]
fn exit_codes_and_messages() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let held_addr = held.local_addr().unwrap().to_string();
    for (args, code, text) in [
        (vec!["--listen", held_addr.as_str()], 1, "is another tracker running"),
        (vec!["--listen", &taken, "--store", "/nonexistent/store"], 1, "/nonexistent/store"),
        (vec!["--config", "/nonexistent/tracker.toml"], 2, "/nonexistent/tracker.toml"),
        (vec!["--image-url", "https://x"], 2, "image_url"),
        (vec!["--listen", "here"], 2, "--listen"),
        (vec!["--frobnicate"], 2, "--frobnicate"),
    ] {
        let output = Command::new(PROGRAM).args(&args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(text), "{args:?}: {error}");
    }
}

/// `Type=notify` in the unit: without READY=1 systemd would kill it after its start timeout.
#[test]
fn systemd_is_told_about_start_watchdog_and_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let next = |wanted: &str| {
        let mut buffer = [0u8; 512];
        loop {
            let length = socket.recv(&mut buffer).expect(wanted);
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains(wanted) {
                return text;
            }
        }
    };
    let mut command = Command::new(PROGRAM);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut tracker = Tracker::spawn(command.args(["--listen", "127.0.0.1:0"]));
    next("READY=1");
    assert!(next("STATUS=").contains(&tracker.addr.to_string()));
    next("WATCHDOG=1");
    tracker.signal("TERM");
    next("STOPPING=1");
    assert_eq!(tracker.wait().code(), Some(0));
}

/// Connects, announces with ids that are not ours, nonsense, from thousands of addresses: nothing is kept.
#[test]
fn a_flood_of_spoofed_datagrams_takes_no_memory() {
    let tracker = Tracker::spawn(Command::new(PROGRAM).args([
        "--listen",
        "127.0.0.1:0",
        "--udp",
        "0.0.0.0:0",
    ]));
    let to = SocketAddr::from(([127, 0, 0, 1], tracker.udp.unwrap().port()));
    let mut rng = fastrand::Rng::with_seed(3);
    let mut flood = |rounds: u16| {
        for round in 0..rounds {
            let [high, low] = round.to_be_bytes();
            let spoofer = UdpSocket::bind((IpAddr::from([127, 9, high, low]), 0)).unwrap();
            for _ in 0..10 {
                let (mut connect, mut announce) = ([0; 16], [0; 120]);
                connect[..8].copy_from_slice(&0x0417_2710_1980u64.to_be_bytes());
                rng.fill(&mut announce);
                announce[8..12].copy_from_slice(&[0, 0, 0, 1]);
                spoofer.send_to(&connect, to).unwrap();
                spoofer.send_to(&announce, to).unwrap();
                spoofer.send_to(&announce[..rng.usize(..98)], to).unwrap();
            }
        }
    };
    flood(100);
    let before = tracker.memory();
    flood(2000);
    let grown = tracker.memory().saturating_sub(before);
    assert!(grown < 2 << 20, "{grown} bytes more after 60,000 datagrams");
    assert!(tracker.healthy());
}
