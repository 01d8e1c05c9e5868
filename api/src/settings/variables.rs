//! Settings from environment variables.

use toml::{Table, Value};

use super::{SettingsError, layers::put};

/// How the text of a variable is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Flag,
    /// Several separated by commas.
    List,
    /// `NAME=URL`, several separated by commas.
    Regions,
}

/// Every variable with its place in the tree.
const VARIABLES: &[(&str, &[&str], Kind)] = &[
    ("BRIGADE_LISTEN", &["listen"], Kind::Text),
    ("BRIGADE_DATA", &["data"], Kind::Text),
    ("BRIGADE_DEV_REGIONS", &["dev_regions"], Kind::Number),
    ("BRIGADE_REGION", &["regions"], Kind::Regions),
    ("BRIGADE_REGIONS", &["regions"], Kind::Regions),
    ("BRIGADE_ADVERTISE", &["advertise"], Kind::Text),
    ("BRIGADE_NODE_NAME", &["node_name"], Kind::Text),
    ("BRIGADE_DRAIN_SECONDS", &["drain_seconds"], Kind::Number),
    ("BRIGADE_LINGER_MS", &["publish", "linger_ms"], Kind::Number),
    ("BRIGADE_PACE_MS", &["publish", "pace_ms"], Kind::Number),
    ("BRIGADE_PUBLISH_MEMORY_MIB", &["publish", "memory_mib"], Kind::Number),
    ("BRIGADE_MAX_REQUEST_MIB", &["publish", "max_request_mib"], Kind::Number),
    ("BRIGADE_REQUEST_TIMEOUT_MS", &["publish", "request_timeout_ms"], Kind::Number),
    ("BRIGADE_CACHE_MIB", &["read", "cache_mib"], Kind::Number),
    ("BRIGADE_MAX_CONNECTIONS", &["http", "max_connections"], Kind::Number),
    ("BRIGADE_HEADER_TIMEOUT_MS", &["http", "header_timeout_ms"], Kind::Number),
    ("BRIGADE_BODY_TIMEOUT_MS", &["http", "body_timeout_ms"], Kind::Number),
    ("BRIGADE_PUSH_FORBID", &["push", "forbid"], Kind::List),
    ("BRIGADE_PUSH_ALLOW", &["push", "allow"], Kind::List),
    ("BRIGADE_PUSH_MEMORY_MIB", &["push", "memory_mib"], Kind::Number),
    ("BRIGADE_COMPACT_ENABLED", &["compact", "enabled"], Kind::Flag),
    ("BRIGADE_COMPACT_MEMORY_MIB", &["compact", "memory_mib"], Kind::Number),
    ("BRIGADE_COMPACT_BANDWIDTH_MIB", &["compact", "bandwidth_mib"], Kind::Number),
    ("BRIGADE_COMPACT_REPAIR_BANDWIDTH_MIB", &["compact", "repair_bandwidth_mib"], Kind::Number),
    ("BRIGADE_COMPACT_FILE_MIB", &["compact", "file_mib"], Kind::Number),
    ("BRIGADE_COMPACT_MAX_FILE_MIB", &["compact", "max_file_mib"], Kind::Number),
    ("BRIGADE_COMPACT_ARCHIVE_AFTER_MS", &["compact", "archive_after_ms"], Kind::Number),
    ("BRIGADE_COMPACT_DELETE_DELAY_MS", &["compact", "delete_delay_ms"], Kind::Number),
    ("BRIGADE_LEASE_TIMEOUT_MS", &["lease", "timeout_ms"], Kind::Number),
    ("BRIGADE_LEASE_PROBE_MS", &["lease", "probe_ms"], Kind::Number),
    ("BRIGADE_LOG_FORMAT", &["log", "format"], Kind::Text),
    ("BRIGADE_LOG_FILTER", &["log", "filter"], Kind::Text),
];

/// Lays the variables that `read` finds over `table`. Other variables with the prefix are not ours to judge:
/// orchestrators make some up from the names of services.
pub(super) fn lay_over(table: &mut Table, read: impl Fn(&str) -> Option<String>) -> Result<(), SettingsError> {
    let given = |name: &str| read(name).is_some_and(|text| !text.is_empty());
    if given("BRIGADE_REGION") && given("BRIGADE_REGIONS") {
        let problem = "BRIGADE_REGIONS is given too; name all regions in that one".to_owned();
        return Err(SettingsError::Variable { name: "BRIGADE_REGION", problem });
    }
    for (name, place, kind) in VARIABLES {
        let Some(text) = read(name).filter(|text| !text.is_empty()) else { continue };
        let wrong = |problem: String| SettingsError::Variable { name, problem };
        match kind {
            Kind::Text => put(table, place, Value::String(text)),
            Kind::Number => {
                let number = text.parse::<u32>().map_err(|_| wrong(format!("{text:?} is not a whole number")))?;
                put(table, place, Value::Integer(number.into()));
            }
            Kind::Flag => {
                let flag = text.parse::<bool>().map_err(|_| wrong(format!("{text:?} is neither true nor false")))?;
                put(table, place, Value::Boolean(flag));
            }
            Kind::List => {
                let items = text.split(',').map(|item| Value::String(item.trim().to_owned()));
                put(table, place, Value::Array(items.collect()));
            }
            Kind::Regions => {
                let regions = text.split(',').map(|region| {
                    let pair = region.trim().split_once('=');
                    let (name, url) = pair.ok_or_else(|| wrong("write it as NAME=URL".to_owned()))?;
                    Ok((name.to_owned(), url.to_owned()))
                });
                let regions: Vec<_> = regions.collect::<Result<_, SettingsError>>()?;
                super::layers::put_regions(table, &regions);
            }
        }
    }
    Ok(())
}
