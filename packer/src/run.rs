//! `bee-packer pack`.

use std::process::ExitCode;

use anyhow::Context as _;
use packer::pack::{Boot, InitrdOptions, Options, Packed};
use proto::manifest::ArtefactKind;
use proto::units::ByteSize;
use serde_json::json;
use store::Store;

use crate::cli::PackArgs;
use crate::output::{self, Progress};

/// Packs, and publishes if asked to.
pub(crate) fn pack(args: &PackArgs, json: bool) -> anyhow::Result<ExitCode> {
    let progress = Progress::new(json);
    let packed = packer::pack(&options(args), &|event| progress.event(&event))?;
    if args.publish {
        let store = Store::open(&*args.store.store)?;
        store
            .publish(packed.revision.reference(), &args.channel)
            .context("packed, but not published")?;
    }
    report(&packed, args, json);
    Ok(ExitCode::SUCCESS)
}

fn options(args: &PackArgs) -> Options {
    let (kernel, release) = (args.kernel.clone(), args.kver.clone());
    let boot = match &args.keep_initrd {
        _ if args.image_only => Boot::ImageOnly,
        Some(initrd) => Boot::Given { kernel, release, initrd: initrd.clone() },
        None => {
            let initrd = InitrdOptions {
                client: args.client.clone(),
                dracut_module: args.dracut_module.clone(),
                dracut_args: args.dracut_args.clone(),
            };
            Boot::Dracut { kernel, release, initrd }
        }
    };
    Options {
        source: args.source.clone(),
        name: args.name.to_string(),
        store: args.store.store.clone(),
        trackers: args.trackers.clone(),
        web_seeds: args.web_seeds.clone(),
        private: args.private,
        nodes: args.nodes,
        compression: args.compression.into(),
        boot,
    }
}

fn report(packed: &Packed, args: &PackArgs, json: bool) {
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
            "channel": channel,
        }));
    }
    let size = |kind| length(kind).map_or_else(|| "none".to_owned(), |n| ByteSize(n).to_string());
    output::line(&reference.to_string());
    output::line(&format!("  info-hash  {}", manifest.info_hash));
    let piece = ByteSize(packed.piece_length.into());
    output::line(&format!("  image      {} in {pieces} pieces of {piece}", ByteSize(image)));
    let release = manifest.kernel_release.as_deref().unwrap_or("none");
    output::line(&format!("  kernel     {release}, {}", size(ArtefactKind::Kernel)));
    output::line(&format!("  initrd     {}", size(ArtefactKind::Initrd)));
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
