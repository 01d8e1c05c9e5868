//! Stored form of remembered deduplication ids: end to end instead of one message each, for there may be very many.

use prost::Message;

use super::{command::hashes_from, frame::FrameError};
use crate::{
    ids::{Offset, Partition},
    state::MessageIds,
};

/// Deduplication ids of a topic, oldest first; all lists are equally long.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredMessageIds {
    /// 16 bytes each, big-endian.
    #[prost(bytes = "vec", tag = "1")]
    hashes: Vec<u8>,
    /// Relative to the one before.
    #[prost(sint64, repeated, tag = "2")]
    times_ms: Vec<i64>,
    #[prost(uint32, repeated, tag = "3")]
    partitions: Vec<u32>,
    #[prost(uint64, repeated, tag = "4")]
    offsets: Vec<u64>,
}

impl From<&MessageIds> for StoredMessageIds {
    fn from(ids: &MessageIds) -> Self {
        let (mut stored, mut before) = (Self::default(), 0_i64);
        stored.hashes.reserve_exact(16 * ids.len());
        for (time_ms, hash, (partition, offset)) in ids.iter() {
            stored.hashes.extend_from_slice(&hash.to_be_bytes());
            stored.times_ms.push(time_ms.wrapping_sub(before));
            stored.partitions.push(partition.0);
            stored.offsets.push(offset.0);
            before = time_ms;
        }
        stored
    }
}

impl TryFrom<StoredMessageIds> for MessageIds {
    type Error = FrameError;

    fn try_from(stored: StoredMessageIds) -> Result<Self, FrameError> {
        let StoredMessageIds { hashes, times_ms, partitions, offsets } = stored;
        if partitions.len() != times_ms.len() || offsets.len() != times_ms.len() {
            return Err(FrameError::Malformed("remembered deduplication ids"));
        }
        let (mut ids, mut time_ms) = (Self::default(), 0_i64);
        let places = partitions.into_iter().map(Partition).zip(offsets.into_iter().map(Offset));
        for ((hash, span), place) in hashes_from(&hashes, times_ms.len())?.zip(times_ms).zip(places) {
            time_ms = time_ms.wrapping_add(span);
            ids.remember(time_ms, hash, place);
        }
        Ok(ids)
    }
}
