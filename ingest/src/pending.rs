//! Requests with an identity that are open or in flight, so that a repeated one waits for the first instead of being
//! stored beside it.

use std::collections::BTreeMap;

use brigade_index::{command::Identity, ids::TopicId};
use parking_lot::Mutex;

/// For each pending request those that repeat it. `T` is whoever waits.
#[derive(Debug)]
pub(crate) struct Pending<T>(Mutex<BTreeMap<(TopicId, Identity), Vec<T>>>);

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl<T> Pending<T> {
    /// Attaches `waiting` to the pending request of that identity; gives it back if there is none.
    pub(crate) fn attach(&self, topic: TopicId, identity: &Identity, waiting: T) -> Option<T> {
        match self.0.lock().get_mut(&(topic, identity.clone())) {
            Some(repeats) => {
                repeats.push(waiting);
                None
            }
            None => Some(waiting),
        }
    }

    /// A request of that identity is pending from now on.
    pub(crate) fn begin(&self, topic: TopicId, identity: Identity) {
        let before = self.0.lock().insert((topic, identity), Vec::new());
        assert!(before.is_none(), "one request of an identity is pending at a time");
    }

    /// The request is settled; those that repeated it are given back. Only afterwards is a request of that identity
    /// looked up in the committed state, which therefore knows the first one if it was stored.
    pub(crate) fn finish(&self, topic: TopicId, identity: &Identity) -> Vec<T> {
        self.0.lock().remove(&(topic, identity.clone())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn repeats_wait_for_the_first_and_are_given_back_once() {
        let pending = Pending::default();
        let key = |text: &str| Identity::Key(Arc::from(text));
        assert_eq!(pending.attach(TopicId(1), &key("a"), 1), Some(1));
        pending.begin(TopicId(1), key("a"));
        assert_eq!(pending.attach(TopicId(1), &key("a"), 2), None);
        assert_eq!(pending.attach(TopicId(1), &key("a"), 3), None);
        assert_eq!(pending.attach(TopicId(2), &key("a"), 4), Some(4), "another topic");
        assert_eq!(pending.finish(TopicId(1), &key("a")), [2, 3]);
        assert_eq!(pending.attach(TopicId(1), &key("a"), 5), Some(5));
    }
}
