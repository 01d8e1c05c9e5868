//! Clients that break off, dawdle or send rubbish: nothing is stored, and nobody else notices.

use std::time::Duration;

use brigade_tests::process::{Options, Process};
use serde_json::json;
use tokio::time::{Instant, sleep};

const HEAD: &str = "POST /v1/topics/t/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n";
const LINE: &str = "{\"value\":\"from a bad client\"}\n";

/// A node that has little patience, with a topic `t`.
async fn node() -> Process {
    let config = "[http]\nheader_timeout_ms = 1000\nbody_timeout_ms = 1000\n".to_owned();
    let node = Process::start_with(Options { config, ..Options::default() }).await;
    node.http().create_topic("t", 1).await;
    node
}

async fn nothing_stored(node: &Process) {
    // Whatever was handed on wrongly would be stored by now.
    sleep(Duration::from_millis(100)).await;
    let http = node.http();
    assert_eq!(http.read_all("t", 0).await, Vec::<serde_json::Value>::new());
    assert_eq!(http.publish("t", &["good"]).await, [(0, 0)]);
}

fn code(body: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    json["error"]["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_truncated_body_stores_nothing_of_it() {
    let node = node().await;
    let chunk = format!("{:x}\r\n{LINE}\r\n", LINE.len());
    let requests = [
        format!("{HEAD}content-length: 1000\r\n\r\n{LINE}"),
        format!("{HEAD}transfer-encoding: chunked\r\n\r\n{chunk}"),
        format!("{HEAD}transfer-encoding: chunked\r\n\r\n{chunk}20\r\nhalf"),
    ];
    for request in &requests {
        let mut client = node.raw().await;
        client.send(request).await;
        client.close_sending().await;
        // A client that has left may get an answer or none.
        if let Some((status, body)) = client.answer().await {
            assert_eq!((status, code(&body).as_str()), (400, "truncated_body"), "{request}");
        }
        let mut client = node.raw().await;
        client.send(request).await;
        drop(client);
    }
    nothing_stored(&node).await;
}

#[tokio::test]
async fn a_slow_client_is_told_so_and_dropped() {
    let node = node().await;
    let started = Instant::now();
    let mut slow_body = node.raw().await;
    slow_body.send(format!("{HEAD}content-length: 1000\r\n\r\n{LINE}")).await;
    let mut trickle = node.raw().await;
    trickle.send(format!("{HEAD}transfer-encoding: chunked\r\n\r\n")).await;
    let mut slow_head = node.raw().await;
    slow_head.send("POST /v1/topics/t/mess").await;
    let mut silent = node.raw().await;
    for _ in 0..10 {
        trickle.send("1\r\n \r\n").await;
        sleep(Duration::from_millis(150)).await;
    }
    for (name, client) in [("body", &mut slow_body), ("trickle", &mut trickle)] {
        let (status, body) = client.answer().await.unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!((status, code(&body).as_str()), (408, "request_timeout"), "{name}");
    }
    for (name, client) in [("head", &mut slow_head), ("silent", &mut silent)] {
        assert!(client.is_closed().await, "{name}");
    }
    assert!(started.elapsed() < Duration::from_secs(15));
    nothing_stored(&node).await;
}

#[tokio::test]
async fn a_whole_request_on_a_half_closed_connection_is_answered() {
    let node = node().await;
    let mut client = node.raw().await;
    client.send(format!("{HEAD}content-length: {}\r\n\r\n{LINE}", LINE.len())).await;
    client.close_sending().await;
    let (status, body) = client.answer().await.expect("an answer");
    assert_eq!((status, body.as_str()), (200, "{\"messages\":[{\"partition\":0,\"offset\":0}]}"));
    let mut reader = node.raw().await;
    reader.send("GET /v1/topics/t/messages HTTP/1.1\r\nhost: x\r\n\r\n").await;
    reader.close_sending().await;
    assert_eq!(reader.answer().await.expect("an answer").0, 200);
    assert_eq!(node.http().read_all("t", 0).await.len(), 1);
}

#[tokio::test]
async fn too_much_of_a_head_and_rubbish_are_refused() {
    let node = node().await;
    let fields: String = (0..300).map(|number| format!("x-{number}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(2 << 20));
    for head in [fields, long] {
        let mut client = node.raw().await;
        client.send(format!("{HEAD}{head}content-length: {}\r\n\r\n{LINE}", LINE.len())).await;
        match client.answer().await {
            Some((431, _)) => {}
            other => panic!("{other:?}"),
        }
    }
    for rubbish in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"GET\r\n\r\n", b"\r\n\r\n\0\0\0\0 HTTP/9\r\n\r\n"]
    {
        let mut client = node.raw().await;
        client.send(rubbish).await;
        let answer = client.answer().await;
        assert!(answer.as_ref().is_none_or(|(status, _)| *status == 400), "{answer:?}");
    }
    let mut announced = node.raw().await;
    announced.send(format!("{HEAD}content-length: 99999999999\r\n\r\n{LINE}")).await;
    let (status, body) = announced.answer().await.expect("an answer before the body is sent");
    assert_eq!((status, code(&body).as_str()), (413, "request_too_large"));
    for length in ["-5", "five", "18446744073709551616"] {
        let mut client = node.raw().await;
        client.send(format!("{HEAD}content-length: {length}\r\n\r\n{LINE}")).await;
        let answer = client.answer().await;
        assert!(answer.as_ref().is_none_or(|(status, _)| (400..500).contains(status)), "{answer:?}");
    }
    nothing_stored(&node).await;
}

#[tokio::test]
async fn a_hundred_idle_connections_disturb_nobody() {
    let node = node().await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(node.raw().await);
    }
    let http = node.http();
    http.json("POST", "/v1/topics/t/messages", &json!({"messages": [{"value": 1}]})).await.expect(200);
    assert_eq!(http.read_all("t", 0).await.len(), 1);
}
