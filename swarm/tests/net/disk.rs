//! Storage that is partly filled, cut off, wrong, or full.

use std::io;
use std::sync::Arc;

use nix::errno::Errno;
use swarm::storage::{FileStorage, MemoryStorage, Storage};
use swarm::{InitialHave, Phase, Role, Session, SessionError, TorrentError, TorrentSpec, Verify};

use crate::support::{Mood, Tracker, config, image, leecher, leecher_with, seeder, torrent_of};

#[tokio::test]
async fn a_restarted_fetch_keeps_what_is_good() {
    let tracker = Tracker::start(Mood::Normal).await;
    let image = image(1_000_000, 10);
    let metainfo = torrent_of(&image, 16 * 1024, std::slice::from_ref(&tracker.url), &[]);
    let mut partial = vec![0; image.len()];
    partial[..600_000].copy_from_slice(&image[..600_000]);
    partial[100_000] ^= 0xff;
    let storage = Arc::new(MemoryStorage::from(partial));
    let seeder = seeder(&metainfo, &image, true).await;
    let node = leecher_with(&metainfo, storage.clone(), InitialHave::Check, storage.clone()).await;
    let done = node.complete().await;
    let kept = 600_000 / 16_384 - 1;
    assert_eq!(done.sources.total(), 1_000_000 - kept * 16_384, "only what was missing or wrong");
    assert!(storage.to_vec() == image);
    node.session.shutdown().await;
    seeder.session.shutdown().await;
}

#[tokio::test]
async fn checking_a_complete_image_makes_a_seed() {
    let image = image(300_000, 11);
    let metainfo = torrent_of(&image, 16 * 1024, &[], &[]);
    let storage = Arc::new(MemoryStorage::from(image));
    let node = leecher_with(&metainfo, storage.clone(), InitialHave::Check, storage).await;
    assert_eq!(node.complete().await.sources.total(), 0);
    assert_eq!(node.torrent.progress().borrow().phase, Phase::Seeding);
    node.session.shutdown().await;
}

#[tokio::test]
async fn a_file_cut_under_the_seeder_is_a_clear_failure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rootimg.sfs");
    let image = image(1_000_000, 12);
    std::fs::write(&path, &image).unwrap();
    let metainfo = torrent_of(&image, 32 * 1024, &[], &[]);
    let session = Session::bind(config(Role::Admin)).await.unwrap();
    let storage = Arc::new(FileStorage::open_read_only(&path).unwrap());
    let spec = TorrentSpec {
        have: InitialHave::Everything { verify: Verify::OnFirstRead },
        ..TorrentSpec::new(metainfo.clone(), storage)
    };
    let torrent = session.add(spec).await.unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(400_000).unwrap();
    let node = leecher(&metainfo).await;
    node.torrent.add_peer(session.local_addr());
    let error = torrent.failed().await;
    let TorrentError::Truncated { length, expected } = error else { panic!("{error}") };
    assert_eq!((length, expected), (400_000, 1_000_000));
    assert!(
        matches!(&torrent.progress().borrow().phase, Phase::Failed(text) if text.contains("400000"))
    );
    node.session.shutdown().await;
    session.shutdown().await;
}

#[tokio::test]
async fn a_storage_that_is_too_short_is_refused_at_once() {
    let image = image(100_000, 13);
    let metainfo = torrent_of(&image, 16 * 1024, &[], &[]);
    let session = Session::bind(config(Role::Admin)).await.unwrap();
    let spec = TorrentSpec::new(metainfo, Arc::new(MemoryStorage::zeroed(99_999)));
    let error = session.add(spec).await.unwrap_err();
    assert!(matches!(error, SessionError::Length { storage: 99_999, image: 100_000 }), "{error}");
    session.shutdown().await;
}

#[tokio::test]
async fn another_image_is_never_served() {
    let tracker = Tracker::start(Mood::Normal).await;
    let (right, wrong) = (image(500_000, 14), image(500_000, 15));
    let metainfo = torrent_of(&right, 16 * 1024, std::slice::from_ref(&tracker.url), &[]);
    let seeder = seeder(&metainfo, &wrong, true).await;
    let node = leecher(&metainfo).await;
    let error = seeder.torrent.failed().await;
    assert!(matches!(error, TorrentError::WrongData { .. }), "{error}");
    let progress = node.torrent.progress().borrow().clone();
    assert_eq!((progress.hash_failures, progress.bytes_verified), (0, 0), "no wrong byte was sent");
    seeder.torrent.remove().await;
    let listed = tracker.state.lock().unwrap().peers.len();
    assert_eq!(listed, 1, "only the node is still announced");
    node.session.shutdown().await;
    seeder.session.shutdown().await;
}

/// Fails to write with this error: a full disk without reservation, a broken device.
struct Broken(MemoryStorage, Errno);

impl Storage for Broken {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }
    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(self.1.into())
    }
}

#[tokio::test]
async fn a_failed_write_ends_the_fetch_with_its_reason() {
    let tracker = Tracker::start(Mood::Normal).await;
    let image = image(300_000, 16);
    let metainfo = torrent_of(&image, 16 * 1024, std::slice::from_ref(&tracker.url), &[]);
    let seeder = seeder(&metainfo, &image, true).await;
    for (errno, text) in
        [(Errno::ENOSPC, "No space left on device"), (Errno::EIO, "Input/output error")]
    {
        let memory = Arc::new(MemoryStorage::zeroed(0));
        let storage = Arc::new(Broken(MemoryStorage::zeroed(300_000), errno));
        let node = leecher_with(&metainfo, storage, InitialHave::Nothing, memory).await;
        let error = node.torrent.completed().await.unwrap_err();
        assert!(matches!(error, TorrentError::Write { .. }), "{error}");
        assert!(error.text().contains("cannot write the image at byte"), "{}", error.text());
        assert!(error.text().contains(text), "{}", error.text());
        node.session.shutdown().await;
    }
    seeder.session.shutdown().await;
}
