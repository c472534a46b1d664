//! Trees with secrets in them.

use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for sub in ["etc/ssh", "usr/share", "root/.ssh", "tmp", "proc"] {
        fs::create_dir_all(dir.path().join(sub)).unwrap();
    }
    dir
}

fn none() -> Patterns {
    Patterns::new("--allow-secret", &[]).unwrap()
}

fn paths(findings: &[Finding]) -> Vec<(&str, Kind)> {
    findings.iter().map(|f| (f.path.as_str(), f.kind)).collect()
}

#[test]
fn every_secret_is_named_and_nothing_else() {
    let dir = tree();
    let put = |path: &str, text: &[u8]| fs::write(dir.path().join(path), text).unwrap();
    let key = "-----BEGIN PRIVATE KEY-----\n".to_owned() + &"Ab3/".repeat(16) + "\n";
    put("etc/ssh/ssh_host_rsa_key", b"x");
    put("etc/hostname", b"node\n");
    put("root/.ssh/id_any", key.as_bytes());
    // after a chain of certificates
    put("etc/bundle.pem", ("certificate\n".repeat(5000) + &key).as_bytes());
    // in what is no text it would be a mention in a program
    put("usr/share/program", &[b"\x7fELF\0", key.as_bytes()].concat());
    // not packed
    put("tmp/key", key.as_bytes());
    put("proc/key", key.as_bytes());
    // not followed, neither to files nor around in circles
    symlink("../../root/.ssh/id_any", dir.path().join("usr/share/link")).unwrap();
    symlink("..", dir.path().join("usr/loop")).unwrap();
    assert!(Command::new("mkfifo").arg(dir.path().join("etc/fifo")).status().unwrap().success());
    put("etc/machine-id", b"0123456789abcdef0123456789abcdef\n");

    let report = scan(dir.path(), "", &mut none(), &mut none()).unwrap();
    let expected = [
        ("/etc/bundle.pem", Kind::PrivateKey),
        ("/etc/ssh/ssh_host_rsa_key", Kind::SshHostKey),
        ("/root/.ssh/id_any", Kind::PrivateKey),
    ];
    assert_eq!(paths(&report.refused), expected);
    assert_eq!(report.files, 6);
    assert!(report.notices[0].starts_with("/etc/machine-id"), "{:?}", report.notices);

    // in the initrd /tmp is no other place
    let report = scan(dir.path(), "initrd:", &mut none(), &mut none()).unwrap();
    assert!(paths(&report.refused).contains(&("initrd:/tmp/key", Kind::PrivateKey)));
}

#[test]
fn what_is_allowed_is_listed_apart_and_the_flag_of_a_finding_allows_it() {
    let dir = tree();
    let names = ["plain", "with space", "it's", "[x]*", "not \u{fffd}"];
    for name in names {
        fs::write(
            dir.path().join("etc/ssl.pem").with_file_name(name),
            "AGE-SECRET-KEY-1".to_owned() + &"Q".repeat(58),
        )
        .unwrap();
    }
    let odd = std::ffi::OsStr::from_bytes(b"etc/\xff\xfe");
    fs::copy(dir.path().join("etc/plain"), dir.path().join(odd)).unwrap();
    for prefix in ["", "initrd:"] {
        let all = scan(dir.path(), prefix, &mut none(), &mut none()).unwrap().refused;
        assert_eq!(all.len(), names.len() + 1);
        for one in &all {
            let mut allow =
                Patterns::new("--allow-secret", std::slice::from_ref(&one.allow)).unwrap();
            let report = scan(dir.path(), prefix, &mut allow, &mut none()).unwrap();
            assert_eq!(report.allowed, std::slice::from_ref(one), "{}", one.flag());
            assert_eq!(report.refused.len(), all.len() - 1);
            assert_eq!(allow.unused().count(), 0);
        }
    }
    let text = ["etc/*", "no/such"].map(str::to_owned);
    let mut allow = Patterns::new("--allow-secret", &text).unwrap();
    assert!(scan(dir.path(), "", &mut allow, &mut none()).unwrap().refused.is_empty());
    assert_eq!(allow.unused().collect::<Vec<_>>(), ["no/such"]);
}

#[test]
fn the_flag_survives_a_shell() {
    let finding =
        |allow: &str| Finding { path: String::new(), kind: Kind::AgeKey, allow: allow.to_owned() };
    assert_eq!(finding("/etc/x.key").flag(), "--allow-secret /etc/x.key");
    for path in ["/a b", "/it's", "/$HOME", "/*"] {
        let line = format!("printf %s {}", finding(path).flag().replace("--allow-secret ", ""));
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), path);
    }
}
