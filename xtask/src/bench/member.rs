//! One node of the crowd: its process, when it started, when it was done, what it used.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use lab::client::Done;
use lab::{Counters, Node, Proc, Usage};
use serde_json::Value;

use super::barrier::Barrier;
use super::contender::{self, Client};
use super::content::Content;
use super::downlink;
use super::outcome::NodeResult;
use super::scenario::{Role, Seat};

/// What a node's program takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    /// Where the programs of Beeswarm are.
    pub(crate) programs: &'a Path,
    pub(crate) content: &'a Content,
}

/// The rate of a node's link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkRate {
    /// The common one, in bytes per second.
    pub(crate) bytes: f64,
    /// How many times slower its own is.
    pub(crate) slower: u32,
}

/// A node of the crowd.
#[derive(Debug)]
pub(crate) struct Member {
    node: Node,
    client: Client,
    seat: Seat,
    /// As one would type it.
    command: String,
    proc: Proc,
    sign: Done,
    /// Its own barrier, when it does not start with the others.
    own: Option<Barrier>,
    /// When its turn comes; `None` until its part of the crowd starts. Times are since the crowd's
    /// start.
    turn: Option<Duration>,
    started: Option<Duration>,
    done: Option<Duration>,
    ended: Option<String>,
    /// Time that its processes waited for a processor until it was done.
    cpu_wait: Option<Duration>,
    /// The counters when it started, and when it was done.
    from: Counters,
    to: Counters,
    /// What its earlier processes used.
    spent: Usage,
}

impl Member {
    /// Starts the node's program, which waits at the crowd's barrier, or at one of its own when its
    /// turn comes later.
    pub(crate) fn spawn(
        node: Node,
        client: Client,
        seat: Seat,
        parts: Parts<'_>,
        barrier: &Barrier,
    ) -> anyhow::Result<Member> {
        let launch = client.node(&node, parts.programs, parts.content)?;
        let command = launch.command.to_string();
        let own = match seat.delay.is_zero() {
            true => None,
            false => Some(Barrier::make(&node, "barrier")?),
        };
        let launch = launch.behind(own.as_ref().unwrap_or(barrier).inside());
        let waiting = launch.command.log(node.name()).folder(node.scratch());
        let proc = node.spawn(&waiting)?;
        let from = node.counters()?;
        Ok(Member {
            node,
            client,
            seat,
            command,
            proc,
            sign: launch.done,
            own,
            turn: None,
            started: None,
            done: None,
            ended: None,
            cpu_wait: None,
            from,
            to: from,
            spent: Usage::default(),
        })
    }

    pub(crate) fn role(&self) -> Role {
        self.seat.role
    }

    pub(crate) fn pid(&self) -> u32 {
        self.proc.pid()
    }

    pub(crate) fn command(&self) -> &str {
        &self.command
    }

    /// From its part of the crowd's start to its own.
    pub(crate) fn delay(&self) -> Duration {
        self.seat.delay
    }

    /// The barrier of its part of the crowd has opened at `now`.
    pub(crate) fn starts(&mut self, now: Duration) {
        self.turn = Some(now + self.seat.delay);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.is_some()
    }

    /// Whether nothing more is to be expected of it.
    pub(crate) fn is_settled(&self) -> bool {
        self.done.is_some() || self.ended.is_some()
    }

    /// Lets it start when its turn has come, and looks whether it is done by `now`.
    pub(crate) fn look(&mut self, now: Duration) -> anyhow::Result<()> {
        if self.is_settled() || self.turn.is_none_or(|turn| turn > now) {
            return Ok(());
        }
        if self.started.is_none() {
            self.own.iter().try_for_each(Barrier::open)?;
            self.started = Some(now);
        }
        // asked first: one that ends when it is done may do both between two looks
        let ended = self.proc.has_ended();
        if self.sign.reached(&mut self.proc)? {
            self.done = Some(now);
            self.to = self.node.counters()?;
            self.cpu_wait = Some(self.usage().waited);
        } else if ended && let Some(status) = self.proc.try_wait()? {
            let log = self.proc.log_path().display();
            self.ended = Some(format!("{} ended with {status}; see {log}", self.node.name()));
        }
        Ok(())
    }

    /// Samples what its process uses.
    pub(crate) fn sample(&mut self) {
        self.proc.usage();
    }

    /// Bytes that its interface has received since it started.
    pub(crate) fn received(&self) -> anyhow::Result<u64> {
        Ok(self.node.counters()?.since(self.from).received)
    }

    /// Kills it, removes what it had, and starts it again, as the power cord does.
    pub(crate) fn reboot(&mut self, parts: Parts<'_>, now: Duration) -> anyhow::Result<()> {
        self.proc.kill()?;
        self.spent = sum(self.spent, self.proc.usage());
        let folder = self.node.outside(&self.node.scratch());
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
        let launch = self.client.node(&self.node, parts.programs, parts.content)?;
        let command = launch.command.log(self.node.name()).folder(self.node.scratch());
        self.from = self.node.counters()?;
        self.proc = self.node.spawn(&command)?;
        self.sign = launch.done;
        self.started = Some(now);
        Ok(())
    }

    /// What it has used, all its processes together.
    pub(crate) fn usage(&mut self) -> Usage {
        sum(self.spent, self.proc.usage())
    }

    /// Whether its file is the image.
    pub(crate) fn has_image(&self, content: &Content) -> anyhow::Result<bool> {
        let path = self.node.outside(&contender::target(&self.node, content));
        let got =
            fs::read(&path).with_context(|| format!("reading {}'s image", self.node.name()))?;
        Ok(got == content.bytes)
    }

    /// Its line in the results. `ideal` is the scenario's, for a link of the common rate.
    pub(crate) fn result(&mut self, content: &Content, ideal: f64, link: LinkRate) -> NodeResult {
        let length = content.bytes.len() as f64;
        let counted = self.to.since(self.from);
        let usage = self.usage();
        let told = self.completion();
        let rate = link.bytes / f64::from(link.slower);
        let told = told.filter(|_| self.is_done());
        NodeResult {
            name: self.node.name().to_owned(),
            role: self.seat.role,
            client: self.client.name(),
            started: self.started.map(|at| at.as_secs_f64()),
            done: self.done.map(|at| at.as_secs_f64()),
            ideal: ideal * f64::from(link.slower),
            received_images: self.is_done().then(|| counted.received as f64 / length),
            duplicates: told.as_ref().and_then(wasted).map(|bytes| bytes as f64 / length),
            downlink: told.and_then(|told| downlink::seconds(&told, counted.received as f64, rate)),
            cpu_wait: self.cpu_wait.map(|time| time.as_secs_f64()),
            anonymous: usage.anonymous,
            ended: self.ended.clone(),
        }
    }

    /// Counters of its node up to now.
    pub(crate) fn counters(&self) -> anyhow::Result<Counters> {
        Ok(self.node.counters()?)
    }

    /// What our client told when it was done.
    fn completion(&self) -> Option<Value> {
        let text = fs::read_to_string(self.proc.out_path()).ok()?;
        completion(&text)
    }
}

/// The last `complete` event among lines of JSON.
fn completion(lines: &str) -> Option<Value> {
    lines
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|event| event["event"] == "complete")
}

/// Bytes of the image that came more than once or were wrong, of a `complete` event.
fn wasted(event: &Value) -> Option<u64> {
    event["wasted"].as_u64()
}

/// Two processes' use as one's: times add up, memory does not.
fn sum(a: Usage, b: Usage) -> Usage {
    let (user, system, waited) = (a.user + b.user, a.system + b.system, a.waited + b.waited);
    Usage { user, system, waited, ..a.max(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wasted_bytes_are_those_of_the_last_completion() {
        let lines = "{\"event\":\"progress\",\"wasted\":9}\n{\"event\":\"complete\",\"wasted\":4096}\n\
                     {\"event\":\"seeding\"}\nnot json\n";
        assert_eq!(completion(lines).as_ref().and_then(wasted), Some(4096));
        assert_eq!(completion("downloaded 100%\n"), None);
        assert_eq!(wasted(&completion("{\"event\":\"complete\"}\n").unwrap()), None);
    }

    #[test]
    fn processes_of_one_node_add_up() {
        let usage = |peak, seconds| Usage {
            peak_memory: peak,
            anonymous: peak,
            user: Duration::from_secs(seconds),
            waited: Duration::from_secs(seconds),
            system: Duration::from_secs(1),
        };
        let both = sum(usage(10, 2), usage(7, 3));
        assert_eq!((both.anonymous, both.cpu()), (10, Duration::from_secs(7)));
        assert_eq!(both.waited, Duration::from_secs(5));
    }
}
