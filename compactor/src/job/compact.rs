//! Key compaction: files are written again without the messages that a later one has the key of.
//!
//! First the keys of the dirty part are read. Then the files are gone through from the first to the last: each that loses
//! a message is written again and put in the place of the old one before the next is begun. So a compaction that breaks off
//! has lost nothing and need not be undone: what a later message has the key of may be dropped at any time, and a tombstone
//! is dropped only when nothing with its key is left before it. In what is clean no key is there twice, so that a tombstone
//! whose time is over can go at any time, too. It takes breaks between files, where others work.

use std::ops::Range;

use brigade_index::{
    archive::{ArchiveError, ArchiveFile, FileWriter, Footer, Keys, Rows},
    command::{Archived, ClaimPart, Rejection, Retention},
    ids::{FileId, Offset},
    shard::FetchError,
};
use bytes::Bytes;
use futures::future::try_join_all;

use super::{Breaks, FilePlace, JobContext, JobError, Outgoing, slice};
use crate::{
    keys::{Full, Keeper, KeyMap, KeyPart},
    metrics::JobKind,
    plan::CompactJob,
};

/// The part of the job's memory that the keys may take.
const KEYS_SHARE: usize = 4;

/// The part of the job's memory that a file may take before it is sent in parts.
const FILE_SHARE: usize = 4;

/// Runs a key compaction at the time `now_ms`, milliseconds since the Unix epoch. `seed` must be drawn at random. What others
/// do in its breaks may drop files from the beginning of the partition, and add files behind those of the job.
///
/// # Errors
/// When not all of it was done; the files that were, are.
pub(crate) async fn run(
    context: &JobContext,
    job: &CompactJob,
    now_ms: i64,
    seed: u64,
    breaks: &Breaks,
) -> Result<(), JobError> {
    let part = ClaimPart { topic: job.topic, partition: job.partition, first: Offset(0), end: job.until };
    let place = context.place(&part)?;
    let tombstones_before_ms = now_ms.saturating_sub_unsigned(job.retention.tombstones_ms);
    let mut compaction = Compaction { context, place, retention: job.retention, tombstones_before_ms, seed, breaks };
    let clean = job.files.iter().take_while(|file| file.first < job.dirty_from).count();
    let (clean, dirty) = job.files.split_at(clean);
    compaction.run(clean.to_vec(), dirty).await
}

struct Compaction<'a> {
    context: &'a JobContext,
    place: FilePlace,
    /// What messages are left out by.
    retention: Retention,
    /// Tombstones with a timestamp before this are dropped.
    tombstones_before_ms: i64,
    seed: u64,
    breaks: &'a Breaks,
}

/// A file that is there to be read.
struct Source {
    file: ArchiveFile,
    part: ClaimPart,
    footer: Footer,
}

impl Compaction<'_> {
    async fn run(&mut self, mut clean: Vec<ArchiveFile>, dirty: &[ArchiveFile]) -> Result<(), JobError> {
        let Some(first) = dirty.first() else {
            // There may be tombstones whose time is over.
            let (map, flagged) = (KeyMap::new(0, 0, self.seed, KeyPart::ALL), clean.len());
            return self.pass(&mut clean, flagged, &map).await;
        };
        let (map, count) = self.survey(dirty, KeyPart::ALL).await?;
        if count > 0 {
            clean.extend_from_slice(&dirty[..count]);
            let flagged = clean.len() - count;
            return self.pass(&mut clean, flagged, &map).await;
        }
        // Not even the keys of one file have room: it is compacted for one part of the keys after the other.
        let mut parts = first.rows.div_ceil(map.room()).next_power_of_two();
        drop(map);
        clean.push(first.clone());
        let mut number = 0;
        while number < parts
            && let Some(at) = clean.iter().position(|file| file.first == first.first)
        {
            let (map, count) = self.survey(&clean[at..], KeyPart::of(number, parts)).await?;
            if count == 0 {
                // Keys are not spread evenly: what was done for larger parts holds for the smaller ones.
                (number, parts) = (0, parts * 2);
                continue;
            }
            number += 1;
            let flagged = if number == parts { at } else { clean.len() };
            self.pass(&mut clean, flagged, &map).await?;
        }
        Ok(())
    }

    /// Reads the keys of files. Gives how many of the files have been read to the end when the map was full.
    async fn survey(&self, dirty: &[ArchiveFile], part: KeyPart) -> Result<(KeyMap, usize), JobError> {
        let rows = dirty.iter().map(|file| file.rows).sum();
        let mut map = KeyMap::new(rows, self.context.memory_bytes / KEYS_SHARE, self.seed, part);
        for (number, file) in dirty.iter().enumerate() {
            self.breaks.take(map.memory()).await;
            if !self.still_there(file)? {
                continue;
            }
            let source = self.open(file).await?;
            for block in 0..source.footer.blocks().len() {
                let keys = self.keys(&source, block).await?;
                self.context.holds(map.memory() + source.footer.memory());
                if slice(|| note(&mut map, &keys)).await.is_err() {
                    return Ok((map, number));
                }
            }
        }
        Ok((map, dirty.len()))
    }

    /// Goes through files with the keys of the dirty part. Those from `flagged` on are compacted then, and are all written
    /// again. `files` is what there is in their places afterwards.
    async fn pass(&self, files: &mut Vec<ArchiveFile>, flagged: usize, map: &KeyMap) -> Result<(), JobError> {
        let keeper = Keeper::new(map, self.tombstones_before_ms);
        let mut left = Vec::with_capacity(files.len());
        for (number, file) in files.iter().enumerate() {
            self.breaks.take(map.memory()).await;
            match self.still_there(file)? {
                true if number >= flagged || self.loses(file, &keeper, map).await? => {
                    left.extend(self.rewrite(file, &keeper, map, file.compacted || number >= flagged).await?);
                }
                true => left.push(file.clone()),
                // Retention has dropped it meanwhile.
                false => {}
            }
        }
        *files = left;
        Ok(())
    }

    /// Whether a file is where it was; `false` if it was dropped from the beginning of the partition.
    fn still_there(&self, file: &ArchiveFile) -> Result<bool, JobError> {
        let gone = |problem| JobError::Superseded(Rejection::Malformed(problem));
        let state = self.context.shard.state();
        let topic = state.topic(self.place.topic).ok_or(JobError::Superseded(Rejection::TopicNotFound))?;
        let log = topic.partition(self.place.partition).ok_or_else(|| gone("the partition is gone"))?;
        if log.log_start >= file.end {
            return Ok(false);
        }
        let there = log.files_from(file.first).first().is_some_and(|found| found.id == file.id);
        if there { Ok(true) } else { Err(gone("a file that was to be compacted has been replaced")) }
    }

    /// Whether a message of a file is superseded, or a tombstone whose time is over.
    async fn loses(&self, file: &ArchiveFile, keeper: &Keeper<'_>, map: &KeyMap) -> Result<bool, JobError> {
        let old_tombstone = file.oldest_tombstone_ms.is_some_and(|oldest| oldest < self.tombstones_before_ms);
        // It might have none of the keys of a part.
        if old_tombstone && map.is_whole() {
            return Ok(true);
        }
        if map.is_empty() {
            return Ok(false);
        }
        let source = self.open(file).await?;
        for block in 0..source.footer.blocks().len() {
            let keys = self.keys(&source, block).await?;
            let superseded = |(key, offset): (Option<&[u8]>, &u64)| {
                key.is_some_and(|key| keeper.is_superseded(key, Offset(*offset)))
            };
            if slice(|| keys.keys.iter().zip(&keys.offsets).any(superseded)).await {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes a file again. Gives what is in its place: nothing, if nothing is left of it.
    async fn rewrite(
        &self,
        file: &ArchiveFile,
        keeper: &Keeper<'_>,
        map: &KeyMap,
        compacted: bool,
    ) -> Result<Option<ArchiveFile>, JobError> {
        let source = self.open(file).await?;
        let mut written = None;
        let (from, out) = (&source, &mut written);
        let work = |ids: Vec<FileId>| async move {
            let Some(&id) = ids.first() else { return Ok(Vec::new()) };
            let file = self.write(from, id, keeper, map, compacted).await?;
            out.clone_from(&file);
            Ok(vec![Archived { id, file, compacted: Some(self.retention) }])
        };
        self.context.under_claims(vec![source.part], work).await?;
        Ok(written)
    }

    async fn write(
        &self,
        source: &Source,
        id: FileId,
        keeper: &Keeper<'_>,
        map: &KeyMap,
        compacted: bool,
    ) -> Result<Option<ArchiveFile>, JobError> {
        let failed = |error: ArchiveError| JobError::input(&source.part, error);
        let head = self.context.head(&self.place, id, source.part.first, source.part.end);
        let mut writer = FileWriter::new(head.clone(), &self.context.writer).map_err(failed)?;
        let mut outgoing = self.context.outgoing(JobKind::Compact, &self.place, source.part.first, id);
        let filled = self.fill(source, keeper, map, &mut writer, &mut outgoing).await;
        let ended = match filled {
            Ok(()) if writer.rows() == 0 => Ok(None),
            Ok(()) => slice(|| writer.finish()).await.map(Some).map_err(failed),
            Err(error) => Err(error),
        };
        let Ok(Some((rest, written))) = ended else {
            outgoing.abort().await;
            return ended.map(|_| None);
        };
        outgoing.push(rest);
        let regions = outgoing.finish().await?;
        Ok(Some(written.file(&head, source.file.merges.saturating_add(1), compacted, regions)))
    }

    /// Puts what stays of a file into another.
    async fn fill(
        &self,
        source: &Source,
        keeper: &Keeper<'_>,
        map: &KeyMap,
        writer: &mut FileWriter,
        outgoing: &mut Outgoing,
    ) -> Result<(), JobError> {
        for block in 0..source.footer.blocks().len() {
            let rows = self.rows(source, block).await?;
            let pushed = slice(|| {
                let kept = kept(&rows, keeper);
                let offsets: Vec<_> = kept.iter().map(|row| Offset(rows.offsets[*row])).collect();
                if kept.is_empty() { Ok(()) } else { writer.push_rows(&rows.messages, &kept, &offsets) }
            });
            pushed.await.map_err(|error| JobError::input(&source.part, error))?;
            outgoing.push(writer.take());
            if outgoing.memory() > self.context.memory_bytes / FILE_SHARE {
                outgoing.spill().await?;
            }
            let held = source.footer.memory() + rows.memory() + writer.memory() + outgoing.memory();
            self.context.holds(map.memory() + held);
        }
        Ok(())
    }

    async fn open(&self, file: &ArchiveFile) -> Result<Source, JobError> {
        let FilePlace { topic, partition, .. } = self.place;
        let part = ClaimPart { topic, partition, first: file.first, end: file.end };
        let mut problem = None;
        for copy in copies(file) {
            match self.context.footer(JobKind::Compact, &self.place, &part, &copy).await {
                Ok(footer) => return Ok(Source { file: file.clone(), part, footer }),
                Err(error) => problem = Some(error),
            }
        }
        Err(problem.unwrap_or_else(|| JobError::input(&part, "no region is known to hold it")))
    }

    async fn keys(&self, source: &Source, block: usize) -> Result<Keys, JobError> {
        let footer = &source.footer;
        self.read(source, &footer.key_ranges(block), |fetched| footer.decode_keys(block, fetched)).await
    }

    async fn rows(&self, source: &Source, block: usize) -> Result<Rows, JobError> {
        let footer = &source.footer;
        self.read(source, &footer.ranges(block), |fetched| footer.decode_block(block, fetched)).await
    }

    /// Reads some of a file and decodes it; what is damaged in one region is read from another.
    async fn read<T>(
        &self,
        source: &Source,
        ranges: &[Range<u64>],
        decode: impl Fn(&[(Range<u64>, Bytes)]) -> Result<T, ArchiveError>,
    ) -> Result<T, JobError> {
        let mut problem = "no region is known to hold it".to_owned();
        for copy in copies(&source.file) {
            let reading = ranges.iter().map(|range| async {
                let bytes = self.context.read_file(JobKind::Compact, &self.place, &copy, range.clone()).await?;
                Ok::<_, FetchError>((range.clone(), bytes))
            });
            match try_join_all(reading).await {
                Ok(fetched) => match slice(|| decode(&fetched)).await {
                    Ok(decoded) => return Ok(decoded),
                    Err(error) => problem = format!("archive file {}: {error}", copy.id),
                },
                Err(error) => problem = error.to_string(),
            }
        }
        Err(JobError::input(&source.part, problem))
    }
}

/// The file as it is to be had from the nearest region, and then from each alone.
fn copies(file: &ArchiveFile) -> impl Iterator<Item = ArchiveFile> + '_ {
    let single = file.regions.iter().map(|region| ArchiveFile { regions: vec![*region], ..file.clone() });
    std::iter::once(file.clone()).chain(single)
}

fn note(map: &mut KeyMap, keys: &Keys) -> Result<(), Full> {
    for (key, offset) in keys.keys.iter().zip(&keys.offsets) {
        if let Some(key) = key {
            map.note(key, Offset(*offset))?;
        }
    }
    Ok(())
}

/// Rows that stay.
fn kept(rows: &Rows, keeper: &Keeper<'_>) -> Vec<usize> {
    let Rows { messages, offsets } = rows;
    let keeps = |row: &usize| {
        let (key, value) = (messages.key(*row), messages.value(*row));
        keeper.keeps(key, Offset(offsets[*row]), messages.timestamps()[*row], value.is_none())
    };
    (0..messages.rows()).filter(keeps).collect()
}

#[cfg(test)]
mod tests;
