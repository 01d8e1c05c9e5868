//! What people and metrics are told of a shard.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::{
    RegionStatus, Shard, ShardStatus,
    health::{Condition, RegionHealth, Role},
};
use crate::ids::{RegionNo, Sequence};

/// A region that misses an entry which was committed longer ago is not in sync.
const IN_SYNC: Duration = Duration::from_secs(1);

/// A region that is further behind does not just lag; it catches up.
pub(super) const LAG_ENTRIES: u64 = 1_000;

impl Shard {
    /// A summary for people and metrics.
    pub fn status(&self) -> ShardStatus {
        let shared = &self.shared;
        let (role, regions) = shared.health.look();
        let over = !matches!(role, Role::Leading | Role::Reading(_));
        let (state, deposed_by) = match role {
            Role::Leading => ("leading", None),
            Role::Deposed(leader) => ("deposed", leader),
            Role::Renewing => ("renewing", None),
            Role::Broken(_) => ("broken", None),
            Role::Stopped => ("stopped", None),
            Role::Reading(_) => ("reading", None),
        };
        let committed = Sequence(shared.committed.load(Relaxed));
        let voters: Vec<RegionNo> = {
            let state = shared.state.read();
            state.regions.voters().map(|voters| voters.iter().collect()).unwrap_or_default()
        };
        let regions = regions.into_values().map(|region| {
            let status = self.region_status(region, committed, &voters);
            // Whoever leads now knows how far it is.
            if over { RegionStatus { state: "deposed", ..status } } else { status }
        });
        let regions = regions.collect();
        let takeover_ms = shared.takeover_ms.load(Relaxed);
        let progress = *shared.snapshot.lock();
        ShardStatus {
            shard: shared.id,
            state,
            ballot: shared.ballot,
            committed,
            sealed: Sequence(shared.sealed.load(Relaxed)),
            in_flight: shared.in_flight.load(Relaxed) as usize,
            snapshot: progress.sequence,
            snapshot_bytes: progress.bytes,
            deposed_by,
            store_problem: shared.health.problem(),
            leader_since_ms: Some(shared.started_ms.saturating_add_unsigned(takeover_ms)),
            takeover_ms: Some(takeover_ms),
            voters,
            regions,
            change: shared.change.lock().clone(),
        }
    }

    fn region_status(&self, health: RegionHealth, committed: Sequence, voters: &[RegionNo]) -> RegionStatus {
        let RegionHealth { record, condition, failing } = health;
        let view = self.shared.views.read().get(&record.number).cloned();
        let accepted = view.as_ref().map_or(Sequence(0), |view| view.accepted());
        let files_missing = self.shared.files_missing().get(&record.number).map_or(0, |missing| missing.files);
        let copies_missing = view.as_ref().map_or(0, |view| view.copies_missing.load(Relaxed));
        let (behind_bytes, behind) = self.shared.history.lock().behind(accepted);
        let behind_entries = committed.0.saturating_sub(accepted.0);
        let state = match condition {
            Condition::Refused { .. } => "refused",
            Condition::Lost => "deposed",
            _ if failing.is_some() => "unreachable",
            Condition::Joining => "joining",
            Condition::Joined if copies_missing > 0 || files_missing > 0 || behind_entries > LAG_ENTRIES => {
                "catching_up"
            }
            Condition::Joined if behind_entries > 0 && behind > IN_SYNC => "behind",
            Condition::Joined => "in_sync",
        };
        let (problem, hint) = match (condition, failing) {
            (Condition::Refused { problem, hint }, _) => (Some(problem), Some(hint)),
            (_, Some(failing)) => (Some(failing.problem), Some(failing.hint)),
            _ => (None, None),
        };
        RegionStatus {
            number: record.number,
            name: record.name,
            url: record.url,
            votes: voters.contains(&record.number),
            state,
            accepted,
            behind_entries,
            behind_bytes,
            behind_ms: u64::try_from(behind.as_millis()).unwrap_or(u64::MAX),
            copies_missing,
            files_missing,
            problem,
            hint,
        }
    }
}
