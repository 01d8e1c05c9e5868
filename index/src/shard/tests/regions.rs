//! Several regions: quorums, regions that are away and come back, that join, leave, or have gone backwards.

use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutPayload};

use super::*;
use crate::store::{
    Operation,
    fault::{Fault, FaultStore, Latency, Rule},
};

/// Three regions whose stores fail as told.
pub(super) struct Three {
    pub(super) faults: Vec<FaultStore>,
}

pub(super) const NAMES: [&str; 3] = ["a", "b", "c"];

impl Three {
    pub(super) fn new() -> Self {
        Self { faults: (0..3).map(|seed| FaultStore::new(memory(), seed)).collect() }
    }

    pub(super) fn stores(&self) -> Vec<(&'static str, Store)> {
        NAMES.into_iter().zip(&self.faults).map(|(name, faults)| (name, Arc::new(faults.clone()) as Store)).collect()
    }

    pub(super) async fn start(&self, node: &str) -> Shard {
        try_start(&self.stores(), node).await.unwrap()
    }

    pub(super) async fn try_start(&self, node: &str) -> Result<Shard, StartError> {
        try_start(&self.stores(), node).await
    }

    pub(super) fn away(&self, region: usize, away: bool) {
        self.faults[region].set_unreachable(away);
    }
}

pub(super) fn state_of(shard: &Shard, name: &str) -> (&'static str, u64) {
    let status = shard.status();
    let region = status.regions.iter().find(|region| region.name.as_str() == name).unwrap();
    (region.state, region.behind_entries)
}

pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to be: {what}");
}

/// Everything is where it should be in one region: each entry of each run is read from it alone.
pub(super) async fn whole_in(shard: &Shard, region: &str) {
    let runs: Vec<_> = {
        let state = shard.state();
        let logs = state.topics().flat_map(|topic| &topic.partitions);
        logs.flat_map(|log| log.runs().to_vec()).collect()
    };
    let views = shard.shared.views_all();
    let view = views.iter().find(|view| view.record.name.as_str() == region).unwrap();
    for run in runs {
        let key = view.key_of(ShardId(0), run.batch.sequence).unwrap();
        let range = run.batch.at..run.batch.at + u64::from(run.batch.len);
        let bytes = view.store.get_range(crate::store::Component::Read, &key, range).await.unwrap();
        assert_eq!(checksum(&bytes.expect("the object exists")), run.batch.crc, "{region} {key}");
    }
}

pub(super) async fn publish_many(shard: &Shard, topic: TopicId, texts: std::ops::Range<u32>) {
    for text in texts {
        publish(shard, topic, &text.to_string(), None).await;
    }
}

pub(super) fn texts(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|text| text.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_one_leader_acknowledged_the_next_has_whichever_region_is_away() {
    let three = Three::new();
    let shard = three.start("first").await;
    let topic = create_topic(&shard, "t").await;
    drop(shard);
    for round in 0..6_u32 {
        let away = round as usize % 3;
        three.away(away, true);
        let shard = three.start(&format!("n{round}")).await;
        assert_eq!(read_all(&shard, topic).await, texts(0..round * 20));
        publish_many(&shard, topic, round * 20..round * 20 + 20).await;
        if round % 2 == 1 {
            assert_eq!(shard.snapshot().await.unwrap(), shard.status().committed);
        }
        drop(shard);
        three.away(away, false);
    }
    let shard = three.start("last").await;
    assert_eq!(read_all(&shard, topic).await, texts(0..120));
    for region in NAMES {
        until("in sync", || state_of(&shard, region) == ("in_sync", 0)).await;
        whole_in(&shard, region).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_that_goes_away_under_way_is_caught_up_when_it_returns() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..10).await;
    three.away(1, true);
    publish_many(&shard, topic, 10..200).await;
    until("unreachable", || state_of(&shard, "b").0 == "unreachable").await;
    assert!(state_of(&shard, "b").1 >= 190);
    assert!(shard.ready().is_ok());
    three.away(1, false);
    until("caught up", || state_of(&shard, "b") == ("in_sync", 0)).await;
    whole_in(&shard, "b").await;
    // Now the two others may go.
    drop(shard);
    three.away(0, true);
    let shard = three.start("next").await;
    assert_eq!(read_all(&shard, topic).await, texts(0..200));
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_publishes_are_refused_and_reads_go_on() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..5).await;
    three.away(0, true);
    three.away(2, true);
    let (command, body) = publish_of(topic, "hangs", Some(1));
    let hanging = tokio::spawn({
        let shard = shard.clone();
        async move { submit(&shard, command, body).await }
    });
    until("a quorum is missed", || matches!(shard.ready(), Err(ProposeError::Quorum(_)))).await;
    let (command, body) = publish_of(topic, "refused", None);
    let error = submit(&shard, command, body).await.unwrap_err();
    assert!(error.to_string().contains("1 of 3 regions") && error.to_string().contains("injected"), "{error}");
    assert_eq!(read_all(&shard, topic).await, texts(0..5));
    three.away(2, false);
    assert!(hanging.await.unwrap().is_ok(), "what was sent is committed as soon as a quorum has it");
    assert!(shard.ready().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_from_two_regions_is_deposed_and_acknowledges_nothing_more() {
    let three = Three::new();
    let old = three.start("old").await;
    let topic = create_topic(&old, "t").await;
    publish_many(&old, topic, 0..5).await;
    let new = three.start("new").await;
    publish_many(&new, topic, 5..10).await;
    let (command, body) = publish_of(topic, "zombie", None);
    let error = submit(&old, command, body).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unknown(_) | ProposeError::NotLeader { .. }), "{error}");
    until("deposed", || old.status().state == "deposed").await;
    assert_eq!(read_all(&new, topic).await, texts(0..10));
    drop(new);
    assert_eq!(read_all(&three.start("third").await, topic).await, texts(0..10));
}

#[tokio::test(start_paused = true)]
async fn a_region_far_behind_is_given_a_snapshot_and_copies_of_what_it_misses() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    three.away(1, true);
    publish_many(&shard, topic, 0..50).await;
    for _ in 0..super::super::leader::INSTALL_ABOVE + 100 {
        // One entry without a body at a time: those that come together would share one.
        shard.propose(Vec::new()).await.unwrap();
    }
    shard.snapshot().await.unwrap();
    drop(shard);
    three.away(1, false);
    let shard = three.start("next").await;
    publish_many(&shard, topic, 50..60).await;
    until("in sync", || state_of(&shard, "b") == ("in_sync", 0)).await;
    whole_in(&shard, "b").await;
    shard.snapshot().await.unwrap();
    drop(shard);
    three.away(0, true);
    let shard = three.start("third").await;
    assert_eq!(read_all(&shard, topic).await, texts(0..60));
    whole_in(&shard, "b").await;
}

pub(super) async fn copy_of(store: &Store) -> Vec<(object_store::path::Path, Bytes)> {
    let mut objects = Vec::new();
    for meta in store.list(None).try_collect::<Vec<_>>().await.unwrap() {
        let bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        objects.push((meta.location, bytes));
    }
    objects
}

pub(super) async fn restore(store: &Store, objects: Vec<(object_store::path::Path, Bytes)>) {
    for meta in store.list(None).try_collect::<Vec<_>>().await.unwrap() {
        store.delete(&meta.location).await.unwrap();
    }
    for (key, bytes) in objects {
        store.put(&key, PutPayload::from(bytes)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_restored_from_an_old_copy_is_refused() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..100).await;
    let store = three.stores()[2].1.clone();
    let old = copy_of(&store).await;
    publish_many(&shard, topic, 100..300).await;
    drop(shard);
    restore(&store, old).await;
    let shard = three.start("next").await;
    assert_eq!(read_all(&shard, topic).await, texts(0..300));
    until("refused", || state_of(&shard, "c").0 == "refused").await;
    let status = shard.status();
    let region = status.regions.iter().find(|region| region.name.as_str() == "c").unwrap();
    assert!(region.problem.as_ref().unwrap().contains("old copy"), "{region:?}");
    publish_many(&shard, topic, 300..310).await;
    assert_eq!(read_all(&shard, topic).await, texts(0..310));
}

#[tokio::test(start_paused = true)]
async fn regions_are_added_replaced_and_removed_while_messages_flow() {
    let env = Env::system();
    let stores: Vec<(&str, Store)> = ["a", "b", "c", "d"].into_iter().map(|name| (name, memory())).collect();
    let cluster = founding::join(&named(&["a"]), opener(&stores, &env), &env).await.unwrap();
    let tasks = TaskTracker::new();
    let shard = Shard::start(config("n1"), cluster, env.clone(), &tasks).await.unwrap();
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..30).await;
    shard.change_regions(&named(&["a", "b", "c"])).await.unwrap();
    assert_eq!(shard.status().voters.len(), 3);
    publish_many(&shard, topic, 30..60).await;
    assert!(shard.has_regions(&named(&["c", "b", "a"])));
    shard.change_regions(&named(&["b", "c", "d"])).await.unwrap();
    publish_many(&shard, topic, 60..90).await;
    for region in ["b", "c", "d"] {
        until("in sync", || state_of(&shard, region) == ("in_sync", 0)).await;
        whole_in(&shard, region).await;
    }
    drop(shard);
    // A node that was told of the first region only finds out.
    let cluster = founding::join(&named(&["a"]), opener(&stores, &env), &env).await.unwrap();
    let shard = Shard::start(config("n2"), cluster, env.clone(), &tasks).await.unwrap();
    assert_eq!(read_all(&shard, topic).await, texts(0..90));
    publish_many(&shard, topic, 90..100).await;
    shard.change_regions(&named(&["d"])).await.unwrap();
    publish_many(&shard, topic, 100..110).await;
    drop(shard);
    let cluster = founding::join(&named(&["d"]), opener(&stores[3..], &env), &env).await.unwrap();
    let shard = Shard::start(config("n3"), cluster, env, &tasks).await.unwrap();
    assert_eq!(read_all(&shard, topic).await, texts(0..110));
    let refused = shard.change_regions(&named(&["a", "b"])).await.unwrap_err();
    assert!(matches!(refused, ChangeError::Invalid(_)), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_region_holds_up_nobody() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    three.faults[0].add(Rule::always(Operation::Put, Fault::Delay(Duration::from_millis(2_500))));
    let started = tokio::time::Instant::now();
    publish_many(&shard, topic, 0..100).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_append_that_a_commit_waits_for_is_sent_again_when_it_is_late() {
    let three = Three::new();
    for faults in &three.faults {
        let (median, p99) = (Duration::from_millis(20), Duration::from_millis(30));
        faults.set_latency(Some(Latency { median, p99 }));
    }
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..40).await;
    let hang = |applied| Rule::once(Operation::Put, Fault::Hang { applied });
    let timed = async |text: &str| {
        let started = tokio::time::Instant::now();
        publish(&shard, topic, text, None).await;
        started.elapsed()
    };
    // The two others are enough.
    three.faults[0].add(hang(false));
    assert!(timed("40").await < Duration::from_millis(100));
    // Now one of them is gone, and what the third has not got is missed.
    three.away(2, true);
    assert!(timed("41").await < Duration::from_millis(500));
    until("unreachable", || state_of(&shard, "c").0 == "unreachable").await;
    for (text, applied) in [("42", false), ("43", true)] {
        three.faults[1].add(hang(applied));
        let took = timed(text).await;
        assert!(took < Duration::from_millis(200), "far below the time-out of one request: {took:?}");
    }
    assert_eq!(read_all(&shard, topic).await, texts(0..44));
    whole_in(&shard, "b").await;
}

/// A truncation mark would say that the region has what it lost, and nobody would find out any more.
#[tokio::test(start_paused = true)]
async fn a_region_that_lost_entries_while_its_leader_goes_on_gets_no_truncation_mark() {
    for old in [true, false] {
        let three = Three::new();
        let shard = three.start("leader").await;
        let topic = create_topic(&shard, "t").await;
        publish_many(&shard, topic, 0..20).await;
        shard.snapshot().await.unwrap();
        publish_many(&shard, topic, 20..60).await;
        let stores = three.stores();
        let copy = if old { copy_of(&stores[2].1).await } else { Vec::new() };
        publish_many(&shard, topic, 60..100).await;
        restore(&stores[2].1, copy).await;
        publish_many(&shard, topic, 100..150).await;
        shard.snapshot().await.unwrap();
        until("refused", || state_of(&shard, "c").0 == "refused").await;
        assert!(shard.ready().is_ok());
        publish_many(&shard, topic, 150..160).await;
        // This one's mark tells of the region, too, though nothing is appended to it any more.
        shard.snapshot().await.unwrap();
        drop(shard);
        let shard = three.start("next").await;
        until("refused", || state_of(&shard, "c").0 == "refused").await;
        assert_eq!(read_all(&shard, topic).await, texts(0..160));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_region_that_hangs_is_bounded_in_bytes() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    until("in sync", || state_of(&shard, "c") == ("in_sync", 0)).await;
    three.faults[2].add(Rule::always(Operation::Put, Fault::Hang { applied: false }));
    let before = three.faults[2].struck();
    for seed in 0..30_u32 {
        // Two MiB that do not get smaller.
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b' ' + (state >> 24) as u8 % 94)
        });
        publish(&shard, topic, &noise.take(2 * 1024 * 1024).collect::<String>(), None).await;
    }
    let sent = three.faults[2].struck() - before;
    assert!((1..=20).contains(&sent), "{sent} appends are in memory");
    three.faults[2].heal();
    until("caught up", || state_of(&shard, "c") == ("in_sync", 0)).await;
    whole_in(&shard, "c").await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_called_damaged_only_when_every_region_was_asked() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..1).await;
    until("in sync", || NAMES.iter().all(|region| state_of(&shard, region) == ("in_sync", 0))).await;
    let batch = shard.state().topic(topic).unwrap().partitions[0].runs()[0].batch;
    let views = shard.shared.views_all();
    for view in &views {
        let key = view.key_of(ShardId(0), batch.sequence).unwrap();
        view.store.delete(crate::store::Component::Repair, &key).await.unwrap();
    }
    let error = shard.fetch(&batch).await.unwrap_err();
    assert!(matches!(error, FetchError::Damaged { .. }), "{error}");
    let away = shard.shared.views.write().pop_first().unwrap();
    let error = shard.fetch(&batch).await.unwrap_err();
    assert!(matches!(&error, FetchError::Unavailable(text) if text.contains("not reached: a")), "{error}");
    drop(away);
}
