//! The exact bytes of answers, and what a good body means.

use super::*;

fn three() -> Vec<Owned> {
    json(
        br#"{"messages":[
            {"key":"k","value":"a \"b\"","headers":{"h":"1","h":"2"},"timestamp":5,"partition":3},
            {"key_base64":"/w","value_base64":"AAE=","timestamp":6},
            {"key":"k","value":null,"timestamp":7,"headers":null,"partition":null},
            {"value":{"a": [1,
                "x\n"]},"timestamp":8}
        ]}"#,
    )
    .unwrap()
}

#[test]
fn fields_mean_what_they_say() {
    let messages = three();
    assert_eq!(messages[0].value.as_deref(), Some(b"a \"b\"".as_slice()));
    assert_eq!((messages[0].partition, messages[0].headers.len()), (Some(3), 2));
    assert_eq!(messages[1].key.as_deref(), Some([0xff].as_slice()));
    assert_eq!(messages[2].value, None);
    assert_eq!(messages[3].kind, ValueKind::Json);
    for (value, kind) in [("1e999", ValueKind::Json), ("false", ValueKind::Json), ("\"\"", ValueKind::Text)] {
        let message = &ndjson(format!("{{\"value\": {value} }}").as_bytes()).unwrap()[0];
        assert_eq!((message.kind, message.timestamp_ms), (kind, NOW));
        assert_eq!(message.value.as_deref(), Some(value.trim_matches('"').as_bytes()));
    }
}

#[test]
fn answers_have_exactly_this_form() {
    let slices = [slice(&three(), 1, 9)];
    let lines = [
        r#"{"partition":1,"offset":9,"key":"k","value":"a \"b\"","headers":{"h":"1","h":"2"},"timestamp":5}"#,
        r#"{"partition":1,"offset":10,"key_base64":"/w==","value_base64":"AAE=","headers":{},"timestamp":6}"#,
        r#"{"partition":1,"offset":11,"key":"k","value":null,"headers":{},"timestamp":7}"#,
        r#"{"partition":1,"offset":12,"key":null,"value":{"a":[1,"x\n"]},"headers":{},"timestamp":8}"#,
    ];
    let all = lines.join(",");
    assert_eq!(encode_json(&slices, 13, 20), format!(r#"{{"messages":[{all}],"next_offset":13,"high_watermark":20}}"#));
    assert_eq!(encode_ndjson(&slices), lines.map(|line| format!("{line}\n")).concat());
    let mut tail = slices[0].clone();
    (tail.first, tail.rows, tail.base_offset) = (2, 1, 11);
    assert_eq!(encode_sse(&[tail.clone()]), format!("id: 11\ndata: {}\n\n", lines[2]));
    assert_eq!(
        encode_poll(&[tail], [(1, 12), (2, 0)].into_iter()),
        format!(
            r#"{{"messages":[{}],"positions":[{{"partition":1,"offset":12}},{{"partition":2,"offset":0}}]}}"#,
            lines[2]
        )
    );
    let mut out = Vec::new();
    write_message(&mut out, 1, 11, &slices[0].messages, 2, |out| out.extend_from_slice(b",\"receipt\":\"r\""));
    assert!(out.ends_with(br#""timestamp":7,"receipt":"r"}"#));
}

#[test]
fn answers_without_messages() {
    assert_eq!(encode_json(&[], 5, 5), r#"{"messages":[],"next_offset":5,"high_watermark":5}"#);
    assert_eq!(encode_ndjson(&[]), "");
    assert_eq!(encode_sse(&[]), "");
    assert_eq!(encode_poll(&[], std::iter::empty()), r#"{"messages":[],"positions":[]}"#);
    let stream = encode_arrow(&[], brigade_index::batch::Compression::None).unwrap();
    assert_eq!(arrow::ipc::reader::StreamReader::try_new(stream.as_ref(), None).unwrap().count(), 0);
    let mut beyond = slice(&three(), 1, 9);
    (beyond.first, beyond.rows) = (7, usize::MAX);
    assert_eq!(encode_ndjson(&[beyond]), "");
}

#[test]
fn placements() {
    assert_eq!(
        encode_placements([(0, 12), (1, u64::MAX)].into_iter(), &[]),
        r#"{"messages":[{"partition":0,"offset":12},{"partition":1,"offset":18446744073709551615}]}"#
    );
    assert_eq!(
        encode_placements([(0, 12), (1, 5), (0, 7)].into_iter(), &[0, 2]),
        r#"{"messages":[{"partition":0,"offset":12,"duplicate":true},{"partition":1,"offset":5},{"partition":0,"offset":7,"duplicate":true}]}"#
    );
}

fn handed(receipt: &str, deliveries: u32) -> brigade_ingest::Handed {
    brigade_ingest::Handed { receipt: receipt.to_owned(), deliveries, first_ms: 5, deadline_ms: 30_005 }
}

#[test]
fn deliveries_are_messages_with_receipts() {
    assert_eq!(encode_deliveries(&[]), r#"{"messages":[]}"#);
    let whole = slice(&three(), 1, 9);
    let mut tail = whole.clone();
    (tail.first, tail.rows, tail.base_offset) = (2, 2, 11);
    let mut head = whole;
    head.rows = 1;
    let deliveries = [(tail, vec![handed("a-b_", 1), handed("c", 3)]), (head, vec![handed("d", 2)])];
    let lines = [
        r#"{"partition":1,"offset":11,"key":"k","value":null,"headers":{},"timestamp":7,"receipt":"a-b_","delivery_count":1,"first_delivered_at":5,"deadline":30005}"#,
        r#"{"partition":1,"offset":12,"key":null,"value":{"a":[1,"x\n"]},"headers":{},"timestamp":8,"receipt":"c","delivery_count":3,"first_delivered_at":5,"deadline":30005}"#,
        r#"{"partition":1,"offset":9,"key":"k","value":"a \"b\"","headers":{"h":"1","h":"2"},"timestamp":5,"receipt":"d","delivery_count":2,"first_delivered_at":5,"deadline":30005}"#,
    ];
    assert_eq!(encode_deliveries(&deliveries), format!(r#"{{"messages":[{}]}}"#, lines.join(",")));
}

#[test]
fn verdicts_hold_any_receipt() {
    let mut out = Vec::new();
    let verdicts = [
        ("a", Verdict::Done { status: "acknowledged", extended: None }),
        ("b", Verdict::Done { status: "extended", extended: Some(("n".to_owned(), -1)) }),
        ("\"\n", Verdict::Refused { code: "c", message: "m".to_owned(), hint: "h" }),
    ];
    write_verdicts(&mut out, verdicts.into_iter());
    let wanted = concat!(
        r#"[{"receipt":"a","status":"acknowledged"},"#,
        r#"{"receipt":"b","status":"extended","new_receipt":"n","deadline":-1},"#,
        r#"{"receipt":"\"\n","error":{"code":"c","message":"m","hint":"h"}}]"#
    );
    assert_eq!(std::str::from_utf8(&out).unwrap(), wanted);
}

#[test]
fn dead_letters_tell_why() {
    use brigade_index::command::{DeadLetter, DeadReason};
    assert_eq!(encode_dead_letters("t", &[], None), r#"{"messages":[],"next":null}"#);
    let mut one = slice(&three(), 1, 9);
    (one.first, one.rows, one.base_offset) = (2, 1, 11);
    let letter = DeadLetter { reason: DeadReason::MaxDeliveries, deliveries: 3, first_ms: 5, time_ms: 9 };
    let never = DeadLetter { reason: DeadReason::Expired, deliveries: 0, first_ms: 0, time_ms: 9 };
    let message = r#"{"partition":1,"offset":11,"key":"k","value":null,"headers":{},"timestamp":7,"topic":"t","#;
    let first = r#""reason":"max_deliveries","delivery_count":3,"first_delivered_at":5,"dead_at":9}"#;
    let second = r#""reason":"expired","delivery_count":0,"first_delivered_at":null,"dead_at":9}"#;
    assert_eq!(
        encode_dead_letters("t", &[(one.clone(), letter), (one, never)], Some((1, 11))),
        format!(r#"{{"messages":[{message}{first},{message}{second}],"next":"1:11"}}"#)
    );
}
