//! Regions that were away, sources that are damaged, crashes, and the budget.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use brigade_index::store::{
    Operation,
    fault::{Fault, Rule},
};
use futures::FutureExt;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::time::{Instant, sleep};

use super::*;
use crate::trial::{Trial, named, unlimited};

const MIB: usize = 1024 * 1024;

/// Two files, a small and a large one, that region `c` misses.
async fn without_c(seed: u64) -> (Trial, TopicId) {
    let trial = Trial::new(seed).await;
    let topic = trial.topic("t").await;
    trial.settle("in sync", |shard| (0..3).all(|region| Trial::state_of(shard, region).0 == "in_sync")).await;
    trial.faults[2].set_unreachable(true);
    trial.publish(topic, 10).await;
    trial.publish(topic, 10).await;
    trial.settle("away", |shard| Trial::state_of(shard, 2).0 == "unreachable").await;
    trial.archive(topic, 0, 10, 1_000).await.unwrap();
    let large = trial.archive(topic, 10, 20, 20 * MIB).await.unwrap();
    assert_eq!(large.regions, [RegionNo(0), RegionNo(1)]);
    (trial, topic)
}

async fn repair(trial: &Trial) -> Repaired {
    run(&trial.shard, &unlimited(), &CancellationToken::new()).await.unwrap()
}

async fn back(trial: &Trial) {
    trial.faults[2].set_unreachable(false);
    trial.settle("back", |shard| Trial::state_of(shard, 2).0 == "catching_up").await;
}

#[tokio::test(start_paused = true)]
async fn a_region_that_was_away_is_given_what_it_misses() {
    let (trial, _) = without_c(1).await;
    assert_eq!(repair(&trial).await, Repaired { missing: 2, ..Repaired::default() }, "it cannot be reached");
    assert_eq!(Trial::state_of(&trial.shard, 2), ("unreachable", 2));
    back(&trial).await;
    let status = trial.shard.status();
    assert!(!status.is_offline(), "a region without an archive file takes entries all the same");
    let progress = trial.shard.repairs();
    assert_eq!((progress[2].files_missing, progress[2].bytes_missing), (2, 20 * MIB as u64 + 1_000));
    let repaired = repair(&trial).await;
    assert_eq!((repaired.files, repaired.bytes, repaired.missing), (2, 20 * MIB as u64 + 1_000, 0));
    assert!(trial.referenced().values().all(|file| file.regions.len() == 3));
    trial.check().await;
    trial.settle("in sync", |shard| Trial::state_of(shard, 2) == ("in_sync", 0)).await;
    let progress = trial.shard.repairs();
    assert_eq!((progress[2].copied_objects, progress[2].copied_bytes), (2, 20 * MIB as u64 + 1_000));
    assert_eq!(repair(&trial).await, Repaired::default(), "nothing is missing");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_source_is_passed_over_and_never_spread() {
    let (trial, topic) = without_c(2).await;
    back(&trial).await;
    let large = trial.referenced().into_values().find(|file| file.id == FileId(2)).unwrap();
    let key = trial.key(topic, &large).unwrap();
    let whole = trial.read(0, &key).await.unwrap();
    let mut bad = whole.to_vec();
    bad[17 * MIB] ^= 1;
    for store in &trial.faults[..2] {
        store.inner().put(&key, PutPayload::from(bad.clone())).await.unwrap();
    }
    let repaired = repair(&trial).await;
    assert_eq!((repaired.files, repaired.missing), (1, 1));
    let problem = repaired.problem.unwrap();
    assert!(problem.contains("a: its checksum does not match") && problem.contains("b: "), "{problem}");
    assert_eq!(trial.read(2, &key).await, None, "nothing wrong is put there");
    // Cut off in one region, whole in the other.
    trial.faults[0].inner().put(&key, PutPayload::from(bad[..MIB].to_vec())).await.unwrap();
    trial.faults[1].inner().put(&key, PutPayload::from(whole.to_vec())).await.unwrap();
    assert_eq!(repair(&trial).await.files, 1);
    assert_eq!(trial.read(2, &key).await, Some(whole));
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_is_made_good_by_the_next_leader() {
    let (mut trial, _) = without_c(3).await;
    back(&trial).await;
    // The upload of the second of three parts never ends.
    let slow: Throttle = {
        let taken = AtomicU64::new(0);
        Arc::new(move |bytes| {
            let stuck = taken.fetch_add(bytes, Relaxed) > 20 * MIB as u64;
            async move {
                if stuck {
                    std::future::pending::<()>().await;
                }
            }
            .boxed()
        })
    };
    let stop = CancellationToken::new();
    let crashed = tokio::time::timeout(Duration::from_secs(60), run(&trial.shard, &slow, &stop));
    assert!(crashed.await.is_err());
    trial.check().await;
    trial.restart("n1").await;
    trial.settle("joined", |shard| Trial::state_of(shard, 2).0 == "catching_up").await;
    assert!(repair(&trial).await.missing == 0);
    assert!(trial.referenced().values().all(|file| file.regions.len() == 3));
    trial.check().await;
    // With nothing to do a stop changes nothing.
    let stop = CancellationToken::new();
    stop.cancel();
    assert_eq!(run(&trial.shard, &unlimited(), &stop).await.unwrap(), Repaired::default());
}

#[tokio::test(start_paused = true)]
async fn no_more_bytes_are_moved_than_the_budget_allows() {
    let (trial, _) = without_c(4).await;
    back(&trial).await;
    let moved = Arc::new(AtomicU64::new(0));
    // Four MiB a second, read and written: five takes of up to 16 MiB.
    let throttle: Throttle = {
        let moved = moved.clone();
        Arc::new(move |bytes| {
            moved.fetch_add(bytes, Relaxed);
            sleep(Duration::from_secs_f64(bytes as f64 / (4 * MIB) as f64)).boxed()
        })
    };
    let started = Instant::now();
    let (stop, shard) = (CancellationToken::new(), trial.shard.clone());
    let running = tokio::spawn(async move { run(&shard, &throttle, &stop).await });
    sleep(Duration::from_millis(4_500)).await;
    let progress = trial.shard.repairs().remove(2);
    assert!(progress.copied_bytes >= 8 * MIB as u64 && progress.files_missing == 2, "{progress:?}");
    assert!(running.await.unwrap().unwrap().files == 2);
    assert_eq!(moved.load(Relaxed), 2 * (20 * MIB as u64 + 1_000));
    assert!(started.elapsed() >= Duration::from_secs(9), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_given_up_while_it_is_copied_is_not_left_behind() {
    let (trial, topic) = without_c(5).await;
    back(&trial).await;
    let key = trial.referenced().into_iter().find(|(_, file)| file.id == FileId(2)).unwrap().0;
    trial.faults[2].add(Rule::once(Operation::Put, Fault::Delay(Duration::from_secs(5))).under(key.clone()));
    let (stop, shard) = (CancellationToken::new(), trial.shard.clone());
    let running = tokio::spawn(async move { run(&shard, &unlimited(), &stop).await });
    sleep(Duration::from_secs(1)).await;
    trial.trim(topic, 20).await;
    running.await.unwrap().unwrap();
    assert_eq!(trial.files_in(2).await, Vec::<Key>::new());
    trial.check().await;
}

/// A region that joins votes only when it has every archive file, too.
#[tokio::test(start_paused = true)]
async fn a_region_that_replaces_another_has_all_files_before_it_votes() {
    let (trial, _) = without_c(6).await;
    // It never comes back; another takes its place.
    let shard = trial.shard.clone();
    let changing = tokio::spawn(async move { shard.change_regions(&named(&["a", "b", "d"])).await });
    sleep(Duration::from_secs(20)).await;
    assert!(!changing.is_finished());
    let status = trial.shard.status();
    let new = status.regions.iter().find(|region| region.name.as_str() == "d").unwrap();
    assert_eq!((new.state, new.files_missing, new.votes), ("catching_up", 2, false));
    assert!(status.change.unwrap().contains("2 archive files behind"));
    assert_eq!(repair(&trial).await.files, 2);
    changing.await.unwrap().unwrap();
    let number = new.number;
    assert!(trial.shard.state().regions.voters().unwrap().contains(number));
    assert!(trial.referenced().values().all(|file| file.regions.contains(&number)));
    for key in trial.referenced().keys() {
        assert!(trial.read(3, key).await.is_some());
    }
}
