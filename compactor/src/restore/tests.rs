//! Restoring clusters in memory.

use brigade_index::{
    command::{
        Command, IdempotentRequest, Identity, Mode, OwnedRows, Prepare, Publish, QueueSettings, Settle,
        SettlePartition, Transact,
    },
    ids::{Offset, SubscriptionId},
    names::{SubscriptionName, TransactionId},
    state::ShardState,
    store::{
        Operation,
        fault::{Answer, Fault, FaultStore, Rule},
    },
};

use super::*;
use crate::{
    scrub::{Scrub, ScrubSettings},
    testbed::{Bed, Lead, batch_of, read},
};

const THREE: [&str; 3] = ["a", "b", "c"];

fn restore_of(from: &Bed, region: &str, to: &Bed) -> Restore {
    Restore::new(from.region(region), to.targets(), 0, to.env.clone(), Arc::default()).unwrap()
}

/// A cluster with archive files, entries, a queue with settled messages, and a prepared transaction.
async fn filled() -> (Bed, Lead, TopicId) {
    let bed = Bed::new(&THREE);
    let lead = bed.lead(&THREE).await;
    let topic = lead.topic("orders").await;
    lead.topic("other").await;
    lead.publish_many(topic, 0, 6).await;
    lead.publish_many(topic, 1, 4).await;
    lead.archive(topic, 0, 2, &THREE).await;
    lead.settle().await;
    lead.shard.snapshot().await.unwrap();
    let name = SubscriptionName::new("workers").unwrap();
    let settings = QueueSettings::default();
    let command = Command::CreateQueue { topic, name: name.clone(), settings, secret: [7; 32], positions: Vec::new() };
    lead.submit(vec![command], Vec::new()).await;
    let id = lead.shard.state().topic(topic).unwrap().subscriptions[&name].queue().unwrap().id;
    lead.submit(vec![Command::Settle(settle(topic, id))], Vec::new()).await;
    let (mut batch, bytes) = batch_of(1, &["prepared".to_owned()]);
    batch.owned = vec![OwnedRows { first: 0, rows: 1, request: 0 }];
    let identity = Identity::Key("t1".into());
    let request = IdempotentRequest { identity, partition_count: 2, keyless: Partition(1) };
    let now = lead.shard.state().time_ms;
    let transact = Transact {
        id: TransactionId::new("t1").unwrap(),
        publishes: vec![Publish { topic, requests: vec![request], batches: vec![batch] }],
        settles: Vec::new(),
        mode: Mode::Prepare(Prepare { expires_ms: now + 600_000, check_back: None }),
    };
    lead.submit(vec![Command::Transact(transact)], vec![bytes]).await;
    lead.publish_many(topic, 1, 2).await;
    lead.settle().await;
    (bed, lead, topic)
}

fn settle(topic: TopicId, subscription: SubscriptionId) -> Settle {
    let partition = SettlePartition { settled: vec![(Offset(3), 4)], ..SettlePartition::new(Partition(0)) };
    Settle { topic, name: SubscriptionName::new("workers").unwrap(), subscription, partitions: vec![partition] }
}

/// What is to be the same in the restored cluster.
fn told(state: &ShardState) -> String {
    let topics = state.topics().map(|topic| {
        let logs: Vec<_> = topic.partitions.iter().map(|log| (log.log_start, log.high_watermark, log.bytes)).collect();
        (&topic.name, topic.id, &topic.settings, logs, &topic.subscriptions, &topic.dedup)
    });
    format!("{:?} {:?}", topics.collect::<Vec<_>>(), state.transactions.prepared())
}

async fn all(bed: &Bed, region: &str, shard: &brigade_index::shard::Shard, topic: TopicId) -> Vec<(u64, String)> {
    let mut found = read(bed, region, shard, topic, 0).await;
    found.extend(read(bed, region, shard, topic, 1).await);
    found
}

#[tokio::test(start_paused = true)]
async fn a_cluster_comes_back_from_one_region_with_everything_in_it() {
    let (bed, lead, topic) = filled().await;
    let messages = all(&bed, "b", &lead.shard, topic).await;
    let before = told(&lead.shard.state());
    drop(lead);
    for names in [&["x", "y", "z"][..], &["x"]] {
        let to = Bed::new(names);
        let report = restore_of(&bed, "b", &to).run().await.unwrap();
        assert_ne!(report.cluster_id, report.source_cluster_id);
        assert_eq!((report.files, report.resumed), (1, false));
        let held: Vec<_> = report.partitions.iter().map(|partition| partition.messages).collect();
        assert_eq!(held, [30, 30, 0, 0], "{report:#?}");
        let new = to.lead(names).await;
        assert_eq!(told(&new.shard.state()), before);
        assert_eq!(all(&to, names[0], &new.shard, topic).await, messages);
        // It goes on from there: what was prepared, new messages, snapshots, another leader.
        let id = TransactionId::new("t1").unwrap();
        new.submit(vec![Command::Decide { id, commit: true }], Vec::new()).await;
        new.publish_many(topic, 0, 1).await;
        new.settle().await;
        new.shard.snapshot().await.unwrap();
        new.archive(topic, 0, 0, names).await;
        new.settle().await;
        drop(new);
        let again = to.lead(names).await;
        let found = all(&to, names[0], &again.shard, topic).await;
        assert_eq!(found.len(), messages.len() + 6);
        assert_eq!(found.last().unwrap().1, "prepared");
        let settings = ScrubSettings::default();
        let scrub = Scrub::new(SHARD, to.targets(), settings, Arc::default(), Arc::default()).run().await.unwrap();
        assert!(scrub.is_clean(), "{scrub:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_source_did_not_know_to_be_committed_is_restored_and_counted() {
    let bed = Bed::new(&["a"]);
    let lead = bed.lead(&["a"]).await;
    let topic = lead.topic("orders").await;
    lead.publish_many(topic, 0, 4).await;
    let messages = read(&bed, "a", &lead.shard, topic, 0).await;
    let to = Bed::new(&["a"]);
    let report = restore_of(&bed, "a", &to).run().await.unwrap();
    assert_eq!((report.sequence, report.beyond_known), (lead.shard.status().committed.0, 1));
    let new = to.lead(&["a"]).await;
    assert_eq!(read(&to, "a", &new.shard, topic, 0).await, messages);
}

#[tokio::test(start_paused = true)]
async fn targets_that_hold_something_and_sources_that_are_none_are_refused() {
    let (bed, _lead, _) = filled().await;
    let to = Bed::new(&["x"]);
    to.put("x", &keys::Key::from("notes.txt"), b"x".to_vec()).await;
    let error = restore_of(&bed, "a", &to).run().await.unwrap_err();
    assert_eq!(error.code(), "target_not_empty");
    assert_eq!(to.keys("x", "").await.len(), 1, "nothing is written");
    let error = restore_of(&Bed::new(&["a"]), "a", &Bed::new(&["x"])).run().await.unwrap_err();
    assert_eq!(error.code(), "source_unusable");
    let error = restore_of(&bed, "a", &bed.clone()).run().await.unwrap_err();
    assert_eq!(error.code(), "target_not_empty", "not even into itself");
    let targets = Bed::new(&["x", "y"]).targets();
    assert!(Restore::new(bed.region("a"), targets, 0, bed.env.clone(), Arc::default()).is_err());
    // A cluster of its own that was restored is not empty either.
    let to = Bed::new(&["x"]);
    restore_of(&bed, "a", &to).run().await.unwrap();
    assert_eq!(restore_of(&bed, "a", &to).run().await.unwrap_err().code(), "target_not_empty");
    // A source that is damaged gives nothing, and says so.
    let file = bed.keys("a", "archive").await.remove(0);
    bed.flip("a", &file, 100).await;
    let to = Bed::new(&["x"]);
    let error = restore_of(&bed, "a", &to).run().await.unwrap_err();
    assert_eq!(error.code(), "source_damaged");
}

/// Breaks off at every write, goes on, and breaks off again.
#[tokio::test(start_paused = true)]
async fn a_restore_that_breaks_off_anywhere_is_no_cluster_and_is_finished_by_the_next() {
    let (bed, lead, topic) = filled().await;
    let messages = all(&bed, "a", &lead.shard, topic).await;
    drop(lead);
    let mut writes = 0;
    loop {
        let to = Bed::new(&THREE);
        // The second region takes so many writes and no more.
        let faulty = FaultStore::new(to.stores["b"].clone(), 5);
        let fault = Fault::Fail { applied: writes % 2 == 1, answer: Answer::Status(403) };
        faulty.add(Rule { skip: writes, ..Rule::always(Operation::Put, fault) });
        let mut targets = to.targets();
        let name = targets[1].name.clone();
        let (metrics, timing) = (Default::default(), Default::default());
        targets[1].store = Ok(RegionStore::new(name, Arc::new(faulty), metrics, timing, to.env.clone()));
        let broken = Restore::new(bed.region("a"), targets, 0, to.env.clone(), Arc::default()).unwrap().run().await;
        let Err(error) = broken else { break };
        assert_eq!(error.code(), "store_failed", "{error}");
        for region in THREE {
            let identity = to.get(region, &keys::identity()).await;
            let floor = to.get(region, &keys::floor(SHARD, 1)).await;
            assert!(identity.is_none() || floor.is_some(), "after {writes} writes region {region} looks whole");
        }
        let report = restore_of(&bed, "a", &to).run().await.unwrap();
        assert!(report.resumed, "after {writes} writes");
        let new = to.lead(&THREE).await;
        assert_eq!(all(&to, "b", &new.shard, topic).await, messages, "after {writes} writes");
        assert!(to.keys("b", "journal/00000000/restore").await.is_empty());
        writes += 1;
    }
    assert!(writes > 5);
}

#[tokio::test(start_paused = true)]
async fn a_half_restored_target_is_finished_only_by_what_began_it() {
    let (bed, _lead, _) = filled().await;
    let to = Bed::new(&THREE);
    let restore = restore_of(&bed, "a", &to);
    let content = restore.source_content().await.unwrap();
    let mark = restore.plan(content.identity.as_ref().unwrap(), content.accepted());
    restore.put_marks(&restore.stores().unwrap(), &mark).await.unwrap();
    let (other, ..) = filled().await;
    assert_eq!(restore_of(&other, "a", &to).run().await.unwrap_err().code(), "target_half_restored");
    assert_eq!(restore_of(&bed, "b", &to).run().await.unwrap_err().code(), "target_half_restored");
    let mut fewer = to.clone();
    fewer.stores.retain(|name, _| name == "a");
    assert_eq!(restore_of(&bed, "a", &fewer).run().await.unwrap_err().code(), "target_half_restored");
    let named = vec![(RegionName::new("a").unwrap(), "memory://a".to_owned())];
    let bed_of_targets = to.clone();
    let opener: brigade_index::founding::Opener = Arc::new(move |name, _| Ok(bed_of_targets.region(name.as_str())));
    let joined = brigade_index::founding::join(&named, opener, &to.env).await;
    let text = joined.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(
        text.contains("run the same brigade restore again"),
        "no server takes it for empty, nor for a cluster: {text}"
    );
    restore.run().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_with_a_gap_is_refused_unless_what_lies_behind_may_be_left_out() {
    let (bed, lead, topic) = filled().await;
    lead.publish_many(topic, 0, 4).await;
    lead.settle().await;
    drop(lead);
    let content = restore_of(&bed, "b", &Bed::new(&["x"])).source_content().await.unwrap();
    let (at, last) = (content.fold.at, content.accepted());
    let gone = Slot { index: at.index - 3, ..at };
    bed.delete("b", &keys::journal(SHARD, gone)).await;
    let to = Bed::new(&["x"]);
    let error = restore_of(&bed, "b", &to).run().await.unwrap_err();
    assert_eq!(error.code(), "source_has_gap");
    let text = error.to_string();
    assert!(text.contains(&format!("up to entry {}", last.0 - 3)) && text.contains("the 2 objects"), "{text}");
    assert!(to.keys("x", "").await.is_empty(), "nothing is written");
    let report = restore_of(&bed, "b", &to).despite_gaps(true).run().await.unwrap();
    assert_eq!((report.sequence, report.left_out), (last.0 - 3, 2));
    assert_eq!(restore_of(&bed, "a", &Bed::new(&["x"])).run().await.unwrap().left_out, 0);
}
