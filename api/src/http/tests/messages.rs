//! Topics, publishing, reading and subscriptions, end to end in memory.

use std::time::Duration;

use futures::stream;

use super::*;

type Headers<'a> = &'a [(&'a str, &'a str)];

async fn publish(router: &Router, body: &str, headers: Headers<'_>) -> Answer {
    let request = Request::post("/v1/topics/t/messages");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    send(router, request.body(Body::from(body.to_owned())).unwrap()).await
}

#[tokio::test]
async fn topics() {
    let router = router(node().await);
    let created = put(&router, "/v1/topics/t", r#"{"partitions":2,"compression":"zstd"}"#).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let settings = json!({"partitions": 2, "max_message_bytes": 1048576, "compression": "zstd",
        "deduplication_window_ms": 300_000, "retention_ms": null, "retention_bytes": null, "delete_after_ack": false,
        "key_compaction": false, "compaction_lag_ms": 0, "tombstone_retention_ms": 86_400_000, "replication": "sync"});
    assert_eq!(created.json()["settings"], settings);
    assert_eq!(
        created.json()["partitions"][1],
        json!({"partition": 1, "log_start": 0, "archived_end": 0, "high_watermark": 0, "messages": 0, "bytes": 0,
            "files": 0, "archived_bytes": 0, "stored_bytes": 0})
    );
    let again = r#"{"partitions":2,"compression":"zstd","replication":"sync"}"#;
    assert_eq!(put(&router, "/v1/topics/t", again).await.status, StatusCode::OK);
    assert_eq!(put(&router, "/v1/topics/t", "").await.error(), (409, "topic_exists".to_owned()));
    let bad = [
        (r#"{"partition":2}"#, "invalid_json"),
        ("{", "invalid_json"),
        (r#"{"partitions":-1}"#, "invalid_json"),
        (r#"{"partitions":0}"#, "invalid_settings"),
        (r#"{"max_message_bytes":99999999}"#, "invalid_settings"),
        (r#"{"replication":"async"}"#, "invalid_settings"),
    ];
    for (body, code) in bad {
        assert_eq!(put(&router, "/v1/topics/u", body).await.error(), (400, code.to_owned()), "{body}");
    }
    assert!(put(&router, "/v1/topics/u", r#"{"partition":2}"#).await.json().to_string().contains("partition"));
    let grown = call(&router, Method::PATCH, "/v1/topics/t", r#"{"partitions":3}"#).await.json();
    assert_eq!((&grown["settings"]["partitions"], &grown["settings"]["compression"]), (&json!(3), &json!("zstd")));
    let shrunk = call(&router, Method::PATCH, "/v1/topics/t", r#"{"partitions":1}"#).await;
    assert_eq!(shrunk.error(), (400, "invalid_settings".to_owned()));
    for name in ["a1", "a2", "b"] {
        put(&router, &format!("/v1/topics/{name}"), "").await;
    }
    let page = get(&router, "/v1/topics?limit=1&prefix=a").await.json();
    assert_eq!((&page["topics"][0]["name"], &page["next"]), (&json!("a1"), &json!("a1")));
    assert_eq!((&page["topics"][0]["messages"], page["topics"][0].get("partitions")), (&json!(0), None));
    let page = get(&router, "/v1/topics?limit=1&prefix=a&after=a1").await.json();
    assert_eq!((&page["topics"][0]["name"], &page["next"]), (&json!("a2"), &Value::Null));
    assert_eq!(call(&router, Method::DELETE, "/v1/topics/t", "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(call(&router, Method::DELETE, "/v1/topics/t", "").await.error(), (404, "topic_not_found".to_owned()));
}

#[tokio::test]
async fn what_is_published_is_read() {
    let router = router(node().await);
    put(&router, "/v1/topics/t", "").await;
    let answer = publish(&router, r#"{"messages":[{"value":"a","key":"k"},{"value":{"b":1}}]}"#, &[]).await;
    assert_eq!(
        answer.json(),
        json!({"messages": [{"partition": 0, "offset": 0}, {"partition": 0, "offset": 1}]}),
        "{answer:?}",
        answer = answer.body
    );
    let identified = [("producer-id", "p"), ("producer-sequence", "1"), ("content-type", "application/x-ndjson")];
    let first = publish(&router, "{\"value\":\"c\"}\n", &identified).await;
    let again = publish(&router, "{\"value\":\"c\"}\n", &identified).await;
    assert_eq!((first.json(), first.headers.get("brigade-duplicate")), (again.json(), None));
    assert_eq!(again.headers["brigade-duplicate"], "true");
    let raw = Request::post("/v1/topics/t/messages?key=k%20k&timestamp=5&partition=0")
        .header("content-type", "text/plain")
        .header("Brigade-Header-Colour", "red");
    assert_eq!(send(&router, raw.body(Body::from("text")).unwrap()).await.status, StatusCode::OK);
    let read = get(&router, "/v1/topics/t/messages?offset=1").await;
    assert_eq!(
        (&read.headers["brigade-next-offset"], &read.headers["brigade-high-watermark"]),
        (&"4".parse().unwrap(), &"4".parse().unwrap())
    );
    let json = read.json();
    assert_eq!((&json["next_offset"], &json["high_watermark"]), (&json!(4), &json!(4)));
    assert_eq!((&json["messages"][0]["value"], &json["messages"][1]["value"]), (&json!({"b": 1}), &json!("c")));
    assert_eq!(
        (&json["messages"][2]["key"], &json["messages"][2]["headers"]),
        (&json!("k k"), &json!({"colour": "red"}))
    );
    assert_eq!(json["messages"][2]["timestamp"], 5);
    let ndjson = Request::get("/v1/topics/t/messages?max_messages=2").header("accept", "application/x-ndjson");
    let ndjson = send(&router, ndjson.body(Body::empty()).unwrap()).await;
    assert_eq!(
        (ndjson.body.iter().filter(|byte| **byte == b'\n').count(), &ndjson.headers["brigade-next-offset"]),
        (2, &"2".parse().unwrap())
    );
    assert_eq!(get(&router, "/v1/topics/t/messages?offset=5").await.error(), (416, "offset_out_of_range".to_owned()));
    assert_eq!(
        get(&router, "/v1/topics/t/messages?partition=1").await.error(),
        (400, "partition_not_found".to_owned())
    );
    assert_eq!(get(&router, "/v1/topics/x/messages").await.error(), (404, "topic_not_found".to_owned()));
    put(&router, "/v1/topics/two", r#"{"partitions":2}"#).await;
    assert_eq!(get(&router, "/v1/topics/two/messages").await.error(), (400, "partition_required".to_owned()));
}

#[tokio::test]
async fn bad_publishes_are_refused_and_store_nothing() {
    let router = router(node().await);
    put(&router, "/v1/topics/t", r#"{"max_message_bytes":100}"#).await;
    let large = format!(r#"{{"messages":[{{"value":"ok"}},{{"value":"{}"}}]}}"#, "x".repeat(101));
    let cases: Vec<(&str, Headers<'_>, u16, &str)> = vec![
        ("{", &[], 400, "invalid_json"),
        (r#"{"messages":[{"valu":"x"}]}"#, &[], 400, "invalid_json"),
        (r#"{"messages":[]}"#, &[], 400, "no_messages"),
        (r#"{"messages":[{"value":"x","partition":1}]}"#, &[], 400, "partition_not_found"),
        (&large, &[], 413, "message_too_large"),
        ("x", &[("content-type", "image/png")], 415, "unsupported_content_type"),
        ("x", &[("content-type", "application/vnd.apache.arrow.stream")], 400, "invalid_arrow"),
        ("{\"value\":1}\n{", &[("content-type", "application/x-ndjson")], 400, "invalid_json"),
        (r#"{"messages":[{"value":"x"}]}"#, &[("producer-id", "p")], 400, "invalid_parameter"),
    ];
    for (body, headers, status, code) in cases {
        assert_eq!(publish(&router, body, headers).await.error(), (status, code.to_owned()), "{body}");
    }
    let absent = post(&router, "/v1/topics/absent/messages", r#"{"messages":[{"value":"x"}]}"#).await;
    assert_eq!(absent.error(), (404, "topic_not_found".to_owned()));
    let parameter = post(&router, "/v1/topics/t/messages?key=k", r#"{"messages":[{"value":"x"}]}"#).await;
    assert_eq!(parameter.error(), (400, "invalid_parameter".to_owned()));
    assert_eq!(get(&router, "/v1/topics/t").await.json()["partitions"][0]["high_watermark"], 0);
}

#[tokio::test]
async fn bodies_that_are_too_large_broken_or_slow_are_refused() {
    let mut settings = settings();
    settings.publish.max_request_mib = 1;
    settings.http.body_timeout_ms = 50;
    let router = router(start_node(settings, Env::simulated(7, 0)).await.unwrap());
    put(&router, "/v1/topics/t", "").await;
    let large = "x".repeat((1 << 20) + 1);
    assert_eq!(publish(&router, &large, &[]).await.error(), (413, "request_too_large".to_owned()));
    let stream_of = |pieces: Vec<Result<&'static str, std::io::Error>>| Body::from_stream(stream::iter(pieces));
    let request = |body: Body| Request::post("/v1/topics/t/messages").body(body).unwrap();
    let chunked = stream_of(vec![Ok("{\"messages\":[{\"val"), Ok("ue\":\"x\"}]}")]);
    assert_eq!(send(&router, request(chunked)).await.status, StatusCode::OK);
    let endless = Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(100_000))));
    assert_eq!(send(&router, request(endless)).await.error(), (413, "request_too_large".to_owned()));
    let cut = stream_of(vec![Ok("{\"messages\":"), Err(std::io::Error::other("connection closed"))]);
    assert_eq!(send(&router, request(cut)).await.error(), (400, "truncated_body".to_owned()));
    let slow = Body::from_stream(stream::pending::<Result<&'static str, std::io::Error>>());
    assert_eq!(send(&router, request(slow)).await.error(), (408, "request_timeout".to_owned()));
    assert_eq!(get(&router, "/v1/topics/t").await.json()["partitions"][0]["high_watermark"], 1);
}

#[tokio::test]
async fn more_than_fits_into_memory_is_refused_until_there_is_room() {
    let mut settings = settings();
    (settings.publish.memory_mib, settings.publish.max_request_mib) = (1, 1);
    let node = start_node(settings, Env::simulated(7, 0)).await.unwrap();
    let router = router(node.clone());
    put(&router, "/v1/topics/t", "").await;
    let held = node.seat.lead().ok().unwrap().ingest.admit(1 << 20).unwrap();
    let answer = publish(&router, r#"{"messages":[{"value":"x"}]}"#, &[]).await;
    assert_eq!(answer.error(), (429, "too_busy".to_owned()));
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
    drop(held);
    assert_eq!(publish(&router, r#"{"messages":[{"value":"x"}]}"#, &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn subscriptions() {
    let router = router(node().await);
    let path = "/v1/topics/t/subscriptions/s";
    assert_eq!(put(&router, path, "").await.error(), (404, "topic_not_found".to_owned()));
    put(&router, "/v1/topics/t", r#"{"partitions":2}"#).await;
    assert_eq!(get(&router, path).await.error(), (404, "subscription_not_found".to_owned()));
    assert_eq!(put(&router, path, r#"{"kind":"stream","start":"earliest"}"#).await.status, StatusCode::CREATED);
    assert_eq!(put(&router, path, "").await.status, StatusCode::OK);
    let messages =
        r#"{"messages":[{"value":"a","partition":0},{"value":"b","partition":1},{"value":"c","partition":0}]}"#;
    publish(&router, messages, &[]).await;
    let view = get(&router, path).await.json();
    assert_eq!((&view["lag"], &view["kind"], &view["topic"]), (&json!(3), &json!("stream"), &json!("t")));
    let polled = post(&router, &format!("{path}/poll"), r#"{"max_messages":10}"#).await.json();
    assert_eq!(polled["messages"].as_array().unwrap().len(), 3);
    assert_eq!(polled["positions"], json!([{"partition": 0, "offset": 2}, {"partition": 1, "offset": 1}]));
    let commit = format!("{path}/commit");
    let committed = post(&router, &commit, r#"{"positions":[{"partition":0,"offset":2}]}"#).await.json();
    assert_eq!(committed, json!({"positions": [{"partition": 0, "offset": 2}, {"partition": 1, "offset": 0}]}));
    let lower = post(&router, &commit, r#"{"positions":[{"partition":0,"offset":1}]}"#).await.json();
    assert_eq!(lower, committed);
    assert_eq!(post(&router, &commit, r#"{"positions":[]}"#).await.json(), committed);
    let bad = [
        (r#"{"positions":[{"partition":0,"offset":3}]}"#, "invalid_position"),
        (r#"{"positions":[{"partition":0,"offset":1},{"partition":0,"offset":2}]}"#, "invalid_position"),
        (r#"{"positions":[{"partition":9,"offset":0}]}"#, "partition_not_found"),
        (r#"{"positions":[{"partition":0,"offset":-1}]}"#, "invalid_json"),
        ("", "invalid_json"),
    ];
    for (body, code) in bad {
        assert_eq!(post(&router, &commit, body).await.error(), (400, code.to_owned()), "{body}");
    }
    let rest = post(&router, &format!("{path}/poll"), "").await.json();
    assert_eq!((rest["messages"].as_array().unwrap().len(), &rest["messages"][0]["value"]), (1, &json!("b")));
    let again = r#"{"positions":[{"partition":0,"offset":1}]}"#;
    assert_eq!(post(&router, &format!("{path}/poll"), again).await.json()["messages"].as_array().unwrap().len(), 2);
    let wait = post(&router, &format!("{path}/poll"), r#"{"wait_ms":60001}"#).await;
    assert_eq!(wait.error(), (400, "invalid_parameter".to_owned()));
    let moved = call(&router, Method::PATCH, path, r#"{"seek":"latest"}"#).await.json();
    assert_eq!(moved["lag"], 0);
    let moved =
        call(&router, Method::PATCH, path, r#"{"seek":{"positions":[{"partition":0,"offset":0}]}}"#).await.json();
    assert_eq!((&moved["lag"], &moved["positions"][0]["offset"]), (&json!(2), &json!(0)));
    let moved = call(&router, Method::PATCH, path, r#"{"seek":{"timestamp":0}}"#).await.json();
    assert_eq!(moved["lag"], 3);
    assert_eq!(get(&router, "/v1/topics/t/subscriptions").await.json()["subscriptions"][0]["name"], "s");
    assert_eq!(call(&router, Method::DELETE, path, "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(post(&router, &format!("{path}/poll"), "").await.error(), (404, "subscription_not_found".to_owned()));
}

#[tokio::test]
async fn waiting_ends_with_a_message_or_with_the_node() {
    let node = node().await;
    let router = router(node.clone());
    put(&router, "/v1/topics/t", "").await;
    let waiting = tokio::spawn({
        let router = router.clone();
        async move { get(&router, "/v1/topics/t/messages?wait=60000").await.json() }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    publish(&router, r#"{"messages":[{"value":"x"}]}"#, &[]).await;
    assert_eq!(waiting.await.unwrap()["messages"][0]["value"], "x");
    let waiting = tokio::spawn({
        let router = router.clone();
        async move { get(&router, "/v1/topics/t/messages?offset=latest&wait=60000").await.json() }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    node.begin_drain();
    assert_eq!(waiting.await.unwrap()["messages"], json!([]));
}

#[tokio::test]
async fn following_sends_what_is_there_and_what_comes() {
    let node = node().await;
    let router = router(node.clone());
    put(&router, "/v1/topics/t", "").await;
    publish(&router, r#"{"messages":[{"value":"a"},{"value":"b"}]}"#, &[]).await;
    let request = Request::get("/v1/topics/t/messages")
        .header("accept", "text/event-stream")
        .header("last-event-id", "0")
        .body(Body::empty())
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut body = response.into_body();
    let mut next = async || body.frame().await.map(|frame| frame.unwrap().into_data().unwrap());
    let first = next().await.unwrap();
    assert!(first.starts_with(b"id: 1\ndata: {") && first.ends_with(b"\n\n"), "{first:?}");
    publish(&router, r#"{"messages":[{"value":"c"}]}"#, &[]).await;
    assert!(next().await.unwrap().starts_with(b"id: 2\n"));
    node.begin_drain();
    while let Some(rest) = next().await {
        assert!(rest.starts_with(b": "), "{rest:?}");
    }
    let absent = Request::get("/v1/topics/absent/messages?partition=0").header("accept", "text/event-stream");
    let absent = send(&router, absent.body(Body::empty()).unwrap()).await;
    assert_eq!(absent.error(), (404, "topic_not_found".to_owned()));
}
