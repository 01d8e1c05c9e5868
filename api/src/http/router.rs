//! From routes to handlers, and what all requests share: counting, errors in one shape, a limit on header fields.

use std::{convert::Infallible, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, RawPathParams, Request, State},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};

use brigade_index::shard::ProposeError;
use futures::FutureExt;
use http::{HeaderMap, Method, StatusCode, request::Parts};
use tokio::time::{Instant, timeout_at};

use super::{
    answer,
    call::Call,
    cluster, compactor,
    error::{ApiError, kinds},
    forward::{self, forward, is_forwarded},
    lease, members, ops, poll, publish, queue, read, regions,
    route::Route,
    shards, subscriptions, topics, transactions,
};
use crate::serve::{Absent, Leading, Node, SELF_CHECK};

/// Most header fields of a request: 64 headers of a message and what clients and proxies add. A hundred is what the
/// HTTP library takes; it refuses more by itself, without a body.
const MAX_HEADER_FIELDS: usize = 90;

/// Header fields that a node adds to a request that it passes on.
const FORWARDED_FIELDS: usize = 4;

/// How long a request waits for a leader during a takeover, before it is refused.
const PATIENCE: Duration = Duration::from_secs(2);

/// The interface of a node. It needs no socket: tests and simulations call it directly.
pub fn router(node: Node) -> Router {
    let router = Route::ALL.iter().fold(Router::new(), |router, route| router.route(route.path(), handler(*route)));
    router.fallback(unknown_path).method_not_allowed_fallback(other_method).with_state(Arc::new(node))
}

fn handler(route: Route) -> MethodRouter<Arc<Node>> {
    match route {
        Route::Index => answered_by(route, ops::index),
        Route::Health => answered_by(route, ops::health),
        Route::Ready => answered_by(route, ops::ready),
        Route::Metrics => answered_by(route, ops::metrics),
        Route::OpenApi => answered_by(route, ops::openapi),
        Route::Cluster => answered_by(route, cluster::get),
        Route::Regions => best_known(route, regions::list),
        Route::ChangeRegions => led_by(route, regions::change),
        Route::Compactor => led_by(route, compactor::get),
        Route::RunCompactor => led_by(route, compactor::run),
        Route::Shards => best_known(route, shards::list),
        Route::Lease => answered_by(route, lease::get),
        Route::Deposed => answered_by(route, lease::deposed),
        Route::ListTopics => led_by(route, topics::list),
        Route::CreateTopic => led_by(route, topics::create),
        Route::GetTopic => led_by(route, topics::get),
        Route::AlterTopic => led_by(route, topics::alter),
        Route::DeleteTopic => led_by(route, topics::delete),
        Route::ListFiles => led_by(route, topics::files::list),
        Route::Publish => led_by(route, publish::publish),
        Route::Read => led_by(route, read::read),
        Route::ListSubscriptions => led_by(route, subscriptions::list),
        Route::CreateSubscription => led_by(route, subscriptions::create),
        Route::GetSubscription => led_by(route, subscriptions::get),
        Route::AlterSubscription => led_by(route, subscriptions::alter),
        Route::DeleteSubscription => led_by(route, subscriptions::delete),
        Route::Poll => led_by(route, poll::poll),
        Route::Commit => led_by(route, poll::commit),
        Route::ListMembers => led_by(route, members::list),
        Route::Heartbeat => led_by(route, members::heartbeat),
        Route::LeaveMembers => led_by(route, members::leave),
        Route::Ack => led_by(route, queue::ack),
        Route::Nack => led_by(route, queue::nack),
        Route::Extend => led_by(route, queue::extend),
        Route::Reject => led_by(route, queue::reject),
        Route::DeadLetters => led_by(route, queue::list),
        Route::Redrive => led_by(route, queue::redrive),
        Route::PurgeDeadLetters => led_by(route, queue::purge),
        Route::ListTransactions => led_by(route, transactions::list),
        Route::Transact => led_by(route, transactions::transact),
        Route::GetTransaction => led_by(route, transactions::get),
        Route::CommitTransaction => led_by(route, transactions::commit),
        Route::RollBackTransaction => led_by(route, transactions::roll_back),
    }
}

/// Path parameters, if all of them are UTF-8.
struct PathParameters(Option<RawPathParams>);

impl<S: Send + Sync> FromRequestParts<S> for PathParameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(RawPathParams::from_request_parts(parts, state).await.ok()))
    }
}

/// A handler that any node carries out.
fn answered_by<F, A>(route: Route, handle: F) -> MethodRouter<Arc<Node>>
where
    F: Fn(Arc<Node>, Call) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    wrapped(route, handle)
}

/// A handler that the leader carries out; other nodes pass the request on.
fn led_by<F, A>(route: Route, handle: F) -> MethodRouter<Arc<Node>>
where
    F: Fn(Arc<Leading>, Call) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    wrapped(route, move |node: Arc<Node>, call: Call| {
        let handle = handle.clone();
        async move {
            let forwarded = is_forwarded(&call.parts.headers);
            match seated(&node, forwarded).await {
                Ok(leading) => {
                    node.seat.asked(&leading);
                    match handle(leading.clone(), call).await {
                        Err(error) if depends_on_state(&error) => Err(doubted(&leading, error).await),
                        answer => answer,
                    }
                }
                Err(absent) => match absent.leader.as_ref().filter(|_| absent.lives && !forwarded) {
                    Some(leader) => forward(&node, route, leader, call).await,
                    None => Err(forward::refuse(&absent, call).await),
                },
            }
        }
    })
}

/// Whether a refusal is only as true as what this node knows is complete. A receipt is foreign, too, to who does not know that
/// the subscription was created anew.
fn depends_on_state(error: &ApiError) -> bool {
    let stateful = [kinds::PARTITION_NOT_FOUND.1, kinds::RECEIPT_FOREIGN.1];
    matches!(error.status.as_u16(), 404 | 409 | 410 | 416) || stateful.contains(&error.code)
}

/// Whoever only reads what some region shows as committed may know too little: what it does not find, there may be. And a
/// leader that has committed nothing for a while may have been deposed without knowing: before it denies anything it
/// commits an entry, which only a leader can.
async fn doubted(leading: &Leading, error: ApiError) -> ApiError {
    if leading.shard.status().state == "reading" {
        let message = format!("too few regions answer to know whether this is so: {}", error.message);
        return ApiError::new(kinds::QUORUM_UNAVAILABLE, message);
    }
    if !leading.shard.is_quiet(SELF_CHECK) {
        return error;
    }
    match leading.shard.propose(Vec::new()).await {
        Ok(_) => error,
        // That entry's fate is of no importance; the request itself stored nothing.
        Err(ProposeError::Unknown(problem)) => {
            ApiError::new(kinds::NOT_LEADER, format!("it is not known whether this node still leads: {problem}"))
        }
        Err(problem) => problem.into(),
    }
}

/// A handler that tells what is known: the leader knows best, and without one every node tells what it knows.
fn best_known<F, A>(route: Route, handle: F) -> MethodRouter<Arc<Node>>
where
    F: Fn(Arc<Node>, Call) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    wrapped(route, move |node: Arc<Node>, call: Call| {
        let handle = handle.clone();
        async move {
            let absent = node.seat.lead().err().filter(|absent| absent.lives && !is_forwarded(&call.parts.headers));
            match absent.as_ref().and_then(|absent| absent.leader.as_ref()) {
                Some(leader) => forward(&node, route, leader, call).await,
                None => handle(node, call).await,
            }
        }
    })
}

/// The seat, or a leader to be asked, waiting for either while there is neither: a takeover does not take long.
async fn seated(node: &Node, forwarded: bool) -> Result<Arc<Leading>, Arc<Absent>> {
    let settled =
        |absent: &Absent| absent.state == "stopped" || (absent.lives && !forwarded) || node.draining.is_cancelled();
    match node.seat.lead() {
        Err(absent) if !settled(&absent) => {}
        settled => return settled,
    }
    let Ok(_place) = node.waiting.try_acquire() else { return node.seat.lead() };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let changed = node.seat.changed();
        match node.seat.lead() {
            Err(absent) if !settled(&absent) => {
                if timeout_at(deadline, changed).await.is_err() {
                    return Err(absent);
                }
            }
            settled => return settled,
        }
    }
}

/// Wraps a handler: no layers, so that a request passes through as little as possible.
fn wrapped<F, A>(route: Route, handle: F) -> MethodRouter<Arc<Node>>
where
    F: Fn(Arc<Node>, Call) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let filter = match route.method() {
        Method::PUT => MethodFilter::PUT,
        Method::POST => MethodFilter::POST,
        Method::PATCH => MethodFilter::PATCH,
        Method::DELETE => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    };
    on(filter, move |State(node): State<Arc<Node>>, PathParameters(path): PathParameters, request: Request| {
        let handle = handle.clone();
        async move {
            let started = Instant::now();
            let (parts, body) = request.into_parts();
            let answer = match check_headers(&parts.headers) {
                Ok(()) => {
                    let handled = AssertUnwindSafe(handle(node.clone(), Call { parts, path, body }));
                    handled.catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
                }
                Err(error) => Err(error),
            };
            let response = answer.unwrap_or_else(|error| refuse(route, error));
            node.http_metrics.answered(Some(route), response.status(), started.elapsed());
            response
        }
    })
}

fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let fields = headers.len();
    let added = if is_forwarded(headers) { FORWARDED_FIELDS } else { 0 };
    if fields > MAX_HEADER_FIELDS + added {
        return Err(ApiError::new(kinds::REQUEST_HEADERS, format!("the request has {fields} header fields")));
    }
    Ok(())
}

/// The panic itself was printed where it happened. No lock of ours is held across an await, and a lock that is held when
/// its holder panics is released.
fn panicked() -> ApiError {
    ApiError::new(kinds::INTERNAL, "the request met a defect of the server")
}

/// Logs what the operator has to know of; everything else is in the metrics.
fn refuse(route: Route, error: ApiError) -> Response {
    if error.status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(?route, code = error.code, message = error.message, "request failed");
    } else {
        tracing::debug!(?route, code = error.code, message = error.message, "request refused");
    }
    error.into_response()
}

async fn unknown_path(State(node): State<Arc<Node>>, request: Request) -> Response {
    let path: String = request.uri().path().chars().take(100).collect();
    let response = ApiError::new(kinds::NOT_FOUND, format!("there is nothing at {path}")).into_response();
    node.http_metrics.answered(None, response.status(), Duration::ZERO);
    response
}

/// Known path, other method. The router adds the header `Allow`.
async fn other_method(State(node): State<Arc<Node>>, request: Request<Body>) -> Response {
    let response = if request.method() == Method::OPTIONS {
        answer::empty()
    } else {
        let problem = format!("{} is not allowed here", request.method());
        ApiError::new(kinds::METHOD_NOT_ALLOWED, problem).into_response()
    };
    node.http_metrics.answered(None, response.status(), Duration::ZERO);
    response
}
