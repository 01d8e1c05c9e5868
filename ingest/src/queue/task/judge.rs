//! Settling: receipts are judged, and what they ask for is committed before anybody is told.

use std::{sync::Arc, time::Duration};

use brigade_index::{
    command::{Command, DeadReason, Outcome, Rejection, Retry, Settle, SettlePartition},
    shard::{Committed, Proposal, ProposeError},
};
use tokio::{sync::oneshot, time::Instant};

use super::{Answer, Event, Held, PAUSE, Progress, Shared, Task, Verdicts};
use crate::{
    IngestError,
    dispatch::{At, Problem, Taken, TimedOut},
    queue::{
        Action, ReceiptError, TransactionHold,
        handle::Asked,
        pending::{After, Kept, Together, runs},
        receipt::Receipt,
    },
};

impl From<Problem> for ReceiptError {
    fn from(problem: Problem) -> Self {
        match problem {
            // It waits again: its time was over.
            Problem::Expired | Problem::NotInFlight => Self::Expired,
            Problem::Superseded => Self::Superseded,
            Problem::BeingSettled => Self::BeingSettled,
        }
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Task {
    /// Carries out what is asked for each receipt that is good. Answers at once if nothing has to be committed.
    pub(super) fn settle(
        &mut self,
        action: Action,
        asked: &[Asked],
        sender: oneshot::Sender<Result<Verdicts, IngestError>>,
    ) {
        let now_ms = self.now_ms();
        let closed = self.closed(asked);
        let mut verdicts = Verdicts::with_capacity(asked.len());
        let (mut commits, burials) = (0, self.burials.len());
        for (asked, closed) in asked.iter().zip(closed) {
            let verdict = match closed {
                Some(problem) => {
                    if problem == ReceiptError::AlreadySettled {
                        // Whoever settled it, nothing of it is in flight any more.
                        self.dispatcher.settled(asked.receipt.at, now_ms);
                    }
                    Err(problem)
                }
                None => self.carry_out(action, &asked.receipt, now_ms).map_err(Into::into),
            };
            commits += usize::from(matches!(verdict, Ok(None)));
            verdicts.push((asked.place, verdict));
        }
        let answer = Answer { verdicts, sender };
        if commits == 0 {
            // Whoever asked may have gone.
            let _ = answer.sender.send(Ok(answer.verdicts));
            return;
        }
        let buried = self.burials.len() - burials;
        let others = commits > buried;
        let shared = Shared::new(buried + usize::from(others), answer);
        self.burials.iter_mut().skip(burials).for_each(|burial| burial.answer = Some(shared.clone()));
        if others {
            self.pending.answer(shared);
        }
    }

    /// Which messages are settled, or held by a transaction, as far as it is committed.
    fn closed(&self, asked: &[Asked]) -> Vec<Option<ReceiptError>> {
        let state = self.around.log.state();
        let queue = self.of.find(state.topic(self.of.topic));
        let closed = |Asked { receipt, .. }: &Asked| {
            let part = queue?.partition(receipt.partition())?;
            let held = || part.held().contains_key(&receipt.offset()).then_some(ReceiptError::BeingSettled);
            if part.is_settled(receipt.offset()) { Some(ReceiptError::AlreadySettled) } else { held() }
        };
        asked.iter().map(closed).collect()
    }

    /// Which messages are still settled, now that their settling is committed: meanwhile, the subscription may have been
    /// sent back, or dead letters given back.
    fn still_settled(&self, settled: impl Iterator<Item = At>) -> Vec<bool> {
        let state = self.around.log.state();
        let queue = self.of.find(state.topic(self.of.topic));
        let part = |at: At| queue?.partition(at.partition());
        settled.map(|at| part(at).is_none_or(|part| part.is_settled(at.offset()))).collect()
    }

    /// Holds the message of a good receipt.
    fn hold_one(&mut self, receipt: &Receipt, now_ms: i64) -> Result<(), Problem> {
        if receipt.incarnation == self.incarnation {
            self.dispatcher.hold(receipt.at, receipt.number, now_ms)
        } else if receipt.deadline_ms <= now_ms {
            Err(Problem::Expired)
        } else {
            self.dispatcher.adopt(receipt.at)?;
            let before = self.committed_retry(receipt).unwrap_or_default();
            let first_ms = if before.deliveries > 0 { before.first_ms } else { now_ms };
            self.dispatcher.recall(receipt.at, receipt.deliveries.max(before.deliveries), first_ms);
            Ok(())
        }
    }

    /// What is committed of earlier deliveries of a message.
    fn committed_retry(&self, receipt: &Receipt) -> Option<Retry> {
        let state = self.around.log.state();
        let part = self.of.find(state.topic(self.of.topic))?.partition(receipt.partition())?;
        part.retries().get(receipt.offset()).copied()
    }

    /// `Some` for a receipt that takes this one's place, `None` when it is to be committed.
    fn carry_out(&mut self, action: Action, receipt: &Receipt, now_ms: i64) -> Result<Option<Receipt>, Problem> {
        let at = receipt.at;
        if let Action::Extend { visibility } = action {
            if receipt.incarnation != self.incarnation {
                return Err(Problem::NotInFlight);
            }
            let deadline_ms = now_ms.saturating_add(ms(visibility));
            self.dispatcher.extend(at, receipt.number, now_ms, deadline_ms)?;
            return Ok(Some(Receipt { deadline_ms, ..*receipt }));
        }
        self.hold_one(receipt, now_ms)?;
        let known = self.dispatcher.deliveries(at);
        let (deliveries, first_ms) = known.unwrap_or((receipt.deliveries, now_ms));
        let message = Taken { at, group: None, deliveries, first_ms, expired: false };
        let most = self.settings.max_deliveries;
        match action {
            Action::Nack { .. } if most > 0 && deliveries >= most => {
                self.bury(&message, DeadReason::MaxDeliveries, now_ms, false);
            }
            Action::Nack { delay } => {
                let delay_ms = delay.map_or(i64::from(self.settings.retry_delay_ms), ms);
                let not_before_ms = if delay_ms > 0 { now_ms.saturating_add(delay_ms) } else { 0 };
                self.dispatcher.retry(at, now_ms, not_before_ms);
                self.pending.retry(at, Retry { deliveries, first_ms, not_before_ms });
            }
            Action::Reject => self.bury(&message, DeadReason::Rejected, now_ms, false),
            Action::Ack | Action::Extend { .. } => {
                self.pending.settle(at, 1);
                self.pending.keep(at, false);
                self.kept.insert(at);
                self.around.metrics.queue_acknowledged();
            }
        }
        Ok(None)
    }

    /// A receipt has expired: the message waits again, or is given up.
    pub(super) fn time_is_over(&mut self, message: &TimedOut, now_ms: i64) {
        let TimedOut { at, deliveries, first_ms, ready_ms } = *message;
        let most = self.settings.max_deliveries;
        if most > 0 && deliveries >= most && self.dispatcher.pick(at) {
            let taken = Taken { at, group: None, deliveries, first_ms, expired: false };
            self.bury(&taken, DeadReason::MaxDeliveries, now_ms, true);
        } else {
            self.pending.retry(at, Retry { deliveries, first_ms, not_before_ms: ready_ms });
            self.lazy_since.get_or_insert_with(Instant::now);
        }
    }

    /// Holds messages for a transaction: all of them or none.
    pub(super) fn hold(&mut self, asked: &[Asked], answer: oneshot::Sender<Held>) {
        let now_ms = self.now_ms();
        let (mut held, mut problem) = (Vec::with_capacity(asked.len()), None);
        for (asked, closed) in asked.iter().zip(self.closed(asked)) {
            let verdict = match closed {
                Some(problem) => Err(problem),
                None => self.hold_one(&asked.receipt, now_ms).map_err(Into::into),
            };
            match verdict {
                Ok(()) => held.push(asked.receipt.at),
                Err(error) => {
                    problem = Some((asked.place, error));
                    break;
                }
            }
        }
        self.kept.extend(&held);
        if let Some(problem) = problem {
            self.release(&held);
            // Whoever asked may have gone.
            let _ = answer.send(Err(problem));
            return;
        }
        // Nobody can ask any more without the other end of the inbox.
        let Some(own) = self.own.upgrade() else { return self.release(&held) };
        // If whoever asked has gone, now or before the answer is looked at, it is dropped: that lets go.
        let _ = answer.send(Ok(TransactionHold::new(self.settle_of(&held), held, own)));
    }

    fn settle_of(&self, held: &[At]) -> Settle {
        let mut partitions: Vec<SettlePartition> = Vec::new();
        let mut sorted = held.to_vec();
        sorted.sort_unstable();
        for at in sorted {
            if partitions.last().is_none_or(|part| part.partition != at.partition()) {
                partitions.push(SettlePartition::new(at.partition()));
            }
            partitions.last_mut().into_iter().for_each(|part| part.settled.push((at.offset(), 1)));
        }
        partitions.iter_mut().for_each(|part| part.settled = runs(std::mem::take(&mut part.settled)));
        Settle { topic: self.of.topic, name: self.of.name.clone(), subscription: self.of.id, partitions }
    }

    /// Messages that were held are settled.
    pub(super) fn forget(&mut self, held: impl Iterator<Item = At> + Clone) {
        let (now_ms, settled) = (self.now_ms(), self.still_settled(held.clone()));
        for (at, settled) in held.zip(settled) {
            self.kept.remove(&at);
            if settled {
                self.dispatcher.settled(at, now_ms);
            } else if self.dispatcher.reopened(at, now_ms) {
                self.progress = Progress::default();
            }
        }
    }

    /// Messages that were held are not settled after all.
    pub(super) fn release(&mut self, held: &[At]) {
        let now_ms = self.now_ms();
        for at in held {
            self.kept.remove(at);
            self.dispatcher.release(*at, now_ms);
        }
    }

    /// Proposes what was decided. While proposals are under way, what comes gathers for the next one.
    pub(super) fn submit(&mut self) {
        if self.pending.is_empty() {
            self.lazy_since = None;
        }
        let due = self.lazy_since.is_some_and(|since| since.elapsed() >= super::LAZY);
        let wanted = !self.pending.is_empty() && (self.pending.is_urgent() || due);
        if !wanted || !self.can_propose() {
            return;
        }
        self.lazy_since = None;
        let Together { settle, after } = self.pending.take(&self.of);
        self.proposals += 1;
        let (log, (sender, done)) = (self.around.log.clone(), oneshot::channel());
        let proposal = Proposal {
            commands: vec![Command::Settle(settle)],
            body: Vec::new(),
            // A task that is gone needs no answer.
            done: Box::new(move |result| _ = sender.send(result)),
        };
        self.events.push(Box::pin(async move {
            log.submit(proposal).await;
            let result = done.await.unwrap_or_else(|_| Err(ProposeError::Unknown("the shard stopped".to_owned())));
            Event::Committed(after, result)
        }));
    }

    /// Tells everybody what came of their decisions. `false` when the task must not go on: what is not known to be
    /// committed can be neither delivered again nor taken for settled here.
    pub(super) fn committed(&mut self, after: &After<Arc<Shared>>, result: Result<Committed, ProposeError>) -> bool {
        let result = self.settled_or_not(after, result);
        after.answers.iter().for_each(|answer| answer.one_is_done(&result));
        !is_unknown(&result)
    }

    /// Forgets messages that are settled now, and lets go those that are not.
    fn settled_or_not(
        &mut self,
        after: &After<Arc<Shared>>,
        result: Result<Committed, ProposeError>,
    ) -> Result<(), IngestError> {
        let After { kept, skipped, .. } = after;
        let now_ms = self.now_ms();
        let result = match result {
            Ok(mut committed) => match committed.outcomes.pop().unwrap_or(Ok(Outcome::Done)) {
                // By a proposal of a life before this one that was still under way: this one knows less than it thinks.
                Err(rejection @ Rejection::NotOpen { .. }) => {
                    Err(IngestError::Propose(ProposeError::Unknown(rejection.to_string())))
                }
                outcome => outcome.map(|_| ()).map_err(Into::into),
            },
            Err(error) => Err(IngestError::Propose(error)),
        };
        if result.is_ok() {
            self.forget(kept.iter().map(|kept| kept.at));
            return result;
        }
        for Kept { at, picked } in kept {
            self.kept.remove(at);
            if *picked {
                self.dispatcher.put_back(*at);
            }
            // Also what was picked: the dispatcher may have begun anew since, and holds it.
            self.dispatcher.release(*at, now_ms);
        }
        // They are looked at again, and skipped again.
        skipped.iter().for_each(|(partition, first)| self.progress.go_back(*partition, *first));
        if let Err(error) = &result {
            tracing::debug!(%error, subscription = %self.of.name, "messages were not settled");
            self.paused = Some(Instant::now() + PAUSE);
        }
        result
    }
}

/// Whether it may have been committed all the same.
fn is_unknown(result: &Result<(), IngestError>) -> bool {
    matches!(result, Err(IngestError::Propose(ProposeError::Unknown(_))))
}
