//! Orders and questions over TLS: `bee-packer` and `bee-tracker nodes` at a real tracker. Needs openssl, and
//! bee-tracker beside bee-packer (`cargo build -p beeswarm-tracker`, which `cargo xtask test` does).

#![cfg(test)]

use std::fs;
use std::path::Path;
use std::process::Output;

use store::Store;
use tempfile::TempDir;

use crate::bed::{Bed, Served, authority, expired, openssl, packer, program};

mod bed;

fn failed(output: &Output, parts: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    assert_eq!(error.lines().count(), 1, "{error}");
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Whatever `bee-packer` and `bee-tracker nodes` only ask, with these options.
fn asked(url: &str, options: &[&str]) -> [Output; 2] {
    let status = ["reimage", "--status", "--tracker-url", url];
    let nodes = ["nodes", "--json", "--tracker", url];
    [packer(&[&status, options].concat()), program("bee-tracker", &[&nodes, options].concat())]
}

fn unassign(url: &str, options: &[&str]) -> Output {
    packer(&[&["unassign", "--all", "--tracker-url", url], options].concat())
}

/// Keys and certificates, and a tracker that has them.
fn served() -> (TempDir, Served) {
    let dir = tempfile::tempdir().unwrap();
    authority(dir.path(), "ca", &["tracker", "admin"]);
    authority(dir.path(), "other", &["stranger"]);
    let bed = Served::start(dir.path(), "tracker");
    (dir, bed)
}

#[test]
fn the_right_authority_is_believed_and_reads() {
    let (dir, bed) = served();
    let dir = Bed(dir.path());
    let ca = dir.file("ca.pem");
    let [status, nodes] = asked(&bed.https(), &["--ca", &ca]);
    // the tracker has answered: there was none
    failed(&status, &["no rollout"]);
    assert_eq!(said(&nodes), "[]\n");
    // the same by the environment
    let nodes = bed::command("bee-tracker", &["nodes", "--json"])
        .env("BEESWARM_TRACKER_URL", bed.https())
        .env("BEESWARM_TRACKER_CA", &ca)
        .output()
        .unwrap();
    assert_eq!(said(&nodes), "[]\n");
    // what nodes run, by the announce URL
    Store::init(dir.file("store")).unwrap();
    let announce = format!("{}/announce", bed.https());
    let store = dir.file("store");
    let at = ["status", "--store", &store, "--tracker-url", &announce];
    let status = said(&packer(&[&at[..], &["--ca", &ca]].concat()));
    assert!(status.contains("the tracker started"), "{status}");
}

#[test]
fn a_plain_tracker_is_asked_as_before_with_a_scheme_and_without() {
    let (_dir, bed) = served();
    for url in [bed.http(), bed.http().replace("http://", "")] {
        let [status, nodes] = asked(&url, &[]);
        failed(&status, &["no rollout"]);
        assert_eq!(said(&nodes), "[]\n", "{url}");
    }
}

#[test]
fn who_is_not_the_tracker_is_not_believed() {
    let (dir, bed) = served();
    let dir = Bed(dir.path());
    let (ca, other) = (dir.file("ca.pem"), dir.file("other.pem"));
    for output in asked(&bed.https(), &["--ca", &other]) {
        failed(&output, &["is not signed by an authority in", &other, "with --ca"]);
    }
    // without --ca it is the system's file, or none
    for output in asked(&bed.https(), &[]) {
        failed(&output, &["/etc/ssl/certs/ca-certificates.crt", "with --ca"]);
    }
    // an authority of the same name that is another one
    authority(&dir.folder("double"), "ca", &[]);
    for output in asked(&bed.https(), &["--ca", &dir.file("double/ca.pem")]) {
        failed(&output, &["is not signed by an authority in", "double/ca.pem"]);
    }
    let elsewhere = bed.https().replace("127.0.0.1", "localhost");
    for output in asked(&elsewhere, &["--ca", &ca]) {
        failed(&output, &["is for 127.0.0.1, not for localhost", "subjectAltName"]);
    }
    // nothing is ordered of who is not believed, and the token stays here
    let token = bed.token();
    let order = unassign(&elsewhere, &["--ca", &ca, "--token-file", &token]);
    failed(&order, &["cannot give the order", "not for localhost"]);
}

#[test]
fn a_certificate_that_cannot_be_right_is_told_by_its_fault() {
    let dir = tempfile::tempdir().unwrap();
    authority(dir.path(), "ca", &["tracker"]);
    expired(dir.path(), "ca", "old");
    let bed = Served::start(dir.path(), "old");
    let ca = Bed(dir.path()).file("ca.pem");
    for output in asked(&bed.https(), &["--ca", &ca]) {
        failed(&output, &["has expired", "days ago", "needs a new one"]);
    }
    drop(bed);
    // an authority's own certificate, which is not for servers
    let bed = Served::start(dir.path(), "ca");
    for output in asked(&bed.https(), &["--ca", &ca]) {
        failed(&output, &["that of an authority itself"]);
    }
}

#[test]
fn orders_need_the_token_or_a_certificate_of_the_admins_authority() {
    let (dir, bed) = served();
    let dir = Bed(dir.path());
    let ca = dir.file("ca.pem");
    let url = bed.https();
    let with = |name: &str| {
        let (cert, key) = (dir.file(&format!("{name}.pem")), dir.file(&format!("{name}.key")));
        unassign(&url, &["--ca", &ca, "--cert", &cert, "--key", &key])
    };
    let freed = said(&with("admin"));
    assert!(freed.contains("0 nodes follow their channel"), "{freed}");
    failed(&with("stranger"), &["does not take the certificate", "stranger.pem", "client_ca"]);
    // a certificate that is named comes before a store that is there, as a token does
    Store::init(dir.file("store")).unwrap();
    let (cert, key) = (dir.file("admin.pem"), dir.file("admin.key"));
    let certified = ["--ca", &ca, "--cert", &cert, "--key", &key];
    let nodes =
        ["reimage", "debian@0123456789ab", "--at-next-boot", "--nodes", "52:54:00:00:00:01"];
    let store = dir.file("store");
    let output =
        packer(&[&nodes[..], &["--store", &store, "--tracker-url", &url], &certified].concat());
    failed(&output, &["the tracker refuses the order (4"]);
    // without one
    let wrong = dir.file("wrong");
    fs::write(&wrong, "guess\n").unwrap();
    failed(&unassign(&url, &["--ca", &ca, "--token-file", &wrong]), &["(401)", "admin's token"]);
    let token = bed.token();
    said(&unassign(&url, &["--ca", &ca, "--token-file", &token]));
    if !Path::new("/var/lib/beeswarm/tracker/admin-token").exists() {
        failed(&unassign(&url, &["--ca", &ca]), &["--token-file", "--cert and --key"]);
    }
}

#[test]
fn the_wrong_protocol_is_named_with_the_right_url() {
    let (dir, bed) = served();
    let ca = Bed(dir.path()).file("ca.pem");
    let (tls_at_plain, plain_at_tls) =
        (bed.http().replace("http:", "https:"), bed.https().replace("https:", "http:"));
    for output in asked(&tls_at_plain, &["--ca", &ca]) {
        failed(&output, &["does not speak TLS", "write http://"]);
    }
    for output in asked(&plain_at_tls, &[]) {
        failed(&output, &["does not answer as a tracker", "write https://"]);
    }
    for output in asked(&bed.http(), &["--ca", &ca]) {
        failed(&output, &["plain HTTP", "write https://"]);
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (dir, bed) = served();
    let dir = Bed(dir.path());
    let (ca, cert, key) = (dir.file("ca.pem"), dir.file("admin.pem"), dir.file("admin.key"));
    let locked = "pkcs8 -topk8 -in admin.key -out locked.key -passout pass:x";
    openssl(dir.0, locked);
    for (options, parts) in [
        (
            ["--ca", "/no/ca", "--cert", &cert, "--key", &key],
            ["cannot read --ca /no/ca", "No such file"],
        ),
        (["--ca", &key, "--cert", &cert, "--key", &key], ["--ca ", "admin.key has no certificate"]),
        (
            ["--ca", &ca, "--cert", &cert, "--key", "/no/key"],
            ["cannot read --key /no/key", "readable for"],
        ),
        (["--ca", &ca, "--cert", &key, "--key", &key], ["--cert ", "admin.key has no certificate"]),
        (
            ["--ca", &ca, "--cert", &cert, "--key", &cert],
            ["--key ", "admin.pem has no private key"],
        ),
        (
            ["--ca", &ca, "--cert", &cert, "--key", &dir.file("stranger.key")],
            ["stranger.key is not the key of --cert", "admin.pem"],
        ),
        (
            ["--ca", &ca, "--cert", &cert, "--key", &dir.file("locked.key")],
            ["locked.key is protected by a passphrase", "openssl pkey -in"],
        ),
    ] {
        failed(&unassign(&bed.https(), &options), &parts);
    }
    let alone = unassign(&bed.https(), &["--ca", &ca, "--cert", &cert]);
    assert_eq!(alone.status.code(), Some(2), "--key is missing");
}
