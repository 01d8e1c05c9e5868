//! Messages that are held for transactions.

use brigade_index::{
    command::{Settle, SettlePartition},
    ids::Offset,
};
use tokio::sync::mpsc;

use super::{handle::Queues, task::Message};
use crate::dispatch::At;

/// Messages that are held while a transaction acknowledges them: let go when this is dropped, unless
/// [`TransactionHold::taken`] or [`TransactionHold::leave`] was called.
pub struct TransactionHold {
    settle: Settle,
    held: Vec<At>,
    task: mpsc::Sender<Message>,
}

impl TransactionHold {
    pub(super) fn new(settle: Settle, held: Vec<At>, task: mpsc::Sender<Message>) -> Self {
        Self { settle, held, task }
    }

    /// What the transaction's command settles.
    pub fn settle(&self) -> &Settle {
        &self.settle
    }

    /// The transaction was committed: its acknowledgements with it. `false` when it was only prepared: then the messages stay
    /// held until it is decided.
    pub async fn taken(mut self, committed: bool) {
        let held = std::mem::take(&mut self.held);
        let message = if committed { Message::Settled(held) } else { Message::Prepared(held) };
        // A task that has ended knows nothing of them any more.
        let _ = self.task.send(message).await;
    }

    /// It is not known what came of the transaction, and the reign is over: the messages stay held.
    pub fn leave(mut self) {
        self.held.clear();
    }
}

impl Drop for TransactionHold {
    fn drop(&mut self) {
        if !self.held.is_empty() {
            tell_at_once(&self.task, Message::Release(std::mem::take(&mut self.held)));
        }
    }
}

impl Queues {
    /// A transaction that was prepared is decided: what it held is settled, or in flight again. Nothing else is touched.
    pub(crate) async fn decided(&self, settle: &Settle, committed: bool) {
        // A task that does not run finds it in the state.
        let Some(task) = self.running(settle.subscription) else { return };
        let held = settle.partitions.iter().flat_map(offsets).collect();
        let message = if committed { Message::Settled(held) } else { Message::Release(held) };
        let _ = task.send(message).await;
    }
}

fn offsets(part: &SettlePartition) -> impl Iterator<Item = At> {
    let runs = part.settled.iter().map(|(first, count)| first.0..first.0 + u64::from(*count));
    runs.flatten().map(|offset| At::new(part.partition, Offset(offset)))
}

/// Tells a task something from where nothing can be awaited.
pub(super) fn tell_at_once(task: &mpsc::Sender<Message>, message: Message) {
    if let Err(mpsc::error::TrySendError::Full(message)) = task.try_send(message) {
        let task = task.clone();
        // Without a runtime the process ends anyway.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { task.send(message).await });
        }
    }
}
