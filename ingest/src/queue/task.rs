use std::sync::Arc;

use brigade_index::command::Settle;
use tokio::sync::{mpsc, oneshot};

use super::{
    Action, QueueCounts, QueuePoll, ReceiptError,
    handle::{Around, Asked, Of},
    load::Picked,
    receipt::Receipt,
};
use crate::{IngestError, dispatch::At};

/// For each receipt of a call its place, and what takes the place of one that was extended.
pub(super) type Verdicts = Vec<(usize, Result<Option<Receipt>, ReceiptError>)>;

/// What a task is asked.
pub(super) enum Message {
    Poll(QueuePoll, oneshot::Sender<Result<Vec<Picked>, IngestError>>),
    Settle(Action, Vec<Asked>, oneshot::Sender<Result<Verdicts, IngestError>>),
    Hold(Vec<Asked>, oneshot::Sender<Result<(Settle, Vec<At>), (usize, ReceiptError)>>),
    /// Held messages are settled now.
    Settled(Vec<At>),
    /// Held messages are not settled after all.
    Release(Vec<At>),
    Counts(oneshot::Sender<QueueCounts>),
    BeginAgain,
    LookAgain,
}

pub(super) struct Task;

impl Task {
    pub(super) fn new(_: Arc<Around>, _: Of, _: mpsc::Receiver<Message>) -> Self {
        Self
    }

    pub(super) async fn run(self) {}
}
