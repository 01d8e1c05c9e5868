//! Applying what concerns the archive: here it is decided that what was claimed is replaced by exactly one writer, and
//! that what is dropped is remembered until it is deleted.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    archive::{ArchiveFile, SetHash},
    batch::AttributeSet,
    command::{Applied, Archived, Claim, ClaimPart, Located, Outcome, Rejection, Replace, Retention, Trim},
    ids::{FileId, Offset, Partition},
    limits::MAX_CLAIM_PARTS,
    state::{
        Kind, PartitionLog, ShardState, Topic,
        archive::{Claimed, Garbage},
    },
};

impl ShardState {
    pub(super) fn claim(&mut self, claim: &Claim) -> Applied {
        if claim.parts.is_empty() || claim.parts.len() > MAX_CLAIM_PARTS {
            return Err(Rejection::Malformed("parts of a claim"));
        }
        for (index, part) in claim.parts.iter().enumerate() {
            let log = self.topic(part.topic).ok_or(Rejection::TopicNotFound)?.partition(part.partition);
            let log = log.ok_or(Rejection::PartitionNotFound(part.partition))?;
            let there = part.first < part.end && log.log_start < part.end && part.end <= log.high_watermark;
            if !there || !log.is_aligned(part.first, part.end) {
                return Err(Rejection::Malformed("offsets of a claim"));
            }
            if claim.parts[..index].iter().any(|other| overlap(part, other)) {
                return Err(Rejection::Malformed("parts of a claim overlap"));
            }
            if let Some((id, _)) = self.archive.claims.iter().find(|(_, other)| overlap(part, &other.part)) {
                return Err(Rejection::Claimed(*id));
            }
        }
        let mut ids = Vec::with_capacity(claim.parts.len());
        for part in &claim.parts {
            self.archive.last = self.archive.last.next();
            self.archive.claims.insert(self.archive.last, Claimed { owner: claim.owner, part: *part });
            ids.push(self.archive.last);
        }
        Ok(Outcome::Claimed(ids))
    }

    pub(super) fn replace(&mut self, replace: &Replace) -> Applied {
        let parts = self.check_replace(replace)?;
        let now = self.time_ms;
        for (claimed, Archived { id, file, .. }) in parts {
            self.archive.claims.remove(id);
            let ClaimPart { topic, partition, first, end } = claimed.part;
            let Some(topic) = self.topics.get_mut(&topic) else { continue };
            topic.archive_changed(now);
            let Some(log) = topic.partitions.get_mut(partition.0 as usize) else { continue };
            let dropped = log.replace(first, end, file.clone(), now);
            self.bodies.remove_runs(&dropped.runs);
            for file in &dropped.files {
                self.archive.discard(file.id, garbage_of(topic, claimed.part, file, now));
            }
        }
        Ok(Outcome::Done)
    }

    /// Checks everything that could go wrong before anything changes. Gives the parts in the order of their offsets, in
    /// which they are put in place.
    fn check_replace<'a>(&self, replace: &'a Replace) -> Result<Vec<(Claimed, &'a Archived)>, Rejection> {
        let mut parts = Vec::with_capacity(replace.parts.len());
        for part in &replace.parts {
            parts.push((*self.archive.claims.get(&part.id).ok_or(Rejection::ClaimLost(part.id))?, part));
        }
        parts.sort_by_key(|(claimed, part)| (claimed.part.topic, claimed.part.partition, claimed.part.first, part.id));
        if parts.windows(2).any(|pair| pair[0].1.id == pair[1].1.id) {
            return Err(Rejection::Malformed("a claim is settled twice"));
        }
        let mut archived_ends = BTreeMap::new();
        for (claimed, part) in &parts {
            let ClaimPart { topic, partition, first, end } = claimed.part;
            let log = self.topic(topic).and_then(|topic| topic.partition(partition));
            let log = log.ok_or(Rejection::ClaimLost(part.id))?;
            let archived_end = archived_ends.entry((topic, partition)).or_insert_with(|| log.archived_end());
            if first > *archived_end {
                return Err(Rejection::Malformed("messages before a claim are not archived"));
            }
            *archived_end = end.max(*archived_end);
            check_archived(self.topic(topic).ok_or(Rejection::ClaimLost(part.id))?, log, &claimed.part, part)?;
            if !part.file.as_ref().is_none_or(|file| self.is_held_by_quorum(file)) {
                return Err(Rejection::Malformed("too few of the regions that vote hold an archive file"));
            }
        }
        Ok(parts)
    }

    /// Whether enough of the regions that vote now have a file: those that voted when it was written may have left.
    fn is_held_by_quorum(&self, file: &ArchiveFile) -> bool {
        let voters = self.regions.voters();
        voters.is_none_or(|voters| voters.has_quorum(|region| file.regions.contains(&region)))
    }

    pub(super) fn release(&mut self, ids: &[FileId]) -> Applied {
        for id in ids {
            let topic = self.archive.claims.get(id).and_then(|claimed| self.topics.get(&claimed.part.topic));
            if let Some(name) = topic.map(|topic| topic.name.clone()) {
                self.archive.give_up(*id, name, self.time_ms);
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn located(&mut self, located: &Located) -> Applied {
        if self.regions.get(located.region).is_none() {
            return Err(Rejection::Malformed("there is no such region"));
        }
        let mut changed = BTreeSet::new();
        for (topic, partition, id) in &located.files {
            let log = self.topics.get_mut(topic).and_then(|topic| topic.partitions.get_mut(partition.0 as usize));
            let Some(log) = log else { continue };
            if let Some(file) = log.files.iter_mut().find(|file| file.id == *id)
                && let Err(at) = file.regions.binary_search(&located.region)
            {
                file.regions.insert(at, located.region);
                log.file_totals.locate(located.region, file.bytes);
                changed.insert(*topic);
            }
        }
        // What is published in the region lists more files than before.
        let now = self.time_ms;
        for topic in changed {
            self.topics.get_mut(&topic).into_iter().for_each(|topic| topic.archive_changed(now));
        }
        Ok(Outcome::Done)
    }

    pub(super) fn trim(&mut self, trim: &Trim) -> Applied {
        let now = self.time_ms;
        let topic = self.topics.get_mut(&trim.topic).ok_or(Rejection::TopicNotFound)?;
        let number = trim.partition.0 as usize;
        let log = topic.partitions.get(number).ok_or(Rejection::PartitionNotFound(trim.partition))?;
        check_retention(topic, &trim.retention)?;
        let mut to = trim.to.min(log.high_watermark);
        if trim.acknowledged {
            to = to.min(topic.acknowledged(trim.partition).unwrap_or_default());
        }
        if to <= log.log_start {
            return Ok(Outcome::Trimmed(log.log_start));
        }
        let dropped = topic.partitions[number].trim(to, now);
        self.bodies.remove_runs(&dropped.runs);
        if !dropped.files.is_empty() {
            topic.archive_changed(now);
        }
        for subscription in topic.subscriptions.values_mut() {
            match &mut subscription.kind {
                Kind::Stream(positions) => positions.iter_mut().skip(number).take(1).for_each(|at| *at = to.max(*at)),
                Kind::Queue(queue) => queue.partition_mut(trim.partition).into_iter().for_each(|at| at.trim(to)),
            }
        }
        let part = ClaimPart { topic: trim.topic, partition: trim.partition, first: Offset(0), end: to };
        for file in &dropped.files {
            self.archive.discard(file.id, garbage_of(topic, part, file, now));
        }
        let over = |claimed: &Claimed| overlap(&claimed.part, &part) && claimed.part.end <= to;
        let over = self.archive.claims.iter().filter(|(_, claimed)| over(claimed));
        let over: Vec<_> = over.map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.archive.give_up(id, topic.name.clone(), now));
        Ok(Outcome::Trimmed(to))
    }

    pub(super) fn deleted(&mut self, ids: &[FileId]) -> Applied {
        for id in ids {
            self.archive.forget(*id);
        }
        Ok(Outcome::Done)
    }

    /// Everything in the archive of a topic that is about to go is garbage.
    pub(super) fn drop_archive(&mut self, topic: &Topic) {
        let now = self.time_ms;
        for (number, log) in (0..).zip(&topic.partitions) {
            let part =
                ClaimPart { topic: topic.id, partition: Partition(number), first: Offset(0), end: log.high_watermark };
            for file in &log.files {
                self.archive.discard(file.id, garbage_of(topic, part, file, now));
            }
        }
        if topic.archive_version > 0 && topic.partitions.iter().all(|log| log.files.is_empty()) {
            // There may be nothing to delete but its views: they go with its last garbage. This file was never written.
            self.archive.last = self.archive.last.next();
            let (name, partition) = (topic.name.clone(), crate::ids::Partition(0));
            let garbage = Garbage { name, topic: topic.id, partition, first: Offset(0), bytes: 0, since_ms: now };
            self.archive.discard(self.archive.last, garbage);
        }
        let of = |claimed: &Claimed| claimed.part.topic == topic.id;
        let claims: Vec<_> = self.archive.claims.iter().filter(|(_, claimed)| of(claimed)).map(|(id, _)| *id).collect();
        claims.into_iter().for_each(|id| self.archive.give_up(id, topic.name.clone(), now));
    }
}

fn overlap(one: &ClaimPart, other: &ClaimPart) -> bool {
    (one.topic, one.partition) == (other.topic, other.partition) && one.first < other.end && other.first < one.end
}

fn garbage_of(topic: &Topic, part: ClaimPart, file: &ArchiveFile, since_ms: i64) -> Garbage {
    let (name, partition, first, bytes) = (topic.name.clone(), part.partition, file.first, file.bytes);
    Garbage { name, topic: topic.id, partition, first, bytes, since_ms }
}

/// What is dropped must be dropped by the retention that the topic has now.
fn check_retention(topic: &Topic, retention: &Retention) -> Result<(), Rejection> {
    if *retention == topic.settings.retention { Ok(()) } else { Err(Rejection::RetentionChanged) }
}

/// A file must cover what was claimed, and hold all of it unless it was compacted: the last line of defence against a
/// compactor that loses something.
fn check_archived(topic: &Topic, log: &PartitionLog, part: &ClaimPart, archived: &Archived) -> Result<(), Rejection> {
    if !log.is_aligned(part.first, part.end) {
        return Err(Rejection::Malformed("a claim cuts through a run or file"));
    }
    if let Some(retention) = &archived.compacted {
        if !retention.key_compaction {
            return Err(Rejection::Malformed("messages are left out of a topic that is not key-compacted"));
        }
        check_retention(topic, retention)?;
    }
    let there = log.rows_between(part.first, part.end);
    let Some(file) = &archived.file else {
        let empty = there == 0 || archived.compacted.is_some();
        return if empty { Ok(()) } else { Err(Rejection::Malformed("messages are missing")) };
    };
    if (file.id, file.first, file.end) != (archived.id, part.first, part.end) || file.rows == 0 {
        return Err(Rejection::Malformed("an archive file is not what was claimed"));
    }
    // What was dropped since the claim, from the beginning, may be in the file.
    let dropped = log.log_start.min(part.end).0.saturating_sub(part.first.0);
    if file.rows > (part.end.0 - part.first.0).min(there + dropped) {
        return Err(Rejection::Malformed("an archive file has more messages than were claimed"));
    }
    if archived.compacted.is_none() {
        if file.rows < there {
            return Err(Rejection::Malformed("messages are missing in an archive file"));
        }
        if dropped == 0 && part.end <= log.archived_end() {
            check_merged(log, part, file)?;
        }
    }
    if file.min_timestamp_ms > file.max_timestamp_ms {
        return Err(Rejection::Malformed("timestamps of an archive file"));
    }
    if file.regions.is_empty() || !file.regions.is_sorted_by(|one, next| one < next) {
        return Err(Rejection::Malformed("regions of an archive file"));
    }
    Ok(())
}

/// A file in the place of other files has exactly their messages.
fn check_merged(log: &PartitionLog, part: &ClaimPart, file: &ArchiveFile) -> Result<(), Rejection> {
    let sum = |(hash, attributes, oldest): (SetHash, AttributeSet, Option<i64>), file: &ArchiveFile| {
        let oldest = oldest.into_iter().chain(file.oldest_tombstone_ms).min();
        (hash.and(file.set_hash), attributes.union(file.attributes), oldest)
    };
    let sources = log.files_from(part.first).iter().take_while(|source| source.first < part.end);
    let (set_hash, attributes, oldest) = sources.fold(Default::default(), sum);
    let attributes_held = file.attributes.union(attributes) == file.attributes;
    if file.set_hash != set_hash || !attributes_held || file.oldest_tombstone_ms != oldest {
        return Err(Rejection::Malformed("a merged archive file has other messages than its sources"));
    }
    Ok(())
}
