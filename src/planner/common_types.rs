//! Knows the type that values beside each other have together, where DataFusion would take another one.
//!
//! * Dates and moments are moments of microseconds: DataFusion's would be of nanoseconds, which end in 2262.
//! * A float and a NUMERIC are DOUBLE, as in PostgreSQL and as their sum is: DataFusion would take a NUMERIC(30,15), in which
//!   neither 1e300 nor NaN is, and 1e-20 is 0. A float that is written out is none beside a NUMERIC, as long as that
//!   holds it: `price < 9.99` compares digits.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

/// The type of columns that become one; `None` where DataFusion's is right.
pub(super) fn common_type(types: &[DataType]) -> Option<DataType> {
    moment_of(types).or_else(|| float_of(types))
}

/// The same for values that stand for each other. What has no type here (a column of an outer query, say) says nothing.
pub(super) fn common_type_of(values: &[&mut Expr], schema: &DFSchema) -> Option<DataType> {
    let types = values.iter().filter(|value| !is_written_number(value));
    let types: Vec<DataType> = types.filter_map(|value| value.get_type(schema).ok()).collect();
    common_type(&types)
}

/// The type of a plan's column; `None` where it is a number that is written out.
pub(super) fn type_of_column(plan: &LogicalPlan, column: usize) -> Option<DataType> {
    if let LogicalPlan::Projection(projection) = plan
        && is_written_number(&projection.expr.get(column)?.clone().unalias())
    {
        return None;
    }
    plan.schema().fields().get(column).map(|field| field.data_type().clone())
}

/// Whether a value of some type has to be cast to the common one.
pub(super) fn differs(found: &DataType, common: &DataType) -> bool {
    match (found, common) {
        (DataType::Date32, DataType::Timestamp(..)) => true,
        (DataType::Timestamp(unit, _), DataType::Timestamp(..)) => *unit != TimeUnit::Microsecond,
        (found, DataType::Float64) => found.is_numeric() && *found != DataType::Float64,
        _ => false,
    }
}

/// The moment of microseconds that stands for moments of a type; `None` for what is no TIMESTAMP.
fn moment(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Timestamp(_, zone) => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
        }
        _ => None,
    }
}

fn moment_of(types: &[DataType]) -> Option<DataType> {
    let dates = types.iter().any(|found| matches!(found, DataType::Date32));
    types.iter().find_map(moment).filter(|_| dates)
}

fn float_of(types: &[DataType]) -> Option<DataType> {
    let is_mixed =
        types.iter().any(DataType::is_floating) && types.iter().any(DataType::is_decimal);
    let is_number = |found: &DataType| found.is_numeric() || found.is_null();
    (is_mixed && types.iter().all(is_number)).then_some(DataType::Float64)
}

/// Numbers with a point that are written beside NUMERICs, as NUMERICs of their digits: `coalesce(price, 0.5)` has the
/// wider of both scales. Tells whether there were any.
pub(super) fn write_digits(values: &mut [&mut Expr], schema: &DFSchema) -> bool {
    let others = values.iter().filter(|value| !is_written_number(value));
    let mut types = others.map(|value| value.get_type(schema).ok());
    let mut decimals = false;
    let all = types.all(|found| {
        let found = found.unwrap_or(DataType::Null);
        decimals |= found.is_decimal();
        found.is_decimal() || found.is_integer() || found.is_null()
    });
    if !(all && decimals) {
        return false;
    }
    let mut changed = false;
    for value in values.iter_mut().filter(|value| is_written_number(value)) {
        if let Some(digits) = digits_of(value) {
            **value = Expr::Literal(digits, None);
            changed = true;
        }
    }
    changed
}

/// The fewest digits that give a written float again.
fn digits_of(value: &Expr) -> Option<ScalarValue> {
    let Expr::Literal(ScalarValue::Float64(Some(number)), _) = value else { return None };
    let text = number.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = i8::try_from(fraction.len()).ok()?;
    let precision = digits.unsigned_abs().checked_ilog10().map_or(1, |log| log as u8 + 1);
    let precision = precision.max(scale.unsigned_abs()).max(1);
    (precision <= DECIMAL128_MAX_PRECISION)
        .then(|| ScalarValue::Decimal128(Some(digits), precision, scale))
}

/// Whether a value is a number with a point that any NUMERIC beside it takes as it is written.
fn is_written_number(value: &Expr) -> bool {
    const HELD: std::ops::Range<f64> = 1e-9..1e15;
    match value {
        Expr::Literal(ScalarValue::Float64(Some(number)), _) => {
            *number == 0.0 || HELD.contains(&number.abs())
        }
        _ => false,
    }
}
