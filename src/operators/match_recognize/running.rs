//! Folds the rows of a variable into a count, a sum, an average, a least or a greatest value, one by one.
//!
//! Unlike the accumulators of GROUP BY these are copied where ways to match part, and two are equal
//! where everything that follows would be. Nulls do not count. Floats are folded in the order of rows.

use std::hash::{Hash, Hasher};

use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use crate::data::sql_words::type_in_sql_words;
use crate::operators::operator::EvalError;

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunningFunction {
    /// Rows, or values that are not null.
    Count,
    /// The sum of integers, floats or decimals.
    Sum,
    /// The average of floats or decimals.
    Average,
    /// The least value.
    Least,
    /// The greatest value.
    Greatest,
}

impl RunningFunction {
    /// As SQL calls it.
    pub fn name(self) -> &'static str {
        match self {
            RunningFunction::Count => "count",
            RunningFunction::Sum => "sum",
            RunningFunction::Average => "avg",
            RunningFunction::Least => "min",
            RunningFunction::Greatest => "max",
        }
    }

    /// The type to which an argument is brought, and that of the result; `None` if it does not take
    /// the type.
    pub fn types(self, argument: &DataType) -> Option<(DataType, DataType)> {
        use DataType::{Decimal128, Float64, Int64};
        let same = |data_type: DataType| Some((data_type.clone(), data_type));
        match (self, argument) {
            (RunningFunction::Count, _) => Some((argument.clone(), Int64)),
            (RunningFunction::Least | RunningFunction::Greatest, _) => {
                let is_ordered = argument.is_numeric()
                    || argument.is_temporal()
                    || argument.is_string()
                    || *argument == DataType::Boolean;
                let data_type = match argument {
                    DataType::Interval(_) => return None,
                    other => other.clone(),
                };
                if is_ordered { same(data_type) } else { None }
            }
            (RunningFunction::Sum, DataType::UInt64) => None,
            (RunningFunction::Sum, other) if other.is_integer() => same(Int64),
            (RunningFunction::Average, other) if other.is_integer() => same(Float64),
            (_, DataType::Float16 | DataType::Float32 | Float64) => same(Float64),
            (RunningFunction::Sum, Decimal128(precision, scale)) => {
                let sum = Decimal128(precision.saturating_add(10).min(38), *scale);
                Some((argument.clone(), sum))
            }
            (RunningFunction::Average, Decimal128(precision, scale)) if *scale <= 34 => {
                let wider = Decimal128(precision.saturating_add(4).min(38), scale + 4);
                Some((argument.clone(), wider))
            }
            _ => None,
        }
    }
}

/// What has been folded so far.
#[derive(Debug, Clone)]
pub(super) enum Running {
    /// Nothing that is not null.
    Empty,
    /// How many.
    Count(i64),
    /// Sum of integers or of unscaled decimals, and how many.
    Whole(i128, i64),
    /// Sum of floats, and how many.
    Float(f64, i64),
    /// Least or greatest value.
    Extreme(ScalarValue),
    /// The sum left what 128 bits hold.
    Overflown,
}

impl PartialEq for Running {
    fn eq(&self, other: &Running) -> bool {
        match (self, other) {
            (Running::Empty, Running::Empty) | (Running::Overflown, Running::Overflown) => true,
            (Running::Count(a), Running::Count(b)) => a == b,
            (Running::Whole(a, n), Running::Whole(b, m)) => a == b && n == m,
            (Running::Float(a, n), Running::Float(b, m)) => a.to_bits() == b.to_bits() && n == m,
            (Running::Extreme(a), Running::Extreme(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Running {}

impl Hash for Running {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Running::Empty | Running::Overflown => {}
            Running::Count(count) => count.hash(state),
            Running::Whole(sum, count) => (sum, count).hash(state),
            Running::Float(sum, count) => (sum.to_bits(), count).hash(state),
            Running::Extreme(value) => value.hash(state),
        }
    }
}

impl Running {
    /// Takes one more value; none where rows are counted.
    pub(super) fn fold(&mut self, function: RunningFunction, value: Option<ScalarValue>) {
        if value.as_ref().is_some_and(ScalarValue::is_null) {
            return;
        }
        let before = std::mem::replace(self, Running::Empty);
        *self = match (function, before, value) {
            (RunningFunction::Count, Running::Count(count), _) => Running::Count(count + 1),
            (RunningFunction::Count, ..) => Running::Count(1),
            (_, Running::Empty, Some(value)) => match (function, whole(&value), &value) {
                (RunningFunction::Least | RunningFunction::Greatest, ..) => Running::Extreme(value),
                (_, Some(whole), _) => Running::Whole(whole, 1),
                (_, None, ScalarValue::Float64(Some(float))) => Running::Float(*float, 1),
                _ => Running::Empty,
            },
            (_, Running::Whole(sum, count), Some(value)) => {
                match whole(&value).and_then(|value| sum.checked_add(value)) {
                    Some(sum) => Running::Whole(sum, count + 1),
                    None => Running::Overflown,
                }
            }
            (_, Running::Float(sum, count), Some(ScalarValue::Float64(Some(value)))) => {
                Running::Float(sum + value, count + 1)
            }
            (_, Running::Extreme(best), Some(value)) => {
                let wanted = match function {
                    RunningFunction::Least => std::cmp::Ordering::Less,
                    _ => std::cmp::Ordering::Greater,
                };
                let is_better = value.partial_cmp(&best) == Some(wanted);
                Running::Extreme(if is_better { value } else { best })
            }
            (_, before, _) => before,
        };
    }

    /// The result, in the type that it has.
    pub(super) fn value(
        &self,
        function: RunningFunction,
        data_type: &DataType,
    ) -> Result<ScalarValue, EvalError> {
        let overflow = || EvalError::Overflow {
            function: function.name().into(),
            data_type: type_in_sql_words(data_type),
        };
        let decimal = |value: i128| match data_type {
            DataType::Decimal128(precision, scale) => {
                let digits = i128::pow(10, u32::from(*precision));
                let fits = -digits < value && value < digits;
                let value = fits.then_some(value).ok_or_else(overflow)?;
                Ok(ScalarValue::Decimal128(Some(value), *precision, *scale))
            }
            _ => Ok(ScalarValue::Int64(Some(i64::try_from(value).map_err(|_| overflow())?))),
        };
        match (function, self) {
            (RunningFunction::Count, Running::Count(count)) => Ok(ScalarValue::Int64(Some(*count))),
            (RunningFunction::Count, _) => Ok(ScalarValue::Int64(Some(0))),
            (_, Running::Overflown) => Err(overflow()),
            (RunningFunction::Average, Running::Whole(sum, count)) => {
                // The result has four digits more behind the point.
                let sum = sum.checked_mul(10_000).ok_or_else(overflow)?;
                decimal(sum / i128::from(*count))
            }
            (_, Running::Whole(sum, _)) => decimal(*sum),
            (RunningFunction::Average, Running::Float(sum, count)) => {
                Ok(ScalarValue::Float64(Some(sum / *count as f64)))
            }
            (_, Running::Float(sum, _)) => Ok(ScalarValue::Float64(Some(*sum))),
            (_, Running::Extreme(value)) => Ok(value.clone()),
            (_, Running::Empty | Running::Count(_)) => Ok(ScalarValue::try_from(data_type)?),
        }
    }
}

/// An integer, or a decimal without its point.
fn whole(value: &ScalarValue) -> Option<i128> {
    match value {
        ScalarValue::Int64(Some(value)) => Some(i128::from(*value)),
        ScalarValue::Decimal128(Some(value), ..) => Some(*value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RunningFunction::{Average, Count, Greatest, Least, Sum};

    fn check(function: RunningFunction, values: &[ScalarValue]) -> Option<ScalarValue> {
        let (argument, result) = function.types(&values[0].data_type()).unwrap();
        let mut running = Running::Empty;
        for value in values {
            running.fold(function, Some(value.cast_to(&argument).unwrap()));
        }
        running.value(function, &result).ok()
    }

    fn decimal(value: i128, precision: u8, scale: i8) -> ScalarValue {
        ScalarValue::Decimal128(Some(value), precision, scale)
    }

    #[test]
    fn values_are_folded_in_their_types() {
        let numbers = [Some(3_i32), None, Some(4)].map(ScalarValue::Int32);
        assert_eq!(check(Count, &numbers), Some(ScalarValue::Int64(Some(2))));
        assert_eq!(check(Sum, &numbers), Some(ScalarValue::Int64(Some(7))));
        assert_eq!(check(Average, &numbers), Some(ScalarValue::Float64(Some(3.5))));
        assert_eq!(check(Least, &numbers), Some(ScalarValue::Int32(Some(3))));
        assert_eq!(check(Greatest, &numbers), Some(ScalarValue::Int32(Some(4))));
        let prices = [decimal(150, 5, 2), decimal(275, 5, 2)];
        assert_eq!(check(Sum, &prices), Some(decimal(425, 15, 2)));
        assert_eq!(check(Average, &prices), Some(decimal(2_125_000, 9, 6)));
        let texts = ["b", "a"].map(|text| ScalarValue::Utf8View(Some(text.into())));
        assert_eq!(check(Least, &texts), Some(texts[1].clone()));
        assert!(Sum.types(&DataType::Utf8View).is_none());
    }

    #[test]
    fn nothing_sums_up_to_null_and_counts_zero() {
        let nothing = [ScalarValue::Int64(None)];
        assert_eq!(check(Sum, &nothing), Some(ScalarValue::Int64(None)));
        assert_eq!(check(Count, &nothing), Some(ScalarValue::Int64(Some(0))));
        assert_eq!(check(Least, &[ScalarValue::Float64(None)]), Some(ScalarValue::Float64(None)));
    }

    #[test]
    fn a_sum_out_of_range_is_an_error_once_it_is_asked_for() {
        let huge = ScalarValue::Int64(Some(i64::MAX));
        assert_eq!(check(Sum, &[huge.clone(), huge.clone()]), None);
        let back = ScalarValue::Int64(Some(-i64::MAX));
        assert_eq!(check(Sum, &[huge.clone(), huge.clone(), back]), Some(huge));
    }
}
