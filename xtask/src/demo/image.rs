//! The image: a Debian root with our programs in it, packed and published. What has not changed
//! since the last run is taken from there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use lab::contained;
use lab::root::{Base, Layer, Program, Recipe, demo_key};
use proto::hash::Sha256Digest;
use proto::manifest::{ArtefactKind, Manifest};
use proto::verity::Verity;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use store::{RevisionRef, Store};

use super::build::Programs;
use super::cluster::TRACKER;
use super::initrd;
use super::run_folder::RunFolder;
use super::steps::note;
use super::variant;
use super::{Args, INITRAMFS_TOOLS};
use crate::workspace::{lab_folder, root};

/// The image's name in the store.
pub(crate) const NAME: &str = "demo";

/// The unit that re-seeds on a running node.
pub(crate) const NODE_UNIT: &str = "beeswarm-node-seeder.service";

/// A published revision.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// The store.
    pub(crate) store: PathBuf,
    /// The revision's folder.
    pub(crate) revision: PathBuf,
    /// What it says about itself.
    pub(crate) manifest: Manifest,
    /// SHA-256 of the image: each node's is compared with it.
    pub(crate) sha256: String,
    /// The private key for ssh to the nodes.
    pub(crate) ssh_key: PathBuf,
}

impl Image {
    /// Length of the image in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.manifest.artefact(ArtefactKind::Image).map_or(0, |artefact| artefact.length)
    }

    /// The image's dm-verity tree.
    pub(crate) fn verity(&self) -> Result<Verity> {
        self.manifest.verity.context("the manifest names no dm-verity tree")
    }

    /// The one at `revision`, a folder of the store.
    fn read(store: PathBuf, revision: PathBuf, ssh_key: PathBuf) -> Result<Image> {
        let read =
            |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let path = revision.join("manifest.json");
        let manifest =
            Manifest::parse(&read(&path)?).with_context(|| format!("{}", path.display()))?;
        let image = read(&revision.join(ArtefactKind::Image.file_name()))?;
        let sha256 = Sha256Digest::of(&image).to_string();
        Ok(Image { store, revision, manifest, sha256, ssh_key })
    }
}

/// How a root is packed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner<'a> {
    /// Of the image.
    pub(crate) name: &'a str,
    /// `--initrd-tool`
    pub(crate) initrd_tool: &'a str,
    /// `--format`
    pub(crate) format: &'a str,
}

/// What was packed last, and from what.
#[derive(Debug, Serialize, Deserialize)]
struct Packed {
    fingerprint: String,
    revision: String,
}

/// Builds, packs and publishes what is not there yet.
pub(crate) fn prepare(args: &Args, programs: &Programs, folder: &RunFolder) -> Result<Image> {
    let lab = lab_folder();
    let recipe = args.recipe();
    let (base, layer, ssh_key) = parts(&recipe, programs, folder)?;
    let age = if base.is_fresh() { "built by mmdebstrap" } else { "from the last run" };
    note(format_args!("root of {}: {age}", recipe.suite()));
    let store = lab.join("store");
    if store.is_dir() {
        variant::remove_all(&Store::open(&store)?)?;
    }
    let record = lab.join("packed.json");
    let fingerprint = fingerprint(args, programs, &base, &layer)?;
    let revision = match packed(&record, &fingerprint, &store) {
        Some(revision) => {
            note("image: unchanged since the last run");
            revision
        }
        None => {
            let tree = lab.join("root");
            layer.assemble(&base, &tree)?;
            let (initrd_tool, format) = (&*args.initrd_tool, &*args.format);
            let manner = Manner { name: NAME, initrd_tool, format };
            pack(args, programs, manner, &tree, &store, folder)?;
            prune(programs, &store)?;
            let revision = newest_published(&store)?;
            let packed = Packed { fingerprint, revision: revision.clone() };
            fs::write(&record, serde_json::to_vec_pretty(&packed)?)
                .with_context(|| format!("cannot write {}", record.display()))?;
            fs::remove_dir_all(&tree).context("cannot remove the unpacked root")?;
            revision
        }
    };
    let revision = store.join("revisions").join(NAME).join(revision);
    let image = Image::read(store, revision, ssh_key)?;
    describe(&image);
    initrd::check(args.kernel(), programs, &image)?;
    Ok(image)
}

/// Packs the root of the published image in other manners, each for a machine by itself.
pub(crate) fn prepare_others(
    args: &Args,
    programs: &Programs,
    folder: &RunFolder,
    image: &Image,
    manners: &[Manner<'_>],
) -> Result<Vec<Image>> {
    let tree = lab_folder().join("root");
    assemble(args, programs, folder, &tree)?;
    let mut others = Vec::new();
    for manner in manners {
        pack(args, programs, *manner, &tree, &image.store, folder)?;
        let reference = revision(&Store::open(&image.store)?, manner.name)?;
        let path = image.store.join("revisions").join(manner.name).join(reference.id.as_str());
        let other = Image::read(image.store.clone(), path, image.ssh_key.clone())?;
        describe(&other);
        initrd::check(args.kernel(), programs, &other)?;
        others.push(other);
    }
    fs::remove_dir_all(&tree).context("cannot remove the unpacked root")?;
    Ok(others)
}

/// What a root is made of, and the key for ssh to it.
fn parts(
    recipe: &Recipe,
    programs: &Programs,
    folder: &RunFolder,
) -> Result<(Base, Layer, PathBuf)> {
    let lab = lab_folder();
    let base = Base::get(recipe, &lab.join("cache"), folder.path())?;
    let (ssh_key, public_key) = demo_key(&lab.join("ssh"))?;
    let layer = Layer {
        programs: programs_in_root(programs),
        systemd: root().join("systemd"),
        enable: vec![NODE_UNIT.to_owned()],
        authorized_key: public_key,
    };
    Ok((base, layer, ssh_key))
}

/// The root of the published image once more, in the folder `tree`.
pub(crate) fn assemble(
    args: &Args,
    programs: &Programs,
    folder: &RunFolder,
    tree: &Path,
) -> Result<()> {
    let (base, layer, _) = parts(&args.recipe(), programs, folder)?;
    Ok(layer.assemble(&base, tree)?)
}

/// The revision of an image that has one.
pub(crate) fn revision(store: &Store, name: &str) -> Result<RevisionRef> {
    let found = store.revisions()?.into_iter().find(|reference| reference.name.as_str() == name);
    found.with_context(|| format!("no revision of {name} is in the store"))
}

fn programs_in_root(programs: &Programs) -> Vec<Program> {
    let files = [&programs.packer, &programs.tracker, &programs.seeder, &programs.client];
    let name = |file: &PathBuf| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    files.into_iter().map(|file| Program { file: file.clone(), name: name(file) }).collect()
}

fn describe(image: &Image) {
    let size = |kind| {
        let bytes = image.manifest.artefact(kind).map_or(0, |artefact| artefact.length);
        format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
    };
    note(format_args!(
        "image {}, kernel {}, initrd {}",
        size(ArtefactKind::Image),
        size(ArtefactKind::Kernel),
        size(ArtefactKind::Initrd)
    ));
}

/// Names everything that the revision depends on.
fn fingerprint(args: &Args, programs: &Programs, base: &Base, layer: &Layer) -> Result<String> {
    let mut hash = Sha256::new();
    let built =
        fs::metadata(base.tar()).and_then(|m| m.modified()).context("the base root's age")?;
    // the layer's own constants are part of this program
    let ourselves = std::env::current_exe().context("cannot tell this program's path")?;
    hash.update(format!("{} {built:?} {}", base.tar().display(), args.hosts()));
    hash.update(format!("{} {}", args.initrd_tool, args.format));
    hash.update(&layer.authorized_key);
    let files = [&programs.packer, &programs.tracker, &programs.seeder, &programs.client];
    for file in files.into_iter().chain([&ourselves]) {
        hash_file(&mut hash, file)?;
    }
    for folder in ["systemd", "dracut-module", INITRAMFS_TOOLS] {
        hash_folder(&mut hash, &root().join(folder))?;
    }
    Ok(hex(&hash.finalize()))
}

fn hash_file(hash: &mut Sha256, path: &Path) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    hash.update(path.display().to_string());
    hash.update(bytes.len().to_be_bytes());
    hash.update(bytes);
    Ok(())
}

fn hash_folder(hash: &mut Sha256, folder: &Path) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() { hash_folder(hash, &path)? } else { hash_file(hash, &path)? }
    }
    Ok(())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The revision of this fingerprint, when it was packed and is still published.
fn packed(record: &Path, fingerprint: &str, store: &Path) -> Option<String> {
    let packed: Packed = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
    let there = store.join("channels/stable").join(NAME).join("manifest.json").is_file()
        && store.join("published").join(NAME).join(&packed.revision).join("rootimg.sfs").is_file();
    (packed.fingerprint == fingerprint && there).then_some(packed.revision)
}

/// Packs, and publishes what is for all.
fn pack(
    args: &Args,
    programs: &Programs,
    manner: Manner<'_>,
    tree: &Path,
    store: &Path,
    folder: &RunFolder,
) -> Result<()> {
    let log = folder.path().join(format!("packer-{}.log", manner.name));
    let file =
        fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let out = file.try_clone().context("cannot share the packer's log")?;
    let mut command = contained(&programs.packer)?;
    command.arg("--json").args(["pack", "--name", manner.name, "--tracker", TRACKER]);
    command.arg("--source").arg(tree).arg("--store").arg(store);
    command.arg("--client").arg(&programs.client);
    command.arg("--dracut-module").arg(root().join("dracut-module/55beeswarm"));
    // what single machines boot is in no channel
    if manner.name == NAME {
        command.arg("--publish");
    }
    // each machine checks what it reads
    command.arg("--verity");
    command.args(["--initrd-tool", manner.initrd_tool, "--format", manner.format]);
    command.arg("--initramfs-tools").arg(root().join(INITRAMFS_TOOLS));
    command.args(["--nodes", &args.hosts().to_string()]);
    // the machines boot nothing that is not signed
    command.arg("--sign-key").arg(signing_key(programs)?).arg("--empty-password");
    let status = command.stdin(Stdio::null()).stdout(out).stderr(file).status();
    let status = status.context("cannot run bee-packer")?;
    ensure!(
        status.success(),
        "bee-packer pack failed ({status}); the end of {}:\n{}",
        log.display(),
        tail(&log, 20)
    );
    Ok(())
}

/// The key that signs the demo's images, made at the first run.
pub(crate) fn signing_key(programs: &Programs) -> Result<PathBuf> {
    let key = lab_folder().join("sign.key");
    if key.is_file() {
        return Ok(key);
    }
    let mut command = contained(&programs.packer)?;
    // --force: a public half without its secret one is of no use
    command.args(["keygen", "--empty-password", "--force", "--sign-key"]).arg(&key);
    let output = command.stdin(Stdio::null()).output().context("cannot run bee-packer")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "bee-packer keygen failed: {}", words.trim());
    Ok(key)
}

/// Keeps the store small: what the channel boots, and the one before.
fn prune(programs: &Programs, store: &Path) -> Result<()> {
    let mut command = contained(&programs.packer)?;
    command.args(["prune", NAME, "--keep", "2", "--ignore-nodes", "--store"]).arg(store);
    let output = command.stdin(Stdio::null()).output().context("cannot run bee-packer")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "bee-packer prune failed: {}", words.trim());
    Ok(())
}

/// The revision that the channel boots, from the link's target.
fn newest_published(store: &Path) -> Result<String> {
    let link = store.join("channels/stable").join(NAME);
    let target = fs::read_link(&link).with_context(|| format!("cannot read {}", link.display()))?;
    let name = target.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).with_context(|| format!("{} leads nowhere", link.display()))
}

/// The last lines of a text file, for error messages.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_only_for_its_fingerprint_and_a_published_revision() {
        let folder =
            std::env::temp_dir().join(format!("beeswarm-image-test-{}", std::process::id()));
        let store = folder.join("store");
        let record = folder.join("packed.json");
        for path in ["channels/stable/demo", "published/demo/abc"] {
            fs::create_dir_all(store.join(path)).unwrap();
        }
        fs::write(&record, r#"{"fingerprint":"f","revision":"abc"}"#).unwrap();
        assert_eq!(packed(&record, "f", &store), None);
        fs::write(store.join("channels/stable/demo/manifest.json"), "").unwrap();
        fs::write(store.join("published/demo/abc/rootimg.sfs"), "").unwrap();
        assert_eq!(packed(&record, "f", &store), Some("abc".to_owned()));
        assert_eq!(packed(&record, "other", &store), None);
        fs::remove_dir_all(&folder).unwrap();
    }
}
