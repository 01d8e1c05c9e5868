//! The state says what the model says.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Model, Part, Status,
    model::{TopicModel, Unit},
};
use crate::{
    ids::{FileId, Offset, Partition},
    state::{PartitionLog, QueuePartition, ShardState, Topic},
};

impl Model {
    pub(super) fn check(&mut self, state: &ShardState) {
        self.check_ids(state);
        let mut bodies = BTreeSet::new();
        for topic in self.topics.values() {
            let known = state.topic(topic.id).unwrap();
            for (part, log) in topic.parts.iter().zip(&known.partitions) {
                self.check_partition(part, log);
                for (_, _, unit) in part.units() {
                    if let Unit::Run(_, sequence) = unit {
                        bodies.insert(sequence);
                    }
                }
            }
            check_subscriptions(topic, known);
            let files: Vec<_> = known.partitions.iter().flat_map(PartitionLog::files).map(|file| file.id).collect();
            let version = known.archive_version;
            if let Some((before, then)) = self.versions.insert(topic.id, (files.clone(), version)) {
                assert!(files == before || version > then, "who publishes the list of files would not learn of it");
            }
        }
        assert_eq!(state.bodies_needed(), bodies.len());
        assert_eq!(state.bodies().collect::<BTreeSet<_>>(), bodies, "entries that are needed");
        assert!(*state == state.recounted(), "what is kept up to date is what there is");
    }

    /// Every identity up to the last is exactly one of referenced, claimed, garbage, and gone.
    fn check_ids(&self, state: &ShardState) {
        let mut found = BTreeMap::new();
        for topic in state.topics() {
            for (log, number) in topic.partitions.iter().zip(0..) {
                for file in log.files() {
                    assert_eq!(found.insert(file.id, Status::Referenced), None);
                    assert_eq!(file.key(&topic.name, topic.id, Partition(number)), self.keys[&file.id]);
                }
            }
        }
        for (id, claimed) in state.archive.claims() {
            assert_eq!(found.insert(*id, Status::Claimed(claimed.part)), None);
        }
        for (id, garbage) in state.archive.garbage() {
            assert_eq!(found.insert(*id, Status::Garbage), None);
            assert_eq!(garbage.key(*id), self.keys[id], "what is deleted is what was written");
        }
        for id in (1..=state.archive.last().0).map(FileId) {
            assert_eq!(found.remove(&id).unwrap_or(Status::Gone), self.ids[&id], "{id}");
        }
        assert_eq!(found, BTreeMap::new(), "identities that were never given");
    }

    fn check_partition(&self, part: &Part, log: &PartitionLog) {
        assert_eq!((log.log_start.0, log.high_watermark.0), (part.log_start, part.high_watermark));
        assert_eq!(log.archived_end().0, part.archived_end());
        let files = log.files().iter().map(|file| (file.first.0, file.end.0, Unit::File(file.id)));
        let runs = log.runs().iter().map(|run| (run.base.0, run.end().0, Unit::Run(run.base.0, run.batch.sequence)));
        // In this order, so that no file lies behind a run.
        let units: Vec<_> = files.chain(runs).collect();
        assert_eq!(units, part.units());
        for file in log.files() {
            let known = &self.files[&file.id];
            assert_eq!((file.rows, file.set_hash.0), (known.rows, known.hash));
            assert_eq!(file.regions.iter().map(|region| region.0).collect::<BTreeSet<_>>(), known.regions);
        }
        let readable: Vec<_> = part.exists.range(part.log_start..).collect();
        assert!(readable.iter().all(|at| part.covered.contains_key(at)), "a message is lost");
        let straddles = log.files().first().is_some_and(|file| file.first < log.log_start);
        let messages = log.messages();
        assert!(messages == readable.len() as u64 || straddles && messages > readable.len() as u64, "{messages}");
        assert_eq!(log.stored_bytes(), log.files().len() as u64 * 100 + log.runs().len() as u64 * 10);
    }
}

fn check_subscriptions(topic: &TopicModel, known: &Topic) {
    for (part, number) in topic.parts.iter().zip(0..) {
        if topic.stream {
            let positions = known.subscriptions[&super::stream()].stream().unwrap();
            assert_eq!(positions[number as usize], Offset(part.position));
        }
        if topic.queue.is_some() {
            let queue = known.subscriptions[&super::queue()].queue().unwrap();
            check_queue(part, queue.partition(Partition(number)).unwrap());
        }
    }
}

fn check_queue(part: &Part, queue: &QueuePartition) {
    for at in 0..=part.high_watermark {
        assert_eq!(queue.is_settled(Offset(at)), part.settled.contains(&at), "{at}");
    }
    let unsettled = (0..part.high_watermark).filter(|at| !part.settled.contains(at)).count();
    assert_eq!(queue.unsettled(Offset(part.high_watermark)), unsettled as u64);
    assert!(queue.dead().keys().map(|at| at.0).eq(part.dead.iter().copied()));
    assert!(queue.held().iter().map(|(at, id)| (at.0, id)).eq(part.held.iter().map(|(at, id)| (*at, id))));
}
