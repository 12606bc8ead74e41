//! Brings columns of any Arrow type into the few forms that targets know, and writes JSON of them.
//!
//! | Arrow | form |
//! |---|---|
//! | Boolean; Int8 … Int64, UInt8 … UInt32; floats | the same, integers of at least 16 bits |
//! | UInt64, Decimal32 … Decimal128 | decimal |
//! | all texts, dictionaries of them, Null | text, or JSON where the field carries the mark |
//! | Date32, Date64 | date |
//! | Timestamp of any unit, without or with time zone | microseconds, without zone or in UTC |
//! | Time32, Time64 | microseconds of the day |
//! | Interval and Duration of any unit | months, days, nanoseconds |
//! | all binaries | bytes |
//! | all lists; structs | list; struct |
//!
//! Decimal256, maps and unions have no form: a query with such a column cannot have a sink.
//!
//! JSON, for structs, lists and refused rows, is that of PRODUCT §4: points of time as RFC 3339 in
//! UTC, NUMERIC as strings, bytes as base64; NaN and the infinities are strings.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{self, Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{self as types, DataType, Field, FieldRef, TimeUnit};
use arrow::error::ArrowError;
use base64::Engine;

use crate::data::schema::is_json;
use crate::sinks::text::{self, Era, PointForm};

/// The type whose form a column of the given type takes; `None`: it has none.
pub fn canonical_type(data_type: &DataType) -> Option<DataType> {
    use DataType as T;
    Some(match data_type {
        T::Boolean | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 => data_type.clone(),
        T::Utf8View | T::Date32 | T::Binary => data_type.clone(),
        T::Null | T::Utf8 | T::LargeUtf8 => T::Utf8View,
        T::Int8 | T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 => T::Int64,
        T::UInt64 => T::Decimal128(20, 0),
        T::Float16 => T::Float32,
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) => T::Decimal128(*p, *s),
        T::Date64 => T::Date32,
        T::Timestamp(_, zone) => {
            T::Timestamp(TimeUnit::Microsecond, zone.as_ref().map(|_| "UTC".into()))
        }
        T::Time32(_) | T::Time64(_) => T::Time64(TimeUnit::Microsecond),
        T::Interval(_) | T::Duration(_) => T::Interval(types::IntervalUnit::MonthDayNano),
        T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::Dictionary(_, values) => canonical_type(values)?,
        T::RunEndEncoded(_, values) => canonical_type(values.data_type())?,
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) => {
            T::List(Arc::new(canonical_field(item)?))
        }
        T::ListView(item) | T::LargeListView(item) => T::List(Arc::new(canonical_field(item)?)),
        T::Struct(fields) => {
            let fields = fields.iter().map(|f| canonical_field(f).map(Arc::new));
            T::Struct(fields.collect::<Option<Vec<FieldRef>>>()?.into())
        }
        T::Decimal256(..) | T::Map(..) | T::Union(..) => return None,
    })
}

fn canonical_field(field: &Field) -> Option<Field> {
    Some(field.clone().with_data_type(canonical_type(field.data_type())?).with_nullable(true))
}

/// A column in its form.
#[derive(Debug)]
pub enum Column {
    /// BOOLEAN.
    Boolean(array::BooleanArray),
    /// SMALLINT.
    Int16(array::Int16Array),
    /// INT.
    Int32(array::Int32Array),
    /// BIGINT.
    Int64(array::Int64Array),
    /// REAL.
    Float32(array::Float32Array),
    /// DOUBLE.
    Float64(array::Float64Array),
    /// NUMERIC and its scale.
    Decimal(array::Decimal128Array, i8),
    /// TEXT.
    Text(array::StringViewArray),
    /// JSON.
    Json(array::StringViewArray),
    /// DATE.
    Date(array::Date32Array),
    /// TIMESTAMP.
    Timestamp(array::TimestampMicrosecondArray),
    /// TIMESTAMPTZ.
    TimestampTz(array::TimestampMicrosecondArray),
    /// TIME.
    Time(array::Time64MicrosecondArray),
    /// INTERVAL.
    Interval(array::IntervalMonthDayNanoArray),
    /// BYTEA.
    Bytes(array::BinaryArray),
    /// T[] and its items.
    List(array::ListArray, Box<Column>),
    /// STRUCT and its fields.
    Struct(array::StructArray, Vec<(String, Column)>),
}

/// A value of a column.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// BOOLEAN.
    Boolean(bool),
    /// SMALLINT, INT, BIGINT.
    Integer(i64),
    /// REAL (`true`) or DOUBLE.
    Float(f64, bool),
    /// NUMERIC: digits and scale.
    Decimal(i128, i8),
    /// TEXT.
    Text(&'a str),
    /// A JSON document.
    Json(&'a str),
    /// Days since 1970-01-01.
    Date(i64),
    /// Microseconds since 1970-01-01, without time zone.
    Timestamp(i64),
    /// Microseconds since 1970-01-01 UTC.
    TimestampTz(i64),
    /// Microseconds of the day.
    Time(i64),
    /// Months, days, nanoseconds.
    Interval(i32, i32, i64),
    /// BYTEA.
    Bytes(&'a [u8]),
    /// Items of a column.
    List(&'a Column, Range<usize>),
    /// Fields and the row in each.
    Struct(&'a [(String, Column)], usize),
}

/// The batch's columns, each in its form. An error means a value that the form cannot hold.
pub fn canonical_batch(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let mut fields = Vec::with_capacity(schema.fields().len());
    let mut columns = Vec::with_capacity(schema.fields().len());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let field = canonical_field(field).ok_or_else(|| {
            ArrowError::CastError(format!("a {} has no form in a sink", field.data_type()))
        })?;
        let options = CastOptions { safe: false, ..CastOptions::default() };
        columns.push(cast_with_options(column, field.data_type(), &options)?);
        fields.push(field);
    }
    RecordBatch::try_new(Arc::new(types::Schema::new(fields)), columns)
}

impl Column {
    /// The columns of a canonical batch.
    pub fn of_batch(batch: &RecordBatch) -> Vec<Column> {
        let schema = batch.schema();
        schema.fields().iter().zip(batch.columns()).map(|(f, c)| Column::new(f, c)).collect()
    }

    /// A column of a canonical batch.
    fn new(field: &Field, column: &ArrayRef) -> Column {
        use DataType as T;
        match field.data_type() {
            T::Boolean => Column::Boolean(column.as_boolean().clone()),
            T::Int16 => Column::Int16(column.as_primitive().clone()),
            T::Int32 => Column::Int32(column.as_primitive().clone()),
            T::Int64 => Column::Int64(column.as_primitive().clone()),
            T::Float32 => Column::Float32(column.as_primitive().clone()),
            T::Float64 => Column::Float64(column.as_primitive().clone()),
            T::Decimal128(_, scale) => Column::Decimal(column.as_primitive().clone(), *scale),
            T::Utf8View if is_json(field) => Column::Json(column.as_string_view().clone()),
            T::Utf8View => Column::Text(column.as_string_view().clone()),
            T::Date32 => Column::Date(column.as_primitive().clone()),
            T::Timestamp(_, None) => Column::Timestamp(column.as_primitive().clone()),
            T::Timestamp(_, Some(_)) => Column::TimestampTz(column.as_primitive().clone()),
            T::Time64(_) => Column::Time(column.as_primitive().clone()),
            T::Interval(_) => Column::Interval(column.as_primitive().clone()),
            T::Binary => Column::Bytes(column.as_binary().clone()),
            T::List(item) => {
                let list: &array::ListArray = column.as_list();
                Column::List(list.clone(), Box::new(Column::new(item, list.values())))
            }
            T::Struct(fields) => {
                let structs = column.as_struct();
                let named = fields.iter().zip(structs.columns());
                let named = named.map(|(f, c)| (f.name().clone(), Column::new(f, c)));
                Column::Struct(structs.clone(), named.collect())
            }
            other => unreachable!("{other} is not canonical"),
        }
    }

    fn nulls(&self) -> Option<&arrow::buffer::NullBuffer> {
        match self {
            Column::Boolean(a) => a.nulls(),
            Column::Int16(a) => a.nulls(),
            Column::Int32(a) => a.nulls(),
            Column::Int64(a) => a.nulls(),
            Column::Float32(a) => a.nulls(),
            Column::Float64(a) => a.nulls(),
            Column::Decimal(a, _) => a.nulls(),
            Column::Text(a) | Column::Json(a) => a.nulls(),
            Column::Date(a) => a.nulls(),
            Column::Timestamp(a) | Column::TimestampTz(a) => a.nulls(),
            Column::Time(a) => a.nulls(),
            Column::Interval(a) => a.nulls(),
            Column::Bytes(a) => a.nulls(),
            Column::List(a, _) => a.nulls(),
            Column::Struct(a, _) => a.nulls(),
        }
    }

    /// The value at `row`.
    pub fn value(&self, row: usize) -> Value<'_> {
        if self.nulls().is_some_and(|nulls| nulls.is_null(row)) {
            return Value::Null;
        }
        match self {
            Column::Boolean(a) => Value::Boolean(a.value(row)),
            Column::Int16(a) => Value::Integer(a.value(row).into()),
            Column::Int32(a) => Value::Integer(a.value(row).into()),
            Column::Int64(a) => Value::Integer(a.value(row)),
            Column::Float32(a) => Value::Float(a.value(row).into(), true),
            Column::Float64(a) => Value::Float(a.value(row), false),
            Column::Decimal(a, scale) => Value::Decimal(a.value(row), *scale),
            Column::Text(a) => Value::Text(a.value(row)),
            Column::Json(a) => Value::Json(a.value(row)),
            Column::Date(a) => Value::Date(a.value(row).into()),
            Column::Timestamp(a) => Value::Timestamp(a.value(row)),
            Column::TimestampTz(a) => Value::TimestampTz(a.value(row)),
            Column::Time(a) => Value::Time(a.value(row)),
            Column::Interval(a) => {
                let value = a.value(row);
                Value::Interval(value.months, value.days, value.nanoseconds)
            }
            Column::Bytes(a) => Value::Bytes(a.value(row)),
            Column::List(a, items) => {
                let offsets = a.value_offsets();
                Value::List(items, offsets[row] as usize..offsets[row + 1] as usize)
            }
            Column::Struct(_, fields) => Value::Struct(fields, row),
        }
    }
}

/// A row as a JSON object, for the dead letters.
pub fn row_as_json(batch: &RecordBatch, columns: &[Column], row: usize) -> String {
    let mut out = String::from("{");
    for (index, (field, column)) in batch.schema().fields().iter().zip(columns).enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_json_string(&mut out, field.name());
        out.push(':');
        push_json(&mut out, &column.value(row));
    }
    out.push('}');
    out
}

/// A value as JSON.
pub fn push_json(out: &mut String, value: &Value<'_>) {
    const POINT: PointForm = PointForm { separator: 'T', zone: "Z", era: Era::Sign };
    let quoted = |out: &mut String, write: &dyn Fn(&mut String)| {
        out.push('"');
        write(out);
        out.push('"');
    };
    match value {
        Value::Null => out.push_str("null"),
        Value::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Integer(value) => out.push_str(&value.to_string()),
        Value::Float(value, single) if value.is_finite() => text::push_float(out, *value, *single),
        Value::Float(value, single) => quoted(out, &|o| text::push_float(o, *value, *single)),
        Value::Decimal(value, scale) => quoted(out, &|o| text::push_decimal(o, *value, *scale)),
        Value::Text(value) => push_json_string(out, value),
        Value::Json(value) => match serde_json::from_str::<serde::de::IgnoredAny>(value) {
            Ok(_) => out.push_str(value),
            Err(_) => push_json_string(out, value),
        },
        Value::Date(days) => quoted(out, &|o| text::push_date(o, *days, Era::Sign)),
        Value::Timestamp(t) | Value::TimestampTz(t) => {
            quoted(out, &|o| text::push_point(o, *t, POINT));
        }
        Value::Time(t) => quoted(out, &|o| text::push_time(o, *t)),
        Value::Interval(m, d, n) => quoted(out, &|o| text::push_interval_iso(o, *m, *d, *n)),
        Value::Bytes(bytes) => {
            quoted(out, &|o| base64::engine::general_purpose::STANDARD.encode_string(bytes, o));
        }
        Value::List(items, range) => {
            out.push('[');
            for index in range.clone() {
                if index > range.start {
                    out.push(',');
                }
                push_json(out, &items.value(index));
            }
            out.push(']');
        }
        Value::Struct(fields, row) => {
            out.push('{');
            for (index, (name, column)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_json_string(out, name);
                out.push(':');
                push_json(out, &column.value(*row));
            }
            out.push('}');
        }
    }
}

fn push_json_string(out: &mut String, value: &str) {
    out.push_str(&serde_json::to_string(value).expect("a string is always JSON"));
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        DictionaryArray, FixedSizeBinaryArray, Float16Array, LargeStringArray, NullArray,
        TimestampNanosecondArray, UInt64Array,
    };
    use arrow::datatypes::{Int8Type, UInt64Type};
    use expect_test::expect;

    use super::*;

    fn check(columns: Vec<(&str, ArrayRef)>, expected: expect_test::Expect) {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let batch = canonical_batch(&batch).unwrap();
        let columns = Column::of_batch(&batch);
        let rows: Vec<String> =
            (0..batch.num_rows()).map(|row| row_as_json(&batch, &columns, row)).collect();
        expected.assert_eq(&rows.join("\n"));
    }

    #[test]
    fn unusual_arrow_types_take_a_known_form() {
        let dictionary: DictionaryArray<Int8Type> = vec![Some("a"), None].into_iter().collect();
        check(
            vec![
                ("dictionary", Arc::new(dictionary)),
                ("null", Arc::new(NullArray::new(2))),
                ("big", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
                ("half", Arc::new(Float16Array::from_iter([Some(Default::default()), None]))),
                ("nanos", Arc::new(TimestampNanosecondArray::from(vec![Some(1_500), None]))),
                ("large", Arc::new(LargeStringArray::from(vec![Some("\"\u{0}\n"), None]))),
                (
                    "fixed",
                    Arc::new(
                        FixedSizeBinaryArray::try_from_iter([[0_u8, 255], [1, 2]].iter()).unwrap(),
                    ),
                ),
            ],
            expect![[r#"
                {"dictionary":"a","null":null,"big":"18446744073709551615","half":0.0,"nanos":"1970-01-01T00:00:00.000001Z","large":"\"\u0000\n","fixed":"AP8="}
                {"dictionary":null,"null":null,"big":null,"half":null,"nanos":null,"large":null,"fixed":"AQI="}"#]],
        );
        assert_eq!(canonical_type(&DataType::Decimal256(76, 0)), None);
    }

    #[test]
    fn a_sliced_list_keeps_its_own_items() {
        let list = array::ListArray::from_iter_primitive::<UInt64Type, _, _>([
            Some(vec![Some(1)]),
            Some(vec![Some(2), None]),
            None,
        ]);
        check(
            vec![("l", Arc::new(list.slice(1, 2)))],
            expect![[r#"
                {"l":["2",null]}
                {"l":null}"#]],
        );
    }
}
