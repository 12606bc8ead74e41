//! Compares intervals by their lengths, as PostgreSQL does: a month is 30 days, a day 24 hours.
//!
//! DataFusion and Arrow compare intervals field by field, so that 25 hours were less than one day. Where
//! intervals are compared or put in order, their lengths are; the least and the greatest are those of keys
//! that sort by length and hold the interval. Where equal intervals would have to become one (groups,
//! DISTINCT, sets) it is refused, because which of `1 day` and `24 hours` is shown would be chance.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::{
    AggregateFunction, InList, WindowFunction, WindowFunctionParams,
};
use datafusion::logical_expr::{
    Aggregate, Between, BinaryExpr, Distinct, Expr, ExprSchemable, GroupingSet, LogicalPlan,
    Operator,
};

use crate::error::SqlState;
use crate::operators::aggregates::bounds::{DISTINCT_BOUNDS, DISTINCT_EXCEPT, DISTINCT_WHERE};
use crate::planner::error::PlanError;
use crate::planner::value_functions::ValueFunction;

fn is_interval(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Interval(_)))
}

fn holds_intervals(found: &DataType) -> bool {
    match found {
        DataType::Interval(_) => true,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            holds_intervals(item.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| holds_intervals(field.data_type())),
        _ => false,
    }
}

/// Aggregates that tell values apart by their bytes.
const TOLD_APART_BY: [&str; 8] = [
    "heavy_hitters",
    "frequent_itemsets",
    "association_rules",
    "trend",
    DISTINCT_BOUNDS,
    DISTINCT_EXCEPT,
    DISTINCT_WHERE,
    "approx_distinct",
];

/// The lengths of two intervals compare as the intervals do.
pub(super) fn compare(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let length = |expr: Box<Expr>| Box::new(ValueFunction::IntervalLength.call(*expr));
    let of = |expr: &Expr| is_interval(expr, schema);
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if compares(op) && of(&left) && of(&right) =>
        {
            let (left, right) = (length(left), length(right));
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
        }
        Expr::Between(Between { expr, negated, low, high }) if of(&expr) => {
            let (expr, low, high) = (length(expr), length(low), length(high));
            Ok(Transformed::yes(Expr::Between(Between { expr, negated, low, high })))
        }
        Expr::InList(InList { expr, list, negated }) if of(&expr) => {
            let list = list.into_iter().map(|item| ValueFunction::IntervalLength.call(item));
            let (expr, list) = (length(expr), list.collect());
            Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
        }
        Expr::Case(mut case) if case.expr.as_ref().is_some_and(|base| of(base)) => {
            case.expr = case.expr.map(length);
            let whens = case.when_then_expr.into_iter();
            case.when_then_expr = whens.map(|(when, then)| (length(when), then)).collect();
            Ok(Transformed::yes(Expr::Case(case)))
        }
        Expr::ScalarFunction(call)
            if ["greatest", "least", "nullif"].contains(&call.func.name())
                && call.args.iter().any(of) =>
        {
            Err(refused(&format!("{}() of intervals", call.func.name()), COMPARE))
        }
        Expr::InSubquery(asked) if of(&asked.expr) => {
            Err(refused("IN (SELECT …) of intervals", EPOCH))
        }
        Expr::AggregateFunction(mut call) => {
            let mut changed = false;
            for key in &mut call.params.order_by {
                changed |= measure(&mut key.expr, schema);
            }
            Ok(Transformed::new_transformed(Expr::AggregateFunction(call), changed))
        }
        Expr::WindowFunction(window)
            if ["min", "max"].contains(&window.fun.name()) && window.params.args.iter().any(of) =>
        {
            Err(refused(&format!("{}() OVER intervals", window.fun.name()), EPOCH))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Whether an operator compares values.
pub(super) fn compares(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

/// Gives the keys of OVER lengths, before DataFusion looks at what a frame may count in.
pub(super) fn order_over(mut window: Box<WindowFunction>, schema: &DFSchema) -> Transformed<Expr> {
    let WindowFunctionParams { partition_by, order_by, .. } = &mut window.params;
    let mut changed = false;
    for key in partition_by.iter_mut().chain(order_by.iter_mut().map(|key| &mut key.expr)) {
        changed |= measure(key, schema);
    }
    Transformed::new_transformed(Expr::WindowFunction(window), changed)
}

/// Puts an interval's length in its place.
fn measure(key: &mut Expr, schema: &DFSchema) -> bool {
    let interval = is_interval(key, schema);
    if interval {
        *key = ValueFunction::IntervalLength.call(std::mem::take(key));
    }
    interval
}

const EPOCH: &str = "Use date_part('epoch', …), its length in seconds.";
const COMPARE: &str = "Compare them with CASE WHEN … > … THEN ….";

fn refused(what: &str, hint: &str) -> DataFusionError {
    PlanError::Refused {
        code: SqlState::NOT_SUPPORTED,
        message: format!("{what} is not supported"),
        hint: Some(hint.to_owned()),
    }
    .into()
}

/// Orders and joins compare lengths; what makes equal intervals one is refused.
pub(super) fn of_node(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Sort(mut sort) => {
            for key in &mut sort.expr {
                measure(&mut key.expr, sort.input.schema());
            }
            Ok(LogicalPlan::Sort(sort))
        }
        LogicalPlan::Join(mut join) => {
            for (left, right) in &mut join.on {
                if is_interval(left, join.left.schema()) && is_interval(right, join.right.schema())
                {
                    measure(left, join.left.schema());
                    measure(right, join.right.schema());
                }
            }
            Ok(LogicalPlan::Join(join))
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let fields = input.schema().fields();
            if fields.iter().any(|field| matches!(field.data_type(), DataType::Interval(_))) {
                return Err(refused("DISTINCT, or a set, of intervals", EPOCH));
            }
            Ok(LogicalPlan::Distinct(Distinct::All(input)))
        }
        // Which of equal ones is shown, its order says.
        LogicalPlan::Distinct(Distinct::On(mut on)) => {
            let sorts = on.sort_expr.iter_mut().flatten().map(|sort| &mut sort.expr);
            for key in on.on_expr.iter_mut().chain(sorts) {
                measure(key, on.input.schema());
            }
            Ok(LogicalPlan::Distinct(Distinct::On(on)))
        }
        LogicalPlan::Aggregate(aggregate) => {
            let schema = Arc::clone(aggregate.input.schema());
            let grouped = |expr: &Expr| is_interval(expr, &schema);
            let keys = aggregate.group_expr.iter().any(|key| match key {
                Expr::GroupingSet(GroupingSet::GroupingSets(sets)) => {
                    sets.iter().flatten().any(grouped)
                }
                Expr::GroupingSet(GroupingSet::Rollup(keys) | GroupingSet::Cube(keys)) => {
                    keys.iter().any(grouped)
                }
                key => grouped(key),
            });
            if keys {
                return Err(refused("GROUP BY an interval", EPOCH));
            }
            Ok(LogicalPlan::Aggregate(aggregate))
        }
        other => Ok(other),
    }
}

/// The call of an aggregate under whatever alias.
fn call_of(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::Alias(alias) => call_of(&alias.expr),
        Expr::AggregateFunction(call) => Some(call),
        _ => None,
    }
}

/// `min` and `max` of intervals are those of their keys; DISTINCT counts lengths. Tells which columns are
/// keys now.
pub(super) fn extremes(plan: LogicalPlan) -> Result<(LogicalPlan, BTreeSet<usize>)> {
    let LogicalPlan::Aggregate(aggregate) = plan else { return Ok((plan, BTreeSet::new())) };
    let schema = Arc::clone(aggregate.input.schema());
    let of_interval = |call: &AggregateFunction| {
        call.params.args.first().is_some_and(|arg| is_interval(arg, &schema))
    };
    let mut keyed = vec![false; aggregate.aggr_expr.len()];
    let mut changed = false;
    for (index, expr) in aggregate.aggr_expr.iter().enumerate() {
        let Some(call) = call_of(expr) else { continue };
        let holds = |arg: &Expr| arg.get_type(&schema).is_ok_and(|found| holds_intervals(&found));
        if TOLD_APART_BY.contains(&call.func.name()) && call.params.args.iter().any(holds) {
            return Err(refused(&format!("{}() of intervals", call.func.name()), EPOCH));
        }
        if !of_interval(call) {
            continue;
        }
        keyed[index] = ["min", "max"].contains(&call.func.name());
        let distinct = call.params.distinct && !keyed[index];
        if distinct && call.func.name() != count_udaf().name() {
            return Err(refused("an aggregate of DISTINCT intervals", EPOCH));
        }
        changed |= keyed[index] || distinct;
    }
    if !changed {
        return Ok((LogicalPlan::Aggregate(aggregate), BTreeSet::new()));
    }
    let old = Arc::clone(&aggregate.schema);
    let first = old.fields().len() - keyed.len();
    let calls = aggregate.aggr_expr.into_iter().enumerate().map(|(index, expr)| {
        let (relation, field) = old.qualified_field(first + index);
        let function = match keyed[index] {
            true => ValueFunction::IntervalKey,
            false => ValueFunction::IntervalLength,
        };
        let rewritten = expr.transform_up(|part| match part {
            Expr::AggregateFunction(mut call)
                if of_interval(&call) && (keyed[index] || call.params.distinct) =>
            {
                let value = call.params.args.remove(0);
                call.params.args.insert(0, function.clone().call(value));
                Ok(Transformed::yes(Expr::AggregateFunction(call)))
            }
            part => Ok(Transformed::no(part)),
        })?;
        Ok(match rewritten.data {
            Expr::Alias(alias) => Expr::Alias(alias),
            bare => bare.alias_qualified(relation.cloned(), field.name()),
        })
    });
    let calls = calls.collect::<Result<Vec<_>>>()?;
    let aggregate = Aggregate::try_new(aggregate.input, aggregate.group_expr, calls)?;
    let keys = (0..keyed.len()).filter(|call| keyed[*call]).map(|call| first + call);
    Ok((LogicalPlan::Aggregate(aggregate), keys.collect()))
}
