//! Refuses subqueries that still refer to rows two levels out where nothing could take them apart: in ON.
//!
//! ```text
//!   SELECT … FROM a JOIN d ON EXISTS (SELECT … FROM b WHERE EXISTS (SELECT … FROM c WHERE c.x = a.x))
//! ```
//! DataFusion resolves `a.x` in the innermost subquery, and makes joins one level at a time: there it is a
//! column that nobody has.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::planner::error::PlanError;
use crate::planner::expressions::subquery_of;

const HINT: &str =
    "Join the relations of both subqueries in one: EXISTS (SELECT 1 FROM b JOIN c ON … WHERE …).";

/// Checks every subquery of an expression.
pub(super) fn check(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.apply_with_subqueries(|node| {
        let outside = merge_schema(&node.inputs());
        node.apply_expressions(|expr| {
            expr.apply(|part| match columns_outside(part).find(|c| !outside.has_column(c)) {
                None => Ok(TreeNodeRecursion::Continue),
                Some(column) => {
                    let what = format!("a subquery that refers to \"{column}\", two levels out");
                    Err(PlanError::refused(&what, HINT).into())
                }
            })
        })
    })?;
    Ok(plan)
}

/// The columns outside that a subquery refers to; none if the expression is none.
pub(super) fn columns_outside(expr: &Expr) -> impl Iterator<Item = &Column> {
    let outer = subquery_of(expr).map_or(&[][..], |subquery| &subquery.outer_ref_columns);
    outer.iter().filter_map(|expr| match expr {
        Expr::OuterReferenceColumn(_, column) => Some(column),
        _ => None,
    })
}
