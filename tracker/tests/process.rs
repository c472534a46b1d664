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

/// `bee-tracker nodes` of a tracker, and what it printed.
fn nodes(tracker: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let output =
        Command::new(PROGRAM).args(["nodes", "--tracker", tracker]).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn nodes_are_shown_in_a_terminal_with_colours_and_elsewhere_without() {
    let tracker = Tracker::start("127.0.0.1:0");
    let body = r#"{"version":1,"boot_id":"b","events":[{"seq":1,"uptime_ms":1,"stage":"stalled","cause":"no-peers","detail":"nobody offers it"}]}"#;
    let mut stream = TcpStream::connect(tracker.addr).unwrap();
    write!(
        stream,
        "POST /api/v1/nodes/52:54:00:00:00:01/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");

    let url = format!("http://{}", tracker.addr);
    let (code, text, _) = nodes(&url, &[]);
    assert_eq!(code, Some(0));
    assert!(text.starts_with("0 of 1 up, 1 in trouble"), "{text}");
    assert!(text.contains("52:54:00:00:00:01") && text.contains("no-peers: nobody offers it"));
    assert!(!text.contains('\u{1b}'), "colours where there is no terminal");
    let (_, text, _) = nodes(&url, &["--stalled"]);
    assert!(text.contains("1 no-peers") && text.contains("bee-seeder watch"), "{text}");
    let (_, text, _) = nodes(&url, &["--json", "--stalled"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((text.lines().count(), json[0]["cause"].as_str()), (1, Some("no-peers")));
    // a terminal, made by script(1)
    let on_terminal = |variable: (&str, &str)| {
        let command = format!("{PROGRAM} nodes --tracker {url}");
        let script = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .env(variable.0, variable.1)
            .stdin(Stdio::null())
            .output()
            .expect("script(1) of util-linux");
        assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
        String::from_utf8(script.stdout).unwrap()
    };
    assert!(on_terminal(("LANG", "C")).contains("\u{1b}[31m52:54"));
    for off in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let text = on_terminal(off);
        assert!(text.contains("52:54") && !text.contains('\u{1b}'), "{off:?}: {text}");
    }
}

#[test]
fn watching_goes_on_when_the_tracker_is_gone() {
    let tracker = Tracker::start("127.0.0.1:0");
    let url = format!("http://{}", tracker.addr);
    let mut child = Command::new(PROGRAM)
        .args(["nodes", "--watch", "--every", "1", "--tracker", &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("0 of 0 up"));
    drop(tracker);
    assert!(lines.any(|line| line.starts_with("as it was ") && line.contains("no tracker at")));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_tracker_that_cannot_be_asked_is_named() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other_addr = other.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        let _ = stream.read(&mut [0; 512]);
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
    });
    for (url, text) in [
        (format!("http://{nobody}"), "is bee-tracker running there?"),
        (format!("http://{other_addr}"), "does not answer as a tracker"),
        ("ftp://h:6969".to_owned(), "http://HOST:6969"),
        ("http://h:6969/announce".to_owned(), "http://HOST:6969"),
    ] {
        let (code, out, error) = nodes(&url, &[]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{url}: {error}");
        assert!(error.contains(text), "{url}: {error}");
    }
    answering.join().unwrap();
    let tracker = Tracker::start("127.0.0.1:0");
    // a host and port alone are enough
    assert_eq!(nodes(&tracker.addr.to_string(), &[]).0, Some(0));
}
