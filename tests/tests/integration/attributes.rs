//! Attributes of messages in every format, and messages that are stored once by their deduplication ids.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, TimestampMillisecondArray, UInt8Array};
use brigade_tests::{
    http::{ARROW, Answer, Http, NDJSON},
    process::Process,
};
use serde_json::{Value, json};

use crate::publish::arrow_stream;

const PATH: &str = "/v1/topics/t/messages";

/// Far ahead, so that it is still to come whenever this runs, and within a year.
async fn later(http: &Http) -> u64 {
    http.publish("t", &["what time is it"]).await;
    let now = http.read_all("t", 0).await[0]["timestamp"].as_u64().unwrap();
    now + 30 * 24 * 60 * 60 * 1000
}

async fn topic(partitions: u32) -> (Process, Http) {
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", partitions).await;
    (node, http)
}

/// The attributes that a read shows of a message.
fn attributes(message: &Value) -> Value {
    let names = ["group", "priority", "deliver_at", "expires_at"];
    let shown = names.iter().filter_map(|name| message.get(name).map(|value| ((*name).to_owned(), value.clone())));
    Value::Object(shown.collect())
}

#[tokio::test]
async fn attributes_are_read_as_they_were_published_in_every_format() {
    let (mut node, http) = topic(1).await;
    let time = later(&http).await;
    let all = json!({"group": "größe", "priority": 0, "deliver_at": time, "expires_at": time + 1});
    let mut message = all.clone();
    message["value"] = json!("v");
    http.json("POST", PATH, &json!({"messages": [message, {"value": "plain"}]})).await.expect(200);
    let lines = format!("{{\"value\":1,\"group\":\"g\"}}\n{{\"value\":2}}\n{message}\n");
    http.body("POST", PATH, NDJSON, lines).await.expect(200);
    let path = format!("{PATH}?group=gr%C3%B6%C3%9Fe&priority=0&deliver_at={time}&expires_at={}", time + 1);
    http.body("POST", &path, "text/plain", "v").await.expect(200);
    let time_column = |time: u64| Arc::new(TimestampMillisecondArray::from(vec![time as i64])) as ArrayRef;
    let body = arrow_stream(vec![
        ("value", Arc::new(StringArray::from(vec!["v"]))),
        ("group", Arc::new(StringArray::from(vec!["größe"]))),
        ("priority", Arc::new(UInt8Array::from(vec![0]))),
        ("deliver_at", time_column(time)),
        ("expires_at", time_column(time + 1)),
    ]);
    http.body("POST", PATH, ARROW, body).await.expect(200);
    let none = json!({});
    let expected = [&none, &all, &none, &json!({"group": "g"}), &none, &all, &all, &all, &all].map(Value::clone);
    for restarted in [false, true] {
        let got: Vec<_> = http.read_all("t", 0).await.iter().map(attributes).collect();
        assert_eq!(got, expected, "restarted: {restarted}");
        let subscription = "/v1/topics/t/subscriptions/s";
        let start = json!({"kind": "stream", "start": "earliest"});
        http.json("PUT", subscription, &start).await;
        let polled = http.json("POST", &format!("{subscription}/poll"), &json!({})).await.expect(200).json();
        let polled: Vec<_> = polled["messages"].as_array().unwrap().iter().map(attributes).collect();
        assert_eq!(polled, expected);
        let read = http.request("GET", &format!("{PATH}?partition=0")).header("accept", ARROW);
        let stream = http.send(read).await.expect(200).body;
        let mut priorities = Vec::new();
        for batch in arrow::ipc::reader::StreamReader::try_new(stream.as_ref(), None).unwrap() {
            let column = batch.unwrap().column_by_name("priority").unwrap().clone();
            let numbers = column.as_primitive::<arrow::datatypes::UInt8Type>();
            priorities.extend((0..column.len()).map(|row| column.is_valid(row).then(|| numbers.value(row))));
        }
        let expected: Vec<_> = expected.iter().map(|all| all.get("priority").map(|_| 0)).collect();
        assert_eq!(priorities, expected);
        node.kill_9();
        node.restart().await;
    }
}

#[tokio::test]
async fn what_is_out_of_range_is_refused_and_nothing_is_stored() {
    let (_node, http) = topic(1).await;
    let too_long = "g".repeat(257);
    let year = 367_u64 * 24 * 60 * 60 * 1000;
    let cases = [
        (json!({"group": ""}), "invalid_group"),
        (json!({"group": too_long}), "invalid_group"),
        (json!({"priority": 10}), "invalid_priority"),
        (json!({"priority": -1}), "invalid_priority"),
        (json!({"delay_ms": -1}), "delay_out_of_range"),
        (json!({"delay_ms": year}), "delay_out_of_range"),
        (json!({"deliver_at": -1}), "delay_out_of_range"),
        (json!({"deliver_at": i64::MAX}), "delay_out_of_range"),
        (json!({"ttl_ms": -1}), "ttl_out_of_range"),
        (json!({"ttl_ms": year}), "ttl_out_of_range"),
        (json!({"expires_at": 1_700_000_000_000_u64}), "ttl_out_of_range"),
        (json!({"delay_ms": 1, "deliver_at": 1}), "invalid_message"),
        (json!({"ttl_ms": 1, "expires_at": 1}), "invalid_message"),
        (json!({"deduplication_id": ""}), "invalid_deduplication_id"),
        (json!({"deduplication_id": "i".repeat(201)}), "invalid_deduplication_id"),
    ];
    for (fields, code) in cases {
        let mut message = fields.clone();
        message["value"] = json!("v");
        let body = json!({"messages": [{"value": "good"}, message]});
        http.json("POST", PATH, &body).await.expect_error(400, code);
        http.body("POST", PATH, NDJSON, message.to_string()).await.expect_error(400, code);
        let parameter = |(name, value): (&String, &Value)| match value.as_str() {
            Some(text) => format!("{name}={text}"),
            None => format!("{name}={value}"),
        };
        let query = fields.as_object().unwrap().iter().map(parameter).collect::<Vec<_>>().join("&");
        http.body("POST", &format!("{PATH}?{query}"), "text/plain", "v").await.expect_error(400, code);
    }
    http.body("POST", &format!("{PATH}?priority=high"), "text/plain", "v").await.expect_error(400, "invalid_parameter");
    assert!(http.read_all("t", 0).await.is_empty());
    let at_once = json!({"messages": [{"value": "v", "delay_ms": 0, "deliver_at": null, "ttl_ms": 0}]});
    http.json("POST", PATH, &at_once).await.expect(200);
    let past = json!({"messages": [{"value": "v", "deliver_at": 5}]});
    http.json("POST", PATH, &past).await.expect(200);
}

#[tokio::test]
async fn a_group_decides_the_partition_before_the_key() {
    let (_node, http) = topic(16).await;
    let message = |group: &str, key: usize| json!({"group": group, "key": key.to_string(), "value": 1});
    for group in ["a", "b"] {
        let messages: Vec<_> = (0..40).map(|key| message(group, key)).collect();
        let placed = http.json("POST", PATH, &json!({"messages": messages})).await.expect(200).placed();
        assert!(placed.iter().all(|(partition, _)| *partition == placed[0].0), "{placed:?}");
        let explicit = json!({"messages": [{"group": group, "value": 1, "partition": 3}]});
        assert_eq!(http.json("POST", PATH, &explicit).await.expect(200).placed()[0].0, 3);
    }
}

async fn publish_ids(http: &Http, key: Option<&str>, messages: &[(&str, u32)]) -> Answer {
    let message = |(id, partition): &(&str, u32)| match *id {
        "" => json!({"value": "none", "partition": partition}),
        id => json!({"value": id, "partition": partition, "deduplication_id": id}),
    };
    let body = json!({"messages": messages.iter().map(message).collect::<Vec<_>>()});
    let mut request = http.request("POST", PATH).json(&body);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    http.send(request).await.expect(200)
}

/// Indexes of the messages that an answer marks as duplicates.
fn duplicates(answer: &Answer) -> Vec<usize> {
    let json = answer.json();
    let messages = json["messages"].as_array().unwrap().clone();
    (0..messages.len()).filter(|at| messages[*at].get("duplicate") == Some(&json!(true))).collect()
}

#[tokio::test]
async fn a_message_with_a_known_id_is_not_stored_again_also_after_crashes() {
    let (mut node, http) = topic(2).await;
    let first = publish_ids(&http, Some("k"), &[("a", 0), ("", 0), ("b", 1), ("a", 1), ("c", 0)]).await;
    assert_eq!(first.placed(), [(0, 0), (0, 1), (1, 0), (0, 0), (0, 2)]);
    assert_eq!(duplicates(&first), [3], "twice in one request");
    for round in 0..3 {
        let again = publish_ids(&http, Some("k"), &[("a", 0), ("", 0), ("b", 1), ("a", 1), ("c", 0)]).await;
        assert_eq!((again.placed(), duplicates(&again)), (first.placed(), vec![3]), "the first answer, {round}");
        assert_eq!(again.header("brigade-duplicate"), "true");
        // Whatever partition it is meant for now, also one that was not there before.
        let elsewhere = publish_ids(&http, None, &[("c", 1), ("b", 0)]).await;
        assert_eq!((elsewhere.placed(), duplicates(&elsewhere)), (vec![(0, 2), (1, 0)], vec![0, 1]));
        let mixed = publish_ids(&http, None, &[("a", 0), (&format!("new {round}"), 0), ("b", 0)]).await;
        assert_eq!((mixed.placed()[1], duplicates(&mixed)), ((0, 3 + round), vec![0, 2]));
        node.kill_9();
        node.restart().await;
        http.json("PATCH", "/v1/topics/t", &json!({"partitions": 3 + round})).await.expect(200);
    }
    let values: Vec<_> = http.read_all("t", 0).await.iter().map(|message| message["value"].clone()).collect();
    assert_eq!(values, ["a", "none", "c", "new 0", "new 1", "new 2"]);
    assert_eq!(http.read_all("t", 1).await.len(), 1);
}

#[tokio::test]
async fn the_window_is_a_setting_of_the_topic() {
    let (_node, http) = topic(1).await;
    let topic = "/v1/topics/t";
    let window = |answer: Answer| answer.json()["settings"]["deduplication_window_ms"].clone();
    assert_eq!(window(http.get(topic).await.expect(200)), 300_000);
    publish_ids(&http, None, &[("a", 0)]).await;
    let off = http.json("PATCH", topic, &json!({"deduplication_window_ms": 0})).await.expect(200);
    assert_eq!(window(off), 0);
    let twice = publish_ids(&http, None, &[("a", 0), ("a", 0)]).await;
    assert_eq!((twice.placed(), duplicates(&twice)), (vec![(0, 1), (0, 2)], vec![]));
    let too_long = json!({"deduplication_window_ms": 86_400_001});
    http.json("PATCH", topic, &too_long).await.expect_error(400, "invalid_settings");
    let other = http.json("PUT", "/v1/topics/other", &json!({"deduplication_window_ms": 5})).await.expect(201);
    assert_eq!(window(other), 5);
}
