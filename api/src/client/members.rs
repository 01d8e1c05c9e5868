//! Calls about members of stream subscriptions. [`super::Member`] makes them by itself.

use std::{collections::BTreeMap, time::Duration};

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Client, ClientError, Position, REQUEST_TIMEOUT};

/// A heartbeat of a member.
#[derive(Clone, Debug, Serialize)]
pub struct Heartbeat {
    /// How long the member is waited for without another one, in milliseconds.
    pub session_timeout_ms: u64,
    /// All that it owns as far as it knows.
    pub owned: Vec<Owned>,
    /// How long the server may wait while there is nothing to tell but what `owned` says, in milliseconds.
    pub wait_ms: u64,
}

/// A partition that a member owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owned {
    /// Number of the partition.
    pub partition: u32,
    /// The epoch that the server named.
    pub epoch: String,
}

/// A position that a member commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnedPosition {
    /// Number of the partition.
    pub partition: u32,
    /// Offset of the next message.
    pub offset: u64,
    /// The epoch under which it owns the partition.
    pub epoch: String,
}

/// What a member is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// Its name.
    pub member: String,
    /// Rises with every change among the members, until another node leads.
    pub generation: u64,
    /// How long it is waited for, in milliseconds.
    pub session_timeout_ms: u64,
    /// What it reads.
    pub partitions: Vec<Assigned>,
    /// What it still owns and is to give up.
    pub revoke: Vec<u32>,
    /// Soon after a takeover: how long partitions that nobody names are held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settles_in_ms: Option<u64>,
    /// Further fields.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// A partition that a member reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Number of the partition.
    pub partition: u32,
    /// Names this ownership.
    pub epoch: String,
    /// Its committed position.
    pub offset: u64,
    /// Messages that are not committed yet.
    #[serde(default)]
    pub lag: u64,
}

#[derive(Deserialize)]
struct Members {
    members: Vec<Assignment>,
}

#[derive(Deserialize)]
struct Positions {
    positions: Vec<Position>,
}

impl Client {
    /// Joins, or says that the member lives. Heartbeats of one member are sent one after another.
    ///
    /// # Errors
    /// Code `topic_not_found`, `subscription_not_found`, `wrong_kind`, `too_many_members`; an unreachable server.
    pub async fn heartbeat(
        &self,
        topic: &str,
        name: &str,
        member: &str,
        beat: &Heartbeat,
    ) -> Result<Assignment, ClientError> {
        let request = self
            .request(Method::POST, self.url(&["v1", "topics", topic, "subscriptions", name, "members", member]))
            .timeout(REQUEST_TIMEOUT + Duration::from_millis(beat.wait_ms))
            .json(beat);
        self.send_for_json(request).await
    }

    /// A member goes; one that has left already is no error.
    ///
    /// # Errors
    /// Code `topic_not_found`, `subscription_not_found`; an unreachable server.
    pub async fn leave(&self, topic: &str, name: &str, member: &str) -> Result<(), ClientError> {
        let url = self.url(&["v1", "topics", topic, "subscriptions", name, "members", member]);
        self.send(self.request(Method::DELETE, url)).await.map(drop)
    }

    /// The members of a subscription.
    ///
    /// # Errors
    /// Code `topic_not_found`, `subscription_not_found`, `wrong_kind`; an unreachable server.
    pub async fn members(&self, topic: &str, name: &str) -> Result<Vec<Assignment>, ClientError> {
        let url = self.url(&["v1", "topics", topic, "subscriptions", name, "members"]);
        self.send_for_json::<Members>(self.request(Method::GET, url)).await.map(|list| list.members)
    }

    /// Commits positions of partitions that a member owns. Returns all committed positions.
    ///
    /// # Errors
    /// Code `partition_not_assigned`, `member_unknown`, with nothing committed; like [`Self::commit`].
    pub async fn commit_as(
        &self,
        topic: &str,
        name: &str,
        member: &str,
        positions: &[OwnedPosition],
    ) -> Result<Vec<Position>, ClientError> {
        let request = self
            .request(Method::POST, self.url(&["v1", "topics", topic, "subscriptions", name, "commit"]))
            .json(&json!({"member": member, "positions": positions}));
        self.send_for_json::<Positions>(request).await.map(|answer| answer.positions)
    }
}
