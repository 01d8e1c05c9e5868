//! One keep-alive HTTP/1.1 connection with one request in flight: hyper without a pool, so that the load generator costs
//! little beside the server it measures.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{CONTENT_TYPE, HOST, RETRY_AFTER},
};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

use crate::client::ClientError;

/// Longest error body that is kept for its code.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// Where connections go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// `HOST:PORT`.
    authority: String,
    host: HeaderValue,
    /// Path of the topic's messages.
    path: String,
}

impl Target {
    pub(super) fn new(base: &Url, topic: &str) -> Result<Self, ClientError> {
        let wrong = |why: &str| ClientError::Address { address: base.to_string(), why: why.to_owned() };
        let host = base.host_str().ok_or_else(|| wrong("it names no host"))?;
        let port = base.port_or_known_default().ok_or_else(|| wrong("it names no port"))?;
        let authority = format!("{host}:{port}");
        let path = format!("{}/v1/topics/{topic}/messages", base.path().trim_end_matches('/'));
        let host = HeaderValue::from_str(&authority).map_err(|_| wrong("its host fits no header"))?;
        Ok(Self { authority, host, path })
    }

    /// A publish request.
    pub(super) fn publish(&self, media_type: &'static str, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
        let media_type = (CONTENT_TYPE, HeaderValue::from_static(media_type));
        self.request(Method::POST, self.path.clone(), media_type, body)
    }

    /// A read request.
    pub(super) fn read(&self, media_type: &'static str, query: &str) -> Result<Request<Full<Bytes>>, http::Error> {
        let accept = (http::header::ACCEPT, HeaderValue::from_static(media_type));
        self.request(Method::GET, format!("{}?{query}", self.path), accept, Bytes::new())
    }

    fn request(
        &self,
        method: Method,
        uri: String,
        (name, value): (HeaderName, HeaderValue),
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        Request::builder().method(method).uri(uri).header(HOST, &self.host).header(name, value).body(Full::new(body))
    }
}

/// What came back.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Status 2xx, its headers and the bytes of its body.
    Done(HeaderMap, u64),
    /// Another status: the error's code and how long the server asks to wait.
    Refused(String, Option<Duration>),
    /// No answer.
    Broken,
}

/// A connection that is opened when needed and again after it broke.
#[derive(Debug)]
pub(super) struct Connection {
    target: Target,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
}

impl Connection {
    pub(super) fn new(target: Target) -> Self {
        Self { target, sender: None }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a request and reads its answer to the end.
    pub(super) async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Outcome {
        match self.try_exchange(request).await {
            Some(outcome) => outcome,
            None => {
                self.sender = None;
                Outcome::Broken
            }
        }
    }

    async fn try_exchange(&mut self, request: Request<Full<Bytes>>) -> Option<Outcome> {
        if self.sender.as_ref().is_none_or(http1::SendRequest::is_closed) {
            self.sender = Some(open(&self.target.authority).await?);
        }
        let sender = self.sender.as_mut()?;
        sender.ready().await.ok()?;
        let response = sender.send_request(request).await.ok()?;
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return Some(Outcome::Done(head.headers, drain(body).await?));
        }
        let wait = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Some(Outcome::Refused(code(head.status, body).await?, wait.map(Duration::from_secs)))
    }
}

async fn open(authority: &str) -> Option<http1::SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(authority).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    // It ends with its sender; what it would report the sender reports too.
    tokio::spawn(async move { connection.await.ok() });
    Some(sender)
}

async fn drain(mut body: Incoming) -> Option<u64> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.ok()?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Some(length)
}

async fn code(status: StatusCode, body: Incoming) -> Option<String> {
    let body = http_body_util::Limited::new(body, MAX_ERROR_BYTES).collect().await.ok()?.to_bytes();
    Some(crate::client::parse_refusal(status.as_u16(), None, &body).code)
}
