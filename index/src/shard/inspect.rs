//! Reading what one region says, without leading and without writing anything: for scrubbing and restoring.
//!
//! A live cluster may write to the region meanwhile. What was read is true of some moment; when objects vanish below the
//! path because it was cut, it is read again from the newest floor.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Included},
};

use bytes::Bytes;

use super::{
    StartError,
    content::check_body,
    path::{PathReader, newest_floor},
};
use crate::{
    format::{Floor, FrameError, Kind, Record, RegionIdentity, Section, SnapshotRef, Value, decode_snapshot},
    ids::{Ballot, RegionNo, Sequence, ShardId},
    journal::{Dead, Extents, Fold, FoldError, Place},
    keys::{self, Key, Slot},
    names::RegionName,
    region::RegionRecord,
    state::{Regions, ShardState},
    store::{Component, RegionStore, StoreError},
};

/// Readings of a path that changes meanwhile, before it is given up.
const ATTEMPTS: usize = 8;

/// Objects of one directory that are on the path: `first` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The reign.
    pub ballot: Ballot,
    /// First index.
    pub first: u64,
    /// The index after the last.
    pub end: u64,
    /// Whether the last one is the Takeover that ends the reign, so that nothing behind it will ever be on the path.
    pub closed: bool,
}

/// An object that should be there, and be whole, and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its key.
    pub key: Key,
    /// Whether there is no object at all.
    pub missing: bool,
    /// What is wrong.
    pub problem: String,
}

/// What one region says.
#[derive(Clone, Debug)]
pub struct RegionContent {
    /// Its identity; `None` when there is none.
    pub identity: Option<RegionIdentity>,
    /// Its newest floor.
    pub floor: Option<Floor>,
    /// Where its path went from the floor on.
    pub stretches: Vec<Stretch>,
    /// What its path says.
    pub fold: Fold,
    /// Snapshots that its path names: the floor's, and those put in place of entries.
    pub snapshots: BTreeSet<(Sequence, u128)>,
    /// What is wrong with objects that recovery needs. The path is known only up to the first of them.
    pub damage: Vec<Damage>,
    /// Entries whose bodies the snapshot of its newest floor refers to, ascending; `None` when that is not known.
    bodies: Option<Vec<Sequence>>,
    /// The state of the snapshot that its path starts from, or that of a new cluster; `None` when it cannot be read.
    base: Option<ShardState>,
}

/// Why a region could not be read at all.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InspectError {
    /// Its store gave no good answer.
    #[error("{0} ({hint})", hint = .0.hint())]
    Store(#[from] StoreError),
    /// Its identity object is damaged.
    #[error("the identity of region {region} is damaged: {problem}")]
    Identity {
        /// Name that the region was given.
        region: RegionName,
        /// What is wrong.
        problem: FrameError,
    },
    /// Its path changed at every attempt.
    #[error("the path of region {0} is cut again and again while it is read; try again")]
    Moving(RegionName),
}

/// Reads the path of a region from its newest floor to its end, and its snapshot.
///
/// # Errors
/// When the store does not answer, or the region changes too fast. What is missing or damaged is no error but part of
/// what is given.
pub async fn inspect(store: &RegionStore, shard: ShardId) -> Result<RegionContent, InspectError> {
    let mut before = None;
    for _ in 0..ATTEMPTS {
        let identity = read_identity(store).await?;
        let content = read(store, shard, identity).await?;
        let floor = content.floor.as_ref().map(|floor| floor.k);
        // What is missing may have been cut off meanwhile: then there is a newer floor.
        let moved = newest(store, shard).await? != floor;
        if !moved && (content.damage.is_empty() || before == Some(content.damage.clone())) {
            return Ok(content);
        }
        before = (!moved).then(|| content.damage.clone());
    }
    Err(InspectError::Moving(store.region().clone()))
}

/// Number of the newest floor.
async fn newest(store: &RegionStore, shard: ShardId) -> Result<Option<u64>, StoreError> {
    let keys = store.list(Component::Repair, &keys::floors(shard)).await?;
    Ok(keys.iter().filter_map(|key| keys::parse_floor(shard, key)).max())
}

async fn read_identity(store: &RegionStore) -> Result<Option<RegionIdentity>, InspectError> {
    let Some(bytes) = store.get(Component::Repair, &keys::identity()).await? else { return Ok(None) };
    let decoded = RegionIdentity::decode(&bytes);
    decoded.map(Some).map_err(|problem| InspectError::Identity { region: store.region().clone(), problem })
}

async fn read(
    store: &RegionStore,
    shard: ShardId,
    identity: Option<RegionIdentity>,
) -> Result<RegionContent, InspectError> {
    let mut content = RegionContent {
        identity,
        floor: None,
        stretches: Vec::new(),
        fold: Fold::default(),
        snapshots: BTreeSet::new(),
        damage: Vec::new(),
        bodies: None,
        base: None,
    };
    match newest_floor(shard, store).await {
        Ok(floor) => content.floor = floor,
        Err(error) => {
            // Nothing can be told without it, not even where the path begins.
            let k = newest(store, shard).await?.unwrap_or_default();
            content.damage.push(damage_of(keys::floor(shard, k), error)?);
            return Ok(content);
        }
    }
    content.fold = Fold::start(content.floor.as_ref());
    content.name_snapshot(content.fold.snapshot.clone());
    walk(store, shard, &mut content).await?;
    content.base = match content.fold.snapshot.clone() {
        None => Some(ShardState::founded(content.founding())),
        Some(snapshot) => read_snapshot(store, shard, &snapshot, &mut content).await?,
    };
    // Another snapshot may have been put in its place behind the floor.
    let of_floor = content.floor.as_ref().is_some_and(|floor| Some(&floor.snapshot) == content.fold.snapshot.as_ref());
    content.bodies = content.base.as_ref().filter(|_| of_floor).map(|state| {
        let bodies: BTreeSet<_> = state.bodies().collect();
        bodies.into_iter().collect()
    });
    Ok(content)
}

/// Folds the path to its end, or to the first object that is damaged.
async fn walk(store: &RegionStore, shard: ShardId, content: &mut RegionContent) -> Result<(), InspectError> {
    let mut reader = PathReader::new(shard, store.clone());
    loop {
        let slot = content.fold.at;
        let key = keys::journal(shard, slot);
        let record = match reader.read(slot).await {
            Ok(Some(record)) => record,
            Ok(None) => {
                content.pass(slot, slot.index, false);
                return Ok(());
            }
            Err(error) => {
                content.pass(slot, slot.index, false);
                content.damage.push(damage_of(key, error)?);
                return Ok(());
            }
        };
        if let Section::Install(install) = &record.section {
            content.name_snapshot(Some(install.snapshot.clone()));
        }
        if let Err(error) = content.fold.accept(&record) {
            content.pass(slot, slot.index, false);
            content.damage.push(off_path(key, &error));
            return Ok(());
        }
        content.pass(slot, slot.index + 1, record.head.kind == Kind::Takeover);
    }
}

fn damage_of(key: Key, error: StartError) -> Result<Damage, InspectError> {
    match error {
        StartError::Store(error) => Err(error.into()),
        StartError::Damaged { problem, .. } => Ok(Damage { key, missing: false, problem }),
        error => Ok(Damage { key, missing: false, problem: error.to_string() }),
    }
}

fn off_path(key: Key, error: &FoldError) -> Damage {
    Damage { key, missing: false, problem: format!("it cannot be on the path: {error}") }
}

async fn read_snapshot(
    store: &RegionStore,
    shard: ShardId,
    snapshot: &SnapshotRef,
    content: &mut RegionContent,
) -> Result<Option<ShardState>, InspectError> {
    let key = keys::snapshot(shard, snapshot.sequence, snapshot.id);
    let Some(bytes) = store.get(Component::Repair, &key).await? else {
        content.damage.push(Damage { key, missing: true, problem: "it does not exist".to_owned() });
        return Ok(None);
    };
    match check_snapshot(&bytes, snapshot) {
        Ok(state) => Ok(Some(content.with_regions(state))),
        Err(error) => {
            content.damage.push(Damage { key, missing: false, problem: error.to_string() });
            Ok(None)
        }
    }
}

/// Decodes a snapshot, which must be the one that is meant.
///
/// # Errors
/// When it is another one, or damaged.
pub fn check_snapshot(bytes: &[u8], snapshot: &SnapshotRef) -> Result<ShardState, FrameError> {
    let head = crate::format::Head::decode(bytes)?;
    if (head.id, head.sequence) != (snapshot.id, snapshot.sequence) {
        return Err(FrameError::Malformed("identity of a snapshot"));
    }
    if bytes.len() as u64 != head.object_len() {
        return Err(FrameError::Malformed("length of a snapshot"));
    }
    decode_snapshot(bytes)
}

/// Decodes the object of entry `sequence` and checks the batches in its body; gives the body, too.
///
/// # Errors
/// When it is no such object, or damaged.
pub fn check_entry(bytes: &Bytes, sequence: Sequence) -> Result<(Record, Value, Bytes), FrameError> {
    let record = Record::decode(bytes)?;
    let Section::Commit(value) = &record.section else { return Err(FrameError::Malformed("kind of an entry")) };
    if record.head.sequence != sequence {
        return Err(FrameError::Malformed("sequence of an entry"));
    }
    if record.head.object_len() != bytes.len() as u64 {
        let want = usize::try_from(record.head.object_len()).unwrap_or(usize::MAX);
        return Err(FrameError::Truncated { have: bytes.len(), want });
    }
    let body = bytes.slice(usize::try_from(record.head.body_at()).unwrap_or(usize::MAX).min(bytes.len())..);
    check_body(value, &body, record.head.body_len)?;
    let value = value.clone();
    Ok((record, value, body))
}

/// Whether these bytes are the body of the entry that `value` tells of.
///
/// # Errors
/// When they are not, or are damaged.
pub fn check_entry_body(value: &Value, body: &[u8]) -> Result<(), FrameError> {
    check_body(value, body, body.len() as u64)
}

impl RegionContent {
    fn name_snapshot(&mut self, snapshot: Option<SnapshotRef>) {
        self.snapshots.extend(snapshot.map(|snapshot| (snapshot.sequence, snapshot.id.0)));
    }

    /// The path has come to index `end` of this directory.
    fn pass(&mut self, slot: Slot, end: u64, closed: bool) {
        match self.stretches.last_mut().filter(|last| last.ballot == slot.ballot && !last.closed) {
            Some(last) => (last.end, last.closed) = (end, closed),
            None => self.stretches.push(Stretch { ballot: slot.ballot, first: slot.index, end, closed }),
        }
    }

    /// The regions that the cluster was founded with, by the identity of this one.
    pub fn founding(&self) -> Regions {
        let Some(identity) = &self.identity else { return Regions::default() };
        let listed = if identity.founders.is_empty() { &identity.voters } else { &identity.founders };
        let records = listed.iter().filter_map(|voter| {
            let (number, region_id) = (RegionNo(voter.number), voter.region_id.clone());
            Some(RegionRecord { number, name: RegionName::new(&voter.region).ok()?, url: voter.url.clone(), region_id })
        });
        let mut records: Vec<_> = records.collect();
        if records.is_empty() {
            // From before regions were counted: it voted alone.
            records.extend(RegionName::new(&identity.region).ok().map(|name| RegionRecord {
                number: RegionNo(identity.number),
                name,
                url: String::new(),
                region_id: identity.region_id.clone(),
            }));
        }
        Regions::founded(records)
    }

    fn with_regions(&self, mut state: ShardState) -> ShardState {
        if state.regions.voters().is_none() {
            // A snapshot from before regions were counted.
            state.regions = self.founding();
        }
        state
    }

    /// Takes a snapshot that this region should have from elsewhere.
    pub fn set_base(&mut self, state: ShardState) {
        self.base = Some(self.with_regions(state));
    }

    /// Whether the state can be told.
    pub fn has_state(&self) -> bool {
        self.base.is_some()
    }

    /// What may be deleted behind its newest floor; `None` when it has none, or that cannot be told.
    pub fn dead(&self) -> Option<Dead<'_>> {
        Some(Dead::new(self.floor.as_ref()?, self.bodies.as_ref()?))
    }

    /// The last entry that the region has accepted.
    pub fn accepted(&self) -> Sequence {
        self.fold.log.last_key_value().map_or(self.fold.base(), |(last, _)| *last)
    }

    /// Where the region's entries are.
    pub fn extents(&self) -> &Extents {
        &self.fold.extents
    }

    /// Key of the object that holds an entry, if the region has accepted it.
    pub fn key_of(&self, shard: ShardId, sequence: Sequence) -> Option<Key> {
        if sequence > self.accepted() {
            return None;
        }
        Some(match self.fold.extents.find(sequence)? {
            Place::Journal(slot) => keys::journal(shard, slot),
            Place::Copy => keys::copy(shard, sequence),
        })
    }

    /// The state after entry `sequence` by what this region has; `None` when it has not so many, or only a later snapshot.
    pub fn state_at(&self, sequence: Sequence) -> Option<ShardState> {
        let base = self.base.as_ref().filter(|base| base.applied <= sequence && sequence <= self.accepted())?;
        let mut state = base.clone();
        for (at, accepted) in self.fold.log.range((Excluded(state.applied), Included(sequence))) {
            // It was decoded before.
            let value = Value::decode(&accepted.section).ok()?;
            state.apply(&value, *at, accepted.body_at);
        }
        Some(state)
    }
}
