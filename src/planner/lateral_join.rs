//! Joins the rows of a relation with those that a LATERAL subquery has for each of them.
//!
//! DataFusion does so where the subquery's conditions can become those of the join. Any other subquery is asked for
//! all rows beside it at once (its [`Domain`]), and joined with them by the keys of what it refers to.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, JoinConstraint, JoinType, NullEquality, Result};
use datafusion::logical_expr::{
    Expr, Join, LogicalPlan, LogicalPlanBuilder, Projection, Subquery, SubqueryAlias,
};

use crate::planner::domain::{Domain, Spread};
use crate::planner::outer_references::{Reference, references};
use crate::planner::unnesting::is_plain;

/// The same join without a subquery; `None` if it has none, or DataFusion makes a join of it.
/// `copies` is how often a domain was written down.
pub(super) fn joined(join: &Join, copies: &mut usize) -> Result<Option<LogicalPlan>> {
    match lateral(&join.right) {
        Some(lateral) if !is_joined(lateral)? => spread(join, copies),
        _ => Ok(None),
    }
}

fn spread(join: &Join, copies: &mut usize) -> Result<Option<LogicalPlan>> {
    let keeps_left = matches!(join.join_type, JoinType::Inner | JoinType::Left);
    if !keeps_left || lateral(&join.right).is_none() {
        return Ok(None);
    }
    let rows = unwrapped(LogicalPlan::clone(&join.right), None)?;
    let rows = inner_first(rows, copies)?;
    // What it refers to further out is left to the queries around.
    let mut references = references(&rows)?;
    references.retain(|(_, column)| join.left.schema().has_column(column));
    if references.is_empty() {
        return Ok(None);
    }
    let mut columns: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
    let mut domain = Domain::new(references, &join.left, copies);
    let Spread { plan, copy } = domain.spread(rows)?;
    columns.extend(domain.carried(&plan, copy)?);
    let right = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?);
    let mut on = join.on.clone();
    on.extend(domain.same_values(&right, copy, |(_, column)| Expr::Column(column.clone()))?);
    let joined = Join::try_new(
        Arc::clone(&join.left),
        Arc::new(right),
        on,
        join.filter.clone(),
        join.join_type,
        JoinConstraint::On,
        NullEquality::NullEqualsNothing,
        false,
    )?;
    let columns = join.schema.columns().into_iter().map(Expr::Column);
    Ok(Some(LogicalPlanBuilder::from(LogicalPlan::Join(joined)).project(columns)?.build()?))
}

/// The rows of a subquery whose own laterals are joined.
fn inner_first(rows: LogicalPlan, copies: &mut usize) -> Result<LogicalPlan> {
    let joined = rows.transform_up(|node| {
        let LogicalPlan::Join(join) = &node else { return Ok(Transformed::no(node)) };
        Ok(match spread(join, copies)? {
            Some(joined) => Transformed::yes(joined),
            None => Transformed::no(node),
        })
    });
    Ok(joined?.data)
}

/// A plan in which every relation of FROM that refers to nothing beside it is one like any other.
pub(super) fn unwrapped(plan: LogicalPlan, beside: Option<&DFSchema>) -> Result<LogicalPlan> {
    Ok(match plan {
        LogicalPlan::Subquery(Subquery { ref subquery, .. }) => {
            let has = |(_, column): &Reference| beside.is_some_and(|own| own.has_column(column));
            match references(subquery)?.iter().any(has) {
                true => plan,
                false => unwrapped(LogicalPlan::clone(subquery), None)?,
            }
        }
        LogicalPlan::Join(mut join) => {
            join.left = Arc::new(unwrapped(Arc::unwrap_or_clone(join.left), None)?);
            let beside = Some(join.left.schema().as_ref());
            join.right = Arc::new(unwrapped(Arc::unwrap_or_clone(join.right), beside)?);
            LogicalPlan::Join(join)
        }
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            plan.map_children(|input| Ok(Transformed::yes(unwrapped(input, beside)?)))?.data
        }
        plan => plan.map_children(|input| Ok(Transformed::yes(unwrapped(input, None)?)))?.data,
    })
}

/// The LATERAL subquery that a relation is.
fn lateral(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::Subquery(lateral) => Some(&lateral.subquery),
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => lateral(input),
        _ => None,
    }
}

/// Whether the subquery's conditions can be those of a join with its rows.
fn is_joined(plan: &LogicalPlan) -> Result<bool> {
    Ok(is_plain(plan, false)? && !counts_rows(plan))
}

/// Whether rows are counted, or told apart, above the conditions.
fn counts_rows(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(_) | LogicalPlan::Limit(_) | LogicalPlan::Distinct(_) => true,
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::Sort(_) => {
            plan.inputs().into_iter().any(counts_rows)
        }
        _ => false,
    }
}
