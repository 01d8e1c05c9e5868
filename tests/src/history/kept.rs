//! Topics that do not keep everything: what may be gone, and what must be there.

use std::collections::{BTreeMap, BTreeSet};

use super::{History, Message, Outcome, Place, Stored};

/// What a topic drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Nothing.
    Everything,
    /// Messages that are older than so many milliseconds, from the beginning of a partition.
    Time(i64),
    /// The beginning of a partition, if as many bytes as are to be kept follow it.
    Bytes,
    /// The beginning of a partition, once every subscription is done with it.
    Unsettled,
    /// Messages that are older than so many milliseconds, if a later one has their key.
    LastOfKey(i64),
}

/// What one read showed.
#[derive(Clone, Debug)]
pub struct Page {
    /// The partition.
    pub partition: u64,
    /// The offset that was asked for.
    pub from: u64,
    /// The offset after the last that was looked at.
    pub next: u64,
    /// What was there.
    pub messages: Vec<Stored>,
}

/// What is known of a topic besides the history of its publishes.
#[derive(Clone, Debug, Default)]
pub struct KeptHistory {
    /// Reads.
    pub pages: Vec<Page>,
    /// Messages that consumers asked to be settled, by subscription.
    pub settled: BTreeMap<String, BTreeSet<Place>>,
    /// Timestamps, by value.
    pub timestamps: BTreeMap<String, i64>,
}

/// What a topic holds.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Its messages.
    pub stored: Vec<Stored>,
    /// First offset of each partition that can be read, and the one after the last.
    pub bounds: Vec<(u64, u64)>,
    /// The latest time that any clock has shown so far, milliseconds since the Unix epoch.
    pub latest_ms: i64,
}

/// Figures of a history without fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptSummary {
    /// Messages that are there.
    pub stored: usize,
    /// Messages that were there and are gone.
    pub gone: usize,
}

/// Every message that was ever seen, and where.
pub fn known<'a>(publishes: &'a History, history: &'a KeptHistory, kept: &'a Kept) -> BTreeMap<Place, &'a Message> {
    let mut view = View::new(Keeps::Everything, history, kept);
    view.learn(publishes);
    view.known
}

struct View<'a> {
    keeps: Keeps,
    history: &'a KeptHistory,
    kept: &'a Kept,
    /// Every message that was ever seen in its place, or acknowledged there.
    known: BTreeMap<Place, &'a Message>,
    stored: BTreeMap<Place, &'a Message>,
    violations: Vec<String>,
}

/// Checks a topic that may have dropped something:
///
/// - what was acknowledged or seen somewhere is there unchanged, or it is gone because the topic does not keep it (I9);
/// - what goes by age, size or acknowledgement goes from the beginning, and the log start says so;
/// - of each key the last message is there;
/// - what is there was sent, once, and not refused (I8);
/// - a read leaves out nothing that is still there (I8).
///
/// # Errors
/// Every violation, in words.
pub fn check_kept(
    keeps: Keeps,
    publishes: &History,
    history: &KeptHistory,
    kept: &Kept,
) -> Result<KeptSummary, Vec<String>> {
    let mut view = View::new(keeps, history, kept);
    view.learn(publishes);
    view.as_sent(publishes);
    view.pages();
    let gone: Vec<Place> = view.known.keys().filter(|place| !view.stored.contains_key(place)).copied().collect();
    view.may_be_gone(&gone);
    view.is_within_bounds();
    let summary = KeptSummary { stored: view.stored.len(), gone: gone.len() };
    if view.violations.is_empty() { Ok(summary) } else { Err(view.violations) }
}

impl<'a> View<'a> {
    fn new(keeps: Keeps, history: &'a KeptHistory, kept: &'a Kept) -> Self {
        let stored = kept.stored.iter().map(|stored| (stored.place, &stored.message)).collect();
        Self { keeps, history, kept, known: BTreeMap::new(), stored, violations: Vec::new() }
    }

    fn wrong(&mut self, what: String) {
        self.violations.push(what);
    }

    fn learn(&mut self, publishes: &'a History) {
        let acknowledged = publishes.publishes.iter().filter_map(|publish| match &publish.outcome {
            Outcome::Acknowledged(places) => Some(places.iter().copied().zip(&publish.messages)),
            _ => None,
        });
        let read = self.history.pages.iter().flat_map(|page| &page.messages).chain(&publishes.observed);
        let seen = read.chain(&self.kept.stored).map(|stored| (stored.place, &stored.message));
        for (place, message) in acknowledged.flatten().chain(seen) {
            let first = *self.known.entry(place).or_insert(message);
            if first != message {
                self.wrong(format!("I9: {place:?} held {first:?} and {message:?}"));
            }
        }
    }

    fn as_sent(&mut self, publishes: &History) {
        let mut sent = BTreeMap::new();
        for publish in &publishes.publishes {
            sent.extend(publish.messages.iter().map(|message| (message, publish.outcome == Outcome::Refused)));
        }
        let mut places = BTreeMap::new();
        for (place, message) in self.known.clone() {
            match sent.get(message) {
                Some(false) => {}
                Some(true) => self.wrong(format!("{message:?} was refused, and was at {place:?}")),
                None => self.wrong(format!("{message:?} was never sent, and was at {place:?}")),
            }
            if let Some(other) = places.insert(message, place) {
                self.wrong(format!("I8: {message:?} was at {other:?} and at {place:?}"));
            }
        }
    }

    fn pages(&mut self) {
        for page in &self.history.pages {
            let Page { partition, from, next, messages } = page;
            let at = |offset: u64| Place { partition: *partition, offset };
            let shown: BTreeSet<_> = messages.iter().map(|stored| stored.place).collect();
            let ascending = messages.is_sorted_by(|one, two| one.place < two.place);
            if !ascending || shown.iter().any(|place| *place < at(*from) || *place >= at(*next)) {
                self.wrong(format!("a read is not in order: {page:?}"));
            }
            let left_out = self.stored.range(at(*from)..at(*next)).find(|(place, _)| !shown.contains(place));
            if let Some((place, message)) = left_out {
                let (place, message) = (*place, *message);
                self.wrong(format!("I8: {place:?} {message:?} was left out by a read of {from}..{next}"));
            }
        }
    }

    fn timestamp(&self, message: &Message) -> i64 {
        self.history.timestamps.get(&message.value).copied().unwrap_or(i64::MAX)
    }

    fn log_start(&self, place: Place) -> u64 {
        usize::try_from(place.partition).ok().and_then(|at| self.kept.bounds.get(at)).map_or(0, |bounds| bounds.0)
    }

    fn may_be_gone(&mut self, gone: &[Place]) {
        let mut last_of_key = BTreeMap::new();
        for (place, message) in &self.stored {
            message.key.as_ref().map(|key| last_of_key.insert((place.partition, key), place.offset));
        }
        for place in gone {
            let message = self.known[place];
            let timestamp = self.timestamp(message);
            let old = |ms: i64| timestamp.saturating_add(ms) <= self.kept.latest_ms;
            let start = self.log_start(*place);
            let why = match self.keeps {
                Keeps::LastOfKey(lag) => {
                    let key = message.key.as_ref();
                    let later = key.and_then(|key| last_of_key.get(&(place.partition, key)));
                    (!old(lag) || later.is_none_or(|later| *later < place.offset))
                        .then(|| format!("the last of its key is at {later:?}"))
                }
                _ if place.offset >= start => Some("it is behind the log start".to_owned()),
                Keeps::Everything => Some("everything is kept".to_owned()),
                Keeps::Time(ms) => (!old(ms)).then(|| "it is not old enough".to_owned()),
                Keeps::Bytes => None,
                Keeps::Unsettled => {
                    let open = self.history.settled.iter().find(|(_, settled)| !settled.contains(place));
                    open.map(|(name, _)| format!("{name} was not done with it"))
                }
            };
            if let Some(why) = why {
                let latest = self.kept.latest_ms;
                self.wrong(format!(
                    "I9: {place:?} is gone: {message:?} of {timestamp}: {why} (log start {start}, latest {latest})"
                ));
            }
        }
    }

    fn is_within_bounds(&mut self) {
        for place in self.known.clone().into_keys() {
            let (start, end) = self.kept.bounds.get(place.partition as usize).copied().unwrap_or_default();
            let (stored, keyed) = (self.stored.contains_key(&place), matches!(self.keeps, Keeps::LastOfKey(_)));
            if place.offset >= end || stored && place.offset < start || keyed && start > 0 {
                self.wrong(format!("{place:?} does not lie in {start}..{end}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Recorder;

    const AT: fn(u64) -> Place = |offset| Place { partition: 0, offset };

    fn message(offset: u64) -> Message {
        Message { key: Some(format!("key-{}", offset % 2)), value: format!("{offset}") }
    }

    /// Six messages of two keys, acknowledged one by one, the even ones old; of which `left` are left.
    fn verdict(keeps: Keeps, left: &[u64], log_start: u64, settled: u64) -> Result<KeptSummary, Vec<String>> {
        let recorder = Recorder::default();
        let mut history = KeptHistory::default();
        for offset in 0..6 {
            let ticket = recorder.start("sender", None, vec![message(offset)]);
            recorder.finish(&ticket, Outcome::Acknowledged(vec![AT(offset)]));
            history.timestamps.insert(format!("{offset}"), if offset < 4 { 0 } else { 1_000 });
        }
        history.settled.insert("s".to_owned(), (0..settled).map(AT).collect());
        let stored: Vec<_> = left.iter().map(|at| Stored { place: AT(*at), message: message(*at) }).collect();
        history.pages.push(Page { partition: 0, from: 0, next: 6, messages: stored.clone() });
        check_kept(keeps, &recorder.history(), &history, &Kept { stored, bounds: vec![(log_start, 6)], latest_ms: 500 })
    }

    #[test]
    fn only_what_a_topic_does_not_keep_may_be_gone() {
        let all = [0, 1, 2, 3, 4, 5];
        for keeps in [Keeps::Everything, Keeps::Time(100), Keeps::Bytes, Keeps::Unsettled, Keeps::LastOfKey(0)] {
            assert_eq!(verdict(keeps, &all, 0, 0), Ok(KeptSummary { stored: 6, gone: 0 }), "{keeps:?}");
        }
        let wrong = |keeps, left: &[u64], log_start, settled| {
            assert!(verdict(keeps, left, log_start, settled).is_err(), "{keeps:?} {left:?} {log_start} {settled}");
        };
        wrong(Keeps::Everything, &[1, 2, 3, 4, 5], 1, 6);
        assert!(verdict(Keeps::Time(100), &[4, 5], 4, 0).is_ok());
        wrong(Keeps::Time(100), &[5], 5, 0);
        wrong(Keeps::Time(600), &[4, 5], 4, 0);
        wrong(Keeps::Time(100), &[0, 1, 3, 4, 5], 0, 0);
        assert!(verdict(Keeps::Bytes, &[3, 4, 5], 3, 0).is_ok());
        wrong(Keeps::Bytes, &[3, 4, 5], 0, 0);
        wrong(Keeps::Bytes, &[3, 4, 5], 4, 0);
        assert!(verdict(Keeps::Unsettled, &[3, 4, 5], 3, 3).is_ok());
        wrong(Keeps::Unsettled, &[3, 4, 5], 3, 2);
        assert!(verdict(Keeps::LastOfKey(100), &[2, 3, 4, 5], 0, 0).is_ok());
        assert!(verdict(Keeps::LastOfKey(100), &[4, 5], 0, 0).is_ok());
        wrong(Keeps::LastOfKey(600), &[4, 5], 0, 0);
        wrong(Keeps::LastOfKey(100), &[1, 2, 3, 4], 0, 0);
        wrong(Keeps::LastOfKey(0), &[5], 0, 0);
    }

    #[test]
    fn what_is_there_is_what_was_sent_and_every_read_shows_it() {
        let recorder = Recorder::default();
        let ticket = recorder.start("sender", None, vec![message(0)]);
        recorder.finish(&ticket, Outcome::Acknowledged(vec![AT(0)]));
        let refused = recorder.start("sender", None, vec![message(1)]);
        recorder.finish(&refused, Outcome::Refused);
        let one = |offset: u64, of: u64| Stored { place: AT(offset), message: message(of) };
        let judge = |stored: Vec<Stored>, page: Vec<Stored>| {
            let pages = vec![Page { partition: 0, from: 0, next: 1, messages: page }];
            let kept = Kept { stored, bounds: vec![(0, 2)], latest_ms: 0 };
            check_kept(Keeps::Everything, &recorder.history(), &KeptHistory { pages, ..KeptHistory::default() }, &kept)
        };
        assert!(judge(vec![one(0, 0)], vec![one(0, 0)]).is_ok());
        for (stored, page) in [
            (vec![one(0, 0)], vec![]),
            (vec![one(0, 0), one(1, 1)], vec![one(0, 0)]),
            (vec![one(0, 0), one(1, 0)], vec![one(0, 0)]),
            (vec![one(0, 0), one(1, 7)], vec![one(0, 0)]),
            (vec![one(0, 0)], vec![one(0, 7)]),
            (vec![one(0, 0)], vec![one(0, 0), one(1, 1)]),
        ] {
            assert!(judge(stored.clone(), page.clone()).is_err(), "{stored:?} {page:?}");
        }
    }
}
