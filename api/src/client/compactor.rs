//! Calls about the compactor, and their JSON shapes. Fields that this version does not know are kept in `rest`.

use std::{collections::BTreeMap, time::Duration};

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Client, ClientError};

/// The compactor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compactor {
    /// Whether it is switched on.
    pub enabled: bool,
    /// The job under way.
    #[serde(default)]
    pub job: Option<CompactorJob>,
    /// What jobs of each kind have done since the server started.
    #[serde(default)]
    pub jobs: Vec<CompactorJobs>,
    /// Bytes of archive files written for each byte that was written into the archive the first time.
    #[serde(default)]
    pub write_amplification: Option<f64>,
    /// What waits.
    #[serde(default)]
    pub backlog: CompactorBacklog,
    /// How repairing regions comes on.
    #[serde(default)]
    pub repairs: Vec<Repair>,
    /// The last thing that went wrong.
    #[serde(default)]
    pub last_error: Option<CompactorError>,
    /// Further fields.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// A job that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactorJob {
    /// `archive`, `merge` or `compact`.
    pub kind: String,
    /// The topic that it works on, or the first of several.
    #[serde(default)]
    pub topic: Option<String>,
    /// Partitions that it works on.
    #[serde(default)]
    pub partitions: u64,
    /// Bytes that it has to read, about.
    #[serde(default)]
    pub input_bytes: u64,
    /// When it began, milliseconds since the Unix epoch.
    #[serde(default)]
    pub since_ms: i64,
}

/// What jobs of a kind have done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactorJobs {
    /// `archive`, `merge` or `compact`.
    pub kind: String,
    /// Jobs done.
    pub done: u64,
    /// Jobs that came to nothing.
    pub failed: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes of archive files written.
    pub written_bytes: u64,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactorBacklog {
    /// Bytes in the journal that are not archived.
    pub bytes: u64,
    /// Runs in the journal that are not archived.
    pub runs: u64,
    /// Claims that are not settled.
    pub claims: u64,
    /// Objects that are to be deleted.
    pub garbage: u64,
    /// Their bytes, as far as they are known.
    pub garbage_bytes: u64,
}

/// How repairing a region comes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// Name of the region.
    pub region: String,
    /// Archive files that it misses.
    pub files_missing: u64,
    /// Bytes of those.
    pub bytes_missing: u64,
    /// Copies of entries that it misses.
    pub copies_missing: u64,
    /// Objects copied to it.
    pub copied_objects: u64,
    /// Bytes copied to it.
    pub copied_bytes: u64,
    /// Bytes a second.
    pub bytes_per_second: u64,
    /// How long the rest will take at that rate, in milliseconds.
    #[serde(default)]
    pub remaining_ms: Option<u64>,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactorError {
    /// When, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// What.
    pub problem: String,
}

/// A run that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactorRun {
    /// Its number.
    pub run: u64,
    /// Whether it has ended.
    pub done: bool,
    /// Archive jobs done.
    #[serde(default)]
    pub archived: u64,
    /// Merges done.
    #[serde(default)]
    pub merged: u64,
    /// Key compactions done.
    #[serde(default)]
    pub compacted: u64,
    /// Partitions of which the beginning was dropped.
    #[serde(default)]
    pub trimmed: u64,
    /// Archive files deleted.
    #[serde(default)]
    pub deleted_files: u64,
    /// Objects of the journal deleted.
    #[serde(default)]
    pub deleted_objects: u64,
    /// What went wrong.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What a region that is away has not got yet, though everything was done.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Client {
    /// How the compactor comes on.
    ///
    /// # Errors
    /// An unreachable server; one without a leader.
    pub async fn compactor(&self) -> Result<Compactor, ClientError> {
        self.send_for_json(self.request(Method::GET, self.url(&["v1", "compactor"]))).await
    }

    /// Has everything archived, merged, dropped and deleted that can be, of one topic or of all, and waits for at most
    /// `wait` for the end of it.
    ///
    /// # Errors
    /// Code `compactor_disabled`, `topic_not_found`; an unreachable server.
    pub async fn run_compactor(&self, topic: Option<&str>, wait: Duration) -> Result<CompactorRun, ClientError> {
        self.run_with(topic.map(|topic| ("topic", topic.to_owned())), wait).await
    }

    /// Waits on for a run.
    ///
    /// # Errors
    /// Code `run_not_found` when another node leads meanwhile; an unreachable server.
    pub async fn wait_for_run(&self, run: u64, wait: Duration) -> Result<CompactorRun, ClientError> {
        self.run_with(Some(("run", run.to_string())), wait).await
    }

    async fn run_with(&self, what: Option<(&str, String)>, wait: Duration) -> Result<CompactorRun, ClientError> {
        let mut url = self.url(&["v1", "compactor", "run"]);
        url.query_pairs_mut().append_pair("wait", &wait.as_millis().to_string()).extend_pairs(what);
        self.send_for_json(self.request(Method::POST, url)).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_server_says_is_kept() {
        let totals = json!({"kind": "archive", "done": 3, "failed": 1, "read_bytes": 10, "written_bytes": 5});
        let repair = json!({
            "region": "b", "files_missing": 1, "bytes_missing": 2, "copies_missing": 6, "copied_objects": 3, "copied_bytes": 4,
            "bytes_per_second": 5, "remaining_ms": null,
        });
        let status = json!({
            "enabled": true, "job": null, "jobs": [totals], "write_amplification": 1.5, "new": 7,
            "backlog": {"bytes": 1, "runs": 2, "claims": 3, "garbage": 4, "garbage_bytes": 5},
            "repairs": [repair], "last_error": {"time_ms": 9, "problem": "p"},
        });
        let parsed: Compactor = serde_json::from_value(status.clone()).unwrap();
        assert_eq!(json!(parsed), status);
        let run: CompactorRun = serde_json::from_value(json!({"run": 4, "done": false})).unwrap();
        assert_eq!(run, CompactorRun { run: 4, ..CompactorRun::default() });
    }
}
