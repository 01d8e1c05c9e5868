//! The whole compactor on three regions that fail as told: nothing is lost, whatever is broken off.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use brigade_index::{
    command::{RetentionPatch, SettingsPatch},
    ids::{Offset, Partition},
    store::{
        Operation,
        fault::{Answer, Fault, Rule},
    },
};
use object_store::{ObjectStoreExt, path::Path};

use super::*;
use crate::{
    job,
    plan::{Job, plan},
    trial::{Trial, text},
};

const MIB: usize = 1 << 20;

fn values(from: u32, count: u32) -> Vec<Vec<u8>> {
    (from..from + count).map(text).collect()
}

fn numbered(count: u32) -> Vec<(u64, Vec<u8>)> {
    (0..count).map(|n| (u64::from(n), text(n))).collect()
}

/// Bytes that do not compress.
fn noise(env: &Env, bytes: usize) -> Vec<u8> {
    (0..bytes.div_ceil(8)).flat_map(|_| env.entropy.next_u64().to_le_bytes()).take(bytes).collect()
}

fn archive() -> Path {
    Path::from("archive")
}

fn journal_is_empty(shard: &Shard) -> bool {
    let state = shard.state();
    state.topics().flat_map(|topic| &topic.partitions).all(|log| log.runs().is_empty())
        && state.archive.claims().is_empty()
}

#[tokio::test(start_paused = true)]
async fn everything_is_archived_and_merged_and_nothing_is_lost() {
    let trial = Trial::new(1).await;
    let (one, two) = (trial.wide_topic("one", 3).await, trial.topic("two").await);
    let (compactor, _stop, metrics) = trial.compactor(&CompactorSettings::default());
    let mut next = [0, 0, 0];
    for round in 0..5 {
        let id = format!("t{round}");
        trial.prepare(two, &id, &values(round * 4 + 2, 2)).await;
        for _ in 0..3 {
            let parts = [0, 2].map(|partition: u32| {
                next[partition as usize] += 7;
                (partition, values(next[partition as usize] - 7, 7))
            });
            trial.publish_values(one, &parts).await;
        }
        trial.publish_values(two, &[(0, values(round * 4, 2))]).await;
        trial.commit(&id).await;
        let report = trial.run_to_the_end(&compactor).await;
        assert!(report.problems.is_empty() && report.archived == 1, "{report:?}");
        assert!(journal_is_empty(&trial.shard));
    }
    for partition in [0, 2] {
        assert_eq!(trial.read_back(one, partition).await, numbered(105));
    }
    assert_eq!(trial.read_back(two, 0).await, numbered(20));
    let state = trial.shard.state();
    let files: Vec<_> = state.topics().flat_map(|topic| &topic.partitions).flat_map(|log| log.files()).collect();
    assert!(files.iter().all(|file| file.regions.len() == 3), "{files:?}");
    let (archived, merged) = (metrics.moved(JobKind::Archive), metrics.moved(JobKind::Merge));
    assert!(archived.written > 0 && merged.written <= archived.written, "{archived:?} {merged:?}");
    assert!(metrics.write_amplification().unwrap() <= 2.0);
    assert_eq!(compactor.status().backlog.bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn files_are_merged_row_group_by_row_group() {
    let trial = Trial::new(2).await;
    let topic = trial.topic("t").await;
    let plan = PlanSettings { merge_fan_in: 4, ..PlanSettings::default() };
    let (compactor, _stop, metrics) = trial.compactor(&CompactorSettings { plan, ..CompactorSettings::default() });
    let mut expected = Vec::new();
    for _ in 0..4 {
        let large: Vec<_> = (0..3).map(|_| noise(&trial.env, MIB)).collect();
        trial.publish_values(topic, &[(0, large.clone())]).await;
        expected.extend(large);
        assert_eq!(trial.run_to_the_end(&compactor).await.problems, [""; 0]);
    }
    assert_eq!(compactor.status().jobs[1].done, 1);
    assert_eq!(trial.shard.state().topic(topic).unwrap().partitions[0].files().len(), 1);
    let found: Vec<_> = trial.read_back(topic, 0).await.into_iter().map(|(_, value)| value).collect();
    assert!(found == expected, "the values are others");
    let amplification = metrics.write_amplification().unwrap();
    assert!((1.9..=2.01).contains(&amplification), "{amplification}");
    // What was merged is deleted, in every region.
    trial.settle("deleted", |shard| shard.state().archive.garbage().is_empty()).await;
    for region in 0..3 {
        assert_eq!(trial.files_in(region).await.len(), 1);
    }
}

/// Polls a future at most so often.
struct AtMost<F> {
    inner: Pin<Box<F>>,
    left: usize,
}

impl<F: Future> Future for AtMost<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.inner.as_mut().poll(context).map(Some)
    }
}

/// Runs what is planned now, one job after the other, until they were polled so often. Whether they came to an end, and
/// the most that one of them held.
async fn broken_off(trial: &Trial, settings: &CompactorSettings, polls: usize) -> (bool, usize) {
    let context = JobContext {
        shard: trial.shard.clone(),
        budget: Budget::new(0),
        metrics: CompactorMetrics::default(),
        memory_bytes: settings.memory_bytes,
        aside: 0,
        part_bytes: settings.part_bytes,
        writer: settings.fitting_writer(),
    };
    let jobs = plan(&trial.shard.state(), trial.env.clock.now_ms(), &settings.plan, Demand::All).jobs;
    let working = async {
        for job in &jobs {
            match job {
                Job::Archive(job) => job::archive::run(&context, job).await.unwrap(),
                Job::Merge(job) => job::merge::run(&context, job).await.unwrap(),
                Job::Compact(_) => unreachable!("no topic is compacted"),
            }
        }
    };
    let whole = AtMost { inner: Box::pin(working), left: polls }.await.is_some();
    (whole, context.metrics.held_peak() as usize)
}

#[tokio::test(start_paused = true)]
async fn a_job_may_be_broken_off_at_every_point() {
    let mut trial = Trial::new(3).await;
    let topic = trial.wide_topic("t", 2).await;
    let plan = PlanSettings { merge_fan_in: 3, ..PlanSettings::default() };
    let settings = CompactorSettings { plan, ..CompactorSettings::default() };
    let (mut published, mut whole) = (0, false);
    for polls in 1.. {
        // The last round merges, too: it has files to merge every time.
        let parts = [0, 1].map(|partition| (partition, values(published, 2)));
        trial.publish_values(topic, &parts).await;
        published += 2;
        whole = broken_off(&trial, &settings, polls).await.0 || (whole && polls % 2 == 1);
        if polls % 3 == 0 {
            // The node is gone with it.
            trial.restart(&format!("n{polls}")).await;
        }
        let (compactor, stop, _) = trial.compactor(&settings);
        let report = trial.run_to_the_end(&compactor).await;
        assert!(report.problems.is_empty(), "{report:?}");
        assert!(journal_is_empty(&trial.shard), "after {polls} polls");
        stop.cancel();
        for partition in [0, 1] {
            assert_eq!(trial.read_back(topic, partition).await, numbered(published), "after {polls} polls");
        }
        if whole && polls > 60 {
            break;
        }
    }
    let (_compactor, _stop, _) = trial.compactor(&settings);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(trial.shard.state().archive.garbage().is_empty());
    let referenced: usize = {
        let state = trial.shard.state();
        state.topic(topic).unwrap().partitions.iter().map(|log| log.files().len()).sum()
    };
    for region in 0..3 {
        assert_eq!(trial.files_in(region).await.len(), referenced, "region {region}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_compactors_never_both_win() {
    let trial = Trial::new(4).await;
    let topic = trial.wide_topic("t", 2).await;
    let (one, _stop, _) = trial.compactor(&CompactorSettings::default());
    let (two, _stop, _) = trial.compactor(&CompactorSettings::default());
    for round in 0..20 {
        trial.publish_values(topic, &[(0, values(round * 3, 3)), (1, values(round * 3, 3))]).await;
        tokio::join!(trial.run_to_the_end(&one), trial.run_to_the_end(&two));
    }
    // They may have been in each other's way at last.
    trial.run_to_the_end(&one).await;
    assert!(journal_is_empty(&trial.shard));
    for partition in [0, 1] {
        assert_eq!(trial.read_back(topic, partition).await, numbered(60));
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_that_fails_in_the_middle_is_left_out_and_repaired() {
    let trial = Trial::new(5).await;
    let topic = trial.topic("t").await;
    let plan = PlanSettings { merge_fan_in: 3, ..PlanSettings::default() };
    let settings = CompactorSettings { plan, delete_delay: Duration::from_secs(5), ..CompactorSettings::default() };
    let (compactor, _stop, _) = trial.compactor(&settings);
    let mut expected = Vec::new();
    for round in 0..3 {
        let large: Vec<_> = (0..3).map(|_| noise(&trial.env, MIB)).collect();
        trial.publish_values(topic, &[(0, large.clone())]).await;
        expected.extend(large);
        if round == 2 {
            // Its own file passes; of the merge the beginning and a part.
            let broken = Fault::Fail { applied: false, answer: Answer::Status(500) };
            trial.faults[1].add(Rule { skip: 3, ..Rule::always(Operation::Put, broken).under(archive()) });
        }
        trial.run_to_the_end(&compactor).await;
    }
    let file = trial.shard.state().topic(topic).unwrap().partitions[0].files()[0].clone();
    assert_eq!((file.merges, file.regions.len()), (1, 2), "{file:?}");
    trial.faults[1].heal();
    trial
        .settle("repaired", |shard| shard.state().topic(topic).unwrap().partitions[0].files()[0].regions.len() == 3)
        .await;
    let found: Vec<_> = trial.read_back(topic, 0).await.into_iter().map(|(_, value)| value).collect();
    assert!(found == expected, "the values are others");
}

#[tokio::test(start_paused = true)]
async fn with_two_stores_full_nothing_is_done_and_nothing_is_lost() {
    let trial = Trial::new(6).await;
    let topic = trial.topic("t").await;
    let (compactor, _stop, metrics) = trial.compactor(&CompactorSettings::default());
    trial.publish_values(topic, &[(0, values(0, 10))]).await;
    for region in [1, 2] {
        let full = Fault::Fail { applied: false, answer: Answer::Status(507) };
        trial.faults[region].add(Rule::always(Operation::Put, full).under(archive()));
    }
    let report = trial.run_to_the_end(&compactor).await;
    assert!(report.problems.iter().any(|problem| problem.contains("1 of 3 regions")), "{report:?}");
    assert!(compactor.status().last_error.is_some() && metrics.jobs(JobKind::Archive).1 == 1);
    assert!(trial.shard.state().archive.claims().is_empty());
    assert_eq!(trial.read_back(topic, 0).await, numbered(10));
    trial.faults[1].heal();
    trial.faults[2].heal();
    let report = trial.run_to_the_end(&compactor).await;
    assert!(report.problems.is_empty() && journal_is_empty(&trial.shard), "{report:?}");
    assert_eq!(trial.read_back(topic, 0).await, numbered(10));
}

#[tokio::test(start_paused = true)]
async fn a_run_writes_the_list_anew_and_says_which_region_is_away() {
    let trial = Trial::new(61).await;
    let topic = trial.topic("t").await;
    let (compactor, _stop, _) = trial.compactor(&CompactorSettings::default());
    trial.publish_values(topic, &[(0, values(0, 10))]).await;
    for _ in 0..2 {
        let report = trial.run_to_the_end(&compactor).await;
        assert_eq!((report.problems, report.warnings), (Vec::new(), Vec::new()));
        // Nothing has changed when it is gone the next time.
        trial.faults[0].inner().delete(&latest("t")).await.unwrap();
    }
    let retention = RetentionPatch { time_ms: Some(u64::from(u32::MAX)), ..RetentionPatch::default() };
    let patch = SettingsPatch { retention, ..SettingsPatch::default() };
    trial.propose(Command::AlterTopic { topic, patch }).await;
    let down = Fault::Fail { applied: false, answer: Answer::Status(503) };
    for operation in [Operation::Put, Operation::Get, Operation::List, Operation::Delete] {
        trial.faults[2].add(Rule::always(operation, down));
    }
    trial.publish_values(topic, &[(0, values(10, 10))]).await;
    let report = trial.run_to_the_end(&compactor).await;
    assert!(report.problems.is_empty() && report.archived == 1, "{report:?}");
    assert!(report.warnings.iter().any(|warning| warning.contains("of topic t are out of date")), "{report:?}");
    let list = trial.faults[0].inner().get(&latest("t")).await.unwrap().bytes().await.unwrap();
    let list = String::from_utf8(list.to_vec()).unwrap();
    assert!(list.contains(r#""retention_ms":4294967295"#), "{list}");
}

fn latest(name: &str) -> object_store::path::Path {
    brigade_index::keys::latest(&brigade_index::names::TopicName::new(name).unwrap()).as_ref().into()
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_cost_nothing_but_time() {
    let trial = Trial::new(7).await;
    let topic = trial.topic("t").await;
    let (compactor, _stop, _) = trial.compactor(&CompactorSettings::default());
    for fault in &trial.faults {
        let lost = Fault::Fail { applied: true, answer: Answer::Reset };
        fault.add(Rule::always(Operation::Put, lost).under(archive()).with_chance(0.4));
        fault.add(Rule::always(Operation::Get, lost).with_chance(0.2));
    }
    let mut count = 0;
    for _ in 0..10 {
        trial.publish_values(topic, &[(0, values(count, 5))]).await;
        count += 5;
        trial.run_to_the_end(&compactor).await;
    }
    trial.faults.iter().for_each(|fault| fault.heal());
    trial.run_to_the_end(&compactor).await;
    assert!(journal_is_empty(&trial.shard));
    assert_eq!(trial.read_back(topic, 0).await, numbered(count));
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_in_one_region_is_taken_from_another() {
    let trial = Trial::new(8).await;
    let topic = trial.topic("t").await;
    let plan = PlanSettings { merge_fan_in: 3, ..PlanSettings::default() };
    let (compactor, _stop, _) = trial.compactor(&CompactorSettings { plan, ..CompactorSettings::default() });
    for round in 0..3 {
        trial.publish_values(topic, &[(0, values(round * 50, 50))]).await;
        // Whichever region is the nearest, its answers are wrong.
        for fault in &trial.faults[..2] {
            fault.add(Rule::always(Operation::Get, Fault::Flip));
        }
        let report = trial.run_to_the_end(&compactor).await;
        assert!(report.problems.is_empty(), "{report:?}");
        trial.faults.iter().for_each(|fault| fault.heal());
    }
    assert_eq!(compactor.status().jobs[1].done, 1, "{:?}", compactor.status());
    assert_eq!(trial.read_back(topic, 0).await, numbered(150));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_cannot_be_read_keeps_no_other_waiting() {
    let trial = Trial::new(9).await;
    let (whole, broken) = (trial.topic("whole").await, trial.topic("broken").await);
    trial.publish_values(broken, &[(0, values(100, 5))]).await;
    let damaged = trial.shard.state().topic(broken).unwrap().partitions[0].runs()[0].batch;
    trial.publish_values(whole, &[(0, values(0, 5))]).await;
    // The object of that entry, in every region.
    let mut originals = Vec::new();
    for fault in &trial.faults[..3] {
        let keys: Vec<_> =
            futures::TryStreamExt::try_collect::<Vec<_>>(fault.inner().list(Some(&Path::from("journal"))))
                .await
                .unwrap();
        for key in keys.into_iter().map(|object| object.location) {
            let bytes = fault.inner().get(&key).await.unwrap().bytes().await.unwrap();
            let (at, end) = (damaged.at as usize, damaged.at as usize + damaged.len as usize);
            if bytes.get(at..end).is_some_and(|batch| brigade_index::format::checksum(batch) == damaged.crc) {
                let mut wrong = bytes.to_vec();
                wrong[at + 20] ^= 1;
                fault.inner().put(&key, wrong.into()).await.unwrap();
                originals.push((fault.inner().clone(), key, bytes));
            }
        }
    }
    assert_eq!(originals.len(), 3);
    let (compactor, _stop, _) = trial.compactor(&CompactorSettings::default());
    let report = trial.run_to_the_end(&compactor).await;
    assert!(report.problems[0].contains("is damaged"), "{report:?}");
    assert_eq!(trial.read_back(whole, 0).await, numbered(5));
    {
        let state = trial.shard.state();
        assert!(state.topic(whole).unwrap().partitions[0].runs().is_empty());
        assert_eq!(state.topic(broken).unwrap().partitions[0].runs().len(), 1, "what cannot be read stays");
        assert!(state.archive.claims().is_empty());
    }
    for (store, key, bytes) in originals {
        store.put(&key, bytes.into()).await.unwrap();
    }
    trial.run_to_the_end(&compactor).await;
    assert!(journal_is_empty(&trial.shard));
    let found: Vec<_> = trial.read_back(broken, 0).await.into_iter().map(|(_, value)| value).collect();
    assert_eq!(found, values(100, 5));
}

#[tokio::test(start_paused = true)]
async fn a_job_holds_no_more_memory_than_it_may() {
    let memory_bytes = 32 * MIB;
    // The jobs of many partitions are planned to fit; a file that is larger than the memory is sent in parts.
    for (seed, partitions, job_bytes) in [(10, 8, 128 << 20), (13, 1, 1 << 30)] {
        let trial = Trial::new(seed).await;
        let topic = trial.wide_topic("t", partitions).await;
        let mut expected = vec![Vec::new(); partitions as usize];
        for _ in 0..10 / partitions.min(8) {
            for partition in 0..partitions {
                let large: Vec<_> = (0..4).map(|_| noise(&trial.env, MIB)).collect();
                trial.publish_values(topic, &[(partition, large.clone())]).await;
                expected[partition as usize].extend(large);
            }
        }
        let plan = PlanSettings { job_bytes, file_bytes: job_bytes, ..PlanSettings::default() };
        let settings = CompactorSettings { plan, memory_bytes, bytes_per_second: 0, ..CompactorSettings::default() };
        let peak = if partitions > 1 {
            let (compactor, stop, metrics) = trial.compactor(&settings);
            assert_eq!(trial.run_to_the_end(&compactor).await.problems, [""; 0]);
            stop.cancel();
            metrics.held_peak() as usize
        } else {
            let (whole, peak) = broken_off(&trial, &settings, usize::MAX).await;
            assert!(whole);
            let files = trial.shard.state().topic(topic).unwrap().partitions[0].files().to_vec();
            assert!(files.len() == 1 && files[0].bytes > memory_bytes as u64, "{files:?}");
            peak
        };
        // A batch of 4 MiB comes on top, before room is made for it.
        assert!(peak > memory_bytes / 4 && peak < memory_bytes + 10 * MIB, "{partitions} partitions: {peak}");
        for (partition, expected) in (0..partitions).zip(expected) {
            let found: Vec<_> = trial.read_back(topic, partition).await.into_iter().map(|(_, value)| value).collect();
            assert!(found == expected, "partition {partition}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_nothing_to_do_it_sends_no_request_and_switched_off_it_does_nothing() {
    let trial = Trial::new(11).await;
    let topic = trial.topic("t").await;
    let off = CompactorSettings { enabled: false, ..CompactorSettings::default() };
    let (compactor, _stop, _) = trial.compactor(&off);
    trial.publish_values(topic, &[(0, values(0, 10))]).await;
    assert_eq!(compactor.run_now(None), Err(RunError::Disabled));
    tokio::time::sleep(Duration::from_secs(48 * 3_600)).await;
    assert!(!journal_is_empty(&trial.shard));
    let (_compactor, stop, _) = trial.compactor(&CompactorSettings::default());
    trial.settle("archived for its age", journal_is_empty).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let before: Vec<_> = trial.shard.regions().iter().map(|region| region.store.clone()).collect();
    let applied = trial.shard.state().applied;
    let unreachable = Fault::Fail { applied: false, answer: Answer::Status(500) };
    for fault in &trial.faults {
        for operation in [Operation::Put, Operation::Get, Operation::List, Operation::Delete] {
            fault.add(Rule::always(operation, unreachable));
        }
    }
    tokio::time::sleep(Duration::from_secs(7_200)).await;
    assert_eq!(trial.faults.iter().map(|fault| fault.struck()).sum::<u64>(), 0);
    assert_eq!((trial.shard.state().applied, before.len()), (applied, 3));
    let stopped = tokio::time::Instant::now();
    stop.cancel();
    tokio::task::yield_now().await;
    assert!(stopped.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_with_the_reign() {
    let mut trial = Trial::new(12).await;
    let topic = trial.topic("t").await;
    trial.publish_values(topic, &[(0, values(0, 10))]).await;
    let slow = CompactorSettings { bytes_per_second: 1, ..CompactorSettings::default() };
    let (compactor, _stop, _) = trial.compactor(&slow);
    let run = compactor.run_now(Some(topic)).unwrap();
    assert_eq!(compactor.wait(run + 1, Duration::ZERO).await, None);
    let old = trial.shard.clone();
    trial.restart("n1").await;
    let mut waiting = pin!(compactor.wait(run, Duration::from_secs(3_600)));
    old.check_deposed().await;
    assert_eq!((&mut waiting).await, Some(None), "it has not ended, and never will");
    assert_eq!(compactor.run_now(None), Err(RunError::Ended));
    let (compactor, _stop, _) = trial.compactor(&CompactorSettings::default());
    trial.run_to_the_end(&compactor).await;
    assert!(journal_is_empty(&trial.shard));
    let file = trial.shard.state().topic(topic).unwrap().partition(Partition(0)).unwrap().files()[0].clone();
    assert_eq!(file.rows, 10);
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_though_more_is_published_all_the_time() {
    let trial = Trial::new(9).await;
    let topic = trial.topic("t").await;
    trial.publish_values(topic, &[(0, values(0, 10))]).await;
    // A file takes longer than it takes until the next message.
    for faults in &trial.faults {
        faults.add(Rule::always(Operation::Put, Fault::Delay(Duration::from_millis(300))).under(archive()));
    }
    let (compactor, _stop, _metrics) = trial.compactor(&CompactorSettings::default());
    let publishing = async {
        for n in 0.. {
            sleep(Duration::from_millis(100)).await;
            trial.publish_values(topic, &[(0, values(10 + n, 1))]).await;
        }
    };
    let run = compactor.run_now(None).unwrap();
    let report = tokio::select! {
        biased;
        report = compactor.wait(run, Duration::from_secs(30)) => report.unwrap(),
        () = publishing => None,
    };
    let report = report.expect("it ends");
    assert!(report.problems.is_empty() && report.archived > 0, "{report:?}");
    assert!(trial.shard.state().topic(topic).unwrap().partitions[0].archived_end() >= Offset(10));
}
