//! Keeps what is asked first before what may fail: `x <> 0 AND 1 / x > 2`, `sum(1 / x) FILTER (WHERE x <> 0)`.
//!
//! Evaluation means row by row, left to right, short-circuiting. DataFusion evaluates both sides for all rows
//! of a batch and both an aggregate's arguments and its filter; CASE is the one expression whose branches it
//! evaluates for their own rows alone. So what may fail becomes a branch:
//!
//! ```text
//! a AND b                     CASE a WHEN false THEN false WHEN true THEN b ELSE NULL AND b END
//! a AND b in WHERE            CASE WHEN a THEN b ELSE false END
//! f(b) FILTER (WHERE a)       f(CASE WHEN a THEN b END) FILTER (WHERE a)
//! ```
//! Arguments are guarded before a plan is optimised, for then an expression that two aggregates share is
//! computed with its guard. Conditions are guarded after that, for rules move and split them; a continuous
//! query has no need of it, [`crate::operators::expr`] finds the rows that fail alone.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunctionParams, Case, WindowFunctionParams};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, lit};
use datafusion::optimizer::AnalyzerRule;

use crate::planner::expressions::rewrite_named;
use crate::planner::fallible::may_fail;

/// How often AND and OR take turns in a value before they are left as they are: each turn doubles the
/// innermost one.
const TURNS_MAX: usize = 8;

/// The rule for arguments of aggregates; it comes after types were coerced.
#[derive(Debug)]
pub(super) struct GuardedArguments;

impl AnalyzerRule for GuardedArguments {
    fn name(&self) -> &str {
        "guarded_arguments"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            let guarded = rewrite_named(node, |expr| {
                expr.transform_up(|part| Ok(guarded_call(part, &schema)))
            })?;
            match guarded.transformed {
                true => guarded.map_data(LogicalPlan::recompute_schema),
                false => Ok(guarded),
            }
        })?;
        Ok(plan.data)
    }
}

/// A call with a filter, whose arguments are computed for the rows that the filter keeps.
fn guarded_call(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::AggregateFunction(mut call) => {
            let AggregateFunctionParams { args, order_by, filter, .. } = &mut call.params;
            let keys = order_by.iter_mut().map(|sort| &mut sort.expr);
            let changed = guard(args.iter_mut().chain(keys), filter.as_deref(), schema);
            Transformed::new_transformed(Expr::AggregateFunction(call), changed)
        }
        Expr::WindowFunction(mut call) => {
            // The order of a window is that of all its rows.
            let WindowFunctionParams { args, filter, .. } = &mut call.params;
            let changed = guard(args.iter_mut(), filter.as_deref(), schema);
            Transformed::new_transformed(Expr::WindowFunction(call), changed)
        }
        other => Transformed::no(other),
    }
}

/// Makes values that may fail a branch below the filter; whether there is one.
fn guard<'a>(
    values: impl Iterator<Item = &'a mut Expr>,
    filter: Option<&Expr>,
    schema: &DFSchema,
) -> bool {
    let Some(filter) = filter else { return false };
    let mut changed = false;
    for value in values.filter(|value| may_fail(without_casts(value, schema))) {
        let branch = (Box::new(filter.clone()), Box::new(std::mem::take(value)));
        *value = Expr::Case(Case::new(None, vec![branch], None));
        changed = true;
    }
    changed
}

/// What is below casts to a type that holds each of their values.
fn without_casts<'a>(mut expr: &'a Expr, schema: &DFSchema) -> &'a Expr {
    while let Expr::Cast(Cast { expr: inner, field }) = expr {
        let Ok(from) = inner.get_type(schema) else { break };
        let holds = match field.data_type() {
            DataType::Float64 => from.is_numeric(),
            DataType::Int64 => from.is_signed_integer(),
            _ => false,
        };
        if !holds {
            break;
        }
        expr = inner;
    }
    expr
}

/// A plan that is optimised, as it is to be executed: of AND and OR, what comes second is computed where it
/// decides.
pub fn guard_conditions(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        let asks = match node {
            LogicalPlan::Filter(_) => Asks::Truth,
            _ => Asks::Value,
        };
        let guarded = rewrite_named(node, |expr| guarded(expr, asks, 0))?;
        match guarded.transformed {
            true => guarded.map_data(LogicalPlan::recompute_schema),
            false => Ok(guarded),
        }
    })?;
    Ok(plan.data)
}

/// What is wanted of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// Whether it is true: null is as good as false.
    Truth,
    /// True, false or null.
    Value,
}

fn guarded(expr: Expr, asks: Asks, turns: usize) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let mut parts = Vec::new();
            flatten(op, *left, &mut parts);
            flatten(op, *right, &mut parts);
            let mut parts = parts.into_iter().map(|part| {
                let guard = turns < TURNS_MAX && may_fail(&part);
                guarded(part, asks, turns + 1).map(|part| (guard, part))
            });
            let (_, mut all) = parts.next().expect("an operator has two sides")?;
            for part in parts {
                let (guard, next) = part?;
                all.transformed |= guard || next.transformed;
                all.data = match guard {
                    true => joined(all.data, op, next.data, asks),
                    false => {
                        Expr::BinaryExpr(BinaryExpr::new(all.data.into(), op, next.data.into()))
                    }
                };
            }
            Ok(all)
        }
        other => other.map_children(|child| guarded(child, Asks::Value, turns)),
    }
}

/// The parts that one operator joins, in order.
fn flatten(op: Operator, expr: Expr, parts: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryExpr(binary) if binary.op == op => {
            flatten(op, *binary.left, parts);
            flatten(op, *binary.right, parts);
        }
        part => parts.push(part),
    }
}

/// Both sides of AND or OR, with the second one computed where the first does not decide.
fn joined(first: Expr, op: Operator, second: Expr, asks: Asks) -> Expr {
    let decides = op == Operator::Or;
    let case = match (asks, op) {
        (Asks::Truth, Operator::Or) => {
            Case::new(None, vec![(first.into(), lit(true).into())], Some(second.into()))
        }
        (Asks::Truth, _) => {
            Case::new(None, vec![(first.into(), second.into())], Some(lit(false).into()))
        }
        (Asks::Value, _) => {
            let unknown = Expr::Literal(ScalarValue::Boolean(None), None).into();
            let of_null = Expr::BinaryExpr(BinaryExpr::new(unknown, op, second.clone().into()));
            let branches = vec![
                (lit(decides).into(), lit(decides).into()),
                (lit(!decides).into(), second.into()),
            ];
            Case::new(Some(first.into()), branches, Some(of_null.into()))
        }
    };
    Expr::Case(case)
}
