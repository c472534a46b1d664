//! `bee-packer list`, `inspect`, `verify`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use packer::error::Category;
use packer::signing;
use proto::manifest::Manifest;
use proto::merkle::BlockTree;
use proto::metainfo::Metainfo;
use proto::signature::PublicKey;
use proto::units::ByteSize;
use serde_json::json;
use store::{RevisionDir, RevisionName, Store};

use crate::cli::{InspectArgs, StoreArg, VerifyArgs};
use crate::keys;
use crate::manage::newest;
use crate::output::{self, Progress};

pub(crate) fn list(args: &StoreArg, json: bool) -> anyhow::Result<ExitCode> {
    let store = Store::open(&*args.store)?;
    let listed = store.list()?;
    if listed.is_empty() && !json {
        output::line("no revisions yet: bee-packer pack makes one");
    }
    for entry in listed {
        let (name, id) = (&entry.reference.name, &entry.reference.id);
        let signed = store.revision(&entry.reference).is_ok_and(|r| r.signature_path().is_file());
        if json {
            output::json(&json!({
                "event": "revision",
                "name": name,
                "revision": id,
                "published": entry.published,
                "channels": entry.channels,
                "signed": signed,
            }));
            continue;
        }
        let signed = if signed { ", signed" } else { "" };
        let channels: Vec<&str> = entry.channels.iter().map(|c| c.as_str()).collect();
        let state = match (entry.published, channels.as_slice()) {
            (_, [_, ..]) => format!("booted by {}", channels.join(", ")),
            (true, []) => "seeded".to_owned(),
            (false, []) => "not published".to_owned(),
        };
        output::line(&format!("{}  {state}{signed}", entry.reference));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn inspect(args: &InspectArgs, json: bool) -> anyhow::Result<ExitCode> {
    let path = Path::new(&args.what);
    if path.is_file() {
        inspect_file(path, json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(root) = &args.store else {
        bail!("{} is no file; to look up a revision give --store DIR", args.what);
    };
    let store = Store::open(&**root)?;
    let name = RevisionName::new(&*args.what).ok();
    let current = name.map(|name| store.current(&args.channel, &name)).transpose()?.flatten();
    let revision = match current {
        Some(revision) => revision,
        None => store.revision(&newest(&store, &args.what)?)?,
    };
    show_manifest(&revision.manifest()?, json);
    let torrent = revision.torrent();
    inspect_file(&torrent, json)?;
    show_signature(&revision, json)?;
    Ok(ExitCode::SUCCESS)
}

/// A torrent, or else a manifest.
fn inspect_file(path: &Path, json: bool) -> anyhow::Result<()> {
    let shown = path.display();
    let bytes = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    if bytes.first() == Some(&b'd') {
        let metainfo = Metainfo::parse(&bytes)
            .with_context(|| format!("{shown} is no usable torrent; pack the image again"))?;
        show_torrent(&metainfo, json);
    } else {
        let manifest = Manifest::parse(&bytes)
            .with_context(|| format!("{shown} is neither a torrent nor a manifest.json"))?;
        show_manifest(&manifest, json);
    }
    Ok(())
}

fn show_manifest(manifest: &Manifest, json: bool) {
    if json {
        return output::json(&json!({ "event": "manifest", "manifest": manifest }));
    }
    output::line(&format!("image      {}", manifest.name));
    output::line(&format!("info-hash  {}", manifest.info_hash));
    if let Some(v2) = &manifest.v2 {
        output::line(&format!("v2 hash    {}", v2.info_hash));
        output::line(&format!("root       {}", v2.pieces_root));
    }
    if let Some(verity) = &manifest.verity {
        output::line(&format!("verity     {}", verity.root_hash));
    }
    output::line(&format!("kernel     {}", manifest.kernel_release.as_deref().unwrap_or("none")));
    for (kind, artefact) in &manifest.artefacts {
        let (size, digest) = (ByteSize(artefact.length), artefact.sha256);
        output::line(&format!("{:<16} {size:>10}  sha256 {digest}", kind.file_name()));
    }
    for (key, value) in &manifest.build {
        output::line(&format!("{key:<10} {value}"));
    }
}

/// Who claims to have signed it; `verify --public-key` checks that.
fn show_signature(revision: &RevisionDir, json: bool) -> anyhow::Result<()> {
    let claimed = signing::claimed(revision)?;
    if json {
        let (key, time) = match &claimed {
            Some((key, comment)) => (Some(key.to_string()), comment.time),
            None => (None, None),
        };
        output::json(&json!({ "event": "signature", "key": key, "time": time }));
        return Ok(());
    }
    output::line(&match claimed {
        Some((key, comment)) => {
            let time = comment.time.map(|time| format!(" at {time}")).unwrap_or_default();
            format!("signed by  key {key}{time} (not checked: bee-packer verify --public-key)")
        }
        None => "signed by  nobody".to_owned(),
    });
    Ok(())
}

fn show_torrent(metainfo: &Metainfo, json: bool) {
    let (info, geometry) = (&metainfo.info, &metainfo.info.geometry);
    if json {
        return output::json(&json!({
            "event": "torrent",
            "name": info.name,
            "info_hash": metainfo.info_hash,
            "info_hash_v2": metainfo.info_hash_v2,
            "pieces_root": info.tree().map(BlockTree::root),
            "length": geometry.total(),
            "piece_length": geometry.piece_length(),
            "pieces": geometry.pieces(),
            "private": info.private,
            "trackers": metainfo.trackers,
            "web_seeds": metainfo.web_seeds,
        }));
    }
    let piece = ByteSize(geometry.piece_length().into());
    output::line(&format!("torrent    {} of {}", info.name, ByteSize(geometry.total())));
    output::line(&format!("info-hash  {}", metainfo.info_hash));
    if let (Some(hash), Some(tree)) = (metainfo.info_hash_v2, info.tree()) {
        output::line(&format!("v2 hash    {hash} (BEP 52)"));
        output::line(&format!("root       {}", tree.root()));
    }
    output::line(&format!("pieces     {} of {piece}", geometry.pieces()));
    for (tier, urls) in metainfo.trackers.iter().enumerate() {
        output::line(&format!("tracker {}  {}", tier + 1, urls.join(" ")));
    }
    for url in &metainfo.web_seeds {
        output::line(&format!("web seed   {url}"));
    }
}

pub(crate) fn verify(args: &VerifyArgs, json: bool) -> anyhow::Result<ExitCode> {
    let store = Store::open(&*args.store.store)?;
    let mut references = store.revisions()?;
    if let Some(text) = &args.revision {
        // an error for a name that is not there
        let wanted = newest(&store, text)?;
        if text.contains('@') {
            references = vec![wanted];
        } else {
            references.retain(|r| r.name == wanted.name);
        }
    }
    let keys = keys::public_keys(&args.public_keys)?;
    let (mut damaged, mut unsigned) = (false, false);
    for reference in references {
        let revision = store.revision(&reference)?;
        let whole = verify_one(&revision, json)?;
        damaged |= !whole;
        // of a damaged manifest no signature holds
        unsigned |= whole && !keys.is_empty() && !verify_signature(&revision, &keys, json)?;
    }
    Ok(match (damaged, unsigned) {
        (true, _) => ExitCode::from(Category::Damaged as u8),
        (false, true) => ExitCode::from(Category::Signature as u8),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// True when one of `keys` signed the revision.
fn verify_signature(
    revision: &RevisionDir,
    keys: &[PublicKey],
    json: bool,
) -> anyhow::Result<bool> {
    let reference = revision.reference();
    let checked = signing::check(revision, keys)?;
    if json {
        let signed = checked.as_ref().ok();
        output::json(&json!({
            "event": "signature",
            "name": reference.name,
            "revision": reference.id,
            "valid": checked.is_ok(),
            "key": signed.map(|signed| signed.key.to_string()),
            "time": signed.and_then(|signed| signed.comment.time),
            "reason": checked.as_ref().err().map(ToString::to_string),
        }));
    } else {
        match &checked {
            Ok(signed) => {
                let time = signed.comment.time.map(|time| format!(" at {time}"));
                let (key, time) = (signed.key, time.unwrap_or_default());
                output::line(&format!("{reference}: signed by key {key}{time}"));
            }
            Err(reason) => output::line(&format!("{reference}: signature refused: {reason}")),
        }
    }
    Ok(checked.is_ok())
}

/// True when the revision is whole.
fn verify_one(revision: &RevisionDir, json: bool) -> anyhow::Result<bool> {
    let progress = Progress::new(json);
    let damage = packer::verify::verify(revision, &|event| progress.event(&event))?;
    let reference = revision.reference();
    if json {
        let faults: Vec<String> = damage.iter().map(ToString::to_string).collect();
        output::json(&json!({
            "event": "verified",
            "name": reference.name,
            "revision": reference.id,
            "whole": damage.is_empty(),
            "damage": faults,
        }));
    } else if damage.is_empty() {
        output::line(&format!("{reference}: whole"));
    } else {
        output::line(&format!("{reference}: damaged, pack the image again"));
        damage.iter().for_each(|d| output::line(&format!("  {d}")));
    }
    Ok(damage.is_empty())
}
