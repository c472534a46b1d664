//! Which accelerator QEMU should use here.
//!
//! `/dev/kvm` being there proves little: in some clouds' nested machines a guest under KVM never
//! gets as far as its first line. So a kernel is booted under KVM, and KVM is used when it speaks.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::contain::contained;
use crate::error::LabError;
use crate::vm::QEMU;

/// How long a kernel may take to print under KVM before KVM counts as broken.
const PATIENCE: Duration = Duration::from_secs(8);

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's translator: some ten times slower.
    Tcg,
}

impl Accelerator {
    /// Tries KVM with `kernel` (a bzImage) and falls back to the translator; the text says why.
    ///
    /// # Errors
    /// [`LabError::MissingTool`] when QEMU is not installed; file and process errors.
    pub fn probe(kernel: &Path, scratch: &Path) -> Result<(Accelerator, &'static str), LabError> {
        if !Path::new("/dev/kvm").exists() {
            return Ok((Accelerator::Tcg, "there is no /dev/kvm"));
        }
        if OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
            return Ok((Accelerator::Tcg, "/dev/kvm cannot be opened"));
        }
        let serial = scratch.join("kvm-probe.log");
        if boots_under_kvm(kernel, &serial)? {
            Ok((Accelerator::Kvm, "a kernel boots under KVM"))
        } else {
            Ok((Accelerator::Tcg, "/dev/kvm is there, but a kernel does not start under it"))
        }
    }

    /// QEMU's arguments.
    pub(crate) fn arguments(self) -> [&'static str; 4] {
        match self {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accelerator::Tcg => ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max"],
        }
    }
}

fn boots_under_kvm(kernel: &Path, serial: &PathBuf) -> Result<bool, LabError> {
    fs::write(serial, "").map_err(LabError::file("create", serial))?;
    let mut command = contained(QEMU.find()?)?;
    command.args(Accelerator::Kvm.arguments());
    command.args(["-machine", "q35", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot"]);
    command.arg("-serial").arg(format!("file:{}", serial.display()));
    command.arg("-kernel").arg(kernel);
    command.args(["-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut qemu = command
        .spawn()
        .map_err(|source| LabError::Spawn { program: QEMU.program.to_owned(), source })?;
    let deadline = Instant::now() + PATIENCE;
    let speaks = loop {
        let text = fs::read(serial).map_err(LabError::file("read", serial))?;
        if String::from_utf8_lossy(&text).contains("Linux version") {
            break true;
        }
        let ended = qemu.try_wait().is_ok_and(|status| status.is_some());
        if ended || Instant::now() > deadline {
            break false;
        }
        thread::sleep(Duration::from_millis(50));
    };
    // It may have ended by itself; either way it is waited for.
    let _ = qemu.kill();
    let _ = qemu.wait();
    Ok(speaks)
}
