//! Attributes of messages: what queue subscriptions deliver by. Most messages have none, so they cost nothing there: a
//! batch has the column of an attribute only if one of its messages uses it.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanBufferBuilder, PrimitiveArray, StringArray},
    buffer::{NullBuffer, OffsetBuffer, ScalarBuffer},
    datatypes::{ArrowPrimitiveType, TimestampMillisecondType, UInt8Type},
};

use super::columns::{VarBytes, end_of};

/// Attributes of one message, borrowed from wherever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Messages with the same group are delivered in order, one at a time.
    pub group: Option<&'a str>,
    /// 0 to 9, 9 first; [`Self::DEFAULT_PRIORITY`] when not given.
    pub priority: Option<u8>,
    /// Not delivered before, milliseconds since the Unix epoch.
    pub deliver_at_ms: Option<i64>,
    /// Not delivered from then on, milliseconds since the Unix epoch.
    pub expires_at_ms: Option<i64>,
}

impl Attributes<'_> {
    /// Priority of a message that was given none.
    pub const DEFAULT_PRIORITY: u8 = 4;

    /// Those that are given.
    pub fn set(&self) -> AttributeSet {
        AttributeSet::of([
            self.group.is_some(),
            self.priority.is_some(),
            self.deliver_at_ms.is_some(),
            self.expires_at_ms.is_some(),
        ])
    }
}

/// Which attributes the messages of a batch use, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AttributeSet(pub u8);

impl AttributeSet {
    /// Some message has a group.
    pub const GROUP: Self = Self(1);
    /// Some message has a priority.
    pub const PRIORITY: Self = Self(2);
    /// Some message is not to be delivered at once.
    pub const DELAY: Self = Self(4);
    /// Some message expires.
    pub const EXPIRY: Self = Self(8);
    /// All attributes there are.
    pub const ALL: Self = Self(15);

    /// Each attribute and its column, in the order of the columns.
    pub(super) const COLUMNS: [(Self, &'static str); 4] = [
        (Self::GROUP, "group"),
        (Self::PRIORITY, "priority"),
        (Self::DELAY, "deliver_at"),
        (Self::EXPIRY, "expires_at"),
    ];

    /// Those that are used, in the order of [`Self::COLUMNS`].
    fn of(used: [bool; 4]) -> Self {
        Self(used.iter().rev().fold(0, |bits, used| bits << 1 | u8::from(*used)))
    }

    /// Whether no attribute is used.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Attributes of the messages of growing columns. Only rows that have one are in here.
#[derive(Debug, Default)]
pub(super) struct AttributeColumns {
    group_rows: Vec<u32>,
    groups: VarBytes,
    priorities: Vec<(u32, u8)>,
    deliver_at: Vec<(u32, i64)>,
    expires_at: Vec<(u32, i64)>,
}

impl AttributeColumns {
    pub(super) fn push(&mut self, row: usize, attributes: &Attributes<'_>) {
        let row = row_number(row);
        if let Some(group) = attributes.group {
            self.group_rows.push(row);
            self.groups.push(group.as_bytes());
        }
        self.priorities.extend(attributes.priority.map(|priority| (row, priority)));
        self.deliver_at.extend(attributes.deliver_at_ms.map(|time| (row, time)));
        self.expires_at.extend(attributes.expires_at_ms.map(|time| (row, time)));
    }

    /// Adds those of other columns, whose first row becomes row `shift`.
    pub(super) fn append(&mut self, other: &Self, shift: usize) {
        let shift = row_number(shift);
        self.group_rows.extend(other.group_rows.iter().map(|row| row + shift));
        self.groups.append(&other.groups);
        self.priorities.extend(other.priorities.iter().map(|(row, priority)| (row + shift, *priority)));
        self.deliver_at.extend(other.deliver_at.iter().map(|(row, time)| (row + shift, *time)));
        self.expires_at.extend(other.expires_at.iter().map(|(row, time)| (row + shift, *time)));
    }

    pub(super) fn set(&self) -> AttributeSet {
        AttributeSet::of([
            !self.group_rows.is_empty(),
            !self.priorities.is_empty(),
            !self.deliver_at.is_empty(),
            !self.expires_at.is_empty(),
        ])
    }

    /// Approximate bytes held.
    pub(super) fn bytes(&self) -> usize {
        let items = self.group_rows.len() + self.priorities.len() + self.deliver_at.len() + self.expires_at.len();
        self.groups.bytes.len() + 16 * items
    }

    /// The columns that are used, for `rows` messages, in the order of [`AttributeSet::COLUMNS`].
    pub(super) fn into_arrays(self, rows: usize) -> Vec<ArrayRef> {
        let Self { group_rows, groups, priorities, deliver_at, expires_at } = self;
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(4);
        if !group_rows.is_empty() {
            arrays.push(Arc::new(group_array(&group_rows, groups, rows)));
        }
        if !priorities.is_empty() {
            arrays.push(Arc::new(primitive::<UInt8Type>(&priorities, rows)));
        }
        for times in [deliver_at, expires_at].iter().filter(|times| !times.is_empty()) {
            arrays.push(Arc::new(primitive::<TimestampMillisecondType>(times, rows).with_timezone("UTC")));
        }
        arrays
    }
}

/// 32 bits suffice: a row takes 32 bytes and `Columns` is bounded far below 128 GiB.
fn row_number(row: usize) -> u32 {
    u32::try_from(row).expect("columns are bounded by Columns::MAX_BYTES")
}

fn group_array(present: &[u32], groups: VarBytes, rows: usize) -> StringArray {
    let mut ends = Vec::with_capacity(rows + 1);
    ends.push(0);
    for (row, end) in present.iter().zip(&groups.ends[1..]) {
        // Rows between the last one and this one have no group: empty, and null below.
        let before = *ends.last().unwrap_or(&0);
        ends.resize(*row as usize + 1, before);
        ends.push(*end);
    }
    ends.resize(rows + 1, end_of(groups.bytes.len()));
    let (_, bytes) = groups.finish();
    StringArray::new(OffsetBuffer::new(ScalarBuffer::from(ends)), bytes, nulls(present.iter().copied(), rows))
}

fn primitive<T: ArrowPrimitiveType>(present: &[(u32, T::Native)], rows: usize) -> PrimitiveArray<T> {
    let mut values = vec![T::Native::default(); rows];
    present.iter().for_each(|(row, value)| values[*row as usize] = *value);
    PrimitiveArray::new(ScalarBuffer::from(values), nulls(present.iter().map(|(row, _)| *row), rows))
}

/// Which rows are null; `None` when none is.
fn nulls(present: impl ExactSizeIterator<Item = u32>, rows: usize) -> Option<NullBuffer> {
    if present.len() == rows {
        return None;
    }
    let mut bits = BooleanBufferBuilder::new(rows);
    bits.append_n(rows, false);
    present.for_each(|row| bits.set_bit(row as usize, true));
    Some(NullBuffer::new(bits.finish()))
}
