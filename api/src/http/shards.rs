//! Shards as this node sees them: who leads, how far they are, and what their partitions suffer from.

use std::sync::Arc;

use axum::response::Response;
use brigade_index::shard::{RegionStatus, ShardStatus};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{answer, call::Call, error::ApiError};
use crate::serve::{Known, Node};

/// The shards.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShardList {
    shards: Vec<ShardDetail>,
}

/// A shard with its leader, its partitions and its regions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShardDetail {
    shard: u32,
    /// What this node is to it: `leading`, `deposed`, `broken` or `stopped`.
    state: &'static str,
    /// Name of the node that leads it; `null` when this node knows of none.
    node: Option<String>,
    /// URL at which that node is reached; empty when it has none.
    address: Option<String>,
    /// Ballot of this node's reign.
    ballot: String,
    /// When this node took over, milliseconds since the Unix epoch by its own clock.
    leader_since_ms: Option<i64>,
    /// How long that takeover took, in milliseconds.
    takeover_ms: Option<u64>,
    /// Last entry sealed.
    sequence: u64,
    /// Last entry committed: the high watermark of the shard's log. Each partition has its own, in its topic.
    committed: u64,
    /// Entries being appended.
    in_flight: usize,
    /// Last entry that a snapshot covers.
    snapshot: u64,
    partitions: PartitionCounts,
    regions: Vec<RegionInShard>,
}

/// How many partitions a shard has, and how many of them are in trouble.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PartitionCounts {
    total: u64,
    /// Partitions of which a region that votes is not in sync.
    under_replicated: u64,
    /// Partitions for which this node knows of no leader that can commit.
    offline: u64,
}

/// A region of a shard.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RegionInShard {
    number: u16,
    name: String,
    /// Whether it counts towards the quorum.
    votes: bool,
    #[serde(flatten)]
    progress: Progress,
    /// What is wrong with it.
    problem: Option<String>,
    /// What to do about that.
    hint: Option<String>,
}

/// How far a shard has come in a region.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Progress {
    /// `in_sync`, `behind`, `catching_up`, `joining`, `unreachable`, `refused` or `deposed`.
    pub(super) state: &'static str,
    /// Last entry that the region has accepted.
    accepted: u64,
    /// Committed entries that it has not accepted.
    behind_entries: u64,
    /// Bytes of those entries.
    behind_bytes: u64,
    /// For how long the oldest of those entries has been committed, in milliseconds.
    behind_ms: u64,
    /// Entries that it has accepted without a copy of their messages.
    copies_missing: u64,
    /// Archive files that it does not hold yet.
    files_missing: u64,
}

impl From<&RegionStatus> for Progress {
    fn from(region: &RegionStatus) -> Self {
        Self {
            state: region.state,
            accepted: region.accepted.0,
            behind_entries: region.behind_entries,
            behind_bytes: region.behind_bytes,
            behind_ms: region.behind_ms,
            copies_missing: region.copies_missing,
            files_missing: region.files_missing,
        }
    }
}

impl From<&RegionStatus> for RegionInShard {
    fn from(region: &RegionStatus) -> Self {
        Self {
            number: region.number.0,
            name: region.name.to_string(),
            votes: region.votes,
            progress: region.into(),
            problem: region.problem.clone(),
            hint: region.hint.clone(),
        }
    }
}

impl PartitionCounts {
    fn of(status: &ShardStatus, total: u64) -> Self {
        let all_if = |condition: bool| if condition { total } else { 0 };
        Self { total, under_replicated: all_if(status.is_under_replicated()), offline: all_if(status.is_offline()) }
    }
}

impl ShardDetail {
    /// `leader` is this node, as name and address.
    fn of(status: &ShardStatus, leader: (&str, &str), partitions: u64) -> Self {
        let leader = match &status.deposed_by {
            _ if status.state == "leading" => Some((leader.0.to_owned(), leader.1.to_owned())),
            other => other.as_ref().map(|leader| (leader.node.clone(), leader.address.clone())),
        };
        let (node, address) = leader.unzip();
        Self {
            shard: status.shard.0,
            state: status.state,
            node,
            address,
            ballot: status.ballot.to_string(),
            leader_since_ms: status.leader_since_ms,
            takeover_ms: status.takeover_ms,
            sequence: status.sealed.0,
            committed: status.committed.0,
            in_flight: status.in_flight,
            snapshot: status.snapshot.0,
            partitions: PartitionCounts::of(status, partitions),
            regions: status.regions.iter().map(RegionInShard::from).collect(),
        }
    }
}

/// `GET /v1/shards`
pub(super) async fn list(node: Arc<Node>, call: Call) -> Result<Response, ApiError> {
    call.query()?.finish()?;
    let address = node.settings.advertise.as_deref().unwrap_or_default();
    let Known { status, partitions, .. } = node.seat.known();
    let shard = ShardDetail::of(&status, (&node.name, address), partitions);
    answer::value(StatusCode::OK, &ShardList { shards: vec![shard] })
}
