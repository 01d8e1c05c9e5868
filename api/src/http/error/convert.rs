//! What the errors of the layers below are to clients.

use brigade_index::{
    command::Rejection,
    filter::FilterError,
    format::Leader,
    names::NameError,
    shard::{ChangeError, FetchError, ProposeError},
};
use brigade_ingest::{IngestError, MessageError, ReceiptError, TransactionError};
use http::StatusCode;

use super::{ApiError, Kind, kinds};
use crate::{
    push::{AddressError, SecretError},
    serve::Absent,
    wire::{Refusal, WireError},
};

/// How a message that was refused while it was added to a publish appears inside the parser's error.
pub(crate) fn refuse_message(error: &MessageError) -> Refusal {
    let (_, code, hint) = match error {
        MessageError::TooLarge { .. } => kinds::MESSAGE_TOO_LARGE,
        MessageError::KeyTooLarge { .. } => kinds::KEY_TOO_LARGE,
        MessageError::TooManyHeaders { .. } => kinds::MESSAGE_HEADERS,
        MessageError::HeadersTooLarge { .. } => kinds::HEADERS_TOO_LARGE,
        MessageError::HeaderName { .. } => kinds::INVALID_HEADER,
        MessageError::NoSuchPartition { .. } => kinds::PARTITION_NOT_FOUND,
        MessageError::Group { .. } => kinds::INVALID_GROUP,
        MessageError::Priority { .. } => kinds::INVALID_PRIORITY,
        MessageError::Delay { .. } => kinds::DELAY_OUT_OF_RANGE,
        MessageError::Ttl { .. } => kinds::TTL_OUT_OF_RANGE,
        MessageError::DeduplicationId { .. } => kinds::INVALID_DEDUPLICATION_ID,
        MessageError::Empty => kinds::INVALID_MESSAGE,
        MessageError::TooManyMessages { .. } => kinds::TOO_MANY_MESSAGES,
    };
    Refusal::new(code, error.to_string(), hint)
}

impl From<WireError> for ApiError {
    fn from(error: WireError) -> Self {
        // Parsers have codes of their own, which are all about a body that is wrong as it stands.
        let known = kinds::ALL.iter().find(|(_, code, _)| *code == error.code);
        let status = known.map_or(StatusCode::BAD_REQUEST, |(status, ..)| *status);
        Self { hint: error.hint.into(), ..Self::new((status, error.code, ""), error.message) }
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::new(kinds::INVALID_NAME, error.to_string())
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        let message = format!("the filter is wrong at byte {}: {}", error.position, error.problem);
        let kind = Self::new(kinds::INVALID_FILTER, message).with("position", error.position as u64);
        Self { hint: error.hint.into(), ..kind }
    }
}

impl From<AddressError> for ApiError {
    fn from(error: AddressError) -> Self {
        let kind = match &error {
            AddressError::Invalid(_) => kinds::INVALID_PUSH_URL,
            AddressError::Forbidden(_) => kinds::FORBIDDEN_ADDRESS,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<SecretError> for ApiError {
    fn from(error: SecretError) -> Self {
        Self::new(kinds::INVALID_PUSH_SECRET, error.to_string())
    }
}

impl From<ReceiptError> for ApiError {
    fn from(error: ReceiptError) -> Self {
        Self::new(receipt_kind(error), error.to_string())
    }
}

/// Status, code and hint of a receipt that is refused.
pub(in crate::http) const fn receipt_kind(error: ReceiptError) -> Kind {
    match error {
        ReceiptError::Invalid => kinds::RECEIPT_INVALID,
        ReceiptError::Foreign => kinds::RECEIPT_FOREIGN,
        ReceiptError::Expired => kinds::RECEIPT_EXPIRED,
        ReceiptError::Superseded => kinds::RECEIPT_SUPERSEDED,
        ReceiptError::AlreadySettled => kinds::ALREADY_SETTLED,
        ReceiptError::BeingSettled => kinds::BEING_SETTLED,
    }
}

impl From<TransactionError> for ApiError {
    fn from(error: TransactionError) -> Self {
        let kind = match &error {
            TransactionError::Receipt { error, .. } => receipt_kind(*error),
            TransactionError::Twice(_) => kinds::INVALID_TRANSACTION,
            TransactionError::TooMany { .. } => kinds::TRANSACTION_TOO_LARGE,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        let message = error.to_string();
        match error {
            IngestError::TopicNotFound(_) => Self::new(kinds::TOPIC_NOT_FOUND, message),
            IngestError::PartitionNotFound { .. } => Self::new(kinds::PARTITION_NOT_FOUND, message),
            IngestError::OffsetOutOfRange { high_watermark, .. } => {
                Self::new(kinds::OFFSET_OUT_OF_RANGE, message).with("high_watermark", high_watermark.0)
            }
            IngestError::OffsetExpired { log_start, .. } => {
                Self::new(kinds::OFFSET_EXPIRED, message).with("log_start", log_start.0)
            }
            IngestError::Busy { retry_after } => {
                Self { retry_after: Some(retry_after), ..Self::new(kinds::TOO_BUSY, message) }
            }
            IngestError::SequenceTooOld => Self::new(kinds::SEQUENCE_TOO_OLD, message),
            IngestError::IdentityReused => Self::new(kinds::IDENTITY_REUSED, message),
            IngestError::Transaction(error) => error.into(),
            IngestError::TooLarge { .. } => Self::new(kinds::REQUEST_TOO_LARGE, message),
            IngestError::TimedOut(_) => Self::new(kinds::OUTCOME_UNKNOWN, message),
            IngestError::Refused(rejection) => rejection.into(),
            IngestError::Propose(error) => error.into(),
            IngestError::Fetch(error) => error.into(),
        }
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        let message = error.to_string();
        match error {
            ChangeError::Invalid(_) => Self::new(kinds::INVALID_REGIONS, message),
            ChangeError::InProgress(_) => Self::new(kinds::REGION_CHANGE_IN_PROGRESS, message),
            ChangeError::NotLeader { leader } => ProposeError::NotLeader { leader }.into(),
            ChangeError::Store { hint, .. } => Self { hint: hint.into(), ..Self::new(kinds::REGION_UNUSABLE, message) },
            ChangeError::Interrupted(_) => Self::new(kinds::REGION_CHANGE_INTERRUPTED, message),
        }
    }
}

impl From<&Absent> for ApiError {
    /// Nobody here can carry a request out, or pass it on.
    fn from(absent: &Absent) -> Self {
        if absent.state == "stopped" {
            return Self::new(kinds::SHUTTING_DOWN, "the node is shutting down");
        }
        if let Some(problem) = &absent.quorum {
            return Self::new(kinds::QUORUM_UNAVAILABLE, problem.clone());
        }
        let message = match (&absent.leader, &*absent.problem) {
            (Some(Leader { node, address, .. }), "") => format!("node {node} at {address} leads the shard"),
            (Some(Leader { node, address, .. }), problem) => format!("{problem}: node {node} at {address}"),
            (None, problem) => format!("this node does not lead the shard: {problem}"),
        };
        let error = Self::new(kinds::NOT_LEADER, message);
        match &absent.leader {
            Some(leader) => {
                Self { hint: format!("send the request to {}; nothing was stored", leader.address).into(), ..error }
            }
            None => error,
        }
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        let message = error.to_string();
        match error {
            ProposeError::NotLeader { leader } => {
                let error = Self::new(kinds::NOT_LEADER, message);
                match leader.filter(|leader| !leader.address.is_empty()) {
                    Some(leader) => Self {
                        hint: format!("send the request to {}; nothing was stored", leader.address).into(),
                        ..error
                    },
                    None => error,
                }
            }
            ProposeError::Quorum(_) => Self::new(kinds::QUORUM_UNAVAILABLE, message),
            ProposeError::Unavailable(_) => Self::new(kinds::STORE_UNAVAILABLE, message),
            ProposeError::Unknown(_) => Self::new(kinds::OUTCOME_UNKNOWN, message),
            ProposeError::ShuttingDown => Self::new(kinds::SHUTTING_DOWN, message),
        }
    }
}

impl From<FetchError> for ApiError {
    fn from(error: FetchError) -> Self {
        let message = error.to_string();
        match error {
            FetchError::Unavailable(_) => {
                let hint = "try again after Retry-After; the server recovers by itself when its store does";
                Self { hint: hint.into(), ..Self::new(kinds::STORE_UNAVAILABLE, message) }
            }
            FetchError::Damaged { .. } => Self::new(kinds::OBJECT_DAMAGED, message),
        }
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        let kind = match &rejection {
            Rejection::TopicExists(_) => kinds::TOPIC_EXISTS,
            Rejection::TopicNotFound => kinds::TOPIC_NOT_FOUND,
            Rejection::TooManyTopics => kinds::TOO_MANY_TOPICS,
            Rejection::InvalidSettings(_) => kinds::INVALID_SETTINGS,
            Rejection::SubscriptionExists => kinds::SUBSCRIPTION_EXISTS,
            Rejection::SubscriptionNotFound => kinds::SUBSCRIPTION_NOT_FOUND,
            Rejection::TooManySubscriptions => kinds::TOO_MANY_SUBSCRIPTIONS,
            Rejection::PartitionNotFound(_) => kinds::PARTITION_NOT_FOUND,
            Rejection::InvalidPosition { .. } => kinds::INVALID_POSITION,
            Rejection::WrongKind(_) => kinds::WRONG_KIND,
            Rejection::DeadLetterTopic(_) => kinds::DEAD_LETTER_TOPIC,
            Rejection::NotOpen { .. } => kinds::MESSAGE_NOT_OPEN,
            Rejection::TransactionNotFound => kinds::TRANSACTION_NOT_FOUND,
            Rejection::TransactionDecided(_) => kinds::TRANSACTION_DECIDED,
            Rejection::TooManyTransactions => kinds::TOO_MANY_TRANSACTIONS,
            Rejection::TransactionPending(_) => kinds::TRANSACTION_PENDING,
            // The compactor's own; no client gives such commands.
            Rejection::Claimed(_) | Rejection::ClaimLost(_) | Rejection::RetentionChanged | Rejection::Malformed(_) => {
                kinds::INTERNAL
            }
        };
        Self::new(kind, rejection.to_string())
    }
}
