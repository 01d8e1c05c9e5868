//! Ranges of settings and how they relate. Every limit stands here with its reason.

use brigade_index::limits::MAX_ENTRY_BYTES;
use url::Url;

use super::{
    Settings, SettingsError,
    regions::{check_region_count, check_regions},
};
use crate::push::AddressPolicy;

/// Largest publish body: its messages must fit an entry together with an entry's target of others.
const MAX_REQUEST_MIB: u64 = (MAX_ENTRY_BYTES as u64 / 2) >> 20;

/// Most memory for publishes or cache: a terabyte is a typing error.
const MAX_MEMORY_MIB: u64 = 1 << 20;

/// Longest time-out or linger; beyond an hour nobody waits.
const MAX_TIMEOUT_MS: u64 = 3_600_000;

/// Shortest lease: below it, a lost packet or a busy processor looks like death.
const MIN_LEASE_MS: u64 = 100;

/// Least memory of the compactor: a batch on its way in, a row group, and a part on its way out.
const MIN_COMPACT_MEMORY_MIB: u64 = 32;

/// Largest archive file: a part of 8 MiB, ten thousand times, with room to spare.
const MAX_FILE_MIB: u64 = 16 << 10;

/// Longest wait of messages for the archive, and of replaced files for their deletion: a month.
const MAX_COMPACT_WAIT_MS: u64 = 31 * 24 * 3_600_000;

/// Longest linger: a publish that waits longer than this for company helps nobody.
const MAX_LINGER_MS: u64 = 10_000;

fn invalid(key: &'static str, problem: impl Into<String>) -> SettingsError {
    SettingsError::Invalid { key, problem: problem.into() }
}

fn within(key: &'static str, value: u64, from: u64, to: u64) -> Result<(), SettingsError> {
    if (from..=to).contains(&value) {
        return Ok(());
    }
    Err(invalid(key, format!("{value} is not between {from} and {to}")))
}

impl Settings {
    /// Checks ranges and how settings relate.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        within("drain_seconds", self.drain_seconds, 0, 3_600)?;
        within("publish.linger_ms", self.publish.linger_ms, 0, MAX_LINGER_MS)?;
        within("publish.pace_ms", self.publish.pace_ms, 0, MAX_LINGER_MS)?;
        within("publish.memory_mib", self.publish.memory_mib, 1, MAX_MEMORY_MIB)?;
        within("publish.max_request_mib", self.publish.max_request_mib, 1, MAX_REQUEST_MIB)?;
        if self.publish.max_request_mib > self.publish.memory_mib {
            let problem = format!("a request of {} MiB never fits", self.publish.max_request_mib);
            return Err(invalid(
                "publish.memory_mib",
                format!("{problem}; raise it, or lower publish.max_request_mib"),
            ));
        }
        within("publish.request_timeout_ms", self.publish.request_timeout_ms, 1, MAX_TIMEOUT_MS)?;
        within("read.cache_mib", self.read.cache_mib, 0, MAX_MEMORY_MIB)?;
        within("http.max_connections", self.http.max_connections as u64, 1, 1_000_000)?;
        within("http.header_timeout_ms", self.http.header_timeout_ms, 1, MAX_TIMEOUT_MS)?;
        within("http.body_timeout_ms", self.http.body_timeout_ms, 1, MAX_TIMEOUT_MS)?;
        within("push.memory_mib", self.push.memory_mib, 1, MAX_MEMORY_MIB)?;
        // The policy takes both lists; each is tried alone to name the one that is wrong.
        AddressPolicy::new(&self.push.forbid, &[])
            .map_err(|problem| invalid("push.forbid", format!("{problem}, or as loopback or private")))?;
        AddressPolicy::new(&[], &self.push.allow).map_err(|problem| invalid("push.allow", problem.to_string()))?;
        self.check_compact()?;
        within("lease.timeout_ms", self.lease.timeout_ms, MIN_LEASE_MS, MAX_TIMEOUT_MS)?;
        within("lease.probe_ms", self.lease.probe_ms, 10, MAX_TIMEOUT_MS)?;
        if self.lease.probe_ms > self.lease.timeout_ms / 2 {
            let problem = format!("{} is more than half of lease.timeout_ms", self.lease.probe_ms);
            return Err(invalid("lease.probe_ms", format!("{problem}; one lost question must not look like silence")));
        }
        if let Err(error) = self.log.filter.parse::<tracing_subscriber::EnvFilter>() {
            return Err(invalid("log.filter", error.to_string()));
        }
        if self.node_name.as_ref().is_some_and(|name| name.is_empty() || name.len() > 200) {
            return Err(invalid("node_name", "it must have 1 to 200 bytes"));
        }
        self.check_advertise()?;
        self.check_regions()
    }

    fn check_compact(&self) -> Result<(), SettingsError> {
        let compact = &self.compact;
        within("compact.memory_mib", compact.memory_mib, MIN_COMPACT_MEMORY_MIB, MAX_MEMORY_MIB)?;
        within("compact.bandwidth_mib", compact.bandwidth_mib, 0, MAX_MEMORY_MIB)?;
        within("compact.repair_bandwidth_mib", compact.repair_bandwidth_mib, 0, MAX_MEMORY_MIB)?;
        within("compact.file_mib", compact.file_mib, 1, MAX_FILE_MIB)?;
        within("compact.max_file_mib", compact.max_file_mib, 1, MAX_FILE_MIB)?;
        if compact.max_file_mib < compact.file_mib {
            let problem = format!("{} is less than compact.file_mib", compact.max_file_mib);
            return Err(invalid("compact.max_file_mib", format!("{problem}; files are merged up to it")));
        }
        within("compact.archive_after_ms", compact.archive_after_ms, 0, MAX_COMPACT_WAIT_MS)?;
        within("compact.delete_delay_ms", compact.delete_delay_ms, 0, MAX_COMPACT_WAIT_MS)
    }

    fn check_advertise(&self) -> Result<(), SettingsError> {
        let Some(advertise) = &self.advertise else { return Ok(()) };
        let url = Url::parse(advertise).map_err(|error| invalid("advertise", format!("it is not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(invalid("advertise", "it must be a URL with http:// or https:// and a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("advertise", "it is published to everybody, so it must not hold a password"));
        }
        Ok(())
    }

    fn check_regions(&self) -> Result<(), SettingsError> {
        if self.data.is_some() && !self.regions.is_empty() {
            return Err(invalid("data", "regions are given too; give either a data directory or regions"));
        }
        if self.data.as_ref().is_some_and(|data| data.as_os_str().is_empty()) {
            return Err(invalid("data", "it is empty; name a directory"));
        }
        if let Some(count) = self.dev_regions {
            if !self.regions.is_empty() {
                let problem = "regions are given too; give either --region for each store or --dev-regions";
                return Err(invalid("dev_regions", problem));
            }
            check_region_count(count as usize).map_err(|problem| invalid("dev_regions", problem.to_string()))?;
        }
        if self.regions.is_empty() {
            return Ok(());
        }
        check_regions(&self.regions).map_err(|problem| invalid("regions", problem.to_string()))
    }
}
