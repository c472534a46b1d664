//! What hashing a piece showed, and whose doing it is when it is wrong.
//!
//! Where the torrent is hybrid (BEP 52), a peer is asked for the digests of the piece's blocks: they must
//! lead to the torrent's hash of the piece, so it cannot lie about them. The blocks that differ name who
//! sent them, the others are kept. When nobody tells, or in a torrent of BEP 3 alone, the piece is
//! fetched again and [`Blame`](crate::core::blame::Blame) draws conclusions.

use std::time::Duration;

use proto::geometry::PieceIndex;

use super::Torrent;
use crate::core::Moment;
use crate::core::action::{Action, Check, Control, PeerKey};

/// So long an answer is waited for: it goes behind what the peer is sending.
const ANSWER: Duration = Duration::from_secs(3);

/// So many peers are asked about one piece.
const TRIES: usize = 3;

/// Bytes of wrong pieces that are held meanwhile, or one piece.
const HELD: u32 = 8 * 1024 * 1024;

/// A wrong piece of which a peer was asked for the digests.
#[derive(Debug)]
pub(super) struct Question {
    /// Who was asked, the last one just now.
    asked: Vec<PeerKey>,
    at: Moment,
}

impl Question {
    pub(super) fn is_for(&self, key: PeerKey) -> bool {
        self.asked.last() == Some(&key)
    }

    pub(super) fn is_late(&self, now: Moment) -> bool {
        now.saturating_sub(self.at) >= ANSWER
    }
}

impl Torrent {
    /// The hash of a complete piece was compared.
    pub fn checked(&mut self, now: Moment, piece: PieceIndex, check: Check) {
        match check {
            Check::Good => {
                let sources = self.picker.sources(piece);
                self.count_sources(piece, &sources);
                if self.picker.confirm(piece) {
                    self.after_gaining(now, piece);
                }
            }
            Check::WrongBlocks(wrong) => {
                self.totals.hash_failures += 1;
                self.proven(piece, &wrong);
            }
            Check::Wrong => {
                self.totals.hash_failures += 1;
                let most = (HELD / self.geometry.piece_length()).max(1);
                let room = self.questions.len() < most as usize;
                if self.config.ask_hashes && room && self.ask(now, piece, Vec::new()) {
                    self.actions.push_back(Action::Hold(piece));
                } else {
                    self.refuse(piece);
                }
            }
        }
        self.finish_call(now);
    }

    /// A good copy of a piece of which evidence was kept is here; `differing` are the numbers of the
    /// blocks that were wrong in the earlier copy.
    pub fn compared(&mut self, piece: PieceIndex, differing: &[u32]) {
        let banned = self.blame.compared(piece, differing);
        self.ban(banned);
    }

    /// What a peer said of the blocks of a piece that is held: the numbers of those that differ. `None`
    /// when it did not tell, or what it told does not lead to the torrent's hash.
    pub fn hashes(
        &mut self,
        now: Moment,
        key: PeerKey,
        piece: PieceIndex,
        differing: Option<&[u32]>,
    ) {
        if !self.questions.get(&piece).is_some_and(|question| question.is_for(key)) {
            return;
        }
        match differing {
            Some(wrong) if !wrong.is_empty() => {
                self.questions.remove(&piece);
                self.proven(piece, wrong);
            }
            _ => self.ask_another(now, piece),
        }
        self.finish_call(now);
    }

    /// Who was asked about these pieces does not answer.
    pub(super) fn not_answered(&mut self, now: Moment, which: impl Fn(&Question) -> bool) {
        let open = self.questions.iter().filter(|(_, question)| which(question));
        let pieces: Vec<PieceIndex> = open.map(|(piece, _)| *piece).collect();
        for piece in pieces {
            self.ask_another(now, piece);
        }
    }

    fn ask_another(&mut self, now: Moment, piece: PieceIndex) {
        let asked = self.questions.remove(&piece).map(|question| question.asked);
        if !self.ask(now, piece, asked.unwrap_or_default()) {
            self.refuse(piece);
        }
    }

    /// Asks a peer that was not asked before, and rather one that sent none of the blocks. False when
    /// there is none.
    fn ask(&mut self, now: Moment, piece: PieceIndex, mut asked: Vec<PeerKey>) -> bool {
        if asked.len() >= TRIES {
            return false;
        }
        let sources = self.picker.sources(piece);
        let rng = &mut self.rng;
        // who hides what it has, has it
        let able = self.peers.iter().filter(|(key, peer)| {
            peer.v2 && (peer.has.has(piece) || peer.hides()) && !asked.contains(key)
        });
        let best = able.min_by_key(|(key, _)| (sources.contains(key), rng.u32(..)));
        let Some((key, _)) = best else { return false };
        asked.push(key);
        self.questions.insert(piece, Question { asked, at: now });
        self.send(key, Control::AskHashes(piece));
        true
    }

    /// These blocks are wrong, and the others are not.
    fn proven(&mut self, piece: PieceIndex, wrong: &[u32]) {
        let sources = self.picker.sources(piece);
        let length = |number| self.geometry.block(piece, number).map_or(0, |b| u64::from(b.length));
        self.totals.wasted += wrong.iter().map(|number| length(*number)).sum::<u64>();
        let from = wrong.iter().filter_map(|number| sources.get(*number as usize));
        let liars = from.filter_map(|key| self.identity(*key)).collect();
        let kept = self.picker.take_back(piece, wrong, &mut self.rng);
        self.actions.push_back(if kept { Action::Resume(piece) } else { Action::Discard(piece) });
        let banned = self.blame.proven(liars);
        self.ban(banned);
        self.refill = true;
    }

    /// The piece is wrong, nobody knows where: it is fetched again as a whole.
    fn refuse(&mut self, piece: PieceIndex) {
        let sources = self.picker.sources(piece);
        self.totals.wasted += u64::from(self.geometry.piece_size(piece));
        self.picker.refuse(piece, &mut self.rng);
        let sources = sources.into_iter().map(|key| self.identity(key)).collect();
        let verdict = self.blame.failed(piece, sources);
        if verdict.keep_evidence {
            self.actions.push_back(Action::KeepEvidence(piece));
        }
        self.actions.push_back(Action::Discard(piece));
        self.ban(verdict.banned);
        self.refill = true;
    }
}
