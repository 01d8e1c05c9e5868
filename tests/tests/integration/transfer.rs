//! Topics to files and back: every format keeps everything.

use std::{fs, process::Output};

use brigade_tests::process::Process;
use serde_json::{Value, json};

#[track_caller]
fn succeeded(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[track_caller]
fn refused(output: Output, code: i32, why: &str) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(why), "{text}");
}

/// Messages of every kind.
fn messages() -> Vec<Value> {
    let mut messages = vec![
        json!({"key": "plain", "value": "text, with \"quotes\"\nand a line break", "timestamp": 1_000}),
        json!({"key": "json", "value": {"a": [1, 2.5, null, "b\nc"], "ü": "ß"}, "timestamp": 2_000}),
        json!({"key_base64": "/w==", "value_base64": "AP+A", "timestamp": 3_000}),
        json!({"key": "gone", "value": null, "timestamp": 4_000}),
        json!({"value": "no key", "headers": {"a": "1", "b": "x,y"}, "timestamp": 5_000}),
        json!({"key": "", "value": "", "timestamp": 6_000}),
        json!({"value": "attributes", "group": "g,1", "priority": 9, "deliver_at": 7_000, "timestamp": 7_000}),
    ];
    messages.extend((0..3_000).map(|number| {
        let value = format!("message {number} {}", "x".repeat(number % 700));
        json!({"key": format!("k{}", number % 50), "value": value, "timestamp": 10_000 + number})
    }));
    messages
}

async fn read(node: &Process, topic: &str) -> Vec<Value> {
    let read = succeeded(node.cli(&["--output", "json", "read", topic]).await);
    serde_json::Deserializer::from_slice(&read).into_iter().collect::<Result<_, _>>().unwrap()
}

/// What is the same of a message wherever it lies.
fn content(mut messages: Vec<Value>, places: bool) -> Vec<String> {
    for message in &mut messages {
        let fields = message.as_object_mut().unwrap();
        if !places {
            fields.remove("partition");
            fields.remove("offset");
        }
    }
    let mut lines: Vec<_> = messages.iter().map(Value::to_string).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn every_format_keeps_everything() {
    let node = Process::start().await;
    let source = node.scratch().join("source.ndjson");
    let lines: String = messages().iter().map(|message| message.to_string() + "\n").collect();
    fs::write(&source, lines).unwrap();
    succeeded(node.cli(&["topic", "create", "from", "--partitions", "3"]).await);
    succeeded(node.cli(&["publish", "from", "--ndjson", "--in-order", "--file", source.to_str().unwrap()]).await);
    let published = read(&node, "from").await;
    assert_eq!(published.len(), messages().len());
    for format in ["parquet", "ndjson", "csv"] {
        let file = node.scratch().join(format!("export.{format}"));
        let file = file.to_str().unwrap();
        succeeded(node.cli(&["export", "from", file]).await);
        refused(node.cli(&["export", "from", file]).await, 4, "is there already");
        succeeded(node.cli(&["export", "from", file, "--force"]).await);
        // By key, into a new topic with one partition.
        succeeded(node.cli(&["import", &format!("by-key-{format}"), file, "--create"]).await);
        let by_key = read(&node, &format!("by-key-{format}")).await;
        assert_eq!(content(by_key, false), content(published.clone(), false), "{format}");
        // Place by place, and in two halves.
        let kept = format!("kept-{format}");
        succeeded(node.cli(&["topic", "create", &kept, "--partitions", "3"]).await);
        succeeded(node.cli(&["import", &kept, file, "--keep-partitions"]).await);
        assert_eq!(content(read(&node, &kept).await, true), content(published.clone(), true), "{format}");
        let half = format!("half-{format}");
        succeeded(node.cli(&["topic", "create", &half]).await);
        succeeded(node.cli(&["import", &half, file, "--skip", "3000"]).await);
        assert_eq!(read(&node, &half).await.len(), published.len() - 3_000, "{format}");
        refused(node.cli(&["import", &half, file, "--skip", "4000"]).await, 4, "only 3007 messages");
    }
}

#[tokio::test]
async fn times_and_partitions_choose_what_is_exported() {
    let node = Process::start().await;
    succeeded(node.cli(&["topic", "create", "t", "--partitions", "2"]).await);
    let file = node.scratch().join("in.ndjson");
    let line = |n: i64| json!({"value": n.to_string(), "timestamp": n * 100, "partition": n % 2}).to_string() + "\n";
    fs::write(&file, (0..100).map(line).collect::<String>()).unwrap();
    succeeded(node.cli(&["publish", "t", "--ndjson", "--in-order", "--file", file.to_str().unwrap()]).await);
    let exported = async |args: &[&str]| {
        let out = succeeded(node.cli(&[&["export", "t", "-", "--format", "ndjson"], args].concat()).await);
        let values = out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let value = |line: &[u8]| -> i64 {
            let message: Value = serde_json::from_slice(line).unwrap();
            message["value"].as_str().unwrap().parse().unwrap()
        };
        let mut values: Vec<_> = values.map(value).collect();
        values.sort_unstable();
        values
    };
    assert_eq!(exported(&[]).await, (0..100).collect::<Vec<_>>());
    assert_eq!(exported(&["--partition", "1"]).await, (1..100).step_by(2).collect::<Vec<_>>());
    assert_eq!(exported(&["--from", "2000", "--until", "3001"]).await, (20..=30).collect::<Vec<_>>());
    assert_eq!(exported(&["--from", "99999999"]).await, [0; 0]);
    assert_eq!(exported(&["--until", "0"]).await, [0; 0]);
    assert_eq!(exported(&["--partition", "1", "--offset", "48"]).await, [97, 99]);
    let until = ["--from", "1970-01-01T01:00:02+01:00", "--until", "1970-01-01T00:00:03.001Z"];
    assert_eq!(exported(&until).await, (20..=30).collect::<Vec<_>>());
    // Three archive files and the journal, each with messages of any time.
    for round in 1..4 {
        succeeded(node.cli(&["compactor", "run"]).await);
        let line = |n: i64| json!({"value": (round * 100 + n).to_string(), "timestamp": (n * 37 % 100) * 100});
        fs::write(&file, (0..100).map(|n| line(n).to_string() + "\n").collect::<String>()).unwrap();
        succeeded(node.cli(&["publish", "t", "--ndjson", "--in-order", "--file", file.to_str().unwrap()]).await);
    }
    let early = |n: &i64| *n < 10 || (*n >= 100 && n % 100 * 37 % 100 < 10);
    assert_eq!(exported(&["--until", "1000"]).await, (0..400).filter(early).collect::<Vec<_>>());
    let rest = exported(&["--from", "1000"]).await;
    assert_eq!(rest, (0..400).filter(|n| !early(n)).collect::<Vec<_>>());
    refused(node.cli(&["export", "t", "-", "--format", "csv", "--partition", "7"]).await, 4, "no partition 7");
    refused(node.cli(&["export", "t", "-", "--format", "csv", "--from", "2026-02-30"]).await, 2, "no day 2026-02-30");
}

#[tokio::test]
async fn files_that_are_none_are_refused_with_the_place() {
    let node = Process::start().await;
    succeeded(node.cli(&["topic", "create", "t"]).await);
    let import = async |name: &str, content: &[u8], args: &[&str]| {
        let file = node.scratch().join(name);
        fs::write(&file, content).unwrap();
        node.cli(&[&["import", "t", file.to_str().unwrap()], args].concat()).await
    };
    refused(import("a.parquet", b"PAR1 no", &[]).await, 4, "cannot be read as Parquet");
    refused(import("a.ndjson", b"{\"value\":\"a\"}\n[1]\n", &[]).await, 4, "line 2");
    refused(import("b.ndjson", b"{\"value\":\"a\",\"colour\":1}\n", &[]).await, 4, "colour");
    refused(import("a.csv", b"id,name\n1,x\n", &[]).await, 4, "--value-column");
    refused(import("b.csv", b"value,kind\n{],json\n", &[]).await, 4, "line 2");
    refused(import("c.csv", b"value\n\"a\n", &["--key-column", "id"]).await, 4, "no column \"id\"");
    refused(import("a.txt", b"x", &[]).await, 4, "--format");
    refused(node.cli(&["import", "t", "/nowhere.csv"]).await, 3, "/nowhere.csv");
    assert_eq!(read(&node, "t").await.len(), 0, "nothing of a refused body is stored");
    let dead = b"{\"value\":\"a\",\"expires_at\":5}\n{\"value\":\"b\"}\n";
    let output = succeeded(import("dead.ndjson", dead, &[]).await);
    assert!(String::from_utf8_lossy(&output).contains("imported 1 messages"), "the other one has expired");
    succeeded(node.cli(&["topic", "delete", "t"]).await);
    succeeded(node.cli(&["topic", "create", "t"]).await);
    succeeded(import("d.csv", b"id,name\n7,Ada\n8,Bea\n", &["--key-column", "id", "--value-column", "name"]).await);
    let pairs: Vec<_> = read(&node, "t").await.iter().map(|m| (m["key"].clone(), m["value"].clone())).collect();
    assert_eq!(pairs, [("7".into(), "Ada".into()), ("8".into(), "Bea".into())]);
}
