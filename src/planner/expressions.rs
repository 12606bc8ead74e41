//! Rewrites the expressions of a node, each under the name that it had, spells functions out, and tells
//! expressions that take rows.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchemaRef, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};

use crate::planner::functions;

/// Rewrites every expression of a node; its columns keep their names.
pub(super) fn rewrite_named(
    node: LogicalPlan,
    mut rewrite: impl FnMut(Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(rewrite(expr)?.update_data(|expr| name.restore(expr)))
    })
}

/// How often functions that stand for others may stand for each other.
const SPELLED_MAX: usize = 4;

/// The expression with what functions stand for: `coalesce` is a CASE, and cannot be run itself. In a plan
/// DataFusion's rules do it; this is for expressions that they do not see.
pub(super) fn spelled_out(mut expr: Expr, schema: &DFSchemaRef) -> Result<Expr> {
    let options = Arc::clone(functions::state().config_options());
    let context = SimplifyContext::builder().with_schema(Arc::clone(schema));
    let context = context.with_config_options(options).build();
    for _ in 0..SPELLED_MAX {
        let spelled = expr.transform_up(|part| {
            let Expr::ScalarFunction(ScalarFunction { func, args }) = part else {
                return Ok(Transformed::no(part));
            };
            Ok(match func.simplify(args, &context)? {
                ExprSimplifyResult::Simplified(other) => Transformed::yes(other),
                ExprSimplifyResult::Original(args) => {
                    Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }))
                }
            })
        })?;
        expr = spelled.data;
        if !spelled.transformed {
            break;
        }
    }
    Ok(expr)
}

/// The subquery of an expression that has one itself.
pub(super) fn subquery_in(part: &mut Expr) -> Option<&mut Subquery> {
    match part {
        Expr::Exists(call) => Some(&mut call.subquery),
        Expr::InSubquery(call) => Some(&mut call.subquery),
        Expr::SetComparison(call) => Some(&mut call.subquery),
        Expr::ScalarSubquery(subquery) => Some(subquery),
        _ => None,
    }
}

/// The same, to look at.
pub(super) fn subquery_of(part: &Expr) -> Option<&Subquery> {
    match part {
        Expr::Exists(call) => Some(&call.subquery),
        Expr::InSubquery(call) => Some(&call.subquery),
        Expr::SetComparison(call) => Some(&call.subquery),
        Expr::ScalarSubquery(subquery) => Some(subquery),
        _ => None,
    }
}

/// Whether an expression refers to a row outside of its subquery.
pub(super) fn is_correlated(expr: &Expr) -> Result<bool> {
    expr.exists(|part| Ok(matches!(part, Expr::OuterReferenceColumn(..))))
}

/// Whether an expression asks for rows of its own, or makes several of one.
pub(super) fn takes_rows(part: &Expr) -> bool {
    matches!(
        part,
        Expr::ScalarSubquery(_)
            | Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::Unnest(_)
    )
}
