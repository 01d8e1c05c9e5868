//! Deletion: nothing that is referenced, everything else, whatever happens in between.

use brigade_index::{
    state::Topic,
    store::{
        Operation,
        fault::{Answer, Fault, Rule},
    },
};
use object_store::path::Path;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    repair,
    trial::{Trial, unlimited},
};

const NOW: Duration = Duration::ZERO;

/// As if the views of every topic had just been published.
fn all_published(trial: &Trial, published: &mut Published) {
    let versions: Vec<_> = trial.shard.state().topics().map(|topic| (topic.id, topic.archive_version)).collect();
    versions.into_iter().for_each(|(topic, version)| published.note(topic, version));
}

#[tokio::test(start_paused = true)]
async fn garbage_goes_when_its_time_has_come_and_views_do_not_name_it() {
    let trial = Trial::new(1).await;
    let topic = trial.topic("t").await;
    trial.publish(topic, 10).await;
    trial.publish(topic, 10).await;
    trial.archive(topic, 0, 10, 100).await.unwrap();
    let kept = trial.archive(topic, 10, 20, 100).await.unwrap();
    let mut published = Published::default();
    trial.trim(topic, 10).await;
    let (delay, env) = (Duration::from_secs(60), &trial.env);
    let waits = run(&trial.shard, env, delay, &published).await.unwrap();
    assert!(waits.files == 0 && waits.next_ms.is_some_and(|next| next > env.clock.now_ms()), "{waits:?}");
    tokio::time::sleep(delay * 2).await;
    let unpublished = run(&trial.shard, env, delay, &published).await.unwrap();
    assert_eq!((unpublished.files, unpublished.unpublished), (0, BTreeSet::from([topic])));
    all_published(&trial, &mut published);
    let deleted = run(&trial.shard, env, delay, &published).await.unwrap();
    assert_eq!((deleted.files, deleted.bytes, deleted.next_ms), (1, 100, None));
    assert!(trial.shard.state().archive.garbage().is_empty());
    for region in 0..3 {
        assert_eq!(trial.files_in(region).await, [trial.key(topic, &kept).unwrap()]);
    }
    // A claim that was given up was in no view, and may never have been written.
    trial.publish(topic, 5).await;
    let id = trial.claim(topic, 20, 25).await.unwrap();
    trial.propose(Command::Release(vec![id])).await;
    let deleted = run(&trial.shard, env, NOW, &Published::default()).await.unwrap();
    assert_eq!((deleted.files, deleted.bytes), (1, 0));
    trial.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_away_keeps_the_intent() {
    let mut trial = Trial::new(2).await;
    let topic = trial.topic("t").await;
    trial.publish(topic, 10).await;
    trial.archive(topic, 0, 10, 100).await.unwrap();
    trial.settle("in sync", |shard| (0..3).all(|region| Trial::state_of(shard, region).0 == "in_sync")).await;
    trial.faults[1].set_unreachable(true);
    trial.trim(topic, 10).await;
    trial.settle("away", |shard| Trial::state_of(shard, 1).0 == "unreachable").await;
    let mut published = Published::default();
    all_published(&trial, &mut published);
    for _ in 0..2 {
        let deleted = run(&trial.shard, &trial.env, NOW, &published).await.unwrap();
        assert_eq!((deleted.files, deleted.unreachable), (0, BTreeSet::from([RegionNo(1)])));
    }
    assert_eq!((trial.files_in(0).await.len(), trial.files_in(1).await.len()), (0, 1));
    // The next leader carries it out.
    trial.restart("n1").await;
    trial.faults[1].set_unreachable(false);
    trial.settle("back", |shard| Trial::state_of(shard, 1).0 == "in_sync").await;
    let deleted = run(&trial.shard, &trial.env, NOW, &published).await.unwrap();
    assert_eq!((deleted.files, deleted.unreachable), (1, BTreeSet::new()));
    assert_eq!(trial.files_in(1).await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_views_of_a_topic_that_is_gone_go_before_its_last_file() {
    let trial = Trial::new(3).await;
    for archived in [true, false] {
        let topic = trial.topic("t").await;
        trial.publish(topic, 10).await;
        trial.archive(topic, 0, 10, 100).await.unwrap();
        if !archived {
            // Nothing is left of it but its views.
            trial.trim(topic, 10).await;
        }
        views::publish(&trial.shard, topic).await.unwrap();
        let mut published = Published::default();
        all_published(&trial, &mut published);
        run(&trial.shard, &trial.env, NOW, &published).await.unwrap();
        let name = TopicName::new("t").unwrap();
        let latest = brigade_index::keys::latest(&name);
        assert!(trial.read(1, &latest).await.is_some());
        trial.propose(Command::DeleteTopic { topic }).await;
        assert!(run(&trial.shard, &trial.env, NOW, &Published::default()).await.unwrap().files > 0);
        for region in 0..3 {
            assert_eq!(trial.read(region, &latest).await, None);
            assert_eq!(trial.files_in(region).await.len(), 0);
        }
        assert!(trial.shard.state().archive.garbage().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn views_are_not_removed_again_and_again_while_a_region_does_not_do_as_it_is_asked() {
    let trial = Trial::new(4).await;
    let topic = trial.topic("t").await;
    trial.publish(topic, 10).await;
    let file = trial.archive(topic, 0, 10, 100).await.unwrap();
    let (key, name) = (trial.key(topic, &file).unwrap(), TopicName::new("t").unwrap());
    views::publish(&trial.shard, topic).await.unwrap();
    trial.propose(Command::DeleteTopic { topic }).await;
    let published = Published::new((Duration::from_secs(60), Duration::from_secs(60)));
    let (broken, prefix) = (Fault::Fail { applied: false, answer: Answer::Status(403) }, Path::from("archive"));
    trial.faults[1].add(Rule::always(Operation::List, broken).under(prefix));
    trial.faults[1].add(Rule::always(Operation::Delete, broken).under(key.clone()));
    // The file is asked for each time, its views are not.
    for expected in [2, 3, 5] {
        assert_eq!(run(&trial.shard, &trial.env, NOW, &published).await.unwrap().files, 0);
        assert_eq!(trial.faults[1].struck(), expected);
        tokio::time::sleep(Duration::from_secs(40)).await;
    }
    // Whoever asks for it need not wait. Now it is the file alone that stays.
    trial.faults[1].heal();
    trial.faults[1].add(Rule::always(Operation::Delete, broken).under(key));
    published.try_anew();
    let (asked, latest) = (Fault::Delay(Duration::from_millis(1)), brigade_index::keys::latest(&name));
    trial.faults[0].add(Rule::always(Operation::Delete, asked).under(latest));
    for _ in 0..3 {
        assert_eq!(run(&trial.shard, &trial.env, NOW, &published).await.unwrap().files, 0);
        assert_eq!(trial.faults[0].struck(), 1, "what is removed is not looked for again");
    }
    trial.faults[1].heal();
    assert_eq!(run(&trial.shard, &trial.env, NOW, &published).await.unwrap().files, 1);
    assert!(trial.shard.state().archive.garbage().is_empty());
}

/// A step of a history.
#[derive(Clone, Copy, Debug)]
enum Step {
    Publish(bool),
    /// Archives what is not archived yet.
    Archive(bool),
    /// Puts one file in the place of the two oldest.
    Merge(bool),
    Trim(bool),
    DeleteTopic(bool),
    /// The region goes away, or comes back.
    Toggle(usize),
    /// Deletes; breaks off after so many milliseconds.
    Delete(Option<u64>),
    Repair(Option<u64>),
    /// A claim that nobody settles, for what is not archived.
    Abandon(bool),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let broken_off = || prop::option::of(0..200u64);
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Publish),
        4 => any::<bool>().prop_map(Step::Archive),
        3 => any::<bool>().prop_map(Step::Merge),
        2 => any::<bool>().prop_map(Step::Trim),
        1 => any::<bool>().prop_map(Step::DeleteTopic),
        3 => (0..3usize).prop_map(Step::Toggle),
        3 => broken_off().prop_map(Step::Delete),
        3 => broken_off().prop_map(Step::Repair),
        1 => any::<bool>().prop_map(Step::Abandon),
        1 => Just(Step::Restart),
    ]
}

/// Two topics; each may be deleted and created again.
struct History {
    trial: Trial,
    topics: [TopicId; 2],
    published: Published,
    nodes: u32,
}

impl History {
    fn look<T>(&self, second: bool, look: impl FnOnce(&Topic) -> T) -> T {
        let state = self.trial.shard.state();
        look(state.topic(self.topics[usize::from(second)]).unwrap())
    }

    async fn take(&mut self, step: Step) {
        let trial = &self.trial;
        match step {
            Step::Publish(second) => trial.publish(self.topics[usize::from(second)], 3).await,
            Step::Archive(second) => {
                let bounds =
                    self.look(second, |topic| (topic.partitions[0].archived_end(), topic.partitions[0].high_watermark));
                if bounds.0 < bounds.1 {
                    trial.archive(self.topics[usize::from(second)], bounds.0.0, bounds.1.0, 500).await;
                }
            }
            Step::Merge(second) => {
                let files = self.look(second, |topic| topic.partitions[0].files().to_vec());
                if let [one, other, ..] = files.as_slice() {
                    trial.archive(self.topics[usize::from(second)], one.first.0, other.end.0, 900).await;
                }
            }
            Step::Trim(second) => {
                let to = self.look(second, |topic| topic.partitions[0].files().first().map(|file| file.end.0));
                if let Some(to) = to {
                    trial.trim(self.topics[usize::from(second)], to).await;
                }
            }
            Step::DeleteTopic(second) => {
                let topic = self.topics[usize::from(second)];
                trial.propose(Command::DeleteTopic { topic }).await;
                self.topics[usize::from(second)] = trial.topic(if second { "two" } else { "one" }).await;
            }
            Step::Abandon(second) => {
                let bounds =
                    self.look(second, |topic| (topic.partitions[0].archived_end(), topic.partitions[0].high_watermark));
                if bounds.0 < bounds.1
                    && let Some(id) = trial.claim(self.topics[usize::from(second)], bounds.0.0, bounds.1.0).await
                {
                    trial.propose(Command::Release(vec![id])).await;
                }
            }
            Step::Toggle(region) => self.toggle(region).await,
            Step::Delete(ms) => {
                all_published(trial, &mut self.published);
                let time = Duration::from_millis(ms.unwrap_or(1 << 30));
                let _ = tokio::time::timeout(time, run(&trial.shard, &trial.env, NOW, &self.published)).await;
            }
            Step::Repair(ms) => {
                let time = Duration::from_millis(ms.unwrap_or(1 << 30));
                let (throttle, stop) = (unlimited(), CancellationToken::new());
                let _ = tokio::time::timeout(time, repair::run(&trial.shard, &throttle, &stop)).await;
            }
            Step::Restart => {
                self.nodes += 1;
                self.published = Published::default();
                let node = format!("n{}", self.nodes);
                self.trial.restart(&node).await;
            }
        }
    }

    /// At most one region is away.
    async fn toggle(&self, region: usize) {
        let shard = &self.trial.shard;
        let away = shard.status().regions.iter().position(|region| region.state == "unreachable");
        match away {
            Some(away) => {
                self.trial.faults[away].set_unreachable(false);
                self.trial.settle("back", |shard| Trial::state_of(shard, away).0 != "unreachable").await;
            }
            None => {
                self.trial.faults[region].set_unreachable(true);
                self.trial.publish(self.topics[0], 1).await;
                self.trial.settle("away", |shard| Trial::state_of(shard, region).0 == "unreachable").await;
            }
        }
    }

    async fn finish(&mut self) {
        for region in 0..3 {
            self.trial.faults[region].set_unreachable(false);
        }
        let joined =
            |shard: &Shard| (0..3).all(|region| matches!(Trial::state_of(shard, region).0, "in_sync" | "catching_up"));
        self.trial.settle("joined", joined).await;
        self.take(Step::Repair(None)).await;
        self.take(Step::Delete(None)).await;
        self.trial.check().await;
        let wanted: Vec<_> = self.trial.referenced().into_keys().collect();
        assert!(self.trial.referenced().values().all(|file| file.regions.len() == 3), "all regions have all files");
        let left = self.trial.shard.state().archive.garbage().clone();
        assert!(left.is_empty(), "{left:?}");
        for region in 0..3 {
            assert_eq!(self.trial.files_in(region).await, wanted, "nothing else is left in region {region}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever is archived, replaced, dropped, deleted and repaired in whatever order, with regions away and leaders that
    /// stop in the middle: what is referenced is where the state says, and in the end nothing else is left.
    #[test]
    fn nothing_referenced_is_ever_missing(steps in prop::collection::vec(step(), 1..40), seed in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let trial = Trial::new(seed).await;
            for faults in &trial.faults {
                let latency = brigade_index::store::fault::Latency {
                    median: Duration::from_millis(5),
                    p99: Duration::from_millis(20),
                };
                faults.set_latency(Some(latency));
            }
            let topics = [trial.topic("one").await, trial.topic("two").await];
            let mut history = History { trial, topics, published: Published::default(), nodes: 0 };
            for step in steps {
                history.take(step).await;
                history.trial.check().await;
            }
            history.finish().await;
        });
    }
}
