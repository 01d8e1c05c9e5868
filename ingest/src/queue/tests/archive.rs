//! Queues over archive files.

use brigade_index::{archive::WriterSettings, command::Fairness};

use super::*;

const P0: Partition = Partition(0);

impl World {
    /// Archives what a partition has between two offsets, in row groups of three messages, and deletes what it was in.
    fn archive(&self, partition: u32, first: u64, end: u64, keep: impl Fn(u64) -> bool) {
        let topic = self.log.state.read().topic_named(&self.topic).unwrap().id;
        let settings = WriterSettings { row_group_rows: 3, ..WriterSettings::default() };
        let bounds = (Offset(first), Offset(end));
        self.log.archive(topic, Partition(partition), bounds, &settings, |offset| keep(offset.0));
        self.log.delete_garbage();
    }

    fn trim(&self, to: u64) {
        let topic = self.log.state.read().topic_named(&self.topic).unwrap().id;
        self.log.trim(topic, P0, Offset(to));
        self.log.delete_garbage();
    }

    /// The same messages for every world: sixteen in four batches, of several groups, tenants, priorities and times.
    async fn publish_many(&self) {
        for batch in 0..4 {
            let texts: Vec<_> = (0..4).map(|at| format!("m{}", batch * 4 + at)).collect();
            let sent: Vec<_> = texts.iter().zip(0..).map(|(value, at)| many(value, batch * 4 + at)).collect();
            self.publish(&sent).await;
        }
        // Some expire before anybody polls.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// Delivers and acknowledges until nothing comes any more.
    async fn drain(&self) -> Vec<String> {
        let mut drained = Vec::new();
        loop {
            let got = self.poll(3, Duration::from_secs(5)).await;
            if got.is_empty() {
                return drained;
            }
            drained.extend(got.iter().map(|got| got.value.clone()));
            for result in self.settle(Action::Ack, &got.iter().collect::<Vec<_>>()).await {
                assert_eq!(result, OK);
            }
        }
    }

    /// Nothing is left to be settled, some time after the last poll.
    async fn assert_at_rest(&self, dead_letters: u64) {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let counts = self.queue.counts().await.unwrap();
        assert_eq!(counts, QueueCounts { dead_letters, ..QueueCounts::default() });
    }
}

fn many(value: &str, number: usize) -> Sent<'_> {
    const WANTED: &[(&str, &str)] = &[("tenant", "a"), ("want", "yes")];
    const OTHER: &[(&str, &str)] = &[("tenant", "b")];
    let attributes = Attributes {
        group: [Some("g"), None, Some("h"), Some("g"), None][number % 5],
        priority: [None, Some(7), Some(1)][number % 3],
        deliver_at_ms: (number % 7 == 6).then_some(4_000),
        expires_at_ms: (number % 8 == 7).then_some(1_050),
    };
    Sent { value, headers: if number.is_multiple_of(2) { WANTED } else { OTHER }, attributes, ..Sent::default() }
}

fn lenses() -> Vec<QueueSettings> {
    let filter = Some("want = 'yes'".to_owned());
    let fairness = Fairness::Header("tenant".to_owned());
    vec![
        QueueSettings::default(),
        QueueSettings { ordered: true, ..QueueSettings::default() },
        QueueSettings { filter: filter.clone(), ..QueueSettings::default() },
        QueueSettings { fairness: fairness.clone(), ..QueueSettings::default() },
        QueueSettings { ordered: true, fairness, filter, ..QueueSettings::default() },
    ]
}

#[tokio::test(start_paused = true)]
async fn archived_messages_are_delivered_in_the_same_order_and_filtered_like_others() {
    for settings in lenses() {
        for partitions in [1, 2] {
            let plain = world_with(partitions, settings.clone());
            plain.publish_many().await;
            let expected = plain.drain().await;
            assert!(expected.len() >= 7, "{expected:?}");
            plain.assert_at_rest(0).await;

            let archived = world_with(partitions, settings.clone());
            archived.publish_many().await;
            for partition in 0..partitions {
                let topic = archived.log.state.read().topic_named(&archived.topic).unwrap().id;
                let bounds = archived.log.bounds(topic, Partition(partition));
                // Two files, and the last batch in the journal.
                let middle = bounds[bounds.len() / 2];
                archived.archive(partition, 0, middle.0, |_| true);
                let last = bounds[bounds.len() - 2];
                if middle < last {
                    archived.archive(partition, middle.0, last.0, |_| true);
                }
            }
            assert_eq!(archived.drain().await, expected, "{settings:?}");
            archived.assert_at_rest(0).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_without_messages_are_settled_and_the_queue_comes_to_rest() {
    for settings in lenses() {
        let plain = world(settings.clone());
        plain.publish_many().await;
        let all = plain.drain().await;
        // Some are gone from a file, all from another; the last are still in the journal.
        let keep = |offset: u64| offset < 4 || (offset < 8 && offset.is_multiple_of(3));
        let world = world(settings.clone());
        world.publish_many().await;
        world.archive(0, 0, 8, keep);
        world.archive(0, 8, 12, keep);
        let there = |value: &String| value[1..].parse().is_ok_and(|at: u64| keep(at) || at >= 12);
        let mut expected: Vec<_> = all.into_iter().filter(there).collect();
        let mut got = world.drain().await;
        // Which tenant's turn it is depends on those who had a turn.
        expected.sort();
        got.sort();
        assert_eq!(got, expected, "{settings:?}");
        world.assert_at_rest(0).await;
        let floor = world.log.state.read().topic_named(&world.topic).unwrap().subscriptions
            [&SubscriptionName::new("q").unwrap()]
            .queue()
            .unwrap()
            .partition(P0)
            .unwrap()
            .floor();
        assert_eq!(floor, Offset(16));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_compacted_or_dropped_after_it_was_found_is_settled_instead_of_delivered() {
    let world = world(QueueSettings::default());
    for value in ["0", "1", "2", "3", "4", "5", "6", "7"] {
        world.publish_plain(&[value]).await;
    }
    let first = world.poll(2, Duration::ZERO).await;
    assert_eq!(values(&first), ["0", "1"]);
    // 2 to 7 are found and wait; 0 and 1 are in flight.
    world.archive(0, 0, 6, |offset| offset != 1 && offset != 2 && offset != 5);
    assert_eq!(values(&world.poll(1, Duration::ZERO).await), ["3"]);
    assert_eq!(world.ack(&first[1]).await, OK, "what was delivered can be acknowledged");
    world.trim(5);
    assert_eq!(values(&world.poll_now().await), ["6", "7"]);
    assert_eq!(world.ack(&first[0]).await, Err(ReceiptError::AlreadySettled), "it is gone");
    tokio::time::sleep(OVER).await;
    let again = world.poll_now().await;
    assert_eq!(values(&again), ["6", "7"], "3 expired when it was gone");
    world.settle(Action::Ack, &again.iter().collect::<Vec<_>>()).await;
    assert!(world.poll_now().await.is_empty());
    world.assert_at_rest(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_poll_finds_what_is_moved_or_gone_while_it_is_fetched() {
    for micros in [500, 1_500] {
        let world = world(QueueSettings::default());
        world.publish_plain(&["0", "1", "2"]).await;
        world.publish_plain(&["3", "4", "5"]).await;
        world.archive(0, 0, 3, |_| true);
        world.archive(0, 3, 6, |_| true);
        let meanwhile = |world: &World| {
            world.archive(0, 0, 6, |offset| offset != 4);
            world.trim(2);
        };
        let later = async {
            tokio::time::sleep(Duration::from_micros(micros)).await;
            meanwhile(&world);
        };
        let (got, ()) = tokio::join!(world.poll_now(), later);
        let got = values(&got).join(" ");
        assert!(got.ends_with("2 3 5") || got.ends_with("2 3 4 5"), "{got} after {micros}");
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_listed_given_back_and_copied_out_of_the_archive() {
    let world = world(QueueSettings::default());
    world.publish_plain(&["0", "1", "2", "3"]).await;
    let got = world.poll_now().await;
    world.settle(Action::Reject, &got.iter().collect::<Vec<_>>()).await;
    world.archive(0, 0, 4, |offset| offset != 2);
    let query = || DeadLetterQuery { after: None, max_messages: 10, max_bytes: 1 << 20, filter: None };
    let page = world.queue.dead_letters(query()).await.unwrap();
    let listed: Vec<_> =
        page.letters.iter().map(|(slice, _)| (slice.base.0, slice.messages.value(0).unwrap())).collect();
    assert_eq!(listed, [(0, b"0".as_slice()), (1, b"1"), (3, b"3")]);
    assert_eq!(page.letters[2].1.reason, DeadReason::Rejected);
    let one = DeadLetterPick { filter: None, max_messages: Some(1), per_second: None };
    assert_eq!(world.queue.redrive(one.clone()).await.unwrap(), 1);
    assert_eq!(values(&world.poll_now().await), ["0"]);
    assert_eq!(world.queue.purge(one.clone()).await.unwrap(), 1);
    // What is gone is given back, and then settled.
    let rest = DeadLetterPick { max_messages: None, ..one };
    assert_eq!(world.queue.redrive(rest).await.unwrap(), 2);
    assert_eq!(values(&world.poll_now().await), ["3"]);
    tokio::time::sleep(OVER).await;
    assert_eq!(world.drain().await, ["0", "3"]);
    world.assert_at_rest(0).await;
}

#[tokio::test(start_paused = true)]
async fn dead_letters_move_to_their_topic_out_of_the_archive() {
    let dead = TopicName::new("dead").unwrap();
    let settings = QueueSettings { dead_letter_topic: Some(dead.clone()), ..QueueSettings::default() };
    let world = world_made(1, settings, &["dead"]);
    world.publish_plain(&["0", "1", "2"]).await;
    let got = world.poll_now().await;
    world.archive(0, 0, 3, |offset| offset != 1);
    for result in world.settle(Action::Reject, &got.iter().collect::<Vec<_>>()).await {
        assert_eq!(result, OK);
    }
    let request = ReadRequest {
        topic: dead,
        partition: P0,
        from: ReadFrom::Earliest,
        max_messages: 10,
        max_bytes: 1 << 20,
        wait: Duration::ZERO,
    };
    let reply = world.ingest.read(request).await.unwrap();
    let text = |slice: &crate::Slice| {
        (0..slice.rows).map(|row| slice.messages.value(slice.first + row).unwrap().to_vec()).collect::<Vec<_>>()
    };
    let copies: Vec<_> = reply.slices.iter().flat_map(text).collect();
    assert_eq!(copies, [b"0", b"2"], "what is gone needs no copy");
    world.assert_at_rest(3).await;
}

#[tokio::test(start_paused = true)]
async fn a_damaged_block_holds_up_no_other() {
    let world = world(QueueSettings { filter: Some("want = 'yes'".to_owned()), ..QueueSettings::default() });
    let wanted = |value| Sent { headers: &[("want", "yes")], ..plain(value) };
    world.publish(&["0", "1", "2", "3", "4", "5", "6", "7", "8"].map(wanted)).await;
    world.archive(0, 0, 9, |_| true);
    // The block of 3, 4 and 5.
    let range = {
        let request = ReadRequest {
            topic: world.topic.clone(),
            partition: P0,
            from: ReadFrom::Offset(Offset(4)),
            max_messages: 1,
            max_bytes: 1,
            wait: Duration::ZERO,
        };
        let settings = IngestSettings { cache_bytes: 0, ..IngestSettings::default() };
        let metrics = IngestMetrics::new(&settings);
        let log = Log::Memory(world.log.clone());
        let ingest = Ingest::start_on(log, settings, metrics, Env::simulated(1, 0), &TaskTracker::new());
        ingest.read(request).await.unwrap();
        world.log.fetched_ranges().pop().unwrap().1
    };
    for bytes in world.log.files.lock().values_mut() {
        let mut flipped = bytes.to_vec();
        flipped[(range.start + range.end) as usize / 2] ^= 1;
        *bytes = flipped.into();
    }
    let mut got = Vec::new();
    for _ in 0..12 {
        let poll = QueuePoll { max_messages: 2, max_bytes: 1 << 20, wait: Duration::ZERO, visibility: None };
        got.extend(world.queue.poll(poll).await.map(|deliveries| self::got(&deliveries)).unwrap_or_default());
    }
    got.sort_by_key(|got| got.offset);
    assert_eq!(values(&got), ["0", "1", "2", "6", "7", "8"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_gets_is_settled_even_if_that_is_refused_at_first() {
    let world = world(QueueSettings { filter: Some("want = 'yes'".to_owned()), ..QueueSettings::default() });
    world.publish_plain(&["0", "1", "2"]).await;
    world.archive(0, 0, 3, |offset| offset != 1);
    *world.log.fault.lock() = Fault::Unavailable;
    assert!(world.poll(1, Duration::from_secs(5)).await.is_empty());
    assert_eq!(world.queue.counts().await.unwrap().unsettled, 3);
    *world.log.fault.lock() = Fault::None;
    assert!(world.poll(1, Duration::from_secs(5)).await.is_empty());
    world.assert_at_rest(0).await;
}
