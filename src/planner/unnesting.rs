//! Takes apart correlated subqueries that DataFusion's rules cannot: those whose reference to the row outside
//! lies under an aggregate, an outer join or a set operation, or in a subquery further in, at any depth.
//!
//! DataFusion makes a join of a subquery where its correlated conditions can be taken out of it as they are. Every
//! other one becomes one of that kind first: it is asked at once for all rows that there are outside (its
//! [`Domain`]), and a plain condition picks the answer that belongs to the row.
//!
//! ```text
//!   EXISTS (SELECT 1 FROM b WHERE outer.x IN (SELECT c.x FROM c))
//!     =  EXISTS (SELECT 1 FROM (SELECT 1, d.x FROM (SELECT DISTINCT outer.x) AS d, b
//!                               WHERE d.x IN (SELECT c.x FROM c))
//!                WHERE d.x = outer.x)
//! ```
//!
//! From the outside in, so that a subquery two levels down finds what it refers to in the domain of the first.
//!
//! Source: Th. Neumann, A. Kemper, "Unnesting Arbitrary Queries", BTW 2015.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result};
use datafusion::logical_expr::utils::{merge_schema, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Cast, Distinct, Expr, FetchType, LogicalPlan, Operator, Projection,
    Subquery, SubqueryAlias,
};

use crate::planner::dependent::rows_of;
use crate::planner::domain::Domain;
use crate::planner::expressions::{is_correlated, rewrite_named, subquery_in, subquery_of};
use crate::planner::lateral_join;
use crate::planner::outer_references::{references, references_in, refers_outside};
use crate::planner::relations::RelationLookup;
use crate::planner::single_row::{self, without_limit};

/// Does so in a plan that was just bound, and again in what other rules make of it.
pub(super) struct Unnesting<'a> {
    lookup: &'a dyn RelationLookup,
    /// How often a domain was written down.
    copies: usize,
}

impl<'a> Unnesting<'a> {
    /// For plans over these relations.
    pub(super) fn new(lookup: &'a dyn RelationLookup) -> Unnesting<'a> {
        Unnesting { lookup, copies: 0 }
    }

    /// Every subquery of a plan.
    pub(super) fn plan(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        Ok(plan.transform_down(|node| self.node(node))?.data)
    }

    fn node(&mut self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        if let LogicalPlan::Values(values) = &node
            && values.values.iter().flatten().any(|value| has_subquery(value).unwrap_or(true))
        {
            return Ok(Transformed::yes(rows_of(values.clone())?));
        }
        if let LogicalPlan::Join(join) = &node
            && let Some(joined) = lateral_join::joined(join, &mut self.copies)?
        {
            return Ok(Transformed::yes(joined));
        }
        // What is asked in the condition of a join is moved to one of its sides later.
        let outside = match node.inputs().as_slice() {
            [input] => Some(LogicalPlan::clone(input)),
            _ => None,
        };
        let rewritten = rewrite_named(node, |expr| {
            expr.transform_down(|mut part| {
                let is_value = matches!(part, Expr::ScalarSubquery(_));
                let simple = self.without_idle_limit(&part)?;
                let Some(subquery) = subquery_in(&mut part) else {
                    return Ok(Transformed::no(part));
                };
                if let Some(simple) = simple {
                    subquery.subquery = Arc::new(simple);
                }
                if let Some(outside) = &outside
                    && is_hard(&subquery.subquery)?
                {
                    self.take_apart(subquery, is_value, outside)?;
                }
                let inside = self.plan(LogicalPlan::clone(&subquery.subquery))?;
                subquery.outer_ref_columns = inside.all_out_ref_exprs();
                subquery.subquery = Arc::new(inside);
                Ok(Transformed::yes(part))
            })
        })?;
        match rewritten.transformed {
            true => rewritten.map_data(LogicalPlan::recompute_schema),
            false => Ok(rewritten),
        }
    }

    /// What a subquery asks, without a LIMIT that lets through what matters of it.
    fn without_idle_limit(&self, expr: &Expr) -> Result<Option<LogicalPlan>> {
        let Some(Subquery { subquery: plan, .. }) = subquery_of(expr) else { return Ok(None) };
        let without = without_limit(plan);
        let is_idle = match expr {
            // Some row is there of the first ones, too.
            Expr::Exists(_) => true,
            Expr::ScalarSubquery(_) => single_row::has_one(&without, self.lookup),
            _ => false,
        };
        let plan = if is_idle { without } else { LogicalPlan::clone(plan) };
        lateral_join::unwrapped(plan, None).map(Some)
    }

    fn take_apart(
        &mut self,
        subquery: &mut Subquery,
        is_value: bool,
        outside: &LogicalPlan,
    ) -> Result<()> {
        let references = references(&subquery.subquery)?;
        if !references.iter().all(|(_, column)| outside.schema().has_column(column)) {
            return Ok(());
        }
        let plan = LogicalPlan::clone(&subquery.subquery);
        let mut domain = Domain::new(references, outside, &mut self.copies);
        let plan = match is_value {
            false => domain.picked(plan)?,
            true if is_plain_value(&plan)? => below_aggregate(plan, &mut domain)?,
            true if is_one_value(&plan) => single_row::largest(&domain.picked(plan)?)?,
            // Whether it has one row is said where values are checked.
            true => return Ok(()),
        };
        subquery.subquery = Arc::new(plan);
        Ok(())
    }
}

/// Whether DataFusion's rules cannot take a subquery apart.
fn is_hard(plan: &LogicalPlan) -> Result<bool> {
    let is_lateral = plan.exists(|node| Ok(matches!(node, LogicalPlan::Subquery(_))))?;
    Ok(!is_lateral && refers_outside(plan)? && !is_plain(plan, false)?)
}

/// Whether every correlated condition is one of WHERE, and can be asked of the subquery's rows instead, above
/// what lies between.
pub(super) fn is_plain(plan: &LogicalPlan, aggregated: bool) -> Result<bool> {
    if !refers_outside(plan)? {
        return Ok(true);
    }
    let refers = node_refers_outside(plan)?;
    if has_hard_subquery_over_outside(plan)? {
        return Ok(false);
    }
    match plan {
        LogicalPlan::Filter(filter) => {
            for condition in split_conjunction(&filter.predicate) {
                if !is_plain_condition(condition, &filter.input, aggregated)? {
                    return Ok(false);
                }
            }
            is_plain(&filter.input, aggregated)
        }
        // Its condition is asked behind it.
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
            for condition in join.filter.iter().flat_map(split_conjunction) {
                if has_subquery(condition)? || (aggregated && is_correlated(condition)?) {
                    return Ok(false);
                }
            }
            Ok(!refers_outside(&join.left)? && !refers_outside(&join.right)?)
        }
        _ if refers => Ok(false),
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::Distinct(Distinct::All(input)) => is_plain(input, aggregated),
        LogicalPlan::Sort(sort) => is_plain(&sort.input, aggregated),
        LogicalPlan::Aggregate(aggregate) => is_plain(&aggregate.input, true),
        _ => Ok(false),
    }
}

/// Whether a node asks a hard subquery over rows that depend on the one outside: its domain would be made of them.
fn has_hard_subquery_over_outside(node: &LogicalPlan) -> Result<bool> {
    let mut depends = false;
    for input in node.inputs() {
        depends |= refers_outside(input)?;
    }
    let mut found = false;
    if depends {
        node.apply_expressions(|expr| {
            found |= expr.exists(|part| {
                subquery_of(part).map_or(Ok(false), |subquery| is_hard(&subquery.subquery))
            })?;
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(found)
}

/// Whether an expression of the node itself refers outside.
fn node_refers_outside(node: &LogicalPlan) -> Result<bool> {
    let own = merge_schema(&node.inputs());
    let mut refers = false;
    node.apply_expressions(|expr| {
        refers |= !references_in(expr, &own)?.is_empty();
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(refers)
}

fn is_plain_condition(condition: &Expr, input: &LogicalPlan, aggregated: bool) -> Result<bool> {
    if references_in(condition, input.schema())?.is_empty() {
        return Ok(true);
    }
    Ok(!has_subquery(condition)? && (!aggregated || is_equality(condition)?))
}

fn has_subquery(condition: &Expr) -> Result<bool> {
    condition.exists(|part| Ok(subquery_of(part).is_some()))
}

/// Whether a condition gives one value of a column for each row outside, so that grouping by the column will do.
fn is_equality(condition: &Expr) -> Result<bool> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else {
        return Ok(false);
    };
    let is_column = |side: &Expr| match side {
        Expr::Cast(Cast { expr, .. }) => matches!(**expr, Expr::Column(_)),
        side => matches!(side, Expr::Column(_)),
    };
    Ok((is_column(left) && !right.any_column_refs())
        || (is_column(right) && !left.any_column_refs()))
}

/// Whether an aggregate without GROUP BY gives the value, and what is made of it does not refer outside.
fn is_plain_value(plan: &LogicalPlan) -> Result<bool> {
    let refers = node_refers_outside(plan)?;
    Ok(match plan {
        _ if refers => false,
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => is_plain_value(input)?,
        LogicalPlan::Aggregate(Aggregate { group_expr, .. }) => group_expr.is_empty(),
        _ => false,
    })
}

/// Whether there is at most one row for each row outside.
fn is_one_value(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => is_one_value(input),
        LogicalPlan::Filter(filter) => is_one_value(&filter.input),
        LogicalPlan::Aggregate(Aggregate { group_expr, .. }) => group_expr.is_empty(),
        LogicalPlan::Limit(limit) => {
            let fetch = limit.get_fetch_type();
            matches!(fetch, Ok(FetchType::Literal(Some(0 | 1)))) || is_one_value(&limit.input)
        }
        _ => false,
    }
}

/// Picks the rows below the aggregate, which has a value where there are none, too.
fn below_aggregate(plan: LogicalPlan, domain: &mut Domain<'_>) -> Result<LogicalPlan> {
    let inputs = plan.inputs().into_iter().cloned();
    let inputs = match plan {
        LogicalPlan::Aggregate(_) => inputs.map(|input| domain.picked(input)).collect(),
        _ => inputs.map(|input| below_aggregate(input, domain)).collect::<Result<Vec<_>>>(),
    }?;
    plan.with_new_exprs(plan.expressions(), inputs)
}
