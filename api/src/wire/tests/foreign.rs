//! Bytes from anywhere never panic, neither published nor stored.

use brigade_index::batch::Compression;

use super::*;

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    let interesting = prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), Just(b'{'), Just(b','), Just(0xff), Just(0)];
    proptest::collection::vec((any::<prop::sample::Index>(), interesting), 1..6)
}

fn damaged(bytes: &[u8], damage: &[(prop::sample::Index, u8)], cut: prop::sample::Index) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, byte) in damage {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    if cut.index(4) == 0 {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

proptest! {
    #[test]
    fn random_bodies(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = json(&body);
        let _ = ndjson(&body);
        let _ = from_arrow(&body.clone().into());
        let _ = parse_raw(&body, true, &RawMeta::default(), NOW, &mut Sink::default());
    }

    #[test]
    fn damaged_json(messages in messages(), damage in damage(), cut in any::<prop::sample::Index>()) {
        let lines = encode_ndjson(&[slice(&messages, 0, 5)]);
        let lines = String::from_utf8(lines.to_vec()).unwrap().replace("\"offset\":", "\"partition\":");
        let lines = lines.replace("{\"partition\":0,", "{");
        let lines = damaged(lines.as_bytes(), &damage, cut);
        let _ = ndjson(&lines);
        let body = [b"{\"messages\":[", lines.trim_ascii(), b"]}"].concat();
        let _ = json(&body);
    }

    #[test]
    fn damaged_arrow(
        messages in messages(),
        damage in damage(),
        cut in any::<prop::sample::Index>(),
        compression in prop_oneof![Just(Compression::None), Just(Compression::Lz4)],
    ) {
        let stream = super::bad_arrow::publishable(&messages, compression);
        prop_assert!(from_arrow(&stream).is_ok());
        let _ = from_arrow(&damaged(&stream, &damage, cut).into());
    }

    #[test]
    fn stored_bytes_of_any_kind_make_valid_answers(
        values in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..20), 0..3_u8), 0..20),
    ) {
        let store = |(value, kind): &(Vec<u8>, u8)| Owned {
            key: Some(value.clone()),
            value: Some(value.clone()),
            kind: ValueKind::from_u8(*kind),
            headers: Vec::new(),
            timestamp_ms: i64::MIN,
            partition: None,
            group: Some("g".to_owned()),
            priority: Some(u8::MAX),
            times: [Some(i64::MIN), None],
            deduplication_id: None,
        };
        let stored: Vec<_> = values.iter().map(store).collect();
        let slices = [slice(&stored, 0, 0)];
        serde_json::from_slice::<serde_json::Value>(&encode_json(&slices, 0, 0)).unwrap();
        let lines = encode_ndjson(&slices);
        prop_assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), stored.len());
        let events = encode_sse(&slices);
        prop_assert_eq!(events.iter().filter(|byte| **byte == b'\n').count(), 3 * stored.len());
        encode_arrow(&slices, Compression::Lz4).unwrap();
    }
}
