use super::*;

/// Reads whatever is there; damaged bytes give an error or the right messages.
fn try_read(file: &[u8]) -> Result<Vec<Owned>, ArchiveError> {
    let footer = open(file)?;
    read_all(file, &footer)
}

fn example() -> (Vec<Owned>, Vec<u8>) {
    let mut messages = read::noise(30, 24);
    for (row, message) in messages.iter_mut().enumerate() {
        message.offset = row as u64 + row as u64 / 7;
        message.group = (row % 5 == 0).then(|| format!("g{row}"));
        message.priority = (row % 9 == 0).then_some(3);
        message.kind = (row % 3) as u8;
    }
    let (first, end) = span(&messages);
    let (file, _) = write(head(1, first, end), &small(), &messages, 15);
    (messages, file)
}

#[test]
fn a_flipped_byte_anywhere_is_noticed_or_does_not_matter() {
    let (messages, mut file) = example();
    assert_eq!(try_read(&file).unwrap(), messages);
    let (mut noticed, bytes) = (0, file.len());
    for at in 0..bytes {
        let flip = [0x01, 0x80, 0xff, 0x10][at % 4];
        file[at] ^= flip;
        match try_read(&file) {
            Ok(found) => assert!(found == messages, "byte {at} of {bytes} changes the messages"),
            Err(_) => noticed += 1,
        }
        file[at] ^= flip;
    }
    // What is not noticed: Parquet's mark at the beginning, the column of the partition, and the Bloom filters.
    assert!(noticed * 100 > bytes * 85, "{noticed} of {bytes}");
}

#[test]
fn a_cut_off_file_is_refused() {
    let (_, file) = example();
    for length in 0..file.len() {
        assert!(try_read(&file[..length]).is_err(), "{length}");
    }
    // And one that is not as long as the index says.
    let size = file.len() as u64;
    for size in [size - 1, size + 1, u64::MAX] {
        assert!(Footer::decode(size, 0, Bytes::copy_from_slice(&file)).is_err());
    }
}

proptest! {
    /// Footers whose checksum is right, but not what they say.
    #[test]
    fn absurd_footers_are_refused(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let (messages, mut file) = example();
        let range = seal::locate(file.len() as u64, &file).unwrap();
        let begin = range.start as usize;
        for (at, byte) in flips {
            let at = begin + at.index(file.len() - begin - 8);
            file[at] = byte;
        }
        if seal::seal(&mut file[begin..]).is_some() {
            // Whatever comes out, nothing panics or takes all memory.
            let _ = try_read(&file).map(|found| found.len() == messages.len());
        }
    }

    #[test]
    fn noise_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Footer::decode(noise.len() as u64, 0, noise.clone().into()).is_err());
        let mut with_mark = noise;
        with_mark.extend_from_slice(&[100, 0, 0, 0]);
        with_mark.extend_from_slice(b"PAR1");
        let size = with_mark.len() as u64;
        let needs = matches!(Footer::decode(size, 0, with_mark.clone().into()), Err(_) | Ok(FooterStep::Need(_)));
        prop_assert!(needs);
    }
}

#[test]
fn a_file_of_something_else_is_refused() {
    let messages = read::noise(10, 16);
    let here = head(1, 0, 10);
    let (file, written) = write(here.clone(), &small(), &messages, 10);
    let footer = open(&file).unwrap();
    let known = written.file(&here, 0, false, Vec::new());
    footer.check(&known, &here).unwrap();
    let foreign = |head: FileHead, file: ArchiveFile, expected: &str| match footer.check(&file, &head) {
        Err(ArchiveError::Foreign { what, .. }) => assert_eq!(what, expected),
        other => panic!("{expected}: {other:?}"),
    };
    let topic = TopicName::new("other").unwrap();
    foreign(FileHead { cluster: "c2".to_owned(), ..here.clone() }, known.clone(), "cluster");
    foreign(FileHead { topic, ..here.clone() }, known.clone(), "topic");
    foreign(FileHead { topic_id: TopicId(8), ..here.clone() }, known.clone(), "topic id");
    foreign(FileHead { partition: Partition(4), ..here.clone() }, known.clone(), "partition");
    foreign(here.clone(), ArchiveFile { id: FileId(2), ..known.clone() }, "number");
    foreign(here.clone(), ArchiveFile { first: Offset(1), ..known.clone() }, "first offset");
    foreign(here.clone(), ArchiveFile { end: Offset(11), ..known.clone() }, "end offset");
    foreign(here.clone(), ArchiveFile { rows: 11, ..known.clone() }, "number of messages");
    foreign(here.clone(), ArchiveFile { set_hash: SetHash(1), ..known.clone() }, "set hash");
}
