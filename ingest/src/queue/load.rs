//! Fetching messages that were picked.

use std::sync::Arc;

use brigade_index::{
    batch::Messages,
    ids::{Offset, Partition},
    shard::FetchError,
    state::Run,
};

use super::{
    Delivery, Handed,
    handle::Around,
    receipt::{Receipt, Sealer},
};
use crate::{
    Slice,
    dispatch::{At, Taken},
};

/// Messages with consecutive offsets out of one batch.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) run: Run,
    pub(super) taken: Vec<Taken>,
}

/// A piece and its batch, or why that could not be had.
pub(super) struct Loaded {
    pub(super) piece: Piece,
    pub(super) messages: Result<Messages, FetchError>,
}

/// Delivered messages with consecutive offsets out of one batch, their receipts not sealed yet.
#[derive(Debug)]
pub(super) struct Picked {
    pub(super) slice: Slice,
    pub(super) receipts: Vec<(Receipt, u32, i64)>,
}

impl Picked {
    /// Seals the receipts: on the caller's task, since it is the dearest part of a delivery.
    pub(super) fn seal(self, sealer: &Sealer) -> Delivery {
        let seal = |(receipt, deliveries, first_ms): (Receipt, u32, i64)| Handed {
            receipt: sealer.seal(&receipt),
            deliveries,
            first_ms,
            deadline_ms: receipt.deadline_ms,
        };
        Delivery { slice: self.slice, receipts: self.receipts.into_iter().map(seal).collect() }
    }
}

impl Piece {
    pub(super) fn first(&self) -> At {
        self.taken.first().map(|taken| taken.at).unwrap_or_default()
    }

    pub(super) fn partition(&self) -> Partition {
        self.first().partition()
    }

    /// A batch has the rows that its run says, or it is damaged.
    fn check(&self, messages: Messages) -> Result<Messages, FetchError> {
        let end = self.run.first_row as usize + self.run.rows as usize;
        if messages.rows() >= end {
            return Ok(messages);
        }
        let (key, rows) = (format!("entry {}", self.run.batch.sequence), messages.rows());
        Err(FetchError::Damaged { key, problem: format!("a batch has {rows} messages instead of {end}") })
    }

    /// Row of a message in the batch.
    pub(super) fn row(&self, offset: Offset) -> usize {
        self.run.first_row as usize + (offset.0 - self.run.base.0) as usize
    }
}

/// Puts messages that were picked together into pieces; `run` finds the run of an offset. Those that have none
/// come back apart: the log begins behind them now.
pub(super) fn pieces(taken: Vec<Taken>, run: impl Fn(Partition, Offset) -> Option<Run>) -> (Vec<Piece>, Vec<Taken>) {
    let (mut pieces, mut gone) = (Vec::<Piece>::new(), Vec::new());
    for message in taken {
        if let Some(piece) = pieces.last_mut()
            && piece.taken.last().is_some_and(|last| last.at.0 + 1 == message.at.0)
            && message.at.offset() < piece.run.end()
        {
            piece.taken.push(message);
            continue;
        }
        match run(message.at.partition(), message.at.offset()) {
            Some(run) if run.base <= message.at.offset() => pieces.push(Piece { run, taken: vec![message] }),
            _ => gone.push(message),
        }
    }
    (pieces, gone)
}

/// Fetches the batches of pieces, several at a time.
pub(super) async fn load(around: Arc<Around>, pieces: Vec<Piece>) -> Vec<Loaded> {
    use futures::StreamExt;

    let fetch = |piece: Piece| async {
        let messages = around.cache.messages(&piece.run.batch).await;
        let messages = messages.and_then(|messages| piece.check(messages));
        Loaded { piece, messages }
    };
    futures::stream::iter(pieces).map(fetch).buffered(FETCHES).collect().await
}

/// Batches fetched at once for one poll or one step of a scan.
pub(super) const FETCHES: usize = 8;
