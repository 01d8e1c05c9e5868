//! Archive files of a log in memory: written by the real writer, committed by the real commands.

use std::{ops::Range, time::Duration};

use brigade_index::{
    archive::{FileHead, FileWriter, Footer, FooterStep, WriterSettings},
    batch::{Messages, decode},
    command::{Archived, Claim, ClaimPart, Command, Outcome, Replace, Retention, RetentionPatch, SettingsPatch, Trim},
    ids::{Ballot, FileId, Offset, Partition, RegionNo, TopicId},
    keys::Key,
    shard::FetchError,
    state::PartitionLog,
};
use bytes::Bytes;

use super::{BODY_AT, CLUSTER, MemoryLog};
use crate::source::{Source, sources_from};

/// Regions that files are in; the first of them is the nearest.
const HOLDERS: [RegionNo; 2] = [RegionNo(0), RegionNo(1)];

impl MemoryLog {
    pub(crate) async fn fetch_file(
        &self,
        key: &Key,
        holders: &[RegionNo],
        range: Range<u64>,
    ) -> Result<Bytes, FetchError> {
        assert!(holders == HOLDERS || holders.len() == 1);
        let key = key.to_string();
        self.ranges.lock().push((key.clone(), range.clone()));
        let unreachable = *self.unreachable.lock();
        tokio::time::sleep(Duration::from_millis(if unreachable { 10 } else { 1 })).await;
        if unreachable {
            return Err(FetchError::Unavailable("unreachable".to_owned()));
        }
        let files = self.files.lock();
        let bytes = files.get(&key).and_then(|file| file.get(range.start as usize..range.end as usize));
        let nearest = holders.first() == HOLDERS.first();
        let bytes = bytes.map(|bytes| {
            let mut bytes = bytes.to_vec();
            let damaged = self.damaged_nearby.lock().filter(|at| nearest && range.contains(at));
            damaged.into_iter().for_each(|at| bytes[(at - range.start) as usize] ^= 1);
            Bytes::from(bytes)
        });
        bytes.ok_or_else(|| FetchError::Damaged { key, problem: "it does not exist".to_owned() })
    }

    /// Archives, merges or compacts what a partition has between two offsets, at which sources begin and end: the messages
    /// for which `keep` holds go into a file with so many messages a row group. Gives its number, if anything was kept.
    pub(crate) fn archive(
        &self,
        topic: TopicId,
        partition: Partition,
        (first, end): (Offset, Offset),
        settings: &WriterSettings,
        keep: impl Fn(Offset) -> bool,
    ) -> Option<FileId> {
        let part = ClaimPart { topic, partition, first, end };
        let claim = Command::Claim(Claim { owner: Ballot { round: 1, nonce: 1 }, parts: vec![part] });
        let Ok(Outcome::Claimed(ids)) = self.now(claim) else { panic!("{part:?} cannot be claimed") };
        let (name, log) = {
            let state = self.state.read();
            let topic = state.topic(topic).unwrap();
            (topic.name.clone(), topic.partition(partition).unwrap().clone())
        };
        let cluster = CLUSTER.to_owned();
        let head = FileHead { cluster, topic: name.clone(), topic_id: topic, partition, id: ids[0], first, end };
        let mut writer = FileWriter::new(head.clone(), settings).unwrap();
        let mut kept = false;
        let mut all = true;
        for (messages, places) in self.stored(&name, topic, partition, &log, (first, end)) {
            let places = places.into_iter().filter(|(_, offset)| *offset >= first && *offset < end);
            let (rows, offsets): (Vec<_>, Vec<_>) = places
                .filter(|(_, offset)| {
                    keep(*offset) || {
                        all = false;
                        false
                    }
                })
                .unzip();
            kept |= !rows.is_empty();
            writer.push_rows(&messages, &rows, &offsets).unwrap();
        }
        let file = kept.then(|| {
            let mut bytes = writer.take().to_vec();
            let (rest, written) = writer.finish().unwrap();
            bytes.extend_from_slice(&rest);
            let file = written.file(&head, 0, !all, HOLDERS.to_vec());
            self.files.lock().insert(file.key(&name, topic, partition).to_string(), bytes.into());
            file
        });
        let compacted = (!all).then(|| {
            let retention = RetentionPatch { key_compaction: Some(true), ..RetentionPatch::default() };
            let patch = SettingsPatch { retention, ..SettingsPatch::default() };
            self.now(Command::AlterTopic { topic, patch }).unwrap();
            self.retention(topic)
        });
        let replace = Replace { parts: vec![Archived { id: ids[0], file, compacted }] };
        self.now(Command::Replace(replace)).unwrap();
        kept.then_some(ids[0])
    }

    /// What sources between two offsets hold: messages, and rows and offsets of those that are meant.
    fn stored(
        &self,
        name: &brigade_index::names::TopicName,
        topic: TopicId,
        partition: Partition,
        log: &PartitionLog,
        (first, end): (Offset, Offset),
    ) -> Vec<(Messages, Vec<(usize, Offset)>)> {
        let mut stored = Vec::new();
        for source in sources_from(log, first).take_while(|source| source.first() < end) {
            match source {
                Source::Run(run) => {
                    let at = (run.batch.at - BODY_AT) as usize;
                    let body = self.bodies.lock()[&run.batch.sequence].slice(at..at + run.batch.len as usize);
                    let rows = run.first_row as usize..(run.first_row + run.rows) as usize;
                    let places = rows.zip((run.base.0..).map(Offset)).collect();
                    stored.push((decode(&body).unwrap(), places));
                }
                Source::File(file) => {
                    let bytes = self.files.lock()[&file.key(name, topic, partition).to_string()].clone();
                    let footer = match Footer::decode(file.bytes, 0, bytes.clone()).unwrap() {
                        FooterStep::Ready(footer) => footer,
                        FooterStep::Need(_) => unreachable!("the whole file is given"),
                    };
                    for block in 0..footer.blocks().len() {
                        let whole = [(0..file.bytes, bytes.clone())];
                        let rows = footer.decode_block(block, &whole).unwrap();
                        stored.push((rows.messages, rows.offsets.into_iter().map(Offset).enumerate().collect()));
                    }
                }
            }
        }
        stored
    }

    fn retention(&self, topic: TopicId) -> Retention {
        self.state.read().topic(topic).unwrap().settings.retention
    }

    /// Drops everything before an offset.
    pub(crate) fn trim(&self, topic: TopicId, partition: Partition, to: Offset) {
        let retention = self.retention(topic);
        self.now(Command::Trim(Trim { topic, partition, to, acknowledged: false, retention })).unwrap();
    }

    /// Deletes what is not referenced any more: archive files, and bodies of entries.
    pub(crate) fn delete_garbage(&self) {
        let garbage: Vec<_> = {
            let state = self.state.read();
            let bodies: std::collections::BTreeSet<_> = state.bodies().collect();
            self.bodies.lock().retain(|sequence, _| bodies.contains(sequence));
            let garbage = state.archive.garbage();
            garbage.iter().map(|(id, garbage)| (*id, garbage.key(*id).to_string())).collect()
        };
        for (_, key) in &garbage {
            self.files.lock().remove(key);
        }
        self.now(Command::Deleted(garbage.into_iter().map(|(id, _)| id).collect())).unwrap();
    }

    /// Where sources of a partition begin, and where the last one ends.
    pub(crate) fn bounds(&self, topic: TopicId, partition: Partition) -> Vec<Offset> {
        let state = self.state.read();
        let log = state.topic(topic).unwrap().partition(partition).unwrap();
        let sources = sources_from(log, Offset(0)).flat_map(|source| [source.first(), source.end()]);
        let mut bounds: Vec<_> = sources.collect();
        bounds.dedup();
        bounds
    }

    /// Ranges of archive files that were fetched since this was last asked.
    pub(crate) fn fetched_ranges(&self) -> Vec<(String, Range<u64>)> {
        std::mem::take(&mut *self.ranges.lock())
    }
}
