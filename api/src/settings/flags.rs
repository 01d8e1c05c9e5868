//! Settings from the command line.

use toml::{Table, Value};

use super::layers::{put, put_regions};
use crate::cli::serve::{LogFormat, ServeArgs};

/// Lays the flags that are given over `table`.
pub(super) fn lay_over(table: &mut Table, args: &ServeArgs) {
    let log_format = args.log_format.map(|format| match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    });
    let texts = [
        (&["listen"] as &[&str], args.listen.map(|listen| listen.to_string())),
        (&["data"], args.data.as_ref().map(|data| data.display().to_string())),
        (&["advertise"], args.advertise.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned())),
        (&["log", "format"], log_format.map(str::to_owned)),
    ];
    for (place, text) in texts {
        text.into_iter().for_each(|text| put(table, place, Value::String(text)));
    }
    let numbers = [
        (&["publish", "linger_ms"] as &[&str], args.linger_ms),
        (&["publish", "pace_ms"], args.pace_ms),
        (&["publish", "memory_mib"], args.publish_memory_mib),
        (&["read", "cache_mib"], args.cache_mib),
        (&["drain_seconds"], args.drain_seconds),
        (&["dev_regions"], args.dev_regions.map(u64::from)),
        (&["compact", "memory_mib"], args.compact_memory_mib),
        (&["compact", "bandwidth_mib"], args.compact_bandwidth_mib),
        (&["compact", "repair_bandwidth_mib"], args.compact_repair_bandwidth_mib),
        (&["compact", "file_mib"], args.compact_file_mib),
        (&["compact", "max_file_mib"], args.compact_max_file_mib),
        (&["compact", "archive_after_ms"], args.compact_archive_after_ms),
        (&["compact", "delete_delay_ms"], args.compact_delete_delay_ms),
        (&["lease", "timeout_ms"], args.lease_timeout_ms),
        (&["lease", "probe_ms"], args.lease_probe_ms),
    ];
    for (place, number) in numbers {
        // Too large for TOML is too large for every range that is checked afterwards.
        let number = number.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        number.into_iter().for_each(|number| put(table, place, Value::Integer(number)));
    }
    if let Some(enabled) = args.compact_enabled {
        put(table, &["compact", "enabled"], Value::Boolean(enabled));
    }
    if !args.region.is_empty() {
        let regions: Vec<_> = args.region.iter().map(|region| (region.name.clone(), region.url.clone())).collect();
        put_regions(table, &regions);
    }
}
