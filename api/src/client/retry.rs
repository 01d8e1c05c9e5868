//! When to try again.

use std::time::Duration;

use tokio::time::Instant;

use super::{Client, ClientError, ErrorKind};

/// How long and how patiently a request that may safely be repeated is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Pause before the first retry; each later one is twice as long.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
    /// Gives up when the next try would begin later than this after the first one began.
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
            give_up_after: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// The pause before retry number `retry` (from 0): between half of the doubled pause and all of it, so that clients
    /// that failed together do not come back together, and at least what the server asked for.
    pub(super) fn pause(&self, retry: u32, asked: Option<Duration>, random: u64) -> Duration {
        let doubled = self.first_pause.saturating_mul(1_u32 << retry.min(16)).min(self.longest_pause);
        let half = doubled / 2;
        let jitter = half.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64);
        (half + jitter).max(asked.unwrap_or_default().min(self.longest_pause))
    }
}

impl Client {
    /// Makes a call that may safely be repeated until it succeeds, is refused for good, or the policy gives up. Returns
    /// with the result how often it was repeated.
    ///
    /// # Errors
    /// The last try's error.
    pub async fn retry<T, F>(&self, policy: &RetryPolicy, call: impl Fn() -> F) -> Result<(T, u32), ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let started = Instant::now();
        let mut retries = 0;
        loop {
            let error = match call().await {
                Ok(result) => return Ok((result, retries)),
                Err(error) => error,
            };
            let pause = policy.pause(retries, error.retry_after(), self.env.entropy.next_u64());
            if error.kind() != ErrorKind::Unavailable || started.elapsed() + pause > policy.give_up_after {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            retries += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::RetryPolicy;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.pause(0, None, 0), Duration::from_millis(25));
        assert!(policy.pause(0, None, u64::MAX) <= Duration::from_millis(50));
        assert_eq!(policy.pause(3, None, 0), Duration::from_millis(200));
        assert_eq!(policy.pause(60, None, 0), Duration::from_secs(1));
    }

    #[test]
    fn the_server_may_ask_for_longer_but_not_for_ever() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.pause(0, Some(Duration::from_secs(1)), 0), Duration::from_secs(1));
        assert_eq!(policy.pause(0, Some(Duration::from_secs(3600)), 0), Duration::from_secs(2));
    }
}
