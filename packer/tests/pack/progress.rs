//! What is told while it is packed: a bar on a terminal, lines of JSON anywhere else; errors are words.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{noise, packer, run, scratch, small_root, stderr, text};

/// Enough for mksquashfs to be seen half-way.
const LENGTH: usize = 48 << 20;

#[test]
fn a_terminal_gets_a_bar_with_rate_and_remaining_time() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    fs::write(root.join("usr/bin/large"), noise(LENGTH)).unwrap();
    let program = env!("CARGO_BIN_EXE_bee-packer");
    let (source, store) = (text(&root), text(&store));
    let command = format!(
        "{program} pack --image-only --name test --source '{source}' --store '{store}' --exclude /no"
    );
    // a terminal, made by script(1)
    let script = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .expect("script(1) of util-linux");
    let shown = String::from_utf8(script.stdout).unwrap();
    assert!(script.status.success(), "{shown}");
    // `compressing the image [####------] 41 %, 52.1 MiB/s, 19.9 MiB written, 1 s left`, written over
    let bars: Vec<&str> = shown
        .split(['\r', '\n'])
        .map(|line| line.trim_start_matches("\u{1b}[K"))
        .filter(|line| line.starts_with("compressing the image ["))
        .collect();
    let is_number = |word: &str| word.parse::<f64>().is_ok();
    let whole = |line: &&&str| {
        let Some((_, rest)) = line.split_once("] ") else { return false };
        let parts: Vec<Vec<&str>> = rest.split(", ").map(|p| p.split(' ').collect()).collect();
        matches!(&parts[..], [percent, rate, written, left]
            if percent[1] == "%" && is_number(percent[0])
            && is_number(rate[0]) && rate[1].ends_with("B/s")
            && is_number(written[0]) && written[2] == "written"
            && is_number(left[0]) && left.last() == Some(&"left"))
    };
    let half_way =
        bars.iter().filter(whole).filter(|line| line.contains("[#") && line.contains("-]"));
    assert!(half_way.count() > 0, "{bars:#?}");
    assert!(shown.contains("warning: --exclude /no matches nothing"), "{shown}");
    assert!(!shown.contains("{\"event\""), "{shown}");
    assert!(shown.contains("compressing the image: "), "how long it took is not in {shown}");
}

#[test]
fn anything_else_gets_lines_of_json() {
    let dir = scratch();
    let (root, store) = (small_root(dir.path()), dir.path().join("store"));
    fs::write(root.join("usr/bin/large"), noise(LENGTH)).unwrap();
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", text(&root.join("etc/key"))]);
    let plain = ["pack", "--image-only", "--name", "test", "--exclude", "/no"];
    let args = [&plain[..], &["--source", text(&root), "--store", text(&store)]].concat();
    let lines = |output: &str| -> Vec<Value> {
        output.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    };

    // events, and then the error as words
    let output = packer(&args);
    assert_eq!(output.status.code(), Some(8));
    let said = stderr(&output);
    let (events, error) = said.split_once("bee-packer: ").expect("an error");
    let events = lines(events);
    assert!(events.iter().any(|e| e["event"] == "secret" && e["path"] == "/etc/key"), "{said}");
    assert!(error.starts_with("1 secret was found") && !error.contains("\"event\""), "{said}");
    assert!(output.stdout.is_empty(), "{output:?}");

    let output = packer(&[&args[..], &["--allow-secret", "/etc/key"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let events = lines(&stderr(&output));
    let progress: Vec<_> = events.iter().filter(|e| e["event"] == "progress").collect();
    assert!(progress.len() >= 3, "{events:?}");
    assert!(progress.iter().any(|e| e["percent"] == 100), "{events:?}");
    let mut is_known = false;
    for event in progress.iter().filter(|e| e["stage"] == "image") {
        assert!(event["rate"].is_u64() && event["percent"].is_u64(), "{event}");
        // once it is known, it stays known
        is_known |= event["remaining_s"].is_u64();
        assert_eq!(event["remaining_s"].is_u64(), is_known, "{event}");
    }
    assert!(is_known, "{progress:?}");
    let is_warned = |e: &Value| {
        e["event"] == "warning" && e["text"].as_str().unwrap().contains("--exclude /no matches")
    };
    assert!(events.iter().any(is_warned), "{events:?}");
    // what came of it is for people, unless --json
    let result = String::from_utf8(output.stdout).unwrap();
    assert!(result.starts_with("test@") && result.contains("\n  info-hash  "), "{result}");

    let json = packer(&[&args[..], &["--allow-secret", "/etc/key", "--json"]].concat());
    assert_eq!(stderr(&json), "", "twice");
    assert_eq!(lines(&String::from_utf8(json.stdout).unwrap()).pop().unwrap()["event"], "complete");
}
