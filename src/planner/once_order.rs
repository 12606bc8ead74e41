//! Takes from a SELECT's orders what DataFusion would draw wrong conclusions from.
//!
//! *A key of ORDER BY that repeats one before it decides nothing.* Of `a DESC NULLS FIRST, b DESC NULLS LAST`,
//! where `a` and `b` are one column by two names, DataFusion lets the second decide.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::Sort as SortKey;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::planner::expressions::rewrite_named;

/// Rewrites sorts and calls with OVER.
#[derive(Debug)]
pub(super) struct OnceOrder;

impl OptimizerRule for OnceOrder {
    fn name(&self) -> &str {
        "once_order"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Sort(mut sort) => {
                let before = sort.expr.len();
                sort.expr = distinct_keys(sort.expr, &sort.input);
                let changed = sort.expr.len() < before;
                let plan = LogicalPlan::Sort(sort);
                Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
            }
            LogicalPlan::Distinct(Distinct::On(mut on)) => {
                let keys = on.on_expr.len();
                on.on_expr = distinct_exprs(on.on_expr, &on.input);
                let sorts = on.sort_expr.as_ref().map_or(0, Vec::len);
                on.sort_expr = on.sort_expr.map(|sorts| distinct_keys(sorts, &on.input));
                let changed = on.on_expr.len() < keys
                    || on.sort_expr.as_ref().is_some_and(|kept| kept.len() < sorts);
                let plan = LogicalPlan::Distinct(Distinct::On(on));
                Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
            }
            LogicalPlan::Window(window) => {
                let input = Arc::clone(&window.input);
                rewrite_named(LogicalPlan::Window(window), |call| {
                    call.transform(|expr| over(expr, &input))
                })
            }
            plan => Ok(Transformed::no(plan)),
        }
    }
}

fn over(expr: Expr, input: &LogicalPlan) -> Result<Transformed<Expr>> {
    let Expr::WindowFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
    let before = call.params.order_by.len();
    call.params.order_by = distinct_keys(std::mem::take(&mut call.params.order_by), input);
    let changed = call.params.order_by.len() < before;
    let expr = Expr::WindowFunction(call);
    Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
}

/// The keys without those that repeat one before them.
fn distinct_keys(keys: Vec<SortKey>, input: &LogicalPlan) -> Vec<SortKey> {
    let mut seen: Vec<Expr> = Vec::with_capacity(keys.len());
    let is_new = |key: &SortKey| {
        let source = source(key.expr.clone(), input);
        let new = source.is_volatile() || !seen.contains(&source);
        seen.push(source);
        new
    };
    keys.into_iter().filter(is_new).collect()
}

/// The expressions of DISTINCT ON without those that repeat one before them.
fn distinct_exprs(exprs: Vec<Expr>, input: &LogicalPlan) -> Vec<Expr> {
    let keys = exprs.into_iter().map(|expr| expr.sort(true, false)).collect();
    distinct_keys(keys, input).into_iter().map(|key| key.expr).collect()
}

/// What a column is below projections and other names.
fn source(expr: Expr, input: &LogicalPlan) -> Expr {
    let Expr::Column(column) = &expr else { return expr };
    let found = input.schema().maybe_index_of_column(column);
    let Some(index) = found else { return expr };
    match input {
        LogicalPlan::Projection(projection) => {
            let below = projection.expr[index].clone().unalias();
            // What is drawn twice is two columns.
            if below.is_volatile() { expr } else { source(below, &projection.input) }
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let below = alias.input.schema().columns().swap_remove(index);
            source(Expr::Column(below), &alias.input)
        }
        LogicalPlan::Filter(filter) => source(expr, &filter.input),
        LogicalPlan::Distinct(Distinct::All(below)) => source(expr, below),
        _ => expr,
    }
}
