//! Rows of a decoded record batch, pushed to the sink one by one.

use std::borrow::Cow;

use arrow::{
    array::{Array, AsArray, MapArray, PrimitiveArray, RecordBatch, StringArray},
    datatypes::{DataType, Int32Type, Int64Type, TimeUnit, UInt8Type, UInt32Type},
};
use brigade_index::{
    batch::{MessageRef, ValueKind},
    limits::MAX_HEADERS,
};

use super::refuse_row;
use crate::wire::{
    MessageSink,
    attributes::GivenAttributes,
    document::{self, Document},
    error::{Refusal, WireError},
    message::{push_message, too_many_headers},
};

/// Pushes every row of `batch`, which has a schema that [`super::schema::read`] made; `count` is the number of messages
/// before, and counts on.
pub(super) fn push_rows(
    batch: &RecordBatch,
    count: &mut usize,
    now_ms: i64,
    sink: &mut impl MessageSink,
) -> Result<(), WireError> {
    let columns = Columns::new(batch);
    let (mut headers, mut scratch) = (Vec::new(), Vec::new());
    for row in 0..batch.num_rows() {
        columns
            .push_row(row, now_ms, &mut headers, &mut scratch, sink)
            .map_err(|refusal| refuse_row(*count, refusal))?;
        *count += 1;
    }
    Ok(())
}

/// A column of strings or bytes.
struct BytesColumn<'a> {
    array: &'a dyn Array,
    is_text: bool,
    large: bool,
}

impl<'a> BytesColumn<'a> {
    fn new(array: &'a dyn Array) -> Self {
        let data_type = array.data_type();
        Self {
            array,
            is_text: matches!(data_type, DataType::Utf8 | DataType::LargeUtf8),
            large: matches!(data_type, DataType::LargeUtf8 | DataType::LargeBinary),
        }
    }

    fn value(&self, row: usize) -> Option<&'a [u8]> {
        if self.array.is_null(row) {
            return None;
        }
        Some(match (self.is_text, self.large) {
            (true, false) => self.array.as_string::<i32>().value(row).as_bytes(),
            (true, true) => self.array.as_string::<i64>().value(row).as_bytes(),
            (false, false) => self.array.as_binary::<i32>().value(row),
            (false, true) => self.array.as_binary::<i64>().value(row),
        })
    }
}

/// The columns of a batch.
struct Columns<'a> {
    value: Option<BytesColumn<'a>>,
    key: Option<BytesColumn<'a>>,
    timestamp: Option<(PrimitiveArray<Int64Type>, TimeUnit)>,
    partition: Option<&'a dyn Array>,
    kind: Option<&'a PrimitiveArray<UInt8Type>>,
    headers: Option<&'a MapArray>,
    group: Option<&'a dyn Array>,
    priority: Option<&'a dyn Array>,
    deliver_at: Option<(PrimitiveArray<Int64Type>, TimeUnit)>,
    expires_at: Option<(PrimitiveArray<Int64Type>, TimeUnit)>,
    deduplication_id: Option<&'a dyn Array>,
}

impl<'a> Columns<'a> {
    fn new(batch: &'a RecordBatch) -> Self {
        let column = |name| batch.column_by_name(name).map(|array| array.as_ref() as &'a dyn Array);
        Self {
            value: column("value").map(BytesColumn::new),
            key: column("key").map(BytesColumn::new),
            timestamp: column("timestamp").and_then(timestamps),
            partition: column("partition"),
            kind: column("kind").and_then(|array| array.as_primitive_opt()),
            headers: column("headers").and_then(|array| array.as_map_opt()),
            group: column("group"),
            priority: column("priority"),
            deliver_at: column("deliver_at").and_then(timestamps),
            expires_at: column("expires_at").and_then(timestamps),
            deduplication_id: column("deduplication_id"),
        }
    }

    fn push_row(
        &self,
        row: usize,
        now_ms: i64,
        headers: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>,
        scratch: &mut Vec<u8>,
        sink: &mut impl MessageSink,
    ) -> Result<(), Refusal>
    where
        Self: 'a,
    {
        headers.clear();
        if let Some(map) = self.headers {
            read_headers(map, row, headers)?;
        }
        let timestamp_ms = self.timestamp_ms(row)?.unwrap_or(now_ms);
        let partition = self.partition.map_or(Ok(None), |array| partition(array, row))?;
        let key = self.key.as_ref().and_then(|column| column.value(row));
        let (value, kind) = self.value(row, scratch)?;
        let given = GivenAttributes {
            group: self.group.and_then(|array| text(array, row)),
            priority: self.priority.and_then(|array| integer(array, row)),
            deliver_at: milliseconds(self.deliver_at.as_ref(), row),
            expires_at: milliseconds(self.expires_at.as_ref(), row),
            ..GivenAttributes::default()
        };
        let message = MessageRef { key, value, kind, headers, timestamp_ms, attributes: given.resolve(now_ms)? };
        push_message(sink, message, partition, self.deduplication_id.and_then(|array| text(array, row)))
    }

    fn value<'v>(&'v self, row: usize, scratch: &'v mut Vec<u8>) -> Result<(Option<&'v [u8]>, ValueKind), Refusal> {
        let column = self.value.as_ref();
        let is_text = column.is_some_and(|column| column.is_text);
        let given = self.kind.filter(|kinds| !kinds.is_null(row)).map(|kinds| kinds.value(row));
        let kind = match given {
            None if is_text => ValueKind::Text,
            None => ValueKind::Binary,
            Some(number @ 0..=2) => ValueKind::from_u8(number),
            Some(other) => {
                return Err(Refusal::invalid(format!("unknown kind {other}"), "Kinds: 0 text, 1 JSON, 2 bytes."));
            }
        };
        let Some(value) = column.and_then(|column| column.value(row)) else {
            return Ok((None, kind));
        };
        match kind {
            ValueKind::Text if !is_text && std::str::from_utf8(value).is_err() => {
                Err(Refusal::invalid("the value is text (kind 0) but not UTF-8", "Send bytes with kind 2."))
            }
            ValueKind::Json => Ok(match document::read_foreign(value, scratch)? {
                Document::Text(text) => (Some(text), ValueKind::Text),
                Document::TextInScratch => (Some(scratch), ValueKind::Text),
                Document::Json(json) => (Some(json), ValueKind::Json),
                Document::JsonInScratch => (Some(scratch), ValueKind::Json),
                Document::Null => (None, ValueKind::Json),
            }),
            ValueKind::Text | ValueKind::Binary => Ok((Some(value), kind)),
        }
    }

    fn timestamp_ms(&self, row: usize) -> Result<Option<i64>, Refusal> {
        let Some((array, unit)) = self.timestamp.as_ref().filter(|(array, _)| !array.is_null(row)) else {
            return Ok(None);
        };
        let number = array.value(row);
        let time_ms = in_milliseconds(number, *unit);
        time_ms.filter(|time_ms| *time_ms >= 0).map(Some).ok_or_else(|| {
            let message = format!("the timestamp {number} is negative or too large");
            Refusal::invalid(message, "Give an instant after the Unix epoch.")
        })
    }
}

fn in_milliseconds(number: i64, unit: TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::Second => number.checked_mul(1000),
        TimeUnit::Millisecond => Some(number),
        TimeUnit::Microsecond => Some(number.div_euclid(1000)),
        TimeUnit::Nanosecond => Some(number.div_euclid(1_000_000)),
    }
}

/// A time in milliseconds since the Unix epoch. One that does not fit is out of every range, and so is what stands for it.
fn milliseconds(column: Option<&(PrimitiveArray<Int64Type>, TimeUnit)>, row: usize) -> Option<i64> {
    let (array, unit) = column.filter(|(array, _)| !array.is_null(row))?;
    Some(in_milliseconds(array.value(row), *unit).unwrap_or(i64::MAX))
}

fn text(array: &dyn Array, row: usize) -> Option<&str> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row),
        _ => array.as_string::<i64>().value(row),
    })
}

fn integer(array: &dyn Array, row: usize) -> Option<i64> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row),
        _ => array.as_primitive::<UInt32Type>().value(row).into(),
    })
}

/// The numbers of a timestamp column, and their unit.
fn timestamps(array: &dyn Array) -> Option<(PrimitiveArray<Int64Type>, TimeUnit)> {
    let unit = match array.data_type() {
        DataType::Int64 => TimeUnit::Millisecond,
        DataType::Timestamp(unit, _) => *unit,
        _ => return None,
    };
    let data = array.to_data().into_builder().data_type(DataType::Int64).build().ok()?;
    Some((PrimitiveArray::from(data), unit))
}

fn partition(array: &dyn Array, row: usize) -> Result<Option<u32>, Refusal> {
    let Some(number) = integer(array, row) else { return Ok(None) };
    u32::try_from(number).map(Some).map_err(|_| {
        Refusal::invalid(format!("the partition {number} does not exist"), "Partitions count from 0; or leave it null.")
    })
}

fn read_headers<'a>(
    map: &'a MapArray,
    row: usize,
    headers: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>,
) -> Result<(), Refusal> {
    if map.is_null(row) {
        return Ok(());
    }
    let (names, values): (&StringArray, &StringArray) = (map.keys().as_string(), map.values().as_string());
    let ends = map.value_offsets();
    let range = ends[row] as usize..ends[row + 1] as usize;
    if range.len() > MAX_HEADERS {
        return Err(too_many_headers());
    }
    for at in range {
        if names.is_null(at) || values.is_null(at) {
            return Err(Refusal::invalid("a header has a null name or value", "Leave the header out."));
        }
        headers.push((Cow::Borrowed(names.value(at)), Cow::Borrowed(values.value(at))));
    }
    Ok(())
}
