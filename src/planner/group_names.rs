//! Gives computed keys of GROUP BY columns of their own, where DataFusion goes by their names.
//!
//! To DataFusion a key is called by its text, in which a cast does not appear: `GROUP BY k, k::TEXT` has two
//! keys of one name. And where an expression stands in ROLLUP, CUBE or GROUPING SETS, whatever rewrites it
//! takes it out of the set. So such keys are computed below the GROUP BY, and what stands above it, up to
//! the select list, reads their columns:
//!
//! ```text
//!   SELECT a + b, sum(c) FROM s GROUP BY ROLLUP (a + b)
//!   SELECT __group_0 AS "a + b", sum(c) FROM (SELECT *, a + b AS __group_0 FROM s) GROUP BY ROLLUP (__group_0)
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{
    Aggregate, Expr, Filter, GroupingSet, LogicalPlan, LogicalPlanBuilder, Projection, Window,
};

use crate::planner::bind::Purpose;

/// Rewrites every such GROUP BY of a plan that was just bound.
pub(super) fn rewrite(plan: LogicalPlan, purpose: Purpose) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Projection(projection) = &node else { return Ok(Transformed::no(node)) };
        let Some((input, names)) = renamed(&projection.input, purpose)? else {
            return Ok(Transformed::no(node));
        };
        let exprs = projection.expr.iter().map(|expr| names.apply(expr, true));
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        let projection = Projection::try_new(exprs, Arc::new(input))?;
        Ok(Transformed::yes(LogicalPlan::Projection(projection)))
    });
    Ok(rewritten?.data)
}

/// The columns of an aggregate, and what they are called now.
struct Names(Vec<(Column, Column)>);

impl Names {
    fn apply(&self, expr: &Expr, keeps_name: bool) -> Result<Expr> {
        let name = NamePreserver::new_for_projection().save(expr);
        let renamed = expr.clone().transform_up(|part| match part {
            Expr::Column(column) => {
                match self.0.iter().find(|(before, now)| *before == column && before != now) {
                    Some((_, now)) => Ok(Transformed::yes(Expr::Column(now.clone()))),
                    None => Ok(Transformed::no(Expr::Column(column))),
                }
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(if keeps_name { name.restore(renamed.data) } else { renamed.data })
    }
}

/// The plan between a select list and its GROUP BY, if that is rewritten.
fn renamed(plan: &LogicalPlan, purpose: Purpose) -> Result<Option<(LogicalPlan, Names)>> {
    match plan {
        LogicalPlan::Filter(filter) => {
            let Some((input, names)) = renamed(&filter.input, purpose)? else { return Ok(None) };
            let predicate = names.apply(&filter.predicate, false)?;
            let filter = Filter::try_new(predicate, Arc::new(input))?;
            Ok(Some((LogicalPlan::Filter(filter), names)))
        }
        LogicalPlan::Window(window) => {
            let Some((input, names)) = renamed(&window.input, purpose)? else { return Ok(None) };
            let calls = window.window_expr.iter().map(|call| names.apply(call, true));
            let calls = calls.collect::<Result<Vec<_>>>()?;
            Ok(Some((LogicalPlan::Window(Window::try_new(calls, Arc::new(input))?), names)))
        }
        LogicalPlan::Aggregate(aggregate) => lifted(aggregate, purpose),
        _ => Ok(None),
    }
}

fn lifted(aggregate: &Aggregate, purpose: Purpose) -> Result<Option<(LogicalPlan, Names)>> {
    let in_sets = matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]);
    let keys: Vec<&Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?;
    let computed: Vec<Expr> = (keys.iter().copied())
        .filter(|key| !matches!(key, Expr::Column(_)) && !key.is_volatile())
        .cloned()
        .collect();
    // A continuous query splits its groupings itself.
    let by_sets = in_sets && purpose == Purpose::Once;
    let mut names = BTreeSet::new();
    let clash = !keys.iter().all(|key| names.insert(key.schema_name().to_string()));
    if computed.is_empty() || !(by_sets || clash) {
        return Ok(None);
    }
    let column = |place: usize| Column::new_unqualified(format!("__group_{place}"));
    let own = |expr: &Expr| match computed.iter().position(|key| key == expr) {
        Some(place) => Expr::Column(column(place)),
        None => expr.clone(),
    };
    let input = &aggregate.input;
    let mut below: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    below.extend(computed.iter().enumerate().map(|(i, key)| key.clone().alias(column(i).name)));
    let below = LogicalPlanBuilder::from(Arc::clone(input)).project(below)?.build()?;
    let groups = aggregate.group_expr.iter().map(|group| in_set(group, &own)).collect();
    let calls = aggregate.aggr_expr.iter().map(|call| match call {
        Expr::AggregateFunction(function) if function.func.name() == "grouping" => {
            let mut function = function.clone();
            function.params.args = function.params.args.iter().map(own).collect();
            Expr::AggregateFunction(function)
        }
        other => other.clone(),
    });
    let grouped = Aggregate::try_new(Arc::new(below), groups, calls.collect())?;
    let names = aggregate.schema.columns().into_iter().zip(grouped.schema.columns()).collect();
    Ok(Some((LogicalPlan::Aggregate(grouped), Names(names))))
}

fn in_set(group: &Expr, own: &impl Fn(&Expr) -> Expr) -> Expr {
    let all = |exprs: &[Expr]| exprs.iter().map(own).collect::<Vec<Expr>>();
    match group {
        Expr::GroupingSet(GroupingSet::Rollup(exprs)) => {
            Expr::GroupingSet(GroupingSet::Rollup(all(exprs)))
        }
        Expr::GroupingSet(GroupingSet::Cube(exprs)) => {
            Expr::GroupingSet(GroupingSet::Cube(all(exprs)))
        }
        Expr::GroupingSet(GroupingSet::GroupingSets(sets)) => {
            let sets = sets.iter().map(|set| all(set)).collect();
            Expr::GroupingSet(GroupingSet::GroupingSets(sets))
        }
        other => own(other),
    }
}
