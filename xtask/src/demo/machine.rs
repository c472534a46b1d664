//! A node that is a machine: QEMU, from power-on to re-seeding.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::{Milestone, Node, Usage, Vm, VmConfig};

use super::check::{Inspection, handshake};
use super::image::{Image, tail};
use super::steps::note;
use super::tracker::{self, History, Seen};

/// A machine that was powered on.
#[derive(Debug)]
pub(crate) struct Machine {
    vm: Vm,
    stages: BTreeMap<Stage, Duration>,
    /// What ssh found on it.
    pub(crate) inspection: Option<Inspection>,
    /// What the tracker heard from it.
    pub(crate) history: Option<History>,
}

/// A point on the way, from the console or from the tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// iPXE runs.
    Ipxe,
    /// The kernel prints.
    Kernel,
    /// The client looks for its torrent.
    Client,
    /// It has the image and has verified it.
    Fetched,
    /// systemd runs in the real root.
    RealRoot,
    /// Login prompt.
    Login,
    /// It re-seeds.
    Seeding,
}

impl Stage {
    /// All, in order.
    pub(crate) const ALL: [Stage; 7] = [
        Stage::Ipxe,
        Stage::Kernel,
        Stage::Client,
        Stage::Fetched,
        Stage::RealRoot,
        Stage::Login,
        Stage::Seeding,
    ];

    /// A word for tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Stage::Ipxe => "iPXE",
            Stage::Kernel => "kernel",
            Stage::Client => "client",
            Stage::Fetched => "fetched",
            Stage::RealRoot => "real root",
            Stage::Login => "login",
            Stage::Seeding => "seeding",
        }
    }
}

impl Machine {
    /// Powers one on at `port`.
    pub(crate) fn power_on(port: &Node, config: &VmConfig) -> Result<Machine> {
        let vm = Vm::power_on(port, config)?;
        Ok(Machine { vm, stages: BTreeMap::new(), inspection: None, history: None })
    }

    /// Where it is plugged in.
    pub(crate) fn node(&self) -> &Node {
        self.vm.node()
    }

    /// When a stage was first seen, counted from power-on.
    pub(crate) fn reached(&self, stage: Stage) -> Option<Duration> {
        self.stages.get(&stage).copied()
    }

    /// When it was powered on.
    pub(crate) fn powered_on(&self) -> Instant {
        self.vm.powered_on()
    }

    /// What QEMU has used.
    pub(crate) fn usage(&mut self) -> Usage {
        self.vm.usage()
    }

    /// Whether it has come all the way.
    pub(crate) fn is_up(&self) -> bool {
        self.reached(Stage::Login).is_some() && self.reached(Stage::Seeding).is_some()
    }

    /// The last stage it reached.
    pub(crate) fn latest(&self) -> Option<Stage> {
        self.stages.keys().next_back().copied()
    }

    /// Looks how it is doing, with what the tracker knows about it; an error when it has ended.
    pub(crate) fn look(&mut self, seen: Option<&Seen>) -> Result<()> {
        if let Some(status) = self.vm.try_wait()? {
            bail!("{} has ended ({status}); {}", self.node().name(), self.last_words());
        }
        let console = self.vm.milestones()?.clone();
        for (milestone, stage) in [
            (Milestone::Ipxe, Stage::Ipxe),
            (Milestone::Kernel, Stage::Kernel),
            (Milestone::SwitchRoot, Stage::RealRoot),
            (Milestone::Login, Stage::Login),
        ] {
            if let Some(at) = console.reached(milestone) {
                self.stages.entry(stage).or_insert(at);
            }
        }
        let now = self.powered_on().elapsed();
        let heard = seen.map_or("", |seen| seen.stage.as_str());
        for (words, stage) in [
            (&["discover", "fetch"][..], Stage::Client),
            (&["verify", "attach", "mount", "handover"][..], Stage::Fetched),
            (&["seeding"][..], Stage::Seeding),
        ] {
            if words.contains(&heard) {
                self.stages.entry(stage).or_insert(now);
            }
        }
        Ok(())
    }

    /// Looks into it by ssh, when it is up: whether all is as it must be with `image`.
    pub(crate) fn look_into(&mut self, admin: &Node, image: &Image) -> Result<()> {
        let node = self.node().clone();
        let name = node.name();
        handshake(admin, &node, image.manifest.info_hash)
            .with_context(|| format!("{name} says that it re-seeds, but"))?;
        let inspection = Inspection::of(admin, &node, &image.ssh_key, image.length())?;
        inspection.judge(&image.sha256, &image.verity()?).with_context(|| format!("on {name}"))?;
        let history = tracker::history(admin, node.mac())?;
        let seeding = history.last("seeding").context("the tracker has no seeding event")?;
        ensure!(
            seeding.user.as_deref() == Some(inspection.user.as_str())
                && seeding.device.as_deref() == Some(inspection.device.as_str()),
            "{name} reported {seeding:?}, but has {inspection:?}"
        );
        note(format_args!(
            "{name}: multi-user, {} behind dm-verity, re-seeded by {} without capabilities, SHA-256 right, \
             {} MiB of memory in use",
            inspection.device, inspection.user, inspection.used_mib
        ));
        self.inspection = Some(inspection);
        self.history = Some(history);
        Ok(())
    }

    /// What it said on its serial console.
    pub(crate) fn console(&self) -> &Path {
        self.vm.console_path()
    }

    /// The end of its console, for error messages.
    pub(crate) fn last_words(&self) -> String {
        let path = self.vm.console_path();
        format!("the end of {}:\n{}", path.display(), tail(path, 12))
    }
}
