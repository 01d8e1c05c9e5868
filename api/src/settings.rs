//! Settings of a node: one tree, units in its names, the same names in the file, in the environment and as flags.
//!
//! A flag wins over a variable, a variable over the file, the file over the default. Stores, clock and metrics are not
//! settings; they are handed to constructors.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use brigade_compactor::worker::CompactorSettings;
use brigade_index::store::StoreOptions;
use serde::{Deserialize, Serialize};

mod error;
mod flags;
mod layers;
mod redact;
mod regions;
mod validate;
mod variables;

pub use error::SettingsError;
pub use layers::load;
pub(crate) use redact::{absolute_url, redact_url};
pub(crate) use regions::{
    RegionsProblem, check_region_count, check_region_names, check_region_url, check_regions, overlap,
};

/// Directory of the one local region when nothing else is said.
pub const DEFAULT_DATA: &str = "./brigade-data";

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address to listen on. Port 0 takes any free port.
    pub listen: SocketAddr,
    /// Directory of the one local region, when no regions are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Instead of regions: 1, 3 or 5 local ones, `region-1` and so on, each in a directory of that name inside the data
    /// directory. For trying things out: one disk is one region, whatever it is divided into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev_regions: Option<u32>,
    /// URL at which other nodes and clients reach this one; the address it listens on when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Name of this node; a random one when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Longest time for finishing requests after SIGTERM, in seconds.
    pub drain_seconds: u64,
    /// The publish path.
    pub publish: PublishSettings,
    /// The read path.
    pub read: ReadSettings,
    /// Connections and slow clients.
    pub http: HttpSettings,
    /// Posts to endpoints that clients name.
    pub push: PushSettings,
    /// The archive: what the compactor does, and how much of the machine it may take.
    pub compact: CompactSettings,
    /// When another node takes over.
    pub lease: LeaseSettings,
    /// The log.
    pub log: LogSettings,
    /// Regions and their stores.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            data: None,
            dev_regions: None,
            advertise: None,
            node_name: None,
            drain_seconds: 20,
            publish: PublishSettings::default(),
            read: ReadSettings::default(),
            http: HttpSettings::default(),
            push: PushSettings::default(),
            compact: CompactSettings::default(),
            lease: LeaseSettings::default(),
            log: LogSettings::default(),
            regions: Vec::new(),
        }
    }
}

impl Settings {
    /// The regions in force: those that are named, else the ones inside the data directory, else the one that it is.
    pub fn regions(&self) -> Vec<RegionSettings> {
        if !self.regions.is_empty() {
            return self.regions.clone();
        }
        let data = self.data.as_deref().unwrap_or(DEFAULT_DATA.as_ref());
        let local = |name: String, directory: &Path| {
            let url = format!("file://{}", directory.display());
            RegionSettings { name, url, store: StoreOptions::default() }
        };
        let Some(count) = self.dev_regions else { return vec![local("local".to_owned(), data)] };
        let names = (1..=count).map(|number| format!("region-{number}"));
        names.map(|name| local(name.clone(), &data.join(name))).collect()
    }
}

/// The publish path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublishSettings {
    /// Longest time that a publish waits for others to share its entry while entries are in flight, in milliseconds.
    pub linger_ms: u64,
    /// Shortest time between two entries of publishes that are not full, in milliseconds: it bounds the requests that the
    /// stores are paid for, 4 a second to each region at 250, for that much latency.
    pub pace_ms: u64,
    /// Memory for publish requests in flight, in MiB. Past it they are answered with 429.
    pub memory_mib: u64,
    /// Largest body of a publish request, in MiB.
    pub max_request_mib: u64,
    /// How long a publish waits for its commit, in milliseconds; then its outcome is unknown to the client.
    pub request_timeout_ms: u64,
}

impl Default for PublishSettings {
    fn default() -> Self {
        Self { linger_ms: 5, pace_ms: 0, memory_mib: 64, max_request_mib: 32, request_timeout_ms: 30_000 }
    }
}

/// The read path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadSettings {
    /// Memory for batches that readers ask for again, in MiB.
    pub cache_mib: u64,
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self { cache_mib: 96 }
    }
}

/// Connections and slow clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Most connections at once. Further ones are answered with 503 and closed.
    pub max_connections: usize,
    /// Longest time for the headers of a request to arrive, and for an idle connection to stay, in milliseconds.
    pub header_timeout_ms: u64,
    /// Longest time for the body of a request to arrive, in milliseconds.
    pub body_timeout_ms: u64,
}

impl Default for HttpSettings {
    /// The header time-out is longer than the 90 seconds for which common clients keep idle connections, so that it is
    /// the client that closes them and no request meets a closing connection.
    fn default() -> Self {
        Self { max_connections: 10_000, header_timeout_ms: 100_000, body_timeout_ms: 30_000 }
    }
}

/// Posts to endpoints that clients name: of push subscriptions, and check-back URLs of transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PushSettings {
    /// Addresses that are not posted to, besides link-local and multicast ones and those of metadata services: `loopback`,
    /// `private`, or blocks like `203.0.113.0/24`.
    pub forbid: Vec<String>,
    /// Blocks of addresses that are posted to although they are forbidden otherwise.
    pub allow: Vec<String>,
    /// Memory for posts in flight, in MiB. Past it further ones wait.
    pub memory_mib: u64,
}

impl Default for PushSettings {
    fn default() -> Self {
        Self { forbid: Vec::new(), allow: Vec::new(), memory_mib: 64 }
    }
}

/// The compactor, which works beside the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompactSettings {
    /// Whether it works while this node leads. Without it nothing is archived, dropped for its age or size, or deleted, and
    /// what regions miss of the archive is not copied.
    pub enabled: bool,
    /// Memory for a job, in MiB.
    pub memory_mib: u64,
    /// What jobs may read and write together, in MiB a second; 0 for no limit.
    pub bandwidth_mib: u64,
    /// What may be copied to regions that miss something, in MiB a second; 0 for no limit.
    pub repair_bandwidth_mib: u64,
    /// A partition is archived when so much of it is in the journal, in MiB; also the most that goes into one file.
    pub file_mib: u64,
    /// Files are merged up to this size, in MiB.
    pub max_file_mib: u64,
    /// How long messages wait before they are archived though they are few, in milliseconds.
    pub archive_after_ms: u64,
    /// How long files that nothing refers to any more stay for those who still read them, in milliseconds.
    pub delete_delay_ms: u64,
    /// What it goes by instead of all of the above. Not for files: it is for tests, which archive a few KiB.
    #[serde(skip)]
    pub instead: Option<CompactorSettings>,
}

impl Default for CompactSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            memory_mib: 256,
            bandwidth_mib: 64,
            repair_bandwidth_mib: 64,
            file_mib: 64,
            max_file_mib: 256,
            archive_after_ms: 3_600_000,
            delete_delay_ms: 60_000,
            instead: None,
        }
    }
}

/// When a node that follows takes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseSettings {
    /// How long the leader must be silent, and its journal still, before another node takes over, in milliseconds.
    pub timeout_ms: u64,
    /// Pause between two questions to the leader whether it lives, in milliseconds.
    pub probe_ms: u64,
    /// Whether the node takes over at its start, whoever leads. Not for files: it is for tests that want a takeover.
    #[serde(skip)]
    pub usurp: bool,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self { timeout_ms: 1_000, probe_ms: 250, usurp: false }
    }
}

/// The log, on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Its format.
    pub format: LogFormat,
    /// What is logged: a level, or levels by module as in `info,brigade_index=debug`.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A region and its store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionSettings {
    /// Name of the region.
    pub name: String,
    /// URL of its store: `file://`, `memory://`, `s3://`, `gs://` or `az://`.
    pub url: String,
    /// How to reach the store.
    #[serde(default)]
    pub store: StoreOptions,
}

#[cfg(test)]
mod tests;
