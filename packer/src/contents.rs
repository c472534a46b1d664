//! What is packed of a source: overlays and keys laid over it, exclusions taken out, facts added,
//! and nothing in it that must not leave the admin's host.
//!
//! ```text
//! source ─▶ view ─▶ overlays ─▶ (kernel, initrd) ─▶ facts ─▶ exclusions ─▶ keys ─▶ gate ─▶ (image) ─▶ unchanged?
//! ```
//!
//! What is given beside the source has the last word: exclusions take out nothing that an overlay laid there,
//! and keys that are given are alone where those of the source are excluded. Exclusions are taken out late all the
//! same, since the kernel and its modules may be among them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::authorized_keys::AuthorizedKeys;
use crate::error::PackError;
use crate::event::{Event, Observer};
use crate::exclude;
use crate::facts::Facts;
pub use crate::facts::{Fact, FactError, FactOptions};
use crate::format::Filesystem;
use crate::inside::resolve;
pub use crate::overlay::Owner;
use crate::overlay::{self, Laid};
use crate::pattern::Patterns;
use crate::secrets::{self, Finding};
use crate::snapshot::Snapshot;
use crate::tool::Place;
use crate::tree::{Attributes, Tree};
use crate::view::View;

/// The longest os-release(5) that is read, in bytes.
const LONGEST_RELEASE: u64 = 64 << 10;

/// What to change of the source, and what it may hold.
#[derive(Debug, Clone, Default)]
pub struct ContentOptions {
    /// Patterns of paths that are left out.
    pub excludes: Vec<String>,
    /// Directories that are laid over the root, in this order.
    pub overlays: Vec<PathBuf>,
    /// Whom the overlays' files belong to.
    pub overlay_owner: Owner,
    /// Files with public keys that may log in as root.
    pub authorized_keys: Vec<PathBuf>,
    /// For `/etc/bee-release`; `None`: there is none.
    pub facts: Option<FactOptions>,
    /// Patterns of secrets that may be packed.
    pub allow_secrets: Vec<String>,
}

/// The options, read and checked, before anything is made.
pub(crate) struct Plan<'a> {
    options: &'a ContentOptions,
    excludes: Patterns,
    allow: Patterns,
    keys: AuthorizedKeys,
    filesystem: Filesystem,
    observe: Observer<'a>,
}

/// The contents of the image while they are made and packed.
pub(crate) struct Contents<'a> {
    plan: Plan<'a>,
    /// Of the directories that others may write to.
    before: Vec<Snapshot>,
    view: View,
    /// Of the overlays.
    laid: Laid,
    /// The view is no directory of the admin's.
    is_changeable: bool,
}

impl<'a> Plan<'a> {
    /// Reads the options.
    ///
    /// # Errors
    /// [`PackError::Pattern`], [`PackError::Read`] for an overlay, those of the keys.
    pub(crate) fn new(
        options: &'a ContentOptions,
        filesystem: Filesystem,
        observe: Observer<'a>,
    ) -> Result<Self, PackError> {
        for path in &options.overlays {
            fs::read_dir(path).map_err(|source| PackError::Read { path: path.clone(), source })?;
        }
        Ok(Self {
            options,
            excludes: Patterns::new("--exclude", &options.excludes)?,
            allow: Patterns::new("--allow-secret", &options.allow_secrets)?,
            keys: AuthorizedKeys::read(&options.authorized_keys)?,
            filesystem,
            observe,
        })
    }

    fn changes_something(&self) -> bool {
        !self.options.overlays.is_empty()
            || !self.excludes.is_empty()
            || !self.keys.is_empty()
            || self.options.facts.is_some()
    }

    /// Makes the contents of the root at `source`, which others may write to unless it is in `work`,
    /// the draft's directory.
    ///
    /// # Errors
    /// Those of reading the source and the overlays, and of writing to `work`.
    pub(crate) fn open(
        mut self,
        source: &Path,
        work: &Path,
        place: Place<'_>,
    ) -> Result<Contents<'a>, PackError> {
        let change = self.changes_something();
        let ours = source.starts_with(work);
        // squashfs has an option for the time of the topmost directory; EROFS stores what it finds
        let settle = self.filesystem == Filesystem::Erofs;
        let mut before = Vec::new();
        let view = if ours {
            View::of(source)
        } else {
            let snapshot = Snapshot::take(source, &mut self.excludes, change || settle)?;
            let work = work.join("view");
            fs::create_dir(&work).map_err(|e| place.write_error(work.clone(), e))?;
            let obstacle = snapshot.obstacle();
            let view = match (change, settle) {
                (true, _) => View::over(source, obstacle, &work, place, self.observe)?,
                (false, true) => View::of_time(source, obstacle, &work, place)?,
                (false, false) => View::of(source),
            };
            before.push(snapshot);
            view
        };
        for path in &self.options.overlays {
            before.push(Snapshot::of_overlay(path)?);
        }
        let is_changeable = ours || view.path() != source;
        let mut contents = Contents { plan: self, before, view, laid: Laid::new(), is_changeable };
        contents.lay_over(place)?;
        Ok(contents)
    }
}

impl Contents<'_> {
    /// The root.
    pub(crate) fn root(&self) -> &Path {
        self.view.path()
    }

    fn tree(&self, place: Place<'_>) -> Result<Tree, PackError> {
        Tree::open(self.root()).map_err(|e| place.write_error(self.root().to_owned(), e))
    }

    /// Of files that are added. Their time is the one that is given for the build, or none.
    fn attributes(&self) -> Attributes {
        let time = self.plan.options.facts.as_ref().and_then(|facts| facts.time);
        let since = Duration::from_secs(time.map_or(0, |time| time.0));
        let modified = SystemTime::UNIX_EPOCH.checked_add(since);
        let modified = modified.unwrap_or(SystemTime::UNIX_EPOCH);
        Attributes { mode: 0o644, owner: (0, 0), modified }
    }

    fn lay_over(&mut self, place: Place<'_>) -> Result<(), PackError> {
        let ContentOptions { overlays, overlay_owner, .. } = self.plan.options;
        if overlays.is_empty() {
            return Ok(());
        }
        let tree = self.tree(place)?;
        for path in overlays {
            let laid = Some(&mut self.laid);
            overlay::apply(path, &tree, *overlay_owner, &overlay::is_history, laid, place)?;
        }
        Ok(())
    }

    /// Adds facts and keys and takes the exclusions out; returns what the manifest is to say of it.
    /// `origin` is the source as it was given.
    ///
    /// # Errors
    /// [`PackError::ExcludedModules`], those of writing.
    pub(crate) fn close(
        &mut self,
        name: &str,
        kernel: Option<&str>,
        origin: Option<&Path>,
        place: Place<'_>,
    ) -> Result<Vec<(String, String)>, PackError> {
        let mut said = Vec::new();
        if let Some(options) = &self.plan.options.facts {
            let sources =
                origin.into_iter().chain(self.plan.options.overlays.iter().map(PathBuf::as_path));
            let tree = self.tree(place)?;
            let os_release = os_release(&tree)?;
            let facts = Facts::collect(options, name, kernel, os_release.as_deref(), sources);
            facts.write(&tree, self.attributes(), place)?;
            said.extend(facts.for_manifest(options));
        }
        let root = self.view.path().to_owned();
        if !self.plan.excludes.is_empty() {
            let had = kernel.is_some_and(|release| has_modules(&root, release));
            let gone = exclude::find(&root, &mut self.plan.excludes, &self.laid)?;
            self.view.remove(&gone, place)?;
            if let Some(release) = kernel.filter(|release| had && !has_modules(&root, release)) {
                return Err(PackError::ExcludedModules { release: release.to_owned() });
            }
            self.warn_of_unused("--exclude", &self.plan.excludes, "nothing is left out by it");
        }
        if !self.plan.keys.is_empty() {
            self.plan.keys.add(&self.tree(place)?, self.attributes(), place)?;
        }
        if self.is_changeable {
            self.view.settle_time().map_err(|e| place.write_error(root, e))?;
        }
        Ok(said)
    }

    /// Looks for secrets in what will be packed, as far as it is there: nobody should wait minutes for
    /// an initrd to be told of them.
    ///
    /// # Errors
    /// As [`Self::gate`].
    pub(crate) fn look_ahead(&mut self) -> Result<(), PackError> {
        let Plan { allow, excludes, .. } = &mut self.plan;
        let report = secrets::scan(self.view.path(), "", allow, excludes)?;
        self.refuse(report.refused)
    }

    fn refuse(&self, findings: Vec<Finding>) -> Result<(), PackError> {
        for finding in &findings {
            (self.plan.observe)(Event::Secret { finding: finding.clone(), allowed: false });
        }
        if findings.is_empty() { Ok(()) } else { Err(PackError::Secrets { findings }) }
    }

    /// Looks for secrets in what is packed now.
    ///
    /// # Errors
    /// [`PackError::Secrets`] with all that are not allowed, [`PackError::Read`].
    pub(crate) fn gate(&mut self, initrd: Option<&Path>) -> Result<(), PackError> {
        let (allow, mut nothing) = (&mut self.plan.allow, Patterns::none());
        let mut report = secrets::scan(self.view.path(), "", allow, &mut nothing)?;
        if let Some(initrd) = initrd {
            let of_initrd = secrets::scan(initrd, "initrd:", allow, &mut nothing)?;
            report.refused.extend(of_initrd.refused);
            report.allowed.extend(of_initrd.allowed);
        }
        for text in report.notices {
            (self.plan.observe)(Event::Warning { text });
        }
        for finding in report.allowed {
            (self.plan.observe)(Event::Secret { finding, allowed: true });
        }
        self.refuse(report.refused)?;
        self.warn_of_unused("--allow-secret", &self.plan.allow, "no secret was found there");
        Ok(())
    }

    /// Whether source and overlays are still what they were: asked for when the image is made.
    ///
    /// # Errors
    /// [`PackError::Changed`], those of reading.
    pub(crate) fn unchanged(mut self) -> Result<(), PackError> {
        let excludes = &mut self.plan.excludes;
        self.before.iter().try_for_each(|before| before.compare(excludes))
    }

    fn warn_of_unused(&self, flag: &str, patterns: &Patterns, outcome: &str) {
        for text in patterns.unused() {
            let text = format!("{flag} {text} matches nothing: {outcome}");
            (self.plan.observe)(Event::Warning { text });
        }
    }
}

/// What a root says it is (os-release(5)); the second place is for programs that find the first one gone.
fn os_release(tree: &Tree) -> Result<Option<Vec<u8>>, PackError> {
    for path in ["etc/os-release", "usr/lib/os-release"] {
        let error = |source| PackError::Read { path: path.into(), source };
        // no device, and no file that fills the memory
        let found = tree.file(Path::new(path)).map_err(error)?;
        if let Some((path, _)) = found.filter(|(_, meta)| meta.len() <= LONGEST_RELEASE) {
            return tree.read(&path).map_err(error);
        }
    }
    Ok(None)
}

fn has_modules(root: &Path, release: &str) -> bool {
    ["usr/lib/modules", "lib/modules"].iter().any(|dir| {
        let dir = resolve(root, &format!("{dir}/{release}/modules.dep"));
        matches!(dir, Ok(Some(_)))
    })
}
