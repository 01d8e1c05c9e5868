//! Figures of pushing, named `brigade_push_…`.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{
    deliver::is_overload,
    endpoint::{Answer, SendError},
};

/// How posts end. Endpoints are not told apart: there may be a hundred thousand of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum PostOutcome {
    Accepted,
    /// A status that may be about the one message.
    Rejected,
    /// A status that is about the endpoint.
    Overloaded,
    TimedOut,
    Unreachable,
    Broken,
    Forbidden,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: PostOutcome,
}

/// Counters of pushing. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct PushMetrics(Arc<Figures>);

#[derive(Debug)]
struct Figures {
    posts: Family<Ended, Counter>,
    answer: Histogram,
    in_flight: Gauge,
    unsettled: Counter,
}

impl Default for PushMetrics {
    fn default() -> Self {
        // 1 ms to 100 s, each two thirds more than the one before: an endpoint next door, and the longest time-out.
        let buckets = prometheus_client::metrics::histogram::exponential_buckets(0.001, 5.0 / 3.0, 24);
        Self(Arc::new(Figures {
            posts: Family::default(),
            answer: Histogram::new(buckets),
            in_flight: Gauge::default(),
            unsettled: Counter::default(),
        }))
    }
}

impl PushMetrics {
    /// Adds all figures to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let m = &self.0;
        registry.register("brigade_push_posts", "Posts to endpoints, by how they ended", m.posts.clone());
        let (name, help) = ("brigade_push_answer", "Time from a post to the status of its answer");
        registry.register_with_unit(name, help, Unit::Seconds, m.answer.clone());
        registry.register("brigade_push_in_flight", "Posts in flight now", m.in_flight.clone());
        let help = "Posted messages whose acceptance or delay could not be recorded and that are posted again";
        registry.register("brigade_push_unsettled_messages", help, m.unsettled.clone());
    }

    /// Counts a post as in flight for as long as the result lives.
    pub(crate) fn begin(&self) -> InFlight {
        self.0.in_flight.inc();
        InFlight(self.clone())
    }

    pub(crate) fn answered(&self, sent: &Result<Answer, SendError>, took: Duration) {
        let outcome = match sent {
            Ok(answer) => {
                self.0.answer.observe(took.as_secs_f64());
                match answer.status {
                    status if status.is_success() => PostOutcome::Accepted,
                    status if is_overload(status) => PostOutcome::Overloaded,
                    _ => PostOutcome::Rejected,
                }
            }
            Err(SendError::Forbidden(_)) => PostOutcome::Forbidden,
            Err(SendError::Unreachable(_)) => PostOutcome::Unreachable,
            Err(SendError::TimedOut) => PostOutcome::TimedOut,
            Err(SendError::Broken(_)) => PostOutcome::Broken,
        };
        self.0.posts.get_or_create(&Ended { outcome }).inc();
    }

    pub(crate) fn unsettled(&self, messages: usize) {
        self.0.unsettled.inc_by(messages as u64);
    }
}

/// A post in flight; it is none any more when dropped, even in the middle.
#[derive(Debug)]
pub(crate) struct InFlight(PushMetrics);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.in_flight.dec();
    }
}
