//! Contents of entries: in the leader's memory while they are young, in the regions ever after.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{Shared, StartError, path::newest_floor, view::View};
use crate::{
    command::Command,
    format::{FrameError, Record, Section, Value, checksum},
    ids::{Sequence, ShardId},
    journal::Accepted,
    keys,
    store::{Component, RegionStore},
};

/// An entry's content, the same in all regions.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) sequence: Sequence,
    pub(super) section: Bytes,
    pub(super) body: Vec<Bytes>,
}

impl Entry {
    pub(super) fn bytes(&self) -> u64 {
        self.section.len() as u64 + self.body_len()
    }

    pub(super) fn body_len(&self) -> u64 {
        self.body.iter().map(|chunk| chunk.len() as u64).sum()
    }
}

/// Bytes of young entries that are kept for regions which are a little slower than the others. A region further behind
/// is sent what another one holds.
const TAIL_BYTES: u64 = 32 * 1024 * 1024;

/// Most young entries that are kept.
const TAIL_ENTRIES: usize = if cfg!(test) { 64 } else { 4_096 };

/// Young entries, by sequence without gaps.
#[derive(Default)]
pub(super) struct Tail {
    entries: VecDeque<Arc<Entry>>,
    bytes: u64,
}

impl Tail {
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.push_back(Arc::new(entry));
    }

    /// Forgets entries that all regions have, or that are committed and too many.
    pub(super) fn trim(&mut self, everywhere: Sequence, committed: Sequence) {
        while let Some(oldest) = self.entries.front() {
            let much = self.bytes > TAIL_BYTES || self.entries.len() > TAIL_ENTRIES;
            if oldest.sequence > everywhere && !(much && oldest.sequence <= committed) {
                break;
            }
            self.bytes -= oldest.bytes();
            self.entries.pop_front();
        }
    }

    pub(super) fn get(&self, sequence: Sequence) -> Option<Arc<Entry>> {
        let first = self.entries.front()?.sequence;
        self.entries.get(usize::try_from(sequence.0.checked_sub(first.0)?).ok()?).cloned()
    }
}

/// The content of an entry that a promise holds, to be appended again under another ballot.
pub(super) async fn content_of(
    shard: ShardId,
    store: &RegionStore,
    sequence: Sequence,
    accepted: &Accepted,
) -> Result<(Value, Entry), StartError> {
    let key = keys::journal(shard, accepted.slot);
    let damaged = |error: &FrameError| StartError::damaged(store.region(), &key, error);
    let value = Value::decode(&accepted.section).map_err(|error| damaged(&error))?;
    let mut body = Vec::new();
    if accepted.body_len > 0 {
        let range = accepted.body_at..accepted.body_at + accepted.body_len;
        let bytes = store.get_range(Component::Journal, &key, range).await?;
        let bytes = bytes.ok_or_else(|| StartError::missing(store.region(), &key))?;
        check_body(&value, &bytes, accepted.body_len).map_err(|error| damaged(&error))?;
        body.push(bytes);
    }
    Ok((value, Entry { sequence, section: accepted.section.clone(), body }))
}

/// Reads an old entry from whichever region has it.
///
/// # Errors
/// What the last region said.
pub(super) async fn old_entry(shared: &Shared, sequence: Sequence) -> Result<Entry, String> {
    let mut problem = format!("no region is known to hold entry {sequence}");
    for view in shared.views_holding(sequence) {
        let Some(key) = view.key_of(shared.id, sequence) else { continue };
        match view.store.get(Component::Repair, &key).await {
            Ok(Some(bytes)) => match entry_from(&bytes, sequence) {
                Ok(entry) => return Ok(entry),
                Err(error) => problem = format!("object {key} of region {} is damaged: {error}", view.store.region()),
            },
            Ok(None) => problem = format!("object {key} of region {} does not exist", view.store.region()),
            Err(error) => problem = error.to_string(),
        }
    }
    Err(problem)
}

impl Shared {
    /// Whether an entry that could not be read is in no region but `but` any more. A former leader may have written a mark
    /// that this one has not seen yet.
    pub(super) async fn is_truncated(&self, but: &View, sequence: Sequence) -> bool {
        let mut others = self.views_holding(sequence);
        others.retain(|other| other.record.number != but.record.number);
        if others.is_empty() {
            // Those that have it may be about to join.
            return false;
        }
        for other in &others {
            if other.replays_from() < sequence
                && let Ok(Some(floor)) = newest_floor(self.id, &other.store).await
            {
                other.set_truncated(floor.truncated);
            }
            if other.replays_from() < sequence {
                return false;
            }
        }
        true
    }
}

fn entry_from(bytes: &Bytes, sequence: Sequence) -> Result<Entry, FrameError> {
    let record = Record::decode(bytes)?;
    let Section::Commit(value) = &record.section else { return Err(FrameError::Malformed("kind of an entry")) };
    if record.head.sequence != sequence {
        return Err(FrameError::Malformed("sequence of an entry"));
    }
    let at = usize::try_from(record.head.body_at()).unwrap_or(usize::MAX);
    let body = if at <= bytes.len() { bytes.slice(at..) } else { Bytes::new() };
    check_body(value, &body, record.head.body_len)?;
    let body = if body.is_empty() { Vec::new() } else { vec![body] };
    Ok(Entry { sequence, section: record.raw, body })
}

/// A copy will be what is referenced, so that damage on the way would stay for ever.
pub(super) fn check_body(value: &Value, body: &[u8], expected: u64) -> Result<(), FrameError> {
    if body.len() as u64 != expected {
        return Err(FrameError::Truncated { have: body.len(), want: usize::try_from(expected).unwrap_or(usize::MAX) });
    }
    let whole = value.commands.iter().all(|command| {
        let publishes = match command {
            Command::Publish(publish) => std::slice::from_ref(publish),
            Command::Transact(transact) => &transact.publishes,
            _ => &[],
        };
        publishes.iter().flat_map(|publish| &publish.batches).all(|batch| {
            let at = usize::try_from(batch.at).unwrap_or(usize::MAX);
            let bytes = body.get(at..at.saturating_add(batch.len as usize));
            bytes.is_some_and(|bytes| checksum(bytes) == batch.crc)
        })
    });
    if whole { Ok(()) } else { Err(FrameError::Checksum("batch")) }
}
