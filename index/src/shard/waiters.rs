//! Readers that wait for a partition to grow, and who follows queue subscriptions.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, futures::OwnedNotified};

use crate::{
    ids::{Partition, TopicId},
    state::Touched,
};

/// One `Notify` for each partition that somebody waits for. Entries whose waiters have all gone are swept when their
/// number has doubled, so the map stays in proportion to the waiters.
#[derive(Default)]
pub(super) struct Waiters {
    inner: Mutex<Inner>,
    /// Topics whose queue subscriptions have changed since somebody took note.
    changed: Mutex<BTreeSet<TopicId>>,
    changes: Notify,
}

#[derive(Default)]
struct Inner {
    notifies: BTreeMap<(TopicId, Partition), Weak<Notify>>,
    sweep_at: usize,
}

impl Waiters {
    /// A future that resolves at the next [`Self::wake`] of the partition after this call.
    pub(super) fn wait_for(&self, topic: TopicId, partition: Partition) -> impl Future<Output = ()> + Send + use<> {
        // Registered under the lock and not at the first poll: a wake between finding the `Notify` and registering with it
        // would take it out of the map, and nobody would find it again.
        let mut inner = self.inner.lock();
        let notify = {
            if inner.notifies.len() >= inner.sweep_at {
                inner.notifies.retain(|_, notify| notify.strong_count() > 0);
                inner.sweep_at = inner.notifies.len() * 2 + 64;
            }
            let known = inner.notifies.get(&(topic, partition)).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let notify = Arc::new(Notify::new());
                inner.notifies.insert((topic, partition), Arc::downgrade(&notify));
                notify
            })
        };
        let mut notified: Pin<Box<OwnedNotified>> = Box::pin(notify.notified_owned());
        notified.as_mut().enable();
        drop(inner);
        notified
    }

    /// Waits until queue subscriptions have changed and gives their topics. For one at a time; whoever stops waiting has
    /// taken nothing.
    pub(super) async fn changed(&self) -> BTreeSet<TopicId> {
        loop {
            let changed = std::mem::take(&mut *self.changed.lock());
            if !changed.is_empty() {
                return changed;
            }
            self.changes.notified().await;
        }
    }

    fn note(&self, touched: &[Touched]) {
        let changed = touched.iter().filter_map(|touched| match touched {
            Touched::Grown(..) => None,
            Touched::Deleted(topic) | Touched::Subscriptions(topic) => Some(*topic),
        });
        let mut changed = changed.peekable();
        if changed.peek().is_some() {
            self.changed.lock().extend(changed);
            self.changes.notify_one();
        }
    }

    /// Wakes who waits for what was touched.
    pub(super) fn wake(&self, touched: &[Touched]) {
        self.note(touched);
        let mut inner = self.inner.lock();
        if inner.notifies.is_empty() {
            return;
        }
        for touched in touched {
            match touched {
                Touched::Grown(topic, partition) => {
                    if let Some(notify) = inner.notifies.remove(&(*topic, *partition)).and_then(|weak| weak.upgrade()) {
                        notify.notify_waiters();
                    }
                }
                Touched::Deleted(topic) => {
                    let of_topic = (*topic, Partition(0))..=(*topic, Partition(u32::MAX));
                    for notify in inner.notifies.range(of_topic).filter_map(|(_, weak)| weak.upgrade()) {
                        notify.notify_waiters();
                    }
                }
                Touched::Subscriptions(_) => {}
            }
        }
    }

    /// Wakes everybody.
    pub(super) fn wake_all(&self) {
        let notifies = std::mem::take(&mut self.inner.lock().notifies);
        notifies.into_values().filter_map(|weak| weak.upgrade()).for_each(|notify| notify.notify_waiters());
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_change_of_queues_is_told_once_whether_it_was_waited_for_or_not() {
        let (waiters, [a, b, c]) = (Waiters::default(), [TopicId(1), TopicId(2), TopicId(3)]);
        waiters.wake(&[Touched::Grown(a, Partition(0)), Touched::Subscriptions(a), Touched::Deleted(b)]);
        assert_eq!(waiters.changed().now_or_never(), Some(BTreeSet::from([a, b])));
        waiters.wake(&[Touched::Grown(a, Partition(0))]);
        assert_eq!(waiters.changed().now_or_never(), None);
        let mut waiting = Box::pin(waiters.changed());
        assert_eq!(waiting.as_mut().now_or_never(), None);
        waiters.wake(&[Touched::Subscriptions(c)]);
        waiters.wake(&[Touched::Subscriptions(a)]);
        // Who has stopped waiting has taken nothing.
        drop(waiting);
        assert_eq!(waiters.changed().now_or_never(), Some(BTreeSet::from([a, c])));
        assert_eq!(waiters.changed().now_or_never(), None);
    }
}
