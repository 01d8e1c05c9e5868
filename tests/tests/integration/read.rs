//! Reading: where it begins and ends, how long it waits, and in which formats it answers.

use std::{io::Cursor, time::Duration};

use arrow::ipc::reader::StreamReader;
use brigade_tests::{
    http::{ARROW, Answer, Http, NDJSON},
    process::Process,
};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

/// Ten messages `m0` to `m9`, one a request, with timestamps 1000, 1010, … 1090.
async fn ten() -> (Process, Http) {
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 1).await;
    for number in 0..10 {
        let message = json!({"value": format!("m{number}"), "timestamp": 1000 + 10 * number});
        http.json("POST", "/v1/topics/t/messages", &json!({"messages": [message]})).await.expect(200);
    }
    (node, http)
}

fn values(page: &Value) -> Vec<&str> {
    let messages = page["messages"].as_array().unwrap();
    messages.iter().map(|message| message["value"].as_str().unwrap()).collect()
}

async fn accept(http: &Http, query: &str, accept: &str) -> Answer {
    let path = format!("/v1/topics/t/messages?{query}");
    http.send(http.request("GET", &path).header("accept", accept)).await.expect(200)
}

#[tokio::test]
async fn a_read_begins_where_it_is_told() {
    let (_node, http) = ten().await;
    let cases = [
        ("", 0),
        ("offset=earliest", 0),
        ("partition=0&offset=7", 7),
        ("offset=10", 10),
        ("offset=latest", 10),
        ("timestamp=0", 0),
        ("timestamp=1031", 4),
        ("timestamp=1040", 4),
        ("timestamp=1091", 10),
    ];
    for (query, first) in cases {
        let page = http.read("t", query).await;
        let expected: Vec<_> = (first..10).map(|number| format!("m{number}")).collect();
        assert_eq!(values(&page), expected, "{query}");
        assert_eq!((&page["next_offset"], &page["high_watermark"]), (&json!(10), &json!(10)), "{query}");
    }
    http.get("/v1/topics/t/messages?offset=11").await.expect_error(416, "offset_out_of_range");
}

#[tokio::test]
async fn a_read_keeps_to_its_limits() {
    let (_node, http) = ten().await;
    let page = http.read("t", "offset=2&max_messages=3").await;
    assert_eq!((values(&page), &page["next_offset"]), (vec!["m2", "m3", "m4"], &json!(5)));
    let page = http.read("t", "offset=2&max_bytes=5").await;
    assert_eq!(values(&page), ["m2", "m3"], "two messages of two bytes");
    let page = http.read("t", "offset=2&max_bytes=1").await;
    assert_eq!(values(&page), ["m2"], "at least one");
}

#[tokio::test]
async fn a_read_waits_for_the_next_message_and_no_longer() {
    let (_node, http) = ten().await;
    let started = Instant::now();
    let page = http.read("t", "offset=10&wait=300").await;
    assert!(values(&page).is_empty() && started.elapsed() >= Duration::from_millis(290));
    let (page, ()) = tokio::join!(biased; http.read("t", "offset=10&wait=30000"), async {
        sleep(Duration::from_millis(200)).await;
        http.publish("t", &["late"]).await;
    });
    assert_eq!(values(&page), ["late"]);
    assert!(started.elapsed() < Duration::from_secs(15), "it answers as soon as there is something");
    http.get("/v1/topics/t/messages?wait=60001").await.expect_error(400, "invalid_parameter");
}

#[tokio::test]
async fn the_same_messages_come_in_every_format_before_and_after_a_restart() {
    let (mut node, http) = ten().await;
    for _ in 0..2 {
        let plain = accept(&http, "offset=3&max_messages=4", "application/json").await;
        let ndjson = accept(&http, "offset=3&max_messages=4", NDJSON).await;
        let arrow = accept(&http, "offset=3&max_messages=4", ARROW).await;
        for answer in [&plain, &ndjson, &arrow] {
            assert_eq!((answer.header("brigade-next-offset"), answer.header("brigade-high-watermark")), ("7", "10"));
        }
        assert_eq!((ndjson.header("content-type"), arrow.header("content-type")), (NDJSON, ARROW));
        let page = plain.json();
        let lines: Vec<Value> = ndjson.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(page["messages"], json!(lines));
        let batches: Vec<_> =
            StreamReader::try_new(Cursor::new(arrow.body), None).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 4);
        let schema = batches[0].schema();
        for name in ["offset", "key", "value", "timestamp"] {
            assert!(schema.column_with_name(name).is_some(), "{schema}");
        }
        node.kill_9();
        node.restart().await;
    }
}

#[tokio::test]
async fn events_follow_a_topic_and_resume_after_the_last_id() {
    let (_node, http) = ten().await;
    let follow = |last: Option<&str>| {
        let request = http.request("GET", "/v1/topics/t/messages?offset=8").header("accept", "text/event-stream");
        match last {
            Some(id) => request.header("last-event-id", id),
            None => request,
        }
    };
    let response = follow(None).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    for awaited in ["m9", "m10"] {
        while !text.contains(awaited) {
            let chunk = timeout(Duration::from_secs(10), stream.next()).await.unwrap().unwrap().unwrap();
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        if awaited == "m9" {
            http.publish("t", &["m10"]).await;
        }
    }
    drop(stream);
    let ids: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("id:")).map(str::trim).collect();
    assert_eq!(ids, ["8", "9", "10"], "{text}");
    let data: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!((&data[0]["value"], &data[2]["offset"]), (&json!("m8"), &json!(10)));

    let mut stream = follow(Some("9")).send().await.unwrap().bytes_stream();
    let chunk = timeout(Duration::from_secs(10), stream.next()).await.unwrap().unwrap().unwrap();
    let first = String::from_utf8_lossy(&chunk).into_owned();
    assert!(first.contains("m10") && !first.contains("m9"), "{first}");
}

#[tokio::test]
async fn a_partition_must_be_named_where_there_are_several() {
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 2).await;
    http.get("/v1/topics/t/messages").await.expect_error(400, "partition_required");
    assert!(values(&http.read("t", "partition=1").await).is_empty());
    let code = http.get("/v1/topics/t/messages?partition=2").await.code();
    assert_eq!(code, "partition_not_found");
}
