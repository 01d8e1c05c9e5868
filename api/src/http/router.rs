//! From routes to handlers, and what all requests share: counting, errors in one shape, a limit on header fields.

use std::{convert::Infallible, future::Future, panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, RawPathParams, Request, State},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use futures::FutureExt;
use http::{HeaderMap, Method, StatusCode, request::Parts};
use tokio::time::Instant;

use super::{
    answer,
    call::Call,
    cluster,
    error::{ApiError, kinds},
    ops, poll, publish, read,
    route::Route,
    subscriptions, topics,
};
use crate::serve::Node;

/// Most header fields of a request: 64 headers of a message and what clients and proxies add. A hundred is what the
/// HTTP library takes; it refuses more by itself, without a body.
const MAX_HEADER_FIELDS: usize = 90;

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
        Route::ListTopics => answered_by(route, topics::list),
        Route::CreateTopic => answered_by(route, topics::create),
        Route::GetTopic => answered_by(route, topics::get),
        Route::AlterTopic => answered_by(route, topics::alter),
        Route::DeleteTopic => answered_by(route, topics::delete),
        Route::Publish => answered_by(route, publish::publish),
        Route::Read => answered_by(route, read::read),
        Route::ListSubscriptions => answered_by(route, subscriptions::list),
        Route::CreateSubscription => answered_by(route, subscriptions::create),
        Route::GetSubscription => answered_by(route, subscriptions::get),
        Route::SeekSubscription => answered_by(route, subscriptions::seek),
        Route::DeleteSubscription => answered_by(route, subscriptions::delete),
        Route::Poll => answered_by(route, poll::poll),
        Route::Commit => answered_by(route, poll::commit),
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

/// Wraps a handler: no layers, so that a request passes through as little as possible.
fn answered_by<F, A>(route: Route, handle: F) -> MethodRouter<Arc<Node>>
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
            let leads = || if route.needs_leader() { Ok(node.shard.leads()?) } else { Ok(()) };
            let answer = match check_headers(&parts.headers).and_then(|()| leads()) {
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
    if fields > MAX_HEADER_FIELDS {
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
    node.http_metrics.answered(None, response.status(), std::time::Duration::ZERO);
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
    node.http_metrics.answered(None, response.status(), std::time::Duration::ZERO);
    response
}
