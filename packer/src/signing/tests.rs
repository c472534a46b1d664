//! Keys and signatures of our own, and of stock minisign.

use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Output};

use super::*;

const TIME: UnixTime = UnixTime(1_763_744_000);

/// Runs minisign in `dir`, with `input` for its password prompts.
fn minisign(dir: &Path, args: &[&str]) -> Output {
    let output = Command::new("minisign").args(args).current_dir(dir).output();
    output.expect("this test needs minisign: install minisign (Debian and Fedora: minisign)")
}

fn make(dir: &Path, password: &str) -> SigningKey {
    let (secret, public) = (dir.join("k.key"), dir.join("k.pub"));
    let made = generate(&secret, &public, password, false).unwrap();
    let key = SigningKey::open(&secret, password).unwrap();
    assert_eq!(key.public(), &made);
    assert_eq!(public_key(public.to_str().unwrap()).unwrap(), made);
    key
}

#[test]
fn a_key_is_private_and_never_replaced_by_accident() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, public) = (dir.path().join("k.key"), dir.path().join("k.pub"));
    let key = make(dir.path(), "a secret");
    assert_eq!(secret.metadata().unwrap().mode() & 0o777, 0o600);
    let before = fs::read(&secret).unwrap();
    let error = generate(&secret, &public, "x", false).unwrap_err();
    assert!(matches!(error, SignError::Exists { .. }), "{error}");
    // the public one alone is enough: it may be baked into initrds
    fs::rename(&secret, dir.path().join("elsewhere")).unwrap();
    let error = generate(&secret, &public, "x", false).unwrap_err();
    assert!(error.to_string().contains("k.pub") && !secret.exists(), "{error}");
    fs::rename(dir.path().join("elsewhere"), &secret).unwrap();
    assert_eq!(fs::read(&secret).unwrap(), before);
    let second = generate(&secret, &public, "x", true).unwrap();
    assert_ne!(&second, key.public());
    assert_eq!(secret.metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "something was left");
    let error = generate(Path::new("/proc/none/k"), &public, "", true).unwrap_err();
    assert!(matches!(error, SignError::Write { .. }), "{error}");
}

#[test]
fn only_the_right_password_opens_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k.key");
    make(dir.path(), "a secret");
    assert!(is_encrypted(&path).unwrap());
    let error = SigningKey::open(&path, "").unwrap_err();
    assert!(matches!(error, SignError::Password { .. }), "{error}");
    for (text, part) in [
        (fs::read_to_string(dir.path().join("k.pub")).unwrap(), "public key"),
        ("hello".to_owned(), "no secret key"),
        (fs::read_to_string(&path).unwrap()[..80].to_owned(), "k.key"),
    ] {
        fs::write(&path, text).unwrap();
        let error = SigningKey::open(&path, "a secret").unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    let missing = SigningKey::open(&dir.path().join("none"), "").unwrap_err();
    assert!(missing.to_string().contains("keygen"), "{missing}");
    assert!(public_key("RWQ").is_err() && public_key(path.to_str().unwrap()).is_err());
}

#[test]
fn stock_minisign_accepts_what_we_write() {
    let dir = tempfile::tempdir().unwrap();
    let key = make(dir.path(), "");
    let manifest = dir.path().join("manifest.json");
    fs::write(&manifest, "{}\n").unwrap();
    let signature = key.sign(b"{}\n", "demo", "0123456789ab", TIME).unwrap();
    fs::write(dir.path().join("manifest.json.minisig"), &signature).unwrap();
    // prehashed only: -H refuses the older kind
    let args = ["-V", "-H", "-p", "k.pub", "-m", "manifest.json"];
    let output = minisign(dir.path(), &args);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let comment = "timestamp:1763744000\tfile:manifest.json\tname:demo\trevision:0123456789ab";
    assert!(said.contains(comment), "{said}");
    let digits = ["-V", "-P", key.public().as_str(), "-m", "manifest.json"];
    assert!(minisign(dir.path(), &digits).status.success());
    fs::write(&manifest, "{ }\n").unwrap();
    assert!(!minisign(dir.path(), &args).status.success());
}

#[test]
fn we_accept_what_stock_minisign_writes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("manifest.json"), "{}\n").unwrap();
    let run = |args: &[&str]| {
        let output = minisign(dir.path(), args);
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    run(&["-G", "-W", "-p", "m.pub", "-s", "m.key"]);
    let key = public_key(dir.path().join("m.pub").to_str().unwrap()).unwrap();
    for kind in [&[][..], &["-l"]] {
        run(&[&["-S", "-W", "-s", "m.key", "-m", "manifest.json", "-x", "sig"], kind].concat());
        let bytes = fs::read(dir.path().join("sig")).unwrap();
        let signed = signature::verify(std::slice::from_ref(&key), b"{}\n", &bytes).unwrap();
        // its own comment has the time in the same field
        assert!(signed.comment.time.is_some_and(|time| time > TIME), "{signed:?}");
    }
    // and its secret key signs here
    let path = dir.path().join("m.key");
    assert!(!is_encrypted(&path).unwrap());
    let ours = SigningKey::open(&path, "not looked at").unwrap();
    assert_eq!(ours.public(), &key);
    let bytes = ours.sign(b"{}\n", "demo", "0123456789ab", TIME).unwrap();
    fs::write(dir.path().join("manifest.json.minisig"), bytes).unwrap();
    run(&["-V", "-p", "m.pub", "-m", "manifest.json"]);
}
