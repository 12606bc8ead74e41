//! Folds argument expressions to constants, and reads widths, instants and counts from them.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::scalar::ScalarValue;

use crate::windows::spec::Span;

/// Microseconds in a day of 24 hours.
pub const DAY: i64 = 86_400_000_000;

/// The value of a constant expression, `None` if it depends on a row.
pub fn fold(expr: Expr) -> Result<Option<ScalarValue>> {
    let simplifier = ExprSimplifier::new(SimplifyContext::default());
    let expr = simplifier.coerce(expr, &DFSchema::empty())?;
    match simplifier.simplify(expr)? {
        Expr::Literal(value, _) if !value.is_null() => Ok(Some(value)),
        _ => Ok(None),
    }
}

/// An integer.
pub fn integer(value: &ScalarValue) -> Option<i64> {
    if !value.data_type().is_integer() {
        return None;
    }
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(Some(n))) => Some(n),
        _ => None,
    }
}

/// A text.
pub fn text(value: &ScalarValue) -> Option<String> {
    value.try_as_str().flatten().map(str::to_string)
}

/// An interval as (months, days, microseconds).
fn interval(value: &ScalarValue) -> Option<(i64, i64, i64)> {
    if !matches!(value.data_type(), DataType::Interval(_) | DataType::Duration(_)) {
        return None;
    }
    match value.cast_to(&DataType::Interval(IntervalUnit::MonthDayNano)) {
        Ok(ScalarValue::IntervalMonthDayNano(Some(i))) if i.nanoseconds % 1_000 == 0 => {
            Some((i64::from(i.months), i64::from(i.days), i.nanoseconds / 1_000))
        }
        _ => None,
    }
}

/// A width that is fixed on the time line: an interval without months, or an integer.
pub fn signed_width(value: &ScalarValue) -> Option<i64> {
    match interval(value) {
        Some((0, days, micros)) => days.checked_mul(DAY)?.checked_add(micros),
        Some(_) => None,
        None => integer(value),
    }
}

/// A positive width in one unit: microseconds (or logical units), days or months.
pub fn span(value: &ScalarValue) -> Option<Span> {
    let positive = |n: i64| (n > 0).then_some(n);
    match interval(value) {
        Some((0, 0, micros)) => positive(micros).map(Span::Fixed),
        Some((0, days, 0)) => positive(days).map(Span::Days),
        Some((months, 0, 0)) => positive(months).map(Span::Months),
        Some((0, days, micros)) => {
            days.checked_mul(DAY)?.checked_add(micros).and_then(positive).map(Span::Fixed)
        }
        Some(_) => None,
        None => integer(value).and_then(positive).map(Span::Fixed),
    }
}

/// A point of event time: a timestamp, a date, their text, or an integer.
pub fn instant(value: &ScalarValue) -> Option<i64> {
    if let Some(n) = integer(value) {
        return Some(n);
    }
    match value.cast_to(&DataType::Timestamp(TimeUnit::Microsecond, None)) {
        Ok(ScalarValue::TimestampMicrosecond(Some(t), _)) => Some(t),
        _ => None,
    }
}
