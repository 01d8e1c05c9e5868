//! The interface in memory, on a store in memory.

use axum::{Router, body::Body};
use brigade_index::env::Env;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Route, router};
use crate::{
    serve::{Node, start_node},
    settings::Settings,
};

mod archive;
mod errors;
mod members;
mod messages;
mod overview;
mod push;
mod queue;
mod surface;
mod transactions;

fn settings() -> Settings {
    toml::from_str("[[regions]]\nname = \"local\"\nurl = \"memory://\"\n").unwrap()
}

async fn node() -> Node {
    start_node(settings(), Env::simulated(7, 1_700_000_000_000)).await.unwrap()
}

/// An answer, taken apart.
struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: bytes::Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.body))
    }

    /// Status and code of an error; checks that it has the shape of all errors.
    fn error(&self) -> (u16, String) {
        let json = self.json();
        let error = &json["error"];
        for field in ["code", "message", "hint"] {
            assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "{field} is missing: {json}");
        }
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/json");
        (self.status.as_u16(), error["code"].as_str().unwrap().to_owned())
    }
}

async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}

async fn call(router: &Router, method: Method, path: &str, body: impl Into<Body>) -> Answer {
    send(router, Request::builder().method(method).uri(path).body(body.into()).unwrap()).await
}

async fn get(router: &Router, path: &str) -> Answer {
    call(router, Method::GET, path, Body::empty()).await
}

/// With a body of text or of JSON.
async fn put(router: &Router, path: &str, body: impl ToString) -> Answer {
    call(router, Method::PUT, path, body.to_string()).await
}

/// With a body of text or of JSON.
async fn post(router: &Router, path: &str, body: impl ToString) -> Answer {
    call(router, Method::POST, path, body.to_string()).await
}
