//! `bee-tracker dnsmasq-config`: what the servers themselves say of it.

#![expect(clippy::unwrap_used, reason = "a failed step of a test ends the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bee-tracker");

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).arg("dnsmasq-config").args(args).output().unwrap()
}

fn text(args: &[&str]) -> String {
    let output = run(&[&["--address", "10.20.0.1"], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A program in a system folder; a test without it fails and says which package has it.
fn tool(name: &str, package: &str) -> PathBuf {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin"];
    let found = folders.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is missing; Debian: {package}; `cargo xtask test --install`")
    })
}

/// Runs a server's own check of a file.
fn accepts(program: &Path, args: &[&str], file: &Path, content: &str) {
    std::fs::write(file, content).unwrap();
    let output = Command::new(program).args(args).arg(file).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {words}\n{content}", program.display());
}

fn dnsmasq_accepts(content: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("beeswarm.conf");
    std::fs::write(&file, content).unwrap();
    let conf = format!("--conf-file={}", file.display());
    let output = Command::new(tool("dnsmasq", "dnsmasq-base")).args(["--test", &conf]).output();
    output.unwrap().status.success()
}

#[test]
fn dnsmasq_takes_both_and_refuses_a_broken_one() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    let net = ["--subnet", "10.20.0.0/16", "--tftp-root", root];
    let more =
        ["--interface", "lo", "--router", "10.20.0.254", "--dns", "9.9.9.9", "--lease", "2d"];
    for range in ["10.20.1.0-10.20.3.255", "static"] {
        let full = text(&[&net[..], &more, &["--range", range]].concat());
        assert!(dnsmasq_accepts(&full), "{full}");
        for (good, bad) in [
            (",255.255.0.0,", ",255.255.0.0.0,"),
            ("option:client-arch,", "option:client-architecture,"),
            ("option:vendor-class,", "option:vendor-klass,"),
            ("enable-tftp", "enable-ftp"),
        ] {
            assert!(full.contains(good), "{full}");
            let broken = full.replacen(good, bad, 1);
            assert!(!dnsmasq_accepts(&broken), "the check cannot fail:\n{broken}");
        }
    }
    let proxy = text(&[&net[..], &["--server", "dnsmasq-proxy"]].concat());
    assert!(dnsmasq_accepts(&proxy), "{proxy}");
    assert!(proxy.contains("dhcp-range=10.20.0.0,proxy,255.255.0.0\n"), "{proxy}");
}

#[test]
fn isc_dhcpd_takes_its_lines_anywhere() {
    let dhcpd = tool("dhcpd", "isc-dhcp-server");
    let lines = text(&["--server", "isc-dhcpd"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dhcpd.conf");
    let subnet = "subnet 10.20.0.0 netmask 255.255.0.0 {\n  range 10.20.1.0 10.20.3.255;\n";
    accepts(&dhcpd, &["-t", "-cf"], &file, &format!("{lines}\n{subnet}}}\n"));
    let (option, rest) = lines.split_once(";\n").unwrap();
    accepts(&dhcpd, &["-t", "-cf"], &file, &format!("{option};\n{subnet}{rest}}}\n"));
}

#[test]
fn kea_takes_its_classes() {
    let kea = tool("kea-dhcp4", "kea-dhcp4-server");
    let classes = text(&["--server", "kea", "--tftp", "10.20.0.9"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kea.conf");
    let config = format!(
        "{{ \"Dhcp4\": {{ \"valid-lifetime\": 4000,\n\
         \"lease-database\": {{ \"type\": \"memfile\", \"persist\": false }},\n\
         \"subnet4\": [ {{ \"subnet\": \"10.20.0.0/16\" }} ],\n{classes}}} }}\n"
    );
    accepts(&kea, &["-t"], &file, &config);
    assert_eq!(config.matches("\"next-server\": \"10.20.0.9\"").count(), 3, "{config}");
}

#[test]
fn every_kind_of_question_has_its_answer() {
    let full = ["--subnet", "10.20.0.0/16", "--range", "10.20.1.0-10.20.3.255"];
    let tracker = ["--tracker", "admin.cluster:7000"];
    for server in ["dnsmasq", "isc-dhcpd", "kea"] {
        let text = text(&[&full[..], &tracker, &["--server", server]].concat());
        for word in [
            "undionly.kpxe",
            "ipxe.efi",
            "beeswarm.ipxe",
            "http://admin.cluster:7000/ipxe/ipxe.efi",
            "HTTPClient",
        ] {
            assert!(text.contains(word), "{server}: {word} in\n{text}");
        }
        let comments = text.lines().filter(|l| l.contains('#') || l.contains("//")).count();
        assert!(comments >= 5, "{server} is not explained:\n{text}");
    }
    let script = text(&["--server", "ipxe-script"]);
    assert!(script.starts_with("#!ipxe\n") && script.ends_with("goto again\n"), "{script}");
    assert!(script.contains(" http://10.20.0.1:6969/boot.ipxe ||\n"), "{script}");
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let net = ["--subnet", "10.20.0.0/16"];
    for (args, words) in [
        (vec![], "--subnet"),
        (vec!["--server", "dnsmasq-proxy"], "--subnet"),
        (net.to_vec(), "--range"),
        ([&net[..], &["--range", "10.21.1.0-10.21.3.0"]].concat(), "10.21.1.0 is not in"),
        ([&net[..], &["--range", "static", "--router", "10.1.0.1"]].concat(), "--router 10.1.0.1"),
        (vec!["--subnet", "10.20.1.0/16"], "10.20.0.0/16"),
        (vec!["--interface", "eth0\nuser=root"], "--interface"),
    ] {
        let output = run(&[&["--address", "10.20.0.1"], &args[..]].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(words), "{args:?}: {error}");
    }
    let output = run(&["--server", "kea"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--address"));
    let output = run(&["--address", "10.20.0.1", "--server", "kea", "--output", "/nonexistent/x"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_file_is_written_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("beeswarm.ipxe");
    text(&["--server", "ipxe-script", "--output", file.to_str().unwrap()]);
    assert!(std::fs::read_to_string(file).unwrap().starts_with("#!ipxe\n"));
}
