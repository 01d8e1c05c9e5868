//! Calls about regions and shards, and their JSON shapes. Fields that this version does not know are kept in `rest`.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Client, ClientError};

/// The regions of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionList {
    /// The regions, those that do not vote included.
    pub regions: Vec<Region>,
    /// Names of the regions that vote.
    #[serde(default)]
    pub voters: Vec<String>,
    /// How many of them must have an entry before it is committed.
    #[serde(default)]
    pub quorum: u64,
    /// The change of the regions that is under way, in words.
    #[serde(default)]
    pub change: Option<String>,
    /// Further fields.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// A region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Its number, given when it joined.
    pub number: u64,
    /// Name.
    pub name: String,
    /// URL of its store, without secrets.
    pub url: String,
    /// Whether it counts towards the quorum.
    pub votes: bool,
    /// `in_sync`, `behind`, `catching_up`, `joining`, `unreachable`, `refused` or `deposed`.
    pub state: String,
    /// How far each shard has come in it.
    #[serde(default)]
    pub shards: Vec<ShardInRegion>,
    /// What is wrong with it.
    #[serde(default)]
    pub problem: Option<String>,
    /// What to do about that.
    #[serde(default)]
    pub hint: Option<String>,
    /// Further fields.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// A shard in a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardInRegion {
    /// Number of the shard.
    pub shard: u32,
    /// How far it has come.
    #[serde(flatten)]
    pub progress: RegionProgress,
}

/// How far a shard has come in a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionProgress {
    /// As [`Region::state`].
    pub state: String,
    /// Last entry that the region has accepted.
    #[serde(default)]
    pub accepted: u64,
    /// Committed entries that it has not accepted.
    #[serde(default)]
    pub behind_entries: u64,
    /// Bytes of those entries.
    #[serde(default)]
    pub behind_bytes: u64,
    /// For how long the oldest of those entries has been committed, in milliseconds.
    #[serde(default)]
    pub behind_ms: u64,
    /// Entries that it has accepted without a copy of their messages.
    #[serde(default)]
    pub copies_missing: u64,
    /// Archive files that it does not hold yet.
    #[serde(default)]
    pub files_missing: u64,
}

/// The shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardList {
    /// The shards, by number.
    pub shards: Vec<Shard>,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shard {
    /// Its number.
    pub shard: u32,
    /// What the node that answered is to it.
    pub state: String,
    /// Name of the node that leads it.
    #[serde(default)]
    pub node: Option<String>,
    /// URL at which that node is reached.
    #[serde(default)]
    pub address: Option<String>,
    /// Ballot of the reign.
    pub ballot: String,
    /// How long the last takeover took, in milliseconds.
    #[serde(default)]
    pub takeover_ms: Option<u64>,
    /// Last entry committed.
    pub committed: u64,
    /// Its partitions.
    pub partitions: PartitionCounts,
    /// Its regions.
    #[serde(default)]
    pub regions: Vec<RegionInShard>,
    /// Further fields.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// How many partitions a shard has, and how many of them are in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionCounts {
    /// All of them.
    pub total: u64,
    /// Those of which a region that votes is not in sync.
    pub under_replicated: u64,
    /// Those without a leader that can commit.
    pub offline: u64,
}

/// A region of a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionInShard {
    /// Name.
    pub name: String,
    /// Whether it counts towards the quorum.
    pub votes: bool,
    /// How far the shard has come in it.
    #[serde(flatten)]
    pub progress: RegionProgress,
    /// Further fields.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// A region that is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedRegion {
    /// Name.
    pub name: String,
    /// URL of its store, without secrets.
    pub url: String,
}

/// What the server made of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionChange {
    /// The change that is under way, in words; none when there is nothing to change.
    #[serde(default)]
    pub change: Option<String>,
}

impl Client {
    /// The regions, and how far each has come.
    ///
    /// # Errors
    /// An unreachable server.
    pub async fn regions(&self) -> Result<RegionList, ClientError> {
        self.send_for_json(self.request(Method::GET, self.url(&["v1", "regions"]))).await
    }

    /// The shards, with their leaders, partitions and regions.
    ///
    /// # Errors
    /// An unreachable server.
    pub async fn shards(&self) -> Result<ShardList, ClientError> {
        self.send_for_json(self.request(Method::GET, self.url(&["v1", "shards"]))).await
    }

    /// Begins to make these the regions of the cluster. The change goes on in the background.
    ///
    /// # Errors
    /// Code `invalid_regions`, `region_unusable`, `region_change_in_progress`; an unreachable server.
    pub async fn change_regions(&self, regions: &[WantedRegion]) -> Result<RegionChange, ClientError> {
        let request = self.request(Method::PUT, self.url(&["v1", "regions"]));
        self.send_for_json(request.json(&json!({ "regions": regions }))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_is_kept() {
        let region = json!({
            "number": 2, "name": "b", "url": "s3://b", "votes": true, "state": "behind", "new": 1,
            "shards": [{
                "shard": 0, "state": "behind", "accepted": 7, "behind_entries": 2, "behind_bytes": 3, "behind_ms": 4,
                "copies_missing": 5, "files_missing": 6,
            }],
            "problem": null, "hint": null,
        });
        let list = json!({"regions": [region], "voters": ["b"], "quorum": 1, "change": null});
        let parsed: RegionList = serde_json::from_value(list.clone()).unwrap();
        assert_eq!(parsed.regions[0].shards[0].progress.behind_entries, 2);
        assert_eq!(json!(parsed), list);
    }
}
