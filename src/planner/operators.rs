//! Refuses operators that DataFusion parses, and nobody computes: those of JSON paths, of changes to JSON, and of
//! text search.
//!
//! What is computed (`@>` of arrays, [`super::json_operators`]) has become functions by then.

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

use crate::planner::error::PlanError;

/// What there is instead.
const HINT: &str =
    "Of JSON there are ->, ->>, #>, #>>, @>, <@, ?, ?| and ?&; of texts LIKE and regexp_match.";

/// Looks at all expressions of a plan.
pub(super) fn check(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| check_expr(expr).map(|()| TreeNodeRecursion::Continue))
    })?;
    Ok(plan)
}

/// Looks at one.
pub(super) fn check_expr(expr: &Expr) -> Result<()> {
    expr.apply(|part| match part {
        Expr::BinaryExpr(binary) if !is_computed(binary.op) => {
            Err(PlanError::refused(&format!("operator {}", binary.op), HINT).into())
        }
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    Ok(())
}

fn is_computed(op: Operator) -> bool {
    !matches!(
        op,
        Operator::Arrow
            | Operator::LongArrow
            | Operator::HashArrow
            | Operator::HashLongArrow
            | Operator::HashMinus
            | Operator::AtArrow
            | Operator::ArrowAt
            | Operator::AtAt
            | Operator::AtQuestion
            | Operator::Question
            | Operator::QuestionAnd
            | Operator::QuestionPipe
            | Operator::Colon
            | Operator::IntegerDivide
    )
}
