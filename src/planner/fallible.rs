//! Tells which conditions can fail on a row, so that what is asked before them must stay before them.

use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::{Expr, Operator};

use crate::planner::interval_order::compares;
use crate::planner::value_functions::ValueFunction;

/// Whether a condition may be an error for some row: anything but comparisons, and what joins them. A
/// subquery is joined.
pub(super) fn may_fail(condition: &Expr) -> bool {
    let fails = condition.exists(|expr| {
        Ok(match expr {
            Expr::BinaryExpr(binary) => {
                !compares(binary.op) && !matches!(binary.op, Operator::And | Operator::Or)
            }
            Expr::Column(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::Literal(..)
            | Expr::Alias(_)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Between(_)
            | Expr::InList(_)
            | Expr::Like(_)
            | Expr::InSubquery(_)
            | Expr::Exists(_)
            | Expr::ScalarSubquery(_) => false,
            expr => !ValueFunction::is_total(expr),
        })
    });
    fails.expect("nothing above is an error")
}
