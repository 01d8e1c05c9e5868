//! Attributes and deduplication ids in every format.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, LargeStringArray, RecordBatch, StringArray, TimestampSecondArray, UInt8Array},
    ipc::writer::StreamWriter,
};
use brigade_index::{batch::Compression, limits::MAX_AHEAD_MS};

use super::*;

fn one(fields: &str) -> Result<Owned, WireError> {
    let message = format!("{{\"value\":1,{fields}}}");
    let of_json = json(format!("{{\"messages\":[{message}]}}").as_bytes()).map(|mut all| all.remove(0));
    let of_ndjson = ndjson(message.as_bytes()).map(|mut all| all.remove(0));
    match (of_json, of_ndjson) {
        (Ok(of_json), Ok(of_ndjson)) => {
            assert_eq!(of_json, of_ndjson);
            Ok(of_json)
        }
        (Err(error), Err(other)) => {
            assert_eq!(error.code, other.code);
            Err(error)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn fields_mean_what_they_say() {
    let message =
        one(r#""group":"gr\u00f6\u00dfe","priority":0,"delay_ms":5,"ttl_ms":7,"deduplication_id":"x\"y""#).unwrap();
    assert_eq!((message.group.as_deref(), message.priority), (Some("größe"), Some(0)));
    assert_eq!(message.times, [Some(NOW + 5), Some(NOW + 7)]);
    assert_eq!(message.deduplication_id.as_deref(), Some("x\"y"));
    let message = one(r#""deliver_at":3,"expires_at":4,"group":null,"priority":null,"delay_ms":null"#).unwrap();
    assert_eq!((message.times, message.group, message.priority), ([Some(3), Some(4)], None, None));
    let message = one(&format!(r#""delay_ms":0,"ttl_ms":{MAX_AHEAD_MS}"#)).unwrap();
    assert_eq!(message.times, [None, Some(NOW + MAX_AHEAD_MS)], "no delay is none");
}

#[test]
fn what_is_wrong_has_its_code() {
    let cases = [
        (r#""priority":10"#, "invalid_priority", "10"),
        (r#""priority":-1"#, "invalid_priority", "-1"),
        (r#""priority":300"#, "invalid_priority", "300"),
        (r#""priority":1.5"#, "invalid_message", "a priority"),
        (r#""priority":"9""#, "invalid_message", "a priority"),
        (r#""delay_ms":-1"#, "delay_out_of_range", "-1"),
        (r#""delay_ms":31622400001"#, "delay_out_of_range", "366 days"),
        (r#""delay_ms":18446744073709551615"#, "delay_out_of_range", "366 days"),
        (r#""ttl_ms":-1"#, "ttl_out_of_range", "-1"),
        (r#""ttl_ms":31622400001"#, "ttl_out_of_range", "366 days"),
        (r#""delay_ms":1,"deliver_at":1"#, "invalid_message", "both delay_ms and deliver_at"),
        (r#""ttl_ms":1,"expires_at":1"#, "invalid_message", "both ttl_ms and expires_at"),
        (r#""group":7"#, "invalid_message", "a string as group"),
        (r#""deduplication_id":7"#, "invalid_message", "a string as deduplication_id"),
        (r#""deliver_at":"soon""#, "invalid_message", "milliseconds"),
        (r#""group":"a","group":"a""#, "invalid_json", "twice"),
    ];
    for (fields, code, part) in cases {
        let error = one(fields).expect_err(fields);
        assert_eq!(error.code, code, "{fields}: {error}");
        assert!(error.message.contains(part) && error.message.contains("messages[0]"), "{fields}: {error}");
    }
}

#[test]
fn raw_messages_have_them_beside_the_body() {
    let mut sink = Sink::default();
    let attributes = GivenAttributes { group: Some("g"), delay_ms: Some(9), ..GivenAttributes::default() };
    let meta = RawMeta { attributes, deduplication_id: Some("id"), ..RawMeta::default() };
    parse_raw(b"v", true, &meta, NOW, &mut sink).unwrap();
    let message = sink.0.remove(0);
    assert_eq!((message.group.as_deref(), message.deduplication_id.as_deref()), (Some("g"), Some("id")));
    assert_eq!(message.times, [Some(NOW + 9), None]);
    let attributes = GivenAttributes { priority: Some(10), ..GivenAttributes::default() };
    let refused = parse_raw(b"v", true, &RawMeta { attributes, ..RawMeta::default() }, NOW, &mut sink);
    assert_eq!(refused.unwrap_err().code, "invalid_priority");
}

fn arrow(columns: Vec<(&str, ArrayRef)>) -> Result<Vec<Owned>, WireError> {
    let value: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let batch = RecordBatch::try_from_iter([("value", value)].into_iter().chain(columns)).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    from_arrow(&writer.into_inner().unwrap().into())
}

#[test]
fn arrow_streams_have_them_in_columns_of_several_types() {
    let messages = arrow(vec![
        ("group", Arc::new(LargeStringArray::from(vec![None, Some("g")]))),
        ("priority", Arc::new(Int64Array::from(vec![Some(9), None]))),
        ("deliver_at", Arc::new(TimestampSecondArray::from(vec![Some(2), None]))),
        ("expires_at", Arc::new(Int64Array::from(vec![None, Some(5)]))),
        ("deduplication_id", Arc::new(StringArray::from(vec![Some("x"), None]))),
    ])
    .unwrap();
    let [first, second] = messages.as_slice() else { panic!("two rows") };
    assert_eq!(
        (first.priority, first.times, first.deduplication_id.as_deref()),
        (Some(9), [Some(2_000), None], Some("x"))
    );
    assert_eq!((second.group.as_deref(), second.times, &second.deduplication_id), (Some("g"), [None, Some(5)], &None));
    let refused = arrow(vec![("priority", Arc::new(UInt8Array::from(vec![Some(0), Some(10)])))]).unwrap_err();
    assert_eq!(refused.code, "invalid_priority");
    assert!(refused.message.starts_with("messages[1]"), "{refused}");
    let refused = arrow(vec![("group", Arc::new(Int64Array::from(vec![1, 2])))]).unwrap_err();
    assert_eq!(refused.code, "invalid_arrow");
}

fn given(group: Option<&str>, times: [Option<i64>; 2]) -> Owned {
    let mut message = one(r#""timestamp":1"#).unwrap();
    (message.group, message.times) = (group.map(str::to_owned), times);
    message
}

#[test]
fn answers_show_them_where_they_are() {
    let mut all = given(Some("a \"b\""), [Some(3), Some(-4)]);
    all.priority = Some(9);
    let lines = encode_ndjson(&[slice(&[all, given(None, [None, None])], 0, 0)]);
    assert_eq!(
        lines,
        concat!(
            r#"{"partition":0,"offset":0,"key":null,"value":1,"headers":{},"timestamp":1,"group":"a \"b\"","priority":9,"deliver_at":3,"expires_at":-4}"#,
            "\n",
            r#"{"partition":0,"offset":1,"key":null,"value":1,"headers":{},"timestamp":1}"#,
            "\n"
        )
    );
}

/// A stream has one schema, whatever its batches use.
#[test]
fn arrow_answers_have_the_columns_that_any_of_their_batches_has() {
    use ::arrow::array::{Array, AsArray};
    let slices = [
        slice(&[given(None, [None, None])], 0, 0),
        slice(&[given(Some("g"), [None, None])], 0, 1),
        slice(&[given(None, [None, Some(8)])], 0, 2),
    ];
    let stream = encode_arrow(&slices, Compression::None).unwrap();
    let reader = ::arrow::ipc::reader::StreamReader::try_new(stream.as_ref(), None).unwrap();
    let names: Vec<_> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names[read_schema().fields().len()..], ["group", "expires_at"]);
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    let nulls = |name| batches.iter().map(|batch| batch.column_by_name(name).unwrap().is_null(0)).collect::<Vec<_>>();
    assert_eq!((nulls("group"), nulls("expires_at")), (vec![true, false, true], vec![true, true, false]));
    assert_eq!(batches[1].column_by_name("group").unwrap().as_string::<i32>().value(0), "g");
}
