//! The boot scripts in the real iPXE: a machine without an operating system, from power-on to the first
//! instruction of a kernel, which is a few bytes of ours and prints its command line. UEFI takes no such kernel:
//! there it is the script that counts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lab::{Accelerator, BitRate, Firmware, Node, Proc, Vm, VmConfig, dnsmasq, program};

use super::fixture::{ADMIN, Cluster, Revision, ip};
use super::mirrors::{boot, serve, serves, wait_for_mirror};
use super::reseed::Loop;

/// Everything is emulated, on a host that may have other work.
const LIMIT: Duration = Duration::from_secs(240);

/// Kernel arguments with what means something to iPXE, and must arrive as it is.
const OWN_ARGS: &str = "demo.own=a&b;c|d#e$f%20g~(h) demo.last=\"x";

/// A kernel image (boot protocol 2.06) whose real-mode part writes its command line to the serial port.
fn kernel() -> Vec<u8> {
    let mut image = vec![0; 1024 + 512];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]); // one sector of real-mode code behind the boot sector
    put(0x1f4, &32_u32.to_le_bytes()); // 512 bytes of protected-mode code
    put(0x1fe, &[0x55, 0xaa]);
    put(0x200, &[0xeb, 0x6e]); // jmp 0x270
    put(0x202, b"HdrS");
    put(0x206, &0x0206_u16.to_le_bytes());
    put(0x211, &[0x01]); // loaded high
    put(0x214, &0x10_0000_u32.to_le_bytes());
    put(0x22c, &0x37ff_ffff_u32.to_le_bytes()); // highest address of the initrd
    put(0x238, &2047_u32.to_le_bytes()); // longest command line
    let code = [
        &[0x66, 0x8b, 0x36, 0x28, 0x02][..], // mov esi, [0x228]: where the command line is
        &[0x66, 0x89, 0xf0],                 // mov eax, esi
        &[0x66, 0xc1, 0xe8, 0x04],           // shr eax, 4
        &[0x8e, 0xd8],                       // mov ds, ax
        &[0x83, 0xe6, 0x0f],                 // and si, 15
        &[0xac, 0x84, 0xc0, 0x74, 0x12],     // next: lodsb; test al, al; jz done
        &[0x88, 0xc4],                       // mov ah, al
        &[0xba, 0xfd, 0x03, 0xec],           // full: mov dx, 0x3fd; in al, dx
        &[0xa8, 0x20, 0x74, 0xf8],           // test al, 0x20; jz full
        &[0x88, 0xe0, 0xba, 0xf8, 0x03],     // mov al, ah; mov dx, 0x3f8
        &[0xee, 0xeb, 0xe9],                 // out dx, al; jmp next
        &[0xf4, 0xeb, 0xfd],                 // done: hlt; jmp done
    ]
    .concat();
    put(0x270, &code);
    image
}

/// The console without the control characters, wherever its screen broke the lines.
fn console(vm: &Vm) -> String {
    let bytes = fs::read(vm.console_path()).unwrap();
    String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect()
}

/// Waits until the console shows these words, one after the other.
fn shows(vm: &mut Vm, words: &[&str]) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let text = console(vm);
        let mut rest = text.as_str();
        let all = words.iter().all(|word| match rest.split_once(word) {
            Some((_, behind)) => {
                rest = behind;
                true
            }
            None => false,
        });
        if all {
            return;
        }
        let ended = vm.try_wait().unwrap();
        assert!(Instant::now() < deadline && ended.is_none(), "{words:?} not in:\n{text}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The machine's line in the inventory, which is replaced at once.
fn tell(file: &Path, machine: &Node, channel: &str, boot: &str) {
    let args = OWN_ARGS.replace('"', "\"\"");
    let line = format!("{},vm,\"{args}\",{channel},{boot}\n", machine.mac());
    let new = file.with_extension("new");
    fs::write(&new, format!("mac,name,kernel_args,channel,boot\n{line}")).unwrap();
    fs::rename(&new, file).unwrap();
}

/// An admin host that serves a machine: its address, its iPXE, its script, kernel and initrd.
struct Bed {
    cluster: Cluster,
    machine: Node,
    revision: Revision,
    files: (Vec<u8>, Vec<u8>),
    inventory: PathBuf,
    _folder: tempfile::TempDir,
    _services: [Proc; 3],
}

impl Bed {
    fn start(test: &str, nodes: u32) -> Bed {
        let cluster = Cluster::start(test, nodes, BitRate::mbit(400));
        let machine = cluster.machine_port("vm");
        let files = (kernel(), vec![7; 1 << 20]);
        let revision = cluster.publish_with(93, 256 << 10, true, (&files.0, &files.1));
        let folder = tempfile::tempdir().unwrap();
        let inventory = folder.path().join("nodes.csv");
        tell(&inventory, &machine, "", "disk");
        let flags = ["--mirrors=unverified", "--inventory", inventory.to_str().unwrap()];
        let tracker = cluster.tracker_with(&flags);
        let seeder = cluster.seeder(&["--no-swarm"]);
        let bee_tracker = program("bee-tracker").unwrap();
        let machines = std::slice::from_ref(&machine);
        let dnsmasq = dnsmasq::start(&cluster.admin, machines, &bee_tracker).unwrap();
        let _services = [tracker, seeder, dnsmasq];
        Bed { cluster, machine, revision, files, inventory, _folder: folder, _services }
    }

    /// Changes what the inventory says of the machine.
    fn tell(&self, channel: &str, boot: &str) {
        tell(&self.inventory, &self.machine, channel, boot);
    }

    fn power_on(&self, firmware: Firmware) -> Vm {
        let config = VmConfig {
            memory_mib: if firmware == Firmware::Bios { 128 } else { 256 },
            accelerator: Accelerator::Tcg,
            // with the firmware's virtio driver iPXE of 2019 hangs when it is to leave
            card: if firmware == Firmware::Bios { "virtio-net-pci" } else { "e1000e" }.into(),
            firmware,
        };
        Vm::power_on(&self.machine, &config).unwrap()
    }
}

const WAITS: &str = "waits: nothing is published in channel later. Next try in 5 s.";

#[test]
fn a_machine_goes_to_its_disk_or_waits_or_boots_from_a_mirror_or_around_a_dead_one() {
    let bed = Bed::start("netboot", 2);
    let (cluster, revision) = (&bed.cluster, &bed.revision);
    let [mirror, other] = &cluster.nodes[..] else { panic!("two nodes") };
    let mut vm = bed.power_on(Firmware::Bios);
    shows(&mut vm, &["goes on to its disk: the inventory says so", "No bootable device"]);
    vm.power_off().unwrap();

    bed.tell("later", "");
    let mut vm = bed.power_on(Firmware::Bios);
    shows(&mut vm, &[WAITS, WAITS]);

    let device = Loop::attach(&cluster.store.revision(&revision.reference).unwrap().image());
    let booted = boot(mirror, (&bed.files.0, &bed.files.1));
    let mut service = serve(cluster, mirror, revision, &device, &booted.token);
    serves(&mut service);
    wait_for_mirror(other, &[mirror.ip().to_string()]);
    bed.tell("", "");
    let folder = format!("8080/revisions/demo/{}", revision.reference.id);
    let from_mirror = format!("kernel and initrd from http://{}:{folder}", mirror.ip());
    let from_admin = format!("kernel and initrd from http://{ADMIN}:{folder}");
    let root = format!("initrd=initrd.img root=beeswarm:http://{ADMIN}:{folder}/ ");
    let node = format!(" beeswarm.node={} ", bed.machine.mac());
    shows(&mut vm, &[&from_mirror, &root, &node, OWN_ARGS]);
    assert!(!console(&vm).contains(&from_admin), "its mirror was no use:\n{}", console(&vm));
    vm.power_off().unwrap();

    bed.tell("later", "");
    let mut vm = bed.power_on(Firmware::Bios);
    shows(&mut vm, &[WAITS]);
    // it was switched off since
    ip(mirror, "link set eth0 down");
    bed.tell("", "");
    let failed = "failed (reason above). Now from the admin host.";
    shows(&mut vm, &[&from_mirror, failed, &from_admin, &root, &node, OWN_ARGS]);
}

#[test]
fn a_machine_with_uefi_waits_or_gets_its_script_or_goes_to_its_disk() {
    let bed = Bed::start("netboot-uefi", 0);
    bed.tell("later", "");
    let mut vm = bed.power_on(Firmware::Uefi);
    shows(&mut vm, &[WAITS]);
    bed.tell("", "");
    // which tries what it is told; the kernel of this test is none for UEFI
    let revision = &bed.revision.reference;
    let boots = format!("{} boots demo {}", bed.machine.mac(), revision.id);
    shows(&mut vm, &[&boots, "failed (reason above). Next try in 5 s."]);
    bed.tell("", "disk");
    // for firmware that is a failure: else it would not go on, but show its menu
    shows(&mut vm, &["goes on to its disk: the inventory says so", "BdsDxe: failed to start"]);
}
