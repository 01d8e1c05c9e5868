//! When to write a snapshot: a pure plan, and the task that carries it out.

use std::time::Duration;

use brigade_index::{
    ids::Sequence,
    shard::{Shard, ShardStatus},
};
use tokio_util::sync::CancellationToken;

/// How often progress is looked at. Looking costs nothing but a few loads; it sends no request to the store.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Pause after a snapshot that failed: each attempt may upload the whole state.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(10);

/// Recovery reads one object an entry, about 32 of them at a time: with this many behind the last snapshot it takes well
/// under a second on a local directory and about ten on an object store with 50 ms a GET.
const MAX_ENTRIES: u64 = 5_000;

/// Entries written since, for each KiB of the last snapshot, before the next is due: a large state is written less often,
/// so that snapshots stay a small part of all bytes written.
const ENTRIES_PER_KIB: u64 = 2;

/// Whether a snapshot is due.
pub fn is_due(committed: Sequence, snapshot: Sequence, snapshot_bytes: u64) -> bool {
    let entries = committed.0.saturating_sub(snapshot.0);
    entries >= MAX_ENTRIES.max(snapshot_bytes / 1024 * ENTRIES_PER_KIB)
}

/// Writes a snapshot of the shard whenever one is due, until `stop`; then a last one if the shard still leads and has
/// moved, so that the next start is quick.
pub async fn run(shard: Shard, stop: CancellationToken) {
    loop {
        let stopped = stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none();
        let ShardStatus { committed, snapshot, snapshot_bytes, state, .. } = shard.status();
        if state != "leading" {
            return;
        }
        // One entry is the reign's own first: not worth a snapshot.
        let due = is_due(committed, snapshot, snapshot_bytes) || (stopped && committed.0 > snapshot.0 + 1);
        if due && let Err(error) = shard.snapshot().await {
            tracing::warn!(%error, "a snapshot was not written; it is tried again");
            let _ = stop.run_until_cancelled(tokio::time::sleep(PAUSE_AFTER_ERROR)).await;
        }
        if stopped {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_become_rarer_as_they_grow() {
        assert!(!is_due(Sequence(4_999), Sequence(0), 0));
        assert!(is_due(Sequence(5_000), Sequence(0), 0));
        assert!(!is_due(Sequence(15_000), Sequence(10_000), 10 * 1024 * 1024));
        assert!(is_due(Sequence(30_480), Sequence(10_000), 10 * 1024 * 1024));
        assert!(!is_due(Sequence(3), Sequence(10), 0), "a snapshot ahead of what this node knows");
    }
}
