//! A node that fetches from a seeder under test, with the real engine.

use std::net::SocketAddr;
use std::sync::Arc;

use proto::metainfo::Metainfo;
use swarm::storage::MemoryStorage;
use swarm::{Role, Session, SessionConfig, Torrent, TorrentSpec};
use tokio::runtime::Runtime;

use crate::support::DEADLINE;

/// Fetches `metainfo` from one peer. `Ok`: the bytes; `Err`: how many arrived before the deadline,
/// or before `give_up` said so.
pub(crate) fn fetch(
    metainfo: &Metainfo,
    seeder: SocketAddr,
    mut give_up: impl FnMut() -> bool,
) -> Result<Vec<u8>, u64> {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let length = usize::try_from(metainfo.info.geometry.total()).unwrap();
        let storage = Arc::new(MemoryStorage::zeroed(length));
        let (session, torrent) = start(metainfo, seeder, Arc::clone(&storage)).await;
        let given_up = async {
            while !give_up() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let done = tokio::select! {
            done = torrent.completed() => done.is_ok(),
            () = given_up => false,
            () = tokio::time::sleep(DEADLINE) => false,
        };
        let verified = torrent.progress().borrow().bytes_verified;
        session.shutdown().await;
        if done { Ok(storage.to_vec()) } else { Err(verified) }
    })
}

async fn start(
    metainfo: &Metainfo,
    seeder: SocketAddr,
    storage: Arc<MemoryStorage>,
) -> (Session, Torrent) {
    let mut config = SessionConfig::new(Role::Node);
    config.listen = "127.0.0.1:0".parse().unwrap();
    // seeders of other tests are on the same loopback interface
    config.local_discovery = false;
    let session = Session::bind(config).await.unwrap();
    let mut spec = TorrentSpec::new(Arc::new(metainfo.clone()), storage);
    spec.trackers = Some(Vec::new());
    let torrent = session.add(spec).await.unwrap();
    torrent.add_peer(seeder);
    (session, torrent)
}
