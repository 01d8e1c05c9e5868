//! Reading messages of a partition.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use brigade_index::{
    ids::{Offset, Partition},
    names::TopicName,
};
use brigade_ingest::{IngestError, ReadFrom, ReadReply, ReadRequest, Slice};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::ACCEPT};

use super::{
    answer,
    call::Call,
    error::{ApiError, kinds},
    params::ReadParams,
    sse,
};
use crate::{
    serve::Leading,
    wire::{MessageSlice, encode_arrow, encode_json, encode_ndjson},
};

const NEXT_OFFSET: HeaderName = HeaderName::from_static("brigade-next-offset");
const HIGH_WATERMARK: HeaderName = HeaderName::from_static("brigade-high-watermark");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const ARROW: HeaderValue = HeaderValue::from_static("application/vnd.apache.arrow.stream");

/// `GET /v1/topics/{topic}/messages`
pub(super) async fn read(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let topic = call.topic()?;
    let format = Format::of(call.headers())?;
    let params = ReadParams::take(call.query()?)?;
    let partition = partition(&node, &topic, params.partition)?;
    let request = ReadRequest {
        topic,
        partition,
        from: params.from.unwrap_or(ReadFrom::Earliest),
        max_messages: params.max_messages,
        max_bytes: params.max_bytes,
        wait: Duration::from_millis(params.wait_ms),
    };
    if format == Format::Events {
        let from = resume_after(call.headers())?.unwrap_or(request.from);
        return sse::follow(node, ReadRequest { from, ..request }).await;
    }
    let compression = compression(&node, &request.topic);
    let reply = read_or_stop(&node, request).await?;
    encode(reply, format, compression)
}

/// The partition asked for, or the only one.
fn partition(node: &Leading, topic: &TopicName, asked: Option<u32>) -> Result<Partition, ApiError> {
    if let Some(partition) = asked {
        return Ok(Partition(partition));
    }
    let state = node.shard.state();
    let topic = state.topic_named(topic).ok_or_else(|| IngestError::TopicNotFound(topic.clone()))?;
    match topic.partitions.len() {
        1 => Ok(Partition(0)),
        count => Err(ApiError::new(kinds::PARTITION_REQUIRED, format!("the topic has {count} partitions"))),
    }
}

fn compression(node: &Leading, topic: &TopicName) -> brigade_index::batch::Compression {
    node.shard.state().topic_named(topic).map(|topic| topic.settings.compression).unwrap_or_default()
}

/// Reads; a wait ends early when the node shuts down, with what there is.
pub(super) async fn read_or_stop(node: &Leading, request: ReadRequest) -> Result<ReadReply, IngestError> {
    if request.wait.is_zero() {
        return node.ingest.read(request).await;
    }
    let at_once = ReadRequest { wait: Duration::ZERO, ..request.clone() };
    tokio::select! {
        biased;
        reply = node.ingest.read(request) => reply,
        () = node.draining.cancelled() => node.ingest.read(at_once).await,
    }
}

/// Where a client that was cut off while following goes on.
fn resume_after(headers: &HeaderMap) -> Result<Option<ReadFrom>, ApiError> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let offset = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok()).and_then(|id| id.checked_add(1));
    let offset = offset.ok_or_else(|| ApiError::parameter("Last-Event-ID", "is not an offset"))?;
    Ok(Some(ReadFrom::Offset(Offset(offset))))
}

/// A slice as the encoders take it.
pub(super) fn slice(slice: Slice) -> MessageSlice {
    MessageSlice {
        partition: slice.partition.0,
        base_offset: slice.base.0,
        messages: slice.messages,
        first: slice.first,
        rows: slice.rows,
    }
}

/// Slices as the encoders take them.
pub(super) fn slices(slices: Vec<Slice>) -> Vec<MessageSlice> {
    slices.into_iter().map(slice).collect()
}

fn encode(
    reply: ReadReply,
    format: Format,
    compression: brigade_index::batch::Compression,
) -> Result<Response, ApiError> {
    let (next, high_watermark) = (reply.next_offset.0, reply.high_watermark.0);
    let slices = slices(reply.slices);
    let mut response = match format {
        Format::NdJson => answer::with_type(StatusCode::OK, NDJSON, encode_ndjson(&slices)),
        Format::Arrow => {
            let body = encode_arrow(&slices, compression);
            let body = body.map_err(|error| ApiError::new(kinds::INTERNAL, error.to_string()))?;
            answer::with_type(StatusCode::OK, ARROW, body)
        }
        Format::Json | Format::Events => answer::json(StatusCode::OK, encode_json(&slices, next, high_watermark)),
    };
    response.headers_mut().insert(NEXT_OFFSET, next.into());
    response.headers_mut().insert(HIGH_WATERMARK, high_watermark.into());
    Ok(response)
}

/// Formats of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    NdJson,
    Arrow,
    Events,
}

impl Format {
    /// The format that the client likes best; the earlier of two that it likes equally.
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut best: Option<(Self, f32)> = None;
        let mut values = headers.get_all(ACCEPT).iter().peekable();
        if values.peek().is_none() {
            return Ok(Self::Json);
        }
        let ranges = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            let known = [
                ("application/json", Self::Json),
                ("*/*", Self::Json),
                ("application/*", Self::Json),
                ("application/x-ndjson", Self::NdJson),
                ("application/vnd.apache.arrow.stream", Self::Arrow),
                ("text/event-stream", Self::Events),
            ];
            let found = known.iter().find(|(name, _)| media_type.eq_ignore_ascii_case(name));
            if let Some((_, format)) = found
                && quality > best.map_or(0.0, |(_, quality)| quality)
            {
                best = Some((*format, quality));
            }
        }
        best.map(|(format, _)| format)
            .ok_or_else(|| ApiError::new(kinds::NOT_ACCEPTABLE, "none of the accepted media types can be given"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(accept: &'static str) -> Result<Format, &'static str> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        Format::of(&headers).map_err(|error| error.code)
    }

    #[test]
    fn the_best_accepted_format_is_taken() {
        assert_eq!(Format::of(&HeaderMap::new()).unwrap(), Format::Json);
        assert_eq!(format("*/*"), Ok(Format::Json));
        assert_eq!(format("text/html, application/x-ndjson;q=0.5, */*;q=0.1"), Ok(Format::NdJson));
        assert_eq!(format("application/json;q=0.2, text/event-stream"), Ok(Format::Events));
        assert_eq!(format("application/vnd.apache.arrow.stream"), Ok(Format::Arrow));
        assert_eq!(format("text/html"), Err("not_acceptable"));
        assert_eq!(format("application/json;q=0"), Err("not_acceptable"));
    }

    #[test]
    fn following_goes_on_after_the_last_event() {
        let resume = |id| resume_after(&HeaderMap::from_iter([(LAST_EVENT_ID, HeaderValue::from_static(id))]));
        assert_eq!(resume("41").unwrap(), Some(ReadFrom::Offset(Offset(42))));
        assert_eq!(resume("-1").unwrap_err().code, "invalid_parameter");
        assert_eq!(resume("18446744073709551615").unwrap_err().code, "invalid_parameter");
        assert_eq!(resume_after(&HeaderMap::new()).unwrap(), None);
    }
}
