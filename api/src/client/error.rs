//! What can go wrong between a client and the server.

use std::time::Duration;

use http::header::RETRY_AFTER;
use serde::Deserialize;

/// What the caller should do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The topic, subscription or path does not exist.
    NotFound,
    /// The request is wrong and will stay wrong: change it.
    Input,
    /// The server is away, full or starting: try again later.
    Unavailable,
    /// Anything else.
    Failed,
}

/// An answer of the server that was not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The server's stable code, for example `topic_not_found`; `http_STATUS` when the answer named none.
    pub code: String,
    /// What was wrong.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
    /// The partition's first readable offset, where the server names it.
    pub log_start: Option<u64>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered with an error.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    /// No answer arrived: the server is away, or the connection broke and the outcome is unknown.
    #[error("no answer from {server}: {}", root_cause(.source))]
    Unreachable {
        /// The server's address.
        server: String,
        /// What the connection said.
        source: reqwest::Error,
    },
    /// An answer arrived that is not of the documented shape.
    #[error("the server's answer was not understood: {why}")]
    Answer {
        /// What was wrong with it.
        why: String,
    },
    /// The address of the server cannot be used.
    #[error("{address:?} is no server address: {why}")]
    Address {
        /// The address as given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
}

impl ClientError {
    /// What the caller should do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refusal) => match refusal.status {
                404 => ErrorKind::NotFound,
                408 | 429 | 502..=504 => ErrorKind::Unavailable,
                400..=499 => ErrorKind::Input,
                _ => ErrorKind::Failed,
            },
            Self::Unreachable { .. } => ErrorKind::Unavailable,
            Self::Answer { .. } => ErrorKind::Failed,
            Self::Address { .. } => ErrorKind::Input,
        }
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.code,
            Self::Unreachable { .. } => "server_unreachable",
            Self::Answer { .. } => "answer_not_understood",
            Self::Address { .. } => "invalid_server_address",
        }
    }

    /// What to do about it; may be empty.
    pub fn hint(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.hint,
            Self::Unreachable { .. } => "is `brigade serve` running? Give its address with --server or BRIGADE_SERVER.",
            Self::Answer { .. } => "is there another server, or another version of it, at this address?",
            Self::Address { .. } => "give it as http://HOST:PORT.",
        }
    }

    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// How long the server asks to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }
}

/// The innermost source: "connection refused" rather than "error sending request".
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_timeout() { format!("timed out ({cause})") } else { cause.to_string() }
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorFields,
}

#[derive(Deserialize)]
struct ErrorFields {
    code: String,
    message: String,
    #[serde(default)]
    hint: String,
    #[serde(default)]
    log_start: Option<u64>,
}

/// How long an answer asks to wait.
pub(super) fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Reads an answer that was not a success.
pub(super) async fn refusal(response: reqwest::Response) -> ClientError {
    let (status, retry_after) = (response.status().as_u16(), retry_after(&response));
    let body = response.bytes().await.unwrap_or_default();
    ClientError::Refused(Box::new(parse_refusal(status, retry_after, &body)))
}

/// The refusal in an error body; a body of another shape (a proxy's page) keeps its status.
pub(crate) fn parse_refusal(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Refusal {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(ErrorBody { error }) => Refusal {
            status,
            code: error.code,
            message: error.message,
            hint: error.hint,
            retry_after,
            log_start: error.log_start,
        },
        Err(_) => Refusal {
            status,
            code: format!("http_{status}"),
            message: format!("the server answered with status {status}"),
            hint: String::new(),
            retry_after,
            log_start: None,
        },
    }
}
