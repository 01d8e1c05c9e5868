//! Reading archive files block by block, through the cache.

use std::{ops::Range, sync::Arc};

use brigade_index::{
    archive::{ArchiveFile, Block, FileHead, Footer, FooterStep},
    ids::{FileId, Offset, Partition, RegionNo, TopicId},
    keys::Key,
    shard::FetchError,
    state::Run,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{BatchCache, Fetched, Wanted};
use crate::{
    chunk::Chunk,
    source::{Source, scale, sources_from},
};

/// Blocks of a file that are fetched at a time for one reader.
const FETCHES: usize = 8;

/// How often messages that cannot be had are looked for elsewhere, and those that are damaged are read.
const ATTEMPTS: usize = 4;

/// Ranges that are fetched to decode a footer: its end, and the rest if that was not all.
const FOOTER_STEPS: usize = 4;

/// Messages between two offsets.
#[derive(Debug)]
pub(crate) struct Found {
    /// All that there are, and maybe others besides.
    pub(crate) chunks: Vec<Chunk>,
    /// First offset that could still be had: the log start if that has moved behind what was wanted.
    pub(crate) from: Offset,
}

impl Found {
    /// Where a message is, if there is one at this offset.
    pub(crate) fn find(&self, offset: Offset) -> Option<(&Chunk, usize)> {
        self.chunks.iter().find_map(|chunk| Some((chunk, chunk.row(offset)?)))
    }
}

/// An archive file of a partition.
pub(super) struct Place {
    pub(super) file: Arc<ArchiveFile>,
    pub(super) key: Key,
    /// What it must say that it is.
    head: FileHead,
}

impl Place {
    fn damaged(&self, problem: impl ToString) -> FetchError {
        FetchError::Damaged { key: self.key.to_string(), problem: problem.to_string() }
    }
}

impl BatchCache {
    /// All messages from `from` on and before `until`, which `source` covers, or did when it was looked up: what cannot be
    /// had there is looked for where the state says that it is now. An offset at which nothing is found then has no message.
    ///
    /// # Errors
    /// When something is out of reach or damaged.
    pub(crate) async fn chunks(
        &self,
        topic: TopicId,
        partition: Partition,
        source: &Source,
        (mut from, until): (Offset, Offset),
    ) -> Result<Found, FetchError> {
        let mut sources = vec![source.clone()];
        for attempt in 1.. {
            let error = match self.load(topic, partition, &sources, (from, until)).await {
                Ok(chunks) => return Ok(Found { chunks, from }),
                Err(error) => error,
            };
            // It may have been archived, merged, compacted or dropped meanwhile, and what it was in deleted.
            let state = self.log.state();
            let Some(log) = state.topic(topic).and_then(|topic| topic.partition(partition)) else {
                return Ok(Found { chunks: Vec::new(), from: until });
            };
            from = log.log_start.clamp(from, until.max(from));
            let now: Vec<_> = sources_from(log, from).take_while(|source| source.first() < until).collect();
            // It may have been damaged on the way only. Who takes that for the truth passes messages over for good.
            let again = now != sources || matches!(error, FetchError::Damaged { .. });
            if !again || attempt >= ATTEMPTS {
                return Err(error);
            }
            sources = now;
        }
        unreachable!("the last attempt returns")
    }

    /// Offsets that are fetched together, from `from` on and before `until`, which `source` covers: what is damaged or out of
    /// reach in one part does not concern the others.
    pub(crate) async fn parts(
        &self,
        topic: TopicId,
        partition: Partition,
        source: &Source,
        (from, until): (Offset, Offset),
    ) -> Vec<(Offset, Offset)> {
        let footer = match source {
            Source::Run(_) => None,
            Source::File(file) => match self.place(topic, partition, file) {
                // A problem is told when the messages are fetched.
                Ok(place) => self.footer(&place).await.ok(),
                Err(_) => None,
            },
        };
        let mut bounds = vec![from];
        if let Some(footer) = footer {
            let firsts = footer.blocks().iter().map(|block| block.first);
            bounds.extend(firsts.filter(|first| *first > from && *first < until));
        }
        bounds.push(until);
        bounds.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }

    async fn load(
        &self,
        topic: TopicId,
        partition: Partition,
        sources: &[Source],
        within: (Offset, Offset),
    ) -> Result<Vec<Chunk>, FetchError> {
        let mut chunks = Vec::with_capacity(sources.len());
        for source in sources {
            match source {
                Source::Run(run) => chunks.push(self.run(run).await?),
                Source::File(file) => chunks.extend(self.file(topic, partition, file, within).await?),
            }
        }
        Ok(chunks)
    }

    async fn run(&self, run: &Run) -> Result<Chunk, FetchError> {
        let chunk = Chunk::of_run(run, self.messages(&run.batch).await?);
        chunk.map_err(|rows| FetchError::Damaged {
            key: format!("entry {}, batch at {}", run.batch.sequence, run.batch.at),
            problem: format!("a batch has {rows} messages, fewer than the index says"),
        })
    }

    /// The archive files of a partition from `from` on, as far as so many bytes of messages reach.
    pub(crate) fn files_ahead(
        &self,
        topic: TopicId,
        partition: Partition,
        from: Offset,
        mut bytes: u64,
    ) -> Vec<Arc<ArchiveFile>> {
        let state = self.log.state();
        let log = state.topic(topic).and_then(|topic| topic.partition(partition));
        let mut files = Vec::new();
        for file in log.map(|log| log.files_from(from)).unwrap_or_default() {
            if bytes == 0 {
                break;
            }
            let behind = scale(file.payload_bytes, file.end.0 - from.max(file.first).0, file.end.0 - file.first.0);
            bytes = bytes.saturating_sub(behind);
            files.push(Arc::new(file.clone()));
        }
        files
    }

    /// The footer of a file, if it is at hand.
    pub(crate) fn known_footer(&self, file: FileId) -> Option<Footer> {
        match self.fetched.get(&Wanted::Footer(file))? {
            Fetched::Footer(footer) => Some(footer),
            Fetched::Batch(_) | Fetched::Group(_) | Fetched::Block(_) => None,
        }
    }

    /// Fetches the footer of a file, to be at hand.
    pub(crate) async fn fetch_footer(
        &self,
        topic: TopicId,
        partition: Partition,
        file: &Arc<ArchiveFile>,
    ) -> Result<(), FetchError> {
        self.footer(&self.place(topic, partition, file)?).await.map(|_| ())
    }

    /// Whether a block of a file is at hand.
    pub(crate) fn has_block(&self, file: FileId, number: usize) -> bool {
        self.fetched.contains_key(&Wanted::Block(file, number))
    }

    /// The blocks of a file that have messages between two offsets.
    pub(crate) async fn file(
        &self,
        topic: TopicId,
        partition: Partition,
        file: &Arc<ArchiveFile>,
        (from, until): (Offset, Offset),
    ) -> Result<Vec<Chunk>, FetchError> {
        let place = self.place(topic, partition, file)?;
        let footer = self.footer(&place).await?;
        let blocks = blocks_between(footer.blocks(), from, until);
        let (place, footer) = (&place, &footer);
        stream::iter(blocks).map(|number| self.block(place, footer, number)).buffered(FETCHES).try_collect().await
    }

    /// First offset of a source, from `from` on, whose message is not older than `time_ms`; in a file found by what its footer
    /// says, and in one block as a rule.
    pub(crate) async fn at_time(
        &self,
        topic: TopicId,
        partition: Partition,
        source: &Source,
        (from, time_ms): (Offset, i64),
    ) -> Result<Option<Offset>, FetchError> {
        let file = match source {
            Source::Run(run) => return Ok(self.run(run).await?.at_time(from, time_ms)),
            Source::File(file) => file,
        };
        let place = self.place(topic, partition, file)?;
        let footer = self.footer(&place).await?;
        for number in footer.blocks_at_time(time_ms) {
            let block = &footer.blocks()[number];
            if block.end <= from {
                continue;
            }
            if block.min_timestamp_ms >= time_ms && block.first >= from {
                return Ok(Some(block.first));
            }
            if let Some(offset) = self.block(&place, &footer, number).await?.at_time(from, time_ms) {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    pub(super) fn place(
        &self,
        topic: TopicId,
        partition: Partition,
        file: &Arc<ArchiveFile>,
    ) -> Result<Place, FetchError> {
        let state = self.log.state();
        let found = state.topic(topic).ok_or_else(|| FetchError::Unavailable("the topic was deleted".to_owned()))?;
        let key = file.key(&found.name, topic, partition);
        let (cluster, name) = (self.log.cluster().to_owned(), found.name.clone());
        let ArchiveFile { id, first, end, .. } = **file;
        Ok(Place {
            file: file.clone(),
            key,
            head: FileHead { cluster, topic: name, topic_id: topic, partition, id, first, end },
        })
    }

    pub(super) async fn footer(&self, place: &Place) -> Result<Footer, FetchError> {
        let fetch = async {
            self.metrics.cache_miss();
            let mut problems = Problems::default();
            for holders in in_turn(&place.file.regions) {
                match self.footer_from(place, holders).await {
                    Ok(footer) => return Ok(Fetched::Footer(footer)),
                    Err(error) => {
                        if problems.is_final(error) {
                            break;
                        }
                    }
                }
            }
            Err(problems.worst(place))
        };
        match self.fetch(Wanted::Footer(place.file.id), fetch).await? {
            Fetched::Footer(footer) => Ok(footer),
            Fetched::Batch(_) | Fetched::Group(_) | Fetched::Block(_) => {
                unreachable!("what is kept is what was wanted")
            }
        }
    }

    async fn footer_from(&self, place: &Place, holders: &[RegionNo]) -> Result<Footer, FetchError> {
        let bytes = place.file.bytes;
        let (mut range, mut steps) = (Footer::first_range(bytes), 0);
        let footer = loop {
            let tail = self.log.fetch_file(&place.key, holders, range.clone()).await?;
            match Footer::decode(bytes, range.start, tail).map_err(|error| place.damaged(error))? {
                FooterStep::Ready(footer) => break footer,
                FooterStep::Need(more) => range = more,
            }
            steps += 1;
            if steps >= FOOTER_STEPS {
                return Err(place.damaged("its footer has no end"));
            }
        };
        footer.check(&place.file, &place.head).map_err(|error| place.damaged(error))?;
        Ok(footer)
    }

    async fn block(&self, place: &Place, footer: &Footer, number: usize) -> Result<Chunk, FetchError> {
        let fetch = async {
            if let Some(part) = self.group_at_hand(place, footer, footer.blocks()[number].row_group).await
                && let Ok(chunk) = decode(place, footer, number, &[part])
            {
                self.metrics.cache_hit();
                return Ok(Fetched::Block(chunk));
            }
            self.metrics.cache_miss();
            let mut problems = Problems::default();
            for holders in in_turn(&place.file.regions) {
                match self.block_from(place, footer, number, holders).await {
                    Ok(chunk) => return Ok(Fetched::Block(chunk)),
                    Err(error) => {
                        if problems.is_final(error) {
                            break;
                        }
                    }
                }
            }
            Err(problems.worst(place))
        };
        match self.fetch(Wanted::Block(place.file.id, number), fetch).await? {
            Fetched::Block(chunk) => Ok(chunk),
            Fetched::Batch(_) | Fetched::Footer(_) | Fetched::Group(_) => {
                unreachable!("what is kept is what was wanted")
            }
        }
    }

    async fn block_from(
        &self,
        place: &Place,
        footer: &Footer,
        number: usize,
        holders: &[RegionNo],
    ) -> Result<Chunk, FetchError> {
        let fetch =
            |range: Range<u64>| async { Ok((range.clone(), self.log.fetch_file(&place.key, holders, range).await?)) };
        let fetched: Vec<_> = try_join_all(footer.ranges(number).into_iter().map(fetch)).await?;
        decode(place, footer, number, &fetched)
    }
}

/// The messages of a block, out of what was read of its file.
fn decode(place: &Place, footer: &Footer, number: usize, fetched: &[(Range<u64>, Bytes)]) -> Result<Chunk, FetchError> {
    busy(|| {
        let rows = footer.decode_block(number, fetched).map_err(|error| place.damaged(error))?;
        let chunk = Chunk::at(rows.messages, rows.offsets);
        chunk.ok_or_else(|| place.damaged("the offsets of a block in it do not rise"))
    })
}

/// The regions that hold a file together, of which the nearest that answers is read, and then each alone: bytes that came
/// from one and are damaged may be right in another.
fn in_turn(holders: &[RegionNo]) -> impl Iterator<Item = &[RegionNo]> {
    let alone = if holders.len() > 1 { holders } else { &[] };
    std::iter::once(holders).chain(alone.chunks(1))
}

/// Why something of a file could not be had.
#[derive(Default)]
struct Problems(Option<FetchError>);

impl Problems {
    /// Takes one in. Whether there is no point in asking further: when no region answers at all.
    fn is_final(&mut self, error: FetchError) -> bool {
        let unavailable = matches!(error, FetchError::Unavailable(_));
        let first = self.0.is_none();
        if first || unavailable {
            // Where a region does not answer, what is damaged in the others may be whole.
            self.0 = Some(error);
        }
        first && unavailable
    }

    fn worst(self, place: &Place) -> FetchError {
        self.0.unwrap_or_else(|| place.damaged("no region is known to hold it"))
    }
}

/// The blocks that have messages between two offsets.
fn blocks_between(blocks: &[Block], from: Offset, until: Offset) -> Range<usize> {
    let first = blocks.partition_point(|block| block.end <= from);
    let end = blocks.partition_point(|block| block.first < until);
    first..end.max(first)
}

/// Runs what takes milliseconds of computing. Other tasks of the same thread go on elsewhere meanwhile, where there are
/// other threads.
fn busy<R>(work: impl FnOnce() -> R) -> R {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
