//! The boot scripts in the real iPXE: a machine without an operating system, from power-on to the first
//! instruction of a kernel, which is a few bytes of ours and prints its command line.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use lab::{Accelerator, BitRate, Firmware, Node, Vm, VmConfig, dnsmasq, program};
use proto::event::{EVENT_VERSION, Event, EventBatch, EventKind};

use super::fixture::{ADMIN, Cluster, ip};

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

/// Waits until the console shows these words, one after the other, wherever its screen broke the lines.
fn shows(vm: &mut Vm, words: &[&str]) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let bytes = fs::read(vm.console_path()).unwrap();
        let text: String =
            String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect();
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

/// A node that says it serves kernel and initrd, with the token of its boot script.
fn becomes_mirror(node: &Node) {
    let exchange = |request: String| {
        let mut stream = node.connect(format!("{ADMIN}:6969").parse().unwrap(), LIMIT).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let (mac, head) = (node.mac(), format!("Host: {ADMIN}:6969\r\nConnection: close\r\n"));
    let script =
        exchange(format!("GET /boot/{mac}.ipxe HTTP/1.1\r\n{head}User-Agent: iPXE\r\n\r\n"));
    let token = script.split(' ').find_map(|word| word.strip_prefix("beeswarm.token="));
    let token = token.unwrap_or_else(|| panic!("{script}"));
    let (device, user) = ("/dev/loop0".into(), "nobody".into());
    let kind = EventKind::Seeding { device, user, uploaded: 0, http: Some(8080) };
    let batch = EventBatch {
        version: EVENT_VERSION,
        boot_id: "b".into(),
        token: Some(token.to_owned()),
        macs: vec![],
        uuid: None,
        events: vec![Event { seq: 1, uptime_ms: 1, kind }],
    };
    let body = serde_json::to_string(&batch).unwrap();
    let answer = exchange(format!(
        "POST /api/v1/nodes/{mac}/events HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
}

/// The machine's line in the inventory, which is replaced at once.
fn tell(file: &Path, machine: &Node, channel: &str, boot: &str) {
    let args = OWN_ARGS.replace('"', "\"\"");
    let line = format!("{},vm,\"{args}\",{channel},{boot}\n", machine.mac());
    let new = file.with_extension("new");
    fs::write(&new, format!("mac,name,kernel_args,channel,boot\n{line}")).unwrap();
    fs::rename(&new, file).unwrap();
}

#[test]
fn a_machine_goes_to_its_disk_or_waits_or_boots_around_a_dead_mirror() {
    let cluster = Cluster::start("netboot", 1, BitRate::mbit(400));
    let machine = cluster.machine_port("vm");
    let initrd = vec![7; 1 << 20];
    let revision = cluster.publish_with(93, 256 << 10, true, (&kernel(), &initrd));
    let file = tempfile::tempdir().unwrap();
    let inventory = file.path().join("nodes.csv");
    tell(&inventory, &machine, "", "disk");
    let flags = ["--mirrors=unverified", "--inventory", inventory.to_str().unwrap()];
    let _tracker = cluster.tracker_with(&flags);
    let _seeder = cluster.seeder(&["--no-swarm"]);
    let bee_tracker = program("bee-tracker").unwrap();
    let _dnsmasq =
        dnsmasq::start(&cluster.admin, std::slice::from_ref(&machine), &bee_tracker).unwrap();
    let config = VmConfig {
        memory_mib: 128,
        accelerator: Accelerator::Tcg,
        card: "virtio-net-pci".into(),
        firmware: Firmware::Bios,
    };

    let mut vm = Vm::power_on(&machine, &config).unwrap();
    shows(&mut vm, &["goes on to its disk: the inventory says so", "No bootable device"]);
    vm.power_off().unwrap();

    tell(&inventory, &machine, "later", "");
    let mut vm = Vm::power_on(&machine, &config).unwrap();
    let waits = "waits: nothing is published in channel later. Next try in 5 s.";
    shows(&mut vm, &[waits, waits]);

    // its mirror was switched off since
    let mirror = &cluster.nodes[0];
    becomes_mirror(mirror);
    ip(mirror, "link set eth0 down");
    tell(&inventory, &machine, "", "");
    let id = &revision.reference.id;
    shows(
        &mut vm,
        &[
            &format!("kernel and initrd from http://{}:8080/revisions/demo/{id}", mirror.ip()),
            "failed (reason above). Now from the admin host.",
            &format!("kernel and initrd from http://{ADMIN}:8080/revisions/demo/{id}"),
            &format!("initrd=initrd.img root=beeswarm:http://{ADMIN}:8080/revisions/demo/{id}/ "),
            &format!(" beeswarm.node={} ", machine.mac()),
            OWN_ARGS,
        ],
    );
}
