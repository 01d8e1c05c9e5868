//! `brigade topic files`.

use super::PAGE;
use crate::cli::{
    CliError, Context,
    output::{bytes, count, print_json, print_table, table},
    times::shown_point,
};

pub(super) async fn list(context: &Context, topic: &str, partition: Option<u32>, limit: usize) -> Result<(), CliError> {
    let (mut files, mut after) = (Vec::new(), None);
    while files.len() < limit {
        let page = u32::try_from(limit - files.len()).unwrap_or(PAGE).min(PAGE);
        let answer = context.client.topic_files(topic, partition, after.as_deref(), page).await?;
        files.extend(answer.files);
        after = answer.next;
        if after.is_none() {
            break;
        }
    }
    if context.json() {
        return print_json(&files);
    }
    let header = [
        "partition",
        "first offset",
        "end offset",
        "messages",
        "bytes",
        "oldest message",
        "newest message",
        "compacted",
        "merges",
        "regions",
        "key",
    ];
    let mut rows = table(&header, &[0, 1, 2, 3, 4, 8]);
    for file in files {
        rows.add_row([
            file.partition.to_string(),
            file.first_offset.to_string(),
            file.end_offset.to_string(),
            count(file.messages),
            bytes(file.bytes),
            shown_point(file.min_timestamp),
            shown_point(file.max_timestamp),
            if file.compacted { "yes" } else { "no" }.to_owned(),
            file.merges.to_string(),
            file.regions.join(","),
            file.key,
        ]);
    }
    print_table(&rows)
}
