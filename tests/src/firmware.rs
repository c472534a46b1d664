//! What a machine runs before its boot loader.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::LabError;
use crate::tool::Tool;

/// Firmware of a machine, and how it boots by network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Firmware {
    /// SeaBIOS, with the iPXE of the card's option ROM.
    #[default]
    Bios,
    /// OVMF (edk2): DHCP and TFTP of its own bring iPXE.
    Uefi,
    /// OVMF: DHCP and HTTP of its own bring iPXE.
    UefiHttp,
}

/// What UEFI machines need; files, not a program.
pub const OVMF: Tool = Tool::new("OVMF", "UEFI firmware of virtual machines", "ovmf", "edk2-ovmf");

/// OVMF's code and its variables as delivered: Debian, then Fedora.
const FILES: [(&str, &str); 3] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
];

impl std::str::FromStr for Firmware {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "bios" => Ok(Self::Bios),
            "uefi" => Ok(Self::Uefi),
            "uefi-http" => Ok(Self::UefiHttp),
            _ => Err("expected bios, uefi or uefi-http"),
        }
    }
}

impl Firmware {
    /// Whether it is installed.
    ///
    /// # Errors
    /// [`LabError::MissingTool`] names the package.
    pub fn check(self) -> Result<(), LabError> {
        if self == Self::Bios { Ok(()) } else { ovmf().map(|_| ()) }
    }

    /// QEMU's arguments; the machine's own variables are kept in `folder`.
    pub(crate) fn arguments(self, name: &str, folder: &Path) -> Result<Vec<OsString>, LabError> {
        if self == Self::Bios {
            return Ok(Vec::new());
        }
        let (code, fresh) = ovmf()?;
        let variables = folder.join(format!("{name}-firmware.vars"));
        fs::copy(&fresh, &variables).map_err(LabError::file("copy", fresh))?;
        let flash = |unit: u8, mode: &str, file: &Path| {
            let mut option =
                OsString::from(format!("if=pflash,format=raw,unit={unit}{mode},file="));
            option.push(file);
            ["-drive".into(), option]
        };
        let mut arguments = Vec::from(flash(0, ",readonly=on", &code));
        arguments.extend(flash(1, "", &variables));
        if self == Self::UefiHttp {
            // it would wait for an answer to PXE first
            for version in ["IPv4", "IPv6"] {
                let option = format!("name=opt/org.tianocore/{version}PXESupport,string=n");
                arguments.extend(["-fw_cfg".into(), option.into()]);
            }
        }
        Ok(arguments)
    }

    /// What a virtio card has in its option ROM: nothing under UEFI, so that the firmware's own network
    /// stack is what boots.
    pub(crate) fn rom(self, card: &str) -> &'static str {
        if self != Self::Bios && card.starts_with("virtio") { ",romfile=" } else { "" }
    }
}

fn ovmf() -> Result<(PathBuf, PathBuf), LabError> {
    let found = FILES
        .iter()
        .find(|(code, variables)| Path::new(code).is_file() && Path::new(variables).is_file());
    found.map(|(code, variables)| (code.into(), variables.into())).ok_or_else(|| OVMF.missing())
}
