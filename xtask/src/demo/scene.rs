//! The cluster of the demo and what happens to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::{Accelerator, Lab, LabConfig, Link, Node, Relay, Scratch, VmConfig};
use proto::manifest::ArtefactKind;

use super::Args;
use super::build::Programs;
use super::check;
use super::cluster::{self, TRACKER_PORT};
use super::image::Image;
use super::machine::{Machine, Stage};
use super::preflight::available_memory;
use super::process::Joined;
use super::refusals;
use super::run_folder::RunFolder;
use super::services::Services;
use super::show::Show;
use super::siblings;
use super::steps::{Steps, minutes, note};
use super::tracker;
use crate::interrupt::Interrupt;
use crate::workspace::{lab_folder, say};

/// How long a machine may take from power-on to re-seeding under KVM; the translator takes longer.
const BOOT_LIMIT: Duration = Duration::from_secs(240);
const SLOW_BOOT_LIMIT: Duration = Duration::from_secs(600);

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) image: Image,
    pub(crate) machines: Vec<Machine>,
    pub(crate) joined: Vec<Joined>,
    pub(crate) admin: Node,
    programs: Programs,
    services: Services,
    ports: Vec<Node>,
    places: Vec<Node>,
    /// Where machines are plugged in that must refuse their image.
    refusing: Vec<Node>,
    /// Where machines are plugged in that boot by another initrd, and what they boot.
    others: Vec<(Node, Image)>,
    vm: VmConfig,
    show: Show,
    /// Where the list of a recording machine goes.
    boot_order: Option<PathBuf>,
    relay: Relay,
    scratch: Option<PathBuf>,
    // last: the others' processes end with it
    _lab: Lab,
}

impl Scene {
    /// Starts the lab, and in it tracker, seeder and dnsmasq.
    pub(crate) fn start(
        args: &Args,
        programs: &Programs,
        (image, others): (&Image, Vec<Image>),
        folder: &RunFolder,
        interrupt: &Interrupt,
    ) -> Result<Scene> {
        let kernel = image.revision.join(ArtefactKind::Kernel.file_name());
        let (accelerator, reason) = Accelerator::probe(&kernel, folder.path())?;
        note(match accelerator {
            Accelerator::Kvm => format!("machines run under KVM: {reason}"),
            Accelerator::Tcg => format!("machines are emulated: {reason}"),
        });
        let (scratch, on_disk) = scratch(args, image, interrupt)?;
        let config = LabConfig::new(folder.path()).scratch(scratch).expect_nodes(args.lab_nodes());
        let lab = Lab::start(config)?;
        let stopper = lab.stopper();
        interrupt.undo(move || stopper.stop());

        let link = Link::rate(args.rate);
        let admin = lab.add_node("admin", link)?;
        ensure!(
            admin.ip() == cluster::ADMIN,
            "the lab's first node has the address {}",
            admin.ip()
        );
        let ports = (1..=args.vms)
            .map(|number| lab.add_machine_port(&format!("vm{number}"), link))
            .collect::<Result<Vec<_>, _>>()?;
        let places = (1..=args.nodes)
            .map(|number| lab.add_node(&format!("node{number:02}"), link))
            .collect::<Result<Vec<_>, _>>()?;

        let refusing = args
            .refusing()
            .map(|name| lab.add_machine_port(name, link))
            .collect::<Result<Vec<_>, _>>()?;
        let inventory = refusals::inventory(folder.path(), &refusing)?;
        let others = others
            .into_iter()
            .map(|other| Ok((lab.add_machine_port(&other.manifest.name, link)?, other)))
            .collect::<Result<Vec<_>>>()?;
        siblings::assign(&others)?;

        let other_ports: Vec<Node> = others.iter().map(|(port, _)| port.clone()).collect();
        let all_ports = [&ports[..], &refusing, &other_ports].concat();
        let services =
            Services::start(&admin, &all_ports, programs, image, args.record_order, &inventory)?;
        let scene = Scene {
            image: image.clone(),
            machines: Vec::new(),
            joined: Vec::new(),
            relay: Relay::start(TRACKER_PORT, &admin, cluster::tracker())?,
            admin,
            programs: programs.clone(),
            services,
            ports,
            places,
            refusing,
            others,
            vm: VmConfig {
                memory_mib: args.vm_memory,
                accelerator,
                card: args.card.clone(),
                firmware: args.firmware,
            },
            show: Show::new(),
            boot_order: args.record_order.then(|| folder.path().join("boot-order")),
            scratch: on_disk,
            _lab: lab,
        };
        note(format_args!("status page: http://{}/", scene.relay.address()));
        Ok(scene)
    }

    /// What the demo shows, one thing after the other.
    pub(crate) fn play(&mut self, steps: &mut Steps) -> Result<()> {
        steps.run("Machines boot by network, nodes join", || self.crowd())?;
        steps.run("Looking into the machines", || self.inspect())?;
        if !self.others.is_empty() {
            steps.run("Machines boot by the other kinds of initrd", || self.boot_others())?;
        }
        steps.run("Image service stops, a late machine boots from its peers", || self.late())?;
        steps.run("Checking every image", || self.verify())?;
        steps.run("A block of an image is altered", || self.alter())?;
        if !self.refusing.is_empty() {
            steps.run("Machines refuse what dm-verity cannot check", || self.refuse())?;
        }
        Ok(())
    }

    /// All machines but the last boot; the nodes join when the first of them starts to fetch.
    fn crowd(&mut self) -> Result<()> {
        let first = self.ports.len() - 1;
        for port in &self.ports[..first] {
            self.machines.push(Machine::power_on(port, &self.vm)?);
        }
        let limit = self.boot_limit();
        self.until("the machines to start fetching", limit, |scene| {
            scene.machines.iter().all(|machine| machine.reached(Stage::Client).is_some())
        })?;
        for place in std::mem::take(&mut self.places) {
            self.joined.push(Joined::start(place, &self.programs, &self.image)?);
        }
        self.until("all nodes to have the image and the machines to re-seed", limit, |scene| {
            scene.machines.iter().all(Machine::is_up)
                && scene.joined.iter().all(|joined| joined.complete().is_some())
        })
    }

    /// Each machine that is up and was not looked into yet.
    fn inspect(&mut self) -> Result<()> {
        for machine in self.machines.iter_mut().filter(|machine| machine.inspection.is_none()) {
            machine.look_into(&self.admin, &self.image)?;
            let node = machine.node().clone();
            let name = node.name();
            if let Some(path) = &self.boot_order {
                let list = check::boot_order(&self.admin, &node, &self.image.ssh_key)
                    .with_context(|| format!("on {name}"))?;
                note(format_args!("{name}: its boot has opened {} files", list.lines().count()));
                // that of the first
                if !path.exists() {
                    fs::write(path, list)
                        .with_context(|| format!("cannot write {}", path.display()))?;
                }
            }
        }
        Ok(())
    }

    /// The other kinds of initrd, while the admin host has their images.
    fn boot_others(&mut self) -> Result<()> {
        let limit = self.boot_limit();
        siblings::play(&self.admin, &self.others, &mut self.services, (&self.vm, limit))
    }

    /// The admin host stops handing out the image; the last machine boots.
    fn late(&mut self) -> Result<()> {
        self.services.stop_image_service(&self.programs, &self.image)?;
        note("the admin host serves kernel and initrd only");
        let port = self.ports.last().context("there are no machines")?;
        self.machines.push(Machine::power_on(port, &self.vm)?);
        let limit = self.boot_limit();
        self.until("the late machine to re-seed", limit, |scene| {
            scene.machines.iter().all(Machine::is_up)
        })?;
        self.inspect()?;
        let length = self.image.length();
        let late = self.machines.last().context("there are no machines")?;
        let history = late.history.as_ref().context("the late machine was not looked into")?;
        let verified = history.last("verify").and_then(|entry| entry.sources);
        let sources = verified.context("the tracker has no verify event of the late machine")?;
        ensure!(
            sources.admin == 0 && sources.web == 0 && sources.peers == length,
            "the late machine should have {length} bytes from its peers, but has {sources:?}"
        );
        note(format_args!("{}: {length} bytes, all of them from its peers", late.node().name()));
        Ok(())
    }

    /// Reads the image of every process node back. The machines' were read over ssh.
    fn verify(&mut self) -> Result<()> {
        let sha256 = &self.image.sha256;
        for joined in &self.joined {
            joined.verify(sha256)?;
        }
        let unseen = self.machines.iter().find(|machine| machine.inspection.is_none());
        ensure!(unseen.is_none(), "a machine was not looked into");
        note(format_args!(
            "{} images have SHA-256 {sha256}",
            self.joined.len() + self.machines.len()
        ));
        Ok(())
    }

    /// What dm-verity is for: the late machine must not read a block that has changed.
    fn alter(&self) -> Result<()> {
        let machine = self.machines.last().context("there are no machines")?.node();
        check::alter(&self.admin, machine, &self.image.ssh_key, &self.image.verity()?)?;
        note(format_args!(
            "{}: dm-verity gives an input/output error, until it is put back",
            machine.name()
        ));
        Ok(())
    }

    /// Machines that demand dm-verity do not boot without it.
    fn refuse(&mut self) -> Result<()> {
        let limit = self.boot_limit();
        let what = (&self.image, &self.programs);
        refusals::play(&self.admin, &self.refusing, what, &mut self.services, (&self.vm, limit))
    }

    /// The list that the first machine has recorded, when machines record.
    pub(crate) fn boot_order(&self) -> Option<&Path> {
        self.boot_order.as_deref()
    }

    fn boot_limit(&self) -> Duration {
        match self.vm.accelerator {
            Accelerator::Kvm => BOOT_LIMIT,
            Accelerator::Tcg => SLOW_BOOT_LIMIT,
        }
    }

    /// Looks at everything, and shows it, until `done`.
    fn until(&mut self, what: &str, limit: Duration, done: impl Fn(&Scene) -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        let result = loop {
            if let Err(error) = self.look() {
                break Err(error);
            }
            if done(self) {
                break Ok(());
            }
            if Instant::now() > deadline {
                break Err(anyhow::anyhow!(
                    "waited {} for {what}\n{}",
                    minutes(limit),
                    self.laggards()
                ));
            }
            thread::sleep(Duration::from_millis(500));
        };
        self.show.finish();
        result
    }

    fn look(&mut self) -> Result<()> {
        self.services.look()?;
        let seen = tracker::nodes(&self.admin)?;
        for machine in &mut self.machines {
            machine.look(seen.get(machine.node().mac()))?;
        }
        for joined in &mut self.joined {
            joined.look()?;
        }
        if let Some(failed) = seen.values().find(|seen| seen.failed.is_some()) {
            bail!("{} says: {}", failed.id, failed.failed.as_deref().unwrap_or_default());
        }
        self.show.draw(&self.machines, &self.joined, &seen);
        Ok(())
    }

    /// Who is not there yet, and the last that was heard.
    fn laggards(&self) -> String {
        let machines = self.machines.iter().filter(|machine| !machine.is_up());
        let machines = machines.map(|machine| {
            let stage = machine.latest().map_or("nothing", Stage::label);
            format!("{} is at `{stage}`; {}", machine.node().name(), machine.last_words())
        });
        let joined = self.joined.iter().filter(|joined| joined.complete().is_none());
        let joined = joined.map(|joined| format!("{} has not finished", joined.node().name()));
        machines.chain(joined).collect::<Vec<_>>().join("\n")
    }

    /// Leaves everything running, and shows it, until a signal ends the process.
    pub(crate) fn keep(&mut self) -> Result<()> {
        say(format_args!(
            "Everything keeps running. Status page: http://{}/   Ctrl-C ends it.",
            self.relay.address()
        ));
        loop {
            self.look()?;
            thread::sleep(Duration::from_secs(1));
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.show.finish();
        if let Some(scratch) = &self.scratch {
            // the lab's processes may still write into it; they are about to end, and the next run
            // removes what is left
            let _ = fs::remove_dir_all(scratch);
        }
    }
}

/// Memory for the nodes' images when there is enough beside the machines, otherwise a folder, which
/// is returned for removal.
fn scratch(
    args: &Args,
    image: &Image,
    interrupt: &Interrupt,
) -> Result<(Scratch, Option<PathBuf>)> {
    let images = u64::from(args.nodes) * (image.length() + (1 << 20)) + (64 << 20);
    let machines = (u64::from(args.vms) * (u64::from(args.vm_memory) + 300)) << 20;
    if available_memory()? > images + machines + (1 << 30) {
        return Ok((Scratch::Memory(images), None));
    }
    let folder = lab_folder().join("scratch");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("cannot remove the last run's scratch files")?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    note("memory is short: the nodes' images go to the disk");
    let theirs = folder.clone();
    // what cannot be removed now is removed by the next run
    interrupt.undo(move || drop(fs::remove_dir_all(theirs)));
    Ok((Scratch::Folder(folder.clone()), Some(folder)))
}
