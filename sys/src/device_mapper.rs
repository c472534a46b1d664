//! Device-mapper: a block device whose sectors pass through a target of the kernel.
//!
//! As much of it as a read-only device with one target needs. The kernel makes the node `/dev/dm-N`
//! (devtmpfs); names below `/dev/mapper` are udev's, and not waited for.

mod ioctl;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, minor, mknod};
use thiserror::Error;

use crate::loop_device::SECTOR;
use ioctl::{Question, READ_ONLY, Request};

/// Where device-mapper listens.
pub const CONTROL: &str = "/dev/mapper/control";

/// Number of the control device, fixed since Linux 2.6.36.
const CONTROL_NUMBER: (u64, u64) = (10, 236);

/// A device could not be set up.
#[derive(Debug, Error)]
pub enum MapperError {
    /// No device-mapper in this kernel.
    #[error("this kernel has no device-mapper (module dm_mod)")]
    Control(#[source] io::Error),
    /// The kernel refused.
    #[error("device-mapper refuses to {step}{}", remedy(source))]
    Refused {
        /// What it was asked to do.
        step: &'static str,
        /// What the ioctl said.
        #[source]
        source: Errno,
    },
}

fn remedy(errno: &Errno) -> &'static str {
    match errno {
        Errno::EINVAL => " (see the kernel log; is the target's module in the initrd?)",
        Errno::EBUSY => " (there is one of this name already)",
        _ => "",
    }
}

/// A device that reads through one target.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Name, up to 127 characters.
    pub name: &'a str,
    /// Id, up to 128 characters; it begins with the name of the program that others take it for.
    pub uuid: &'a str,
    /// Length in bytes, a multiple of [`SECTOR`].
    pub length: u64,
    /// The kind of target.
    pub target: &'a str,
    /// Its parameters, as the kernel documents them.
    pub parameters: &'a str,
}

/// A mapped device. It stays when this is dropped.
#[derive(Debug)]
pub struct MappedDevice {
    control: File,
    name: String,
    path: PathBuf,
}

impl MappedDevice {
    /// Makes the device and reads its number. `control` is [`CONTROL`], except in tests. A device of the
    /// same name that nobody uses gives way: an attempt before this one left it.
    ///
    /// # Errors
    /// [`MapperError`]; nothing is left then.
    pub fn create(control: &Path, table: &Table<'_>) -> Result<Self, MapperError> {
        let control = open(control).map_err(MapperError::Control)?;
        let too_long = || refused("take such a table")(Errno::ENAMETOOLONG);
        let named = || Request::new(table.name, READ_ONLY).ok_or_else(too_long);
        let create = named()?.uuid(table.uuid).ok_or_else(too_long)?;
        let sectors = table.length / SECTOR;
        let load = named()?.table(sectors, table.target, table.parameters).ok_or_else(too_long)?;
        let resume = named()?;
        let mut made = create.ask(&control, Question::Create);
        if made == Err(Errno::EBUSY) && named()?.ask(&control, Question::Remove).is_ok() {
            made = create.ask(&control, Question::Create);
        }
        let number = made.map_err(refused("make a device"))?;
        // `dev` is in the kernel's own long form, whose lower 20 bits are spread as those of dev_t
        let path = PathBuf::from(format!("/dev/dm-{}", minor(number)));
        let device = Self { control, name: table.name.to_owned(), path };
        let loaded = load
            .ask(&device.control, Question::Load)
            .map_err(refused("load the table"))
            .and_then(|_| {
                resume.ask(&device.control, Question::Resume).map_err(refused("start the device"))
            });
        match loaded {
            Ok(_) => Ok(device),
            Err(error) => {
                // the first error is the one to tell
                let _ = device.remove();
                Err(error)
            }
        }
    }

    /// `/dev/dm-N`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the device away.
    ///
    /// # Errors
    /// [`MapperError::Refused`] while it is in use.
    pub fn remove(&self) -> Result<(), MapperError> {
        let error = refused("remove a device");
        let request = Request::new(&self.name, 0).ok_or(Errno::ENAMETOOLONG);
        request.and_then(|request| request.ask(&self.control, Question::Remove)).map_err(error)?;
        Ok(())
    }
}

fn refused(step: &'static str) -> impl Fn(Errno) -> MapperError {
    move |source| MapperError::Refused { step, source }
}

/// Opens the control device. Where its node is missing it is made: opening it lets the kernel load the
/// driver, which not every initrd does by itself.
fn open(control: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().read(true).write(true).open(control);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && control == Path::new(CONTROL) => {
            if let Some(folder) = control.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let number = makedev(CONTROL_NUMBER.0, CONTROL_NUMBER.1);
            mknod(control, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, number)?;
            let opened = open();
            if opened.is_err() {
                // a node that leads nowhere would tell others that there is a driver
                let _ = std::fs::remove_file(control);
            }
            opened
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_device_mapper_is_told() {
        let table = Table { name: "x", uuid: "x", length: 512, target: "zero", parameters: "" };
        let dir = tempfile::tempdir().unwrap();
        let error = MappedDevice::create(&dir.path().join("control"), &table).unwrap_err();
        assert!(matches!(error, MapperError::Control(_)), "{error}");
        // somewhere else no node is made
        assert!(!dir.path().join("control").exists());
        let error = MappedDevice::create(Path::new("/dev/null"), &table).unwrap_err();
        let MapperError::Refused { step: "make a device", source } = error else {
            panic!("{error:?}")
        };
        assert_eq!(source, Errno::ENOTTY);
        let long = "n".repeat(128);
        let table = Table { name: &long, ..table };
        let error = MappedDevice::create(Path::new("/dev/null"), &table).unwrap_err();
        assert!(error.to_string().contains("take such a table"), "{error}");
    }
}
