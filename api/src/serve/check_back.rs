//! Asking the owner of a transaction that nobody has decided what has become of it.

use std::{sync::Arc, time::Duration};

use brigade_ingest::{Ask, Question};
use futures::FutureExt;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::push::Endpoints;

/// Longest time for an answer, and for memory to ask in.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks at the addresses that the node may post to.
pub(super) fn ask(endpoints: Endpoints) -> Ask {
    Arc::new(move |question| {
        let endpoints = endpoints.clone();
        async move { decision(&endpoints, &question).await }.boxed()
    })
}

/// What the endpoint says: whether to commit. Anything but a clear decision is none.
async fn decision(endpoints: &Endpoints, question: &Question) -> Option<bool> {
    let Question { id, prepared_ms, url } = question;
    let body = json!({"transaction": id.as_str(), "prepared_at": prepared_ms}).to_string();
    let unanswered = |problem: &dyn std::fmt::Display| {
        tracing::debug!(%id, %problem, "an endpoint was asked about a transaction and gave no answer");
    };
    let endpoint = endpoints.endpoint(url, None, PATIENCE).inspect_err(|error| unanswered(error)).ok()?;
    let Ok(_place) = timeout(PATIENCE, endpoints.place(body.len())).await else {
        unanswered(&"the node has no memory left for it");
        return None;
    };
    let answer =
        endpoints.post(&endpoint, id.as_str(), body.into()).await.inspect_err(|error| unanswered(error)).ok()?;
    if !answer.status.is_success() {
        unanswered(&answer.status);
        return None;
    }
    // Other fields are passed over.
    let fields: Map<String, Value> =
        serde_json::from_slice(&answer.body().await).inspect_err(|error| unanswered(error)).ok()?;
    match fields.get("decision").and_then(Value::as_str) {
        Some("commit") => Some(true),
        Some("rollback") => Some(false),
        _ => None,
    }
}
