//! The archive from outside: messages leave the journal, and are read like before.

use std::{collections::BTreeSet, path::Path};

use brigade_tests::{
    http::Http,
    process::{Options, Process},
};
use serde_json::{Value, json};

/// Files below a directory.
fn files(directory: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return BTreeSet::new() };
    let mut found = BTreeSet::new();
    for entry in entries.map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => _ = found.insert(entry.path().display().to_string()),
        }
    }
    found
}

async fn run(http: &Http, query: &str) -> Value {
    let ran = http.json("POST", &format!("/v1/compactor/run{query}"), &json!({})).await.expect(200).json();
    assert_eq!((&ran["done"], &ran["problems"]), (&json!(true), &json!([])), "{ran}");
    ran
}

/// Messages without the fields that a test does not look at.
async fn all(http: &Http, topic: &str, partitions: u64) -> Vec<Vec<Value>> {
    let mut all = Vec::new();
    for partition in 0..partitions {
        all.push(http.read_all(topic, partition).await);
    }
    all
}

#[tokio::test]
async fn what_is_archived_is_read_like_before_and_leaves_the_journal() {
    let mut node = Process::start().await;
    let http = node.http();
    http.create_topic("orders", 3).await;
    http.create_topic("other", 1).await;
    for round in 0..200 {
        let messages: Vec<_> = (0..5)
            .map(|n| {
                let value = json!({"round": round, "number": n, "text": "x".repeat(200)});
                json!({"key": format!("k{n}"), "partition": n % 3, "value": value, "headers": {"trace": format!("{round}-{n}")}})
            })
            .collect();
        http.json("POST", "/v1/topics/orders/messages", &json!({"messages": messages})).await.expect(200);
    }
    http.publish("other", &["one", "two"]).await;
    let before = (all(&http, "orders", 3).await, all(&http, "other", 1).await);
    assert_eq!(before.0.iter().map(Vec::len).sum::<usize>(), 1_000);
    let journal = node.data().join("journal");
    let entries = files(&journal).len();
    assert!(entries > 200, "{entries}");

    let only = run(&http, "?topic=other").await;
    assert_eq!(only["archived"], json!(1));
    assert_eq!(http.get("/v1/compactor").await.expect(200).json()["backlog"]["runs"], json!(600));
    let ran = run(&http, "").await;
    assert_eq!(ran["archived"], json!(1));
    assert!(ran["deleted_objects"].as_u64().unwrap() > 200, "{ran}");
    let status = http.get("/v1/compactor").await.expect(200).json();
    let waits = json!({"bytes": 0, "runs": 0, "claims": 0, "garbage": 0, "garbage_bytes": 0});
    assert_eq!((&status["backlog"], &status["job"], &status["last_error"]), (&waits, &json!(null), &json!(null)));
    assert_eq!(status["write_amplification"], json!(1.0));
    let left = files(&journal);
    assert!(left.len() < 30, "{left:?}");
    let parquet = files(&node.data().join("archive")).into_iter().filter(|file| file.ends_with(".parquet")).count();
    assert_eq!(parquet, 4, "one for each partition");
    assert_eq!((all(&http, "orders", 3).await, all(&http, "other", 1).await), before);

    node.kill_9();
    node.restart().await;
    let http = node.http();
    assert_eq!((all(&http, "orders", 3).await, all(&http, "other", 1).await), before);
    http.publish("orders", &["new"]).await;
    let again = run(&http, "").await;
    assert_eq!((&again["archived"], &again["merged"]), (&json!(1), &json!(0)));
    assert!(http.metric("brigade_compactor_jobs_total", &["kind=\"archive\"", "outcome=\"done\""]).await > 0.0);
    assert!(http.metric("brigade_compactor_written_bytes_total", &["kind=\"archive\""]).await > 0.0);
    assert_eq!(all(&http, "orders", 3).await.iter().map(Vec::len).sum::<usize>(), 1_001);
}

#[tokio::test]
async fn the_command_line_shows_the_compactor_and_has_it_run() {
    let node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 1).await;
    http.publish("t", &["a", "b"]).await;
    let text = |output: std::process::Output| {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let ran: Value = serde_json::from_str(&text(node.cli(&["compactor", "run", "--output", "json"]).await)).unwrap();
    assert_eq!((&ran["archived"], &ran["done"]), (&json!(1), &json!(true)));
    let table = text(node.cli(&["compactor", "run", "--topic", "t"]).await);
    assert!(table.contains("archive jobs"), "{table}");
    let status = text(node.cli(&["compactor"]).await);
    for line in ["under way: nothing", "write amplification: 1.00", "claims: 0"] {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
    let missing = node.cli(&["compactor", "run", "--topic", "nope"]).await;
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
    http.json("POST", "/v1/compactor/run?run=77", &json!({})).await.expect_error(404, "run_not_found");
    http.json("POST", "/v1/compactor/run?when=now", &json!({})).await.expect_error(400, "invalid_parameter");
}

#[tokio::test]
async fn switched_off_it_archives_nothing() {
    let options = Options { env: vec![("BRIGADE_COMPACT_ENABLED".into(), "false".into())], ..Options::default() };
    let node = Process::start_with(options).await;
    let http = node.http();
    http.create_topic("t", 1).await;
    http.publish("t", &["a"]).await;
    http.json("POST", "/v1/compactor/run", &json!({})).await.expect_error(409, "compactor_disabled");
    assert_eq!(http.get("/v1/compactor").await.expect(200).json()["enabled"], json!(false));
}
