//! Operations: what is here, is it alive, is it ready, how is it doing.

use std::sync::{Arc, LazyLock};

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header::ACCEPT};
use serde_json::json;

use super::{
    answer,
    call::Call,
    error::{ApiError, kinds},
    openapi,
};
use crate::serve::Node;

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PLAIN_METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The document never changes while the process runs.
static DOCUMENT: LazyLock<Result<Bytes, String>> = LazyLock::new(|| {
    let document = openapi::document().to_pretty_json();
    document.map(Bytes::from).map_err(|error| error.to_string())
});

/// `GET /`
pub(super) async fn index(_node: Arc<Node>, _call: Call) -> Result<Response, ApiError> {
    let links = json!({
        "name": "Brigade",
        "version": env!("CARGO_PKG_VERSION"),
        "links": {
            "topics": "/v1/topics",
            "cluster": "/v1/cluster",
            "regions": "/v1/regions",
            "shards": "/v1/shards",
            "compactor": "/v1/compactor",
            "health": "/healthz",
            "ready": "/readyz",
            "metrics": "/metrics",
            "openapi": "/openapi.json",
        },
    });
    answer::value(StatusCode::OK, &links)
}

/// `GET /healthz`
pub(super) async fn health(_node: Arc<Node>, _call: Call) -> Result<Response, ApiError> {
    Ok(answer::json(StatusCode::OK, Bytes::from_static(b"{\"status\":\"ok\"}")))
}

/// `GET /readyz`
pub(super) async fn ready(node: Arc<Node>, _call: Call) -> Result<Response, ApiError> {
    if node.draining.is_cancelled() {
        return Err(ApiError::new(kinds::SHUTTING_DOWN, "the node is shutting down"));
    }
    match node.seat.lead() {
        Ok(leading) => {
            leading.shard.ready()?;
            answer::value(StatusCode::OK, &json!({"status": "ready", "role": "leading"}))
        }
        Err(absent) if absent.lives => {
            let leader = absent.leader.as_ref().map(|leader| &leader.node);
            answer::value(StatusCode::OK, &json!({"status": "ready", "role": "following", "leader": leader}))
        }
        Err(absent) => Err(absent.as_ref().into()),
    }
}

/// `GET /metrics`
pub(super) async fn metrics(node: Arc<Node>, call: Call) -> Result<Response, ApiError> {
    let mut text = String::with_capacity(16 * 1024);
    prometheus_client::encoding::text::encode(&mut text, &node.registry)
        .map_err(|error| ApiError::new(kinds::INTERNAL, error.to_string()))?;
    let accepts = call.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let open = accepts.into_iter().any(|accepted| accepted.contains("application/openmetrics-text"));
    let content_type = if open { OPEN_METRICS } else { PLAIN_METRICS };
    Ok(answer::with_type(StatusCode::OK, content_type, text))
}

/// `GET /openapi.json`
pub(super) async fn openapi(_node: Arc<Node>, _call: Call) -> Result<Response, ApiError> {
    match &*DOCUMENT {
        Ok(document) => Ok(answer::json(StatusCode::OK, document.clone())),
        Err(error) => Err(ApiError::new(kinds::INTERNAL, error.clone())),
    }
}
