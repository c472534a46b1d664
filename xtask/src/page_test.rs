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

use anyhow::{Context as _, ensure};
use clap::Parser;
use lab::tool::Tool;
use serde_json::json;

use crate::python;
use crate::workspace::{self, say};
use browser::Browser;
use crowd::Crowd;

mod browser;
pub(crate) mod crowd;
mod fleet;
mod rollout;
pub(crate) mod site;
mod stream;

/// The browser.
pub(crate) const CHROMIUM: Tool =
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

/// What is looked at without a picture.
const UNPICTURED: [(&str, &str); 3] =
    [("a day", "/?window=day"), ("nobody's page", "/nodes/nobody"), ("not heard", "/nodes/r26n02")];

/// Options of `cargo xtask page-test`.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// axe-core's axe.min.js, which checks accessibility [default: that of `cargo xtask test --install`]
    #[arg(long, value_name = "FILE", conflicts_with = "without_axe")]
    axe: Option<PathBuf>,

    /// Leave the check by axe-core out; the result says so
    #[arg(long)]
    without_axe: bool,

    /// Where pictures go [default: page-test in cargo's target folder]
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,

    /// Show the debug build: the time to the first paint is told, and not judged
    #[arg(long)]
    debug: bool,

    /// How long memory is watched while a thousand nodes go on reporting
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    watch: u64,
}

impl Args {
    /// What continuous integration runs: a short look at what is built already.
    pub(crate) fn short() -> Self {
        Self { axe: None, without_axe: false, pictures: None, debug: true, watch: 10 }
    }
}

/// Runs it.
///
/// # Errors
/// When a program is missing, or the page is not what it should be; the text says in what.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let chromium = CHROMIUM.find()?.to_string_lossy().into_owned();
    let axe = match &args.axe {
        _ if args.without_axe => None,
        Some(file) => Some(read(file)?),
        None => Some(read(&python::axe_core()?)?),
    };
    let program = tracker_program(args.debug)?;
    let pictures = args.pictures.clone().unwrap_or_else(|| workspace::target().join("page-test"));
    fs::create_dir_all(&pictures).with_context(|| format!("cannot make {}", pictures.display()))?;
    let mut test =
        Test { browser: Browser::start(&chromium)?, program, pictures, axe, problems: Vec::new() };
    let limit = (!args.debug).then_some(FIRST_PAINT);
    test.live()?;
    test.rollout()?;
    test.recorded(Duration::from_secs(args.watch), limit)?;
    if args.without_axe {
        say("accessibility: NOT CHECKED (--without-axe)");
    }
    say(format_args!("pictures: {}", test.pictures.display()));
    ensure!(test.problems.is_empty(), "the page has faults:\n{}", test.problems.join("\n"));
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// `bee-tracker`, built now: as it is shipped, unless `debug`.
pub(crate) fn tracker_program(debug: bool) -> anyhow::Result<PathBuf> {
    let mut command = workspace::cargo()?;
    command.args(["build", "--quiet"]);
    match debug {
        // as for the tests: nothing is built twice
        true => command.args(["--workspace", "--all-targets"]),
        false => command.args(["--package", "beeswarm-tracker", "--release"]),
    };
    workspace::call(&mut command)?;
    let folder = if debug { "debug" } else { "release" };
    Ok(workspace::target().join(folder).join("bee-tracker"))
}

struct Test {
    browser: Browser,
    program: PathBuf,
    pictures: PathBuf,
    axe: Option<String>,
    problems: Vec<String>,
}

/// A tracker that ends with this.
pub(crate) struct Tracker {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Tracker {
    /// With everything it keeps in `site`.
    pub(crate) fn start(program: &Path, site: &Path, listen: SocketAddr) -> anyhow::Result<Self> {
        let settings = site.join("tracker.toml");
        let settings = settings.exists().then(|| format!("--config={}", settings.display()));
        let child = Command::new(program)
            .args(["--listen", &listen.to_string(), "--admin-link", "10Gbit", "--json"])
            .args(settings)
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

    pub(crate) fn url(&self, path: &str) -> String {
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
        let site = site::make(LIVE)?;
        let dir = &site.dir;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut tracker = Tracker::start(&self.program, dir.path(), any)?;
        self.browser.look("light", 1280, 900)?;
        self.browser.open(&tracker.url("/"))?;
        self.browser.eval("window.before = 'reload'")?;
        let crowd = Crowd::new(tracker.address, &site, LIVE);
        let nodes = std::thread::spawn(move || crowd.boot());
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
        self.axe("gone, dark")?;
        self.picture("gone-dark")?;
        tracker = Tracker::start(&self.program, dir.path(), address)?;
        self.browser.wait("the page goes on", "document.getElementById('dead').hidden")?;
        self.browser.wait("nodes are back", "document.title.startsWith('18/20 up')")?;
        // a connection that was refused is an error on the console: the browser's, not the page's
        self.browser.errors.clear();
        self.without_script(&tracker)?;
        self.refused(&tracker)?;
        self.tabs(&tracker)?;
        say(
            "live: kept up to date, told of a dead tracker, went on with the next; complete without a script; \
             fresh without a place for its stream; eight tabs",
        );
        // a page whose tracker is gone would go on asking
        self.browser.open("about:blank")?;
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
    fn recorded(&mut self, watch: Duration, limit: Option<f64>) -> anyhow::Result<()> {
        let site = site::make(RECORDED)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let tracker = Tracker::start(&self.program, site.dir.path(), any)?;
        let crowd = Crowd::new(tracker.address, &site, RECORDED);
        crowd.record()?;
        self.first_paint(&tracker, limit)?;
        self.memory(&tracker, &crowd, watch)?;
        // those that fetch go on reporting: silence would be trouble
        let mut round = watch.as_secs();
        for scheme in ["light", "dark"] {
            for (name, path) in PAGES {
                round += 1;
                crowd.go_on(round)?;
                // what lies below is looked at, too
                let height = if name == "swarm" { 1900 } else { 1000 };
                self.browser.look(scheme, 1400, height)?;
                self.browser.open(&tracker.url(path))?;
                self.axe(&format!("{name}, {scheme}"))?;
                self.picture(&format!("{name}-{scheme}"))?;
            }
        }
        self.no_console_errors("with a thousand nodes");
        for scheme in ["light", "dark"] {
            self.browser.look(scheme, 1400, 1000)?;
            for (name, path) in UNPICTURED {
                self.browser.open(&tracker.url(path))?;
                self.axe(&format!("{name}, {scheme}"))?;
            }
        }
        // the browser tells of a page that is not there; it is not to be
        self.browser.errors.clear();
        Ok(())
    }

    fn first_paint(&mut self, tracker: &Tracker, limit: Option<f64>) -> anyhow::Result<()> {
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
        match limit {
            Some(limit) if median > limit => {
                self.problems.push(format!("the first paint takes {median:.0} ms, goal {limit}"));
            }
            Some(_) => {}
            None => say("time to the first paint: NOT JUDGED (--debug)"),
        }
        Ok(())
    }

    fn memory(&mut self, tracker: &Tracker, crowd: &Crowd, watch: Duration) -> anyhow::Result<()> {
        self.browser.open(&tracker.url("/"))?;
        let start = Instant::now();
        let mut seen = Vec::new();
        while start.elapsed() < watch || seen.len() < 3 {
            crowd.go_on(u64::try_from(seen.len())?)?;
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
