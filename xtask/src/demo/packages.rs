//! What the demo needs from the system: each thing, why, and the packages that bring it.

use std::fs;
use std::path::Path;

use lab::Firmware;
use lab::tool::{self, Tool};

/// Where distributions put dracut's modules.
const DRACUT_MODULES: &str = "/usr/lib/dracut/modules.d";

/// How to tell that something is there.
#[derive(Debug, Clone, Copy)]
enum Sign {
    /// A program in `PATH` or a system folder.
    Program(Tool),
    /// One of these paths exists.
    Path(&'static [&'static str]),
    /// dracut has this module, under whatever number.
    Module(&'static str),
    /// Whoever uses it knows where to look.
    Asked(fn() -> bool),
}

/// One thing that is needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    what: &'static str,
    /// What it is for.
    pub(crate) why: &'static str,
    /// Debian and Ubuntu.
    pub(crate) debian: &'static str,
    /// Fedora and RHEL-likes.
    pub(crate) fedora: &'static str,
    sign: Sign,
}

impl Need {
    const fn program(tool: Tool) -> Need {
        let Tool { program, why, debian, fedora } = tool;
        Need { what: program, why, debian, fedora, sign: Sign::Program(tool) }
    }

    const fn path(
        what: &'static str,
        why: &'static str,
        debian: &'static str,
        fedora: &'static str,
        paths: &'static [&'static str],
    ) -> Need {
        Need { what, why, debian, fedora, sign: Sign::Path(paths) }
    }

    /// What is looked for.
    pub(crate) fn what(&self) -> &'static str {
        self.what
    }

    /// Whether it is there.
    pub(crate) fn is_met(&self) -> bool {
        match self.sign {
            Sign::Program(tool) => tool.find().is_ok(),
            Sign::Path(paths) => paths.iter().any(|path| Path::new(path).exists()),
            Sign::Asked(is_there) => is_there(),
            Sign::Module(name) => fs::read_dir(DRACUT_MODULES).is_ok_and(|entries| {
                entries.flatten().any(|entry| {
                    let file = entry.file_name();
                    file.to_str().is_some_and(|file| {
                        file.trim_start_matches(|c: char| c.is_ascii_digit()) == name
                    })
                })
            }),
        }
    }
}

/// For machines whose firmware is UEFI.
pub(crate) const OVMF: Need =
    Need { sign: Sign::Asked(|| Firmware::Uefi.check().is_ok()), ..Need::program(lab::OVMF) };

/// For images of Ubuntu.
pub(crate) const UBUNTU_KEYRING: Need = Need::path(
    "Ubuntu's keyring",
    "packages are what Ubuntu signed",
    "ubuntu-keyring",
    "ubu-keyring",
    &[lab::root::UBUNTU_KEYRING],
);

/// What every demo needs.
pub(crate) const NEEDS: &[Need] = &[
    Need::program(lab::root::MMDEBSTRAP),
    Need::program(Tool::new("musl-gcc", "SQLite in the static tracker", "musl-tools", "musl-gcc")),
    Need::program(Tool::new(
        "mksquashfs",
        "packs the root into one compressed image",
        "squashfs-tools",
        "squashfs-tools",
    )),
    // dracut-core and not dracut: the latter replaces the host's initramfs-tools
    Need::program(Tool::new("dracut", "builds the nodes' initrd", "dracut-core", "dracut")),
    Need {
        what: "dracut's network modules",
        why: "network in the initrd",
        debian: "dracut-network",
        fedora: "dracut-network",
        sign: Sign::Module("kernel-network-modules"),
    },
    Need::path(
        "systemd-networkd",
        "addresses in the initrd",
        "systemd",
        "systemd-networkd",
        &["/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd"],
    ),
    Need::program(Tool::new(
        "busybox",
        "drivers and DHCP in the initrd",
        "busybox-static",
        "busybox",
    )),
    Need::program(Tool::new("cpio", "the initrd's archive format", "cpio", "cpio")),
    Need::program(Tool::new("zstd", "compresses the initrd", "zstd", "zstd")),
    Need::program(Tool::new("depmod", "the kernel's list of modules", "kmod", "kmod")),
    Need::program(lab::QEMU),
    Need::path(
        "iPXE in QEMU's network card",
        "machines boot by network",
        "ipxe-qemu",
        "ipxe-roms-qemu",
        &[
            "/usr/lib/ipxe/qemu/efi-virtio.rom",
            "/usr/share/qemu/efi-virtio.rom",
            "/usr/share/ipxe.efi/1af41000.rom",
            "/usr/share/ipxe/qemu/1af41000.rom",
        ],
    ),
    Need::path(
        "undionly.kpxe",
        "iPXE by TFTP, for firmware that has none",
        "ipxe",
        "ipxe-bootimgs-x86",
        &["/usr/lib/ipxe/undionly.kpxe", "/usr/share/ipxe/undionly.kpxe"],
    ),
    Need::program(lab::dnsmasq::DNSMASQ),
    Need::program(tool::IP),
    Need::program(tool::TC),
    Need::program(tool::UNSHARE),
    Need::program(tool::SETPRIV),
    Need::program(lab::root::SSH_KEYGEN),
    Need::program(super::check::SSH),
];

#[cfg(test)]
mod tests {
    use super::{NEEDS, OVMF};

    #[test]
    fn every_need_says_why_and_where_from() {
        for need in NEEDS.iter().chain([&OVMF]) {
            for text in [need.what(), need.why, need.debian, need.fedora] {
                assert!(!text.is_empty(), "{need:?}");
            }
        }
    }
}
