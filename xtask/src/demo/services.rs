//! What runs on the admin host: tracker, seeder and dnsmasq.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use lab::{Cmd, LabError, Node, Proc, dnsmasq, http};

use super::build::Programs;
use super::cluster::{self, IMAGE_PORT, TRACKER_PORT};
use super::image::{Image, NAME, tail};

/// Kernel arguments of the machines: the console is a file here, the translator gains much from a
/// kernel without mitigations, and none may boot without dm-verity.
const KERNEL_ARGS: &str = "console=ttyS0,115200 mitigations=off beeswarm.verity=require";

/// Makes the recorder the machines' first program.
const RECORD_ORDER: &str = "init=/usr/bin/bee-record-order";

/// How long a program may take to answer.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long the seeder may take to leave the swarm.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// How long a connection to a closed port may take.
const CLOSED_LIMIT: Duration = Duration::from_secs(2);

/// The admin host's programs.
#[derive(Debug)]
pub(crate) struct Services {
    admin: Node,
    seeder: Proc,
    tracker: Proc,
    dnsmasq: Proc,
}

impl Services {
    /// Starts them; they answer when this returns.
    pub(crate) fn start(
        admin: &Node,
        ports: &[Node],
        programs: &Programs,
        image: &Image,
        record_order: bool,
        inventory: &Path,
    ) -> Result<Services> {
        let kernel_args = match record_order {
            true => format!("{KERNEL_ARGS} {RECORD_ORDER}"),
            false => KERNEL_ARGS.to_owned(),
        };
        let tracker = Cmd::new(&programs.tracker)
            .args(["--listen", &format!("0.0.0.0:{TRACKER_PORT}"), "--kernel-args", &kernel_args])
            .arg("--inventory")
            .arg(inventory)
            .arg("--store")
            .arg(&image.store)
            .log("tracker");
        let mut services = Services {
            tracker: admin.spawn(&tracker)?,
            seeder: seeder(admin, programs, image, &[])?,
            dnsmasq: dnsmasq::start(admin, ports, &programs.tracker)?,
            admin: admin.clone(),
        };
        services.wait()?;
        Ok(services)
    }

    /// An error when one of them has ended.
    pub(crate) fn look(&mut self) -> Result<()> {
        for (name, proc) in [
            ("the tracker", &mut self.tracker),
            ("the seeder", &mut self.seeder),
            ("dnsmasq", &mut self.dnsmasq),
        ] {
            if let Some(status) = proc.try_wait()? {
                let log = proc.log_path();
                bail!("{name} ended ({status}); the end of {}:\n{}", log.display(), tail(log, 10));
            }
        }
        Ok(())
    }

    /// From now on the admin host serves kernel and initrd, and the image to nobody.
    pub(crate) fn stop_image_service(&mut self, programs: &Programs, image: &Image) -> Result<()> {
        self.seeder.terminate(STOP_LIMIT)?;
        let flags = ["--no-swarm", "--http-exclude-image"];
        self.seeder = seeder(&self.admin, programs, image, &flags)?;
        self.wait()?;
        self.image_is_refused(image)
    }

    /// That the image really cannot be had from the admin host, and the rest can.
    fn image_is_refused(&self, image: &Image) -> Result<()> {
        let revision = image.revision.file_name().unwrap_or_default().to_string_lossy();
        let ask = |file: &str| {
            let path = format!("/revisions/{NAME}/{revision}/{file}");
            http::get(&self.admin, cluster::images(), &path, START_LIMIT)
        };
        let status = ask("rootimg.sfs")?.status;
        ensure!(status != 200 && status != 206, "the admin host still serves the image: {status}");
        let status = ask("manifest.json")?.status;
        ensure!(status == 200, "the admin host does not serve the manifest: {status}");
        let peers = SocketAddr::from((cluster::ADMIN, cluster::PEER_PORT));
        ensure!(
            matches!(self.admin.connect(peers, CLOSED_LIMIT), Err(LabError::Connect { .. })),
            "the admin host still takes peers at {peers}"
        );
        Ok(())
    }

    /// Until tracker and seeder answer.
    fn wait(&mut self) -> Result<()> {
        let manifest = format!("/channels/stable/{NAME}/manifest.json");
        for (name, address, path) in [
            ("the tracker", cluster::tracker(), "/healthz"),
            ("the seeder", cluster::images(), manifest.as_str()),
        ] {
            let deadline = Instant::now() + START_LIMIT;
            loop {
                self.look()?;
                let reply = http::get(&self.admin, address, path, START_LIMIT);
                if reply.as_ref().is_ok_and(|reply| reply.status == 200) {
                    break;
                }
                ensure!(
                    Instant::now() < deadline,
                    "{name} does not answer http://{address}{path}: {reply:?}"
                );
                thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

fn seeder(admin: &Node, programs: &Programs, image: &Image, flags: &[&str]) -> Result<Proc> {
    let cmd = Cmd::new(&programs.seeder)
        .args(["--json", "watch", "--http", &format!("0.0.0.0:{IMAGE_PORT}")])
        .arg("--store")
        .arg(&image.store)
        .args(flags)
        .log("seeder");
    Ok(admin.spawn(&cmd)?)
}
