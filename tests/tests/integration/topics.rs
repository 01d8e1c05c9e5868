//! Topics: create, describe, list, change, delete.

use brigade_tests::process::Process;
use serde_json::json;

#[tokio::test]
async fn a_topic_is_created_once_and_described() {
    let node = Process::start().await;
    let http = node.http();
    let settings = json!({"partitions": 3, "max_message_bytes": 1000, "compression": "zstd",
        "deduplication_window_ms": 7, "retention_ms": 604_800_000, "retention_bytes": null, "delete_after_ack": true,
        "key_compaction": false, "compaction_lag_ms": 0, "tombstone_retention_ms": 3_600_000, "replication": "sync"});
    let created = http.json("PUT", "/v1/topics/orders", &settings).await.expect(201).json();
    assert_eq!(created["name"], "orders");
    assert_eq!(created["settings"], settings);
    assert!(created["created_ms"].as_u64().unwrap() > 1_700_000_000_000);
    let again = http.json("PUT", "/v1/topics/orders", &settings).await.expect(200).json();
    assert_eq!(again["id"], created["id"]);
    http.json("PUT", "/v1/topics/orders", &json!({"partitions": 4})).await.expect_error(409, "topic_exists");

    http.publish("orders", &["a", "b"]).await;
    let described = http.get("/v1/topics/orders").await.expect(200).json();
    let partitions = described["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 3);
    let sum = |field: &str| partitions.iter().map(|partition| partition[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("messages"), sum("high_watermark"), sum("log_start")), (2, 2, 0));
    assert!(sum("bytes") > 0);
}

#[tokio::test]
async fn an_empty_body_means_the_defaults() {
    let node = Process::start().await;
    let http = node.http();
    let created = http.send(http.request("PUT", "/v1/topics/t")).await.expect(201).json();
    let defaults = json!({"partitions": 1, "max_message_bytes": 1_048_576, "compression": "lz4",
            "deduplication_window_ms": 300_000, "retention_ms": null, "retention_bytes": null, "delete_after_ack": false,
            "key_compaction": false, "compaction_lag_ms": 0, "tombstone_retention_ms": 86_400_000,
            "replication": "sync"});
    assert_eq!(created["settings"], defaults);
    http.json("PUT", "/v1/topics/t", &json!({})).await.expect(200);
    http.json("PUT", "/v1/topics/t", &defaults).await.expect(200);
}

#[tokio::test]
async fn topics_are_listed_in_pages() {
    let node = Process::start().await;
    let http = node.http();
    for number in 0..25 {
        http.create_topic(&format!("a-{number:02}"), 1).await;
    }
    http.create_topic("b", 2).await;
    http.publish("b", &["x", "y", "z"]).await;
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let page = http.get(&format!("/v1/topics?limit=10&prefix=a-{after}")).await.expect(200).json();
        let topics = page["topics"].as_array().unwrap();
        assert!(topics.len() <= 10);
        names.extend(topics.iter().map(|topic| topic["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(names, (0..25).map(|number| format!("a-{number:02}")).collect::<Vec<_>>());
    let listed = http.get("/v1/topics?after=a-24").await.expect(200).json();
    assert_eq!(listed["next"], json!(null));
    let topic = &listed["topics"][0];
    assert_eq!((topic["name"].as_str(), topic["messages"].as_u64()), (Some("b"), Some(3)));
    assert!(topic["bytes"].as_u64().unwrap() > 0 && topic["settings"]["partitions"] == 2);
}

#[tokio::test]
async fn settings_change_and_partitions_only_grow() {
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 2).await;
    let changed = http.json("PATCH", "/v1/topics/t", &json!({"max_message_bytes": 10})).await.expect(200).json();
    assert_eq!(
        (&changed["settings"]["partitions"], &changed["settings"]["max_message_bytes"]),
        (&json!(2), &json!(10)),
        "only what is named changes"
    );
    let too_large = json!({"messages": [{"value": "more than ten bytes"}]});
    http.json("POST", "/v1/topics/t/messages", &too_large).await.expect_error(413, "message_too_large");
    http.json("PATCH", "/v1/topics/t", &json!({"partitions": 5})).await.expect(200);
    let message = json!({"messages": [{"value": "x", "partition": 4}]});
    assert_eq!(http.json("POST", "/v1/topics/t/messages", &message).await.expect(200).placed(), [(4, 0)]);
    http.json("PATCH", "/v1/topics/t", &json!({"partitions": 4})).await.expect_error(400, "invalid_settings");
    http.json("PATCH", "/v1/topics/nothing", &json!({"partitions": 4})).await.expect_error(404, "topic_not_found");
}

#[tokio::test]
async fn a_deleted_topic_is_gone_and_its_name_is_free_again() {
    let mut node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 1).await;
    http.publish("t", &["old"]).await;
    http.json("PUT", "/v1/topics/t/subscriptions/s", &json!({"kind": "stream"})).await.expect(201);
    http.send(http.request("DELETE", "/v1/topics/t")).await.expect(204);
    http.send(http.request("DELETE", "/v1/topics/t")).await.expect_error(404, "topic_not_found");
    http.get("/v1/topics/t").await.expect_error(404, "topic_not_found");
    http.get("/v1/topics/t/messages").await.expect_error(404, "topic_not_found");

    http.create_topic("t", 1).await;
    assert_eq!(http.read_all("t", 0).await.len(), 0, "a new topic does not show the messages of the old one");
    http.get("/v1/topics/t/subscriptions/s").await.expect_error(404, "subscription_not_found");
    assert_eq!(http.publish("t", &["new"]).await, [(0, 0)]);
    node.kill_9();
    node.restart().await;
    assert_eq!(http.read("t", "").await["messages"][0]["value"], "new");
}
