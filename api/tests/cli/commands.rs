//! The binary: what it prints, what it stores, how it exits.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::mock::{Fault, Mock};

/// Runs the binary with `input` on standard input.
pub(crate) async fn brigade(mock: &Mock, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brigade"));
    command.args(arguments).env("BRIGADE_SERVER", &mock.url).env_remove("BRIGADE_OUTPUT");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let run = move || {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        // A command that does not read its input has closed it.
        let _ = feeder.join().unwrap();
        output
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn done(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_go_in_and_come_out_the_same() {
    let mock = Mock::start().await;
    let lines: String = (0..5_000).map(|n| format!("{{\"n\":{n},\"text\":\"tab\\t \u{e9}\"}}\n")).collect();
    mock.fail(&[Fault::Cut, Fault::Busy, Fault::Unknown]);
    let arguments = ["publish", "t", "--in-order", "--batch-messages", "700", "--output", "json"];
    let summary: Value = serde_json::from_str(&done(brigade(&mock, &arguments, &lines).await)).unwrap();
    assert_eq!((&summary["messages"], &summary["bytes"]), (&json!(5_000), &json!(lines.len())));
    assert_eq!(summary["retries"], 3);
    let read = ["read", "t", "--partition", "0", "--page-messages", "999"];
    assert_eq!(done(brigade(&mock, &read, "").await), lines);
    let mut some = read.to_vec();
    some.extend(["--offset", "10", "--max", "3"]);
    assert_eq!(done(brigade(&mock, &some, "").await).lines().count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_files_and_message_objects_are_published() {
    let mock = Mock::start().await;
    let table = done(brigade(&mock, &["publish", "t", "a", "b", "--partition", "1", "--key", "k"], "").await);
    assert!(table.contains("PARTITION") && table.lines().count() == 3, "{table}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "{\"value\":{\"x\":1},\"partition\":0}\n\n{\"value\":\"last\",\"partition\":1}").unwrap();
    let arguments = ["publish", "t", "--ndjson", "--file", file.path().to_str().unwrap()];
    assert!(done(brigade(&mock, &arguments, "").await).starts_with("published 2 messages"));
    assert_eq!(mock.values(), [json!({"x": 1}), json!("a"), json!("b"), json!("last")]);
    assert_eq!(done(brigade(&mock, &["read", "t"], "").await), "{\"x\":1}\na\nb\nlast\n");
    let objects = done(brigade(&mock, &["read", "t", "--output", "json", "--partition", "1"], "").await);
    assert_eq!(serde_json::from_str::<Value>(objects.lines().next().unwrap()).unwrap()["key"], "k");
    let table = done(brigade(&mock, &["read", "t", "--output", "table"], "").await);
    assert!(table.starts_with("PARTITION") || table.contains("OFFSET"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_the_middle_says_which_lines() {
    let mock = Mock::start().await;
    let input = "a\nb\nc\nd\n";
    done(brigade(&mock, &["publish", "t", "zero"], "").await);
    mock.fail(&[Fault::Unknown, Fault::Unknown, Fault::Invalid]);
    let output = brigade(&mock, &["publish", "t", "--in-order", "--batch-messages", "2"], input).await;
    assert_eq!(output.status.code(), Some(4));
    let errors = text(&output.stderr);
    assert!(errors.contains("input lines 1 to 2 were not acknowledged"), "{errors}");
    assert!(errors.contains("invalid_json") && errors.contains("hint: look at the mock"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn poll_commits_what_it_printed() {
    let mock = Mock::start().await;
    done(brigade(&mock, &["publish", "t", "a", "b", "c"], "").await);
    let poll = ["poll", "t", "s", "--create", "--batch", "2"];
    assert_eq!(done(brigade(&mock, &poll, "").await), "a\nb\nc\n");
    assert!(mock.stored.lock().unwrap().committed.is_empty());
    let commit = ["poll", "t", "s", "--commit", "--max", "2"];
    assert_eq!(done(brigade(&mock, &commit, "").await), "a\nb\n");
    assert_eq!(mock.stored.lock().unwrap().committed[&0], 2);
    assert_eq!(done(brigade(&mock, &commit, "").await), "c\n");
    assert_eq!(done(brigade(&mock, &commit, "").await), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_polled_and_acknowledged() {
    let mock = Mock::start().await;
    done(brigade(&mock, &["publish", "t", "a", "b", "c"], "").await);
    let table = done(brigade(&mock, &["poll", "t", "q", "--max", "1"], "").await);
    assert!(table.contains("RECEIPT") && table.contains("  r0  ") && table.lines().count() == 2, "{table}");
    assert!(mock.stored.lock().unwrap().settled.is_empty());
    let json = done(brigade(&mock, &["poll", "t", "q", "--max", "1", "--output", "json"], "").await);
    assert_eq!(done(brigade(&mock, &["poll", "t", "q", "--ack", "--visibility", "5"], "").await), "c\n");
    assert_eq!(done(brigade(&mock, &["ack", "t", "q"], &json).await), "acknowledged: 1\n");
    let nack = ["nack", "t", "q", "r0", "--delay-ms", "7"];
    assert_eq!(done(brigade(&mock, &nack, "").await), "given back: 1\n");
    let extend = ["extend", "t", "q", "r0", "--visibility-ms", "9"];
    assert_eq!(done(brigade(&mock, &extend, "").await), "new\n");
    let settled = std::mem::take(&mut mock.stored.lock().unwrap().settled);
    let wanted = [
        ("ack", json!({"receipts": ["r2"]})),
        ("ack", json!({"receipts": ["r1"]})),
        ("nack", json!({"receipts": ["r0"], "delay_ms": 7})),
        ("extend", json!({"receipts": ["r0"], "visibility_timeout_ms": 9})),
    ];
    assert_eq!(settled, wanted.map(|(action, body)| (action.to_owned(), body)));
    for (receipts, says) in [(&["x"][..], "1 of 1 receipts"), (&["r1", "x", "y"], "2 of 3 receipts")] {
        let refused = brigade(&mock, &[&["reject", "t", "q"], receipts].concat(), "").await;
        assert_eq!(refused.status.code(), Some(4));
        assert!(text(&refused.stderr).contains(says), "{refused:?}");
    }
    assert_eq!(brigade(&mock, &["poll", "t", "q", "--commit"], "").await.status.code(), Some(2));
    assert_eq!(brigade(&mock, &["poll", "t", "s", "--ack"], "").await.status.code(), Some(2));
    assert_eq!(brigade(&mock, &["poll", "t", "nowhere"], "").await.status.code(), Some(3));
    let shown = done(brigade(&mock, &["subscription", "get", "t", "q"], "").await);
    assert!(shown.starts_with("queue q: lag 3, in flight 1") && shown.contains("1,234"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_are_listed_and_changed() {
    let mock = Mock::start().await;
    let table = done(brigade(&mock, &["region", "list"], "").await);
    for text in ["REGION", "in_sync", "1,234", "2.00 KiB", "1.5", "s3://a", "region a: it was away", "quorum: 1 of a"] {
        assert!(table.contains(text), "{text} is not in\n{table}");
    }
    let table = done(brigade(&mock, &["region", "add", "b=s3://b", "c=s3://c"], "").await);
    assert!(table.contains("quorum: 2 of a, b, c") && !table.contains("under way"), "{table}");
    let wanted = mock.stored.lock().unwrap().regions.clone();
    assert_eq!(wanted[1..], [json!({"name": "b", "url": "s3://b"}), json!({"name": "c", "url": "s3://c"})]);
    let begun = done(brigade(&mock, &["region", "replace", "b", "d=s3://d", "--no-wait"], "").await);
    assert!(begun.starts_with("begun: adding regions"), "{begun}");
    let list: Value =
        serde_json::from_str(&done(brigade(&mock, &["region", "list", "--output", "json"], "").await)).unwrap();
    assert_eq!((&list["voters"], &list["change"]), (&json!(["a", "d", "c"]), &json!("adding regions")));
    let refused = brigade(&mock, &["region", "remove", "d"], "").await;
    assert_eq!(refused.status.code(), Some(4));
    assert!(text(&refused.stderr).contains("2 regions are given; give 1, 3 or 5"), "{refused:?}");
    assert_eq!(brigade(&mock, &["region", "add", "e"], "").await.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_listed() {
    let mock = Mock::start().await;
    let table = done(brigade(&mock, &["shard", "list"], "").await);
    for text in ["LEADER", "n1", "1s70ms", "UNDER-REPLICATED", "behind", "300"] {
        assert!(table.contains(text), "{text} is not in\n{table}");
    }
    let list: Value =
        serde_json::from_str(&done(brigade(&mock, &["shard", "list", "--output", "json"], "").await)).unwrap();
    assert_eq!(list["shards"][0]["partitions"]["under_replicated"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes() {
    let mock = Mock::start().await;
    let code = async |arguments: &[&str]| brigade(&mock, arguments, "").await.status.code().unwrap();
    assert_eq!(code(&["topic", "describe", "t"]).await, 0);
    assert_eq!(code(&["topic", "describe", "nowhere"]).await, 3);
    assert_eq!(code(&["topic", "alter", "t"]).await, 2);
    assert_eq!(code(&["publish", "t", "--file", "/no/such/file"]).await, 3);
    assert_eq!(code(&["publish", "nowhere", "x"]).await, 3);
    assert_eq!(code(&["read", "t", "--partition", "0", "--offset", "9"]).await, 4);
    assert_eq!(code(&["status"]).await, 5);
    assert_eq!(code(&["status", "--server", "http://127.0.0.1:1"]).await, 5);
    assert_eq!(code(&["status", "--server", "gopher://x"]).await, 2);
    assert_eq!(code(&["no-such-command"]).await, 2);
    let output = brigade(&mock, &["topic", "describe", "nowhere", "--output", "json"], "").await;
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["code"], "topic_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_is_no_error() {
    let mock = Mock::start().await;
    let lines: String = (0..20_000).map(|n| format!("message number {n}\n")).collect();
    done(brigade(&mock, &["publish", "t"], &lines).await);
    let url = mock.url.clone();
    let run = move || {
        let mut child = Command::new(env!("CARGO_BIN_EXE_brigade"))
            .args(["read", "t", "--server", &url])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        child.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_measures_and_reports() {
    let mock = Mock::start().await;
    let dir = tempfile::tempdir().unwrap();
    let arguments = [
        "bench",
        "all",
        "--seconds",
        "1",
        "--warmup-seconds",
        "0",
        "--connections",
        "2",
        "--single-connections",
        "3",
        "--messages-per-request",
        "10",
        "--message-bytes",
        "600",
        "--rounds",
        "5",
        "--output",
        "json",
        "--bare-dir",
        dir.path().to_str().unwrap(),
    ];
    let report: Value = serde_json::from_str(&done(brigade(&mock, &arguments, "").await)).unwrap();
    let scenarios = report["scenarios"].as_array().unwrap();
    assert_eq!(scenarios.len(), 3);
    for scenario in scenarios {
        assert!(scenario["messages_per_second"].as_f64().unwrap() > 0.0, "{scenario}");
        assert_eq!(scenario["errors"], json!({}), "{scenario}");
        assert_eq!(scenario["server"]["peak_memory_bytes"], 1_048_576);
    }
    let requests_per_message = scenarios[0]["server"]["store_requests_per_message"].as_f64().unwrap();
    assert!((0.05..0.2).contains(&requests_per_message), "{requests_per_message}");
    assert_eq!(report["ack_latency"]["bare_put_bytes"], 400);
    assert!(report["ack_latency"]["ratio_of_medians"].as_f64().unwrap() > 0.0);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let lines = done(brigade(&mock, &["bench", "generate", "--messages", "3", "--message-bytes", "700"], "").await);
    assert!(lines.lines().count() == 3 && lines.lines().all(|line| line.len() == 700));
}
