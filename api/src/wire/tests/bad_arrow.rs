//! Bad Arrow streams, and the column types that are taken.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryArray, Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, RecordBatch, StringArray,
        TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array, UInt32Array,
    },
    datatypes::Int32Type,
    ipc::{
        CompressionType,
        writer::{IpcWriteOptions, StreamWriter},
    },
};
use brigade_index::batch::Compression;

use super::*;

fn stream_with(columns: Vec<(&str, ArrayRef)>, compression: Option<CompressionType>) -> Bytes {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let batch = batch.unwrap();
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap().into()
}

fn stream(columns: Vec<(&str, ArrayRef)>) -> Bytes {
    stream_with(columns, None)
}

/// The messages as a stream that a client could publish.
pub(super) fn publishable(messages: &[Owned], compression: Compression) -> Bytes {
    let batch = columns(messages).record_batch().clone();
    let compression = (compression == Compression::Lz4).then_some(CompressionType::LZ4_FRAME);
    let named = batch.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    stream_with(named.iter().map(String::as_str).zip(batch.columns().iter().cloned()).collect(), compression)
}

fn one(column: &str, array: impl arrow::array::Array + 'static) -> Result<Vec<Owned>, WireError> {
    let value: ArrayRef = Arc::new(StringArray::from(vec!["v"; array.len()]));
    from_arrow(&stream(vec![("value", value), (column, Arc::new(array))]))
}

fn refused(result: Result<Vec<Owned>, WireError>, code: &str, says: &str) {
    let error = result.expect_err(says);
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.contains(says), "{error} does not say {says}");
    assert!(!error.hint.is_empty());
}

#[test]
fn all_listed_types_are_taken() {
    let values: [ArrayRef; 4] = [
        Arc::new(StringArray::from(vec!["v"])),
        Arc::new(LargeStringArray::from(vec!["v"])),
        Arc::new(BinaryArray::from_vec(vec![b"v"])),
        Arc::new(LargeBinaryArray::from_vec(vec![b"v"])),
    ];
    for (at, array) in values.into_iter().enumerate() {
        let messages = from_arrow(&stream(vec![("value", array.clone()), ("key", array)])).unwrap();
        assert_eq!(messages[0].kind, if at < 2 { ValueKind::Text } else { ValueKind::Binary });
        assert_eq!(messages[0].value.as_deref(), Some(b"v".as_slice()));
        assert_eq!(messages[0].key.as_deref(), Some(b"v".as_slice()));
        assert_eq!(messages[0].timestamp_ms, NOW);
    }
    let times: [ArrayRef; 4] = [
        Arc::new(TimestampSecondArray::from(vec![7]).with_timezone("+02:00")),
        Arc::new(Int64Array::from(vec![7_000])),
        Arc::new(TimestampMicrosecondArray::from(vec![7_000_999])),
        Arc::new(TimestampNanosecondArray::from(vec![7_000_999_999])),
    ];
    for array in times {
        assert_eq!(one("timestamp", array).unwrap()[0].timestamp_ms, 7_000);
    }
    assert_eq!(one("timestamp", Int64Array::from(vec![None])).unwrap()[0].timestamp_ms, NOW);
    assert_eq!(one("partition", Int32Array::from(vec![3])).unwrap()[0].partition, Some(3));
    assert_eq!(one("partition", Int64Array::from(vec![3])).unwrap()[0].partition, Some(3));
    assert_eq!(one("partition", UInt32Array::from(vec![Some(u32::MAX), None])).unwrap()[1].partition, None);
}

#[test]
fn wrong_columns_are_named() {
    refused(
        from_arrow(&stream(vec![("key", Arc::new(StringArray::from(vec!["k"])))])),
        "invalid_arrow",
        "no column value",
    );
    refused(
        from_arrow(&stream(vec![("value", Arc::new(Int64Array::from(vec![1])))])),
        "invalid_arrow",
        "column value has type Int (64 bits, signed)",
    );
    refused(one("offset", Int64Array::from(vec![1])), "invalid_arrow", "unknown column \"offset\"");
    refused(one("value", StringArray::from(vec!["v"])), "invalid_arrow", "column value is there twice");
    refused(one("partition", UInt8Array::from(vec![1])), "invalid_arrow", "column partition");
    refused(one("kind", Int64Array::from(vec![1])), "invalid_arrow", "column kind");
    refused(one("headers", StringArray::from(vec!["a"])), "invalid_arrow", "Map of Utf8 to Utf8");
    let dictionary: arrow::array::DictionaryArray<Int32Type> = ["k"].into_iter().collect();
    refused(one("key", dictionary), "invalid_arrow", "column key has type dictionary of Utf8");
}

#[test]
fn wrong_rows_are_named() {
    let bad = "invalid_message";
    refused(one("partition", Int32Array::from(vec![0, -1])), bad, "messages[1]: the partition -1");
    refused(one("partition", Int64Array::from(vec![1_i64 << 32])), bad, "messages[0]: the partition 4294967296");
    refused(one("timestamp", Int64Array::from(vec![-1])), bad, "messages[0]: the timestamp -1");
    refused(one("timestamp", TimestampSecondArray::from(vec![i64::MAX])), bad, "too large");
    refused(one("kind", UInt8Array::from(vec![3])), bad, "unknown kind 3");
    refused(one("kind", UInt8Array::from(vec![1])), bad, "the value is no JSON document");
    let binary = |value: &'static [u8], kind| {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("value", Arc::new(BinaryArray::from_vec(vec![value]))),
            ("kind", Arc::new(UInt8Array::from(vec![kind]))),
        ];
        from_arrow(&stream(columns))
    };
    refused(binary(b"\xff", 0), bad, "not UTF-8");
    refused(binary(b"{\"a\":\"\xff\"}", 1), bad, "no JSON document");
    refused(binary(b"null", 1), bad, "neither a value nor a key");
    assert_eq!(binary(b" [1]\n", 1).unwrap()[0].value.as_deref(), Some(b"[1]".as_slice()));
    assert_eq!(binary(b"\"a\\n\"", 1).unwrap()[0].kind, ValueKind::Text);
    let null: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    refused(from_arrow(&stream(vec![("value", null)])), bad, "neither a value nor a key");
}

#[test]
fn damaged_streams() {
    let good = stream(vec![("value", Arc::new(StringArray::from(vec!["v"])))]);
    let bad = "invalid_arrow";
    refused(from_arrow(&Bytes::new()), bad, "empty");
    refused(from_arrow(&Bytes::from_static(b"ARROW1\0\0................")), bad, "continuation marker");
    refused(from_arrow(&good.slice(..good.len() - 17)), bad, "cut off");
    refused(from_arrow(&[&good[..], b"x"].concat().into()), bad, "behind its end");
    refused(from_arrow(&[&good[..good.len() - 8], &good[..]].concat().into()), bad, "two schemas");
    let schema_len = 8 + u32::from_le_bytes([good[4], good[5], good[6], good[7]]) as usize;
    refused(from_arrow(&good.slice(schema_len..)), bad, "does not begin with a schema");
    refused(from_arrow(&good.slice(..schema_len)), "no_messages", "no message");
    assert!(from_arrow(&good.slice(..good.len() - 8)).is_ok(), "the end may be that of the body");
    let mut long = good.to_vec();
    long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    refused(from_arrow(&long.into()), bad, "too large");
}

#[test]
fn streams_that_would_grow_too_large_are_refused_before_they_do() {
    let zeros = vec![0_u8; 200_000];
    let rows = || -> ArrayRef { Arc::new(BinaryArray::from_vec(vec![&zeros; 8])) };
    for compression in [CompressionType::LZ4_FRAME, CompressionType::ZSTD] {
        let bomb = stream_with(vec![("value", rows())], Some(compression));
        assert!(bomb.len() < 20_000);
        refused(from_arrow(&bomb), "request_too_large", "more than 1048576 bytes");
        // The length that a buffer claims is not what is in it.
        let lie = (1_600_000_i64).to_le_bytes();
        let at = bomb.windows(8).rposition(|bytes| bytes == lie).unwrap();
        for claim in [0, 1, 1_000, -2, i64::MIN] {
            let mut changed = bomb.to_vec();
            changed[at..at + 8].copy_from_slice(&i64::to_le_bytes(claim));
            assert_eq!(from_arrow(&changed.into()).unwrap_err().code, "invalid_arrow", "{claim}");
        }
    }
    let small: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&zeros[..90]; 4_000]));
    let batch = RecordBatch::try_from_iter([("value", small)]).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    (0..3).for_each(|_| writer.write(&batch).unwrap());
    refused(from_arrow(&writer.into_inner().unwrap().into()), "request_too_large", "decompress");
    let many: ArrayRef = Arc::new(StringArray::from(vec![""; 100_001]));
    refused(from_arrow(&stream(vec![("value", many)])), "too_many_messages", "100000");
}
