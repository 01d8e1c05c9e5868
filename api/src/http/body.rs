//! Reading request bodies: under a length, under a time-out, and only with room in memory.

use std::{future::poll_fn, pin::Pin, time::Duration};

use axum::body::{Body, HttpBody};
use brigade_ingest::{Admission, Ingest, IngestError};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::EXPECT};
use hyper::body::Frame;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use tokio::time::timeout;

use super::error::{ApiError, kinds};

/// Largest body that is read without room for it having been found: the longest list of positions takes about 50 KiB.
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// How much of a refused body is read and dropped, and for how long, so that a client that is still sending sees the
/// answer instead of a broken connection.
const DISCARD_BYTES: usize = 8 << 20;
/// See [`DISCARD_BYTES`].
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// What a body may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    /// Most bytes.
    pub(super) bytes: usize,
    /// Longest time for all of it.
    pub(super) time: Duration,
}

/// Reads the body of a publish, with room for it in memory before it is read: for all of it if its length was announced,
/// else piece by piece.
pub(super) async fn admitted(
    mut body: Body,
    headers: &HeaderMap,
    limits: BodyLimits,
    ingest: &Ingest,
) -> Result<(Bytes, Admission), ApiError> {
    let announced = announced(&body, limits);
    let admission = announced.and_then(|announced| {
        let admission = ingest.admit(announced.unwrap_or(0)).map_err(|error| refused(error, limits))?;
        Ok((announced, admission))
    });
    let read = match admission {
        Ok((announced, mut admission)) => {
            let read = collect(&mut body, announced, limits, |bytes| {
                // What was announced is admitted already.
                if announced.is_some() { Ok(()) } else { admission.grow(bytes).map_err(|error| refused(error, limits)) }
            });
            read.await.map(|bytes| (bytes, admission))
        }
        Err(error) => Err(error),
    };
    if read.is_err() {
        discard(&mut body, headers).await;
    }
    read
}

/// Room that can never be had is a matter of the request's size.
fn refused(error: IngestError, limits: BodyLimits) -> ApiError {
    match error {
        IngestError::TooLarge { bytes, .. } => too_large(bytes, limits),
        other => other.into(),
    }
}

/// Reads a small JSON document; no body at all counts as `{}`.
pub(super) async fn document<T: DeserializeOwned>(
    body: Body,
    headers: &HeaderMap,
    time: Duration,
) -> Result<T, ApiError> {
    let limits = BodyLimits { bytes: MAX_DOCUMENT_BYTES, time };
    let bytes = whole(body, headers, limits, |_| Ok(())).await?;
    object(if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes })
}

/// Reads a JSON document that may be a large one. Then it needs room in memory like a publish, until the permit is dropped;
/// a small one has room always, so that what is in flight can be settled while there is none for more.
pub(super) async fn large_document<T: DeserializeOwned>(
    body: Body,
    headers: &HeaderMap,
    limits: BodyLimits,
    ingest: &Ingest,
) -> Result<(T, Option<Admission>), ApiError> {
    let (mut admission, mut seen) = (None::<Admission>, 0);
    let bytes = whole(body, headers, limits, |piece| {
        seen += piece;
        let room = match &mut admission {
            Some(admission) => admission.grow(piece),
            None if seen > MAX_DOCUMENT_BYTES => ingest.admit(seen).map(|room| admission = Some(room)),
            None => Ok(()),
        };
        room.map_err(|error| refused(error, limits))
    });
    let bytes = bytes.await?;
    let document = object(if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes })?;
    Ok((document, admission))
}

/// Parses a JSON object.
pub(super) fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ApiError> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        // Serde would take an array for the fields in their order.
        return Err(ApiError::new(kinds::INVALID_JSON, "the body is not a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| ApiError::new(kinds::INVALID_JSON, error.to_string()))
}

/// Reads a body to its end; one that is refused is discarded.
async fn whole(
    mut body: Body,
    headers: &HeaderMap,
    limits: BodyLimits,
    take: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Bytes, ApiError> {
    let read = match announced(&body, limits) {
        Ok(announced) => collect(&mut body, announced, limits, take).await,
        Err(error) => Err(error),
    };
    if read.is_err() {
        discard(&mut body, headers).await;
    }
    read
}

/// The announced length, if there is one and it is not too large.
pub(super) fn announced(body: &Body, limits: BodyLimits) -> Result<Option<usize>, ApiError> {
    let Some(announced) = body.size_hint().exact() else { return Ok(None) };
    match usize::try_from(announced) {
        Ok(announced) if announced <= limits.bytes => Ok(Some(announced)),
        _ => Err(too_large(usize::try_from(announced).unwrap_or(usize::MAX), limits)),
    }
}

pub(super) fn too_large(bytes: usize, limits: BodyLimits) -> ApiError {
    let limit = limits.bytes;
    ApiError::new(kinds::REQUEST_TOO_LARGE, format!("the body has {bytes} bytes or more, at most {limit} are accepted"))
}

/// Collects a body; `take` is asked for room for each piece before it is kept.
async fn collect(
    body: &mut Body,
    announced: Option<usize>,
    limits: BodyLimits,
    take: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Bytes, ApiError> {
    match timeout(limits.time, pieces(body, announced, limits, take)).await {
        Ok(read) => read,
        Err(_) => Err(late(limits.time)),
    }
}

/// The body took too long.
pub(super) fn late(limit: Duration) -> ApiError {
    let waited = limit.as_millis();
    ApiError::new(kinds::REQUEST_TIMEOUT, format!("the body did not arrive within {waited} ms"))
}

async fn pieces(
    body: &mut Body,
    announced: Option<usize>,
    limits: BodyLimits,
    mut take: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Bytes, ApiError> {
    let mut all = BytesMut::new();
    while let Some(piece) = next(body).await {
        let piece = piece.map_err(truncated)?;
        if all.len() + piece.len() > limits.bytes {
            return Err(too_large(all.len() + piece.len(), limits));
        }
        take(piece.len())?;
        if all.is_empty() && announced == Some(piece.len()) {
            // The usual case: it came in one piece, and nothing is copied.
            return Ok(piece);
        }
        if all.is_empty() {
            all.reserve(announced.unwrap_or(piece.len()));
        }
        all.extend_from_slice(&piece);
    }
    if announced.is_some_and(|announced| announced != all.len()) {
        let problem = format!("the body ends after {} bytes", all.len());
        return Err(ApiError::new(kinds::TRUNCATED_BODY, problem));
    }
    Ok(all.freeze())
}

pub(super) fn truncated(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(kinds::TRUNCATED_BODY, format!("the body ended too early or its framing is wrong: {error}"))
}

/// A field of a body that was given, perhaps as `null`.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// The next piece of data; trailers are passed over.
async fn next(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => return Some(Ok(data)),
            Ok(Err(_trailers)) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}

/// Reads on and drops what comes, within bounds.
pub(super) async fn discard(body: &mut Body, headers: &HeaderMap) {
    // Such a client waits for the answer before it sends anything; reading would tell it to go on.
    if headers.contains_key(EXPECT) {
        return;
    }
    let drop_all = async {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(piece)) = next(body).await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                break;
            }
        }
    };
    // Out of time, the connection is closed instead.
    let _ = timeout(DISCARD_TIME, drop_all).await;
}
