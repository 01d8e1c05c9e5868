//! Applying transactions: everything is checked before anything changes, so that they happen whole or not at all (I17).
//!
//! A transaction is recognised by its id alone. Its publishes leave no trace among the idempotent requests of their topics:
//! those are forgotten topic by topic, and a transaction that is known to some of its topics only would be stored by halves.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Body, Touched, check_publish,
    queue::{check_open, check_settle, queue_mut, settle},
    store_batches,
};
use crate::{
    command::{
        Applied, BatchRef, Fate, Mode, Outcome, OwnedRows, Placement, Prepare, Publish, Rejection, Settle, Transact,
    },
    ids::TopicId,
    limits::{MAX_PREPARED, MAX_PREPARED_MS},
    names::TransactionId,
    state::{Prepared, ShardState, Topic, dedup::Known},
};

impl ShardState {
    pub(super) fn transact(&mut self, transact: &Transact, body: Body, touched: &mut Vec<Touched>) -> Applied {
        if let Some(fate) = self.transactions.fate(&transact.id) {
            return Ok(Outcome::Transaction(fate));
        }
        self.check_transaction(transact)?;
        let fate = match &transact.mode {
            Mode::Commit => {
                let fate = self.take_effect(&transact.publishes, &transact.settles, body, touched);
                self.transactions.decide(transact.id.clone(), fate.clone(), self.time_ms);
                fate
            }
            Mode::Prepare(prepare) => {
                self.check_prepare(transact, prepare)?;
                self.prepare(transact, prepare, body);
                Fate::Prepared
            }
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
        self.bodies.remove(prepared.sequence, prepared.references());
        for held in &prepared.settles {
            self.let_go(held, id);
        }
        let fate = if commit {
            let body = Body { sequence: prepared.sequence, at: prepared.body_at };
            self.take_effect(&prepared.publishes, &prepared.settles, body, touched)
        } else {
            Fate::RolledBack
        };
        self.transactions.decide(id.clone(), fate.clone(), self.time_ms);
        Ok(Outcome::Transaction(fate))
    }

    fn check_transaction(&self, transact: &Transact) -> Result<(), Rejection> {
        let mut topics = BTreeSet::new();
        for publish in &transact.publishes {
            check_whole(self.topic(publish.topic).ok_or(Rejection::TopicNotFound)?, publish)?;
            if !topics.insert(publish.topic) {
                return Err(Rejection::Malformed("a transaction publishes to a topic once"));
            }
        }
        let mut subscriptions = BTreeSet::new();
        for settle in &transact.settles {
            let topic = self.topic(settle.topic).ok_or(Rejection::TopicNotFound)?;
            check_settle(topic, settle)?;
            if !subscriptions.insert(settle.subscription) {
                return Err(Rejection::Malformed("a transaction settles a subscription once"));
            }
            check_open(topic, settle)?;
        }
        Ok(())
    }

    fn check_prepare(&self, transact: &Transact, prepare: &Prepare) -> Result<(), Rejection> {
        if self.transactions.prepared.len() >= MAX_PREPARED {
            return Err(Rejection::TooManyTransactions);
        }
        if prepare.expires_ms > self.time_ms.saturating_add(MAX_PREPARED_MS) {
            return Err(Rejection::InvalidSettings("a transaction is decided within seven days"));
        }
        if let Some(problem) = prepare.problem() {
            return Err(Rejection::InvalidSettings(problem));
        }
        // Whatever else it changes, only what is settled can be held until then.
        let settles_alone = |held: &Settle| {
            held.partitions.iter().all(|part| {
                let others = [part.restored.len(), part.purged.len(), part.retries.len(), part.dead.len()];
                others.iter().all(|others| *others == 0)
            })
        };
        if !transact.settles.iter().all(settles_alone) {
            return Err(Rejection::Malformed("only acknowledgements can be prepared"));
        }
        Ok(())
    }

    /// Whether every transaction that waits could take effect; not so only in a damaged snapshot.
    pub(crate) fn can_decide(&self) -> bool {
        let fits =
            |publish: &Publish| self.topic(publish.topic).is_some_and(|topic| check_whole(topic, publish).is_ok());
        self.transactions.prepared.values().all(|prepared| prepared.publishes.iter().all(fits))
    }

    /// Keeps a transaction that was checked.
    fn prepare(&mut self, transact: &Transact, prepare: &Prepare, body: Body) {
        for held in &transact.settles {
            let topic = self.topic_mut(held.topic).ok();
            if let Some(queue) = topic.and_then(|topic| queue_mut(topic, &held.name).ok()) {
                for part in &held.partitions {
                    queue.partition_mut(part.partition).into_iter().for_each(|at| at.hold(part, &transact.id));
                }
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
        self.bodies.add(prepared.sequence, prepared.references());
        self.transactions.prepared.insert(transact.id.clone(), prepared);
    }

    /// Publishes and settles. Everything was checked when the transaction came, so nothing is refused: its topics are kept
    /// while it waits, and their partitions never become fewer. A subscription may have been deleted or moved meanwhile;
    /// then there is nothing left to acknowledge.
    fn take_effect(
        &mut self,
        publishes: &[Publish],
        settles: &[Settle],
        body: Body,
        touched: &mut Vec<Touched>,
    ) -> Fate {
        let now = self.time_ms;
        let mut placements: Vec<(TopicId, Arc<Placement>)> = Vec::with_capacity(publishes.len());
        for publish in publishes {
            let topic = self.topics.get_mut(&publish.topic).expect("I17: a topic that is published to is kept");
            let known = vec![Known::New; publish.requests.len()];
            let (batches, _, placed) = store_batches(topic, publish, &known, body, now, touched);
            self.bodies.add(body.sequence, batches.iter().map(Vec::len).sum());
            let placed = publish.requests.iter().zip(placed);
            placements.extend(placed.map(|(request, placed)| (publish.topic, Arc::new(placed.of(request)))));
        }
        for settled in settles {
            // Refused as a whole or not at all, and only if the subscription is not the same any more.
            let _ = self.topic_mut(settled.topic).and_then(|topic| settle(topic, settled));
        }
        Fate::Committed(placements)
    }

    fn let_go(&mut self, held: &Settle, id: &TransactionId) {
        let topic = self.topic_mut(held.topic).ok();
        if let Some(queue) = topic.and_then(|topic| queue_mut(topic, &held.name).ok())
            && queue.id == held.subscription
        {
            for part in &held.partitions {
                queue.partition_mut(part.partition).into_iter().for_each(|at| at.let_go(part, id));
            }
        }
    }
}

/// A publish of a transaction has one request, which owns every row, so that its placement says where everything is.
fn check_whole(topic: &Topic, publish: &Publish) -> Result<(), Rejection> {
    check_publish(topic, publish)?;
    let mut partitions = BTreeSet::new();
    let is_whole = |batch: &BatchRef| batch.owned == [OwnedRows { first: 0, rows: batch.rows, request: 0 }];
    let whole = publish.batches.iter().all(|batch| is_whole(batch) && partitions.insert(batch.partition));
    if publish.requests.len() != 1 || !whole {
        return Err(Rejection::Malformed("a publish of a transaction has one request, and each partition one batch"));
    }
    Ok(())
}
