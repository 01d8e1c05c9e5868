//! Rolls back what nobody decides in time, and asks about the rest. It sleeps until something is due.

use std::{sync::Arc, time::Duration};

use brigade_index::names::TransactionId;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Transactions,
    schedule::{Schedule, due_ms},
};
use crate::IngestError;

/// Transactions that are asked about or decided at once.
const MAX_AT_ONCE: usize = 64;

/// Pause before a decision is tried again that could not be stored.
const RETRY_MS: i64 = 1_000;

/// Longest sleep: a clock that was set, or a machine that slept, shows by then.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);

/// What is to be asked about a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The transaction.
    pub id: TransactionId,
    /// When it was prepared, milliseconds since the Unix epoch.
    pub prepared_ms: i64,
    /// Where to ask.
    pub url: String,
}

/// Asks, and gives the decision: whether to commit, or `None` when nobody knows yet.
pub type Ask = Arc<dyn Fn(Question) -> BoxFuture<'static, Option<bool>> + Send + Sync>;

/// A transaction that was looked at: when it was asked about, and when it may be looked at again.
struct Looked {
    id: TransactionId,
    asked_ms: Option<i64>,
    not_before_ms: i64,
}

impl Transactions {
    pub(crate) async fn watch(self: &Arc<Self>, ask: Ask, stop: CancellationToken) {
        let mut schedule = Schedule::default();
        let waiting: Vec<_> = self.around.log.state().transactions.prepared().keys().cloned().collect();
        waiting.into_iter().for_each(|id| self.plan(&mut schedule, Looked { id, asked_ms: None, not_before_ms: 0 }));
        let mut looking = FuturesUnordered::new();
        loop {
            let fresh = std::mem::take(&mut *self.fresh.lock());
            fresh.into_iter().for_each(|id| self.plan(&mut schedule, Looked { id, asked_ms: None, not_before_ms: 0 }));
            let now_ms = self.now_ms();
            while looking.len() < MAX_AT_ONCE
                && let Some(id) = schedule.take(now_ms)
            {
                looking.extend(self.look(id, now_ms, &ask));
            }
            let next = schedule.next().filter(|_| looking.len() < MAX_AT_ONCE);
            let pause = next.map_or(LONGEST_SLEEP, |next| {
                Duration::from_millis(next.saturating_sub(now_ms).max(1).cast_unsigned()).min(LONGEST_SLEEP)
            });
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(looked) = looking.next(), if !looking.is_empty() => self.plan(&mut schedule, looked),
                () = self.woken.notified() => {}
                () = sleep(pause), if next.is_some() => {}
            }
        }
    }

    fn now_ms(&self) -> i64 {
        self.around.env.clock.now_ms()
    }

    /// When a transaction is to be looked at next, if it still waits.
    fn plan(&self, schedule: &mut Schedule, looked: Looked) {
        let Looked { id, asked_ms, not_before_ms } = looked;
        let random = self.around.env.entropy.next_u64();
        let due = {
            let state = self.around.log.state();
            state.transactions.prepared().get(&id).map(|it| due_ms(it, asked_ms, self.now_ms(), random))
        };
        if let Some(due) = due {
            schedule.put(id, due.max(not_before_ms));
        }
    }

    /// What is to be done about a transaction that is due, if it still waits.
    fn look(self: &Arc<Self>, id: TransactionId, now_ms: i64, ask: &Ask) -> Option<BoxFuture<'static, Looked>> {
        let question = {
            let state = self.around.log.state();
            let prepared = state.transactions.prepared().get(&id)?;
            let check = prepared.prepare.check_back.as_ref().filter(|_| prepared.prepare.expires_ms > now_ms);
            if check.is_none() && prepared.prepare.expires_ms > now_ms {
                // Its time is not over: it was prepared anew under the same id.
                let not_before_ms = prepared.prepare.expires_ms;
                return Some(async move { Looked { id, asked_ms: None, not_before_ms } }.boxed());
            }
            let prepared_ms = prepared.created_ms;
            check.map(|check| Question { id: id.clone(), prepared_ms, url: check.url.clone() })
        };
        let (transactions, ask) = (self.clone(), ask.clone());
        let look = async move {
            let asked_ms = question.is_some().then_some(now_ms);
            let decision = match question {
                Some(question) => ask(question).await,
                None => Some(false),
            };
            let decided = match decision {
                Some(commit) => transactions.decide(&id, commit).await.map(drop),
                None => Ok(()),
            };
            let not_before_ms = match decided {
                // Somebody else was faster.
                Ok(()) | Err(IngestError::Refused(_)) => 0,
                Err(error) => {
                    tracing::debug!(%id, %error, "a transaction could not be decided");
                    transactions.now_ms().saturating_add(RETRY_MS)
                }
            };
            Looked { id, asked_ms, not_before_ms }
        };
        Some(look.boxed())
    }
}
