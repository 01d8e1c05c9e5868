//! The command line from end to end: what goes in comes out.

use std::{fs, path::PathBuf, process::Output, time::Duration};

use brigade_tests::{dataset::log_lines, process::Process};
use serde_json::Value;
use tokio::time::sleep;

const LINES: usize = 20_000;

#[track_caller]
fn succeeded(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A file of log lines; its path and contents.
fn log_file(node: &Process, seed: u64) -> (PathBuf, String) {
    let text: String = log_lines(seed).take(LINES).map(|line| line + "\n").collect();
    let path = node.scratch().join("access.log");
    fs::write(&path, &text).unwrap();
    (path, text)
}

fn sorted(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn a_file_of_lines_comes_out_as_it_went_in() {
    let mut node = Process::start().await;
    let (path, text) = log_file(&node, 1);
    let path = path.to_str().unwrap();
    succeeded(node.cli(&["topic", "create", "one"]).await);
    succeeded(node.cli(&["topic", "create", "four", "--partitions", "4"]).await);
    succeeded(node.cli(&["publish", "one", "--file", path, "--in-order"]).await);
    succeeded(node.cli_with(&["publish", "four"], Some(path.into())).await);
    node.kill_9();
    node.restart().await;
    let read = succeeded(node.cli(&["read", "one"]).await);
    assert!(read == text.as_bytes(), "one partition keeps the order of the file");
    let read = succeeded(node.cli(&["read", "four"]).await);
    assert!(sorted(&read) == sorted(text.as_bytes()), "all lines, each once");

    let polled = succeeded(node.cli(&["poll", "one", "s", "--create", "--commit", "--max", "15000"]).await);
    node.kill_9();
    node.restart().await;
    let rest = succeeded(node.cli(&["poll", "one", "s", "--commit"]).await);
    assert!([polled, rest].concat() == text.as_bytes(), "polling goes on after what was committed");
    assert_eq!(succeeded(node.cli(&["poll", "one", "s", "--commit"]).await), b"");
}

#[tokio::test]
async fn a_publish_goes_on_through_kills() {
    let mut node = Process::start().await;
    let (path, text) = log_file(&node, 2);
    succeeded(node.cli(&["topic", "create", "t"]).await);
    let mut publish = std::process::Command::new(brigade_tests::binary::brigade())
        .args(["publish", "t", "--in-order", "--batch-messages", "50", "--file"])
        .arg(path)
        .env("BRIGADE_SERVER", format!("http://{}", node.address()))
        .spawn()
        .unwrap();
    for pause in [300, 150, 250] {
        sleep(Duration::from_millis(pause)).await;
        node.kill_9();
        sleep(Duration::from_millis(50)).await;
        node.restart().await;
    }
    let status = tokio::task::spawn_blocking(move || publish.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{status}");
    let read = succeeded(node.cli(&["read", "t"]).await);
    assert!(read == text.as_bytes(), "{} bytes went in, {} came out", text.len(), read.len());
}

#[tokio::test]
async fn programs_get_json_and_exit_codes() {
    let mut node = Process::start().await;
    let created = succeeded(node.cli(&["--output", "json", "topic", "create", "t", "--partitions", "2"]).await);
    assert_eq!(serde_json::from_slice::<Value>(&created).unwrap()["settings"]["partitions"], 2);
    succeeded(node.cli(&["publish", "t", "a", "b", "--key", "k", "--header", "h=1"]).await);
    let read = succeeded(node.cli(&["--output", "json", "read", "t"]).await);
    let messages: Vec<Value> =
        serde_json::Deserializer::from_slice(&read).into_iter().collect::<Result<_, _>>().unwrap();
    let shown = |message: &Value| (message["key"].clone(), message["value"].clone(), message["headers"]["h"].clone());
    assert_eq!(messages.iter().map(shown).collect::<Vec<_>>(), ["a", "b"].map(|v| ("k".into(), v.into(), "1".into())));
    succeeded(node.cli(&["topic", "list"]).await);
    succeeded(node.cli(&["topic", "describe", "t"]).await);
    let alter = ["--retention", "7d", "--retention-bytes", "10GiB", "--key-compaction", "--compaction-lag", "1h30m"];
    let altered = [&["--output", "json", "topic", "alter", "t"], &alter[..]].concat();
    let altered: Value = serde_json::from_slice(&succeeded(node.cli(&altered).await)).unwrap();
    let settings = &altered["settings"];
    assert_eq!(
        (&settings["retention_ms"], &settings["retention_bytes"]),
        (&604_800_000.into(), &10_737_418_240_u64.into())
    );
    assert_eq!((&settings["key_compaction"], &settings["compaction_lag_ms"]), (&true.into(), &5_400_000.into()));
    let described = String::from_utf8(succeeded(node.cli(&["topic", "describe", "t"]).await)).unwrap();
    assert!(
        described.contains("for 7d, or up to 10.00 GiB a partition, whichever ends first; of each key only the last"),
        "{described}"
    );
    let altered = node.cli(&["--output", "json", "topic", "alter", "t", "--retention", "forever"]).await;
    let altered: Value = serde_json::from_slice(&succeeded(altered)).unwrap();
    assert_eq!(altered["settings"]["retention_ms"], Value::Null);
    assert_eq!(altered["settings"]["retention_bytes"], 10_737_418_240_u64);
    assert_eq!(succeeded(node.cli(&["--output", "json", "topic", "files", "t"]).await), b"[]\n");
    succeeded(node.cli(&["status"]).await);

    let huge = "x".repeat(60_000);
    succeeded(node.cli(&["topic", "create", "small", "--max-message-bytes", "1000"]).await);
    let cases: [(&[&str], i32); 8] = [
        (&["topic", "files", "nothing"], 3),
        (&["topic", "alter", "t", "--retention", "7"], 2),
        (&["topic", "alter", "t", "--retention", "36501d"], 4),
        (&["read", "nothing"], 3),
        (&["topic", "describe", "nothing"], 3),
        (&["publish", "small", &huge], 4),
        (&["topic", "create", "not a name"], 4),
        (&["publish"], 2),
    ];
    for (args, code) in cases {
        let output = node.cli(args).await;
        let shown: Vec<_> = args.iter().map(|arg| &arg[..arg.len().min(20)]).collect();
        assert_eq!(output.status.code(), Some(code), "{shown:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stderr.is_empty());
    }
    let error = node.cli(&["--output", "json", "read", "nothing"]).await.stderr;
    assert_eq!(serde_json::from_slice::<Value>(&error).unwrap()["error"]["code"], "topic_not_found");
    succeeded(node.cli(&["topic", "delete", "t"]).await);
    node.kill_9();
    assert_eq!(node.cli(&["read", "t", "--retry-seconds", "0"]).await.status.code(), Some(5));
}
