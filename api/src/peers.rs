//! Requests to other nodes.

use std::{error::Error, time::Duration};

use axum::body::Body;
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response, Uri, uri::PathAndQuery};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

/// Longest time for connecting to another node: it is near, or it is as good as dead.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a connection that nobody uses is kept: shorter than any server's patience with idle ones.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle connections kept to one node.
const IDLE_CONNECTIONS: usize = 64;

/// Why a request to another node has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Nothing was sent: the node has definitely not got the request.
    #[error("node at {address} cannot be reached: {problem}")]
    Unreachable {
        /// Its address.
        address: String,
        /// Why.
        problem: String,
    },
    /// The node may have got the request, and may have carried it out.
    #[error("node at {address} gave no answer: {problem}")]
    Broken {
        /// Its address.
        address: String,
        /// Why.
        problem: String,
    },
}

/// How other nodes are reached. Real nodes use [`HttpPeers`], simulated ones call each other's routers.
pub trait Peers: Send + Sync + 'static {
    /// Sends a request, whose URI is a path with its query, to the node at `address`. Bodies are streamed both ways.
    fn send(&self, address: &str, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, PeerError>>;
}

/// Other nodes over HTTP/1.1. It follows no redirects and asks no proxy.
#[derive(Clone, Debug)]
pub struct HttpPeers {
    client: Client<HttpConnector, Body>,
}

impl Default for HttpPeers {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { client }
    }
}

impl Peers for HttpPeers {
    fn send(&self, address: &str, mut request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, PeerError>> {
        let address = address.trim_end_matches('/').to_owned();
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let uri = match format!("{address}{path}").parse::<Uri>() {
            Ok(uri) => uri,
            Err(error) => {
                let problem = error.to_string();
                return async { Err(PeerError::Unreachable { address, problem }) }.boxed();
            }
        };
        *request.uri_mut() = uri;
        let sending = self.client.request(request);
        async move {
            match sending.await {
                Ok(response) => Ok(response.map(Body::new)),
                Err(error) if error.is_connect() => {
                    Err(PeerError::Unreachable { address, problem: root_cause(&error) })
                }
                Err(error) => Err(PeerError::Broken { address, problem: root_cause(&error) }),
            }
        }
        .boxed()
    }
}

/// The innermost cause, which says most.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::post};
    use http_body_util::BodyExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn requests_arrive_as_they_are_and_answers_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let echo = |request: Request<Body>| async move {
            let path = request.uri().to_string();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            format!("{path} {}", String::from_utf8_lossy(&body))
        };
        let server = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(post(echo))).await });
        let peers = HttpPeers::default();
        let request = Request::post("/a/%2e%2e/b%20?c=%00d").body(Body::from("body")).unwrap();
        let response = peers.send(&address, request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "/a/%2e%2e/b%20?c=%00d body");
        server.abort();
        let _ = server.await;
        let fresh = HttpPeers::default();
        let refused = fresh.send(&address, Request::get("/").body(Body::empty()).unwrap()).await.unwrap_err();
        assert!(matches!(refused, PeerError::Unreachable { .. }), "{refused}");
        let nonsense = fresh.send("no address", Request::get("/").body(Body::empty()).unwrap()).await.unwrap_err();
        assert!(matches!(nonsense, PeerError::Unreachable { .. }), "{nonsense}");
    }
}
