//! When prepared transactions are due. Pure; the driver is [`watch`](super::watch).

use std::collections::{BTreeMap, BTreeSet};

use brigade_index::{names::TransactionId, state::Prepared};

/// For each transaction that waits one time, milliseconds since the Unix epoch, at which it is looked at.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: BTreeSet<(i64, TransactionId)>,
    times: BTreeMap<TransactionId, i64>,
}

impl Schedule {
    /// The transaction is due then, and at no other time.
    pub(super) fn put(&mut self, id: TransactionId, time_ms: i64) {
        if let Some(before) = self.times.insert(id.clone(), time_ms) {
            self.due.remove(&(before, id.clone()));
        }
        self.due.insert((time_ms, id));
    }

    /// The next time at which one is due.
    pub(super) fn next(&self) -> Option<i64> {
        self.due.first().map(|(time_ms, _)| *time_ms)
    }

    /// A transaction that is due.
    pub(super) fn take(&mut self, now_ms: i64) -> Option<TransactionId> {
        if self.next()? > now_ms {
            return None;
        }
        let (_, id) = self.due.pop_first()?;
        self.times.remove(&id);
        Some(id)
    }
}

/// When a transaction is to be looked at: at its end, or before that when somebody is to be asked. `asked_ms` is when that
/// was done last; `random` spreads those that came together.
pub(super) fn due_ms(prepared: &Prepared, asked_ms: Option<i64>, now_ms: i64, random: u64) -> i64 {
    let expires_ms = prepared.prepare.expires_ms;
    let Some(check) = &prepared.prepare.check_back else { return expires_ms };
    let every = i64::from(check.every_ms);
    let spread = (random % (u64::from(check.every_ms) / 10 + 1)).cast_signed();
    let question = asked_ms.unwrap_or(prepared.created_ms).saturating_add(every).max(now_ms);
    question.saturating_add(spread).min(expires_ms)
}

#[cfg(test)]
mod tests {
    use brigade_index::{
        command::{CheckBack, Prepare},
        ids::Sequence,
    };

    use super::*;

    fn id(name: &str) -> TransactionId {
        TransactionId::new(name).unwrap()
    }

    #[test]
    fn each_is_due_once_in_order_and_at_the_last_time_it_was_given() {
        let mut schedule = Schedule::default();
        [("a", 30), ("b", 10), ("c", 20), ("b", 40)].iter().for_each(|(name, time)| schedule.put(id(name), *time));
        assert_eq!((schedule.next(), schedule.take(19)), (Some(20), None));
        assert_eq!([schedule.take(30), schedule.take(30), schedule.take(30)], [Some(id("c")), Some(id("a")), None]);
        assert_eq!((schedule.take(40), schedule.next()), (Some(id("b")), None));
    }

    #[test]
    fn questions_come_with_a_spread_and_never_after_the_end() {
        let check_back = Some(CheckBack { url: "u".to_owned(), every_ms: 1_000 });
        let prepare = |check_back| Prepare { expires_ms: 10_000, check_back };
        let prepared = |prepare| Prepared {
            created_ms: 100,
            prepare,
            publishes: Vec::new(),
            settles: Vec::new(),
            sequence: Sequence(1),
            body_at: 0,
        };
        let asked = prepared(prepare(check_back));
        for random in [0, 57, u64::MAX] {
            assert!((1_100..=1_200).contains(&due_ms(&asked, None, 100, random)), "the first");
            assert!((3_000..=3_100).contains(&due_ms(&asked, None, 3_000, random)), "after a takeover");
            assert!((4_000..=4_100).contains(&due_ms(&asked, Some(3_000), 3_500, random)), "the next");
            assert_eq!(due_ms(&asked, Some(9_500), 9_600, random), 10_000);
            assert_eq!(due_ms(&prepared(prepare(None)), None, 100, random), 10_000);
        }
    }
}
