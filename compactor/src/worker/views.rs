//! When which views of the archive are published.

use std::collections::{BTreeMap, BTreeSet};

use brigade_index::{
    ids::TopicId,
    shard::Shard,
    state::{ShardState, Topic},
};
use tokio::time::Instant;

use super::{Pace, failures::Pause};
use crate::{
    deletion::Published,
    views::{self, ViewError},
};

/// What changed before may not have been published by the leader that was there then, if it was not long ago.
const DOUBT_MS: i64 = 24 * 60 * 60 * 1000;

/// A topic whose views have been published, or tried to.
#[derive(Default)]
struct Tried {
    at: Option<Instant>,
    pause: Pause,
}

/// What is published.
pub(super) struct Views {
    pace: Pace,
    pub(super) published: Published,
    tried: BTreeMap<TopicId, Tried>,
    /// Topics whose views are written once more, whatever is known of them.
    anew: BTreeSet<TopicId>,
}

impl Views {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, published: Published::new(pace.pauses), tried: BTreeMap::new(), anew: BTreeSet::new() }
    }

    /// Topics whose views are to be published now, and when to look again if others wait for their time.
    fn due(&self, state: &ShardState, now_ms: i64, at_once: bool) -> (Vec<TopicId>, Option<Instant>) {
        let now = Instant::now();
        let (mut due, mut next): (Vec<_>, Option<Instant>) = (Vec::new(), None);
        let behind = |topic: &&Topic| {
            topic.archive_version > 0 && self.anew.contains(&topic.id)
                || topic.archive_version > self.published.version(topic.id)
                    && (self.tried.contains_key(&topic.id)
                        || topic.archive_changed_ms > now_ms.saturating_sub(DOUBT_MS))
        };
        for topic in state.topics().filter(behind) {
            let tried = self.tried.get(&topic.id);
            let earliest =
                tried.and_then(|tried| Some((tried.at? + self.pace.views_every).max(tried.pause.end().unwrap_or(now))));
            match earliest.filter(|earliest| *earliest > now && !at_once) {
                None => due.push(topic.id),
                Some(earliest) => next = Some(next.map_or(earliest, |next| next.min(earliest))),
            }
        }
        (due, next)
    }

    /// These must be published before something of them can be deleted.
    pub(super) fn need(&mut self, topics: impl IntoIterator<Item = TopicId>) {
        for topic in topics {
            self.tried.entry(topic).or_default();
        }
    }

    /// These are written once more, as they are asked for: somebody may have deleted them.
    pub(super) fn write_anew(&mut self, topics: impl IntoIterator<Item = TopicId>) {
        self.anew.extend(topics);
    }

    /// Publishes what is due. Gives when to look again, and what went wrong.
    pub(super) async fn publish(
        &mut self,
        shard: &Shard,
        now_ms: i64,
        at_once: bool,
    ) -> (Option<Instant>, Vec<ViewError>) {
        let (due, mut next) = self.due(&shard.state(), now_ms, at_once);
        let mut problems = Vec::new();
        self.anew.clear();
        for topic in due {
            let result = views::publish(shard, topic).await;
            let tried = self.tried.entry(topic).or_default();
            let now = Instant::now();
            tried.at = Some(now);
            match result {
                Ok(version) => {
                    tried.pause = Pause::default();
                    self.published.note(topic, version);
                }
                Err(error) => {
                    tried.pause.failed(now, self.pace.pauses);
                    let again = tried.pause.end();
                    next = next.into_iter().chain(again).min();
                    problems.push(error);
                }
            }
        }
        (next, problems)
    }
}
