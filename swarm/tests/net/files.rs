//! Blocks that go from an image's file to the socket without being read.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::geometry::{BLOCK_LEN, Block, PieceIndex};
use proto::hash::{PeerId, PeerRole};
use proto::metainfo::Metainfo;
use proto::units::ByteRate;
use proto::wire::{Features, HANDSHAKE_LEN, Handshake, Message};
use swarm::storage::{FileStorage, Storage as _};
use swarm::{
    InitialHave, Role, Session, SessionConfig, Torrent, TorrentError, TorrentSpec, Verify,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{PATIENCE, config, image, leecher, torrent_of};

const PIECE: u32 = 64 * 1024;

/// Where files are memory, and where they may not be: both ways are taken.
fn folders() -> [tempfile::TempDir; 2] {
    [
        tempfile::tempdir_in("/dev/shm").unwrap(),
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
    ]
}

async fn seed(
    metainfo: &Arc<Metainfo>,
    path: &Path,
    verify: Verify,
    change: impl FnOnce(&mut SessionConfig),
) -> (Session, Torrent) {
    let mut config = config(Role::Admin);
    change(&mut config);
    let session = Session::bind(config).await.unwrap();
    let storage = FileStorage::open_read_only(path).unwrap();
    assert!(storage.file().is_some());
    let have = InitialHave::Everything { verify };
    let spec = TorrentSpec { have, ..TorrentSpec::new(metainfo.clone(), Arc::new(storage)) };
    let torrent = session.add(spec).await.unwrap();
    (session, torrent)
}

#[tokio::test]
async fn an_image_in_a_file_arrives_whole() {
    for folder in folders() {
        // neither the last piece nor the last block is whole
        let image = image(3_000_001, 81);
        let path = folder.path().join("rootimg.sfs");
        std::fs::write(&path, &image).unwrap();
        let metainfo = torrent_of(&image, u64::from(PIECE), &[], &[]);
        let (session, torrent) = seed(&metainfo, &path, Verify::OnFirstRead, |_| {}).await;
        let nodes = [leecher(&metainfo).await, leecher(&metainfo).await];
        for node in &nodes {
            node.torrent.add_peer(session.local_addr());
        }
        for node in nodes {
            let done = node.complete().await;
            assert_eq!(done.hash_failures, 0);
            assert!(node.storage.to_vec() == image);
            node.session.shutdown().await;
        }
        let mut progress = torrent.progress();
        let sent = progress.wait_for(|p| p.bytes_uploaded >= image.len() as u64);
        assert!(tokio::time::timeout(PATIENCE, sent).await.unwrap().is_ok());
        session.shutdown().await;
    }
}

#[tokio::test]
async fn a_wrong_byte_in_the_file_is_found_before_it_is_sent() {
    for folder in folders() {
        let image = image(500_000, 82);
        let path = folder.path().join("rootimg.sfs");
        std::fs::write(&path, &image).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[image[300_000] ^ 1], 300_000).unwrap();
        let metainfo = torrent_of(&image, u64::from(PIECE), &[], &[]);
        let (session, torrent) = seed(&metainfo, &path, Verify::OnFirstRead, |_| {}).await;
        let node = leecher(&metainfo).await;
        node.torrent.add_peer(session.local_addr());
        let error = torrent.failed().await;
        assert!(matches!(error, TorrentError::WrongData { piece: 4 }), "{error}");
        let progress = node.torrent.progress().borrow().clone();
        assert_eq!(progress.hash_failures, 0, "no wrong byte was sent");
        node.session.shutdown().await;
        session.shutdown().await;
    }
}

#[tokio::test]
async fn a_file_that_becomes_shorter_is_a_clear_failure_without_a_hash_to_check() {
    for folder in folders() {
        let image = image(1_000_000, 83);
        let path = folder.path().join("rootimg.sfs");
        std::fs::write(&path, &image).unwrap();
        let metainfo = torrent_of(&image, u64::from(PIECE), &[], &[]);
        let (session, torrent) = seed(&metainfo, &path, Verify::Trusted, |_| {}).await;
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(400_000).unwrap();
        let node = leecher(&metainfo).await;
        node.torrent.add_peer(session.local_addr());
        let error = torrent.failed().await;
        let TorrentError::Truncated { length, expected } = error else { panic!("{error}") };
        assert_eq!((length, expected), (400_000, 1_000_000));
        assert_eq!(node.torrent.progress().borrow().hash_failures, 0);
        node.session.shutdown().await;
        session.shutdown().await;
    }
}

#[tokio::test]
async fn the_limit_holds_for_what_is_not_copied() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let image = image(600_000, 84);
    let path = folder.path().join("rootimg.sfs");
    std::fs::write(&path, &image).unwrap();
    let metainfo = torrent_of(&image, u64::from(PIECE), &[], &[]);
    let limit = |config: &mut SessionConfig| config.upload_limit = Some(ByteRate(300_000));
    let (session, _torrent) = seed(&metainfo, &path, Verify::Trusted, limit).await;
    let node = leecher(&metainfo).await;
    let started = Instant::now();
    node.torrent.add_peer(session.local_addr());
    node.complete().await;
    let took = started.elapsed();
    // two seconds' worth, less the burst
    assert!(took >= Duration::from_millis(1_700), "{took:?}");
    assert!(took < Duration::from_millis(4_000), "{took:?}");
    node.session.shutdown().await;
    session.shutdown().await;
}

/// Leaves in the middle of a block: what is left of it must not reach the next peer.
#[tokio::test]
async fn who_hangs_up_in_the_middle_spoils_nothing_for_others() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let image = image(4_000_000, 85);
    let path = folder.path().join("rootimg.sfs");
    std::fs::write(&path, &image).unwrap();
    let metainfo = torrent_of(&image, u64::from(PIECE), &[], &[]);
    let (session, _torrent) = seed(&metainfo, &path, Verify::OnFirstRead, |_| {}).await;
    let mut held = Vec::new();
    // fewer than are sent to at a time
    for id in 0..3 {
        let mut stream = TcpStream::connect(session.local_addr()).await.unwrap();
        let features = Features { fast: true, extended: false, v2: false };
        let peer_id = PeerId::new(PeerRole::Node, [id; 12]);
        let mut out =
            Handshake { info_hash: metainfo.info_hash, peer_id, features }.encode().to_vec();
        Message::HaveNone.encode(&mut out);
        Message::Interested.encode(&mut out);
        stream.write_all(&out).await.unwrap();
        stream.read_exact(&mut [0; HANDSHAKE_LEN]).await.unwrap();
        let mut first = [0; 64];
        // up to the unchoke at least
        let mut seen = Vec::new();
        while !seen.windows(5).any(|bytes| bytes == [0, 0, 0, 1, 1]) {
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut first)).await;
            seen.extend_from_slice(&first[..read.unwrap().unwrap()]);
        }
        let mut out = Vec::new();
        for piece in 0..60 {
            for begin in (0..PIECE).step_by(BLOCK_LEN as usize) {
                let block = Block { piece: PieceIndex(piece), begin, length: BLOCK_LEN };
                Message::Request(block).encode(&mut out);
            }
        }
        stream.write_all(&out).await.unwrap();
        // into the first block, no further
        stream.read_exact(&mut [0; 1000]).await.unwrap();
        held.push(stream);
    }
    let node = leecher(&metainfo).await;
    drop(held);
    node.torrent.add_peer(session.local_addr());
    let done = node.complete().await;
    assert_eq!(done.hash_failures, 0);
    assert!(node.storage.to_vec() == image);
    node.session.shutdown().await;
    session.shutdown().await;
}
