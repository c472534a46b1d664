//! `bee-packer`: packs root trees into revisions and manages the store.

use std::process::ExitCode;

use anyhow::Error;
use clap::Parser as _;
use packer::PackError;
use packer::compare::CompareError;
use packer::error::Category;
use packer::signing::{SignError, Unsigned};
use store::StoreError;

use crate::cli::Cli;

mod cli;
mod cluster;
mod content_args;
mod diff;
mod dispatch;
mod image_args;
mod initrd_cli;
mod keys;
mod manage;
mod node_list;
mod output;
mod prune;
mod reimage;
mod rollout;
mod run;
mod show;
mod status;
mod unsigned;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // dracut makes files by it: an initrd must not depend on who packs
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    match cli.run() {
        Ok(code) => code,
        Err(error) => {
            output::error(cli.json, &error);
            ExitCode::from(category(&error) as u8)
        }
    }
}

/// The exit code's meaning, as `--help` documents it.
fn category(error: &Error) -> Category {
    let packing = error.downcast_ref::<PackError>();
    if let Some(error) = packing {
        return error.category();
    }
    if let Some(error) = error.downcast_ref::<SignError>() {
        return error.category();
    }
    if error.downcast_ref::<Unsigned>().is_some() {
        return Category::Signature;
    }
    let compared = match error.downcast_ref::<CompareError>() {
        Some(CompareError::Store(error)) => Some(error),
        Some(CompareError::Torrent { .. }) => return Category::Damaged,
        _ => None,
    };
    match compared.or_else(|| error.downcast_ref::<StoreError>()) {
        Some(
            StoreError::NotAStore { .. }
            | StoreError::NoRevision { .. }
            | StoreError::NoImage { .. }
            | StoreError::NothingOlder { .. }
            | StoreError::InUse { .. }
            | StoreError::Assigned { .. }
            | StoreError::NotBootable { .. },
        ) => Category::Input,
        Some(
            StoreError::Altered { .. }
            | StoreError::Manifest { .. }
            | StoreError::Assignments { .. },
        ) => Category::Damaged,
        Some(_) => Category::Store,
        None => Category::Other,
    }
}
