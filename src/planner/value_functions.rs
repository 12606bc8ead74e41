//! Makes the functions that the planner puts around values where DataFusion means something else than
//! PostgreSQL: one form of each float, rounding casts, texts of intervals and bytes, the length of an
//! interval. No one calls them by name.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, Decimal128Array, Float64Array,
    IntervalMonthDayNanoBuilder, StringViewBuilder,
};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::data::bytes_text;
use crate::data::floats::canonical;
use crate::data::interval_text::parse_interval;
use crate::data::sql_words::type_in_sql_words;
use crate::encode::datetime::DAY_NANOS;
use crate::encode::text::TextColumn;

/// What a function makes of its value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ValueFunction {
    /// The value itself, of which DataFusion knows nothing ([`super::held_keys`]).
    Same,
    /// The value itself, which is null where there is no row to take it from.
    OrNone,
    /// The value itself, for each row: never a constant, whatever DataFusion believes.
    PerRow,
    /// A float in its one form ([`crate::data::floats`]).
    Canonical,
    /// A number rounded to an integer: a float to the nearest even one, a decimal half away from zero.
    /// The flag says whether what is out of range becomes null.
    Integer(DataType, bool),
    /// What is shown of a moment, a time of day, a float or a list: `2026-01-01 10:00:00`, `1.5`, `{1,2}`.
    Text,
    /// `1 day 02:03:04` of an interval or a duration.
    IntervalText,
    /// An interval of its text, or of the time between two moments.
    IntervalOf,
    /// `\x41` of bytes.
    BytesText,
    /// Bytes of their text.
    BytesOf,
    /// An interval's length in nanoseconds, a month being 30 days and a day 24 hours.
    IntervalLength,
    /// Bytes that sort as intervals do, and hold the interval.
    IntervalKey,
    /// The interval that such bytes hold.
    IntervalOfKey,
}

/// An interval, as every INTERVAL column holds it.
pub(super) const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

impl ValueFunction {
    /// A call of the function.
    pub(super) fn call(self, value: Expr) -> Expr {
        let signature = Signature::any(1, Volatility::Immutable);
        Arc::new(ScalarUDF::from(Call { function: self, signature })).call(vec![value])
    }

    /// The argument, where an expression is a call of this function.
    pub(super) fn argument_of<'a>(&self, expr: &'a Expr) -> Option<&'a Expr> {
        (ValueFunction::called(expr)? == self).then(|| called_args(expr)?.first()).flatten()
    }

    /// Which of these functions an expression calls.
    fn called(expr: &Expr) -> Option<&ValueFunction> {
        let Expr::ScalarFunction(call) = expr else { return None };
        let function: &dyn Any = call.func.inner().as_ref();
        function.downcast_ref::<Call>().map(|call| &call.function)
    }

    /// Whether an expression calls one of these that is an error for no value.
    pub(super) fn is_total(expr: &Expr) -> bool {
        use ValueFunction as F;
        ValueFunction::called(expr).is_some_and(|function| match function {
            F::Same
            | F::OrNone
            | F::PerRow
            | F::Canonical
            | F::IntervalLength
            | F::IntervalKey
            | F::IntervalOfKey => true,
            F::Text | F::IntervalText | F::BytesText => true,
            F::Integer(_, nulls) => *nulls,
            F::IntervalOf | F::BytesOf => false,
        })
    }

    fn result(&self, argument: &DataType) -> DataType {
        match self {
            ValueFunction::Same
            | ValueFunction::OrNone
            | ValueFunction::PerRow
            | ValueFunction::Canonical => argument.clone(),
            ValueFunction::Integer(to, _) => to.clone(),
            ValueFunction::Text | ValueFunction::IntervalText | ValueFunction::BytesText => {
                DataType::Utf8View
            }
            ValueFunction::IntervalOf | ValueFunction::IntervalOfKey => INTERVAL,
            ValueFunction::BytesOf | ValueFunction::IntervalKey => DataType::Binary,
            ValueFunction::IntervalLength => DataType::Decimal128(38, 0),
        }
    }

    fn compute(&self, values: &ArrayRef) -> Result<ArrayRef> {
        match self {
            ValueFunction::Same | ValueFunction::OrNone | ValueFunction::PerRow => {
                Ok(Arc::clone(values))
            }
            ValueFunction::Canonical => Ok(canonical(values)),
            ValueFunction::Integer(to, nulls) => integers(values, to, *nulls),
            ValueFunction::Text | ValueFunction::BytesText => Ok(texts(values)),
            ValueFunction::IntervalText => match values.data_type() {
                DataType::Duration(_) => Ok(texts(values)),
                _ => Ok(texts(&cast(values, &INTERVAL)?)),
            },
            ValueFunction::IntervalOf => match values.data_type() {
                DataType::Duration(_) => intervals_between_moments(values),
                _ => intervals_of_texts(values),
            },
            ValueFunction::BytesOf => bytes_of_texts(values),
            ValueFunction::IntervalLength => interval_lengths(values),
            ValueFunction::IntervalKey => interval_keys(values),
            ValueFunction::IntervalOfKey => intervals_of_keys(values),
        }
    }
}

fn called_args(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::ScalarFunction(call) => Some(&call.args),
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Call {
    function: ValueFunction,
    signature: Signature,
}

impl ScalarUDFImpl for Call {
    fn name(&self) -> &str {
        match &self.function {
            ValueFunction::Same => "same",
            ValueFunction::OrNone => "or_none",
            ValueFunction::PerRow => "per_row",
            ValueFunction::Canonical => "canonical",
            ValueFunction::Integer(DataType::Int16, _) => "int2",
            ValueFunction::Integer(DataType::Int32, _) => "int4",
            ValueFunction::Integer(DataType::Int64, _) => "int8",
            ValueFunction::Integer(..) => "integer",
            ValueFunction::Text => "text",
            ValueFunction::IntervalText => "interval_text",
            ValueFunction::IntervalOf => "interval",
            ValueFunction::BytesText => "bytea_text",
            ValueFunction::BytesOf => "bytea",
            ValueFunction::IntervalLength => "interval_length",
            ValueFunction::IntervalKey => "interval_key",
            ValueFunction::IntervalOfKey => "interval_of_key",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let first = arguments.first();
        first
            .map(|first| self.function.result(first))
            .ok_or_else(|| exec_datafusion_err!("{} takes an argument", self.name()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [value] = args.arg_fields else {
            return exec_err!("{} takes one argument", self.name());
        };
        if self.function == ValueFunction::Same {
            return Ok(Arc::clone(value));
        }
        let nullable = value.is_nullable()
            || matches!(self.function, ValueFunction::OrNone | ValueFunction::Integer(_, true));
        let data_type = self.function.result(value.data_type());
        Ok(Arc::new(Field::new(self.name(), data_type, nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Scalar(value) if self.function == ValueFunction::PerRow => {
                Ok(ColumnarValue::Array(value.to_array_of_size(args.number_rows)?))
            }
            ColumnarValue::Array(values) => {
                Ok(ColumnarValue::Array(self.function.compute(values)?))
            }
            ColumnarValue::Scalar(value) => {
                let values = self.function.compute(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?))
            }
        }
    }
}

fn integers(values: &ArrayRef, to: &DataType, nulls: bool) -> Result<ArrayRef> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let whole = match values.data_type() {
        DataType::Float32 | DataType::Float64 => {
            let floats = cast(values, &DataType::Float64)?;
            let floats = floats.as_primitive::<Float64Type>();
            Arc::new(floats.unary::<_, Float64Type>(f64::round_ties_even) as Float64Array) as _
        }
        DataType::Decimal256(..) => {
            cast_with_options(values, &DataType::Decimal256(76, 0), &options)?
        }
        // Arrow rounds half away from zero where it takes digits behind the point away.
        _ => cast_with_options(values, &DataType::Decimal128(38, 0), &options)?,
    };
    let integers = cast_with_options(&whole, to, &options)?;
    if !nulls && integers.null_count() > values.null_count() {
        return exec_err!("{} out of range", type_in_sql_words(to));
    }
    Ok(integers)
}

fn texts(values: &ArrayRef) -> ArrayRef {
    let field = Field::new("text", values.data_type().clone(), true);
    let column = TextColumn::new(values, &field);
    let mut texts = StringViewBuilder::with_capacity(values.len());
    let mut text = Vec::new();
    for row in 0..values.len() {
        text.clear();
        texts.append_option(column.write(row, &mut text));
    }
    Arc::new(texts.finish())
}

fn intervals_of_texts(values: &ArrayRef) -> Result<ArrayRef> {
    let texts = cast(values, &DataType::Utf8View)?;
    let mut intervals = IntervalMonthDayNanoBuilder::with_capacity(values.len());
    for text in texts.as_string_view() {
        let read = text.map(|text| {
            let (months, days, nanoseconds) = parse_interval(text.trim()).map_err(|_| {
                exec_datafusion_err!("invalid input syntax for type interval: \"{text}\"")
            })?;
            Ok::<_, DataFusionError>(IntervalMonthDayNano { months, days, nanoseconds })
        });
        intervals.append_option(read.transpose()?);
    }
    Ok(Arc::new(intervals.finish()))
}

fn bytes_of_texts(values: &ArrayRef) -> Result<ArrayRef> {
    let texts = cast(values, &DataType::Utf8View)?;
    let mut all = BinaryBuilder::with_capacity(values.len(), 0);
    let mut bytes = Vec::new();
    for text in texts.as_string_view() {
        let Some(text) = text else {
            all.append_null();
            continue;
        };
        bytes.clear();
        bytes_text::parse_bytea(text, &mut bytes).ok_or_else(|| {
            exec_datafusion_err!("invalid input syntax for type bytea: \"{text}\"")
        })?;
        all.append_value(&bytes);
    }
    Ok(Arc::new(all.finish()))
}

/// Fits in 38 digits, whatever the fields hold.
fn length(interval: IntervalMonthDayNano) -> i128 {
    const DAY: i128 = 86_400_000_000_000;
    let days = i128::from(interval.months) * 30 + i128::from(interval.days);
    days * DAY + i128::from(interval.nanoseconds)
}

/// Days and hours, as they lie between two moments; an interval of 38 hours has no days.
fn intervals_between_moments(durations: &ArrayRef) -> Result<ArrayRef> {
    let DataType::Duration(unit) = durations.data_type() else {
        return exec_err!("{} is no time between moments", durations.data_type());
    };
    let nanos = match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    let day = DAY_NANOS / nanos;
    let days_and_hours = |units: i64| {
        // Seconds in 64 bits are more days than an interval holds; such a duration is clamped.
        let days = (units / day).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        IntervalMonthDayNano::new(0, days, units % day * nanos)
    };
    let units = cast(durations, &DataType::Int64)?;
    let units = units.as_primitive::<Int64Type>();
    Ok(Arc::new(units.unary::<_, IntervalMonthDayNanoType>(days_and_hours)))
}

fn interval_lengths(values: &ArrayRef) -> Result<ArrayRef> {
    let intervals = cast(values, &INTERVAL)?;
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    let lengths: Decimal128Array = intervals.iter().map(|value| value.map(length)).collect();
    Ok(Arc::new(lengths.with_precision_and_scale(38, 0)?))
}

/// The length, its sign bit turned so that bytes compare as numbers do, and the three fields.
fn interval_keys(values: &ArrayRef) -> Result<ArrayRef> {
    let intervals = cast(values, &INTERVAL)?;
    let mut keys = BinaryBuilder::with_capacity(values.len(), values.len() * 32);
    for interval in intervals.as_primitive::<IntervalMonthDayNanoType>() {
        let Some(interval) = interval else {
            keys.append_null();
            continue;
        };
        let mut key = [0u8; 32];
        key[..16].copy_from_slice(&(length(interval) ^ i128::MIN).to_be_bytes());
        key[16..20].copy_from_slice(&interval.months.to_be_bytes());
        key[20..24].copy_from_slice(&interval.days.to_be_bytes());
        key[24..].copy_from_slice(&interval.nanoseconds.to_be_bytes());
        keys.append_value(key);
    }
    Ok(Arc::new(keys.finish()))
}

fn intervals_of_keys(values: &ArrayRef) -> Result<ArrayRef> {
    let keys = cast(values, &DataType::Binary)?;
    let mut intervals = IntervalMonthDayNanoBuilder::with_capacity(values.len());
    for key in keys.as_binary::<i32>() {
        let interval = key.map(|key| {
            let fields = key.get(16..32).and_then(|fields| fields.try_into().ok());
            let fields: [u8; 16] =
                fields.ok_or_else(|| exec_datafusion_err!("a key of an interval is cut"))?;
            let [a, b, c, d, e, f, g, h, rest @ ..] = fields;
            Ok::<_, DataFusionError>(IntervalMonthDayNano {
                months: i32::from_be_bytes([a, b, c, d]),
                days: i32::from_be_bytes([e, f, g, h]),
                nanoseconds: i64::from_be_bytes(rest),
            })
        });
        intervals.append_option(interval.transpose()?);
    }
    Ok(Arc::new(intervals.finish()))
}
