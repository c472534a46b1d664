//! `bee-packer diff`.

use std::process::ExitCode;

use clap::Args;
use packer::compare::{self, Difference, FileChange, PackageChange};
use proto::units::ByteSize;
use serde_json::json;
use store::Store;

use crate::cli::StoreArg;
use crate::manage::newest;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// NAME@REV, or NAME for its newest revision
    pub(crate) older: String,
    /// NAME@REV, or NAME for its newest revision
    pub(crate) newer: String,
    #[command(flatten)]
    pub(crate) store: StoreArg,
    /// Name every file; by default they are counted
    #[arg(long)]
    pub(crate) files: bool,
}

/// Compares two revisions.
pub(crate) fn diff(args: &DiffArgs, json: bool) -> anyhow::Result<ExitCode> {
    let store = Store::open(&*args.store.store)?;
    let older = store.revision(&newest(&store, &args.older)?)?;
    let newer = store.revision(&newest(&store, &args.newer)?)?;
    let found = compare::compare(&older, &newer)?;
    if json {
        let mut line = json!(found);
        line["event"] = "diff".into();
        line["older"] = older.reference().to_string().into();
        line["newer"] = newer.reference().to_string().into();
        output::json(&line);
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&format!("{} → {}", older.reference(), newer.reference()));
    print(&found, args.files);
    Ok(ExitCode::SUCCESS)
}

fn print(found: &Difference, name_files: bool) {
    for (sign, list) in [
        ('+', &found.packages.added),
        ('-', &found.packages.removed),
        ('~', &found.packages.changed),
    ] {
        list.iter().for_each(|package| output::line(&format!("{sign} {}", describe(package))));
    }
    let files =
        [('+', &found.files.added), ('-', &found.files.removed), ('~', &found.files.changed)];
    for (sign, list) in files.iter().filter(|_| name_files) {
        list.iter().for_each(|file| output::line(&format!("{sign} {}", describe_file(file))));
    }
    let [packages, paths] = [
        [&found.packages.added, &found.packages.removed, &found.packages.changed].map(Vec::len),
        files.map(|(_, list)| list.len()),
    ];
    let counts = |[added, removed, changed]: [usize; 3]| {
        format!("{added} added, {removed} removed, {changed} changed")
    };
    output::line(&format!("packages   {}", counts(packages)));
    output::line(&format!("files      {}", counts(paths)));
    let [before, after] = found.files.total;
    output::line(&format!("unpacked   {} → {}", ByteSize(before), ByteSize(after)));
    let [before, after] = found.sizes;
    output::line(&format!("image      {} → {}", ByteSize(before.image), ByteSize(after.image)));
    let part = |size: Option<u64>| size.map_or("none".to_owned(), |n| ByteSize(n).to_string());
    output::line(&format!("kernel     {} → {}", part(before.kernel), part(after.kernel)));
    output::line(&format!("initrd     {} → {}", part(before.initrd), part(after.initrd)));
    let pieces = &found.pieces;
    let [old, new] = pieces.piece_length;
    output::line(&if old == new {
        format!("pieces     {} of {} are in the older image, too", pieces.shared, pieces.pieces)
    } else {
        let (old, new) = (ByteSize(old.into()), ByteSize(new.into()));
        format!("pieces     none is shared: they have {old} in one image, {new} in the other")
    });
}

fn describe(package: &PackageChange) -> String {
    let name = &package.name;
    match (&package.before, &package.after) {
        (Some(before), Some(after)) => format!("{name} {before} → {after}"),
        (one, other) => format!("{name} {}", one.as_ref().or(other.as_ref()).map_or("", |v| v)),
    }
}

fn describe_file(file: &FileChange) -> String {
    // a name may hold what a terminal obeys
    let path = file.path.escape_debug();
    match (file.before, file.after) {
        (Some(before), Some(after)) if before != after => {
            format!("/{path} {} → {}", ByteSize(before), ByteSize(after))
        }
        (before, after) => {
            format!("/{path} {}", ByteSize(after.or(before).unwrap_or_default()))
        }
    }
}
