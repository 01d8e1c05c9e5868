//! How many bytes a second work in the background may move, so that it is never in the way of publishing.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// What may be moved at once after a pause: so much of a second's bytes.
const BURST: Duration = Duration::from_millis(250);

/// A budget of bytes read and written. Cheap to clone; clones share it, and are served in the order in which they come, so
/// that nobody who takes little at a time waits for long. Nobody waits for another to be polled.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bucket: Mutex<Bucket>,
    changed: Notify,
}

#[derive(Debug)]
struct Bucket {
    /// Bytes a second; 0 for no limit.
    rate: u64,
    /// Bytes that could have been moved so far, what was not used after a while left out.
    earned: f64,
    /// Bytes that were taken so far, by those who wait, too. Above what was earned it is a debt, since whoever comes when
    /// there is none takes all that he wants at once.
    taken: f64,
    filled: Instant,
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let rate = self.rate as f64;
        let earned = now.saturating_duration_since(self.filled).as_secs_f64() * rate;
        self.earned = (self.earned + earned).min(self.taken + rate * BURST.as_secs_f64());
        self.filled = now;
    }

    /// How long until what was taken before is paid for; `None` when it is.
    fn wait(&mut self, before: f64, now: Instant) -> Option<Duration> {
        self.fill(now);
        if self.rate == 0 || self.earned >= before {
            return None;
        }
        // At least a step of the timer, so that rounding never makes this a busy wait.
        Some(Duration::from_secs_f64((before - self.earned) / self.rate as f64).max(Duration::from_millis(1)))
    }
}

/// Bytes that were taken and may not be moved yet. They are given back when nobody waits for them any more.
struct Waiting<'a> {
    bucket: &'a Mutex<Bucket>,
    bytes: f64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.bucket.lock().taken -= self.bytes;
    }
}

impl Budget {
    /// A budget of so many bytes a second; 0 for no limit.
    pub fn new(bytes_per_second: u64) -> Self {
        let bucket = Bucket { rate: bytes_per_second, earned: 0.0, taken: 0.0, filled: Instant::now() };
        Self(Arc::new(Inner { bucket: Mutex::new(bucket), changed: Notify::new() }))
    }

    /// Bytes a second; 0 for no limit.
    pub fn bytes_per_second(&self) -> u64 {
        self.0.bucket.lock().rate
    }

    /// From now on so many bytes a second; 0 for no limit. Who waits already is held to it, too.
    pub fn set(&self, bytes_per_second: u64) {
        {
            let mut bucket = self.0.bucket.lock();
            bucket.fill(Instant::now());
            bucket.rate = bytes_per_second;
        }
        self.0.changed.notify_waiters();
    }

    /// Waits until `bytes` may be moved. Dropping the future takes nothing.
    pub async fn take(&self, bytes: u64) {
        let Inner { bucket, changed } = &*self.0;
        let before = {
            let mut bucket = bucket.lock();
            if bucket.rate == 0 {
                return;
            }
            bucket.fill(Instant::now());
            let before = bucket.taken;
            bucket.taken += bytes as f64;
            before
        };
        let mut waiting = Waiting { bucket, bytes: bytes as f64 };
        loop {
            let changed = changed.notified();
            let wait = {
                let mut bucket = bucket.lock();
                let wait = bucket.wait(before, Instant::now());
                if wait.is_none() && bucket.rate > 0 {
                    waiting.bytes = 0.0;
                }
                wait
            };
            let Some(wait) = wait else { return };
            tokio::select! {
                biased;
                () = changed => {}
                () = sleep(wait) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_rate_passes() {
        let (budget, started) = (Budget::new(64 * MIB), Instant::now());
        for _ in 0..64 {
            budget.take(8 * MIB).await;
        }
        // The last one passed while its bytes were a debt.
        let took = started.elapsed().as_secs_f64();
        assert!((7.8..8.0).contains(&took), "{took}");
        sleep(Duration::from_secs(100)).await;
        let paused = Instant::now();
        for _ in 0..3 {
            budget.take(16 * MIB).await;
        }
        assert!(paused.elapsed() >= Duration::from_millis(250), "a pause saves up no more than a burst");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nobody_waits_and_a_new_limit_holds_at_once() {
        let (budget, started) = (Budget::new(0), Instant::now());
        budget.take(u64::MAX).await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        budget.set(1);
        budget.take(1_000).await;
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(1).await }
        });
        sleep(Duration::from_secs(10)).await;
        assert!(!waiting.is_finished());
        budget.set(0);
        waiting.await.unwrap();
        assert_eq!(started.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn two_that_share_it_get_the_same_share() {
        let budget = Budget::new(10 * MIB);
        let moved = |chunk: u64| {
            let budget = budget.clone();
            async move {
                let (end, mut moved) = (Instant::now() + Duration::from_secs(60), 0);
                while Instant::now() < end {
                    budget.take(chunk).await;
                    moved += chunk;
                }
                moved
            }
        };
        let (one, other) = tokio::join!(moved(MIB), moved(MIB));
        assert!(one.abs_diff(other) <= 2 * MIB, "{one} and {other}");
        assert!((one + other).abs_diff(600 * MIB) <= 5 * MIB);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_gives_up_waiting_takes_nothing() {
        let budget = Budget::new(MIB);
        budget.take(4 * MIB).await;
        let given_up = tokio::time::timeout(Duration::from_secs(1), budget.take(1_000 * MIB)).await;
        assert!(given_up.is_err());
        let started = Instant::now();
        budget.take(MIB).await;
        assert!(started.elapsed() <= Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_and_is_not_polled_keeps_nobody_waiting() {
        let budget = Budget::new(MIB);
        budget.take(MIB).await;
        let mut first = std::pin::pin!(budget.take(MIB));
        assert!(futures::poll!(&mut first).is_pending());
        let started = Instant::now();
        budget.take(MIB).await;
        assert_eq!(started.elapsed().as_secs(), 2, "it is served behind the first");
        assert!(futures::poll!(&mut first).is_ready());
    }
}
