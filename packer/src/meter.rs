//! How far a step has come, how fast it is, and how long it will take.

use std::time::{Duration, Instant};

use crate::event::{Event, Observer, Stage};

/// What moves is told this often, be it less than a percent.
const PATIENCE: Duration = Duration::from_secs(1);

/// Turns what is done into an event per percent, and per second while something moves.
pub(crate) struct Meter<'a> {
    observe: Observer<'a>,
    stage: Stage,
    /// Bytes of the whole step.
    total: u64,
    start: Instant,
    /// What was told last: percent, bytes, bytes written; and when.
    last: (u8, u64, Option<u64>),
    told: Instant,
}

impl<'a> Meter<'a> {
    /// A step of `total` bytes that begins now.
    pub(crate) fn new(observe: Observer<'a>, stage: Stage, total: u64) -> Self {
        let start = Instant::now();
        Self { observe, stage, total, start, last: (0, 0, None), told: start }
    }

    /// Bytes that stand for so much of the whole, by a program that does not count in bytes.
    pub(crate) fn share(&self, done: u64, of: u64) -> u64 {
        let bytes = u128::from(self.total) * u128::from(done.min(of)) / u128::from(of.max(1));
        u64::try_from(bytes).unwrap_or(self.total)
    }

    /// `bytes` are done.
    pub(crate) fn bytes(&mut self, bytes: u64) {
        self.report(bytes, None);
    }

    /// `bytes` are done, and have become `written` bytes of the image. It never goes back.
    pub(crate) fn image(&mut self, bytes: u64, written: u64) {
        let (_, most, before) = self.last;
        self.report(bytes.max(most), Some(written.max(before.unwrap_or(0))));
    }

    fn report(&mut self, bytes: u64, written: Option<u64>) {
        let bytes = bytes.min(self.total);
        let percent = u128::from(bytes) * 100 / u128::from(self.total.max(1));
        let percent = u8::try_from(percent).unwrap_or(100);
        let moved = (percent, bytes, written) != self.last && self.told.elapsed() >= PATIENCE;
        if percent <= self.last.0 && !moved {
            return;
        }
        (self.last, self.told) = ((percent, bytes, written), Instant::now());
        let (rate, remaining_s) = estimate(self.start.elapsed().as_millis(), bytes, self.total);
        let stage = self.stage;
        (self.observe)(Event::Progress { stage, percent, bytes, written, rate, remaining_s });
    }
}

/// Bytes per second so far, and seconds that are left at this rate; none before there is something to
/// judge by: a twentieth of the way, or five seconds of it.
fn estimate(elapsed_ms: u128, done: u64, total: u64) -> (u64, Option<u64>) {
    let rate = u128::from(done) * 1000 / elapsed_ms.max(1);
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    let judged = (done >= total / 20 || elapsed_ms >= 5000) && rate > 0;
    (rate, judged.then(|| total.saturating_sub(done).div_ceil(rate.max(1))))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn shown(event: &Event) -> (u8, u64, Option<u64>) {
        match event {
            Event::Progress { percent, bytes, written, .. } => (*percent, *bytes, *written),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_event_per_percent_and_no_more() {
        let seen = RefCell::new(Vec::new());
        let observe = |event: Event| seen.borrow_mut().push(shown(&event).0);
        let mut meter = Meter::new(&observe, Stage::Hash, 1000);
        for bytes in [1, 10, 11, 19, 500, 400, 1000, 2000] {
            meter.bytes(bytes);
        }
        assert_eq!(*seen.borrow(), [1, 50, 100]);
    }

    #[test]
    fn what_moves_is_told_each_second_and_what_stands_is_not() {
        let seen = RefCell::new(Vec::new());
        let observe = |event: Event| seen.borrow_mut().push(shown(&event));
        let mut meter = Meter::new(&observe, Stage::Image, 1000);
        // bytes, bytes written, and whether a second went by before
        for (bytes, written, later) in [
            (5, 1, false),
            (5, 1, true),
            (5, 1, true),
            (5, 2, false),
            (5, 2, true),
            (3, 1, true),
            (6, 2, true),
            (20, 3, false),
        ] {
            if later {
                meter.told -= PATIENCE;
            }
            meter.image(bytes, written);
        }
        let expected = [(0, 5, Some(1)), (0, 5, Some(2)), (0, 6, Some(2)), (2, 20, Some(3))];
        assert_eq!(*seen.borrow(), expected);
        assert_eq!((meter.share(1, 4), meter.share(9, 4), meter.share(0, 0)), (250, 1000, 0));
    }

    #[test]
    fn rate_and_rest_follow_from_what_is_done() {
        assert_eq!(estimate(2000, 100, 400), (50, Some(6)));
        assert_eq!(estimate(2000, 400, 400), (200, Some(0)));
        assert_eq!(estimate(1000, 10, 400), (10, None), "too early to tell");
        assert_eq!(estimate(5000, 10, 400), (2, Some(195)));
        assert_eq!(estimate(9000, 0, 400), (0, None));
        assert_eq!(estimate(1000, 0, 0), (0, None));
    }
}
