//! Dead letters: looking at them, giving them back, forgetting them.

use std::sync::Arc;

use axum::response::Response;
use brigade_index::{
    filter::Filter,
    ids::{Offset, Partition},
};
use brigade_ingest::{DeadLetterPick, DeadLetterQuery, IngestError, QueueHandle};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    http::{
        answer, body,
        call::Call,
        error::ApiError,
        params::{Query, READ_BYTES, shown},
        read::slice,
        subscriptions::names,
        topics::body_time,
    },
    serve::Leading,
    wire::encode_dead_letters,
};

/// Letters of a page, by default and at most: each may lie in a batch of its own.
const PAGE: (u64, u64) = (100, 1_000);

/// Which dead letters are given back.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RedriveBody {
    /// Only those that it matches; all by default.
    filter: Option<String>,
    /// At most so many.
    max_messages: Option<u64>,
    /// So many become ready a second; all at once by default.
    per_second: Option<u32>,
}

/// Which dead letters are forgotten.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PickBody {
    /// Only those that it matches; all by default.
    filter: Option<String>,
    /// At most so many.
    max_messages: Option<u64>,
}

/// `GET …/dead-letters`
pub(in crate::http) async fn list(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (topic, name) = (call.topic()?, call.subscription()?);
    let query = query(call.query()?)?;
    let page = node.ingest.queue(&topic, &name)?.dead_letters(query).await?;
    let letters: Vec<_> = page.letters.into_iter().map(|(found, letter)| (slice(found), letter)).collect();
    let next = page.next.map(|(partition, offset)| (partition.0, offset.0));
    Ok(answer::json(StatusCode::OK, encode_dead_letters(topic.as_str(), &letters, next)))
}

fn query(mut query: Query<'_>) -> Result<DeadLetterQuery, ApiError> {
    let asked = DeadLetterQuery {
        after: query.text("after").map(|text| after(&text)).transpose()?,
        max_messages: query.positive("max_messages", PAGE)?,
        max_bytes: query.positive("max_bytes", READ_BYTES)?,
        filter: query.text("filter").map(|text| Filter::parse(&text)).transpose()?,
    };
    query.finish().map(|()| asked)
}

/// `PARTITION:OFFSET`
fn after(text: &str) -> Result<(Partition, Offset), ApiError> {
    let parse = || {
        let (partition, offset) = text.split_once(':')?;
        Some((Partition(digits(partition)?.try_into().ok()?), Offset(digits(offset)?)))
    };
    let problem = || format!("is {:?}; use next of the page before", shown(text));
    parse().ok_or_else(|| ApiError::parameter("after", problem()))
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `POST …/dead-letters/redrive`
pub(in crate::http) async fn redrive(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (topic, name) = names(&call)?;
    let Call { parts, body, .. } = call;
    let RedriveBody { filter, max_messages, per_second } =
        body::document(body, &parts.headers, body_time(&node)).await?;
    if per_second == Some(0) {
        return Err(ApiError::parameter("per_second", "must be at least 1"));
    }
    let pick = DeadLetterPick { per_second, ..pick(filter, max_messages)? };
    let queue: QueueHandle = node.ingest.queue(&topic, &name)?;
    let redriven = queue.redrive(pick).await.map_err(repeatable)?;
    answer::value(StatusCode::OK, &json!({"redriven": redriven}))
}

/// `POST …/dead-letters/purge`
pub(in crate::http) async fn purge(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (topic, name) = names(&call)?;
    let Call { parts, body, .. } = call;
    let PickBody { filter, max_messages } = body::document(body, &parts.headers, body_time(&node)).await?;
    let pick = pick(filter, max_messages)?;
    let queue: QueueHandle = node.ingest.queue(&topic, &name)?;
    let purged = queue.purge(pick).await.map_err(repeatable)?;
    answer::value(StatusCode::OK, &json!({"purged": purged}))
}

fn pick(filter: Option<String>, max_messages: Option<u64>) -> Result<DeadLetterPick, ApiError> {
    if max_messages == Some(0) {
        return Err(ApiError::parameter("max_messages", "must be at least 1"));
    }
    let filter = filter.map(|text| Filter::parse(&text)).transpose()?;
    Ok(DeadLetterPick { filter, max_messages, per_second: None })
}

/// Letters that were given back or forgotten are no letters any more, so that the rest can be asked for again.
fn repeatable(error: IngestError) -> ApiError {
    ApiError::from(error).repeatable()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_behind_the_one_before() {
        let asked = query(Query::parse("after=3:18446744073709551615&max_messages=7&filter=a%20%3D%201").unwrap());
        let asked = asked.unwrap();
        assert_eq!((asked.after, asked.max_messages), (Some((Partition(3), Offset(u64::MAX))), 7));
        assert_eq!(asked.filter.unwrap().text(), "a = 1");
        let plain = query(Query::parse("").unwrap()).unwrap();
        assert_eq!((plain.after, plain.max_messages, plain.max_bytes), (None, 100, 1 << 20));
        for wrong in ["after=3", "after=:1", "after=1:", "after=-1:2", "after=4294967296:0", "after=a:b", "after="] {
            assert_eq!(query(Query::parse(wrong).unwrap()).unwrap_err().code, "invalid_parameter", "{wrong}");
        }
        assert_eq!(query(Query::parse("filter=a%20%3D").unwrap()).unwrap_err().code, "invalid_filter");
        assert_eq!(query(Query::parse("max_messages=1001").unwrap()).unwrap_err().code, "invalid_parameter");
        assert_eq!(query(Query::parse("offset=1").unwrap()).unwrap_err().code, "invalid_parameter");
        assert_eq!(pick(None, Some(0)).unwrap_err().code, "invalid_parameter");
    }
}
