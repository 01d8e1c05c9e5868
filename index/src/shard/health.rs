//! Whether this node leads, and whether the store takes its writes.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::ProposeError;
use crate::format::Leader;

/// New proposals are refused once appends have failed for this long: long enough to ride out a hiccup, short enough
/// that callers learn of an outage before their own time-outs.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// What this node is to the shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It leads.
    Leading,
    /// Another node took over.
    Deposed(Option<Leader>),
    /// Something that must not be was found in the journal.
    Broken(String),
    /// It led and has stopped.
    Stopped,
}

struct Inner {
    role: Role,
    failing: Option<(Instant, String)>,
}

pub(super) struct Health(Mutex<Inner>);

impl Health {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Inner { role: Role::Leading, failing: None }))
    }

    /// The store took a write. True if it had been failing.
    pub(super) fn succeeded(&self) -> bool {
        self.0.lock().failing.take().is_some()
    }

    /// The store did not take a write. True if this is news.
    pub(super) fn failed(&self, problem: String) -> bool {
        let mut inner = self.0.lock();
        let since = inner.failing.as_ref().map(|(since, _)| *since);
        inner.failing = Some((since.unwrap_or_else(Instant::now), problem));
        since.is_none()
    }

    /// The role changes for good; the first change stays.
    pub(super) fn end(&self, role: Role) {
        let mut inner = self.0.lock();
        if inner.role == Role::Leading {
            inner.role = role;
        }
    }

    /// Whether proposals are taken.
    pub(super) fn check(&self) -> Result<(), ProposeError> {
        let inner = self.0.lock();
        match &inner.role {
            Role::Deposed(leader) => Err(ProposeError::NotLeader { leader: leader.clone() }),
            Role::Broken(problem) => Err(ProposeError::Unknown(problem.clone())),
            Role::Stopped => Err(ProposeError::ShuttingDown),
            Role::Leading => match &inner.failing {
                Some((since, problem)) if since.elapsed() >= PATIENCE => {
                    Err(ProposeError::Unavailable(problem.clone()))
                }
                _ => Ok(()),
            },
        }
    }

    /// The role, and what is wrong with the store.
    pub(super) fn look(&self) -> (Role, Option<String>) {
        let inner = self.0.lock();
        (inner.role.clone(), inner.failing.as_ref().map(|(_, problem)| problem.clone()))
    }
}
