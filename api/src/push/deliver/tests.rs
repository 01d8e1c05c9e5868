use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use axum::{Router, body::Body, extract::Request, response::Response, routing::post};
use brigade_index::{
    batch::{Attributes, Columns, MessageRef, ValueKind},
    env::Env,
};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::*;
use crate::push::{AddressPolicy, SigningSecret};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const LONG: Duration = Duration::from_secs(10);

/// A server that answers with the status that its path names, and keeps what it was sent.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<(http::HeaderMap, bytes::Bytes)>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<_>>>::default());
        let keep = seen.clone();
        let answer = move |request: Request| {
            let keep = keep.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                keep.lock().push((head.headers, body));
                match head.uri.path() {
                    "/slow" => futures::future::pending().await,
                    "/endless" => {
                        let chunk = Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b'x'; 4_096]));
                        Response::new(Body::from_stream(futures::stream::iter(std::iter::repeat_with(move || {
                            chunk.as_ref().map_err(|_| std::io::Error::other("never")).cloned()
                        }))))
                    }
                    "/stuck" => {
                        Response::new(Body::from_stream(futures::stream::pending::<std::io::Result<bytes::Bytes>>()))
                    }
                    path => {
                        let status: u16 = path.trim_start_matches('/').parse().unwrap();
                        let response = Response::builder().status(status).header("location", "/200");
                        response.header("retry-after", "7").body(Body::from("seen")).unwrap()
                    }
                }
            }
        };
        let router = Router::new().fallback(post(answer));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, seen, task }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn deliverer(forbid: &[&str]) -> Deliverer {
    let forbid: Vec<_> = forbid.iter().map(|item| (*item).to_owned()).collect();
    let policy = AddressPolicy::new(&forbid, &[]).unwrap();
    Deliverer::new(Endpoints::new(policy, 1 << 20, Env::system()).unwrap(), PushMetrics::default())
}

fn target(deliverer: &Deliverer, url: &str, timeout: Duration) -> PushTarget {
    PushTarget {
        endpoint: deliverer.endpoints().endpoint(url, Some(SECRET), timeout).unwrap(),
        topic: TopicName::new("orders").unwrap(),
        subscription: SubscriptionName::new("billing").unwrap(),
        topic_id: 3,
        subscription_id: 8,
    }
}

fn message() -> PushMessage {
    let mut columns = Columns::default();
    let headers = [(Cow::Borrowed("type"), Cow::Borrowed("order"))];
    let value = Some(br#"{"amount":12.50}"#.as_slice());
    columns.push(&MessageRef {
        key: Some(b"k"),
        value,
        kind: ValueKind::Json,
        headers: &headers,
        timestamp_ms: 5,
        attributes: Attributes::default(),
    });
    let messages = Messages::new(columns.into_record_batch()).unwrap();
    PushMessage { partition: 2, offset: 77, messages, row: 0, delivery_count: 4, first_delivered_ms: 9 }
}

#[tokio::test]
async fn an_endpoint_gets_the_message_as_a_poll_shows_it_signed_and_named() {
    let (server, deliverer) = (Server::start().await, deliverer(&[]));
    let target = target(&deliverer, &server.url("204"), LONG);
    for _ in 0..2 {
        assert_eq!(deliverer.post(&target, &message()).await, Verdict::Accepted);
    }
    let seen = server.seen.lock().clone();
    let header = |at: usize, name: &str| seen[at].0[name].to_str().unwrap().to_owned();
    assert_eq!(
        (header(0, "content-type"), header(0, "webhook-id")),
        ("application/json".into(), "msg_3_8_2_77".into())
    );
    assert_eq!(header(0, "webhook-id"), header(1, "webhook-id"), "each attempt has the same name");
    let (secret, now): (SigningSecret, _) = (SECRET.parse().unwrap(), Env::system().clock.now_ms() / 1_000);
    let (timestamp, signature) = (header(0, "webhook-timestamp"), header(0, "webhook-signature"));
    assert!(secret.verify("msg_3_8_2_77", &timestamp, &signature, &seen[0].1, now));
    assert!(std::str::from_utf8(&seen[0].1).unwrap().contains("12.50"), "documents are sent as they were given");
    let expected = json!({
        "partition": 2, "offset": 77, "key": "k", "value": {"amount": 12.5}, "headers": {"type": "order"}, "timestamp": 5,
        "topic": "orders", "subscription": "billing", "delivery_count": 4, "first_delivered_at": 9,
    });
    assert_eq!(serde_json::from_slice::<Value>(&seen[0].1).unwrap(), expected);
}

#[tokio::test]
async fn nothing_but_a_2xx_accepts_and_no_redirect_is_followed() {
    let (server, deliverer) = (Server::start().await, deliverer(&[]));
    let seven = Some(Duration::from_secs(7));
    let cases = [
        (200, None),
        (202, None),
        (301, Some((seven, Fault::Message))),
        (307, Some((seven, Fault::Message))),
        (400, Some((seven, Fault::Message))),
        (404, Some((seven, Fault::Message))),
        (410, Some((Some(Duration::MAX), Fault::Endpoint))),
        (429, Some((seven, Fault::Endpoint))),
        (500, Some((seven, Fault::Message))),
        (503, Some((seven, Fault::Endpoint))),
    ];
    for (at, (status, expected)) in cases.into_iter().enumerate() {
        let verdict = deliverer.post(&target(&deliverer, &server.url(&status.to_string()), LONG), &message()).await;
        let found = match verdict {
            Verdict::Accepted => None,
            Verdict::Retry { after, fault, reason } => {
                assert!(reason.contains(&status.to_string()), "{reason}");
                Some((after, fault))
            }
            Verdict::Refused { reason } => panic!("{status}: {reason}"),
        };
        assert_eq!((found, server.seen.lock().len()), (expected, at + 1), "{status}");
    }
}

#[tokio::test]
async fn endpoints_that_are_slow_gone_or_endless_hold_nobody_up() {
    let (server, deliverer) = (Server::start().await, deliverer(&[]));
    let short = Duration::from_millis(200);
    let failed = |verdict: Verdict, word: &str| match verdict {
        Verdict::Retry { after: None, fault: Fault::Endpoint, reason } => assert!(reason.contains(word), "{reason}"),
        other => panic!("{other:?}"),
    };
    failed(deliverer.post(&target(&deliverer, &server.url("slow"), short), &message()).await, "in time");
    for path in ["endless", "stuck"] {
        let started = Instant::now();
        let verdict = deliverer.post(&target(&deliverer, &server.url(path), LONG), &message()).await;
        assert_eq!(verdict, Verdict::Accepted, "the status has decided");
        assert!(started.elapsed() < LONG / 2);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let closing = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    failed(deliverer.post(&target(&deliverer, &format!("http://{address}/"), LONG), &message()).await, "no answer");
    closing.await.unwrap();
    failed(deliverer.post(&target(&deliverer, &format!("http://{address}/"), LONG), &message()).await, "reached");
    let mut registry = Registry::default();
    deliverer.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in ["posts_total{outcome=\"TimedOut\"} 1", "posts_total{outcome=\"Accepted\"} 2", "in_flight 0"] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_name_is_looked_at_again_at_each_connection() {
    let (server, open, strict) = (Server::start().await, deliverer(&[]), deliverer(&["127.0.0.0/8", "::1"]));
    let url = format!("http://localhost:{}/200", server.address.port());
    // Found good by a node with other rules, or while the name stood for another address.
    let passed = target(&open, &url, LONG);
    assert_eq!(open.post(&passed, &message()).await, Verdict::Accepted);
    let Verdict::Refused { reason } = strict.post(&passed, &message()).await else { panic!("it was posted") };
    assert!(reason.contains("localhost"), "{reason}");
    assert_eq!(server.seen.lock().len(), 1);
    let verdict = strict.endpoints().endpoint(&server.url("200"), None, LONG).unwrap_err();
    assert!(verdict.to_string().contains("127.0.0.1"), "{verdict}");
}

#[tokio::test]
async fn an_answer_is_read_as_far_as_it_may_be() {
    let (server, deliverer) = (Server::start().await, deliverer(&[]));
    let endpoints = deliverer.endpoints();
    let read = |path: &str| {
        let endpoint = endpoints.endpoint(&server.url(path), None, LONG).unwrap();
        async move { endpoints.post(&endpoint, "id.1", Bytes::from_static(b"{}")).await.unwrap().body().await }
    };
    assert_eq!(read("200").await, "seen");
    assert_eq!(read("endless").await.len(), 64 * 1024);
    let headers = server.seen.lock()[0].0.clone();
    assert!(!headers.contains_key("webhook-signature"), "without a secret nothing is signed");
    assert_eq!(headers["webhook-id"], "id=2e1", "a name has no dot");
    let secret = endpoints.endpoint(&server.url("200?token=hunter2"), Some(SECRET), LONG).unwrap();
    assert!(!format!("{secret:?}").contains("hunter2"), "{secret:?}");
}
