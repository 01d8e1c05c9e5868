use parquet::{
    bloom_filter::Sbbf,
    file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaDataReader},
};

use super::*;

fn merge(head: FileHead, files: &[Vec<u8>]) -> Result<(Vec<u8>, Written), ArchiveError> {
    let mut merger = FileMerger::new(head, &small())?;
    let mut out = Vec::new();
    for file in files {
        let footer = open(file)?;
        for row_group in 0..footer.row_groups() {
            let range = footer.row_group_range(row_group);
            let bytes = Bytes::copy_from_slice(&file[range.start as usize..range.end as usize]);
            merger.append(&footer, row_group, bytes)?;
            out.extend_from_slice(&merger.take());
            assert!(merger.memory() < 1_000);
        }
    }
    let (rest, written) = merger.finish()?;
    out.extend_from_slice(&rest);
    Ok((out, written))
}

/// Bytes of a column that are data, and the keys' filter.
fn content(file: &[u8], chunk: &ColumnChunkMetaData) -> (Vec<u8>, Option<Vec<u8>>) {
    let (start, length) = chunk.byte_range();
    let filter = chunk.bloom_filter_offset().zip(chunk.bloom_filter_length());
    let filter = filter.map(|(at, length)| file[at as usize..at as usize + length as usize].to_vec());
    (file[start as usize..(start + length) as usize].to_vec(), filter)
}

proptest! {
    #[test]
    fn a_merged_file_has_what_its_inputs_have(parts in proptest::collection::vec(messages(1..70, 0), 1..5), gap in 0..3_u64) {
        let (mut next, mut all, mut files, mut inputs) = (10, Vec::new(), Vec::new(), Vec::new());
        for (number, mut part) in parts.into_iter().enumerate() {
            part.iter_mut().for_each(|message| message.offset += next);
            let (first, end) = (next, span(&part).1);
            let (file, written) = write(head(number as u64, first, end), &small(), &part, 20);
            next = end + gap;
            all.append(&mut part);
            files.push(file);
            inputs.push(written);
        }
        let head = head(9, 10, next);
        let (merged, written) = merge(head.clone(), &files).unwrap();
        let footer = open(&merged).unwrap();
        footer.check(&written.file(&head, 1, false, Vec::new()), &head).unwrap();
        prop_assert_eq!(read_all(&merged, &footer).unwrap(), all.clone());
        prop_assert_eq!(written.crc, crc32c::crc32c(&merged));
        prop_assert_eq!(written.bytes, merged.len() as u64);
        prop_assert_eq!(written.set_hash, set_hash(&all));
        prop_assert_eq!(written.payload_bytes, inputs.iter().map(|input| input.payload_bytes).sum::<u64>());
        // As the library reads it, and byte for byte.
        let load = |file: &[u8]| {
            let bytes = Bytes::copy_from_slice(file);
            ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required).parse_and_finish(&bytes).unwrap()
        };
        let ours = load(&merged);
        let mut group = 0;
        for file in &files {
            let theirs = load(file);
            for at in 0..theirs.num_row_groups() {
                for column in 0..theirs.row_group(at).num_columns() {
                    let (from, to) = (theirs.row_group(at).column(column), ours.row_group(group).column(column));
                    prop_assert_eq!(content(file, from), content(&merged, to));
                    prop_assert_eq!(from.statistics(), to.statistics());
                    let (before, after) = (theirs.page_index().unwrap(), ours.page_index().unwrap());
                    prop_assert_eq!(before.column_index(at, column), after.column_index(group, column));
                    prop_assert_eq!(
                        before.offset_index(at, column).unwrap().page_locations().len(),
                        after.offset_index(group, column).unwrap().page_locations().len()
                    );
                }
                group += 1;
            }
        }
        prop_assert_eq!(group, ours.num_row_groups());
    }
}

#[test]
fn keys_are_in_the_bloom_filter() {
    let messages = read::noise(2_000, 16);
    let (file, _) = write(head(1, 0, 2_000), &WriterSettings::default(), &messages, 500);
    let (file, _) = merge(head(2, 0, 2_000), &[file]).unwrap();
    let file = Bytes::from(file);
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
    let filter = Sbbf::read_from_column_chunk(metadata.row_group(0).column(schema::leaf::KEY), &file).unwrap().unwrap();
    let has = |key: &str| filter.check(key.as_bytes());
    assert!((0..2_000).all(|key| has(&format!("key-{key}"))));
    let wrong = (2_000..12_000).filter(|key| has(&format!("key-{key}"))).count();
    assert!(wrong < 300, "{wrong} of 10,000 keys that are not there");
    let filter_bytes = metadata.row_group(0).column(schema::leaf::KEY).bloom_filter_length().unwrap();
    assert!(filter_bytes < 5_000, "{filter_bytes}");
}

#[test]
fn only_whole_neighbours_are_merged() {
    let messages = read::noise(60, 16);
    let file = |id, range: Range<usize>| {
        write(head(id, range.start as u64, range.end as u64), &small(), &messages[range], 60).0
    };
    let (a, b) = (file(1, 0..30), file(2, 30..60));
    assert!(merge(head(3, 0, 60), &[a.clone(), b.clone()]).is_ok());
    let refused = |result: Result<(Vec<u8>, Written), ArchiveError>| {
        assert!(matches!(result, Err(ArchiveError::Misplaced(_))), "{result:?}");
    };
    refused(merge(head(3, 0, 60), &[b.clone(), a.clone()]));
    refused(merge(head(3, 0, 59), &[a.clone(), b.clone()]));
    refused(merge(head(3, 1, 60), std::slice::from_ref(&a)));
    refused(merge(head(3, 0, 60), &[]));
    refused(merge(FileHead { partition: Partition(4), ..head(3, 0, 60) }, std::slice::from_ref(&a)));
    refused(merge(FileHead { cluster: "c2".to_owned(), ..head(3, 0, 60) }, std::slice::from_ref(&a)));
    let footer = open(&a).unwrap();
    let bytes = |row_group| {
        let range = footer.row_group_range(row_group);
        Bytes::copy_from_slice(&a[range.start as usize..range.end as usize])
    };
    let begin = || FileMerger::new(head(3, 0, 60), &small()).unwrap();
    assert!(footer.row_groups() > 1);
    assert!(matches!(begin().append(&footer, 1, bytes(1)), Err(ArchiveError::Misplaced(_))));
    assert!(matches!(begin().append(&footer, 0, bytes(0).slice(1..)), Err(ArchiveError::Missing(..))));
    let mut part = begin();
    part.append(&footer, 0, bytes(0)).unwrap();
    assert!(matches!(part.append(&footer, 0, bytes(0)), Err(ArchiveError::Misplaced(_))));
    let mut part = begin();
    part.append(&footer, 0, bytes(0)).unwrap();
    assert!(matches!(part.finish(), Err(ArchiveError::Misplaced(_))));
}
