//! Reads out of a join's condition how far apart the event times of two rows may be.
//!
//! `l.at BETWEEN r.at - INTERVAL '5' MINUTE AND r.at`, in whatever way it is written, says that
//! `-5 min <= l.at - r.at <= 0`; `l.window_end = r.window_end` says that the distance is 0. Where both
//! columns are event times, rows leave the state of the join by it, and the output has event times.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;

use crate::operators::join::spec::Within;
use crate::planner::constants::DAY;
use crate::planner::error::PlanError;
use crate::planner::translate::{Built, EmitRequest, type_of};

/// What a condition says of time.
#[derive(Debug)]
pub(super) struct Bounds {
    /// The bound by which rows leave.
    pub within: Option<Within>,
    /// What else the condition says.
    pub rest: Vec<Expr>,
    /// Event-time columns of the output: side, column there, delay.
    pub delays: Vec<(usize, usize, i64)>,
    /// Columns, by side, that tell the same windows on both sides.
    pub windows: Vec<(usize, usize)>,
}

impl Bounds {
    /// Nothing is said of time.
    pub(super) fn none(rest: Vec<Expr>) -> Bounds {
        Bounds { within: None, rest, delays: vec![], windows: vec![] }
    }
}

/// `low <= left - right <= high`.
#[derive(Debug, Clone, Copy, Default)]
struct Range {
    low: Option<i64>,
    high: Option<i64>,
}

impl Range {
    fn narrow(&mut self, other: Range) {
        let both = |a: Option<i64>, b: Option<i64>, of: fn(i64, i64) -> i64| match (a, b) {
            (Some(a), Some(b)) => Some(of(a, b)),
            (a, b) => a.or(b),
        };
        self.low = both(self.low, other.low, i64::max);
        self.high = both(self.high, other.high, i64::min);
    }
}

/// One comparison of a left with a right event time.
struct Comparison {
    columns: (usize, usize),
    range: Range,
}

/// Sorts a condition into what bounds the distance in time and the rest.
pub(super) fn find_bounds(
    sides: &[Built; 2],
    keys: &[(usize, usize)],
    conjuncts: Vec<Expr>,
    emit: &EmitRequest,
) -> Result<Bounds, PlanError> {
    let mut ranges: BTreeMap<(usize, usize), Range> = BTreeMap::new();
    for &(left, right) in keys.iter().filter(|key| are_times(sides, **key)) {
        ranges.insert((left, right), Range { low: Some(0), high: Some(0) });
    }
    let conjuncts: Vec<Expr> = conjuncts.into_iter().flat_map(without_between).collect();
    let read: Vec<Option<Comparison>> =
        conjuncts.iter().map(|conjunct| comparison(sides, conjunct)).collect();
    for Comparison { columns, range } in read.iter().flatten() {
        ranges.entry(*columns).or_default().narrow(*range);
    }
    let delay = |port: usize, column: usize| {
        sides[port].plan.facts.delay_of(column).expect("only event times are looked at")
    };
    let usefulness = |(columns, range): &(&(usize, usize), &Range)| {
        let bounded = usize::from(range.low.is_some()) + usize::from(range.high.is_some());
        let delays = delay(0, columns.0).saturating_add(delay(1, columns.1));
        (bounded, std::cmp::Reverse(delays))
    };
    let Some((&times, &range)) = ranges.iter().max_by_key(usefulness) else {
        return Ok(Bounds::none(conjuncts));
    };
    let role = |port: usize, column: usize| sides[port].plan.facts.windows[column];
    let is_same = |&(&(left, right), range): &(&(usize, usize), &Range)| {
        let of_one_kind = role(0, left)
            .zip(role(1, right))
            .is_some_and(|(left, right)| left.is_start() == right.is_start());
        of_one_kind && (range.low, range.high) == (Some(0), Some(0))
    };
    let same = ranges.iter().filter(is_same);
    let windows = same.flat_map(|(columns, _)| [(0, columns.0), (1, columns.1)]).collect();
    check_lateness_unit(sides, times.0, emit)?;
    let lateness = emit.allowed_lateness;
    let mut delays = Vec::new();
    for (&(left, right), range) in &ranges {
        let (own, other) = (delay(0, left), delay(1, right));
        if let Some(low) = range.low {
            delays.push((0, left, own.max(other.saturating_sub(low)).saturating_add(lateness)));
        }
        if let Some(high) = range.high {
            delays.push((1, right, other.max(own.saturating_add(high)).saturating_add(lateness)));
        }
    }
    let is_time = type_of(&sides[0].plan, times.0).is_temporal();
    let span = match (range.low, range.high) {
        (Some(low), Some(high)) => high.saturating_sub(low),
        _ => 0,
    };
    let within = Within {
        times: [times.0, times.1],
        low: range.low,
        high: range.high,
        delays: [delay(0, times.0), delay(1, times.1)],
        windows: role(0, times.0).is_some() && role(1, times.1).is_some(),
        allowed_lateness: lateness,
        granule: (span / 16).max(if is_time { 1_000_000 } else { 1 }),
    };
    let rest = conjuncts
        .into_iter()
        .zip(&read)
        .filter(|(_, read)| read.as_ref().is_none_or(|comparison| comparison.columns != times))
        .map(|(conjunct, _)| conjunct)
        .collect();
    Ok(Bounds { within: Some(within), rest, delays, windows })
}

/// A span of logical time is an integer, any other an interval.
pub(super) fn check_lateness_unit(
    sides: &[Built; 2],
    column: usize,
    emit: &EmitRequest,
) -> Result<(), PlanError> {
    let is_logical = type_of(&sides[0].plan, column).is_integer();
    if emit.allowed_lateness == 0 || emit.lateness_is_logical == is_logical {
        return Ok(());
    }
    let kind = if is_logical { "an integer" } else { "an interval" };
    Err(PlanError::Window {
        code: crate::error::SqlState::INVALID_PARAMETER,
        message: format!("ALLOWED LATENESS of a join over its time column must be {kind}"),
        hint: None,
    })
}

/// Whether both columns are event times of one kind.
pub(super) fn are_times(sides: &[Built; 2], (left, right): (usize, usize)) -> bool {
    let is_time = |port: usize, column: usize| sides[port].plan.facts.delay_of(column).is_some();
    let types = (type_of(&sides[0].plan, left), type_of(&sides[1].plan, right));
    let micros = |t: &DataType| matches!(t, DataType::Timestamp(TimeUnit::Microsecond, _));
    is_time(0, left)
        && is_time(1, right)
        && types.0 == types.1
        && (micros(types.0) || types.0.is_integer())
}

fn without_between(expr: Expr) -> Vec<Expr> {
    match expr {
        Expr::Between(Between { expr, negated: false, low, high }) => {
            vec![expr.clone().gt_eq(*low), expr.lt_eq(*high)]
        }
        other => vec![other],
    }
}

/// A conjunct that compares a left with a right event time, each with or without a constant.
fn comparison(sides: &[Built; 2], conjunct: &Expr) -> Option<Comparison> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = conjunct else { return None };
    let (a, b) = (point(sides, left)?, point(sides, right)?);
    // Written so that the left side's column stands on the left.
    let (a, op, b) = match (a.0, b.0) {
        (0, 1) => (a, *op, b),
        (1, 0) => (b, op.swap()?, a),
        _ => return None,
    };
    if !are_times(sides, (a.1, b.1)) {
        return None;
    }
    // a + x OP b + y  means  a - b OP y - x.
    let distance = b.2.checked_sub(a.2)?;
    let range = match op {
        Operator::Eq => Range { low: Some(distance), high: Some(distance) },
        Operator::GtEq => Range { low: Some(distance), high: None },
        Operator::Gt => Range { low: Some(distance.checked_add(1)?), high: None },
        Operator::LtEq => Range { low: None, high: Some(distance) },
        Operator::Lt => Range { low: None, high: Some(distance.checked_sub(1)?) },
        _ => return None,
    };
    Some(Comparison { columns: (a.1, b.1), range })
}

/// An event-time column plus a constant: side, column, constant.
fn point(sides: &[Built; 2], expr: &Expr) -> Option<(usize, usize, i64)> {
    match expr {
        Expr::Alias(alias) => point(sides, &alias.expr),
        Expr::Column(column) => (0..2).find_map(|port| {
            sides[port].schema.maybe_index_of_column(column)?;
            let column = sides[port].plain_column(expr)?;
            sides[port].plan.facts.delay_of(column)?;
            Some((port, column, 0))
        }),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => {
            let (point, width) = match (point(sides, left), width(right)) {
                (Some(point), Some(width)) => (point, width),
                _ => (point(sides, right)?, width(left)?),
            };
            Some((point.0, point.1, point.2.checked_add(width)?))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => {
            let point = point(sides, left)?;
            Some((point.0, point.1, point.2.checked_sub(width(right)?)?))
        }
        _ => None,
    }
}

/// A constant span: microseconds, or units of logical time. Months have no fixed width.
fn width(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    match value {
        ScalarValue::IntervalMonthDayNano(Some(span)) => {
            let micros = span.nanoseconds % 1_000 == 0;
            if span.months != 0 || !micros {
                return None;
            }
            i64::from(span.days).checked_mul(DAY)?.checked_add(span.nanoseconds / 1_000)
        }
        ScalarValue::IntervalDayTime(Some(span)) => {
            let millis = i64::from(span.milliseconds).checked_mul(1_000)?;
            i64::from(span.days).checked_mul(DAY)?.checked_add(millis)
        }
        ScalarValue::Int64(Some(units)) => Some(*units),
        ScalarValue::Int32(Some(units)) => Some(i64::from(*units)),
        ScalarValue::Int16(Some(units)) => Some(i64::from(*units)),
        _ => None,
    }
}
