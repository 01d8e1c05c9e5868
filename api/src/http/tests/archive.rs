//! Retention and archive files of topics.

use brigade_index::{
    archive::{ArchiveFile, SetHash},
    batch::AttributeSet,
    command::{Archived, Claim, ClaimPart, Command, Outcome, Replace, Retention, Trim},
    ids::{FileId, Offset, Partition, RegionNo, TopicId},
};

use super::*;
use crate::serve::Leading;

async fn propose(leading: &Leading, command: Command) -> Outcome {
    leading.shard.propose(vec![command]).await.unwrap().outcomes.remove(0).unwrap()
}

/// Puts a file, which nobody has written, in the place of messages.
async fn archive(leading: &Leading, partition: u32, first: u64, end: u64) {
    let topic = TopicId(1);
    let part = ClaimPart { topic, partition: Partition(partition), first: Offset(first), end: Offset(end) };
    let claim = Claim { owner: leading.shard.ballot(), parts: vec![part] };
    let Outcome::Claimed(ids) = propose(leading, Command::Claim(claim)).await else { panic!("not claimed") };
    let file = ArchiveFile {
        id: ids[0],
        first: part.first,
        end: part.end,
        rows: end - first,
        bytes: 1_000,
        payload_bytes: 10,
        crc: 7,
        set_hash: SetHash(9),
        min_timestamp_ms: 5,
        max_timestamp_ms: 6,
        attributes: AttributeSet::default(),
        oldest_tombstone_ms: None,
        merges: 0,
        compacted: false,
        regions: vec![RegionNo(0), RegionNo(3)],
    };
    let parts = vec![Archived { id: FileId(ids[0].0), file: Some(file), compacted: None }];
    propose(leading, Command::Replace(Replace { parts })).await;
}

async fn patch(router: &Router, body: &str) -> Answer {
    call(router, Method::PATCH, "/v1/topics/t", body.to_owned()).await
}

#[tokio::test]
async fn retention_is_set_and_taken_back() {
    let router = router(node().await);
    let given = json!({"retention_ms": 1000, "retention_bytes": 5000, "delete_after_ack": true, "key_compaction": true,
        "compaction_lag_ms": 7, "tombstone_retention_ms": 0});
    let created = put(&router, "/v1/topics/t", &given).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let settings = created.json()["settings"].clone();
    for (name, value) in given.as_object().unwrap() {
        assert_eq!(&settings[name], value, "{name}");
    }
    assert_eq!(put(&router, "/v1/topics/t", &settings).await.status, StatusCode::OK, "what is shown can be given");
    assert_eq!(
        put(&router, "/v1/topics/t", r#"{"retention_ms":1000}"#).await.error(),
        (409, "topic_exists".to_owned())
    );
    let settings = patch(&router, r#"{"retention_ms":null,"delete_after_ack":false}"#).await.json()["settings"].clone();
    assert_eq!((&settings["retention_ms"], &settings["retention_bytes"]), (&Value::Null, &json!(5000)));
    assert_eq!((&settings["delete_after_ack"], &settings["key_compaction"]), (&json!(false), &json!(true)));
    let settings = patch(&router, r#"{"retention_bytes":null}"#).await.json()["settings"].clone();
    assert_eq!((&settings["retention_bytes"], &settings["compaction_lag_ms"]), (&Value::Null, &json!(7)));
    assert_eq!(put(&router, "/v1/topics/t", &settings).await.status, StatusCode::OK, "null can be given again");
    for (body, code, said) in [
        (r#"{"retention_ms":0}"#, "invalid_settings", "null keeps messages for ever"),
        (r#"{"retention_bytes":0}"#, "invalid_settings", "retention_bytes is 0"),
        (r#"{"retention_ms":3153600000001}"#, "invalid_settings", "retention_ms must be at most 3153600000000"),
        (r#"{"tombstone_retention_ms":3153600000001}"#, "invalid_settings", "tombstone_retention_ms must"),
        (r#"{"retention_bytes":9223372036854775808}"#, "invalid_settings", "retention_bytes"),
        (r#"{"retention_ms":-1}"#, "invalid_json", "-1"),
        (r#"{"retention_ms":"7d"}"#, "invalid_json", "7d"),
        (r#"{"retention":1}"#, "invalid_json", "retention"),
    ] {
        let refused = patch(&router, body).await;
        assert_eq!(refused.error(), (400, code.to_owned()), "{body}");
        assert!(refused.json()["error"]["message"].as_str().unwrap().contains(said), "{}", refused.json());
    }
}

#[tokio::test]
async fn a_run_of_the_compactor_is_of_what_its_body_names() {
    let router = router(node().await);
    let run = "/v1/compactor/run";
    for (query, body, status, code) in [
        ("", r#"{"topic":"nope"}"#, 404, "topic_not_found"),
        ("?topic=nope", "", 404, "topic_not_found"),
        ("", r#"{"topic":"/"}"#, 400, "invalid_name"),
        ("", "{bad", 400, "invalid_json"),
        ("", r#"{"topics":["t"]}"#, 400, "invalid_json"),
        ("?topic=a", r#"{"topic":"b"}"#, 400, "invalid_parameter"),
        ("?run=1", r#"{"topic":"b"}"#, 400, "invalid_parameter"),
    ] {
        let refused = call(&router, Method::POST, &format!("{run}{query}"), body.to_owned()).await;
        assert_eq!(refused.error(), (status, code.to_owned()), "{query} {body}");
    }
}

#[tokio::test]
async fn files_are_listed_in_pages_and_counted() {
    let node = node().await;
    let leading = node.seat.lead().unwrap();
    let router = router(node);
    put(&router, "/v1/topics/t", r#"{"partitions":2}"#).await;
    for partition in [0, 0, 0, 1] {
        let message =
            json!({"messages": [{"value": "a", "partition": partition}, {"value": "b", "partition": partition}]});
        assert_eq!(post(&router, "/v1/topics/t/messages", message).await.status, StatusCode::OK);
    }
    let stored = |topic: &Value| topic["partitions"][0]["stored_bytes"].as_u64().unwrap();
    let before = get(&router, "/v1/topics/t").await.json();
    for (partition, first, end) in [(0, 0, 2), (0, 2, 4), (1, 0, 2)] {
        archive(&leading, partition, first, end).await;
    }
    let topic = get(&router, "/v1/topics/t").await.json();
    let shown = &topic["partitions"][0];
    let wanted = json!([0, 4, 6, 6, 2, 2_000]);
    let fields = ["log_start", "archived_end", "high_watermark", "messages", "files", "archived_bytes"];
    assert_eq!(Value::from_iter(fields.map(|field| shown[field].clone())), wanted);
    assert_eq!(stored(&topic), 2_000 + stored(&before) / 3);

    let files = "/v1/topics/t/files";
    let all = get(&router, files).await.json();
    let first = json!({"partition": 0, "id": 1, "first_offset": 0, "end_offset": 2, "messages": 2, "bytes": 1000,
        "payload_bytes": 10, "key": "archive/t/1/00000/00000000000000000000-000000000001.parquet", "min_timestamp": 5,
        "max_timestamp": 6, "regions": ["local"], "compacted": false, "merges": 0});
    assert_eq!((&all["files"][0], &all["next"]), (&first, &Value::Null));
    let ids = |page: &Value| {
        page["files"].as_array().unwrap().iter().map(|file| file["id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&all), [1, 2, 3]);
    let (mut after, mut found) = (String::new(), Vec::new());
    loop {
        let page = get(&router, &format!("{files}?limit=1{after}")).await.json();
        found.extend(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(found, [1, 2, 3]);
    assert_eq!(ids(&get(&router, &format!("{files}?partition=0&after=0:0")).await.json()), [2]);
    assert_eq!(ids(&get(&router, &format!("{files}?partition=1")).await.json()), [3]);
    for query in ["after=1", "after=0:x", "limit=0", "limit=1001", "partition=x", "topic=t"] {
        assert_eq!(
            get(&router, &format!("{files}?{query}")).await.error(),
            (400, "invalid_parameter".to_owned()),
            "{query}"
        );
    }
    assert_eq!(get(&router, &format!("{files}?partition=2")).await.error().1, "partition_not_found");
    assert_eq!(get(&router, "/v1/topics/u/files").await.error(), (404, "topic_not_found".to_owned()));
}

#[tokio::test]
async fn what_retention_drops_is_no_lag() {
    let node = node().await;
    let leading = node.seat.lead().unwrap();
    let router = router(node);
    put(&router, "/v1/topics/t", "").await;
    for (name, body) in [("s", "{}"), ("q", r#"{"kind":"queue"}"#)] {
        let path = format!("/v1/topics/t/subscriptions/{name}");
        assert_eq!(put(&router, &path, body).await.status, StatusCode::CREATED);
    }
    let messages = json!({"messages": (0..5).map(|value| json!({"value": value})).collect::<Vec<_>>()});
    post(&router, "/v1/topics/t/messages", messages).await;
    let retention = Retention::default();
    let trim = Trim { topic: TopicId(1), partition: Partition(0), to: Offset(3), acknowledged: false, retention };
    assert_eq!(propose(&leading, Command::Trim(trim)).await, Outcome::Trimmed(Offset(3)));
    let topic = get(&router, "/v1/topics/t").await.json();
    assert_eq!((&topic["partitions"][0]["log_start"], &topic["partitions"][0]["messages"]), (&json!(3), &json!(2)));
    for name in ["s", "q"] {
        let shown = get(&router, &format!("/v1/topics/t/subscriptions/{name}")).await.json();
        assert_eq!(shown["lag"], 2, "{shown}");
    }
    // Who read before that commits what it read: nothing moves back, and nothing is wrong.
    let commit = "/v1/topics/t/subscriptions/s/commit";
    let committed = post(&router, commit, r#"{"positions":[{"partition":0,"offset":1}]}"#).await;
    assert_eq!((committed.status, &committed.json()["positions"][0]["offset"]), (StatusCode::OK, &json!(3)));
    let read_on =
        post(&router, "/v1/topics/t/subscriptions/s/poll", r#"{"positions":[{"partition":0,"offset":1}]}"#).await;
    assert_eq!((read_on.status, &read_on.json()["messages"][0]["offset"]), (StatusCode::OK, &json!(3)));
    let late = put(&router, "/v1/topics/t/subscriptions/late", "{}").await;
    assert_eq!((late.status, &late.json()["lag"]), (StatusCode::CREATED, &json!(2)));
    let seek = r#"{"seek":{"positions":[{"partition":0,"offset":2}]}}"#;
    let refused = call(&router, Method::PATCH, "/v1/topics/t/subscriptions/s", seek).await;
    assert_eq!(refused.error(), (400, "invalid_position".to_owned()));
}
