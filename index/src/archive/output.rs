//! Where the bytes of a file go while it is written: they are taken from time to time, and a checksum runs along.

use std::io::{self, Write};

use bytes::Bytes;

/// Output that was not taken yet.
#[derive(Debug, Default)]
pub(super) struct Output {
    buffer: Vec<u8>,
    taken: u64,
    /// CRC-32C of what was taken.
    crc: u32,
}

impl Output {
    pub(super) fn memory(&self) -> usize {
        self.buffer.capacity()
    }

    /// Bytes written in all.
    pub(super) fn bytes(&self) -> u64 {
        self.taken + self.buffer.len() as u64
    }

    /// CRC-32C of all bytes taken.
    pub(super) fn crc(&self) -> u32 {
        self.crc
    }

    /// The last bytes, from position `at` of the whole output on; they must not have been taken.
    pub(super) fn tail(&mut self, at: u64) -> &mut [u8] {
        let at = usize::try_from(at.saturating_sub(self.taken)).unwrap_or(usize::MAX);
        self.buffer.get_mut(at..).unwrap_or_default()
    }

    pub(super) fn take(&mut self) -> Bytes {
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
        self.taken += self.buffer.len() as u64;
        Bytes::from(std::mem::take(&mut self.buffer))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
