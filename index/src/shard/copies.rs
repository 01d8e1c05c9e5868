//! Bodies of entries for a region that was given a snapshot in place of entries.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::{StreamExt, stream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Shared, events::Event, view::View};
use crate::{format::Record, ids::Sequence, keys, store::Component};

/// Copies in flight.
const CONCURRENT: usize = 8;

/// Pause before what could not be copied is tried again.
const PAUSE: Duration = Duration::from_secs(2);

/// Copies what the region misses, until it misses nothing.
pub(super) async fn complete(shared: Arc<Shared>, view: Arc<View>, stop: CancellationToken) -> Event {
    stop.run_until_cancelled(async {
        loop {
            match missing(&shared, &view).await {
                Ok(missing) if missing.is_empty() => break,
                Ok(missing) => {
                    copy_all(&shared, &view, missing).await;
                    if view.copies_missing.load(Relaxed) > 0 {
                        sleep(PAUSE).await;
                    }
                }
                Err(problem) => {
                    tracing::warn!(problem, region = %view.record.name, "copies cannot be listed yet");
                    sleep(PAUSE).await;
                }
            }
        }
    })
    .await;
    Event::Nothing
}

/// Entries whose bodies are referenced and that the region should have as copies, whether it has or not.
pub(super) fn wanted(shared: &Shared, view: &View) -> BTreeSet<Sequence> {
    let ranges = view.extents.copies(view.accepted().next());
    if ranges.is_empty() {
        return BTreeSet::new();
    }
    let within = |sequence: &Sequence| ranges.iter().any(|(first, end)| first <= sequence && sequence < end);
    shared.state.read().bodies().filter(within).collect()
}

/// Entries whose bodies are referenced and that the region should have as copies but has not.
async fn missing(shared: &Shared, view: &View) -> Result<BTreeSet<Sequence>, String> {
    let mut missing = wanted(shared, view);
    if missing.is_empty() {
        view.copies_missing.store(0, Relaxed);
        return Ok(missing);
    }
    let there =
        view.store.list(Component::Repair, &keys::copies(shared.id)).await.map_err(|error| error.to_string())?;
    for sequence in there.iter().filter_map(|key| keys::parse_copy(shared.id, key)) {
        missing.remove(&sequence);
    }
    view.copies_missing.store(missing.len() as u64, Relaxed);
    Ok(missing)
}

async fn copy_all(shared: &Shared, view: &View, missing: BTreeSet<Sequence>) {
    let copies = stream::iter(missing).map(|sequence| copy(shared, view, sequence)).buffer_unordered(CONCURRENT);
    let mut copies = std::pin::pin!(copies);
    while let Some(copied) = copies.next().await {
        match copied {
            Ok(()) => _ = view.copies_missing.fetch_sub(1, Relaxed),
            Err(problem) => tracing::warn!(problem, region = %view.record.name, "an entry was not copied yet"),
        }
    }
}

/// Copies the object of one entry, whole, from any region that has it.
async fn copy(shared: &Shared, view: &View, sequence: Sequence) -> Result<(), String> {
    let mut problem = format!("no region is known to hold entry {sequence}");
    for other in shared.views_holding(sequence) {
        let Some(key) = other.key_of(shared.id, sequence) else { continue };
        if other.record.number == view.record.number {
            continue;
        }
        let bytes = match other.store.get(Component::Repair, &key).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                problem = format!("object {key} of region {} does not exist", other.record.name);
                continue;
            }
            Err(error) => {
                problem = error.to_string();
                continue;
            }
        };
        let id = match Record::decode(&bytes) {
            Ok(record) if record.head.sequence == sequence && record.head.object_len() == bytes.len() as u64 => {
                record.head.id
            }
            _ => {
                problem = format!("object {key} of region {} is damaged", other.record.name);
                continue;
            }
        };
        let len = bytes.len() as u64;
        // Read and written.
        shared.throttle(2 * len).await;
        // A copy of another region's object that is there already says the same.
        let own = keys::copy(shared.id, sequence);
        let created = view.store.create(Component::Repair, &own, bytes.into(), id).await;
        created.map_err(|error| error.to_string())?;
        view.repairs.lock().note(len, true);
        return Ok(());
    }
    Err(problem)
}
