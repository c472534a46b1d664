//! How far a step has come, how fast it is, and how long it will take.

use std::time::Instant;

use crate::event::{Event, Observer, Stage};

/// Turns what is done into an event per percent.
pub(crate) struct Meter<'a> {
    observe: Observer<'a>,
    stage: Stage,
    /// Bytes of the whole step.
    total: u64,
    start: Instant,
    last: u8,
}

impl<'a> Meter<'a> {
    /// A step of `total` bytes that begins now.
    pub(crate) fn new(observe: Observer<'a>, stage: Stage, total: u64) -> Self {
        Self { observe, stage, total, start: Instant::now(), last: 0 }
    }

    /// `bytes` are done.
    pub(crate) fn bytes(&mut self, bytes: u64) {
        let percent = bytes.min(self.total) as u128 * 100 / u128::from(self.total.max(1));
        self.report(u8::try_from(percent).unwrap_or(100), bytes.min(self.total));
    }

    /// So much is done, by the count of a program that does not tell bytes.
    pub(crate) fn percent(&mut self, percent: u8) {
        let bytes = u128::from(self.total) * u128::from(percent.min(100)) / 100;
        self.report(percent.min(100), u64::try_from(bytes).unwrap_or(self.total));
    }

    fn report(&mut self, percent: u8, bytes: u64) {
        if percent <= self.last {
            return;
        }
        self.last = percent;
        let (rate, remaining_s) = estimate(self.start.elapsed().as_millis(), bytes, self.total);
        let stage = self.stage;
        (self.observe)(Event::Progress { stage, percent, bytes, rate, remaining_s });
    }
}

/// Bytes per second so far, and seconds that are left at this rate; none before there is something to
/// judge by.
fn estimate(elapsed_ms: u128, done: u64, total: u64) -> (u64, Option<u64>) {
    let rate = u128::from(done) * 1000 / elapsed_ms.max(1);
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    let judged = done >= total / 20 && rate > 0;
    (rate, judged.then(|| total.saturating_sub(done).div_ceil(rate.max(1))))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn an_event_per_percent_and_no_more() {
        let seen = RefCell::new(Vec::new());
        let observe = |event: Event| seen.borrow_mut().push(event);
        let mut meter = Meter::new(&observe, Stage::Hash, 1000);
        for bytes in [1, 10, 11, 19, 500, 400, 1000, 2000] {
            meter.bytes(bytes);
        }
        let percents: Vec<u8> = seen
            .borrow()
            .iter()
            .map(|event| match event {
                Event::Progress { percent, .. } => *percent,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(percents, [1, 50, 100]);
    }

    #[test]
    fn rate_and_rest_follow_from_what_is_done() {
        assert_eq!(estimate(2000, 100, 400), (50, Some(6)));
        assert_eq!(estimate(2000, 400, 400), (200, Some(0)));
        assert_eq!(estimate(1000, 10, 400), (10, None), "too early to tell");
        assert_eq!(estimate(1000, 0, 0), (0, None));
    }
}
