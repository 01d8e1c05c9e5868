//! Reading everything that a region should hold, and adding up what it holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use brigade_index::{
    archive::SetHash,
    ids::{FileId, Partition, Sequence, TopicId},
    keys,
    store::StoreError,
};
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;

use super::{
    entries::{self, Problem, Reading},
    files,
    list::Listing,
    resume::{Done, WholeRun},
    scene::{FileRef, RunRef, Scene, Sight},
};

/// What a region holds of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) messages: u64,
    pub(crate) hash: SetHash,
    /// Whether something of it is missing or damaged, or not there yet.
    pub(crate) lacks: bool,
}

/// Something that a region should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Piece {
    Entry(Sequence),
    File(FileId),
}

/// What reading a region gave.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    pub(crate) held: BTreeMap<(TopicId, Partition), Held>,
    /// What seems to be missing or damaged.
    pub(crate) suspects: BTreeMap<Piece, Problem>,
    pub(crate) entries: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Entries and files that were found whole before, and not read.
    pub(crate) known: u64,
}

impl Verified {
    fn add(&mut self, of: (TopicId, Partition), messages: u64, hash: SetHash) {
        let held = self.held.entry(of).or_default();
        (held.messages, held.hash) = (held.messages + messages, held.hash.and(hash));
    }

    fn lack(&mut self, of: (TopicId, Partition)) {
        self.held.entry(of).or_default().lacks = true;
    }
}

/// What was found, and whether that was known before.
type Seen<T> = (Result<T, Problem>, bool);

/// What verifying a region needs.
pub(crate) struct Verifying<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) sight: &'a Arc<Sight>,
    pub(crate) listing: &'a Listing,
    pub(crate) reading: &'a Reading,
    pub(crate) done: &'a Mutex<Done>,
    /// Entries that are read at the same time.
    pub(crate) concurrency: usize,
}

/// Archive files that are read at the same time: each holds a row group in memory.
const FILES: usize = 2;

/// Bytes that are to be read of a region, about.
pub(crate) fn expected_bytes(scene: &Scene, sight: &Sight) -> u64 {
    let entries = scene.wanted.entries.range(..=sight.content.accepted()).map(|(_, runs)| entries::body_bytes(runs));
    entries.sum::<u64>() + scene.files_of(sight).map(|file| file.file.bytes).sum::<u64>()
}

impl Verifying<'_> {
    /// Reads everything that the region should hold.
    pub(crate) async fn run(&self) -> Result<Verified, StoreError> {
        let mut verified = Verified::default();
        self.forget();
        let entries = stream::iter(self.scene.entries_of(self.sight)).map(|sequence| async move {
            let runs = self.scene.wanted.entries.get(&sequence).map_or(&[][..], Vec::as_slice);
            Ok::<_, StoreError>((sequence, runs, self.entry(sequence, runs).await?))
        });
        let mut entries = std::pin::pin!(entries.buffer_unordered(self.concurrency.max(1)));
        while let Some((sequence, runs, checked)) = entries.try_next().await? {
            self.reading.progress.object();
            let (checked, known) = checked;
            (verified.entries, verified.known) =
                (verified.entries + u64::from(!known), verified.known + u64::from(known));
            match checked {
                Ok(hashes) => {
                    for (run, hash) in runs.iter().zip(hashes) {
                        verified.add((run.topic, run.partition), run.run.rows.into(), hash);
                    }
                    verified.bytes += if known { 0 } else { entries::body_bytes(runs) };
                }
                Err(problem) => {
                    runs.iter().for_each(|run| verified.lack((run.topic, run.partition)));
                    verified.suspects.insert(Piece::Entry(sequence), problem);
                }
            }
        }
        let files = stream::iter(self.scene.files_of(self.sight))
            .map(|file| async move { Ok::<_, StoreError>((file, self.file(file).await?)) });
        let mut files = std::pin::pin!(files.buffer_unordered(FILES));
        while let Some((file, checked)) = files.try_next().await? {
            self.reading.progress.object();
            let (checked, known) = checked;
            (verified.files, verified.known) = (verified.files + u64::from(!known), verified.known + u64::from(known));
            match checked {
                Ok(()) => {
                    verified.add((file.topic, file.partition), file.file.rows, file.file.set_hash);
                    verified.bytes += if known { 0 } else { file.file.bytes };
                }
                Err(problem) => {
                    verified.lack((file.topic, file.partition));
                    verified.suspects.insert(Piece::File(file.file.id), problem);
                }
            }
        }
        self.note_absent(&mut verified);
        Ok(verified)
    }

    /// What the region is not said to hold yet.
    fn note_absent(&self, verified: &mut Verified) {
        let accepted = self.sight.content.accepted();
        let behind = self.scene.wanted.entries.range(accepted.next()..).flat_map(|(_, runs)| runs);
        behind.for_each(|run| verified.lack((run.topic, run.partition)));
        let held: BTreeSet<_> = self.scene.files_of(self.sight).map(|file| file.file.id).collect();
        let absent = self.scene.wanted.files.values().filter(|file| !held.contains(&file.file.id));
        absent.for_each(|file| verified.lack((file.topic, file.partition)));
    }

    /// Forgets what was found whole before and is not referenced any more.
    fn forget(&self) {
        let keys = self.scene.entries_of(self.sight).into_iter();
        let keys = keys.filter_map(|sequence| self.sight.content.key_of(self.scene.shard, sequence));
        let files = self.scene.files_of(self.sight).map(FileRef::key);
        let there: BTreeSet<String> = keys.chain(files).map(|key| key.to_string()).collect();
        self.done.lock().retain(&self.sight.region_id, |key| there.contains(key));
    }

    /// Looks at an entry; gives, too, whether it was found whole before and not read.
    async fn entry(&self, sequence: Sequence, runs: &[RunRef]) -> Result<Seen<Vec<SetHash>>, StoreError> {
        let Some(key) = self.sight.content.key_of(self.scene.shard, sequence) else {
            return Ok((Err(Problem::corrupt("it is not known where the region has it")), false));
        };
        let print = self.listing.entries.get(&sequence);
        if let Some(hashes) = print.and_then(|print| self.known_runs(key.as_ref(), print, runs)) {
            self.reading.progress.moved(entries::body_bytes(runs));
            return Ok((Ok(hashes), true));
        }
        let checked = entries::check(self.reading, &self.sight.store, &key, (sequence, runs)).await?;
        if let (Ok(hashes), Some(print)) = (&checked, print) {
            let whole = runs.iter().zip(hashes).map(|(RunRef { topic, partition, run }, hash)| {
                WholeRun(topic.0, partition.0, run.base.0, run.batch.crc, format!("{:032x}", hash.0))
            });
            self.done.lock().note(&self.sight.region_id, key.as_ref(), print, whole.collect());
        }
        Ok((checked, false))
    }

    /// Hashes of these runs if all of them were found whole before.
    fn known_runs(&self, key: &str, print: &str, runs: &[RunRef]) -> Option<Vec<SetHash>> {
        let known = self.done.lock().whole(&self.sight.region_id, key, print)?;
        let hash = |RunRef { topic, partition, run }: &RunRef| {
            let same = |known: &&WholeRun| {
                (known.0, known.1, known.2, known.3) == (topic.0, partition.0, run.base.0, run.batch.crc)
            };
            known.iter().find(same)?.hash()
        };
        runs.iter().map(hash).collect()
    }

    async fn file(&self, file: &FileRef) -> Result<Seen<()>, StoreError> {
        let key = file.key();
        let listed = self.listing.files.get(&file.file.id);
        if let Some((bytes, print)) = listed
            && *bytes == file.file.bytes
            && self.done.lock().whole(&self.sight.region_id, key.as_ref(), print).is_some()
        {
            self.reading.progress.moved(file.file.bytes);
            return Ok((Ok(()), true));
        }
        let checked = files::check(self.reading, &self.sight.store, &key, file, &self.scene.cluster_id).await?;
        if let (Ok(()), Some((_, print))) = (&checked, listed) {
            self.done.lock().note(&self.sight.region_id, key.as_ref(), print, Vec::new());
        }
        Ok((checked, false))
    }
}

/// Reads one piece again, by another look at the region.
pub(crate) async fn check_again(
    scene: &Scene,
    sight: &Sight,
    reading: &Reading,
    piece: Piece,
) -> Result<Option<Result<(), Problem>>, StoreError> {
    match piece {
        Piece::Entry(sequence) => {
            if !scene.entries_of(sight).contains(&sequence) {
                return Ok(None);
            }
            let Some(key) = sight.content.key_of(scene.shard, sequence) else { return Ok(None) };
            let runs = scene.wanted.entries.get(&sequence).map_or(&[][..], Vec::as_slice);
            let checked = entries::check(reading, &sight.store, &key, (sequence, runs)).await?;
            Ok(Some(checked.map(|_| ())))
        }
        Piece::File(id) => {
            let Some(file) = scene.files_of(sight).find(|file| file.file.id == id) else { return Ok(None) };
            Ok(Some(files::check(reading, &sight.store, &file.key(), file, &scene.cluster_id).await?))
        }
    }
}

/// Key of a piece in a region.
pub(crate) fn key_of(scene: &Scene, sight: &Sight, piece: Piece) -> Option<keys::Key> {
    match piece {
        Piece::Entry(sequence) => sight.content.key_of(scene.shard, sequence),
        Piece::File(id) => scene.wanted.files.get(&id).map(FileRef::key),
    }
}
