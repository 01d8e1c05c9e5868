//! A node with nothing to do sends no request to its store (I21), also while readers wait.

use std::time::Duration;

use brigade_tests::process::Process;
use serde_json::json;
use tokio::time::sleep;

#[tokio::test]
async fn an_idle_node_leaves_its_store_alone() {
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 3).await;
    http.json("PUT", "/v1/topics/t/subscriptions/s", &json!({"kind": "stream"})).await.expect(201);
    for round in 0..50 {
        http.publish("t", &[format!("{round}")]).await;
    }
    http.read_all("t", 0).await;
    let poll = http.request("POST", "/v1/topics/t/subscriptions/s/poll");
    http.send(poll.json(&json!({"max_messages": 100}))).await.expect(200);
    let waiting: Vec<_> = (0..3)
        .map(|partition| {
            let http = http.clone();
            let path = format!("/v1/topics/t/messages?partition={partition}&offset=latest&wait=5000");
            tokio::spawn(async move { http.get(&path).await })
        })
        .collect();
    let follow = http.request("GET", "/v1/topics/t/messages?partition=0&offset=latest");
    let follower = follow.header("accept", "text/event-stream").send().await.unwrap();
    sleep(Duration::from_millis(1_500)).await;
    let before = http.metric("brigade_store_requests_total", &[]).await;
    assert!(before > 50.0, "requests are counted: {before}");
    sleep(Duration::from_secs(4)).await;
    for waiting in waiting {
        waiting.await.unwrap().expect(200);
    }
    assert_eq!(http.metric("brigade_store_requests_total", &[]).await, before);
    drop(follower);
}
