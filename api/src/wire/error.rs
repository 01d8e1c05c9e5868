//! Why a body was refused.

use std::fmt::Write as _;

/// Stable codes of the errors that parsers make themselves. Sinks add their own.
pub mod codes {
    /// Not JSON, or not of the shape that was asked for: syntax, unknown fields, fields given twice.
    pub const INVALID_JSON: &str = "invalid_json";
    /// Not an Arrow IPC stream with the columns that messages have.
    pub const INVALID_ARROW: &str = "invalid_arrow";
    /// A message whose fields do not make a message.
    pub const INVALID_MESSAGE: &str = "invalid_message";
    /// There is no message in the body.
    pub const NO_MESSAGES: &str = "no_messages";
    /// More messages than one publish may have.
    pub const TOO_MANY_MESSAGES: &str = "too_many_messages";
    /// More headers than one message may have.
    pub const TOO_MANY_HEADERS: &str = "too_many_headers";
    /// A priority that does not exist.
    pub const INVALID_PRIORITY: &str = "invalid_priority";
    /// A message is to be delivered too far ahead, or in a negative time.
    pub const DELAY_OUT_OF_RANGE: &str = "delay_out_of_range";
    /// A message expires too far ahead, or has expired.
    pub const TTL_OUT_OF_RANGE: &str = "ttl_out_of_range";
    /// The body decompresses to more than is allowed.
    pub const REQUEST_TOO_LARGE: &str = "request_too_large";
}

/// Why one message was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code in snake case.
    pub code: &'static str,
    /// What was wrong, without saying which message it was.
    pub message: String,
    /// What to do about it.
    pub hint: &'static str,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: &'static str, message: impl Into<String>, hint: &'static str) -> Self {
        Self { code, message: message.into(), hint }
    }

    /// A message whose fields do not make a message.
    pub(super) fn invalid(message: impl Into<String>, hint: &'static str) -> Self {
        Self::new(codes::INVALID_MESSAGE, message, hint)
    }
}

/// Why a body was refused. Nothing of it must be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// Stable code in snake case.
    pub code: &'static str,
    /// What was wrong and where: the message as `messages[2]`, counted from 0, and in text formats the line and column,
    /// counted from 1.
    pub message: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// Where in a body something is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// Index of the message, counted from 0.
    pub(super) index: Option<usize>,
    /// Line and column, counted from 1; column 0 stands for the whole line.
    pub(super) line: Option<(usize, usize)>,
}

impl WireError {
    pub(super) fn new(code: &'static str, message: impl Into<String>, hint: &'static str) -> Self {
        Self { code, message: message.into(), hint }
    }

    pub(super) fn at(place: Place, refusal: Refusal) -> Self {
        let mut text = String::new();
        if let Some(index) = place.index {
            let _ = write!(text, "messages[{index}]");
        }
        if let Some((line, column)) = place.line {
            let _ = write!(text, "{}line {line}", if text.is_empty() { "" } else { ", " });
            if column > 0 {
                let _ = write!(text, " column {column}");
            }
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&refusal.message);
        Self { code: refusal.code, message: text, hint: refusal.hint }
    }

    pub(super) fn no_messages(hint: &'static str) -> Self {
        Self::new(codes::NO_MESSAGES, "there is no message in the body", hint)
    }
}
