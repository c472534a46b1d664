//! What the pages show of a boot, of the fleet's end, of images and of their history.

use std::path::Path;

use beeswarm_tracker::Config;
use proto::hash::{InfoHash, InfoHashV2};
use proto::manifest::{ArtefactKind, Digest, HybridHashes};
use serde_json::{Value, json};
use store::{RevisionRef, Store};

use crate::bed::{Bed, add_revision, empty_store, stable, wait_until};
use crate::events::batch;

const PAGE: &str = "/nodes/52:54:00:00:00:01";

/// By minisign 0.11; it says of itself which key made it, and when.
const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
    RUTD+mhVfKxMpqc0pskEnbi/jNTq2XrylFf2dcpya23KaPzzgI6tq9v/l2APndH777ph3cTpVaVaYE8L3YStxLOe0wxLbRY6UQs=\n\
    trusted comment: timestamp:1763744000\tfile:manifest.json\tname:demo\trevision:0123456789ab\n\
    5T0empT4AA6SKTIu0hTvzb+7jz5cMTyvkziUZSIVBRah+mRnWq3BNj57DhpSLVH9SVSTZKsjeE2E1wDMgxmHBA==\n";

fn config(state: &Path) -> Config {
    Config { state: Some(state.to_owned()), ..Config::default() }
}

fn post(bed: &Bed, node: u8, boot: &str, events: &Value) {
    let path = format!("/api/v1/nodes/52:54:00:00:00:{node:02x}/events");
    assert_eq!(bed.post(&path, &batch(boot, events.clone())).status, 204);
}

fn fetch(seq: u64, uptime_ms: u64, rate: u64, web: u64) -> Value {
    json!({ "seq": seq, "uptime_ms": uptime_ms, "stage": "fetch", "bytes": web, "total": 100_000_000, "rate": rate,
        "upload_rate": 0, "peers": 7, "sources": { "admin": 0, "peers": 0, "web": web } })
}

fn shows(bed: &Bed, path: &str, texts: &[&str]) {
    let page = bed.get(path);
    assert_eq!(page.status, 200, "{path}");
    for text in texts {
        assert!(page.text().contains(text), "{text} in {path}: {}", page.text());
    }
}

#[test]
fn a_boot_has_durations_and_is_compared_with_those_before() {
    let state = tempfile::tempdir().unwrap();
    let bed = Bed::start(config(state.path()));
    let discover = |at: u64| {
        json!({ "seq": 0, "uptime_ms": at, "stage": "discover",
        "source": "http://a:8080/revisions/debian/0123456789ab/manifest.json" })
    };
    let failed =
        json!({ "seq": 2, "uptime_ms": 7_250, "stage": "failed", "message": "no loop device" });
    post(&bed, 1, "b1", &json!([discover(3_100), fetch(1, 5_000, 9, 25_000_000), failed]));
    let verify = json!({ "seq": 9, "uptime_ms": 11_740, "stage": "verify", "bytes": 100_000_000,
        "seconds": 5.5, "sources": { "admin": 0, "peers": 0, "web": 100_000_000 }, "hash_failures": 2 });
    post(
        &bed,
        1,
        "b2",
        &json!([discover(4_000), fetch(1, 5_500, 9, 1), fetch(2, 8_000, 9, 2), verify]),
    );
    shows(
        &bed,
        PAGE,
        &[
            // when each stage began, and how long it took
            "<td>discover</td><td class=\"n\">4.0 s</td><td class=\"n\">1.5 s</td>",
            "<td>fetch</td><td class=\"n\">5.5 s</td><td class=\"n\">6.2 s</td>",
            "<td>verify</td><td class=\"n\">11.7 s</td><td class=\"n\">goes on</td>",
            "100 MB in 5.5 s; 2 pieces came with wrong data and were fetched again",
            // this boot, and the one before
            "<td>this one</td><td></td><td class=\"n\">4.0 s</td><td class=\"n\">5.5 s</td><td class=\"n\">11.7 s</td>",
            "<small>reached failed, 25.0 %</small></td><td>debian@0123456789ab</td>\
             <td class=\"n\">3.1 s</td><td class=\"n\">5.0 s</td><td class=\"n\"></td>",
            "<td class=\"why\">no loop device</td>",
            "<dt>boots seen</dt><dd>2</dd>",
        ],
    );
    // what is shown gets older, on both pages
    let heard = |path: &str, label: &str| -> Option<u64> {
        let page = bed.get(path).text().to_owned();
        let (label_of_it, seconds) = page.split_once(" s ago")?.0.rsplit_once('>')?;
        assert!(label_of_it.ends_with(label), "{path}");
        seconds.parse().ok()
    };
    wait_until("two seconds", || heard(PAGE, "<dt>last heard</dt><dd") >= Some(2));
    wait_until("three seconds", || heard("/nodes", "<td class=\"n\"") >= Some(3));
}

#[test]
fn who_is_stuck_does_not_hide_when_the_others_are_done() {
    let bed = Bed::start(Config::default());
    let done = |text: &str| format!("<dt>last node has its image</dt><dd>{text}</dd>");
    shows(&bed, "/", &[&(done("–") + "<dd class=\"more\">nobody fetches</dd>")]);
    post(&bed, 1, "b", &json!([fetch(1, 1, 1_000_000, 40_000_000)]));
    post(&bed, 2, "b", &json!([fetch(1, 1, 2_000_000, 40_000_000)]));
    let last = "<dd class=\"more\">52:54:00:00:00:01</dd>";
    shows(&bed, "/", &[&(done("in 1 min 0 s") + last)]);
    let stall = |seq: u64| {
        json!([fetch(seq, seq, 0, 1), { "seq": seq + 1, "uptime_ms": seq + 1,
        "stage": "stalled", "cause": "no-data", "detail": "14 peers, none sends" }])
    };
    post(&bed, 3, "b", &stall(1));
    let without = "<dd class=\"more\">52:54:00:00:00:01, without 1 stuck node</dd>";
    shows(&bed, "/", &[&(done("in 1 min 0 s") + without)]);
    post(&bed, 4, "b", &stall(1));
    let without = "<dd class=\"more\">52:54:00:00:00:01, without 2 stuck nodes</dd>";
    shows(&bed, "/", &[&(done("in 1 min 0 s") + without)]);
    (1..=2).for_each(|node| post(&bed, node, "b", &stall(5)));
    shows(
        &bed,
        "/",
        &[&(done("not known") + "<dd class=\"more\">4 stuck nodes, nobody else fetches</dd>")],
    );
}

#[test]
fn a_cell_leads_to_its_node_and_the_charts_show_web_seeds() {
    let bed = Bed::start(Config::default());
    post(&bed, 1, "b", &json!([fetch(1, 1, 9, 1_000)]));
    let page = bed.get("/").text().to_owned();
    let (_, cell) = page.split_once("id=\"n52:54:00:00:00:01\"").unwrap();
    let (_, href) = cell.split_once("href=\"").unwrap();
    let href = href.split('"').next().unwrap();
    shows(&bed, href, &["<h1>52:54:00:00:00:01</h1>", "<small>web 1.0 kB</small>"]);
    assert!(page.contains("</span>web seeds</li>"), "the legend names them: {page}");
    // every two seconds a sample: what came between two of them is a rate
    let mut bytes = 1_000;
    wait_until("web seeds in the chart", || {
        bytes += 1_000_000;
        post(&bed, 1, "b", &json!([fetch(bytes, bytes, 9, bytes)]));
        bed.get("/").text().contains("<path class=\"web\" d=\"M")
    });
    assert!(!bed.get("/").text().contains("<path class=\"admin\""), "nothing came from there");
}

/// The same with hashes of BEP 52, and signed.
fn hybrid(store: &Store, plain: &RevisionRef) -> RevisionRef {
    let from = store.revision(plain).unwrap();
    let mut manifest = from.manifest().unwrap();
    let Digest::PiecesRoot(pieces_root) = manifest.artefact(ArtefactKind::Image).unwrap().digest
    else {
        panic!("an image without a tree")
    };
    manifest.v2 = Some(HybridHashes { info_hash: InfoHashV2([0xab; 32]), pieces_root });
    let draft = store.begin().unwrap();
    for kind in ArtefactKind::ALL {
        let file = from.manifest_path().with_file_name(kind.file_name());
        std::fs::copy(file, draft.dir().join(kind.file_name())).unwrap();
    }
    let committed = store.commit(draft, &manifest).unwrap().revision;
    std::fs::write(committed.signature_path(), SIGNATURE).unwrap();
    committed.reference().clone()
}

#[test]
fn images_say_who_signed_them_who_runs_them_and_how_channels_moved() {
    let (_dir, store) = empty_store();
    let old = add_revision(&store, "debian", InfoHash([1; 20]), true);
    let new = hybrid(&store, &old);
    store.publish(&old, &stable()).unwrap();
    store.publish(&new, &stable()).unwrap();
    let bed = Bed::with_store(&store);
    let source =
        |of: &RevisionRef| format!("http://a:8080/revisions/debian/{}/manifest.json", of.id);
    for (node, revision, up) in
        [(1, &new, true), (2, &new, false), (3, &new, false), (4, &old, true)]
    {
        post(
            &bed,
            node,
            "b",
            &json!([{ "seq": 0, "uptime_ms": 1, "stage": "discover", "source": source(revision) }]),
        );
        if up {
            post(
                &bed,
                node,
                "b",
                &json!([{ "seq": 1, "uptime_ms": 2, "stage": "seeding", "device": "d",
                "user": "u", "uploaded": 0 }]),
            );
        }
    }
    let v2 = format!("<small>v2 <code>{}</code></small>", "ab".repeat(32));
    shows(
        &bed,
        "/images",
        &[
            "<code>A64CAC7C5568FAC3</code><small>2025-11-21T16:53:20Z</small>",
            "nobody</td>",
            "<td class=\"n\">3<small>1 up</small></td>",
            "<td class=\"n\">1<small>1 up</small></td>",
            &v2,
        ],
    );
    store.rollback(&old.name, &stable()).unwrap();
    wait_until("the way back", || bed.get("/images").text().contains("<td>rolled back</td>"));
    let row = format!(
        "<td>rolled back</td><td>debian</td><td>stable</td><td><code>{}</code></td><td><code>{}</code></td>",
        old.id, new.id
    );
    shows(&bed, "/images", &[&row, "<td>published</td>"]);
}
