//! Stored form of where the messages of a request are.

use prost::Message;

use super::command::StoredPosition;
use crate::{
    command::DuplicateRows,
    ids::{Offset, Partition},
};

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredBase {
    #[prost(message, required, tag = "1")]
    position: StoredPosition,
    #[prost(uint32, tag = "2")]
    rows: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredDuplicates {
    #[prost(uint32, tag = "1")]
    partition: u32,
    #[prost(uint32, tag = "2")]
    first: u32,
    #[prost(uint32, tag = "3")]
    rows: u32,
    #[prost(message, required, tag = "4")]
    original: StoredPosition,
}

pub(super) fn store_bases(bases: &[(Partition, Offset, u32)]) -> Vec<StoredBase> {
    let base = |(partition, offset, rows): &(Partition, Offset, u32)| StoredBase {
        position: StoredPosition { partition: partition.0, offset: offset.0 },
        rows: *rows,
    };
    bases.iter().map(base).collect()
}

pub(super) fn bases_from(stored: Vec<StoredBase>) -> Vec<(Partition, Offset, u32)> {
    let base = |base: StoredBase| (Partition(base.position.partition), Offset(base.position.offset), base.rows);
    stored.into_iter().map(base).collect()
}

pub(super) fn store_duplicates(duplicates: &[(Partition, DuplicateRows)]) -> Vec<StoredDuplicates> {
    let duplicate = |(partition, dropped): &(Partition, DuplicateRows)| StoredDuplicates {
        partition: partition.0,
        first: dropped.first,
        rows: dropped.rows,
        original: StoredPosition { partition: dropped.partition.0, offset: dropped.offset.0 },
    };
    duplicates.iter().map(duplicate).collect()
}

pub(super) fn duplicates_from(stored: Vec<StoredDuplicates>) -> Vec<(Partition, DuplicateRows)> {
    let duplicate = |dropped: StoredDuplicates| {
        let StoredDuplicates { partition, first, rows, original } = dropped;
        let (original, offset) = (Partition(original.partition), Offset(original.offset));
        (Partition(partition), DuplicateRows { first, rows, partition: original, offset })
    };
    stored.into_iter().map(duplicate).collect()
}
