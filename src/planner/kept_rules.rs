//! Keeps two rules of DataFusion from putting nothing in the place of a stream.
//!
//! `ON false` and `LIMIT 0` have no rows, whatever comes. To DataFusion such a query reads nothing; a continuous one
//! is a query all the same, with columns and a watermark. So the condition is hidden from the rule about joins,
//! and the limit passes the other one by.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, FetchType, LogicalPlan, Volatility, lit};
use datafusion::optimizer::eliminate_join::EliminateJoin;
use datafusion::optimizer::eliminate_limit::EliminateLimit;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::planner::around_rule::AroundRule;
use crate::planner::marker::Marker;

/// Holds the condition of a join that is never true.
const NEVER: Marker = Marker {
    name: "__never",
    arguments: 1,
    volatility: Volatility::Immutable,
    is_transparent: true,
};

/// The same rule with those two in their places.
pub(super) fn kept(
    rule: Arc<dyn OptimizerRule + Send + Sync>,
) -> Arc<dyn OptimizerRule + Send + Sync> {
    let joins = AroundRule { rule: EliminateJoin::new(), rewrite: keep_joins };
    let limits = AroundRule { rule: EliminateLimit::new(), rewrite: keep_limits };
    match rule.name() {
        name if name == joins.name() => Arc::new(joins),
        name if name == limits.name() => Arc::new(limits),
        _ => rule,
    }
}

fn keep_joins(
    rule: &EliminateJoin,
    plan: LogicalPlan,
    config: &dyn OptimizerConfig,
) -> Result<Transformed<LogicalPlan>> {
    let hidden = plan.transform_up_with_subqueries(hide)?;
    let rewritten = rule.rewrite(hidden.data, config)?;
    match hidden.transformed {
        true => rewritten.map_data(|plan| Ok(plan.transform_up_with_subqueries(show)?.data)),
        false => Ok(rewritten),
    }
}

fn hide(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Join(mut join) if join.filter == Some(lit(false)) => {
            join.filter = Some(NEVER.function().call(vec![lit(false)]));
            Ok(Transformed::yes(LogicalPlan::Join(join)))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn show(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Join(mut join) => {
            let hidden = |filter: &Expr| NEVER.arguments_of(filter).is_some();
            let changed = join.filter.as_ref().is_some_and(hidden);
            if changed {
                join.filter = Some(lit(false));
            }
            let join = LogicalPlan::Join(join);
            Ok(if changed { Transformed::yes(join) } else { Transformed::no(join) })
        }
        other => Ok(Transformed::no(other)),
    }
}

fn keep_limits(
    rule: &EliminateLimit,
    plan: LogicalPlan,
    config: &dyn OptimizerConfig,
) -> Result<Transformed<LogicalPlan>> {
    if let LogicalPlan::Limit(limit) = &plan
        && matches!(limit.get_fetch_type()?, FetchType::Literal(Some(0)))
    {
        return Ok(Transformed::no(plan));
    }
    rule.rewrite(plan, config)
}
