//! Kernel and initrd from nodes that run already: what leaves the admin host, in bytes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use lab::{BitRate, Node, Proc, http};
use proto::hash::Sha256Digest;

use super::fixture::{ADMIN, Cluster, LIMIT, Revision, wait_for_event};
use super::reseed::{Loop, record, run};

const NODES: usize = 20;
const IMAGE: usize = 256 << 10;
const KERNEL: usize = 1 << 20;
const INITRD: usize = 3 << 20;

/// Kernel and initrd together.
const BOTH: u64 = (KERNEL + INITRD) as u64;

pub(super) struct Booted {
    pub(super) token: String,
    /// Where kernel and initrd came from.
    from: String,
}

/// What iPXE does on a node: fetches its script, then kernel and initrd from where that says.
pub(super) fn boot(node: &Node, files: (&[u8], &[u8])) -> Booted {
    let script = script(node);
    let word = |begin: &str| {
        let line = script.split(['\n', ' ']).find_map(|word| word.strip_prefix(begin));
        line.unwrap_or_default().to_owned()
    };
    let setting = |name: &str| {
        let begin = format!("set {name} http://");
        script.lines().find_map(|line| line.strip_prefix(begin.as_str())).map(str::to_owned)
    };
    let from = setting("from").or_else(|| setting("base")).unwrap_or_else(|| panic!("{script}"));
    let (host, folder) = from.split_once('/').unwrap();
    let host: SocketAddr = host.parse().unwrap();
    for (name, bytes) in [("vmlinuz", files.0), ("initrd.img", files.1)] {
        let reply = http::get(node, host, &format!("/{folder}/{name}"), LIMIT).unwrap();
        assert_eq!(reply.status, 200, "{name} from {host}");
        assert!(reply.body == bytes, "{name} from {host} is another one");
    }
    Booted { token: word("beeswarm.token="), from: host.ip().to_string() }
}

fn script(node: &Node) -> String {
    let mut stream = node.connect(format!("{ADMIN}:6969").parse().unwrap(), LIMIT).unwrap();
    let mac = node.mac().replace(':', "-");
    write!(
        stream,
        "GET /boot/{mac}.ipxe HTTP/1.1\r\nHost: {ADMIN}:6969\r\nUser-Agent: iPXE/1.21.1\r\n\
         Connection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

/// The service of a booted node, which hands on kernel and initrd.
pub(super) fn serve(
    cluster: &Cluster,
    node: &Node,
    revision: &Revision,
    device: &Loop,
    token: &str,
) -> Proc {
    let mut record = record(node, revision, device);
    let manifest = cluster.store.revision(&revision.reference).unwrap().manifest_path();
    record.manifest_sha256 = Some(Sha256Digest::of(&fs::read(manifest).unwrap()));
    record.token = Some(token.to_owned());
    run(cluster, node, &record, &["--http", "0.0.0.0:8080"])
}

pub(super) fn serves(proc: &mut Proc) {
    wait_for_event(proc, |e| e["event"] == "listening" && e["service"] == "http");
}

/// Until the tracker would send `node` to another one.
pub(super) fn wait_for_mirror(node: &Node, addresses: &[String]) {
    let deadline = std::time::Instant::now() + LIMIT;
    while !addresses.iter().all(|ip| {
        // one is named after the other
        (0..addresses.len()).any(|_| script(node).contains(&format!("set from http://{ip}:8080/")))
    }) {
        assert!(std::time::Instant::now() < deadline, "the tracker names no mirror");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn twenty_nodes_boot_from_two_that_run() {
    let cluster = Cluster::start("mirrors", u32::try_from(NODES).unwrap(), BitRate::mbit(400));
    let mut random = fastrand::Rng::with_seed(91);
    let (mut kernel, mut initrd) = (vec![0; KERNEL], vec![0; INITRD]);
    random.fill(&mut kernel);
    random.fill(&mut initrd);
    let files = (kernel.as_slice(), initrd.as_slice());
    let revision = cluster.publish_with(92, IMAGE, true, files);
    let dir = cluster.store.revision(&revision.reference).unwrap();
    let _seeder = cluster.seeder(&["--no-swarm"]);
    let sent = || cluster.admin.counters().unwrap().sent;

    let mut tracker = cluster.tracker();
    wait_for_script(&cluster.nodes[0]);
    let before = sent();
    for node in &cluster.nodes {
        assert_eq!(boot(node, files).from, ADMIN);
    }
    let without = sent() - before;
    tracker.kill().unwrap();
    let mut tracker = cluster.tracker_with(&["--mirrors=unverified"]);
    wait_for_script(&cluster.nodes[0]);

    // what is not as the manifest says is handed on by nobody
    let device = Loop::attach(&dir.image());
    let [first, second, others @ ..] = &cluster.nodes[..] else { panic!("twenty nodes") };
    let path = dir.file("vmlinuz").unwrap();
    // every boot of a machine has an id of its own; here all have the host's, so this node is used once
    let last = &cluster.nodes[NODES - 1];
    let mut wrong = kernel.clone();
    wrong[KERNEL / 2] ^= 1;
    fs::write(&path, &wrong).unwrap();
    let mut liar = serve(&cluster, last, &revision, &device, &boot(last, (&wrong, &initrd)).token);
    let deadline = std::time::Instant::now() + LIMIT;
    while !fs::read_to_string(liar.log_path()).unwrap().contains("is not what was booted") {
        assert!(std::time::Instant::now() < deadline, "a wrong kernel was taken");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(node_refuses(last), "it serves something");
    liar.terminate(LIMIT).unwrap();
    fs::write(&path, &kernel).unwrap();
    // a fresh one: the old one has lent the admin host to that node for half a minute
    tracker.kill().unwrap();
    let _tracker = cluster.tracker_with(&["--mirrors=unverified"]);
    wait_for_script(first);

    let before = sent();
    let mut mirrors = Vec::new();
    for node in [first, second] {
        let booted = boot(node, files);
        let mut proc = serve(&cluster, node, &revision, &device, &booted.token);
        serves(&mut proc);
        mirrors.push((proc, node.ip().to_string()));
        let known: Vec<String> = mirrors.iter().map(|(_, ip)| ip.clone()).collect();
        wait_for_mirror(&others[0], &known);
    }
    let mut from = std::collections::BTreeMap::<String, usize>::new();
    for node in others {
        *from.entry(boot(node, files).from).or_default() += 1;
    }
    let with = sent() - before;
    println!(
        "admin host, {NODES} nodes, kernel and initrd {BOTH} bytes: {without} bytes without mirrors, {with} with \
         two; the others booted from {from:?}"
    );
    assert_eq!(from.values().sum::<usize>(), NODES - 2);
    assert!(from.len() == 2 && !from.contains_key(ADMIN), "{from:?}");
    assert!(from.values().all(|count| *count >= 6), "not in turn: {from:?}");
    assert!(without > NODES as u64 * BOTH, "{without}");
    // the first boots, and gets its files again; the second gets both from the first
    assert!(with < 5 * BOTH / 2, "{with} bytes left the admin host");
}

fn node_refuses(node: &Node) -> bool {
    node.connect(SocketAddr::from((node.ip(), 8080)), LIMIT).is_err()
}

fn wait_for_script(node: &Node) {
    let deadline = std::time::Instant::now() + LIMIT;
    while node.connect(format!("{ADMIN}:6969").parse().unwrap(), LIMIT).is_err() {
        assert!(std::time::Instant::now() < deadline, "no tracker");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
