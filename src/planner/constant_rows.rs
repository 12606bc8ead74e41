//! Puts the columns of a relation of one constant row beside the rows that it is joined with.
//!
//! `FROM s, (SELECT 10 AS most) AS p` and `WITH p AS (SELECT 10 AS most) …` are ways to name a value. No log holds
//! that row, so a continuous query could not read it; it needs no join either:
//!
//! ```text
//!   s JOIN (SELECT 10 AS most) AS p ON s.v < p.most     =     SELECT s.*, 10 AS most FROM s WHERE s.v < most
//! ```

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, JoinType, NullEquality, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, lit};

use crate::planner::expressions::takes_rows;
use crate::planner::join_as_of::marker;

/// Rewrites every such join of a plan that was just bound.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match beside(&join)? {
            Some(plan) => Ok(Transformed::yes(plan)),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        other => Ok(Transformed::no(other)),
    });
    Ok(rewritten?.data)
}

fn beside(join: &Join) -> Result<Option<LogicalPlan>> {
    if join.null_equality != NullEquality::NullEqualsNothing {
        return Ok(None);
    }
    let equal = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    let condition = conjunction(equal.chain(join.filter.clone())).filter(|part| *part != lit(true));
    let marks = |condition: &Expr| {
        split_conjunction(condition).into_iter().any(|part| marker(part).is_some())
    };
    if condition.as_ref().is_some_and(marks) {
        return Ok(None);
    }
    let (rows, values, on_left) = match join.join_type {
        JoinType::Inner | JoinType::Left => match (constants(&join.right)?, constants(&join.left)?)
        {
            // A row that the condition refuses would have nulls here.
            (Some(_), _) if join.join_type == JoinType::Left && condition.is_some() => {
                return Ok(None);
            }
            (Some(values), None) => (&join.left, values, false),
            (None, Some(values)) if join.join_type == JoinType::Inner => {
                (&join.right, values, true)
            }
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let own = rows.schema().columns().into_iter().map(Expr::Column);
    let exprs: Vec<Expr> = match on_left {
        true => values.into_iter().chain(own).collect(),
        false => own.chain(values).collect(),
    };
    let mut plan = LogicalPlanBuilder::from(Arc::clone(rows)).project(exprs)?;
    if let Some(condition) = condition {
        plan = plan.filter(condition)?;
    }
    Ok(Some(plan.build()?))
}

/// The columns of a relation that is one row of constants, under their names.
fn constants(plan: &LogicalPlan) -> Result<Option<Vec<Expr>>> {
    Ok(match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            let Some(values) = constants(&alias.input)? else { return Ok(None) };
            let values = values.into_iter().zip(alias.schema.columns());
            Some(values.map(|(value, name)| named(value, name)).collect())
        }
        LogicalPlan::Projection(projection) => match projection.input.as_ref() {
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => {
                let plain = projection.expr.iter().map(is_plain).collect::<Result<Vec<bool>>>()?;
                let columns = projection.expr.iter().cloned().zip(projection.schema.columns());
                let values = columns.map(|(value, name)| named(value, name)).collect();
                plain.into_iter().all(|plain| plain).then_some(values)
            }
            // Names for the columns of such a relation.
            input => {
                let Some(values) = constants(input)? else { return Ok(None) };
                let mut renamed = Vec::with_capacity(projection.expr.len());
                for (expr, name) in projection.expr.iter().zip(projection.schema.columns()) {
                    let Expr::Column(column) = expr.clone().unalias() else { return Ok(None) };
                    let Some(place) = input.schema().maybe_index_of_column(&column) else {
                        return Ok(None);
                    };
                    renamed.push(named(values[place].clone(), name));
                }
                Some(renamed)
            }
        },
        LogicalPlan::Values(values) => match values.values.as_slice() {
            [row] => {
                let columns = row.iter().cloned().zip(values.schema.columns());
                Some(columns.map(|(value, name)| named(value, name)).collect())
            }
            _ => None,
        },
        _ => None,
    })
}

/// Whether an expression is the same for every row that it could stand beside.
fn is_plain(expr: &Expr) -> Result<bool> {
    let asks =
        expr.exists(|part| Ok(takes_rows(part) || matches!(part, Expr::OuterReferenceColumn(..))))?;
    Ok(!asks && !expr.is_volatile())
}

fn named(value: Expr, name: Column) -> Expr {
    value.unalias().alias_qualified(name.relation, name.name)
}
