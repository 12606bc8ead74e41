//! Names the columns of a relation, the hidden ones among them, and the marks that fields carry.
//!
//! SQL type to Arrow type, everywhere in Weir:
//!
//! | SQL | Arrow |
//! |---|---|
//! | TEXT, VARCHAR | Utf8View |
//! | BOOLEAN | Boolean |
//! | SMALLINT, INT, BIGINT | Int16, Int32, Int64 |
//! | REAL, DOUBLE | Float32, Float64 |
//! | NUMERIC(p,s) | Decimal128(p,s); without arguments (38,9) |
//! | DATE | Date32 |
//! | TIMESTAMP | Timestamp(Microsecond, None) |
//! | TIMESTAMPTZ | Timestamp(Microsecond, "UTC") |
//! | INTERVAL | Interval(MonthDayNano) |
//! | BYTEA | Binary |
//! | JSON | Utf8View with field metadata [`JSON_MARK`] |
//! | T[] | List(T), item field named `item`, nullable |
//! | STRUCT<a T, …> | Struct |

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};

/// Hidden column: position of the row in its stream's log, from 0.
pub const OFFSET: &str = "_offset";
/// Hidden column: when the row was appended; one value per frame, never goes back.
pub const INGEST_TIME: &str = "_ingest_time";
/// Hidden column: whether the row's event time was below the watermark when it arrived.
pub const LATE: &str = "_late";

/// Field metadata key: the text is a JSON document.
pub const JSON_MARK: &str = "weir.json";

/// Field metadata key: what the column is called where people see it, if the plan calls it otherwise.
const SHOWN_NAME: &str = "weir.name";

/// The field of a column, called otherwise, that remembers what the column was called.
pub fn remembering_name(field: Field, of: &Field) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(SHOWN_NAME.to_owned(), shown_name(of).to_owned());
    field.with_metadata(metadata)
}

/// What a column is called in messages.
pub fn shown_name(field: &Field) -> &str {
    field.metadata().get(SHOWN_NAME).unwrap_or_else(|| field.name())
}

/// The Arrow type of TIMESTAMP.
pub const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// Whether the field holds JSON documents as text.
pub fn is_json(field: &Field) -> bool {
    field.metadata().contains_key(JSON_MARK)
}

/// The field, of texts, marked as one of JSON documents.
pub fn as_json(field: Field) -> Field {
    field.with_metadata([(JSON_MARK.to_owned(), "true".to_owned())].into())
}

/// The hidden columns of a stream, in their order behind the visible ones.
pub fn hidden_fields() -> Vec<FieldRef> {
    vec![
        Arc::new(Field::new(OFFSET, DataType::Int64, false)),
        Arc::new(Field::new(INGEST_TIME, TIMESTAMP, false)),
        Arc::new(Field::new(LATE, DataType::Boolean, false)),
    ]
}

/// Whether the name is one of the hidden columns.
pub fn is_hidden(name: &str) -> bool {
    matches!(name, OFFSET | INGEST_TIME | LATE)
}

/// The visible columns followed by the hidden ones.
pub fn with_hidden(visible: &Schema) -> Schema {
    let fields: Vec<FieldRef> =
        visible.fields().iter().map(Arc::clone).chain(hidden_fields()).collect();
    Schema::new_with_metadata(fields, visible.metadata().clone())
}
