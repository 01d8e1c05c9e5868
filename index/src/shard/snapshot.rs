//! Snapshots and truncation marks, which keep recovery short.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::future::join_all;
use tokio::{sync::oneshot, time::timeout};

use super::{Shard, Shared, StartError, leader::Message, path::newest_floor, view::View, whole::missing};
use crate::{
    format::{Floor, SnapshotRef, encode_snapshot},
    ids::{RegionNo, Sequence, WriteId},
    keys::{self, Slot},
    region::{Mark, RegionSet},
    state::ShardState,
    store::{Component, Created},
};

/// What is known of snapshots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Last entry that the newest snapshot covers.
    pub(super) sequence: Sequence,
    /// Its size in bytes; zero when this reign has not written one.
    pub(super) bytes: u64,
}

/// The newest snapshot that this reign wrote, and what it stands on.
pub(super) struct Basis {
    pub(super) snapshot: SnapshotRef,
    /// Entries whose bodies it refers to, ascending.
    pub(super) bodies: Arc<[Sequence]>,
}

/// Where paths may be cut, and what regions are known to have.
pub(super) struct Cuts {
    pub(super) cuts: Vec<CutAt>,
    pub(super) marks: Vec<Mark>,
    /// No region that is about as far as the others needs an entry up to here from another.
    pub(super) needed_by_none: Sequence,
}

/// Where the path of one region may be cut.
pub(super) struct CutAt {
    pub(super) view: Arc<View>,
    pub(super) slot: Slot,
    pub(super) parent: Slot,
}

/// A region that has not taken a snapshot by then gets none this time.
const SLOW: Duration = Duration::from_secs(30);

impl Shard {
    /// Writes a snapshot of the committed state to every region and, once a quorum has it, the truncation marks that let
    /// recovery begin there. Gives the sequence it covers. Objects before a mark stay where they are, since many hold
    /// batches; [`Self::truncate`] deletes those that do not.
    ///
    /// # Errors
    /// When too few stores took it, or a later leader has written a mark, which means that this node is deposed.
    pub async fn snapshot(&self) -> Result<Sequence, StartError> {
        let shared = &self.shared;
        let _one_at_a_time = shared.snapshotting.lock().await;
        let progress = *shared.snapshot.lock();
        let id = WriteId(shared.env.entropy.next_u128());
        let (bytes, sequence, voters, bodies) = {
            let state = shared.state.read();
            if state.applied <= progress.sequence {
                return Ok(progress.sequence);
            }
            (encode_snapshot(&state, id), state.applied, state.regions.voters().cloned(), bodies(&state))
        };
        let snapshot = SnapshotRef { id, sequence };
        let size = bytes.len() as u64;
        let key = keys::snapshot(shared.id, sequence, id);
        let views = shared.views_all();
        let written = join_all(views.iter().filter(|view| !shared.health.is_failing(view.record.number)).map(|view| {
            let create = view.store.create(Component::Snapshot, &key, bytes.clone().into(), id);
            async move { (view.record.number, timeout(SLOW, create).await) }
        }));
        let (mut durable, mut last) = (BTreeSet::new(), None);
        for (region, created) in written.await {
            match created {
                Ok(Ok(_)) => _ = durable.insert(region),
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
        }
        let (answer, answered) = oneshot::channel();
        // A reign that is over answers nothing, and no mark is written.
        let _ = self.owner.send(Message::Cuts(sequence, durable.clone(), answer)).await;
        let Ok(Cuts { cuts, marks, needed_by_none }) = answered.await else {
            return Err(StartError::Contended(shared.ballot));
        };
        if cuts.is_empty() {
            return Err(last.map_or_else(|| not_durable(&durable, voters.as_ref()), StartError::Store));
        }
        *shared.basis.lock() = Some(Arc::new(Basis { snapshot: snapshot.clone(), bodies }));
        let marked = join_all(cuts.iter().map(async |cut| {
            if let Some(slot) = missing(shared, cut).await? {
                return Err(self.gone(cut, slot).await);
            }
            mark(shared, cut, &snapshot, voters.as_ref(), (&marks, needed_by_none)).await
        }));
        let marked = marked.await;
        let mut covered = progress.sequence;
        for result in marked {
            match result {
                Ok(sequence) => covered = covered.max(sequence),
                Err(error @ StartError::Contended(_)) => return Err(error),
                Err(error) => tracing::warn!(%error, "a truncation mark was not written"),
            }
        }
        let bytes = if covered == sequence { size } else { progress.bytes };
        *shared.snapshot.lock() = Progress { sequence: covered, bytes };
        tracing::debug!(%sequence, bytes = size, regions = durable.len(), "snapshot written");
        Ok(covered)
    }

    /// The region has lost what it had accepted; the owner task hears of it. Unless a later leader has cut the path behind it
    /// and deleted what lies before.
    async fn gone(&self, cut: &CutAt, slot: Slot) -> StartError {
        let record = &cut.view.record;
        match newest_floor(self.shared.id, &cut.view.store).await {
            Ok(newest) => {
                let promised = newest.map_or(self.shared.ballot, |newest| newest.promised);
                if promised > self.shared.ballot {
                    return StartError::Contended(promised);
                }
            }
            Err(error) => return error,
        }
        // A reign that is over does not write to it any more.
        let _ = self.owner.send(Message::Gone(record.number, slot)).await;
        StartError::missing(&record.name, &keys::journal(self.shared.id, slot))
    }
}

/// Entries whose bodies a state refers to, ascending.
pub(super) fn bodies(state: &ShardState) -> Arc<[Sequence]> {
    let mut bodies: Vec<_> = state.bodies().collect();
    bodies.sort_unstable();
    bodies.dedup();
    bodies.into()
}

fn not_durable(durable: &BTreeSet<RegionNo>, voters: Option<&RegionSet>) -> StartError {
    let (needed, of) = voters.map_or((1, 1), |voters| (voters.quorum(), voters.len()));
    tracing::debug!(regions = durable.len(), needed, "a snapshot did not reach a quorum, or regions are behind it");
    StartError::Quorum { needed, of, problems: Vec::new() }
}

/// Writes the mark of one region that says: all up to the snapshot is in it, the path goes on behind its last entry in
/// this reign. Gives the last entry that the region's newest mark covers.
async fn mark(
    shared: &Shared,
    cut: &CutAt,
    snapshot: &SnapshotRef,
    voters: Option<&RegionSet>,
    (marks, needed_by_none): (&[Mark], Sequence),
) -> Result<Sequence, StartError> {
    let view = &cut.view;
    let k = view.floor.load(Relaxed) + 1;
    // What may be gone by an earlier mark is no less gone by this one.
    let truncated = needed_by_none.max(view.truncated());
    let floor = Floor {
        k,
        slot: cut.slot,
        parent: cut.parent,
        promised: shared.ballot,
        snapshot: snapshot.clone(),
        extents: view.extents_alive().iter().collect(),
        voters: voters.cloned(),
        marks: marks.to_vec(),
        leader: Some(shared.leader.clone()),
        truncated,
    };
    let (key, id) = (keys::floor(shared.id, k), WriteId(shared.env.entropy.next_u128()));
    match view.store.create(Component::Snapshot, &key, floor.encode(id).into(), id).await? {
        Created::Landed => {
            view.floor.store(k, Relaxed);
            view.set_truncated(truncated);
            Ok(snapshot.sequence)
        }
        Created::Occupied => learn_floor(shared, view).await,
    }
}

/// The next mark is there already: this node's own, whose answer was lost, or one that a former leader wrote with its
/// last breath, which is as good for everything before this reign. Or this node is deposed.
async fn learn_floor(shared: &Shared, view: &View) -> Result<Sequence, StartError> {
    let newest = newest_floor(shared.id, &view.store).await?;
    let newest = newest.ok_or_else(|| StartError::missing(view.store.region(), &keys::floors(shared.id)))?;
    if newest.promised > shared.ballot {
        return Err(StartError::Contended(newest.promised));
    }
    view.floor.store(newest.k, Relaxed);
    view.set_truncated(newest.truncated);
    Ok(newest.snapshot.sequence)
}
