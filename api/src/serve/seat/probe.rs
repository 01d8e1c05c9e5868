//! Asking another node whether it leads, and answering such questions.

use axum::body::Body;
use brigade_index::{
    ids::{Ballot, ShardId},
    lease::Event,
    shard::ProposeError,
};
use http::{Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Role, Seat};
use crate::peers::Peers;

/// Largest answer that is read: it has a hundred bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// What a node says of its part in a shard, from memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LeaseAnswer {
    pub(crate) shard: u32,
    /// `leading`, `stalled` (it leads, but cannot write), `standing` (it is taking over), `following`, `looking` or `stopped`.
    pub(crate) state: String,
    /// Ballot of its reign, or of the leader that it follows.
    pub(crate) ballot: String,
    /// Last entry committed; 0 when it does not lead.
    pub(crate) committed: u64,
}

impl Seat {
    /// The answer to a question about the lease.
    pub(crate) fn lease(&self, shard: ShardId) -> LeaseAnswer {
        let (state, ballot, committed) = match &*self.0.role.read() {
            Role::Absent(absent) => (absent.state, absent.ballot, 0),
            Role::Leading(leading) => {
                let status = leading.shard.status();
                let state = match leading.shard.ready() {
                    Ok(()) => "leading",
                    Err(ProposeError::NotLeader { .. }) => "following",
                    Err(ProposeError::ShuttingDown) => "stopped",
                    Err(ProposeError::Unknown(_)) => "looking",
                    Err(_) => "stalled",
                };
                (state, status.ballot, status.committed.0)
            }
        };
        LeaseAnswer { shard: shard.0, state: state.to_owned(), ballot: ballot.to_string(), committed }
    }
}

/// Asks the node at `address` about its lease. `known` is the ballot that it should lead under.
pub(super) async fn ask(peers: &dyn Peers, address: &str, shard: ShardId, known: Ballot) -> Event {
    let request = Request::get(format!("/v1/shards/{shard}/lease")).body(Body::empty());
    let Ok(request) = request else { return Event::Silent };
    let Ok(response) = peers.send(address, request).await else { return Event::Silent };
    if response.status() != StatusCode::OK {
        return Event::Silent;
    }
    let Ok(body) = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await else { return Event::Silent };
    let Ok(answer) = serde_json::from_slice::<LeaseAnswer>(&body.to_bytes()) else { return Event::Silent };
    let ballot = answer.ballot.parse().unwrap_or(Ballot::BOOTSTRAP);
    match answer.state.as_str() {
        "leading" if ballot >= known => Event::Answered(ballot),
        "standing" => Event::TakingOver,
        "leading" | "stopped" | "following" => Event::Ended,
        _ => Event::Silent,
    }
}

/// A leader tells the one before it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeposedBody {
    /// Ballot of the new leader.
    pub(crate) ballot: String,
    /// Its name.
    pub(crate) node: String,
    /// Its address; empty when it has none.
    pub(crate) address: String,
}

/// Tells the node at `address` that it was deposed. True if it has heard.
pub(super) async fn tell(peers: &dyn Peers, address: &str, shard: ShardId, news: &DeposedBody) -> bool {
    let body = serde_json::to_vec(news).unwrap_or_default();
    let request = Request::post(format!("/v1/shards/{shard}/deposed"))
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body));
    let Ok(request) = request else { return false };
    peers.send(address, request).await.is_ok_and(|response| response.status().is_success())
}
