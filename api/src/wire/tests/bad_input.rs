//! Bad JSON, NDJSON and raw bodies: the exact code, and where the message says it is.

use super::*;

/// Body, code, and what the message must say.
type Case<'a> = (&'a str, &'a str, &'a [&'a str]);

fn check(parse: fn(&[u8]) -> Result<Vec<Owned>, WireError>, cases: &[Case<'_>]) {
    for (body, code, parts) in cases {
        let error = parse(body.as_bytes()).expect_err(body);
        assert_eq!(error.code, *code, "{body}: {error}");
        assert!(!error.hint.is_empty(), "{body}");
        for part in *parts {
            assert!(error.message.contains(part), "{body}: {error:?} does not say {part:?}");
        }
    }
}

const JSON: &str = "invalid_json";
const MESSAGE: &str = "invalid_message";

#[test]
fn json_bodies() {
    check(
        json,
        &[
            ("", JSON, &["line 1", "EOF"]),
            ("{}", JSON, &["messages is missing"]),
            ("[]", MESSAGE, &["an object with the field messages"]),
            (r#"{"messages":[]}"#, "no_messages", &[]),
            (r#"{"messages":null}"#, MESSAGE, &["a list of messages"]),
            (r#"{"messages":[{"value":1}]"#, JSON, &["EOF"]),
            (r#"{"messages":[{"value":1}]} x"#, JSON, &["trailing characters", "line 1 column 28"]),
            (r#"{"messages":[{"value":1}],"more":1}"#, JSON, &["unknown field"]),
            (r#"{"messages":[{"value":1}],"messages":[]}"#, JSON, &["twice"]),
            (r#"{"messages":[{"value":1},]}"#, JSON, &["trailing comma"]),
            (r#"{"messages":[7]}"#, MESSAGE, &["messages[0]", "a message, which is an object"]),
        ],
    );
}

#[test]
fn message_objects() {
    let cases: &[Case<'_>] = &[
        ("{}", MESSAGE, &["neither a value nor a key"]),
        (r#"{"value":null}"#, MESSAGE, &["neither a value nor a key"]),
        (r#"{"value":1,"offset":1}"#, JSON, &["unknown field \"offset\""]),
        (r#"{"value":1,"value":2}"#, JSON, &["twice"]),
        (r#"{"value":1,"value_base64":"AA=="}"#, MESSAGE, &["both value and value_base64"]),
        (r#"{"value_base64":"AA==","value":"x"}"#, MESSAGE, &["both value and value_base64"]),
        (r#"{"key":"a","key_base64":"AA==","value":1}"#, MESSAGE, &["both key and key_base64"]),
        (r#"{"value_base64":"*"}"#, MESSAGE, &["value_base64 is not base64"]),
        (r#"{"key_base64":"A","value":1}"#, MESSAGE, &["key_base64 is not base64"]),
        (r#"{"value_base64":7}"#, MESSAGE, &["a string as value_base64"]),
        (r#"{"key":7,"value":1}"#, MESSAGE, &["a string as key"]),
        (r#"{"value":1,"timestamp":-1}"#, MESSAGE, &["`-1`", "a timestamp of 0 or more"]),
        (r#"{"value":1,"timestamp":1.5}"#, MESSAGE, &["a timestamp of 0 or more"]),
        (r#"{"value":1,"timestamp":9223372036854775808}"#, MESSAGE, &["at most 9223372036854775807"]),
        (r#"{"value":1,"timestamp":"2026-01-01"}"#, MESSAGE, &["milliseconds since the Unix epoch"]),
        (r#"{"value":1,"partition":-1}"#, MESSAGE, &["a partition"]),
        (r#"{"value":1,"partition":4294967296}"#, MESSAGE, &["at most 4294967295"]),
        (r#"{"value":1,"partition":true}"#, MESSAGE, &["a partition"]),
        (r#"{"value":1,"headers":["a"]}"#, MESSAGE, &["an object of strings"]),
        (r#"{"value":1,"headers":{"a":1}}"#, MESSAGE, &["a string as the value of a header"]),
        (r#"{"value":1,"headers":{"a":null}}"#, MESSAGE, &["header \"a\" is null"]),
        (r#"{"value":"\ud800"}"#, MESSAGE, &["half a character"]),
        (r#"{"value":["\udc00x"]}"#, MESSAGE, &["half a character"]),
        (r#"{"value":tru}"#, JSON, &["expected ident"]),
        (r#"{"value":"a"#, JSON, &["EOF"]),
        ("{\"value\":\"a\tb\"}", JSON, &["control character"]),
        (r#"{"key":"\ud800","value":1}"#, JSON, &[]),
    ];
    for (message, code, parts) in cases {
        let lines = format!("{{\"value\":\"ü\"}}\r\n\r\n{message}\n");
        check(ndjson, &[(&lines, code, &["messages[1], line 3 "]), (&lines, code, parts)]);
        let body = format!("{{\"messages\":[{{\"value\":\"ü\"}},\n{message}]}}");
        check(json, &[(&body, code, &["messages[1], line "])]);
        if !message.ends_with('a') {
            check(json, &[(&body, code, parts)]);
        }
    }
}

#[test]
fn ndjson_bodies() {
    check(
        ndjson,
        &[
            ("", "no_messages", &[]),
            ("\n \r\n\n", "no_messages", &[]),
            ("{\"value\":1}\n{\"value\":1} {\"value\":2}", JSON, &["line 2 column 13: trailing characters"]),
            ("{\"value\":\n1}", JSON, &["messages[0], line 1", "EOF"]),
            ("[1]", MESSAGE, &["messages[0], line 1"]),
        ],
    );
}

#[test]
fn bytes_that_are_no_text() {
    let error = ndjson(b"{\"value\":1}\n{\"value\":\"\xff\"}").unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (JSON, "line 2 column 11: the body is not UTF-8"));
    assert_eq!(json(b"\xff").unwrap_err().code, JSON);
}

#[test]
fn values_nested_too_deeply() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let value = |depth: usize| format!("{{\"value\":{}1{}}}", open.repeat(depth), close.repeat(depth));
        let error = ndjson(value(129).as_bytes()).unwrap_err();
        assert_eq!(error.code, MESSAGE);
        assert!(error.message.contains("nested"), "{error}");
    }
    assert!(json("[".repeat(1_000_000).as_bytes()).is_err());
    assert!(json(format!("{{\"messages\":[{{\"value\":{}", "[".repeat(1_000_000)).as_bytes()).is_err());
    assert!(json(format!("{{\"a\":{}", "[".repeat(1_000_000)).as_bytes()).is_err());
}

#[test]
fn too_much_of_everything() {
    let lines = "{\"value\":1}\n".repeat(100_000);
    assert_eq!(ndjson(lines.as_bytes()).unwrap().len(), 100_000);
    let error = ndjson(format!("{lines}{{\"value\":1}}").as_bytes()).unwrap_err();
    assert_eq!(error.code, "too_many_messages");
    assert!(error.message.starts_with("messages[100000], line 100001"), "{error}");
    let headers: Vec<_> = (0..65).map(|at| format!("\"h{at}\":\"\"")).collect();
    let body = |count: usize| format!("{{\"value\":1,\"headers\":{{{}}}}}", headers[..count].join(","));
    assert!(ndjson(body(64).as_bytes()).is_ok());
    assert_eq!(ndjson(body(65).as_bytes()).unwrap_err().code, "too_many_headers");
}

#[test]
fn the_sinks_refusal_names_the_message() {
    let long = format!("{{\"value\":1}}\n\n{{\"value\":\"{}\"}}", "x".repeat(101));
    let error = ndjson(long.as_bytes()).unwrap_err();
    assert_eq!((error.code, error.hint), ("message_too_large", "Shorten it."));
    assert!(error.message.starts_with("messages[1], line 3 column "), "{error}");
    assert!(error.message.ends_with(": the value is too long"), "{error}");
}

#[test]
fn raw_bodies() {
    let raw = |body: &[u8], text, meta: &RawMeta<'_>| parse_raw(body, text, meta, NOW, &mut Sink::default());
    assert_eq!(raw(b"\xff", true, &RawMeta::default()).unwrap_err().code, MESSAGE);
    assert_eq!(raw(b"\xff", false, &RawMeta::default()), Ok(1));
    let early = RawMeta { timestamp_ms: Some(-1), ..RawMeta::default() };
    assert_eq!(raw(b"", true, &early).unwrap_err().code, MESSAGE);
    assert_eq!(raw(&[0; 101], false, &RawMeta::default()).unwrap_err().message, "the value is too long");
    let headers = vec![(Cow::Borrowed("a"), Cow::Borrowed("b")); 65];
    assert_eq!(raw(b"", true, &RawMeta { headers, ..RawMeta::default() }).unwrap_err().code, "too_many_headers");
}
