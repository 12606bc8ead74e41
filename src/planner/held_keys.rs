//! Keeps DataFusion from taking for unique what is unique no more: what was so before UNNEST or a join.
//!
//! The keys of a GROUP BY tell its rows apart; once a list is unnested, or its rows are joined with others, several
//! rows have one key. DataFusion hands on what it knows of the rows below all the same: behind UNNEST as if it still
//! held, and through a join and a second GROUP BY by more keys as if the first ones were enough again. It then leaves
//! out DISTINCT, keys of GROUP BY and of ORDER BY, that are needed. What it knows goes with columns that stand as
//! they are, so below UNNEST, and below a join that is grouped, one column of each key stands in a function that
//! gives it back.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::logical_expr::{Aggregate, Distinct, DistinctOn, Expr, LogicalPlan, Projection};

use crate::planner::expressions::rewrite_named;
use crate::planner::value_functions::ValueFunction;

/// Does so in all places of a plan.
pub(super) fn hold(plan: LogicalPlan) -> Result<LogicalPlan> {
    let held = plan.transform_up_with_subqueries(|node| {
        let input = match &node {
            LogicalPlan::Unnest(unnest) => unknown(LogicalPlan::clone(&unnest.input))?,
            LogicalPlan::Aggregate(Aggregate { input, .. })
            | LogicalPlan::Distinct(
                Distinct::All(input) | Distinct::On(DistinctOn { input, .. }),
            ) => joined(LogicalPlan::clone(input))?,
            _ => return Ok(Transformed::no(node)),
        };
        if !input.transformed {
            return Ok(Transformed::no(node));
        }
        Ok(Transformed::yes(node.with_new_exprs(node.expressions(), vec![input.data])?))
    })?;
    Ok(held.data)
}

/// What is grouped, where nothing is known of the rows that are joined for it.
fn joined(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let held = match &plan {
        LogicalPlan::Join(join) => match join.join_type {
            JoinType::Inner | JoinType::Left | JoinType::Right => {
                plan.map_children(|side| joined(side)?.transform_data(unknown))
            }
            _ => plan.map_children(joined),
        },
        LogicalPlan::Filter(_)
        | LogicalPlan::Projection(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_) => plan.map_children(joined),
        _ => return Ok(Transformed::no(plan)),
    }?;
    match held.transformed {
        true => held.map_data(LogicalPlan::recompute_schema),
        false => Ok(held),
    }
}

/// The plan's rows, of which nothing is known that tells them apart.
fn unknown(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if has_distinct(&plan)? {
        return Ok(Transformed::yes(hidden(plan, |_| true)?));
    }
    match plan.schema().functional_dependencies().is_empty() {
        true => Ok(Transformed::no(plan)),
        false => Ok(Transformed::yes(without_keys(plan)?)),
    }
}

/// The plan's rows, of which no column is known to tell them apart.
pub(super) fn without_keys(plan: LogicalPlan) -> Result<LogicalPlan> {
    let keys = plan.schema().functional_dependencies().iter();
    let last: BTreeSet<usize> = keys.filter_map(|key| key.source_indices.last().copied()).collect();
    hidden(plan, |column| last.contains(&column))
}

/// The plan's rows, where nothing is known of some columns.
fn hidden(plan: LogicalPlan, hides: impl Fn(usize) -> bool) -> Result<LogicalPlan> {
    let schema = Arc::clone(plan.schema());
    let columns = schema.columns().into_iter().enumerate().map(|(index, column)| {
        let (relation, name) = (column.relation.clone(), column.name.clone());
        match hides(index) {
            true => ValueFunction::Same.call(Expr::Column(column)).alias_qualified(relation, name),
            false => Expr::Column(column),
        }
    });
    Ok(LogicalPlan::Projection(Projection::try_new(columns.collect(), Arc::new(plan))?))
}

/// Whether rows are made distinct, of which DataFusion makes a GROUP BY later: then all of its columns are a key.
fn has_distinct(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Distinct(_))))
}

/// Takes the functions out again, and projections that do nothing without them.
pub(super) fn release(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| {
        let node = rewrite_named(node, |expr| {
            expr.transform_up(|part| match ValueFunction::Same.argument_of(&part) {
                Some(same) => Ok(Transformed::yes(same.clone())),
                None => Ok(Transformed::no(part)),
            })
        })?;
        match node.data {
            LogicalPlan::Projection(projection) if node.transformed && is_idle(&projection) => {
                Ok(Transformed::yes(Arc::unwrap_or_clone(projection.input)))
            }
            data => Ok(Transformed { data, ..node }),
        }
    })?;
    Ok(plan.data)
}

/// Whether a projection gives its input's columns, all of them in their order and by their names.
fn is_idle(projection: &Projection) -> bool {
    let columns = projection.input.schema().columns();
    let exprs = projection.expr.iter().map(|expr| expr.clone().unalias());
    projection.schema.columns() == columns && exprs.eq(columns.into_iter().map(Expr::Column))
}
