use clap::Parser;
use serde_json::{Value, json};

use super::{Batcher, Encoder, Limits, Request};
use crate::cli::{Cli, CliError, Command};

fn batcher(arguments: &[&str], messages: u32, bytes: usize) -> Batcher {
    let cli = Cli::try_parse_from(["brigade", "publish", "t"].iter().chain(arguments)).unwrap();
    let Command::Publish(args) = cli.command else { panic!("not a publish command") };
    Batcher::new(Encoder::new(&args).unwrap(), Limits { messages, bytes })
}

fn objects(request: &Request) -> Vec<Value> {
    request.body.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
}

#[test]
fn a_line_becomes_a_message_object() {
    let mut batcher = batcher(&["--key", "k\"", "--header", "a=b=c", "--partition", "2", "--timestamp", "9"], 10, 1000);
    batcher.add(b"say \"hi\"\r", 10).unwrap();
    batcher.add(&[0xff, 0x00], 3).unwrap();
    let request = batcher.seal().unwrap();
    assert_eq!((request.messages, request.input_bytes, request.first_line, request.last_line), (2, 13, 1, 2));
    assert_eq!(
        objects(&request),
        [
            json!({"key": "k\"", "headers": {"a": "b=c"}, "partition": 2, "timestamp": 9, "value": "say \"hi\"\r"}),
            json!({"key": "k\"", "headers": {"a": "b=c"}, "partition": 2, "timestamp": 9, "value_base64": "/wA="}),
        ]
    );
}

#[test]
fn attributes_are_fields_of_the_message() {
    let all = ["v", "--group", "g", "--priority", "0", "--delay", "5", "--ttl", "6", "--deduplication-id", "i\""];
    let mut batcher = batcher(&all, 10, 1000);
    batcher.add(b"v", 1).unwrap();
    let expected =
        json!({"group": "g", "priority": 0, "delay_ms": 5, "ttl_ms": 6, "deduplication_id": "i\"", "value": "v"});
    assert_eq!(objects(&batcher.seal().unwrap()), [expected]);
    for values in [&[][..], &["a", "b"]] {
        let arguments = ["brigade", "publish", "t", "--deduplication-id", "i"].iter().chain(values);
        let Command::Publish(args) = Cli::try_parse_from(arguments).unwrap().command else { panic!("not a publish") };
        assert!(matches!(Encoder::new(&args), Err(CliError::Usage(_))));
    }
    assert!(Cli::try_parse_from(["brigade", "publish", "t", "v", "--priority", "10"]).is_err());
}

#[test]
fn keys_come_from_the_line() {
    let mut batcher = batcher(&["--key-field", "/user/id"], 10, 1000);
    batcher.add(br#"{"user":{"id":"u1"}}"#, 1).unwrap();
    batcher.add(br#"{"user":{"id":17}}"#, 1).unwrap();
    let request = batcher.seal().unwrap();
    assert_eq!(objects(&request)[0], json!({"key": "u1", "value": r#"{"user":{"id":"u1"}}"#}));
    assert_eq!(objects(&request)[1]["key"], "17");
    let error = batcher.add(br#"{"user":{}}"#, 1).unwrap_err();
    assert!(matches!(&error, CliError::Input { message, .. } if message.starts_with("line 3: ")), "{error}");
}

#[test]
fn message_objects_pass_and_blank_lines_do_not() {
    let mut batcher = batcher(&["--ndjson"], 10, 1000);
    batcher.add(br#"{"value":1}"#, 1).unwrap();
    batcher.add(b"  \r", 1).unwrap();
    batcher.add(br#"{"value":2}"#, 1).unwrap();
    let request = batcher.seal().unwrap();
    assert_eq!((request.messages, request.last_line), (2, 3));
    assert_eq!(&request.body[..], b"{\"value\":1}\n{\"value\":2}\n");
}

#[test]
fn requests_keep_their_limits() {
    let mut batcher = batcher(&[], 3, 200);
    let mut requests = Vec::new();
    for line in [&[b'a'; 10][..], &[b'b'; 10], &[b'c'; 10], &[b'd'; 500], &[b'e'; 10], &[b'f'; 180]] {
        requests.extend(batcher.add(line, 1).unwrap());
        requests.extend(batcher.take_full());
    }
    requests.extend(batcher.seal());
    assert_eq!(requests.iter().map(|r| r.messages).collect::<Vec<_>>(), [3, 1, 1, 1]);
    assert_eq!(
        requests.iter().map(|r| (r.first_line, r.last_line)).collect::<Vec<_>>(),
        [(1, 3), (4, 4), (5, 5), (6, 6)]
    );
    assert!(batcher.is_empty() && batcher.seal().is_none());
}
