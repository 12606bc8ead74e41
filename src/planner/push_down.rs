//! Moves conditions towards the rows as DataFusion does, and keeps promises that it breaks.
//!
//! *Conditions joined by AND hold from the left*: one that can fail on a row is asked only where those
//! before it are true (`x LIKE '1%' AND CAST(x AS BIGINT) > 5`). DataFusion asks cheap conditions first,
//! and takes a cast to be cheap. So while conditions move, one that may fail stands in a function of which
//! nothing is known, and what is costly is not put behind others.
//!
//! *An aggregate without groups answers one row, whatever it reads*: a condition above it is about that row.
//! DataFusion moves one that names no column below, where it is about the rows read.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, GroupingSet, LogicalPlan, Volatility};
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{Optimizer, OptimizerConfig, OptimizerRule};

use crate::planner::fallible::may_fail;
use crate::planner::join_held;
use crate::planner::marker::Marker;
use crate::planner::union_names;

/// Holds a condition that may fail.
const GUARDED: Marker = Marker {
    name: "__guarded",
    arguments: 1,
    volatility: Volatility::Immutable,
    is_transparent: true,
};

/// DataFusion's rule, in its place and under its name.
#[derive(Debug, Default)]
struct PushDown(PushDownFilter);

/// DataFusion's rules, with this one, and that for unions, in their places.
pub(super) fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let ours: [Arc<dyn OptimizerRule + Send + Sync>; 2] =
        [Arc::new(PushDown::default()), Arc::new(union_names::rule())];
    let rules = Optimizer::new().rules.into_iter();
    let replaced = |rule: &dyn OptimizerRule| ours.iter().find(|own| own.name() == rule.name());
    rules.map(|rule| replaced(&*rule).cloned().unwrap_or(rule)).collect()
}

impl OptimizerRule for PushDown {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let marked = plan.transform_up_with_subqueries(mark)?.data;
        let moved = marked.transform_down_with_subqueries(|node| {
            let node = join_held::let_through(merged(node))?;
            match is_about_total(&node) {
                true => Ok(Transformed::no(node)),
                false => self.0.rewrite(node, config),
            }
        })?;
        moved.map_data(|plan| Ok(plan.transform_up_with_subqueries(unmark)?.data))
    }
}

/// One condition for several that stand on each other, the lowest first.
fn merged(node: LogicalPlan) -> LogicalPlan {
    let LogicalPlan::Filter(mut filter) = node else { return node };
    while let LogicalPlan::Filter(below) = filter.input.as_ref().clone() {
        filter.predicate = below.predicate.and(filter.predicate);
        filter.input = below.input;
    }
    LogicalPlan::Filter(filter)
}

/// Whether this is a condition on an aggregate that has a row for all rows, which is there without rows, too.
fn is_about_total(node: &LogicalPlan) -> bool {
    let LogicalPlan::Filter(filter) = node else { return false };
    let LogicalPlan::Aggregate(aggregate) = &*filter.input else { return false };
    match aggregate.group_expr.as_slice() {
        [] => true,
        [Expr::GroupingSet(GroupingSet::Rollup(_) | GroupingSet::Cube(_))] => true,
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => sets.iter().any(Vec::is_empty),
        _ => false,
    }
}

fn mark(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    Ok(Transformed::yes(match node {
        LogicalPlan::Filter(mut filter) => {
            filter.predicate = mark_conditions(filter.predicate);
            LogicalPlan::Filter(filter)
        }
        LogicalPlan::Join(mut join) => {
            join.filter = join.filter.map(mark_conditions);
            LogicalPlan::Join(join)
        }
        other => return Ok(Transformed::no(other)),
    }))
}

/// Marks the conditions behind the first that may fail.
fn mark_conditions(predicate: Expr) -> Expr {
    let conditions = split_conjunction_owned(predicate).into_iter().enumerate();
    let marked = conditions.map(|(place, condition)| match place > 0 && is_guarded(&condition) {
        true => GUARDED.function().call(vec![condition]),
        false => condition,
    });
    conjunction(marked).expect("a predicate is at least one condition")
}

/// A volatile function forbids that conditions change places at all.
fn is_guarded(condition: &Expr) -> bool {
    may_fail(condition) && !condition.is_volatile()
}

fn unmark(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Join(_) | LogicalPlan::TableScan(_)) {
        return Ok(Transformed::no(node));
    }
    node.map_expressions(|expr| {
        expr.transform_up(|expr| match GUARDED.arguments_of(&expr) {
            Some([condition]) => Ok(Transformed::yes(condition.clone())),
            _ => Ok(Transformed::no(expr)),
        })
    })
}
