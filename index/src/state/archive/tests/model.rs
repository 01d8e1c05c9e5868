//! What the messages of each partition add up to, one by one.

use std::collections::{BTreeMap, BTreeSet};

use super::{PARTITIONS, What, retention};
use crate::{
    command::{Archived, ClaimPart, Retention},
    ids::{FileId, Offset, Partition, Sequence, SubscriptionId, TopicId},
    keys,
    names::{TopicName, TransactionId},
};

/// What became of an identity of an archive file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Status {
    Claimed(ClaimPart),
    Referenced,
    Garbage,
    Gone,
}

/// What has an offset in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
    /// A run from this offset on.
    Run(u64, Sequence),
    File(FileId),
}

#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) rows: u64,
    pub(super) hash: u128,
    pub(super) regions: BTreeSet<u16>,
}

#[derive(Default)]
pub(super) struct Part {
    pub(super) log_start: u64,
    pub(super) high_watermark: u64,
    /// Of each offset that a run or file covers, which.
    pub(super) covered: BTreeMap<u64, Unit>,
    /// Messages that are there.
    pub(super) exists: BTreeSet<u64>,
    /// Of the stream.
    pub(super) position: u64,
    /// Of the queue.
    pub(super) settled: BTreeSet<u64>,
    pub(super) dead: BTreeSet<u64>,
    pub(super) held: BTreeMap<u64, TransactionId>,
}

impl Part {
    /// Runs and files: first offset, the offset after the last.
    pub(super) fn units(&self) -> Vec<(u64, u64, Unit)> {
        let mut units: Vec<(u64, u64, Unit)> = Vec::new();
        for (at, unit) in &self.covered {
            match units.last_mut() {
                Some((_, end, last)) if last == unit => *end = at + 1,
                _ => units.push((*at, at + 1, *unit)),
            }
        }
        units
    }

    /// Some consecutive units, with the gap before them or without.
    pub(super) fn span(&self, unit: u64, more: u64) -> (u64, u64) {
        let units = self.units();
        if units.is_empty() {
            return (0, 0);
        }
        let from = unit as usize % units.len();
        let to = (from + more as usize).min(units.len() - 1);
        let first = if from > 0 && more.is_multiple_of(2) { units[from - 1].1 } else { units[from].0 };
        (first, units[to].1)
    }

    pub(super) fn archived_end(&self) -> u64 {
        let runs = self.units().into_iter().filter(|(_, _, unit)| matches!(unit, Unit::Run(..)));
        runs.map(|(first, ..)| first).next().unwrap_or(self.high_watermark)
    }

    /// Up to where the queue needs nothing.
    pub(super) fn needed_from(&self) -> u64 {
        let open = (0..).find(|at| !self.settled.contains(at)).unwrap();
        self.dead.first().map_or(open, |dead| open.min(*dead))
    }

    /// Drops everything before `to`; gives the files dropped.
    fn trim(&mut self, to: u64) -> Vec<FileId> {
        self.log_start = to;
        let mut dropped = Vec::new();
        for (first, end, unit) in self.units().into_iter().filter(|(_, end, _)| *end <= to) {
            self.covered.retain(|at, _| *at < first || *at >= end);
            self.exists.retain(|at| *at < first || *at >= end);
            if let Unit::File(id) = unit {
                dropped.push(id);
            }
        }
        self.position = self.position.max(to);
        self.settled.extend(0..to);
        self.dead.retain(|at| *at >= to);
        self.held.retain(|at, _| *at >= to);
        dropped
    }
}

pub(super) struct TopicModel {
    pub(super) id: TopicId,
    pub(super) parts: Vec<Part>,
    pub(super) stream: bool,
    pub(super) queue: Option<SubscriptionId>,
    pub(super) retention: Retention,
}

/// A transaction that holds messages.
pub(super) struct Waiting {
    topic: TopicId,
    partition: u32,
    run: (u64, u32),
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) topics: BTreeMap<u64, TopicModel>,
    pub(super) ids: BTreeMap<FileId, Status>,
    pub(super) files: BTreeMap<FileId, File>,
    pub(super) waiting: BTreeMap<TransactionId, Waiting>,
    pub(super) keys: BTreeMap<FileId, keys::Key>,
    /// The messages of each file that is proposed.
    pub(super) kept: BTreeMap<FileId, BTreeSet<u64>>,
    /// Archive files of each topic, and their version, when it was looked at last.
    pub(super) versions: BTreeMap<TopicId, (Vec<FileId>, u64)>,
}

impl Model {
    pub(super) fn part(&self, topic: u64, partition: u32) -> &Part {
        &self.topics[&topic].parts[partition as usize]
    }

    fn part_mut(&mut self, topic: u64, partition: u32) -> &mut Part {
        &mut self.topics.get_mut(&topic).unwrap().parts[partition as usize]
    }

    fn number(&self, id: TopicId) -> u64 {
        *self.topics.iter().find(|(_, topic)| topic.id == id).unwrap().0
    }

    /// The number of its topic, and the partition that a claim is of.
    pub(super) fn claimed_part(&self, part: &ClaimPart) -> (u64, &Part) {
        let number = self.number(part.topic);
        (number, self.part(number, part.partition.0))
    }

    pub(super) fn create_topic(&mut self, number: u64, id: TopicId) {
        let parts = (0..PARTITIONS).map(|_| Part::default()).collect();
        let retention = retention(number);
        self.topics.insert(number, TopicModel { id, parts, stream: false, queue: None, retention });
    }

    /// `published`: whether there may be views of it, which are deleted with its last garbage.
    pub(super) fn delete_topic(&mut self, number: u64, published: bool) {
        let topic = self.topics.remove(&number).unwrap();
        let mut covered = topic.parts.iter().flat_map(|part| part.covered.values());
        if published && !covered.any(|unit| matches!(unit, Unit::File(_))) {
            let id = self.ids.keys().next_back().copied().unwrap_or_default().next();
            let name = TopicName::new(&format!("t{number}")).unwrap();
            self.keys.insert(id, keys::archive_file(&name, topic.id, Partition(0), Offset(0), id));
            self.ids.insert(id, Status::Garbage);
        }
        for unit in topic.parts.iter().flat_map(|part| part.covered.values()) {
            if let Unit::File(id) = unit {
                self.ids.insert(*id, Status::Garbage);
            }
        }
        self.give_up(|_, part| part.topic == topic.id);
    }

    pub(super) fn published(&mut self, topic: u64, partition: u32, rows: u64, sequence: Sequence) {
        let part = self.part_mut(topic, partition);
        let first = part.high_watermark;
        part.high_watermark += rows;
        part.exists.extend(first..first + rows);
        part.covered.extend((first..first + rows).map(|at| (at, Unit::Run(first, sequence))));
    }

    pub(super) fn claimed(&mut self, id: FileId, part: ClaimPart) {
        let ClaimPart { topic, partition, first, .. } = part;
        let name = TopicName::new(&format!("t{}", self.number(topic))).unwrap();
        self.keys.insert(id, keys::archive_file(&name, topic, partition, first, id));
        assert_eq!(self.ids.insert(id, Status::Claimed(part)), None, "an identity is given once");
    }

    /// Claims become garbage.
    pub(super) fn give_up(&mut self, which: impl Fn(FileId, &ClaimPart) -> bool) {
        for (id, status) in &mut self.ids {
            if let Status::Claimed(part) = status
                && which(*id, part)
            {
                *status = Status::Garbage;
            }
        }
    }

    pub(super) fn deleted(&mut self, id: FileId) {
        if self.ids.get(&id) == Some(&Status::Garbage) {
            self.ids.insert(id, Status::Gone);
        }
    }

    /// Puts files in their places.
    pub(super) fn replaced(&mut self, parts: &[Archived]) {
        for Archived { id, file, .. } in parts {
            let Some(Status::Claimed(ClaimPart { topic, partition, first, end })) = self.ids.get(id).copied() else {
                panic!("{id} is not claimed");
            };
            let kept = self.kept.remove(id).unwrap();
            let number = self.number(topic);
            let part = self.part_mut(number, partition.0);
            let range = first.0..end.0;
            let gone: Vec<_> = range.clone().filter_map(|at| part.covered.remove(&at)).collect();
            part.exists.retain(|at| !range.contains(at) || kept.contains(at));
            if file.is_some() {
                part.covered.extend(range.map(|at| (at, Unit::File(*id))));
            }
            for unit in gone {
                if let Unit::File(id) = unit {
                    self.ids.insert(id, Status::Garbage);
                }
            }
            self.ids.insert(*id, if file.is_some() { Status::Referenced } else { Status::Gone });
            if let Some(file) = file {
                let regions = file.regions.iter().map(|region| region.0).collect();
                self.files.insert(*id, File { rows: file.rows, hash: file.set_hash.0, regions });
            }
        }
    }

    pub(super) fn referenced(&self) -> Vec<(TopicId, Partition, FileId)> {
        let mut files = Vec::new();
        for topic in self.topics.values() {
            for (part, number) in topic.parts.iter().zip(0..) {
                files.extend(part.units().into_iter().filter_map(|(_, _, unit)| match unit {
                    Unit::File(id) => Some((topic.id, Partition(number), id)),
                    Unit::Run(..) => None,
                }));
            }
        }
        files
    }

    pub(super) fn located(&mut self, region: u16) {
        for (_, _, id) in self.referenced() {
            self.files.get_mut(&id).unwrap().regions.insert(region);
        }
    }

    /// Trims a partition; gives its log start.
    pub(super) fn trimmed(&mut self, topic: u64, partition: u32, to: u64, acknowledged: bool) -> u64 {
        let TopicModel { stream, queue, id, .. } = self.topics[&topic];
        let part = self.part_mut(topic, partition);
        let mut to = to.min(part.high_watermark);
        if acknowledged {
            let done = [stream.then_some(part.position), queue.map(|_| part.needed_from())];
            to = to.min(done.into_iter().flatten().min().unwrap_or(0));
        }
        if to > part.log_start {
            for file in part.trim(to) {
                self.ids.insert(file, Status::Garbage);
            }
            self.give_up(|_, claim| (claim.topic, claim.partition.0) == (id, partition) && claim.end.0 <= to);
        }
        self.part(topic, partition).log_start
    }

    pub(super) fn subscribed(&mut self, topic: u64, queue: Option<SubscriptionId>) {
        let topic = self.topics.get_mut(&topic).unwrap();
        for part in &mut topic.parts {
            match queue {
                None => part.position = part.log_start,
                Some(_) => part.settled = (0..part.log_start).collect(),
            }
        }
        match queue {
            None => topic.stream = true,
            Some(_) => topic.queue = queue,
        }
    }

    /// The position after a commit, if there is a stream.
    pub(super) fn committed(&mut self, topic: u64, partition: u32, to: u64) -> Option<u64> {
        let stream = self.topics[&topic].stream;
        let part = self.part_mut(topic, partition);
        part.position = part.position.max(if stream { to } else { 0 });
        stream.then_some(part.position)
    }

    pub(super) fn settle(&mut self, (topic, partition): (u64, u32), (first, count): (u64, u32), what: What) {
        let part = self.part_mut(topic, partition);
        match what {
            What::Settle => {
                let run = first..first + u64::from(count);
                part.held.retain(|at, _| !run.contains(at));
                part.settled.extend(run);
            }
            What::Dead if part.settled.insert(first) => {
                part.held.remove(&first);
                part.dead.insert(first);
            }
            What::Restore if part.dead.remove(&first) => _ = part.settled.remove(&first),
            _ => {}
        }
    }

    pub(super) fn is_open(&self, (topic, partition): (u64, u32), (first, count): (u64, u32)) -> bool {
        let part = self.part(topic, partition);
        (first..first + u64::from(count)).all(|at| !part.settled.contains(&at) && !part.held.contains_key(&at))
    }

    pub(super) fn hold(&mut self, (topic, partition): (u64, u32), run: (u64, u32), id: TransactionId) {
        let part = self.part_mut(topic, partition);
        part.held.extend((run.0..run.0 + u64::from(run.1)).map(|at| (at, id.clone())));
        let topic = self.topics[&topic].id;
        self.waiting.insert(id, Waiting { topic, partition, run });
    }

    pub(super) fn decided(&mut self, id: &TransactionId, commit: bool) {
        let Waiting { topic, partition, run } = self.waiting.remove(id).unwrap();
        let number = self.topics.iter().find(|(_, known)| known.id == topic).map(|(number, _)| *number);
        if let Some(number) = number {
            self.part_mut(number, partition).held.retain(|_, by| by != id);
            if commit {
                self.settle((number, partition), run, What::Settle);
            }
        }
    }
}
