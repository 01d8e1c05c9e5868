//! The Arrow schema of stored batches, and typed access to a decoded one.
//!
//! Offset and partition are not stored: a batch gets its offsets when its entry is applied, so they belong to the
//! index. Columns added later come at the end, and readers of an older batch see them as null; those of attributes are
//! there only if a message of the batch uses them.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, MapArray, RecordBatch, StringArray},
    datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit, TimestampMillisecondType, UInt8Type},
};

use super::{
    BatchError,
    attributes::{AttributeSet, Attributes},
    columns::ValueKind,
};

/// Schemas of stored batches, by the attributes that they use.
static SCHEMAS: LazyLock<[SchemaRef; 16]> = LazyLock::new(|| {
    std::array::from_fn(|bits| {
        let mut fields = vec![
            Field::new("timestamp", instant(), false),
            Field::new("key", DataType::Binary, true),
            Field::new("value", DataType::Binary, true),
            Field::new("kind", DataType::UInt8, false),
            Field::new("headers", DataType::Map(headers_field(), false), false),
        ];
        let set = AttributeSet(bits as u8);
        let used = AttributeSet::COLUMNS.iter().filter(|(attribute, _)| set.contains(*attribute));
        fields.extend(used.map(|(attribute, name)| Field::new(*name, attribute_type(*attribute), true)));
        Arc::new(Schema::new(fields))
    })
});

/// Number of columns that every batch has.
const PLAIN_COLUMNS: usize = 5;

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn attribute_type(attribute: AttributeSet) -> DataType {
    match attribute {
        AttributeSet::GROUP => DataType::Utf8,
        AttributeSet::PRIORITY => DataType::UInt8,
        _ => instant(),
    }
}

static HEADER_FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, false)])
});

pub(super) fn header_fields() -> Fields {
    HEADER_FIELDS.clone()
}

pub(super) fn headers_field() -> Arc<Field> {
    Arc::new(Field::new("entries", DataType::Struct(header_fields()), false))
}

/// Schema of a stored batch without attributes: `timestamp`, `key`, `value`, `kind` (see [`ValueKind`]), `headers`.
pub fn batch_schema() -> SchemaRef {
    batch_schema_with(AttributeSet::default())
}

/// Schema of a stored batch: [`batch_schema`], then those of `group`, `priority`, `deliver_at` and `expires_at` that are
/// in `attributes`, all of them nullable.
pub fn batch_schema_with(attributes: AttributeSet) -> SchemaRef {
    SCHEMAS[usize::from(attributes.0 & AttributeSet::ALL.0)].clone()
}

/// Where the columns of attributes are in a batch with this schema, by their order in [`AttributeSet::COLUMNS`]; 0 for
/// those that it does not have.
fn find_attributes(schema: &Schema) -> Result<(AttributeSet, [u8; 4]), BatchError> {
    let (mut set, mut places) = (AttributeSet::default(), [0; 4]);
    for (place, field) in schema.fields().iter().enumerate().skip(PLAIN_COLUMNS) {
        let known = AttributeSet::COLUMNS.iter().position(|(_, name)| name == field.name());
        let at = known.ok_or(BatchError::Schema)?;
        let (attribute, name) = AttributeSet::COLUMNS[at];
        if *field.data_type() != attribute_type(attribute) {
            return Err(BatchError::ColumnType(name));
        }
        if places[at] > 0 {
            return Err(BatchError::Schema);
        }
        // At most nine columns: each name is there once.
        places[at] = place as u8;
        set = set.union(attribute);
    }
    Ok((set, places))
}

/// Which attributes a batch with this schema has columns for.
pub(super) fn attributes_of(schema: &Schema) -> Result<AttributeSet, BatchError> {
    find_attributes(schema).map(|(set, _)| set)
}

/// A decoded batch with its columns at hand. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Messages {
    batch: RecordBatch,
    attributes: AttributeSet,
    /// Columns of the attributes, see [`find_attributes`].
    places: [u8; 4],
}

impl Messages {
    /// Wraps a record batch.
    ///
    /// # Errors
    /// When it has not the columns of [`batch_schema`], or others behind them than those of attributes.
    pub fn new(batch: RecordBatch) -> Result<Self, BatchError> {
        let (got, want) = (batch.schema(), batch_schema());
        let same = got.fields().len() >= want.fields().len()
            && got.fields().iter().zip(want.fields()).all(|(a, b)| a.data_type() == b.data_type());
        if !same {
            return Err(BatchError::Schema);
        }
        let (attributes, places) = find_attributes(&got)?;
        Ok(Self { batch, attributes, places })
    }

    /// Number of messages.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The Arrow record batch.
    pub fn record_batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Bytes that the decoded batch occupies in memory.
    pub fn memory(&self) -> usize {
        self.batch.get_array_memory_size()
    }

    /// Timestamps in milliseconds since the Unix epoch.
    pub fn timestamps(&self) -> &[i64] {
        self.batch.column(0).as_primitive::<TimestampMillisecondType>().values()
    }

    /// Keys.
    pub fn keys(&self) -> &BinaryArray {
        self.batch.column(1).as_binary()
    }

    /// Values; null is a tombstone.
    pub fn values(&self) -> &BinaryArray {
        self.batch.column(2).as_binary()
    }

    /// How the value of row `row` was given.
    pub fn kind(&self, row: usize) -> ValueKind {
        ValueKind::from_u8(self.batch.column(3).as_primitive::<UInt8Type>().value(row))
    }

    /// Headers of row `row`, in the order given.
    pub fn headers(&self, row: usize) -> impl Iterator<Item = (&str, &str)> {
        let map: &MapArray = self.batch.column(4).as_map();
        let (names, values): (&StringArray, &StringArray) = (map.keys().as_string(), map.values().as_string());
        let ends = map.value_offsets();
        let range = ends[row] as usize..ends[row + 1] as usize;
        range.map(move |at| (names.value(at), values.value(at)))
    }

    /// Key of row `row`.
    pub fn key(&self, row: usize) -> Option<&[u8]> {
        let keys = self.keys();
        (!keys.is_null(row)).then(|| keys.value(row))
    }

    /// Value of row `row`.
    pub fn value(&self, row: usize) -> Option<&[u8]> {
        let values = self.values();
        (!values.is_null(row)).then(|| values.value(row))
    }

    /// Which attributes there are columns for.
    pub fn attribute_set(&self) -> AttributeSet {
        self.attributes
    }

    /// Attributes of row `row`.
    pub fn attributes(&self, row: usize) -> Attributes<'_> {
        if self.attributes.is_empty() {
            return Attributes::default();
        }
        let [group, priority, deliver_at, expires_at] =
            self.places.map(|place| (place > 0).then(|| self.batch.column(place.into())).filter(|c| c.is_valid(row)));
        let time = |column: &ArrayRef| column.as_primitive::<TimestampMillisecondType>().value(row);
        Attributes {
            group: group.map(|column| column.as_string::<i32>().value(row)),
            priority: priority.map(|column| column.as_primitive::<UInt8Type>().value(row)),
            deliver_at_ms: deliver_at.map(time),
            expires_at_ms: expires_at.map(time),
        }
    }
}
