//! How long to wait before the next try, and how often to repeat a complaint.

use std::time::{Duration, Instant};

use proto::event::{Stall, StallCause};

/// First and longest pause between two tries. Short: a node waits, and the load of a request is
/// next to nothing; the jitter keeps a rack that was switched on together from asking together.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Pause while the machine itself has no network: nobody is asked, so nobody is loaded.
const LOCAL_PAUSE: Duration = Duration::from_millis(300);

/// The same complaint is repeated this often.
const REPEAT: Duration = Duration::from_secs(10);

/// Pauses that grow to a limit.
#[derive(Debug)]
pub struct Pauses {
    next: Duration,
    random: u64,
}

impl Pauses {
    /// Starts with the shortest pause. `seed` should differ between nodes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { next: PAUSE.0, random: seed | 1 }
    }

    /// The pause after a failure: short, and without growing, when no packet left the machine.
    pub fn after(&mut self, cause: StallCause) -> Duration {
        match cause {
            StallCause::NoCarrier | StallCause::NoAddress => LOCAL_PAUSE,
            _ => self.next_pause(),
        }
    }

    /// The next pause: between three quarters and all of a duration that doubles up to the limit.
    pub fn next_pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(PAUSE.1);
        // xorshift: enough to spread requests
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let quarter = u64::try_from(whole.as_millis() / 4).unwrap_or(0);
        whole - Duration::from_millis(self.random % (quarter + 1))
    }
}

/// Lets a complaint through when it is new, and every ten seconds.
#[derive(Debug, Default)]
pub struct Complaints {
    last: Option<(Stall, Instant)>,
}

impl Complaints {
    /// Whether to say it now. A `detail` that only counts up is not new: causes are compared, and
    /// details up to the first digit.
    pub fn is_due(&mut self, stall: &Stall, now: Instant) -> bool {
        if let Some((last, at)) = &self.last
            && same(last, stall)
            && now.duration_since(*at) < REPEAT
        {
            return false;
        }
        self.last = Some((stall.clone(), now));
        true
    }

    /// Forgets: things move again. Returns whether there had been a complaint.
    pub fn clear(&mut self) -> bool {
        self.last.take().is_some()
    }
}

fn same(a: &Stall, b: &Stall) -> bool {
    a.cause == b.cause && same_words(&a.detail, &b.detail)
}

/// Whether two texts differ in their numbers only.
#[must_use]
pub fn same_words(a: &str, b: &str) -> bool {
    let is_word = |byte: &u8| !byte.is_ascii_digit();
    a.bytes().filter(is_word).eq(b.bytes().filter(is_word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let mut pauses = Pauses::new(7);
        let all: Vec<Duration> = (0..50).map(|_| pauses.next_pause()).collect();
        assert!(all[0] <= Duration::from_millis(250) && all[0] >= Duration::from_millis(187));
        assert!(all.iter().all(|pause| *pause <= PAUSE.1));
        assert!(all[10..].iter().all(|pause| *pause >= PAUSE.1 * 3 / 4));
        let mut local = Pauses::new(7);
        assert!((0..9).all(|_| local.after(StallCause::NoAddress) == LOCAL_PAUSE));
        assert_eq!(local.after(StallCause::SourceUnreachable), all[0]);
        let mut other = Pauses::new(8);
        assert_ne!(all, (0..50).map(|_| other.next_pause()).collect::<Vec<_>>());
    }

    #[test]
    fn complaints_are_made_on_change_and_every_ten_seconds() {
        let stall = |detail: &str| Stall {
            cause: StallCause::SourceUnreachable,
            detail: detail.to_owned(),
        };
        let mut complaints = Complaints::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(complaints.is_due(&stall("refused after 1 s"), at(0)));
        assert!(!complaints.is_due(&stall("refused after 2 s"), at(1)));
        assert!(complaints.is_due(&stall("no route"), at(2)));
        assert!(!complaints.is_due(&stall("no route"), at(11)));
        assert!(complaints.is_due(&stall("no route"), at(12)));
        assert!(complaints.clear() && !complaints.clear());
        assert!(complaints.is_due(&stall("no route"), at(13)));
    }
}
