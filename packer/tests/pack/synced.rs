//! What becomes visible in a store is on disk before: `killed_steps` cannot show it, since the kernel keeps
//! what a killed program has written. So the calls of each command are played on a disk that forgets
//! whatever nobody brought to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{complete, events, files, noise, packer, run, scratch, small_root, text};
use crate::trace::{Call, traced};

/// All that fills a file, changes a directory, or makes a change last.
const CALLS: &str = "open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,\
                     copy_file_range,sendfile,splice,mmap,chmod,fchmod,fchmodat,fsync,fdatasync,syncfs,sync,\
                     rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir";

/// A disk, as a power cut would show it.
struct Disk<'a> {
    store: &'a Path,
    /// Files with contents, and directories with entries, that are not on it; and the line since when.
    unsynced: BTreeMap<PathBuf, usize>,
    /// How much was written to each file.
    written: BTreeMap<PathBuf, u64>,
    /// How often something visible was replaced.
    renames: usize,
    faults: Vec<String>,
}

impl<'a> Disk<'a> {
    fn new(store: &'a Path) -> Self {
        let (unsynced, written) = (BTreeMap::new(), BTreeMap::new());
        Self { store, unsynced, written, renames: 0, faults: Vec::new() }
    }

    /// Whether others than packers look there, the store's own name included.
    fn is_visible(&self, path: &Path) -> bool {
        path.starts_with(self.store) && !path.starts_with(self.store.join("tmp"))
            || Some(path) == self.store.parent()
    }

    fn play(&mut self, call: &Call) {
        let (paths, descriptors) = (call.paths(), call.descriptors());
        let last = || paths.last().unwrap_or_else(|| panic!("{call:?}")).clone();
        match call.name.as_str() {
            "open" | "openat" | "creat" => {
                if call.says("O_CREAT") || call.says("O_TRUNC") || call.name == "creat" {
                    self.entry(&last(), call);
                    self.wrote(&last(), call, 0);
                }
            }
            // the last of them is written to: some have two
            "copy_file_range" | "splice" => self.wrote(&descriptors[1], call, call.result),
            "ftruncate" | "fallocate" | "fchmod" => self.wrote(&descriptors[0], call, 0),
            "truncate" => self.wrote(&last(), call, 0),
            // of a directory it is not what makes it whole
            "chmod" | "fchmodat" if self.written.contains_key(&last()) => {
                self.wrote(&last(), call, 0)
            }
            "chmod" | "fchmodat" => {}
            "mmap" => {
                let writes = call.says("MAP_SHARED") && call.says("PROT_WRITE");
                if let Some(file) = descriptors.first().filter(|_| writes) {
                    assert!(!file.starts_with(self.store), "not to be followed: {call:?}");
                }
            }
            "fsync" | "fdatasync" => self.synced(call, |path| path == descriptors[0]),
            "sync" | "syncfs" => self.synced(call, |_| true),
            "rename" | "renameat" | "renameat2" => self.rename(&paths[0], &last(), call),
            "mkdir" | "mkdirat" | "link" | "linkat" | "symlink" | "symlinkat" | "unlink"
            | "unlinkat" | "rmdir" => self.entry(&last(), call),
            // pipes, terminals and sockets are written to as well
            _ => {
                if let Some(file) = descriptors.first() {
                    self.wrote(file, call, call.result);
                }
            }
        }
    }

    fn wrote(&mut self, file: &Path, call: &Call, bytes: u64) {
        if file.starts_with(self.store) {
            self.unsynced.insert(file.to_owned(), call.ended);
            *self.written.entry(file.to_owned()).or_default() += bytes;
        }
    }

    /// A name came or went.
    fn entry(&mut self, path: &Path, call: &Call) {
        let parent = path.parent().unwrap_or(path);
        if self.is_visible(parent) {
            // who sees this change must not miss one before it
            self.all_synced(&format!("{} of {}", call.name, path.display()));
        }
        if path.starts_with(self.store) {
            self.unsynced.insert(parent.to_owned(), call.ended);
        }
    }

    fn all_synced(&mut self, before: &str) {
        let missing: Vec<_> =
            self.unsynced.keys().filter(|path| self.is_visible(path)).cloned().collect();
        for path in missing {
            self.faults.push(format!("{} is not on disk before {before}", path.display()));
            self.unsynced.remove(&path);
        }
    }

    /// What was changed while it was brought to disk may not be there.
    fn synced(&mut self, call: &Call, is_meant: impl Fn(&Path) -> bool) {
        self.unsynced.retain(|path, since| !is_meant(path) || *since > call.began);
    }

    fn rename(&mut self, from: &Path, to: &Path, call: &Call) {
        self.entry(to, call);
        if self.is_visible(to) {
            self.renames += 1;
            for path in self.unsynced.keys().filter(|path| path.starts_with(from)) {
                let (path, to) = (path.display(), to.display());
                self.faults.push(format!("{path} is not on disk when it becomes {to}"));
            }
        }
        let moved = |path: PathBuf| match path.strip_prefix(from) {
            Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
            Ok(rest) => to.join(rest),
            Err(_) => path,
        };
        self.unsynced =
            std::mem::take(&mut self.unsynced).into_iter().map(|(p, l)| (moved(p), l)).collect();
        self.written =
            std::mem::take(&mut self.written).into_iter().map(|(p, n)| (moved(p), n)).collect();
        self.entry_gone(from, call);
    }

    /// The other end of a rename: it and its new name are one change.
    fn entry_gone(&mut self, path: &Path, call: &Call) {
        let parent = path.parent().unwrap_or(path);
        self.unsynced.insert(parent.to_owned(), call.ended);
    }
}

/// The regular files that others than packers see.
fn visible(store: &Path) -> Vec<PathBuf> {
    let all = files(store).into_iter().filter(|path| !path.starts_with("tmp"));
    let all = all.map(|path| store.join(path));
    all.filter(|path| path.symlink_metadata().is_ok_and(|meta| meta.is_file())).collect()
}

/// Runs the command, and looks at all that it does to the store; files that it wrote.
fn is_on_disk(shell: &str, args: &[&str], store: &Path, log: &Path) -> Vec<PathBuf> {
    let contents = |store: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let read = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
        visible(store).into_iter().map(read).collect()
    };
    let before = if store.exists() { contents(store) } else { BTreeMap::new() };
    let all = [args, &["--store", text(store)]].concat();
    let (_, calls) = traced(shell, CALLS, log, &all);
    let mut disk = Disk::new(store);
    for call in &calls {
        disk.play(call);
    }
    disk.all_synced("the end");
    assert!(disk.faults.is_empty(), "{args:?}: {:#?}", disk.faults);
    assert!(disk.renames > 0, "{args:?} renames nothing");
    let mut new = Vec::new();
    for (path, bytes) in contents(store) {
        if before.get(&path) == Some(&bytes) {
            continue;
        }
        // what was not seen being written was not seen being brought to disk either
        let written = disk.written.get(&path).copied().unwrap_or_default();
        assert!(written >= bytes.len() as u64, "{args:?}: {path:?}: {written} of {}", bytes.len());
        new.push(path.strip_prefix(store).unwrap().to_owned());
    }
    new
}

/// A root that is packed with kernel, initrd and signature.
struct Site {
    dir: tempfile::TempDir,
    root: PathBuf,
    store: PathBuf,
}

impl Site {
    fn new() -> Self {
        let dir = scratch();
        let (root, store) = (small_root(dir.path()), dir.path().join("store"));
        // more than one chunk, which is 2 MiB
        fs::write(root.join("usr/bin/noise"), noise(5 << 20)).unwrap();
        fs::write(dir.path().join("boot"), "kernel").unwrap();
        let key = dir.path().join("key");
        complete(&packer(&["keygen", "--json", "--empty-password", "--sign-key", text(&key)]));
        Self { dir, root, store }
    }

    /// Packs what has this version, after `shell`.
    fn pack(&self, version: &str, shell: &str, further: &[&str]) {
        fs::write(self.root.join("etc/version"), version).unwrap();
        let (boot, key) = (self.dir.path().join("boot"), self.dir.path().join("key"));
        let mut args = vec!["pack", "--json", "--name", "test", "--source", text(&self.root)];
        args.extend(["--kernel", text(&boot), "--keep-initrd", text(&boot), "--publish"]);
        args.extend(["--empty-password", "--sign-key", text(&key)]);
        args.extend(further);
        let new = self.check(shell, &args);
        let names: Vec<_> = new.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        for file in ["rootimg.sfs", "rootimg.torrent", "manifest.json", "vmlinuz", "initrd.img"] {
            assert!(names.contains(&file), "{file} was not packed: {names:?}");
        }
        assert!(names.contains(&"manifest.json.minisig"), "not signed: {names:?}");
    }

    fn check(&self, shell: &str, args: &[&str]) -> Vec<PathBuf> {
        is_on_disk(shell, args, &self.store, &self.dir.path().join("log"))
    }
}

#[test]
fn an_image_is_on_disk_before_it_is_seen() {
    let site = Site::new();
    let lz4 = ["--compression", "lz4"];
    site.pack("1", "true", &lz4);
    site.pack("22", "true", &[&lz4[..], &["--verity"]].concat());
    site.pack("333", "true", &["--format", "erofs"]);
    // where mksquashfs writes the image, and not we for it
    site.pack("4444", "mount --bind /dev/null /dev/fuse", &lz4);
    let tar = site.dir.path().join("root.tar");
    run("tar", &["-cf", text(&tar), "-C", text(&site.root), "."]);
    let image = ["pack", "--json", "--image-only", "--name", "tar", "--source", text(&tar)];
    site.check("true", &[&image[..], &lz4].concat());
}

#[test]
fn whatever_changes_a_store_is_on_disk_in_its_order() {
    let site = Site::new();
    for version in ["1", "22", "333"] {
        site.pack(version, "true", &["--compression", "lz4"]);
    }
    let list = events(&packer(&["list", "--json", "--store", text(&site.store)]));
    let named = |row: &serde_json::Value| format!("test@{}", row["revision"].as_str().unwrap());
    let (newest, oldest) = (named(&list[0]), named(&list[2]));
    let key = site.dir.path().join("key");
    let mac = ["--nodes", "52:54:00:00:00:01"];
    let reimage = ["reimage", "--at-next-boot"];
    for args in [
        &["publish", &oldest, "--channel", "testing"][..],
        &["rollback", "test"],
        &["sign", &oldest, "--empty-password", "--sign-key", text(&key)],
        &[&reimage[..], &[&oldest], &mac].concat(),
        &[&["unassign"][..], &mac].concat(),
        &[&reimage[..], &[&oldest, "--all"]].concat(),
        &["publish", &newest, "--channel", "testing"],
        &["publish", &newest],
        &["unpublish", &oldest],
        &["prune", "test", "--keep", "1", "--ignore-nodes"],
    ] {
        site.check("true", args);
    }
    let left = fs::read_dir(site.store.join("revisions/test")).unwrap().count();
    assert_eq!(left, 1, "prune has removed nothing");
}
