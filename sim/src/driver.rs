//! What the engine's network side does around the core: readers, writers, connections.
//!
//! Follows `swarm::net`: actions are carried out in order, a writer takes all messages that wait and
//! about 50 ms worth of blocks, and takes more when the kernel has taken the last byte of those.

use proto::bitfield::Bitfield;
use proto::geometry::BLOCK_LEN;
use swarm::core::{Action, Check, CloseReason, Control, PeerSetup, Receipt};

use crate::flow::{Closing, Flow, FlowId};
use crate::item::{Item, Meaning, Other};
use crate::node::NodeId;
use crate::world::{Event, World};

impl World {
    /// Carries out what a core wants. Writers run when the event is over.
    pub(crate) fn act(&mut self, id: NodeId) {
        while let Some(action) = self.nodes[id.at()].core.poll() {
            match action {
                Action::Send(key, message) => {
                    let Some(flow) = self.nodes[id.at()].flow(key) else { continue };
                    if let Control::Request(block) = &message {
                        let from = self.flows[flow.at()].to;
                        self.trace.asked(id, from, flow, *block, self.now);
                    }
                    let counts = &mut self.nodes[id.at()].counts;
                    counts.messages += 1;
                    counts.haves += u64::from(matches!(message, Control::Have(_)));
                    self.post(flow, Item::of(message, &self.geometry));
                }
                Action::Serve(key) => {
                    if let Some(flow) = self.nodes[id.at()].flow(key) {
                        self.wake(flow);
                    }
                }
                Action::LookSoon => self.look_soon(id),
                Action::Verify(piece) => self.verify(id, piece),
                Action::Discard(piece) => {
                    self.nodes[id.at()].disk.discard(piece, &self.geometry);
                }
                Action::Hold(piece) => self.nodes[id.at()].disk.hold(piece),
                Action::Resume(piece) => self.nodes[id.at()].disk.resume(piece, &self.geometry),
                Action::KeepEvidence(piece) => self.nodes[id.at()].disk.keep_evidence(piece),
                Action::Disconnect(key, reason) => {
                    let Some(flow) = self.nodes[id.at()].flow(key) else { continue };
                    self.close_later(flow, reason);
                }
                Action::Ban(identity) => {
                    if self
                        .nodes
                        .iter()
                        .zip(0..)
                        .any(|(n, at)| n.was_honest && NodeId(at).identity(n.life) == identity)
                    {
                        self.fault(id, || format!("bans an honest node, {identity:?}"));
                    }
                    self.bans.push((id, identity));
                }
                Action::Completed => {
                    self.nodes[id.at()].finished_at.get_or_insert(self.now);
                    self.refresh_awaited(id);
                    let life = self.nodes[id.at()].life;
                    self.calendar.push(self.now, Event::Announce(id, life));
                }
            }
        }
    }

    fn close_later(&mut self, id: FlowId, reason: CloseReason) {
        let flow = &mut self.flows[id.at()];
        if reason == CloseReason::Banned {
            self.nodes[flow.from.at()].book.forget(flow.to);
        }
        match reason {
            CloseReason::BothComplete if flow.closing == Closing::No => {
                flow.closing = Closing::Soon;
            }
            CloseReason::BothComplete => {}
            _ => flow.closing = Closing::Now,
        }
        self.wake(id);
    }

    /// Queues a message for a writer.
    pub(crate) fn post(&mut self, id: FlowId, item: Item) {
        let limit = 20_000.max(2 * self.geometry.pieces() as usize);
        let flow = &mut self.flows[id.at()];
        flow.items.push_back((0, item));
        let waiting = flow.waiting();
        if waiting > limit {
            // it makes us answer and does not read
            flow.closing = Closing::Now;
        }
        let most = &mut self.nodes[flow.from.at()].counts.most_waiting;
        *most = (*most).max(waiting);
        self.wake(id);
    }

    fn wake(&mut self, id: FlowId) {
        let flow = &mut self.flows[id.at()];
        if !flow.dirty && (!flow.blocked || flow.closing == Closing::Now) {
            flow.dirty = true;
            self.dirty.push_back(id);
        }
    }

    /// Runs the writers that were woken.
    pub(crate) fn run_writers(&mut self) {
        while let Some(id) = self.dirty.pop_front() {
            self.flows[id.at()].dirty = false;
            while self.write(id) {}
        }
    }

    /// One write of a connection. True when the kernel took all of it.
    fn write(&mut self, id: FlowId) -> bool {
        let flow = &self.flows[id.at()];
        if !flow.open {
            return false;
        }
        if flow.closing == Closing::Now {
            self.close(id);
            return false;
        }
        if flow.blocked {
            return false;
        }
        let (from, key) = (flow.from, flow.key);
        let mut blocks = std::mem::take(&mut self.flows[id.at()].writing);
        let now = self.moment(from);
        let core = &mut self.nodes[from.at()].core;
        let mut bytes = 0;
        let mut portion = 0;
        while bytes == 0 || bytes < portion {
            let Some(block) = core.next_upload(now, key) else { break };
            if portion == 0 {
                let slots = self.setup.core.upload_slots.max(1) as u64;
                portion = (core.rates(now).1 / (slots * 20)).clamp(16 * 1024, 256 * 1024);
            }
            bytes += u64::from(block.length);
            blocks.push(block);
        }
        if !blocks.is_empty() {
            // Haves that ride along
            self.act(from);
        }
        let done = self.nodes[from.at()].core.is_done();
        let flow = &mut self.flows[id.at()];
        let before = flow.written;
        flow.commit(&self.geometry);
        if !std::mem::replace(&mut flow.greeted, true) {
            flow.append(Item::Hello { upload_only: done }, &self.geometry);
        }
        for block in &blocks {
            let (piece, number) = (block.piece, block.begin / BLOCK_LEN);
            let node = &mut self.nodes[from.at()];
            node.counts.payload_sent += u64::from(block.length);
            self.trace.taken(self.flows[id.at()].to, from, block.piece, self.now);
            let wrong = node.conduct.lies(&mut self.rng);
            let lacks = !node.disk.stored().has(piece);
            let data = Item::Data { piece: piece.0, number, wrong };
            self.flows[id.at()].append(data, &self.geometry);
            if lacks {
                self.fault(from, || format!("serves piece {} that it does not have", piece.0));
            }
        }
        let flow = &mut self.flows[id.at()];
        if flow.written == before {
            flow.writing = blocks;
            if flow.closing == Closing::Soon {
                self.close(id);
            }
            return false;
        }
        let counts = &mut self.nodes[from.at()].counts;
        match blocks.is_empty() {
            true => counts.control_writes += 1,
            false => counts.block_writes += 1,
        }
        let flow = &mut self.flows[id.at()];
        flow.writing = blocks;
        let whole = flow.unsent() <= self.send_buffer;
        flow.blocked = !whole;
        self.enqueue(id);
        if whole {
            self.report_uploads(id);
        }
        whole
    }

    fn report_uploads(&mut self, id: FlowId) {
        let flow = &mut self.flows[id.at()];
        let (from, key) = (flow.from, flow.key);
        let mut blocks = std::mem::take(&mut flow.writing);
        let now = self.moment(from);
        for block in blocks.drain(..) {
            self.nodes[from.at()].core.uploaded(now, key, block);
        }
        self.flows[id.at()].writing = blocks;
        self.act(from);
    }

    /// The kernel has taken the rest of a write.
    pub(crate) fn write_done(&mut self, id: FlowId) {
        self.flows[id.at()].blocked = false;
        self.report_uploads(id);
        self.wake(id);
    }

    /// Whole messages that were delivered go to the receiver's core.
    pub(crate) fn read(&mut self, id: FlowId) {
        let back = id.back();
        let to = self.flows[id.at()].to;
        let mut any = false;
        while let Some(item) = self.flows[id.at()].take_delivered() {
            if self.flows[back.at()].open {
                any = true;
                self.receive(to, back, item);
            }
        }
        if any {
            self.act(to);
        }
    }

    fn receive(&mut self, id: NodeId, flow: FlowId, item: Item) {
        let node = &self.nodes[id.at()];
        if node.conduct.swallows(&item, node.disk.stored()) {
            return;
        }
        let now = self.moment(id);
        let key = self.flows[flow.at()].key;
        let node = &mut self.nodes[id.at()];
        let result = match item.meaning(&self.geometry) {
            Meaning::Hello { upload_only } => {
                let reqq = Some(self.setup.core.reqq);
                node.core.extension(key, reqq, upload_only, false);
                Ok(())
            }
            Meaning::Control(control) => {
                if let Control::Have(piece) = &control {
                    self.trace.heard(flow, *piece, self.now);
                }
                node.core.message(now, key, control)
            }
            Meaning::Block { block, wrong } => node.core.block(now, key, block).map(|receipt| {
                if receipt == Receipt::Keep {
                    self.trace.arrived(id, block.piece, self.now);
                    node.disk.put(block, wrong);
                }
            }),
            Meaning::Question(piece) => {
                if let Some(told) = node.conduct.tells(node.disk.stored().has(piece)) {
                    let answer = Item::Other(Box::new(Other::Hashes { piece, told }));
                    self.post(flow.back(), answer);
                }
                return;
            }
            Meaning::Hashes { piece, told } => {
                let wrong = if told { node.disk.held(piece) } else { None };
                node.core.hashes(now, key, piece, wrong.as_deref());
                Ok(())
            }
            Meaning::End => {
                self.close(flow);
                return;
            }
        };
        if let Err(violation) = result {
            self.nodes[id.at()].counts.violations += 1;
            let other = self.flows[flow.at()].to;
            if self.nodes[other.at()].was_honest && self.nodes[id.at()].was_honest {
                self.fault(id, || format!("accuses honest node {}: {violation}", other.0));
            }
            self.close(flow);
        }
    }

    fn verify(&mut self, id: NodeId, piece: proto::geometry::PieceIndex) {
        let now = self.moment(id);
        let node = &mut self.nodes[id.at()];
        let Some(good) = node.disk.check(piece, &self.geometry) else {
            self.fault(id, || format!("verifies piece {} of which nothing is here", piece.0));
            return;
        };
        let one_block = self.setup.core.ask_hashes && self.setup.piece == u64::from(BLOCK_LEN);
        let check = match (good, one_block) {
            (true, _) => Check::Good,
            (false, true) => Check::WrongBlocks(vec![0]),
            (false, false) => Check::Wrong,
        };
        node.core.checked(now, piece, check);
        if good {
            self.trace.complete(id, piece, self.now);
            node.first_piece_at.get_or_insert(self.now);
            if let Some(differing) = node.disk.compare(piece) {
                node.core.compared(piece, &differing);
            }
        } else if node.core.have().has(piece) {
            self.fault(id, || format!("accepts piece {} although its hash is wrong", piece.0));
        }
    }

    /// Two nodes are connected from now on.
    pub(crate) fn connect(&mut self, from: NodeId, to: NodeId) {
        let id = match self.spare.pop() {
            Some(id) => {
                self.flows[id.at()].reuse(from, to);
                self.flows[id.back().at()].reuse(to, from);
                id
            }
            None => {
                let id = FlowId(u32::try_from(self.flows.len()).unwrap_or(u32::MAX));
                self.flows.push(Flow::new(from, to));
                self.flows.push(Flow::new(to, from));
                id
            }
        };
        let latency = self.latency(from, to);
        let near = self.is_near(from, to);
        // both have the hybrid torrent
        let v2 = self.setup.core.ask_hashes;
        for (flow, me, other) in [(id, from, to), (id.back(), to, from)] {
            let identity = other.identity(self.nodes[other.at()].life);
            let now = self.moment(me);
            let node = &mut self.nodes[me.at()];
            let trunk = (!near).then_some(node.segment);
            let key = node.new_key(flow);
            node.links.push(flow);
            node.counts.connections += 1;
            node.book.connected(other, near);
            let state = &mut self.flows[flow.at()];
            (state.key, state.open, state.latency, state.since) = (key, true, latency, self.now);
            (state.outgoing, state.trunk) = (me == from, trunk);
            self.nodes[me.at()].core.connected(
                now,
                key,
                PeerSetup { identity, fast: true, near, v2 },
            );
            self.act(me);
            self.greet_falsely(flow);
            self.wake(flow);
        }
    }

    /// One end closes the connection: the other hears of it behind what is under way.
    pub(crate) fn close(&mut self, id: FlowId) {
        if !std::mem::replace(&mut self.flows[id.at()].open, false) {
            return;
        }
        self.unlink(id);
        self.silence(id.back());
        let flow = &mut self.flows[id.at()];
        flow.items.truncate(flow.committed);
        flow.writing.clear();
        flow.blocked = false;
        if self.flows[id.back().at()].open {
            self.flows[id.at()].append(Item::End, &self.geometry);
            self.enqueue(id);
        } else {
            self.silence(id);
        }
        self.free_if_over(id);
    }

    fn unlink(&mut self, id: FlowId) {
        let flow = &self.flows[id.at()];
        let (from, to, key, since) = (flow.from, flow.to, flow.key, flow.since);
        let now = self.moment(from);
        let node = &mut self.nodes[from.at()];
        let view = node.core.peer(key, now);
        let useful = view.is_some_and(|v| v.downloaded + v.uploaded > 0)
            || self.now - since > 10_000_000_000;
        let complete = view.is_some_and(|v| v.complete);
        node.book.closed(to, useful, complete, self.now, &mut self.rng);
        node.links.retain(|other| *other != id);
        node.by_key[key.0 as usize] = FlowId::NONE;
        node.core.disconnected(now, key);
        self.act(from);
    }

    /// A node dies: its connections are reset.
    pub(crate) fn crash(&mut self, id: NodeId) {
        for flow in std::mem::take(&mut self.nodes[id.at()].links) {
            self.flows[flow.at()].open = false;
            self.silence(flow);
            self.silence(flow.back());
            // keeps the pair from being used again before the reset is there
            self.flows[flow.at()].in_flight += 1;
            let at = self.now + self.flows[flow.at()].latency;
            self.calendar.push(at, Event::Reset(flow));
        }
    }

    pub(crate) fn reset(&mut self, id: FlowId) {
        self.flows[id.at()].in_flight -= 1;
        self.close(id.back());
        self.free_if_over(id);
    }

    /// Gives a pair of flows back that nobody uses any more.
    pub(crate) fn free_if_over(&mut self, id: FlowId) {
        let first = FlowId(id.0 & !1);
        let idle = |flow: &Flow| !flow.open && flow.in_flight == 0 && flow.unsent() == 0;
        let (a, b) = (&self.flows[first.at()], &self.flows[first.back().at()]);
        if idle(a) && idle(b) && a.from != a.to {
            // a pair to nowhere is a free one
            self.flows[first.at()].reuse(NodeId(0), NodeId(0));
            self.spare.push(first);
        }
    }

    /// All pieces that a node's core says it has are stored, and good.
    #[must_use]
    pub fn holds_what_it_claims(&self, id: NodeId) -> bool {
        let node = &self.nodes[id.at()];
        let have: &Bitfield = node.core.have();
        have == node.disk.stored()
    }
}
