//! Figures of the compactor, named `brigade_compactor_…`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Kinds of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// Journal to archive files.
    Archive,
    /// Archive files to larger ones.
    Merge,
    /// Key compaction.
    Compact,
}

impl JobKind {
    /// As in metrics, logs and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Merge => "merge",
            Self::Compact => "compact",
        }
    }
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobOutcome {
    Done,
    Failed,
    /// What it had claimed was gone, or the node led no more.
    Superseded,
}

impl JobOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    kind: &'static str,
    outcome: &'static str,
}

impl Of {
    const fn kind(kind: JobKind) -> Self {
        Self { kind: kind.as_str() }
    }
}

impl Ended {
    const fn of(kind: JobKind, outcome: JobOutcome) -> Self {
        Self { kind: kind.as_str(), outcome: outcome.as_str() }
    }
}

/// Counters of the compactor. Cheap to clone; clones count together, from reign to reign.
#[derive(Clone, Debug)]
pub struct CompactorMetrics(Arc<Figures>);

#[derive(Debug)]
struct Figures {
    read: Family<Of, Counter>,
    written: Family<Of, Counter>,
    replicated: Family<Of, Counter>,
    jobs: Family<Ended, Counter>,
    duration: Family<Of, Histogram>,
    held: Gauge,
    held_peak: AtomicU64,
    backlog_bytes: Gauge,
    backlog_runs: Gauge,
    claims: Gauge,
    garbage: Gauge,
    garbage_bytes: Gauge,
}

/// What was moved so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes read.
    pub read: u64,
    /// Bytes of archive files written, each file once, however many regions it went to.
    pub written: u64,
}

/// What waits in the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Bytes in the journal that are not archived.
    pub bytes: u64,
    /// Runs in the journal that are not archived.
    pub runs: u64,
    /// Claims that are not settled.
    pub claims: u64,
    /// Objects that are to be deleted.
    pub garbage: u64,
    /// Their bytes, as far as they are known.
    pub garbage_bytes: u64,
}

impl Default for CompactorMetrics {
    fn default() -> Self {
        // 10 ms to 40 minutes, doubling.
        let duration = || Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(0.01, 2.0, 18));
        Self(Arc::new(Figures {
            read: Family::default(),
            written: Family::default(),
            replicated: Family::default(),
            jobs: Family::default(),
            duration: Family::new_with_constructor(duration),
            held: Gauge::default(),
            held_peak: AtomicU64::new(0),
            backlog_bytes: Gauge::default(),
            backlog_runs: Gauge::default(),
            claims: Gauge::default(),
            garbage: Gauge::default(),
            garbage_bytes: Gauge::default(),
        }))
    }
}

impl CompactorMetrics {
    /// Adds all figures to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let m = &self.0;
        let (name, help) = ("brigade_compactor_read", "Bytes that jobs read, by kind of job");
        registry.register_with_unit(name, help, Unit::Bytes, m.read.clone());
        let (name, help) =
            ("brigade_compactor_written", "Bytes of archive files written, each file once, by kind of job");
        registry.register_with_unit(name, help, Unit::Bytes, m.written.clone());
        let (name, help) = ("brigade_compactor_uploaded", "Bytes of archive files sent to all regions, by kind of job");
        registry.register_with_unit(name, help, Unit::Bytes, m.replicated.clone());
        registry.register("brigade_compactor_jobs", "Jobs, by kind and how they ended", m.jobs.clone());
        let (name, help) = ("brigade_compactor_job_duration", "How long jobs took that were done, by kind");
        registry.register_with_unit(name, help, Unit::Seconds, m.duration.clone());
        let (name, help) = ("brigade_compactor_memory", "Bytes that the job under way holds");
        registry.register_with_unit(name, help, Unit::Bytes, m.held.clone());
        let (name, help) = ("brigade_compactor_backlog", "Bytes of messages in the journal that are not archived");
        registry.register_with_unit(name, help, Unit::Bytes, m.backlog_bytes.clone());
        let help = "Runs of messages in the journal that are not archived";
        registry.register("brigade_compactor_backlog_runs", help, m.backlog_runs.clone());
        registry.register("brigade_compactor_claims", "Claims that are not settled", m.claims.clone());
        registry.register("brigade_compactor_garbage", "Objects that are to be deleted", m.garbage.clone());
        let (name, help) = ("brigade_compactor_garbage", "Bytes of objects that are to be deleted, as far as known");
        registry.register_with_unit(name, help, Unit::Bytes, m.garbage_bytes.clone());
    }

    /// A job has read bytes.
    pub fn read(&self, kind: JobKind, bytes: u64) {
        self.0.read.get_or_create(&Of::kind(kind)).inc_by(bytes);
    }

    /// An archive file was written, to at least a quorum.
    pub fn written(&self, kind: JobKind, bytes: u64) {
        self.0.written.get_or_create(&Of::kind(kind)).inc_by(bytes);
    }

    /// Bytes of an archive file were sent to a region.
    pub fn uploaded(&self, kind: JobKind, bytes: u64) {
        self.0.replicated.get_or_create(&Of::kind(kind)).inc_by(bytes);
    }

    pub(crate) fn ended(&self, kind: JobKind, outcome: JobOutcome, took: Duration) {
        self.0.jobs.get_or_create(&Ended::of(kind, outcome)).inc();
        if outcome == JobOutcome::Done {
            self.0.duration.get_or_create(&Of::kind(kind)).observe(took.as_secs_f64());
        }
    }

    /// The job under way holds so many bytes: what is on its way in, row groups in progress, and what is on its way out.
    pub fn holds(&self, bytes: usize) {
        self.0.held.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.0.held_peak.fetch_max(bytes as u64, Relaxed);
    }

    /// The most bytes that a job ever held.
    pub fn held_peak(&self) -> u64 {
        self.0.held_peak.load(Relaxed)
    }

    pub(crate) fn waits(&self, backlog: Backlog) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.0.backlog_bytes.set(number(backlog.bytes));
        self.0.backlog_runs.set(number(backlog.runs));
        self.0.claims.set(number(backlog.claims));
        self.0.garbage.set(number(backlog.garbage));
        self.0.garbage_bytes.set(number(backlog.garbage_bytes));
    }

    /// What jobs of a kind have moved since the process started.
    pub fn moved(&self, kind: JobKind) -> Moved {
        let of = Of::kind(kind);
        Moved { read: self.0.read.get_or_create(&of).get(), written: self.0.written.get_or_create(&of).get() }
    }

    /// Jobs of a kind that were done, and that were not, since the process started.
    pub fn jobs(&self, kind: JobKind) -> (u64, u64) {
        let count = |outcome| self.0.jobs.get_or_create(&Ended::of(kind, outcome)).get();
        (count(JobOutcome::Done), count(JobOutcome::Failed) + count(JobOutcome::Superseded))
    }

    /// Bytes of archive files written for each byte that was written into the archive the first time, since the process
    /// started; `None` before there were any.
    pub fn write_amplification(&self) -> Option<f64> {
        let [first, merged, compacted] =
            [JobKind::Archive, JobKind::Merge, JobKind::Compact].map(|kind| self.moved(kind).written as f64);
        (first > 0.0).then(|| (first + merged + compacted) / first)
    }
}
