//! Meaning and mistakes by example; arbitrary filters against an evaluator that follows the documentation word by word.

mod random;

use std::borrow::Cow;

use super::*;
use crate::batch::{Attributes, Columns, MessageRef, ValueKind};

/// Key and headers of a message.
type Given<'a> = (Option<&'a [u8]>, &'a [(&'a str, &'a str)]);

fn messages(rows: &[Given<'_>]) -> Messages {
    let mut columns = Columns::default();
    for (key, headers) in rows {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value))).collect();
        let headers = &headers;
        let attributes = Attributes::default();
        columns.push(&MessageRef {
            key: *key,
            value: None,
            kind: ValueKind::Text,
            headers,
            timestamp_ms: 0,
            attributes,
        });
    }
    Messages::new(columns.into_record_batch()).unwrap()
}

fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Asserts which rows a filter lets through.
#[track_caller]
fn lets_through(messages: &Messages, cases: &[(&str, &[usize])]) {
    for (text, expected) in cases {
        let filter = filter(text);
        let found: Vec<_> = (0..messages.rows()).filter(|row| filter.matches_row(messages, *row)).collect();
        assert_eq!(found, *expected, "{text}");
    }
}

#[test]
fn filters_mean_what_they_say() {
    let messages = messages(&[
        (Some(b"eu-1"), &[("type", "order"), ("amount", "10.0"), ("trace", "")]),
        (Some(b"us-1"), &[("type", "order"), ("amount", "9"), ("region", "a"), ("trace", "t")]),
        (None, &[("type", "Order"), ("amount", "many"), ("region", "c"), ("type", "order")]),
        (Some(b"\xff\x00"), &[]),
    ]);
    let example =
        r#"type = "order" and (key prefix "eu-" or amount >= 10) and not region in ("a", "b") and trace exists"#;
    lets_through(
        &messages,
        &[
            (example, &[0]),
            // Presence. An empty value is a value.
            ("key exists", &[0, 1, 3]),
            ("trace exists", &[0, 1]),
            ("not trace exists", &[2, 3]),
            (r#"trace = """#, &[0]),
            (r#"trace prefix """#, &[0, 1]),
            // Names and texts in exactly this case, keywords in any; of two headers the first counts.
            (r#"type = "order""#, &[0, 1]),
            (r#"type = "Order""#, &[2]),
            (r#"Type exists"#, &[]),
            (r#"NOT type IN ('order') AND Type Exists oR KEY = 'us-1'"#, &[1]),
            // What is missing makes every comparison false.
            (r#"region != "a""#, &[2]),
            (r#"not region = "a""#, &[0, 2, 3]),
            (r#"key != "eu-1""#, &[1, 3]),
            // Numbers.
            ("amount = 10", &[0]),
            ("amount = +1e1", &[0]),
            (r#"amount = "10""#, &[]),
            (r#"amount = "10.0""#, &[0]),
            (r#"amount != "10""#, &[0, 1, 2]),
            ("amount != 10", &[1]),
            ("amount < 10", &[1]),
            ("amount <= 10", &[0, 1]),
            ("amount > 9", &[0]),
            ("amount >= 9.", &[0, 1]),
            ("amount > -.5", &[0, 1]),
            ("not amount > 0", &[2, 3]),
            ("trace <= 0 or key > 0", &[]),
            // Lists.
            (r#"amount in (10, "many")"#, &[0, 2]),
            (r#"amount in ("10", 'x')"#, &[]),
            (r#"key in ("us-1", "eu-1", "eu-1")"#, &[0, 1]),
            // Keys are bytes.
            (r#"key = "\xff\x00""#, &[3]),
            (r#"key prefix "\xFF""#, &[3]),
            (r#"key in ("\xff", "\xff\x00")"#, &[3]),
            // `not` binds closer than `and`, `and` closer than `or`.
            (r#"key = "eu-1" or key = "us-1" and amount = 10"#, &[0]),
            (r#"(key = "eu-1" or key = "us-1") and amount = 10"#, &[0]),
            (r#"(key = "eu-1" or key = "us-1") and amount = 9"#, &[1]),
            (r#"not key = "eu-1" and trace exists"#, &[1]),
            (r#"not (key = "eu-1" and trace exists)"#, &[1, 2, 3]),
            (r#"not not key = "eu-1""#, &[0]),
        ],
    );
}

#[test]
fn unusual_names_and_texts_can_be_written() {
    let messages = messages(&[
        (None, &[("key", "k"), ("header", "h"), ("in", "i"), ("10", "ten"), ("", "empty"), ("größe", "ä\"'\\\n")]),
        (None, &[("content-type.v2", "a"), ("_x", "a"), ("x-9", "-"), ("größe", "ä")]),
    ]);
    lets_through(
        &messages,
        &[
            (r#"header("key") = "k""#, &[0]),
            (r#"HEADER ( 'header' )='h'"#, &[0]),
            (r#"header("in")in("i")"#, &[0]),
            (r#"header("10") = 'ten'"#, &[0]),
            (r#"header("") exists"#, &[0]),
            (r#"header("gr\xc3\xb6ße") = 'ä"\'\\\n'"#, &[0]),
            (r#"header('größe') = "ä\"'\\\x0a""#, &[0]),
            (r#"content-type.v2='a'and _x="a""#, &[1]),
            ("\t\r\n x-9 exists\n", &[1]),
        ],
    );
}

#[test]
fn only_finite_decimal_numbers_are_numbers() {
    for text in ["0", "-0", "+1", "1.5", ".5", "5.", "1e3", "1E-3", "-1.5e+3", "0001", "1e-999"] {
        assert!(eval::decimal(text.as_bytes()).is_some(), "{text}");
    }
    for text in ["", "-", ".", "e", "1e", "1e999", "inf", "-Infinity", "nan", "0x10", " 1", "1 ", "1_000", "1,5", "１"]
    {
        assert!(eval::decimal(text.as_bytes()).is_none(), "{text}");
    }
}

#[test]
fn mistakes_are_told_where_they_are() {
    for (text, position, problem, hint) in [
        ("", 0, "it is empty", "leave it out"),
        (" \n ", 0, "it is empty", "leave it out"),
        ("a", 1, "expected an operator, found the end", "say exists"),
        ("a 'x'", 2, "expected an operator, found a text in quotes", "= != <"),
        ("a == 1", 2, "there is no operator \"==\"", "write ="),
        ("a <> 1", 2, "there is no operator \"<>\"", "write !="),
        ("a = 1 && b = 2", 6, "there is no operator \"&&\"", "write and"),
        ("a = 1 || b = 2", 6, "there is no operator \"||\"", "write or"),
        ("!a exists", 0, "there is no operator \"!\"", "write not"),
        ("a =! 1", 2, "there is no operator \"=!\"", "there are ="),
        ("a = b", 4, "expected a number or a text in quotes, found \"b\"", "like \"b\""),
        ("a = true", 4, "found \"true\"", "in quotes, like \"true\""),
        ("a = ", 4, "expected a number or a text in quotes, found the end", "for example"),
        ("a = key", 4, "found \"key\"", "in quotes"),
        ("a < '1'", 4, "expected a number, since", "without quotes"),
        ("a prefix 1", 9, "expected a text in quotes after prefix, found \"1\"", "key prefix"),
        ("a in 1", 5, "expected ( after in", "region in"),
        ("a in ()", 6, "expected a number or a text in quotes, found \")\"", "for example"),
        ("a in (1 2)", 8, "expected , or ) after a value of in, found \"2\"", "region in"),
        ("a in (1,)", 8, "expected a number or a text in quotes", "for example"),
        ("a not in (1)", 2, "expected an operator, found \"not\"", "not comes first"),
        ("a = 1 b = 2", 6, "expected and, or or the end, found \"b\"", "join"),
        ("a = 1 and", 9, "expected a comparison, found the end", "for example"),
        ("in = 1", 0, "expected a comparison, found \"in\"", "header(\"in\")"),
        ("1 = a", 0, "expected key or the name of a header, found \"1\"", "comes first"),
        ("'a' = a", 0, "found a text in quotes", "header(\"any name\")"),
        ("10x = 1", 0, "\"10x\" is not a number", "header(\"10x\")"),
        ("a = 1e999", 4, "\"1e999\" is not a number", "64-bit"),
        ("a = 10and b exists", 4, "\"10and\" is not a number", "decimal"),
        ("(a = 1", 6, "expected and, or or the ) for the ( at byte 0, found the end", "close"),
        ("(a = 1 b", 7, "at byte 0, found \"b\"", "close"),
        ("a = 1)", 5, "this parenthesis closes none", "leave it out"),
        ("header = 'x'", 7, "expected ( after header, found \"=\"", "header(\"any name\")"),
        ("header(a) = 'x'", 7, "expected the name of a header in quotes, found \"a\"", "header(\"any name\")"),
        ("header('a' = 'x'", 11, "expected ) after the name", "header(\"any name\")"),
        (r"header('\xff') exists", 7, "always UTF-8", "leave \\x out"),
        ("a = 'x", 4, "the text in quotes has no end", "close it with '"),
        (r#"a = "x\""#, 4, "the text in quotes has no end", r#"\""#),
        (r"a = 'x\", 6, "no known escape", r"\xHH"),
        (r"a = 'x\d'", 6, "no known escape", r"\xHH"),
        (r"a = '\x+f'", 5, "no known escape", r"\xHH"),
        (r"a = '\xfä'", 5, "no known escape", r"\xHH"),
        ("ä = 1", 0, "'ä' has no meaning", "header(\"any name\")"),
        ("a = 'ä' and “x” exists", 13, "'“' has no meaning", "in quotes"),
        ("a\u{a0}= 1", 1, "'\\u{a0}' has no meaning", "names are"),
    ] {
        let error = Filter::parse(text).expect_err(text);
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.problem.contains(problem), "{text}: {error}");
        assert!(error.hint.contains(hint), "{text}: {error}");
    }
    let shown = Filter::parse("a == 1").unwrap_err().to_string();
    assert_eq!(shown, "the filter is wrong at byte 2: there is no operator \"==\"; write =");
    let long = Filter::parse(&format!("a = {}", "ö1".repeat(1000).replace('ö', "b"))).unwrap_err().to_string();
    assert!(long.len() < 400, "{long}");
}

#[test]
fn limits_hold_exactly() {
    let refused = |text: &str, position: usize, problem: &str| {
        let error = Filter::parse(text).expect_err(problem);
        assert_eq!(error.position, position, "{error}");
        assert!(error.problem.contains(problem) && !error.hint.is_empty(), "{error}");
    };
    let padded = |bytes: usize| format!("{:bytes$}", "a exists");
    filter(&padded(MAX_FILTER_BYTES));
    refused(&padded(MAX_FILTER_BYTES + 1), MAX_FILTER_BYTES, "it has 4097 bytes");
    refused(&format!("a = '{}'", "€".repeat(2000)), 4094, "it has 6006 bytes");

    let nested = |depth: usize| format!("{}a exists{}", "(not ".repeat(depth / 2), ")".repeat(depth / 2));
    filter(&nested(MAX_FILTER_DEPTH));
    let side_by_side = vec![nested(MAX_FILTER_DEPTH); 10].join(" or ");
    filter(&side_by_side);
    refused(&nested(MAX_FILTER_DEPTH + 2), MAX_FILTER_DEPTH / 2 * 5, "more than 32 parentheses");
    refused(&"(".repeat(MAX_FILTER_BYTES), MAX_FILTER_DEPTH, "more than 32 parentheses");
    refused(&"not ".repeat(MAX_FILTER_BYTES / 4), MAX_FILTER_DEPTH * 4, "more than 32 parentheses");

    let terms = |count: usize| vec!["a=1"; count].join(" or ");
    filter(&terms(MAX_FILTER_TERMS));
    refused(&terms(MAX_FILTER_TERMS + 1), MAX_FILTER_TERMS * 7, "more than 256 comparisons");
    let values = |count: usize| format!("a=1 or a in ({})", vec!["1"; count].join(","));
    filter(&values(MAX_FILTER_TERMS - 1));
    refused(&values(MAX_FILTER_TERMS), 13 + 2 * (MAX_FILTER_TERMS - 1), "more than 256 comparisons");
}

#[test]
fn a_filter_is_its_text() {
    let one = filter("key exists");
    assert_eq!(one, one.clone());
    assert_eq!(one, filter("key exists"));
    assert_ne!(one, filter("key  exists"));
    assert_eq!((one.text(), format!("{one:?}")), ("key exists", "Filter(\"key exists\")".to_owned()));
    for (text, needs_headers) in [
        ("key exists and not (key = 'a' or key in (1, 2))", false),
        ("key exists and not (key = 'a' or header('key') = 'b')", true),
        ("a exists", true),
    ] {
        assert_eq!(filter(text).needs_headers(), needs_headers, "{text}");
    }
}
