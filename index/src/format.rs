//! Stored formats: one small file each, with magic, version, checksum, encoding and decoding.

/// Where the identity of a write lies in every object written with put-if-absent: 16 bytes, big endian.
pub const ID_RANGE: std::ops::Range<usize> = 16..32;
