//! Figures of this crate, named `brigade_ingest_…`.

mod queue;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use brigade_index::shard::ProposeError;
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{IngestError, IngestSettings, admission::Gate, cache::BatchCache, open::Trigger};

/// Why publish requests were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum RefusedReason {
    Busy,
    TooLarge,
    NotReady,
    OutcomeUnknown,
    TimedOut,
    SequenceTooOld,
    IdentityReused,
    Rejected,
}

impl RefusedReason {
    fn of_propose(error: &ProposeError) -> Self {
        if matches!(error, ProposeError::Unknown(_)) { Self::OutcomeUnknown } else { Self::NotReady }
    }

    fn of(error: &IngestError) -> Self {
        match error {
            IngestError::Busy { .. } => Self::Busy,
            IngestError::TooLarge { .. } => Self::TooLarge,
            IngestError::Propose(error) => Self::of_propose(error),
            IngestError::TimedOut(_) => Self::TimedOut,
            IngestError::SequenceTooOld => Self::SequenceTooOld,
            IngestError::IdentityReused => Self::IdentityReused,
            _ => Self::Rejected,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: RefusedReason,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Flushed {
    trigger: FlushTrigger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum FlushTrigger {
    Idle,
    Full,
    Linger,
    Drain,
}

/// Counters of publishing, reading and their cache. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct IngestMetrics(Arc<Figures>);

#[derive(Debug)]
struct Figures {
    requests: Counter,
    messages: Counter,
    bytes: Counter,
    batches: Counter,
    batch_bytes: Counter,
    duplicates: Counter,
    refused: Family<Refused, Counter>,
    flushes: Family<Flushed, Counter>,
    ack: Histogram,
    gate: Arc<Gate>,
    /// The cache of the present reign.
    cache: Mutex<Weak<BatchCache>>,
    cache_hits: Counter,
    cache_misses: Counter,
    read_messages: Counter,
    read_bytes: Counter,
    queue: queue::QueueFigures,
}

impl IngestMetrics {
    /// Figures, and the gate that bounds the memory of publishes in flight. Both go on from reign to reign.
    pub fn new(settings: &IngestSettings) -> Self {
        // 0.1 ms to 30 s in steps of a half: a local disk at one end, an outage at the other.
        let buckets = prometheus_client::metrics::histogram::exponential_buckets(0.000_1, 1.5, 32);
        Self(Arc::new(Figures {
            requests: Counter::default(),
            messages: Counter::default(),
            bytes: Counter::default(),
            batches: Counter::default(),
            batch_bytes: Counter::default(),
            duplicates: Counter::default(),
            refused: Family::default(),
            flushes: Family::default(),
            ack: Histogram::new(buckets),
            gate: Gate::new(settings.publish_memory_bytes),
            cache: Mutex::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            read_messages: Counter::default(),
            read_bytes: Counter::default(),
            queue: queue::QueueFigures::default(),
        }))
    }

    /// Adds all figures to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let m = &self.0;
        registry.register("brigade_ingest_published_requests", "Publish requests acknowledged", m.requests.clone());
        registry.register("brigade_ingest_published_messages", "Messages acknowledged", m.messages.clone());
        let (name, help) = ("brigade_ingest_published", "Bytes of keys, values and headers acknowledged");
        registry.register_with_unit(name, help, Unit::Bytes, m.bytes.clone());
        registry.register("brigade_ingest_batches", "Batches committed", m.batches.clone());
        let (name, help) = ("brigade_ingest_batches", "Encoded bytes of committed batches");
        registry.register_with_unit(name, help, Unit::Bytes, m.batch_bytes.clone());
        let help = "Publish requests that had been stored before";
        registry.register("brigade_ingest_duplicate_requests", help, m.duplicates.clone());
        registry.register("brigade_ingest_refused_requests", "Publish requests refused", m.refused.clone());
        registry.register("brigade_ingest_flushes", "Proposals made, by what caused them", m.flushes.clone());
        let (name, help) = ("brigade_ingest_ack", "Time from a parsed publish request to its acknowledgement");
        registry.register_with_unit(name, help, Unit::Seconds, m.ack.clone());
        registry.register(
            "brigade_ingest_cache_hits",
            "Batches and parts of archive files found in the cache",
            m.cache_hits.clone(),
        );
        registry.register(
            "brigade_ingest_cache_misses",
            "Batches and parts of archive files fetched from the store",
            m.cache_misses.clone(),
        );
        registry.register("brigade_ingest_read_messages", "Messages read", m.read_messages.clone());
        let (name, help) = ("brigade_ingest_read", "Bytes of keys, values and headers read");
        registry.register_with_unit(name, help, Unit::Bytes, m.read_bytes.clone());
        m.queue.register(registry);
        registry.register_collector(Box::new(Held(self.clone())));
    }

    /// The cache whose size is shown.
    pub(crate) fn watch(&self, cache: &Arc<BatchCache>) {
        *self.0.cache.lock() = Arc::downgrade(cache);
    }

    /// Admission of publishes.
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.0.gate
    }

    pub(crate) fn refused(&self, error: &IngestError) {
        self.0.refused.get_or_create(&Refused { reason: RefusedReason::of(error) }).inc();
    }

    pub(crate) fn flushed(&self, trigger: Trigger) {
        let trigger = match trigger {
            Trigger::Idle => FlushTrigger::Idle,
            Trigger::Full => FlushTrigger::Full,
            Trigger::Linger => FlushTrigger::Linger,
            Trigger::Drain => FlushTrigger::Drain,
        };
        self.0.flushes.get_or_create(&Flushed { trigger }).inc();
    }

    pub(crate) fn acknowledged(&self, messages: usize, bytes: usize, took: Duration) {
        self.0.requests.inc();
        self.0.messages.inc_by(messages as u64);
        self.0.bytes.inc_by(bytes as u64);
        self.0.ack.observe(took.as_secs_f64());
    }
    pub(crate) fn duplicate(&self) {
        self.0.duplicates.inc();
    }

    pub(crate) fn batch_committed(&self, bytes: usize) {
        self.0.batches.inc();
        self.0.batch_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn cache_hit(&self) {
        self.0.cache_hits.inc();
    }

    pub(crate) fn cache_miss(&self) {
        self.0.cache_misses.inc();
    }

    pub(crate) fn read(&self, messages: usize, bytes: usize) {
        self.0.read_messages.inc_by(messages as u64);
        self.0.read_bytes.inc_by(bytes as u64);
    }
}

/// What is held in memory, asked for only when somebody looks.
#[derive(Debug)]
struct Held(IngestMetrics);

impl Collector for Held {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name, help, bytes: u64| {
            let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, Some(&Unit::Bytes), gauge.metric_type())?)
        };
        gauge("brigade_ingest_admitted", "Bytes of publish requests held now", self.0.0.gate.used() as u64)?;
        let cached = self.0.0.cache.lock().upgrade().map_or(0, |cache| cache.held());
        gauge("brigade_ingest_cache", "Bytes of messages in the cache", cached)
    }
}
