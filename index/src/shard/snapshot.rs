//! Snapshots and truncation marks, which keep recovery short.

use super::{Shard, StartError, path::newest_floor};
use crate::{
    format::{Floor, SnapshotRef, encode_snapshot},
    ids::{Sequence, WriteId},
    keys::{self, Slot},
    store::{Component, Created},
};

/// What the newest truncation mark says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Last entry that the newest snapshot covers.
    pub(super) sequence: Sequence,
    /// Its size in bytes; zero when this reign has not written one.
    pub(super) bytes: u64,
    /// Number of the newest floor.
    pub(super) floor: u64,
}

impl Shard {
    /// Writes a snapshot of the committed state and, once it is durable, the truncation mark that lets recovery begin
    /// there. Gives the sequence it covers. Objects before the mark stay where they are: they hold the batches.
    ///
    /// # Errors
    /// When the store did not take it, or a later leader has written a mark, which means that this node is deposed.
    pub async fn snapshot(&self) -> Result<Sequence, StartError> {
        let shared = &self.shared;
        let _one_at_a_time = shared.snapshotting.lock().await;
        let progress = *shared.snapshot.lock();
        let id = WriteId(shared.env.entropy.next_u128());
        let (bytes, sequence) = {
            let state = shared.state.read();
            if state.applied <= progress.sequence {
                return Ok(progress.sequence);
            }
            (encode_snapshot(&state, id), state.applied)
        };
        let size = bytes.len() as u64;
        let key = keys::snapshot(shared.id, sequence, id);
        shared.store.create(Component::Snapshot, &key, bytes.into(), id).await?;
        let floor = self.floor_at(progress.floor + 1, SnapshotRef { id, sequence });
        let (key, id) = (keys::floor(shared.id, floor.k), WriteId(shared.env.entropy.next_u128()));
        match shared.store.create(Component::Snapshot, &key, floor.encode(id).into(), id).await? {
            Created::Landed => {
                *shared.snapshot.lock() = Progress { sequence, bytes: size, floor: floor.k };
                tracing::debug!(%sequence, bytes = size, "snapshot written");
                Ok(sequence)
            }
            Created::Occupied => self.learn_floor().await,
        }
    }

    /// The next mark is there already: this node's own, whose answer was lost, or one that a former leader wrote with its
    /// last breath, which is as good for everything before this reign. Or this node is deposed.
    async fn learn_floor(&self) -> Result<Sequence, StartError> {
        let shared = &self.shared;
        let newest = newest_floor(shared.id, &shared.store).await?;
        let newest = newest.ok_or_else(|| StartError::missing(&keys::floors(shared.id)))?;
        if newest.promised > shared.ballot {
            return Err(StartError::Contended(newest.promised));
        }
        let mut progress = shared.snapshot.lock();
        progress.floor = newest.k;
        progress.sequence = progress.sequence.max(newest.snapshot.sequence);
        Ok(progress.sequence)
    }

    /// The mark that says: all up to the snapshot is in it, the path goes on behind its last entry in this reign.
    fn floor_at(&self, k: u64, snapshot: SnapshotRef) -> Floor {
        let shared = &self.shared;
        let extents = shared.extents.read();
        let index = extents.last().and_then(|extent| (snapshot.sequence.0 + 1).checked_sub(extent.origin));
        let index = index.expect("this reign has applied everything before its own first entry");
        Floor {
            k,
            slot: Slot { ballot: shared.ballot, index },
            parent: shared.parent,
            promised: shared.ballot,
            snapshot,
            extents: extents.iter().collect(),
            voters: None,
            marks: Vec::new(),
        }
    }
}
