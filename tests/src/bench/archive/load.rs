//! Servers with messages in them, and what they say of themselves.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, StringArray},
    ipc::writer::StreamWriter,
};
use futures::{StreamExt, stream};
use serde_json::Value;

use crate::{
    dataset::json_lines,
    http::{ARROW, Http},
    process::{Options, Process},
};

/// The topic that every scenario publishes to.
pub(super) const TOPIC: &str = "bench";

pub(super) const MIB: f64 = (1 << 20) as f64;

/// Requests in flight while messages are published.
const IN_FLIGHT: usize = 4;

/// A request is made while others are under way: messages of each.
const REQUEST: u64 = 1_000;

/// A server that is not started yet, with these settings of the compactor, lines of TOML.
pub(super) fn server(compact: &str) -> Process {
    Process::prepare(options(compact))
}

pub(super) fn options(compact: &str) -> Options {
    Options { config: format!("[compact]\n{compact}\n"), ..Options::default() }
}

/// A body of lines of about so many bytes, with keys of a few thousand users.
fn body(seed: u64, messages: u64, message_bytes: usize) -> Vec<u8> {
    let values: Vec<_> = json_lines(seed, message_bytes).take(messages as usize).collect();
    let keys: StringArray = (0..messages).map(|row| Some(format!("user-{}", (seed * 7 + row) % 10_000))).collect();
    let values = StringArray::from(values);
    let columns = [("key", Arc::new(keys) as _), ("value", Arc::new(values) as _)];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("a schema");
    writer.write(&batch).expect("memory takes it");
    writer.into_inner().expect("memory takes it")
}

/// Publishes JSON log lines, no two of them equal, from `first` on. Gives the bytes of keys and values that the server
/// counted.
pub(super) async fn publish(http: &Http, messages: u64, message_bytes: usize) -> u64 {
    let before = http.metric("brigade_ingest_published_bytes_total", &[]).await;
    let path = format!("/v1/topics/{TOPIC}/messages");
    let requests = (0..messages.div_ceil(REQUEST)).map(|request| {
        let (http, path) = (http.clone(), path.clone());
        let count = REQUEST.min(messages - request * REQUEST);
        async move {
            let body = tokio::task::spawn_blocking(move || body(request + 1, count, message_bytes));
            let body = body.await.expect("making a body does not panic");
            http.body("POST", &path, ARROW, body).await.expect(200);
        }
    });
    stream::iter(requests).buffer_unordered(IN_FLIGHT).collect::<()>().await;
    (http.metric("brigade_ingest_published_bytes_total", &[]).await - before) as u64
}

/// What the compactor says of itself.
pub(super) async fn compactor(http: &Http) -> Value {
    http.get("/v1/compactor").await.expect(200).json()
}

/// Has everything done that can be, and waits for it. Panics when something went wrong.
pub(super) async fn compact_now(server: &Process) -> Value {
    let output = server.cli(&["--output", "json", "compactor", "run"]).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["problems"].as_array().map_or(0, Vec::len), 0, "{report}");
    report
}

/// `brigade bench` against a server; gives the first scenario of its report.
pub(super) async fn bench(server: &Process, arguments: &str) -> Value {
    let command: Vec<_> = ["--output", "json", "bench"].into_iter().chain(arguments.split(' ')).collect();
    let output = server.cli(&command).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "brigade bench {arguments}: {errors}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    report["scenarios"][0].clone()
}

/// A number of a report; not a number if it is not there.
pub(super) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// Bytes that jobs of a kind have read and written.
pub(super) fn moved(status: &Value, kind: &str) -> (f64, f64) {
    let jobs = status["jobs"].as_array().into_iter().flatten();
    let of = jobs
        .filter(|jobs| jobs["kind"] == kind)
        .map(|jobs| (number(&jobs["read_bytes"]), number(&jobs["written_bytes"])));
    of.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}
