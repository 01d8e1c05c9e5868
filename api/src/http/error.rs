//! Errors as clients see them. Status codes of errors stand here and nowhere else; which error of the layers below is
//! which of these is in `error/convert.rs`.

mod convert;

use std::{borrow::Cow, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::answer;
use crate::wire::{write_error, write_string, write_u64};

pub(super) use convert::receipt_kind;
pub(crate) use convert::refuse_message;

/// How long clients are asked to wait when the node cannot know how long its trouble lasts.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A refused request.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// Stable, in snake case.
    pub(crate) code: &'static str,
    /// What was wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: Cow<'static, str>,
    /// When to try again.
    pub(crate) retry_after: Option<Duration>,
    /// A further field of the error object.
    pub(crate) more: Option<(&'static str, u64)>,
    /// A further field of the answer, beside the error.
    pub(crate) beside: Option<Box<Beside>>,
}

/// A field of the answer to a call of which everything was refused: its name, and its value as JSON.
#[derive(Debug)]
pub(crate) struct Beside(&'static str, Vec<u8>);

/// The kinds of errors: status, code, hint.
pub(super) type Kind = (StatusCode, &'static str, &'static str);

macro_rules! kinds {
    ($($name:ident = $status:ident, $code:literal, $hint:literal;)*) => {
        $(pub(crate) const $name: Kind = (StatusCode::$status, $code, $hint);)*
        /// Every kind, for the document and its tests.
        pub(crate) const ALL: &[Kind] = &[$($name),*];
    };
}

/// Every kind of error that this interface makes itself. Parsers of bodies have further codes with their own hints.
pub(crate) mod kinds {
    use super::{Kind, StatusCode};

    kinds! {
        INVALID_PARAMETER = BAD_REQUEST, "invalid_parameter", "correct the parameter, header or field that is named; /openapi.json lists them with their limits";
        INVALID_NAME = BAD_REQUEST, "invalid_name", "use 1 to 200 characters out of A-Z a-z 0-9 . _ - and begin with a letter or digit";
        INVALID_SETTINGS = BAD_REQUEST, "invalid_settings", "correct the setting that is named; /openapi.json lists the limits. Partitions can only grow, and of subscriptions only queues, \"kind\": \"queue\", have settings";
        INVALID_REGIONS = BAD_REQUEST, "invalid_regions", "name 1, 3 or 5 regions, each with a name and a store of its own";
        REGION_UNUSABLE = BAD_REQUEST, "region_unusable", "make its store usable, or name another one; nothing was changed";
        INVALID_JSON = BAD_REQUEST, "invalid_json", "send a JSON object with the fields that /openapi.json lists";
        INVALID_POSITION = BAD_REQUEST, "invalid_position", "use an offset between the partition's log start and its high watermark";
        INVALID_EPOCH = BAD_REQUEST, "invalid_epoch", "give epochs back as the heartbeat named them, each partition once";
        INVALID_MESSAGE = BAD_REQUEST, "invalid_message", "give each message a value, or a key and no value for a tombstone";
        MESSAGE_HEADERS = BAD_REQUEST, "too_many_headers", "give a message at most 64 headers";
        INVALID_HEADER = BAD_REQUEST, "invalid_header", "give each header of a message a name of its own";
        INVALID_GROUP = BAD_REQUEST, "invalid_group", "use a group of 1 to 256 bytes, or leave it out";
        INVALID_PRIORITY = BAD_REQUEST, "invalid_priority", "use a priority from 0 to 9, 9 first, or leave it out";
        DELAY_OUT_OF_RANGE = BAD_REQUEST, "delay_out_of_range", "give a delay_ms of 0 or more, or a deliver_at, at most 366 days ahead";
        TTL_OUT_OF_RANGE = BAD_REQUEST, "ttl_out_of_range", "give a ttl_ms of 0 or more, or an expires_at to come, at most 366 days ahead";
        INVALID_DEDUPLICATION_ID = BAD_REQUEST, "invalid_deduplication_id", "use a deduplication_id of 1 to 200 bytes, or leave it out";
        PARTITION_NOT_FOUND = BAD_REQUEST, "partition_not_found", "use a partition that the topic has, or leave it out";
        PARTITION_REQUIRED = BAD_REQUEST, "partition_required", "add ?partition=N; only a topic with one partition can be read without";
        WRONG_KIND = CONFLICT, "wrong_kind", "a stream subscription is read with poll and commit, a queue with poll, ack, nack, extend and reject; GET the subscription to see its kind";
        INVALID_FILTER = BAD_REQUEST, "invalid_filter", "correct the filter at the position named, a number of bytes";
        INVALID_PUSH_URL = BAD_REQUEST, "invalid_push_url", "give a URL like https://host/path, without user and password";
        FORBIDDEN_ADDRESS = BAD_REQUEST, "forbidden_address", "use an address that is neither link-local nor a metadata service, or have the operator allow it with push.allow";
        INVALID_PUSH_SECRET = BAD_REQUEST, "invalid_push_secret", "leave the secret out, then one is made, or give whsec_ and 24 to 64 bytes in base64";
        RECEIPT_INVALID = BAD_REQUEST, "receipt_invalid", "use receipts as poll and extend gave them, unchanged";
        RECEIPT_FOREIGN = BAD_REQUEST, "receipt_foreign", "use it on the subscription that gave it; one that was deleted and created again is another one";
        RECEIPT_EXPIRED = GONE, "receipt_expired", "the message comes again: its time ran out, or it was given back; ask for a longer visibility_timeout_ms, or extend in time";
        RECEIPT_SUPERSEDED = CONFLICT, "receipt_superseded", "the message belongs to whoever holds its newest receipt; make sure that processing it twice does no harm";
        ALREADY_SETTLED = CONFLICT, "already_settled", "nothing is left to be done: the message is settled";
        BEING_SETTLED = CONFLICT, "being_settled", "name each receipt once; wait for the answer to the other call, or for the decision on the transaction that acknowledges the message";
        DEAD_LETTER_TOPIC = BAD_REQUEST, "invalid_dead_letter_topic", "name an existing topic whose own dead letters do not come back here, or none: dead letters are then kept with the subscription";
        MESSAGE_NOT_OPEN = CONFLICT, "message_not_open", "nothing was done: a message of the transaction was settled meanwhile, or belongs to another transaction";
        INVALID_TRANSACTION = BAD_REQUEST, "invalid_transaction", "name each topic and subscription once, give it messages or receipts, and timeout_ms and check_back only with prepare; nothing was done";
        TRANSACTION_TOO_LARGE = PAYLOAD_TOO_LARGE, "transaction_too_large", "a transaction has at most 100 topics, 100 subscriptions and 10000 receipts; nothing was done";
        TRANSACTION_NOT_FOUND = NOT_FOUND, "transaction_not_found", "check its id; decided transactions are remembered for a day";
        TRANSACTION_DECIDED = CONFLICT, "transaction_decided", "a decision cannot be taken back; GET the transaction to see it";
        TOO_MANY_TRANSACTIONS = CONFLICT, "too_many_transactions", "commit or roll back transactions that wait for a decision";
        TRANSACTION_PENDING = CONFLICT, "transaction_pending", "commit or roll back the transaction first";
        TRUNCATED_BODY = BAD_REQUEST, "truncated_body", "send the whole body; nothing of it was stored";
        NOT_FOUND = NOT_FOUND, "not_found", "GET / lists the paths there are";
        TOPIC_NOT_FOUND = NOT_FOUND, "topic_not_found", "create it with PUT /v1/topics/{topic}, or check its name";
        SUBSCRIPTION_NOT_FOUND = NOT_FOUND, "subscription_not_found", "create it with PUT /v1/topics/{topic}/subscriptions/{name}, or check its name";
        SHARD_NOT_FOUND = NOT_FOUND, "shard_not_found", "GET /v1/cluster lists the shards";
        METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED, "method_not_allowed", "use one of the methods in the Allow header";
        NOT_ACCEPTABLE = NOT_ACCEPTABLE, "not_acceptable", "accept application/json, application/x-ndjson, application/vnd.apache.arrow.stream or text/event-stream";
        REQUEST_TIMEOUT = REQUEST_TIMEOUT, "request_timeout", "send the body faster or in smaller requests; nothing of it was stored";
        QUORUM_UNAVAILABLE = SERVICE_UNAVAILABLE, "quorum_unavailable", "nothing was stored; try again after Retry-After. Publishing goes on by itself when enough regions answer; GET /v1/regions shows what is wrong with each";
        REGION_CHANGE_INTERRUPTED = SERVICE_UNAVAILABLE, "region_change_interrupted", "ask for the same regions again: what is done already is not done twice";
        REGION_CHANGE_IN_PROGRESS = CONFLICT, "region_change_in_progress", "wait until GET /v1/regions shows no change any more, then ask again";
        TOPIC_EXISTS = CONFLICT, "topic_exists", "change its settings with PATCH, or choose another name";
        TOO_MANY_TOPICS = CONFLICT, "too_many_topics", "delete topics that are no longer needed";
        SUBSCRIPTION_EXISTS = CONFLICT, "subscription_exists", "change or move it with PATCH, or choose another name";
        TOO_MANY_SUBSCRIPTIONS = CONFLICT, "too_many_subscriptions", "delete subscriptions that are no longer needed";
        MEMBER_UNKNOWN = CONFLICT, "member_unknown", "join with POST …/members/{member}, naming in owned what you have not given up; nothing was changed";
        PARTITION_NOT_ASSIGNED = CONFLICT, "partition_not_assigned", "stop working on the partition; the next heartbeat says what is assigned. Nothing was changed";
        TOO_MANY_MEMBERS = CONFLICT, "too_many_members", "let members that are not needed leave; more than there are partitions are idle";
        SEQUENCE_TOO_OLD = CONFLICT, "sequence_too_old", "use rising sequences and keep at most 64 publishes of a producer in flight; this one was not stored now";
        IDENTITY_REUSED = CONFLICT, "identity_reused", "give each request its own Producer-Sequence or Idempotency-Key; this one was not stored";
        COMPACTOR_DISABLED = CONFLICT, "compactor_disabled", "set compact.enabled = true on the node that leads";
        RUN_NOT_FOUND = NOT_FOUND, "run_not_found", "another node leads since, or it is long over; begin a new run";
        OFFSET_EXPIRED = GONE, "offset_expired", "read on from log_start, or use offset=earliest";
        MESSAGE_TOO_LARGE = PAYLOAD_TOO_LARGE, "message_too_large", "send a smaller message, or raise the topic's max_message_bytes";
        KEY_TOO_LARGE = PAYLOAD_TOO_LARGE, "key_too_large", "use a key of at most 64 KiB";
        HEADERS_TOO_LARGE = PAYLOAD_TOO_LARGE, "headers_too_large", "keep a message's headers below 16 KiB; put large data into the value";
        TOO_MANY_MESSAGES = PAYLOAD_TOO_LARGE, "too_many_messages", "split the messages over several requests";
        REQUEST_TOO_LARGE = PAYLOAD_TOO_LARGE, "request_too_large", "split the messages or receipts over several requests";
        UNSUPPORTED_CONTENT_TYPE = UNSUPPORTED_MEDIA_TYPE, "unsupported_content_type", "send application/json, application/x-ndjson, application/octet-stream, text/plain or application/vnd.apache.arrow.stream";
        UNSUPPORTED_CONTENT_ENCODING = UNSUPPORTED_MEDIA_TYPE, "unsupported_content_encoding", "send the body as it is; batches are compressed by the server";
        OFFSET_OUT_OF_RANGE = RANGE_NOT_SATISFIABLE, "offset_out_of_range", "read from the high watermark at most; use wait to wait there";
        REQUEST_HEADERS = REQUEST_HEADER_FIELDS_TOO_LARGE, "too_many_request_headers", "send at most 90 header fields";
        TOO_BUSY = TOO_MANY_REQUESTS, "too_busy", "try again after Retry-After, or send less at once; nothing was stored";
        INTERNAL = INTERNAL_SERVER_ERROR, "internal_error", "this is a defect; please report it with the server's log";
        OBJECT_DAMAGED = INTERNAL_SERVER_ERROR, "object_damaged", "restore the named object from a copy; other messages can still be read";
        STORE_UNAVAILABLE = SERVICE_UNAVAILABLE, "store_unavailable", "try again after Retry-After; nothing was stored. The server recovers by itself when its store does";
        NOT_LEADER = SERVICE_UNAVAILABLE, "not_leader", "send the request to the leader; nothing was stored";
        OUTCOME_UNKNOWN = SERVICE_UNAVAILABLE, "outcome_unknown", "it may or may not be stored: retry with the same Idempotency-Key (or Producer-Id and Producer-Sequence), then it is stored once";
        SHUTTING_DOWN = SERVICE_UNAVAILABLE, "shutting_down", "try again after Retry-After; nothing was stored";
        TOO_MANY_CONNECTIONS = SERVICE_UNAVAILABLE, "too_many_connections", "close connections or reuse them, and try again after Retry-After";
    }
}

impl ApiError {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let (status, code, hint) = kind;
        let wait = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        let retry_after = wait.then_some(RETRY_AFTER);
        Self { status, code, message: message.into(), hint: Cow::Borrowed(hint), retry_after, more: None, beside: None }
    }

    pub(crate) fn parameter(name: &str, problem: impl std::fmt::Display) -> Self {
        Self::new(kinds::INVALID_PARAMETER, format!("{name} {problem}"))
    }

    pub(super) fn with(mut self, field: &'static str, value: u64) -> Self {
        self.more = Some((field, value));
        self
    }

    /// The same error in an answer with a further field, whose value is given as JSON.
    pub(super) fn beside(mut self, field: &'static str, value: Vec<u8>) -> Self {
        self.beside = Some(Box::new(Beside(field, value)));
        self
    }

    /// Of a request that may be repeated as it is when nobody knows what came of it.
    pub(super) fn repeatable(self) -> Self {
        if self.code != kinds::OUTCOME_UNKNOWN.1 {
            return self;
        }
        Self { hint: Cow::Borrowed("look whether it took effect, or simply repeat the request"), ..self }
    }

    /// The body of the answer: the error object, and what stands beside it.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.message.len() + self.hint.len());
        out.extend_from_slice(b"{\"error\":{");
        write_error(&mut out, self.code, &self.message, &self.hint);
        if let Some((field, value)) = self.more {
            out.push(b',');
            write_string(&mut out, field);
            out.push(b':');
            write_u64(&mut out, value);
        }
        out.push(b'}');
        if let Some(beside) = &self.beside {
            out.push(b',');
            write_string(&mut out, beside.0);
            out.push(b':');
            out.extend_from_slice(&beside.1);
        }
        out.push(b'}');
        out
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = answer::json(self.status, self.to_json());
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
