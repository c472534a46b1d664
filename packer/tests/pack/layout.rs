//! An image layout in the making: blobs and documents, by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use proto::hash::Sha256Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{assert_store_is_clean, complete, packer, scratch, stderr, text};

/// An image layout in the making, and a store.
#[derive(Debug)]
pub(crate) struct Bed {
    dir: TempDir,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self { dir: scratch() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn layout(&self) -> PathBuf {
        self.path("layout")
    }

    pub(crate) fn pack(&self, source: &str, further: &[&str]) -> Output {
        let store = self.path("store");
        let mut args = vec!["pack", "--json", "--image-only", "--name", "test"];
        args.extend(["--source", source, "--store", text(&store)]);
        args.extend(further);
        packer(&args)
    }

    pub(crate) fn packed(&self, source: &str, further: &[&str]) -> (Value, Value) {
        let complete = complete(&self.pack(source, further));
        let manifest = fs::read(image(&complete).with_file_name("manifest.json")).unwrap();
        (complete, serde_json::from_slice(&manifest).unwrap())
    }

    pub(crate) fn refused(&self, source: &str, further: &[&str], words: &[&str]) {
        let output = self.pack(source, further);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{message}");
        for word in words {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
        assert_store_is_clean(&self.path("store"));
    }

    /// Writes a blob; its descriptor.
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let (digest, dir) = (Sha256Digest::of(bytes), self.layout().join("blobs/sha256"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(digest.to_string()), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
    }

    /// Writes an image of these layers; its descriptor.
    pub(crate) fn image(&self, layers: &[Vec<u8>], architecture: &str) -> Value {
        let tar = "application/vnd.oci.image.layer.v1.tar";
        let blobs: Vec<Value> = layers.iter().map(|layer| self.blob(tar, layer)).collect();
        let ids: Vec<String> =
            layers.iter().map(|layer| format!("sha256:{}", Sha256Digest::of(layer))).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        self.manifest(&config, &blobs)
    }

    pub(crate) fn manifest(&self, config: &Value, layers: &[Value]) -> Value {
        let config = serde_json::to_vec(config).unwrap();
        let config = self.blob("application/vnd.oci.image.config.v1+json", &config);
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers });
        self.blob(kind, &serde_json::to_vec(&manifest).unwrap())
    }

    pub(crate) fn index(&self, manifests: &[Value]) -> String {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        fs::write(self.layout().join("index.json"), index.to_string()).unwrap();
        fs::write(self.layout().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        format!("oci:{}", self.layout().display())
    }
}

pub(crate) fn image(complete: &Value) -> PathBuf {
    Path::new(complete["path"].as_str().unwrap()).join("rootimg.sfs")
}

/// The word for this machine in image descriptions.
pub(crate) fn here() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Bed {
    /// As `refused`, in a store that has revisions.
    pub(crate) fn refused_in(&self, source: &str, words: &[&str]) {
        let message = stderr(&self.pack(source, &[]));
        words.iter().for_each(|word| assert!(message.contains(word), "{word:?}: {message}"));
    }
}
