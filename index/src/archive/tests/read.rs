use super::*;
use crate::batch::AttributeSet;

proptest! {
    #[test]
    fn what_is_written_is_read(messages in messages(1..120, 40), push in 1..50_usize, pages in 60..4_000_usize) {
        let (first, end) = span(&messages);
        // A file may cover more than it has.
        let head = head(1, first - 3, end + 2);
        let settings = WriterSettings { page_bytes: pages, row_group_bytes: 4 * pages, ..small() };
        let (file, written) = write(head.clone(), &settings, &messages, push);
        prop_assert_eq!(written.bytes, file.len() as u64);
        prop_assert_eq!(written.crc, crc32c::crc32c(&file));
        prop_assert_eq!(written.rows, messages.len() as u64);
        prop_assert_eq!(written.set_hash, set_hash(&messages));
        let payload = messages.iter().map(|message| message.as_ref().size() as u64).sum::<u64>();
        prop_assert_eq!(written.payload_bytes, payload);
        let times = || messages.iter().map(|message| message.timestamp_ms);
        prop_assert_eq!((written.min_timestamp_ms, written.max_timestamp_ms), (times().min().unwrap(), times().max().unwrap()));
        let used = messages.iter().map(|message| message.as_ref().attributes.set());
        prop_assert_eq!(written.attributes, used.fold(AttributeSet::default(), AttributeSet::union));
        let footer = open(&file).unwrap();
        footer.check(&written.file(&head, 0, false, Vec::new()), &head).unwrap();
        prop_assert_eq!(footer.rows(), messages.len() as u64);
        prop_assert_eq!(read_all(&file, &footer).unwrap(), messages);
    }

    #[test]
    fn blocks_are_found_by_offset_and_time(messages in messages(1..120, 5), probe in any::<prop::sample::Index>(), time in -6..7_i64) {
        let (first, end) = span(&messages);
        let (file, _) = write(head(1, first, end), &small(), &messages, 17);
        let footer = open(&file).unwrap();
        let blocks = footer.blocks();
        // They tile the file.
        prop_assert_eq!((blocks[0].first.0, blocks[blocks.len() - 1].end.0), (first, end));
        prop_assert!(blocks.windows(2).all(|pair| pair[0].end <= pair[1].first));
        prop_assert_eq!(blocks.iter().map(|block| block.rows.len()).sum::<usize>(), messages.len());
        // The block found for an offset has the first message at it or behind it.
        let offset = first.saturating_sub(2) + probe.index((end - first + 4) as usize) as u64;
        let next = messages.iter().find(|message| message.offset >= offset);
        match footer.block_at(Offset(offset)) {
            None => prop_assert!(next.is_none()),
            Some(block) => {
                let rows = footer.decode_block(block, &fetch(&file, &footer.ranges(block))).unwrap();
                let row = rows.row_at(Offset(offset));
                let found = owned(&rows);
                prop_assert_eq!(found.get(row), next);
            }
        }
        // The first message of at least this time is in one of the blocks named for it, and none before has one.
        let wanted = messages.iter().find(|message| message.timestamp_ms >= time);
        let found = footer.blocks_at_time(time).map(|block| read_block(&file, &footer, block).unwrap());
        let found = found.flatten().find(|message| message.timestamp_ms >= time);
        prop_assert_eq!(found.as_ref(), wanted);
        for (at, block) in blocks.iter().enumerate() {
            let found = read_block(&file, &footer, at).unwrap();
            prop_assert_eq!(found.len(), block.rows.len());
            prop_assert_eq!(span(&found), (block.first.0, block.end.0));
            for message in found {
                prop_assert!((block.min_timestamp_ms..=block.max_timestamp_ms).contains(&message.timestamp_ms));
            }
        }
    }

    #[test]
    fn runs_have_no_gaps_and_all_rows(messages in messages(1..60, 0)) {
        let rows = Rows { messages: batch(&messages), offsets: messages.iter().map(|message| message.offset).collect() };
        let mut expected: Vec<(Range<usize>, Offset)> = Vec::new();
        for (row, message) in messages.iter().enumerate() {
            match expected.last_mut() {
                Some((run, first)) if first.0 + run.len() as u64 == message.offset => run.end = row + 1,
                _ => expected.push((row..row + 1, Offset(message.offset))),
            }
        }
        prop_assert_eq!(rows.runs().collect::<Vec<_>>(), expected);
    }
}

/// Messages of a size, no two alike and hard to compress.
pub(super) fn noise(count: usize, bytes: usize) -> Vec<Owned> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let message = |offset: usize| Owned {
        offset: offset as u64,
        key: Some(format!("key-{offset}").into_bytes()),
        value: Some((0..bytes / 8).flat_map(|_| random().to_le_bytes()).collect()),
        kind: 2,
        headers: vec![("source".into(), format!("host-{}", offset % 10).into())],
        timestamp_ms: 1_700_000_000_000 + offset as i64,
        group: None,
        priority: None,
        times: [None, None],
    };
    (0..count).map(message).collect()
}

/// With the settings that are used, a block is about 4 MiB, two ranges are enough, and they have little else.
#[test]
fn a_block_is_read_with_few_ranges_and_little_else() {
    let messages = noise(20_000, 1_024);
    let (file, written) = write(head(1, 0, 20_000), &WriterSettings::default(), &messages, 2_000);
    let footer = open(&file).unwrap();
    assert_eq!(footer.row_groups(), 2);
    assert_eq!(footer.blocks().len(), 5);
    let mut fetched = 0;
    for block in 0..footer.blocks().len() {
        let ranges = footer.ranges(block);
        assert!(ranges.len() <= 2, "{ranges:?}");
        assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
        fetched += ranges.iter().map(|range| range.end - range.start).sum::<u64>();
        assert!(footer.blocks()[block].value_bytes < (4 << 20) + (512 << 10));
        let rows = footer.decode_block(block, &fetch(&file, &ranges)).unwrap();
        let (found, first) = (owned(&rows), footer.blocks()[block].first.0 as usize);
        assert!(found == messages[first..first + found.len()]);
        let payload = found.iter().map(|message| message.as_ref().size()).sum::<usize>();
        assert!(rows.memory() < payload + payload / 8, "{} for {payload}", rows.memory());
        // Out of the bytes of its whole row group it is the same.
        let group = footer.group_range(footer.blocks()[block].row_group);
        assert!(ranges.iter().all(|range| group.start <= range.start && range.end <= group.end));
        let rows = footer.decode_block(block, &fetch(&file, &[group])).unwrap();
        assert!(owned(&rows) == found);
    }
    assert!(fetched < written.bytes + written.bytes / 20, "{fetched} of {}", written.bytes);
    assert!(footer.memory() < 100 << 10, "{}", footer.memory());
    // Without one of its ranges a block cannot be read, and says so.
    let ranges = footer.ranges(1);
    for missing in 0..ranges.len() {
        let mut parts = fetch(&file, &ranges);
        parts.remove(missing);
        assert!(matches!(footer.decode_block(1, &parts), Err(ArchiveError::Missing(..))));
    }
}

#[test]
fn offsets_that_do_not_fit_are_refused() {
    let messages = noise(10, 16);
    let mut writer = FileWriter::new(head(1, 10, 15), &small()).unwrap();
    let batch = batch(&messages);
    for (rows, base) in [(0..2, 9), (0..6, 10), (0..11, 10), (0..2, u64::MAX), (0..2, 14)] {
        let refused = writer.push(&batch, rows.clone(), Offset(base));
        assert!(matches!(refused, Err(ArchiveError::Misplaced(_))), "{rows:?} at {base}");
    }
    writer.push(&batch, 0..2, Offset(11)).unwrap();
    for (rows, offsets) in
        [(&[0][..], &[12][..]), (&[0, 1], &[14, 13]), (&[0, 1], &[13, 13]), (&[99], &[13]), (&[1], &[])]
    {
        let offsets: Vec<_> = offsets.iter().copied().map(Offset).collect();
        assert!(matches!(writer.push_rows(&batch, rows, &offsets), Err(ArchiveError::Misplaced(_))), "{rows:?}");
    }
    assert_eq!(writer.rows(), 2);
    assert_eq!(writer.finish().unwrap().1.rows, 2);
    let empty = FileWriter::new(head(1, 10, 15), &small()).unwrap();
    assert!(matches!(empty.finish(), Err(ArchiveError::Misplaced(_))));
}
