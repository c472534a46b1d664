//! Who is let in, and who gives way.

use proto::hash::PeerRole;
use proto::priority::canonical;

use super::*;
use crate::config::Role;
use crate::core::{CoreConfig, PeerSetup};

const OWN: PeerId = PeerId([0; 20]);
const SEC: fn(u64) -> Duration = Duration::from_secs;

struct Bed {
    state: State,
    config: SessionConfig,
}

impl Bed {
    fn new(max_peers: usize, max_per_address: usize) -> Self {
        let geometry = Geometry::new(1 << 20, 1 << 16).unwrap();
        let mut state = State::new(geometry);
        let have = Bitfield::empty(geometry.pieces());
        state.core = Some(core::Torrent::new(CoreConfig::default(), geometry, have, 1));
        let config = SessionConfig { max_peers, max_per_address, ..SessionConfig::new(Role::Node) };
        Self { state, config }
    }

    /// A connection comes in from `from` to `local`; its key when it is let in.
    fn come(
        &mut self,
        id: u8,
        from: &str,
        local: &str,
        now: Moment,
    ) -> Result<PeerKey, &'static str> {
        let (address, local): (SocketAddr, SocketAddr) =
            (from.parse().unwrap(), local.parse().unwrap());
        let peer_id = PeerId::new(PeerRole::Node, [id; 12]);
        let identity = Identity { ip: address.ip(), id: peer_id };
        self.state.admit(identity, local, false, OWN, &self.config, now)?;
        let key = self.state.new_key();
        let link = Link {
            address,
            peer_id,
            outgoing: false,
            client: None,
            local,
            listens: None,
            pex: Exchange::default(),
            out: VecDeque::new(),
            run: BLOCK_LEN,
            questions: VecDeque::new(),
            socket: None,
            wake: Arc::new(Notify::new()),
            cancel: CancellationToken::new(),
            since: now,
            heard: now,
            closing: None,
        };
        self.state.links.insert(key, link);
        let core = self.state.core.as_mut().unwrap();
        core.connected(now, key, PeerSetup { identity, fast: true, near: true, v2: false });
        Ok(key)
    }

    fn closing(&self) -> Vec<PeerKey> {
        let closing = self.state.links.iter().filter(|(_, link)| link.closing.is_some());
        closing.map(|(key, _)| *key).collect()
    }
}

const HERE: &str = "10.0.0.1:6881";

#[test]
fn one_address_takes_a_share_of_the_connections_but_one_host_may_have_many() {
    let mut bed = Bed::new(40, 3);
    for id in 1..=3 {
        bed.come(id, &format!("10.0.0.2:{id}"), HERE, SEC(0)).unwrap();
    }
    assert!(bed.come(4, "10.0.0.2:4", HERE, SEC(0)).is_err());
    bed.come(4, "10.0.0.3:4", HERE, SEC(0)).unwrap();
    for id in 5..=15 {
        bed.come(id, &format!("127.0.0.1:{id}"), "127.0.0.1:6881", SEC(0)).unwrap();
    }
}

#[test]
fn when_all_places_are_taken_the_useless_one_of_lowest_priority_gives_way() {
    let mut bed = Bed::new(8, 40);
    let mut keys = Vec::new();
    for id in 1..=8 {
        let from = format!("10.{id}.0.2:6881");
        keys.push((bed.come(id, &from, HERE, SEC(0)).unwrap(), from));
    }
    assert!(bed.come(9, "10.9.0.2:6881", HERE, SEC(5)).is_err(), "they have half a minute");
    bed.come(9, "10.9.0.2:6881", HERE, SEC(40)).unwrap();
    let priority = |from: &str| canonical(HERE.parse().unwrap(), from.parse().unwrap());
    let lowest = keys.iter().min_by_key(|(_, from)| priority(from)).unwrap().0;
    assert_eq!(bed.closing(), [lowest]);
    // who is interested stays
    let mut bed = Bed::new(1, 40);
    let key = bed.come(1, "10.1.0.2:6881", HERE, SEC(0)).unwrap();
    let core = bed.state.core.as_mut().unwrap();
    core.message(SEC(1), key, Control::Interested).unwrap();
    assert!(bed.come(9, "10.9.0.2:6881", HERE, SEC(40)).is_err());
}

#[test]
fn a_peer_that_comes_back_over_other_addresses_replaces_its_silent_connection() {
    for (from, local) in [("10.0.7.7:1", HERE), ("10.0.0.2:2", "10.0.9.9:6881")] {
        let mut bed = Bed::new(40, 40);
        let old = bed.come(1, "10.0.0.2:1", HERE, SEC(0)).unwrap();
        assert!(bed.come(1, from, local, SEC(1)).is_err(), "the old one speaks");
        assert!(bed.come(1, "10.0.0.2:3", HERE, SEC(60)).is_err(), "nothing has changed");
        assert!(bed.come(1, "[fd00::2]:3", "[fd00::1]:1", SEC(60)).is_err(), "its other family");
        let new = bed.come(1, from, local, SEC(60)).unwrap();
        assert_eq!(bed.closing(), [old]);
        assert_ne!(old, new);
    }
}
