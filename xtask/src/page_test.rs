//! `cargo xtask page-test`: the status page in a real browser, with nodes that post to a real tracker.
//!
//! Twenty nodes live through a boot while the page is open, then a tracker holds a thousand as they were
//! recorded in the middle of theirs. Looked at: that the page changes without being loaded again, that it says
//! so when the tracker is gone, errors on the console, accessibility by axe-core, time to the first paint,
//! memory. The pictures are for people to look at.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use lab::tool::Tool;
use serde_json::json;

use crate::workspace::{self, say};
use browser::Browser;
use fleet::Poster;

mod browser;
mod fleet;
mod site;

const CHROMIUM: Tool =
    Tool::new("chromium", "the browser that shows the status page", "chromium", "chromium");

/// Nodes that live, and nodes that were recorded.
const LIVE: u16 = 20;
const RECORDED: u16 = 1000;

/// Longest time to the first paint with the recorded nodes, in milliseconds.
const FIRST_PAINT: f64 = 200.0;

/// Growth of the page's memory that is no leak, in bytes.
const GROWTH: u64 = 3 << 20;

/// Longest time until a tracker listens.
const START: Duration = Duration::from_secs(30);

/// What is shown, and the name of its picture.
const PAGES: [(&str, &str); 5] = [
    ("fleet", "/"),
    ("nodes", "/nodes"),
    ("node", "/nodes/r1n14"),
    ("swarm", "/swarm"),
    ("images", "/images"),
];

/// Options of `cargo xtask page-test`.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// axe-core's axe.min.js (npm install axe-core): checks accessibility
    #[arg(long, value_name = "FILE", required_unless_present = "without_axe")]
    axe: Option<PathBuf>,

    /// Leave the check by axe-core out; the result says so
    #[arg(long)]
    without_axe: bool,

    /// Where pictures go [default: page-test in cargo's target folder]
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,

    /// How long memory is watched while a thousand nodes go on reporting
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    watch: u64,
}

/// Runs it.
///
/// # Errors
/// When a program is missing, or the page is not what it should be; the text says in what.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let chromium = CHROMIUM.find()?.to_string_lossy().into_owned();
    let axe = match &args.axe {
        Some(file) => Some(fs::read_to_string(file).with_context(|| {
            format!("cannot read {}: npm install axe-core has it", file.display())
        })?),
        None => None,
    };
    let program = tracker_program()?;
    let pictures = args.pictures.clone().unwrap_or_else(|| workspace::target().join("page-test"));
    fs::create_dir_all(&pictures).with_context(|| format!("cannot make {}", pictures.display()))?;
    let mut test =
        Test { browser: Browser::start(&chromium)?, program, pictures, axe, problems: Vec::new() };
    test.live()?;
    test.recorded(Duration::from_secs(args.watch))?;
    if args.without_axe {
        say("accessibility: NOT CHECKED (--without-axe)");
    }
    say(format_args!("pictures: {}", test.pictures.display()));
    ensure!(test.problems.is_empty(), "the page has faults:\n{}", test.problems.join("\n"));
    Ok(())
}

fn tracker_program() -> anyhow::Result<PathBuf> {
    workspace::call(workspace::cargo()?.args([
        "build",
        "--package",
        "beeswarm-tracker",
        "--quiet",
    ]))?;
    Ok(workspace::target().join("debug/bee-tracker"))
}

struct Test {
    browser: Browser,
    program: PathBuf,
    pictures: PathBuf,
    axe: Option<String>,
    problems: Vec<String>,
}

/// A tracker that ends with this.
struct Tracker {
    child: Child,
    address: SocketAddr,
}

impl Tracker {
    /// With everything it keeps in `site`.
    fn start(program: &Path, site: &Path, listen: SocketAddr) -> anyhow::Result<Self> {
        let child = Command::new(program)
            .args(["--listen", &listen.to_string(), "--admin-link", "10Gbit", "--json"])
            .arg("--store")
            .arg(site.join("store"))
            .arg("--state")
            .arg(site.join("state"))
            .arg("--inventory")
            .arg(site.join("nodes.csv"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut tracker = Self { child, address: listen };
        tracker.address = tracker.listening()?;
        Ok(tracker)
    }

    fn listening(&mut self) -> anyhow::Result<SocketAddr> {
        let out = self.child.stdout.take().context("no output of bee-tracker")?;
        let (to, from) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            use std::io::{BufRead as _, BufReader};
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // read on when nobody listens: the tracker must not wait for us
                let _ = to.send(line);
            }
        });
        let line = from.recv_timeout(START).context("bee-tracker does not listen")?;
        let line: serde_json::Value = serde_json::from_str(&line)?;
        line["address"]
            .as_str()
            .context("bee-tracker tells no address")?
            .parse()
            .map_err(Into::into)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Test {
    /// Twenty nodes boot while the page is open.
    fn live(&mut self) -> anyhow::Result<()> {
        let dir = site::make(LIVE)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut tracker = Tracker::start(&self.program, dir.path(), any)?;
        self.browser.look("light", 1280, 900)?;
        self.browser.open(&tracker.url("/"))?;
        self.browser.eval("window.before = 'reload'")?;
        let poster = Poster::connect(tracker.address)?;
        let nodes = std::thread::spawn(move || boot_live(poster));
        // in the middle of it
        std::thread::sleep(Duration::from_secs(12));
        self.picture("live-light")?;
        self.browser.look("dark", 1280, 900)?;
        self.picture("live-dark")?;
        nodes.join().ok().context("the nodes ended early")??;
        self.browser
            .wait("eighteen nodes up on the page", "document.title.startsWith('18/20 up')")?;
        self.browser.wait(
            "letters on the map",
            "document.querySelectorAll('#map .c.seeding').length === 18",
        )?;
        if self.browser.eval("window.before")? != json!("reload") {
            self.problems.push("the page was loaded again instead of kept up to date".to_owned());
        }
        self.no_console_errors("while twenty nodes boot");
        // the tracker goes, the page says so; it comes back, the page goes on
        let address = tracker.address;
        drop(tracker);
        self.browser.wait(
            "the page says that the tracker is gone",
            "!document.getElementById('dead').hidden",
        )?;
        self.picture("gone-dark")?;
        tracker = Tracker::start(&self.program, dir.path(), address)?;
        self.browser.wait("the page goes on", "document.getElementById('dead').hidden")?;
        self.browser.wait("nodes are back", "document.title.startsWith('18/20 up')")?;
        // a connection that was refused is an error on the console: the browser's, not the page's
        self.browser.errors.clear();
        self.without_script(&tracker)?;
        say(
            "live: kept up to date, told of a dead tracker, went on with the next; complete without a script",
        );
        Ok(())
    }

    fn without_script(&mut self, tracker: &Tracker) -> anyhow::Result<()> {
        let off = |value| json!({ "value": value });
        self.browser.call("Emulation.setScriptExecutionDisabled", off(true))?;
        self.browser.open(&tracker.url("/"))?;
        let seen = self.browser.eval("document.querySelectorAll('#map .c.seeding').length")?;
        self.browser.call("Emulation.setScriptExecutionDisabled", off(false))?;
        ensure!(seen == json!(18), "without a script the page shows {seen} of 18 nodes");
        Ok(())
    }

    /// A thousand nodes in the middle of a boot.
    fn recorded(&mut self, watch: Duration) -> anyhow::Result<()> {
        let dir = site::make(RECORDED)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let tracker = Tracker::start(&self.program, dir.path(), any)?;
        let mut poster = Poster::connect(tracker.address)?;
        for n in 0..RECORDED {
            post(&mut poster, n, fleet::recorded(n))?;
        }
        self.first_paint(&tracker)?;
        self.memory(&tracker, watch)?;
        // those that fetch go on reporting: silence would be trouble
        let mut round = watch.as_secs();
        for scheme in ["light", "dark"] {
            for (name, path) in PAGES {
                round += 1;
                crowd(&tracker, round)?;
                self.browser.look(scheme, 1400, 1000)?;
                self.browser.open(&tracker.url(path))?;
                self.axe(&format!("{name}, {scheme}"))?;
                self.picture(&format!("{name}-{scheme}"))?;
            }
        }
        self.no_console_errors("with a thousand nodes");
        Ok(())
    }

    fn first_paint(&mut self, tracker: &Tracker) -> anyhow::Result<()> {
        let script = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1";
        let mut times = Vec::new();
        for _ in 0..7 {
            self.browser.open(&tracker.url("/"))?;
            self.browser.wait("a paint", &format!("({script}) > 0"))?;
            times.extend(self.browser.eval(script)?.as_f64());
        }
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied().context("nothing was painted")?;
        let size = self.browser.eval("document.documentElement.outerHTML.length")?;
        let cells = self.browser.eval("document.querySelectorAll('#map .c').length")?;
        say(format_args!(
            "first paint with {cells} cells: {median:.0} ms (median of {}, {:.0} to {:.0}); {size} bytes of HTML",
            times.len(),
            times.first().copied().unwrap_or_default(),
            times.last().copied().unwrap_or_default()
        ));
        if median > FIRST_PAINT {
            self.problems.push(format!("the first paint takes {median:.0} ms, goal {FIRST_PAINT}"));
        }
        Ok(())
    }

    fn memory(&mut self, tracker: &Tracker, watch: Duration) -> anyhow::Result<()> {
        self.browser.open(&tracker.url("/"))?;
        let start = Instant::now();
        let mut seen = Vec::new();
        while start.elapsed() < watch || seen.len() < 3 {
            crowd(tracker, u64::try_from(seen.len())?)?;
            std::thread::sleep(Duration::from_secs(2));
            seen.push(self.browser.memory()?);
        }
        // the first third is warming up
        let settled = seen.get(seen.len() / 3).copied().context("no memory was seen")?;
        let last = seen.last().copied().context("no memory was seen")?;
        say(format_args!(
            "memory of the page over {} s: {} KiB, then {} KiB; {} elements, then {}",
            start.elapsed().as_secs(),
            settled.0 >> 10,
            last.0 >> 10,
            settled.1,
            last.1
        ));
        if last.0 > settled.0 + GROWTH || last.1 > settled.1 * 2 {
            self.problems.push("the page's memory grows".to_owned());
        }
        Ok(())
    }

    fn axe(&mut self, page: &str) -> anyhow::Result<()> {
        let Some(axe) = &self.axe else { return Ok(()) };
        self.browser.eval(&format!("{axe}; 0"))?;
        let found = self.browser.eval(
            "axe.run(document, { resultTypes: ['violations'] }).then((r) => r.violations.map((v) => \
             `${v.impact} ${v.id}: ${v.help} (${v.nodes.length}×, ${v.nodes[0].html.slice(0, 120)})`))",
        )?;
        let found = found.as_array().context("axe-core gave no result")?;
        for violation in found.iter().filter_map(|violation| violation.as_str()) {
            self.problems.push(format!("axe-core, {page}: {violation}"));
        }
        say(format_args!("axe-core, {page}: {} findings", found.len()));
        Ok(())
    }

    fn picture(&mut self, name: &str) -> anyhow::Result<()> {
        let picture = self.browser.picture()?;
        let file = self.pictures.join(format!("{name}.png"));
        fs::write(&file, picture).with_context(|| format!("cannot write {}", file.display()))
    }

    fn no_console_errors(&mut self, when: &str) {
        for error in std::mem::take(&mut self.browser.errors) {
            self.problems.push(format!("an error on the console {when}: {error}"));
        }
    }
}

fn post(poster: &mut Poster, n: u16, step: u64) -> anyhow::Result<()> {
    let mut events = fleet::story(n, step);
    if let Some(kind) = fleet::mishap(n) {
        events.retain(|event| event.uptime_ms < 14_500);
        let uptime_ms = events.last().map_or(0, |event| event.uptime_ms) + 5_000;
        events.push(proto::event::Event { seq: uptime_ms, uptime_ms, kind });
    }
    poster.post(fleet::id(n), "0f1e2d3c", events)
}

/// One more report of every node, a little further on.
fn crowd(tracker: &Tracker, round: u64) -> anyhow::Result<()> {
    // an idle connection is closed after ten seconds
    let mut poster = Poster::connect(tracker.address)?;
    for n in 0..RECORDED {
        // three that fell silent
        let step = fleet::recorded(n);
        if fleet::mishap(n).is_none() && !matches!(n, 33 | 330 | 773) {
            post(&mut poster, n, if step < 900 { (step + round).min(899) } else { step })?;
        }
    }
    Ok(())
}

/// Twenty nodes boot in twenty-odd seconds, two of them not.
fn boot_live(mut poster: Poster) -> anyhow::Result<()> {
    let start = Instant::now();
    for round in 0..60_u64 {
        for n in 0..LIVE {
            let step = (round * 25).saturating_sub(u64::from(n) * 8).min(1000);
            let stuck = fleet::mishap(n).is_some();
            post_live(
                &mut poster,
                n,
                if stuck { step.min(300) } else { step },
                stuck && step > 300,
            )?;
        }
        let due = Duration::from_millis(400) * u32::try_from(round + 1)?;
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
    if start.elapsed() > Duration::from_secs(120) {
        bail!("this machine is too busy: the nodes took {} s", start.elapsed().as_secs());
    }
    Ok(())
}

fn post_live(poster: &mut Poster, n: u16, step: u64, stuck: bool) -> anyhow::Result<()> {
    if stuck {
        post(poster, n, step)
    } else {
        poster.post(fleet::id(n), "0f1e2d3c", fleet::story(n, step))
    }
}
