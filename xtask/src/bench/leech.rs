//! A peer that takes a whole image from one other peer and keeps nothing: what curl with
//! `--output /dev/null` is to a web server.
//!
//! Run on a node of the lab as `bench leech` (a hidden subcommand). It says what it has got, so that
//! a seeder that spreads pieces is not kept waiting, but hashes nothing: the seeder is measured.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use proto::extension::ExtendedHandshake;
use proto::geometry::{BLOCK_LEN, Block, Geometry, PieceIndex};
use proto::hash::{PeerId, PeerRole};
use proto::metainfo::Metainfo;
use proto::wire::{Features, HANDSHAKE_LEN, Handshake, MAX_REQUEST_LEN, Message};

/// Bytes asked for and not come: several times what a link holds, and fewer blocks than our seeder queues.
const WINDOW: u32 = 3 << 20;

/// How long the other side may say nothing.
const LIMIT: Duration = Duration::from_secs(30);

/// Bytes taken from the socket at once.
const CHUNK: usize = 512 * 1024;

/// Arguments of the hidden `cargo xtask bench leech`.
#[derive(Debug, Parser)]
pub(crate) struct LeechArgs {
    /// What to take
    #[arg(long)]
    torrent: PathBuf,
    /// From whom
    #[arg(long)]
    peer: SocketAddr,
}

/// Takes everything, then ends.
pub(crate) fn run(args: &LeechArgs) -> anyhow::Result<()> {
    let bytes = fs::read(&args.torrent)
        .with_context(|| format!("cannot read {}", args.torrent.display()))?;
    let metainfo = Metainfo::parse(&bytes)
        .with_context(|| format!("{} is no torrent", args.torrent.display()))?;
    let mut stream = TcpStream::connect_timeout(&args.peer, LIMIT)
        .with_context(|| format!("cannot connect to {}", args.peer))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    // four bits to a letter: whole bytes are mapped to fewer letters than they have values, and two
    // peers of one id are one peer to a seeder
    let process = std::process::id();
    let mut id = *b"leech-------";
    for (letter, shift) in id[4..].iter_mut().zip((0..32).step_by(4)) {
        *letter = (process >> shift & 0xf) as u8;
    }
    let hello = Handshake {
        info_hash: metainfo.info_hash,
        peer_id: PeerId::new(PeerRole::Node, id),
        features: Features { fast: true, extended: true, v2: false },
    };
    stream.write_all(&hello.encode())?;
    let mut theirs = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut theirs)?;
    let theirs = Handshake::parse(&theirs)?;
    ensure!(theirs.info_hash == metainfo.info_hash, "{} has another torrent", args.peer);
    let mut wants = Wants::new(metainfo.info.geometry);
    let mut out = Vec::new();
    if theirs.features.fast {
        // the first message, which it must be where both know it (BEP 6)
        Message::HaveNone.encode(&mut out);
    }
    let hello =
        ExtendedHandshake { run: Some(MAX_REQUEST_LEN), ..ExtendedHandshake::default() }.encode();
    let payload = hello.context("cannot write an extension handshake")?;
    Message::Extended { id: 0, payload: &payload }.encode(&mut out);
    Message::Interested.encode(&mut out);
    let mut buffer = Buffer::new();
    loop {
        stream.write_all(&out)?;
        out.clear();
        if wants.is_satisfied() {
            return Ok(());
        }
        buffer.fill(&mut stream)?;
        while let Some((message, length)) = Message::parse(buffer.filled())? {
            wants.take(message, &mut out);
            buffer.consume(length);
        }
        wants.ask(&mut out);
    }
}

/// Bytes read and not yet understood.
struct Buffer {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Buffer {
    fn new() -> Buffer {
        Buffer { bytes: vec![0; 2 * CHUNK], from: 0, to: 0 }
    }

    fn filled(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or_default()
    }

    fn consume(&mut self, count: usize) {
        self.from = (self.from + count).min(self.to);
    }

    fn fill(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        self.bytes.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        let count = stream.read(self.bytes.get_mut(self.to..).unwrap_or_default())?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the seeder hung up"));
        }
        self.to += count;
        Ok(())
    }
}

/// What is missing, on offer and under way.
#[derive(Debug)]
struct Wants {
    geometry: Geometry,
    /// Bytes of each piece that have not come.
    missing: Vec<u32>,
    /// Blocks that may be asked for, the next one last.
    ready: Vec<Block>,
    offered: Vec<bool>,
    /// In bytes.
    under_way: u32,
    choked: bool,
    /// Longest run of blocks that the other side takes.
    run: u32,
}

impl Wants {
    fn new(geometry: Geometry) -> Wants {
        Wants {
            geometry,
            missing: geometry.indices().map(|piece| geometry.piece_size(piece)).collect(),
            ready: Vec::new(),
            offered: geometry.indices().map(|_| false).collect(),
            under_way: 0,
            choked: true,
            run: BLOCK_LEN,
        }
    }

    fn is_satisfied(&self) -> bool {
        self.missing.iter().all(|bytes| *bytes == 0)
    }

    /// Takes a message into account; what is to be said goes to `out`.
    fn take(&mut self, message: Message<'_>, out: &mut Vec<u8>) {
        match message {
            Message::Unchoke => self.choked = false,
            // with the fast extension each request under way is rejected one by one
            Message::Choke => self.choked = true,
            Message::HaveAll => self.geometry.indices().for_each(|piece| self.offer(piece)),
            Message::Have(piece) => self.offer(piece),
            Message::Bitfield(bits) => {
                for piece in self.geometry.indices() {
                    let byte = bits.get(piece.as_usize() / 8).copied().unwrap_or(0);
                    if byte & (0x80 >> (piece.0 % 8)) != 0 {
                        self.offer(piece);
                    }
                }
            }
            Message::Reject(block) => {
                self.under_way = self.under_way.saturating_sub(block.length);
                self.ready.push(block);
            }
            Message::Extended { id: 0, payload } => {
                let run = ExtendedHandshake::parse(payload).ok().and_then(|hello| hello.run);
                self.run = run.unwrap_or(0).clamp(BLOCK_LEN, MAX_REQUEST_LEN);
            }
            Message::Piece { piece, data, .. } => {
                let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
                self.under_way = self.under_way.saturating_sub(length);
                if let Some(missing) = self.missing.get_mut(piece.as_usize()) {
                    *missing = missing.saturating_sub(length);
                    if *missing == 0 {
                        Message::Have(piece).encode(out);
                    }
                }
            }
            _ => {}
        }
    }

    fn offer(&mut self, piece: PieceIndex) {
        let Some(offered) = self.offered.get_mut(piece.as_usize()) else { return };
        if !std::mem::replace(offered, true) {
            let blocks = (0..self.geometry.blocks_in(piece)).rev();
            self.ready.extend(blocks.filter_map(|number| self.geometry.block(piece, number)));
        }
    }

    fn ask(&mut self, out: &mut Vec<u8>) {
        while !self.choked && self.under_way < WINDOW {
            let Some(mut run) = self.ready.pop() else { return };
            while let Some(joined) = self.ready.last().and_then(|next| run.joined(*next, self.run))
            {
                run = joined;
                self.ready.pop();
            }
            Message::Request(run).encode(out);
            self.under_way += run.length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(out: &[u8]) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut rest = out;
        while let Some((message, length)) = Message::parse(rest).unwrap() {
            if let Message::Request(block) = message {
                blocks.push(block);
            }
            rest = &rest[length..];
        }
        blocks
    }

    #[test]
    fn adjacent_blocks_are_asked_for_together_where_they_are_taken() {
        let geometry = Geometry::new(3 * 262_144, 262_144).unwrap();
        for (said, lengths) in [(Some(3 * BLOCK_LEN), 6), (None, 16), (Some(u32::MAX), 2)] {
            let mut wants = Wants::new(geometry);
            let mut out = Vec::new();
            let hello = ExtendedHandshake { run: said, ..ExtendedHandshake::default() };
            let payload = hello.encode().unwrap();
            wants.take(Message::Extended { id: 0, payload: &payload }, &mut out);
            wants.take(Message::Unchoke, &mut out);
            wants.take(Message::Have(PieceIndex(1)), &mut out);
            wants.ask(&mut out);
            let asked = requests(&out);
            assert_eq!(asked.len(), lengths);
            assert_eq!(asked.iter().map(|run| run.length).sum::<u32>(), 262_144);
        }
    }

    #[test]
    fn it_asks_for_what_is_offered_until_it_has_everything() {
        let geometry = Geometry::new(3 * 32_768 - 100, 32_768).unwrap();
        let mut wants = Wants::new(geometry);
        let mut out = Vec::new();
        wants.take(Message::Have(PieceIndex(1)), &mut out);
        wants.take(Message::Have(PieceIndex(1)), &mut out);
        wants.take(Message::Have(PieceIndex(77)), &mut out);
        wants.ask(&mut out);
        assert!(out.is_empty(), "choked");
        wants.take(Message::Unchoke, &mut out);
        wants.ask(&mut out);
        let asked = requests(&out);
        assert_eq!(asked.len(), 2);
        assert_eq!((asked[0].piece, asked[0].begin), (PieceIndex(1), 0));
        out.clear();
        wants.take(Message::Choke, &mut out);
        wants.take(Message::Reject(asked[1]), &mut out);
        wants.ask(&mut out);
        assert!(out.is_empty());
        wants.take(Message::Unchoke, &mut out);
        wants.ask(&mut out);
        assert_eq!(requests(&out), [asked[1]], "what was rejected is asked for again");
        out.clear();
        let data = [0; 16_384];
        for block in asked {
            let piece = Message::Piece { piece: block.piece, begin: block.begin, data: &data };
            wants.take(piece, &mut out);
        }
        let mut have = Vec::new();
        Message::Have(PieceIndex(1)).encode(&mut have);
        assert_eq!(out, have, "the seeder learns what is seen elsewhere");
        assert!(!wants.is_satisfied());
        wants.take(Message::HaveAll, &mut out);
        out.clear();
        wants.ask(&mut out);
        let rest = requests(&out);
        assert_eq!(rest.len(), 4, "and not again what it has");
        for block in rest {
            let piece = Message::Piece { piece: block.piece, begin: block.begin, data: &data };
            wants.take(piece, &mut out);
        }
        assert!(wants.is_satisfied());
    }
}
