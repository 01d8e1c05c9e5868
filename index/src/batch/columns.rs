//! Growing columns of messages, laid out as Arrow wants them, so that a batch is built without touching a message twice.

use std::{borrow::Cow, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanBufferBuilder, MapArray, RecordBatch, StringArray, StructArray,
        TimestampMillisecondArray, UInt8Array,
    },
    buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer},
};

use super::{
    attributes::{AttributeColumns, AttributeSet, Attributes},
    schema::{batch_schema_with, header_fields, headers_field},
};

/// How a value was given, and how it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ValueKind {
    /// UTF-8 text: a JSON string.
    Text = 0,
    /// A JSON document, stored as its text.
    Json = 1,
    /// Bytes: base64 in JSON.
    Binary = 2,
}

impl ValueKind {
    /// The kind with this number; unknown numbers are bytes.
    pub const fn from_u8(number: u8) -> Self {
        match number {
            0 => Self::Text,
            1 => Self::Json,
            _ => Self::Binary,
        }
    }
}

/// One message, borrowed from wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRef<'a> {
    /// Key: decides the partition, and with it the order.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone. `Text` values must be UTF-8 and `Json` values a JSON document.
    pub value: Option<&'a [u8]>,
    /// How the value was given.
    pub kind: ValueKind,
    /// Headers in the order given; names may repeat.
    pub headers: &'a [(Cow<'a, str>, Cow<'a, str>)],
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// What queue subscriptions deliver by.
    pub attributes: Attributes<'a>,
}

impl MessageRef<'_> {
    /// Bytes of key, value and headers.
    pub fn size(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + self.header_bytes()
    }

    /// Bytes of all header names and values.
    pub fn header_bytes(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// Variable-length items: their bytes end to end, and where each one ends.
#[derive(Debug)]
pub(super) struct VarBytes {
    pub(super) bytes: Vec<u8>,
    /// Starts with 0; always one more than there are items. 32 bits suffice: `Columns` is bounded far below 2 GiB.
    pub(super) ends: Vec<i32>,
}

impl Default for VarBytes {
    fn default() -> Self {
        Self { bytes: Vec::new(), ends: vec![0] }
    }
}

impl VarBytes {
    pub(super) fn push(&mut self, item: &[u8]) {
        self.bytes.extend_from_slice(item);
        self.ends.push(end_of(self.bytes.len()));
    }

    pub(super) fn append(&mut self, other: &Self) {
        let shift = end_of(self.bytes.len());
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends[1..].iter().map(|end| end + shift));
    }

    pub(super) fn finish(self) -> (OffsetBuffer<i32>, Buffer) {
        (OffsetBuffer::new(ScalarBuffer::from(self.ends)), Buffer::from_vec(self.bytes))
    }
}

pub(super) fn end_of(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("columns are bounded by Columns::MAX_BYTES")
}

/// Which items of a column are present. Allocates nothing while all of them are.
#[derive(Debug)]
struct Presence(BooleanBufferBuilder);

impl Default for Presence {
    fn default() -> Self {
        Self(BooleanBufferBuilder::new(0))
    }
}

impl Presence {
    fn append(&mut self, other: &Self) {
        let len = other.0.len();
        self.0.append_packed_range(0..len, other.0.as_slice());
    }

    fn finish(mut self) -> Option<NullBuffer> {
        let nulls = NullBuffer::new(self.0.finish());
        (nulls.null_count() > 0).then_some(nulls)
    }
}

/// Messages of one partition in column form, in the order in which they will be stored.
#[derive(Debug, Default)]
pub struct Columns {
    timestamps: Vec<i64>,
    kinds: Vec<u8>,
    keys: VarBytes,
    keys_present: Presence,
    values: VarBytes,
    values_present: Presence,
    /// For each message, where its headers end in `header_names` and `header_values`.
    headers: HeaderEnds,
    header_names: VarBytes,
    header_values: VarBytes,
    /// `None` as long as no message has one.
    attributes: Option<Box<AttributeColumns>>,
}

#[derive(Debug)]
struct HeaderEnds(Vec<i32>);

impl Default for HeaderEnds {
    fn default() -> Self {
        Self(vec![0])
    }
}

impl Columns {
    /// Most bytes that columns may hold: 32-bit offsets address twice as much.
    pub const MAX_BYTES: usize = 1 << 30;

    /// Number of messages.
    pub fn rows(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Approximate bytes held: payload, attributes, and 32 bytes a message for its fixed parts.
    pub fn bytes(&self) -> usize {
        let attributes = self.attributes.as_ref().map_or(0, |attributes| attributes.bytes());
        self.payload_bytes() + attributes + 32 * self.rows()
    }

    /// Bytes of keys, values and headers.
    pub fn payload_bytes(&self) -> usize {
        self.keys.bytes.len() + self.values.bytes.len() + self.header_names.bytes.len() + self.header_values.bytes.len()
    }

    /// Which attributes the messages use.
    pub fn attribute_set(&self) -> AttributeSet {
        self.attributes.as_ref().map_or(AttributeSet::default(), |attributes| attributes.set())
    }

    /// Adds a message at the end.
    ///
    /// # Panics
    /// When the columns would exceed [`Self::MAX_BYTES`]; callers bound their requests far below.
    pub fn push(&mut self, message: &MessageRef<'_>) {
        assert!(self.bytes() + message.size() < Self::MAX_BYTES, "columns are bounded");
        if !message.attributes.set().is_empty() {
            let row = self.rows();
            self.attributes.get_or_insert_default().push(row, &message.attributes);
        }
        self.timestamps.push(message.timestamp_ms);
        self.kinds.push(message.kind as u8);
        self.keys.push(message.key.unwrap_or_default());
        self.keys_present.0.append(message.key.is_some());
        self.values.push(message.value.unwrap_or_default());
        self.values_present.0.append(message.value.is_some());
        for (name, value) in message.headers {
            self.header_names.push(name.as_bytes());
            self.header_values.push(value.as_bytes());
        }
        self.headers.0.push(end_of(self.header_names.ends.len() - 1));
    }

    /// Adds all messages of `other` at the end, in their order.
    ///
    /// # Panics
    /// Like [`Self::push`].
    pub fn append(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        assert!(self.bytes() + other.bytes() < Self::MAX_BYTES, "columns are bounded");
        if let Some(attributes) = &other.attributes {
            let shift = self.rows();
            self.attributes.get_or_insert_default().append(attributes, shift);
        }
        self.timestamps.extend_from_slice(&other.timestamps);
        self.kinds.extend_from_slice(&other.kinds);
        self.keys.append(&other.keys);
        self.keys_present.append(&other.keys_present);
        self.values.append(&other.values);
        self.values_present.append(&other.values_present);
        let shift = end_of(self.header_names.ends.len() - 1);
        self.headers.0.extend(other.headers.0[1..].iter().map(|end| end + shift));
        self.header_names.append(&other.header_names);
        self.header_values.append(&other.header_values);
    }

    /// Smallest and largest timestamp, in milliseconds since the Unix epoch; zeros when empty.
    pub fn timestamp_range(&self) -> (i64, i64) {
        let min = self.timestamps.iter().copied().min().unwrap_or_default();
        let max = self.timestamps.iter().copied().max().unwrap_or_default();
        (min, max)
    }

    /// The columns as an Arrow record batch with [`batch_schema_with`] the attributes used. Copies no payload.
    pub fn into_record_batch(self) -> RecordBatch {
        let (rows, set) = (self.rows(), self.attribute_set());
        let (key_ends, key_bytes) = self.keys.finish();
        let (value_ends, value_bytes) = self.values.finish();
        let (name_ends, name_bytes) = self.header_names.finish();
        let (header_value_ends, header_value_bytes) = self.header_values.finish();
        let entries = StructArray::new(
            header_fields(),
            vec![
                Arc::new(StringArray::new(name_ends, name_bytes, None)) as ArrayRef,
                Arc::new(StringArray::new(header_value_ends, header_value_bytes, None)),
            ],
            None,
        );
        let headers = OffsetBuffer::new(ScalarBuffer::from(self.headers.0));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMillisecondArray::from(self.timestamps).with_timezone("UTC")),
            Arc::new(BinaryArray::new(key_ends, key_bytes, self.keys_present.finish())),
            Arc::new(BinaryArray::new(value_ends, value_bytes, self.values_present.finish())),
            Arc::new(UInt8Array::from(self.kinds)),
            Arc::new(MapArray::new(headers_field(), headers, entries, None, false)),
        ];
        columns.extend(self.attributes.into_iter().flat_map(|attributes| attributes.into_arrays(rows)));
        RecordBatch::try_new(batch_schema_with(set), columns).expect("columns follow the batch schema")
    }
}
