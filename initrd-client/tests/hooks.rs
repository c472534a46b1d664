//! The dracut module's scripts: parsed by shells, checked by shellcheck, and run with dracut's
//! functions replaced by ones that write down how they were called.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// dracut's functions. `CMDLINE` is the kernel command line; `calls` collects what was called.
const STUBS: &str = r#"
getarg() {
    for word in $CMDLINE; do
        case "$word" in "$1"*) echo "${word#"$1"}"; return 0 ;; esac
    done
    return 1
}
emergency_shell() { echo "emergency_shell $*"; }
derror() { echo "derror $*"; }
inst_simple() { [ -e "$1" ] && echo "inst_simple $1 $2"; }
inst_script() { [ -x "$1" ] && echo "inst_script $1 $2"; }
inst_multiple() { echo "inst_multiple $*"; }
inst_hook() { [ -x "$3" ] && echo "inst_hook $1 $2 $3"; }
instmods() { echo "instmods hostonly=$hostonly $*"; }
dracut_module_included() { case " $MODULES " in *" $1 "*) return 0 ;; esac; return 1; }
"#;

fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dracut-module/55beeswarm")
}

fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output();
    output.unwrap_or_else(|error| panic!("this test needs {program}: {error}"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a script under dash in a mount namespace with empty `/run` and `/etc`; it cannot write to
/// the machine. Needs root.
fn sandboxed(script: &str) -> String {
    let script = format!(
        "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /etc && mkdir /etc/cmdline.d && cd /run || exit 9
         module={}
         {STUBS}
         {script}",
        module().display()
    );
    let output =
        run("unshare", &["--mount", "--propagation", "private", "dash", "-eu", "-c", &script]);
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

#[test]
fn shells_and_shellcheck_accept_every_script() {
    let mut scripts = 0;
    let trim = module().with_file_name("99beeswarm-trim");
    let folders = [module(), trim].map(|folder| std::fs::read_dir(folder).unwrap());
    for entry in folders.into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        if path.extension().is_none_or(|extension| extension != "sh") {
            continue;
        }
        scripts += 1;
        let is_bash = name.ends_with("-setup.sh");
        let shell = if is_bash { "bash" } else { "dash" };
        let output = run(shell, &["-n", &name]);
        assert!(output.status.success(), "{}", text(&output));
        let output = run("shellcheck", &["--shell", if is_bash { "bash" } else { "sh" }, &name]);
        assert!(output.status.success(), "{}", text(&output));
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 70, "{name} has {lines} lines: what needs more belongs into the client");
    }
    assert_eq!(scripts, 11);
}

#[test]
fn another_root_is_left_alone() {
    let out = sandboxed(
        r#"
        root=/dev/sda1 CMDLINE="root=/dev/sda1 rd.shell" NEWROOT=/sysroot; unset rootok
        . $module/parse-beeswarm.sh
        . $module/mount-beeswarm.sh
        mkdir normal early
        (set -- normal early late; . $module/beeswarm-generator.sh)
        echo "rootok=${rootok-unset}"; find . /etc -type f -o -type l
        "#,
    );
    assert_eq!(out, "rootok=unset\n");
}

#[test]
fn our_root_asks_for_the_network_without_a_deadline() {
    let parse = |cmdline: &str| {
        sandboxed(&format!(
            r#"root="beeswarm:http://h/" CMDLINE="root=beeswarm:http://h/ {cmdline}"
            . $module/parse-beeswarm.sh
            echo "rootok=$rootok"; cat /etc/cmdline.d/beeswarm.conf
            cat /run/systemd/network/*.network || true"#
        ))
    };
    let out = parse("");
    for part in
        ["rootok=1", "rd.neednet=1", "rd.retry=1000000", "ip=dhcp", "DHCP=yes", "Type=ether"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    let out = parse("BOOTIF=01-52-54-00-00-00-07");
    assert!(out.contains("MACAddress=52-54-00-00-00-07") && !out.contains("ip=dhcp"), "{out}");
    let out = parse("ip=10.0.0.5::10.0.0.1:255.255.255.0::eth0:off");
    assert!(out.contains("rd.neednet=1") && !out.contains("[Match]"), "{out}");
}

#[test]
fn the_generator_puts_our_mount_before_the_one_of_fstab_generator() {
    let out = sandboxed(
        r#"
        CMDLINE="quiet root=beeswarm:/rootimg.torrent"
        mkdir normal early late
        (set -- normal early late; . $module/beeswarm-generator.sh)
        readlink early/sysroot.mount normal/initrd-root-fs.target.requires/sysroot.mount
        "#,
    );
    assert_eq!(out, "/usr/lib/beeswarm/sysroot.mount\nearly/sysroot.mount\n");
}

#[test]
fn the_mount_hook_runs_the_client_and_ends_in_a_shell_when_it_gives_up() {
    let hook = |client: &str| {
        sandboxed(&format!(
            r#"root=beeswarm:/x.torrent NEWROOT=/sysroot CMDLINE=""
            mkdir bin; printf '#!/bin/sh\necho "client $*"\n{client}\n' > bin/bee-initrd-client
            chmod +x bin/bee-initrd-client; PATH=/run/bin:$PATH
            . $module/mount-beeswarm.sh"#
        ))
    };
    assert_eq!(hook("exit 0"), "client boot --root /sysroot\n");
    let out = hook("exit 3");
    assert!(out.contains("emergency_shell beeswarm:") && out.contains("(exit code 3)"), "{out}");
}

/// Runs functions of module-setup.sh with the stubs; gives exit code and output.
fn setup(script: &str) -> (i32, String) {
    let script =
        format!("{STUBS}\nmoddir={0}\n. {0}/module-setup.sh\n{script}", module().display());
    let output = run("bash", &["-c", &script]);
    (output.status.code().unwrap(), text(&output))
}

#[test]
fn the_module_is_opt_in() {
    assert_eq!(setup("check").0, 255);
}

#[test]
fn the_module_takes_the_network_that_fits() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("lib")).unwrap();
    let depends = |variables: &str| {
        let root = dir.path().display();
        let script = format!("dracutsysrootdir={root} systemdutildir=/lib\n{variables}\ndepends");
        setup(&script).1.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert!(depends("").ends_with("dracut-systemd network"));
    // a tenth of bash, where there is one
    assert!(!depends("").contains("dash"));
    let dash = dir.path().join("bin/dash");
    let executable = || std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::create_dir_all(dir.path().join("bin")).unwrap();
    std::fs::write(&dash, "").unwrap();
    std::fs::set_permissions(&dash, executable()).unwrap();
    assert!(depends("").contains(" dash "));
    let networkd = dir.path().join("lib/systemd-networkd");
    std::fs::write(&networkd, "").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&networkd, mode).unwrap();
    // which is installed by our own module
    assert!(depends("").ends_with("dracut-systemd"));
    assert!(depends("MODULES=network-manager").ends_with("dracut-systemd network"));
    let without = depends("omit_dracutmodules='plymouth systemd dracut-systemd'");
    assert!(!without.contains("systemd") && without.contains("network"), "{without}");
}

#[test]
fn the_module_installs_hooks_or_units() {
    let dir = tempfile::tempdir().unwrap();
    let client = dir.path().join("client");
    let environment = format!(
        "BEESWARM_CLIENT={} systemdsystemunitdir=/units systemdutildir=/util",
        client.display()
    );
    let (code, out) = setup(&format!("{environment}; install"));
    assert!(code != 0 && out.contains("set BEESWARM_CLIENT"), "{out}");
    std::fs::write(&client, "").unwrap();
    let (code, out) = setup(&format!("{environment}; MODULES='base systemd'; install"));
    assert_eq!(code, 0, "{out}");
    for part in [
        "/usr/bin/bee-initrd-client",
        "/units/beeswarm-fetch.service",
        "/usr/lib/beeswarm/sysroot.mount",
        "/util/system-generators/beeswarm-generator",
        "/units/beeswarm-cards.service",
        "/usr/lib/beeswarm/missing-driver",
        "/usr/lib/beeswarm/left-out",
        "inst_hook cmdline 30",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(!out.contains("inst_hook mount"), "{out}");
    let (code, out) = setup(&format!("{environment}; install"));
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("inst_hook mount 30") && !out.contains("/units"), "{out}");
    let torrent = dir.path().join("x.torrent");
    let with_torrent = format!("{environment} BEESWARM_TORRENT={}; install", torrent.display());
    assert_ne!(setup(&with_torrent).0, 0, "a missing torrent went unnoticed");
    std::fs::write(&torrent, "").unwrap();
    assert!(setup(&with_torrent).1.contains("x.torrent /rootimg.torrent"));
    // what nodes trust is never left out silently
    let trust = dir.path().join("trust.json");
    let with_trust = format!("{environment} BEESWARM_TRUST={}; install", trust.display());
    assert_ne!(setup(&with_trust).0, 0, "a missing trust policy went unnoticed");
    std::fs::write(&trust, "").unwrap();
    assert!(setup(&with_trust).1.contains("trust.json /etc/beeswarm/trust.json"));
}

#[test]
fn drivers_are_taken_whatever_the_packing_host_has() {
    let (_, out) = setup("hostonly=yes; installkernel");
    for name in ["loop", "squashfs", "overlay", "erofs", "virtio_net", "e1000e", "mlx5_core"] {
        assert!(out.split_whitespace().any(|word| word == name), "{name}: {out}");
    }
    assert!(out.lines().all(|line| line.contains("hostonly= ")) && !out.contains('#'), "{out}");
    // those that the packer has chosen, and no others
    let (_, out) = setup("BEESWARM_DRIVERS='loop igb'; installkernel");
    assert_eq!(out, "instmods hostonly= loop igb\n");
}

/// Runs missing-driver.sh for a made-up bus with one card; `driven` and `known` say whether a driver
/// has it, and whether modprobe knows one; the kernel's list of drivers has none for 8086:10d3.
fn missing_driver(device: &str, driven: bool, known: bool) -> String {
    let driver = if driven { "mkdir bus/pci/devices/0/driver" } else { ":" };
    let answer = if known { "echo igb" } else { "exit 1" };
    sandboxed(&format!(
        r#"mkdir -p bin bus/pci/devices/0 bus/pci/devices/1
        cd bus/pci/devices
        echo 0x020000 > 0/class; echo 0x8086 > 0/vendor; echo {device} > 0/device
        [ {device} != 0x125b ] || alias=pci:busybox:1
        echo ${{alias-pci:alias}} > 0/modalias; echo 0x010601 > 1/class
        cd /run; {driver}
        printf '#!/bin/sh\n' > bin/udevadm; printf '#!/bin/sh\n{answer}\n' > bin/modprobe
        chmod +x bin/*; PATH=/run/bin:$PATH SYSFS=/run
        printf '8086:10d3 e1000e\n8086:16* x550\n' > left-out
        printf 'alias pci:v0000FFFF* other\nalias pci:busybox* igc\n' > modules.alias
        sed -e s,/usr/lib/beeswarm/left-out,/run/left-out, -e s,/dev/kmsg,/run/kmsg, \
            -e 's,"/lib/modules/.*/modules.alias",/run/modules.alias,' \
            $module/missing-driver.sh > script
        . ./script; cat kmsg 2> /dev/null || true"#
    ))
}

#[test]
fn a_card_without_a_driver_is_named_with_what_would_drive_it() {
    let message = |card: &str, driver: &str| {
        let line = format!(
            "beeswarm: network card PCI {card} has no driver in this initrd: pack with --driver \
             {driver}\n"
        );
        // on the console, and in the kernel's log
        format!("{line}{line}")
    };
    assert_eq!(missing_driver("0x10d3", false, false), message("8086:10d3", "e1000e"));
    assert_eq!(missing_driver("0x1677", false, false), message("8086:1677", "x550"));
    assert_eq!(missing_driver("0xabcd", false, false), message("8086:abcd", "NAME"));
    assert_eq!(missing_driver("0x10d3", true, true), "");
    let out = missing_driver("0x1521", false, true);
    assert!(out.contains("8086:1521: its driver igb does not take it"), "{out}");
    // busybox's modprobe cannot be asked
    let out = missing_driver("0x125b", false, false);
    assert!(out.contains("8086:125b: its driver igc does not take it"), "{out}");
}

#[test]
fn systemd_knows_every_word_of_the_units() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]);
    for name in ["beeswarm-fetch.service", "beeswarm-cards.service", "sysroot.mount"] {
        let unit = std::fs::read_to_string(module().join(name)).unwrap();
        assert!(unit.lines().count() <= 30, "{name}");
        let path = dir.path().join(name);
        // the program is not installed on the machine that runs this test
        std::fs::write(
            &path,
            unit.replace("/usr/bin/bee-initrd-client", "/bin/true")
                .replace("/usr/lib/beeswarm/missing-driver", "/bin/true"),
        )
        .unwrap();
        command.arg(path);
    }
    let output = command.output().expect("this test needs systemd-analyze: install systemd");
    assert!(output.status.success() && text(&output).is_empty(), "{}", text(&output));
}
