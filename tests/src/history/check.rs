//! The checker: a pure function of a history and of what a topic holds.

use std::collections::{BTreeMap, BTreeSet};

use super::{History, Message, Outcome, Place, Publish, Stored};

/// A history without fault, in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Messages of acknowledged publishes.
    pub acknowledged: usize,
    /// Messages of publishes whose outcome stayed unknown and that are stored.
    pub unknown_stored: usize,
    /// Messages of publishes whose outcome stayed unknown and that are not stored.
    pub unknown_absent: usize,
    /// Messages of refused publishes.
    pub refused: usize,
}

/// Checks a history against all that the topic holds.
///
/// - offsets of a partition begin at 0 and have no gap and no repetition (I7);
/// - what is stored was sent, and is not stored twice (I8, I18);
/// - an acknowledged message is stored, once, exactly where the answer said (I6, I7);
/// - a refused one is not stored; a request is stored whole or not at all;
/// - a publish that began after another was acknowledged lies behind it in every partition;
/// - messages of one request keep their order, messages with one key share a partition;
/// - what a reader saw is what is there now (I9).
///
/// # Errors
/// Every violation, in words.
pub fn check(history: &History, stored: &[Stored]) -> Result<Summary, Vec<String>> {
    let mut violations = Vec::new();
    dense(stored, &mut violations);
    let by_place: BTreeMap<Place, &Message> = stored.iter().map(|s| (s.place, &s.message)).collect();
    let mut by_value: BTreeMap<&str, Vec<&Stored>> = BTreeMap::new();
    for copy in stored {
        by_value.entry(&copy.message.value).or_default().push(copy);
    }
    one_partition_a_key(stored, &mut violations);
    let mut sent = BTreeSet::new();
    let mut summary = Summary::default();
    for publish in &history.publishes {
        publish_is_right(publish, &by_value, &by_place, &mut summary, &mut violations);
        for message in &publish.messages {
            if !sent.insert(message.value.as_str()) {
                violations.push(format!("the history is not usable: {:?} was sent as two messages", message.value));
            }
        }
    }
    for value in by_value.keys().filter(|value| !sent.contains(**value)) {
        violations.push(format!("{value:?} is stored but was never sent"));
    }
    real_time_order(&history.publishes, &mut violations);
    for seen in &history.observed {
        if by_place.get(&seen.place) != Some(&&seen.message) {
            let now = by_place.get(&seen.place);
            violations.push(format!("a reader saw {seen:?}, now there is {now:?}"));
        }
    }
    if violations.is_empty() { Ok(summary) } else { Err(violations) }
}

fn dense(stored: &[Stored], violations: &mut Vec<String>) {
    let mut places: Vec<_> = stored.iter().map(|copy| copy.place).collect();
    places.sort_unstable();
    let mut expected = Place { partition: 0, offset: 0 };
    for place in places {
        if place.partition != expected.partition {
            expected = Place { partition: place.partition, offset: 0 };
        }
        if place != expected {
            violations.push(format!("the offset {expected:?} is expected, and {place:?} is there"));
        }
        expected = Place { offset: place.offset + 1, ..place };
    }
}

fn one_partition_a_key(stored: &[Stored], violations: &mut Vec<String>) {
    let mut partitions = BTreeMap::new();
    for Stored { place, message } in stored {
        let Some(key) = &message.key else { continue };
        let first = *partitions.entry(key).or_insert(place.partition);
        if first != place.partition {
            violations.push(format!("key {key:?} is in partitions {first} and {}", place.partition));
        }
    }
}

fn publish_is_right(
    publish: &Publish,
    by_value: &BTreeMap<&str, Vec<&Stored>>,
    by_place: &BTreeMap<Place, &Message>,
    summary: &mut Summary,
    violations: &mut Vec<String>,
) {
    let name = || format!("{} ({:?}, step {})", publish.client, publish.identity, publish.started);
    let copies = |message: &Message| by_value.get(message.value.as_str()).map_or(0, Vec::len);
    for message in publish.messages.iter().filter(|message| copies(message) > 1) {
        violations.push(format!("{}: {} copies of {:?} are stored", name(), copies(message), message.value));
    }
    let count = publish.messages.len();
    let present = publish.messages.iter().filter(|message| copies(message) > 0).count();
    if present != 0 && present != count {
        violations.push(format!("{}: {present} of the {count} messages of one request are stored", name()));
    }
    match &publish.outcome {
        Outcome::Unknown if present > 0 => summary.unknown_stored += count,
        Outcome::Unknown => summary.unknown_absent += count,
        Outcome::Refused => {
            summary.refused += count;
            if present > 0 {
                violations.push(format!("{}: it was refused and is stored", name()));
            }
        }
        Outcome::Acknowledged(places) => {
            summary.acknowledged += count;
            if places.len() != count {
                violations.push(format!("{}: {} places for {count} messages", name(), places.len()));
            }
            for (message, place) in publish.messages.iter().zip(places) {
                let found = by_place.get(place);
                if found != Some(&message) {
                    violations.push(format!("{}: {message:?} acknowledged at {place:?}: {found:?} there", name()));
                }
            }
            if !in_order(places) {
                violations.push(format!("{}: messages of one request changed their order: {places:?}", name()));
            }
        }
    }
}

fn in_order(places: &[Place]) -> bool {
    let mut last = BTreeMap::new();
    places.iter().all(|place| last.insert(place.partition, place.offset).is_none_or(|before| before < place.offset))
}

/// What was acknowledged before another publish began lies before it.
fn real_time_order(publishes: &[Publish], violations: &mut Vec<String>) {
    let acknowledged = publishes.iter().filter_map(|publish| match &publish.outcome {
        Outcome::Acknowledged(places) => Some((publish, places)),
        _ => None,
    });
    let mut by_start: Vec<_> = acknowledged.collect();
    let mut by_finish = by_start.clone();
    by_start.sort_by_key(|(publish, _)| publish.started);
    by_finish.sort_by_key(|(publish, _)| publish.finished);
    let mut finished = by_finish.iter().peekable();
    let mut highest: BTreeMap<u64, (u64, &Publish)> = BTreeMap::new();
    for (publish, places) in by_start {
        while let Some((earlier, places)) = finished.next_if(|(earlier, _)| earlier.finished < publish.started) {
            for place in places.iter() {
                let mark = highest.entry(place.partition).or_insert((place.offset, earlier));
                if mark.0 < place.offset {
                    *mark = (place.offset, earlier);
                }
            }
        }
        for place in places {
            if let Some((offset, earlier)) = highest.get(&place.partition).filter(|mark| mark.0 >= place.offset) {
                violations.push(format!(
                    "{} began at step {} and got {place:?}, but {} was acknowledged at step {} with offset {offset}",
                    publish.client, publish.started, earlier.client, earlier.finished
                ));
            }
        }
    }
}
