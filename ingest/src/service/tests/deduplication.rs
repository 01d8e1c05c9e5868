//! Messages with deduplication ids and attributes, from the draft to the answer.

use super::*;

/// Messages `(id, partition)`; the value is the id. An empty id is none.
async fn publish(world: &World, identity: Option<&str>, messages: &[(&str, u32)]) -> PublishReply {
    let admission = world.ingest.admit(100).unwrap();
    let identity = identity.map(|key| Identity::Key(key.into()));
    let mut draft = world.ingest.draft(&world.topic, identity).unwrap();
    for (id, partition) in messages {
        let message = MessageRef {
            key: None,
            value: Some(id.as_bytes()),
            kind: ValueKind::Text,
            headers: &[],
            timestamp_ms: 0,
            attributes: Attributes::default(),
        };
        draft.push_once(&message, Some(*partition), (!id.is_empty()).then_some(*id)).unwrap();
    }
    world.ingest.publish(draft, admission).await.unwrap()
}

/// Whatever shares an entry: each id is stored once, and everyone is told where.
#[tokio::test]
async fn concurrent_messages_with_one_id_are_stored_once() {
    let world = &world(3, IngestSettings::default());
    let publishes = (0..200_u32).map(|at| async move {
        let ids: Vec<_> = (0..6).map(|n| ((at * 7 + n * 13) % 41).to_string()).collect();
        let messages: Vec<_> = (0..).zip(&ids).map(|(n, id)| (id.as_str(), (at + n) % 3)).collect();
        let key = at.to_string();
        let identity = (at % 3 == 0).then_some(key.as_str());
        let first = publish(world, identity, &messages).await;
        if identity.is_some() {
            let again = publish(world, identity, &messages).await;
            assert_eq!((&again.placed, &again.duplicates), (&first.placed, &first.duplicates));
            assert!(again.duplicate && !first.duplicate);
        }
        (ids, first)
    });
    let (mut originals, mut places) = (0, std::collections::BTreeMap::new());
    for (ids, reply) in join_all(publishes).await {
        originals += ids.len() - reply.duplicates.len();
        for (id, place) in ids.iter().zip(&reply.placed) {
            assert_eq!(places.entry(id.clone()).or_insert(*place), place);
        }
    }
    assert_eq!((originals, places.len()), (41, 41));
    let mut stored = 0;
    for partition in 0..3 {
        for (offset, value) in (0..).zip(world.read(partition, 0).await) {
            assert_eq!(places[&value], (Partition(partition), Offset(offset)));
            stored += 1;
        }
    }
    assert_eq!(stored, 41);
}

#[tokio::test]
async fn attributes_are_read_as_they_were_published() {
    let world = world(1, IngestSettings::default());
    let deliver_at_ms = Some(world.ingest.draft(&world.topic, None).unwrap().now_ms() + 5);
    let given = [
        Attributes::default(),
        Attributes { group: Some("größe"), priority: Some(0), ..Attributes::default() },
        Attributes { deliver_at_ms, ..Attributes::default() },
    ];
    let admission = world.ingest.admit(100).unwrap();
    let mut draft = world.ingest.draft(&world.topic, None).unwrap();
    for attributes in given {
        let (value, headers) = (Some(b"v".as_slice()), &[]);
        draft
            .push(&MessageRef { key: None, value, kind: ValueKind::Text, headers, timestamp_ms: 0, attributes }, None)
            .unwrap();
    }
    world.ingest.publish(draft, admission).await.unwrap();
    let reply = world.ingest.read(world.request(0, ReadFrom::Earliest)).await.unwrap();
    let [slice] = reply.slices.as_slice() else { panic!("one batch") };
    assert_eq!([0, 1, 2].map(|row| slice.messages.attributes(row)), given);
    let used = AttributeSet::GROUP.union(AttributeSet::PRIORITY).union(AttributeSet::DELAY);
    let state = world.ingest.0.log.state();
    let run = state.topic(world.id).unwrap().partitions[0].runs()[0];
    assert_eq!((slice.messages.attribute_set(), run.attributes), (used, used));
}
