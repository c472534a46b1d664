//! What the tracker is told beside the steps of the boot: which machine it is, and what its console shows.

use std::process::Command;

use proto::event::console::Console;
use proto::event::{EventBatch, EventKind, StallCause};
use proto::node_id::NodeId;

use crate::boot::{Machine, serve};
use crate::image::Image;
use crate::peers::Seeder;
use crate::process::{Process, fetch_args};
use crate::server::Server;

const UUID: &str = "4C4C4544-0042-3510-8052-B4C04F4A3332";

fn batches(server: &Server) -> Vec<EventBatch> {
    server.events().iter().map(|body| EventBatch::parse(body).unwrap()).collect()
}

/// The consoles that were sent, each with what was sent right before it.
fn consoles(server: &Server) -> Vec<(EventKind, Console)> {
    let kinds = batches(server).into_iter().flat_map(|batch| batch.events).map(|event| event.kind);
    let kinds: Vec<_> = kinds.collect();
    let pairs = kinds.windows(2).filter_map(|pair| match &pair[1] {
        EventKind::Console(console) => Some((pair[0].clone(), console.clone())),
        _ => None,
    });
    pairs.collect()
}

/// A machine with two cards and a board, as sysfs shows them, boots to the end.
#[test]
fn a_boot_says_which_machine_it_is() {
    let server = Server::start();
    let image = Image::root(&[server.url("/announce")]);
    serve(&server, &image);
    let _seeder = Seeder::start(&image);
    let machine = Machine::new(&format!(
        "root=beeswarm:{} beeswarm.listen=127.0.0.1:0 beeswarm.report={} beeswarm.token=00c0ffee \
         beeswarm.node=52:54:00:00:00:02",
        server.url("/rev/"),
        server.url("")
    ));
    let class = machine.path("class");
    let card = |name: &str, mac: &str, made_of_hardware: bool| {
        let dir = class.join("net").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        for (file, text) in [("type", "1"), ("address", mac), ("carrier", "1")] {
            std::fs::write(dir.join(file), format!("{text}\n")).unwrap();
        }
        if made_of_hardware {
            std::fs::create_dir(dir.join("device")).unwrap();
        }
    };
    card("eth0", "52:54:00:00:00:01", true);
    card("eth1", "52:54:00:00:00:02", true);
    card("br0", "52:54:00:00:00:03", false);
    std::fs::create_dir_all(class.join("dmi/id")).unwrap();
    std::fs::write(class.join("dmi/id/product_uuid"), format!("{UUID}\n")).unwrap();
    let cards = format!("mount --bind {} /sys/class && $boot", class.display());
    let mut process = machine.script(&[], &cards);
    process.event("handover");
    assert_eq!(process.exit(), 0);
    assert!(server.requests("/api/v1/nodes/52:54:00:00:00:02/events") > 0);
    let batches = batches(&server);
    assert!(!batches.is_empty());
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for batch in &batches {
        assert_eq!(batch.boot_id, boot_id.trim());
        assert_eq!(batch.token.as_deref(), Some("00c0ffee"));
        let macs = [1, 2].map(|n| NodeId([0x52, 0x54, 0, 0, 0, n]));
        assert_eq!(batch.macs, macs, "no bridge, and each card");
        assert_eq!(batch.uuid, Some(UUID.to_ascii_lowercase()));
    }
    let last = batches.iter().flat_map(|batch| &batch.events).next_back().unwrap();
    assert_eq!(last.kind.stage(), "handover");
    assert_eq!(consoles(&server), [], "a boot that gets on sends no console");
}

#[test]
fn who_fails_sends_what_its_console_shows() {
    let server = Server::start();
    let image = Image::noise(300_000, &[server.url("/announce")]);
    serve(&server, &image);
    let mut args = fetch_args(&server.url("/rev/"), &image.output());
    args.extend(["--report".into(), server.url(""), "--node".into(), "52:54:00:00:00:09".into()]);
    args.extend(["--pin".into(), format!("sha256:{}", "ab".repeat(32))]);
    let mut process = Process::fetch(args);
    let message = process.event("failed")["message"].as_str().unwrap().to_owned();
    assert_eq!(process.exit(), 4);
    let sent = consoles(&server);
    let [(before, console)] = sent.as_slice() else { panic!("one console: {sent:?}") };
    assert!(matches!(before, EventKind::Failed { message: sent, .. } if *sent == message));
    let last = console.lines.last().unwrap();
    let start = format!("beeswarm: FAILED: {message}").chars().take(150).collect::<String>();
    assert!(last.starts_with('[') && last.contains(&start), "{last}");
    let first = &console.lines[0];
    assert!(first.contains(&format!("] beeswarm: looking for {}", server.url("/rev/"))), "{first}");
}

/// As on a machine: kernel arguments from `/proc/cmdline`, and a kernel whose log has more than our lines.
#[test]
fn what_the_kernel_warns_of_is_sent_with_it() {
    let server = Server::start();
    let image = Image::noise(300_000, &[server.url("/announce")]);
    serve(&server, &image);
    let machine = Machine::new(&format!(
        "root=beeswarm:{} beeswarm.report={} beeswarm.node=52:54:00:00:00:09 beeswarm.pin=sha256:{}",
        server.url("/rev/"),
        server.url(""),
        "ab".repeat(32)
    ));
    let mark = format!("eth7: link is flapping {}", std::process::id());
    let path = |name: &str| machine.path(name).display().to_string();
    // nothing that is outside the test may be written, whatever the program looks at on a machine
    std::fs::write(path("resolv.conf"), "").unwrap();
    let script = format!(
        "mount --bind {} /proc/cmdline && mount --bind {} /etc/resolv.conf && echo '<4>{mark}' >/dev/kmsg && \
         echo '<6>{mark} says nothing' >/dev/kmsg && exec {} boot --json --root {} --run {}",
        path("cmdline"),
        path("resolv.conf"),
        crate::process::program().display(),
        path("root"),
        path("run"),
    );
    let mut process = machine.script(&[], &script);
    process.event("failed");
    assert_eq!(process.exit(), 4);
    let sent = consoles(&server);
    let [(_, console)] = sent.as_slice() else { panic!("one console: {sent:?}") };
    let at = |part: &str| console.lines.iter().position(|line| line.contains(part));
    // not where: the clock of the kernel's log is another one, and hours away from its start some ms off
    assert!(at(&format!("] {mark}")).is_some(), "the kernel's warning: {console:?}");
    assert_eq!(at("says nothing"), None, "it is none");
    assert!(at("beeswarm: looking for").is_some(), "{console:?}");
    let own = console.lines.iter().filter(|line| line.contains("beeswarm: FAILED")).count();
    assert_eq!(own, 1, "once, though the kernel's log has it as well: {console:?}");
}

#[test]
fn who_is_stuck_for_a_while_sends_what_its_console_shows() {
    let server = Server::start();
    // nobody has it
    let image = Image::noise(300_000, &[server.url("/announce")]);
    let mut args = fetch_args(image.torrent_file().to_str().unwrap(), &image.output());
    args.extend(["--report".into(), server.url(""), "--node".into(), "52:54:00:00:00:09".into()]);
    let mut process = Process::fetch(args);
    process.stall("");
    assert_eq!(consoles(&server), [], "it is not stuck for long");
    // it goes on, and so do its lines
    let start = std::time::Instant::now();
    while consoles(&server).is_empty() {
        assert!(start.elapsed().as_secs() < 60, "no console came");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert!(start.elapsed().as_secs() >= 10);
    let (_, console) = consoles(&server).remove(0);
    let waiting: Vec<_> =
        console.lines.iter().filter(|line| line.contains("] beeswarm: waiting: ")).collect();
    assert!(!waiting.is_empty() && waiting.len() < 4, "{console:?}");
    let causes = batches(&server).into_iter().flat_map(|batch| batch.events);
    let mut causes = causes.filter_map(|event| match event.kind {
        EventKind::Stalled(stall) => Some(stall.cause),
        _ => None,
    });
    assert!(causes.all(|cause| cause == StallCause::NoPeers));
    process.terminate();
    assert_eq!(process.exit(), 6);
}

#[test]
fn what_is_sent_is_what_people_see() {
    let server = Server::start();
    let image = Image::noise(1000, &[]);
    std::fs::write(image.torrent_file(), &image.torrent[..50]).unwrap();
    let mut command = Command::new(crate::process::program());
    command.arg("fetch").args(fetch_args(image.torrent_file().to_str().unwrap(), &image.output()));
    command.args(["--report", &server.url(""), "--node", "52:54:00:00:00:09"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let shown = String::from_utf8(output.stdout).unwrap();
    let (_, console) = consoles(&server).remove(0);
    let told = console.lines.iter().map(|line| line.split_once("] ").unwrap().1);
    for (told, shown) in told.zip(shown.lines()) {
        assert!(shown.starts_with(told), "{told:?} is not {shown:?}");
    }
    assert_eq!(console.lines.len(), shown.lines().count());
}
