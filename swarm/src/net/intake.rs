//! The receive buffer of one connection: allocated once, used again for every read.

/// Sizes: small for peers that only ask, large for peers that deliver.
const SMALL: usize = 4 * 1024;
const LARGE: usize = 128 * 1024;

/// Bytes received and not yet understood.
#[derive(Debug)]
pub(super) struct Intake {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
    /// Where the room ends that the last read was given.
    end: usize,
    chunk: usize,
    largest: usize,
}

impl Intake {
    /// Reads at most `portion` bytes at a time, however fast they come.
    pub(super) fn new(portion: usize) -> Self {
        let largest = portion.clamp(SMALL, LARGE);
        Self { bytes: Vec::new(), from: 0, to: 0, end: 0, chunk: SMALL, largest }
    }

    /// Most bytes that are read at a time.
    pub(super) fn largest(&self) -> usize {
        self.largest
    }

    /// What is there.
    pub(super) fn filled(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or_default()
    }

    /// Room for the next read: for `wanted` bytes at least. No more of the buffer than that is given away,
    /// however long the messages were that it grew for: under a limit each peer reads a portion in its turn.
    pub(super) fn room(&mut self, wanted: usize) -> &mut [u8] {
        if self.from > 0 {
            // less than a message, and in the cache
            self.bytes.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        self.end = self.chunk.max(self.to + wanted);
        if self.bytes.len() < self.end {
            self.bytes.resize(self.end, 0);
        }
        self.bytes.get_mut(self.to..self.end).unwrap_or_default()
    }

    /// `count` bytes were read into the room: a peer that fills it all gets more.
    pub(super) fn read(&mut self, count: usize) {
        self.to = (self.to + count).min(self.end);
        if self.to == self.end {
            self.chunk = (self.chunk * 2).min(self.largest);
        }
    }

    /// The first `count` bytes were understood.
    pub(super) fn consume(&mut self, count: usize) {
        self.from = (self.from + count).min(self.to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(intake: &mut Intake, bytes: &[u8], wanted: usize) -> usize {
        let room = intake.room(wanted);
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        intake.read(count);
        count
    }

    #[test]
    fn keeps_what_is_not_understood_and_grows_with_the_rate() {
        let bytes: Vec<u8> = (0..=250_u8).cycle().take(3 << 20).collect();
        let (mut intake, mut out, mut sent) = (Intake::new(usize::MAX), Vec::new(), 0);
        while sent < bytes.len() {
            sent += fill(&mut intake, &bytes[sent..], 1);
            // all but a few bytes
            let used = intake.filled().len().saturating_sub(7);
            out.extend_from_slice(&intake.filled()[..used]);
            intake.consume(used);
        }
        out.extend_from_slice(intake.filled());
        assert!(out == bytes);
        assert_eq!(intake.bytes.len(), LARGE, "bounded");
    }

    #[test]
    fn who_sends_little_costs_little_and_a_long_message_fits() {
        let mut intake = Intake::new(usize::MAX);
        for _ in 0..100 {
            assert_eq!(fill(&mut intake, &[1; 17], 1), 17);
            intake.consume(17);
        }
        assert_eq!(intake.bytes.len(), SMALL);
        fill(&mut intake, &[1; 5], 1);
        assert!(intake.room(150_000).len() >= 150_000);
        assert_eq!(intake.filled(), [1; 5]);
    }

    #[test]
    fn a_portion_stays_one_after_a_message_of_many() {
        let portion = 15_000;
        let mut intake = Intake::new(portion);
        for _ in 0..10 {
            assert!(fill(&mut intake, &[1; 200_000], portion) <= portion);
        }
        assert_eq!(intake.filled().len(), 10 * portion);
        intake.consume(10 * portion);
        assert!(intake.bytes.len() >= 10 * portion);
        assert!(intake.room(1).len() <= portion);
    }
}
