//! Stream subscriptions: poll, commit, seek, and what is left of them after a crash.

use std::{collections::BTreeMap, time::Duration};

use brigade_tests::{
    http::{Answer, Http},
    process::Process,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const PATH: &str = "/v1/topics/t/subscriptions/s";

/// A topic of `partitions` with messages `0` to `count - 1`, evenly spread, with timestamps 1000, 1001, ….
async fn topic(partitions: u32, count: u32) -> (Process, Http) {
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", partitions).await;
    publish(&http, partitions, 0..count).await;
    (node, http)
}

async fn publish(http: &Http, partitions: u32, numbers: std::ops::Range<u32>) {
    let message = |n: u32| json!({"value": n.to_string(), "partition": n % partitions, "timestamp": 1000 + n});
    let messages: Vec<_> = numbers.map(message).collect();
    http.json("POST", "/v1/topics/t/messages", &json!({"messages": messages})).await.expect(200);
}

async fn create(http: &Http, start: Value) -> Answer {
    http.json("PUT", PATH, &json!({"kind": "stream", "start": start})).await
}

async fn poll(http: &Http, body: Value) -> Value {
    http.json("POST", &format!("{PATH}/poll"), &body).await.expect(200).json()
}

async fn commit(http: &Http, positions: &Value) -> Answer {
    http.json("POST", &format!("{PATH}/commit"), &json!({"positions": positions})).await
}

fn values(polled: &Value) -> Vec<u32> {
    let messages = polled["messages"].as_array().unwrap();
    messages.iter().map(|message| message["value"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn poll_then_commit_works_across_crashes() {
    let (mut node, http) = topic(3, 30).await;
    create(&http, json!("earliest")).await.expect(201);
    create(&http, json!("earliest")).await.expect(200);
    let mut got = Vec::new();
    for _ in 0..6 {
        let polled = poll(&http, json!({"max_messages": 7})).await;
        let again = poll(&http, json!({"max_messages": 7})).await;
        assert_eq!(polled["messages"].as_array().unwrap().len(), again["messages"].as_array().unwrap().len());
        // What is polled last is what is committed.
        got.extend(values(&again));
        if again["positions"] != json!([]) {
            commit(&http, &again["positions"]).await.expect(200);
        }
        node.kill_9();
        node.restart().await;
    }
    let mut per_partition = BTreeMap::<u32, Vec<u32>>::new();
    got.iter().for_each(|n| per_partition.entry(n % 3).or_default().push(*n));
    assert!(per_partition.values().all(|numbers| numbers.is_sorted()), "{per_partition:?}");
    got.sort_unstable();
    assert_eq!(got, (0..30).collect::<Vec<_>>(), "each message once");
    let described = http.get(PATH).await.expect(200).json();
    assert_eq!(
        (&described["lag"], &described["kind"], &described["topic"]),
        (&json!(0), &json!("stream"), &json!("t"))
    );
}

#[tokio::test]
async fn positions_let_a_reader_go_on_without_committing() {
    let (_node, http) = topic(2, 10).await;
    create(&http, json!("earliest")).await.expect(201);
    let (mut positions, mut got) = (BTreeMap::new(), Vec::new());
    for _ in 0..4 {
        let body = positions.iter().map(|(partition, offset)| json!({"partition": partition, "offset": offset}));
        let polled = poll(&http, json!({"max_messages": 4, "positions": body.collect::<Vec<_>>()})).await;
        got.extend(values(&polled));
        for position in polled["positions"].as_array().unwrap() {
            positions.insert(position["partition"].as_u64().unwrap(), position["offset"].clone());
        }
    }
    got.sort_unstable();
    assert_eq!(got, (0..10).collect::<Vec<_>>());
    assert_eq!(http.get(PATH).await.json()["lag"], 10, "nothing was committed");
}

#[tokio::test]
async fn a_subscription_begins_where_it_is_told() {
    let (_node, http) = topic(2, 10).await;
    for (start, first) in [(json!("latest"), 10), (json!({"timestamp": 1006}), 6), (json!("earliest"), 0)] {
        create(&http, start.clone()).await.expect(201);
        publish(&http, 2, 10..12).await;
        let mut got = values(&poll(&http, json!({"max_messages": 100})).await);
        got.sort_unstable();
        got.dedup();
        assert_eq!(got, (first..12).collect::<Vec<_>>(), "{start}");
        http.send(http.request("DELETE", PATH)).await.expect(204);
        http.get(PATH).await.expect_error(404, "subscription_not_found");
        http.send(http.request("DELETE", "/v1/topics/t")).await.expect(204);
        http.create_topic("t", 2).await;
        publish(&http, 2, 0..10).await;
    }
}

#[tokio::test]
async fn a_commit_moves_forward_only_and_a_seek_anywhere() {
    let (mut node, http) = topic(1, 10).await;
    create(&http, json!("earliest")).await.expect(201);
    let at = |offset: u64| json!([{"partition": 0, "offset": offset}]);
    assert_eq!(commit(&http, &at(6)).await.expect(200).json()["positions"], at(6));
    assert_eq!(commit(&http, &at(2)).await.expect(200).json()["positions"], at(6), "the higher one stays");
    commit(&http, &at(11)).await.expect_error(400, "invalid_position");
    commit(&http, &json!([{"partition": 5, "offset": 0}])).await.expect_error(400, "partition_not_found");
    let seeks = [
        (json!("earliest"), 0),
        (json!("latest"), 10),
        (json!({"timestamp": 1003}), 3),
        (json!({"positions": at(8)}), 8),
    ];
    for (seek, first) in seeks {
        http.json("PATCH", PATH, &json!({"seek": seek})).await.expect(200);
        assert_eq!(values(&poll(&http, json!({})).await), (first..10).collect::<Vec<u32>>(), "{seek}");
        node.kill_9();
        node.restart().await;
        let position = &http.get(PATH).await.expect(200).json()["positions"][0];
        assert_eq!(*position, json!({"partition": 0, "offset": first, "high_watermark": 10, "lag": 10 - first}));
    }
}

#[tokio::test]
async fn a_poll_waits_for_messages_of_any_partition() {
    let (_node, http) = topic(3, 3).await;
    create(&http, json!("latest")).await.expect(201);
    assert!(values(&poll(&http, json!({})).await).is_empty(), "without a wait it answers at once");
    let started = Instant::now();
    let (polled, ()) = tokio::join!(biased; poll(&http, json!({"wait_ms": 30_000})), async {
        sleep(Duration::from_millis(200)).await;
        publish(&http, 3, 3..5).await;
    });
    assert!(!values(&polled).is_empty() && started.elapsed() < Duration::from_secs(15), "{polled}");
}

#[tokio::test]
async fn subscriptions_are_listed() {
    let (_node, http) = topic(1, 1).await;
    for name in ["a", "b"] {
        http.json("PUT", &format!("/v1/topics/t/subscriptions/{name}"), &json!({"kind": "stream"})).await.expect(201);
    }
    let listed = http.get("/v1/topics/t/subscriptions").await.expect(200).json();
    let names: Vec<_> = listed["subscriptions"].as_array().unwrap().iter().map(|s| s["name"].clone()).collect();
    assert_eq!(names, ["a", "b"]);
    http.json("POST", &format!("{PATH}/poll"), &json!({})).await.expect_error(404, "subscription_not_found");
    http.json("PUT", "/v1/topics/u/subscriptions/s", &json!({})).await.expect_error(404, "topic_not_found");
}
