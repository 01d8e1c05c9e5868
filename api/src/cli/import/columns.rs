//! Columns of any Parquet file as a publish takes them.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, MapArray, OffsetSizeTrait, RecordBatch, StringArray, StructArray,
        UInt8Array, new_empty_array,
    },
    buffer::OffsetBuffer,
    compute::{cast, filter_record_batch},
    datatypes::{DataType, Field, Int64Type, TimeUnit},
    error::ArrowError,
};

/// Columns that are taken if they are there, besides key and value.
pub(super) const OPTIONAL: [&str; 8] =
    ["timestamp", "deliver_at", "expires_at", "kind", "headers", "group", "priority", "partition"];

/// A column of this name as a publish takes it, or why it cannot be.
pub(super) fn converted(name: &str, column: &ArrayRef) -> Result<ArrayRef, String> {
    let column = &plain(column)?;
    let integer = column.data_type().is_integer();
    match name {
        "value" | "key" => bytes(column),
        "group" => as_type(column, &DataType::Utf8, "text"),
        // Half a millisecond is rarely meant: they are seconds, or something else.
        _ if column.data_type().is_floating() => {
            Err("it has numbers with fractions, and whole ones are needed".to_owned())
        }
        "timestamp" | "deliver_at" | "expires_at" if integer => {
            as_type(column, &DataType::Int64, "a number of 64 bits")
        }
        "timestamp" | "deliver_at" | "expires_at" => times(column),
        "kind" if integer => as_type(column, &DataType::UInt8, "0, 1 or 2"),
        "kind" => kinds(column),
        "headers" => headers(column),
        "priority" => as_type(column, &DataType::Int32, "a whole number"),
        _ => as_type(column, &DataType::Int64, "a whole number"),
    }
}

/// The rows that have not expired by then, in milliseconds since the Unix epoch.
pub(super) fn live(batch: RecordBatch, expired_ms: i64) -> Result<RecordBatch, ArrowError> {
    let Some(expires) = batch.column_by_name("expires_at") else { return Ok(batch) };
    let times = cast(expires, &DataType::Int64)?;
    let times = times.as_primitive::<Int64Type>();
    let live: BooleanArray = times.iter().map(|time| Some(time.is_none_or(|time| time >= expired_ms))).collect();
    if live.true_count() == batch.num_rows() {
        return Ok(batch);
    }
    filter_record_batch(&batch, &live)
}

/// A column without a dictionary.
fn plain(column: &ArrayRef) -> Result<ArrayRef, String> {
    match column.data_type() {
        DataType::Dictionary(_, values) => cast(column, values).map_err(|error| error.to_string()),
        DataType::RunEndEncoded(_, values) => cast(column, values.data_type()).map_err(|error| error.to_string()),
        _ => Ok(column.clone()),
    }
}

/// Text and bytes as they are; numbers, times and the like as their text.
fn bytes(column: &ArrayRef) -> Result<ArrayRef, String> {
    match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => Ok(column.clone()),
        DataType::BinaryView | DataType::FixedSizeBinary(_) => as_type(column, &DataType::LargeBinary, "bytes"),
        DataType::Utf8View => as_type(column, &DataType::LargeUtf8, "text"),
        nested if nested.is_nested() => {
            Err(format!("it is {}, and a value is text, bytes or a number: write it as JSON text", shown(nested)))
        }
        _ => as_type(column, &DataType::Utf8, "text"),
    }
}

/// Milliseconds since the Unix epoch. A time without a zone is taken for UTC.
fn times(column: &ArrayRef) -> Result<ArrayRef, String> {
    // The name of the zone would need the database of zones.
    let milliseconds = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
    let wanted = "a time: a timestamp, a date, text such as 2026-01-31T12:00:00Z, or a whole number of milliseconds";
    match column.data_type() {
        DataType::Date32 | DataType::Date64 => {
            let plain = as_type(column, &DataType::Timestamp(TimeUnit::Millisecond, None), wanted)?;
            as_type(&plain, &milliseconds, wanted)
        }
        _ => as_type(column, &milliseconds, wanted),
    }
}

fn kinds(column: &ArrayRef) -> Result<ArrayRef, String> {
    let texts = as_type(column, &DataType::Utf8, "text")?;
    let texts: &StringArray = texts.as_string();
    let number = |text: Option<&str>| match text {
        Some("text") => Ok(Some(0)),
        Some("json") => Ok(Some(1)),
        Some("binary") => Ok(Some(2)),
        // A tombstone has none.
        None => Ok(None),
        Some(other) => {
            let other: String = other.chars().take(40).collect();
            Err(format!("{other:?} is not text, json or binary"))
        }
    };
    Ok(Arc::new(texts.iter().map(number).collect::<Result<UInt8Array, _>>()?))
}

/// A map of text to text, from a map or from lists of pairs, as several programs write maps.
fn headers(column: &ArrayRef) -> Result<ArrayRef, String> {
    let wrong = || {
        let shown = shown(column.data_type());
        format!("it is {shown}, and headers are a map of text to text, or lists of structs of a name and a value")
    };
    let (entries, offsets) = match column.data_type() {
        DataType::Map(..) => {
            let map = column.as_map();
            (map.entries().clone(), map.offsets().clone())
        }
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            (list.values().as_struct_opt().ok_or_else(wrong)?.clone(), list.offsets().clone())
        }
        DataType::LargeList(_) => {
            let list = column.as_list::<i64>();
            (list.values().as_struct_opt().ok_or_else(wrong)?.clone(), narrowed(list.offsets())?)
        }
        // Nothing but nulls.
        DataType::Null => {
            let nothing = new_empty_array(&DataType::Utf8);
            (pairs(nothing.clone(), nothing)?, OffsetBuffer::new_zeroed(column.len()))
        }
        _ => return Err(wrong()),
    };
    let [names, values] = entries.columns() else { return Err(wrong()) };
    let text = |column: &ArrayRef| as_type(&plain(column)?, &DataType::Utf8, "text");
    let entries = pairs(text(names)?, text(values)?)?;
    let field = Field::new("entries", entries.data_type().clone(), false);
    let nulls = column.logical_nulls();
    let map = MapArray::try_new(Arc::new(field), offsets, entries, nulls, false);
    map.map(|map| Arc::new(map) as ArrayRef).map_err(|error| error.to_string())
}

fn pairs(names: ArrayRef, values: ArrayRef) -> Result<StructArray, String> {
    if names.null_count() + values.null_count() > 0 {
        return Err("a header has no name, or no value".to_owned());
    }
    let fields = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    StructArray::try_new(fields.into(), vec![names, values], None).map_err(|error| error.to_string())
}

fn narrowed<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> Result<OffsetBuffer<i32>, String> {
    let narrow = offsets.iter().map(|offset| i32::try_from(offset.as_usize()));
    let narrow: Result<Vec<_>, _> = narrow.collect();
    narrow.map(|offsets| OffsetBuffer::new(offsets.into())).map_err(|_| "a list is too long".to_owned())
}

fn as_type(column: &ArrayRef, to: &DataType, words: &str) -> Result<ArrayRef, String> {
    let from = column.data_type();
    if from == to {
        return Ok(column.clone());
    }
    let wrong = || format!("it is {}, and some of it is not {words}", shown(from));
    let cast = cast(column, to).map_err(|_| format!("it is {}, and not {words}", shown(from)))?;
    let whole = cast.logical_null_count() <= column.logical_null_count();
    whole.then_some(cast).ok_or_else(wrong)
}

/// A type in a few words.
fn shown(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::List(_) | DataType::LargeList(_) | DataType::ListView(_) | DataType::FixedSizeList(..) => "a list",
        DataType::Struct(_) => "a struct",
        DataType::Map(..) => "a map",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytes",
        other => return format!("of type {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Date32Array, DictionaryArray, Float64Array, Int64Array, LargeListArray, TimestampMicrosecondArray},
        datatypes::Int8Type,
    };

    use super::*;

    const NOON_MS: i64 = 1_767_268_800_000;

    fn numbers(name: &str, column: impl Array + 'static) -> Vec<Option<i64>> {
        let column = converted(name, &(Arc::new(column) as ArrayRef)).unwrap();
        cast(&column, &DataType::Int64).unwrap().as_primitive::<Int64Type>().iter().collect()
    }

    #[track_caller]
    fn refused(name: &str, column: impl Array + 'static, why: &str) {
        let said = converted(name, &(Arc::new(column) as ArrayRef)).unwrap_err();
        assert!(said.contains(why), "{said}");
    }

    #[test]
    fn times_of_every_kind_are_milliseconds_in_utc() {
        let naive = TimestampMicrosecondArray::from(vec![Some(NOON_MS * 1_000 + 999), None]);
        assert_eq!(numbers("timestamp", naive.clone()), [Some(NOON_MS), None]);
        assert_eq!(numbers("timestamp", naive.with_timezone("Europe/Berlin")), [Some(NOON_MS), None]);
        assert_eq!(numbers("deliver_at", Date32Array::from(vec![20_454])), [Some(NOON_MS - 43_200_000)]);
        assert_eq!(numbers("expires_at", StringArray::from(vec!["2026-01-01T13:00:00+01:00"])), [Some(NOON_MS)]);
        assert_eq!(numbers("timestamp", Int64Array::from(vec![7])), [Some(7)]);
        refused("timestamp", StringArray::from(vec!["yesterday"]), "some of it is not a time");
        refused("timestamp", Float64Array::from(vec![1.5]), "fractions");
        refused("priority", StringArray::from(vec!["high"]), "not a whole number");
    }

    #[test]
    fn text_bytes_and_kinds_come_out_of_dictionaries() {
        let texts: DictionaryArray<Int8Type> = vec![Some("json"), None, Some("text")].into_iter().collect();
        let value = converted("value", &(Arc::new(texts.clone()) as ArrayRef)).unwrap();
        assert_eq!(value.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("json"), None, Some("text")]);
        assert_eq!(numbers("kind", texts), [Some(1), None, Some(0)]);
        assert_eq!(
            converted("key", &(Arc::new(Int64Array::from(vec![7])) as ArrayRef)).unwrap().as_string::<i32>().value(0),
            "7"
        );
        refused("kind", StringArray::from(vec!["xml"]), "\"xml\" is not text, json or binary");
        refused(
            "value",
            LargeListArray::new_null(Arc::new(Field::new("item", DataType::Utf8, true)), 1),
            "it is a list",
        );
    }

    #[test]
    fn headers_may_be_lists_of_pairs() {
        let texts = |texts: &[&str]| Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
        let pair = |name: &str, column| (Arc::new(Field::new(name, DataType::Utf8, true)), column);
        let structs = StructArray::from(vec![pair("k", texts(&["a", "b", "c"])), pair("v", texts(&["1", "2", "3"]))]);
        let field = Arc::new(Field::new("item", structs.data_type().clone(), true));
        let offsets = OffsetBuffer::new(vec![0_i64, 2, 2, 3].into());
        let list = LargeListArray::new(field, offsets, Arc::new(structs), Some(vec![true, false, true].into()));
        let sliced = list.slice(1, 2);
        let maps = converted("headers", &(Arc::new(list) as ArrayRef)).unwrap();
        let entries = maps.as_map().value(0);
        assert_eq!(entries.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("1"), Some("2")]);
        assert!(maps.is_null(1));
        let maps = converted("headers", &(Arc::new(sliced) as ArrayRef)).unwrap();
        assert_eq!((maps.is_null(0), maps.as_map().value(1).column(0).as_string::<i32>().value(0)), (true, "c"));
        refused("headers", StringArray::from(vec!["a=b"]), "it is text, and headers are a map");
    }
}
