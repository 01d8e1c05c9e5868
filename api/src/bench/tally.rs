//! What a scenario counts.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use super::window::{self, Counted};

/// The time in which requests count: those that end in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) from: Instant,
    pub(super) to: Instant,
}

/// Counts of one task, added up at the end.
#[derive(Debug)]
pub(super) struct Tally {
    window: Window,
    pub(super) requests: u64,
    pub(super) messages: u64,
    pub(super) body_bytes: u64,
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) latency: Latencies,
}

impl Counted for Tally {
    fn new(window: Window) -> Self {
        Self { window, requests: 0, messages: 0, body_bytes: 0, errors: BTreeMap::new(), latency: Latencies::default() }
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.messages += other.messages;
        self.body_bytes += other.body_bytes;
        for (code, count) in other.errors {
            *self.errors.entry(code).or_default() += count;
        }
        self.latency.add(&other.latency);
    }

    fn messages(&self) -> u64 {
        self.messages
    }
}

impl Tally {
    /// A request that succeeded at `now`.
    pub(super) fn done(&mut self, started: Instant, now: Instant, messages: u64, body_bytes: u64) {
        if self.counts(now) {
            self.requests += 1;
            self.messages += messages;
            self.body_bytes += body_bytes;
            self.latency.record(now - started);
        }
    }

    /// A request that failed at `now`.
    pub(super) fn failed(&mut self, now: Instant, code: String) {
        if self.counts(now) {
            *self.errors.entry(code).or_default() += 1;
        }
    }

    /// A request that was refused or lost; then the pause that the server asked for, or a short one.
    pub(super) async fn refused(&mut self, code: String, wait: Option<Duration>) {
        self.failed(Instant::now(), code);
        window::pause(wait).await;
    }

    fn counts(&self, now: Instant) -> bool {
        (self.window.from..self.window.to).contains(&now)
    }
}

/// Latencies in microseconds, three digits exact.
#[derive(Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new(3).expect("three digits are within what a histogram can do"))
    }
}

impl Latencies {
    pub(super) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        // It resizes itself; only a latency beyond any range is lost.
        let _ = self.0.record(micros);
    }

    pub(super) fn add(&mut self, other: &Self) {
        // Both resize themselves, so that every value has its place.
        let _ = self.0.add(&other.0);
    }

    pub(super) fn summary(&self) -> Latency {
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1_000.0;
        Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: self.0.max() as f64 / 1_000.0 }
    }
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Counted, Tally, Window};

    #[test]
    fn only_the_window_counts() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let window = Window { from: at(1_000), to: at(2_000) };
        let (mut one, mut other) = (Tally::new(window), Tally::new(window));
        one.done(at(900), at(999), 10, 100);
        one.done(at(1_480), at(1_500), 10, 100);
        other.done(at(1_460), at(1_500), 10, 100);
        other.failed(at(1_500), "too_busy".to_owned());
        other.done(at(1_500), at(2_000), 10, 100);
        other.failed(at(2_000), "too_busy".to_owned());
        one.add(other);
        assert_eq!((one.requests, one.messages, one.body_bytes, one.errors["too_busy"]), (2, 20, 200, 1));
        let latency = one.latency.summary();
        assert!((latency.p50 - 20.0).abs() < 0.1 && (latency.max - 40.0).abs() < 0.1, "{latency:?}");
    }
}
