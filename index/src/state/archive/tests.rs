//! Archive commands in any order: nothing is lost, no file is forgotten, and what is rejected changes nothing.

use std::{collections::BTreeSet, sync::Arc};

use proptest::{collection::vec, prelude::*};

use super::super::{ShardState, batch_bytes, tests::apply};
use crate::{
    archive::{ArchiveFile, SetHash},
    batch::AttributeSet,
    command::{
        Archived, BatchRef, Claim, ClaimPart, Command, IdempotentRequest, Identity, Outcome, OwnedRows, Publish,
        Replace, TopicSettings, Trim,
    },
    format::{decode_snapshot, encode_snapshot},
    ids::{Ballot, FileId, Offset, Partition, RegionNo, TopicId, WriteId},
    names::TopicName,
};

#[derive(Clone, Debug)]
enum Step {
    /// Rows, and whether the middle one was published before: then the batch is stored as two runs.
    Publish(u32, bool),
    /// From the border of this number, so many borders further.
    Claim(usize, usize),
    /// The claim of this number, and the one after it if given; how many messages the file leaves out; whether it was
    /// compacted.
    Replace(usize, bool, u64, bool),
    Release(usize),
    Trim(u64),
    Delete(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (3..9u32, any::<bool>()).prop_map(|(rows, twice)| Step::Publish(rows, twice)),
        4 => (0..4usize, 1..4usize).prop_map(|(from, count)| Step::Claim(from, count)),
        4 => (0..3usize, any::<bool>(), prop_oneof![3 => Just(0), 1 => 0..9u64], any::<bool>())
            .prop_map(|(claim, two, out, compacted)| Step::Replace(claim, two, out, compacted)),
        1 => (0..3usize).prop_map(Step::Release),
        1 => (0..40u64).prop_map(Step::Trim),
        1 => (0..3usize).prop_map(Step::Delete),
    ]
}

const P: Partition = Partition(0);

fn publish(topic: TopicId, rows: u32, twice: bool) -> Command {
    let identity = Identity::Key(Arc::from("again"));
    let requests = vec![IdempotentRequest { identity, partition_count: 1, keyless: P }];
    let (requests, owned) =
        if twice { (requests, vec![OwnedRows { first: 1, rows: 1, request: 0 }]) } else { Default::default() };
    let batch = BatchRef {
        partition: P,
        at: 0,
        len: rows * 10,
        crc: 0,
        rows,
        payload_bytes: 1,
        min_timestamp_ms: 0,
        max_timestamp_ms: 0,
        owned,
        attributes: AttributeSet::default(),
        ids: Vec::new(),
    };
    Command::Publish(Publish { topic, requests, batches: vec![batch] })
}

/// Where files and runs begin or end.
fn borders(state: &ShardState, topic: TopicId) -> Vec<Offset> {
    let log = state.topic(topic).unwrap().partition(P).unwrap();
    let files = log.files().iter().flat_map(|file| [file.first, file.end]);
    let borders: BTreeSet<_> = files.chain(log.runs().iter().flat_map(|run| [run.base, run.end()])).collect();
    borders.into_iter().collect()
}

fn file(id: FileId, part: &ClaimPart, rows: u64) -> ArchiveFile {
    ArchiveFile {
        id,
        first: part.first,
        end: part.end,
        rows,
        bytes: 7,
        payload_bytes: 1,
        crc: 0,
        set_hash: SetHash::default(),
        min_timestamp_ms: 0,
        max_timestamp_ms: 0,
        attributes: AttributeSet::default(),
        merges: 0,
        compacted: false,
        regions: vec![RegionNo(0)],
    }
}

fn command(state: &ShardState, topic: TopicId, step: &Step) -> Option<Command> {
    let claims = || state.archive.claims().iter();
    Some(match *step {
        Step::Publish(rows, twice) => publish(topic, rows, twice),
        Step::Claim(from, count) => {
            let borders = borders(state, topic);
            let (first, end) = (*borders.get(from)?, *borders.get(from + count)?);
            let parts = vec![ClaimPart { topic, partition: P, first, end }];
            Command::Claim(Claim { owner: Ballot::default(), parts })
        }
        Step::Replace(at, two, out, compacted) => {
            let claims = claims().skip(at).take(1 + usize::from(two));
            let log = state.topic(topic).unwrap().partition(P).unwrap();
            let parts = claims.map(|(id, claimed)| {
                let rows = log.rows_between(claimed.part.first, claimed.part.end).saturating_sub(out);
                Archived { id: *id, file: (rows > 0).then(|| file(*id, &claimed.part, rows)), compacted }
            });
            Command::Replace(Replace { parts: parts.collect() })
        }
        Step::Release(at) => Command::Release(vec![*claims().nth(at)?.0]),
        Step::Trim(to) => Command::Trim(Trim { topic, partition: P, to: Offset(to), acknowledged: false }),
        Step::Delete(at) => Command::Deleted(vec![*state.archive.garbage().keys().nth(at)?]),
    })
}

fn check(state: &ShardState, topic: TopicId) {
    let log = state.topic(topic).unwrap().partition(P).unwrap();
    assert_eq!(log.journal_bytes(), batch_bytes(log.runs()));
    assert_eq!(log.waiting_since_ms().is_some(), !log.runs().is_empty());
    assert!(log.runs().windows(2).all(|pair| pair[0].end() == pair[1].base), "I7");
    assert!(log.runs().last().is_none_or(|run| run.end() == log.high_watermark));
    let ends = log.files().iter().skip(1).map(|file| file.first).chain([log.archived_end()]);
    assert!(log.files().iter().zip(ends).all(|(file, next)| file.end <= next), "files overlap");
    // A file is one of these: referenced, claimed, garbage; each of them at most once.
    let referenced = log.files().iter().map(|file| file.id);
    let ids: Vec<_> = referenced.chain(state.archive.claims().keys().copied()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert!(ids.iter().all(|id| !state.archive.garbage().contains_key(id) && *id <= state.archive.last()));
    let parts: Vec<_> = state.archive.claims().values().map(|claimed| claimed.part).collect();
    let apart = |(at, one): (usize, &ClaimPart)| {
        parts[..at].iter().all(|other| one.end <= other.first || other.end <= one.first)
    };
    assert!(parts.iter().enumerate().all(apart), "claims overlap");
}

proptest! {
    #[test]
    fn no_message_is_lost_and_no_file_forgotten(steps in vec(step(), 1..60)) {
        let mut state = ShardState::default();
        let (name, settings) = (TopicName::new("t").unwrap(), TopicSettings::default());
        let created = apply(&mut state, 0, Command::CreateTopic { name, settings });
        let Ok(Outcome::TopicCreated(topic)) = created else { panic!("{created:?}") };
        apply(&mut state, 0, publish(topic, 3, true)).unwrap();
        for (now, step) in (1..).zip(&steps) {
            let Some(command) = command(&state, topic, step) else { continue };
            let before = state.clone();
            let log = |state: &ShardState| state.topic(topic).unwrap().partition(P).unwrap().clone();
            let files_before: BTreeSet<_> = log(&before).files().iter().map(|file| file.id).collect();
            let outcome = apply(&mut state, now, command);
            check(&state, topic);
            if outcome.is_err() {
                let unchanged = ShardState { applied: state.applied, time_ms: state.time_ms, ..before };
                prop_assert_eq!(&state, &unchanged);
                continue;
            }
            let (before, after) = (log(&before), log(&state));
            let gone = files_before.iter().filter(|id| after.files().iter().all(|file| file.id != **id));
            for id in gone {
                prop_assert!(state.archive.garbage().contains_key(id), "file {} is forgotten", id);
            }
            let rows = |log: &super::super::PartitionLog| log.rows_between(Offset(0), log.high_watermark);
            match step {
                Step::Replace(.., true) | Step::Publish(..) | Step::Trim(_) => {}
                _ => prop_assert_eq!(rows(&before), rows(&after), "messages are lost"),
            }
            let snapshot = decode_snapshot(&encode_snapshot(&state, WriteId(1))).unwrap();
            prop_assert_eq!(&snapshot, &state);
        }
    }
}

#[test]
fn messages_leave_the_journal_from_the_beginning() {
    let mut state = ShardState::default();
    let (name, settings) = (TopicName::new("t").unwrap(), TopicSettings::default());
    let Ok(Outcome::TopicCreated(topic)) = apply(&mut state, 0, Command::CreateTopic { name, settings }) else {
        panic!("not created");
    };
    for _ in 0..3 {
        apply(&mut state, 5, publish(topic, 4, false)).unwrap();
    }
    let part = |from: u64| ClaimPart { topic, partition: P, first: Offset(from), end: Offset(from + 4) };
    let claim = Claim { owner: Ballot::default(), parts: vec![part(0), part(4), part(8)] };
    let Ok(Outcome::Claimed(ids)) = apply(&mut state, 6, Command::Claim(claim)) else { panic!("not claimed") };
    let archived =
        |at: usize| Archived { id: ids[at], file: Some(file(ids[at], &part(at as u64 * 4), 4)), compacted: false };
    let mut replace = |parts: Vec<Archived>| apply(&mut state, 9, Command::Replace(Replace { parts }));
    replace(vec![archived(1)]).unwrap_err();
    replace(vec![archived(0), archived(2)]).unwrap_err();
    replace(vec![archived(1), archived(0)]).unwrap_err();
    replace(vec![archived(0), archived(1)]).unwrap();
    let log = state.topic(topic).unwrap().partition(P).unwrap();
    assert_eq!((log.archived_end(), log.waiting_since_ms(), log.journal_bytes()), (Offset(8), Some(9), 40));
    apply(&mut state, 9, Command::Replace(Replace { parts: vec![archived(2)] })).unwrap();
    assert_eq!(state.topic(topic).unwrap().partition(P).unwrap().waiting_since_ms(), None);
}
