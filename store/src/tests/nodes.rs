//! Nodes with a revision of their own, the history, and what pruning and rollback make of both.

use std::fs;
use std::time::{Duration, SystemTime};

use proto::manifest::ArtefactKind;

use super::{check_invariants, crash_everywhere, current, fill, name, revision, store};
use crate::{Action, Channel, Nodes, RevisionRef, Store, StoreError, Use};

fn node(text: &str) -> proto::node_id::NodeId {
    text.parse().unwrap()
}

fn told(store: &Store, mac: &str) -> Option<RevisionRef> {
    store.assignments().unwrap().get(node(mac)).cloned()
}

const ONE: &str = "52:54:00:00:00:01";
const TWO: &str = "52:54:00:00:00:02";

#[test]
fn nodes_are_told_to_boot_something_of_their_own_and_the_channel_stays() {
    let (_dir, store) = store();
    let (old, new) = (revision(&store, "debian", 1), revision(&store, "debian", 2));
    let stable = Channel::default();
    store.publish(&old, &stable).unwrap();
    let before = store.fingerprint().unwrap();
    store.assign(&new, &[node(ONE), node(TWO)]).unwrap();
    assert_eq!(told(&store, ONE), Some(new.clone()));
    assert_eq!(current(&store, "debian"), Some(old.clone()));
    assert!(store.published().unwrap().contains(&new), "what a node boots is seeded");
    assert!(store.changed_since(&before).unwrap().is_some(), "the tracker must see it");

    let refused = store.unpublish(&new).unwrap_err();
    assert!(matches!(refused, StoreError::Assigned { .. }), "{refused}");
    assert_eq!(store.unassign(Some(&[node(TWO)])).unwrap(), [node(TWO)]);
    assert_eq!((told(&store, ONE), told(&store, TWO)), (Some(new.clone()), None));
    assert_eq!(store.unassign(None).unwrap(), [node(ONE)]);
    assert_eq!(store.unassign(None).unwrap(), []);
    store.unpublish(&new).unwrap();

    let missing = "debian@000000000000".parse().unwrap();
    assert!(matches!(store.assign(&missing, &[node(ONE)]), Err(StoreError::NoRevision { .. })));
    let draft = store.begin().unwrap();
    let mut manifest = fill(&draft, "debian", 3);
    manifest.artefacts.remove(&ArtefactKind::Kernel);
    fs::remove_file(draft.dir().join("vmlinuz")).unwrap();
    let bare = store.commit(draft, &manifest).unwrap().revision;
    let refused = store.assign(bare.reference(), &[node(ONE)]).unwrap_err();
    assert!(matches!(refused, StoreError::NotBootable { .. }), "{refused}");
    assert_eq!(told(&store, ONE), None);
}

#[test]
fn what_a_node_is_to_boot_or_runs_is_never_pruned() {
    let (_dir, store) = store();
    let r: Vec<_> = (1..=4).map(|v| revision(&store, "debian", v)).collect();
    for reference in &r {
        store.publish(reference, &Channel::default()).unwrap();
    }
    store.assign(&r[0], &[node(ONE)]).unwrap();
    let running = Nodes { running: r[1..2].to_vec(), known_since: None };
    let pruned = store.prune_sparing(&name("debian"), 0, &running).unwrap();
    assert_eq!(pruned.removed, r[2..3]);
    let spared: Vec<_> = pruned.spared.iter().map(|(r, why)| (r.clone(), why.clone())).collect();
    assert_eq!(
        spared,
        [
            (r[3].clone(), Use::Channel(Channel::default())),
            (r[1].clone(), Use::Running),
            (r[0].clone(), Use::Assigned(node(ONE))),
        ]
    );
    check_invariants(&store);

    // it could name any of them: none is removed
    for bad in ["", "{}", r#"{"version":2,"nodes":{}}"#, r#"{"version":1,"nodes":{"x":"y"}}"#] {
        fs::write(store.root().join("assignments.json"), bad).unwrap();
        let refused = store.prune(&name("debian"), 0).unwrap_err();
        assert!(matches!(refused, StoreError::Assignments { .. }), "{refused}");
        assert!(store.fingerprint().is_ok());
    }
    assert_eq!(store.revisions().unwrap().len(), 3);
}

#[test]
fn what_was_there_before_nodes_were_known_is_never_pruned() {
    let (_dir, store) = store();
    let r: Vec<_> = (1..=5).map(|v| revision(&store, "debian", v)).collect();
    for reference in &r[..4] {
        store.publish(reference, &Channel::default()).unwrap();
    }
    store.publish(&r[4], &Channel::default()).unwrap();
    let day = Duration::from_secs(86_400);
    let known_since = Some(SystemTime::now() - day);
    let long_ago = SystemTime::now() - 2 * day;
    // one was packed before, of one only the history and of one only its link says that it was there
    let set = |path: std::path::PathBuf| {
        fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
    };
    set(store.revision(&r[0]).unwrap().path().join("manifest.json"));
    let history = store.root().join("history.jsonl");
    let text = fs::read_to_string(&history).unwrap();
    let lines = text.lines().map(|line| {
        let mut entry: serde_json::Value = serde_json::from_str(line).unwrap();
        if entry["revision"] == r[1].id.as_str() {
            let since = long_ago.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            entry["time"] = since.as_secs().into();
        }
        format!("{entry}\n")
    });
    fs::write(&history, lines.collect::<String>()).unwrap();
    let link = store.root().join("published/debian").join(r[2].id.as_str());
    let done = std::process::Command::new("touch")
        .args(["--no-dereference", "--date", "2 days ago"])
        .arg(&link)
        .status();
    assert!(done.unwrap().success());

    let nodes = |known_since| Nodes { running: vec![], known_since };
    let all_known = SystemTime::now() - 3 * day;
    let pruned = store.prune_sparing(&name("debian"), 1, &nodes(known_since)).unwrap();
    assert_eq!(pruned.removed, [r[3].clone()]);
    let mut spared: Vec<_> = pruned.spared.into_iter().map(|(r, why)| (r.id, why)).collect();
    spared.sort_by_key(|(id, _)| id.clone());
    let mut expected: Vec<_> = r[..3].iter().map(|r| (r.id.clone(), Use::Unknown)).collect();
    expected.sort_by_key(|(id, _)| id.clone());
    assert_eq!(spared, expected);
    let pruned = store.prune_sparing(&name("debian"), 1, &nodes(Some(all_known))).unwrap();
    assert_eq!(pruned.removed.len(), 3, "{pruned:?}");
    check_invariants(&store);
}

#[test]
fn the_history_tells_what_each_channel_booted() {
    let (_dir, store) = store();
    let (a, b) = (revision(&store, "debian", 1), revision(&store, "debian", 2));
    let stable = Channel::default();
    store.publish(&a, &stable).unwrap();
    store.publish(&b, &stable).unwrap();
    store.publish(&b, &stable).unwrap();
    store.rollback(&name("debian"), &stable).unwrap();
    store.unpublish(&b).unwrap();
    store.prune(&name("debian"), 1).unwrap();
    let entries = store.history().unwrap();
    let told: Vec<_> = entries.iter().map(|e| (e.action, e.revision.clone().unwrap())).collect();
    let expected = [
        (Action::Publish, &a),
        (Action::Publish, &b),
        (Action::Rollback, &a),
        (Action::Unpublish, &b),
        (Action::Prune, &b),
    ];
    assert_eq!(told, expected.map(|(action, r)| (action, r.id.clone())));
    assert_eq!(entries[2].previous, Some(b.id));
    assert_eq!(entries[2].channel, Some(stable.clone()));

    // changed by an older version, or by one that was killed before it wrote the line
    fs::remove_file(store.root().join("history.jsonl")).unwrap();
    let c = revision(&store, "debian", 3);
    store.publish(&c, &stable).unwrap();
    let told: Vec<_> =
        store.history().unwrap().into_iter().map(|e| (e.action, e.revision.unwrap())).collect();
    assert_eq!(told, [(Action::Found, a.id), (Action::Publish, c.id)]);
}

/// Whoever was killed, the last line of a channel is what it boots, at the latest after the next change.
fn check_history(store: &Store) {
    let last = store.history().unwrap().into_iter().rev().find(|e| e.channel.is_some());
    let current = current(store, "debian").map(|r| r.id);
    assert_eq!(last.and_then(|e| e.revision), current);
}

#[test]
fn a_crash_while_rolling_back_leaves_old_or_new() {
    let prepare = |store: &Store| {
        for version in 1..=2 {
            store.publish(&revision(store, "debian", version), &Channel::default()).unwrap();
        }
    };
    let first = |store: &Store| {
        let listed = store.list().unwrap();
        listed.last().unwrap().reference.clone()
    };
    crash_everywhere(prepare, |store| {
        // one that did roll back has nothing older left
        let done = current(store, "debian") == Some(first(store));
        let outcome = if done {
            store.publish(&first(store), &Channel::default()).map(drop)
        } else {
            store.rollback(&name("debian"), &Channel::default()).map(drop)
        };
        if outcome.is_ok() {
            check_history(store);
        }
        outcome
    });
}

#[test]
fn a_crash_while_unpublishing_leaves_old_or_new() {
    let prepare = |store: &Store| {
        for version in 1..=2 {
            store.publish(&revision(store, "debian", version), &Channel::default()).unwrap();
        }
    };
    crash_everywhere(prepare, |store| {
        let booted = current(store, "debian").unwrap();
        let other = store.revisions().unwrap().into_iter().find(|r| *r != booted).unwrap();
        store.unpublish(&other)
    });
}

#[test]
fn a_crash_while_telling_nodes_changes_all_of_them_or_none() {
    let prepare = |store: &Store| {
        let old = revision(store, "debian", 1);
        store.publish(&old, &Channel::default()).unwrap();
        revision(store, "debian", 2);
        store.assign(&old, &[node(TWO)]).unwrap();
    };
    crash_everywhere(prepare, |store| {
        let booted = current(store, "debian").unwrap();
        let new = store.revisions().unwrap().into_iter().find(|r| *r != booted).unwrap();
        let outcome = store.assign(&new, &[node(ONE), node(TWO)]);
        let (one, two) = (told(store, ONE), told(store, TWO));
        assert!((one.is_none() && two == Some(booted)) || (one == two && one == Some(new)));
        outcome
    });
    crash_everywhere(prepare, |store| store.unassign(None).map(drop));
}

#[test]
fn rollback_passes_over_what_the_channel_never_booted() {
    let (_dir, store) = store();
    let r: Vec<_> = (1..=4).map(|v| revision(&store, "debian", v)).collect();
    let stable = Channel::default();
    store.publish(&r[0], &stable).unwrap();
    store.assign(&r[1], &[node(ONE)]).unwrap();
    store.publish(&r[2], &Channel::new("testing").unwrap()).unwrap();
    store.publish(&r[3], &stable).unwrap();
    let rolled = store.rollback(&name("debian"), &stable).unwrap();
    assert_eq!(rolled.current, r[0]);
    // a store from before there was a history
    store.publish(&r[3], &stable).unwrap();
    fs::remove_file(store.root().join("history.jsonl")).unwrap();
    assert_eq!(store.rollback(&name("debian"), &stable).unwrap().current, r[2]);
}
