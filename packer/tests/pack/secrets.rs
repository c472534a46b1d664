//! The gate: real keys of the programs that make them, in every way into an image.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{
    assert_store_is_clean, complete, events, packer, run, scratch, small_root, stderr, text,
};

fn pack(source: &Path, store: &Path, further: &[&str]) -> Output {
    let mut args = vec!["pack", "--json", "--image-only", "--name", "test"];
    args.extend(["--source", text(source), "--store", text(store)]);
    args.extend(further);
    packer(&args)
}

/// Paths and kinds of the secrets that were refused.
fn refused(output: &Output) -> Vec<(String, String)> {
    let secrets = events(output).into_iter().filter(|e| e["event"] == "secret");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let refused = secrets.filter(|e| e["allowed"] == false);
    refused.map(|e| (text(&e["path"]), text(&e["kind"]))).collect()
}

#[test]
fn keys_as_their_programs_make_them() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let at = |path: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        text(&path).to_owned()
    };
    let ssh = |kind: &str, format: &str, password: &str, path: &str| {
        run("ssh-keygen", &["-q", "-t", kind, "-m", format, "-N", password, "-f", &at(path)]);
    };
    ssh("ed25519", "RFC4716", "", "etc/ssh/ssh_host_ed25519_key");
    ssh("rsa", "PEM", "", "root/.ssh/id_rsa");
    ssh("ecdsa", "PKCS8", "", "srv/keys/ecdsa");
    ssh("ed25519", "RFC4716", "a password", "srv/keys/encrypted");
    let openssl = |args: &[&str], out: &str| run("openssl", &[args, &["-out", &at(out)]].concat());
    openssl(&["genpkey", "-algorithm", "ed25519"], "srv/tls/ed25519.pem");
    openssl(&["genrsa", "-aes128", "-passout", "pass:geheim", "-traditional"], "srv/tls/aes.pem");
    openssl(&["genpkey", "-algorithm", "ed448", "-outform", "DER"], "srv/tls/ed448.der");
    openssl(
        &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-outform", "DER"],
        "srv/tls/ec.der",
    );
    openssl(&["genpkey", "-algorithm", "RSA", "-outform", "DER"], "srv/tls/rsa.der");
    let mut all = vec![
        ("/etc/ssh/ssh_host_ed25519_key", "ssh-host-key"),
        ("/root/.ssh/id_rsa", "private-key"),
        ("/srv/keys/ecdsa", "private-key"),
        ("/srv/keys/encrypted", "ssh-key"),
        ("/srv/minisign.key", "signing-key"),
        ("/srv/own.key", "signing-key"),
        ("/srv/tls/aes.pem", "private-key"),
        ("/srv/tls/ec.der", "private-key"),
        ("/srv/tls/ed25519.pem", "private-key"),
        ("/srv/tls/ed448.der", "private-key"),
        ("/srv/tls/rsa.der", "private-key"),
    ];
    let key = at("srv/minisign.key");
    run("minisign", &["-G", "-W", "-p", &at("srv/minisign.pub"), "-s", &key]);
    let own = ["keygen", "--empty-password", "--sign-key", &at("srv/own.key")];
    assert!(packer(&own).status.success());
    run("age-keygen", &["-o", &at("srv/age.txt")]);
    // as their command lines leave them
    let aws = "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n\
        aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n";
    fs::write(at("root/.aws/credentials"), aws).unwrap();
    let google = "{\"type\": \"authorized_user\", \"refresh_token\": \"1//0abc\"}\n";
    fs::write(at("root/.config/gcloud/application_default_credentials.json"), google).unwrap();
    fs::write(at("root/.azure/msal_token_cache.json"), "{\"RefreshToken\": {}}\n").unwrap();
    fs::write(at("etc/shadow"), "root:$y$j9T$abcdefghijkl$0123456789:19000::\n").unwrap();
    all.extend([
        ("/etc/shadow", "password-hash"),
        ("/srv/age.txt", "age-key"),
        ("/root/.aws/credentials", "aws-credentials"),
        ("/root/.azure/msal_token_cache.json", "azure-credentials"),
        ("/root/.config/gcloud/application_default_credentials.json", "gcp-credentials"),
    ]);
    all.sort();

    let output = pack(&root, &store, &[]);
    assert_eq!(output.status.code(), Some(8), "{}", stderr(&output));
    let found = refused(&output);
    let found: Vec<_> = found.iter().map(|(path, kind)| (path.as_str(), kind.as_str())).collect();
    assert_eq!(found, all);
    // each with the flag that allows it and no other
    for (path, _) in &all {
        let flag = format!("--allow-secret {path}\n");
        assert!(stderr(&output).contains(&flag), "{flag} is not in: {}", stderr(&output));
    }
    assert_store_is_clean(&store);
    let output = pack(&root, &store, &["--allow-secret", all[0].0]);
    assert_eq!(refused(&output).len(), all.len() - 1);

    // by pattern, by exclusion, and by a file of them
    let list = dir.path().join("allowed");
    let patterns =
        "# examples\n/srv/keys/**\n/etc/shadow\n/srv/*.key\n/srv/age.txt\n/root/.[ac]*/**\n";
    fs::write(&list, patterns).unwrap();
    let output = pack(
        &root,
        &store,
        &[
            "--allow-secrets-from",
            text(&list),
            "--exclude",
            "srv/tls",
            "--exclude",
            "etc/ssh",
            "--allow-secret",
            "/root/.ssh/id_rsa",
            "--allow-secret",
            "/no/such",
        ],
    );
    let packed = complete(&output);
    let events = events(&output);
    let allowed = events.iter().filter(|e| e["event"] == "secret" && e["allowed"] == true).count();
    assert_eq!(allowed, all.len() - 6);
    let warned = events.iter().any(|e| {
        e["event"] == "warning" && e["text"].as_str().unwrap().contains("--allow-secret /no/such")
    });
    assert!(warned, "{events:?}");
    assert!(Path::new(packed["path"].as_str().unwrap()).is_dir());
}

/// Keys in the form that `gpg --export-secret-keys` writes without `--armor`, under names that say nothing.
#[test]
fn openpgp_keys_as_gpg_exports_them() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    // the name of a socket in it must be short
    let home = tempfile::tempdir_in("/tmp").unwrap();
    let gpg = |args: &[&str]| {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--quiet", "--homedir", text(home.path())]);
        let output = command.args(args).output().expect("gpg is needed for this test");
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        output.stdout
    };
    fs::create_dir_all(root.join("srv")).unwrap();
    let mut expected = Vec::new();
    for (algorithm, password) in [
        ("ed25519", ""),
        ("ed25519", "geheim"),
        ("future-default", ""),
        ("rsa1024", ""),
        ("rsa3072", "geheim"),
        ("dsa2048", ""),
        ("nistp256", ""),
        ("brainpoolP512r1", "geheim"),
    ] {
        let user = format!("{algorithm}{password}@example.org");
        let pass = ["--pinentry-mode", "loopback", "--passphrase", password];
        gpg(&[&pass[..], &["--quick-gen-key", &user, algorithm]].concat());
        let secret = gpg(&[&pass[..], &["--export-secret-keys", &user]].concat());
        assert!(!secret.is_empty() && !secret.starts_with(b"-----"));
        let name = format!("{algorithm}{password}.dat");
        fs::write(root.join("srv").join(&name), secret).unwrap();
        expected.push((format!("/srv/{name}"), "pgp-key".to_owned()));
        // what everybody may have
        fs::write(root.join("srv").join(name + ".public"), gpg(&["--export", &user])).unwrap();
    }
    let subkeys = ["--pinentry-mode", "loopback", "--passphrase", "", "--export-secret-subkeys"];
    fs::write(root.join("srv/subkeys"), gpg(&[&subkeys[..], &["future-default"]].concat()))
        .unwrap();
    expected.push(("/srv/subkeys".to_owned(), "pgp-key".to_owned()));
    run("gpgconf", &["--homedir", text(home.path()), "--kill", "all"]);
    // where gpg-agent has them
    for entry in fs::read_dir(home.path().join("private-keys-v1.d")).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{}.bak", entry.file_name().to_str().unwrap());
        fs::copy(entry.path(), root.join("srv").join(&name)).unwrap();
        expected.push((format!("/srv/{name}"), "pgp-key".to_owned()));
    }
    expected.sort();
    let output = pack(&root, &store, &[]);
    assert_eq!(output.status.code(), Some(8), "{}", stderr(&output));
    assert_eq!(refused(&output), expected);
}

#[test]
fn no_way_into_the_image_leads_past_the_gate() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let overlay = dir.path().join("overlay");
    fs::create_dir_all(overlay.join("opt")).unwrap();
    let key = overlay.join("opt/key");
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", text(&key)]);
    let expected = [("/opt/key".to_owned(), "ssh-key".to_owned())];
    assert_eq!(refused(&pack(&root, &store, &["--overlay", text(&overlay)])), expected);
    // a tar
    let tar = dir.path().join("root.tar");
    run("tar", &["-cf", text(&tar), "-C", text(&root), "usr", "etc", "-C", text(&overlay), "opt"]);
    assert_eq!(refused(&pack(&tar, &store, &[])), expected);
    // a layer of a container image
    let layout = dir.path().join("layout");
    let tagged = format!("{}:v1", text(&layout));
    run("umoci", &["init", "--layout", text(&layout)]);
    run("umoci", &["new", "--image", &tagged]);
    run("umoci", &["raw", "add-layer", "--image", &tagged, text(&tar)]);
    assert_eq!(refused(&pack(Path::new(&format!("oci:{tagged}")), &store, &[])), expected);
    // a copy of the source, and the source as it is
    fs::create_dir(root.join("opt")).unwrap();
    fs::copy(&key, root.join("opt/key")).unwrap();
    assert_eq!(refused(&pack(&root, &store, &["--no-build-facts"])), expected);
    run("setfattr", &["-n", "trusted.overlay.opaque", "-v", "y", text(&root.join("opt"))]);
    assert_eq!(refused(&pack(&root, &store, &[])), expected);
    // a link to it is no key, and one that is left out neither
    std::os::unix::fs::symlink("key", root.join("opt/link")).unwrap();
    complete(&pack(&root, &store, &["--exclude", "opt/key"]));
    // a key that is given where a public one belongs
    let output = pack(&root, &store, &["--authorized-key", text(&key)]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains(".pub"), "{}", stderr(&output));
}

#[test]
fn nobody_waits_for_an_initrd_to_be_told_of_a_secret() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let key = root.join("etc/key");
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", text(&key)]);
    // without a kernel there would be another error, later
    let pack = |further: &[&str]| {
        let args = ["pack", "--name", "t", "--source", text(&root), "--store", text(&store)];
        packer(&[&args[..], further].concat()).status.code()
    };
    assert_eq!(pack(&[]), Some(8));
    assert_eq!(pack(&["--exclude", "etc/key"]), Some(3));
    assert_eq!(pack(&["--allow-secret", "/etc/key"]), Some(3));
}

#[test]
fn the_initrd_is_looked_into() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("etc/ssh")).unwrap();
    let key = tree.join("etc/ssh/ssh_host_ed25519_key");
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", text(&key)]);
    let initrd = dir.path().join("initrd");
    let script = "cd \"$0\" && find . | cpio -o -H newc --quiet | gzip > \"$1\"";
    run("sh", &["-c", script, text(&tree), text(&initrd)]);
    let pack = |further: &[&str]| {
        let mut args = vec!["pack", "--json", "--name", "test", "--keep-initrd", text(&initrd)];
        args.extend(["--kernel", text(&initrd), "--source", text(&root), "--store", text(&store)]);
        args.extend(further);
        Command::new(env!("CARGO_BIN_EXE_bee-packer")).args(args).output().unwrap()
    };
    let output = pack(&[]);
    let path = "initrd:/etc/ssh/ssh_host_ed25519_key";
    assert_eq!(refused(&output), [(path.to_owned(), "ssh-host-key".to_owned())]);
    assert!(stderr(&output).contains(&format!("--allow-secret {path}")), "{}", stderr(&output));
    assert_store_is_clean(&store);
    complete(&pack(&["--allow-secret", path]));
}
