//! Transactions: publishing and acknowledging together, now or after a decision.

mod view;

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::response::Response;
use brigade_index::{
    command::CheckBack,
    limits::{MAX_CHECK_BACK_MS, MAX_PREPARED_MS, MIN_CHECK_BACK_MS},
    names::{SubscriptionName, TopicName, TransactionId},
};
use brigade_ingest::{Preparation, QueueHandle, TransactionDraft};
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

pub(super) use self::view::{Transacted, TransactionList, TransactionView};
use super::{
    answer, body,
    call::Call,
    error::{ApiError, kinds},
    params::shown,
    publish::{DUPLICATE, DraftSink, Format, TRUE, limits},
};
use crate::{serve::Leading, wire::parse_message_list};

/// How long a prepared transaction waits when the client does not say it, in milliseconds.
const TIMEOUT_MS: u64 = 60_000;

/// Time between questions when the client does not say it, in milliseconds.
const CHECK_EVERY_MS: u32 = 5_000;

/// What to do about a transaction when nobody knows what came of it. Without its id it would happen again.
pub(super) const UNKNOWN_HINT: &str = "it may or may not have happened: send it again with its id, then it happens once; \
     GET /v1/transactions/{id} shows what has become of it";

/// A transaction as a client sends it. The document describes it in `openapi/shapes.rs`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TransactionBody<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    publish: Vec<PublishPart<'a>>,
    #[serde(borrow, default)]
    ack: Vec<AckPart<'a>>,
    #[serde(default)]
    prepare: bool,
    timeout_ms: Option<u64>,
    check_back: Option<CheckBackBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishPart<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    /// Parsed once the topic is known.
    #[serde(borrow)]
    messages: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AckPart<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    subscription: Cow<'a, str>,
    receipts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckBackBody {
    url: String,
    every_ms: Option<u32>,
}

/// `POST /v1/transactions`
pub(super) async fn transact(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    call.query()?.finish()?;
    if Format::of(call.headers())? != Format::Json {
        let problem = "a transaction is a JSON object";
        return Err(ApiError {
            hint: "send application/json".into(),
            ..ApiError::new(kinds::UNSUPPORTED_CONTENT_TYPE, problem)
        });
    }
    let Call { parts, body, .. } = call;
    let (body, admission) = body::admitted(body, &parts.headers, limits(&node.settings), &node.ingest).await?;
    let draft = draft(&node, &body)?;
    drop(body);
    let (id, topics) =
        (draft.id.clone(), draft.publishes.iter().map(|draft| draft.topic().clone()).collect::<Vec<_>>());
    let reply = node.ingest.transact(draft, admission).await.map_err(|error| named(&id, error.into()))?;
    let repeated = reply.repeated;
    let mut response = answer::value(StatusCode::OK, &Transacted::new(&id, &topics, reply.state))?;
    if repeated {
        response.headers_mut().insert(DUPLICATE, TRUE);
    }
    Ok(response)
}

/// `GET /v1/transactions`
pub(super) async fn list(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let mut query = call.query()?;
    let limit = query.positive("limit", (100, 1_000))?;
    if let Some(state) = query.text("state").filter(|state| state != "prepared") {
        let problem = format!("is {:?}; only prepared transactions can be listed", shown(&state));
        return Err(ApiError::parameter("state", problem));
    }
    let after = query.text("after").map(|after| TransactionId::new(&after)).transpose()?;
    query.finish()?;
    // One more than asked for tells whether there is another page.
    let found = node.ingest.undecided(after.as_ref(), limit + 1);
    answer::value(StatusCode::OK, &TransactionList::new(found, limit))
}

/// `GET /v1/transactions/{transaction}`
pub(super) async fn get(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    call.query()?.finish()?;
    answer::value(StatusCode::OK, &TransactionView::new(node.ingest.transaction(&call.transaction()?)?))
}

/// `POST /v1/transactions/{transaction}/commit`
pub(super) async fn commit(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    decide(&node, call, true).await
}

/// `POST /v1/transactions/{transaction}/rollback`
pub(super) async fn roll_back(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    decide(&node, call, false).await
}

async fn decide(node: &Leading, call: Call, commit: bool) -> Result<Response, ApiError> {
    call.query()?.finish()?;
    let id = call.transaction()?;
    let decided = node.ingest.decide(&id, commit).await.map_err(|error| named(&id, error.into()))?;
    answer::value(StatusCode::OK, &TransactionView::new(decided))
}

/// An error about a transaction, whose id the client may not know: it has to repeat it.
fn named(id: &TransactionId, error: ApiError) -> ApiError {
    let hint = if error.code == kinds::OUTCOME_UNKNOWN.1 {
        UNKNOWN_HINT
    } else if error.code == kinds::IDENTITY_REUSED.1 {
        "give each transaction an id of its own; nothing was done"
    } else {
        return error;
    };
    ApiError { message: format!("transaction {id}: {}", error.message), hint: hint.into(), ..error }
}

/// An error in a part of a transaction.
fn within(part: &str, at: usize, error: ApiError) -> ApiError {
    ApiError { message: format!("{part}[{at}]: {}", error.message), ..error }
}

fn draft(node: &Leading, body: &[u8]) -> Result<TransactionDraft, ApiError> {
    let body: TransactionBody<'_> = body::object(body)?;
    let prepare = preparation(node, &body)?;
    let TransactionBody { id, publish, ack, .. } = body;
    let id = match id {
        Some(id) => TransactionId::new(&id)?,
        None => TransactionId::new(&format!("tx-{:032x}", node.env.entropy.next_u128()))?,
    };
    if publish.is_empty() && ack.is_empty() {
        return Err(ApiError::new(kinds::INVALID_TRANSACTION, "there is nothing in the transaction"));
    }
    let mut publishes = Vec::with_capacity(publish.len());
    for (at, part) in publish.iter().enumerate() {
        publishes.push(part.draft(node, &id).map_err(|error| within("publish", at, error))?);
    }
    let mut acks = Vec::with_capacity(ack.len());
    for (at, part) in ack.into_iter().enumerate() {
        let queue = part.queue(node).map_err(|error| within("ack", at, error))?;
        acks.push((queue, part.receipts));
    }
    Ok(TransactionDraft { id, publishes, acks, prepare })
}

impl PublishPart<'_> {
    fn draft(&self, node: &Leading, id: &TransactionId) -> Result<brigade_ingest::Draft, ApiError> {
        let mut sink = DraftSink(node.ingest.transaction_draft(&TopicName::new(&self.topic)?, id)?);
        let now_ms = sink.0.now_ms();
        parse_message_list(self.messages.get(), now_ms, &mut sink)?;
        Ok(sink.0)
    }
}

impl AckPart<'_> {
    fn queue(&self, node: &Leading) -> Result<QueueHandle, ApiError> {
        let queue = node.ingest.queue(&TopicName::new(&self.topic)?, &SubscriptionName::new(&self.subscription)?)?;
        if self.receipts.is_empty() {
            return Err(ApiError::new(kinds::INVALID_TRANSACTION, "there is no receipt"));
        }
        Ok(queue)
    }
}

/// How it waits, if it does.
fn preparation(node: &Leading, body: &TransactionBody<'_>) -> Result<Option<Preparation>, ApiError> {
    let invalid = |problem: String| Err(ApiError::new(kinds::INVALID_TRANSACTION, problem));
    if !body.prepare {
        let given = [("timeout_ms", body.timeout_ms.is_some()), ("check_back", body.check_back.is_some())];
        return match given.iter().find(|(_, given)| *given) {
            Some((field, _)) => invalid(format!("{field} is given without prepare")),
            None => Ok(None),
        };
    }
    let timeout_ms = body.timeout_ms.unwrap_or(TIMEOUT_MS);
    if timeout_ms == 0 || timeout_ms > MAX_PREPARED_MS.cast_unsigned() {
        return invalid(format!("timeout_ms is {timeout_ms}; it must be between 1 and {MAX_PREPARED_MS}"));
    }
    let check_back = match &body.check_back {
        None => None,
        Some(CheckBackBody { url, every_ms }) => {
            let every_ms = every_ms.unwrap_or(CHECK_EVERY_MS);
            if !(MIN_CHECK_BACK_MS..=MAX_CHECK_BACK_MS).contains(&every_ms) {
                let limits = format!("between {MIN_CHECK_BACK_MS} and {MAX_CHECK_BACK_MS}");
                return invalid(format!("check_back.every_ms is {every_ms}; it must be {limits}"));
            }
            node.endpoints.policy().check_url(url)?;
            Some(CheckBack { url: url.clone(), every_ms })
        }
    };
    Ok(Some(Preparation { timeout: Duration::from_millis(timeout_ms), check_back }))
}
