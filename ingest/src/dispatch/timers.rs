//! When something is to be done with touched messages. Ten million of them are in flight at once, so a timer is a word in a
//! bucket; one that is taken out of turn stays behind until its bucket has more of those than others.

use std::collections::BTreeMap;

use super::types::At;

/// Timers taken out of turn that a bucket may have besides as many as are good.
const SLACK: usize = if cfg!(test) { 2 } else { 32 };

/// Timers of one time.
#[derive(Debug)]
enum Bucket {
    One(At),
    Many(Box<Many>),
}

#[derive(Debug)]
struct Many {
    /// Timers, and others that were taken out or stand here twice.
    ats: Vec<At>,
    /// How many messages have a timer here.
    live: usize,
    /// Whether the first is the last.
    sorted: bool,
}

const _: () = assert!(size_of::<Bucket>() == 16);

/// Of each touched message at most one. The caller knows each message's own time: `is_live` says whether a message has its
/// timer at a time.
#[derive(Debug, Default)]
pub(super) struct Timers {
    buckets: BTreeMap<i64, Bucket>,
}

impl Timers {
    /// The message has no other timer.
    pub(super) fn insert(&mut self, time: i64, at: At) {
        let Some(bucket) = self.buckets.get_mut(&time) else {
            self.buckets.insert(time, Bucket::One(at));
            return;
        };
        match bucket {
            Bucket::One(other) => {
                let many = Many { ats: vec![*other, at], live: 2, sorted: false };
                *bucket = Bucket::Many(Box::new(many));
            }
            Bucket::Many(many) => {
                many.ats.push(at);
                (many.live, many.sorted) = (many.live + 1, false);
            }
        }
    }

    /// Takes a message's timer out.
    pub(super) fn remove(&mut self, time: i64, at: At, is_live: impl Fn(i64, At) -> bool) {
        match self.buckets.get_mut(&time) {
            Some(Bucket::Many(many)) if many.live > 1 => {
                many.live -= 1;
                if many.ats.last() == Some(&at) {
                    many.ats.pop();
                } else if many.ats.len() > 2 * many.live + SLACK {
                    many.sweep(|other| other != at && is_live(time, other));
                }
            }
            _ => _ = self.buckets.remove(&time),
        }
    }

    /// The next message whose time has come: the first of the earliest time. It stays until it is removed.
    pub(super) fn due(&mut self, now: i64, is_live: impl Fn(i64, At) -> bool) -> Option<At> {
        let mut first = self.buckets.first_entry().filter(|first| *first.key() <= now)?;
        let time = *first.key();
        match first.get_mut() {
            Bucket::One(at) => Some(*at),
            Bucket::Many(many) => {
                if !many.sorted {
                    many.sweep(|at| is_live(time, at));
                }
                while let Some(at) = many.ats.last().copied() {
                    if is_live(time, at) {
                        return Some(at);
                    }
                    many.ats.pop();
                }
                None
            }
        }
    }

    /// The earliest time.
    pub(super) fn first(&self) -> Option<i64> {
        self.buckets.first_key_value().map(|(time, _)| *time)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let live = |bucket: &Bucket| match bucket {
            Bucket::One(_) => 1,
            Bucket::Many(many) => many.live,
        };
        self.buckets.values().map(live).sum()
    }
}

impl Many {
    /// Drops what was taken out, and puts the rest in order.
    fn sweep(&mut self, is_live: impl Fn(At) -> bool) {
        self.ats.retain(|at| is_live(*at));
        self.ats.sort_unstable_by(|a, b| b.cmp(a));
        self.ats.dedup();
        if self.ats.len() * 4 < self.ats.capacity() {
            self.ats.shrink_to(self.ats.len() * 2);
        }
        self.sorted = true;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_earliest_comes_first_however_often_timers_were_moved(
            moves in proptest::collection::vec((0..40u64, 0..8i64, any::<bool>()), 1..300),
        ) {
            let (mut timers, mut times) = (Timers::default(), BTreeMap::<At, i64>::new());
            for (number, time, fire) in moves {
                let at = At(number);
                if let Some(old) = times.get(&at).copied() {
                    timers.remove(old, at, |time, at| times.get(&at) == Some(&time));
                    times.remove(&at);
                }
                times.insert(at, time);
                timers.insert(time, at);
                let due = times.iter().map(|(at, time)| (*time, *at)).min();
                prop_assert_eq!(timers.first(), due.map(|(time, _)| time));
                prop_assert_eq!(timers.len(), times.len());
                if fire {
                    let found = timers.due(4, |time, at| times.get(&at) == Some(&time));
                    prop_assert_eq!(found, due.filter(|(time, _)| *time <= 4).map(|(_, at)| at));
                    if let Some(at) = found {
                        timers.remove(times[&at], at, |time, at| times.get(&at) == Some(&time));
                        times.remove(&at);
                    }
                }
                let words: usize = timers.buckets.values().map(|bucket| match bucket {
                    Bucket::One(_) => 0,
                    Bucket::Many(many) => many.ats.len(),
                }).sum();
                prop_assert!(words <= 2 * times.len() + 8 * (SLACK + 1), "{} words", words);
            }
        }
    }
}
