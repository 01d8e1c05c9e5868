//! Carrying transactions out, one at a time for each id.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use brigade_index::{
    command::{Command, Fate, Mode, Outcome, Prepare, Rejection, Transact},
    env::Env,
    names::TransactionId,
    shard::{Committed, Proposal, ProposeError},
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Preparation, TransactionDraft, TransactionReply,
    content::{self, Encoded, Sent},
};
use crate::{
    Admission, IngestError, TransactionError, TransactionHold, cache::BatchCache, flush::SentBatch, log::Log,
    open::Request, queue::Queues,
};

/// What transactions work with.
pub(crate) struct Around {
    pub(crate) log: Log,
    pub(crate) cache: Arc<BatchCache>,
    pub(crate) queues: Arc<Queues>,
    pub(crate) env: Env,
    pub(crate) tasks: TaskTracker,
    pub(crate) request_timeout: Duration,
}

/// The transactions of a reign.
pub(crate) struct Transactions {
    pub(super) around: Around,
    /// Those that are under way, each with what is cancelled when it is not any more.
    turns: Mutex<BTreeMap<TransactionId, CancellationToken>>,
    /// What runs for them, whether or not anybody waits for it.
    running: TaskTracker,
    /// Prepared ones that the watch has not taken notice of.
    pub(super) fresh: Mutex<Vec<TransactionId>>,
    pub(super) woken: Notify,
}

/// The right to do something with a transaction, which one task at a time has.
struct Turn {
    transactions: Arc<Transactions>,
    id: TransactionId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let over = self.transactions.turns.lock().remove(&self.id);
        over.into_iter().for_each(|over| over.cancel());
    }
}

/// A transaction whose receipts are good, on its way.
struct Ready {
    id: TransactionId,
    prepare: Option<Preparation>,
    requests: Vec<Request<()>>,
    sent: Vec<Sent>,
    holds: Vec<TransactionHold>,
}

impl Transactions {
    pub(crate) fn new(around: Around) -> Arc<Self> {
        let (turns, running) = (Mutex::default(), TaskTracker::new());
        Arc::new(Self { around, turns, running, fresh: Mutex::default(), woken: Notify::new() })
    }

    /// Resolves when everything under way is answered. Nothing may come any more.
    pub(crate) async fn finish(&self) {
        self.running.close();
        self.running.wait().await;
    }

    pub(crate) async fn transact(
        self: &Arc<Self>,
        draft: TransactionDraft,
        mut admission: Admission,
    ) -> Result<TransactionReply, IngestError> {
        content::check(&draft, &mut admission)?;
        self.in_time(async {
            let turn = self.turn(&draft.id).await;
            let TransactionDraft { id, publishes, acks, prepare } = draft;
            let (requests, sent) = content::take_apart(publishes);
            // Before its receipts are looked at, which the first one has used.
            if let Some(known) = self.known(&id, &sent) {
                return known;
            }
            let mut holds = Vec::with_capacity(acks.len());
            for (ack, (queue, receipts)) in acks.iter().enumerate() {
                let held = queue.hold(receipts).await?;
                holds.push(held.map_err(|(place, error)| TransactionError::Receipt { ack, place, error })?);
                let settles = || holds.iter().map(|hold| hold.settle().subscription);
                let last = settles().next_back();
                if settles().rev().skip(1).any(|other| Some(other) == last) {
                    return Err(TransactionError::Twice(format!("the subscription of ack[{ack}]")).into());
                }
            }
            let ready = Ready { id, prepare, requests, sent, holds };
            let transactions = self.clone();
            self.spawned(async move {
                let reply = transactions.carry_out(ready).await;
                drop((turn, admission));
                reply
            })
            .await
        })
        .await
    }

    pub(crate) async fn decide(self: &Arc<Self>, id: &TransactionId, commit: bool) -> Result<Fate, IngestError> {
        self.in_time(async {
            let turn = self.turn(id).await;
            let settles = {
                let state = self.around.log.state();
                match state.transactions.prepared().get(id) {
                    Some(prepared) => prepared.settles.clone(),
                    None => {
                        let fate = state.transactions.fate(id).ok_or(Rejection::TransactionNotFound)?;
                        let alike = commit == matches!(fate, Fate::Committed(_));
                        return if alike { Ok(fate) } else { Err(Rejection::TransactionDecided(fate).into()) };
                    }
                }
            };
            let (transactions, command) = (self.clone(), Command::Decide { id: id.clone(), commit });
            self.spawned(async move {
                let fate = transactions.propose(command, Vec::new(), Vec::new()).await;
                if let Ok(fate) = &fate {
                    for settle in &settles {
                        transactions.around.queues.decided(settle, matches!(fate, Fate::Committed(_))).await;
                    }
                }
                drop(turn);
                fate
            })
            .await
        })
        .await
    }

    /// The turn of a transaction, when whoever has it is done.
    async fn turn(self: &Arc<Self>, id: &TransactionId) -> Turn {
        loop {
            let other = {
                let mut turns = self.turns.lock();
                match turns.get(id) {
                    Some(other) => other.clone(),
                    None => {
                        turns.insert(id.clone(), CancellationToken::new());
                        return Turn { transactions: self.clone(), id: id.clone() };
                    }
                }
            };
            other.cancelled().await;
        }
    }

    async fn in_time<T>(&self, doing: impl Future<Output = Result<T, IngestError>>) -> Result<T, IngestError> {
        let limit = self.around.request_timeout;
        timeout(limit, doing).await.unwrap_or(Err(IngestError::TimedOut(limit)))
    }

    /// Runs to its end even if the caller goes away.
    async fn spawned<T: Send + 'static>(
        &self,
        doing: impl Future<Output = Result<T, IngestError>> + Send + 'static,
    ) -> Result<T, IngestError> {
        let (answer, answered) = oneshot::channel();
        self.around.tasks.spawn(self.running.track_future(async move {
            // The caller may have gone away; then nobody hears it.
            let _ = answer.send(doing.await);
        }));
        answered.await.unwrap_or_else(|_| Err(ProposeError::Unknown("the transaction's task ended".to_owned()).into()))
    }

    /// The answer to a transaction that came before.
    fn known(&self, id: &TransactionId, sent: &[Sent]) -> Option<Result<TransactionReply, IngestError>> {
        let state = self.around.log.state();
        if let Some(prepared) = state.transactions.prepared().get(id).filter(|it| !content::is_same(sent, it)) {
            tracing::debug!(%id, prepared.created_ms, "an id was used for another transaction");
            return Some(Err(IngestError::IdentityReused));
        }
        let fate = state.transactions.fate(id)?;
        Some(content::state_of(sent, &fate).map(|state| TransactionReply { state, repeated: true }))
    }

    async fn carry_out(&self, ready: Ready) -> Result<TransactionReply, IngestError> {
        let Ready { id, prepare, requests, sent, holds } = ready;
        let mut encoded = content::encode(requests)?;
        let batches = encoded.take_batches();
        let mode = prepare.map_or(Mode::Commit, |Preparation { timeout, check_back }| {
            let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
            let expires_ms = self.around.env.clock.now_ms().saturating_add(timeout_ms);
            Mode::Prepare(Prepare { expires_ms, check_back })
        });
        let settles = holds.iter().map(TransactionHold::settle).filter(|settle| !settle.partitions.is_empty());
        let settles = settles.cloned().collect();
        let transact = Transact { id: id.clone(), publishes: encoded.publishes, settles, mode };
        let fate = self.propose(Command::Transact(transact), encoded.body, batches).await;
        for hold in holds {
            match &fate {
                Ok(Fate::Committed(_)) => hold.taken(true).await,
                Ok(Fate::Prepared) => hold.taken(false).await,
                // Nobody may get the messages while it may have happened: the reign is over, and the next one will know.
                Err(IngestError::Propose(ProposeError::Unknown(_))) => hold.leave(),
                Ok(Fate::RolledBack) | Err(_) => drop(hold),
            }
        }
        let fate = fate?;
        if fate == Fate::Prepared {
            self.fresh.lock().push(id);
            self.woken.notify_one();
        }
        Ok(TransactionReply { state: content::state_of(&sent, &fate)?, repeated: false })
    }

    /// Commits a command about a transaction and keeps its batches for readers.
    async fn propose(&self, command: Command, body: Vec<Bytes>, batches: Vec<SentBatch>) -> Result<Fate, IngestError> {
        let (answer, answered) = oneshot::channel();
        let cache = self.around.cache.clone();
        let done = Box::new(move |result: Result<Committed, ProposeError>| {
            let fate = result.map_err(IngestError::from).and_then(|committed| {
                let place = (committed.sequence, committed.body_at);
                let outcome = committed.outcomes.into_iter().next().unwrap_or(Err(Rejection::Malformed("no outcome")));
                match outcome? {
                    Outcome::Transaction(fate) => {
                        Encoded::keep(batches, place, &cache);
                        Ok(fate)
                    }
                    _ => Err(Rejection::Malformed("not a transaction").into()),
                }
            });
            let _ = answer.send(fate);
        });
        self.around.log.submit(Proposal { commands: vec![command], body, done }).await;
        answered.await.unwrap_or_else(|_| Err(ProposeError::Unknown("the shard stopped".to_owned()).into()))
    }
}
