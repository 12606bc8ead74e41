//! Reads the arguments of TREND, and lets every row count twice: now, and before a later window.
//!
//! ```text
//! TREND(TUMBLE(s, at, SIZE), ITEM => q, COMPARE_TO => d)
//!   trend(q, before) over TUMBLE(…, at, SIZE) of
//!     Union
//!       at, q, false AS before       of s
//!       at + d, q, true AS before    of s
//! ```
//!
//! A row at `t` is one of the window of `t` now, and of the window of `t + d` before. So both windows are
//! aggregated as one: by slices, with late rows, snapshots and EMIT as any other. The watermark of `at`
//! bounds `at + d` as well, because d is not negative ([`is_later`]).

use std::any::Any;
use std::sync::{Arc, LazyLock};

use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::scalar::ScalarValue;

use crate::error::SqlState;
use crate::operators::aggregates::mining::heavy_hitters::HeavyHitters;
use crate::operators::aggregates::mining::trend::TrendMiner;
use crate::planner::constants;
use crate::planner::error::PlanError;
use crate::planner::heavy_hitters_call::fraction;
use crate::planner::mining_call::{Mining, Named, comparable, expressions, mine};
use crate::planner::relation_call::{Call, Parameters};
use crate::planner::window_node::{WindowKind, WindowNode};
use crate::sketches::fraction::Fraction;
use crate::sketches::trend::Thresholds;
use crate::windows::spec::{Span, TimeWindowKind};

/// Arguments of TREND.
pub(super) const PARAMETERS: Parameters = (
    &["relation", "item", "compare_to"],
    &["by", "min_support", "min_ratio", "min_difference", "confidence"],
);

const TIME: &str = "__time";
const BEFORE: &str = "__before";

/// Plans a call in FROM.
pub(super) fn plan(call: &Call, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let input = context.plan(call.relation()?)?;
    let window = window_of(call, &input)?;
    let size = size_of_window(call, window)?;
    let schema = Arc::clone(window.input.schema());
    call.required("item")?;
    let items = expressions(call, "item", &schema, context)?;
    let by = expressions(call, "by", &schema, context)?;
    let types = comparable(call, &items, &schema, HeavyHitters::takes)?;
    comparable(call, &by, &schema, HeavyHitters::takes)?;
    let time = window.time.clone().ok_or_else(|| call.missing("time"))?;
    let time_type = time.get_type(&schema)?;
    let distance = distance(call, size, &time_type, context)?;
    let thresholds = thresholds(call, context)?;

    let column = |kind: &str, i: usize| format!("__{kind}_{i}");
    let named = |kind: &'static str, list: &[Named]| -> Vec<Expr> {
        let alias = |(i, item): (usize, &Named)| item.expr.clone().alias(column(kind, i));
        list.iter().enumerate().map(alias).collect()
    };
    let branch = |time: Expr, before: bool| -> Result<LogicalPlan> {
        let columns = [time.alias(TIME), lit(before).alias(BEFORE)].into_iter();
        let columns = columns.chain(named("item", &items)).chain(named("by", &by));
        LogicalPlanBuilder::from(window.input.clone()).project(columns.collect::<Vec<_>>())?.build()
    };
    let now = branch(time.clone(), false)?;
    let before = branch(later().call(vec![time, Expr::Literal(distance, None)]), true)?;
    let rows = LogicalPlanBuilder::from(now).union(before)?.build()?;
    let place = |name: String| Expr::Column(Column::new_unqualified(name));
    let time = Some(place(TIME.to_string()));
    let window = WindowNode::new(rows, window.kind.clone(), time, vec![], (None, None))?;
    let input = LogicalPlan::Extension(Extension { node: Arc::new(window) });

    let miner = TrendMiner { thresholds, item: types };
    let mut arguments: Vec<Expr> = (0..items.len()).map(|i| place(column("item", i))).collect();
    arguments.push(place(BEFORE.to_string()));
    let by = by.into_iter().enumerate();
    let by = by.map(|(i, key)| Named { expr: place(column("by", i)), name: key.name }).collect();
    let mut columns: Vec<String> = items.into_iter().map(|item| item.name).collect();
    columns.extend(miner.columns());
    mine(input, Mining { miner: Arc::new(miner), arguments, by, columns })
}

/// The window that the first argument must be.
fn window_of<'p>(call: &Call, input: &'p LogicalPlan) -> Result<&'p WindowNode, PlanError> {
    let node = match input {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<WindowNode>(),
        _ => None,
    };
    node.ok_or_else(|| PlanError::Window {
        code: SqlState::WINDOWING,
        message: format!("first argument of {} must be a window", call.function),
        hint: Some("Write for example TREND(TUMBLE(s, at, INTERVAL '1 day'), …).".into()),
    })
}

/// The width of the window, which is the distance of the one before. `None` where there are several.
fn size_of_window(call: &Call, window: &WindowNode) -> Result<Option<Span>, PlanError> {
    if let WindowKind::Time(time) = &window.kind {
        match time.kind {
            TimeWindowKind::Tumble { size }
            | TimeWindowKind::Hop { size, .. }
            | TimeWindowKind::Cumulate { size, .. } => return Ok(Some(size)),
            TimeWindowKind::Horizons { .. } => return Ok(None),
            TimeWindowKind::Landmark { .. } => {}
        }
    }
    let what = format!("{} over {}", call.function, window.kind.name());
    Err(PlanError::unsupported(what, "Use TUMBLE, HOP or CUMULATE, whose windows have a size."))
}

/// How far the window lies back that is compared with, as what is added to a time.
fn distance(
    call: &Call,
    size: Option<Span>,
    time_type: &DataType,
    context: &mut dyn RelationPlannerContext,
) -> Result<ScalarValue> {
    let is_logical = time_type.is_integer();
    let is_date = matches!(time_type, DataType::Date32 | DataType::Date64);
    let wanted = match (is_logical, is_date) {
        (true, _) => "'previous' or a positive integer",
        (_, true) => "'previous' or a positive interval of whole days",
        _ => "'previous' or a positive interval",
    };
    let value = call.literal("compare_to", context)?.ok_or_else(|| call.missing("compare_to"))?;
    let is_previous =
        constants::text(&value).is_some_and(|text| text.eq_ignore_ascii_case("previous"));
    if is_previous && size.is_none() {
        return Err(PlanError::unsupported(
            "COMPARE_TO => 'previous' over windows of several sizes",
            "Name the distance: it is the same for windows of every size. Or ask one TREND per size.",
        )
        .into());
    }
    let span = if is_previous { size } else { constants::span(&value) };
    let fits = is_previous || value.data_type().is_integer() == is_logical;
    let interval = |months: i64, days: i64, micros: i64| {
        let months = i32::try_from(months).ok()?;
        let days = i32::try_from(days).ok()?;
        let interval = IntervalMonthDayNano::new(months, days, micros.checked_mul(1_000)?);
        Some(ScalarValue::IntervalMonthDayNano(Some(interval)))
    };
    let distance = match span.filter(|_| fits) {
        Some(Span::Fixed(width)) if is_logical => {
            ScalarValue::Int64(Some(width)).cast_to(time_type).ok()
        }
        Some(Span::Fixed(micros)) if is_date && micros % constants::DAY != 0 => None,
        Some(Span::Fixed(micros)) => interval(0, micros / constants::DAY, micros % constants::DAY),
        Some(Span::Days(days)) => interval(0, days, 0),
        Some(Span::Months(months)) => interval(months, 0, 0),
        None => None,
    };
    Ok(distance.ok_or_else(|| call.bad("compare_to", wanted))?)
}

fn thresholds(call: &Call, context: &mut dyn RelationPlannerContext) -> Result<Thresholds> {
    let support = fraction(call, "min_support", context)?.unwrap_or(Fraction::ZERO);
    if support.exceeds(Fraction::ONE) {
        return Err(call.bad("min_support", "between 0 and 1").into());
    }
    let ratio = match call.literal("min_ratio", context)? {
        None => 2.0,
        Some(value) => match value.cast_to(&DataType::Float64) {
            Ok(ScalarValue::Float64(Some(ratio))) if ratio.is_finite() && ratio >= 0.0 => ratio,
            _ => return Err(call.bad("min_ratio", "a number of at least 0").into()),
        },
    };
    let difference = match call.literal("min_difference", context)? {
        None => 1,
        Some(value) => {
            constants::integer(&value).ok_or_else(|| call.bad("min_difference", "an integer"))?
        }
    };
    let confidence = fraction(call, "confidence", context)?;
    if confidence.is_some_and(|share| share.is_zero() || !Fraction::ONE.exceeds(share)) {
        return Err(call.bad("confidence", "above 0 and below 1").into());
    }
    Ok(Thresholds { support, ratio, confidence, difference })
}

/// `time + distance` with a distance that is not negative.
fn later() -> &'static Arc<ScalarUDF> {
    static LATER: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let signature = Signature::any(2, Volatility::Immutable);
        Arc::new(ScalarUDF::from(Later { signature }))
    });
    &LATER
}

/// The time of which an expression is a later one: what bounds it from below bounds both.
pub(super) fn is_later(expr: &Arc<dyn PhysicalExpr>) -> Option<&Arc<dyn PhysicalExpr>> {
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    let is_ours = (call.fun().inner().as_ref() as &dyn Any).is::<Later>();
    call.args().first().filter(|_| is_ours)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Later {
    signature: Signature,
}

impl ScalarUDFImpl for Later {
    fn name(&self) -> &str {
        "__later"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let time = args.args[0].to_array(args.number_rows)?;
        let distance = args.args[1].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(numeric::add(&time, &distance)?))
    }
}
