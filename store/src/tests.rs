//! The store as its users see it, and what is left of it after a crash at every single step.

use std::fs;
use std::path::Path;
use std::sync::Barrier;

use proto::hash::{InfoHash, Sha256Digest};
use proto::manifest::{Artefact, ArtefactKind, MANIFEST_VERSION, Manifest};
use tempfile::TempDir;

use crate::{Channel, Committed, Draft, RevisionName, RevisionRef, Store, StoreError, crash};

mod nodes;

const TEXT: &str = "not really a kernel";

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::init(dir.path().join("store")).unwrap();
    (dir, store)
}

fn name(text: &str) -> RevisionName {
    RevisionName::new(text).unwrap()
}

/// Another `version` gives another image, and so another revision id.
fn fill(draft: &Draft, image: &str, version: u32) -> Manifest {
    let content = |kind| match kind {
        ArtefactKind::Image => format!("image {version}"),
        _ => TEXT.to_owned(),
    };
    let artefacts = ArtefactKind::ALL.map(|kind| {
        let text = content(kind);
        fs::write(draft.dir().join(kind.file_name()), &text).unwrap();
        let sha256 = Sha256Digest::of(text.as_bytes());
        (kind, Artefact { length: text.len() as u64, sha256 })
    });
    Manifest {
        version: MANIFEST_VERSION,
        name: image.to_owned(),
        artefacts: artefacts.into(),
        info_hash: InfoHash([7; 20]),
        v2: None,
        verity: None,
        kernel_release: Some("6.1.0".into()),
        build: [].into(),
    }
}

fn pack(store: &Store, image: &str, version: u32) -> Result<Committed, StoreError> {
    let draft = store.begin()?;
    let manifest = fill(&draft, image, version);
    store.commit(draft, &manifest)
}

fn revision(store: &Store, image: &str, version: u32) -> RevisionRef {
    pack(store, image, version).unwrap().revision.reference().clone()
}

fn current(store: &Store, image: &str) -> Option<RevisionRef> {
    let dir = store.current(&Channel::default(), &name(image)).unwrap();
    dir.map(|d| d.reference().clone())
}

fn tmp_entries(store: &Store) -> Vec<String> {
    let mut names = store.names(&store.root().join("tmp")).unwrap();
    names.retain(|n| n != ".lock");
    names
}

/// What must hold at every moment.
fn check_invariants(store: &Store) {
    for r in store.revisions().unwrap() {
        let dir = store.revision(&r).unwrap();
        for (kind, artefact) in dir.manifest().unwrap().artefacts {
            let bytes = fs::read(dir.artefact(kind)).unwrap();
            assert_eq!(Sha256Digest::of(&bytes), artefact.sha256, "{r} {kind:?}");
        }
    }
    for r in store.published().unwrap() {
        store.revision(&r).unwrap();
    }
    for (channel, image) in store.channels().unwrap() {
        let dir = store.current(&channel, &image).unwrap().expect("listed");
        assert!(store.published().unwrap().contains(dir.reference()), "boots what is not served");
    }
    for (node, reference) in store.assignments().unwrap().iter() {
        assert!(store.published().unwrap().contains(reference), "{node} boots what is not served");
    }
    let text = fs::read_to_string(store.root().join("history.jsonl")).unwrap_or_default();
    assert_eq!(store.history().unwrap().len(), text.lines().count(), "half a line: {text}");
}

#[test]
fn open_creates_nothing_and_names_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }));
    assert!(error.to_string().contains("bee-packer pack"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(matches!(
        Store::open(dir.path().join("missing")).unwrap_err(),
        StoreError::NotAStore { .. }
    ));
    for bad in [r#"{"format":2}"#, "", "[]"] {
        fs::write(dir.path().join("store.json"), bad).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Format { .. }), "{bad:?}: {error}");
    }
}

#[test]
fn init_twice_keeps_everything() {
    let (dir, store) = store();
    let r = revision(&store, "debian", 1);
    let again = Store::init(dir.path().join("store")).unwrap();
    assert_eq!(again.revisions().unwrap(), [r]);
    assert_eq!(fs::read_to_string(again.root().join("store.json")).unwrap(), "{\"format\":1}\n");
}

#[test]
fn a_committed_revision_is_readable_for_every_user() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, store) = store();
    let committed = pack(&store, "debian", 1).unwrap();
    assert!(committed.new);
    let dir = committed.revision;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.path()), 0o755);
    assert_eq!(mode(dir.path().parent().unwrap()), 0o755);
    assert_eq!(mode(&dir.image()), 0o644);
    assert_eq!(mode(&dir.manifest_path()), 0o644);
    assert_eq!(fs::read_to_string(dir.kernel()).unwrap(), TEXT);
    assert_eq!(dir.manifest().unwrap().name, "debian");
    assert!(tmp_entries(&store).is_empty());
}

#[test]
fn nobody_else_looks_into_a_draft() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, store) = store();
    let draft = store.begin().unwrap();
    let outer = fs::metadata(draft.work().parent().unwrap()).unwrap();
    assert_eq!(outer.permissions().mode() & 0o777, 0o700);
}

#[test]
fn the_same_revision_again_is_the_same_revision() {
    let (_dir, store) = store();
    let first = pack(&store, "debian", 1).unwrap();
    let second = pack(&store, "debian", 1).unwrap();
    assert!(!second.new);
    assert_eq!(first.revision, second.revision);
    assert_ne!(pack(&store, "debian", 2).unwrap().revision, first.revision);
    assert_eq!(store.revisions().unwrap().len(), 2);
}

#[test]
fn an_altered_revision_is_noticed() {
    let (_dir, store) = store();
    let dir = pack(&store, "debian", 1).unwrap().revision;
    let mut manifest = dir.manifest().unwrap();
    manifest.info_hash = InfoHash([9; 20]);
    fs::write(dir.manifest_path(), manifest.to_bytes().unwrap()).unwrap();
    assert!(matches!(dir.manifest(), Err(StoreError::Altered { .. })));
    assert!(matches!(pack(&store, "debian", 1), Err(StoreError::Altered { .. })));
    let publish = store.publish(dir.reference(), &Channel::default());
    assert!(matches!(publish, Err(StoreError::Altered { .. })));
}

#[test]
fn a_draft_that_is_not_its_manifest_is_refused() {
    type Spoil = fn(&Path);
    let spoils: [Spoil; 4] = [
        |dir| fs::write(dir.join("rootimg.sfs"), "").unwrap(),
        |dir| fs::remove_file(dir.join("vmlinuz")).unwrap(),
        |dir| fs::write(dir.join("notes.txt"), "").unwrap(),
        |dir| {
            fs::remove_file(dir.join("vmlinuz")).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", dir.join("vmlinuz")).unwrap();
        },
    ];
    for spoil in spoils {
        let (_dir, store) = store();
        let draft = store.begin().unwrap();
        let manifest = fill(&draft, "debian", 1);
        spoil(&draft.dir());
        let error = store.commit(draft, &manifest).unwrap_err();
        assert!(matches!(error, StoreError::Artefact { .. }), "{error}");
        assert!(store.revisions().unwrap().is_empty());
        assert!(tmp_entries(&store).is_empty());
    }
}

#[test]
fn a_name_that_is_a_path_is_refused() {
    let (_dir, store) = store();
    for bad in ["../evil", "", "a/b", ".."] {
        let draft = store.begin().unwrap();
        let manifest = fill(&draft, bad, 1);
        let error = store.commit(draft, &manifest).unwrap_err();
        assert!(matches!(error, StoreError::ManifestName { .. }), "{bad:?}: {error}");
    }
    assert!(store.revisions().unwrap().is_empty());
}

#[test]
fn only_a_revisions_own_files_are_served() {
    let (_dir, store) = store();
    let dir = pack(&store, "debian", 1).unwrap().revision;
    assert_eq!(dir.file("rootimg.sfs"), Some(dir.image()));
    assert_eq!(dir.file("manifest.json"), Some(dir.manifest_path()));
    for bad in ["", ".", "..", "../manifest.json", "/etc/passwd", "vmlinuz/../x", "VMLINUZ"] {
        assert_eq!(dir.file(bad), None, "{bad}");
    }
}

#[test]
fn publish_moves_the_channel_and_keeps_the_old_revision_served() {
    let (_dir, store) = store();
    let (old, new) = (revision(&store, "debian", 1), revision(&store, "debian", 2));
    let stable = Channel::default();
    assert_eq!(current(&store, "debian"), None);
    let first = store.publish(&old, &stable).unwrap();
    assert_eq!((first.current, first.previous), (old.clone(), None));
    let second = store.publish(&new, &stable).unwrap();
    assert_eq!(second.previous, Some(old.clone()));
    assert_eq!(current(&store, "debian"), Some(new.clone()));
    let mut both = vec![old, new];
    both.sort();
    assert_eq!(store.published().unwrap(), both);
    let link = store.root().join("channels/stable/debian");
    assert!(fs::canonicalize(&link).unwrap().join("manifest.json").is_file());
    check_invariants(&store);
    let missing = "debian@000000000000".parse().unwrap();
    assert!(matches!(store.publish(&missing, &stable), Err(StoreError::NoRevision { .. })));
}

#[test]
fn rollback_goes_back_one_publication_at_a_time() {
    let (_dir, store) = store();
    let stable = Channel::default();
    let debian = name("debian");
    assert!(matches!(store.rollback(&debian, &stable), Err(StoreError::NoImage { .. })));
    let r: Vec<_> = (1..=3).map(|v| revision(&store, "debian", v)).collect();
    // published faster than a file system's clock ticks
    for reference in [&r[2], &r[0], &r[1]] {
        store.publish(reference, &stable).unwrap();
    }
    assert_eq!(store.rollback(&debian, &stable).unwrap().current, r[0]);
    assert_eq!(store.rollback(&debian, &stable).unwrap().current, r[2]);
    assert!(matches!(store.rollback(&debian, &stable), Err(StoreError::NothingOlder { .. })));
    assert_eq!(current(&store, "debian"), Some(r[2].clone()));
}

#[test]
fn what_a_channel_boots_is_neither_unpublished_nor_pruned() {
    let (_dir, store) = store();
    let r: Vec<_> = (1..=5).map(|v| revision(&store, "debian", v)).collect();
    let other = revision(&store, "rocky", 1);
    let testing = Channel::new("testing").unwrap();
    store.publish(&r[0], &testing).unwrap();
    for reference in &r[1..4] {
        store.publish(reference, &Channel::default()).unwrap();
    }
    assert!(matches!(store.unpublish(&r[0]), Err(StoreError::InUse { .. })));
    store.unpublish(&r[1]).unwrap();
    assert!(!store.published().unwrap().contains(&r[1]));
    // newest two: the third and fourth published; the first stays because of `testing`
    let mut removed = store.prune(&name("debian"), 2).unwrap();
    removed.sort();
    let kept = store.revisions().unwrap();
    assert!(kept.contains(&r[0]) && kept.contains(&r[3]) && kept.contains(&other), "{kept:?}");
    assert_eq!(removed.len(), 2);
    assert!(
        removed.iter().all(|r| !store.root().join("published/debian").join(r.id.as_str()).exists())
    );
    check_invariants(&store);
    assert!(store.prune(&name("debian"), 0).unwrap().len() == 1);
    assert_eq!(current(&store, "debian"), Some(r[3].clone()));
    assert!(matches!(store.prune(&name("suse"), 0), Err(StoreError::NoImage { .. })));
}

#[test]
fn a_pointer_that_leads_elsewhere_is_an_error_with_its_path() {
    let (_dir, store) = store();
    revision(&store, "debian", 1);
    let dir = store.root().join("channels/stable");
    fs::create_dir_all(&dir).unwrap();
    for target in ["/etc", "../../revisions/debian/000000000000", "../../revisions/rocky"] {
        let link = dir.join("debian");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(target, &link).unwrap();
        let error = store.current(&Channel::default(), &name("debian")).unwrap_err();
        assert!(error.to_string().contains("channels/stable/debian"), "{error}");
        // it could mean any revision: none is removed
        assert!(store.prune(&name("debian"), 0).is_err());
    }
    // and publishing repairs it
    let r = store.revisions().unwrap().remove(0);
    store.publish(&r, &Channel::default()).unwrap();
    assert_eq!(current(&store, "debian"), Some(r));
}

#[test]
fn the_fingerprint_changes_with_what_is_published_only() {
    let (_dir, store) = store();
    let stable = Channel::default();
    let start = store.fingerprint().unwrap();
    let (a, b) = (revision(&store, "debian", 1), revision(&store, "debian", 2));
    assert_eq!(store.changed_since(&start).unwrap(), None);
    let mut seen = vec![start];
    let mut changed = || {
        let now = store.changed_since(seen.last().unwrap()).unwrap().expect("a change");
        assert!(!seen.contains(&now));
        seen.push(now);
    };
    store.publish(&a, &stable).unwrap();
    changed();
    store.publish(&b, &stable).unwrap();
    changed();
    store.rollback(&name("debian"), &stable).unwrap();
    changed();
    // back to where it was after the first publication
    store.unpublish(&b).unwrap();
    let last = *seen.last().unwrap();
    assert_eq!(store.changed_since(&last).unwrap(), Some(seen[1]));
}

#[test]
fn a_store_that_vanished_is_not_an_empty_store() {
    let (dir, store) = store();
    fs::rename(store.root(), dir.path().join("moved")).unwrap();
    assert!(matches!(store.fingerprint(), Err(StoreError::NotAStore { .. })));
    assert!(matches!(store.published(), Err(StoreError::NotAStore { .. })));
}

#[test]
fn leftovers_of_a_killed_packer_go_and_living_drafts_stay() {
    let (_dir, store) = store();
    let tmp = store.root().join("tmp");
    let living = store.begin().unwrap();
    fs::write(living.dir().join("rootimg.sfs"), "x").unwrap();
    fs::create_dir_all(tmp.join("4711-0/revision")).unwrap();
    fs::write(tmp.join("4711-0.lock"), "").unwrap();
    fs::create_dir(tmp.join("pruned-000000000000")).unwrap();
    std::os::unix::fs::symlink("nowhere", tmp.join("link")).unwrap();
    let second = store.begin().unwrap();
    assert!(living.dir().join("rootimg.sfs").exists());
    assert_eq!(tmp_entries(&store).len(), 4, "{:?}", tmp_entries(&store));
    drop(second);
    drop(living);
    assert!(tmp_entries(&store).is_empty());
}

#[test]
fn packers_at_once_do_not_disturb_each_other() {
    let (_dir, store) = store();
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let (store, barrier) = (&store, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..5 {
                    // every revision is packed by two threads
                    let r = revision(store, "debian", thread / 2 * 10 + round);
                    store.publish(&r, &Channel::default()).unwrap();
                }
            });
        }
    });
    assert_eq!(store.revisions().unwrap().len(), 20);
    assert_eq!(store.published().unwrap().len(), 20);
    assert!(tmp_entries(&store).is_empty());
    check_invariants(&store);
}

/// Runs `change` again and again, each time crashing one step later, until it goes through.
/// After each crash the store must be whole, and `change` must then succeed.
fn crash_everywhere(prepare: impl Fn(&Store), change: impl Fn(&Store) -> Result<(), StoreError>) {
    let mut steps = 0;
    loop {
        steps += 1;
        assert!(steps < 200, "never finishes");
        let (_dir, store) = store();
        prepare(&store);
        let before = (current(&store, "debian"), store.revisions().unwrap());
        crash::arm(steps);
        let outcome = change(&store);
        let crashed = crash::dead();
        crash::disarm();
        check_invariants(&store);
        if !crashed {
            outcome.unwrap();
            assert!(steps > 4, "{steps} steps only: the crash points are gone");
            return;
        }
        assert!(matches!(outcome, Err(StoreError::Crash)), "step {steps}: {outcome:?}");
        let after_crash = current(&store, "debian");
        change(&store).unwrap_or_else(|e| panic!("after a crash at step {steps}: {e}"));
        check_invariants(&store);
        let done = current(&store, "debian");
        assert!(
            after_crash == before.0 || after_crash == done,
            "step {steps}: neither old nor new"
        );
        drop(store.begin().unwrap());
        assert!(tmp_entries(&store).is_empty(), "step {steps}: {:?}", tmp_entries(&store));
    }
}

#[test]
fn a_crash_while_packing_and_publishing_leaves_old_or_new() {
    let prepare = |store: &Store| {
        let old = revision(store, "debian", 1);
        store.publish(&old, &Channel::default()).unwrap();
    };
    crash_everywhere(prepare, |store| {
        let new = pack(store, "debian", 2)?.revision;
        store.publish(new.reference(), &Channel::default()).map(drop)
    });
}

#[test]
fn a_signature_comes_with_the_revision_or_later_and_changes_nothing_else() {
    let (_dir, store) = store();
    let first = pack(&store, "debian", 1).unwrap().revision;
    let second = pack(&store, "debian", 2).unwrap().revision;
    assert_eq!(first.signature().unwrap(), None);
    let (start, order) = (store.fingerprint().unwrap(), store.list().unwrap());
    for bytes in [&b"one"[..], b"two"] {
        store.put_signature(first.reference(), bytes).unwrap();
        assert_eq!(first.signature().unwrap().as_deref(), Some(bytes));
    }
    // the older one is not the newest now
    assert_eq!(store.list().unwrap(), order);
    assert_eq!(store.changed_since(&start).unwrap(), None);
    assert!(tmp_entries(&store).is_empty());
    assert_eq!(first.file("manifest.json.minisig"), Some(first.signature_path()));

    for (version, is_new) in [(3, true), (2, false)] {
        let draft = store.begin().unwrap();
        let manifest = fill(&draft, "debian", version);
        fs::write(draft.dir().join("manifest.json.minisig"), "with it").unwrap();
        let committed = store.commit(draft, &manifest).unwrap();
        assert_eq!(committed.new, is_new);
        assert_eq!(committed.revision.signature().unwrap().as_deref(), Some(&b"with it"[..]));
    }
    assert!(second.signature().unwrap().is_some());

    let missing = "debian@000000000000".parse().unwrap();
    assert!(matches!(store.put_signature(&missing, b""), Err(StoreError::NoRevision { .. })));
    fs::write(second.manifest_path(), "{}").unwrap();
    let error = store.put_signature(second.reference(), b"x").unwrap_err();
    assert!(matches!(error, StoreError::Altered { .. }), "{error}");
}

#[test]
fn a_crash_while_signing_leaves_the_old_signature_or_the_new_one() {
    let only = |store: &Store| store.revisions().unwrap().remove(0);
    let prepare = |store: &Store| {
        revision(store, "debian", 1);
        store.put_signature(&only(store), b"old").unwrap();
    };
    crash_everywhere(prepare, |store| {
        let outcome = store.put_signature(&only(store), b"new");
        let signature = store.revision(&only(store)).unwrap().signature().unwrap().unwrap();
        assert!([&b"old"[..], b"new"].contains(&signature.as_slice()), "{signature:?}");
        outcome
    });
}

#[test]
fn a_crash_while_pruning_leaves_old_or_new() {
    let prepare = |store: &Store| {
        for version in 1..=3 {
            let r = revision(store, "debian", version);
            store.publish(&r, &Channel::default()).unwrap();
        }
    };
    crash_everywhere(prepare, |store| store.prune(&name("debian"), 1).map(drop));
}

#[test]
fn a_crash_while_making_the_store_is_repaired() {
    for steps in 1..60 {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/store");
        crash::arm(steps);
        let outcome = Store::init(&root);
        let crashed = crash::dead();
        crash::disarm();
        if !crashed {
            outcome.unwrap();
            assert!(steps > 5, "{steps}");
            return;
        }
        let store = Store::init(&root).unwrap();
        revision(&store, "debian", 1);
        check_invariants(&store);
    }
    panic!("never finishes");
}
