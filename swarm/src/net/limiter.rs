//! Limits of a session, up and down, and of what one peer is sent: token buckets, kept as the time
//! that is paid for.
//!
//! Upwards they bound what is handed to the kernel, after the requests for it came in: a limited peer
//! keeps as many requests outstanding as before. Downwards they bound what is taken from the kernel:
//! the window of each connection then holds its sender back, and as many requests stay outstanding.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::units::ByteRate;
use tokio::time::Instant;

/// How much may be sent at once after a pause, as time at the limit.
const BURST: Duration = Duration::from_millis(100);

/// Bounds what is sent; without a rate it costs nothing.
#[derive(Debug)]
pub(crate) struct Limiter {
    rate: Option<u64>,
    /// When the last byte let through so far is paid for.
    paid: Mutex<Instant>,
}

impl Limiter {
    pub(crate) fn new(rate: Option<ByteRate>) -> Self {
        Self { rate: rate.map(|r| r.0.max(1)), paid: Mutex::new(Instant::now()) }
    }

    /// The limits that one peer is under: this one and its own.
    pub(crate) fn with_own(&self, rate: Option<ByteRate>) -> PeerLimiter<'_> {
        PeerLimiter { session: self, own: Self::new(rate) }
    }

    /// Bytes that one write or read should have at most, so that the limit stays smooth.
    pub(crate) fn portion(&self) -> u64 {
        self.rate.map_or(u64::MAX, |rate| rate / 20)
    }

    /// Waits until `bytes` may be sent, or until those that were received are paid for.
    pub(crate) async fn pay(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let cost = Duration::from_micros(bytes.saturating_mul(1_000_000) / rate);
        let at = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            *paid = (*paid).max(now.checked_sub(BURST).unwrap_or(now)) + cost;
            *paid
        };
        tokio::time::sleep_until(at).await;
    }
}

/// What one peer is under.
#[derive(Debug)]
pub(crate) struct PeerLimiter<'a> {
    session: &'a Limiter,
    own: Limiter,
}

impl PeerLimiter<'_> {
    /// As [`Limiter::portion`].
    pub(crate) fn portion(&self) -> u64 {
        self.session.portion().min(self.own.portion())
    }

    /// Waits until `bytes` may be sent to this peer, then until the session may send them: a peer
    /// that waits for itself holds up nobody else.
    pub(crate) async fn pay(&self, bytes: u64) {
        self.own.pay(bytes).await;
        self.session.pay(bytes).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn holds_the_rate_over_all_payers() {
        let limiter = Limiter::new(Some(ByteRate(100_000)));
        let start = Instant::now();
        let pay = || async {
            for _ in 0..10 {
                limiter.pay(10_000).await;
            }
        };
        tokio::join!(pay(), pay(), pay());
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(2_850) && took <= Duration::from_millis(3_050),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_under_both_limits() {
        for (session, own, seconds) in [(50_000, 1_000_000, 4), (1_000_000, 50_000, 2)] {
            let limiter = Limiter::new(Some(ByteRate(session)));
            let start = Instant::now();
            let pay = || async {
                let peer = limiter.with_own(Some(ByteRate(own)));
                assert_eq!(peer.portion(), 2_500);
                for _ in 0..10 {
                    peer.pay(10_000).await;
                }
            };
            // two peers share the session's limit, and each has its own
            tokio::join!(pay(), pay());
            let took = start.elapsed();
            let ideal = Duration::from_secs(seconds);
            assert!(took >= ideal - BURST * 2 && took <= ideal + BURST * 2, "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_rate_no_wait() {
        let start = Instant::now();
        Limiter::new(None).pay(u64::MAX).await;
        assert!(start.elapsed().is_zero());
    }
}
