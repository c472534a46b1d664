//! QEMU machines that boot from the lab's network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::error::LabError;
use crate::firmware::Firmware;
use crate::kvm::Accelerator;
use crate::node::Node;
use crate::process::{Cmd, Proc};
use crate::serial::{Milestone, Milestones};
use crate::tool::Tool;
use crate::usage::Usage;

/// The machine emulator.
pub const QEMU: Tool = Tool::new(
    "qemu-system-x86_64",
    "virtual machines that boot by network",
    "qemu-system-x86",
    "qemu-system-x86-core",
);

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct VmConfig {
    /// Memory in MiB.
    pub memory_mib: u32,
    /// What runs its instructions.
    pub accelerator: Accelerator,
    /// QEMU's model of its network card; iPXE must know it.
    pub card: String,
    /// What runs first.
    pub firmware: Firmware,
}

/// A running machine. It is powered off when this is dropped.
#[derive(Debug)]
pub struct Vm {
    node: Node,
    proc: Proc,
    serial: PathBuf,
    powered_on: Instant,
    milestones: Milestones,
}

impl Vm {
    /// Powers a machine on at `port` (see [`crate::Lab::add_machine_port`]). It boots from its
    /// network card; all that it says on its serial console goes to `NAME-console.log`.
    ///
    /// # Errors
    /// [`LabError::MissingTool`] when QEMU is not installed, [`LabError::Spawn`].
    pub fn power_on(port: &Node, config: &VmConfig) -> Result<Vm, LabError> {
        let serial = port.logs().join(format!("{}-console.log", port.name()));
        fs::write(&serial, "").map_err(LabError::file("create", &serial))?;
        let rom = config.firmware.rom(&config.card);
        let cmd = Cmd::new(QEMU.find()?)
            .args(["-name", port.name(), "-nodefaults", "-display", "none", "-no-reboot"])
            // graphics=off: firmware and iPXE talk on the serial console
            .args(["-machine", "q35,graphics=off", "-smp", "1"])
            .args(["-m", &config.memory_mib.to_string()])
            .args(config.accelerator.arguments())
            .args(config.firmware.arguments(port.name(), port.logs())?)
            .args(["-netdev", "tap,id=net0,ifname=tap0,script=no,downscript=no"])
            .args([
                "-device",
                &format!("{},netdev=net0,mac={},bootindex=1{rom}", config.card, port.mac()),
            ])
            .args(["-device", "virtio-rng-pci"])
            .args(["-serial", &format!("file:{}", serial.display())])
            .log(format!("{}-qemu", port.name()));
        let proc = port.spawn(&cmd)?;
        let milestones = Milestones::default();
        Ok(Vm { node: port.clone(), proc, serial, powered_on: Instant::now(), milestones })
    }

    /// The place in the lab where the machine is plugged in: its name, address and MAC address.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// What the machine said on its serial console.
    pub fn console_path(&self) -> &Path {
        &self.serial
    }

    /// When it was powered on.
    pub fn powered_on(&self) -> Instant {
        self.powered_on
    }

    /// Reads the console again and returns when each milestone was first seen, counted from
    /// power-on: as exact as this is called often.
    ///
    /// # Errors
    /// [`LabError::File`] when the console's log cannot be read.
    pub fn milestones(&mut self) -> Result<&Milestones, LabError> {
        let text = fs::read(&self.serial).map_err(LabError::file("read", &self.serial))?;
        self.milestones.update(&text, self.powered_on.elapsed());
        Ok(&self.milestones)
    }

    /// When a milestone was first seen, of those read so far.
    pub fn reached(&self, milestone: Milestone) -> Option<Duration> {
        self.milestones.reached(milestone)
    }

    /// QEMU's exit status, or `None` while the machine runs. A machine that has ended was powered
    /// off, or reset (`-no-reboot`), or QEMU failed: its log says.
    ///
    /// # Errors
    /// As [`Proc::try_wait`].
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, LabError> {
        self.proc.try_wait()
    }

    /// What QEMU has used.
    pub fn usage(&mut self) -> Usage {
        self.proc.usage()
    }

    /// Pulls the plug.
    ///
    /// # Errors
    /// As [`Proc::kill`].
    pub fn power_off(mut self) -> Result<(), LabError> {
        self.proc.kill().map(|_| ())
    }
}
