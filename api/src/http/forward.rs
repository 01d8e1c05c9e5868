//! Passing requests on to the leader: once, streamed both ways, under the limits of this node.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    response::Response,
};
use brigade_index::format::Leader;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use super::{
    body::{self, BodyLimits},
    call::Call,
    error::{ApiError, kinds},
    params::MAX_WAIT_MS,
    publish,
    route::Route,
    transactions,
};
use crate::{
    peers::PeerError,
    serve::{Absent, Node, left},
};

/// Says that a request was passed on by the node named; it is not passed on again.
pub(super) const FORWARDED: HeaderName = HeaderName::from_static("brigade-forwarded");

/// Names the node that carried a request out.
const LEADER: HeaderName = HeaderName::from_static("brigade-leader");

/// How long an answer is still waited for after another node took over, or this one begins to shut down.
const GRACE: Duration = Duration::from_secs(1);

/// What a request may take on its way, on top of what the leader itself gives it.
const SLACK: Duration = Duration::from_secs(5);

/// Headers that belong to one connection.
const HOP_BY_HOP: [HeaderName; 6] =
    [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, HeaderName::from_static("keep-alive")];

/// Passes a request on to `leader` and its answer back.
pub(super) async fn forward(node: &Arc<Node>, route: Route, leader: &Leader, call: Call) -> Result<Response, ApiError> {
    let limits = publish::limits(&node.settings);
    let Call { mut parts, mut body, .. } = call;
    if let Err(error) = body::announced(&body, limits) {
        body::discard(&mut body, &parts.headers).await;
        return Err(error);
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse::<Uri>().map_err(|error| ApiError::new(kinds::INTERNAL, error.to_string()))?;
    strip(&mut parts.headers);
    // The client of this node sets them anew.
    for own in [HOST, EXPECT, CONTENT_LENGTH] {
        parts.headers.remove(own);
    }
    let caller = std::mem::take(&mut parts.extensions);
    parts.headers.insert(FORWARDED, name_of(&node.name));
    let refusal = Arc::new(OnceLock::new());
    let body = Body::new(Bounded::new(body, limits, refusal.clone()));
    node.http_metrics.forwarded();
    let sending = node.peers.send(&leader.address, Request::from_parts(parts, body));
    let wait = if route.changes() { Duration::ZERO } else { Duration::from_millis(MAX_WAIT_MS) };
    let limit = limits.time + Duration::from_millis(node.settings.publish.request_timeout_ms) + wait + SLACK;
    let changed = node.seat.changed();
    let answer = tokio::select! {
        biased;
        answer = timeout(limit, sending) => answer.map_err(|_| format!("no answer within {limit:?}")),
        () = async { changed.await; sleep(GRACE).await } => Err("another node took over in between".to_owned()),
        // The leader sees that nobody waits for its messages any more. A client that only sends no more is not kept waiting.
        () = async { left(&caller).await; sleep(GRACE).await }, if route == Route::Poll => {
            return Err(ApiError::new(kinds::REQUEST_TIMEOUT, "the connection was closed while the request waited"));
        }
        () = async { node.draining.cancelled().await; sleep(GRACE).await }, if !route.changes() => {
            return Err(ApiError::new(kinds::SHUTTING_DOWN, "the node is shutting down"));
        }
    };
    // The leader got a body that was cut off, which it does not store; what it says of that explains nothing.
    if let Some(refusal) = refusal.get() {
        return Err(refusal.to_error());
    }
    match answer {
        Ok(Ok(response)) => Ok(pass_back(node, leader, response)),
        failed => {
            node.seat.hint();
            Err(unanswered(route, leader, failed))
        }
    }
}

/// What is known of a request without an answer.
fn unanswered<T>(route: Route, leader: &Leader, failed: Result<Result<T, PeerError>, String>) -> ApiError {
    let (sent, problem) = match failed {
        Ok(Err(error @ PeerError::Unreachable { .. })) => (false, error.to_string()),
        Ok(Err(error)) => (true, error.to_string()),
        Ok(Ok(_)) => (true, String::new()),
        Err(problem) => (true, problem),
    };
    let message = format!("the request was passed on to the leader {}: {problem}", leader.node);
    if sent && route.changes() {
        let error = ApiError::new(kinds::OUTCOME_UNKNOWN, message);
        return match route {
            Route::Publish => error,
            Route::Transact => ApiError { hint: transactions::UNKNOWN_HINT.into(), ..error },
            _ => error.repeatable(),
        };
    }
    let hint = match route {
        // The leader may have delivered messages that nobody got.
        Route::Poll if sent => "try again after Retry-After; what a queue delivered on the way comes again in its time",
        _ if route.changes() => "try again after Retry-After; nothing was stored",
        _ => "try again after Retry-After",
    };
    ApiError { hint: hint.into(), ..ApiError::new(kinds::NOT_LEADER, message) }
}

fn pass_back(node: &Node, leader: &Leader, mut response: Response) -> Response {
    strip(response.headers_mut());
    response.headers_mut().insert(LEADER, name_of(&leader.node));
    let follows = response.headers().get(CONTENT_TYPE).is_some_and(|found| found == "text/event-stream");
    if !follows {
        return response;
    }
    // Such an answer has no end of its own.
    let draining = node.draining.clone();
    response.map(|body| {
        let pieces = body.into_data_stream().take_until(draining.cancelled_owned()).into_stream();
        Body::from_stream(pieces)
    })
}

/// Names are free text; what no header can hold is left out.
fn name_of(node: &str) -> HeaderValue {
    HeaderValue::from_str(node).unwrap_or(HeaderValue::from_static("unnamed"))
}

/// Takes out what belongs to one connection.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<_> = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok()).collect();
    let named = named.iter().flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
    let named: Vec<HeaderName> = named.collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Whether the request was passed on by another node already.
pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED)
}

/// Refuses a request that nobody can be found for, with its body taken care of.
pub(super) async fn refuse(absent: &Absent, mut call: Call) -> ApiError {
    body::discard(&mut call.body, &call.parts.headers).await;
    absent.into()
}

/// Why a body was not passed on to its end.
#[derive(Debug)]
enum Refusal {
    TooLarge(usize, BodyLimits),
    Late(Duration),
    Broken(String),
}

impl Refusal {
    fn to_error(&self) -> ApiError {
        match self {
            Self::TooLarge(bytes, limits) => body::too_large(*bytes, *limits),
            Self::Late(limit) => body::late(*limit),
            Self::Broken(problem) => body::truncated(problem),
        }
    }
}

/// A body that ends with an error when it becomes too large or takes too long.
struct Bounded {
    inner: Body,
    limits: BodyLimits,
    seen: usize,
    deadline: Pin<Box<Sleep>>,
    refusal: Arc<OnceLock<Refusal>>,
}

impl Bounded {
    fn new(inner: Body, limits: BodyLimits, refusal: Arc<OnceLock<Refusal>>) -> Self {
        Self { inner, limits, seen: 0, deadline: Box::pin(sleep_until(Instant::now() + limits.time)), refusal }
    }

    fn refuse(&self, refusal: Refusal) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let _ = self.refusal.set(refusal);
        Poll::Ready(Some(Err(axum::Error::new("the body is not passed on"))))
    }
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.seen += frame.data_ref().map_or(0, Bytes::len);
                if self.seen > self.limits.bytes {
                    return self.refuse(Refusal::TooLarge(self.seen, self.limits));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.refuse(Refusal::Broken(error.to_string())),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.deadline.as_mut().poll(context) {
                Poll::Ready(()) => self.refuse(Refusal::Late(self.limits.time)),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_happened_is_only_called_repeatable_where_it_is() {
        let leader = Leader { node: "l".to_owned(), address: "http://l".to_owned(), time_ms: 0 };
        let broken = || PeerError::Broken { address: String::new(), problem: "reset".to_owned() };
        let hint = |route| {
            let error = unanswered::<()>(route, &leader, Ok(Err(broken())));
            assert_eq!(error.code, "outcome_unknown", "{route:?}");
            error.hint
        };
        assert!(hint(Route::Publish).contains("Idempotency-Key"));
        assert!(hint(Route::Transact).contains("with its id"));
        for route in [Route::Ack, Route::Nack, Route::CommitTransaction, Route::Redrive, Route::AlterSubscription] {
            assert!(hint(route).contains("repeat the request"), "{route:?}");
        }
        // Such a poll has stored nothing.
        let polled = unanswered::<()>(Route::Poll, &leader, Ok(Err(broken())));
        assert_eq!(polled.code, "not_leader");
    }
}
