//! Regions that join a reign later: they were slow, away, or have just been added.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    Shared, StartError,
    health::Condition,
    walk::{Promised, Walk, promise},
};
use crate::{
    format::Leader,
    founding,
    ids::{Ballot, WriteId},
    journal::{Candidate, Promise},
    names::RegionName,
    region::RegionRecord,
    store::RegionStore,
};

/// First and longest pause between attempts to reach a region that is away.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Pause before a region that was refused is looked at again: somebody has to act first.
const REFUSED: Duration = Duration::from_secs(10);

/// A region that is to join.
pub(super) struct Joiner {
    pub(super) shared: Arc<Shared>,
    pub(super) record: RegionRecord,
    /// Its store, if it was opened and found to be the right one.
    pub(super) store: Option<RegionStore>,
    /// What has been read of its path, with the reign's ballot.
    pub(super) candidate: Option<Candidate>,
    pub(super) leader: Leader,
}

/// How a region ended up that was to join.
pub(super) enum Joined {
    /// It has promised.
    Yes(Box<Promise>, RegionStore),
    /// It cannot promise in this reign: a higher ballot has taken it, or its floor moved in between.
    No(Option<Ballot>),
}

impl Joiner {
    /// Goes on until the region has promised or cannot any more.
    pub(super) async fn run(mut self) -> Joined {
        let number = self.record.number;
        let mut pause = RETRY_MIN;
        loop {
            let Some(store) = self.open().await else { continue };
            let mut walk = Walk::new(&self.record, &self.shared.cluster_id, self.shared.id, store.clone());
            let candidate = self.candidate.get_or_insert_with(|| {
                let mut candidate = Candidate::new(WriteId(self.shared.env.entropy.next_u128()));
                // It has met no ballot yet.
                let _ = candidate.stand(self.shared.ballot);
                candidate
            });
            match promise(&mut walk, candidate, &self.leader).await {
                Ok(Promised::Yes(promise)) => {
                    self.shared.health.succeeded(number);
                    return Joined::Yes(promise, store);
                }
                Ok(Promised::Abandoned(abandoned)) => return Joined::No(Some(abandoned.ballot)),
                Ok(Promised::Void) => return Joined::No(None),
                // It is looked at again from the start.
                Err(StartError::Absent(_)) => self.store = None,
                Err(error @ StartError::Damaged { .. }) => {
                    self.refuse(&error);
                    sleep(REFUSED).await;
                }
                Err(error) => self.note(&error),
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// The store, once it is known to be the region's own; `None` after a pause when it is not.
    async fn open(&mut self) -> Option<RegionStore> {
        if let Some(store) = &self.store {
            return Some(store.clone());
        }
        let RegionRecord { number, name, url, .. } = &self.record;
        let shared = &self.shared;
        let store = match (shared.opener)(name, url) {
            Ok(store) => store,
            Err(error) => {
                shared.health.failed(*number, &error);
                sleep(REFUSED).await;
                return None;
            }
        };
        match founding::verify(&self.record, &shared.cluster_id, &store).await {
            Ok(()) => {
                shared.health.set_condition(&self.record, Condition::Joining);
                self.store = Some(store.clone());
                Some(store)
            }
            Err(absence) if absence.kind == founding::AbsenceKind::Unreachable => {
                if shared.health.failed_with(*number, absence.problem.clone(), absence.hint) {
                    tracing::warn!(region = %name, problem = absence.problem, "a region is away");
                }
                sleep(RETRY_MAX).await;
                None
            }
            Err(absence) => {
                let (problem, hint) = (absence.problem, absence.hint);
                let refused = Condition::Refused { problem: problem.clone(), hint: hint.clone() };
                if shared.health.set_condition(&self.record, refused) {
                    tracing::error!(region = %name, problem, hint, "a region is refused");
                }
                sleep(REFUSED).await;
                None
            }
        }
    }

    /// Its path is damaged. It is read again now and then, but somebody has to act.
    fn refuse(&self, error: &StartError) {
        let name = &self.record.name;
        let hint = format!("replace it: brigade region replace {name} NEW=URL, with an empty store");
        let (problem, log_hint) = (error.to_string(), hint.clone());
        if self.shared.health.set_condition(&self.record, Condition::Refused { problem, hint }) {
            tracing::error!(region = %name, %error, hint = log_hint, "a region is refused");
        }
    }

    fn note(&self, error: &StartError) {
        let (problem, hint) = match error {
            StartError::Store(error) => (error.to_string(), error.hint().to_owned()),
            other => (other.to_string(), "look at the named object in the region's store".to_owned()),
        };
        let name: &RegionName = &self.record.name;
        if self.shared.health.failed_with(self.record.number, problem, hint) {
            tracing::warn!(region = %name, %error, "a region cannot be taken over yet; it is tried again");
        }
    }
}
