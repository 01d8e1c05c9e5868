//! Queue subscriptions: receipts, redelivery, order, dead letters, and what is left of all that after a crash.

mod attributes;
mod dead;
mod refused;
mod work;

use std::time::Duration;

use brigade_tests::{
    http::{Answer, Http},
    process::Process,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const PATH: &str = "/v1/topics/t/subscriptions/q";

/// How long something that is bound to happen may take: generous, since tests share a machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node with topic `t` of one partition and its queue `q` with these settings.
async fn queue(settings: Value) -> (Process, Http) {
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 1).await;
    create(&http, "q", settings).await.expect(201);
    (node, http)
}

async fn create(http: &Http, name: &str, mut settings: Value) -> Answer {
    settings["kind"] = json!("queue");
    http.json("PUT", &format!("/v1/topics/t/subscriptions/{name}"), &settings).await
}

async fn publish(http: &Http, messages: Value) -> Answer {
    http.json("POST", "/v1/topics/t/messages", &json!({"messages": messages})).await.expect(200)
}

async fn poll(http: &Http, body: Value) -> Vec<Value> {
    let polled = http.json("POST", &format!("{PATH}/poll"), &body).await.expect(200).json();
    polled["messages"].as_array().unwrap().clone()
}

/// Waits for the next messages.
async fn next(http: &Http) -> Vec<Value> {
    poll(http, json!({"wait_ms": 30_000})).await
}

/// Settles the messages.
async fn settle(http: &Http, action: &str, messages: &[Value]) -> Answer {
    let receipts: Vec<_> = messages.iter().map(|message| &message["receipt"]).collect();
    http.json("POST", &format!("{PATH}/{action}"), &json!({"receipts": receipts})).await
}

async fn ack(http: &Http, messages: &[Value]) {
    let results = settle(http, "ack", messages).await.expect(200).json();
    let results = results["results"].as_array().unwrap();
    assert!(results.iter().all(|result| result["status"] == "acknowledged"), "{results:?}");
    assert_eq!(results.len(), messages.len());
}

fn values(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["value"].as_str().unwrap()).collect()
}

/// Waits until the subscription's field has this value.
async fn until(http: &Http, field: &str, wanted: u64) {
    let started = Instant::now();
    loop {
        let view = http.get(PATH).await.expect(200).json();
        if view[field] == wanted {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{field} does not become {wanted}: {view}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_message_that_is_not_acknowledged_comes_again_and_counts() {
    let (mut node, http) = queue(json!({"visibility_timeout_ms": 300})).await;
    publish(&http, json!([{"key": "k", "value": "a", "headers": {"h": "1"}}])).await;
    let first = poll(&http, json!({})).await;
    assert_eq!((values(&first), &first[0]["delivery_count"], &first[0]["key"]), (vec!["a"], &json!(1), &json!("k")));
    assert_eq!(first[0]["headers"], json!({"h": "1"}));
    assert!(poll(&http, json!({})).await.is_empty(), "it is delivered to somebody");
    let second = next(&http).await;
    assert_eq!((values(&second), &second[0]["delivery_count"]), (vec!["a"], &json!(2)));
    assert_eq!(second[0]["first_delivered_at"], first[0]["first_delivered_at"]);
    settle(&http, "ack", &first).await.expect_error(409, "receipt_superseded");
    ack(&http, &second).await;
    for action in ["ack", "nack", "reject"] {
        settle(&http, action, &second).await.expect_error(409, "already_settled");
    }
    node.kill_9();
    node.restart().await;
    assert!(poll(&http, json!({"wait_ms": 500})).await.is_empty(), "what was acknowledged never comes again");
    let view = http.get(PATH).await.expect(200).json();
    assert_eq!(view["partitions"][0], json!({"partition": 0, "floor": 1, "unsettled": 0, "high_watermark": 1}));
    settle(&http, "ack", &second).await.expect_error(409, "already_settled");
}

#[tokio::test]
async fn a_receipt_is_good_until_its_time_is_over() {
    let (_node, http) = queue(json!({"visibility_timeout_ms": 200, "retry_delay_ms": 60_000})).await;
    publish(&http, json!([{"value": "a"}])).await;
    let polled = poll(&http, json!({})).await;
    sleep(Duration::from_millis(400)).await;
    for action in ["ack", "nack", "reject"] {
        settle(&http, action, &polled).await.expect_error(410, "receipt_expired");
    }
    assert!(poll(&http, json!({})).await.is_empty(), "the retry delay is not over");
    assert_eq!(http.get(PATH).await.json()["lag"], 1);
}

#[tokio::test]
async fn what_is_given_back_waits_for_its_delay() {
    let (_node, http) = queue(json!({})).await;
    publish(&http, json!([{"value": "a"}])).await;
    let polled = poll(&http, json!({})).await;
    let returned = settle(&http, "nack", &polled).await.expect(200).json();
    assert_eq!(returned["results"][0]["status"], "returned");
    let again = next(&http).await;
    assert_eq!(again[0]["delivery_count"], 2);
    let started = Instant::now();
    let body = json!({"receipts": [again[0]["receipt"]], "delay_ms": 600});
    http.json("POST", &format!("{PATH}/nack"), &body).await.expect(200);
    assert!(poll(&http, json!({})).await.is_empty());
    assert_eq!(next(&http).await[0]["delivery_count"], 3);
    assert!(started.elapsed() >= Duration::from_millis(600), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_delay_and_a_count_survive_a_crash() {
    let (mut node, http) = queue(json!({})).await;
    publish(&http, json!([{"value": "a"}])).await;
    let polled = poll(&http, json!({})).await;
    let started = Instant::now();
    let body = json!({"receipts": [polled[0]["receipt"]], "delay_ms": 2_000});
    http.json("POST", &format!("{PATH}/nack"), &body).await.expect(200);
    node.kill_9();
    node.restart().await;
    let again = next(&http).await;
    assert!(started.elapsed() >= Duration::from_millis(2_000), "{:?}", started.elapsed());
    assert_eq!((&again[0]["delivery_count"], values(&again)), (&json!(2), vec!["a"]));
    assert_eq!(again[0]["first_delivered_at"], polled[0]["first_delivered_at"]);
    ack(&http, &again).await;
}

#[tokio::test]
async fn extending_keeps_a_message() {
    let (_node, http) = queue(json!({"visibility_timeout_ms": 1_000})).await;
    publish(&http, json!([{"value": "a"}])).await;
    let polled = poll(&http, json!({})).await;
    let body = json!({"receipts": [polled[0]["receipt"]], "visibility_timeout_ms": 60_000});
    let extended = http.json("POST", &format!("{PATH}/extend"), &body).await.expect(200).json()["results"][0].clone();
    assert_eq!(extended["status"], "extended");
    let gained = extended["deadline"].as_i64().unwrap() - polled[0]["deadline"].as_i64().unwrap();
    assert!((55_000..=65_000).contains(&gained), "{gained}");
    assert!(poll(&http, json!({"wait_ms": 1_500})).await.is_empty(), "it is still with its consumer");
    let extended = json!({"receipt": extended["new_receipt"]});
    ack(&http, &[extended]).await;
    assert_eq!(http.get(PATH).await.json()["lag"], 0);
}

#[tokio::test]
async fn a_receipt_that_stands_twice_counts_once() {
    let (_node, http) = queue(json!({})).await;
    publish(&http, json!([{"value": "a"}, {"value": "b"}])).await;
    let polled = poll(&http, json!({})).await;
    let twice = [polled[0].clone(), polled[0].clone(), polled[1].clone()];
    let results = settle(&http, "ack", &twice).await.expect(200).json()["results"].clone();
    assert_eq!((&results[0]["status"], &results[2]["status"]), (&json!("acknowledged"), &json!("acknowledged")));
    assert_eq!(results[1]["error"]["code"], "being_settled");
    assert_eq!(http.get(PATH).await.json()["lag"], 0);
}

#[tokio::test]
async fn a_receipt_is_of_one_subscription() {
    let (mut node, http) = queue(json!({})).await;
    create(&http, "other", json!({})).await.expect(201);
    publish(&http, json!([{"value": "a"}])).await;
    let polled = poll(&http, json!({})).await;
    let body = json!({"receipts": [polled[0]["receipt"]]});
    let foreign = http.json("POST", "/v1/topics/t/subscriptions/other/ack", &body).await;
    foreign.expect_error(400, "receipt_foreign");
    let receipt = polled[0]["receipt"].as_str().unwrap();
    let altered = if receipt.ends_with('A') { "B" } else { "A" };
    let altered = json!({"receipt": format!("{}{altered}", &receipt[..receipt.len() - 1])});
    settle(&http, "ack", &[altered]).await.expect_error(400, "receipt_invalid");
    assert_eq!(http.get("/v1/topics/t/subscriptions/other").await.json()["lag"], 1, "nothing happened to its message");
    // A receipt of an earlier reign is good while nobody got the message since.
    node.kill_9();
    node.restart().await;
    ack(&http, &polled).await;
    http.send(http.request("DELETE", PATH)).await.expect(204);
    http.json("POST", &format!("{PATH}/ack"), &body).await.expect_error(404, "subscription_not_found");
    create(&http, "q", json!({})).await.expect(201);
    settle(&http, "ack", &polled).await.expect_error(400, "receipt_foreign");
    assert_eq!(values(&poll(&http, json!({})).await), ["a"], "the new one has not had it");
}

#[tokio::test]
async fn a_poll_waits_and_delivers_nothing_to_whoever_has_left() {
    let (_node, http) = queue(json!({})).await;
    let request = http.request("POST", &format!("{PATH}/poll")).timeout(Duration::from_millis(300));
    let left = http.try_send(request.json(&json!({"wait_ms": 60_000}))).await;
    assert!(left.unwrap_err().is_timeout());
    sleep(Duration::from_millis(200)).await;
    let started = Instant::now();
    let (polled, _) = tokio::join!(biased; next(&http), async {
        sleep(Duration::from_millis(200)).await;
        publish(&http, json!([{"value": "a"}])).await
    });
    assert_eq!((values(&polled), &polled[0]["delivery_count"]), (vec!["a"], &json!(1)));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_queue_is_moved_anywhere() {
    let (mut node, http) = queue(json!({"start": "latest"})).await;
    let numbers: Vec<_> = (0..10).map(|n| json!({"value": n.to_string(), "timestamp": 1_000 + n})).collect();
    publish(&http, json!(numbers)).await;
    let polled = poll(&http, json!({})).await;
    assert_eq!(polled.len(), 10);
    ack(&http, &polled[..5]).await;
    let at = |offset: u64| json!({"positions": [{"partition": 0, "offset": offset}]});
    for (seek, first) in [(json!("earliest"), 0), (at(8), 8), (json!("latest"), 10), (json!({"timestamp": 1_003}), 3)] {
        let moved = http.json("PATCH", PATH, &json!({"seek": seek})).await.expect(200).json();
        assert_eq!((&moved["lag"], &moved["partitions"][0]["floor"]), (&json!(10 - first), &json!(first)), "{seek}");
        node.kill_9();
        node.restart().await;
        let got = poll(&http, json!({"max_messages": 100})).await;
        let wanted: Vec<_> = (first..10).map(|n| n.to_string()).collect();
        assert_eq!(values(&got), wanted, "{seek}");
    }
    http.json("PATCH", PATH, &json!({"seek": at(11)})).await.expect_error(400, "invalid_position");
}
