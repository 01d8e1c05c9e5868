//! What nodes ask and tell each other about who leads.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use http::StatusCode;

use super::{answer, body, call::Call, error::ApiError};
use crate::serve::{DeposedBody, Node};

/// `GET /v1/shards/{shard}/lease`
pub(super) async fn get(node: Arc<Node>, call: Call) -> Result<Response, ApiError> {
    call.query()?.finish()?;
    answer::value(StatusCode::OK, &node.seat.lease(call.shard()?))
}

/// `POST /v1/shards/{shard}/deposed`. What it says is not believed: the node looks at its journal.
pub(super) async fn deposed(node: Arc<Node>, call: Call) -> Result<Response, ApiError> {
    call.query()?.finish()?;
    call.shard()?;
    let time = Duration::from_millis(node.settings.http.body_timeout_ms);
    let Call { parts, body, .. } = call;
    let news: DeposedBody = body::document(body, &parts.headers, time).await?;
    tracing::info!(ballot = news.ballot, node = news.node, address = news.address, "another node says that it leads");
    node.seat.hint();
    Ok(answer::empty())
}
