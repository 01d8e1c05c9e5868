//! Counting requests and bytes by operation, region, component and outcome: they are the bill.

use std::{
    array,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

use tokio::time::Instant;

use super::error::{Operation, StoreErrorKind};
use crate::names::RegionName;

/// Which part of Brigade made a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// Appending entries, and following the journal.
    Journal,
    /// Takeover and recovery of a shard.
    Recovery,
    /// Snapshots and floors.
    Snapshot,
    /// Segments that a node writes for a leader elsewhere.
    Segment,
    /// Messages read for consumers.
    Read,
    /// Compaction, retention and deletion.
    Compactor,
    /// Catching up a region, and scrubbing.
    Repair,
    /// Membership and placement.
    Cluster,
    /// `brigade bucket`: provisioning and the conformance check.
    Bucket,
}

const COMPONENTS: usize = Component::Bucket as usize + 1;

impl Component {
    /// As in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Recovery => "recovery",
            Self::Snapshot => "snapshot",
            Self::Segment => "segment",
            Self::Read => "read",
            Self::Compactor => "compactor",
            Self::Repair => "repair",
            Self::Cluster => "cluster",
            Self::Bucket => "bucket",
        }
    }
}

/// How a request ended, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Absent,
    Conflict,
    Timeout,
    Throttled,
    Failed,
    /// Its caller stopped waiting.
    Abandoned,
}

const OUTCOMES: usize = Outcome::Abandoned as usize + 1;

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Absent => "absent",
            Self::Conflict => "conflict",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

impl From<StoreErrorKind> for Outcome {
    fn from(kind: StoreErrorKind) -> Self {
        match kind {
            StoreErrorKind::Conflict => Self::Conflict,
            StoreErrorKind::Timeout => Self::Timeout,
            StoreErrorKind::Throttled => Self::Throttled,
            _ => Self::Failed,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    region: String,
    component: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByteLabels {
    region: String,
    component: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LatencyLabels {
    operation: &'static str,
    region: String,
}

#[derive(Clone, Debug)]
struct LatencyBuckets;

impl MetricConstructor<Histogram> for LatencyBuckets {
    fn new_metric(&self) -> Histogram {
        // From a local directory (half a millisecond) to the request time-out.
        Histogram::new([
            0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5,
            5.0, 10.0,
        ])
    }
}

/// Requests and bytes since the start, over all regions and components.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreTotals {
    /// PUT requests.
    pub puts: u64,
    /// GET requests, whole or ranged.
    pub gets: u64,
    /// LIST requests, one for each thousand keys or part of it.
    pub lists: u64,
    /// DELETE requests.
    pub deletes: u64,
    /// Bytes of bodies sent.
    pub bytes_put: u64,
    /// Bytes of bodies received.
    pub bytes_got: u64,
}

#[derive(Debug, Default)]
struct Totals {
    puts: AtomicU64,
    gets: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    bytes_put: AtomicU64,
    bytes_got: AtomicU64,
}

/// Metrics of all stores of a node. Clones share their counts.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    requests: Family<RequestLabels, Counter>,
    sent: Family<ByteLabels, Counter>,
    received: Family<ByteLabels, Counter>,
    latency: Family<LatencyLabels, Histogram, LatencyBuckets>,
    totals: Arc<Totals>,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl StoreMetrics {
    /// Metrics that have counted nothing yet.
    pub fn new() -> Self {
        Self {
            requests: Family::default(),
            sent: Family::default(),
            received: Family::default(),
            latency: Family::new_with_constructor(LatencyBuckets),
            totals: Arc::default(),
        }
    }

    /// Adds the families to a registry, under names that begin with `brigade_store_`.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Requests to object storage, every attempt counted";
        registry.register("brigade_store_requests", help, self.requests.clone());
        let help = "Bytes sent to object storage in bodies";
        registry.register_with_unit("brigade_store_sent", help, Unit::Bytes, self.sent.clone());
        let help = "Bytes received from object storage in bodies";
        registry.register_with_unit("brigade_store_received", help, Unit::Bytes, self.received.clone());
        let help = "Time of one request to object storage, failed ones included";
        registry.register_with_unit("brigade_store_request_duration", help, Unit::Seconds, self.latency.clone());
    }

    /// Requests and bytes so far.
    pub fn totals(&self) -> StoreTotals {
        let totals = &self.totals;
        StoreTotals {
            puts: totals.puts.load(Ordering::Relaxed),
            gets: totals.gets.load(Ordering::Relaxed),
            lists: totals.lists.load(Ordering::Relaxed),
            deletes: totals.deletes.load(Ordering::Relaxed),
            bytes_put: totals.bytes_put.load(Ordering::Relaxed),
            bytes_got: totals.bytes_got.load(Ordering::Relaxed),
        }
    }
}

const OPERATIONS: [Operation; 4] = [Operation::Put, Operation::Get, Operation::List, Operation::Delete];

/// The metrics of one region, resolved once so that counting a request takes no lock and allocates nothing.
#[derive(Debug)]
pub(super) struct RegionMetrics {
    region: RegionName,
    metrics: StoreMetrics,
    requests: [[[OnceLock<Counter>; OUTCOMES]; COMPONENTS]; OPERATIONS.len()],
    sent: [OnceLock<Counter>; COMPONENTS],
    received: [OnceLock<Counter>; COMPONENTS],
    latency: [OnceLock<Histogram>; OPERATIONS.len()],
}

impl RegionMetrics {
    pub(super) fn new(region: RegionName, metrics: StoreMetrics) -> Self {
        Self {
            region,
            metrics,
            requests: array::from_fn(|_| array::from_fn(|_| array::from_fn(|_| OnceLock::new()))),
            sent: array::from_fn(|_| OnceLock::new()),
            received: array::from_fn(|_| OnceLock::new()),
            latency: array::from_fn(|_| OnceLock::new()),
        }
    }

    /// Begins to time a request. It is counted even if its caller stops waiting, since the store has seen it.
    pub(super) fn begin(&self, operation: Operation, component: Component) -> Attempt<'_> {
        Attempt { metrics: self, operation, component, started: Instant::now(), outcome: Outcome::Abandoned, count: 1 }
    }

    /// Counts a page of a listing that was asked for at that time.
    pub(super) fn page(&self, component: Component, outcome: Outcome, asked: Instant) {
        self.requests(Operation::List, component, outcome, 1);
        self.latency(Operation::List, asked.elapsed());
    }

    /// Counts requests of one operation with the same outcome.
    fn requests(&self, operation: Operation, component: Component, outcome: Outcome, count: u64) {
        let (row, total) = match operation {
            Operation::Put => (0, &self.metrics.totals.puts),
            Operation::Get => (1, &self.metrics.totals.gets),
            Operation::List => (2, &self.metrics.totals.lists),
            Operation::Delete => (3, &self.metrics.totals.deletes),
            Operation::Open => return,
        };
        total.fetch_add(count, Ordering::Relaxed);
        let counter = self.requests[row][component as usize][outcome as usize].get_or_init(|| {
            self.metrics.requests.get_or_create_owned(&RequestLabels {
                operation: operation.as_str(),
                region: self.region.to_string(),
                component: component.as_str(),
                outcome: outcome.as_str(),
            })
        });
        counter.inc_by(count);
    }

    /// Notes how long one request took.
    fn latency(&self, operation: Operation, elapsed: Duration) {
        let Some(row) = OPERATIONS.iter().position(|known| *known == operation) else { return };
        let histogram = self.latency[row].get_or_init(|| {
            let labels = LatencyLabels { operation: operation.as_str(), region: self.region.to_string() };
            self.metrics.latency.get_or_create_owned(&labels)
        });
        histogram.observe(elapsed.as_secs_f64());
    }

    pub(super) fn sent(&self, component: Component, bytes: u64) {
        self.metrics.totals.bytes_put.fetch_add(bytes, Ordering::Relaxed);
        self.bytes(&self.sent, &self.metrics.sent, component, bytes);
    }

    pub(super) fn received(&self, component: Component, bytes: u64) {
        self.metrics.totals.bytes_got.fetch_add(bytes, Ordering::Relaxed);
        self.bytes(&self.received, &self.metrics.received, component, bytes);
    }

    fn bytes(
        &self,
        cells: &[OnceLock<Counter>; COMPONENTS],
        family: &Family<ByteLabels, Counter>,
        component: Component,
        bytes: u64,
    ) {
        let counter = cells[component as usize].get_or_init(|| {
            let labels = ByteLabels { region: self.region.to_string(), component: component.as_str() };
            family.get_or_create_owned(&labels)
        });
        counter.inc_by(bytes);
    }
}

/// A request under way.
pub(super) struct Attempt<'a> {
    metrics: &'a RegionMetrics,
    operation: Operation,
    component: Component,
    started: Instant,
    outcome: Outcome,
    count: u64,
}

impl Attempt<'_> {
    pub(super) fn end(self, outcome: Outcome) {
        self.end_many(outcome, 1);
    }

    /// Ends what were really several requests.
    pub(super) fn end_many(mut self, outcome: Outcome, count: u64) {
        self.outcome = outcome;
        self.count = count;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.metrics.requests(self.operation, self.component, self.outcome, self.count);
        self.metrics.latency(self.operation, self.started.elapsed());
    }
}
