//! What the HTTP side has served.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::manifest::{ArtefactKind, MANIFEST_FILE};
use proto::signature::SIGNATURE_FILE;

/// Kinds of files, in the order of the counters: the artefacts, the manifest, its signature.
const NAMES: [&str; 6] = ["image", "torrent", "kernel", "initrd", "manifest", "signature"];

/// Counters of a server. They only rise, and count bytes as they go out, not when a transfer ends.
#[derive(Debug, Default)]
pub struct Counters {
    bytes: [AtomicU64; NAMES.len()],
    requests: [AtomicU64; NAMES.len()],
    errors: AtomicU64,
    refused: AtomicU64,
    connections: AtomicU64,
}

impl Counters {
    /// Bytes of images sent, in all: what the web seed costs.
    pub fn image_bytes(&self) -> u64 {
        self.bytes(ArtefactKind::Image)
    }

    /// Bytes of one kind of artefact sent, in all.
    pub fn bytes(&self, kind: ArtefactKind) -> u64 {
        self.bytes[artefact_index(kind)].load(Ordering::Relaxed)
    }

    /// Bytes of every kind of file sent, in all.
    pub fn all_bytes(&self) -> u64 {
        self.bytes.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Connections that were turned away because too many were open.
    pub fn refused_connections(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Connections accepted and served, in all.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn sent(&self, file: usize, bytes: u64) {
        self.bytes[file].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn requested(&self, file: usize) {
        self.requests[file].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// In the text format of Prometheus.
    pub fn to_metrics(&self) -> String {
        let mut text = String::new();
        for (metric, help, values) in [
            ("bytes", "Bytes sent over HTTP.", &self.bytes),
            ("requests", "Requests answered with a file.", &self.requests),
        ] {
            let name = format!("beeswarm_seeder_http_{metric}_total");
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
            for (file, value) in NAMES.iter().zip(values) {
                let value = value.load(Ordering::Relaxed);
                let _ = writeln!(text, "{name}{{file=\"{file}\"}} {value}");
            }
        }
        for (metric, help, value) in [
            ("errors", "Requests answered with a status of 400 or more.", &self.errors),
            ("refused_connections", "Connections beyond the limit.", &self.refused),
            ("connections", "Connections served.", &self.connections),
        ] {
            let name = format!("beeswarm_seeder_http_{metric}_total");
            let value = value.load(Ordering::Relaxed);
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
        }
        text
    }
}

/// Which counter a file of a revision has. `None`: it is no file of a revision.
pub(super) fn file_index(file: &str) -> Option<usize> {
    match file {
        MANIFEST_FILE => return Some(4),
        SIGNATURE_FILE => return Some(5),
        _ => {}
    }
    ArtefactKind::ALL.into_iter().find(|kind| kind.file_name() == file).map(artefact_index)
}

fn artefact_index(kind: ArtefactKind) -> usize {
    match kind {
        ArtefactKind::Image => 0,
        ArtefactKind::Torrent => 1,
        ArtefactKind::Kernel => 2,
        ArtefactKind::Initrd => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_its_own_counter() {
        let counters = Counters::default();
        let files = [
            "rootimg.sfs",
            "rootimg.torrent",
            "vmlinuz",
            "initrd.img",
            "manifest.json",
            "manifest.json.minisig",
        ];
        for (at, file) in files.iter().enumerate() {
            assert_eq!(file_index(file), Some(at));
            counters.sent(at, 1 << at);
            counters.requested(at);
        }
        assert_eq!(file_index("store.json"), None);
        assert_eq!(counters.image_bytes(), 1);
        assert_eq!(counters.bytes(ArtefactKind::Initrd), 8);
        assert_eq!(counters.all_bytes(), 63);
        let text = counters.to_metrics();
        assert!(text.contains("beeswarm_seeder_http_bytes_total{file=\"initrd\"} 8\n"), "{text}");
        assert!(text.contains("beeswarm_seeder_http_errors_total 0\n"), "{text}");
    }
}
