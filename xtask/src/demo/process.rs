//! A node that joins as a process: `bee-initrd-client fetch` in a namespace of its own.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lab::{Cmd, Node, Proc, Usage};
use proto::event::Sources;
use proto::manifest::MANIFEST_FILE;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::build::Programs;
use super::cluster::{IMAGES, TRACKER};
use super::image::{Image, NAME, hex, tail};

/// The client's report of a finished fetch.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Complete {
    /// Bytes of the image.
    pub(crate) bytes: u64,
    /// From the first request to the last verified piece.
    pub(crate) fetch_seconds: f64,
    /// Where they came from.
    pub(crate) sources: Sources,
}

/// A node that joined.
#[derive(Debug)]
pub(crate) struct Joined {
    node: Node,
    proc: Proc,
    image: PathBuf,
    complete: Option<Complete>,
}

impl Joined {
    /// Starts the client on `node`.
    pub(crate) fn start(node: Node, programs: &Programs, image: &Image) -> Result<Joined> {
        let target = node.scratch().join("rootimg.sfs");
        let cmd = Cmd::new(&programs.client)
            .args(["fetch", "--json", "--keep-seeding"])
            .args(["--torrent", &revision_url(image), "--pin", &pin(image)?])
            .arg("--output")
            .arg(&target)
            .args(["--report", TRACKER, "--node", node.mac()])
            .log(node.name());
        let proc = node.spawn(&cmd)?;
        let image = node.outside(&target);
        Ok(Joined { node, proc, image, complete: None })
    }

    /// Where it is in the lab.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Its report, once it has all of the image.
    pub(crate) fn complete(&self) -> Option<&Complete> {
        self.complete.as_ref()
    }

    /// What the client has used.
    pub(crate) fn usage(&mut self) -> Usage {
        self.proc.usage()
    }

    /// Looks how it is doing; an error when it has ended, which it never should by itself.
    pub(crate) fn look(&mut self) -> Result<()> {
        if let Some(status) = self.proc.try_wait()? {
            let log = self.proc.log_path();
            let out = self.proc.out_path();
            ensure!(
                false,
                "the client on {} ended ({status}); the end of {} and of {}:\n{}\n{}",
                self.node.name(),
                log.display(),
                out.display(),
                tail(log, 5),
                tail(out, 5)
            );
        }
        if self.complete.is_none() {
            let path = self.proc.out_path();
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            self.complete = text.lines().find_map(complete);
        }
        Ok(())
    }

    /// Reads its image back and compares it with `sha256`.
    pub(crate) fn verify(&self, sha256: &str) -> Result<()> {
        let mut file = fs::File::open(&self.image)
            .with_context(|| format!("{} has no image", self.node.name()))?;
        let mut hash = Sha256::new();
        std::io::copy(&mut file, &mut HashWriter(&mut hash))
            .with_context(|| format!("cannot read the image of {}", self.node.name()))?;
        let found = hex(&hash.finalize());
        ensure!(found == sha256, "{} has another image: SHA-256 {found}", self.node.name());
        Ok(())
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn revision_url(image: &Image) -> String {
    let revision = image.revision.file_name().unwrap_or_default().to_string_lossy();
    format!("{IMAGES}/revisions/{NAME}/{revision}/")
}

fn pin(image: &Image) -> Result<String> {
    let path = image.revision.join(MANIFEST_FILE);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(format!("sha256:{}", hex(&Sha256::digest(bytes))))
}

/// The report in a line of the client's output, if it is one.
fn complete(line: &str) -> Option<Complete> {
    if !line.contains("\"complete\"") {
        return None;
    }
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    if event.get("event")?.as_str()? != "complete" {
        return None;
    }
    serde_json::from_value(event).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_found_among_other_lines() {
        let line = r#"{"event":"complete","bytes":9,"fetch_seconds":1.5,"hash_failures":0,
            "sources":{"admin":4,"peers":5,"web":0},"wasted":0,"uploaded":1,"memory":null,"seconds":2.0}"#;
        let report = complete(&line.replace('\n', "")).unwrap();
        assert_eq!((report.bytes, report.sources.total()), (9, 9));
        assert!(complete(r#"{"event":"note","text":"\"complete\""}"#).is_none());
        assert!(complete(r#"{"event":"progress","percent":5}"#).is_none());
    }
}
