//! Publishing and reading against the real shard state over a log in memory. Nothing here depends on how fast it runs.

mod archive;
mod deduplication;
mod measure;

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use brigade_index::{
    batch::{AttributeSet, Attributes, MessageRef, ValueKind},
    command::Command,
    names::ProducerId,
    shard::FetchError,
};
use futures::future::join_all;

use super::*;
use crate::{
    ReadFrom, Slice,
    log::memory::{Fault, MemoryLog},
};

const WRITE: Duration = Duration::from_millis(3);

struct World {
    log: Arc<MemoryLog>,
    ingest: Ingest,
    tasks: TaskTracker,
    topic: TopicName,
    id: TopicId,
    /// Timestamp of the next message.
    time_ms: AtomicI64,
}

fn world(partitions: u32, settings: IngestSettings) -> World {
    let (log, tasks) = (MemoryLog::start(WRITE), TaskTracker::new());
    let (topic, id) = log.create_topic("t", partitions);
    let metrics = IngestMetrics::new(&settings);
    let ingest = Ingest::start_on(Log::Memory(log.clone()), settings, metrics, Env::simulated(1, 1_000), &tasks);
    World { log, ingest, tasks, topic, id, time_ms: AtomicI64::new(1_000) }
}

impl World {
    /// A publish of messages `(key, value)`; an empty key is none.
    async fn publish(&self, identity: Option<&str>, messages: &[(&str, &str)]) -> Result<PublishReply, IngestError> {
        let identity = identity.map(|key| Identity::Key(key.into()));
        self.publish_as(identity, messages, None).await
    }

    async fn publish_as(
        &self,
        identity: Option<Identity>,
        messages: &[(&str, &str)],
        partition: Option<u32>,
    ) -> Result<PublishReply, IngestError> {
        let admission = self.ingest.admit(100)?;
        let mut draft = self.ingest.draft(&self.topic, identity)?;
        for (key, value) in messages {
            let (key, value) = ((!key.is_empty()).then_some(key.as_bytes()), Some(value.as_bytes()));
            let timestamp_ms = self.time_ms.fetch_add(1, Ordering::Relaxed);
            let message = MessageRef {
                key,
                value,
                kind: ValueKind::Text,
                headers: &[],
                timestamp_ms,
                attributes: Attributes::default(),
            };
            draft.push(&message, partition).unwrap();
        }
        self.ingest.publish(draft, admission).await
    }

    fn request(&self, partition: u32, from: ReadFrom) -> ReadRequest {
        let (topic, partition) = (self.topic.clone(), Partition(partition));
        ReadRequest { topic, partition, from, max_messages: 1_000, max_bytes: 1 << 20, wait: Duration::ZERO }
    }

    async fn read(&self, partition: u32, from: u64) -> Vec<String> {
        let reply = self.ingest.read(self.request(partition, ReadFrom::Offset(Offset(from)))).await.unwrap();
        assert_eq!(reply.next_offset.0, from + values(&reply.slices).len() as u64);
        values(&reply.slices)
    }

    fn poll(&self, positions: &[u64], max_messages: usize) -> PollRequest {
        let positions = positions.iter().map(|offset| Offset(*offset)).collect();
        let wait = Duration::from_secs(20);
        PollRequest { topic: self.topic.clone(), positions, only: None, max_messages, max_bytes: 1 << 20, wait }
    }
}

fn values(slices: &[Slice]) -> Vec<String> {
    let of = |slice: &Slice| {
        let (messages, rows) = (slice.messages.clone(), slice.first..slice.first + slice.rows);
        rows.map(move |row| String::from_utf8(messages.value(row).unwrap().to_vec()).unwrap()).collect::<Vec<_>>()
    };
    slices.iter().flat_map(of).collect()
}

fn offsets(reply: &PublishReply) -> Vec<u64> {
    reply.placed.iter().map(|(_, offset)| offset.0).collect()
}

#[tokio::test]
async fn what_is_published_is_read_and_costs_one_write() {
    let world = world(1, IngestSettings::default());
    let reply = world.publish(None, &[("a", "1"), ("", "2"), ("b", "3")]).await.unwrap();
    assert_eq!((offsets(&reply), reply.duplicate), (vec![0, 1, 2], false));
    assert_eq!(world.read(0, 0).await, ["1", "2", "3"]);
    assert_eq!(world.read(0, 2).await, ["3"]);
    assert_eq!(world.read(0, 3).await, [""; 0]);
    assert_eq!(world.log.written.lock().len(), 1);
    assert_eq!(*world.log.fetches.lock(), 0, "what was just published is not fetched");
    assert_eq!(world.ingest.0.gate.used(), 0);
}

#[tokio::test]
async fn concurrent_publishes_share_entries_and_none_is_lost() {
    let world = world(4, IngestSettings::default());
    let texts: Vec<_> = (0..500).map(|at| (format!("k{}", at % 50), format!("v{at}"))).collect();
    let messages: Vec<_> = texts.iter().map(|(key, value)| [(key.as_str(), value.as_str())]).collect();
    let replies = join_all(messages.iter().map(|message| world.publish(None, message))).await;
    assert!(world.log.written.lock().len() < 100);
    for (reply, (_, value)) in replies.iter().zip(&texts) {
        let (partition, offset) = reply.as_ref().unwrap().placed[0];
        assert_eq!(&world.read(partition.0, offset.0).await[0], value);
    }
}

#[tokio::test]
async fn large_requests_are_encoded_elsewhere_and_keep_their_turn() {
    let world = world(1, IngestSettings::default());
    let (large, small) = ("x".repeat(300_000), "s".to_owned());
    let world = &world;
    let publishes = (0..12).map(|at| {
        let messages = if at % 2 == 0 { vec![("", large.as_str()); 3] } else { vec![("", small.as_str())] };
        async move { world.publish(None, &messages).await.unwrap() }
    });
    let placed: Vec<_> = join_all(publishes).await.iter().flat_map(offsets).collect();
    assert_eq!(placed, (0..24).collect::<Vec<_>>());
    assert_eq!(world.read(0, 0).await.len(), 4, "no more than a mebibyte");
}

#[tokio::test]
async fn repeats_get_the_original_answer_whenever_they_come() {
    let world = world(4, IngestSettings::default());
    let messages = [("a", "1"), ("", "2"), ("b", "3"), ("a", "4")];
    let publish = || world.publish(Some("id"), &messages);
    let (first, second, third) = tokio::join!(publish(), publish(), publish());
    let first = first.unwrap();
    assert!(!first.duplicate);
    let fourth = publish().await;
    // Keys hash by another number of partitions from here on.
    let patch = brigade_index::command::SettingsPatch { partitions: Some(7), ..Default::default() };
    world.log.now(Command::AlterTopic { topic: world.id, patch }).unwrap();
    for repeat in [second, third, fourth, publish().await] {
        let repeat = repeat.unwrap();
        assert_eq!((repeat.placed, repeat.duplicate), (first.placed.clone(), true));
    }
    assert_eq!(world.log.written.lock().len(), 1);
    let other = world.publish(Some("id"), &messages[..2]).await;
    assert!(matches!(other, Err(IngestError::IdentityReused)));
    assert!(!world.publish(Some("id2"), &messages).await.unwrap().duplicate);
}

#[tokio::test]
async fn an_unknown_outcome_is_settled_by_a_retry() {
    let world = world(1, IngestSettings::default());
    *world.log.fault.lock() = Fault::UnknownButStored;
    let publish = || world.publish(Some("id"), &[("", "1")]);
    let (first, attached) = tokio::join!(publish(), publish());
    for lost in [first, attached] {
        assert!(matches!(lost, Err(IngestError::Propose(ProposeError::Unknown(_)))));
    }
    *world.log.fault.lock() = Fault::None;
    let retry = publish().await.unwrap();
    assert_eq!((offsets(&retry), retry.duplicate), (vec![0], true));
    assert_eq!(world.read(0, 0).await, ["1"]);
}

#[tokio::test]
async fn a_producer_that_is_far_behind_is_told_so() {
    let world = world(1, IngestSettings::default());
    let producer = ProducerId::new("p").unwrap();
    let publish = |sequence| world.publish_as(Some(Identity::Producer(producer.clone(), sequence)), &[("", "m")], None);
    for sequence in 0..70 {
        publish(sequence).await.unwrap();
    }
    assert!(matches!(publish(0).await, Err(IngestError::SequenceTooOld)));
    assert!(publish(69).await.unwrap().duplicate);
}

#[tokio::test]
async fn failures_are_answered_and_leave_nothing_behind() {
    let world = world(1, IngestSettings::default());
    for fault in [Fault::Unavailable, Fault::Dropped] {
        *world.log.fault.lock() = fault;
        let failed = world.publish(Some("id"), &[("", "1")]).await;
        assert!(matches!(failed, Err(IngestError::Propose(_))), "{failed:?}");
        assert_eq!(world.ingest.0.gate.used(), 0);
    }
    *world.log.fault.lock() = Fault::None;
    assert!(!world.publish(Some("id"), &[("", "1")]).await.unwrap().duplicate);

    *world.log.not_ready.lock() = Some(ProposeError::NotLeader { leader: None });
    assert!(matches!(world.ingest.admit(1), Err(IngestError::Propose(ProposeError::NotLeader { .. }))));
    *world.log.not_ready.lock() = None;

    let (admission, draft) = (world.ingest.admit(1).unwrap(), world.ingest.draft(&world.topic, None));
    let mut draft = draft.unwrap();
    let (value, kind) = (Some(b"v".as_slice()), ValueKind::Text);
    draft
        .push(
            &MessageRef { key: None, value, kind, headers: &[], timestamp_ms: 0, attributes: Attributes::default() },
            None,
        )
        .unwrap();
    world.log.now(Command::DeleteTopic { topic: world.id }).unwrap();
    assert!(matches!(world.ingest.publish(draft, admission).await, Err(IngestError::TopicNotFound(_))));
    assert!(matches!(world.ingest.draft(&world.topic, None), Err(IngestError::TopicNotFound(_))));
}

#[tokio::test]
async fn the_permit_stays_taken_when_the_client_goes_away() {
    let settings = IngestSettings { request_timeout: Duration::ZERO, ..IngestSettings::default() };
    let world = world(1, settings);
    assert!(matches!(world.publish(None, &[("", "1")]).await, Err(IngestError::TimedOut(_))));
    assert_eq!(world.ingest.0.gate.used(), 1024);
    let mut request = world.request(0, ReadFrom::Earliest);
    request.wait = Duration::from_secs(30);
    assert_eq!(values(&world.ingest.read(request).await.unwrap().slices), ["1"]);
    world.ingest.drain().await;
    assert_eq!(world.ingest.0.gate.used(), 0);
}

#[tokio::test]
async fn messages_that_outgrow_their_body_are_admitted_anew() {
    let world = world(1, IngestSettings { publish_memory_bytes: 4_096, ..IngestSettings::default() });
    let value = "x".repeat(3_000);
    let held = world.ingest.admit(2_000).unwrap();
    assert!(matches!(world.publish(None, &[("", &value)]).await, Err(IngestError::Busy { .. })));
    drop(held);
    world.publish(None, &[("", &value)]).await.unwrap();
}

#[tokio::test]
async fn draining_answers_everything_and_refuses_more() {
    let world = world(1, IngestSettings { linger: Duration::from_secs(60), ..IngestSettings::default() });
    let world = &world;
    let publishes = ["1", "2", "3"].map(|value| async move { world.publish(None, &[("", value)]).await });
    let drain = async {
        // The publishes were polled first, so their messages are in the batcher's inbox.
        world.ingest.drain().await;
    };
    let (replies, ()) = timeout(Duration::from_secs(30), async { tokio::join!(biased; join_all(publishes), drain) })
        .await
        .expect("nothing lingers");
    let placed: Vec<_> = replies.into_iter().flat_map(|reply| offsets(&reply.unwrap())).collect();
    assert_eq!(placed, [0, 1, 2]);
    assert!(matches!(world.ingest.admit(1), Err(IngestError::Propose(ProposeError::ShuttingDown))));
    world.ingest.drain().await;
    world.tasks.close();
    world.tasks.wait().await;
}

#[tokio::test]
async fn reads_start_where_they_are_told_and_stay_within_the_log() {
    let world = world(1, IngestSettings::default());
    for value in ["0", "1", "2"] {
        world.publish(None, &[("", value)]).await.unwrap();
        world.time_ms.fetch_add(99, Ordering::Relaxed);
    }
    let read = |from| world.ingest.read(world.request(0, from));
    assert_eq!(values(&read(ReadFrom::Earliest).await.unwrap().slices), ["0", "1", "2"]);
    let latest = read(ReadFrom::Latest).await.unwrap();
    assert_eq!((latest.slices.len(), latest.next_offset.0, latest.high_watermark.0), (0, 3, 3));
    for (time, offset) in [(0, 0), (1_000, 0), (1_001, 1), (1_100, 1), (1_200, 2), (1_201, 3)] {
        assert_eq!(world.ingest.offset_at(world.id, Partition(0), time).await.unwrap().0, offset, "{time}");
    }
    let out = read(ReadFrom::Offset(Offset(4))).await;
    assert!(matches!(out, Err(IngestError::OffsetOutOfRange { high_watermark: Offset(3), .. })));
    let none = world.ingest.read(world.request(1, ReadFrom::Earliest)).await;
    assert!(matches!(none, Err(IngestError::PartitionNotFound { partitions: 1, .. })));
    let mut limited = world.request(0, ReadFrom::Earliest);
    (limited.max_messages, limited.max_bytes) = (2, 100);
    assert_eq!(values(&world.ingest.read(limited.clone()).await.unwrap().slices), ["0", "1"]);
    (limited.max_messages, limited.max_bytes) = (0, 0);
    assert_eq!(values(&world.ingest.read(limited).await.unwrap().slices), ["0"], "at least one");
}

#[tokio::test]
async fn time_is_searched_inside_batches_and_across_them() {
    let world = world(1, IngestSettings::default());
    // Timestamps 1000 to 1002, then 1003 to 1004.
    world.publish(None, &[("", "0"), ("", "1"), ("", "2")]).await.unwrap();
    world.publish(None, &[("", "3"), ("", "4")]).await.unwrap();
    for (time, offset) in [(999, 0), (1_001, 1), (1_002, 2), (1_003, 3), (1_004, 4), (1_005, 5)] {
        assert_eq!(world.ingest.offset_at(world.id, Partition(0), time).await.unwrap().0, offset, "{time}");
    }
}

#[tokio::test]
async fn a_waiting_read_gets_what_comes_and_ends_in_time() {
    let world = world(1, IngestSettings::default());
    let mut request = world.request(0, ReadFrom::Latest);
    request.wait = Duration::from_secs(10);
    let publish = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.publish(None, &[("", "1")]).await.unwrap();
    };
    let (reply, ()) = tokio::join!(world.ingest.read(request.clone()), publish);
    assert_eq!(values(&reply.unwrap().slices), ["1"]);
    request.wait = Duration::from_millis(20);
    let reply = world.ingest.read(request.clone()).await.unwrap();
    assert_eq!((reply.slices.len(), reply.next_offset.0), (0, 1));
    request.wait = Duration::from_secs(10);
    let delete = async { world.log.now(Command::DeleteTopic { topic: world.id }) };
    let (reply, _) = tokio::join!(world.ingest.read(request), delete);
    assert!(matches!(reply, Err(IngestError::TopicNotFound(_))));
}

#[tokio::test]
async fn what_is_not_cached_is_fetched_once_and_damage_is_reported() {
    let world = world(1, IngestSettings { cache_bytes: 0, ..IngestSettings::default() });
    for value in ["0", "1", "2"] {
        world.publish(None, &[("", value)]).await.unwrap();
    }
    assert_eq!(world.read(0, 0).await, ["0", "1", "2"]);
    assert_eq!(*world.log.fetches.lock(), 3);
    world.log.lose_bodies();
    let damaged = world.ingest.read(world.request(0, ReadFrom::Earliest)).await;
    assert!(matches!(damaged, Err(IngestError::Fetch(_))));
    world.publish(None, &[("", "3")]).await.unwrap();
    assert_eq!(world.read(0, 3).await, ["3"]);
}

#[tokio::test]
async fn many_readers_of_one_batch_fetch_it_once() {
    let cold = world(1, IngestSettings::default());
    cold.publish(None, &[("", "0")]).await.unwrap();
    let settings = IngestSettings::default();
    let log = Log::Memory(cold.log.clone());
    let metrics = IngestMetrics::new(&settings);
    let ingest = Ingest::start_on(log, settings, metrics, Env::simulated(1, 0), &cold.tasks);
    let reads = (0..20).map(|_| ingest.read(cold.request(0, ReadFrom::Earliest)));
    assert!(join_all(reads).await.iter().all(|reply| reply.as_ref().unwrap().next_offset.0 == 1));
    assert_eq!(*cold.log.fetches.lock(), 1);
}

#[tokio::test]
async fn polls_share_between_partitions_and_wait_for_all_of_them() {
    let world = world(3, IngestSettings::default());
    for partition in [0, 0, 0, 0, 2, 2] {
        world.publish_as(None, &[("", "m")], Some(partition)).await.unwrap();
    }
    let first = world.ingest.poll(world.poll(&[], 4)).await.unwrap();
    assert_eq!(first.positions, [(Partition(0), Offset(2)), (Partition(2), Offset(2))]);
    let second = world.ingest.poll(world.poll(&[2, 0, 2], 10)).await.unwrap();
    assert_eq!(second.positions, [(Partition(0), Offset(4))]);
    let all = world.ingest.poll(world.poll(&[0, 0, 0], 100)).await.unwrap();
    assert_eq!(values(&all.slices).len(), 6);
    let publish = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.publish_as(None, &[("", "late")], Some(1)).await.unwrap();
    };
    let (waited, ()) = tokio::join!(world.ingest.poll(world.poll(&[4, 0, 2], 10)), publish);
    let waited = waited.unwrap();
    assert_eq!((values(&waited.slices), waited.positions), (vec!["late".to_owned()], vec![(Partition(1), Offset(1))]));
    let beyond = world.ingest.poll(world.poll(&[9], 1)).await;
    assert!(matches!(beyond, Err(IngestError::OffsetOutOfRange { .. })));
    let too_many = world.ingest.poll(world.poll(&[0; 4], 1)).await;
    assert!(matches!(too_many, Err(IngestError::PartitionNotFound { partitions: 3, .. })));
    let firsts = [world.ingest.poll(world.poll(&[], 1)).await, world.ingest.poll(world.poll(&[], 1)).await];
    let firsts = firsts.map(|reply| reply.unwrap().positions[0].0);
    assert_ne!(firsts[0], firsts[1], "each partition is first in turn");
}

#[tokio::test]
async fn figures_are_exported() {
    let world = world(1, IngestSettings::default());
    world.publish(Some("id"), &[("", "1"), ("", "2")]).await.unwrap();
    world.publish(Some("id"), &[("", "1"), ("", "2")]).await.unwrap();
    let _ = world.ingest.admit(usize::MAX);
    world.read(0, 0).await;
    let mut registry = prometheus_client::registry::Registry::default();
    world.ingest.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "brigade_ingest_published_requests_total 1",
        "brigade_ingest_published_messages_total 2",
        "brigade_ingest_batches_total 1",
        "brigade_ingest_duplicate_requests_total 1",
        "brigade_ingest_refused_requests_total{reason=\"TooLarge\"} 1",
        "brigade_ingest_flushes_total{trigger=\"Idle\"} 1",
        "brigade_ingest_ack_seconds_count 1",
        "brigade_ingest_admitted_bytes 0",
        "brigade_ingest_cache_hits_total 1",
        "brigade_ingest_cache_misses_total 0",
        "brigade_ingest_read_messages_total 2",
        "brigade_ingest_read_bytes_total 2",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}
