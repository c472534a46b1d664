//! The lab itself: nodes reach each other at the rate of their links, and nothing outlives the lab.
//! Needs root, as every lab does.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lab::{BitRate, Cmd, Lab, LabConfig, LabError, Link, Node, Scratch};

fn lab(folder: &Path) -> Lab {
    Lab::start(LabConfig::new(folder.join("logs"))).expect("a lab (needs root)")
}

#[test]
fn nodes_reach_each_other_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(folder.path());
    let a = lab.add_node("a", Link::unshaped()).unwrap();
    let b = lab.add_node("b", Link::unshaped()).unwrap();
    assert_ne!((a.ip(), a.mac()), (b.ip(), b.mac()));
    let address = SocketAddr::from((b.ip(), 4000));
    let limit = Duration::from_secs(5);
    assert!(a.connect(address, limit).is_err(), "nobody listens yet");
    let _listener = b.listen(address).unwrap();
    a.connect(address, limit).unwrap();
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 80));
    let refused = a.connect(elsewhere, limit).unwrap_err();
    assert!(
        matches!(&refused, LabError::Connect { source, .. }
        if source.kind() == std::io::ErrorKind::NetworkUnreachable),
        "{refused:?}"
    );
    assert!(matches!(lab.add_node("a", Link::unshaped()), Err(LabError::Name { .. })));
}

#[test]
fn a_link_holds_its_rate_in_each_direction() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(folder.path());
    let fast = lab.add_node("fast", Link::unshaped()).unwrap();
    let slow = lab.add_node("slow", Link::rate(BitRate::mbit(40))).unwrap();
    for (from, to) in [(&fast, &slow), (&slow, &fast)] {
        let bytes = 8 << 20;
        let address = SocketAddr::from((to.ip(), 4000));
        let listener = to.listen(address).unwrap();
        let receiver = thread::spawn(move || {
            let mut received = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
            received.len()
        });
        let mut stream = from.connect(address, Duration::from_secs(5)).unwrap();
        let start = Instant::now();
        stream.write_all(&vec![7; bytes]).unwrap();
        drop(stream);
        assert_eq!(receiver.join().unwrap(), bytes);
        // 8 MiB at 40 Mbit/s take 1.68 s; less would mean that the link does not shape
        let floor = Duration::from_millis(1500);
        assert!(start.elapsed() > floor, "{} → {}: {:?}", from.name(), to.name(), start.elapsed());
    }
}

#[test]
fn a_process_is_logged_signalled_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(folder.path());
    let node = lab.add_node("n", Link::unshaped()).unwrap();
    let talk = Cmd::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).log("talk");
    let mut proc = node.spawn(&talk).unwrap();
    let status = proc.wait(Duration::from_secs(10)).unwrap().unwrap();
    assert_eq!(status.code(), Some(3));
    assert_eq!(fs::read_to_string(proc.out_path()).unwrap(), "out\n");
    assert_eq!(fs::read_to_string(proc.log_path()).unwrap(), "err\n");

    let mut sleeper = node.spawn(&Cmd::new("sleep").arg("1000")).unwrap();
    assert_eq!(sleeper.try_wait().unwrap(), None);
    assert!(sleeper.usage().peak_memory > 0);
    let status = sleeper.terminate(Duration::from_secs(10)).unwrap();
    assert!(!status.success());

    let missing = node.spawn(&Cmd::new("/no/such/program")).unwrap_err();
    assert!(missing.to_string().contains("program"), "{missing}");
}

#[test]
fn scratch_files_can_be_on_the_hosts_disk() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let config = LabConfig::new(folder.path().join("logs"));
    let lab = Lab::start(config.scratch(Scratch::Folder(scratch.clone()))).unwrap();
    let node = lab.add_node("n", Link::unshaped()).unwrap();
    let file = node.scratch().join("file");
    let script = format!("echo text >{}", file.display());
    assert!(node.run(&Cmd::new("sh").args(["-c", &script])).unwrap().status.success());
    assert_eq!(fs::read_to_string(lab.outside(&file)).unwrap(), "text\n");
    lab.stop();
    assert_eq!(fs::read_to_string(scratch.join("n/file")).unwrap(), "text\n");
}

#[test]
fn nothing_outlives_a_lab() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(folder.path());
    let node = lab.add_node("n", Link::unshaped()).unwrap();
    let marker = format!("1000.{}", std::process::id());
    // a grandchild in a session of its own: nothing but the PID namespace can find it
    let script = format!("setsid sleep {marker} & wait");
    let _proc = node.spawn(&Cmd::new("sh").args(["-c", &script])).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_running(&marker) {
        assert!(Instant::now() < deadline, "the grandchild did not start");
        thread::sleep(Duration::from_millis(10));
    }
    lab.stop();
    assert!(!is_running(&marker));
    assert!(!Path::new("/run/netns/n").exists());
    let again = node.spawn(&Cmd::new("true"));
    assert!(again.is_err(), "a stopped lab must not start anything");
}

/// Whether a process of this machine has `argument` among its arguments.
fn is_running(argument: &str) -> bool {
    let output = Command::new("ps").args(["-eo", "args"]).output().expect("ps");
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    list.lines().any(|line| line == format!("sleep {argument}"))
}

/// Sends so many bytes from one node to another; how long it took.
fn transfer(from: &Node, to: &Node, bytes: usize) -> Result<Duration, Box<dyn Error>> {
    let address = SocketAddr::from((to.ip(), 4000));
    let listener = to.listen(address)?;
    let receiver = thread::spawn(move || {
        let mut received = Vec::new();
        listener.accept()?.0.read_to_end(&mut received)
    });
    let mut stream = from.connect(address, Duration::from_secs(15))?;
    let start = Instant::now();
    stream.write_all(&vec![7; bytes])?;
    drop(stream);
    let received = receiver.join().map_err(|_| "the receiver panicked")??;
    assert_eq!(received, bytes);
    Ok(start.elapsed())
}

#[test]
fn a_thin_uplink_is_slow_in_one_direction_only() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(folder.path());
    let fast = lab.add_node("fast", Link::unshaped()).unwrap();
    let link = Link::rate(BitRate::mbit(400)).with_uplink(BitRate::mbit(20));
    let slow = lab.add_node("slow", link).unwrap();
    let before = slow.counters().unwrap();
    // 4 MiB at 20 Mbit/s take 1.68 s; at 400 Mbit/s 0.08 s
    let up = transfer(&slow, &fast, 4 << 20).unwrap();
    let down = transfer(&fast, &slow, 4 << 20).unwrap();
    assert!(up > Duration::from_millis(1_400), "{up:?}");
    assert!(down * 2 < up, "{down:?} down, {up:?} up");
    let counted = slow.counters().unwrap().since(before);
    for bytes in [counted.sent, counted.received] {
        assert!(bytes > 4 << 20, "{counted:?}");
    }
}

#[test]
fn two_subnets_meet_at_the_link_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(folder.path());
    lab.add_far_subnet(Link::rate(BitRate::mbit(20))).unwrap();
    let here = lab.add_node("here", Link::unshaped()).unwrap();
    let there = lab.add_far_node("there", Link::unshaped()).unwrap();
    let beside = lab.add_far_node("beside", Link::unshaped()).unwrap();
    assert_eq!(here.ip().octets()[..2], [10, 87]);
    assert_eq!(there.ip().octets()[..2], [10, 88]);
    let across = transfer(&here, &there, 4 << 20).unwrap();
    let back = transfer(&there, &here, 4 << 20).unwrap();
    let within = transfer(&there, &beside, 4 << 20).unwrap();
    assert!(across > Duration::from_millis(1_400) && back > Duration::from_millis(1_400));
    assert!(within * 2 < across, "{within:?} within, {across:?} across");
}

#[test]
fn a_lossy_link_makes_tcp_send_again() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(folder.path());
    let sender = lab.add_node("sender", Link::unshaped()).unwrap();
    let clean = lab.add_node("clean", Link::unshaped()).unwrap();
    // no shaping: a full queue drops packets too
    let link = Link::unshaped().with_loss("5%".parse().unwrap());
    let lossy = lab.add_node("lossy", link).unwrap();
    let before = sender.counters().unwrap();
    transfer(&sender, &clean, 8 << 20).unwrap();
    let between = sender.counters().unwrap();
    transfer(&sender, &lossy, 8 << 20).unwrap();
    let again = sender.counters().unwrap().since(between).retransmits;
    assert!(again > between.since(before).retransmits, "{again} segments were sent again");
}

#[test]
fn a_delay_works_or_the_kernel_is_named_as_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(folder.path());
    let near = lab.add_node("near", Link::unshaped()).unwrap();
    let delay = Duration::from_millis(30);
    match lab.add_node("away", Link::rate(BitRate::mbit(100)).with_delay(delay)) {
        Ok(away) => {
            let address = SocketAddr::from((away.ip(), 4000));
            let _listener = away.listen(address).unwrap();
            let start = Instant::now();
            near.connect(address, Duration::from_secs(5)).unwrap();
            assert!(start.elapsed() >= 2 * delay, "{:?}", start.elapsed());
        }
        Err(error) => {
            assert!(matches!(error, LabError::NoDelay), "{error:?}");
            assert!(error.to_string().contains("sch_netem"), "{error}");
        }
    }
}
