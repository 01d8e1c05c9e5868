//! The cluster as this node sees it.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{answer, call::Call, error::ApiError, shards::shard_status};
use crate::serve::Node;

/// The cluster.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClusterView {
    cluster_id: String,
    /// Name of this node.
    node: String,
    /// Version of this node's program.
    version: &'static str,
    /// Names of its regions.
    regions: Vec<String>,
    shards: Vec<ShardView>,
}

/// A shard.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShardView {
    shard: u32,
    /// `leading`, `deposed`, `broken` or `stopped`.
    state: &'static str,
    /// Ballot of this node's reign.
    ballot: String,
    /// Last entry sealed.
    sequence: u64,
    /// Last entry committed.
    committed: u64,
    /// Last entry that a snapshot covers.
    snapshot: u64,
    /// Entries being appended.
    in_flight: usize,
    /// Who leads instead of this node, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<LeaderView>,
    /// Why the store takes no writes at present.
    #[serde(skip_serializing_if = "Option::is_none")]
    store_problem: Option<String>,
}

/// Another node that leads.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LeaderView {
    node: String,
    /// URL at which it is reached; empty when it has none.
    address: String,
}

/// `GET /v1/cluster`
pub(super) async fn get(node: Arc<Node>, call: Call) -> Result<Response, ApiError> {
    call.query()?.finish()?;
    let status = shard_status(&node);
    let regions = status.regions.iter().map(|region| region.name.to_string()).collect();
    let shard = ShardView {
        shard: status.shard.0,
        state: status.state,
        ballot: status.ballot.to_string(),
        sequence: status.sealed.0,
        committed: status.committed.0,
        snapshot: status.snapshot.0,
        in_flight: status.in_flight,
        leader: status.deposed_by.map(|leader| LeaderView { node: leader.node, address: leader.address }),
        store_problem: status.store_problem,
    };
    let view = ClusterView {
        cluster_id: node.identity.cluster_id.clone(),
        node: node.name.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        regions,
        shards: vec![shard],
    };
    answer::value(StatusCode::OK, &view)
}
