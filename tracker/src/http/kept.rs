//! What is made once for all who ask within two seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// Open pages ask again as often: one more does not make it older than that one's former look.
const GOOD_FOR: Duration = Duration::from_secs(2);

/// The last one, and when it was made.
#[derive(Debug)]
pub(crate) struct Kept<T>(Mutex<Option<(Instant, Arc<T>)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Kept<T> {
    /// The last one, if it is good; else what `make` gives. Who comes meanwhile waits for that one.
    pub(super) async fn get<E>(
        &self,
        make: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        let mut place = self.0.lock().await;
        if let Some((made, kept)) = &*place
            && made.elapsed() < GOOD_FOR
        {
            return Ok(kept.clone());
        }
        let new = Arc::new(make.await?);
        *place = Some((Instant::now(), new.clone()));
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_who_ask_at_once_get_one() {
        let kept = Kept::default();
        let slow = async |value: u8| {
            tokio::task::yield_now().await;
            Ok::<_, ()>(value)
        };
        let (first, second) = tokio::join!(kept.get(slow(1)), kept.get(slow(2)));
        assert_eq!((*first.unwrap(), *second.unwrap()), (1, 1));
        assert_eq!(*kept.get(slow(3)).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_failed_is_tried_again() {
        let kept = Kept::default();
        assert_eq!(kept.get(async { Err("no") }).await, Err("no"));
        assert_eq!(kept.get(async { Ok::<_, &str>(2) }).await.map(|two| *two), Ok(2));
    }
}
