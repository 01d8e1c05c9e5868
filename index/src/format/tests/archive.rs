//! Arbitrary commands of the compactor, and what is refused of the archive.

use prost::Message;

use super::{
    refused::{entry, field, number, snapshot},
    *,
};
use crate::{
    archive::{ArchiveFile, SetHash},
    command::{Archived, Claim, ClaimPart, Located, Replace, Retention, Trim},
    ids::FileId,
};

fn times() -> impl Strategy<Value = (Option<u64>, Option<u64>, Option<u64>, Option<u64>)> {
    any::<(Option<u64>, Option<u64>, Option<u64>, Option<u64>)>()
}

pub(super) fn patch() -> impl Strategy<Value = RetentionPatch> {
    (times(), any::<(Option<bool>, Option<bool>)>()).prop_map(|(times, (after_ack, key_compaction))| {
        let (time_ms, bytes, compaction_lag_ms, tombstones_ms) = times;
        RetentionPatch { time_ms, bytes, after_ack, key_compaction, compaction_lag_ms, tombstones_ms }
    })
}

fn retention() -> impl Strategy<Value = Retention> {
    prop_oneof![1 => Just(Retention::default()), 3 => patch().prop_map(|patch| Retention::default().patched(&patch))]
}

prop_compose! {
    fn file()(
        (id, first, end, rows, bytes, payload_bytes) in any::<(u64, u64, u64, u64, u64, u64)>(),
        (crc, hash, min_timestamp_ms, max_timestamp_ms) in any::<(u32, u128, i64, i64)>(),
        (merges, compacted, oldest_tombstone_ms) in any::<(u32, bool, Option<i64>)>(),
        attributes in (0..16u8).prop_map(AttributeSet),
        regions in vec(any::<u16>().prop_map(RegionNo), 0..4),
    ) -> ArchiveFile {
        ArchiveFile {
            id: FileId(id), first: Offset(first), end: Offset(end), rows, bytes, payload_bytes, crc,
            set_hash: SetHash(hash), min_timestamp_ms, max_timestamp_ms, oldest_tombstone_ms, attributes,
            merges, compacted, regions,
        }
    }
}

fn ids() -> impl Strategy<Value = Vec<FileId>> {
    vec(any::<u64>().prop_map(FileId), 0..4)
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    let part = any::<(u64, u32, u64, u64)>().prop_map(|(topic, partition, first, end)| ClaimPart {
        topic: TopicId(topic),
        partition: Partition(partition),
        first: Offset(first),
        end: Offset(end),
    });
    let archived = (any::<u64>(), option::of(file()), option::of(retention()));
    let archived = archived.prop_map(|(id, file, compacted)| Archived { id: FileId(id), file, compacted });
    let place =
        any::<(u64, u32, u64)>().prop_map(|(topic, part, file)| (TopicId(topic), Partition(part), FileId(file)));
    let trim = (any::<(u64, u32, u64, bool)>(), retention());
    let trim = trim.prop_map(|((topic, partition, to, acknowledged), retention)| Trim {
        topic: TopicId(topic),
        partition: Partition(partition),
        to: Offset(to),
        acknowledged,
        retention,
    });
    prop_oneof![
        3 => (ballot(), vec(part, 0..3)).prop_map(|(owner, parts)| Command::Claim(Claim { owner, parts })),
        3 => vec(archived, 0..3).prop_map(|parts| Command::Replace(Replace { parts })),
        1 => ids().prop_map(Command::Release),
        1 => (any::<u16>(), vec(place, 0..3))
            .prop_map(|(region, files)| Command::Located(Located { region: RegionNo(region), files })),
        1 => trim.prop_map(Command::Trim),
        1 => ids().prop_map(Command::Deleted),
    ]
}

/// Makes most of them fit what there is: two batches of a partition are claimed, one by one or together.
pub(super) fn fit(command: &mut Command, id: u64) {
    match command {
        Command::Claim(claim) => {
            claim.parts.truncate(1);
            for part in &mut claim.parts {
                let (topic, partition) = (TopicId(id), Partition(part.partition.0 % 3));
                *part = ClaimPart { topic, partition, first: Offset(0), end: Offset(1 + part.end.0 % 9) };
            }
        }
        Command::Replace(replace) => {
            replace.parts.truncate(1);
            for part in &mut replace.parts {
                part.id = FileId(1 + part.id.0 % 3);
                if let Some(file) = &mut part.file {
                    file.id = part.id;
                    (file.first, file.end) = (Offset(0), Offset(1 + file.end.0 % 9));
                    (file.rows, file.max_timestamp_ms) = (file.end.0, i64::MAX);
                    (part.compacted, file.regions) = (None, vec![RegionNo(1), RegionNo(7)]);
                }
            }
        }
        Command::Release(ids) | Command::Deleted(ids) => ids.iter_mut().for_each(|id| id.0 = 1 + id.0 % 3),
        Command::Located(located) => located.region.0 %= 3,
        Command::Trim(trim) => {
            (trim.topic, trim.partition, trim.to) =
                (TopicId(id), Partition(trim.partition.0 % 3), Offset(trim.to.0 % 9));
        }
        _ => {}
    }
}

/// One archive file of a partition of ten messages in a snapshot.
fn stored(change: impl Fn(&mut ArchiveFile)) -> Vec<u8> {
    let mut file = ArchiveFile {
        id: FileId(1),
        first: Offset(2),
        end: Offset(6),
        rows: 3,
        bytes: 9,
        payload_bytes: 8,
        crc: 7,
        set_hash: SetHash(6),
        min_timestamp_ms: 1,
        max_timestamp_ms: 2,
        attributes: AttributeSet::default(),
        oldest_tombstone_ms: None,
        merges: 0,
        compacted: true,
        regions: vec![RegionNo(0), RegionNo(2)],
    };
    change(&mut file);
    super::super::archive::StoredFile::from(&file).encode_to_vec()
}

/// A snapshot of one topic, whose one partition has these fields besides ten messages, and of this archive.
fn one_partition(fields: &[u8], archive: &[u8]) -> Result<ShardState, FrameError> {
    let partition = [&number(2, 10), fields].concat();
    let settings = [number(1, 1), number(2, 1_000), number(3, 0)].concat();
    let topic = [number(1, 1), field(2, b"t"), field(4, &settings), field(5, &partition)].concat();
    snapshot(&[number(2, 1), field(4, &topic), field(11, archive)].concat())
}

#[test]
fn files_that_cannot_be_are_refused_in_a_snapshot() {
    let with = |change: &dyn Fn(&mut ArchiveFile)| one_partition(&field(7, &stored(change)), &number(1, 5));
    let good = with(&|_| {}).unwrap();
    let log = &good.topic(TopicId(1)).unwrap().partitions[0];
    assert_eq!((log.files().len(), log.archived_end(), log.messages()), (1, Offset(10), 3));
    let flaws: [&dyn Fn(&mut ArchiveFile); 8] = [
        &|file| file.rows = 0,
        &|file| file.rows = 5,
        &|file| file.first = Offset(7),
        &|file| file.end = Offset(11),
        &|file| file.id = FileId(6),
        &|file| file.regions = vec![RegionNo(2), RegionNo(0)],
        &|file| file.regions = vec![RegionNo(2), RegionNo(2)],
        &|file| (file.first, file.end) = (Offset(u64::MAX - 1), Offset(u64::MAX)),
    ];
    for (number, flaw) in flaws.iter().enumerate() {
        assert!(with(flaw).is_err(), "flaw {number}");
    }
    let two = |first: u64, end: u64, id: u64| {
        let other = stored(|file| (file.id, file.first, file.end) = (FileId(id), Offset(first), Offset(end)));
        one_partition(&[field(7, &stored(|_| {})), field(7, &other)].concat(), &number(1, 5))
    };
    assert!(two(6, 10, 2).is_ok() && two(7, 10, 5).is_ok());
    assert!(two(5, 10, 2).is_err(), "they overlap");
    assert!(two(0, 2, 2).is_err(), "they are out of order");
    assert!(two(6, 10, 1).is_err(), "one identity twice");
    // A run of four messages at the end, and a file that reaches into it.
    let run = [number(4, 6), field(5, &number(2, 4))].concat();
    let file = |end| field(7, &stored(|file| file.end = Offset(end)));
    assert!(one_partition(&[file(6), run.clone()].concat(), &number(1, 5)).is_ok());
    assert!(one_partition(&[file(7), run.clone()].concat(), &number(1, 5)).is_err());
    assert!(one_partition(&number(1, 10), &[]).is_ok() && one_partition(&number(1, 11), &[]).is_err(), "log start");
}

#[test]
fn claims_and_garbage_that_cannot_be_are_refused_in_a_snapshot() {
    let part = |topic, first, end| [number(1, topic), number(3, first), number(4, end)].concat();
    let claim = |id, part: &[u8]| field(2, &[number(1, id), field(4, part)].concat());
    let garbage = |id, name: &str| field(3, &[number(1, id), field(2, name.as_bytes()), number(3, 9)].concat());
    let with =
        |archive: &[Vec<u8>]| one_partition(&field(7, &stored(|_| {})), &[&number(1, 5), &*archive.concat()].concat());
    let good = with(&[claim(2, &part(1, 2, 6)), garbage(3, "gone")]).unwrap();
    assert_eq!((good.archive.claims().len(), good.archive.garbage().len(), good.archive.last()), (1, 1, FileId(5)));
    assert!(with(&[claim(2, &part(2, 2, 6))]).is_err(), "of a topic that is not there");
    assert!(with(&[claim(2, &part(1, 3, 6))]).is_err(), "it cuts through a file");
    assert!(with(&[claim(2, &part(1, 6, 11))]).is_err(), "behind the log");
    assert!(with(&[claim(2, &part(1, 6, 6))]).is_err(), "of nothing");
    assert!(with(&[claim(6, &part(1, 2, 6))]).is_err(), "of an identity that was never given");
    assert!(with(&[claim(1, &part(1, 2, 6))]).is_err(), "of the file's identity");
    assert!(with(&[claim(2, &part(1, 2, 6)), garbage(2, "gone")]).is_err());
    assert!(with(&[garbage(1, "gone")]).is_err(), "the file is referenced");
    assert!(with(&[garbage(3, "a/b")]).is_err(), "no topic has this name");
}

/// What does not make sense in a command is for the state to reject, alike on every node: an entry that a node could not
/// read would stop it.
#[test]
fn files_that_cannot_be_are_read_in_a_command_and_rejected_by_the_state() {
    let replace = |file: &[u8]| entry(&field(18, &field(1, &[&number(1, 1), &*field(2, file)].concat())));
    for end in [0, 6] {
        let value = replace(&stored(|file| (file.end, file.rows) = (Offset(end), 0))).unwrap();
        let mut state = ShardState::default();
        let (outcomes, _) = state.apply(&value, Sequence(1), 0);
        assert!(outcomes[0].is_err());
    }
    let hash = |length: usize| replace(&[stored(|_| {}), field(8, &vec![1; length])].concat());
    assert!(hash(16).is_ok() && hash(15).is_err() && hash(17).is_err(), "the length of a set's hash");
    assert!(replace(&[stored(|_| {}), field(14, &[5])].concat()).is_ok());
    let beyond = [0x80, 0x80, 0x04];
    assert!(replace(&[stored(|_| {}), field(14, &beyond)].concat()).is_err(), "a region that cannot be");
    assert!(entry(&field(20, &number(1, 1 << 16))).is_err());
}
