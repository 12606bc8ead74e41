//! Multiplies and divides intervals by numbers: `n * INTERVAL '1 second'`, `(b - a) / 2`.
//!
//! As in PostgreSQL each field is scaled; the part of a month that is left becomes days of 30 to the month, the
//! part of a day hours. A whole number scales without rounding, any other to the microsecond.

use std::sync::Arc;

use arrow::array::{AsArray, IntervalMonthDayNanoArray};
use arrow::datatypes::{DataType, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType};
use datafusion::common::{DFSchema, Result, exec_datafusion_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::planner::value_functions::INTERVAL;

/// Below this, a float holds each whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
const DAYS_PER_MONTH: f64 = 30.0;
const SECONDS_PER_DAY: f64 = 86_400.0;
const NANOS_PER_SECOND: f64 = 1e9;
const NANOS_PER_MICRO: f64 = 1e3;

/// The planner of these operators.
#[derive(Debug)]
pub(super) struct IntervalScaling;

impl ExprPlanner for IntervalScaling {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let scale = match expr.op {
            BinaryOperator::Multiply => Scale::Times,
            BinaryOperator::Divide => Scale::Over,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        // An operand of an outer query has no type here.
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema))
        else {
            return Ok(PlannerResult::Original(expr));
        };
        let is_length = |of: &DataType| matches!(of, DataType::Interval(_) | DataType::Duration(_));
        let (interval, factor) = match (is_length(&left), is_length(&right)) {
            (true, false) if right.is_numeric() => (expr.left, expr.right),
            (false, true) if left.is_numeric() && scale == Scale::Times => (expr.right, expr.left),
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let to = |expr: Expr, wanted| Expr::Cast(Cast::new(Box::new(expr), wanted));
        let arguments = vec![to(interval, INTERVAL), to(factor, DataType::Float64)];
        Ok(PlannerResult::Planned(scale.function().call(arguments)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scale {
    Times,
    Over,
}

impl Scale {
    fn function(self) -> Arc<ScalarUDF> {
        let arguments = vec![INTERVAL, DataType::Float64];
        let signature = Signature::exact(arguments, Volatility::Immutable);
        Arc::new(ScalarUDF::from(Scaled { scale: self, signature }))
    }

    fn of(self, value: f64, factor: f64) -> f64 {
        match self {
            Scale::Times => value * factor,
            Scale::Over => value / factor,
        }
    }

    fn interval(self, interval: IntervalMonthDayNano, factor: f64) -> Result<IntervalMonthDayNano> {
        if self == Scale::Over && factor == 0.0 {
            return Err(exec_datafusion_err!("division by zero"));
        }
        let whole = self == Scale::Times && factor.fract() == 0.0 && factor.abs() < WHOLE_MAX;
        let scaled =
            if whole { times(interval, factor as i64) } else { self.by_part(interval, factor) };
        scaled.ok_or_else(out_of_range)
    }

    /// Source: PostgreSQL, "interval_mul" and "interval_div".
    fn by_part(self, interval: IntervalMonthDayNano, factor: f64) -> Option<IntervalMonthDayNano> {
        let micros = |seconds: f64| (seconds * 1e6).round_ties_even() / 1e6;
        let (months, days) = (f64::from(interval.months), f64::from(interval.days));
        let (scaled_months, scaled_days) = (self.of(months, factor), self.of(days, factor));
        let left_days = micros((scaled_months - scaled_months.trunc()) * DAYS_PER_MONTH);
        let part_of_day = scaled_days - scaled_days.trunc() + left_days - left_days.trunc();
        let left_seconds = micros(part_of_day * SECONDS_PER_DAY);
        let more_days = (left_seconds / SECONDS_PER_DAY).trunc();
        let seconds = left_seconds - more_days * SECONDS_PER_DAY;
        let nanos = self.of(interval.nanoseconds as f64, factor) + seconds * NANOS_PER_SECOND;
        let nanos = (nanos / NANOS_PER_MICRO).round_ties_even() * NANOS_PER_MICRO;
        Some(IntervalMonthDayNano {
            months: whole_number(scaled_months.trunc())?.try_into().ok()?,
            days: whole_number(scaled_days.trunc() + more_days + left_days.trunc())?
                .try_into()
                .ok()?,
            nanoseconds: whole_number(nanos)?,
        })
    }
}

fn times(interval: IntervalMonthDayNano, factor: i64) -> Option<IntervalMonthDayNano> {
    let field = |value: i32| i64::from(value).checked_mul(factor)?.try_into().ok();
    Some(IntervalMonthDayNano {
        months: field(interval.months)?,
        days: field(interval.days)?,
        nanoseconds: interval.nanoseconds.checked_mul(factor)?,
    })
}

/// A float as a number of 64 bits, where it is one.
fn whole_number(value: f64) -> Option<i64> {
    // The least number of 64 bits is a float, the greatest is not.
    (value >= i64::MIN as f64 && value < -(i64::MIN as f64)).then_some(value as i64)
}

fn out_of_range() -> DataFusionError {
    exec_datafusion_err!("interval out of range")
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Scaled {
    scale: Scale,
    signature: Signature,
}

impl ScalarUDFImpl for Scaled {
    fn name(&self) -> &str {
        match self.scale {
            Scale::Times => "interval_times",
            Scale::Over => "interval_over",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let intervals = arrays[0].as_primitive::<IntervalMonthDayNanoType>();
        let factors = arrays[1].as_primitive::<Float64Type>();
        let scaled = intervals.iter().zip(factors).map(|pair| match pair {
            (Some(interval), Some(factor)) => self.scale.interval(interval, factor).map(Some),
            _ => Ok(None),
        });
        let scaled: IntervalMonthDayNanoArray = scaled.collect::<Result<_>>()?;
        Ok(ColumnarValue::Array(Arc::new(scaled)))
    }
}
