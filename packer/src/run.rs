//! `bee-packer pack`.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use packer::event::Event;
use packer::pack::{Boot, InitrdOptions, Options, Packed, Platform, Signing};
use packer::signing::SigningKey;
use proto::manifest::ArtefactKind;
use proto::trust_policy::TrustPolicy;
use proto::units::ByteSize;
use serde_json::json;
use store::Store;

use crate::cli::PackArgs;
use crate::output::{self, Progress};
use crate::{keys, unsigned};

/// Packs, and publishes if asked to.
pub(crate) fn pack(args: &PackArgs, json: bool) -> anyhow::Result<ExitCode> {
    let progress = Progress::new(json);
    // a wrong password is told before the work, not after it
    let key = args.sign_key.as_ref().map(|path| keys::open(path, &args.password)).transpose()?;
    let key = key.map(Arc::new);
    let policy = keys::policy(args, key.as_deref())?;
    if policy.is_some() && (args.keep_initrd.is_some() || args.image_only) {
        let text =
            "the public key goes into no initrd, since none is made: the nodes' own must have it";
        progress.event(&Event::Warning { text: text.to_owned() });
    }
    if args.image.verity && args.keep_initrd.is_some() {
        let text = "--verity: the initrd that was given must have the kernel module dm_verity; nodes \
                    without it say so, and read the image unchecked unless beeswarm.verity=require";
        progress.event(&Event::Warning { text: text.to_owned() });
    }
    let options = options(args, key.clone(), policy)?;
    let packed = packer::pack(&options, &|event| progress.event(&event))?;
    if args.publish {
        let store = Store::open(&*args.store.store)?;
        store
            .publish(packed.revision.reference(), &args.channel)
            .context("packed, but not published")?;
        unsigned::warn(&store, packed.revision.reference(), json)?;
    }
    let key = key.map(|key| key.public().id().to_string());
    report(&packed, args, key.as_deref(), json);
    Ok(ExitCode::SUCCESS)
}

fn options(
    args: &PackArgs,
    key: Option<Arc<SigningKey>>,
    trust: Option<TrustPolicy>,
) -> anyhow::Result<Options> {
    let (kernel, release) = (args.kernel.clone(), args.kver.clone());
    let boot = match &args.keep_initrd {
        _ if args.image_only => Boot::ImageOnly,
        Some(initrd) => Boot::Given { kernel, release, initrd: initrd.clone() },
        None => {
            let initrd = InitrdOptions {
                client: args.client.clone(),
                dracut_module: args.dracut_module.clone(),
                dracut_args: args.dracut_args.clone(),
                trust,
                verity: args.image.verity,
                ..args.initrd.options()
            };
            Boot::Made { kernel, release, initrd }
        }
    };
    Ok(Options {
        source: args.source.clone(),
        platform: args.platform.clone().unwrap_or_else(Platform::host),
        name: args.name.to_string(),
        store: args.store.store.clone(),
        trackers: args.trackers.clone(),
        web_seeds: args.web_seeds.clone(),
        private: args.private,
        torrent: args.torrent.into(),
        nodes: args.nodes,
        image: args.image.format()?,
        verity: args.image.verity,
        order: args.image.order()?,
        contents: args.contents.options()?,
        boot,
        sign: key.map(|key| Signing { key, time: keys::now() }),
    })
}

fn report(packed: &Packed, args: &PackArgs, key: Option<&str>, json: bool) {
    let (reference, manifest) = (packed.revision.reference(), &packed.manifest);
    let length = |kind| manifest.artefact(kind).map(|a| a.length);
    let image = length(ArtefactKind::Image).unwrap_or_default();
    let pieces = image.div_ceil(u64::from(packed.piece_length));
    let channel = args.publish.then_some(&args.channel);
    if json {
        return output::json(&json!({
            "event": "complete",
            "name": reference.name,
            "revision": reference.id,
            "path": packed.revision.path(),
            "new": packed.new,
            "info_hash": manifest.info_hash,
            "kernel_release": manifest.kernel_release,
            "image_bytes": image,
            "piece_length": packed.piece_length,
            "pieces": pieces,
            "kernel_bytes": length(ArtefactKind::Kernel),
            "initrd_bytes": length(ArtefactKind::Initrd),
            "verity": manifest.verity,
            "channel": channel,
            "signed_by": key,
        }));
    }
    let size = |kind| length(kind).map_or_else(|| "none".to_owned(), |n| ByteSize(n).to_string());
    output::line(&reference.to_string());
    output::line(&format!("  info-hash  {}", manifest.info_hash));
    let piece = ByteSize(packed.piece_length.into());
    output::line(&format!("  image      {} in {pieces} pieces of {piece}", ByteSize(image)));
    if let Some(verity) = &manifest.verity {
        output::line(&format!("  verity     {}", verity.root_hash));
    }
    let release = manifest.kernel_release.as_deref().unwrap_or("none");
    output::line(&format!("  kernel     {release}, {}", size(ArtefactKind::Kernel)));
    output::line(&format!("  initrd     {}", size(ArtefactKind::Initrd)));
    output::line(&format!("  signed by  {}", key.unwrap_or("nobody")));
    output::line(&format!("  directory  {}", packed.revision.path().display()));
    if !packed.new {
        output::line("  the same revision was in the store already");
    }
    match channel {
        Some(channel) => output::line(&format!("  published in channel {channel}")),
        None => output::line(&format!(
            "  not published yet: bee-packer publish {reference} --store {}",
            args.store.store.display()
        )),
    }
}
