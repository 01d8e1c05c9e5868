//! `brigade scrub` and `brigade restore` with real processes and directories.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use brigade_tests::process::{Options, Process};
use serde_json::{Value, json};

/// Files under a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.append(&mut files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// The objects of a region that hold `text`.
fn holding(region: &Path, text: &str) -> Vec<PathBuf> {
    let holds = |file: &PathBuf| {
        let bytes = fs::read(file).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    files(region).into_iter().filter(holds).collect()
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr));
    })
}

/// Findings that are more than worth knowing: code and region.
fn findings(report: &Value) -> Vec<(String, String)> {
    let open = report["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] != "info");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    open.map(|finding| (text(&finding["code"]), text(&finding["region"]))).collect()
}

async fn scrub(node: &Process, further: &[&str]) -> Output {
    let data = node.data().to_str().unwrap().to_owned();
    let mut args = vec!["scrub", "--data", &data, "--output", "json"];
    args.extend(further);
    node.cli(&args).await
}

/// Flips a bit where a file has this text.
fn flip(file: &Path, text: &str) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// A node with three local regions and messages that are not compressed, so that they can be found in the files.
async fn three_regions() -> Process {
    let args = vec!["--dev-regions".to_owned(), "3".to_owned()];
    let node = Process::start_with(Options { args, ..Options::default() }).await;
    let body = json!({"partitions": 2, "compression": "none"});
    node.http().json("PUT", "/v1/topics/orders", &body).await.expect(201);
    for number in 0..20 {
        node.http().publish("orders", &[format!("message-{number:03}-of-the-topic")]).await;
    }
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_on_disk_is_found_beside_a_server_and_repaired() {
    let mut node = three_regions().await;
    let dev = ["--dev-regions", "3"];
    let clean = scrub(&node, &dev).await;
    assert!(clean.status.success(), "{}", String::from_utf8_lossy(&clean.stdout));
    let region = node.data().join("region-2");
    flip(&holding(&region, "message-003-of-the-topic")[0], "message-003-of-the-topic");
    let resume = node.scratch().join("scrub.json");
    let resume = ["--dev-regions", "3", "--resume", resume.to_str().unwrap()];
    let found = scrub(&node, &resume).await;
    assert_eq!(found.status.code(), Some(1));
    assert_eq!(findings(&report(&found)), [("corrupt_object".to_owned(), "region-2".to_owned())]);
    let repair = scrub(&node, &[&resume[..], &["--repair"]].concat()).await;
    assert!(repair.status.success(), "{}", String::from_utf8_lossy(&repair.stdout));
    assert_eq!(holding(&region, "message-003-of-the-topic").len(), 1, "it is as it was");
    let again = scrub(&node, &resume).await;
    assert!(again.status.success() && findings(&report(&again)).is_empty());
    // The server has noticed nothing.
    node.http().publish("orders", &["one more"]).await;
    let total = node.http().read_all("orders", 0).await.len() + node.http().read_all("orders", 1).await.len();
    assert_eq!(total, 21);
    node.terminate().await;
    let stopped = report(&scrub(&node, &dev).await);
    let messages: u64 = stopped["partitions"].as_array().unwrap().iter().map(|p| p["messages"].as_u64().unwrap()).sum();
    assert_eq!((messages, stopped["clean"].as_bool()), (21, Some(true)), "{stopped:#}");
    fs::write(region.join("notes.txt"), "not Brigade's").unwrap();
    let foreign = scrub(&node, &[&dev[..], &["--repair"]].concat()).await;
    assert_eq!(findings(&report(&foreign)), [("foreign_object".to_owned(), "region-2".to_owned())]);
    assert!(region.join("notes.txt").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_restored_from_one_region_and_served() {
    let mut node = three_regions().await;
    let http = node.http();
    let body = json!({"kind": "queue"});
    http.json("PUT", "/v1/topics/orders/subscriptions/workers", &body).await.expect(201);
    let poll = json!({"max_messages": 5, "wait_ms": 1_000});
    let got = http.json("POST", "/v1/topics/orders/subscriptions/workers/poll", &poll).await.expect(200).json();
    let receipts: Vec<_> = got["messages"].as_array().unwrap().iter().map(|m| m["receipt"].clone()).collect();
    let settled = receipts.len();
    http.json("POST", "/v1/topics/orders/subscriptions/workers/ack", &json!({"receipts": receipts})).await.expect(200);
    let before = [http.read_all("orders", 0).await, http.read_all("orders", 1).await];
    node.terminate().await;
    let from = format!("file://{}", node.data().join("region-3").display());
    let target = node.scratch().join("restored");
    let to = format!("local=file://{}", target.display());
    let args = ["restore", "--from", &from, "--to", &to, "--output", "json"];
    let restored = node.cli(&args).await;
    let told = report(&restored);
    assert!(restored.status.success(), "{told:#}");
    let messages: u64 = told["partitions"].as_array().unwrap().iter().map(|p| p["messages"].as_u64().unwrap()).sum();
    assert_eq!(messages, 20);
    let twice = node.cli(&args).await;
    assert_eq!(twice.status.code(), Some(4), "it is no empty directory any more");
    let new = Process::start_with(Options { region: Some(to.clone()), ..Options::default() }).await;
    let http = new.http();
    assert_eq!([http.read_all("orders", 0).await, http.read_all("orders", 1).await], before);
    let all = json!({"max_messages": 100, "wait_ms": 1_000});
    let rest = http.json("POST", "/v1/topics/orders/subscriptions/workers/poll", &all).await.expect(200).json();
    assert_eq!(rest["messages"].as_array().unwrap().len(), 20 - settled, "what was settled stays so");
    http.publish("orders", &["after"]).await;
    let scrubbed = new.cli(&["scrub", "--region", &to, "--output", "json"]).await;
    assert!(scrubbed.status.success(), "{}", String::from_utf8_lossy(&scrubbed.stdout));
}
