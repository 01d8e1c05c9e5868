//! What is done in the breaks of a key compaction: all that must not wait for it, however long it takes.

use std::pin::pin;

use tokio::time::Instant;

use super::{Goals, LONG, Worker};
use crate::{
    job::{self, Break, Breaks, JobContext, JobError},
    plan::{CompactJob, Job},
    status::{RunReport, backlog},
};

impl Worker {
    /// Runs a key compaction.
    pub(super) async fn compact(
        &mut self,
        job: &CompactJob,
        goals: &Goals,
        report: &mut RunReport,
    ) -> Result<(), JobError> {
        let (breaks, mut asked) = Breaks::new(LONG);
        let (context, now_ms, seed) = (self.context.clone(), self.env.clock.now_ms(), self.env.entropy.next_u64());
        let mut compacting = pin!(job::compact::run(&context, job, now_ms, seed, &breaks));
        loop {
            tokio::select! {
                biased;
                result = &mut compacting => return result,
                Some(rest) = asked.recv() => self.meanwhile(rest, goals, report).await,
            }
        }
    }

    /// Drops, archives and keeps house while the key compaction waits, for about as long as it worked.
    async fn meanwhile(&mut self, rest: Break, goals: &Goals, report: &mut RunReport) {
        let (since, whole) = (Instant::now(), self.context.clone());
        let memory_bytes = whole.memory_bytes.saturating_sub(rest.held).max(whole.memory_bytes / 2);
        self.context = JobContext { memory_bytes, aside: rest.held, ..whole.clone() };
        let compaction = self.shared.job.lock().take();
        while self.archive_round(goals, report).await && since.elapsed() < LONG {}
        self.keep_house(false, report).await;
        self.context.metrics.waits(backlog(&self.context.shard.state()));
        *self.shared.job.lock() = compaction;
        self.context = whole;
        rest.end();
    }

    /// Carries out of one plan what does not touch the archive files that the key compaction works on. Whether another one may
    /// have something to do.
    async fn archive_round(&mut self, goals: &Goals, report: &mut RunReport) -> bool {
        let Some(plan) = self.begin_round(goals, report).await else { return false };
        let mut more = !plan.trims.is_empty();
        for job in plan.jobs {
            let Some(job) = self.permitted(job) else { continue };
            let Job::Archive(archive) = &job else { continue };
            let started = self.started(&job);
            let result = job::archive::run(&self.context, archive).await;
            more |= self.ended(&job, started, result, report);
            if self.is_broken_off() {
                return false;
            }
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use brigade_index::command::{Command, RetentionPatch, SettingsPatch};

    use crate::{
        metrics::JobKind,
        plan::PlanSettings,
        trial::{Trial, text},
        worker::CompactorSettings,
    };

    #[tokio::test(start_paused = true)]
    async fn a_long_key_compaction_does_not_keep_others_from_being_archived() {
        let trial = Trial::new(41).await;
        let (long, other) = (trial.topic("long").await, trial.topic("other").await);
        let (compactor, stop, _) = trial.compactor(&CompactorSettings::default());
        let noise = || (0..32 << 10).flat_map(|_| trial.env.entropy.next_u64().to_le_bytes()).collect::<Vec<_>>();
        let mut expected = Vec::new();
        for _ in 0..16 {
            expected.push(noise());
            trial.publish_values(long, &[(0, vec![expected[expected.len() - 1].clone()])]).await;
            assert_eq!(trial.run_to_the_end(&compactor).await.archived, 1);
        }
        stop.cancel();
        let retention = RetentionPatch { key_compaction: Some(true), ..RetentionPatch::default() };
        let patch = SettingsPatch { retention, ..SettingsPatch::default() };
        trial.propose(Command::AlterTopic { topic: long, patch }).await;
        // Each file is read once and sent thrice: 16 seconds.
        let plan = PlanSettings { file_bytes: 1, ..PlanSettings::default() };
        let slow = CompactorSettings { plan, bytes_per_second: 64 << 10, ..CompactorSettings::default() };
        let (compactor, _stop, metrics) = trial.compactor(&slow);
        trial.settle("compacting", |_| compactor.status().job.is_some_and(|job| job.kind == JobKind::Compact)).await;
        for topic in [other, long] {
            trial.publish_values(topic, &[(0, vec![text("waits")])]).await;
        }
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(compactor.status().backlog.bytes, 0, "both are archived, that of the topic itself, too");
        assert_eq!(metrics.jobs(JobKind::Compact), (0, 0), "while the compaction is not done");
        assert!(compactor.status().job.is_some_and(|job| job.kind == JobKind::Compact), "and goes on");
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(metrics.jobs(JobKind::Compact).1, 0);
        let log = trial.shard.state().topic(long).unwrap().partitions[0].clone();
        assert_eq!(log.files().iter().filter(|file| file.compacted).count(), expected.len(), "{:?}", log.files());
        let found: Vec<_> = trial.read_back(long, 0).await.into_iter().map(|(_, value)| value).collect();
        expected.push(text("waits"));
        assert!(found == expected, "nothing that was compacted or came meanwhile is lost");
        assert_eq!(trial.read_back(other, 0).await, [(0, text("waits"))]);
    }
}
