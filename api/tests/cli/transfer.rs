//! Export and import: standard input, signals, and what is left of them.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{commands::brigade, mock::Mock};

/// One publish body of an import.
const BODY: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_interrupted_says_how_to_go_on() {
    let mock = Mock::start().await;
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let before = mock.values().len();
        let mut command = Command::new(env!("CARGO_BIN_EXE_brigade"));
        command.args(["import", "t", "-", "--format", "csv", "--skip", "1"]).env("BRIGADE_SERVER", &mock.url);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Nothing comes behind it, nor does it end.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(("value\n".to_owned() + &"x\n".repeat(BODY + 2)).as_bytes()).unwrap();
        stdin.flush().unwrap();
        while mock.values().len() < before + BODY {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Its answer may be on its way.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("20,001 messages of the file are done") && said.contains("--skip 20001"), "{said}");
        drop(stdin);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_imported() {
    let mock = Mock::start().await;
    let lines = "{\"value\":\"a\",\"offset\":7}\n\n{\"value\":\"b\"}";
    let output = brigade(&mock, &["import", "t", "-", "--format", "ndjson"], lines).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("imported 2 messages of standard input ("));
    assert_eq!(mock.values(), ["a", "b"]);
    let output = brigade(&mock, &["import", "t", "-", "--format", "parquet"], "PAR1").await;
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("write it to a file first"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_an_export_that_fails() {
    let mock = Mock::start().await;
    brigade(&mock, &["publish", "t", "a"], "").await;
    let directory = tempfile::tempdir().unwrap();
    // The mock does not know Arrow.
    let file = directory.path().join("t.ndjson");
    let output = brigade(&mock, &["export", "t", file.to_str().unwrap()], "").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
