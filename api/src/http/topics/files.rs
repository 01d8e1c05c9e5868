//! Archive files of a topic.

use std::sync::Arc;

use axum::response::Response;
use brigade_index::{
    archive::ArchiveFile,
    ids::Partition,
    state::{Regions, Topic},
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::not_found;
use crate::{
    http::{
        answer,
        call::Call,
        error::ApiError,
        params::{Query, shown},
    },
    serve::Leading,
};

/// An archive file.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct FileView {
    partition: u32,
    /// Its number, which no other archive file has.
    id: u64,
    /// First offset that it covers.
    first_offset: u64,
    /// The offset after the last that it covers.
    end_offset: u64,
    /// Messages in it; fewer than offsets when it is compacted.
    messages: u64,
    /// Its size.
    bytes: u64,
    /// Bytes of keys, values and headers in it.
    payload_bytes: u64,
    /// Where it is in the bucket of each of its regions, below the region's prefix.
    key: String,
    /// Smallest timestamp in it, milliseconds since the Unix epoch.
    min_timestamp: i64,
    /// Largest timestamp in it, milliseconds since the Unix epoch.
    max_timestamp: i64,
    /// Names of the regions that are known to have it.
    regions: Vec<String>,
    /// Whether it was key-compacted.
    compacted: bool,
    /// How often its messages were written into an archive file after the first time, at most.
    merges: u32,
}

/// A page of archive files.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct FilePage {
    /// In the order of partitions and offsets.
    files: Vec<FileView>,
    /// What `after` is for the next page; `null` at the end.
    next: Option<String>,
}

/// Parameters of a page of archive files.
struct FileParams {
    partition: Option<Partition>,
    /// Partition and first offset of the last file of the page before.
    after: Option<(Partition, u64)>,
    limit: usize,
}

impl FileParams {
    fn take(mut query: Query<'_>) -> Result<Self, ApiError> {
        let partition = query.partition()?.map(Partition);
        let after = query.text("after").map(|text| {
            let place = text
                .split_once(':')
                .and_then(|(partition, first)| Some((Partition(partition.parse().ok()?), first.parse().ok()?)));
            let problem = || format!("is {:?}; it must be `next` of the page before, as in 0:1000", shown(&text));
            place.ok_or_else(|| ApiError::parameter("after", problem()))
        });
        let (after, limit) = (after.transpose()?, query.positive("limit", (100, 1_000))?);
        query.finish().map(|()| Self { partition, after, limit })
    }
}

/// `GET /v1/topics/{topic}/files`
pub(in crate::http) async fn list(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let name = call.topic()?;
    let params = FileParams::take(call.query()?)?;
    let page = {
        let state = node.shard.state();
        let topic = state.topic_named(&name).ok_or_else(|| not_found(&name))?;
        if let Some(missing) = params.partition.filter(|partition| topic.partition(*partition).is_none()) {
            return Err(brigade_index::command::Rejection::PartitionNotFound(missing).into());
        }
        page(topic, &state.regions, &params)
    };
    answer::value(StatusCode::OK, &page)
}

fn page(topic: &Topic, regions: &Regions, params: &FileParams) -> FilePage {
    let wanted = |(number, _): &(Partition, _)| {
        let in_time = params.after.is_none_or(|(after, _)| after <= *number);
        in_time && params.partition.is_none_or(|partition| partition == *number)
    };
    let logs = (0..).map(Partition).zip(&topic.partitions).filter(wanted);
    let mut found = logs.flat_map(|(number, log)| {
        let after = params.after.filter(|(partition, _)| *partition == number);
        let first = log.files().partition_point(|file| after.is_some_and(|(_, after)| file.first.0 <= after));
        log.files()[first..].iter().map(move |file| view(topic, number, file, regions))
    });
    let files: Vec<_> = found.by_ref().take(params.limit).collect();
    let next = found.next().and(files.last()).map(|last| format!("{}:{}", last.partition, last.first_offset));
    FilePage { files, next }
}

fn view(topic: &Topic, partition: Partition, file: &ArchiveFile, regions: &Regions) -> FileView {
    let region = |number| regions.get(number).map(|record| record.name.to_string());
    FileView {
        partition: partition.0,
        id: file.id.0,
        first_offset: file.first.0,
        end_offset: file.end.0,
        messages: file.rows,
        bytes: file.bytes,
        payload_bytes: file.payload_bytes,
        key: file.key(&topic.name, topic.id, partition).to_string(),
        min_timestamp: file.min_timestamp_ms,
        max_timestamp: file.max_timestamp_ms,
        regions: file.regions.iter().copied().filter_map(region).collect(),
        compacted: file.compacted,
        merges: file.merges,
    }
}
