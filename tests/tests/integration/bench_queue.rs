//! The scenarios of `brigade bench queue`, small: each of them accounts for every message.

use brigade_tests::process::Process;
use serde_json::Value;

/// Runs a scenario; gives what it measured.
async fn bench(node: &Process, args: &[&str]) -> Value {
    let args: Vec<_> = ["bench", "queue"].iter().chain(args).chain(&["--output", "json"]).copied().collect();
    let output = node.cli(&args).await;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["queue"].take()
}

#[tokio::test]
async fn what_is_published_is_delivered_and_acknowledged() {
    let node = Process::start().await;
    let time = ["--seconds", "2", "--warmup-seconds", "0", "--ahead", "2000", "--message-bytes", "200"];
    let report = bench(&node, &[&["throughput", "--ordered"], &time[..]].concat()).await;
    let messages = |step: &str| report[step]["messages"].as_u64().unwrap();
    let (published, acknowledged) = (messages("publish"), messages("ack"));
    assert!(acknowledged > 0 && published - acknowledged <= 2_000, "{report}");
    for step in ["publish", "poll", "ack"] {
        assert_eq!(report[step]["errors"].as_object().unwrap().len(), 0, "{report}");
    }
    let report = bench(&node, &["latency", "--seconds", "2", "--warmup-seconds", "0", "--rate", "50"]).await;
    assert_eq!(report["messages"], 100, "{report}");
    assert!(report["delivery_ms"]["p50"].as_f64().unwrap() > 0.0, "{report}");
}

#[tokio::test]
async fn what_waits_and_what_is_outstanding_is_counted() {
    let node = Process::start().await;
    let report = bench(&node, &["blocked-group", "--messages", "5000", "--rounds", "5"]).await;
    assert_eq!((&report["waiting"], &report["rounds"]), (&5_000.into(), &5.into()), "{report}");
    let report = bench(&node, &["outstanding", "--messages", "3000", "--consumers", "1"]).await;
    assert_eq!((&report["in_flight"], &report["in_flight_after_acks"]), (&3_000.into(), &2_750.into()), "{report}");
    let report = bench(&node, &["subscriptions", "--subscriptions", "20", "--messages", "200"]).await;
    assert_eq!(report["messages"], 200, "{report}");
    let topics = node.cli(&["topic", "list", "--output", "json"]).await;
    assert!(!String::from_utf8_lossy(&topics.stdout).contains("bench-"), "what was created is deleted");
}
