//! Arguments of `brigade serve`. What is not given may come from the file of `--config`, else the default holds.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};
use url::Url;

use crate::settings::{check_region_names, check_region_url};

const AFTER_HELP: &str = "\
Examples:
  brigade serve
      everything in one process; data in ./brigade-data, fsynced, safe to kill at any moment
  brigade serve --listen 0.0.0.0:7070 --data /var/lib/brigade
  brigade serve --region eu-west-1=s3://my-bucket/prefix
      data in a bucket; credentials and endpoint from the usual AWS_… variables
  brigade serve --region a=s3://bucket-a --region b=s3://bucket-b --region c=s3://bucket-c
      every message in three regions; the loss of one loses nothing and stops nothing
  brigade serve --dev-regions 3
      the same for trying it out, in three directories inside --data
  BRIGADE_LISTEN=0.0.0.0:7070 brigade serve --config /etc/brigade.toml
      a flag wins over a variable, a variable over the file";

/// Arguments of `brigade serve`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = AFTER_HELP)]
pub struct ServeArgs {
    /// Address to listen on [default: 127.0.0.1:7070]
    #[arg(long, env = "BRIGADE_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Directory of the one local region [default: ./brigade-data]
    #[arg(long, env = "BRIGADE_DATA", value_name = "DIR", conflicts_with = "region")]
    pub data: Option<PathBuf>,
    /// A region and its store: s3://, gs://, az://, file:// or memory://; 1, 3 or 5 times, once for each region
    #[arg(long, env = "BRIGADE_REGIONS", value_name = "NAME=URL", value_delimiter = ',')]
    pub region: Vec<RegionArg>,
    /// 1, 3 or 5 local regions in directories inside --data, for trying things out
    #[arg(long, env = "BRIGADE_DEV_REGIONS", value_name = "N", conflicts_with = "region")]
    pub dev_regions: Option<u32>,
    /// TOML file with settings
    #[arg(long, env = "BRIGADE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address at which other nodes and clients reach this one [default: http:// and the listen address]
    #[arg(long, env = "BRIGADE_ADVERTISE", value_name = "URL")]
    pub advertise: Option<Url>,
    /// Longest time that a publish waits for others to share its entry, in milliseconds; 0 never waits
    #[arg(long, env = "BRIGADE_LINGER_MS", value_name = "MS")]
    pub linger_ms: Option<u64>,
    /// Shortest time between two journal entries that are not full, in milliseconds: 250 makes 4 PUTs a second of any load
    #[arg(long, env = "BRIGADE_PACE_MS", value_name = "MS")]
    pub pace_ms: Option<u64>,
    /// Memory for publishes in flight; past it publishes are answered with 429
    #[arg(long, env = "BRIGADE_PUBLISH_MEMORY_MIB", value_name = "MIB")]
    pub publish_memory_mib: Option<u64>,
    /// Memory for the read cache
    #[arg(long, env = "BRIGADE_CACHE_MIB", value_name = "MIB")]
    pub cache_mib: Option<u64>,
    /// Whether the archive is kept while this node leads: true or false [default: true]
    #[arg(long, env = "BRIGADE_COMPACT_ENABLED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub compact_enabled: Option<bool>,
    /// Memory for a job of the compactor [default: 256]
    #[arg(long, env = "BRIGADE_COMPACT_MEMORY_MIB", value_name = "MIB")]
    pub compact_memory_mib: Option<u64>,
    /// What the compactor may read and write in a second; 0 for no limit [default: 64]
    #[arg(long, env = "BRIGADE_COMPACT_BANDWIDTH_MIB", value_name = "MIB")]
    pub compact_bandwidth_mib: Option<u64>,
    /// What may be copied in a second to regions that miss something; 0 for no limit [default: 64]
    #[arg(long, env = "BRIGADE_COMPACT_REPAIR_BANDWIDTH_MIB", value_name = "MIB")]
    pub compact_repair_bandwidth_mib: Option<u64>,
    /// Messages of a partition in the journal that are worth an archive file [default: 64]
    #[arg(long, env = "BRIGADE_COMPACT_FILE_MIB", value_name = "MIB")]
    pub compact_file_mib: Option<u64>,
    /// Size up to which archive files are merged [default: 256]
    #[arg(long, env = "BRIGADE_COMPACT_MAX_FILE_MIB", value_name = "MIB")]
    pub compact_max_file_mib: Option<u64>,
    /// How long few messages wait before they are archived [default: 3600000, an hour]
    #[arg(long, env = "BRIGADE_COMPACT_ARCHIVE_AFTER_MS", value_name = "MS")]
    pub compact_archive_after_ms: Option<u64>,
    /// How long archive files that were replaced stay for their readers [default: 60000]
    #[arg(long, env = "BRIGADE_COMPACT_DELETE_DELAY_MS", value_name = "MS")]
    pub compact_delete_delay_ms: Option<u64>,
    /// Format of the log [default: text]
    #[arg(long, env = "BRIGADE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Longest time for finishing requests after SIGTERM, in seconds
    #[arg(long, env = "BRIGADE_DRAIN_SECONDS", value_name = "SECONDS")]
    pub drain_seconds: Option<u64>,
    /// Silence of the leader after which another node takes over [default: 1000]
    #[arg(long, env = "BRIGADE_LEASE_TIMEOUT_MS", value_name = "MS")]
    pub lease_timeout_ms: Option<u64>,
    /// Pause between two questions to the leader whether it lives [default: 250]
    #[arg(long, env = "BRIGADE_LEASE_PROBE_MS", value_name = "MS")]
    pub lease_probe_ms: Option<u64>,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A region's name and the URL of its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionArg {
    /// Name of the region.
    pub name: String,
    /// URL of its store, as it was given.
    pub url: String,
}

impl FromStr for RegionArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, url) = text.split_once('=').ok_or("write it as NAME=URL, for example local=file:///srv/brigade")?;
        check_region_names([name]).and_then(|()| check_region_url(name, url)).map_err(|problem| problem.to_string())?;
        Ok(Self { name: name.to_owned(), url: url.to_owned() })
    }
}
