//! A topic for people.

use crate::{
    cli::{
        CliError, Context,
        output::{bytes, count, print_json, print_line, print_table, table},
        units::shown_time,
    },
    client::{Topic, TopicSettings},
};

pub(super) fn show(context: &Context, topic: &Topic) -> Result<(), CliError> {
    if context.json() {
        return print_json(topic);
    }
    let settings = &topic.settings;
    print_line(format_args!(
        "topic {}: partitions {}, messages up to {}, compression {}, deduplication window {}, replication {}",
        topic.name,
        settings.partitions.unwrap_or(1),
        bytes(settings.max_message_bytes.unwrap_or(0)),
        settings.compression.as_deref().unwrap_or("?"),
        settings.deduplication_window_ms.map_or_else(|| "?".to_owned(), |window| shown_time(window.into())),
        settings.replication.as_deref().unwrap_or("?"),
    ))?;
    print_line(format_args!("messages are kept {}", kept(settings)))?;
    let header = [
        "partition",
        "log start",
        "archived end",
        "high watermark",
        "messages",
        "published",
        "files",
        "archived bytes",
        "stored bytes",
    ];
    let mut rows = table(&header, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    for partition in &topic.partitions {
        rows.add_row([
            partition.partition.to_string(),
            partition.log_start.to_string(),
            partition.archived_end.to_string(),
            partition.high_watermark.to_string(),
            count(partition.messages),
            bytes(partition.bytes),
            count(partition.files),
            bytes(partition.archived_bytes),
            bytes(partition.stored_bytes),
        ]);
    }
    print_table(&rows)
}

/// How long messages are kept, and which, in words.
fn kept(settings: &TopicSettings) -> String {
    let mut limits = Vec::new();
    if let Some(time) = settings.retention_ms.flatten() {
        limits.push(format!("for {}", shown_time(time)));
    }
    if let Some(size) = settings.retention_bytes.flatten() {
        limits.push(format!("up to {} a partition", bytes(size)));
    }
    if settings.delete_after_ack == Some(true) {
        limits.push("until every subscription is done with them, where there are any".to_owned());
    }
    if limits.is_empty() {
        limits.push("forever".to_owned());
    }
    let whichever = if limits.len() > 1 { ", whichever ends first" } else { "" };
    let mut kept = format!("{}{whichever}", limits.join(", or "));
    if settings.key_compaction == Some(true) {
        let (lag, tombstones) = (settings.compaction_lag_ms.unwrap_or(0), settings.tombstone_retention_ms.unwrap_or(0));
        let after = if lag > 0 { format!(" after {}", shown_time(lag)) } else { String::new() };
        let tombstones = match tombstones {
            0 => "tombstones go as soon as they are compacted".to_owned(),
            ms => format!("tombstones stay for {}", shown_time(ms)),
        };
        kept.push_str(&format!("; of each key only the last stays{after}; {tombstones}"));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_said_in_words() {
        let forever = TopicSettings { retention_ms: Some(None), ..TopicSettings::default() };
        assert_eq!(kept(&forever), "forever");
        let limited = TopicSettings {
            retention_ms: Some(Some(604_800_000)),
            retention_bytes: Some(Some(10 << 30)),
            delete_after_ack: Some(true),
            ..TopicSettings::default()
        };
        assert_eq!(
            kept(&limited),
            "for 7d, or up to 10.00 GiB a partition, or until every subscription is done with them, where there are any, \
             whichever ends first"
        );
        let compacted = TopicSettings {
            key_compaction: Some(true),
            compaction_lag_ms: Some(5_400_000),
            tombstone_retention_ms: Some(86_400_000),
            ..TopicSettings::default()
        };
        assert_eq!(kept(&compacted), "forever; of each key only the last stays after 1h30m; tombstones stay for 1d");
        let brief = TopicSettings { tombstone_retention_ms: Some(0), ..compacted };
        assert!(kept(&brief).ends_with("; tombstones go as soon as they are compacted"));
    }
}
