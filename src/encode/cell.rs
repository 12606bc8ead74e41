//! Resolves a column's Arrow type once, and hands out its values one by one.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array,
    Decimal256Array, Float32Array, Float64Array, Int64Array, IntervalMonthDayNanoArray, ListArray,
    MapArray, StringViewArray, StructArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type,
    Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
    TimeUnit, UInt64Type,
};
use arrow::util::display::array_value_to_string;

use crate::data::schema;

/// One value of a column.
pub(crate) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float32(f32),
    Float64(f64),
    /// Unscaled value and scale.
    Decimal(i128, i8),
    /// A number that is too wide for the others, as its digits.
    Numeric(String),
    Text(&'a str),
    /// A JSON document.
    Json(&'a str),
    Bytes(&'a [u8]),
    /// Days since 1970-01-01.
    Date(i32),
    /// Seconds and nanoseconds since 1970-01-01T00:00:00Z; whether the type has a time zone.
    Timestamp(i64, u32, bool),
    /// Nanoseconds since midnight.
    Time(i64),
    /// Nanoseconds.
    Duration(i128),
    /// Months, days, nanoseconds.
    Interval(i32, i32, i64),
    List(&'a Column, Range<usize>),
    Struct(&'a [(String, Column)], usize),
    /// Keys, values and where the entries are.
    Map(&'a Column, &'a Column, Range<usize>),
    /// Arrow's own display text.
    Other(String),
}

/// A column whose type is known.
pub(crate) enum Column {
    Null,
    Bool(BooleanArray),
    Int(Int64Array),
    UInt(UInt64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal(Decimal128Array, i8),
    DecimalWide(Decimal256Array),
    Text(StringViewArray),
    Json(StringViewArray),
    Bytes(BinaryViewArray),
    Date(Date32Array),
    Timestamp(Int64Array, TimeUnit, bool),
    Time(Int64Array, TimeUnit),
    Duration(Int64Array, TimeUnit),
    Interval(IntervalMonthDayNanoArray),
    IntervalOther(ArrayRef, IntervalUnit),
    List(ListArray, Box<Column>),
    Struct(StructArray, Vec<(String, Column)>),
    Map(MapArray, Box<(Column, Column)>),
    Other(ArrayRef),
}

impl Column {
    /// The column of `array`; types without a form of their own are cast to the nearest that has one.
    pub(crate) fn of(array: &ArrayRef, field: &Field) -> Column {
        let to = |data_type: DataType| cast(array, &data_type).ok();
        let resolved = match array.data_type() {
            DataType::Null => Some(Column::Null),
            DataType::Boolean => Some(Column::Bool(array.as_boolean().clone())),
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32 => to(DataType::Int64).map(|a| Column::Int(int64(&a))),
            DataType::UInt64 => Some(Column::UInt(array.as_primitive::<UInt64Type>().clone())),
            DataType::Float16 | DataType::Float32 => to(DataType::Float32)
                .map(|a| Column::Float32(a.as_primitive::<Float32Type>().clone())),
            DataType::Float64 => Some(Column::Float64(array.as_primitive::<Float64Type>().clone())),
            DataType::Decimal128(_, _) | DataType::Decimal256(_, _) => decimal(array),
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => {
                to(DataType::Decimal128(*p, *s)).as_ref().and_then(decimal)
            }
            DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8 => to(DataType::Utf8View)
                .map(|a| a.as_string_view().clone())
                .map(|a| if schema::is_json(field) { Column::Json(a) } else { Column::Text(a) }),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                to(DataType::BinaryView).map(|a| Column::Bytes(a.as_binary_view().clone()))
            }
            DataType::FixedSizeBinary(_) => to(DataType::Binary)
                .and_then(|a| cast(&a, &DataType::BinaryView).ok())
                .map(|a| Column::Bytes(a.as_binary_view().clone())),
            DataType::List(_)
            | DataType::LargeList(_)
            | DataType::FixedSizeList(_, _)
            | DataType::ListView(_)
            | DataType::LargeListView(_)
            | DataType::Struct(_)
            | DataType::Map(_, _) => nested(array),
            DataType::Dictionary(_, values) => {
                to(values.as_ref().clone()).map(|a| Column::of(&a, field))
            }
            DataType::RunEndEncoded(_, values) => {
                to(values.data_type().clone()).map(|a| Column::of(&a, field))
            }
            _ => temporal(array),
        };
        resolved.unwrap_or_else(|| Column::Other(Arc::clone(array)))
    }

    /// The value at `row`.
    pub(crate) fn cell(&self, row: usize) -> Cell<'_> {
        if self.is_null(row) {
            return Cell::Null;
        }
        match self {
            Column::Null => Cell::Null,
            Column::Bool(array) => Cell::Bool(array.value(row)),
            Column::Int(array) => Cell::Int(array.value(row)),
            Column::UInt(array) => Cell::UInt(array.value(row)),
            Column::Float32(array) => Cell::Float32(array.value(row)),
            Column::Float64(array) => Cell::Float64(array.value(row)),
            Column::Decimal(array, scale) => Cell::Decimal(array.value(row), *scale),
            Column::DecimalWide(array) => Cell::Numeric(array.value_as_string(row)),
            Column::Text(array) => Cell::Text(array.value(row)),
            Column::Json(array) => Cell::Json(array.value(row)),
            Column::Bytes(array) => Cell::Bytes(array.value(row)),
            Column::Date(array) => Cell::Date(array.value(row)),
            Column::Timestamp(array, unit, zoned) => {
                let (value, per_second) = (array.value(row), units_per_second(*unit));
                let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
                Cell::Timestamp(value.div_euclid(per_second), nanos as u32, *zoned)
            }
            Column::Time(array, unit) => {
                Cell::Time(array.value(row) * (1_000_000_000 / units_per_second(*unit)))
            }
            Column::Duration(array, unit) => Cell::Duration(
                i128::from(array.value(row)) * i128::from(1_000_000_000 / units_per_second(*unit)),
            ),
            Column::Interval(array) => {
                let value = array.value(row);
                Cell::Interval(value.months, value.days, value.nanoseconds)
            }
            Column::IntervalOther(array, IntervalUnit::YearMonth) => {
                Cell::Interval(array.as_primitive::<IntervalYearMonthType>().value(row), 0, 0)
            }
            Column::IntervalOther(array, _) => {
                let value = array.as_primitive::<IntervalDayTimeType>().value(row);
                Cell::Interval(0, value.days, i64::from(value.milliseconds) * 1_000_000)
            }
            Column::List(array, items) => Cell::List(items, span(array.value_offsets(), row)),
            Column::Struct(_, fields) => Cell::Struct(fields, row),
            Column::Map(array, entries) => {
                Cell::Map(&entries.0, &entries.1, span(array.value_offsets(), row))
            }
            Column::Other(array) => {
                Cell::Other(array_value_to_string(array, row).unwrap_or_default())
            }
        }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Column::Null => true,
            Column::Bool(array) => array.is_null(row),
            Column::Int(array)
            | Column::Timestamp(array, _, _)
            | Column::Time(array, _)
            | Column::Duration(array, _) => array.is_null(row),
            Column::UInt(array) => array.is_null(row),
            Column::Float32(array) => array.is_null(row),
            Column::Float64(array) => array.is_null(row),
            Column::Decimal(array, _) => array.is_null(row),
            Column::DecimalWide(array) => array.is_null(row),
            Column::Text(array) | Column::Json(array) => array.is_null(row),
            Column::Bytes(array) => array.is_null(row),
            Column::Date(array) => array.is_null(row),
            Column::Interval(array) => array.is_null(row),
            Column::List(array, _) => array.is_null(row),
            Column::Struct(array, _) => array.is_null(row),
            Column::Map(array, _) => array.is_null(row),
            Column::IntervalOther(array, _) | Column::Other(array) => array.is_null(row),
        }
    }
}

fn int64(array: &ArrayRef) -> Int64Array {
    array.as_primitive::<Int64Type>().clone()
}

fn units_per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

fn span(offsets: &[i32], row: usize) -> Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

fn decimal(array: &ArrayRef) -> Option<Column> {
    match array.data_type() {
        DataType::Decimal128(_, scale) => {
            Some(Column::Decimal(array.as_primitive::<Decimal128Type>().clone(), *scale))
        }
        _ => array.as_primitive_opt::<Decimal256Type>().cloned().map(Column::DecimalWide),
    }
}

fn temporal(array: &ArrayRef) -> Option<Column> {
    let ints = || cast(array, &DataType::Int64).ok().map(|a| int64(&a));
    match array.data_type() {
        DataType::Date32 | DataType::Date64 => cast(array, &DataType::Date32)
            .ok()
            .map(|a| Column::Date(a.as_primitive::<Date32Type>().clone())),
        DataType::Timestamp(unit, zone) => {
            ints().map(|a| Column::Timestamp(a, *unit, zone.is_some()))
        }
        DataType::Time64(unit) => ints().map(|a| Column::Time(a, *unit)),
        DataType::Time32(unit) => cast(array, &DataType::Int32)
            .and_then(|a| cast(&a, &DataType::Int64))
            .ok()
            .map(|a| Column::Time(int64(&a), *unit)),
        DataType::Duration(unit) => ints().map(|a| Column::Duration(a, *unit)),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            Some(Column::Interval(array.as_primitive::<IntervalMonthDayNanoType>().clone()))
        }
        DataType::Interval(unit) => Some(Column::IntervalOther(Arc::clone(array), *unit)),
        _ => None,
    }
}

fn nested(array: &ArrayRef) -> Option<Column> {
    match array.data_type() {
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            Some(Column::List(list.clone(), Box::new(Column::of(list.values(), item))))
        }
        DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => {
            nested(&cast(array, &DataType::List(Arc::clone(item))).ok()?)
        }
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let columns = fields.iter().zip(array.columns());
            let columns = columns.map(|(f, a)| (f.name().clone(), Column::of(a, f))).collect();
            Some(Column::Struct(array.clone(), columns))
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { return None };
            let map = array.as_map();
            let keys = Column::of(map.keys(), &fields[0]);
            let values = Column::of(map.values(), &fields[1]);
            Some(Column::Map(map.clone(), Box::new((keys, values))))
        }
        _ => None,
    }
}

/// NUMERIC as digits.
pub(crate) fn write_decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let digits = value.unsigned_abs().to_string();
    let scale = i32::from(scale);
    if scale <= 0 {
        out.extend_from_slice(digits.as_bytes());
        if value != 0 {
            out.extend(std::iter::repeat_n(b'0', -scale as usize));
        }
        return;
    }
    let scale = scale as usize;
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    out.extend_from_slice(whole.as_bytes());
    out.push(b'.');
    out.extend_from_slice(fraction.as_bytes());
}

/// The words for the floats that are no numbers.
pub(crate) fn special_float(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value.is_infinite() {
        Some(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        None
    }
}
