//! The admin's seeder, in this process, on a thread with a runtime of its own.

use std::path::PathBuf;
use std::sync::Arc;

use swarm::storage::FileStorage;
use swarm::{InitialHave, Role, Session, SessionConfig, TorrentSpec, Verify};
use tokio::sync::oneshot;

use crate::image::Image;

/// Seeds an image; stops when it is dropped.
pub(crate) struct Seeder {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Seeder {
    /// Listens and announces; returns when peers can connect.
    pub(crate) fn start(image: &Image) -> Self {
        Self::start_with(image, image.file(), Verify::OnFirstRead)
    }

    /// Claims to have the image and sends something else for every piece.
    pub(crate) fn liar(image: &Image) -> Self {
        let path = image.dir.path().join("lies");
        let lies: Vec<u8> = image.bytes.iter().map(|byte| !byte).collect();
        std::fs::write(&path, lies).unwrap();
        Self::start_with(image, path, Verify::Trusted)
    }

    fn start_with(image: &Image, file: PathBuf, verify: Verify) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let metainfo = Arc::new(image.metainfo.clone());
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut config = SessionConfig::new(Role::Admin);
                config.listen = "127.0.0.1:0".parse().unwrap();
                let session = Session::bind(config).await.unwrap();
                let storage = Arc::new(FileStorage::open_read_only(file).unwrap());
                let have = InitialHave::Everything { verify };
                let spec = TorrentSpec { have, ..TorrentSpec::new(metainfo, storage) };
                let torrent = session.add(spec).await.unwrap();
                ready.send(()).unwrap();
                let _ = stopped.await;
                drop(torrent);
                session.shutdown().await;
            });
        });
        is_ready.recv().unwrap();
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Seeder {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
