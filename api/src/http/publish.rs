//! Publishing.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::response::Response;
use brigade_index::{batch::MessageRef, command::Identity, limits::MAX_IDEMPOTENCY_KEY_BYTES, names::ProducerId};
use brigade_ingest::Draft;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

use super::{
    answer,
    body::{self, BodyLimits},
    call::Call,
    error::{ApiError, kinds, refuse_message},
    params::RawParams,
};
use crate::{
    serve::Leading,
    settings::Settings,
    wire::{
        GivenAttributes, MessageSink, RawMeta, Refusal, encode_placements, parse_arrow, parse_json, parse_ndjson,
        parse_raw,
    },
};

const PRODUCER_ID: HeaderName = HeaderName::from_static("producer-id");
const PRODUCER_SEQUENCE: HeaderName = HeaderName::from_static("producer-sequence");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const DUPLICATE: HeaderName = HeaderName::from_static("brigade-duplicate");
pub(super) const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Request headers with this prefix are headers of a message whose body is raw.
const MESSAGE_HEADER_PREFIX: &str = "brigade-header-";

/// `POST /v1/topics/{topic}/messages`
pub(super) async fn publish(node: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    let topic = call.topic()?;
    let format = Format::of(call.headers())?;
    if !format.is_raw() && call.parts.uri.query().is_some() {
        call.query()?.finish()?;
    }
    let identity = identity(call.headers())?;
    let Call { parts, body, .. } = call;
    let limits = limits(&node.settings);
    let (body, admission) = body::admitted(body, &parts.headers, limits, &node.ingest).await?;
    let mut sink = DraftSink(node.ingest.draft(&topic, identity)?);
    let now_ms = sink.0.now_ms();
    match format {
        Format::Json => parse_json(&body, now_ms, &mut sink)?,
        Format::NdJson => parse_ndjson(&body, now_ms, &mut sink)?,
        Format::Arrow => parse_arrow(&body, now_ms, limits.bytes, &mut sink)?,
        Format::Bytes | Format::Text => raw(&body, format, &parts, now_ms, &mut sink)?,
    };
    drop(body);
    let reply = node.ingest.publish(sink.0, admission).await?;
    let placed = reply.placed.iter().map(|(partition, offset)| (partition.0, offset.0));
    let mut response = answer::json(StatusCode::OK, encode_placements(placed, &reply.duplicates));
    if reply.duplicate {
        response.headers_mut().insert(DUPLICATE, TRUE);
    }
    Ok(response)
}

/// What the body of a publish may cost.
pub(super) fn limits(settings: &Settings) -> BodyLimits {
    let (publish, http) = (&settings.publish, &settings.http);
    let bytes = usize::try_from(publish.max_request_mib << 20).unwrap_or(usize::MAX);
    BodyLimits { bytes, time: Duration::from_millis(http.body_timeout_ms) }
}

/// Adds messages to a draft as they are parsed.
pub(super) struct DraftSink(pub(super) Draft);

impl MessageSink for DraftSink {
    fn push(
        &mut self,
        message: MessageRef<'_>,
        partition: Option<u32>,
        deduplication_id: Option<&str>,
    ) -> Result<(), Refusal> {
        self.0.push_once(&message, partition, deduplication_id).map_err(|error| refuse_message(&error))
    }
}

/// Formats of a publish body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    NdJson,
    Bytes,
    Text,
    Arrow,
}

impl Format {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        if let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            let problem = format!("the content encoding {encoding:?} is not supported");
            return Err(ApiError::new(kinds::UNSUPPORTED_CONTENT_ENCODING, problem));
        }
        let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Self::Json) };
        let text = value.to_str().unwrap_or_default();
        // Parameters such as the character set change nothing: all text is UTF-8.
        let media_type = text.split(';').next().unwrap_or_default().trim();
        let known = [
            ("application/json", Self::Json),
            // What curl says with -d when it is not told otherwise.
            ("application/x-www-form-urlencoded", Self::Json),
            ("application/x-ndjson", Self::NdJson),
            ("application/octet-stream", Self::Bytes),
            ("text/plain", Self::Text),
            ("application/vnd.apache.arrow.stream", Self::Arrow),
        ];
        let found = known.iter().find(|(name, _)| media_type.eq_ignore_ascii_case(name));
        found.map(|(_, format)| *format).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            ApiError::new(kinds::UNSUPPORTED_CONTENT_TYPE, format!("the content type {shown:?} is not supported"))
        })
    }

    fn is_raw(self) -> bool {
        matches!(self, Self::Bytes | Self::Text)
    }
}

/// The body is one message; the rest of it comes from the query and the headers.
fn raw(
    body: &Bytes,
    format: Format,
    parts: &http::request::Parts,
    now_ms: i64,
    sink: &mut DraftSink,
) -> Result<usize, ApiError> {
    let params = RawParams::take(super::params::Query::parse(parts.uri.query().unwrap_or_default())?)?;
    let meta = RawMeta {
        key: params.key.as_ref().map(|key| key.as_bytes()),
        timestamp_ms: params.timestamp_ms,
        partition: params.partition,
        attributes: GivenAttributes { group: params.group.as_deref(), ..params.attributes },
        deduplication_id: params.deduplication_id.as_deref(),
        headers: message_headers(&parts.headers)?,
    };
    Ok(parse_raw(body, format == Format::Text, &meta, now_ms, sink)?)
}

/// Names and values of a message's headers.
type MessageHeaders<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Headers of the message among those of the request. Their names arrive in lower case.
fn message_headers(headers: &HeaderMap) -> Result<MessageHeaders<'_>, ApiError> {
    let mut found = Vec::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(MESSAGE_HEADER_PREFIX) else { continue };
        let value = std::str::from_utf8(value.as_bytes())
            .map_err(|_| ApiError::parameter(&format!("Brigade-Header-{name}"), "is not UTF-8"))?;
        found.push((Cow::Borrowed(name), Cow::Borrowed(value)));
    }
    Ok(found)
}

/// By what a repetition of the request is recognised.
fn identity(headers: &HeaderMap) -> Result<Option<Identity>, ApiError> {
    let (producer, sequence) = (single(headers, &PRODUCER_ID)?, single(headers, &PRODUCER_SEQUENCE)?);
    let key = single(headers, &IDEMPOTENCY_KEY)?;
    match (producer, sequence, key) {
        (None, None, None) => Ok(None),
        (Some(producer), Some(sequence), None) => {
            let digits = !sequence.is_empty() && sequence.bytes().all(|byte| byte.is_ascii_digit());
            let number = sequence.parse::<u64>().ok().filter(|_| digits);
            let number =
                number.ok_or_else(|| ApiError::parameter("Producer-Sequence", "must be a whole number of 64 bits"))?;
            Ok(Some(Identity::Producer(ProducerId::new(producer)?, number)))
        }
        (None, None, Some(key)) => {
            let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
            if key.is_empty() || key.len() > MAX_IDEMPOTENCY_KEY_BYTES || !visible {
                return Err(ApiError::parameter("Idempotency-Key", "must be 1 to 200 visible ASCII characters"));
            }
            Ok(Some(Identity::Key(key.into())))
        }
        (Some(_), None, None) => Err(ApiError::parameter("Producer-Id", "needs a Producer-Sequence beside it")),
        (None, Some(_), None) => Err(ApiError::parameter("Producer-Sequence", "needs a Producer-Id beside it")),
        (_, _, Some(_)) => {
            Err(ApiError::parameter("Idempotency-Key", "and Producer-Id with Producer-Sequence exclude each other"))
        }
    }
}

/// A header that may be given once, as ASCII text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::parameter(name.as_str(), "is given twice"));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_| ApiError::parameter(name.as_str(), "has characters that are not visible ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        })
    }

    #[test]
    fn content_types() {
        assert_eq!(Format::of(&headers(&[])).unwrap(), Format::Json);
        assert_eq!(Format::of(&headers(&[("content-type", "TEXT/plain; charset=utf-8")])).unwrap(), Format::Text);
        let error = Format::of(&headers(&[("content-type", "text/html")])).unwrap_err();
        assert_eq!((error.code, error.status.as_u16()), ("unsupported_content_type", 415));
    }

    #[test]
    fn identities() {
        let producer = headers(&[("producer-id", "p"), ("producer-sequence", "18446744073709551615")]);
        assert!(matches!(identity(&producer).unwrap(), Some(Identity::Producer(_, u64::MAX))));
        assert!(matches!(identity(&headers(&[("idempotency-key", "k/1")])).unwrap(), Some(Identity::Key(_))));
        assert!(identity(&headers(&[])).unwrap().is_none());
        let wrong: &[&[(&str, &str)]] = &[
            &[("producer-id", "p")],
            &[("producer-sequence", "1")],
            &[("producer-id", "p"), ("producer-sequence", "-1")],
            &[("producer-id", "p"), ("producer-sequence", "+1")],
            &[("producer-id", "p"), ("producer-sequence", "1"), ("idempotency-key", "k")],
            &[("idempotency-key", "")],
            &[("idempotency-key", "a b")],
            &[("idempotency-key", "a"), ("idempotency-key", "b")],
        ];
        for pairs in wrong {
            assert_eq!(identity(&headers(pairs)).unwrap_err().code, "invalid_parameter", "{pairs:?}");
        }
        let name = identity(&headers(&[("producer-id", "p/q"), ("producer-sequence", "1")])).unwrap_err();
        assert_eq!(name.code, "invalid_name");
    }
}
