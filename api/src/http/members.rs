//! Members of stream subscriptions: joining, living, leaving. What they own they poll and commit in `http/poll.rs`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::response::Response;
use brigade_index::{
    ids::{Offset, Partition},
    names::{MemberName, SubscriptionName, TopicName},
};
use brigade_ingest::{Assignment, Epoch, Heartbeat, MemberError, Members, SESSION_MS};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    answer, body,
    call::Call,
    error::{ApiError, kinds},
    params::{MAX_WAIT_MS, milliseconds, shown, within},
    poll::positions,
    subscriptions::names,
    topics::body_time,
};
use crate::serve::Leading;

/// How long a session lasts when the member does not say: a restart of the member or of the leader passes unnoticed.
const DEFAULT_SESSION_MS: u64 = 30_000;

/// A topic and a subscription of it.
type Named = (TopicName, SubscriptionName);

/// A heartbeat of a member.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberBody {
    /// How long the member is waited for without a heartbeat, poll or commit; 1000 to 600000 ms, 30000 by default. All
    /// members of a subscription should name the same.
    session_timeout_ms: Option<u64>,
    /// All that the member owns as far as it knows; nothing by default. What it was to give up and does not name is taken
    /// from it.
    #[serde(default)]
    owned: Vec<OwnedBody>,
    /// How long to wait while there is nothing to tell but what `owned` says, in milliseconds; 0 by default, at most half
    /// the session.
    wait_ms: Option<u64>,
}

/// A partition that a member owns.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnedBody {
    partition: u32,
    /// As it was told.
    epoch: String,
}

/// What a member is to do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AssignmentView {
    member: String,
    /// Rises with every change among the members, until another node leads.
    generation: u64,
    session_timeout_ms: u64,
    /// What it reads. A partition that it owned and that is in neither list is lost to it.
    partitions: Vec<AssignedView>,
    /// What it still owns and is to give up: it commits what it has, and names them in no further heartbeat.
    revoke: Vec<u32>,
    /// Soon after a takeover: how long partitions that no member names are held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    settles_in_ms: Option<u64>,
}

/// A partition that a member reads.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AssignedView {
    partition: u32,
    /// Names this ownership: to be given back in heartbeats and commits as it is.
    epoch: String,
    /// Its committed position: the next offset to be read.
    offset: u64,
    /// Messages that are not committed yet.
    lag: u64,
}

/// The members of a subscription.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MemberList {
    members: Vec<MemberView>,
}

/// A member.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MemberView {
    #[serde(flatten)]
    assignment: AssignmentView,
    /// How long ago it was last heard of, in milliseconds.
    quiet_ms: u64,
    /// Messages that are not committed yet, of all partitions that it reads.
    lag: u64,
}

impl AssignmentView {
    /// `log` are position and high watermark of each partition.
    fn new(member: &MemberName, session_timeout_ms: u64, assignment: Assignment, log: &[(Offset, Offset)]) -> Self {
        let Assignment { generation, partitions, revoke, settles_in_ms } = assignment;
        let assigned = |(partition, epoch): (Partition, Epoch)| {
            let (offset, end) = log.get(partition.0 as usize).copied().unwrap_or_default();
            let lag = end.0.saturating_sub(offset.0);
            AssignedView { partition: partition.0, epoch: epoch.to_string(), offset: offset.0, lag }
        };
        let partitions = partitions.into_iter().map(assigned).collect();
        let revoke = revoke.into_iter().map(|partition| partition.0).collect();
        Self { member: member.to_string(), generation, session_timeout_ms, partitions, revoke, settles_in_ms }
    }
}

/// `POST /v1/topics/{topic}/subscriptions/{subscription}/members/{member}`
pub(super) async fn heartbeat(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (of, member) = (names(&call)?, call.member()?);
    let members = members(&node, &of)?;
    let Call { parts, body, .. } = call;
    let body: MemberBody = body::document(body, &parts.headers, body_time(&node)).await?;
    let limits = (DEFAULT_SESSION_MS, *SESSION_MS.end());
    let session_ms = within("session_timeout_ms", body.session_timeout_ms, limits, *SESSION_MS.start())? as u64;
    let wait = milliseconds("wait_ms", body.wait_ms, (0, MAX_WAIT_MS), 0)?;
    let beat = Heartbeat { member: member.clone(), session_ms, owned: owned(&body.owned)?, wait };
    let at_once = Heartbeat { wait: Duration::ZERO, ..beat.clone() };
    let assignment = tokio::select! {
        biased;
        assignment = members.heartbeat(beat) => assignment?,
        () = node.draining.cancelled(), if !wait.is_zero() => members.heartbeat(at_once).await?,
    };
    answer::value(StatusCode::OK, &AssignmentView::new(&member, session_ms, assignment, &log(&node, &of)?))
}

/// `DELETE /v1/topics/{topic}/subscriptions/{subscription}/members/{member}`
pub(super) async fn leave(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (of, member) = (names(&call)?, call.member()?);
    // One that has left already has left.
    members(&node, &of)?.leave(&member)?;
    Ok(answer::empty())
}

/// `GET /v1/topics/{topic}/subscriptions/{subscription}/members`
pub(super) async fn list(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let of = names(&call)?;
    let found = members(&node, &of)?.list()?;
    let log = log(&node, &of)?;
    let view = |status: brigade_ingest::MemberStatus| {
        let assignment = AssignmentView::new(&status.member, status.session_ms, status.assignment, &log);
        let lag = assignment.partitions.iter().map(|partition| partition.lag).sum();
        MemberView { assignment, quiet_ms: status.quiet_ms, lag }
    };
    answer::value(StatusCode::OK, &MemberList { members: found.into_iter().map(view).collect() })
}

/// The members of the subscription.
fn members(node: &Leading, of: &Named) -> Result<Members, ApiError> {
    // Says which of the two there is not.
    positions(node, &of.0, &of.1, &[])?;
    Ok(node.ingest.members(&of.0, &of.1)?)
}

/// Committed position and high watermark of each partition.
fn log(node: &Leading, of: &Named) -> Result<Vec<(Offset, Offset)>, ApiError> {
    let committed = positions(node, &of.0, &of.1, &[])?;
    let state = node.shard.state();
    let partitions = state.topic_named(&of.0).map(|topic| topic.partitions.iter()).into_iter().flatten();
    Ok(committed.into_iter().zip(partitions.map(|log| log.high_watermark)).collect())
}

fn owned(bodies: &[OwnedBody]) -> Result<BTreeMap<Partition, Epoch>, ApiError> {
    let mut owned = BTreeMap::new();
    for body in bodies {
        let twice = owned.insert(Partition(body.partition), epoch(&body.epoch)?);
        if twice.is_some() {
            let problem = format!("partition {} is named twice", body.partition);
            return Err(ApiError::new(kinds::INVALID_EPOCH, problem));
        }
    }
    Ok(owned)
}

/// An epoch as a member gives it back.
pub(super) fn epoch(text: &str) -> Result<Epoch, ApiError> {
    text.parse().map_err(|_| ApiError::new(kinds::INVALID_EPOCH, format!("{:?} is no epoch", shown(text))))
}

impl From<MemberError> for ApiError {
    fn from(error: MemberError) -> Self {
        use brigade_ingest::Refusal;
        match error {
            MemberError::Ingest(error) => error.into(),
            MemberError::Refused(refusal) => {
                let kind = match refusal {
                    Refusal::Unknown(_) => kinds::MEMBER_UNKNOWN,
                    Refusal::NotAssigned { .. } => kinds::PARTITION_NOT_ASSIGNED,
                    Refusal::TooMany => kinds::TOO_MANY_MEMBERS,
                };
                Self::new(kind, refusal.to_string())
            }
        }
    }
}
