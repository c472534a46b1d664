//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{NodeOptions, SeedOptions, WatchOptions};
use crate::exit::EXIT_CODES;
use crate::record::RecordOptions;

/// Seeds one torrent, every published revision of a store, or the image this node runs from.
#[derive(Debug, Parser)]
#[command(name = "bee-seeder", version, after_help = EXIT_CODES, help_expected = true)]
pub struct Cli {
    /// What to seed.
    #[command(subcommand)]
    pub command: Command,
    /// For every command.
    #[command(flatten)]
    pub common: Common,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// Print one JSON object per line on standard output: listening, seeding, refused, removed,
    /// uploaded (every second), stopped
    #[arg(long, global = true)]
    pub json: bool,
    /// Settings file (TOML); without it only flags and environment count
    #[arg(long, global = true, value_name = "FILE", env = "BEESWARM_SEEDER_CONFIG")]
    pub config: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Seed one torrent from a file or a block device
    Seed(SeedOptions),
    /// Seed and serve over HTTP every published revision of a store, as it appears
    Watch(WatchOptions),
    /// Seed the image this node runs from, as its boot left it in /run/beeswarm/boot.json
    Node(NodeOptions),
    /// Record which files are opened, in order: what `bee-packer pack --order` takes. For a whole boot
    /// give the kernel init=/usr/bin/bee-record-order; the list is in /run/beeswarm/boot-order then
    RecordOrder(RecordOptions),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound_and_every_flag_has_help() {
        Cli::command().debug_assert();
        let mut command = Cli::command();
        for name in ["seed", "watch", "node", "record-order"] {
            let sub = command.find_subcommand_mut(name).unwrap();
            for arg in sub.get_arguments() {
                assert!(arg.get_help().is_some(), "{name} {}", arg.get_id());
            }
        }
    }

    #[test]
    fn the_fixed_command_lines_are_taken() {
        for line in [
            "bee-seeder seed --torrent t --data d --listen 0.0.0.0:1 --upload-limit 800Mbit",
            "bee-seeder watch --store s --http 127.0.0.1:8080",
            "bee-seeder watch --store s --no-swarm --http-exclude-image --json",
            "bee-seeder watch --store s --no-swarm=false",
            "bee-seeder node",
            "bee-seeder node --http [::]:8080",
            "bee-seeder node --no-lsd --upload-limit-per-peer 80Mbit",
            "bee-seeder watch --store s --no-lsd=false",
            "bee-seeder record-order --output f --until graphical.target --settle 0 --root /r",
            "bee-seeder record-order --until 60",
            "bee-seeder --json node --boot-record f --user nobody --config c",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "bee-seeder",
            "bee-seeder seed --listen nowhere",
            "bee-seeder watch --upload-limit fast",
            "bee-seeder node --nice 50",
            "bee-seeder record-order --until soon",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
