//! Applying what concerns the archive: here it is decided that what was claimed is replaced by exactly one writer, and
//! that what is dropped is remembered until it is deleted.

use std::collections::BTreeSet;

use crate::{
    archive::ArchiveFile,
    command::{Applied, Archived, Claim, ClaimPart, Located, Outcome, Rejection, Replace, Trim},
    ids::{FileId, Offset},
    limits::MAX_CLAIM_PARTS,
    state::{
        Kind, ShardState, Topic,
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
            if part.first >= part.end || part.end > log.high_watermark || !log.is_aligned(part.first, part.end) {
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
        for (index, part) in replace.parts.iter().enumerate() {
            if replace.parts[..index].iter().any(|other| other.id == part.id) {
                return Err(Rejection::Malformed("a claim is settled twice"));
            }
            let claimed = self.archive.claims.get(&part.id).ok_or(Rejection::ClaimLost(part.id))?;
            let topic = self.topic(claimed.part.topic).ok_or(Rejection::ClaimLost(part.id))?;
            check_archived(topic, &claimed.part, part)?;
        }
        for Archived { id, file, .. } in &replace.parts {
            let Some(claimed) = self.archive.claims.remove(id) else { continue };
            let ClaimPart { topic, partition, first, end } = claimed.part;
            let now = self.time_ms;
            let Some(topic) = self.topics.get_mut(&topic) else { continue };
            topic.archive_changed(now);
            let Some(log) = topic.partitions.get_mut(partition.0 as usize) else { continue };
            let dropped = log.replace(first, end, file.clone());
            let garbage = dropped.into_iter().map(|file| (file.id, garbage_of(topic, claimed.part, &file, now)));
            self.archive.garbage.extend(garbage);
        }
        Ok(Outcome::Done)
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
            let file = log.and_then(|log| log.files.iter_mut().find(|file| file.id == *id));
            if let Some(file) = file
                && let Err(at) = file.regions.binary_search(&located.region)
            {
                file.regions.insert(at, located.region);
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
        let mut to = trim.to.min(log.high_watermark);
        if trim.acknowledged {
            to = to.min(acknowledged(topic, number).unwrap_or_default());
        }
        if to <= log.log_start {
            return Ok(Outcome::Trimmed(log.log_start));
        }
        let dropped = topic.partitions[number].trim(to);
        if !dropped.is_empty() {
            topic.archive_changed(now);
        }
        for subscription in topic.subscriptions.values_mut() {
            match &mut subscription.kind {
                Kind::Stream(positions) => positions.iter_mut().skip(number).take(1).for_each(|at| *at = to.max(*at)),
                Kind::Queue(queue) => queue.partition_mut(trim.partition).into_iter().for_each(|at| at.trim(to)),
            }
        }
        let part = ClaimPart { topic: trim.topic, partition: trim.partition, first: Offset(0), end: to };
        let garbage = dropped.iter().map(|file| (file.id, garbage_of(topic, part, file, now)));
        self.archive.garbage.extend(garbage);
        let over = |claimed: &Claimed| overlap(&claimed.part, &part) && claimed.part.end <= to;
        let over = self.archive.claims.iter().filter(|(_, claimed)| over(claimed));
        let over: Vec<_> = over.map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.archive.give_up(id, topic.name.clone(), now));
        Ok(Outcome::Trimmed(to))
    }

    pub(super) fn deleted(&mut self, ids: &[FileId]) -> Applied {
        for id in ids {
            self.archive.garbage.remove(id);
        }
        Ok(Outcome::Done)
    }

    /// Everything in the archive of a topic that is about to go is garbage.
    pub(super) fn drop_archive(&mut self, topic: &Topic) {
        let now = self.time_ms;
        for (number, log) in (0..).zip(&topic.partitions) {
            let part = ClaimPart {
                topic: topic.id,
                partition: crate::ids::Partition(number),
                first: Offset(0),
                end: log.high_watermark,
            };
            let garbage = log.files.iter().map(|file| (file.id, garbage_of(topic, part, file, now)));
            self.archive.garbage.extend(garbage);
        }
        if topic.archive_version > 0 && topic.partitions.iter().all(|log| log.files.is_empty()) {
            // There may be nothing to delete but its views: they go with its last garbage. This file was never written.
            self.archive.last = self.archive.last.next();
            let (name, partition) = (topic.name.clone(), crate::ids::Partition(0));
            let garbage = Garbage { name, topic: topic.id, partition, first: Offset(0), bytes: 0, since_ms: now };
            self.archive.garbage.insert(self.archive.last, garbage);
        }
        let of = |claimed: &Claimed| claimed.part.topic == topic.id;
        let claims: Vec<_> = self.archive.claims.iter().filter(|(_, claimed)| of(claimed)).map(|(id, _)| *id).collect();
        claims.into_iter().for_each(|id| self.archive.give_up(id, topic.name.clone(), now));
    }
}

/// Up to where every subscription is done with a partition; `None` if there is no subscription.
fn acknowledged(topic: &Topic, number: usize) -> Option<Offset> {
    let start = topic.partitions[number].log_start;
    let done = topic.subscriptions.values().map(|subscription| match &subscription.kind {
        Kind::Stream(positions) => positions.get(number).copied().unwrap_or(start),
        Kind::Queue(queue) => queue.partitions.get(number).map_or(start, |part| part.needed_from()),
    });
    done.min()
}

fn overlap(one: &ClaimPart, other: &ClaimPart) -> bool {
    (one.topic, one.partition) == (other.topic, other.partition) && one.first < other.end && other.first < one.end
}

fn garbage_of(topic: &Topic, part: ClaimPart, file: &ArchiveFile, since_ms: i64) -> Garbage {
    let (name, partition, first, bytes) = (topic.name.clone(), part.partition, file.first, file.bytes);
    Garbage { name, topic: topic.id, partition, first, bytes, since_ms }
}

/// A file must cover what was claimed, and hold all of it unless it was compacted: the last line of defence against a
/// compactor that loses something.
fn check_archived(topic: &Topic, part: &ClaimPart, archived: &Archived) -> Result<(), Rejection> {
    let log = topic.partition(part.partition).ok_or(Rejection::ClaimLost(archived.id))?;
    if !log.is_aligned(part.first, part.end) {
        return Err(Rejection::Malformed("a claim cuts through a run or file"));
    }
    // What was dropped meanwhile, from the beginning, may be in the file.
    let there = log.rows_between(part.first, part.end);
    let Some(file) = &archived.file else {
        let empty = there == 0 || archived.compacted;
        return if empty { Ok(()) } else { Err(Rejection::Malformed("messages are missing")) };
    };
    let span = part.end.0 - part.first.0;
    if (file.id, file.first, file.end) != (archived.id, part.first, part.end) || file.rows == 0 || file.rows > span {
        return Err(Rejection::Malformed("an archive file is not what was claimed"));
    }
    if file.rows < there && !archived.compacted {
        return Err(Rejection::Malformed("messages are missing in an archive file"));
    }
    if file.regions.is_empty() || !file.regions.is_sorted() {
        return Err(Rejection::Malformed("regions of an archive file"));
    }
    Ok(())
}
