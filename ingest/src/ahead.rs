//! Reading ahead in archive files: a reader that goes on where it stopped finds the next blocks fetched and decoded.
//!
//! How far ahead follows from what a reader has read in a row, and is bounded by its share of the cache: a single message
//! costs one block, for a reader that catches up whole row groups are under way, and the nearest blocks decoded. What it
//! needs next replaces what it has read, never the tail.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use brigade_index::{
    archive::{ArchiveFile, Block, Footer},
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

/// Blocks, row groups and footers that are fetched ahead at a time, for all readers.
const LOADS: usize = 32;

/// How many times more than it has read in a row is fetched ahead for a reader.
const EAGER: u64 = 4;

/// Most bytes of messages that are looked at ahead of a reader, as a multiple of the room for all: they compress.
const FURTHEST: u64 = 8;

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

/// What is worth fetching ahead for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Worth {
    /// Bytes of messages.
    bytes: u64,
    /// Readers that share the room, this one among them.
    readers: u64,
}

/// Readers that were seen last. Pure.
#[derive(Debug, Default)]
struct Streams {
    /// Those seen last are last.
    seen: VecDeque<Stream>,
    reads: u64,
}

impl Streams {
    /// Notes a read. Gives what is worth fetching ahead; nothing if it is the first of several, or of its own.
    fn read(&mut self, part: Part) -> Option<Worth> {
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
            return None;
        }
        let active = self.seen.iter().filter(|stream| stream.before > 0 && stream.seen + RECENT > reads).count();
        Some(Worth { bytes: (before + part.bytes).saturating_mul(EAGER), readers: active.max(1) as u64 })
    }
}

/// How much may still be fetched ahead for a reader, nearest first.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Bytes of messages, in whatever form.
    worth: u64,
    /// Bytes of row groups as they are in their files. The network is kept busy with these.
    raw: u64,
    /// Bytes of decoded messages. The processor is kept busy with these.
    decoded: u64,
    /// What it was in the beginning: a larger block is not decoded ahead.
    most_decoded: u64,
}

impl Window {
    /// Out of the room that is for all readers. The rest is for what is being read.
    fn new(worth: Worth, room: u64) -> Self {
        let room = room / worth.readers;
        let decoded = room / 4;
        Self { worth: worth.bytes.min(FURTHEST * room), raw: room / 3, decoded, most_decoded: decoded }
    }

    /// Whether a block of so many bytes is decoded ahead.
    fn decode(&mut self, bytes: u64) -> bool {
        let taken = self.decoded > 0 && bytes <= self.most_decoded;
        self.decoded = if taken { self.decoded.saturating_sub(bytes) } else { 0 };
        taken
    }
}

/// Fetches what readers will want next. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ReadAhead {
    cache: Arc<BatchCache>,
    tasks: TaskTracker,
    closing: CancellationToken,
    streams: Arc<Mutex<Streams>>,
    /// What is being fetched.
    loading: Loading,
}

type Loading = Arc<Mutex<HashSet<(FileId, Load), Xxh3Builder>>>;

/// Something of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Load {
    Footer,
    /// A row group, by its number.
    Group(usize),
    /// The block that begins there.
    Block(Offset),
}

impl ReadAhead {
    /// Fetches are tasks among `tasks`, and end when nothing more is taken.
    pub(crate) fn new(cache: Arc<BatchCache>, tasks: TaskTracker, closing: CancellationToken) -> Self {
        let loading = Arc::new(Mutex::new(HashSet::with_hasher(Xxh3Builder::new())));
        Self { cache, tasks, closing, streams: Arc::default(), loading }
    }

    /// Notes that a part was read, and lets come what is wanted next if this is not the first of several. Waits for nothing.
    pub(crate) fn read(&self, part: Part) {
        let Some(worth) = self.streams.lock().read(part) else { return };
        let mut window = Window::new(worth, self.cache.room());
        let Part { topic, partition, next, .. } = part;
        for file in self.cache.files_ahead(topic, partition, next, window.worth) {
            let Some(footer) = self.cache.known_footer(file.id) else {
                self.load(part, &file, Load::Footer);
                return;
            };
            if !self.look(part, &file, &footer, &mut window) {
                return;
            }
        }
    }

    /// Lets come what is wanted of a file. Whether more is wanted behind it.
    fn look(&self, part: Part, file: &Arc<ArchiveFile>, footer: &Footer, window: &mut Window) -> bool {
        let bytes = |block: &Block| scale(file.payload_bytes, block.rows.len() as u64, file.rows);
        let blocks = footer.blocks();
        let mut begin = blocks.partition_point(|block| block.end <= part.next);
        while begin < blocks.len() {
            let group = blocks[begin].row_group;
            let end = begin + blocks[begin..].partition_point(|block| block.row_group == group);
            let is_cut = begin > 0 && blocks[begin - 1].row_group == group;
            let (range, payload) = (footer.group_range(group), blocks[begin..end].iter().map(bytes).sum::<u64>());
            let raw = range.end - range.start;
            let mut held = self.cache.keep_group(file.id, group);
            let fits = !is_cut && payload <= window.worth && raw <= window.raw;
            if !held && fits && !(begin..end).any(|number| self.cache.has_block(file.id, number)) {
                self.load(part, file, Load::Group(group));
                held = true;
            }
            if held {
                window.raw = window.raw.saturating_sub(raw);
            }
            for (number, block) in blocks.iter().enumerate().take(end).skip(begin) {
                if window.worth == 0 {
                    return false;
                }
                window.worth = window.worth.saturating_sub(bytes(block));
                if window.decode(bytes(block)) && !self.cache.has_block(file.id, number) {
                    self.load(part, file, Load::Block(block.first));
                }
            }
            if !held && window.decoded == 0 {
                return false;
            }
            begin = end;
        }
        true
    }

    fn load(&self, Part { topic, partition, .. }: Part, file: &Arc<ArchiveFile>, load: Load) {
        let Some(loading) = Ticket::take(&self.loading, (file.id, load)) else { return };
        let announced = match load {
            Load::Group(number) => self.cache.announce_group(file.id, number),
            Load::Footer | Load::Block(_) => None,
        };
        let (cache, file, closing) = (self.cache.clone(), file.clone(), self.closing.clone());
        self.tasks.spawn(async move {
            let _loading = loading;
            let work = async {
                match (load, announced) {
                    (Load::Footer, _) => cache.fetch_footer(topic, partition, &file).await,
                    (Load::Block(at), _) => cache.file(topic, partition, &file, (at, at.next())).await.map(|_| ()),
                    (Load::Group(_), Some(ticket)) => cache.fetch_group(topic, partition, &file, ticket).await,
                    (Load::Group(_), None) => Ok(()),
                }
            };
            tokio::select! {
                biased;
                () = closing.cancelled() => {}
                loaded = work => {
                    if let Err(error) = loaded {
                        // Whoever needs it asks again, and tells.
                        tracing::debug!(%error, %partition, ?load, "could not read ahead");
                    }
                }
            }
        });
    }
}

/// What is being fetched, for as long as this lives.
struct Ticket(Loading, (FileId, Load));

impl Ticket {
    fn take(loading: &Loading, wanted: (FileId, Load)) -> Option<Self> {
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

    fn read(streams: &mut Streams, partition: u32, from: u64, bytes: u64) -> Option<(u64, u64)> {
        let (from, next) = (Offset(from), Offset(from + 10));
        let part = Part { topic: TopicId::default(), partition: Partition(partition), from, next, bytes };
        streams.read(part).map(|worth| (worth.bytes, worth.readers))
    }

    #[test]
    fn only_who_goes_on_where_it_stopped_is_read_ahead_for_and_the_room_is_shared() {
        let mut streams = Streams::default();
        for from in [500, 0, 300, 510_000] {
            assert_eq!(read(&mut streams, 0, from, 1_000), None, "{from}");
        }
        assert_eq!(read(&mut streams, 1, 10, 1_000), None, "another partition");
        assert_eq!(read(&mut streams, 0, 10, 1_000), Some((8_000, 1)));
        assert_eq!(read(&mut streams, 0, 20, 1_000_000), Some((4_008_000, 1)));
        assert_eq!(read(&mut streams, 1, 20, 1_000_000), Some((4_004_000, 2)));
        assert_eq!(read(&mut streams, 0, 30, 1_000).map(|worth| worth.1), Some(2));
        for at in 0..RECENT {
            read(&mut streams, 2, 1_000_000 + 100 * at, 1);
        }
        assert_eq!(read(&mut streams, 0, 40, 1_000), None, "forgotten");
        assert!(streams.seen.len() <= STREAMS);
    }

    #[test]
    fn a_reader_has_its_share_of_the_room_and_a_block_that_is_too_large_ends_it() {
        let mut window = Window::new(Worth { bytes: u64::MAX, readers: 2 }, 24_000);
        assert_eq!((window.worth, window.raw, window.decoded), (96_000, 4_000, 3_000));
        assert!(window.decode(2_000) && window.decode(2_000) && !window.decode(1));
        window.decoded = window.most_decoded;
        assert!(!window.decode(3_001) && !window.decode(1), "what is behind it is not wanted first");
    }
}
