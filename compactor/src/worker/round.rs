//! One round of the compactor: plan, drop, and run the jobs of the plan.

use brigade_index::{
    archive::ArchiveFile,
    command::{Command, Outcome, Trim},
    ids::{Partition, TopicId},
};
use tokio::time::Instant;

use super::{Goals, Worker};
use crate::{
    job::{self, JobError},
    metrics::{JobKind, JobOutcome},
    plan::{CompactJob, Job, MergeJob, Plan, Wanted, plan_wanted},
    status::{RunReport, RunningJob},
};

/// Most trims in one entry.
const TRIMS: usize = 1_024;

/// Partitions that a job works on.
fn parts(job: &Job) -> Vec<(TopicId, Partition)> {
    match job {
        Job::Archive(job) => job.parts.iter().map(|part| (part.topic, part.partition)).collect(),
        Job::Merge(job) => vec![(job.part.topic, job.part.partition)],
        Job::Compact(job) => vec![(job.topic, job.partition)],
    }
}

fn kind(job: &Job) -> JobKind {
    match job {
        Job::Archive(_) => JobKind::Archive,
        Job::Merge(_) => JobKind::Merge,
        Job::Compact(_) => JobKind::Compact,
    }
}

fn describe(job: &Job, since_ms: i64) -> RunningJob {
    let bytes = |files: &[ArchiveFile]| files.iter().map(|file| file.bytes).sum();
    let input_bytes = match job {
        Job::Archive(job) => job.input_bytes,
        Job::Merge(MergeJob { files, .. }) | Job::Compact(CompactJob { files, .. }) => bytes(files),
    };
    let parts = parts(job);
    let topic = parts.first().map_or(TopicId(0), |(topic, _)| *topic);
    RunningJob { kind: kind(job), topic, partitions: parts.len(), input_bytes, since_ms }
}

impl Worker {
    /// Carries out one plan. Whether another one may have something to do.
    pub(super) async fn round(&mut self, goals: &Goals, report: &mut RunReport) -> bool {
        let Some(Plan { jobs, trims, .. }) = self.begin_round(goals, report).await else { return false };
        let mut more = !trims.is_empty();
        for job in jobs {
            let Some(job) = self.permitted(job) else { continue };
            more |= self.job(job, goals, report).await;
            if self.is_broken_off() {
                return false;
            }
        }
        more
    }

    /// Whether nothing more is to be tried now.
    pub(super) fn is_broken_off(&self) -> bool {
        !self.failures.may_try(Instant::now()) || self.context.shard.leads().is_err()
    }

    /// Plans, and drops what is to be dropped. `None` if nothing more can be done now.
    pub(super) async fn begin_round(&mut self, goals: &Goals, report: &mut RunReport) -> Option<Plan> {
        if !self.failures.may_try(Instant::now()) {
            return None;
        }
        if let Err(problem) = self.release_claims().await {
            self.put_off(problem, report);
            return None;
        }
        let now = Instant::now();
        let wanted = |topic, partition| Wanted {
            until: goals.get(&(topic, partition)).copied().unwrap_or_default(),
            // They must not take the place of others.
            jobs: self.failures.may_try_partition(topic, partition, now),
        };
        let (now_ms, memory) = (self.env.clock.now_ms(), &mut self.memory);
        let plan = plan_wanted(&self.context.shard.state(), now_ms, &self.plan, wanted, memory);
        self.look.due_at(plan.look_again_ms);
        for trims in plan.trims.chunks(TRIMS) {
            match self.trim(trims).await {
                Ok(trimmed) => report.trimmed += trimmed,
                Err(problem) => {
                    self.put_off(problem, report);
                    return None;
                }
            }
        }
        Some(plan)
    }

    /// Drops the beginnings of partitions; gives of how many.
    async fn trim(&self, trims: &[Trim]) -> Result<u64, String> {
        let commands = trims.iter().map(|trim| Command::Trim(*trim)).collect();
        let proposed = self.context.shard.propose(commands).await;
        let outcomes = proposed.map_err(|error| format!("messages were not dropped: {error}"))?.outcomes;
        // One that is rejected was for a topic that is gone, or that keeps other messages by now: that is planned anew.
        Ok(outcomes.iter().filter(|outcome| matches!(outcome, Ok(Outcome::Trimmed(_)))).count() as u64)
    }

    /// What is left of a job without the partitions that are left alone for a while.
    pub(super) fn permitted(&self, job: Job) -> Option<Job> {
        let now = Instant::now();
        let may = |topic, partition| self.failures.may_try_partition(topic, partition, now);
        match job {
            Job::Archive(mut job) => {
                job.parts.retain(|part| may(part.topic, part.partition));
                (!job.parts.is_empty()).then_some(Job::Archive(job))
            }
            job => parts(&job).into_iter().all(|(topic, partition)| may(topic, partition)).then_some(job),
        }
    }

    /// An error with the name of the topic, which people know it by.
    fn said(&self, error: &JobError) -> String {
        match error {
            JobError::Input { topic, partition, problem } => match self.context.shard.state().topic(*topic) {
                Some(topic) => format!("partition {partition} of topic {} cannot be read: {problem}", topic.name),
                None => error.to_string(),
            },
            _ => error.to_string(),
        }
    }

    /// Runs a job. Whether it was done, so that there may be more.
    async fn job(&mut self, job: Job, goals: &Goals, report: &mut RunReport) -> bool {
        let started = self.started(&job);
        let result = match &job {
            Job::Archive(job) => job::archive::run(&self.context, job).await,
            Job::Merge(job) => job::merge::run(&self.context, job).await,
            Job::Compact(job) => self.compact(job, goals, report).await,
        };
        self.ended(&job, started, result, report)
    }

    /// A job begins.
    pub(super) fn started(&self, job: &Job) -> Instant {
        let running = describe(job, self.env.clock.now_ms());
        *self.shared.job.lock() = Some(running);
        let RunningJob { kind, partitions, input_bytes, .. } = running;
        tracing::debug!(kind = kind.as_str(), partitions, bytes = input_bytes, "a job begins");
        Instant::now()
    }

    /// Takes notice of how a job ended. Whether it was done, so that there may be more.
    pub(super) fn ended(
        &mut self,
        job: &Job,
        started: Instant,
        result: Result<(), JobError>,
        report: &mut RunReport,
    ) -> bool {
        let kind = kind(job);
        self.shared.job.lock().take();
        let (now, metrics) = (Instant::now(), &self.context.metrics);
        match result {
            Ok(()) => {
                metrics.ended(kind, JobOutcome::Done, started.elapsed());
                self.failures.succeeded(parts(job).into_iter());
                report.done(kind);
                true
            }
            Err(error) if error.is_superseded() => {
                metrics.ended(kind, JobOutcome::Superseded, started.elapsed());
                tracing::info!(kind = kind.as_str(), %error, "a job came to nothing");
                // What is planned next knows better; but if it does not, it must not go on for ever.
                parts(job).into_iter().for_each(|(topic, partition)| self.failures.failed(topic, partition, now));
                false
            }
            Err(error) => {
                metrics.ended(kind, JobOutcome::Failed, started.elapsed());
                match &error {
                    JobError::Input { topic, partition, .. } => self.failures.failed(*topic, *partition, now),
                    JobError::Refused { parts, .. } => {
                        parts.iter().for_each(|(topic, partition)| self.failures.failed(*topic, *partition, now));
                    }
                    _ => self.failures.all_failed(now),
                }
                let problem = format!("{} job: {}", kind.as_str(), self.said(&error));
                self.note(&problem);
                report.problem(problem);
                // The other partitions of an archive job are done.
                matches!(error, JobError::Input { .. } | JobError::Refused { .. })
            }
        }
    }
}
