//! `bee-packer publish`, `unpublish`, `rollback`.

use std::process::ExitCode;

use serde_json::json;
use store::{Channel, Published, RevisionName, RevisionRef, Store, StoreError};

use crate::cli::{PublishArgs, RevisionArgs, RollbackArgs};
use crate::{output, unsigned};

/// The revision that NAME@REV or NAME (then its newest) says.
pub(crate) fn newest(store: &Store, text: &str) -> anyhow::Result<RevisionRef> {
    if text.contains('@') {
        return Ok(text.parse()?);
    }
    let name = RevisionName::new(text)?;
    let found = store.list()?.into_iter().map(|l| l.reference).find(|r| r.name == name);
    Ok(found.ok_or(StoreError::NoImage { name })?)
}

pub(crate) fn publish(args: &PublishArgs, json: bool) -> anyhow::Result<ExitCode> {
    let store = Store::open(&*args.store.store)?;
    let reference = newest(&store, &args.revision)?;
    unsigned::warn(&store, &reference, json)?;
    let published = store.publish(&reference, &args.channel)?;
    report(&published, &args.channel, json);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn rollback(args: &RollbackArgs, json: bool) -> anyhow::Result<ExitCode> {
    let store = Store::open(&*args.store.store)?;
    let published = store.rollback(&args.name, &args.channel)?;
    unsigned::warn(&store, &published.current, json)?;
    report(&published, &args.channel, json);
    Ok(ExitCode::SUCCESS)
}

fn report(published: &Published, channel: &Channel, json: bool) {
    let Published { current, previous } = published;
    if json {
        return output::json(&json!({
            "event": "published",
            "channel": channel,
            "name": current.name,
            "revision": current.id,
            "previous": previous.as_ref().map(|r| &r.id),
        }));
    }
    let before = match previous {
        Some(previous) if previous == current => ", as before".to_owned(),
        Some(previous) => format!("; before it was {previous}"),
        None => String::new(),
    };
    output::line(&format!("channel {channel} boots {current}{before}"));
}

pub(crate) fn unpublish(args: &RevisionArgs, json: bool) -> anyhow::Result<ExitCode> {
    let store = Store::open(&*args.store.store)?;
    store.unpublish(&args.revision)?;
    let RevisionRef { name, id } = &args.revision;
    if json {
        output::json(&json!({ "event": "unpublished", "name": name, "revision": id }));
    } else {
        output::line(&format!("{} is no longer seeded", args.revision));
    }
    Ok(ExitCode::SUCCESS)
}
