//! Stored formats: one small file each, with magic, version, checksum, encoding and decoding.

mod archive;
mod command;
mod floor;
mod frame;
mod identity;
mod journal;
mod placement;
mod queue;
mod remembered;
mod restoring;
mod snapshot;
mod transaction;

pub use floor::{Extent, Floor, Install, SnapshotRef};
pub use frame::{FrameError, HEAD_BYTES, Head, ID_RANGE, Kind, checksum, checksum_behind};
pub use identity::{FoundingRegion, RegionIdentity};
pub use journal::{Leader, Record, Section, Value};
pub use restoring::Restoring;
pub use snapshot::{decode_snapshot, encode_snapshot};

#[cfg(test)]
mod tests;
