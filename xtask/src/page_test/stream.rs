//! A page whose stream is refused, and more open pages than a browser has connections to one host.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::ensure;
use serde_json::json;

use super::{Test, Tracker};

/// More places for readers than a tracker has.
const MOST: usize = 1000;

/// Browsers hold six connections to a host.
const TABS: usize = 8;

/// Gives true when the page was alive for as long as a dead one needs to be found out, and fetched nothing.
const QUIET: &str = "(async () => {
  const fetched = () => performance.getEntriesByType('resource').filter((e) => e.name === location.href).length;
  for (let round = 0; round < 8; round += 1) {
    const before = fetched();
    await new Promise((done) => setTimeout(done, 6000));
    if (fetched() === before && document.getElementById('dead').hidden) return true;
  }
  return false;
})()";

impl Test {
    /// All places are taken: the page keeps fresh by itself, and takes one when there is one.
    pub(super) fn refused(&mut self, tracker: &Tracker) -> anyhow::Result<()> {
        self.browser.open("about:blank")?;
        let readers = take_all(tracker)?;
        self.browser.open(&tracker.url("/"))?;
        self.browser.wait("a page without a stream is old", "performance.now() > 9000")?;
        let errors = std::mem::take(&mut self.browser.errors);
        ensure!(
            errors.iter().any(|error| error.contains("503")),
            "no stream was refused: {errors:?}"
        );
        let alive = self.browser.eval("document.getElementById('dead').hidden")?;
        ensure!(
            alive == json!(true),
            "the page says that the tracker is gone: it had no place for it"
        );
        drop(readers);
        let quiet = self.browser.eval(QUIET)?;
        ensure!(quiet == json!(true), "the page takes no place though there are some");
        // the last stream that was refused
        self.browser.errors.clear();
        Ok(())
    }

    /// Many nodes are opened in tabs of their own, as who looks at those that are stuck does.
    pub(super) fn tabs(&mut self, tracker: &Tracker) -> anyhow::Result<()> {
        self.browser.open(&tracker.url("/nodes"))?;
        let loaded = self.browser.tabs(&tracker.url("/nodes/r1n01"), "r1n01 · Beeswarm", TABS)?;
        ensure!(loaded == TABS, "{loaded} of {TABS} tabs were loaded");
        self.browser.wait("the page in front goes on", "document.getElementById('dead').hidden")
    }
}

/// Reads until nobody else can.
fn take_all(tracker: &Tracker) -> anyhow::Result<Vec<TcpStream>> {
    let mut readers = Vec::new();
    while readers.len() < MOST {
        let mut stream = TcpStream::connect(tracker.address)?;
        stream.write_all(b"GET /api/v1/stream?ticks HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        if status.ends_with(b"503") {
            return Ok(readers);
        }
        readers.push(stream);
    }
    anyhow::bail!("{MOST} pages can be open");
}
