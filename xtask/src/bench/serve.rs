//! `cargo xtask bench serve`: one admin host to many nodes on links without a limit: our seeder over
//! HTTP and over the peer protocol, beside nginx with sendfile.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use lab::client::{CURL, nginx};
use lab::{Cmd, Node, Proc};
use proto::hash::Sha256Digest;
use proto::manifest::{Artefact, ArtefactKind, MANIFEST_VERSION, Manifest};
use proto::units::ByteSize;
use serde::Serialize;
use store::{Channel, Store};

use super::bed::{Bed, Burst};
use super::content::Content;
use super::facts::Facts;
use super::places::Places;
use super::stage::ADMIN_IP;
use super::{content, publish, report, stats};
use crate::interrupt::{CtrlC, Interrupt};
use crate::workspace;

/// Port of HTTP, of either server.
const HTTP: u16 = 8080;

/// Port of the peer protocol.
const PEERS: u16 = 6881;

/// How long a server may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// Longest that our seeder may take to find the revision.
const FINDING: Duration = Duration::from_secs(10);

/// Arguments of `cargo xtask bench serve`.
#[derive(Debug, Parser)]
pub(crate) struct ServeArgs {
    /// Nodes that fetch at the same time
    #[arg(long, default_value_t = 50)]
    nodes: u32,
    /// Size of the image; every node takes it once and keeps nothing
    #[arg(long, default_value = "100MB")]
    image: ByteSize,
    /// Length of a piece
    #[arg(long, default_value = "256KiB")]
    piece: ByteSize,
    /// Runs of each server, in turn; the result has the medians
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Where the programs of Beeswarm are; built in release mode when not given
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Folder for logs and results
    #[arg(long, default_value = "target/bench/serve")]
    output: PathBuf,
    /// Keeps the results as docs/bench/NAME
    #[arg(long, value_name = "NAME")]
    publish: Option<String>,
}

/// Who serves, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    Nginx,
    SeederHttp,
    SeederPeers,
}

const WAYS: [Way; 3] = [Way::Nginx, Way::SeederHttp, Way::SeederPeers];

/// One run.
#[derive(Debug, Clone, Copy, Serialize)]
struct ServeRun {
    way: Way,
    /// Bytes delivered, all nodes together.
    bytes: f64,
    #[serde(flatten)]
    burst: Burst,
}

impl ServeRun {
    fn rate(&self) -> f64 {
        self.bytes / self.burst.seconds
    }

    fn cpu_per_gb(&self) -> f64 {
        self.burst.server_per_gb(self.bytes)
    }
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Nginx => "nginx, sendfile",
            Way::SeederHttp => "bee-seeder, HTTP",
            Way::SeederPeers => "bee-seeder, peer protocol",
        }
    }
}

/// A store with one published revision, whose image is the content.
struct Shelf {
    /// As the lab sees it.
    store: PathBuf,
    revision: PathBuf,
    /// Path of the image in a URL of our seeder.
    path: String,
}

/// Measures.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    ensure!(args.runs > 0 && args.nodes > 0, "--nodes and --runs must be at least 1");
    let places = Places::prepare(args.programs.as_deref(), &args.output, args.publish.as_deref())?;
    // nobody listens there: each node is told whom to ask
    let tracker = format!("http://{ADMIN_IP}:6969/announce");
    let content = content::make(&places.output, args.image.0, args.piece.0, &tracker)?;
    let interrupt = Interrupt::install(CtrlC::Ends)?;
    let mut facts = Facts::gather();
    let result = measure(args, &places, &content, &interrupt);
    let (runs, commands) = result.inspect_err(|_| interrupt.give_way())?;
    facts.programs.note("servers", &commands, &places.aliases());
    let table = table(args, &runs);
    workspace::say(format_args!("\n{table}"));
    for folder in places.results() {
        publish::write(folder, "One host, many nodes", &facts, &runs, &table, &[])?;
        workspace::say(format_args!("results: {}", folder.display()));
    }
    Ok(())
}

fn measure(
    args: &ServeArgs,
    places: &Places,
    content: &Content,
    interrupt: &Interrupt,
) -> anyhow::Result<(Vec<ServeRun>, Vec<String>)> {
    let bed = Bed::start(
        args.nodes,
        args.image.0 * 2 + (64 << 20),
        &places.output.join("logs"),
        interrupt,
    )?;
    let shelf = shelf(&bed, content)?;
    let this = std::env::current_exe().context("cannot tell this program's path")?;
    let curl = CURL.find()?;
    let curl = |path: &str| {
        Cmd::new(&curl)
            .args(["--silent", "--show-error", "--fail", "--noproxy", "*"])
            .args(["--output", "/dev/null"])
            .arg(format!("http://{ADMIN_IP}:{HTTP}/{path}"))
    };
    let image = ArtefactKind::Image.file_name();
    let (plain, ours) = (curl(image), curl(&shelf.path));
    let leech = Cmd::new(this)
        .args(["bench", "leech", "--peer", &format!("{ADMIN_IP}:{PEERS}"), "--torrent"])
        .arg(&content.offer.torrent);
    let web = nginx(&bed.admin, &shelf.revision)?;
    let seeder = Cmd::new(places.programs.join("bee-seeder"))
        .args(["watch", "--listen", "0.0.0.0:6881", "--http", "0.0.0.0:8080", "--store"])
        .arg(&shelf.store);
    let commands = [&web, &seeder, &plain].map(Cmd::to_string).to_vec();
    let mut runs = Vec::new();
    for number in 1..=args.runs {
        for way in WAYS {
            let (server, client, port) = match way {
                Way::Nginx => (&web, &plain, HTTP),
                Way::SeederHttp => (&seeder, &ours, HTTP),
                Way::SeederPeers => (&seeder, &leech, PEERS),
            };
            let name = format!("{way:?}-{number}").to_lowercase();
            let mut server = bed.server(&name, server.clone(), port)?;
            if way != Way::Nginx {
                wait_for_revision(&bed, &server, &ours)?;
            }
            let command = |_: &Node| client.clone();
            let burst = bed.burst(&name, &mut server, command)?;
            let run =
                ServeRun { way, bytes: content.bytes.len() as f64 * f64::from(args.nodes), burst };
            report::progress(&format!("run {number}: {}", line(&run)));
            runs.push(run);
            // not killed: a server's workers outlive their killed master, and keep the port
            server.terminate(FAREWELL)?;
        }
    }
    bed.lab.stop();
    Ok((runs, commands))
}

/// Puts the content into a store in the lab's memory.
fn shelf(bed: &Bed, content: &Content) -> anyhow::Result<Shelf> {
    let inside = bed.admin.scratch().join("store");
    let store = Store::init(bed.lab.outside(&inside))?;
    let draft = store.begin()?;
    let mut manifest = Manifest {
        version: MANIFEST_VERSION,
        name: "bench".into(),
        artefacts: Default::default(),
        info_hash: content.info_hash,
        v2: None,
        verity: None,
        kernel_release: None,
        build: Default::default(),
    };
    let torrent = fs::read(&content.offer.torrent)?;
    for (kind, bytes) in [
        (ArtefactKind::Image, content.bytes.as_slice()),
        (ArtefactKind::Torrent, &torrent),
        (ArtefactKind::Kernel, b"kernel"),
        (ArtefactKind::Initrd, b"initrd"),
    ] {
        fs::write(draft.dir().join(kind.file_name()), bytes)?;
        let artefact = Artefact { length: bytes.len() as u64, sha256: Sha256Digest::of(bytes) };
        manifest.artefacts.insert(kind, artefact);
    }
    let committed = store.commit(draft, &manifest)?.revision;
    let reference = committed.reference().clone();
    store.publish(&reference, &Channel::new("stable")?)?;
    let below = committed.path().strip_prefix(store.root()).context("a revision of this store")?;
    let path = format!("{}/{}", below.display(), ArtefactKind::Image.file_name());
    Ok(Shelf { revision: inside.join(below), store: inside, path })
}

/// The seeder listens before it has looked through its store.
fn wait_for_revision(bed: &Bed, seeder: &Proc, fetch: &Cmd) -> anyhow::Result<()> {
    let (ask, start) = (fetch.clone().arg("--head"), Instant::now());
    while !bed.admin.run(&ask)?.status.success() {
        let log = seeder.log_path().display();
        ensure!(!seeder.has_ended(), "the seeder ended; see {log}");
        ensure!(start.elapsed() < FINDING, "the seeder does not serve the revision; see {log}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn line(run: &ServeRun) -> String {
    format!(
        "{}: {:.0} MB/s, server {:.2} CPU s/GB, idle {:.0} %",
        run.way.name(),
        run.rate() / 1e6,
        run.cpu_per_gb(),
        run.burst.machine.idle * 100.0
    )
}

fn table(args: &ServeArgs, runs: &[ServeRun]) -> String {
    let middle = |way: Way, of: fn(&ServeRun) -> f64| {
        let values = runs.iter().filter(|run| run.way == way).map(of);
        stats::median(values).unwrap_or(f64::NAN)
    };
    let mut text = format!(
        "One admin host, {} nodes, links without a limit, from memory to nowhere: image {}, medians of \
         {} runs.\n\n| server | MB/s, all together | server's CPU s/GB | nodes' CPU s/GB | idle |\n|---|---|---|---|---|\n",
        args.nodes, args.image, args.runs
    );
    for way in WAYS {
        text.push_str(&format!(
            "| {} | {:.0} | {:.2} | {:.2} | {:.0} % |\n",
            way.name(),
            middle(way, ServeRun::rate) / 1e6,
            middle(way, ServeRun::cpu_per_gb),
            middle(way, |run| run.burst.nodes_cpu / (run.bytes / 1e9)),
            middle(way, |run| run.burst.machine.idle * 100.0)
        ));
    }
    text.push_str("\n| goal | wanted | measured | |\n|---|---|---|---|\n");
    let nginx = middle(Way::Nginx, ServeRun::rate);
    for way in [Way::SeederHttp, Way::SeederPeers] {
        let factor = middle(way, ServeRun::rate) / nginx;
        let verdict = if factor >= 1.0 { "met" } else { "**missed**" };
        let name = way.name();
        text.push_str(&format!("| {name}, times nginx | ≥ 1.00 | {factor:.2} | {verdict} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::meter::MachineUse;
    use super::*;

    fn run(way: Way, seconds: f64) -> ServeRun {
        let machine = MachineUse { idle: 0.1, user_seconds: 1.0, system_seconds: 1.0 };
        let burst =
            Burst { seconds, server_user: 1.0, server_system: 3.0, nodes_cpu: 8.0, machine };
        ServeRun { way, bytes: 4e9, burst }
    }

    #[test]
    fn servers_are_compared_by_their_medians() {
        let args = ServeArgs::try_parse_from(["serve"]).unwrap();
        let runs = [
            run(Way::Nginx, 2.0),
            run(Way::SeederHttp, 1.6),
            run(Way::SeederPeers, 4.0),
            run(Way::Nginx, 8.0),
            run(Way::Nginx, 2.0),
        ];
        assert_eq!((runs[0].rate(), runs[0].cpu_per_gb()), (2e9, 1.0));
        let text = table(&args, &runs);
        assert!(text.contains("| nginx, sendfile | 2000 | 1.00 | 2.00 | 10 % |"), "{text}");
        assert!(text.contains("| bee-seeder, HTTP, times nginx | ≥ 1.00 | 1.25 | met |"));
        assert!(text.contains("peer protocol, times nginx | ≥ 1.00 | 0.50 | **missed** |"));
    }
}
