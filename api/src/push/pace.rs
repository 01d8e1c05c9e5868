//! How fast and how much at once is posted to one endpoint.
//!
//! Three things hold a post back. A rate: so many a second. A limit of posts in flight, which halves when the endpoint fails
//! and grows back while it succeeds. And a pause: asked for by the endpoint, or taken when it goes on failing, so that an
//! endpoint that is down does not use up the deliveries of everything that waits for it.
//!
//! Pure: time is a duration since whatever beginning the caller likes.

use std::time::Duration;

use super::backoff::Backoff;

/// Posts in flight to an endpoint that nothing is known about yet.
const FIRST_LIMIT: usize = 8;

/// Failures in a row, without a success, that are the endpoint's whatever they say: it is at least this many, so that a
/// few bad messages do not slow down good ones.
const STREAK: usize = 5;

/// A rate may be used up to this part of a second in advance; without it timers would have to be exact.
const BURST_PARTS: u32 = 10;

/// How many messages a second.
#[derive(Clone, Debug)]
struct Rate {
    /// Time between two messages, rounded up so that the rate is never exceeded.
    interval: Duration,
    /// How far `next` may lie ahead of the present.
    tolerance: Duration,
    /// When the next message would be due if all came evenly.
    next: Duration,
}

impl Rate {
    fn new(per_second: u32) -> Self {
        let nanos = 1_000_000_000_u64.div_ceil(u64::from(per_second.max(1)));
        let interval = Duration::from_nanos(nanos);
        let ahead = (per_second / BURST_PARTS).saturating_sub(1);
        Self { interval, tolerance: interval.saturating_mul(ahead), next: Duration::ZERO }
    }

    fn available(&self, now: Duration) -> usize {
        let ahead = self.next.saturating_sub(now);
        let Some(left) = self.tolerance.checked_sub(ahead) else { return 0 };
        usize::try_from(left.as_nanos() / self.interval.as_nanos()).unwrap_or(usize::MAX).saturating_add(1)
    }

    /// When one more is available.
    fn available_at(&self) -> Duration {
        self.next.saturating_sub(self.tolerance)
    }

    fn take(&mut self, count: usize, now: Duration) {
        self.next = self.next.max(now) + self.span(count);
    }

    fn give_back(&mut self, count: usize) {
        self.next = self.next.saturating_sub(self.span(count));
    }

    fn span(&self, count: usize) -> Duration {
        self.interval.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

/// Whether messages may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// So many, at least one.
    Now(usize),
    /// None before this time.
    At(Duration),
    /// None before a post ends.
    Full,
}

/// How a post ended, as far as the pace is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint took it.
    Success,
    /// The endpoint did not like this message; others it may.
    Rejected,
    /// The endpoint cannot cope, or is not there.
    Failed {
        /// For how long it asked to be left alone.
        asked: Option<Duration>,
    },
    /// Nothing was sent, for reasons that are not the endpoint's.
    Unsent,
}

/// A post in flight: which one it is, in the order of their beginnings.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a post that never ends keeps its place for ever"]
pub struct Ticket(u64);

/// The pace of one endpoint.
#[derive(Clone, Debug)]
pub struct Pace {
    rate: Option<Rate>,
    backoff: Backoff,
    /// Most posts in flight that the subscription allows.
    most: usize,
    /// Most posts in flight now; at least 1.
    limit: usize,
    /// Whether no failure has ever lowered the limit: until then it grows fast.
    is_fresh: bool,
    /// Successes since the limit grew.
    successes: usize,
    /// Places that are taken, by posts and by reservations.
    used: usize,
    begun: u64,
    /// Posts begun before this one say nothing new: the limit was lowered since.
    lowered_at: u64,
    /// Failures of any kind since the last success.
    streak: usize,
    /// How often the limit was lowered since the last success.
    lowered: u32,
    paused_until: Duration,
}

impl Pace {
    /// At most `most` posts in flight, 1 at least, and `per_second` a second, 0 for as many as possible. The bounds of
    /// pauses are those of the pauses between attempts.
    pub fn new(most: usize, per_second: u32, backoff: Backoff) -> Self {
        let most = most.max(1);
        Self {
            rate: (per_second > 0).then(|| Rate::new(per_second)),
            backoff,
            most,
            limit: most.min(FIRST_LIMIT),
            is_fresh: true,
            successes: 0,
            used: 0,
            begun: 0,
            lowered_at: 0,
            streak: 0,
            lowered: 0,
            paused_until: Duration::ZERO,
        }
    }

    /// Most posts in flight now.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How much longer the endpoint is to be left alone; zero if it is not.
    pub fn pause(&self, now: Duration) -> Duration {
        self.paused_until.saturating_sub(now)
    }

    /// How many messages may be taken.
    pub fn room(&self, now: Duration) -> Room {
        let places = self.limit.saturating_sub(self.used);
        if places == 0 {
            return Room::Full;
        }
        if self.paused_until > now {
            return Room::At(self.paused_until);
        }
        match &self.rate {
            None => Room::Now(places),
            Some(rate) => match rate.available(now) {
                0 => Room::At(rate.available_at()),
                available => Room::Now(available.min(places)),
            },
        }
    }

    /// Reserves places, as many as [`Self::room`] had, for messages that are now asked for.
    pub fn reserve(&mut self, count: usize, now: Duration) {
        self.used += count;
        self.rate.iter_mut().for_each(|rate| rate.take(count, now));
    }

    /// Gives reservations back for which no message came.
    pub fn give_back(&mut self, count: usize) {
        self.used = self.used.saturating_sub(count);
        self.rate.iter_mut().for_each(|rate| rate.give_back(count));
    }

    /// Begins a post in a reserved place.
    pub fn begin(&mut self) -> Ticket {
        self.begun += 1;
        Ticket(self.begun - 1)
    }

    /// Ends a post. `random` spreads the pauses that endpoints are given.
    pub fn end(&mut self, ticket: &Ticket, outcome: Outcome, now: Duration, random: u64) {
        self.used = self.used.saturating_sub(1);
        match outcome {
            Outcome::Unsent => {}
            Outcome::Success => self.grow(),
            Outcome::Rejected => {
                self.streak += 1;
                if self.streak >= self.limit.max(STREAK) {
                    self.lower(ticket, now, random);
                }
            }
            Outcome::Failed { asked } => {
                self.streak += 1;
                if asked.is_some() {
                    self.paused_until = self.paused_until.max(now + self.backoff.delay(1, asked, random));
                }
                self.lower(ticket, now, random);
            }
        }
    }

    fn grow(&mut self) {
        (self.streak, self.lowered) = (0, 0);
        self.successes += 1;
        if self.limit < self.most && (self.is_fresh || self.successes >= self.limit) {
            self.limit += 1;
            self.successes = 0;
        }
    }

    /// Halves the limit, once for all the posts that were in flight together, and pauses if that has not helped before.
    fn lower(&mut self, ticket: &Ticket, now: Duration, random: u64) {
        if ticket.0 < self.lowered_at {
            return;
        }
        self.lowered_at = self.begun;
        (self.limit, self.is_fresh, self.successes) = ((self.limit / 2).max(1), false, 0);
        if self.lowered > 0 {
            self.paused_until = self.paused_until.max(now + self.backoff.delay(self.lowered, None, random));
        }
        self.lowered = self.lowered.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
