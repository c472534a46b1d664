//! keygen, sign, verify, `pack --sign-key`: as users call them, and checked by stock minisign.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{
    complete, events, pack_image, packer, run, scratch, small_root, stderr, text,
};

/// A key of `bee-packer keygen`, with an empty password.
fn keygen(dir: &Path, name: &str) -> (PathBuf, PathBuf, Value) {
    let (secret, public) = (dir.join(format!("{name}.key")), dir.join(format!("{name}.pub")));
    let args = ["keygen", "--json", "--empty-password", "--sign-key", text(&secret)];
    let made = complete(&packer(&args));
    assert_eq!(made["public_file"], text(&public));
    (secret, public, made)
}

/// Stock minisign's opinion on a revision.
fn minisign(public: &Path, revision: &Path) -> bool {
    let manifest = revision.join("manifest.json");
    let args = ["-V", "-p", text(public), "-m", text(&manifest)];
    let output = Command::new("minisign").args(args).output();
    output
        .expect("this test needs minisign: install minisign (Debian and Fedora: minisign)")
        .status
        .success()
}

fn refused(output: &Output, code: i32, words: &[&str]) {
    let message = stderr(output) + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn what_is_packed_with_a_key_is_signed_when_it_appears() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let (secret, public, made) = keygen(dir.path(), "site");
    assert_eq!(secret.metadata().unwrap().mode() & 0o777, 0o600);
    let key = ["--sign-key", text(&secret), "--empty-password"];
    let packed = pack_image(&root, &store, &[&key[..], &["--publish"]].concat());
    assert_eq!(packed["signed_by"], made["key"]);
    let path = Path::new(packed["path"].as_str().unwrap());
    assert!(minisign(&public, path));
    let comment = fs::read_to_string(path.join("manifest.json.minisig")).unwrap();
    let id = packed["revision"].as_str().unwrap();
    assert!(comment.contains(&format!("\tname:test\trevision:{id}\n")), "{comment}");

    // the same revision as without: a signature is no part of it
    let plain = pack_image(&root, &dir.path().join("plain"), &[]);
    assert_eq!((&plain["revision"], &plain["signed_by"]), (&packed["revision"], &Value::Null));
    // and packing it with another key replaces the signature
    let (other, other_public, _) = keygen(dir.path(), "other");
    let again = pack_image(&root, &store, &["--sign-key", text(&other), "--empty-password"]);
    assert_eq!((&again["revision"], &again["new"]), (&packed["revision"], &false.into()));
    assert!(minisign(&other_public, path) && !minisign(&public, path));

    let list = events(&packer(&["list", "--json", "--store", text(&store)]));
    assert_eq!(list[0]["signed"], true, "{list:?}");
    let shown = events(&packer(&["inspect", "test", "--json", "--store", text(&store)]));
    assert!(shown.iter().any(|e| e["event"] == "signature" && e["key"].is_string()), "{shown:?}");
}

#[test]
fn sign_and_verify() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let (secret, public, made) = keygen(dir.path(), "site");
    let (_, stranger, _) = keygen(dir.path(), "stranger");
    let packed = pack_image(&root, &store, &[]);
    let path = Path::new(packed["path"].as_str().unwrap());
    let at = ["--store", text(&store)];
    let verify = |key: &str| packer(&["verify", "test", "--public-key", key, at[0], at[1]]);

    refused(&verify(text(&public)), 7, &["not signed", "bee-packer sign test@"]);
    let sign = ["sign", "test", "--sign-key", text(&secret), "--empty-password", at[0], at[1]];
    let output = packer(&sign);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(minisign(&public, path));
    for key in [text(&public), made["public_key"].as_str().unwrap()] {
        let output = verify(key);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains("signed by key"), "{output:?}");
    }
    refused(&verify(text(&stranger)), 7, &["signature refused", "trusted is"]);
    refused(&verify("RWQnonsense"), 3, &["neither a public key"]);

    // a stock signature over it is as good, with or without our fields
    let manifest = path.join("manifest.json");
    let (stock, stock_public) = (dir.path().join("m.key"), dir.path().join("m.pub"));
    run("minisign", &["-G", "-W", "-p", text(&stock_public), "-s", text(&stock)]);
    run("minisign", &["-S", "-W", "-s", text(&stock), "-m", text(&manifest)]);
    assert!(verify(text(&stock_public)).status.success());
    // one of another revision, put here by hand, is told
    let comment = "timestamp:1\tname:test\trevision:000000000000";
    run("minisign", &["-S", "-W", "-s", text(&stock), "-m", text(&manifest), "-t", comment]);
    refused(&verify(text(&stock_public)), 7, &["says 000000000000"]);
    let mut bytes = fs::read(path.join("manifest.json.minisig")).unwrap();
    bytes[100] ^= 1;
    fs::write(path.join("manifest.json.minisig"), bytes).unwrap();
    refused(&verify(text(&stock_public)), 7, &["signature refused"]);
    // a damaged image outweighs it
    fs::write(path.join("rootimg.sfs"), "").unwrap();
    refused(&verify(text(&stock_public)), 6, &["rootimg.sfs"]);
}

#[test]
fn passwords_come_from_a_file_and_are_never_guessed() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let (secret, password) = (dir.path().join("k.key"), dir.path().join("password"));
    fs::write(&password, "correct horse\nsecond line\n").unwrap();
    let base = ["keygen", "--sign-key", text(&secret)];
    // no terminal to ask on
    refused(&packer(&base), 1, &["--password-file", "--empty-password"]);
    let with = [&base[..], &["--password-file", text(&password)]].concat();
    assert!(packer(&with).status.success());
    refused(&packer(&with), 3, &["there already", "--force"]);
    let forced = [&with[..], &["--force"]].concat();
    assert!(packer(&forced).status.success());
    assert_eq!(secret.metadata().unwrap().mode() & 0o777, 0o600);

    let mut pack = vec!["pack", "--image-only", "--name", "test", "--source", text(&root)];
    pack.extend(["--store", text(&store), "--sign-key", text(&secret)]);
    refused(&packer(&pack), 1, &["--password-file"]);
    refused(&packer(&[&pack[..], &["--empty-password"]].concat()), 3, &["cannot open the key"]);
    assert!(!store.exists(), "work was done before the password was checked");
    let mut child = Command::new(env!("CARGO_BIN_EXE_bee-packer"))
        .args(&pack)
        .args(["--password-file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"correct horse\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    fs::write(&password, "\n").unwrap();
    refused(&packer(&with), 1, &["no password in its first line"]);
    refused(&packer(&[&pack[..], &["--oldest", "soon"]].concat()), 1, &["--password-file"]);
}

#[test]
fn rules_without_keys_and_times_that_are_none_are_told() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let (secret, _, _) = keygen(dir.path(), "site");
    let mut pack = vec!["pack", "--image-only", "--name", "test", "--source", text(&root)];
    pack.extend(["--store", text(&store)]);
    for rule in [&["--allow-key-override"][..], &["--oldest", "2026-11-21"]] {
        refused(&packer(&[&pack[..], rule].concat()), 1, &["need --sign-key or --trust-key"]);
    }
    pack.extend(["--sign-key", text(&secret), "--empty-password"]);
    refused(&packer(&[&pack[..], &["--oldest", "soon"]].concat()), 1, &["2026-11-21T17:00:00Z"]);
    let old = pack_image(&root, &store, &[]);
    let old = format!("test@{}", old["revision"].as_str().unwrap());
    let output = packer(&[&pack[..], &["--oldest", &old]].concat());
    refused(&output, 7, &["not signed", &format!("--oldest {old}")]);
    // no initrd of ours: the keys are in the nodes' own, or nowhere
    let output = packer(&pack);
    assert!(output.status.success() && stderr(&output).contains("no initrd"), "{output:?}");
}

#[test]
fn publishing_what_nodes_would_refuse_for_want_of_a_signature_is_warned_of() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let (secret, public, _) = keygen(dir.path(), "site");
    let key = ["--sign-key", text(&secret), "--empty-password"];
    let at = ["--store", text(&store)];
    let warned = |output: &Output| {
        assert!(output.status.success(), "{}", stderr(output));
        stderr(output).contains("is not signed")
    };
    let publish = |packed: &Value| {
        let revision = format!("test@{}", packed["revision"].as_str().unwrap());
        packer(&[&["publish", &revision], &at[..]].concat())
    };
    let version = |text: &str| fs::write(root.join("etc/version"), text).unwrap();

    // nobody signs here
    let plain = pack_image(&root, &store, &[]);
    assert!(!warned(&publish(&plain)));
    version("2");
    let signed = pack_image(&root, &store, &key);
    assert!(!warned(&publish(&signed)));
    version("3");
    let unsigned = pack_image(&root, &store, &[]);
    let output = publish(&unsigned);
    assert!(warned(&output));
    let (id, before) =
        (unsigned["revision"].as_str().unwrap(), signed["revision"].as_str().unwrap());
    let remedy = format!("Sign it: bee-packer sign test@{id} --sign-key FILE --store");
    for words in [&*remedy, &format!("test@{before} is, and nodes"), "exit code 7"] {
        assert!(stderr(&output).contains(words), "{words:?}: {}", stderr(&output));
    }
    // the remedy is one
    let name = format!("test@{id}");
    complete(&packer(&[&["sign", "--json", &name], &key[..], &at[..]].concat()));
    assert!(!warned(&publish(&unsigned)));
    // and for programs
    version("4");
    let output = packer(
        &[
            &[
                "pack",
                "--json",
                "--image-only",
                "--publish",
                "--name",
                "test",
                "--source",
                text(&root),
            ],
            &at[..],
        ]
        .concat(),
    );
    let warning = events(&output).into_iter().find(|event| event["event"] == "warning").unwrap();
    assert!(warning["text"].as_str().unwrap().contains("is not signed"), "{warning}");
    // nodes go back to what was never signed
    let back = packer(&[&["rollback", "test"], &at[..]].concat());
    assert!(!warned(&back), "{}", stderr(&back));
    assert!(public.exists());
}
