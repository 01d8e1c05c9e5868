//! Every error has its status, a stable code and a hint.

use std::{collections::BTreeMap, time::Duration};

use axum::response::IntoResponse;
use brigade_index::{
    command::Rejection,
    filter::Filter,
    format::Leader,
    ids::{Offset, Partition, TopicId},
    names::TopicName,
    shard::{FetchError, ProposeError},
};
use brigade_ingest::{IngestError, MessageError};
use http::header::RETRY_AFTER;

use crate::{
    http::error::{ApiError, kinds, refuse_message},
    push::{AddressError, SecretError},
};

#[test]
fn codes_are_unique_snake_case_and_have_hints() {
    let mut seen = BTreeMap::new();
    for (status, code, hint) in kinds::ALL {
        assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
        assert!(!hint.is_empty() && status.as_u16() >= 400, "{code}");
        assert!(seen.insert(code, status).is_none(), "{code} stands twice");
    }
}

#[test]
fn every_error_of_the_parts_below_has_a_kind() {
    let leader = Leader { node: "b".to_owned(), address: "http://b:7070".to_owned(), time_ms: 0 };
    let topic = TopicName::new("t").unwrap();
    let (offset, partition) = (Offset(5), Partition(1));
    let cases: Vec<(ApiError, u16, &str)> = vec![
        (IngestError::TopicNotFound(topic).into(), 404, "topic_not_found"),
        (IngestError::PartitionNotFound { partition, partitions: 1 }.into(), 400, "partition_not_found"),
        (IngestError::OffsetOutOfRange { offset, high_watermark: Offset(4) }.into(), 416, "offset_out_of_range"),
        (IngestError::OffsetExpired { offset, log_start: Offset(6) }.into(), 410, "offset_expired"),
        (IngestError::Busy { retry_after: Duration::from_millis(1) }.into(), 429, "too_busy"),
        (IngestError::SequenceTooOld.into(), 409, "sequence_too_old"),
        (IngestError::IdentityReused.into(), 409, "identity_reused"),
        (IngestError::TooLarge { bytes: 2, limit: 1 }.into(), 413, "request_too_large"),
        (IngestError::TimedOut(Duration::from_secs(1)).into(), 503, "outcome_unknown"),
        (IngestError::Refused(Rejection::TopicNotFound).into(), 404, "topic_not_found"),
        (ProposeError::NotLeader { leader: Some(leader) }.into(), 503, "not_leader"),
        (ProposeError::NotLeader { leader: None }.into(), 503, "not_leader"),
        (ProposeError::Unavailable("full".to_owned()).into(), 503, "store_unavailable"),
        (ProposeError::Unknown("slow".to_owned()).into(), 503, "outcome_unknown"),
        (ProposeError::ShuttingDown.into(), 503, "shutting_down"),
        (FetchError::Unavailable("gone".to_owned()).into(), 503, "store_unavailable"),
        (FetchError::Damaged { key: "k".to_owned(), problem: "p".to_owned() }.into(), 500, "object_damaged"),
        (Rejection::TopicExists(TopicId(1)).into(), 409, "topic_exists"),
        (Rejection::TooManyTopics.into(), 409, "too_many_topics"),
        (Rejection::InvalidSettings("no").into(), 400, "invalid_settings"),
        (Rejection::SubscriptionExists.into(), 409, "subscription_exists"),
        (Rejection::SubscriptionNotFound.into(), 404, "subscription_not_found"),
        (Rejection::TooManySubscriptions.into(), 409, "too_many_subscriptions"),
        (Rejection::PartitionNotFound(partition).into(), 400, "partition_not_found"),
        (
            Rejection::InvalidPosition { partition, offset, log_start: Offset(0), high_watermark: Offset(1) }.into(),
            400,
            "invalid_position",
        ),
        (Rejection::Malformed("m").into(), 500, "internal_error"),
        (Rejection::WrongKind("stream").into(), 409, "wrong_kind"),
        (Rejection::DeadLetterTopic("no").into(), 400, "invalid_dead_letter_topic"),
        (Filter::parse("a =").unwrap_err().into(), 400, "invalid_filter"),
        (AddressError::Invalid("x".to_owned()).into(), 400, "invalid_push_url"),
        (AddressError::Forbidden("x".to_owned()).into(), 400, "forbidden_address"),
        (SecretError.into(), 400, "invalid_push_secret"),
    ];
    for (error, status, code) in cases {
        assert_eq!((error.status.as_u16(), error.code), (status, code));
        assert!(!error.hint.is_empty() && !error.message.is_empty(), "{code}");
        let waits = matches!(status, 429 | 503);
        let response = error.into_response();
        assert_eq!(response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap()), waits.then_some("1"));
    }
}

#[test]
fn what_helps_the_client_is_in_the_error() {
    let expired: ApiError = IngestError::OffsetExpired { offset: Offset(5), log_start: Offset(6) }.into();
    let json: serde_json::Value = serde_json::from_slice(&expired.to_json()).unwrap();
    assert_eq!(json["error"]["log_start"], 6);
    let leader = Leader { node: "b".to_owned(), address: "http://b:7070".to_owned(), time_ms: 0 };
    let moved: ApiError = ProposeError::NotLeader { leader: Some(leader) }.into();
    assert!(moved.hint.contains("http://b:7070"));
    let filter: ApiError = Filter::parse("a = 1 and").unwrap_err().into();
    let json: serde_json::Value = serde_json::from_slice(&filter.to_json()).unwrap();
    assert_eq!(json["error"]["position"], 9);
    let damaged: ApiError = FetchError::Damaged { key: "a/b".to_owned(), problem: "cut".to_owned() }.into();
    assert!(damaged.message.contains("a/b"));
}

#[test]
fn refused_messages_have_known_codes() {
    let refused = [
        MessageError::TooLarge { bytes: 2, limit: 1 },
        MessageError::KeyTooLarge { bytes: 2, limit: 1 },
        MessageError::TooManyHeaders { count: 65, limit: 64 },
        MessageError::HeadersTooLarge { bytes: 99 },
        MessageError::NoSuchPartition { partition: 3, partitions: 1 },
        MessageError::Empty,
        MessageError::TooManyMessages { limit: 1 },
    ];
    for error in refused {
        let refusal = refuse_message(&error);
        assert!(kinds::ALL.iter().any(|(_, code, hint)| *code == refusal.code && *hint == refusal.hint), "{error}");
    }
}
