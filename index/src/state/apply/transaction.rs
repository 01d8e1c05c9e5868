//! Applying transactions: everything is checked before anything changes, so that they happen whole or not at all (I17).

use std::sync::Arc;

use super::{
    Body, Touched, check_publish, publish_to,
    queue::{check_settle, queue_mut, queue_of, settle},
};
use crate::{
    command::{Applied, Fate, Mode, Outcome, Placement, Prepare, Publish, Rejection, RequestOutcome, Settle, Transact},
    ids::TopicId,
    limits::{MAX_PREPARED, MAX_PREPARED_MS},
    names::TransactionId,
    state::{Prepared, QueuePartition, ShardState},
};

impl ShardState {
    pub(super) fn transact(&mut self, transact: &Transact, body: Body, touched: &mut Vec<Touched>) -> Applied {
        if let Some(fate) = self.transactions.fate(&transact.id) {
            return Ok(Outcome::Transaction(fate));
        }
        self.check_transaction(transact)?;
        let fate = match &transact.mode {
            Mode::Commit => {
                let fate = self.take_effect(&transact.publishes, &transact.settles, body, touched)?;
                self.transactions.decide(transact.id.clone(), fate.clone(), self.time_ms);
                fate
            }
            Mode::Prepare(prepare) => self.prepare(transact, prepare, body)?,
        };
        Ok(Outcome::Transaction(fate))
    }

    pub(super) fn decide(&mut self, id: &TransactionId, commit: bool, touched: &mut Vec<Touched>) -> Applied {
        match self.transactions.fate(id) {
            None => return Err(Rejection::TransactionNotFound),
            Some(Fate::Prepared) => {}
            Some(fate) if commit == matches!(fate, Fate::Committed(_)) => return Ok(Outcome::Transaction(fate)),
            Some(fate) => return Err(Rejection::TransactionDecided(fate)),
        }
        let prepared = self.transactions.prepared.remove(id).ok_or(Rejection::TransactionNotFound)?;
        for held in &prepared.settles {
            self.let_go(held, id);
        }
        let fate = if commit {
            let body = Body { sequence: prepared.sequence, at: prepared.body_at };
            // A subscription may have been deleted or moved meanwhile: then there is nothing left to acknowledge.
            let mut settles = prepared.settles;
            settles.retain(|settle| self.topic(settle.topic).is_some_and(|topic| check_settle(topic, settle).is_ok()));
            self.take_effect(&prepared.publishes, &settles, body, touched)?
        } else {
            Fate::RolledBack
        };
        self.transactions.decide(id.clone(), fate.clone(), self.time_ms);
        Ok(Outcome::Transaction(fate))
    }

    fn check_transaction(&self, transact: &Transact) -> Result<(), Rejection> {
        for (at, publish) in transact.publishes.iter().enumerate() {
            check_publish(self.topic(publish.topic).ok_or(Rejection::TopicNotFound)?, publish)?;
            if publish.requests.len() != 1 || transact.publishes[..at].iter().any(|other| other.topic == publish.topic)
            {
                return Err(Rejection::Malformed(
                    "a publish of a transaction has one request, and each topic one publish",
                ));
            }
        }
        for (at, settle) in transact.settles.iter().enumerate() {
            let topic = self.topic(settle.topic).ok_or(Rejection::TopicNotFound)?;
            check_settle(topic, settle)?;
            if transact.settles[..at].iter().any(|other| other.subscription == settle.subscription) {
                return Err(Rejection::Malformed("a transaction settles a subscription once"));
            }
            let queue = queue_of(topic, &settle.name)?;
            for part in &settle.partitions {
                let fresh = QueuePartition::default();
                let known = queue.partition(part.partition).unwrap_or(&fresh);
                if let Some(offset) = known.first_not_open(part) {
                    return Err(Rejection::NotOpen { partition: part.partition, offset });
                }
            }
        }
        Ok(())
    }

    fn prepare(&mut self, transact: &Transact, prepare: &Prepare, body: Body) -> Result<Fate, Rejection> {
        if self.transactions.prepared.len() >= MAX_PREPARED {
            return Err(Rejection::TooManyTransactions);
        }
        if prepare.expires_ms > self.time_ms + MAX_PREPARED_MS {
            return Err(Rejection::InvalidSettings("a transaction is decided within seven days"));
        }
        for held in &transact.settles {
            if held.partitions.iter().any(|part| !part.dead.is_empty()) {
                return Err(Rejection::Malformed("only acknowledgements can be prepared"));
            }
            let queue = queue_mut(self.topic_mut(held.topic)?, &held.name)?;
            for part in &held.partitions {
                queue.partition_mut(part.partition).into_iter().for_each(|at| at.hold(part, &transact.id));
            }
        }
        let prepared = Prepared {
            created_ms: self.time_ms,
            prepare: prepare.clone(),
            publishes: transact.publishes.clone(),
            settles: transact.settles.clone(),
            sequence: body.sequence,
            body_at: body.at,
        };
        self.transactions.prepared.insert(transact.id.clone(), prepared);
        Ok(Fate::Prepared)
    }

    /// Publishes and settles. Everything was checked, so nothing is rejected half-way.
    fn take_effect(
        &mut self,
        publishes: &[Publish],
        settles: &[Settle],
        body: Body,
        touched: &mut Vec<Touched>,
    ) -> Result<Fate, Rejection> {
        let now = self.time_ms;
        let mut placements: Vec<(TopicId, Arc<Placement>)> = Vec::with_capacity(publishes.len());
        for publish in publishes {
            let outcome = publish_to(self.topic_mut(publish.topic)?, publish, body, now, touched)?;
            let Outcome::Published(mut published) = outcome else { continue };
            match published.requests.pop() {
                Some(RequestOutcome::Stored(placement) | RequestOutcome::Duplicate(placement)) => {
                    placements.push((publish.topic, placement));
                }
                Some(RequestOutcome::SequenceTooOld) | None => {
                    return Err(Rejection::Malformed("a publish of a transaction has one request with a key"));
                }
            }
        }
        for settled in settles {
            settle(self.topic_mut(settled.topic)?, settled)?;
        }
        Ok(Fate::Committed(placements))
    }

    fn let_go(&mut self, held: &Settle, id: &TransactionId) {
        let topic = self.topic_mut(held.topic).ok();
        if let Some(queue) = topic.and_then(|topic| queue_mut(topic, &held.name).ok()) {
            for part in &held.partitions {
                queue.partition_mut(part.partition).into_iter().for_each(|at| at.let_go(part, id));
            }
        }
    }
}
