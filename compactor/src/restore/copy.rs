//! Copying entries and archive files into the targets.

use std::collections::{BTreeMap, BTreeSet};

use brigade_index::{
    archive::{Footer, FooterStep, crc_with_end, moved_footer},
    ids::{FileId, Sequence},
    keys,
    shard::inspect::{RegionContent, check_entry},
    store::{Component, RegionStore},
};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};

use super::{RestoreError, SHARD};
use crate::scrub::{
    entries::Reading,
    files::head_of,
    scene::{FileRef, Wanted},
};

/// Bytes of a part of a large archive file.
const PART: usize = 8 << 20;

/// Entries that are copied at the same time.
const ENTRIES: usize = 8;

/// What copying needs.
pub(super) struct Copying<'a> {
    pub(super) reading: &'a Reading,
    pub(super) source: &'a RegionStore,
    pub(super) content: &'a RegionContent,
    pub(super) wanted: &'a Wanted,
    pub(super) targets: Vec<RegionStore>,
    /// Identities of the cluster that is restored, and of the new one.
    pub(super) clusters: (&'a str, &'a str),
}

/// The end of a file in both clusters.
struct End {
    before: Bytes,
    after: Bytes,
}

impl Copying<'_> {
    /// Copies the objects of all entries whose batches are referenced.
    pub(super) async fn entries(&self) -> Result<(), RestoreError> {
        let mut there = Vec::new();
        for target in &self.targets {
            let found = target.list(Component::Repair, &keys::copies(SHARD)).await?;
            there.push(found.iter().filter_map(|key| keys::parse_copy(SHARD, key)).collect::<BTreeSet<_>>());
        }
        let there = &there;
        let copies = stream::iter(self.wanted.entries.keys().copied())
            .map(|sequence| async move { self.entry(sequence, there).await });
        copies.buffer_unordered(ENTRIES).try_collect::<()>().await
    }

    async fn entry(&self, sequence: Sequence, there: &[BTreeSet<Sequence>]) -> Result<(), RestoreError> {
        let without: Vec<_> =
            self.targets.iter().zip(there).filter(|(_, there)| !there.contains(&sequence)).map(|(to, _)| to).collect();
        if without.is_empty() {
            return Ok(());
        }
        let damaged = |key: &keys::Key, problem: String| RestoreError::Damaged { key: key.to_string(), problem };
        let copy = keys::copy(SHARD, sequence);
        let key = self.content.key_of(SHARD, sequence);
        let key = key.ok_or_else(|| damaged(&copy, "it is not known where the source has it".to_owned()))?;
        let bytes = self.reading.whole(self.source, &key, 0).await?;
        let bytes = bytes.ok_or_else(|| damaged(&key, "it does not exist".to_owned()))?;
        let (record, ..) = check_entry(&bytes, sequence).map_err(|error| damaged(&key, error.to_string()))?;
        for target in without {
            self.reading.budget.take(bytes.len() as u64).await;
            target.create(Component::Repair, &copy, bytes.clone().into(), record.head.id).await?;
        }
        self.reading.progress.object();
        Ok(())
    }

    /// Copies all archive files, which then belong to the new cluster; gives their checksums there.
    pub(super) async fn files(&self) -> Result<BTreeMap<FileId, u32>, RestoreError> {
        let mut checksums = BTreeMap::new();
        for file in self.wanted.files.values() {
            let end = self.end(file).await?;
            let crc = crc_with_end(file.file.crc, &end.before, &end.after);
            checksums.insert(file.file.id, crc);
            let mut without = Vec::new();
            for target in &self.targets {
                // It is there as a whole or not at all; whether it is right, the check at the end tells.
                let last = file.file.bytes.saturating_sub(1)..file.file.bytes + 1;
                let there = target.get_range(Component::Repair, &file.key(), last).await?;
                if there.is_none_or(|bytes| bytes.len() != 1) {
                    without.push(target);
                }
            }
            if !without.is_empty() {
                self.file(file, &end, &without).await?;
            }
            self.reading.progress.object();
        }
        Ok(checksums)
    }

    fn damaged(file: &FileRef, problem: impl ToString) -> RestoreError {
        RestoreError::Damaged { key: file.key().to_string(), problem: problem.to_string() }
    }

    /// The end of a file, as it is in the source and as it will be in the targets.
    async fn end(&self, file: &FileRef) -> Result<End, RestoreError> {
        let size = file.file.bytes;
        let mut range = Footer::first_range(size);
        loop {
            let bytes = self.reading.range(self.source, &file.key(), range.clone()).await?;
            let bytes = bytes.ok_or_else(|| Self::damaged(file, "it does not exist"))?;
            let step = Footer::decode(size, range.start, bytes.clone()).map_err(|error| Self::damaged(file, error))?;
            let footer = match step {
                FooterStep::Need(needed) if needed.start < range.start => {
                    range = needed;
                    continue;
                }
                FooterStep::Need(_) => return Err(Self::damaged(file, "its footer never ends")),
                FooterStep::Ready(footer) => footer,
            };
            let check = footer.check(&file.file, &head_of(file, self.clusters.0));
            check.map_err(|error| Self::damaged(file, error))?;
            let after = moved_footer(size, &bytes, self.clusters.0, self.clusters.1);
            let after = after.map_err(|error| Self::damaged(file, error))?;
            let before = bytes.slice(bytes.len() - after.len()..);
            return Ok(End { before, after });
        }
    }

    /// Copies a file into all `targets` at the same time, a part at a time.
    async fn file(&self, file: &FileRef, end: &End, targets: &[&RegionStore]) -> Result<(), RestoreError> {
        let (key, body) = (file.key(), file.file.bytes - end.before.len() as u64);
        let whole = file.file.bytes <= PART as u64;
        let mut uploads = Vec::new();
        if !whole {
            uploads = try_join_all(targets.iter().map(|target| target.upload(Component::Repair, &key))).await?;
        }
        let (mut crc, mut at, mut part) = (0, 0, BytesMut::new());
        while at < body {
            let to = body.min(at + PART as u64);
            let bytes = self.reading.range(self.source, &key, at..to).await?;
            let bytes = bytes.filter(|bytes| bytes.len() as u64 == to - at);
            let bytes = bytes.ok_or_else(|| Self::damaged(file, "it is cut off"))?;
            crc = crc32c::crc32c_append(crc, &bytes);
            part.extend_from_slice(&bytes);
            at = to;
            if !whole && part.len() >= PART {
                let ready = part.split().freeze();
                self.reading.budget.take((ready.len() * targets.len()) as u64).await;
                try_join_all(uploads.iter_mut().map(|upload| upload.part(ready.clone()))).await?;
            }
        }
        if crc32c::crc32c_append(crc, &end.before) != file.file.crc {
            return Err(Self::damaged(file, "its checksum is not the one that the index knows"));
        }
        part.extend_from_slice(&end.after);
        let rest = part.freeze();
        self.reading.budget.take((rest.len() * targets.len()) as u64).await;
        if whole {
            let puts = targets.iter().map(|target| target.overwrite(Component::Repair, &key, rest.clone().into()));
            try_join_all(puts).await?;
            return Ok(());
        }
        try_join_all(uploads.iter_mut().map(|upload| upload.part(rest.clone()))).await?;
        try_join_all(uploads.into_iter().map(|upload| upload.finish())).await?;
        Ok(())
    }
}
