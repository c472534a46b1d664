//! Peer exchange (BEP 11): connected peers name each other further ones. Off for private torrents.
//!
//! What a peer says is hearsay: [`super::book`] bounds how much of it is kept and tried, per peer and
//! in all, and what the tracker names is dialled first.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::extension::ExtendedHandshake;
use proto::pex::{Contact, MAX_PEERS, NAME, PexMessage};
use proto::wire::Message;

use super::book::{Origin, canonical};
use super::state::State;
use crate::core::{Moment, PeerKey};

/// The message id by which others send to us.
pub(crate) const ID: u8 = 1;

/// The first message: when listen ports and a few peers are known.
const FIRST: Duration = Duration::from_secs(2);

/// Without news, look again after this long.
const LOOK: Duration = Duration::from_secs(5);

/// At most one message in this time.
const EVERY: Duration = Duration::from_secs(60);

/// Messages that come sooner than this after the last one are not even read.
const LEAST_GAP: Duration = Duration::from_secs(45);

/// Peer exchange on one connection.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// The id by which the peer takes messages; `None`: it takes none.
    theirs: Option<u8>,
    told: Vec<SocketAddr>,
    next_at: Moment,
    heard_at: Option<Moment>,
    /// Encoded messages for the writer.
    waiting: Vec<u8>,
}

impl Exchange {
    /// The peer's extension handshake came.
    pub(crate) fn greeted(&mut self, hello: &ExtendedHandshake, now: Moment) {
        // BEP 10: id 0 turns an extension off
        self.theirs = hello.extensions.get(NAME).copied().filter(|id| *id != 0);
        // saying it again does not make us talk more often
        self.next_at = self.next_at.max(now + FIRST);
    }

    /// Hands what waits to the writer.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.waiting);
    }

    /// Brings the peer up to date; whether there is something to write.
    fn update(&mut self, now: Moment, others: &[Contact]) -> bool {
        let added: Vec<Contact> = others
            .iter()
            .filter(|c| !self.told.contains(&c.address))
            .copied()
            .take(MAX_PEERS)
            .collect();
        let gone = self.told.iter().filter(|address| others.iter().all(|c| c.address != **address));
        let dropped: Vec<SocketAddr> = gone.copied().take(MAX_PEERS).collect();
        let message = PexMessage { added, dropped };
        let news = !(message.added.is_empty() && message.dropped.is_empty());
        let (Some(id), true, Ok(payload)) = (self.theirs, news, message.encode()) else {
            self.next_at = now + LOOK;
            return false;
        };
        self.told.extend(message.added.iter().map(|contact| contact.address));
        self.told.retain(|address| !message.dropped.contains(address));
        Message::Extended { id, payload: &payload }.encode(&mut self.waiting);
        self.next_at = now + EVERY;
        true
    }
}

/// Tells each peer that is due of the others.
pub(crate) fn exchange(state: &mut State, now: Moment) {
    let State { core, links, .. } = state;
    let Some(core) = core else { return };
    if !links.values().any(|link| link.pex.theirs.is_some() && link.pex.next_at <= now) {
        return;
    }
    let known: Vec<(PeerKey, Contact)> = links
        .iter()
        .filter(|(_, link)| link.closing.is_none())
        .filter_map(|(key, link)| {
            let complete = core.peer(*key, now).is_some_and(|view| view.complete);
            Some((*key, Contact { address: link.listens?, complete, reachable: link.outgoing }))
        })
        .collect();
    for (key, link) in links.iter_mut() {
        if link.pex.theirs.is_none() || link.pex.next_at > now {
            continue;
        }
        let others = known.iter().filter(|(other, contact)| {
            other != key && makes_sense(contact.address, link.address.ip())
        });
        let others: Vec<Contact> = others.map(|(_, contact)| *contact).collect();
        if link.pex.update(now, &others) {
            link.wake.notify_one();
        }
    }
}

/// A message came in; whether there is somebody new to dial.
pub(crate) fn receive(state: &mut State, now: Moment, key: PeerKey, payload: &[u8]) -> bool {
    let Some(link) = state.links.get_mut(&key) else { return false };
    let early = link.pex.heard_at.is_some_and(|at| now.saturating_sub(at) < LEAST_GAP);
    if early {
        return false;
    }
    link.pex.heard_at = Some(now);
    let from = link.address.ip();
    // a broken one says nothing about the data that the peer sends
    let Ok(message) = PexMessage::parse(payload) else { return false };
    let mut news = false;
    for contact in message.added.iter().filter(|c| makes_sense(c.address, from)) {
        news |= state.book.hear(contact.address, Origin::Peer(from), now);
    }
    news
}

/// Whether an address means the same to both ends: loopback and link-local ones do not.
fn makes_sense(address: SocketAddr, other: IpAddr) -> bool {
    match canonical(address).ip() {
        IpAddr::V4(ip) => ip.is_loopback() == other.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() == other.is_loopback() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(address: &str) -> Contact {
        Contact { address: address.parse().unwrap(), complete: false, reachable: true }
    }

    fn sent(exchange: &mut Exchange) -> PexMessage {
        let mut out = Vec::new();
        exchange.flush(&mut out);
        let Ok(Some((Message::Extended { id: 3, payload }, _))) = Message::parse(&out) else {
            panic!("{out:?}")
        };
        PexMessage::parse(payload).unwrap()
    }

    fn ready() -> Exchange {
        let mut exchange = Exchange::default();
        let hello =
            ExtendedHandshake { extensions: [(NAME.into(), 3)].into(), ..Default::default() };
        exchange.greeted(&hello, Duration::ZERO);
        exchange
    }

    #[test]
    fn tells_changes_and_no_more_than_fifty_at_once() {
        let mut exchange = ready();
        assert_eq!(exchange.next_at, FIRST);
        let many: Vec<_> = (1..=60).map(|n| contact(&format!("10.0.0.{n}:1"))).collect();
        assert!(exchange.update(FIRST, &many));
        assert_eq!(sent(&mut exchange).added.len(), 50);
        assert_eq!(exchange.next_at, FIRST + EVERY);
        assert!(exchange.update(FIRST + EVERY, &many));
        assert_eq!(sent(&mut exchange).added.len(), 10);
        assert!(!exchange.update(FIRST + 2 * EVERY, &many), "nothing new, no message");
        let few: Vec<_> = many.into_iter().take(58).collect();
        assert!(exchange.update(FIRST + 3 * EVERY, &few));
        let message = sent(&mut exchange);
        assert_eq!((message.added.len(), message.dropped.len()), (0, 2));
    }

    #[test]
    fn who_does_not_take_it_gets_nothing() {
        let mut exchange = Exchange::default();
        let hello =
            ExtendedHandshake { extensions: [(NAME.into(), 0)].into(), ..Default::default() };
        exchange.greeted(&hello, Duration::ZERO);
        assert!(!exchange.update(FIRST, &[contact("10.0.0.1:1")]));
        assert!(exchange.waiting.is_empty());
    }

    #[test]
    fn addresses_of_another_world_are_not_named() {
        let far = "10.0.0.9".parse().unwrap();
        let near = "127.0.0.1".parse().unwrap();
        for (address, other, good) in [
            ("10.0.0.1:1", far, true),
            ("[fd00::1]:1", far, true),
            ("127.0.0.1:1", far, false),
            ("127.0.0.1:1", near, true),
            ("10.0.0.1:1", near, false),
            ("169.254.0.1:1", far, false),
            ("[fe80::1]:1", far, false),
            ("[::1]:1", far, false),
        ] {
            assert_eq!(makes_sense(address.parse().unwrap(), other), good, "{address} {other}");
        }
    }
}
