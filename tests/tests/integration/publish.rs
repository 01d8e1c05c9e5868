//! Publishing in every format, and what is kept of a message.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BinaryArray, Int32Array, MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder,
        TimestampMillisecondArray,
    },
    ipc::writer::StreamWriter,
};
use brigade_tests::{
    http::{ARROW, Http, NDJSON},
    process::Process,
};
use serde_json::{Value, json};

async fn topic(partitions: u32) -> (Process, Http) {
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", partitions).await;
    (node, http)
}

async fn messages(http: &Http, partition: u64) -> Vec<Value> {
    http.read_all("t", partition).await
}

#[tokio::test]
async fn json_keeps_text_json_bytes_and_tombstones() {
    let (mut node, http) = topic(1).await;
    let sent = json!([
        {"value": "text, größe, 🪣, \"quoted\"\n\u{1}"},
        {"key": "k", "value": {"n": 1, "deep": [true, null, 1.5, "x"]}, "headers": {"a": "b", "ä": ""}},
        {"value": [1, 2]}, {"value": 12345678901234567890_u64}, {"value": false}, {"value": ""},
        {"value_base64": "AP+A", "timestamp": 1_700_000_000_123_u64},
        {"key_base64": "/w==", "value": "binary key"},
        {"key": "gone", "value": null},
        {"key": "gone too"},
    ]);
    let answer = http.json("POST", "/v1/topics/t/messages", &json!({"messages": sent})).await.expect(200);
    assert_eq!(answer.placed(), (0..10).map(|offset| (0, offset)).collect::<Vec<_>>());
    for restarted in [false, true] {
        let got = messages(&http, 0).await;
        for field in ["value", "value_base64", "key", "key_base64"] {
            for (number, (got, sent)) in got.iter().zip(sent.as_array().unwrap()).enumerate() {
                // A tombstone is shown with a value of null, however it was sent.
                assert_eq!(got[field], sent[field], "{field} of {number}, restarted: {restarted}");
            }
        }
        assert_eq!(got[1]["headers"], json!({"a": "b", "ä": ""}));
        assert_eq!(got[6]["timestamp"], 1_700_000_000_123_u64);
        assert!(got[0]["timestamp"].as_u64().unwrap() > 1_700_000_000_123, "the time of publishing");
        assert!(got[8].as_object().unwrap().contains_key("value"), "{}", got[8]);
        node.kill_9();
        node.restart().await;
    }
}

#[tokio::test]
async fn ndjson_takes_a_message_a_line() {
    let (_node, http) = topic(1).await;
    let body =
        "{\"value\":\"a\"}\r\n\n{\"key\":\"k\",\"value\":{\"x\":1}}\n  \n{\"value\":\"last, without a newline\"}";
    let answer = http.body("POST", "/v1/topics/t/messages", NDJSON, body).await.expect(200);
    assert_eq!(answer.placed().len(), 3);
    let got = messages(&http, 0).await;
    assert_eq!((&got[0]["value"], &got[1]["value"]["x"], &got[1]["key"]), (&json!("a"), &json!(1), &json!("k")));
    assert_eq!(got[2]["value"], "last, without a newline");
}

#[tokio::test]
async fn a_raw_body_is_one_message() {
    let (_node, http) = topic(2).await;
    let path = "/v1/topics/t/messages?key=k%20%C3%A4&partition=1&timestamp=1700000000000";
    let request =
        http.request("POST", path).header("content-type", "text/plain").header("Brigade-Header-Source", "shop");
    assert_eq!(http.send(request.body("größe")).await.expect(200).placed(), [(1, 0)]);
    let bytes = vec![0_u8, 255, 13, 10];
    http.body("POST", "/v1/topics/t/messages?partition=1", "application/octet-stream", bytes).await.expect(200);
    let got = messages(&http, 1).await;
    let expected = json!({"partition": 1, "offset": 0, "key": "k ä", "value": "größe", "headers": {"source": "shop"},
        "timestamp": 1_700_000_000_000_u64});
    assert_eq!(got[0], expected);
    assert_eq!(got[1]["value_base64"], "AP8NCg==");
}

pub(crate) fn arrow_stream(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.write(&batch.slice(0, 1)).unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn an_arrow_stream_is_many_messages() {
    let (_node, http) = topic(2).await;
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut headers = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    headers.keys().append_value("h");
    headers.values().append_value("1");
    headers.append(true).unwrap();
    headers.append(true).unwrap();
    let body = arrow_stream(vec![
        ("value", Arc::new(StringArray::from(vec![Some("first"), Some("second")]))),
        ("key", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"k"), None]))),
        ("timestamp", Arc::new(TimestampMillisecondArray::from(vec![Some(1_700_000_000_000), None]))),
        ("partition", Arc::new(Int32Array::from(vec![Some(1), Some(0)]))),
        ("headers", Arc::new(headers.finish())),
    ]);
    let answer = http.body("POST", "/v1/topics/t/messages", ARROW, body).await.expect(200);
    assert_eq!(answer.placed(), [(1, 0), (0, 0), (1, 1)], "two rows, and one of the second batch");
    let got = messages(&http, 1).await;
    assert_eq!(got.len(), 2);
    for (offset, message) in got.iter().enumerate() {
        let expected = json!({"partition": 1, "offset": offset, "key": "k", "value": "first", "headers": {"h": "1"},
            "timestamp": 1_700_000_000_000_u64});
        assert_eq!(*message, expected);
    }
    assert_eq!(messages(&http, 0).await[0]["value"], "second");
}

#[tokio::test]
async fn a_key_stays_in_its_partition_and_keeps_its_order() {
    let (mut node, http) = topic(8).await;
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for request in 0..40 {
        let batch: Vec<_> = (0..10)
            .map(|n| {
                let (key, value) = (format!("key-{}", (request * 7 + n) % 23), format!("{request}-{n}"));
                expected.entry(key.clone()).or_default().push(value.clone());
                json!({"key": key, "value": value})
            })
            .collect();
        http.json("POST", "/v1/topics/t/messages", &json!({"messages": batch})).await.expect(200);
    }
    node.kill_9();
    node.restart().await;
    let mut got: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut used = 0;
    for partition in 0..8 {
        let messages = messages(&http, partition).await;
        used += u32::from(!messages.is_empty());
        for message in messages {
            let text = |field: &str| message[field].as_str().unwrap().to_owned();
            got.entry(text("key")).or_default().push(text("value"));
        }
    }
    assert_eq!(got, expected);
    assert!(used >= 4, "23 keys are spread over 8 partitions, not {used}");
}

#[tokio::test]
async fn messages_without_keys_are_spread_over_the_partitions() {
    let (_node, http) = topic(4).await;
    let mut used = BTreeMap::new();
    for request in 0..40 {
        for (partition, _) in http.publish("t", &[format!("{request}")]).await {
            *used.entry(partition).or_insert(0) += 1;
        }
    }
    assert_eq!(used, (0..4).map(|partition| (partition, 10)).collect());
}
