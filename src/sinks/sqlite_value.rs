//! Writes values in the forms that SQLite stores.
//!
//! | SQL | stored as |
//! |---|---|
//! | BOOLEAN, integers | INTEGER (booleans 0 and 1) |
//! | REAL, DOUBLE | REAL; infinities stay; NaN, of which SQLite would make NULL, is refused before |
//! | NUMERIC | TEXT, with exactly its scale |
//! | TEXT; JSON, lists, structs | TEXT; JSON text |
//! | DATE, TIMESTAMP | TEXT `YYYY-MM-DD`, `YYYY-MM-DD HH:MM:SS.ffffff` |
//! | TIMESTAMPTZ | the same in UTC with `+00:00` |
//! | INTERVAL | TEXT, ISO 8601 |
//! | BYTEA | BLOB |

use rusqlite::types::{ToSqlOutput, Value as Stored, ValueRef};

use crate::sinks::text::{self, Era, PointForm};
use crate::sinks::values::{self, Value};

/// A value as SQLite stores it.
pub(crate) fn stored<'a>(value: &Value<'a>) -> ToSqlOutput<'a> {
    const POINT: PointForm = PointForm { separator: ' ', zone: "", era: Era::Sign };
    const POINT_UTC: PointForm = PointForm { separator: ' ', zone: "+00:00", era: Era::Sign };
    let mut out = String::new();
    match value {
        Value::Null => return ToSqlOutput::Owned(Stored::Null),
        Value::Boolean(value) => return ToSqlOutput::Owned(Stored::Integer((*value).into())),
        Value::Integer(value) => return ToSqlOutput::Owned(Stored::Integer(*value)),
        Value::Float(value, _) => return ToSqlOutput::Owned(Stored::Real(*value)),
        Value::Text(value) | Value::Json(value) => {
            return ToSqlOutput::Borrowed(ValueRef::Text(value.as_bytes()));
        }
        Value::Bytes(value) => return ToSqlOutput::Borrowed(ValueRef::Blob(value)),
        // In a TEXT column SQLite turns it into its digits, in a BIGINT column (UInt64) it stays.
        Value::Decimal(value, 0) if i64::try_from(*value).is_ok() => {
            return ToSqlOutput::Owned(Stored::Integer(*value as i64));
        }
        Value::Decimal(value, scale) => text::push_decimal(&mut out, *value, *scale),
        Value::Date(days) => text::push_date(&mut out, *days, Era::Sign),
        Value::Timestamp(t) => text::push_point(&mut out, *t, POINT),
        Value::TimestampTz(t) => text::push_point(&mut out, *t, POINT_UTC),
        Value::Time(t) => text::push_time(&mut out, *t),
        Value::Interval(months, days, nanos) => {
            text::push_interval_iso(&mut out, *months, *days, *nanos);
        }
        Value::List(..) | Value::Struct(..) => values::push_json(&mut out, value),
    }
    ToSqlOutput::Owned(Stored::Text(out))
}
