//! Reads what the calls of OVER say: arguments, distances, frames.

use datafusion::common::Column;
use datafusion::logical_expr::{
    Case, Expr, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
};
use datafusion::scalar::ScalarValue;

use crate::operators::over::{Frame, Shift};
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::over::Computed;
use crate::planner::over_facts::describe_window;
use crate::planner::over_layers::WindowCall;
use crate::planner::translate::Built;

/// The arguments of a call as columns or constants; FILTER becomes part of the argument.
pub(super) fn argument_of(
    call: &WindowCall,
    computed: &mut Computed<'_>,
) -> Result<Vec<Expr>, PlanError> {
    let arguments = &call.params.args;
    let Some(filter) = &call.params.filter else {
        let is_lookup = matches!(call.function, WindowFunctionDefinition::WindowUDF(_));
        let place = |(index, expr): (usize, &Expr)| match expr {
            Expr::Literal(..) if is_lookup && index == 0 => {
                let column = computed.place(expr)?;
                Ok(Expr::Column(Column::new_unqualified(format!("__column_{column}"))))
            }
            expr => computed.named(expr),
        };
        return arguments.iter().enumerate().map(place).collect();
    };
    let skips_nulls = ["count", "sum", "avg", "min", "max"].contains(&call.function.name());
    let [argument] = arguments.as_slice() else { return Err(refuse_function(call)) };
    if !skips_nulls {
        return Err(PlanError::unsupported(
            format!("FILTER of {}() OVER", call.function.name()),
            "Filter in a subquery below, or use count, sum, avg, min or max.",
        ));
    }
    // Null where the filter is not true; these functions pass over nulls.
    let case = Case::new(None, vec![(filter.clone(), Box::new(argument.clone()))], None);
    Ok(vec![computed.named(&Expr::Case(case))?])
}

/// How far `lag` and `lead` look, and their default.
pub(super) fn shift_of(
    built: &Built,
    call: &WindowCall,
    argument: usize,
    rest: &[Expr],
) -> Result<(i64, Shift), PlanError> {
    let constant = |expr: &Expr| match expr {
        Expr::Literal(value, _) => Ok(value.clone()),
        Expr::Column(_) | Expr::Cast(_) | Expr::Negative(_) => Err(PlanError::unsupported(
            format!("{}() with a distance or default that is no constant", call.function.name()),
            "Write a number.",
        )),
        _ => Err(refuse_function(call)),
    };
    let rows = match rest.first() {
        Some(expr) => {
            let value = constant(expr)?.cast_to(&arrow::datatypes::DataType::Int64);
            match value.map_err(from_datafusion)? {
                ScalarValue::Int64(rows) => rows.unwrap_or(1),
                _ => return Err(refuse_function(call)),
            }
        }
        None => 1,
    };
    let data_type = built.plan.schema.field(argument).data_type();
    let default = match rest.get(1) {
        Some(expr) => constant(expr)?,
        None => ScalarValue::Null,
    };
    let default = default.cast_to(data_type).and_then(|value| value.to_array());
    let default = default.map_err(from_datafusion)?;
    let distance = usize::try_from(rows.unsigned_abs()).map_err(|_| refuse_function(call))?;
    Ok((rows, Shift { argument, rows: distance, default, ignore_nulls: false }))
}

/// The frame of a call, if it can be bounded: by rows it reaches back from the current row, over event
/// times `by_time` also ahead.
pub(super) fn frame_of(call: &WindowCall, unique: bool, by_time: bool) -> Result<Frame, PlanError> {
    let frame = &call.params.window_frame;
    let refuse = |what: &str| {
        PlanError::unsupported(
            format!("the frame {frame} of OVER"),
            format!(
                "{what} Use RANGE INTERVAL … PRECEDING or FOLLOWING or ROWS … PRECEDING, or EMIT CHANGES, which keeps all rows."
            ),
        )
    };
    let by_rows = match frame.units {
        WindowFrameUnits::Rows => true,
        // Without peers the current row is a frame's last one in either.
        WindowFrameUnits::Range => unique,
        WindowFrameUnits::Groups => return Err(refuse("GROUPS are not counted.")),
    };
    let is_offset = |bound: &WindowFrameBound| matches!(bound, WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value) if !value.is_null());
    if frame.units == WindowFrameUnits::Range
        && unique
        && (is_offset(&frame.start_bound) || is_offset(&frame.end_bound))
    {
        return Err(refuse("RANGE needs an ORDER BY of the event time alone."));
    }
    let distance = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::CurrentRow => Ok(Some(0)),
        WindowFrameBound::Preceding(value) if value.is_null() => Ok(None),
        WindowFrameBound::Preceding(value) => width_of(value)
            .map(Some)
            .ok_or_else(|| refuse("Its width must be constant: days, hours, or less.")),
        WindowFrameBound::Following(value) if by_time && !by_rows && !value.is_null() => {
            let width = width_of(value);
            width
                .map(|width| Some(-width))
                .ok_or_else(|| refuse("Its width must be constant: days, hours, or less."))
        }
        WindowFrameBound::Following(_) => Err(refuse("It would wait for rows to come.")),
    };
    let start = distance(&frame.start_bound)?;
    let Some(end) = distance(&frame.end_bound)? else {
        return Err(refuse("It ends before the first row."));
    };
    Ok(Frame { by_rows, start, end })
}

/// A number of rows, of units of logical time, or of microseconds.
fn width_of(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::IntervalMonthDayNano(Some(width)) if width.months == 0 => {
            let days = i64::from(width.days).checked_mul(86_400_000_000)?;
            (width.nanoseconds % 1_000 == 0).then_some(())?;
            days.checked_add(width.nanoseconds / 1_000).filter(|width| *width >= 0)
        }
        ScalarValue::IntervalDayTime(Some(width)) => {
            let days = i64::from(width.days).checked_mul(86_400_000_000)?;
            days.checked_add(i64::from(width.milliseconds) * 1_000).filter(|width| *width >= 0)
        }
        ScalarValue::Utf8(Some(text)) => text.parse().ok().filter(|width| *width >= 0),
        value if value.data_type().is_integer() => {
            match value.cast_to(&arrow::datatypes::DataType::Int64) {
                Ok(ScalarValue::Int64(width)) => width.filter(|width| *width >= 0),
                _ => None,
            }
        }
        _ => None,
    }
}

pub(super) fn refuse_function(call: &WindowCall) -> PlanError {
    PlanError::unsupported(
        format!("{}() OVER ({})", call.function.name(), describe_window(call)),
        "Use an aggregate, row_number, rank, dense_rank, lag, lead, first_value or last_value, or \
         EMIT CHANGES, which keeps all rows.",
    )
}
