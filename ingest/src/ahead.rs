//! Reading ahead in archive files: a reader that goes on where it stopped finds the next blocks fetched and decoded.
//!
//! How far ahead follows from what a reader has read in a row, and is bounded by its share of the cache: a single message
//! costs one block, a reader that catches up has several fetches under way. What it needs next replaces what it has read,
//! never the tail.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use brigade_index::{
    archive::ArchiveFile,
    ids::{FileId, Offset, Partition, TopicId},
};
use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use xxhash_rust::xxh3::Xxh3Builder;

use crate::{cache::BatchCache, source::scale};

/// Readers that are remembered.
const STREAMS: usize = 64;

/// A reader that was not seen during so many reads of others has gone, or is slow: it has no share.
const RECENT: u64 = 256;

/// Blocks that are fetched ahead at a time, for all readers.
const LOADS: usize = 32;

/// How many times more than it has read in a row is fetched ahead for a reader.
const EAGER: u64 = 4;

/// A part of a partition that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) topic: TopicId,
    pub(crate) partition: Partition,
    pub(crate) from: Offset,
    /// Where it would be read on.
    pub(crate) next: Offset,
    pub(crate) bytes: u64,
}

/// A reader, known only by where it reads on.
#[derive(Debug)]
struct Stream {
    part: Part,
    /// Bytes read in a row before the last read; 0 after the first.
    before: u64,
    seen: u64,
}

/// Readers that were seen last. Pure.
#[derive(Debug, Default)]
struct Streams {
    /// Those seen last are last.
    seen: VecDeque<Stream>,
    reads: u64,
}

impl Streams {
    /// Notes a read. Gives how many bytes are worth fetching ahead, out of `room` for all readers.
    fn read(&mut self, part: Part, room: u64) -> u64 {
        self.reads += 1;
        let reads = self.reads;
        let goes_on = |stream: &Stream| {
            let Part { topic, partition, next, .. } = stream.part;
            (topic, partition, next) == (part.topic, part.partition, part.from)
        };
        let at = self.seen.iter().rposition(goes_on);
        let last = at.and_then(|at| self.seen.remove(at));
        let before = last.map_or(0, |last| last.before + last.part.bytes);
        self.seen.push_back(Stream { part, before, seen: reads });
        if self.seen.len() > STREAMS {
            self.seen.pop_front();
        }
        if before == 0 {
            return 0;
        }
        let active = self.seen.iter().filter(|stream| stream.before > 0 && stream.seen + RECENT > reads).count();
        (before + part.bytes).saturating_mul(EAGER).min(room / active.max(1) as u64)
    }
}

/// Fetches what readers will want next. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ReadAhead {
    cache: Arc<BatchCache>,
    tasks: TaskTracker,
    closing: CancellationToken,
    streams: Arc<Mutex<Streams>>,
    /// Parts of files that are being fetched, by the offset that is wanted.
    loading: Loading,
}

type Loading = Arc<Mutex<HashSet<(FileId, Offset), Xxh3Builder>>>;

impl ReadAhead {
    /// Fetches are tasks among `tasks`, and end when nothing more is taken.
    pub(crate) fn new(cache: Arc<BatchCache>, tasks: TaskTracker, closing: CancellationToken) -> Self {
        let loading = Arc::new(Mutex::new(HashSet::with_hasher(Xxh3Builder::new())));
        Self { cache, tasks, closing, streams: Arc::default(), loading }
    }

    /// Notes that a part was read, and lets come what is wanted next if this is not the first of several. Waits for nothing.
    pub(crate) async fn read(&self, part: Part) {
        // The other half holds what is being read.
        let room = self.cache.room() / 2;
        let mut left = self.streams.lock().read(part, room);
        let Part { topic, partition, next, .. } = part;
        for file in self.cache.files_ahead(topic, partition, next, left) {
            let Some(footer) = self.cache.known_footer(file.id) else {
                self.load(part, &file, next.max(file.first));
                return;
            };
            let first = footer.blocks().partition_point(|block| block.end <= next);
            for (number, block) in footer.blocks().iter().enumerate().skip(first) {
                let bytes = scale(file.payload_bytes, block.rows.len() as u64, file.rows);
                if left == 0 || bytes > room {
                    return;
                }
                left = left.saturating_sub(bytes);
                if !self.cache.has_block(file.id, number) {
                    self.load(part, &file, block.first);
                }
            }
        }
    }

    fn load(&self, Part { topic, partition, .. }: Part, file: &Arc<ArchiveFile>, offset: Offset) {
        let Some(loading) = Ticket::take(&self.loading, (file.id, offset)) else { return };
        let (cache, file, closing) = (self.cache.clone(), file.clone(), self.closing.clone());
        self.tasks.spawn(async move {
            let _loading = loading;
            tokio::select! {
                biased;
                () = closing.cancelled() => {}
                loaded = cache.file(topic, partition, &file, (offset, offset.next())) => {
                    if let Err(error) = loaded {
                        // Whoever needs it asks again, and tells.
                        tracing::debug!(%error, %partition, %offset, "could not read ahead");
                    }
                }
            }
        });
    }
}

/// What is being fetched, for as long as this lives.
struct Ticket(Loading, (FileId, Offset));

impl Ticket {
    fn take(loading: &Loading, wanted: (FileId, Offset)) -> Option<Self> {
        let mut all = loading.lock();
        (all.len() < LOADS && all.insert(wanted)).then(|| Self(loading.clone(), wanted))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: u64 = 1_000_000;

    fn read(streams: &mut Streams, partition: u32, from: u64, bytes: u64) -> u64 {
        let (from, next) = (Offset(from), Offset(from + 10));
        streams.read(Part { topic: TopicId::default(), partition: Partition(partition), from, next, bytes }, ROOM)
    }

    #[test]
    fn only_who_goes_on_where_it_stopped_is_read_ahead_for_and_the_room_is_shared() {
        let mut streams = Streams::default();
        for from in [500, 0, 300, 510_000] {
            assert_eq!(read(&mut streams, 0, from, 1_000), 0, "{from}");
        }
        assert_eq!(read(&mut streams, 1, 10, 1_000), 0, "another partition");
        assert_eq!(read(&mut streams, 0, 10, 1_000), 8_000);
        assert_eq!(read(&mut streams, 0, 20, 1_000_000), ROOM);
        assert_eq!(read(&mut streams, 1, 20, 1_000_000), ROOM / 2, "two of them");
        assert_eq!(read(&mut streams, 0, 30, 1_000), ROOM / 2);
        for at in 0..RECENT {
            read(&mut streams, 2, 1_000_000 + 100 * at, 1);
        }
        assert_eq!(read(&mut streams, 0, 40, 1_000), 0, "forgotten");
        assert!(streams.seen.len() <= STREAMS);
    }
}
