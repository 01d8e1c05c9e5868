//! Push subscriptions of a node in memory, and an endpoint on the loopback address.

use std::{sync::Arc, time::Duration};

use brigade_index::{
    command::{Command, PushSettings, QueueSettings},
    names::{SubscriptionName, TopicName},
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, time::timeout};

use super::*;

const PATH: &str = "/v1/topics/t/subscriptions/s";

/// Values of what an endpoint was sent, in that order; it accepts everything.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, seen) = (format!("http://{}/", listener.local_addr().unwrap()), self.0.clone());
        let keep = move |body: String| async move {
            let message: Value = serde_json::from_str(&body).unwrap();
            seen.lock().push(message["value"].as_str().unwrap().to_owned());
        };
        let router = Router::new().fallback(axum::routing::post(keep));
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    async fn until(&self, expected: &[&str]) {
        let all = async {
            while *self.0.lock() != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(Duration::from_secs(20), all).await.is_ok(), "{:?} instead of {expected:?}", self.0.lock());
    }
}

async fn publish(router: &Router, value: &str) {
    let body = json!({"messages": [{"value": value}]}).to_string();
    assert_eq!(post(router, "/v1/topics/t/messages", body).await.status, StatusCode::OK);
}

async fn settled(router: &Router) {
    while get(router, PATH).await.json()["lag"] != 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_secret_is_shown_by_the_answer_that_set_it_and_never_again() {
    let (seen, router) = (Seen::default(), router(node().await));
    let push = json!({"url": seen.serve().await});
    put(&router, "/v1/topics/t", "{}").await;
    let body = json!({"kind": "queue", "push": push}).to_string();
    let created = put(&router, PATH, body.clone()).await;
    assert_eq!(created.status, StatusCode::CREATED);
    assert!(created.json()["settings"]["push"]["secret"].as_str().unwrap().starts_with("whsec_"));
    publish(&router, "a").await;
    seen.until(&["a"]).await;
    let changed = json!({"push": {"max_in_flight": 1}}).to_string();
    let shown = [
        put(&router, PATH, body).await,
        call(&router, Method::PATCH, PATH, changed).await,
        get(&router, PATH).await,
        get(&router, "/v1/topics/t/subscriptions").await,
    ];
    for shown in shown {
        assert_eq!(shown.status, StatusCode::OK);
        let text = String::from_utf8_lossy(&shown.body);
        assert!(text.contains(push["url"].as_str().unwrap()) && !text.contains("secret"), "{text}");
    }
    publish(&router, "b").await;
    seen.until(&["a", "b"]).await;
}

/// What makes a subscription may be gone before it is committed: pushing depends on the commit alone.
#[tokio::test]
async fn what_is_committed_is_pushed_whoever_asked_for_it() {
    let (seen, node) = (Seen::default(), node().await);
    let router = router(node.clone());
    let url = seen.serve().await;
    put(&router, "/v1/topics/t", "{}").await;
    publish(&router, "a").await;
    let leading = node.seat.lead().unwrap();
    let topic = leading.shard.state().topic_named(&TopicName::new("t").unwrap()).unwrap().id;
    let (secret, timeout_ms, max_in_flight) = (String::new(), 1_000, 1);
    let push = PushSettings {
        url,
        secret,
        timeout_ms,
        max_in_flight,
        max_per_second: 0,
        backoff_min_ms: 1,
        backoff_max_ms: 1,
    };
    let settings = QueueSettings { push: Some(push), ..QueueSettings::default() };
    let name = SubscriptionName::new("s").unwrap();
    let command = Command::CreateQueue { topic, name: name.clone(), settings, secret: [7; 32], positions: Vec::new() };
    leading.shard.propose(vec![command]).await.unwrap().outcomes.remove(0).unwrap();
    seen.until(&["a"]).await;
    settled(&router).await;
    leading.shard.propose(vec![Command::DeleteSubscription { topic, name }]).await.unwrap();
    publish(&router, "b").await;
    drop(leading);
    timeout(Duration::from_secs(10), node.shut_down()).await.unwrap();
    seen.until(&["a"]).await;
}

#[tokio::test]
async fn a_node_that_shuts_down_waits_for_the_answers_and_records_them() {
    let (seen, node) = (Seen::default(), node().await);
    let router = router(node.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, slow) = (format!("http://{}/", listener.local_addr().unwrap()), seen.0.clone());
    let answer = move |body: String| async move {
        slow.lock().push(body);
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    let endpoint = Router::new().fallback(axum::routing::post(answer));
    tokio::spawn(async move { axum::serve(listener, endpoint).await });
    put(&router, "/v1/topics/t", "{}").await;
    put(&router, PATH, json!({"kind": "queue", "push": {"url": url}}).to_string()).await;
    publish(&router, "a").await;
    while seen.0.lock().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let leading = node.seat.lead().unwrap();
    node.shut_down().await;
    let state = leading.shard.state();
    let topic = state.topic_named(&TopicName::new("t").unwrap()).unwrap();
    let queue = topic.subscriptions.values().next().unwrap().queue().unwrap();
    let high_watermark = topic.partitions[0].high_watermark;
    assert_eq!(queue.partition(brigade_index::ids::Partition(0)).unwrap().unsettled(high_watermark), 0);
}
