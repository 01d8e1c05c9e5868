//! Avro object container files, as far as Iceberg's manifests need them: written, never read.
//!
//! Only the encoding is here; a schema is a text that the caller knows his rows to follow.

use xxhash_rust::xxh3::xxh3_128;

/// Bytes of rows in a block, about: readers hold one block at a time.
const BLOCK: usize = 64 * 1024;

/// Encodes one value after the other.
#[derive(Debug, Default)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    /// An `int` or a `long`.
    pub(super) fn long(&mut self, value: i64) -> &mut Self {
        let mut rest = (value as u64) << 1 ^ (value >> 63) as u64;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
        self
    }

    /// A size or a number of something. What does not fit is cut to what does.
    pub(super) fn count(&mut self, value: u64) -> &mut Self {
        self.long(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// A `boolean`.
    pub(super) fn boolean(&mut self, value: bool) -> &mut Self {
        self.0.push(value.into());
        self
    }

    /// `bytes`, or with UTF-8 in them a `string`.
    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.count(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// The first branch of a union with `null`.
    pub(super) fn null(&mut self) -> &mut Self {
        self.long(0)
    }

    /// The second branch of a union with `null`; its value follows.
    pub(super) fn some(&mut self) -> &mut Self {
        self.long(1)
    }

    /// An `array` or `map` of these items.
    pub(super) fn items<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        if items.len() > 0 {
            self.count(items.len() as u64);
            items.for_each(|item| each(self, item));
        }
        self.long(0)
    }
}

/// A file that is being put together.
#[derive(Debug)]
pub(super) struct Container {
    out: Encoder,
    sync: [u8; 16],
    block: Encoder,
    rows: u64,
}

impl Container {
    /// A file of rows of this schema. `metadata` goes into its header.
    pub(super) fn new(schema: &str, metadata: &[(&str, String)]) -> Self {
        let mut out = Encoder(b"Obj\x01".to_vec());
        let mut header = vec![("avro.schema", schema), ("avro.codec", "null")];
        header.extend(metadata.iter().map(|(name, value)| (*name, value.as_str())));
        out.items(header.into_iter(), |out, (name, value)| {
            out.bytes(name.as_bytes()).bytes(value.as_bytes());
        });
        // Any marker does that is unlikely in the rows. This one makes the same file every time.
        let sync = xxh3_128(&out.0).to_le_bytes();
        out.0.extend_from_slice(&sync);
        Self { out, sync, block: Encoder::default(), rows: 0 }
    }

    /// Appends a row.
    pub(super) fn row(&mut self, encode: impl FnOnce(&mut Encoder)) {
        encode(&mut self.block);
        self.rows += 1;
        if self.block.0.len() >= BLOCK {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        self.out.count(self.rows).bytes(&self.block.0);
        self.out.0.extend_from_slice(&self.sync);
        self.block.0.clear();
        self.rows = 0;
    }

    /// The whole file.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.rows > 0 {
            self.end_block();
        }
        self.out.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn encodes(value: i64, bytes: &[u8]) {
        let mut encoder = Encoder::default();
        encoder.long(value);
        assert_eq!(encoder.0, bytes, "{value}");
    }

    #[test]
    fn numbers_are_as_the_specification_has_them() {
        encodes(0, &[0]);
        encodes(-1, &[1]);
        encodes(1, &[2]);
        encodes(-64, &[0x7f]);
        encodes(64, &[0x80, 0x01]);
        encodes(i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        encodes(i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn a_file_has_a_header_and_blocks_that_end_with_its_marker() {
        let mut container = Container::new(r#""string""#, &[("k", "v".to_owned())]);
        let long = vec![b'x'; BLOCK];
        container.row(|row| {
            row.bytes(&long);
        });
        container.row(|row| {
            row.bytes(b"foo");
        });
        let file = container.finish();
        let header = b"Obj\x01\x06\x16avro.schema\x10\"string\"\x14avro.codec\x08null\x02k\x02v\x00";
        let (start, rest) = file.split_at(header.len());
        assert_eq!(start, header);
        let (sync, rest) = rest.split_at(16);
        // One row, three bytes of length before and after the row's own three.
        let first = 1 + 3 + 3 + BLOCK;
        assert_eq!(&rest[..1], [2]);
        assert_eq!(&rest[first..first + 16], sync);
        let last = [&[2, 8, 6][..], b"foo", sync].concat();
        assert_eq!(&rest[first + 16..], last);
    }
}
