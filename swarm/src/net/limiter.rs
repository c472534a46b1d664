//! Upload limit of a session: a queue in time, shared by all torrents and peers.

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

    /// Bytes that one write should have at most, so that the limit stays smooth.
    pub(crate) fn portion(&self) -> u64 {
        self.rate.map_or(u64::MAX, |rate| rate / 20)
    }

    /// Waits until `bytes` may be sent.
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
    async fn no_rate_no_wait() {
        let start = Instant::now();
        Limiter::new(None).pay(u64::MAX).await;
        assert!(start.elapsed().is_zero());
    }
}
