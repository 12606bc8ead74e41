//! Asks what an inner join's condition says of the row outside behind the join.
//!
//! ```text
//!   EXISTS (SELECT 1 FROM a JOIN b ON a.k = b.k AND b.v = outer.v)
//!     =  EXISTS (SELECT 1 FROM a JOIN b ON a.k = b.k WHERE b.v = outer.v)
//! ```
//! DataFusion takes correlated conditions out of WHERE only, and out of one WHERE: two that follow each other
//! become one.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{JoinType, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan};

use crate::planner::expressions::is_correlated;

/// Does so in every subquery of a plan that was just bound.
pub(super) fn part(plan: LogicalPlan) -> Result<LogicalPlan> {
    let parted = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => of_join(join),
        LogicalPlan::Filter(filter) => of_filter(filter),
        node => Ok(Transformed::no(node)),
    })?;
    Ok(parted.data)
}

fn of_filter(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Filter(below) = filter.input.as_ref() else {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    };
    if !is_correlated(&below.predicate)? {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let both = below.predicate.clone().and(filter.predicate);
    Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(both, Arc::clone(&below.input))?)))
}

fn of_join(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    let conditions = join.filter.take().map(split_conjunction_owned).unwrap_or_default();
    let (mut outside, mut inside): (Vec<Expr>, Vec<Expr>) = (vec![], vec![]);
    for condition in conditions {
        let side = if is_correlated(&condition)? { &mut outside } else { &mut inside };
        side.push(condition);
    }
    join.filter = conjunction(inside);
    let joined = LogicalPlan::Join(join);
    match conjunction(outside) {
        None => Ok(Transformed::no(joined)),
        Some(condition) => {
            let filter = Filter::try_new(condition, joined.into())?;
            Ok(Transformed::yes(LogicalPlan::Filter(filter)))
        }
    }
}
