//! Truncation: what is dead goes, nothing else does, and nobody stumbles over what is gone.

use std::collections::BTreeSet;

use object_store::{ObjectStoreExt, PutPayload, path::Path};
use proptest::prelude::*;

use super::{
    regions,
    regions::{NAMES, Three, publish_many, state_of, texts, until, whole_in},
    *,
};
use crate::{
    command::{Retention, Trim},
    ids::WriteId,
    keys,
    shard::leader::INSTALL_ABOVE,
    store::{
        Component, Operation,
        fault::{Fault, Rule},
    },
};

async fn trim(shard: &Shard, topic: TopicId, to: u64) {
    let trim =
        Trim { topic, partition: Partition(0), to: Offset(to), acknowledged: false, retention: Retention::default() };
    shard.propose(vec![Command::Trim(trim)]).await.unwrap();
}

/// Keys of a region's shard, by what they are.
async fn there(store: &Store, what: &str) -> Vec<String> {
    let keys: Vec<_> = regions::copy_of(store).await.into_iter().map(|(key, _)| key.to_string()).collect();
    let of = |key: &String| {
        let part = key.strip_prefix("journal/00000000/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        match what {
            "entries" => part.contains('-'),
            other => part == other,
        }
    };
    keys.into_iter().filter(of).collect()
}

async fn truncate_all(shard: &Shard) -> u64 {
    let mut deleted = 0;
    loop {
        let done = shard.truncate(&TruncateLimits::default()).await.unwrap();
        deleted += done.deleted;
        if !done.more {
            return deleted;
        }
    }
}

fn counting() -> Vec<Rule> {
    let operations = [Operation::Get, Operation::List, Operation::Put, Operation::Delete];
    operations.map(|operation| Rule::always(operation, Fault::Delay(Duration::ZERO))).into()
}

#[tokio::test(start_paused = true)]
async fn what_is_dead_goes_and_nothing_else() {
    let three = Three::new();
    let stores = three.stores();
    let mut topic = None;
    for round in 0..4_u32 {
        let shard = three.start(&format!("n{round}")).await;
        let id = match topic {
            None => *topic.insert(create_topic(&shard, "t").await),
            Some(id) => id,
        };
        publish_many(&shard, id, round * 100..round * 100 + 100).await;
        // All but the last thirty.
        trim(&shard, id, u64::from(round) * 100 + 70).await;
        until("in sync", || NAMES.iter().all(|region| state_of(&shard, region) == ("in_sync", 0))).await;
        assert!(shard.dead_entries() >= 70, "{}", shard.dead_entries());
        shard.snapshot().await.unwrap();
        assert_eq!(shard.dead_entries(), 0);
        assert!(truncate_all(&shard).await >= 3 * 70);
        // Nothing new is dead: no request.
        three.faults.iter().for_each(|faults| counting().into_iter().for_each(|rule| faults.add(rule)));
        let before: u64 = three.faults.iter().map(crate::store::fault::FaultStore::struck).sum();
        assert_eq!(shard.truncate(&TruncateLimits::default()).await.unwrap(), Truncated::default());
        assert_eq!(three.faults.iter().map(crate::store::fault::FaultStore::struck).sum::<u64>(), before);
        three.faults.iter().for_each(crate::store::fault::FaultStore::heal);
        let range = round * 100 + 70..round * 100 + 100;
        assert_eq!(read_all(&shard, id).await, texts(range));
        for (name, store) in &stores {
            // A Takeover a reign, what the messages need, and what came behind the mark.
            let left = there(store, "entries").await.len();
            assert!((30..=30 + 2 * round as usize + 6).contains(&left), "{left} objects in {name} in round {round}");
            assert_eq!(there(store, "floor").await.len(), 2.min(round as usize + 1));
            assert_eq!(there(store, "snapshot").await.len(), 1);
            whole_in(&shard, name).await;
        }
        if round == 2 {
            shard.shutdown().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_leader_finishes_what_one_began() {
    let store = memory();
    let shard = start(&store, "a").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..200).await;
    trim(&shard, topic, 190).await;
    shard.snapshot().await.unwrap();
    let few = TruncateLimits { objects: 50, concurrency: 4 };
    let done = shard.truncate(&few).await.unwrap();
    assert!(done.more && done.deleted < 200, "{done:?}");
    drop(shard);
    let shard = start(&store, "b").await;
    // The mark is another's: what its snapshot needs is not known here.
    assert_eq!(truncate_all(&shard).await, 0);
    publish_many(&shard, topic, 200..201).await;
    shard.snapshot().await.unwrap();
    truncate_all(&shard).await;
    assert_eq!(read_all(&shard, topic).await, texts(190..201));
    assert!(there(&store, "entries").await.len() < 25);
    // A region that does not answer is tried again, and nothing is forgotten.
    publish_many(&shard, topic, 201..300).await;
    trim(&shard, topic, 300).await;
    shard.snapshot().await.unwrap();
    drop(shard);
    let shard = start(&store, "c").await;
    publish_many(&shard, topic, 300..310).await;
    shard.snapshot().await.unwrap();
    truncate_all(&shard).await;
    assert!(there(&store, "entries").await.len() < 25);
    assert_eq!(read_all(&shard, topic).await, texts(300..310));
}

/// A region that is away keeps nothing from being truncated once it is far behind, and is whole again when it returns.
#[tokio::test(start_paused = true)]
async fn a_region_that_returns_behind_what_is_truncated_is_given_a_snapshot() {
    for (missed, waits) in [(INSTALL_ABOVE / 2, true), (INSTALL_ABOVE + 200, false)] {
        let three = Three::new();
        let shard = three.start("leader").await;
        let topic = create_topic(&shard, "t").await;
        publish_many(&shard, topic, 0..20).await;
        until("in sync", || state_of(&shard, "c") == ("in_sync", 0)).await;
        three.away(2, true);
        publish_many(&shard, topic, 20..60).await;
        for _ in 0..missed {
            shard.propose(Vec::new()).await.unwrap();
        }
        trim(&shard, topic, 50).await;
        shard.snapshot().await.unwrap();
        truncate_all(&shard).await;
        let left = there(&three.stores()[0].1, "entries").await.len() as u64;
        assert_eq!(left > missed, waits, "{left} of {missed}");
        publish_many(&shard, topic, 60..70).await;
        three.away(2, false);
        let shard = if waits {
            shard
        } else {
            // What it is to be sent next is gone: the leader stands again and gives it a snapshot.
            until("renewing", || shard.status().state == "renewing").await;
            three.start("again").await
        };
        until("whole", || state_of(&shard, "c") == ("in_sync", 0)).await;
        whole_in(&shard, "c").await;
        publish_many(&shard, topic, 70..80).await;
        shard.snapshot().await.unwrap();
        truncate_all(&shard).await;
        drop(shard);
        three.away(0, true);
        let shard = three.start("third").await;
        assert_eq!(read_all(&shard, topic).await, texts(50..80));
    }
}

/// It was not there when the reign began, and what it misses is gone: by the marks of the others, which a new leader reads.
#[tokio::test(start_paused = true)]
async fn a_region_that_joins_behind_what_is_truncated_is_given_a_snapshot() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..20).await;
    until("in sync", || state_of(&shard, "c") == ("in_sync", 0)).await;
    three.away(2, true);
    for _ in 0..INSTALL_ABOVE + 50 {
        shard.propose(Vec::new()).await.unwrap();
    }
    trim(&shard, topic, 15).await;
    shard.snapshot().await.unwrap();
    truncate_all(&shard).await;
    drop(shard);
    // In the election already, later on, and with a leader that knows of nothing but the two.
    for (name, later) in [("early", false), ("late", true)] {
        three.away(2, later);
        let shard = three.start(name).await;
        publish_many(&shard, topic, 20..30).await;
        three.away(2, false);
        until("whole", || state_of(&shard, "c") == ("in_sync", 0)).await;
        whole_in(&shard, "c").await;
        assert_eq!(read_all(&shard, topic).await.len(), if later { 25 } else { 15 });
        shard.shutdown().await;
    }
}

/// F13: a leader that does not know that it was deposed cuts and deletes while the next one recovers, and long after.
#[tokio::test(start_paused = true)]
async fn a_deposed_leader_that_truncates_late_does_no_harm() {
    for late in [false, true] {
        let three = Three::new();
        let old = three.start("old").await;
        let topic = create_topic(&old, "t").await;
        publish_many(&old, topic, 0..100).await;
        old.snapshot().await.unwrap();
        publish_many(&old, topic, 100..200).await;
        trim(&old, topic, 150).await;
        until("in sync", || NAMES.iter().all(|region| state_of(&old, region) == ("in_sync", 0))).await;
        if late {
            old.snapshot().await.unwrap();
        }
        // Reading the snapshot takes long: in between the old leader deletes it.
        let snapshots = keys::snapshots(ShardId(0));
        for faults in &three.faults {
            let slow = Fault::Delay(Duration::from_secs(2));
            faults.add(Rule::once(Operation::Get, slow).under(snapshots.clone()));
        }
        let stores = three.stores();
        let next = tokio::spawn(async move { try_start(&stores, "next").await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!next.is_finished());
        let cut = old.snapshot().await;
        assert!(late || cut.is_ok(), "a mark of a former leader is good for what was before");
        let deleted = truncate_all(&old).await;
        assert!(deleted > 0);
        let shard = next.await.unwrap().unwrap();
        assert_eq!(read_all(&shard, topic).await, texts(150..200));
        publish_many(&shard, topic, 200..250).await;
        trim(&shard, topic, 240).await;
        shard.snapshot().await.unwrap();
        truncate_all(&shard).await;
        // By now there are later marks.
        let again = old.truncate(&TruncateLimits::default()).await;
        assert!(matches!(again, Err(StartError::Contended(_)) | Ok(Truncated { deleted: 0, .. })), "{again:?}");
        assert_eq!(read_all(&shard, topic).await, texts(240..250));
        // A region whose mark moved while it was taken over is lost to the reign, which is renewed.
        tokio::time::sleep(Duration::from_secs(12)).await;
        let shard = if shard.status().state == "renewing" { three.start("again").await } else { shard };
        for region in NAMES {
            until("in sync", || state_of(&shard, region) == ("in_sync", 0)).await;
            whole_in(&shard, region).await;
        }
        assert_eq!(read_all(&shard, topic).await, texts(240..250));
    }
}

/// Who follows for long stands at an end that is deleted: it must not take that for a leader that is dead, and stands on
/// the newest mark when it is.
#[tokio::test(start_paused = true)]
async fn a_follower_whose_end_was_truncated_goes_on_from_the_newest_mark() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    let (env, stores) = (Env::system(), three.stores());
    let cluster = founding::join(&named(&NAMES), opener(&stores, &env), &env).await.unwrap();
    let mut challenge = Challenge::new(config("follower"), cluster, env);
    assert!(!challenge.look().await.unwrap().moved);
    assert!(!challenge.look().await.unwrap().moved);
    for round in 0..3 {
        publish_many(&shard, topic, round * 100..round * 100 + 100).await;
        trim(&shard, topic, u64::from(round) * 100 + 100).await;
        shard.snapshot().await.unwrap();
        assert!(truncate_all(&shard).await > 0);
        if round < 2 {
            assert!(challenge.look().await.unwrap().moved, "the leader lives");
            assert!(!challenge.look().await.unwrap().moved);
        }
    }
    publish_many(&shard, topic, 300..310).await;
    drop(shard);
    // It looked before the last mark; it is elected all the same, at the first attempt.
    let shard = challenge.stand(Ballot::BOOTSTRAP, &TaskTracker::new()).await.unwrap();
    assert_eq!(read_all(&shard, topic).await, texts(300..310));
}

/// What was truncated must not look like what was lost, nor hide it.
#[tokio::test(start_paused = true)]
async fn a_wiped_region_is_still_recognised() {
    let three = Three::new();
    let shard = three.start("leader").await;
    let topic = create_topic(&shard, "t").await;
    for round in 0..3 {
        publish_many(&shard, topic, round * 50..round * 50 + 50).await;
        trim(&shard, topic, u64::from(round) * 50 + 45).await;
        until("in sync", || NAMES.iter().all(|region| state_of(&shard, region) == ("in_sync", 0))).await;
        shard.snapshot().await.unwrap();
        truncate_all(&shard).await;
    }
    publish_many(&shard, topic, 150..160).await;
    assert_eq!(state_of(&shard, "c").0, "in_sync");
    regions::restore(&three.stores()[2].1, Vec::new()).await;
    publish_many(&shard, topic, 160..170).await;
    shard.snapshot().await.unwrap();
    until("refused", || state_of(&shard, "c").0 == "refused").await;
    truncate_all(&shard).await;
    assert_eq!(read_all(&shard, topic).await, texts(145..170));
}

/// Objects that nobody knows: a late entry behind a Takeover goes, Takeovers and what is not ours stay.
#[tokio::test(start_paused = true)]
async fn leftovers_of_former_reigns_go_but_takeovers_stay() {
    let store = memory();
    let shard = start(&store, "a").await;
    let topic = create_topic(&shard, "t").await;
    publish_many(&shard, topic, 0..10).await;
    let first = there(&store, "entries").await;
    drop(shard);
    let shard = start(&store, "b").await;
    // The first leader's last appends land behind the second's Takeover.
    let own = first.last().unwrap();
    let (directory, index) = own.rsplit_once('/').unwrap();
    let index = u64::from_str_radix(index, 16).unwrap();
    let ballot = keys::parse_journal(ShardId(0), &Path::from(own.as_str())).unwrap().ballot;
    for (behind, len) in [(2, 8_000), (3, 10)] {
        let slot = keys::Slot { ballot, index: index + behind };
        let head = crate::format::Head {
            kind: crate::format::Kind::Commit,
            id: WriteId(1),
            ballot,
            parent: slot,
            sequence: Sequence(index + behind),
            committed: Sequence(0),
            section_len: 0,
            section_crc: 0,
            body_len: len,
        };
        let mut bytes = head.encode(&[]);
        bytes.extend(vec![0; len as usize]);
        store.put(&keys::journal(ShardId(0), slot), PutPayload::from(bytes)).await.unwrap();
    }
    let foreign = Path::from(format!("{directory}/notes"));
    store.put(&foreign, PutPayload::from_static(&[0; 10_000])).await.unwrap();
    publish_many(&shard, topic, 10..20).await;
    shard.snapshot().await.unwrap();
    let before: BTreeSet<_> = there(&store, "entries").await.into_iter().collect();
    truncate_all(&shard).await;
    let after: BTreeSet<_> = there(&store, "entries").await.into_iter().collect();
    let late = keys::journal(ShardId(0), keys::Slot { ballot, index: index + 2 }).to_string();
    let gone: Vec<_> = before.difference(&after).cloned().collect();
    assert!(gone.contains(&late), "{gone:?}");
    assert!(after.contains(foreign.as_ref()));
    // Entries without bodies are gone; those with messages, all three Takeovers and the small leftover are not.
    assert_eq!(read_all(&shard, topic).await, texts(0..20));
    let views = shard.shared.views_all();
    for key in &gone {
        assert!(views[0].store.get(Component::Read, &Path::from(key.as_str())).await.unwrap().is_none());
    }
    drop(shard);
    assert_eq!(read_all(&start(&store, "c").await, topic).await, texts(0..20));
}

/// A step of a history.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Publish(u32),
    /// Entries without messages.
    Noise(u64),
    /// Drops all but so many messages.
    Trim(u64),
    Snapshot,
    /// Deletes so many objects at most, and breaks off after so many milliseconds.
    Truncate(usize, u64),
    /// A region goes away, or the one that is away comes back.
    Toggle(usize),
    /// Another node takes over, and this one does not hear of it.
    Lead,
    /// A former leader cuts and deletes by what it knows.
    Zombie(usize),
    Rest,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        5 => (1..20u32).prop_map(Happens::Publish),
        2 => prop::sample::select(vec![10, 100, INSTALL_ABOVE + 50]).prop_map(Happens::Noise),
        4 => (0..30u64).prop_map(Happens::Trim),
        5 => Just(Happens::Snapshot),
        5 => (1..200usize, 0..400u64).prop_map(|(objects, ms)| Happens::Truncate(objects, ms)),
        3 => (0..3usize).prop_map(Happens::Toggle),
        3 => Just(Happens::Lead),
        3 => (0..8usize).prop_map(Happens::Zombie),
        1 => Just(Happens::Rest),
    ]
}

struct Story {
    three: Three,
    shard: Shard,
    former: Vec<Shard>,
    topic: TopicId,
    start: u64,
    next: u32,
    away: Option<usize>,
    nodes: u32,
}

impl Story {
    async fn lead(&mut self) {
        for _ in 0..20 {
            self.nodes += 1;
            match self.three.try_start(&format!("n{}", self.nodes)).await {
                Ok(shard) => {
                    self.former.push(std::mem::replace(&mut self.shard, shard));
                    return;
                }
                Err(error) => tracing::debug!(%error, "another attempt"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("nobody can lead any more");
    }

    /// A reign may end at any time, when a region is lost to it; what was not acknowledged is tried again.
    async fn publish(&mut self) {
        let sequence = Some(u64::from(self.next) + 1);
        for _ in 0..20 {
            let (command, body) = publish_of(self.topic, &self.next.to_string(), sequence);
            if submit(&self.shard, command, body).await.is_ok() {
                self.next += 1;
                return;
            }
            self.lead().await;
        }
        panic!("nothing can be published any more");
    }

    async fn take(&mut self, step: Happens) {
        match step {
            Happens::Publish(count) => {
                for _ in 0..count {
                    self.publish().await;
                }
            }
            Happens::Noise(count) => {
                for _ in 0..count {
                    if self.shard.propose(Vec::new()).await.is_err() {
                        self.lead().await;
                    }
                }
            }
            Happens::Trim(left) => {
                let to = u64::from(self.next).saturating_sub(left).max(self.start);
                let retention = Retention::default();
                let trim =
                    Trim { topic: self.topic, partition: Partition(0), to: Offset(to), acknowledged: false, retention };
                while self.shard.propose(vec![Command::Trim(trim)]).await.is_err() {
                    self.lead().await;
                }
                self.start = to;
            }
            Happens::Snapshot => _ = self.shard.snapshot().await,
            Happens::Truncate(objects, ms) => {
                let limits = TruncateLimits { objects, concurrency: 4 };
                let _ = tokio::time::timeout(Duration::from_millis(ms), self.shard.truncate(&limits)).await;
            }
            Happens::Toggle(region) => match self.away.take() {
                Some(away) => self.three.away(away, false),
                None => {
                    self.three.away(region, true);
                    self.away = Some(region);
                }
            },
            Happens::Lead => self.lead().await,
            Happens::Zombie(which) => {
                if let Some(zombie) = self.former.get(which.min(self.former.len().wrapping_sub(1))).cloned() {
                    let _ = tokio::time::timeout(Duration::from_secs(5), zombie.snapshot()).await;
                    let _ = zombie.truncate(&TruncateLimits::default()).await;
                }
            }
            Happens::Rest => tokio::time::sleep(Duration::from_secs(15)).await,
        }
    }

    /// I8, I10: everything that is kept can be read.
    async fn check(&self) {
        let expected = texts(u32::try_from(self.start).unwrap()..self.next);
        assert_eq!(read_all(&self.shard, self.topic).await, expected);
    }

    async fn finish(&mut self) {
        (0..3).for_each(|region| self.three.away(region, false));
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            if self.shard.leads().is_err() {
                self.lead().await;
            }
            if NAMES.iter().all(|region| state_of(&self.shard, region) == ("in_sync", 0)) {
                break;
            }
        }
        for region in NAMES {
            assert_eq!(state_of(&self.shard, region), ("in_sync", 0), "{:?}", self.shard.status());
            whole_in(&self.shard, region).await;
        }
        self.check().await;
        self.shard.snapshot().await.unwrap();
        truncate_all(&self.shard).await;
        self.check().await;
        // Any two regions are enough.
        for away in 0..3 {
            self.three.away(away, true);
            self.lead().await;
            self.check().await;
            self.three.away(away, false);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is cut and deleted by whom and when, what is kept is there, and regions that come back become whole.
    #[test]
    fn nothing_that_is_needed_is_ever_truncated(steps in prop::collection::vec(happens(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let three = Three::new();
            let shard = three.start("n0").await;
            let topic = create_topic(&shard, "t").await;
            for faults in &three.faults {
                let (median, p99) = (Duration::from_millis(5), Duration::from_millis(30));
                faults.set_latency(Some(crate::store::fault::Latency { median, p99 }));
            }
            let former = Vec::new();
            let mut story = Story { three, shard, former, topic, start: 0, next: 0, away: None, nodes: 0 };
            for step in steps {
                story.take(step).await;
                if story.shard.leads().is_err() {
                    story.lead().await;
                }
                story.check().await;
            }
            story.finish().await;
        });
    }
}
