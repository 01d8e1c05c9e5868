//! What may be claimed and replaced, said once more.

use std::collections::{BTreeMap, BTreeSet};

use super::{model::Unit, *};

impl Model {
    /// Claims that overlap one of these parts.
    pub(super) fn overlapping(&self, parts: &[ClaimPart]) -> Vec<FileId> {
        let claims = self.ids.iter().filter_map(|(id, status)| match status {
            Status::Claimed(part) => Some((*id, *part)),
            _ => None,
        });
        claims.filter(|(_, claim)| parts.iter().any(|part| meet(part, claim))).map(|(id, _)| id).collect()
    }

    pub(super) fn can_be_claimed(&self, parts: &[ClaimPart]) -> bool {
        let good = |part: &ClaimPart| {
            let (_, log) = self.claimed_part(part);
            let (first, end) = (part.first.0, part.end.0);
            let whole =
                |(from, to, _): &(u64, u64, Unit)| [first, end].iter().all(|bound| bound <= from || bound >= to);
            first < end && end <= log.high_watermark && end > log.log_start && log.units().iter().all(whole)
        };
        let apart = |at: usize| parts[..at].iter().all(|other| !meet(other, &parts[at]));
        parts.iter().all(good) && (0..parts.len()).all(apart)
    }

    /// A part of a Replace, as an honest compactor or another one would make it.
    pub(super) fn archived(&mut self, id: FileId, how: How) -> Archived {
        let nowhere = ClaimPart { topic: TopicId(0), partition: Partition(0), first: Offset(0), end: Offset(1) };
        let (part, log) = match self.ids.get(&id) {
            Some(Status::Claimed(part)) => (*part, Some(self.claimed_part(part).1)),
            _ => (nowhere, None),
        };
        let there = log.map(|log| log.exists.range(part.first.0..part.end.0).copied()).into_iter().flatten();
        let dropped =
            |at: &u64| matches!(how, How::Compacted(mask) | How::Outdated(mask) if mask >> (at % 64) & 1 == 1);
        let kept: BTreeSet<_> = there.filter(|at| !dropped(at)).collect();
        let sources = log.map(|log| self.sources(log, &part)).unwrap_or_default();
        let hash = match sources.iter().map(|source| source.map(|file| file.hash)).collect::<Option<Vec<_>>>() {
            Some(hashes) if !how.compacts() => hashes.into_iter().fold(0_u128, u128::wrapping_add),
            _ => kept.iter().map(|at| u128::from(at * at + 7)).sum(),
        };
        let rows = match how {
            How::Missing => (kept.len() as u64).saturating_sub(1),
            How::Surplus => kept.len() as u64 + 1,
            _ => kept.len() as u64,
        };
        self.kept.insert(id, kept);
        let file = ArchiveFile {
            id,
            first: part.first,
            end: part.end.plus(u64::from(how == How::OtherRange)),
            rows,
            bytes: 100,
            payload_bytes: 50,
            crc: 7,
            set_hash: SetHash(hash.wrapping_add(u128::from(how == How::OtherMessages))),
            min_timestamp_ms: 1,
            max_timestamp_ms: 2,
            attributes: AttributeSet::default(),
            oldest_tombstone_ms: None,
            merges: 0,
            compacted: how.compacts(),
            regions: match how {
                How::NoRegion => Vec::new(),
                How::FewRegions => vec![RegionNo(1), RegionNo(7)],
                _ => vec![RegionNo(0), RegionNo(1)],
            },
        };
        let retention = self.topics.values().find(|topic| topic.id == part.topic).map(|topic| topic.retention);
        let retention = retention.unwrap_or_default();
        let compacted = match how {
            How::Compacted(_) => Some(retention),
            How::Outdated(_) => Some(other(&retention)),
            _ => None,
        };
        Archived { id, file: (rows > 0).then_some(file), compacted }
    }

    /// What lies in a part: files, and `None` for runs.
    fn sources(&self, log: &Part, part: &ClaimPart) -> Vec<Option<&File>> {
        let within = log.units().into_iter().filter(|(first, end, _)| *first < part.end.0 && *end > part.first.0);
        let source = |(_, _, unit)| match unit {
            Unit::File(id) => Some(&self.files[&id]),
            Unit::Run(..) => None,
        };
        within.map(source).collect()
    }

    /// Otherwise whether it is refused because a claim is not there any more.
    pub(super) fn may_replace(&self, parts: &[Archived], how: How) -> Result<(), bool> {
        let mut claims = Vec::new();
        for archived in parts {
            let Some(Status::Claimed(part)) = self.ids.get(&archived.id) else { return Err(true) };
            claims.push((*part, archived));
        }
        claims.sort_by_key(|(part, _)| (part.topic, part.partition, part.first));
        let mut ends = BTreeMap::new();
        let mut good = !matches!(how, How::Twice | How::Outdated(_));
        for (part, archived) in claims {
            let end = ends.entry((part.topic, part.partition)).or_insert(self.claimed_part(&part).1.archived_end());
            good &= part.first.0 <= *end && self.is_good(&part, archived, how);
            *end = part.end.0.max(*end);
        }
        if good { Ok(()) } else { Err(false) }
    }

    fn is_good(&self, part: &ClaimPart, archived: &Archived, how: How) -> bool {
        let (number, log) = self.claimed_part(part);
        let sources = self.sources(log, part);
        // Rows of files, for one may claim to have messages that were dropped since.
        let runs = log
            .units()
            .into_iter()
            .filter(|(first, end, unit)| matches!(unit, Unit::Run(..)) && *first < part.end.0 && *end > part.first.0);
        let files = sources.iter().flatten();
        let there =
            files.clone().map(|file| file.rows).sum::<u64>() + runs.map(|(first, end, _)| end - first).sum::<u64>();
        let rows = archived.file.as_ref().map_or(0, |file| file.rows);
        let dropped = log.log_start.min(part.end.0).saturating_sub(part.first.0);
        let compacted = how.compacts();
        let merged = sources.iter().all(Option::is_some) && dropped == 0;
        let hashes = files.fold(0, |sum: u128, file| sum.wrapping_add(file.hash));
        let whole = |file: &ArchiveFile| {
            !matches!(how, How::OtherRange | How::NoRegion | How::FewRegions)
                && rows <= (part.end.0 - part.first.0).min(there + dropped)
                && (compacted || !merged || file.set_hash.0 == hashes)
        };
        (number < 2 || !compacted) && (compacted || rows >= there) && archived.file.as_ref().is_none_or(whole)
    }
}

fn meet(one: &ClaimPart, other: &ClaimPart) -> bool {
    (one.topic, one.partition) == (other.topic, other.partition) && one.first.max(other.first) < one.end.min(other.end)
}
