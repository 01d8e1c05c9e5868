//! Fetching messages that were picked.

use std::sync::Arc;

use brigade_index::{
    batch::Messages,
    ids::{Offset, Partition, TopicId},
    shard::FetchError,
};
use futures::{StreamExt, stream};

use super::{
    Delivery, Handed,
    handle::Around,
    receipt::{Receipt, Sealer},
};
use crate::{Slice, ahead::Part, cache::Found, chunk::Chunk, dispatch::Taken, source::Source};

/// Messages with consecutive offsets out of one batch or archive file.
#[derive(Debug)]
pub(super) struct Piece {
    source: Source,
    pub(super) taken: Vec<Taken>,
}

/// Messages that were picked and have consecutive offsets, and what came of fetching them.
pub(super) struct Loaded {
    pub(super) taken: Vec<Taken>,
    pub(super) result: Result<Rows, FetchError>,
}

/// Where messages are that were fetched.
pub(super) enum Rows {
    /// In consecutive rows from this one on.
    There(Messages, usize),
    /// Nowhere: they are not kept any more.
    Gone,
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
    fn partition(&self) -> Partition {
        self.taken.first().map(|taken| taken.at.partition()).unwrap_or_default()
    }

    /// The offsets that it wants.
    fn within(&self) -> (Offset, Offset) {
        let offset = |taken: Option<&Taken>| taken.map(|taken| taken.at.offset()).unwrap_or_default();
        (offset(self.taken.first()), offset(self.taken.last()).next())
    }

    /// What was found of it: messages in consecutive rows together, and those that are not there.
    fn split(self, found: Result<Found, FetchError>) -> Vec<Loaded> {
        let found = match found {
            Ok(found) => found,
            Err(error) => return vec![Loaded { taken: self.taken, result: Err(error) }],
        };
        let mut loaded: Vec<(Option<(&Chunk, usize)>, Loaded)> = Vec::new();
        for message in self.taken {
            let place = found.find(message.at.offset());
            if let Some((last, together)) = loaded.last_mut() {
                let next = last.map(|(chunk, row)| (chunk, row + together.taken.len()));
                let same = match (next, place) {
                    (None, None) => true,
                    (Some((one, next)), Some((other, row))) => std::ptr::eq(one, other) && next == row,
                    _ => false,
                };
                if same {
                    together.taken.push(message);
                    continue;
                }
            }
            let rows = place.map_or(Rows::Gone, |(chunk, row)| Rows::There(chunk.messages.clone(), row));
            loaded.push((place, Loaded { taken: vec![message], result: Ok(rows) }));
        }
        loaded.into_iter().map(|(_, loaded)| loaded).collect()
    }
}

/// Puts messages that were picked together into pieces; `source` finds what covers an offset. Those that nothing covers
/// come back apart: they are not kept any more.
pub(super) fn pieces(
    taken: Vec<Taken>,
    source: impl Fn(Partition, Offset) -> Option<Source>,
) -> (Vec<Piece>, Vec<Taken>) {
    let (mut pieces, mut gone) = (Vec::<Piece>::new(), Vec::new());
    for message in taken {
        if let Some(piece) = pieces.last_mut()
            && piece.taken.last().is_some_and(|last| last.at.0 + 1 == message.at.0)
            && message.at.offset() < piece.source.end()
        {
            piece.taken.push(message);
            continue;
        }
        match source(message.at.partition(), message.at.offset()) {
            Some(source) if source.first() <= message.at.offset() => {
                pieces.push(Piece { source, taken: vec![message] });
            }
            _ => gone.push(message),
        }
    }
    (pieces, gone)
}

/// Fetches the messages of pieces, several at a time.
pub(super) async fn load(around: Arc<Around>, topic: TopicId, pieces: Vec<Piece>) -> Vec<Loaded> {
    let split = |piece: Piece| async {
        let parts = around.cache.parts(topic, piece.partition(), &piece.source, piece.within()).await;
        let mut taken = piece.taken.into_iter().peekable();
        let part = |(_, until): (Offset, Offset)| {
            let taken = std::iter::from_fn(|| taken.next_if(|taken| taken.at.offset() < until)).collect();
            Piece { source: piece.source.clone(), taken }
        };
        parts.into_iter().map(part).collect::<Vec<_>>()
    };
    let pieces = stream::iter(pieces).map(split).buffered(FETCHES).flat_map(stream::iter);
    let fetch = |piece: Piece| async {
        let (partition, (from, next)) = (piece.partition(), piece.within());
        let bytes = piece.source.share(next.0 - from.0);
        around.ahead.read(Part { topic, partition, from, next, bytes });
        let found = around.cache.chunks(topic, partition, &piece.source, (from, next)).await;
        piece.split(found)
    };
    pieces.map(fetch).buffered(FETCHES).concat().await
}

/// Batches fetched at once for one poll or one step of a scan.
pub(super) const FETCHES: usize = 8;
