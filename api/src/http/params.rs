//! Query parameters: each taken once, by name and with its range; what is left over is refused.

use std::{borrow::Cow, time::Duration};

use brigade_index::ids::Offset;
use brigade_ingest::ReadFrom;
use url::form_urlencoded;

use super::error::ApiError;
use crate::wire::GivenAttributes;

/// Most messages of one read or poll, by default and at most. The default is a page that a person can handle, the most
/// what one publish may have.
pub(super) const READ_MESSAGES: (u64, u64) = (1_000, 100_000);
/// Most bytes of one read or poll, by default and at most: the answer is built in memory.
pub(super) const READ_BYTES: (u64, u64) = (1 << 20, 32 << 20);
/// Longest wait of one read or poll, in milliseconds: proxies drop connections that are silent for longer.
pub(super) const MAX_WAIT_MS: u64 = 60_000;

/// The parameters of a query that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Takes a query apart.
    pub(super) fn parse(query: &'a str) -> Result<Self, ApiError> {
        let mut pairs: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            // Bytes that are no UTF-8 were replaced; what they meant is lost.
            if (name.contains('\u{fffd}') || value.contains('\u{fffd}')) && !sends_replacement(query) {
                return Err(ApiError::parameter(&name, "is not UTF-8 after decoding"));
            }
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(ApiError::parameter(&name, "is given twice"));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// A parameter as text.
    pub(super) fn text(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// A parameter as a whole number of at most `max`.
    pub(super) fn number(&mut self, name: &str, max: u64) -> Result<Option<u64>, ApiError> {
        self.text(name).map(|text| number(name, &text, max)).transpose()
    }

    /// A parameter as a positive number of at most `limits.1`, else `limits.0`.
    pub(super) fn positive(&mut self, name: &str, limits: (u64, u64)) -> Result<usize, ApiError> {
        let number = self.number(name, limits.1)?.unwrap_or(limits.0);
        if number == 0 {
            return Err(ApiError::parameter(name, "must be at least 1"));
        }
        Ok(usize::try_from(number).unwrap_or(usize::MAX))
    }

    /// A parameter as a whole number, which may be negative; its range is checked elsewhere.
    fn integer(&mut self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let digits = text.strip_prefix('-').unwrap_or(&text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ApiError::parameter(name, format!("is {:?}; it must be a whole number", shown(&text))));
        }
        // What has more than 64 bits is out of every range.
        Ok(Some(text.parse().unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX })))
    }

    /// A timestamp in milliseconds since the Unix epoch.
    pub(super) fn timestamp(&mut self) -> Result<Option<i64>, ApiError> {
        let number = self.number("timestamp", i64::MAX as u64)?;
        Ok(number.map(|number| i64::try_from(number).unwrap_or(i64::MAX)))
    }

    /// A partition.
    pub(super) fn partition(&mut self) -> Result<Option<u32>, ApiError> {
        let number = self.number("partition", u64::from(u32::MAX))?;
        Ok(number.map(|number| u32::try_from(number).unwrap_or(u32::MAX)))
    }

    /// Refuses what nobody took.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.0.first() {
            Some((name, _)) => Err(ApiError::parameter(&format!("{name:?}"), "is not a parameter of this request")),
            None => Ok(()),
        }
    }
}

fn sends_replacement(query: &str) -> bool {
    query.contains('\u{fffd}') || query.to_ascii_lowercase().contains("%ef%bf%bd")
}

fn number(name: &str, text: &str, max: u64) -> Result<u64, ApiError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        let problem = format!("is {:?}; it must be a whole number from 0 to {max}", shown(text));
        return Err(ApiError::parameter(name, problem));
    }
    match text.parse::<u64>() {
        Ok(number) if number <= max => Ok(number),
        _ => Err(ApiError::parameter(name, format!("is too large; at most {max}"))),
    }
}

/// A number within its limits: default, most, least.
pub(super) fn within(name: &str, given: Option<u64>, limits: (u64, u64), least: u64) -> Result<usize, ApiError> {
    let number = given.unwrap_or(limits.0);
    if number < least || number > limits.1 {
        return Err(ApiError::parameter(name, format!("is {number}; it must be between {least} and {}", limits.1)));
    }
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

/// A time in milliseconds within its limits: default, most, least.
pub(super) fn milliseconds(
    name: &str,
    given: Option<u64>,
    limits: (u64, u64),
    least: u64,
) -> Result<Duration, ApiError> {
    within(name, given, limits, least).map(|number| Duration::from_millis(number as u64))
}

/// The beginning of what a client sent, to be named in an error.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Parameters of a read.
#[derive(Debug)]
pub(super) struct ReadParams {
    pub(super) partition: Option<u32>,
    /// Where to start, if the client said it.
    pub(super) from: Option<ReadFrom>,
    pub(super) max_messages: usize,
    pub(super) max_bytes: usize,
    pub(super) wait_ms: u64,
}

impl ReadParams {
    pub(super) fn take(mut query: Query<'_>) -> Result<Self, ApiError> {
        let params = Self {
            partition: query.partition()?,
            from: read_from(&mut query)?,
            max_messages: query.positive("max_messages", READ_MESSAGES)?,
            max_bytes: query.positive("max_bytes", READ_BYTES)?,
            wait_ms: query.number("wait", MAX_WAIT_MS)?.unwrap_or(0),
        };
        query.finish().map(|()| params)
    }
}

fn read_from(query: &mut Query<'_>) -> Result<Option<ReadFrom>, ApiError> {
    let offset = query.text("offset");
    let timestamp = query.timestamp()?;
    match (offset.as_deref(), timestamp) {
        (Some(_), Some(_)) => Err(ApiError::parameter("timestamp", "and offset exclude each other")),
        (None, None) => Ok(None),
        (None, Some(timestamp)) => Ok(Some(ReadFrom::Timestamp(timestamp))),
        (Some("earliest"), None) => Ok(Some(ReadFrom::Earliest)),
        (Some("latest"), None) => Ok(Some(ReadFrom::Latest)),
        (Some(text), None) => {
            number("offset", text, u64::MAX).map(|offset| Some(ReadFrom::Offset(Offset(offset)))).map_err(|_| {
                let problem = format!("is {:?}; it must be a whole number, earliest or latest", shown(text));
                ApiError::parameter("offset", problem)
            })
        }
    }
}

/// Parameters of a page of topics.
#[derive(Debug)]
pub(super) struct ListParams<'a> {
    pub(super) limit: usize,
    pub(super) after: Option<Cow<'a, str>>,
    pub(super) prefix: Cow<'a, str>,
}

impl<'a> ListParams<'a> {
    pub(super) fn take(mut query: Query<'a>) -> Result<Self, ApiError> {
        let limit = query.positive("limit", (100, 1_000))?;
        let (after, prefix) = (query.text("after"), query.text("prefix").unwrap_or_default());
        query.finish().map(|()| Self { limit, after, prefix })
    }
}

/// Parameters of a publish whose body is one message.
#[derive(Debug)]
pub(super) struct RawParams<'a> {
    pub(super) key: Option<Cow<'a, str>>,
    pub(super) partition: Option<u32>,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) group: Option<Cow<'a, str>>,
    /// But for the group.
    pub(super) attributes: GivenAttributes<'static>,
    pub(super) deduplication_id: Option<Cow<'a, str>>,
}

impl<'a> RawParams<'a> {
    pub(super) fn take(mut query: Query<'a>) -> Result<Self, ApiError> {
        let (key, partition, timestamp_ms) = (query.text("key"), query.partition()?, query.timestamp()?);
        let (group, deduplication_id) = (query.text("group"), query.text("deduplication_id"));
        let attributes = GivenAttributes {
            group: None,
            priority: query.integer("priority")?,
            delay_ms: query.integer("delay_ms")?,
            deliver_at: query.integer("deliver_at")?,
            ttl_ms: query.integer("ttl_ms")?,
            expires_at: query.integer("expires_at")?,
        };
        query.finish().map(|()| Self { key, partition, timestamp_ms, group, attributes, deduplication_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(query: &str) -> String {
        let error = Query::parse(query).and_then(ReadParams::take).expect_err(query);
        assert_eq!((error.code, error.status.as_u16()), ("invalid_parameter", 400));
        error.message
    }

    #[test]
    fn reads_have_defaults_and_limits() {
        let params = ReadParams::take(Query::parse("").unwrap()).unwrap();
        assert_eq!((params.max_messages, params.max_bytes, params.wait_ms), (1_000, 1 << 20, 0));
        assert!(params.partition.is_none() && params.from.is_none());
        let query = "partition=3&offset=12&max_messages=5&max_bytes=6&wait=60000";
        let params = ReadParams::take(Query::parse(query).unwrap()).unwrap();
        assert_eq!((params.partition, params.max_messages, params.max_bytes, params.wait_ms), (Some(3), 5, 6, 60_000));
        assert_eq!(params.from, Some(ReadFrom::Offset(Offset(12))));
        let params = ReadParams::take(Query::parse("timestamp=7").unwrap()).unwrap();
        assert_eq!(params.from, Some(ReadFrom::Timestamp(7)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refusal("partition=-1").contains("partition is \"-1\""));
        assert!(refusal("partition=4294967296").contains("at most 4294967295"));
        assert!(refusal("offset=18446744073709551616").contains("offset"));
        for query in ["offset=-1", "offset=", "offset=soon", "offset=1.5", "offset=%2B1"] {
            assert!(refusal(query).contains("earliest or latest"), "{query}");
        }
        assert!(refusal("wait=60001").contains("wait is too large"));
        assert!(refusal("max_messages=0").contains("max_messages must be at least 1"));
        assert!(refusal("timestamp=-5").contains("timestamp"));
        assert!(refusal("offset=1&timestamp=5").contains("exclude each other"));
        assert!(refusal("offset=1&offset=2").contains("twice"));
        assert!(refusal("Offset=1").contains("\"Offset\" is not a parameter"));
        assert!(refusal("a%ff=1").contains("UTF-8"));
    }

    #[test]
    fn replacement_characters_may_be_sent() {
        let mut query = Query::parse("key=%EF%BF%BD&limit=1").unwrap();
        assert_eq!(query.text("key").unwrap(), "\u{fffd}");
        assert_eq!(query.number("limit", 1).unwrap(), Some(1));
        query.finish().unwrap();
    }
}
