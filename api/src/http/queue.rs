//! Queue subscriptions: receiving messages, each with a receipt, and settling them by it.

mod dead;

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use brigade_index::{
    limits::MAX_VISIBILITY_MS,
    names::{SubscriptionName, TopicName},
};
use brigade_ingest::{Action, Admission, Delivery, IngestError, QueueHandle, QueuePoll, ReceiptError, Settled};
use http::{Extensions, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::ToSchema;

use super::{
    answer,
    body::{self, BodyLimits},
    call::Call,
    error::{ApiError, receipt_kind},
    params::{MAX_WAIT_MS, READ_BYTES, milliseconds, within},
    poll::{POLL_MESSAGES, PollBody},
    read::slice,
    subscriptions::names,
    topics::body_time,
};
use crate::{
    serve::{Leading, left},
    wire::{Verdict, encode_deliveries, write_verdicts},
};

pub(super) use dead::{PickBody, RedriveBody, list, purge, redrive};

/// Most messages of one poll: each is remembered until it is settled or its time is over.
const MAX_POLL_MESSAGES: u64 = 1_000;

/// Most receipts of one call.
const MAX_RECEIPTS: usize = 10_000;

/// Largest body of such a call: so many receipts of 82 characters, with room for spaces.
const MAX_RECEIPTS_BYTES: usize = 1024 * 1024;

/// Messages that are done, or are given up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReceiptsBody {
    /// Receipts, at most 10000.
    receipts: Vec<String>,
}

/// Messages that are to come again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NackBody {
    /// Receipts, at most 10000.
    receipts: Vec<String>,
    /// How long they wait before, at most 43200000; by default as the subscription says.
    delay_ms: Option<u64>,
}

/// Messages that take longer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExtendBody {
    /// Receipts, at most 10000.
    receipts: Vec<String>,
    /// How long the receipts are good from now on, 1 to 43200000.
    visibility_timeout_ms: u64,
}

/// `POST …/poll` of a queue.
pub(super) async fn poll(
    node: &Leading,
    (topic, name): (&TopicName, &SubscriptionName),
    body: &PollBody,
    caller: &Extensions,
) -> Result<Response, ApiError> {
    if body.member.is_some() {
        return Err(ApiError::parameter("member", "is of streams; this subscription is a queue"));
    }
    if body.positions.is_some() {
        return Err(ApiError::parameter("positions", "is of streams; this subscription is a queue"));
    }
    let visibility = body.visibility_timeout_ms.map(|asked| span("visibility_timeout_ms", asked, 1));
    let poll = QueuePoll {
        max_messages: within("max_messages", body.max_messages, (POLL_MESSAGES, MAX_POLL_MESSAGES), 1)?,
        max_bytes: within("max_bytes", body.max_bytes, READ_BYTES, 1)?,
        wait: milliseconds("wait_ms", body.wait_ms, (0, MAX_WAIT_MS), 0)?,
        visibility: visibility.transpose()?,
    };
    let queue = node.ingest.queue(topic, name)?;
    let deliveries = poll_or_stop(node, &queue, poll, caller).await?;
    let deliveries: Vec<_> =
        deliveries.into_iter().map(|Delivery { slice: found, receipts }| (slice(found), receipts)).collect();
    Ok(answer::json(StatusCode::OK, encode_deliveries(&deliveries)))
}

/// Polls; a wait ends early when the node shuts down, with what there is, and when whoever waits has left, with nothing.
async fn poll_or_stop(
    node: &Leading,
    queue: &QueueHandle,
    poll: QueuePoll,
    caller: &Extensions,
) -> Result<Vec<Delivery>, IngestError> {
    if poll.wait.is_zero() {
        return queue.poll(poll).await;
    }
    tokio::select! {
        biased;
        () = left(caller) => Ok(Vec::new()),
        deliveries = queue.poll(poll) => deliveries,
        () = node.draining.cancelled() => queue.poll(QueuePoll { wait: Duration::ZERO, ..poll }).await,
    }
}

/// `POST …/ack`
pub(super) async fn ack(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (queue, ReceiptsBody { receipts }, _room) = taken(&node, call).await?;
    settle(&queue, Action::Ack, "acknowledged", receipts).await
}

/// `POST …/reject`
pub(super) async fn reject(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (queue, ReceiptsBody { receipts }, _room) = taken(&node, call).await?;
    settle(&queue, Action::Reject, "rejected", receipts).await
}

/// `POST …/nack`
pub(super) async fn nack(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (queue, NackBody { receipts, delay_ms }, _room) = taken(&node, call).await?;
    let delay = delay_ms.map(|asked| span("delay_ms", asked, 0)).transpose()?;
    settle(&queue, Action::Nack { delay }, "returned", receipts).await
}

/// `POST …/extend`
pub(super) async fn extend(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let (queue, ExtendBody { receipts, visibility_timeout_ms }, _room) = taken(&node, call).await?;
    let visibility = span("visibility_timeout_ms", visibility_timeout_ms, 1)?;
    settle(&queue, Action::Extend { visibility }, "extended", receipts).await
}

/// The queue that the path names, the body, and the room in memory that this takes.
async fn taken<T: DeserializeOwned>(
    node: &Leading,
    call: Call,
) -> Result<(QueueHandle, T, Option<Admission>), ApiError> {
    let (topic, name) = names(&call)?;
    let Call { parts, body, .. } = call;
    let limits = BodyLimits { bytes: MAX_RECEIPTS_BYTES, time: body_time(node) };
    let (body, room) = body::large_document(body, &parts.headers, limits, &node.ingest).await?;
    Ok((node.ingest.queue(&topic, &name)?, body, room))
}

/// How long something lasts, within what subscriptions may have.
fn span(name: &str, given: u64, least: u64) -> Result<Duration, ApiError> {
    milliseconds(name, Some(given), (given, u64::from(MAX_VISIBILITY_MS)), least)
}

/// Settles, and answers for each receipt.
async fn settle(
    queue: &QueueHandle,
    action: Action,
    done: &'static str,
    receipts: Vec<String>,
) -> Result<Response, ApiError> {
    if receipts.len() > MAX_RECEIPTS {
        let problem = format!("are {}; give at most {MAX_RECEIPTS} in one call", receipts.len());
        return Err(ApiError::parameter("receipts", problem));
    }
    let results = queue.settle(action, &receipts).await.map_err(|error| ApiError::from(error).repeatable())?;
    settled(done, &receipts, &results)
}

/// 200 if any receipt was good or none was given, else the first problem.
fn settled(
    done: &'static str,
    receipts: &[String],
    results: &[Result<Settled, ReceiptError>],
) -> Result<Response, ApiError> {
    let verdict = |result: &'_ Result<Settled, ReceiptError>| match result {
        Ok(Settled { extended: None }) => Verdict::Done { status: done, extended: None },
        Ok(Settled { extended: Some((receipt, deadline_ms)) }) => {
            Verdict::Done { status: done, extended: Some((receipt.clone(), *deadline_ms)) }
        }
        Err(error) => {
            let (_, code, hint) = receipt_kind(*error);
            Verdict::Refused { code, message: error.to_string(), hint }
        }
    };
    let mut out = Vec::with_capacity(16 + 128 * receipts.len());
    write_verdicts(&mut out, receipts.iter().map(String::as_str).zip(results.iter().map(verdict)));
    match results.iter().find_map(|result| result.as_ref().err()) {
        Some(problem) if results.iter().all(Result::is_err) => Err(ApiError::from(*problem).beside("results", out)),
        _ => {
            let mut body = Vec::with_capacity(out.len() + 16);
            body.extend_from_slice(b"{\"results\":");
            body.extend_from_slice(&out);
            body.push(b'}');
            Ok(answer::json(StatusCode::OK, body))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;

    async fn answered(done: &'static str, results: &[Result<Settled, ReceiptError>]) -> (u16, Value) {
        let receipts: Vec<_> = (0..results.len()).map(|number| format!("\"{number}")).collect();
        let response = settled(done, &receipts, results).unwrap_or_else(ApiError::into_response);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn every_receipt_has_its_answer() {
        let good = || Ok(Settled { extended: None });
        assert_eq!(answered("acknowledged", &[]).await, (200, json!({"results": []})));
        let (status, body) = answered("acknowledged", &[good(), Err(ReceiptError::Expired)]).await;
        assert_eq!(status, 200);
        assert_eq!(body["results"][0], json!({"receipt": "\"0", "status": "acknowledged"}));
        assert_eq!((&body["results"][1]["receipt"], &body["error"]), (&json!("\"1"), &Value::Null));
        assert_eq!(body["results"][1]["error"]["code"], "receipt_expired");
        assert!(body["results"][1]["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
        let extended = Ok(Settled { extended: Some(("new".to_owned(), 7)) });
        let (_, body) = answered("extended", &[extended]).await;
        let wanted = json!({"receipt": "\"0", "status": "extended", "new_receipt": "new", "deadline": 7});
        assert_eq!(body["results"][0], wanted);
    }

    #[tokio::test]
    async fn when_all_are_refused_the_first_problem_is_the_answers() {
        let kinds = [
            (ReceiptError::Invalid, 400, "receipt_invalid"),
            (ReceiptError::Foreign, 400, "receipt_foreign"),
            (ReceiptError::Expired, 410, "receipt_expired"),
            (ReceiptError::Superseded, 409, "receipt_superseded"),
            (ReceiptError::AlreadySettled, 409, "already_settled"),
            (ReceiptError::BeingSettled, 409, "being_settled"),
        ];
        for (error, status, code) in kinds {
            let (found, body) = answered("acknowledged", &[Err(error), Err(ReceiptError::Invalid)]).await;
            assert_eq!((found, &body["error"]["code"]), (status, &json!(code)));
            assert_eq!(body["results"][0]["error"], body["error"]);
            assert_eq!(body["results"][1]["error"]["code"], "receipt_invalid");
        }
    }
}
