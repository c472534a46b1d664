//! Chromium without a window, driven over a pipe by its DevTools protocol.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ct_codecs::{Base64, Decoder as _};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest time for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest time until a further tab shows its page.
const TAB_PATIENCE: Duration = Duration::from_secs(20);

/// What makes a browser quiet on a host without a display and without the internet.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
];

/// A running browser with one page.
pub(crate) struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// Errors that the page wrote to its console, and exceptions.
    pub(crate) errors: Vec<String>,
    events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    /// Starts it and opens an empty page.
    pub(crate) fn start(program: &str) -> anyhow::Result<Self> {
        let profile = tempfile::tempdir().context("no folder for the browser's profile")?;
        // the protocol is on descriptors 3 and 4; the browser ends when they close
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh", program])
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let (Some(to), Some(out)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("no pipes to the browser");
        };
        let from = read(out);
        let (session, events, errors) = (None, Vec::new(), Vec::new());
        let mut browser =
            Self { child, to, from, session, last: 0, errors, events, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach)?;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network", "Performance", "HeapProfiler"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Calls a method and waits for its result.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.last += 1;
        let id = self.last;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let bytes = [message.to_string().as_bytes(), b"\0"].concat();
        self.to.write_all(&bytes).context("the browser has ended")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(message) = self.next(deadline)? else {
                bail!("{method} was not answered in {} s", PATIENCE.as_secs());
            };
            if message["id"] == id {
                if let Some(error) = message.get("error") {
                    bail!("{method}: {error}");
                }
                return Ok(message["result"].clone());
            }
            self.note(message);
        }
    }

    fn next(&mut self, deadline: Instant) -> anyhow::Result<Option<Value>> {
        match self.from.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the browser has ended"),
        }
    }

    fn note(&mut self, message: Value) {
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                self.errors.push(params["exceptionDetails"].to_string());
            }
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                self.errors.push(params["args"].to_string());
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.errors.push(params["entry"].to_string());
            }
            _ => {}
        }
        self.events.push(message);
    }

    /// Opens an address and waits until it is loaded.
    pub(crate) fn open(&mut self, url: &str) -> anyhow::Result<()> {
        self.events.clear();
        self.call("Page.navigate", json!({ "url": url }))?;
        let deadline = Instant::now() + PATIENCE;
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            match self.next(deadline)? {
                Some(message) => self.note(message),
                None => bail!("{url} was not loaded in {} s", PATIENCE.as_secs()),
            }
        }
        Ok(())
    }

    /// Opens an address in so many tabs beside this one, one after the other, and says how many of them came to
    /// have the title; they are closed again.
    pub(crate) fn tabs(&mut self, url: &str, title: &str, count: usize) -> anyhow::Result<usize> {
        let own = self.session.take();
        let mut opened = Vec::new();
        let mut loaded = 0;
        while loaded == opened.len() && loaded < count {
            // in front, as with a click; those behind it are hidden
            let tab = self.call("Target.createTarget", json!({ "url": url }))?["targetId"].clone();
            let deadline = Instant::now() + TAB_PATIENCE;
            while loaded == opened.len() && Instant::now() < deadline {
                // also for its script to begin
                std::thread::sleep(Duration::from_millis(500));
                let info = self.call("Target.getTargetInfo", json!({ "targetId": tab }))?;
                loaded += usize::from(info["targetInfo"]["title"] == title);
            }
            opened.push(tab);
        }
        for tab in opened {
            self.call("Target.closeTarget", json!({ "targetId": tab }))?;
        }
        self.session = own;
        Ok(loaded)
    }

    /// What an expression of the page's script gives; a promise is waited for.
    pub(crate) fn eval(&mut self, script: &str) -> anyhow::Result<Value> {
        let params = json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        let result = self.call("Runtime.evaluate", params)?;
        if let Some(details) = result.get("exceptionDetails") {
            bail!("{script:.80}: {details}");
        }
        Ok(result["result"]["value"].clone())
    }

    /// Waits until an expression is true.
    pub(crate) fn wait(&mut self, what: &str, script: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.eval(script)? != json!(true) {
            if Instant::now() > deadline {
                bail!("never happened: {what}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Light or dark, and how wide the window is.
    pub(crate) fn look(&mut self, scheme: &str, width: u32, height: u32) -> anyhow::Result<()> {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }))?;
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size).map(drop)
    }

    /// The window as a PNG.
    pub(crate) fn picture(&mut self) -> anyhow::Result<Vec<u8>> {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }))?;
        let data = shot["data"].as_str().context("no picture")?;
        Base64::decode_to_vec(data, None).context("the picture is damaged")
    }

    /// Bytes that the page's script holds after a collection, and elements on the page.
    pub(crate) fn memory(&mut self) -> anyhow::Result<(u64, u64)> {
        self.call("HeapProfiler.collectGarbage", json!({}))?;
        let metrics = self.call("Performance.getMetrics", json!({}))?;
        let number = |name: &str| {
            let all = metrics["metrics"].as_array()?;
            let metric = all.iter().find(|metric| metric["name"] == name)?;
            let value = metric["value"].as_f64()?;
            format!("{value:.0}").parse().ok()
        };
        let all = number("JSHeapUsedSize").zip(number("Nodes"));
        all.context("the browser tells no memory")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Messages end with a zero byte.
fn read(out: ChildStdout) -> Receiver<Value> {
    let (to, from) = mpsc::channel();
    std::thread::spawn(move || {
        let mut out = BufReader::new(out);
        let mut bytes = Vec::new();
        while matches!(out.read_until(0, &mut bytes), Ok(1..)) {
            bytes.pop();
            let Ok(message) = serde_json::from_slice(&bytes) else { return };
            if to.send(message).is_err() {
                return;
            }
            bytes.clear();
        }
    });
    from
}
