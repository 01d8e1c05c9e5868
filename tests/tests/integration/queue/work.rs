//! Consumers that compete, through crashes, and the command line.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use brigade_tests::process::Process;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use super::*;

/// What consumers know of each message, by its value.
#[derive(Debug, Default)]
struct Seen {
    delivered: BTreeMap<String, u32>,
    acknowledged: BTreeSet<String>,
    /// Delivered after it was acknowledged.
    wrong: Vec<String>,
}

/// Receives and acknowledges until the queue is empty, whatever happens to the node.
async fn consume(http: Http, seen: Arc<Mutex<Seen>>, messages: usize) {
    let receive = json!({"max_messages": 7, "wait_ms": 200});
    let started = Instant::now();
    while seen.lock().unwrap().acknowledged.len() < messages && started.elapsed() < 4 * PATIENCE {
        // What was acknowledged before the poll was sent must not be in its answer.
        let before = seen.lock().unwrap().acknowledged.clone();
        let polled = http.try_send(http.request("POST", &format!("{PATH}/poll")).json(&receive)).await;
        let Some(polled) = polled.ok().filter(|answer| answer.status == 200) else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let polled = polled.json()["messages"].as_array().unwrap().clone();
        {
            let mut seen = seen.lock().unwrap();
            for value in values(&polled) {
                *seen.delivered.entry(value.to_owned()).or_default() += 1;
                if before.contains(value) {
                    seen.wrong.push(value.to_owned());
                }
            }
        }
        let receipts: Vec<_> = polled.iter().map(|message| &message["receipt"]).collect();
        let body = json!({"receipts": receipts});
        let answer = http.try_send(http.request("POST", &format!("{PATH}/ack")).json(&body)).await;
        let Some(answer) = answer.ok().filter(|answer| answer.status < 500) else { continue };
        let results = answer.json()["results"].clone();
        let done = polled.iter().zip(results.as_array().unwrap()).filter(|(_, result)| {
            // An acknowledgement whose answer got lost shows when its message is tried again.
            result["status"] == "acknowledged" || result["error"]["code"] == "already_settled"
        });
        let done = done.map(|(message, _)| message["value"].as_str().unwrap().to_owned());
        seen.lock().unwrap().acknowledged.extend(done);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_never_comes_again_through_crashes() {
    const MESSAGES: usize = 2_000;
    let mut node = Process::start().await;
    let http = node.http();
    http.create_topic("t", 4).await;
    create(&http, "q", json!({"visibility_timeout_ms": 2_000})).await.expect(201);
    let messages: Vec<_> = (0..MESSAGES).map(|n| json!({"value": n.to_string(), "partition": n % 4})).collect();
    publish(&http, json!(messages)).await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut consumers = JoinSet::new();
    for _ in 0..4 {
        consumers.spawn(consume(node.http(), seen.clone(), MESSAGES));
    }
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..8 {
        sleep(Duration::from_millis(random.random_range(20..300))).await;
        node.kill_9();
        node.restart().await;
    }
    // An acknowledgement whose answer was lost is known to nobody but the queue.
    until(&http, "lag", 0).await;
    consumers.abort_all();
    while consumers.join_next().await.is_some() {}
    assert!(poll(&http, json!({})).await.is_empty());
    let seen = seen.lock().unwrap();
    assert!(seen.wrong.is_empty(), "delivered after they were acknowledged: {:?}", seen.wrong);
    assert_eq!(seen.delivered.len(), MESSAGES, "every message was delivered");
    assert!(!node.log().contains("panicked"));
}

#[tokio::test]
async fn consumers_compete() {
    let (_node, http) = queue(json!({})).await;
    let messages: Vec<_> = (0..100).map(|n| json!({"value": n.to_string()})).collect();
    publish(&http, json!(messages)).await;
    let many = || poll(&http, json!({"max_messages": 10}));
    let (a, b, c, d) = tokio::join!(many(), many(), many(), many());
    let all = [a, b, c, d].concat();
    let distinct: BTreeSet<_> = values(&all).into_iter().collect();
    assert_eq!((all.len(), distinct.len()), (40, 40), "each to one of them");
    assert_eq!(http.get(PATH).await.json()["in_flight"], 40);
    let bytes = poll(&http, json!({"max_messages": 1_000, "max_bytes": 1})).await;
    assert_eq!(bytes.len(), 1, "one message is delivered even if it is larger");
    assert_eq!(poll(&http, json!({"max_messages": 1_000})).await.len(), 59);
}

#[tokio::test]
async fn a_queue_is_used_from_the_command_line() {
    let (node, http) = queue(json!({"max_deliveries": 1})).await;
    let run = async |args: &[&str]| {
        let output = node.cli(args).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["subscription", "create", "t", "cli", "--kind", "queue", "--filter", "h exists", "--ordered"]).await;
    let shown = run(&["subscription", "get", "t", "cli"]).await;
    assert!(shown.contains("filter: h exists") && shown.contains("ordered: true"), "{shown}");
    let shown = run(&["subscription", "update", "t", "cli", "--no-filter", "--ordered=false"]).await;
    assert!(shown.contains("filter: none") && shown.contains("ordered: false"), "{shown}");
    run(&["publish", "t", "a", "b", "c", "d"]).await;
    assert_eq!(run(&["poll", "t", "cli", "--ack", "--max", "3"]).await, "a\nb\nc\n");
    assert_eq!(run(&["poll", "t", "cli", "--ack"]).await, "d\n");
    assert_eq!(run(&["poll", "t", "cli", "--ack"]).await, "");
    let list = run(&["subscription", "list", "t"]).await;
    assert!(list.contains("cli") && list.contains("queue"), "{list}");

    let polled = run(&["poll", "t", "q", "--output", "json"]).await;
    let file = node.scratch().join("polled.jsonl");
    let lines: Vec<_> = polled.lines().collect();
    std::fs::write(&file, lines[..3].join("\n")).unwrap();
    let receipt = serde_json::from_str::<Value>(lines[3]).unwrap()["receipt"].as_str().unwrap().to_owned();
    let output = node.cli_with(&["ack", "t", "q"], Some(file)).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "acknowledged: 3\n");
    let extended = run(&["extend", "t", "q", &receipt, "--visibility-ms", "60000"]).await;
    run(&["reject", "t", "q", extended.trim()]).await;
    assert_eq!(node.cli(&["ack", "t", "q", &receipt]).await.status.code(), Some(4));
    let letters = run(&["dead-letters", "list", "t", "q"]).await;
    assert!(letters.contains("rejected") && letters.lines().count() == 2, "{letters}");
    assert_eq!(run(&["dead-letters", "redrive", "t", "q"]).await, "redriven: 1\n");
    assert_eq!(run(&["dead-letters", "purge", "t", "q"]).await, "purged: 0\n");
    assert_eq!(run(&["poll", "t", "q", "--ack", "--wait", "10000"]).await, "d\n");
    run(&["subscription", "seek", "t", "q", "--to", "earliest"]).await;
    assert_eq!(http.get(PATH).await.json()["lag"], 4);
    run(&["subscription", "delete", "t", "q"]).await;
    assert_eq!(node.cli(&["poll", "t", "q"]).await.status.code(), Some(3));
}
