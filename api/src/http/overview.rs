//! The routes that show regions and shards. They stand beside [`super::route::Route`]: every node answers them from what it
//! knows, whoever leads.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use http::Method;

use super::{
    answer,
    call::Call,
    error::{ApiError, kinds},
    regions, shards,
};
use crate::serve::Node;

/// Path of the regions.
pub(super) const REGIONS: &str = "/v1/regions";
/// Path of the shards.
pub(super) const SHARDS: &str = "/v1/shards";

/// The interface of a node. It needs no socket: tests and simulations call it directly.
pub fn router(node: Node) -> Router {
    let shared = Arc::new(node.clone());
    let overview = Router::new()
        .route(REGIONS, answered_by(shared.clone(), regions::list))
        .route(SHARDS, answered_by(shared, shards::list));
    super::router::router(node).merge(overview)
}

fn answered_by<F, A>(node: Arc<Node>, handle: F) -> MethodRouter
where
    F: Fn(Arc<Node>, Call) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let other = node.clone();
    get(async move |request: Request| {
        let (parts, body) = request.into_parts();
        let answer = handle(node.clone(), Call { parts, path: None, body }).await;
        counted(&node, answer.unwrap_or_else(IntoResponse::into_response))
    })
    .fallback(async move |method: Method| {
        let problem = format!("{method} is not allowed here");
        let refused = || ApiError::new(kinds::METHOD_NOT_ALLOWED, problem).into_response();
        counted(&other, if method == Method::OPTIONS { answer::empty() } else { refused() })
    })
}

fn counted(node: &Node, response: Response) -> Response {
    node.http_metrics.answered(None, response.status(), Duration::ZERO);
    response
}
