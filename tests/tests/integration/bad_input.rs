//! Requests that are wrong: each gets a 4xx with a stable code, what was wrong and what to do, and stores nothing.

use std::sync::Arc;

use arrow::array::{Int64Array, StringArray};
use brigade_tests::{
    http::{ARROW, Http, JSON, NDJSON},
    process::{Options, Process},
};
use serde_json::json;

use crate::publish::arrow_stream;

const PUBLISH: &str = "/v1/topics/t/messages";

/// A wrong request and its answer: status, code, and words of the message.
struct Case {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    says: &'static str,
}

fn case(method: &'static str, path: &str, body: impl Into<Vec<u8>>, answer: (u16, &'static str, &'static str)) -> Case {
    let headers = vec![("content-type", JSON.to_owned())];
    let (status, code, says) = answer;
    Case { method, path: path.to_owned(), headers, body: body.into(), status, code, says }
}

fn with(case: Case, name: &'static str, value: impl Into<String>) -> Case {
    let mut headers: Vec<_> = case.headers.into_iter().filter(|(other, _)| *other != name).collect();
    headers.push((name, value.into()));
    Case { headers, ..case }
}

fn typed(content_type: &str, body: impl Into<Vec<u8>>, answer: (u16, &'static str, &'static str)) -> Case {
    with(case("POST", PUBLISH, body, answer), "content-type", content_type)
}

async fn run(http: &Http, cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for Case { method, path, headers, body, status, code, says } in cases {
        let shown = format!("{method} {path:.200} {headers:.200?} {:.200}", String::from_utf8_lossy(&body));
        let mut request = http.request(method, &path).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = http.send(request).await;
        let text = answer.text();
        let right = answer.status == status && status >= 400 && answer.code() == code && text.contains(says);
        if !right {
            wrong.push(format!("{shown}\n  expected {status} {code} with {says:?}, got {} {text:.500}", answer.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A node with topic `t` (2 partitions, messages of at most 1,000 bytes) and topic `u` (defaults); at the end of the
/// cases both must be empty and alone.
async fn refuses(cases: Vec<Case>) {
    let config = "[publish]\nmax_request_mib = 4\n".to_owned();
    let node = Process::start_with(Options { config, ..Options::default() }).await;
    let http = node.http();
    http.json("PUT", "/v1/topics/t", &json!({"partitions": 2, "max_message_bytes": 1000})).await.expect(201);
    http.create_topic("u", 1).await;
    run(&http, cases).await;
    let topics = http.get("/v1/topics").await.expect(200).json();
    let left: Vec<_> =
        topics["topics"].as_array().unwrap().iter().map(|topic| (&topic["name"], &topic["messages"])).collect();
    assert_eq!(left, [(&json!("t"), &json!(0)), (&json!("u"), &json!(0))]);
    http.get("/readyz").await.expect(200);
    assert_eq!(http.publish("t", &["good"]).await.len(), 1);
}

fn publish(body: &str, answer: (u16, &'static str, &'static str)) -> Case {
    case("POST", PUBLISH, body, answer)
}

#[tokio::test]
async fn wrong_json_is_refused() {
    let json_error = |says| (400, "invalid_json", says);
    let invalid = |says| (400, "invalid_message", says);
    let deep = format!("{{\"messages\":[{{\"value\":{}{}}}]}}", "[".repeat(50_000), "]".repeat(50_000));
    refuses(vec![
        publish(r#"{"messages":[{"value":"a"}"#, json_error("")),
        publish("not json", json_error("")),
        publish("", json_error("")),
        publish("{}", json_error("messages")),
        publish(r#"[{"value":"a"}]"#, invalid("messages")),
        publish(r#"{"messages":[]}"#, (400, "no_messages", "")),
        publish(r#"{"messages":[{"value":"a"}],"more":1}"#, json_error("")),
        publish(r#"{"messages":[{"value":"a"}]} {}"#, json_error("")),
        publish(r#"{"messages":[{"valeu":"a"}]}"#, json_error("valeu")),
        publish(r#"{"messages":[{"value":"a"},{"value":"b","key":1}]}"#, invalid("messages[1]")),
        publish(r#"{"messages":[{"value":"a","headers":{"h":1}}]}"#, invalid("messages[0]")),
        publish(r#"{"messages":[{"value":"a","timestamp":-1}]}"#, invalid("timestamp")),
        publish(r#"{"messages":[{"value":"a","timestamp":1.5}]}"#, invalid("timestamp")),
        publish(r#"{"messages":[{"value":"a","partition":-1}]}"#, invalid("")),
        publish(
            r#"{"messages":[{"value":"a"},{"value":"b","partition":2}]}"#,
            (400, "partition_not_found", "messages[1]"),
        ),
        publish(r#"{"messages":[{"value":"a","value_base64":"YQ=="}]}"#, invalid("")),
        publish(r#"{"messages":[{"value_base64":"%%%"}]}"#, invalid("base64")),
        publish(r#"{"messages":[{}]}"#, invalid("")),
        publish(r#"{"messages":[{"value":null}]}"#, invalid("")),
        typed(JSON, b"{\"messages\":[{\"value\":\"\xff\"}]}".to_vec(), json_error("UTF-8")),
        publish(&deep, invalid("128 levels")),
    ])
    .await;
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let long = |bytes: usize| "x".repeat(bytes);
    let to_u = |body: serde_json::Value, code, says| {
        case(
            "POST",
            "/v1/topics/u/messages",
            body.to_string(),
            (if code == "too_many_headers" { 400 } else { 413 }, code, says),
        )
    };
    let headers = |count: usize, bytes: usize| {
        let pair = |n: usize| (format!("h{n}"), json!(long(bytes)));
        json!({"messages": [{"value": "a", "headers": (0..count).map(pair).collect::<serde_json::Map<_, _>>()}]})
    };
    let second = json!({"messages": [{"value": "small"}, {"value": long(2_000)}]}).to_string();
    let many = format!("{{\"messages\":[{}{{\"value\":1}}]}}", "{\"value\":1},".repeat(100_000));
    refuses(vec![
        publish(&second, (413, "message_too_large", "messages[1]")),
        typed("text/plain", long(1_001), (413, "message_too_large", "1000")),
        typed(
            NDJSON,
            format!("{{\"value\":1}}\n{{\"value\":\"{}\"}}\n", long(1_001)),
            (413, "message_too_large", "line 2"),
        ),
        to_u(json!({"messages": [{"value": "a", "key": long(64 * 1024 + 1)}]}), "key_too_large", ""),
        to_u(headers(65, 1), "too_many_headers", ""),
        to_u(headers(2, 9_000), "headers_too_large", ""),
        publish(&many, (413, "too_many_messages", "")),
        typed("application/octet-stream", vec![b'x'; 6 << 20], (413, "request_too_large", "")),
    ])
    .await;
}

#[tokio::test]
async fn other_wrong_bodies_are_refused() {
    let lines = "{\"value\":1}\n{\"value\":2}\n{\"value\":\n{\"value\":4}\n";
    let text: arrow::array::ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let whole = arrow_stream(vec![("value", text.clone())]);
    let number: arrow::array::ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let arrow = |says| (400, "invalid_arrow", says);
    let gone = |column: &str| arrow_stream(vec![(column, text.clone())]);
    let negative = arrow_stream(vec![("value", text.clone()), ("partition", Arc::new(Int64Array::from(vec![0, -1])))]);
    refuses(vec![
        typed(NDJSON, lines, (400, "invalid_json", "line 3")),
        typed(NDJSON, "{\"value\":1}\n{\"value\":2}\n{\"val", (400, "invalid_json", "line 3")),
        typed(NDJSON, "\n\n", (400, "no_messages", "")),
        typed(ARROW, "not arrow", arrow("")),
        typed(ARROW, "", arrow("")),
        typed(ARROW, &whole[..whole.len() / 2], arrow("cut off")),
        typed(ARROW, gone("data"), arrow("value")),
        typed(ARROW, arrow_stream(vec![("value", number)]), arrow("value")),
        typed(ARROW, negative, (400, "invalid_message", "messages[1]")),
        typed("text/plain", b"\xff\xfe".to_vec(), (400, "invalid_message", "UTF-8")),
        typed("text/html", "<p>", (415, "unsupported_content_type", "text/html")),
        typed("application/xml", "<p/>", (415, "unsupported_content_type", "")),
    ])
    .await;
}

#[tokio::test]
async fn wrong_names_paths_and_headers_are_refused() {
    let one = r#"{"messages":[{"value":"a"}]}"#;
    let good = |path: &str, answer| case("POST", path, one, answer);
    let long = format!("/v1/topics/{}/messages", "n".repeat(201));
    let parameter = |says| (400, "invalid_parameter", says);
    refuses(vec![
        good("/v1/topics/nothing/messages", (404, "topic_not_found", "nothing")),
        good("/v1/topics/a%20b/messages", (400, "invalid_name", "")),
        good("/v1/topics/..%2Fetc/messages", (400, "invalid_name", "")),
        good("/v1/topics/%FF/messages", (400, "invalid_name", "")),
        good(&long, (400, "invalid_name", "")),
        good("/v1/topics/t/messages?extra=1", parameter("extra")),
        good("/v1/nothing", (404, "not_found", "")),
        case("DELETE", PUBLISH, "", (405, "method_not_allowed", "")),
        case("PUT", "/v1/topics", "", (405, "method_not_allowed", "")),
        with(good(PUBLISH, parameter("")), "producer-id", "p"),
        with(good(PUBLISH, parameter("")), "producer-sequence", "1"),
        with(with(good(PUBLISH, parameter("")), "producer-id", "p"), "producer-sequence", "-1"),
        with(with(good(PUBLISH, parameter("")), "producer-id", "p"), "producer-sequence", "18446744073709551616"),
        with(good(PUBLISH, parameter("")), "idempotency-key", ""),
        with(good(PUBLISH, parameter("")), "idempotency-key", "k".repeat(201)),
        with(
            with(with(good(PUBLISH, parameter("")), "idempotency-key", "k"), "producer-id", "p"),
            "producer-sequence",
            "1",
        ),
    ])
    .await;
}

#[tokio::test]
async fn wrong_reads_are_refused() {
    let get = |query: &str, answer| case("GET", &format!("{PUBLISH}?{query}"), "", answer);
    let parameter = |query: &str, says| get(query, (400, "invalid_parameter", says));
    refuses(vec![
        parameter("partition=0&offset=-1", "offset"),
        parameter("partition=0&offset=two", "offset"),
        parameter("partition=0&offset=18446744073709551616", "offset"),
        parameter("partition=-1", "partition"),
        parameter("partition=0&partition=1", "partition"),
        parameter("partition=0&timestamp=-1", "timestamp"),
        parameter("partition=0&offset=0&timestamp=0", ""),
        parameter("partition=0&max_messages=0", "max_messages"),
        parameter("partition=0&max_messages=-3", "max_messages"),
        parameter("partition=0&max_bytes=0", "max_bytes"),
        parameter("partition=0&wait=-5", "wait"),
        parameter("partition=0&wait=60001", "wait"),
        parameter("partition=0&waits=1", "waits"),
        get("partition=7", (400, "partition_not_found", "7")),
        get("partition=0&offset=1", (416, "offset_out_of_range", "")),
        with(get("partition=0", (406, "not_acceptable", "")), "accept", "text/html"),
        case("GET", "/v1/topics/nothing/messages", "", (404, "topic_not_found", "nothing")),
        case("GET", "/v1/topics?limit=0", "", (400, "invalid_parameter", "limit")),
        case("GET", "/v1/topics?limit=-1", "", (400, "invalid_parameter", "limit")),
    ])
    .await;
}

#[tokio::test]
async fn wrong_topics_and_subscriptions_are_refused() {
    let topic = |body: &str, answer| case("PUT", "/v1/topics/new", body, answer);
    let settings = |body: &str, says| topic(body, (400, "invalid_settings", says));
    let json_error = |body: &str, says| topic(body, (400, "invalid_json", says));
    let subscription = |method, body: &str, answer| case(method, "/v1/topics/t/subscriptions/s", body, answer);
    let unusable = |body: &str, says| subscription("PUT", body, (400, "invalid_json", says));
    refuses(vec![
        settings(r#"{"partitions":0}"#, "partitions"),
        settings(r#"{"partitions":1025}"#, "1024"),
        settings(r#"{"max_message_bytes":0}"#, "max_message_bytes"),
        settings(r#"{"max_message_bytes":1000000000}"#, "max_message_bytes"),
        json_error(r#"{"partitions":-1}"#, "-1"),
        json_error(r#"{"partitons":1}"#, "partitons"),
        json_error(r#"{"partitions":1"#, ""),
        json_error("[]", ""),
        topic(r#"{"replication":"async"}"#, (400, "invalid_settings", "replication")),
        json_error(r#"{"compression":"gzip"}"#, "gzip"),
        case("PUT", "/v1/topics/-dash", "{}", (400, "invalid_name", "")),
        unusable(r#"{"kind":"stream","begin":"latest"}"#, "begin"),
        subscription("PUT", r#"{"kind":"heap"}"#, (400, "invalid_json", "heap")),
        subscription("PUT", r#"{"kind":"queue","filter":"a ="}"#, (400, "invalid_filter", "byte 3")),
        subscription("GET", "", (404, "subscription_not_found", "")),
        subscription("PATCH", r#"{"seek":"earliest"}"#, (404, "subscription_not_found", "")),
        case("POST", "/v1/topics/t/subscriptions/s/commit", r#"{"positions":[]}"#, (404, "subscription_not_found", "")),
        case("PUT", "/v1/topics/t/subscriptions/a%20b", "{}", (400, "invalid_name", "")),
    ])
    .await;
}
