//! Tells `sum(v)` from `sum(CAST(v AS DOUBLE))`, which have one name in DataFusion: names leave casts out.
//!
//! While a query is planned, what has a cast inside is named in full where a function takes it; then the names go, and
//! each call keeps the one that it got by them. Only a query that cannot be planned otherwise is: names are seen.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::Sort as SortKey;
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr,
};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::planner::expressions::rewrite_named;

/// Names arguments and keys of aggregates and window functions.
#[derive(Debug)]
pub(super) struct CastNames;

impl ExprPlanner for CastNames {
    fn plan_aggregate(
        &self,
        mut call: RawAggregateExpr,
    ) -> Result<PlannerResult<RawAggregateExpr>> {
        named(&mut call.args)?;
        named_keys(&mut call.order_by)?;
        Ok(PlannerResult::Original(call))
    }

    fn plan_window(&self, mut call: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        named(&mut call.args)?;
        named(&mut call.partition_by)?;
        named_keys(&mut call.order_by)?;
        Ok(PlannerResult::Original(call))
    }
}

fn named_keys(keys: &mut [SortKey]) -> Result<()> {
    keys.iter_mut().try_for_each(|key| named(std::slice::from_mut(&mut key.expr)))
}

fn named(exprs: &mut [Expr]) -> Result<()> {
    for expr in exprs {
        if expr.exists(|part| Ok(matches!(part, Expr::Cast(_) | Expr::TryCast(_))))? {
            let name = expr.to_string();
            *expr = std::mem::take(expr).alias(name);
        }
    }
    Ok(())
}

/// Takes the names out of the calls again; these keep their own.
pub(super) fn forget(plan: LogicalPlan) -> Result<LogicalPlan> {
    let forgotten = plan.transform_down_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => rewrite_named(node, |expr| {
            expr.transform_down(|part| match part {
                Expr::AggregateFunction(_) | Expr::WindowFunction(_) => {
                    part.map_children(|inner| Ok(Transformed::yes(inner.unalias())))
                }
                part => Ok(Transformed::no(part)),
            })
        }),
        node => Ok(Transformed::no(node)),
    });
    Ok(forgotten?.data)
}
