//! Waiting for an assignment, in virtual time.

use brigade_index::{command::Command, env::Env, ids::Offset};
use tokio_util::task::TaskTracker;

use super::*;
use crate::{IngestMetrics, IngestSettings, log::memory::MemoryLog};

/// Members of a new subscription to a topic with two partitions, or of one that was there before the reign.
fn members(new: bool) -> (Arc<MemoryLog>, Members) {
    let log = MemoryLog::start(Duration::from_millis(1));
    let name = SubscriptionName::new("s").unwrap();
    let create = |log: &MemoryLog| {
        let (topic, id) = log.create_topic("t", 2);
        let command = Command::CreateSubscription { topic: id, name: name.clone(), positions: Vec::new() };
        log.now(command).unwrap();
        topic
    };
    let early = (!new).then(|| create(&log));
    let settings = IngestSettings::default();
    let metrics = IngestMetrics::new(&settings);
    let tasks = TaskTracker::new();
    let ingest = Ingest::start_on(Log::Memory(log.clone()), settings, metrics, Env::simulated(1, 0), &tasks);
    let topic = early.unwrap_or_else(|| create(&log));
    let members = ingest.members(&topic, &name).unwrap();
    (log, members)
}

fn beat(member: &str, owned: &Assignment, wait_ms: u64) -> Heartbeat {
    let owned = owned.partitions.iter().copied().collect();
    let (member, wait) = (MemberName::new(member).unwrap(), Duration::from_millis(wait_ms));
    Heartbeat { member, session_ms: 10_000, owned, wait }
}

fn nothing() -> Assignment {
    Assignment { generation: 0, partitions: Vec::new(), revoke: Vec::new(), settles_in_ms: None }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_waits_hears_of_every_change_at_once() {
    let (_log, members) = members(true);
    let begun = Instant::now();
    let a = members.heartbeat(beat("a", &nothing(), 5_000)).await.unwrap();
    assert_eq!((a.partitions.len(), begun.elapsed()), (2, Duration::ZERO), "nothing to wait for");
    let waiting = tokio::spawn({
        let (members, beat) = (members.clone(), beat("a", &a, 5_000));
        async move { members.heartbeat(beat).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let b = tokio::spawn({
        let members = members.clone();
        async move { members.heartbeat(beat("b", &nothing(), 5_000)).await }
    });
    let asked = waiting.await.unwrap().unwrap();
    assert_eq!((asked.partitions.len(), &*asked.revoke), (1, &[Partition(1)][..]));
    assert_eq!(begun.elapsed(), Duration::from_millis(100));
    let pending = members.commit(&MemberName::new("a").unwrap(), &[(Partition(1), None)]).unwrap();
    members.heartbeat(beat("a", &asked, 0)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!b.is_finished(), "a commit of its former owner is on its way");
    drop(pending);
    let b = b.await.unwrap().unwrap();
    assert_eq!((b.partitions[0].0, begun.elapsed()), (Partition(1), Duration::from_millis(200)));
    // And of the end of a session, without anybody else asking.
    let alone = members.heartbeat(beat("b", &b, 5_000)).await.unwrap();
    assert_eq!((alone.partitions.len(), begun.elapsed()), (1, Duration::from_millis(5_200)), "half a session");
    let alone = members.heartbeat(beat("b", &alone, 5_000)).await.unwrap();
    assert_eq!((alone.partitions.len(), begun.elapsed()), (2, Duration::from_millis(10_100)));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_may_have_had_another_leader_settles() {
    let (_log, members) = members(false);
    let begun = Instant::now();
    let mut a = members.heartbeat(beat("a", &nothing(), 5_000)).await.unwrap();
    while a.partitions.is_empty() {
        assert!(a.settles_in_ms.is_some());
        a = members.heartbeat(beat("a", &nothing(), 5_000)).await.unwrap();
    }
    assert_eq!((a.partitions.len(), begun.elapsed()), (2, Duration::from_secs(10)));
}

#[tokio::test(start_paused = true)]
async fn a_poll_reads_what_is_assigned_and_ends_when_that_changes() {
    let (log, members) = members(true);
    let request = |wait| PollRequest {
        topic: TopicName::new("t").unwrap(),
        positions: vec![Offset(0); 2],
        only: None,
        max_messages: 10,
        max_bytes: 1 << 20,
        wait: Duration::from_millis(wait),
    };
    let a = MemberName::new("a").unwrap();
    let unknown = members.turn(&a, &[]).err();
    assert!(matches!(unknown, Some(MemberError::Refused(Refusal::Unknown(_)))), "{unknown:?}");
    let begun = Instant::now();
    members.heartbeat(beat("a", &nothing(), 0)).await.unwrap();
    let a_turn = members.turn(&a, &[]).unwrap();
    let (polled, _) = tokio::join!(biased; a_turn.poll(request(60_000)), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        members.heartbeat(beat("b", &nothing(), 0)).await
    });
    assert!(polled.unwrap().slices.is_empty() && begun.elapsed() == Duration::from_millis(50));
    assert!(members.turn(&a, &[Partition(1)]).is_ok(), "it may still finish");
    let spare = MemberName::new("b").unwrap();
    let other = members.turn(&spare, &[Partition(1)]).err();
    assert!(matches!(other, Some(MemberError::Refused(Refusal::NotAssigned { .. }))), "{other:?}");
    assert!(members.turn(&spare, &[]).unwrap().poll(request(1_000)).await.unwrap().slices.is_empty());
    assert_eq!(begun.elapsed(), Duration::from_millis(1_050), "nothing to read, and nothing to hear of");
    *log.not_ready.lock() = Some(brigade_index::shard::ProposeError::ShuttingDown);
    assert!(matches!(members.list(), Err(MemberError::Ingest(IngestError::Propose(_)))));
}
