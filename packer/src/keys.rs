//! `bee-packer keygen`, `sign`, and what `pack` says about keys.

use std::fs;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use packer::signing::{self, SigningKey};
use proto::signature::PublicKey;
use proto::trust_policy::TrustPolicy;
use proto::unix_time::UnixTime;
use serde_json::json;
use store::{RevisionRef, Store};

use crate::cli::{PackArgs, StoreArg};
use crate::manage::newest;
use crate::output;

/// Longest password, in bytes.
const MAX_PASSWORD: u64 = 1024;

/// Where the password of a secret key comes from; without these it is asked for on the terminal.
#[derive(Debug, Args)]
pub(crate) struct PasswordArgs {
    /// The first line of this file is the password of the secret key; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "empty_password")]
    pub(crate) password_file: Option<PathBuf>,
    /// The secret key has an empty password: whoever can read its file can sign
    #[arg(long)]
    pub(crate) empty_password: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// Where the secret key goes; keep it where only those who may sign can read it
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_key: PathBuf,
    /// Where the public key goes [default: the secret key's name, ending in .pub]
    #[arg(long, value_name = "FILE")]
    pub(crate) public_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) password: PasswordArgs,
    /// Replace keys that are there: what they signed is refused by nodes that get the new one
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// NAME@REV, or NAME for its newest revision
    pub(crate) revision: String,
    #[command(flatten)]
    pub(crate) store: StoreArg,
    /// Secret key, of keygen or of minisign
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_key: PathBuf,
    #[command(flatten)]
    pub(crate) password: PasswordArgs,
}

pub(crate) fn keygen(args: &KeygenArgs, json: bool) -> anyhow::Result<ExitCode> {
    let secret = &args.sign_key;
    let public = args.public_key.clone().unwrap_or_else(|| secret.with_extension("pub"));
    ensure!(public != *secret, "--sign-key and --public-key name the same file");
    let password = match given(&args.password)? {
        Some(password) => password,
        None => twice(secret)?,
    };
    let key = signing::generate(secret, &public, &password, args.force)?;
    if json {
        output::json(&json!({
            "event": "keys",
            "key": key.id().to_string(),
            "public_key": key,
            "secret_file": secret,
            "public_file": public,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&format!("key {}", key.id()));
    output::line(&format!("  secret     {} (keep a copy in a safe place)", secret.display()));
    output::line(&format!("  public     {}", public.display()));
    output::line(&format!("             {key}"));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn sign(args: &SignArgs, json: bool) -> anyhow::Result<ExitCode> {
    let store = Store::open(&*args.store.store)?;
    let revision = store.revision(&newest(&store, &args.revision)?)?;
    let key = open(&args.sign_key, &args.password)?;
    let time = now();
    key.sign_revision(&store, &revision, time)?;
    let (reference, id) = (revision.reference(), key.public().id());
    if json {
        output::json(&json!({
            "event": "signed",
            "name": reference.name,
            "revision": reference.id,
            "key": id.to_string(),
            "time": time,
            "path": revision.signature_path(),
        }));
    } else {
        output::line(&format!("{reference} is signed by key {id} at {time}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens a secret key, after asking for its password if it needs one.
pub(crate) fn open(path: &Path, password: &PasswordArgs) -> anyhow::Result<SigningKey> {
    let mut text = String::new();
    if signing::is_encrypted(path)? {
        text = match given(password)? {
            Some(text) => text,
            None => ask(&format!("Password of {}: ", path.display()))?,
        };
    }
    Ok(SigningKey::open(path, &text)?)
}

/// The time of a signature.
pub(crate) fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// Public keys, as digits or files.
pub(crate) fn public_keys(given: &[String]) -> anyhow::Result<Vec<PublicKey>> {
    given.iter().map(|text| Ok(signing::public_key(text)?)).collect()
}

/// What nodes of this image demand: the signing key and the further ones. `None` without keys.
pub(crate) fn policy(
    args: &PackArgs,
    sign: Option<&SigningKey>,
) -> anyhow::Result<Option<TrustPolicy>> {
    let mut keys: Vec<PublicKey> = sign.map(|key| key.public().clone()).into_iter().collect();
    for key in public_keys(&args.trust_keys)? {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        let rules = args.allow_key_override || args.oldest.is_some();
        ensure!(!rules, "--allow-key-override and --oldest need --sign-key or --trust-key");
        return Ok(None);
    }
    let not_before = args.oldest.as_deref().map(|text| oldest(args, text, &keys)).transpose()?;
    let policy = TrustPolicy::new(keys)?;
    Ok(Some(TrustPolicy { allow_override: args.allow_key_override, not_before, ..policy }))
}

/// A time, or that of a revision's signature.
fn oldest(args: &PackArgs, text: &str, keys: &[PublicKey]) -> anyhow::Result<UnixTime> {
    if !text.contains('@') || text.starts_with('@') {
        return text.parse().context("--oldest");
    }
    let reference: RevisionRef = text.parse().context("--oldest")?;
    let revision = Store::open(&*args.store.store)?.revision(&reference)?;
    let signed = signing::check(&revision, keys)?.with_context(|| format!("--oldest {text}"))?;
    signed.comment.time.with_context(|| format!("--oldest {text}: its signature says no time"))
}

/// The password of the flags, if there is one.
fn given(args: &PasswordArgs) -> anyhow::Result<Option<String>> {
    if args.empty_password {
        return Ok(Some(String::new()));
    }
    let Some(path) = &args.password_file else { return Ok(None) };
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => io::stdin().lock().take(MAX_PASSWORD + 2).read_to_string(&mut text),
        _ => fs::File::open(path).and_then(|f| f.take(MAX_PASSWORD + 2).read_to_string(&mut text)),
    };
    read.with_context(|| format!("cannot read the password from {}", path.display()))?;
    let line = text.lines().next().unwrap_or_default();
    // an empty file is a mistake more often than a password
    ensure!(
        !line.is_empty(),
        "{} has no password in its first line; an empty one is --empty-password",
        path.display()
    );
    Ok(Some(line.to_owned()))
}

/// Asks on the terminal, without showing what is typed.
fn ask(prompt: &str) -> anyhow::Result<String> {
    ensure!(
        io::stdin().is_terminal(),
        "the secret key has a password and there is no terminal to ask on: give --password-file FILE, \
         or --empty-password if it is empty"
    );
    rpassword::prompt_password(prompt).context("cannot ask for the password")
}

/// Asks for a new password, twice.
fn twice(path: &Path) -> anyhow::Result<String> {
    let first = ask(&format!("Password for {}: ", path.display()))?;
    ensure!(
        !first.is_empty(),
        "an empty password protects nothing; if that is meant: --empty-password"
    );
    if ask("The same again: ")? != first {
        bail!("the passwords differ; nothing was written");
    }
    Ok(first)
}
