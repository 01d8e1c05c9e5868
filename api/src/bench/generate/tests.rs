use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{RecordBatch, StringArray},
    ipc::{
        CompressionType,
        writer::{IpcWriteOptions, StreamWriter},
    },
};
use serde_json::Value;

use super::LogLines;

fn lines(seed: u64, bytes: usize, count: usize) -> Vec<String> {
    let mut lines = LogLines::new(seed, bytes);
    (0..count).map(|_| String::from_utf8(lines.next_line().to_vec()).unwrap()).collect()
}

#[test]
fn the_same_seed_gives_the_same_lines() {
    assert_eq!(lines(7, 1024, 200), lines(7, 1024, 200));
    assert_ne!(lines(7, 1024, 200), lines(8, 1024, 200));
    // Data sets that people made with an earlier version can be made again.
    assert!(lines(1, 1024, 1)[0].starts_with("{\"time\":\"2026-01-01T00:00:00.0"), "{}", lines(1, 1024, 1)[0]);
}

#[test]
fn lines_have_their_length_and_differ() {
    for bytes in [1, 15, 16, 40, 200, 500, 520, 580, 640, 1024, 4096] {
        let lines = lines(3, bytes, 300);
        assert!(lines.iter().all(|line| line.len() == bytes), "{bytes}");
        if bytes >= 16 {
            assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), 300, "{bytes}");
        }
    }
}

#[test]
fn long_lines_are_json_objects() {
    for line in lines(5, 1024, 100).iter().chain(&lines(5, 640, 100)) {
        let value: Value = serde_json::from_str(line).unwrap();
        assert!(value["user"].as_str().unwrap().starts_with("u-"));
        assert!(value["status"].as_u64().unwrap() >= 200);
    }
}

#[test]
fn lines_compress_like_logs() {
    let lines = lines(11, 1024, 1_000);
    let values = StringArray::from(lines);
    let batch = RecordBatch::try_from_iter([("value", Arc::new(values) as _)]).unwrap();
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).unwrap();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    let compressed = writer.into_inner().unwrap().len();
    let ratio = 1_024_000.0 / compressed as f64;
    assert!((2.5..3.0).contains(&ratio), "LZ4 ratio {ratio}");
}
