//! The compactor: how it comes on, and a run that is asked for.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use brigade_compactor::{
    metrics::Backlog,
    status::{CompactorStatus, JobTotals, RunReport},
    worker::RunError,
};
use brigade_index::{names::TopicName, shard::RepairProgress};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    answer, body,
    call::Call,
    error::{ApiError, kinds},
    params::MAX_WAIT_MS,
    topics::body_time,
};
use crate::serve::Leading;

/// How long a run is waited for when the request does not say, in milliseconds: shorter than clients and proxies wait.
const WAIT_MS: u64 = 20_000;

/// The compactor.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CompactorView {
    /// Whether it is switched on.
    enabled: bool,
    /// The job under way; `null` when there is none.
    job: Option<JobView>,
    /// What jobs of each kind have done since the process started.
    jobs: Vec<JobTotalsView>,
    /// Bytes of archive files written for each byte that was written into the archive the first time, since the process
    /// started; `null` before there were any.
    write_amplification: Option<f64>,
    backlog: BacklogView,
    /// Bytes that a job may hold in memory.
    memory_bytes: u64,
    /// The most that one ever held.
    memory_peak_bytes: u64,
    /// How repairing regions comes on.
    repairs: Vec<RepairView>,
    /// The last thing that went wrong since this node leads; `null` when nothing did.
    last_error: Option<ErrorView>,
}

/// A job that is under way.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobView {
    /// `archive`, `merge` or `compact`.
    kind: &'static str,
    /// The topic that it works on, or the first of several; `null` if it is gone.
    topic: Option<String>,
    /// Partitions that it works on.
    partitions: usize,
    /// Bytes that it has to read, about.
    input_bytes: u64,
    /// When it began, milliseconds since the Unix epoch.
    since_ms: i64,
}

/// What jobs of a kind have done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobTotalsView {
    /// `archive`, `merge` or `compact`.
    kind: &'static str,
    done: u64,
    failed: u64,
    read_bytes: u64,
    /// Bytes of archive files, each file once, however many regions it went to.
    written_bytes: u64,
}

/// What waits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BacklogView {
    /// Bytes of messages in the journal that are not archived.
    bytes: u64,
    /// Runs of messages in the journal that are not archived.
    runs: u64,
    /// Claims that are not settled.
    claims: u64,
    /// Objects that are to be deleted.
    garbage: u64,
    /// Bytes of them, as far as they are known.
    garbage_bytes: u64,
}

/// How repairing a region comes on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RepairView {
    region: String,
    /// Archive files that it misses.
    files_missing: u64,
    /// Bytes of those.
    bytes_missing: u64,
    /// Copies of entries that it misses.
    copies_missing: u64,
    copied_objects: u64,
    copied_bytes: u64,
    bytes_per_second: u64,
    /// How long the rest will take at that rate, in milliseconds; `null` where that cannot be said.
    remaining_ms: Option<u64>,
}

/// Something that went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorView {
    /// When, milliseconds since the Unix epoch.
    time_ms: i64,
    problem: String,
}

/// What a run is to work on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunBody {
    /// Only this topic is archived, merged and compacted, as with the parameter of that name; all of them by default.
    topic: Option<String>,
}

/// A run that was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunView {
    /// Its number, by which it can be waited for again.
    run: u64,
    /// Whether it has ended; then everything else is there.
    done: bool,
    #[serde(flatten)]
    report: Option<ReportView>,
}

/// What came of a run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReportView {
    /// Archive jobs done.
    archived: u64,
    /// Merges done.
    merged: u64,
    /// Key compactions done.
    compacted: u64,
    /// Partitions of which the beginning was dropped.
    trimmed: u64,
    /// Archive files deleted.
    deleted_files: u64,
    /// Objects of the journal deleted.
    deleted_objects: u64,
    /// What went wrong; it is tried again by itself.
    problems: Vec<String>,
    /// What a region that is away has not got, though everything was done; it gets it when it is back.
    warnings: Vec<String>,
}

/// `GET /v1/compactor`
pub(super) async fn get(leading: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    call.query()?.finish()?;
    answer::value(StatusCode::OK, &view(&leading))
}

/// `POST /v1/compactor/run`
pub(super) async fn run(leading: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let mut query = call.query()?;
    let named = query.text("topic").map(|name| name.to_string());
    let known = query.number("run", u64::MAX)?;
    let wait = Duration::from_millis(query.number("wait", MAX_WAIT_MS)?.unwrap_or(WAIT_MS));
    query.finish()?;
    let Call { parts, body, .. } = call;
    let asked = body::document::<RunBody>(body, &parts.headers, body_time(&leading)).await?;
    let topic = match (named, asked.topic) {
        (Some(here), Some(there)) if here != there => {
            return Err(ApiError::parameter("topic", "differs from that of the body; name one topic, once"));
        }
        (here, there) => here.or(there).map(|name| TopicName::new(&name)).transpose()?,
    };
    let run = match (known, topic) {
        (Some(_), Some(_)) => return Err(ApiError::parameter("topic", "is for a new run; leave it or run out")),
        (Some(run), None) => run,
        (None, topic) => {
            let topic = topic.map(|name| topic_id(&leading, &name)).transpose()?;
            leading.compactor.run_now(topic).map_err(|error| not_begun(&leading, error))?
        }
    };
    let waiting = leading.compactor.wait(run, wait);
    let ended = tokio::select! {
        biased;
        ended = waiting => ended,
        () = leading.draining.cancelled() => return Err(ApiError::new(kinds::SHUTTING_DOWN, "the node is shutting down")),
    };
    let not_known = || ApiError::new(kinds::RUN_NOT_FOUND, format!("this leader knows of no run {run}"));
    let report = ended.ok_or_else(not_known)?.map(ReportView::from);
    let status = if report.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    answer::value(status, &RunView { run, done: report.is_some(), report })
}

fn topic_id(leading: &Leading, name: &TopicName) -> Result<brigade_index::ids::TopicId, ApiError> {
    let id = leading.shard.state().topic_named(name).map(|topic| topic.id);
    id.ok_or_else(|| ApiError::new(kinds::TOPIC_NOT_FOUND, format!("there is no topic {name}")))
}

/// Why a run was not begun. Where there is no compactor the shard says why: its reign is over, or too few regions take
/// writes.
fn not_begun(leading: &Leading, error: RunError) -> ApiError {
    let kind = match (error, leading.shard.ready()) {
        (RunError::Disabled, _) => kinds::COMPACTOR_DISABLED,
        (RunError::Busy, _) => kinds::TOO_BUSY,
        (RunError::Ended, Err(why)) => return why.into(),
        (RunError::Ended, Ok(())) => kinds::NOT_LEADER,
    };
    ApiError::new(kind, error.to_string())
}

fn view(leading: &Leading) -> CompactorView {
    let status = leading.compactor.status();
    let CompactorStatus { enabled, job, jobs, write_amplification, backlog, last_error, .. } = status;
    let state = leading.shard.state();
    let job = job.map(|job| JobView {
        kind: job.kind.as_str(),
        topic: state.topic(job.topic).map(|topic| topic.name.to_string()),
        partitions: job.partitions,
        input_bytes: job.input_bytes,
        since_ms: job.since_ms,
    });
    CompactorView {
        enabled,
        job,
        jobs: jobs.into_iter().map(JobTotalsView::from).collect(),
        write_amplification,
        backlog: backlog.into(),
        memory_bytes: status.memory_bytes,
        memory_peak_bytes: status.memory_peak_bytes,
        repairs: status.repairs.into_iter().map(RepairView::from).collect(),
        last_error: last_error.map(|error| ErrorView { time_ms: error.time_ms, problem: error.problem }),
    }
}

impl From<JobTotals> for JobTotalsView {
    fn from(totals: JobTotals) -> Self {
        let JobTotals { kind, done, failed, read_bytes, written_bytes } = totals;
        Self { kind: kind.as_str(), done, failed, read_bytes, written_bytes }
    }
}

impl From<Backlog> for BacklogView {
    fn from(backlog: Backlog) -> Self {
        let Backlog { bytes, runs, claims, garbage, garbage_bytes } = backlog;
        Self { bytes, runs, claims, garbage, garbage_bytes }
    }
}

impl From<RepairProgress> for RepairView {
    fn from(repair: RepairProgress) -> Self {
        Self {
            region: repair.name.to_string(),
            files_missing: repair.files_missing,
            bytes_missing: repair.bytes_missing,
            copies_missing: repair.copies_missing,
            copied_objects: repair.copied_objects,
            copied_bytes: repair.copied_bytes,
            bytes_per_second: repair.bytes_per_second,
            remaining_ms: repair.remaining_ms,
        }
    }
}

impl From<RunReport> for ReportView {
    fn from(report: RunReport) -> Self {
        let RunReport { archived, merged, compacted, trimmed, deleted_files, deleted_objects, problems, warnings } =
            report;
        Self { archived, merged, compacted, trimmed, deleted_files, deleted_objects, problems, warnings }
    }
}
