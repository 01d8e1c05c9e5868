//! The schema of a published stream, read field by field: only columns that messages have, only types that we take.

use std::sync::Arc;

use arrow::{
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    ipc,
};

use super::malformed;
use crate::wire::error::{WireError, codes};

const COLUMNS_HINT: &str = "Columns: value (Utf8, LargeUtf8, Binary, LargeBinary), and optional key (the same types), \
                            timestamp (Timestamp, or Int64 milliseconds), partition (Int32, Int64, UInt32), \
                            kind (UInt8), headers (Map of Utf8 to Utf8), group and deduplication_id (Utf8, \
                            LargeUtf8), priority (UInt8, Int32, Int64, UInt32), deliver_at and expires_at (like \
                            timestamp).";

/// Makes an Arrow schema of a schema message.
pub(super) fn read(header: &ipc::Schema<'_>) -> Result<SchemaRef, WireError> {
    if header.endianness() != ipc::Endianness::Little {
        return Err(malformed("it is big-endian"));
    }
    let mut fields: Vec<Field> = Vec::new();
    for field in header.fields().into_iter().flatten() {
        let name = field.name().unwrap_or_default();
        let known = known_type(name, &field)?;
        if fields.iter().any(|other| other.name() == name) {
            return Err(refuse(format!("column {name} is there twice")));
        }
        fields.push(Field::new(name, known, true));
    }
    if !fields.iter().any(|field| field.name() == "value") {
        return Err(refuse("there is no column value".to_owned()));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn refuse(message: String) -> WireError {
    WireError::new(codes::INVALID_ARROW, message, COLUMNS_HINT)
}

fn known_type(name: &str, field: &ipc::Field<'_>) -> Result<DataType, WireError> {
    let (known, wanted) = match name {
        "value" | "key" => (bytes_type(field), "Utf8, LargeUtf8, Binary or LargeBinary"),
        "timestamp" | "deliver_at" | "expires_at" => (timestamp_type(field), "Timestamp or Int64"),
        "group" | "deduplication_id" => (text_type(field), "Utf8 or LargeUtf8"),
        "priority" => (int_type(field), "UInt8, Int32, Int64 or UInt32"),
        "partition" => (partition_type(field), "Int32, Int64 or UInt32"),
        "kind" => (int_type(field).filter(|int| *int == DataType::UInt8), "UInt8"),
        "headers" => (headers_type(field), "Map of Utf8 to Utf8"),
        _ => {
            let shown: String = name.chars().take(64).collect();
            return Err(refuse(format!("unknown column {shown:?}")));
        }
    };
    let known = known.filter(|_| field.dictionary().is_none());
    known.ok_or_else(|| {
        let dictionary = if field.dictionary().is_some() { "dictionary of " } else { "" };
        let got = field.type_type().variant_name().unwrap_or("unknown");
        let width = field.type_as_int().map_or_else(String::new, |int| {
            format!(" ({} bits, {})", int.bitWidth(), if int.is_signed() { "signed" } else { "unsigned" })
        });
        refuse(format!("column {name} has type {dictionary}{got}{width} instead of {wanted}"))
    })
}

fn bytes_type(field: &ipc::Field<'_>) -> Option<DataType> {
    Some(match field.type_type() {
        ipc::Type::Utf8 => DataType::Utf8,
        ipc::Type::LargeUtf8 => DataType::LargeUtf8,
        ipc::Type::Binary => DataType::Binary,
        ipc::Type::LargeBinary => DataType::LargeBinary,
        _ => return None,
    })
}

fn text_type(field: &ipc::Field<'_>) -> Option<DataType> {
    bytes_type(field).filter(|known| matches!(known, DataType::Utf8 | DataType::LargeUtf8))
}

fn int_type(field: &ipc::Field<'_>) -> Option<DataType> {
    let int = field.type_as_int()?;
    Some(match (int.bitWidth(), int.is_signed()) {
        (8, false) => DataType::UInt8,
        (32, true) => DataType::Int32,
        (32, false) => DataType::UInt32,
        (64, true) => DataType::Int64,
        _ => return None,
    })
}

fn partition_type(field: &ipc::Field<'_>) -> Option<DataType> {
    int_type(field).filter(|int| *int != DataType::UInt8)
}

fn timestamp_type(field: &ipc::Field<'_>) -> Option<DataType> {
    let Some(timestamp) = field.type_as_timestamp() else {
        return int_type(field).filter(|int| *int == DataType::Int64);
    };
    // The time zone is how the instant is shown; the number counts from the epoch in UTC whatever it is.
    let unit = match timestamp.unit() {
        ipc::TimeUnit::SECOND => TimeUnit::Second,
        ipc::TimeUnit::MILLISECOND => TimeUnit::Millisecond,
        ipc::TimeUnit::MICROSECOND => TimeUnit::Microsecond,
        ipc::TimeUnit::NANOSECOND => TimeUnit::Nanosecond,
        _ => return None,
    };
    Some(DataType::Timestamp(unit, None))
}

fn headers_type(field: &ipc::Field<'_>) -> Option<DataType> {
    field.type_as_map()?;
    let entries = only_children::<1>(field)?[0];
    entries.type_as_struct_()?;
    let parts = only_children::<2>(&entries)?;
    let text = |part: &ipc::Field<'_>| part.type_type() == ipc::Type::Utf8 && part.dictionary().is_none();
    if !parts.iter().all(text) {
        return None;
    }
    let parts = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    Some(DataType::Map(Arc::new(Field::new("entries", DataType::Struct(parts.into()), false)), false))
}

fn only_children<'a, const N: usize>(field: &ipc::Field<'a>) -> Option<[ipc::Field<'a>; N]> {
    let children = field.children()?;
    if children.len() != N {
        return None;
    }
    Some(std::array::from_fn(|at| children.get(at)))
}
