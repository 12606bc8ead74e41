//! Refuses operators that DataFusion parses, and cannot compute: those of JSON and of text search.
//!
//! What it computes of them (`@>` of arrays) it has made functions of by then.

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

use crate::planner::error::PlanError;

/// What there is instead.
const HINT: &str = "JSON is kept as text. Give what you ask of it a column of its own in the stream, or take it out of \
                    the text with regexp_match.";

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
