//! The flags of `bee-packer pack` that say what goes into the image.

use std::env;
use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use packer::contents::{ContentOptions, Fact, FactOptions, Owner};
use proto::unix_time::UnixTime;

/// Of each argument, since one for the struct would go on to what the caller has after it.
const HEADING: &str = "Contents of the image";

#[derive(Debug, Args)]
pub(crate) struct ContentArgs {
    /// Leave out what matches, directories with all that is in them; repeatable. Compared with the
    /// whole path from the root on; `*` stands for anything but '/', `**` for any directories:
    /// 'usr/share/doc/*', '**/*.pyc'
    #[arg(help_heading = HEADING, long = "exclude", value_name = "PATTERN")]
    excludes: Vec<String>,
    /// Lay the files of this directory over the source; repeatable, later ones win. Directories that
    /// are there keep their owner and mode; a .git at its top is left out
    #[arg(help_heading = HEADING, long = "overlay", value_name = "DIR")]
    overlays: Vec<PathBuf>,
    /// Whom the files of overlays belong to
    #[arg(help_heading = HEADING, long, value_enum, default_value_t, requires = "overlays")]
    overlay_owner: OwnerArg,
    /// Public SSH keys that may log in to the nodes as root; repeatable
    #[arg(help_heading = HEADING, long = "authorized-key", value_name = "FILE")]
    authorized_keys: Vec<PathBuf>,
    /// Further fact for /etc/bee-release and the manifest; repeatable. Without, these are: name,
    /// version of the packer, kernel, distribution, git commit of the source, SOURCE_DATE_EPOCH
    #[arg(help_heading = HEADING, long = "build-fact", value_name = "KEY=VALUE", conflicts_with = "no_build_facts")]
    build_facts: Vec<Fact>,
    /// Add neither /etc/bee-release nor /etc/motd.d/beeswarm
    #[arg(help_heading = HEADING, long)]
    no_build_facts: bool,
    /// Pack this secret all the same: a path in the image or a pattern; repeatable. Every node, and
    /// whoever reaches one, can read it
    #[arg(help_heading = HEADING, long = "allow-secret", value_name = "PATH")]
    allow_secrets: Vec<String>,
    /// Like --allow-secret for each line of a file; '#' begins a comment
    #[arg(help_heading = HEADING, long = "allow-secrets-from", value_name = "FILE")]
    allow_secrets_from: Vec<PathBuf>,
}

/// `--overlay-owner`.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum OwnerArg {
    /// Whom they belong to on this host
    #[default]
    Keep,
    /// root, whoever made them
    Root,
}

impl ContentArgs {
    /// As the library takes them.
    pub(crate) fn options(&self) -> anyhow::Result<ContentOptions> {
        let mut allow_secrets = self.allow_secrets.clone();
        for path in &self.allow_secrets_from {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read --allow-secrets-from {}", path.display()))?;
            let lines = text.lines().map(str::trim);
            allow_secrets
                .extend(lines.filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned));
        }
        let facts = match self.no_build_facts {
            true => None,
            false => Some(FactOptions { further: self.build_facts.clone(), time: build_time()? }),
        };
        Ok(ContentOptions {
            excludes: self.excludes.clone(),
            overlays: self.overlays.clone(),
            overlay_owner: match self.overlay_owner {
                OwnerArg::Keep => Owner::Kept,
                OwnerArg::Root => Owner::Root,
            },
            authorized_keys: self.authorized_keys.clone(),
            facts,
            allow_secrets,
        })
    }
}

/// What reproducible-builds.org calls the time of a build.
fn build_time() -> anyhow::Result<Option<UnixTime>> {
    let Some(value) = env::var_os("SOURCE_DATE_EPOCH").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let seconds = value.to_str().and_then(|text| text.parse().ok());
    let seconds = seconds.context("SOURCE_DATE_EPOCH is no number of seconds since 1970")?;
    Ok(Some(UnixTime(seconds)))
}
