//! The cluster as this node sees it.

use std::sync::Arc;

use axum::response::Response;
use brigade_index::{format::Leader, shard::ShardStatus};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{answer, call::Call, error::ApiError};
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
    /// What this node is to the shard: `leading`, `following`, `standing` (it is taking over), `looking` or `stopped`.
    state: &'static str,
    /// Ballot of the leader.
    ballot: String,
    /// Last entry sealed in this node's present or last reign.
    sequence: u64,
    /// Last entry committed.
    committed: u64,
    /// Last entry that a snapshot covers.
    snapshot: u64,
    /// Entries being appended.
    in_flight: usize,
    /// Who leads, if known and if it has an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<LeaderView>,
    /// Why the store takes no writes at present.
    #[serde(skip_serializing_if = "Option::is_none")]
    store_problem: Option<String>,
}

/// The node that leads.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LeaderView {
    node: String,
    /// URL at which it is reached; empty when it has none.
    address: String,
}

/// `GET /v1/cluster`
pub(super) async fn get(node: Arc<Node>, call: Call) -> Result<Response, ApiError> {
    call.query()?.finish()?;
    let lead = node.seat.lead();
    let status = node.seat.status();
    let numbers = status
        .as_ref()
        .map_or((0, 0, 0, 0), |status| (status.sealed.0, status.committed.0, status.snapshot.0, status.in_flight));
    let (state, ballot, leader) = match &lead {
        Ok(leading) => {
            let address = node.settings.advertise.clone().unwrap_or_default();
            let leader = LeaderView { node: node.name.to_string(), address };
            ("leading", leading.shard.status().ballot, Some(leader))
        }
        Err(absent) => {
            let view = |leader: &Leader| LeaderView { node: leader.node.clone(), address: leader.address.clone() };
            (absent.state, absent.ballot, absent.leader.as_ref().map(view))
        }
    };
    let named = |status: &ShardStatus| status.regions.iter().map(|region| region.name.to_string()).collect();
    let configured = || node.settings.regions().into_iter().map(|region| region.name).collect();
    let regions = status.as_ref().map_or_else(configured, named);
    let shard = ShardView {
        shard: 0,
        state,
        ballot: ballot.to_string(),
        sequence: numbers.0,
        committed: numbers.1,
        snapshot: numbers.2,
        in_flight: numbers.3,
        leader,
        store_problem: status.filter(|_| lead.is_ok()).and_then(|status| status.store_problem),
    };
    let view = ClusterView {
        cluster_id: node.cluster_id.to_string(),
        node: node.name.to_string(),
        version: env!("CARGO_PKG_VERSION"),
        regions,
        shards: vec![shard],
    };
    answer::value(StatusCode::OK, &view)
}
