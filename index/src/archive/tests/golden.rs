use super::*;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/test-data/v1/archive.parquet");

fn contents() -> Vec<Owned> {
    let header = |name: &'static str, value: &'static str| (Cow::Borrowed(name), Cow::Borrowed(value));
    let message = |offset, value: Option<&[u8]>, kind, timestamp_ms| Owned {
        offset,
        key: Some(b"customer-7".to_vec()),
        value: value.map(<[u8]>::to_vec),
        kind,
        headers: Vec::new(),
        timestamp_ms,
        group: None,
        priority: None,
        times: [None, None],
    };
    let mut messages = vec![
        message(100, Some("größe".as_bytes()), 0, 1_700_000_000_000),
        message(101, Some(br#"{"a":1}"#), 1, -7),
        message(102, Some(b"\xff\x00"), 2, 1_700_000_000_001),
        message(105, None, 0, 1_700_000_000_002),
        message(106, Some(b""), 0, 253_402_300_799_999),
    ];
    messages[0].headers = vec![header("trace", "a"), header("größe", "b"), header("trace", "c")];
    messages[2].key = None;
    messages[2].times = [Some(1_700_000_060_000), Some(1_700_000_090_000)];
    messages[3].group = Some("g".to_owned());
    messages[4].priority = Some(9);
    messages
}

/// Archive files are there for years: a file of the first version is read for ever.
#[test]
fn a_stored_file_is_read_for_ever() {
    let head = head(12, 100, 110);
    let stored = std::fs::read(PATH).unwrap();
    let footer = open(&stored).unwrap();
    assert_eq!(*footer.head(), head);
    assert_eq!(read_all(&stored, &footer).unwrap(), contents());
}
