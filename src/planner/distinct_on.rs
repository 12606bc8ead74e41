//! Writes DISTINCT ON as what it means: the first row of each group in the order of ORDER BY.
//!
//! It is done before the optimiser sees the plan: DataFusion's own rule makes an aggregate of it, which
//! wants a registry of functions that there is none of here.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Distinct, DistinctOn, Expr, LogicalPlan, LogicalPlanBuilder, Projection, WindowFrame,
    WindowFunctionDefinition, lit,
};

/// The number of a row in its group.
const NUMBER: &str = "__distinct_on";

/// Rewrites every DISTINCT ON of a plan.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Distinct(Distinct::On(on)) => Ok(Transformed::yes(first_rows(on)?)),
        other => Ok(Transformed::no(other)),
    });
    Ok(rewritten?.data)
}

fn first_rows(on: DistinctOn) -> Result<LogicalPlan> {
    let mut call =
        WindowFunction::new(WindowFunctionDefinition::WindowUDF(row_number_udwf()), vec![]);
    let sorts = on.sort_expr.unwrap_or_default();
    // Within a group the first expressions of ORDER BY are all equal.
    let order_by: Vec<_> =
        sorts.into_iter().filter(|sort| !on.on_expr.contains(&sort.expr)).collect();
    call.params.order_by = order_by;
    call.params.partition_by = on.on_expr;
    call.params.window_frame = WindowFrame::new(match call.params.order_by.is_empty() {
        true => None,
        false => Some(false),
    });
    let number = Expr::from(call).alias(NUMBER);
    let numbered = LogicalPlanBuilder::from(Arc::unwrap_or_clone(on.input)).window(vec![number])?;
    let is_first = Expr::Column(Column::new_unqualified(NUMBER)).lt_eq(lit(1_u64));
    let first = numbered.filter(is_first)?.build()?;
    let projection = Projection::try_new_with_schema(on.select_expr, Arc::new(first), on.schema)?;
    Ok(LogicalPlan::Projection(projection))
}
