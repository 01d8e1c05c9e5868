//! The compactor of a shard: a task beside its leader, for as long as the reign lasts.
//!
//! It looks at the state whenever that has moved, or when time makes something due, and carries out what is planned, one
//! job at a time. Correctness never depends on it being alone: every command checks what it was made for, and what one
//! that died has begun is released or finished by the next.

mod apart;
mod breaks;
pub(crate) mod failures;
mod mending;
mod round;
mod views;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use brigade_index::{
    archive::WriterSettings,
    command::Command,
    env::Env,
    ids::{Offset, Partition, TopicId},
    shard::{Shard, ShardStatus, TruncateLimits},
    state::Topic,
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use self::{failures::Failures, views::Views};
use crate::{
    budget::Budget,
    deletion,
    job::JobContext,
    metrics::{CompactorMetrics, JobKind},
    plan::{Demand, Memory, PlanSettings},
    status::{CompactorStatus, JobTotals, LastError, RunReport, RunningJob, Runs, backlog},
};

/// How often it is looked whether the state has moved. Looking costs a few loads; it sends no request to the store.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Plans are made at most so often while messages keep coming.
const PLAN_EVERY: Duration = Duration::from_secs(1);

/// After so long of planning and working, what else there is to do has its turn.
const LONG: Duration = Duration::from_secs(60);

/// Up to where everything is to be done at once, of each partition that is asked for.
type Goals = BTreeMap<(TopicId, Partition), Offset>;

/// How long the claims of a job that is broken off may take to be released.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs that may wait for their turn.
const WAITING_RUNS: usize = 16;

/// What the compactor goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactorSettings {
    /// Whether it works at all.
    pub enabled: bool,
    /// What is planned.
    pub plan: PlanSettings,
    /// How files are written.
    pub writer: WriterSettings,
    /// Bytes that a job may hold.
    pub memory_bytes: usize,
    /// Bytes of a part of a file that is not sent as one: S3 asks for at least 5 MiB, and for at most 10,000 parts.
    pub part_bytes: usize,
    /// Bytes a second that jobs may read and write; 0 for no limit.
    pub bytes_per_second: u64,
    /// Bytes a second that may be copied to regions that miss something; 0 for no limit.
    pub repair_bytes_per_second: u64,
    /// How long files that nothing refers to stay for those who still read them.
    pub delete_delay: Duration,
    /// How soon things are done again.
    pub pace: Pace,
}

/// How soon things are done again. Simulations are in more of a hurry than a cluster that pays for its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// So many entries that nobody needs any more are worth a snapshot, behind which they are deleted; more of them if a
    /// snapshot is large, by its KiB.
    pub dead_entries: u64,
    /// Views of a topic are published at most so often: each time takes some requests.
    pub views_every: Duration,
    /// Pause after housekeeping or repair failed, or a region was out of reach.
    pub pause: Duration,
    /// First and longest pause after a job failed; it doubles with each.
    pub pauses: (Duration, Duration),
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            dead_entries: 1_000,
            views_every: Duration::from_secs(30),
            pause: Duration::from_secs(30),
            pauses: (Duration::from_secs(10), Duration::from_secs(600)),
        }
    }
}

impl Default for CompactorSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            plan: PlanSettings::default(),
            writer: WriterSettings::default(),
            memory_bytes: 256 << 20,
            part_bytes: 8 << 20,
            bytes_per_second: 64 << 20,
            repair_bytes_per_second: 64 << 20,
            delete_delay: Duration::from_secs(60),
            pace: Pace::default(),
        }
    }
}

impl CompactorSettings {
    /// The plan, with jobs that fit into the memory: half of it for what comes out of a job, the rest for what goes in.
    fn fitting_plan(&self) -> PlanSettings {
        let half = (self.memory_bytes as u64 / 2).max(1);
        let job_bytes = self.plan.job_bytes.min(half);
        let file_bytes = self.plan.file_bytes.min(job_bytes);
        PlanSettings { job_bytes, file_bytes, ..self.plan.clone() }
    }

    /// Row groups such that a merge, which holds one of them twice and a part of the file before, fits into the memory.
    fn fitting_writer(&self) -> WriterSettings {
        let row_group_bytes = self.writer.row_group_bytes.min((self.memory_bytes / 8).max(1));
        WriterSettings { row_group_bytes, ..self.writer.clone() }
    }
}

/// A handle to the compactor of a reign. Cheap to clone.
#[derive(Clone)]
pub struct Compactor(Arc<Shared>);

struct Shared {
    shard: Shard,
    settings: CompactorSettings,
    metrics: CompactorMetrics,
    inbox: mpsc::Sender<(u64, Demand)>,
    job: Mutex<Option<RunningJob>>,
    last_error: Mutex<Option<LastError>>,
    runs: Mutex<Runs>,
    ended: Notify,
}

/// Why a run was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The settings switch the compactor off.
    #[error("the compactor of this node is switched off")]
    Disabled,
    /// Too many wait already.
    #[error("{WAITING_RUNS} runs wait already")]
    Busy,
    /// It has ended with the reign, or there is none.
    #[error("this node does not compact the shard")]
    Ended,
}

impl Compactor {
    /// The compactor of a reign, and what does its work.
    pub fn new(shard: Shard, settings: CompactorSettings, metrics: CompactorMetrics, env: Env) -> (Self, Worker) {
        let (sender, inbox) = mpsc::channel(WAITING_RUNS);
        let shared = Arc::new(Shared {
            shard: shard.clone(),
            settings: settings.clone(),
            metrics: metrics.clone(),
            inbox: sender,
            job: Mutex::default(),
            last_error: Mutex::default(),
            runs: Mutex::default(),
            ended: Notify::new(),
        });
        let context = JobContext {
            shard,
            budget: Budget::new(settings.bytes_per_second),
            metrics,
            memory_bytes: settings.memory_bytes,
            aside: 0,
            part_bytes: settings.part_bytes.max(1),
            writer: settings.fitting_writer(),
        };
        let worker = Worker {
            context,
            plan: settings.fitting_plan(),
            memory: Memory::default(),
            env,
            shared: shared.clone(),
            inbox,
            failures: Failures::new(settings.pace.pauses),
            views: Views::new(settings.pace),
            look: Look::default(),
            truncated_behind: None,
        };
        (Self(shared), worker)
    }

    /// Begins to archive everything, or everything of one topic, to merge and drop what can be, and to delete what nothing
    /// refers to. Gives the number of the run.
    ///
    /// # Errors
    /// When the compactor is switched off, busy, or ended.
    pub fn run_now(&self, topic: Option<TopicId>) -> Result<u64, RunError> {
        let shared = &self.0;
        if !shared.settings.enabled {
            return Err(RunError::Disabled);
        }
        let place = shared.inbox.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => RunError::Busy,
            mpsc::error::TrySendError::Closed(()) => RunError::Ended,
        })?;
        let run = shared.runs.lock().begin();
        place.send((run, topic.map_or(Demand::All, Demand::Topic)));
        Ok(run)
    }

    /// Waits for a run to end, for at most `patience`. `None` if there is no such run; within, `None` while it goes on.
    pub async fn wait(&self, run: u64, patience: Duration) -> Option<Option<RunReport>> {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.0.ended.notified();
            let report = self.0.runs.lock().get(run)?.clone();
            let closed = self.0.inbox.is_closed();
            if report.is_some() || closed || timeout_at(deadline, ended).await.is_err() {
                return Some(report);
            }
        }
    }

    /// How it comes on.
    pub fn status(&self) -> CompactorStatus {
        let Shared { shard, settings, metrics, job, last_error, .. } = &*self.0;
        let jobs = [JobKind::Archive, JobKind::Merge, JobKind::Compact].map(|kind| {
            let ((done, failed), moved) = (metrics.jobs(kind), metrics.moved(kind));
            JobTotals { kind, done, failed, read_bytes: moved.read, written_bytes: moved.written }
        });
        CompactorStatus {
            enabled: settings.enabled,
            job: *job.lock(),
            jobs: jobs.to_vec(),
            write_amplification: metrics.write_amplification(),
            backlog: backlog(&shard.state()),
            memory_bytes: settings.memory_bytes as u64,
            memory_peak_bytes: metrics.held_peak(),
            repairs: shard.repairs(),
            last_error: last_error.lock().clone(),
        }
    }
}

/// When to look again, and at what.
#[derive(Default)]
struct Look {
    /// The state as it was planned for last.
    applied: Option<u64>,
    planned: Option<Instant>,
    /// When time makes something due, milliseconds since the Unix epoch.
    due_ms: Option<i64>,
    /// When something that failed, or was put off, is tried again.
    again: Option<Instant>,
}

impl Look {
    fn again_at(&mut self, at: impl IntoIterator<Item = Instant>) {
        self.again = self.again.into_iter().chain(at).min();
    }

    fn due_at(&mut self, at_ms: impl IntoIterator<Item = i64>) {
        self.due_ms = self.due_ms.into_iter().chain(at_ms).min();
    }
}

/// The task of a compactor.
pub struct Worker {
    context: JobContext,
    plan: PlanSettings,
    memory: Memory,
    env: Env,
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<(u64, Demand)>,
    failures: Failures,
    views: Views,
    look: Look,
    /// The snapshot behind which the journal was cut off last, unless there is more to delete.
    truncated_behind: Option<u64>,
}

impl Worker {
    /// Works until `stop` or the end of the reign. What is under way then is broken off: nothing depends on it.
    pub async fn run(mut self, stop: CancellationToken) {
        if !self.shared.settings.enabled {
            return;
        }
        let shard = self.context.shard.clone();
        let (mending, settings) = (stop.child_token(), &self.shared.settings);
        let budget = Budget::new(settings.repair_bytes_per_second);
        let repairing = mending::run(shard.clone(), budget, settings.pace.pause, mending.clone());
        let working = async {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = shard.ended() => {}
                () = self.work() => {}
            }
            mending.cancel();
        };
        tokio::join!(working, repairing);
        self.context.metrics.holds(0);
        self.context.metrics.waits(crate::metrics::Backlog::default());
        self.shared.job.lock().take();
        if shard.leads().is_ok() {
            let _ = timeout(FAREWELL, self.release_claims()).await;
        }
        self.inbox.close();
        self.shared.ended.notify_waiters();
    }

    async fn work(&mut self) {
        loop {
            let demanded = tokio::select! {
                biased;
                demanded = self.inbox.recv() => demanded,
                () = sleep(LOOK_EVERY) => None,
            };
            if self.context.shard.leads().is_err() {
                return;
            }
            match demanded {
                Some((run, demand)) => {
                    let report = self.demanded(demand).await;
                    self.shared.runs.lock().end(run, report);
                    self.shared.ended.notify_waiters();
                }
                None if self.is_due() => self.look(Demand::None, &mut RunReport::default()).await,
                None => {}
            }
        }
    }

    /// Whether the state has moved, or time has made something due.
    fn is_due(&self) -> bool {
        let (look, now) = (&self.look, Instant::now());
        let moved = look.applied != Some(self.context.shard.state().applied.0)
            && look.planned.is_none_or(|planned| planned + PLAN_EVERY <= now);
        let due = look.due_ms.is_some_and(|due| due <= self.env.clock.now_ms());
        moved || due || look.again.is_some_and(|again| again <= now)
    }

    /// Everything that can be done is done, however little it is.
    async fn demanded(&mut self, demand: Demand) -> RunReport {
        let mut report = RunReport::default();
        self.failures.forget();
        self.views.published.try_anew();
        self.look(demand, &mut report).await;
        report
    }

    /// Plans and works until nothing is left to be done now, then keeps house.
    async fn look(&mut self, demand: Demand, report: &mut RunReport) {
        self.look = Look { applied: Some(self.context.shard.state().applied.0), ..Look::default() };
        let (goals, mut since) = (self.goals(demand), Instant::now());
        while self.round(&goals, report).await {
            if since.elapsed() < LONG {
                continue;
            }
            if !self.is_short_of(&goals) {
                // So much comes that there is always something to do. Others wait: those who ask, and what is dead.
                self.look.again_at([Instant::now()]);
                break;
            }
            self.keep_house(false, report).await;
            since = Instant::now();
        }
        let asked: Vec<_> = goals.keys().map(|(topic, _)| *topic).collect();
        self.views.write_anew(asked);
        self.keep_house(demand != Demand::None, report).await;
        self.look.planned = Some(Instant::now());
        self.look.again_at(self.failures.next(Instant::now()));
        // What was proposed on the way needs no look of its own.
        let state = self.context.shard.state();
        self.context.metrics.waits(backlog(&state));
    }

    /// What is there now of what is asked for: what comes later does not add to it.
    fn goals(&self, demand: Demand) -> Goals {
        let state = self.context.shard.state();
        let asked = state.topics().filter(|topic| demand.is_for(topic.id));
        let goal = |topic: &Topic| {
            let id = topic.id;
            let ends = topic.partitions.iter().map(|log| log.high_watermark);
            (0..).map(Partition).zip(ends).map(move |(partition, end)| ((id, partition), end)).collect::<Vec<_>>()
        };
        asked.flat_map(goal).collect()
    }

    /// Whether something that was asked for, and may be tried, is not archived yet.
    fn is_short_of(&self, goals: &Goals) -> bool {
        let (state, now) = (self.context.shard.state(), Instant::now());
        goals.iter().any(|((topic, partition), goal)| {
            let log = state.topic(*topic).and_then(|topic| topic.partition(*partition));
            log.is_some_and(|log| log.archived_end() < *goal)
                && self.failures.may_try_partition(*topic, *partition, now)
        })
    }

    /// Publishes views, cuts the journal off, and deletes what is garbage.
    async fn keep_house(&mut self, demanded: bool, report: &mut RunReport) {
        if let Err(problem) = self.cut_off(demanded, report).await {
            self.put_off(problem, report);
        }
        self.publish(demanded, report).await;
        if self.context.shard.state().archive.garbage().is_empty() {
            return;
        }
        let delay = if demanded { Duration::ZERO } else { self.shared.settings.delete_delay };
        // Twice, if views have to be published first.
        for attempt in 0..2 {
            match deletion::run(&self.context.shard, &self.env, delay, &self.views.published).await {
                Ok(deleted) => {
                    report.deleted_files += deleted.files;
                    self.look.due_at(deleted.next_ms);
                    if deleted.unpublished.is_empty() || attempt > 0 {
                        // What is due and still there is in a region that cannot be asked, or waits for views.
                        let left = !self.context.shard.state().archive.garbage().is_empty();
                        if left && deleted.next_ms.is_none() {
                            self.look.again_at([Instant::now() + self.shared.settings.pace.pause]);
                        }
                        return;
                    }
                    self.views.need(deleted.unpublished);
                    self.publish(demanded, report).await;
                }
                Err(error) => return self.put_off(format!("garbage was not deleted: {error}"), report),
            }
        }
    }

    async fn publish(&mut self, demanded: bool, report: &mut RunReport) {
        let (again, problems) = self.views.publish(&self.context.shard, self.env.clock.now_ms(), demanded).await;
        self.look.again_at(again);
        for problem in problems {
            let absence = problem.is_absence();
            let problem = problem.to_string();
            if absence {
                tracing::warn!(problem, "they are published there later");
                report.warning(problem);
            } else {
                self.note(&problem);
                report.problem(problem);
            }
        }
    }

    /// Deletes what nobody needs of the journal; writes a snapshot before when enough would be gained by it.
    async fn cut_off(&mut self, demanded: bool, report: &mut RunReport) -> Result<(), String> {
        let shard = &self.context.shard;
        let ShardStatus { snapshot_bytes, .. } = shard.status();
        let dead = shard.dead_entries();
        let Pace { dead_entries, pause, .. } = self.shared.settings.pace;
        if dead >= dead_entries.max(snapshot_bytes / 1024) || (demanded && dead > 0) {
            shard.snapshot().await.map_err(|error| format!("a snapshot was not written: {error}"))?;
        }
        let snapshot = shard.status().snapshot.0;
        while demanded || self.truncated_behind != Some(snapshot) {
            let truncated = shard.truncate(&TruncateLimits::default()).await;
            let truncated = truncated.map_err(|error| format!("the journal was not cut off: {error}"))?;
            report.deleted_objects += truncated.deleted;
            if !truncated.more {
                self.truncated_behind = Some(snapshot);
                break;
            }
            if truncated.deleted == 0 {
                // A region does not do as it is asked.
                self.look.again_at([Instant::now() + pause]);
                break;
            }
        }
        Ok(())
    }

    fn put_off(&mut self, problem: String, report: &mut RunReport) {
        self.note(&problem);
        self.look.again_at([Instant::now() + self.shared.settings.pace.pause]);
        report.problem(problem);
    }

    fn note(&self, problem: &str) {
        tracing::warn!(problem, "the compactor tries it again later");
        let time_ms = self.env.clock.now_ms();
        *self.shared.last_error.lock() = Some(LastError { time_ms, problem: problem.to_owned() });
    }

    /// Releases every claim there is: this is the only one that works for the shard in this reign, and at present it works
    /// on none. They are those of reigns that are over, of a job that was broken off, or of one whose claim it did not
    /// learn of.
    async fn release_claims(&self) -> Result<(), String> {
        let claims: Vec<_> = self.context.shard.state().archive.claims().keys().copied().collect();
        for some in claims.chunks(brigade_index::limits::MAX_CLAIM_PARTS) {
            let released = self.context.shard.propose(vec![Command::Release(some.to_vec())]).await;
            released.map_err(|error| format!("claims were not released: {error}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
