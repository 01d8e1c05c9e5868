//! Journal objects of the model: real records, made through the stored format, known by a digest of their bytes.

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

use brigade_index::{
    command::Command,
    format::{Head, Install, Kind, Leader, Record, Section, SnapshotRef, Value},
    ids::{Ballot, Sequence, WriteId},
    keys::Slot,
    region::{Mark, RegionSet},
};
use bytes::Bytes;

/// Content of an entry: the number of the attempt whose leader sealed it. With its sequence it is unique (I4).
pub type Content = u8;

/// Contents above this are those of a leader that wrote something else at a key already used (a mutation).
pub const ALTERED: Content = 8;

/// A journal object. Two are equal when their bytes are.
#[derive(Clone)]
pub struct Object(Arc<Known>);

struct Known {
    record: Record,
    digest: u64,
}

impl Deref for Object {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.0.record
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for Object {}

impl Hash for Object {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.0.digest);
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.brief())
    }
}

impl Object {
    /// What it is, in a word.
    pub fn brief(&self) -> String {
        let Head { kind, ballot, sequence, committed, .. } = self.head;
        match &self.section {
            Section::Commit(value) => {
                let voters = value
                    .voters()
                    .map(|voters| format!(" voters {:?}", voters.iter().map(|r| r.0).collect::<Vec<_>>()));
                format!("Commit(n{sequence}:{} c{committed}{})", value.time_ms, voters.unwrap_or_default())
            }
            Section::Install(_) => format!("Install(n{sequence})"),
            Section::Takeover(_) => format!("{kind:?}(b{})", ballot.nonce),
        }
    }
}

/// An entry's content and the regions that it sets as voters, if any.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its content.
    pub content: Content,
    /// The voters behind it, if it changes them.
    pub voters: Option<RegionSet>,
}

thread_local! {
    /// Objects made before: encoding and decoding is the costliest part of a step.
    static MADE: RefCell<HashMap<Bytes, Object>> = RefCell::default();
}

fn object(bytes: Vec<u8>) -> Object {
    let bytes = Bytes::from(bytes);
    MADE.with_borrow_mut(|made| {
        if let Some(object) = made.get(&bytes) {
            return object.clone();
        }
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let record = Record::decode(&bytes).expect("what the model encodes is well formed");
        let object = Object(Arc::new(Known { record, digest: hasher.finish() }));
        made.insert(bytes, object.clone());
        object
    })
}

/// Identity of a write: what an attempt does at one index of its directory. It does not name the region, since
/// identities are only compared within one.
fn id(ballot: Ballot, index: u64) -> WriteId {
    WriteId(u128::from(ballot.nonce) << 64 | u128::from(index) << 8 | 1)
}

/// Identity of an attempt's Takeover.
pub fn takeover_id(nonce: u64) -> WriteId {
    WriteId(u128::from(nonce) << 64)
}

fn head(kind: Kind, slot: Slot, parent: Slot, sequence: Sequence, committed: Sequence) -> Head {
    let (id, ballot) = (id(slot.ballot, slot.index), slot.ballot);
    Head { kind, id, ballot, parent, sequence, committed, section_len: 0, section_crc: 0, body_len: 0 }
}

/// A Commit for `slot`.
pub fn commit(
    slot: Slot,
    parent: Slot,
    sequence: Sequence,
    committed: Sequence,
    entry: &Entry,
    marks: Vec<Mark>,
) -> Object {
    let commands = entry.voters.iter().cloned().map(Command::SetVoters).collect();
    let value = Value { time_ms: entry.content.into(), commands, marks };
    object(head(Kind::Commit, slot, parent, sequence, committed).encode(&value.encode()))
}

/// An Install of a snapshot.
pub fn install(slot: Slot, parent: Slot, snapshot: SnapshotRef, voters: RegionSet) -> Object {
    let sequence = snapshot.sequence;
    object(head(Kind::Install, slot, parent, sequence, sequence).encode(&Install { snapshot, voters }.encode()))
}

/// A Takeover.
pub fn takeover(ballot: Ballot, parent: Slot) -> Object {
    object(Leader::default().takeover(ballot, parent, takeover_id(ballot.nonce)).to_vec())
}

/// The content of an entry, from its stored section.
pub fn content(section: &Bytes) -> Content {
    Value::decode(section).map_or(0, |value| value.time_ms as Content)
}

/// A snapshot of entries with these contents. Its identity is its contents, four bits each, so that equal states have
/// equal snapshots, and one can be opened from its reference.
pub fn snapshot(contents: &[Content]) -> SnapshotRef {
    let id = contents.iter().rev().fold(0, |id, content| id << 4 | u128::from(*content));
    SnapshotRef { id: WriteId(id), sequence: Sequence(contents.len() as u64) }
}

/// Content of entry `sequence` in a snapshot that covers it.
pub fn in_snapshot(snapshot: &SnapshotRef, sequence: Sequence) -> Content {
    (snapshot.id.0 >> (4 * (sequence.0 - 1)) & 15) as Content
}
