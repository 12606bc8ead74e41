//! Bounds functions whose result may be far larger than their arguments, before they compute it.
//!
//! `repeat('x', 2000000000)` would take the memory of the whole server. The functions here say how
//! many bytes they are about to make; a single value beyond [`VALUE_BYTES_MAX`] or a batch beyond
//! [`BATCH_BYTES_MAX`] is refused. In a continuous query only the rows that are too large alone are:
//! a batch that fails is halved.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, IntervalUnit};
use datafusion::common::{Result, ScalarValue, resources_datafusion_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

/// Bytes of one value that a function makes.
const VALUE_BYTES_MAX: f64 = (64 << 20) as f64;
/// Bytes of the values that a function makes of one batch.
const BATCH_BYTES_MAX: f64 = (256 << 20) as f64;

/// How much the function of that name may grow its arguments; `None` where it needs no bound.
pub(super) fn growth_of(function: &str) -> Option<Grows> {
    let growth: Growth = match function {
        "repeat" => |row| row.bytes(0) * row.number(1),
        "lpad" | "rpad" => |row| row.number(1),
        "array_repeat" => |row| row.bytes(0).max(8.0) * row.number(1),
        "array_resize" => |row| row.bytes(2).max(8.0) * row.number(1),
        "range" | "generate_series" => series,
        "replace" => replaced,
        "regexp_replace" => |row| (row.bytes(0) + 1.0) * row.bytes(2).max(1.0),
        "array_to_string" => |row| row.bytes(0) * 4.0 + row.items(0) * row.bytes(1),
        "concat" | "concat_ws" => |row| (0..row.width()).map(|column| row.bytes(column)).sum(),
        _ => return None,
    };
    Some(Grows(growth))
}

/// About how many bytes a row's result has.
type Growth = fn(&Row<'_>) -> f64;

/// Functions are told apart by their names, not by what is computed of them here.
#[derive(Debug)]
pub(super) struct Grows(Growth);

impl PartialEq for Grows {
    fn eq(&self, _: &Grows) -> bool {
        true
    }
}

impl Eq for Grows {}

impl std::hash::Hash for Grows {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Grows {
    /// Refuses a call whose result would be too large.
    pub(super) fn check(&self, function: &str, args: &ScalarFunctionArgs) -> Result<()> {
        let repeated = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if repeated { 1 } else { args.number_rows };
        let arguments = Arguments::read(args)?;
        let mut total = 0.0;
        for row in 0..rows {
            let bytes = (self.0)(&Row { arguments: &arguments, row });
            total += bytes;
            if bytes > VALUE_BYTES_MAX || total > BATCH_BYTES_MAX {
                return Err(resources_datafusion_err!(
                    "{function}() would make a value of {bytes:.0} bytes, {total:.0} bytes in all"
                ));
            }
        }
        Ok(())
    }
}

/// The arguments of a call, one array each.
struct Arguments {
    columns: Vec<ArrayRef>,
    /// Numbers, where an argument is one.
    numbers: Vec<Option<ArrayRef>>,
}

/// The arguments of one row.
struct Row<'a> {
    arguments: &'a Arguments,
    row: usize,
}

impl Row<'_> {
    /// The place of this row's argument: constants have one.
    fn place(&self, array: &ArrayRef) -> Option<usize> {
        let place = if array.len() == 1 { 0 } else { self.row };
        (place < array.len() && array.is_valid(place)).then_some(place)
    }

    fn width(&self) -> usize {
        self.arguments.columns.len()
    }

    /// Bytes of a text or list; of other values their width.
    fn bytes(&self, column: usize) -> f64 {
        let Some(array) = self.arguments.columns.get(column) else { return 0.0 };
        let Some(row) = self.place(array) else { return 0.0 };
        let length = match array.data_type() {
            DataType::Utf8 => array.as_string::<i32>().value(row).len(),
            DataType::LargeUtf8 => array.as_string::<i64>().value(row).len(),
            DataType::Utf8View => array.as_string_view().value(row).len(),
            DataType::Binary => array.as_binary::<i32>().value(row).len(),
            DataType::BinaryView => array.as_binary_view().value(row).len(),
            DataType::List(_) => array.as_list::<i32>().value(row).get_array_memory_size(),
            other => other.primitive_width().unwrap_or(16),
        };
        length as f64
    }

    /// Items of a list.
    fn items(&self, column: usize) -> f64 {
        let Some(array) = self.arguments.columns.get(column) else { return 0.0 };
        match (array.data_type(), self.place(array)) {
            (DataType::List(_), Some(row)) => f64::from(array.as_list::<i32>().value_length(row)),
            _ => 0.0,
        }
    }

    fn text(&self, column: usize) -> Option<&str> {
        let array = self.arguments.columns.get(column)?;
        let row = self.place(array)?;
        match array.data_type() {
            DataType::Utf8 => Some(array.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => Some(array.as_string::<i64>().value(row)),
            DataType::Utf8View => Some(array.as_string_view().value(row)),
            _ => None,
        }
    }

    /// A number or a point of time.
    fn signed(&self, column: usize) -> Option<f64> {
        let numbers = self.arguments.numbers.get(column)?.as_ref()?;
        Some(numbers.as_primitive::<Float64Type>().value(self.place(numbers)?))
    }

    /// A number of things; 0 where there is none.
    fn number(&self, column: usize) -> f64 {
        self.signed(column).unwrap_or(0.0).max(0.0)
    }
}

/// `range(stop)`, `range(start, stop)` and `range(start, stop, step)`; times step by intervals.
fn series(row: &Row<'_>) -> f64 {
    let (start, stop) = match row.width() {
        1 => (Some(0.0), row.signed(0)),
        _ => (row.signed(0), row.signed(1)),
    };
    let (Some(start), Some(stop)) = (start, stop) else { return 0.0 };
    let step = row.signed(2).unwrap_or(1.0).abs();
    if step == 0.0 { 0.0 } else { ((stop - start).abs() / step + 1.0) * 8.0 }
}

/// Counts what is there to replace only where the worst case is too large.
fn replaced(row: &Row<'_>) -> f64 {
    let (text, to) = (row.bytes(0), row.bytes(2));
    let worst = text + (text + 1.0) * to;
    if worst <= VALUE_BYTES_MAX / 64.0 {
        return worst;
    }
    match (row.text(0), row.text(1)) {
        (Some(text), Some(from)) => text.len() as f64 + text.matches(from).count() as f64 * to,
        _ => 0.0,
    }
}

impl Arguments {
    fn read(args: &ScalarFunctionArgs) -> Result<Arguments> {
        let mut arguments = Arguments { columns: vec![], numbers: vec![] };
        for value in &args.args {
            let column = match value {
                ColumnarValue::Array(array) => Arc::clone(array),
                // A large constant must not be repeated only to be looked at.
                ColumnarValue::Scalar(value) => value.to_array()?,
            };
            let number = match column.data_type() {
                DataType::Interval(_) => Some(interval_micros(&column)?),
                other if other.is_numeric() => Some(cast(&column, &DataType::Float64)?),
                DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
                    let times = cast(&column, &crate::data::schema::TIMESTAMP)?;
                    Some(cast(&cast(&times, &DataType::Int64)?, &DataType::Float64)?)
                }
                _ => None,
            };
            arguments.columns.push(column);
            arguments.numbers.push(number);
        }
        Ok(arguments)
    }
}

/// Intervals as microseconds.
fn interval_micros(column: &ArrayRef) -> Result<ArrayRef> {
    let column = cast(column, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let micros = (0..column.len()).map(|row| match ScalarValue::try_from_array(&column, row) {
        Ok(ScalarValue::IntervalMonthDayNano(Some(i))) => {
            let days = f64::from(i.months) * 30.0 + f64::from(i.days);
            Some(days * 86_400e6 + i.nanoseconds as f64 / 1e3)
        }
        _ => None,
    });
    Ok(Arc::new(micros.collect::<arrow::array::Float64Array>()))
}
