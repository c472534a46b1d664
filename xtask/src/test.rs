//! `cargo xtask test`: everything there is to prove, in one command.
//!
//! The checks, then one build of all programs and tests, then each crate's tests, the documents'
//! examples, the size of the initrd's client, the labs, and the boot test (`cargo xtask demo`). A step that fails does not stop the
//! others, and the last line says how many passed.

use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Parser;
use lab::client::{Foreign, NGINX, OPENTRACKER};
use lab::tool::Tool;

use crate::check;
use crate::check::tools::{self, Program};
use crate::demo::packages::{NEEDS, OVMF};
use crate::dist::size;
use crate::rqbit;
use crate::steps::{Outcome, Steps};
use crate::workspace::say;
use crate::{api_test, page_test, python};
use executables::Executable;

mod executables;
pub(crate) mod limited;

/// The crate whose tests are labs: network namespaces, shaped links, QEMU.
const LAB_PACKAGE: &str = "tests";

/// Programs that tests call, beside those of the demo and of the checks.
const CALLED_BY_TESTS: &[Program] = &[
    Program::System(Tool::new("getfattr", "extended attributes of a packed root", "attr", "attr")),
    Program::System(Tool::new(
        "setcap",
        "file capabilities of a packed root",
        "libcap2-bin",
        "libcap",
    )),
    Program::System(Tool::new("openssl", "keys that the packer refuses", "openssl", "openssl")),
    Program::System(Tool::new("git", "the commit that an image was made of", "git", "git")),
    Program::System(Tool::new("setfacl", "access control lists of a packed root", "acl", "acl")),
    Program::System(Tool::new("mkfs.erofs", "EROFS images", "erofs-utils", "erofs-utils")),
    Program::System(Tool::new("fusermount3", "hashing by who may not mount", "fuse3", "fuse3")),
    Program::System(Tool::new("rpmbuild", "packages of a packed root", "rpm", "rpm-build")),
    Program::System(Tool::new("rpmsign", "packages that dnf takes", "rpm", "rpm-sign")),
    Program::System(Tool::new("dnf", "roots that are made by a recipe", "dnf", "dnf")),
    Program::System(Tool::new(
        "createrepo_c",
        "a repository for dnf",
        "createrepo-c",
        "createrepo_c",
    )),
    Program::System(Tool::new("age-keygen", "keys that the packer refuses", "age", "age")),
    Program::System(Tool::new("gpg", "keys of packages", "gpg", "gnupg2")),
    Program::System(Tool::new("busybox", "a root that dnf makes", "busybox-static", "busybox")),
    Program::System(Tool::new("podman", "container images as it saves them", "podman", "podman")),
    Program::System(Tool::new(
        "dockerd",
        "container images as docker saves them",
        "docker.io",
        "moby-engine",
    )),
    Program::System(OPENTRACKER),
    Program::System(NGINX),
    Program::System(Tool::new("dhcpd", "lines for ISC dhcpd", "isc-dhcp-server", "dhcp-server")),
    Program::System(Tool::new("kea-dhcp4", "client classes for Kea", "kea-dhcp4-server", "kea")),
    Program::System(Tool::new(
        "minisign",
        "signatures that others make and check",
        "minisign",
        "minisign",
    )),
    Program::System(Tool::new(
        "veritysetup",
        "dm-verity trees to compare with",
        "cryptsetup-bin",
        "veritysetup",
    )),
    Program::System(Tool::new("unshare", "disks that are full", "util-linux", "util-linux")),
    Program::System(Tool::new("losetup", "loop devices", "mount", "util-linux")),
    Program::System(Tool::new("strace", "what mksquashfs takes back", "strace", "strace")),
    Program::System(Tool::new("tar", "roots that come as an archive", "tar", "tar")),
    Program::System(Tool::new("xz", "roots that come as an archive", "xz-utils", "xz")),
    Program::System(Tool::new("umoci", "container images to compare with", "umoci", "umoci")),
    Program::System(Tool::new("skopeo", "container images in every format", "skopeo", "skopeo")),
    Program::System(Tool::new(
        "ipmi_sim",
        "management controllers to reboot",
        "openipmi",
        "OpenIPMI-lanserv",
    )),
    Program::System(Tool::new(
        "ipmitool",
        "nodes that are rebooted by IPMI",
        "ipmitool",
        "ipmitool",
    )),
    Program::System(lab::tool::NFT),
    Program::System(Tool::new("script", "colours on a terminal", "bsdutils", "util-linux-script")),
    Program::System(Tool::new("ps", "processes that labs leave behind", "procps", "procps-ng")),
];

/// Name of the step that the tests depend on.
const BUILD: &str = "build of all programs and tests";

/// Longest time for one test program.
const TEST_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Longest time for a build.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Longest time for the boot test: the demo's own promise is 15 minutes.
const BOOT_LIMIT: Duration = Duration::from_secs(25 * 60);

/// Longest time for the second one: three more machines, one after the other, and a second image.
const OTHER_BOOT_LIMIT: Duration = Duration::from_secs(45 * 60);

/// A second boot: the kernel for real hardware with a card of that, UEFI, the other tools for the initrd, the
/// other image, a record of what is opened, and machines that must refuse.
pub(crate) const OTHER_BOOT: [&str; 15] = [
    "--nodes",
    "1",
    "--vms",
    "2",
    "--initrd-tool",
    "initramfs-tools",
    "--format",
    "erofs",
    "--every-initrd",
    "--record-order",
    "--card",
    "e1000e",
    "--firmware",
    "uefi",
    "--refusals",
];

/// Arguments of `cargo xtask test`.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Args {
    /// Leave out the labs and the boot test
    #[arg(long)]
    quick: bool,
    /// Leave out the boot test
    #[arg(long)]
    no_boot: bool,
    /// Boot once more with what is no default: the kernel for real hardware by each kind of initrd, EROFS,
    /// UEFI, an e1000e card, refusals of dm-verity
    #[arg(long, conflicts_with_all = ["no_boot", "quick"])]
    other_boot: bool,
    /// Open the status page in Chromium as well (`cargo xtask page-test`, in short)
    #[arg(long, conflicts_with = "quick")]
    browser: bool,
    /// Install missing packages with apt-get (needs root; always on when CI=true)
    #[arg(long)]
    install: bool,
    /// Processes in namespaces that join the boot test
    #[arg(long, default_value_t = 20)]
    nodes: u32,
    /// QEMU nodes in the boot test
    #[arg(long, default_value_t = 3)]
    vms: u32,
}

/// Runs everything.
///
/// # Errors
/// When a step fails; which ones has been printed by then.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    steps.run("packages", || packages(args));
    steps.run("tools that no distribution has", || foreign(args));
    check::run_into(&check::Args::default(), &mut steps)?;
    let mut programs = Vec::new();
    steps.run(BUILD, || {
        programs = executables::build(BUILD_LIMIT)?;
        Ok(Outcome::Passed { notes: vec![format!("{} test programs", programs.len())] })
    });
    if steps.has_failed(BUILD) {
        say("the tests are left out: they were not built");
    } else {
        run_tests(args, &programs, &mut steps);
    }
    steps.print_table();
    steps.print_failures();
    let (passed, failed) = (steps.passed(), steps.failed());
    say(format_args!("\n{passed} passed, {failed} failed"));
    anyhow::ensure!(failed == 0, "{failed} of {} steps failed", passed + failed);
    Ok(())
}

/// Everything that the tests and the demo call is there, or is installed now.
fn packages(args: &Args) -> anyhow::Result<Outcome> {
    let missing = || {
        // a lab boots a machine with UEFI
        let firmware = (!args.quick).then_some(&OVMF);
        let demo = NEEDS.iter().chain(firmware).filter(|need| !need.is_met());
        let ours = CALLED_BY_TESTS.iter().filter_map(Program::missing_tool);
        let peers = Foreign::ALL.into_iter().filter_map(Foreign::missing).chain(rqbit::missing());
        let ours = ours.chain(python::missing()).chain(peers.filter(|_| !args.quick));
        let browser = Program::System(page_test::CHROMIUM).missing_tool();
        let ours = ours.chain(browser.filter(|_| args.browser));
        demo.map(|need| (need.what(), need.why, need.debian, need.fedora))
            .chain(ours.map(|tool| (tool.program, tool.why, tool.debian, tool.fedora)))
            .collect::<Vec<_>>()
    };
    if args.install || tools::in_ci() {
        tools::install_packages(&missing().iter().map(|(_, _, debian, _)| *debian).collect())?;
    }
    let lines = missing().into_iter().map(|(what, why, debian, fedora)| {
        format!("{what} is missing ({why}); Debian: {debian}; Fedora: {fedora}")
    });
    let mut problems: Vec<String> = lines.collect();
    if !problems.is_empty() {
        problems.push("on Debian, `cargo xtask test --install` as root installs them".into());
    }
    Ok(Outcome::of(problems))
}

/// Tools from PyPI, and the client of the interop tests that has to be built.
fn foreign(args: &Args) -> anyhow::Result<Outcome> {
    let install = args.install || tools::in_ci();
    let mut problems = Vec::new();
    if install {
        python::build()?;
    }
    problems.extend(python::program("python3").err().map(|error| error.to_string()));
    if !args.quick {
        if install {
            rqbit::build()?;
        }
        problems.extend(lab::client::rqbit::find().err().map(|error| error.to_string()));
    }
    Ok(Outcome::of(problems))
}

fn run_tests(args: &Args, programs: &[Executable], steps: &mut Steps) {
    let mut crates: Vec<&str> = programs.iter().map(|program| program.folder.as_str()).collect();
    crates.dedup();
    let (labs, crates): (Vec<&str>, Vec<&str>) =
        crates.into_iter().partition(|folder| *folder == LAB_PACKAGE);
    for folder in crates {
        steps.run(&format!("tests of {folder}"), || tests_of(programs, folder));
    }
    steps.run("examples in the documentation", || {
        let mut command = tools::cargo();
        command.args(["test", "--workspace", "--doc", "--quiet"]);
        finished(limited::run(&mut command, TEST_LIMIT)?)
    });
    if args.quick {
        return;
    }
    steps.run("size of the initrd client", size::step);
    let none = || Outcome::of(Vec::new());
    steps.run("API, read by others", || api_test::run(&api_test::Args::default()).map(|()| none()));
    if args.browser {
        steps.run("status page in a browser", || {
            page_test::run(&page_test::Args::short()).map(|()| none())
        });
    }
    for folder in labs {
        steps.run("labs", || {
            anyhow::ensure!(
                nix::unistd::geteuid().is_root(),
                "the labs need root (network namespaces, loop devices); use sudo, or --quick to \
                 leave them out"
            );
            tests_of(programs, folder)
        });
    }
    if !args.no_boot {
        let (nodes, vms) = (args.nodes.to_string(), args.vms.to_string());
        let plain = ["--nodes", &nodes, "--vms", &vms, "--every-initrd", "--record-order"];
        steps.run("boot test", || boot(&plain, BOOT_LIMIT));
        if args.other_boot {
            steps.run("boot test of what is no default", || boot(&OTHER_BOOT, OTHER_BOOT_LIMIT));
        }
    }
}

/// Runs the test programs of one crate, all of them even when one fails.
fn tests_of(programs: &[Executable], folder: &str) -> anyhow::Result<Outcome> {
    let mut problems = Vec::new();
    for program in programs.iter().filter(|program| program.folder == folder) {
        say(format_args!("\n-- {folder}: {}", program.name));
        let mut command = Command::new(&program.path);
        // what cargo sets for the tests it runs
        command.current_dir(&program.manifest_folder);
        command.env("CARGO_MANIFEST_DIR", &program.manifest_folder);
        let ended = limited::run(&mut command, TEST_LIMIT)?;
        problems.extend(ended.problem().map(|text| format!("{}: {text}", program.name)));
    }
    Ok(Outcome::of(problems))
}

/// The demo, without a terminal: its own exit status says whether every node booted.
fn boot(args: &[&str], limit: Duration) -> anyhow::Result<Outcome> {
    // not this program's own file: the build may have replaced it
    let mut command = tools::cargo();
    command.args(["run", "--quiet", "--package", "xtask", "--", "demo"]);
    command.args(args).stdin(Stdio::null());
    finished(limited::run(&mut command, limit)?)
}

fn finished(ended: limited::Ended) -> anyhow::Result<Outcome> {
    Ok(Outcome::of(ended.problem().into_iter().collect()))
}
