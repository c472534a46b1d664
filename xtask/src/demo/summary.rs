//! What is left to say at the end: times per stage and node, where the bytes came from, memory.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use proto::event::Sources;
use serde_json::{Value, json};

use super::machine::{Machine, Stage};
use super::process::Joined;
use super::run_folder::RunFolder;
use super::scene::Scene;
use super::steps::{Steps, minutes};
use super::table::megabytes;
use crate::workspace::say;

/// Prints the summary and writes it as `summary.json` as well. Also after a failure: what happened
/// until then is what one wants to see.
pub(crate) fn print(scene: &mut Scene, steps: &Steps, folder: &RunFolder) -> Result<()> {
    say("");
    say(times(&scene.machines));
    say(nodes(&mut scene.joined));
    say(sources(scene));
    say(memory(scene));
    let mut text = String::from("Steps\n");
    for (title, duration) in steps.done() {
        // writing to a String cannot fail
        let _ = writeln!(text, "  {:>6}  {title}", minutes(*duration));
    }
    let _ = write!(text, "  {:>6}  in all", minutes(steps.elapsed()));
    say(text);
    let path = folder.path().join("summary.json");
    fs::write(&path, serde_json::to_vec_pretty(&machine_readable(scene, steps))?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn times(machines: &[Machine]) -> String {
    let mut text = String::from("Machines, seconds from power-on\n  ");
    let _ = write!(text, "{:<6}", "");
    for stage in Stage::ALL {
        let _ = write!(text, "{:>10}", stage.label());
    }
    text.push('\n');
    for machine in machines {
        let _ = write!(text, "  {:<6}", machine.node().name());
        for stage in Stage::ALL {
            let at = machine.reached(stage);
            let at = at.map_or_else(|| "-".to_owned(), |at| format!("{:.1}", at.as_secs_f64()));
            let _ = write!(text, "{at:>10}");
        }
        text.push('\n');
    }
    text
}

fn nodes(joined: &mut [Joined]) -> String {
    if joined.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "Nodes as processes\n          fetched in   from admin   from peers   from web   peak memory\n",
    );
    for node in joined {
        let peak = megabytes(node.usage().peak_memory);
        let name = node.node().name().to_owned();
        let Some(complete) = node.complete() else {
            let _ = writeln!(text, "  {name:<8} not finished");
            continue;
        };
        let Sources { admin, peers, web } = complete.sources;
        let _ = writeln!(
            text,
            "  {name:<8} {:>8.1} s {:>12} {:>12} {:>10} {peak:>13}",
            complete.fetch_seconds,
            megabytes(admin),
            megabytes(peers),
            megabytes(web)
        );
    }
    text
}

/// Sources of all nodes that finished.
fn all_sources(scene: &Scene) -> Sources {
    let joined = scene.joined.iter().filter_map(|joined| Some(joined.complete()?.sources));
    let machines = scene
        .machines
        .iter()
        .filter_map(|machine| machine.history.as_ref()?.last("verify")?.sources);
    joined.chain(machines).fold(Sources::default(), |sum, one| Sources {
        admin: sum.admin + one.admin,
        peers: sum.peers + one.peers,
        web: sum.web + one.web,
    })
}

fn sources(scene: &Scene) -> String {
    let all = all_sources(scene);
    let total = all.total().max(1);
    let length = scene.image.length().max(1);
    let mut text = String::from("Bytes by source, all nodes\n");
    for (name, bytes) in [("admin seeder", all.admin), ("peers", all.peers), ("web seed", all.web)]
    {
        let percent = bytes.saturating_mul(1000) / total;
        let images = bytes.saturating_mul(100) / length;
        let _ = writeln!(
            text,
            "  {name:<13} {:>9} {:>5}.{} % {:>4}.{:02} images",
            megabytes(bytes),
            percent / 10,
            percent % 10,
            images / 100,
            images % 100
        );
    }
    text
}

fn memory(scene: &mut Scene) -> String {
    let client = scene.joined.iter_mut().map(|joined| joined.usage().peak_memory).max();
    let initrd = scene
        .machines
        .iter()
        .filter_map(|machine| machine.history.as_ref()?.last("handover")?.peak_memory)
        .max();
    let qemu = scene.machines.iter_mut().map(|machine| machine.usage().peak_memory).max();
    let mut text = String::from("Peak memory\n");
    for (name, bytes) in [
        ("client as a process", client),
        ("client in the initrd, beyond the image", initrd),
        ("QEMU, with all of its machine's memory", qemu),
    ] {
        let bytes = bytes.map_or_else(|| "-".to_owned(), megabytes);
        let _ = writeln!(text, "  {name:<40} {bytes:>9}");
    }
    text
}

fn machine_readable(scene: &mut Scene, steps: &Steps) -> Value {
    let seconds = |steps: &Steps| {
        let done = steps.done().iter();
        done.map(|(title, time)| json!({ "step": title, "seconds": time.as_secs_f64() })).collect()
    };
    let all = all_sources(scene);
    let steps_done: Vec<Value> = seconds(steps);
    let machines: Vec<Value> = scene
        .machines
        .iter_mut()
        .map(|machine| {
            let stages = Stage::ALL.into_iter().map(|stage| {
                (stage.label().to_owned(), json!(machine.reached(stage).map(|at| at.as_secs_f64())))
            });
            let stages: serde_json::Map<String, Value> = stages.collect();
            let verify = machine.history.as_ref().and_then(|history| history.last("verify"));
            json!({
                "name": machine.node().name(),
                "stages": stages,
                "fetch_seconds": verify.and_then(|entry| entry.seconds),
                "sources": verify.and_then(|entry| entry.sources),
            })
        })
        .collect();
    let joined: Vec<Value> = scene
        .joined
        .iter_mut()
        .map(|joined| {
            let usage = joined.usage();
            let complete = joined.complete();
            json!({
                "name": joined.node().name(),
                "bytes": complete.map(|complete| complete.bytes),
                "fetch_seconds": complete.map(|complete| complete.fetch_seconds),
                "sources": complete.map(|complete| complete.sources),
                "peak_memory": usage.peak_memory,
                "cpu_seconds": usage.cpu().as_secs_f64(),
            })
        })
        .collect();
    json!({
        "seconds": steps.elapsed().as_secs_f64(),
        "steps": steps_done,
        "image_bytes": scene.image.length(),
        "sources": all,
        "machines": machines,
        "nodes": joined,
    })
}
