//! Splits GROUPING SETS, ROLLUP and CUBE of a continuous query into one GROUP BY for each grouping.
//!
//! Their union is what SQL means by them, and each branch is an aggregate that the operators know. The
//! columns that a branch does not group by are null; `grouping(…)` reads the number that DataFusion's
//! own operator would give a branch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::functions_aggregate::count::count_all;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, GroupingSet, LogicalPlan, LogicalPlanBuilder, cast, lit,
};

use crate::planner::error::PlanError;
use crate::planner::physical::WindowRole;
use crate::planner::window_node::WindowNode;

/// Groupings of one GROUP BY: each is an aggregate with state of its own.
const GROUPINGS_MAX: usize = 64;

/// Splits every aggregate over several groupings.
pub(super) fn split(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) => match aggregate.group_expr.as_slice() {
            [Expr::GroupingSet(set)] => {
                let groupings = groupings(set)?;
                Ok(Transformed::yes(union(&aggregate, &groupings)?))
            }
            _ => Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}

/// The columns of each grouping.
fn groupings(set: &GroupingSet) -> Result<Vec<Vec<Expr>>> {
    let count = match set {
        GroupingSet::Rollup(exprs) => exprs.len() + 1,
        GroupingSet::Cube(exprs) => 1_usize.checked_shl(exprs.len() as u32).unwrap_or(usize::MAX),
        GroupingSet::GroupingSets(sets) => sets.len(),
    };
    if count > GROUPINGS_MAX {
        return Err(PlanError::Window {
            code: crate::error::SqlState::PROGRAM_LIMIT,
            message: format!("GROUP BY has more than {GROUPINGS_MAX} groupings"),
            hint: Some("Name the groupings that you need with GROUPING SETS.".into()),
        }
        .into());
    }
    Ok(match set {
        GroupingSet::Rollup(exprs) => {
            (0..=exprs.len()).rev().map(|length| exprs[..length].to_vec()).collect()
        }
        GroupingSet::Cube(exprs) => (0..count)
            .map(|left_out| {
                let kept = exprs.iter().enumerate().filter(|(i, _)| left_out >> i & 1 == 0);
                kept.map(|(_, expr)| expr.clone()).collect()
            })
            .collect(),
        GroupingSet::GroupingSets(sets) => sets.clone(),
    })
}

fn union(aggregate: &Aggregate, groupings: &[Vec<Expr>]) -> Result<LogicalPlan> {
    refuse_half_windowed(aggregate, groupings)?;
    let columns: Vec<Expr> =
        grouping_set_to_exprlist(&aggregate.group_expr)?.into_iter().cloned().collect();
    let mut times_seen: BTreeMap<Vec<bool>, u64> = BTreeMap::new();
    let mut branches = Vec::with_capacity(groupings.len());
    for grouping in groupings {
        let absent: Vec<bool> = columns.iter().map(|column| !grouping.contains(column)).collect();
        let seen = times_seen.entry(absent.clone()).or_default();
        branches.push(branch(aggregate, &columns, &absent, *seen)?);
        *seen += 1;
    }
    let mut branches = branches.into_iter();
    let mut all = branches.next().map(LogicalPlanBuilder::from).ok_or_else(|| {
        PlanError::window(crate::error::SqlState::SYNTAX, "GROUPING SETS needs a grouping")
    })?;
    for branch in branches {
        all = all.union(branch)?;
    }
    let names = aggregate.schema.iter().enumerate().map(|(i, (qualifier, field))| {
        let column = Expr::Column(Column::new_unqualified(format!("__grouped_{i}")));
        column.alias_qualified(qualifier.cloned(), field.name())
    });
    let names: Vec<Expr> = names.collect();
    all.project(names)?.build()
}

/// One grouping, with null in place of the columns that it leaves out, and its number.
fn branch(
    aggregate: &Aggregate,
    columns: &[Expr],
    absent: &[bool],
    times_seen: u64,
) -> Result<LogicalPlan> {
    let kept: Vec<Expr> = (columns.iter().zip(absent))
        .filter(|(_, absent)| !**absent)
        .map(|(column, _)| column.clone())
        .collect();
    let input = Arc::clone(&aggregate.input);
    let is_total = kept.is_empty();
    let mut aggregates = aggregate.aggr_expr.clone();
    let counts =
        |expr: &Expr| expr.schema_name().to_string() == count_all().schema_name().to_string();
    let rows = aggregates.iter().position(counts).unwrap_or(aggregates.len());
    if is_total && rows == aggregates.len() {
        aggregates.push(count_all());
    }
    let grouped = Aggregate::try_new(input, kept, aggregates)?;
    let mut own = grouped.schema.columns().into_iter().map(Expr::Column);
    let id = absent.iter().fold(0_u64, |id, absent| id << 1 | u64::from(*absent));
    let id = times_seen << absent.len() | id;
    let mut exprs = Vec::with_capacity(aggregate.schema.fields().len());
    for (i, field) in aggregate.schema.fields().iter().enumerate() {
        let data_type = field.data_type();
        let value = match absent.get(i) {
            Some(true) => Expr::Literal(ScalarValue::try_from(data_type)?, None),
            None if i == absent.len() => {
                Expr::Literal(ScalarValue::UInt64(Some(id)).cast_to(data_type)?, None)
            }
            _ => own.next().unwrap_or_else(|| lit(ScalarValue::Null)),
        };
        let value = match value.get_type(&grouped.schema) {
            Ok(found) if found != *data_type => cast(value, data_type.clone()),
            _ => value,
        };
        exprs.push(value.alias(format!("__grouped_{i}")));
    }
    let rows = is_total.then(|| grouped.schema.columns().swap_remove(rows));
    let mut grouped = LogicalPlanBuilder::from(LogicalPlan::Aggregate(grouped));
    if let Some(rows) = rows {
        // Always true, and keeps the total over the input where nobody reads it, in subqueries, too: the optimiser
        // would put a row in its place that comes of nothing.
        grouped = grouped.filter(Expr::Column(rows).gt_eq(lit(0_i64)))?;
    }
    grouped.project(exprs)?.build()
}

/// A grouping without the window's columns would never close beside others that do.
fn refuse_half_windowed(aggregate: &Aggregate, groupings: &[Vec<Expr>]) -> Result<()> {
    let window =
        |grouping: &Vec<Expr>| grouping.iter().any(|expr| is_of_window(expr, &aggregate.input));
    let kinds: BTreeSet<bool> = groupings.iter().map(window).collect();
    if kinds.len() > 1 {
        return Err(PlanError::unsupported(
            "a grouping without the columns of the window beside others with them",
            "Write GROUP BY window_start, window_end, ROLLUP (…), so that every grouping has them.",
        )
        .into());
    }
    Ok(())
}

/// Whether an expression over a plan is a column of a window, here or in a query below.
fn is_of_window(expr: &Expr, plan: &LogicalPlan) -> bool {
    let column = match expr {
        Expr::Alias(alias) => return is_of_window(&alias.expr, plan),
        Expr::Column(column) => column,
        _ => return false,
    };
    let Some(index) = plan.schema().maybe_index_of_column(column) else { return false };
    if WindowRole::of_field(plan.schema().field(index)).is_some() {
        return true;
    }
    match plan {
        LogicalPlan::Projection(projection) => {
            is_of_window(&projection.expr[index], &projection.input)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            is_of_window(&Expr::Column(alias.input.schema().columns()[index].clone()), &alias.input)
        }
        LogicalPlan::Filter(filter) => is_of_window(expr, &filter.input),
        LogicalPlan::Unnest(unnest) => {
            let below = unnest.dependency_indices.get(index).copied().unwrap_or(index);
            let columns = unnest.input.schema().columns();
            columns
                .get(below)
                .is_some_and(|column| is_of_window(&Expr::Column(column.clone()), &unnest.input))
        }
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any().downcast_ref::<WindowNode>();
            node.is_some_and(|node| {
                let inner = node.input.schema().columns();
                inner
                    .get(index)
                    .is_none_or(|column| is_of_window(&Expr::Column(column.clone()), &node.input))
            })
        }
        _ => false,
    }
}
