//! A transfer rate, smoothed over about a second, in whole numbers so that runs repeat exactly.

use std::time::Duration;

use super::Moment;

const WINDOW: Duration = Duration::from_millis(400);

/// The first window is over after so many bytes, too: at 1 GB/s most of an image comes in 400 ms.
const PLENTY: u64 = 4 * 1024 * 1024;

/// Bytes per second of one direction of one thing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rate {
    smoothed: u64,
    since: Moment,
    bytes: u64,
    started: bool,
}

impl Rate {
    /// Counts bytes transferred at `now`.
    pub fn add(&mut self, now: Moment, bytes: u64) {
        if !self.started {
            self.started = true;
            self.since = now;
        }
        self.bytes += bytes;
        self.roll(now);
    }

    fn roll(&mut self, now: Moment) {
        let elapsed = now.saturating_sub(self.since);
        let first = self.smoothed == 0 && self.bytes >= PLENTY && !elapsed.is_zero();
        if elapsed >= WINDOW || first {
            let current = per_second(self.bytes, elapsed);
            // one window weighs a half; silence of several windows weighs accordingly more
            let windows = elapsed.as_millis() / WINDOW.as_millis();
            self.smoothed = if self.smoothed == 0 || windows > 6 {
                current
            } else {
                let keep = self.smoothed >> windows;
                keep + (current - (current >> windows))
            };
            self.since = now;
            self.bytes = 0;
        }
    }

    /// The rate in bytes per second; 0 until the first window is over.
    #[must_use]
    pub fn per_second(&self, now: Moment) -> u64 {
        let mut copy = *self;
        copy.roll(now);
        copy.smoothed
    }
}

/// `bytes` over `time` as bytes per second.
pub(crate) fn per_second(bytes: u64, time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1_000_000) / micros
}

/// How long `bytes` take at `rate` bytes per second.
pub(crate) fn time_for(bytes: u64, rate: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / rate.max(1))
}

/// Bytes that come in `time` at `rate` bytes per second.
pub(crate) fn time_worth(rate: u64, time: Duration) -> u64 {
    rate.saturating_mul(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_a_steady_stream_and_decays() {
        let mut rate = Rate::default();
        for tick in 0..200u64 {
            rate.add(Duration::from_millis(tick * 20), 2_000);
        }
        let now = Duration::from_millis(4_000);
        let seen = rate.per_second(now);
        assert!((95_000..=106_000).contains(&seen), "{seen}");
        assert!(rate.per_second(now + Duration::from_secs(2)) < 20_000);
        assert!(rate.per_second(now + Duration::from_secs(30)) < 2_000);
    }

    #[test]
    fn a_fast_start_is_known_at_once() {
        let mut rate = Rate::default();
        (0..64).for_each(|at| rate.add(Duration::from_micros(100 * at), 100_000));
        let seen = rate.per_second(Duration::from_millis(7));
        assert!((900_000_000..=1_100_000_000).contains(&seen), "{seen}");
        let mut slow = Rate::default();
        (0..30).for_each(|at| slow.add(Duration::from_millis(10 * at), 31_250));
        assert_eq!(slow.per_second(Duration::from_millis(300)), 0, "25 Mbit/s: not yet");
    }

    #[test]
    fn durations() {
        assert_eq!(time_for(1_000_000, 500_000), Duration::from_secs(2));
        assert_eq!(per_second(500, Duration::from_millis(500)), 1_000);
    }
}
