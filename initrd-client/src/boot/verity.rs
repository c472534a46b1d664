//! dm-verity in front of the loop device: the kernel compares each block that it reads with the tree
//! behind the image, whose root hash is in the manifest.

use std::path::Path;

use proto::boot_record::VerityRecord;
use proto::event::VerityUse;
use proto::kernel_args::VerityMode;
use proto::verity::Verity;
use sys::device_mapper::MappedDevice;
use sys::loop_device::DeviceNumber;

use super::BootError;

/// Name of the mapped device.
#[cfg(feature = "verity")]
const NAME: &str = "beeswarm-root";

/// What stands between the loop device and the mount.
#[derive(Debug)]
pub(super) enum Guard {
    /// The image has no tree, and none was demanded.
    None,
    /// It has one that is not used, and why.
    Unused(String),
    /// Each block is checked.
    Active(MappedDevice),
}

impl Guard {
    /// Sets it up for image and tree on the loop device `number`.
    ///
    /// # Errors
    /// What is missing, when it is demanded.
    pub(super) fn set_up(
        mode: VerityMode,
        verity: Option<&Verity>,
        number: DeviceNumber,
        mapper: &Path,
    ) -> Result<Self, String> {
        let result = match (mode, verity) {
            (VerityMode::Off | VerityMode::Auto, None) => return Ok(Self::None),
            (VerityMode::Off, Some(_)) => Err("beeswarm.verity=off".to_owned()),
            (VerityMode::Require, None) => Err("the image has no dm-verity tree".to_owned()),
            (_, Some(verity)) => create(verity, number, mapper),
        };
        match result {
            Ok(device) => Ok(Self::Active(device)),
            Err(reason) if mode == VerityMode::Require => Err(reason),
            Err(reason) => Ok(Self::Unused(reason)),
        }
    }

    /// What is to be mounted instead of the loop device.
    pub(super) fn device(&self) -> Option<&Path> {
        match self {
            Self::Active(device) => Some(device.path()),
            _ => None,
        }
    }

    pub(super) fn report(&self) -> Option<VerityUse> {
        match self {
            Self::None => None,
            Self::Unused(reason) => Some(VerityUse::Inactive(reason.clone())),
            Self::Active(device) => Some(VerityUse::Active(device.path().display().to_string())),
        }
    }

    pub(super) fn record(&self, verity: Option<&Verity>) -> Option<VerityRecord> {
        let (device, root_hash) = (self.device()?, verity?.root_hash);
        Some(VerityRecord { mapped: device.display().to_string(), root_hash })
    }

    /// An input/output error through dm-verity means that a block is not what it should be: the file
    /// behind it lies in memory.
    pub(super) fn explain(&self, error: BootError) -> BootError {
        match (self, error) {
            (Self::Active(_), BootError::Mount(error)) if error.is_read_error() => {
                BootError::WrongTree(error)
            }
            (_, error) => error,
        }
    }

    /// Takes the device away again, so that the loop device can go.
    pub(super) fn remove(&self) {
        if let Self::Active(device) = self {
            // there is an error to tell already
            let _ = device.remove();
        }
    }
}

#[cfg(feature = "verity")]
fn create(verity: &Verity, number: DeviceNumber, mapper: &Path) -> Result<MappedDevice, String> {
    let root_hash = verity.root_hash.to_string();
    let table = sys::device_mapper::Table {
        name: NAME,
        // by this `veritysetup status` knows it
        uuid: &format!("CRYPT-VERITY-{}-{NAME}", root_hash.get(..32).unwrap_or_default()),
        length: verity.hash_offset(),
        target: "verity",
        parameters: &verity.table(&number.to_string()),
    };
    MappedDevice::create(mapper, &table).map_err(|error| crate::discover::chain(&error))
}

#[cfg(not(feature = "verity"))]
fn create(_: &Verity, _: DeviceNumber, _: &Path) -> Result<MappedDevice, String> {
    Err("this client was built without dm-verity".to_owned())
}
