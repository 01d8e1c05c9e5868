//! Stored form of transactions: as commands, and as a snapshot keeps them.

use std::sync::Arc;

use prost::{Message, Oneof};

use super::{
    command::{StoredPublish, publish_from, store_publish},
    frame::FrameError,
    placement::{StoredBase, StoredDuplicates, bases_from, duplicates_from, store_bases, store_duplicates},
    queue::StoredSettle,
};
use crate::{
    command::{CheckBack, Fate, Mode, Placement, Prepare, Transact},
    ids::{Partition, Sequence, TopicId},
    names::TransactionId,
    state::{Decided, Prepared, Transactions},
};

#[derive(Clone, PartialEq, Message)]
struct StoredPrepare {
    #[prost(sint64, tag = "1")]
    expires_ms: i64,
    #[prost(string, tag = "2")]
    check_url: String,
    #[prost(uint32, tag = "3")]
    check_every_ms: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredTransact {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, repeated, tag = "2")]
    publishes: Vec<StoredPublish>,
    #[prost(message, repeated, tag = "3")]
    settles: Vec<StoredSettle>,
    /// Absent when it is decided already.
    #[prost(message, optional, tag = "4")]
    prepare: Option<StoredPrepare>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredDecide {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(bool, tag = "2")]
    pub(super) commit: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredPrepared {
    #[prost(message, required, tag = "1")]
    transact: StoredTransact,
    #[prost(sint64, tag = "2")]
    created_ms: i64,
    #[prost(uint64, tag = "3")]
    sequence: u64,
    #[prost(uint64, tag = "4")]
    body_at: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredPlaced {
    #[prost(uint64, tag = "1")]
    topic: u64,
    #[prost(uint32, tag = "2")]
    partition_count: u32,
    #[prost(uint32, tag = "3")]
    keyless: u32,
    #[prost(message, repeated, tag = "4")]
    bases: Vec<StoredBase>,
    #[prost(message, repeated, tag = "5")]
    duplicates: Vec<StoredDuplicates>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredCommitted {
    #[prost(message, repeated, tag = "1")]
    placed: Vec<StoredPlaced>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRolledBack {}

#[derive(Clone, PartialEq, Oneof)]
enum StoredFate {
    #[prost(message, tag = "3")]
    Committed(StoredCommitted),
    #[prost(message, tag = "4")]
    RolledBack(StoredRolledBack),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredDecided {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(sint64, tag = "2")]
    time_ms: i64,
    #[prost(oneof = "StoredFate", tags = "3, 4")]
    fate: Option<StoredFate>,
}

impl From<&Prepare> for StoredPrepare {
    fn from(prepare: &Prepare) -> Self {
        let (check_url, check_every_ms) =
            prepare.check_back.as_ref().map_or_else(Default::default, |check| (check.url.clone(), check.every_ms));
        Self { expires_ms: prepare.expires_ms, check_url, check_every_ms }
    }
}

impl From<StoredPrepare> for Prepare {
    fn from(stored: StoredPrepare) -> Self {
        let StoredPrepare { expires_ms, check_url, check_every_ms } = stored;
        let check_back = (!check_url.is_empty()).then_some(CheckBack { url: check_url, every_ms: check_every_ms });
        Self { expires_ms, check_back }
    }
}

impl From<&Transact> for StoredTransact {
    fn from(transact: &Transact) -> Self {
        Self {
            id: transact.id.to_string(),
            publishes: transact.publishes.iter().map(store_publish).collect(),
            settles: transact.settles.iter().map(Into::into).collect(),
            prepare: match &transact.mode {
                Mode::Commit => None,
                Mode::Prepare(prepare) => Some(prepare.into()),
            },
        }
    }
}

impl TryFrom<StoredTransact> for Transact {
    type Error = FrameError;

    fn try_from(stored: StoredTransact) -> Result<Self, FrameError> {
        Ok(Self {
            id: TransactionId::new(&stored.id)?,
            publishes: stored.publishes.into_iter().map(publish_from).collect::<Result<_, _>>()?,
            settles: stored.settles.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            mode: stored.prepare.map_or(Mode::Commit, |prepare| Mode::Prepare(prepare.into())),
        })
    }
}

fn store_prepared((id, prepared): (&TransactionId, &Prepared)) -> StoredPrepared {
    let transact = StoredTransact {
        id: id.to_string(),
        publishes: prepared.publishes.iter().map(store_publish).collect(),
        settles: prepared.settles.iter().map(Into::into).collect(),
        prepare: Some((&prepared.prepare).into()),
    };
    let Prepared { created_ms, sequence, body_at, .. } = *prepared;
    StoredPrepared { transact, created_ms, sequence: sequence.0, body_at }
}

fn prepared_from(stored: StoredPrepared) -> Result<(TransactionId, Prepared), FrameError> {
    let StoredPrepared { transact, created_ms, sequence, body_at } = stored;
    let Transact { id, publishes, settles, mode } = transact.try_into()?;
    let Mode::Prepare(prepare) = mode else { return Err(FrameError::Malformed("prepared transaction")) };
    Ok((id, Prepared { created_ms, prepare, publishes, settles, sequence: Sequence(sequence), body_at }))
}

fn store_decided(id: &TransactionId, decided: &Decided) -> StoredDecided {
    let placed = |(topic, placement): &(TopicId, Arc<Placement>)| StoredPlaced {
        topic: topic.0,
        partition_count: placement.partition_count,
        keyless: placement.keyless.0,
        bases: store_bases(&placement.bases),
        duplicates: store_duplicates(&placement.duplicates),
    };
    let fate = match &decided.fate {
        Fate::Committed(places) => {
            Some(StoredFate::Committed(StoredCommitted { placed: places.iter().map(placed).collect() }))
        }
        Fate::RolledBack => Some(StoredFate::RolledBack(StoredRolledBack {})),
        // Never remembered as decided.
        Fate::Prepared => None,
    };
    StoredDecided { id: id.to_string(), time_ms: decided.time_ms, fate }
}

fn decided_from(stored: StoredDecided) -> Result<(TransactionId, Decided), FrameError> {
    let placed = |placed: StoredPlaced| {
        let (partition_count, keyless) = (placed.partition_count, Partition(placed.keyless));
        let placement = Placement {
            partition_count,
            keyless,
            bases: bases_from(placed.bases),
            duplicates: duplicates_from(placed.duplicates),
        };
        (TopicId(placed.topic), Arc::new(placement))
    };
    let fate = match stored.fate.ok_or(FrameError::Malformed("fate of a transaction"))? {
        StoredFate::Committed(committed) => Fate::Committed(committed.placed.into_iter().map(placed).collect()),
        StoredFate::RolledBack(_) => Fate::RolledBack,
    };
    Ok((TransactionId::new(&stored.id)?, Decided { time_ms: stored.time_ms, fate }))
}

/// Prepared transactions, and decided ones from the oldest on.
pub(super) fn store_transactions(transactions: &Transactions) -> (Vec<StoredPrepared>, Vec<StoredDecided>) {
    let decided = |id: &TransactionId| Some(store_decided(id, transactions.decided.get(id)?));
    (
        transactions.prepared.iter().map(store_prepared).collect(),
        transactions.order.iter().filter_map(decided).collect(),
    )
}

pub(super) fn transactions_from(
    prepared: Vec<StoredPrepared>,
    decided: Vec<StoredDecided>,
) -> Result<Transactions, FrameError> {
    let mut transactions = Transactions::default();
    for stored in prepared {
        let (id, prepared) = prepared_from(stored)?;
        transactions.prepared.insert(id, prepared);
    }
    for stored in decided {
        let (id, decided) = decided_from(stored)?;
        transactions.remember(id, decided);
    }
    Ok(transactions)
}
