//! Deleting what lies before truncation marks. What is dead is decided in [`crate::journal::Dead`].
//!
//! The first call of a reign lists all that a region has of the shard, since an earlier leader may have stopped in the
//! middle; from then on it is known what is there, and only marks and snapshots are listed, when something new is dead.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{StreamExt, future::join_all, stream};
use object_store::path::Path;
use tokio::time::timeout;

use super::{Shard, Shared, StartError, path::floors, snapshot::Basis, view::View};
use crate::{
    format::{HEAD_BYTES, Head},
    ids::Sequence,
    journal::{Dead, Place, Verdict},
    keys,
    store::{Component, Listed, StoreError},
};

/// Objects of a listing that are looked at together.
const PAGE: usize = 1_000;

/// A listing that does not go on for so long is given up.
const SILENCE: Duration = Duration::from_secs(60);

/// An object of a former reign that nobody knows is looked at only if it is larger: a Takeover stays for ever anyway, and
/// what is not much larger than one costs less to keep than to read.
const WORTH_A_LOOK: u64 = 4 * 1024;

/// How much is deleted at once.
#[derive(Clone, Copy, Debug)]
pub struct TruncateLimits {
    /// Objects deleted in one region by one call, about.
    pub objects: usize,
    /// Requests in flight to one region.
    pub concurrency: usize,
}

impl Default for TruncateLimits {
    fn default() -> Self {
        Self { objects: 50_000, concurrency: 16 }
    }
}

/// What a call of [`Shard::truncate`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truncated {
    /// Objects deleted, in all regions together.
    pub deleted: u64,
    /// Whether there is more to delete already: a limit was reached, or a region did not do as it was asked.
    pub more: bool,
}

/// What was deleted from a region in this reign.
#[derive(Debug, Default)]
pub(super) struct Truncation {
    /// The snapshot by whose mark it was judged last.
    by: Option<Sequence>,
    /// Whether all that was there has been listed and judged.
    swept: bool,
    /// Of the entries up to here everything is deleted, or waits to be, but these.
    end: Sequence,
    bodies: Arc<[Sequence]>,
    /// Found dead and not deleted yet.
    waiting: VecDeque<Path>,
}

impl Truncation {
    /// Nothing is left of the entries up to this one but these bodies.
    pub(super) fn clean(&self) -> Option<(Sequence, &[Sequence])> {
        (self.swept && self.waiting.is_empty()).then_some((self.end, &*self.bodies))
    }

    /// Objects of entries that were not dead by the last mark and are by this one.
    fn newly_dead(&self, shared: &Shared, dead: &Dead<'_>) -> Vec<Path> {
        let kept = self.bodies.iter().copied().filter(|sequence| *sequence <= self.end);
        let new = (self.end.0 + 1..=dead.end().0).map(Sequence);
        let places = kept.chain(new).filter(|sequence| dead.entry(*sequence)).filter_map(|sequence| {
            Some(match dead.place(sequence)? {
                Place::Journal(slot) => keys::journal(shared.id, slot),
                Place::Copy => keys::copy(shared.id, sequence),
            })
        });
        places.collect()
    }
}

impl Shard {
    /// Deletes what nobody needs any more of the journal, in each region that has joined this reign, behind the region's
    /// newest truncation mark. Sends no request when nothing new is dead since the last call; a snapshot makes more so.
    ///
    /// # Errors
    /// When a later leader has written a mark, which means that this node is deposed.
    pub async fn truncate(&self, limits: &TruncateLimits) -> Result<Truncated, StartError> {
        let shared = &self.shared;
        let _one_at_a_time = shared.truncating.lock().await;
        let mut total = Truncated::default();
        let Some(basis) = shared.basis.lock().clone() else { return Ok(total) };
        let views = shared.views_all();
        let views = views.iter().filter(|view| !shared.health.is_failing(view.record.number));
        let done = join_all(views.map(|view| truncate(shared, view, &basis, limits)));
        for result in done.await {
            match result {
                Ok(Truncated { deleted, more }) => {
                    total.deleted += deleted;
                    total.more |= more;
                }
                Err(error @ StartError::Contended(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "a region's journal is not truncated; it is tried again");
                    total.more = true;
                }
            }
        }
        Ok(total)
    }

    /// Entries whose objects could be deleted if a snapshot were written now, about.
    pub fn dead_entries(&self) -> u64 {
        let dead = |applied: Sequence, bodies: usize| applied.0.saturating_sub(bodies as u64);
        let now = {
            let state = self.shared.state.read();
            dead(state.applied, state.bodies_needed())
        };
        let before = self.shared.basis.lock().clone();
        now.saturating_sub(before.map_or(0, |basis| dead(basis.snapshot.sequence, basis.bodies.len())))
    }
}

async fn truncate(
    shared: &Shared,
    view: &View,
    basis: &Basis,
    limits: &TruncateLimits,
) -> Result<Truncated, StartError> {
    let by = Some(basis.snapshot.sequence);
    if view.truncation.lock().by != by {
        let Some((floor, older)) = floors(shared.id, &view.store).await? else { return Ok(Truncated::default()) };
        if floor.promised > shared.ballot {
            return Err(StartError::Contended(floor.promised));
        }
        view.set_truncated(floor.truncated);
        if floor.snapshot != basis.snapshot {
            // It was slow, or behind. The next snapshot may reach it.
            view.truncation.lock().by = by;
            return Ok(Truncated::default());
        }
        let dead = Dead::new(&floor, &basis.bodies);
        if !view.truncation.lock().swept {
            let swept = sweep(shared, view, &dead, limits).await?;
            if swept.more {
                return Ok(swept);
            }
            let (swept_to, bodies) = (dead.end(), basis.bodies.clone());
            *view.truncation.lock() = Truncation { by, swept: true, end: swept_to, bodies, waiting: VecDeque::new() };
            return Ok(swept);
        }
        let snapshots = view.store.list(Component::Snapshot, &keys::snapshots(shared.id)).await?;
        let snapshots = snapshots.into_iter().filter(|key| is_dead_snapshot(shared, &dead, key));
        let marks = older.into_iter().filter(|k| dead.mark(*k)).map(|k| keys::floor(shared.id, k));
        let mut known = view.truncation.lock();
        let entries = known.newly_dead(shared, &dead);
        known.waiting.extend(entries.into_iter().chain(snapshots).chain(marks));
        (known.by, known.end, known.bodies) = (by, dead.end().max(known.end), basis.bodies.clone());
    }
    delete_waiting(view, limits).await
}

/// Deletes what was found dead before.
async fn delete_waiting(view: &View, limits: &TruncateLimits) -> Result<Truncated, StartError> {
    // They wait until they are gone, also when whoever called does not.
    let first: Vec<_> = view.truncation.lock().waiting.iter().take(limits.objects).cloned().collect();
    let count = first.len();
    let (deleted, failed, problem) = delete_all(view, first, limits).await;
    let mut known = view.truncation.lock();
    known.waiting.drain(..count);
    known.waiting.extend(failed);
    let more = !known.waiting.is_empty();
    drop(known);
    match problem {
        Some(error) if deleted == 0 => Err(error.into()),
        _ => Ok(Truncated { deleted, more }),
    }
}

/// Judges everything that the region has of the shard.
async fn sweep(
    shared: &Shared,
    view: &View,
    dead: &Dead<'_>,
    limits: &TruncateLimits,
) -> Result<Truncated, StartError> {
    let listing = view.store.list_objects(Component::Journal, &keys::journal_of(shared.id));
    let mut pages = listing.chunks(PAGE);
    let mut deleted = 0;
    loop {
        let Ok(page) = timeout(SILENCE, pages.next()).await else {
            tracing::warn!(region = %view.record.name, "a listing of the journal does not go on");
            return Ok(Truncated { deleted, more: true });
        };
        let Some(page) = page else { return Ok(Truncated { deleted, more: false }) };
        let page: Vec<Listed> = page.into_iter().collect::<Result<_, _>>()?;
        let judged =
            stream::iter(page).map(|object| judge(shared, view, dead, object)).buffer_unordered(limits.concurrency);
        let judged: Vec<Result<Option<Path>, StoreError>> = judged.collect().await;
        let keys = judged.into_iter().filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
        let (some, _, problem) = delete_all(view, keys, limits).await;
        deleted += some;
        if let Some(error) = problem {
            return Err(error.into());
        }
        if deleted >= limits.objects as u64 {
            return Ok(Truncated { deleted, more: true });
        }
    }
}

/// The key of an object if it is dead.
async fn judge(shared: &Shared, view: &View, dead: &Dead<'_>, object: Listed) -> Result<Option<Path>, StoreError> {
    let (shard, Listed { key, bytes }) = (shared.id, object);
    let verdict = match keys::parse_journal(shard, &key) {
        Some(slot) => dead.journal(slot),
        None => {
            let copy = keys::parse_copy(shard, &key).is_some_and(|sequence| dead.entry(sequence));
            let mark = keys::parse_floor(shard, &key).is_some_and(|k| dead.mark(k));
            let other = copy || mark || is_dead_snapshot(shared, dead, &key);
            if other { Verdict::Delete } else { Verdict::Keep }
        }
    };
    let delete = match verdict {
        Verdict::Look if bytes > WORTH_A_LOOK => {
            let head = view.store.get_range(Component::Journal, &key, 0..HEAD_BYTES as u64).await?;
            let head = head.and_then(|head| Head::decode(&head).ok());
            head.is_some_and(|head| dead.of_head(head.kind, head.sequence))
        }
        verdict => verdict == Verdict::Delete,
    };
    Ok(delete.then_some(key))
}

fn is_dead_snapshot(shared: &Shared, dead: &Dead<'_>, key: &Path) -> bool {
    keys::parse_snapshot(shared.id, key).is_some_and(|sequence| dead.snapshot(sequence))
}

/// Deletes objects: how many are gone, those that may be left, and what was wrong with the last of them.
async fn delete_all(view: &View, keys: Vec<Path>, limits: &TruncateLimits) -> (u64, Vec<Path>, Option<StoreError>) {
    let deletions = stream::iter(keys).map(async |key| {
        let result = view.store.delete(Component::Journal, &key).await;
        (key, result)
    });
    let mut deletions = std::pin::pin!(deletions.buffer_unordered(limits.concurrency));
    let (mut deleted, mut failed, mut problem) = (0, Vec::new(), None);
    while let Some((key, result)) = deletions.next().await {
        match result {
            Ok(()) => deleted += 1,
            Err(error) => {
                failed.push(key);
                problem = Some(error);
            }
        }
    }
    (deleted, failed, problem)
}
