//! Traps: the node that takes a certain step next is struck at that very moment, before or after the store is asked.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use object_store::path::Path;
use tokio::sync::Notify;

use super::{gate::Gate, lock};

/// A step of what works in the background, as stores see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An archive file, or a part of one, is written.
    File,
    /// An archive file is deleted.
    DeleteFile,
    /// Views are written or deleted.
    View,
    /// A snapshot is written.
    Snapshot,
    /// A truncation mark is written.
    Floor,
    /// Something of the journal is deleted.
    Truncate,
}

pub(super) const STEPS: [Step; 6] =
    [Step::File, Step::DeleteFile, Step::View, Step::Snapshot, Step::Floor, Step::Truncate];

impl Step {
    fn of(verb: &str, key: &Path) -> Option<Self> {
        let key = key.as_ref();
        let deletes = verb == "delete";
        let writes = verb.starts_with("put") || verb == "complete" || verb == "begin";
        if key.starts_with("archive/") {
            match key.ends_with(".parquet") {
                true if deletes => Some(Self::DeleteFile),
                true => writes.then_some(Self::File),
                false => (writes || deletes).then_some(Self::View),
            }
        } else if key.starts_with("journal/") && deletes {
            Some(Self::Truncate)
        } else if key.contains("/snapshot/") {
            writes.then_some(Self::Snapshot)
        } else if key.contains("/floor/") {
            writes.then_some(Self::Floor)
        } else {
            None
        }
    }
}

/// A trap that is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trap {
    pub(super) step: Step,
    /// So many further requests of the node go through before it is struck.
    pub(super) then: u32,
    /// Whether the request that it is struck at reaches the store.
    pub(super) after: bool,
    /// Whether it dies; otherwise it is paused.
    pub(super) kills: bool,
}

#[derive(Debug, Default)]
struct State {
    trap: Option<Trap>,
    /// Who stepped into it, and how many requests are left.
    victim: Option<(Arc<str>, u32)>,
    struck: Option<Arc<str>>,
}

/// The traps of a world. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Traps(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    sprung: Notify,
}

impl Traps {
    /// Sets a trap, in the place of any other.
    pub(super) fn set(&self, trap: Trap) {
        *lock(&self.0.state) = State { trap: Some(trap), ..State::default() };
    }

    pub(super) fn clear(&self) {
        *lock(&self.0.state) = State::default();
    }

    /// Waits until somebody is struck; gives his name.
    pub(super) async fn sprung(&self) -> Arc<str> {
        loop {
            let sprung = self.0.sprung.notified();
            if let Some(struck) = lock(&self.0.state).struck.take() {
                return struck;
            }
            sprung.await;
        }
    }

    /// A node is about to send a request. Whether it is struck now, and whether the request goes through before.
    pub(super) fn step(&self, who: &Arc<str>, verb: &str, key: &Path) -> Option<Trap> {
        let state = &mut *lock(&self.0.state);
        let trap = state.trap?;
        let left = match &mut state.victim {
            Some((victim, left)) if victim == who => left,
            Some(_) => return None,
            None if Step::of(verb, key) == Some(trap.step) => &mut state.victim.insert((who.clone(), trap.then)).1,
            None => return None,
        };
        if *left > 0 {
            *left -= 1;
            return None;
        }
        *state = State { struck: Some(who.clone()), ..State::default() };
        self.0.sprung.notify_one();
        Some(trap)
    }
}

impl Trap {
    /// Strikes a node.
    pub(super) fn strike(&self, gate: &Gate) {
        if self.kills { gate.end() } else { gate.pause(true) }
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, then, after, kills } = self;
        let (what, when) = (if *kills { "dies" } else { "pauses" }, if *after { "after" } else { "before" });
        write!(f, "whoever is at {step:?} {what} {when} request {then} from there")
    }
}
