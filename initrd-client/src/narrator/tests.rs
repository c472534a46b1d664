//! What is said, how often, and in which form.

use std::sync::{Arc, Mutex};

use proto::event::StallCause;

use super::*;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone())
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

fn narrator(style: Style) -> (Narrator, Sink) {
    let sink = Sink::default();
    (Narrator::new(style, Box::new(sink.clone())), sink)
}

#[test]
fn json_has_every_progress_and_people_every_other_second() {
    for (style, expected) in [(Style::Json, 3), (Style::Human, 1)] {
        let (mut narrator, sink) = narrator(style);
        for _ in 0..3 {
            narrator.progress(&Progress {
                bytes_total: 8,
                bytes_verified: 2,
                ..Progress::default()
            });
        }
        assert_eq!(sink.lines().len(), expected, "{:?}", sink.lines());
    }
}

#[test]
fn json_lines_can_be_read() {
    let (mut narrator, sink) = narrator(Style::Json);
    narrator.tell(EventKind::Attach { device: "/dev/loop3".into() });
    narrator.progress(&Progress { bytes_total: 8, bytes_verified: 2, ..Progress::default() });
    let completed = Completed {
        bytes: 8,
        elapsed: Duration::from_millis(1500),
        sources: proto::event::Sources { admin: 8, peers: 0, web: 0 },
        hash_failures: 1,
        downlink: swarm::core::Downlink::default(),
    };
    narrator.complete(&completed, &Progress::default());
    narrator.failed("no more", Exit::Device, Some(StallCause::Storage));
    let lines: Vec<Value> =
        sink.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["attach", "progress", "complete", "failed"]);
    assert_eq!(lines[0]["device"], "/dev/loop3");
    assert_eq!(lines[1]["percent"], 25.0);
    assert_eq!(lines[2]["sources"]["admin"], 8);
    assert_eq!(lines[2]["fetch_seconds"], 1.5);
    assert_eq!(lines[2]["downlink"]["end-game"], serde_json::json!([0, 0]));
    assert!(lines[2]["memory"]["peak"].as_u64().unwrap() > 0);
    assert_eq!(lines[3]["exit"], 5);
}

#[test]
fn a_complaint_is_not_repeated_at_once_and_comes_again_after_progress() {
    let (mut narrator, sink) = narrator(Style::Human);
    let stall = Stall { cause: StallCause::NoPeers, detail: "the tracker knows no peers".into() };
    let stuck = Progress { stall: Some(stall), ..Progress::default() };
    narrator.progress(&stuck);
    narrator.progress(&stuck);
    let complaints = || sink.lines().iter().filter(|line| line.contains("knows no peers")).count();
    assert_eq!(complaints(), 1);
    narrator.progress(&Progress { down_rate: 5, ..Progress::default() });
    narrator.progress(&stuck);
    assert_eq!(complaints(), 2);
}

#[test]
fn a_network_that_is_not_up_yet_is_no_news() {
    let (mut narrator, sink) = narrator(Style::Human);
    let stall = |cause| Stall { cause, detail: "why".into() };
    narrator.stall(stall(StallCause::NoCarrier));
    narrator.stall(stall(StallCause::NoAddress));
    assert_eq!(sink.lines(), Vec::<String>::new());
    narrator.started -= NETWORK_GRACE;
    narrator.stall(stall(StallCause::NoAddress));
    assert_eq!(sink.lines(), ["beeswarm: waiting: why"]);
}
