//! Keeps OVER where nobody asks for its column: by event time it drops rows that come late, so which rows there
//! are depends on it.
//!
//! DataFusion leaves out what is computed in vain. Where it has, it is asked again with a condition above each
//! OVER, of which nothing is known but that it asks for the last column; then the condition is taken out.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Volatility};

use crate::planner::marker::Marker;

/// Asks for a column.
const KEPT: Marker = Marker {
    name: "__kept",
    arguments: 1,
    volatility: Volatility::Immutable,
    is_transparent: false,
};

/// Whether an OVER has been left out.
pub(super) fn is_missing(before: &LogicalPlan, after: &LogicalPlan) -> Result<bool> {
    Ok(count(after)? < count(before)?)
}

fn count(plan: &LogicalPlan) -> Result<usize> {
    let mut count = 0;
    plan.apply_with_subqueries(|node| {
        count += usize::from(matches!(node, LogicalPlan::Window(_)));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(count)
}

/// Puts a condition above each OVER.
pub(super) fn hold(plan: LogicalPlan) -> Result<LogicalPlan> {
    let held = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Window(window) = &node else { return Ok(Transformed::no(node)) };
        let last = window.schema.fields().len() - 1;
        let column = Column::from(window.schema.qualified_field(last));
        let condition = KEPT.function().call(vec![Expr::Column(column)]);
        Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(condition, Arc::new(node))?)))
    })?;
    Ok(held.data)
}

/// Takes the conditions out again.
pub(super) fn release(plan: LogicalPlan) -> Result<LogicalPlan> {
    let released = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Filter(mut filter) = node else { return Ok(Transformed::no(node)) };
        let mut conditions = split_conjunction_owned(filter.predicate.clone());
        let all = conditions.len();
        conditions.retain(|condition| KEPT.arguments_of(condition).is_none());
        if conditions.len() == all {
            return Ok(Transformed::no(LogicalPlan::Filter(filter)));
        }
        Ok(Transformed::yes(match conjunction(conditions) {
            None => Arc::unwrap_or_clone(filter.input),
            Some(predicate) => {
                filter.predicate = predicate;
                LogicalPlan::Filter(filter)
            }
        }))
    })?;
    Ok(released.data)
}
