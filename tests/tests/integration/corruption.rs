//! Damaged objects: reported with their key, never shown as data, and no harm to anything else.

use std::{
    fs,
    path::{Path, PathBuf},
};

use brigade_tests::process::{Options, Process};
use serde_json::json;

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

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// The object that holds `text`, its key, and where in it the text is.
fn object_with(node: &Process, text: &str) -> (PathBuf, String, usize) {
    let holds = |file: PathBuf| Some((find(&fs::read(&file).unwrap(), text.as_bytes())?, file));
    let mut found: Vec<_> = files(node.data()).into_iter().filter_map(holds).collect();
    assert_eq!(found.len(), 1, "{text} is in one object");
    let (at, file) = found.remove(0);
    let key = file.strip_prefix(node.data()).unwrap().to_str().unwrap().to_owned();
    (file, key, at)
}

/// A node that has been killed after it stored one message in each of the topics `bad` and `good`, and something behind
/// them, so that both are settled. Nothing is compressed, so that messages can be found in the files.
async fn stopped_node() -> Process {
    let config = "[read]\ncache_mib = 1\n".to_owned();
    let mut node = Process::start_with(Options { config, ..Options::default() }).await;
    let http = node.http();
    for topic in ["bad", "good"] {
        http.json("PUT", &format!("/v1/topics/{topic}"), &json!({"compression": "none"})).await.expect(201);
        http.publish(topic, &[format!("{topic} message {}", "x".repeat(20_000))]).await;
    }
    for _ in 0..3 {
        http.publish("good", &["behind"]).await;
    }
    node.kill_9();
    node
}

async fn reports(node: &Process, key: &str) {
    let http = node.http();
    for accept in ["application/json", "application/x-ndjson", "application/vnd.apache.arrow.stream"] {
        let answer = http.send(http.request("GET", "/v1/topics/bad/messages").header("accept", accept)).await;
        let answer = answer.expect_error(500, "object_damaged");
        assert!(answer.text().contains(key), "{key} is not in {}", answer.text());
    }
    assert_eq!(http.read_all("good", 0).await.len(), 4);
    http.publish("bad", &["more"]).await;
    assert_eq!(http.read("bad", "offset=1").await["messages"][0]["value"], "more", "what lies behind can be read");
    http.get("/readyz").await.expect(200);
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

#[tokio::test]
async fn a_flipped_bit_in_a_message_is_reported() {
    for running in [true, false] {
        let mut node = stopped_node().await;
        let (file, key, at) = object_with(&node, "bad message");
        if running {
            node.restart().await;
        }
        let mut bytes = fs::read(&file).unwrap();
        bytes[at + 5_000] ^= 0x10;
        fs::write(&file, bytes).unwrap();
        if !running {
            node.restart().await;
        }
        reports(&node, &key).await;
    }
}

#[tokio::test]
async fn a_truncated_or_missing_object_is_reported() {
    for missing in [false, true] {
        let mut node = stopped_node().await;
        let (file, key, at) = object_with(&node, "bad message");
        node.restart().await;
        if missing {
            fs::remove_file(&file).unwrap();
        } else {
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, &bytes[..at + 5_000]).unwrap();
        }
        reports(&node, &key).await;
    }
}

#[tokio::test]
async fn damage_to_what_a_node_needs_to_start_is_reported_and_nothing_is_made_up() {
    let node = stopped_node().await;
    let (file, key, _) = object_with(&node, "bad message");
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[40] ^= 1;
    let damages = [flipped, whole[..30].to_vec(), Vec::new(), vec![0; whole.len()]];
    for damaged in damages {
        fs::write(&file, &damaged).unwrap();
        let mut start = node.rival();
        start.spawn();
        let status = start.wait().await;
        assert!(!status.success());
        assert!(start.log().contains(&key) && !start.log().contains("panicked"), "{}", start.log());
    }
    fs::write(&file, whole).unwrap();
    let mut start = node.rival();
    start.restart().await;
    assert_eq!(start.http().read_all("bad", 0).await.len(), 1, "put right, it starts");
}
