//! Reading from archive files, in virtual time.

use brigade_index::archive::WriterSettings;
use proptest::prelude::*;

use super::*;

/// Row groups of so many messages: each is a block, as long as it is small.
fn groups_of(row_group_rows: usize) -> WriterSettings {
    WriterSettings { row_group_rows, page_bytes: 1_024, ..WriterSettings::default() }
}

const P0: Partition = Partition(0);

/// A message of the model: `None` once it was compacted away.
type Model = Vec<Option<(String, i64)>>;

#[derive(Clone, Debug)]
enum Op {
    /// Sizes of messages that are published together, and the timestamp of the first.
    Publish(Vec<usize>, i64),
    /// From one of the bounds of sources to a later one, with so many messages a row group; of three messages, as many are
    /// kept as the last number says.
    Archive(usize, usize, usize, u64),
    /// So many messages out of a hundred are dropped from the beginning.
    Trim(u64),
    Delete,
    /// From so far, at most so many messages and bytes.
    Read(u64, usize, usize),
    Poll(u64, usize, usize),
    Time(i64),
}

fn op() -> impl Strategy<Value = Op> {
    let read = || (0..100u64, 1..30usize, 1..2_000usize);
    prop_oneof![
        3 => (proptest::collection::vec(0..300usize, 1..20), 0..1_000i64).prop_map(|(sizes, time)| Op::Publish(sizes, time)),
        3 => (0..50usize, 0..50usize, 1..20usize, prop_oneof![3 => Just(3u64), 1 => 0..3u64])
            .prop_map(|(from, to, rows, kept)| Op::Archive(from, to, rows, kept)),
        1 => (0..40u64).prop_map(Op::Trim),
        1 => Just(Op::Delete),
        3 => read().prop_map(|(from, messages, bytes)| Op::Read(from, messages, bytes)),
        2 => read().prop_map(|(from, messages, bytes)| Op::Poll(from, messages, bytes)),
        2 => (0..1_100i64).prop_map(Op::Time),
    ]
}

struct Check {
    world: World,
    model: Model,
    log_start: u64,
}

impl Check {
    fn end(&self) -> u64 {
        self.model.len() as u64
    }

    /// The messages that there are from an offset on.
    fn there(&self, from: u64) -> impl Iterator<Item = (u64, &(String, i64))> {
        let from = from.max(self.log_start);
        (0..).zip(&self.model).skip(from as usize).filter_map(|(offset, message)| Some((offset, message.as_ref()?)))
    }

    /// An offset so far into the log.
    fn place(&self, percent: u64) -> u64 {
        self.log_start + (self.end() - self.log_start) * percent / 99
    }

    async fn publish(&mut self, sizes: &[usize], time_ms: i64) {
        self.world.time_ms.store(time_ms, Ordering::Relaxed);
        let text = |(at, size): (usize, &usize)| format!("{}-{}", self.model.len() + at, "x".repeat(*size));
        let texts: Vec<_> = sizes.iter().enumerate().map(text).collect();
        let messages: Vec<_> = texts.iter().map(|text| ("", text.as_str())).collect();
        self.world.publish_as(None, &messages, Some(0)).await.unwrap();
        self.model.extend(texts.into_iter().zip(time_ms..).map(Some));
    }

    fn archive(&mut self, from: usize, to: usize, rows: usize, kept: u64) {
        let (log, id) = (&self.world.log, self.world.id);
        let bounds = log.bounds(id, P0);
        let archived = log.state.read().topic(id).unwrap().partition(P0).unwrap().archived_end();
        // Runs are archived from the first on.
        let firsts: Vec<_> = bounds.iter().filter(|bound| **bound <= archived).collect();
        let Some(first) = firsts.get(from % firsts.len().max(1)) else { return };
        let ends: Vec<_> = bounds.iter().filter(|bound| bound > first).collect();
        let Some(end) = ends.get(to % ends.len().max(1)) else { return };
        let keep = |offset: Offset| offset.0 % 3 < kept;
        log.archive(id, P0, (**first, **end), &groups_of(rows), keep);
        for offset in (first.0..end.0).filter(|offset| !keep(Offset(*offset))) {
            self.model[offset as usize] = None;
        }
    }

    /// What was given must be what there is, at least one, and within the limits.
    fn check(&self, from: u64, slices: &[Slice], next: u64, (messages, bytes): (usize, usize)) {
        let rows =
            |slice: &Slice| (slice.base.0..slice.end().0).zip(values(std::slice::from_ref(slice))).collect::<Vec<_>>();
        let got: Vec<_> = slices.iter().flat_map(rows).collect();
        let there: Vec<_> = self.there(from).map(|(offset, (text, _))| (offset, text.clone())).collect();
        assert_eq!(got, there[..got.len()], "from {from}");
        assert!(!got.is_empty() || there.is_empty(), "nothing from {from} to {next}");
        assert!(got.len() <= messages);
        let total: usize = got.iter().map(|(_, text)| text.len()).sum();
        assert!(total <= bytes || got.len() == 1, "{total} bytes instead of {bytes}");
        let behind = there.get(got.len()).map_or(self.end(), |(offset, _)| *offset);
        let least = got.last().map_or(if there.is_empty() { behind } else { from }, |(offset, _)| offset + 1);
        assert!((least..=behind).contains(&next), "{next} is not in {least} to {behind}");
    }

    async fn read(&self, from: u64, limits: (usize, usize)) -> u64 {
        let request = self.world.request(0, ReadFrom::Offset(Offset(from)));
        let request = ReadRequest { max_messages: limits.0, max_bytes: limits.1, ..request };
        let reply = self.world.ingest.read(request).await.unwrap();
        self.check(from, &reply.slices, reply.next_offset.0, limits);
        reply.next_offset.0
    }

    async fn poll(&self, from: u64, limits: (usize, usize)) {
        let (max_messages, max_bytes, wait) = (limits.0, limits.1, Duration::ZERO);
        let request = PollRequest { max_bytes, wait, ..self.world.poll(&[from], max_messages) };
        let reply = self.world.ingest.poll(request).await.unwrap();
        let next = reply.positions.first().map_or(from, |(_, next)| next.0);
        self.check(from, &reply.slices, next, limits);
    }

    async fn at_time(&self, time_ms: i64) {
        let found = self.world.ingest.offset_at(self.world.id, P0, time_ms).await.unwrap().0;
        let first = self.there(0).find(|(_, (_, time))| *time >= time_ms).map_or(self.end(), |(offset, _)| offset);
        assert!(found >= self.log_start && found <= first, "{found} instead of {first}");
        assert_eq!(self.there(found).next().map_or(self.end(), |(offset, _)| offset), first, "at {time_ms}");
    }

    async fn carry_out(&mut self, op: Op) {
        let (log, id) = (self.world.log.clone(), self.world.id);
        match op {
            Op::Publish(sizes, time_ms) => self.publish(&sizes, time_ms).await,
            Op::Archive(from, to, rows, kept) => self.archive(from, to, rows, kept),
            Op::Trim(percent) => {
                self.log_start = self.place(percent);
                log.trim(id, P0, Offset(self.log_start));
            }
            Op::Delete => log.delete_garbage(),
            Op::Read(from, messages, bytes) => _ = self.read(self.place(from), (messages, bytes)).await,
            Op::Poll(from, messages, bytes) => self.poll(self.place(from), (messages, bytes)).await,
            Op::Time(time_ms) => self.at_time(time_ms).await,
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_archived_merged_compacted_or_dropped_is_read_like_before(
        ops in proptest::collection::vec(op(), 1..40),
        cached in any::<bool>(),
    ) {
        run(async {
            let cache_bytes = if cached { 1 << 20 } else { 0 };
            let world = world(1, IngestSettings { cache_bytes, ..IngestSettings::default() });
            let mut check = Check { world, model: Vec::new(), log_start: 0 };
            for op in ops {
                check.carry_out(op).await;
            }
            let mut next = check.log_start;
            while next < check.end() {
                next = check.read(next, (25, 1_500)).await;
            }
            for time_ms in [0, 500, 1_100] {
                check.at_time(time_ms).await;
            }
            if check.log_start > 0 {
                let expired = check.world.ingest.read(check.world.request(0, ReadFrom::Offset(Offset(check.log_start - 1))));
                let expired = expired.await;
                assert!(matches!(expired, Err(IngestError::OffsetExpired { .. })), "{expired:?}");
            }
        });
    }
}

/// A world that caches nothing, with forty messages in four batches.
async fn uncached() -> World {
    let world = world(1, IngestSettings { cache_bytes: 0, ..IngestSettings::default() });
    for batch in 0..4 {
        let texts: Vec<_> = (0..10).map(|at| format!("{}", batch * 10 + at)).collect();
        let messages: Vec<_> = texts.iter().map(|text| ("", text.as_str())).collect();
        world.publish(None, &messages).await.unwrap();
    }
    world
}

impl World {
    fn archive(&self, first: u64, end: u64, keep: impl Fn(Offset) -> bool) {
        self.log.archive(self.id, P0, (Offset(first), Offset(end)), &groups_of(5), keep);
    }

    /// Reads everything while something happens after so many microseconds: a fetch takes a thousand.
    async fn read_while(&self, micros: u64, happens: impl Fn(&Self)) -> Result<ReadReply, IngestError> {
        let meanwhile = async {
            tokio::time::sleep(Duration::from_micros(micros)).await;
            happens(self);
        };
        let (reply, ()) = tokio::join!(self.ingest.read(self.request(0, ReadFrom::Earliest)), meanwhile);
        reply
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_moved_while_it_is_read_is_found_where_it_is_now() {
    let all: Vec<_> = (0..40).map(|at| at.to_string()).collect();
    for micros in [0, 500, 1_500, 2_500] {
        let world = uncached().await;
        let archive = |world: &World| {
            world.archive(0, 20, |_| true);
            world.log.delete_garbage();
        };
        let reply = world.read_while(micros, archive).await.unwrap();
        assert_eq!(values(&reply.slices), all, "archived after {micros}");
        let merge = |world: &World| {
            world.archive(0, 40, |_| true);
            world.log.delete_garbage();
        };
        let reply = world.read_while(micros, merge).await.unwrap();
        assert_eq!(values(&reply.slices), all, "merged after {micros}");
        let compact = |world: &World| {
            world.archive(0, 40, |offset| offset.0 % 2 == 1);
            world.log.delete_garbage();
        };
        let reply = world.read_while(micros, compact).await.unwrap();
        let got = values(&reply.slices);
        let left: Vec<_> = all.iter().filter(|text| got.contains(text)).cloned().collect();
        assert_eq!(got, left, "in order, after {micros}");
        assert!((0..20).all(|at| got.contains(&(2 * at + 1).to_string())), "compacted after {micros}: {got:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_while_it_is_read_has_expired_and_what_is_lost_is_damaged() {
    for micros in [500, 1_500] {
        let world = uncached().await;
        world.archive(0, 40, |_| true);
        let drop = |world: &World| {
            world.log.trim(world.id, P0, Offset(40));
            world.log.delete_garbage();
        };
        let expired = world.read_while(micros, drop).await;
        assert!(matches!(expired, Err(IngestError::OffsetExpired { log_start: Offset(40), .. })), "{expired:?}");
        let world = uncached().await;
        world.archive(0, 40, |_| true);
        let lost = world.read_while(micros, |world| world.log.files.lock().clear()).await;
        assert!(matches!(lost, Err(IngestError::Fetch(FetchError::Damaged { .. }))), "{lost:?}");
        assert!(world.ingest.offset_at(world.id, P0, 1_005).await.is_err());
        world.log.now(Command::DeleteTopic { topic: world.id }).unwrap();
        assert!(matches!(world.read_while(micros, |_| {}).await, Err(IngestError::TopicNotFound(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_part_of_a_file_ends_the_answer_before_it() {
    let world = uncached().await;
    world.archive(0, 40, |_| true);
    let flip = |at: usize| {
        for bytes in world.log.files.lock().values_mut() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1;
            *bytes = flipped.into();
        }
    };
    assert_eq!(world.read(0, 20).await.len(), 20);
    let ranges = world.log.fetched_ranges();
    let of_a_block = &ranges[ranges.len() / 2].1;
    let middle = (of_a_block.start + of_a_block.end) as usize / 2;
    flip(middle);
    let reply = world.ingest.read(world.request(0, ReadFrom::Earliest)).await.unwrap();
    let next = reply.next_offset.0;
    assert_eq!(values(&reply.slices), (0..next).map(|at| at.to_string()).collect::<Vec<_>>());
    assert!(next > 0 && next < 40 && next.is_multiple_of(5), "{next}");
    let damaged = world.ingest.read(world.request(0, ReadFrom::Offset(Offset(next)))).await;
    assert!(matches!(damaged, Err(IngestError::Fetch(FetchError::Damaged { .. }))), "{damaged:?}");
    assert_eq!(world.read(0, next + 5).await.len() as u64, 35 - next, "what is behind it is read");
    flip(middle);
    assert_eq!(world.read(0, next).await.len() as u64, 40 - next);
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_in_the_nearest_region_is_read_from_another() {
    let world = uncached().await;
    world.archive(0, 40, |_| true);
    assert_eq!(world.read(0, 20).await.len(), 20);
    let ranges = world.log.fetched_ranges();
    let bounds = |(_, range): &(String, std::ops::Range<u64>)| range.end;
    let (end, blocks) = (ranges.iter().map(bounds).max().unwrap(), &ranges[1..]);
    // In a block, and in the footer.
    let middle = |range: &std::ops::Range<u64>| u64::midpoint(range.start, range.end);
    for at in [middle(&blocks[blocks.len() / 2].1), end - 100] {
        *world.log.damaged_nearby.lock() = Some(at);
        let all: Vec<_> = (0..40).map(|at| at.to_string()).collect();
        let mut got = Vec::new();
        while got.len() < all.len() {
            let reply = world.ingest.read(world.request(0, ReadFrom::Offset(Offset(got.len() as u64)))).await.unwrap();
            got.extend(values(&reply.slices));
        }
        assert_eq!(got, all, "byte {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_behind_a_gap_gets_what_comes_and_never_sticks() {
    let world = uncached().await;
    world.archive(0, 20, |offset| offset.0 < 7);
    world.archive(20, 40, |_| false);
    let request = ReadRequest { wait: Duration::from_secs(9), ..world.request(0, ReadFrom::Offset(Offset(7))) };
    let started = tokio::time::Instant::now();
    let reply = world.ingest.read(request.clone()).await.unwrap();
    assert_eq!((reply.slices.len(), reply.next_offset.0), (0, 40));
    let poll = PollRequest { wait: Duration::from_secs(9), ..world.poll(&[7], 5) };
    let reply = world.ingest.poll(poll.clone()).await.unwrap();
    assert_eq!((reply.slices.len(), reply.positions), (0, vec![(P0, Offset(40))]));
    assert_eq!(started.elapsed().as_secs(), 18, "both have waited");
    let publish = || async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.publish(None, &[("", "new")]).await.unwrap();
    };
    let (reply, ()) = tokio::join!(world.ingest.read(request), publish());
    assert_eq!(values(&reply.unwrap().slices), ["new"]);
    world.archive(40, 41, |_| false);
    let (reply, ()) = tokio::join!(world.ingest.poll(poll), publish());
    let reply = reply.unwrap();
    assert_eq!((values(&reply.slices), reply.positions), (vec!["new".to_owned()], vec![(P0, Offset(42))]));
    assert_eq!(world.ingest.offset_at(world.id, P0, 0).await.unwrap(), Offset(0));
}

/// Random letters: they hardly compress.
pub(super) fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + (state % 64) as u8)
    };
    (0..bytes).map(|_| letter()).collect()
}

/// A world with so many blocks of sixteen messages of 16 KiB in an archive file, and its size.
async fn blocks(blocks: u64, cache_bytes: u64) -> (World, u64) {
    let world = world(1, IngestSettings { cache_bytes, ..IngestSettings::default() });
    for block in 0..blocks {
        let texts: Vec<_> = (0..16).map(|at| noise(block * 16 + at, 16 << 10)).collect();
        let messages: Vec<_> = texts.iter().map(|text| ("", text.as_str())).collect();
        world.publish(None, &messages).await.unwrap();
    }
    world.log.archive(world.id, P0, (Offset(0), Offset(16 * blocks)), &groups_of(16), |_| true);
    world.log.delete_garbage();
    let bytes = world.log.state.read().topic(world.id).unwrap().partition(P0).unwrap().files()[0].bytes;
    (world, bytes)
}

/// Bytes of ranges of one file, none of which may overlap. Its end is read once or twice, for the footer, and counts apart.
fn distinct(ranges: Vec<(String, std::ops::Range<u64>)>, file_bytes: u64) -> u64 {
    let (ends, mut ranges): (Vec<_>, Vec<_>) =
        ranges.into_iter().map(|(_, range)| range).partition(|range| range.end == file_bytes);
    ranges.sort_by_key(|range| range.start);
    for pair in ranges.windows(2) {
        assert!(pair[0].end <= pair[1].start, "{:?} and {:?}", pair[0], pair[1]);
    }
    assert!(ends.len() <= 2, "{ends:?}");
    ranges.iter().map(|range| range.end - range.start).sum()
}

#[tokio::test(start_paused = true)]
async fn a_single_message_costs_its_block_and_a_second_one_of_it_nothing() {
    let (world, bytes) = blocks(24, 8 << 20).await;
    let one = |offset: u64| ReadRequest { max_messages: 1, ..world.request(0, ReadFrom::Offset(Offset(offset))) };
    world.ingest.read(one(200)).await.unwrap();
    world.ingest.read(one(205)).await.unwrap();
    world.ingest.read(one(195)).await.unwrap();
    let fetched = distinct(world.log.fetched_ranges(), bytes);
    assert!(fetched <= bytes / 24 + (32 << 10), "{fetched} of {bytes}");
    // By time, too: timestamps rise by one a message.
    assert_eq!(world.ingest.offset_at(world.id, P0, 1_203).await.unwrap(), Offset(203));
    assert_eq!(distinct(world.log.fetched_ranges(), bytes), 0);
    assert_eq!(world.ingest.offset_at(world.id, P0, 1_303).await.unwrap(), Offset(303));
    let fetched = distinct(world.log.fetched_ranges(), bytes);
    assert!(fetched > 0 && fetched < bytes / 24 + (32 << 10), "{fetched} of {bytes}");
}

#[tokio::test(start_paused = true)]
async fn catching_up_fetches_every_byte_once_ahead_of_the_reader_and_leaves_the_tail_alone() {
    let cache_bytes = 8 << 20;
    let (world, bytes) = blocks(40, cache_bytes).await;
    world.publish(None, &[("", "tail")]).await.unwrap();
    let (mut next, mut read, started) = (0, Vec::new(), tokio::time::Instant::now());
    while next < 640 {
        let request = ReadRequest { max_messages: 4, ..world.request(0, ReadFrom::Offset(Offset(next))) };
        let reply = world.ingest.read(request).await.unwrap();
        read.extend(values(&reply.slices));
        next = reply.next_offset.0;
        let held = world.ingest.0.reader.cache().held();
        assert!(held <= cache_bytes, "{held}");
    }
    assert!((0..640).all(|at| read[at as usize] == noise(at, 16 << 10)));
    let took = started.elapsed();
    assert!(took < Duration::from_millis(25), "a fetch takes a millisecond, and there are 40: {took:?}");
    let fetched = distinct(world.log.fetched_ranges(), bytes);
    assert!(fetched <= bytes && fetched > bytes / 2, "{fetched} of {bytes}");
    let fetches = *world.log.fetches.lock();
    assert_eq!(world.read(0, 640).await, ["tail"]);
    assert_eq!(*world.log.fetches.lock(), fetches, "the tail is at hand");
}

#[tokio::test(start_paused = true)]
async fn several_who_catch_up_share_what_is_fetched() {
    let (world, bytes) = blocks(16, 8 << 20).await;
    let world = &world;
    let reader = |_| async move {
        let mut next = 0;
        while next < 256 {
            let request = ReadRequest { max_messages: 8, ..world.request(0, ReadFrom::Offset(Offset(next))) };
            next = world.ingest.read(request).await.unwrap().next_offset.0;
        }
    };
    join_all((0..8).map(reader)).await;
    let fetched = distinct(world.log.fetched_ranges(), bytes);
    assert!(fetched <= bytes, "{fetched} of {bytes}");
}
