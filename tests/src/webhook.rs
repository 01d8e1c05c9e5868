//! An endpoint of push subscriptions, on the loopback address.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Bytes, routing::post};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Received {
    /// When it came.
    pub at: Instant,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as it was sent.
    pub body: Bytes,
    /// Its body, understood.
    pub message: Value,
    /// The status that it was answered with; `None` as long as it is not.
    pub answered: Option<u16>,
}

impl Received {
    /// A header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The value of the message, which is a text.
    pub fn value(&self) -> String {
        self.message["value"].as_str().unwrap_or_default().to_owned()
    }
}

/// What it answers to a message, and after which time.
type Behaviour = Arc<dyn Fn(&Value) -> (u16, Duration) + Send + Sync>;

/// An endpoint that keeps what it was sent. It ends when dropped.
#[derive(Debug)]
pub struct Webhook {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl Webhook {
    /// One that answers as `behaviour` has it: a status and a delay for each message.
    pub async fn start(behaviour: impl Fn(&Value) -> (u16, Duration) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let (keep, behaviour): (_, Behaviour) = (received.clone(), Arc::new(behaviour));
        let answer =
            post(move |headers: HeaderMap, body: Bytes| answer(keep.clone(), behaviour.clone(), headers, body));
        let router = Router::new().fallback(answer);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serving does not fail") });
        Self { address, received, task }
    }

    /// One that accepts everything at once.
    pub async fn accepting() -> Self {
        Self::start(|_| (200, Duration::ZERO)).await
    }

    /// Where it is posted to.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// What came in so far, in that order.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.received).clone()
    }

    /// Values of the messages that were accepted, sorted, each as often as it was.
    pub fn accepted(&self) -> Vec<String> {
        let received = lock(&self.received);
        let accepted = received.iter().filter(|received| received.answered.is_some_and(|status| status < 300));
        let mut values: Vec<_> = accepted.map(Received::value).collect();
        values.sort_unstable();
        values
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(received: &Mutex<Vec<Received>>) -> std::sync::MutexGuard<'_, Vec<Received>> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(keep: Arc<Mutex<Vec<Received>>>, behaviour: Behaviour, headers: HeaderMap, body: Bytes) -> StatusCode {
    let message = serde_json::from_slice(&body).unwrap_or_default();
    let (status, delay) = behaviour(&message);
    let place = {
        let mut received = lock(&keep);
        received.push(Received { at: Instant::now(), headers, body, message, answered: None });
        received.len() - 1
    };
    sleep(delay).await;
    lock(&keep)[place].answered = Some(status);
    StatusCode::from_u16(status).expect("a status")
}
