//! Sees to it that a subquery that stands for a value has one row at most.
//!
//! A one-off SELECT counts the rows of such a subquery where it depends on no row outside, and fails at the
//! second (21000). A continuous query joins it, and so does DataFusion where it is correlated: there two rows
//! would be two answers. So it must be known from the plan that a second row cannot come: of an
//! aggregate without groups, of LIMIT 1, of constants that are compared with all columns of a key.
//!
//! A correlated subquery that reads one row by its key, such as
//! `(SELECT name FROM users WHERE users.id = s.user_id)`, is planned as the largest of its values.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Expr, FetchType, Limit, LogicalPlan, LogicalPlanBuilder, SkipType, Subquery,
};

use crate::planner::bind::Purpose;
use crate::planner::error::PlanError;
use crate::planner::expressions::{rewrite_named, takes_rows};
use crate::planner::functions;
use crate::planner::relations::RelationLookup;
use crate::planner::row_facts::Reader;
use crate::planner::set_comparisons;
use crate::planner::value_functions::ValueFunction;

const HINT: &str = "Take an aggregate such as max(…) in it, add LIMIT 1, or compare a whole primary key with constants.";
const HINT_CORRELATED: &str = "Take an aggregate such as max(…) in it, add ORDER BY … LIMIT 1, or compare a whole primary key with = .";

/// Checks every scalar subquery of a plan that was just bound.
pub(super) fn check(
    plan: LogicalPlan,
    lookup: &dyn RelationLookup,
    purpose: Purpose,
) -> Result<LogicalPlan> {
    let mut names = 0;
    let checked = plan.transform_up_with_subqueries(|node| {
        let mut any = false;
        node.apply_expressions(|expr| {
            any |= expr.exists(|part| {
                Ok(matches!(part, Expr::ScalarSubquery(_) | Expr::SetComparison(_)))
            })?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        if !any {
            return Ok(Transformed::no(node));
        }
        let outside = merge_schema(&node.inputs());
        let checked = rewrite_named(node, |expr| {
            expr.transform_up(|part| match part {
                Expr::ScalarSubquery(subquery) => match constant(&subquery.subquery, &outside)? {
                    Some(value) => Ok(Transformed::yes(value)),
                    None => {
                        names += 1;
                        let subquery = value(subquery, lookup, purpose)?;
                        let may_lack = purpose == Purpose::Once;
                        let subquery = named(subquery, names, may_lack)?;
                        Ok(Transformed::yes(Expr::ScalarSubquery(subquery)))
                    }
                },
                // Those of conditions and select lists are other expressions by now.
                Expr::SetComparison(_) => match set_comparisons::spelled(part, &outside)? {
                    constant @ Expr::BinaryExpr(_) => Ok(Transformed::yes(constant)),
                    _ => Err(set_comparisons::not_a_condition()),
                },
                other => Ok(Transformed::no(other)),
            })
        })?;
        match checked.transformed {
            true => checked.map_data(LogicalPlan::recompute_schema),
            false => Ok(checked),
        }
    });
    Ok(checked?.data)
}

fn value(subquery: Subquery, lookup: &dyn RelationLookup, purpose: Purpose) -> Result<Subquery> {
    if subquery.outer_ref_columns.is_empty() {
        let counted = purpose == Purpose::Once;
        let reader = Reader { lookup, limits_count: true };
        if counted || reader.rows(&subquery.subquery).one {
            return Ok(subquery);
        }
        let what = "a subquery that may have several rows where one value is asked for";
        return Err(PlanError::unsupported(what, HINT).into());
    }
    let plan = without_limit(&subquery.subquery);
    if !has_one(&plan, lookup) {
        let what = "a correlated subquery that may have several rows where one value is asked for";
        return Err(match purpose {
            Purpose::Once => PlanError::unsupported_once(what, HINT_CORRELATED),
            Purpose::Continuous => PlanError::unsupported(what, HINT_CORRELATED),
        }
        .into());
    }
    let plan = if is_aggregate(&plan) { plan } else { largest(&plan)? };
    Ok(Subquery { subquery: Arc::new(plan), ..subquery })
}

/// Whether a correlated subquery has one row at most, whatever its LIMIT, which would be one for all rows outside.
pub(super) fn has_one(plan: &LogicalPlan, lookup: &dyn RelationLookup) -> bool {
    Reader { lookup, limits_count: false }.rows(plan).one
}

/// The subquery with its value under a name of its own: it is joined to rows that may have an aggregate of the
/// same name (`HAVING avg(id) > (SELECT avg(id) FROM a)`), and DataFusion goes by names. Where it is not joined,
/// DataFusion has to be told that there may be no row.
fn named(subquery: Subquery, number: usize, may_lack: bool) -> Result<Subquery> {
    let rows = LogicalPlanBuilder::from(Arc::clone(&subquery.subquery));
    let (qualifier, field) = rows.schema().qualified_field(0);
    let own = Expr::Column(Column::from((qualifier, field)));
    let own = match may_lack && !field.is_nullable() && subquery.outer_ref_columns.is_empty() {
        true => ValueFunction::OrNone.call(own),
        false => own,
    };
    let plan = rows.project([own.alias(format!("__value_{number}"))])?.build()?;
    Ok(Subquery { subquery: Arc::new(plan), ..subquery })
}

/// The expression that a subquery without FROM stands for.
pub(super) fn constant(plan: &LogicalPlan, outside: &DFSchema) -> Result<Option<Expr>> {
    let LogicalPlan::Projection(projection) = plan else { return Ok(None) };
    let (LogicalPlan::EmptyRelation(empty), [expr]) =
        (&*projection.input, projection.expr.as_slice())
    else {
        return Ok(None);
    };
    if !empty.produce_one_row || expr.exists(|part| Ok(takes_rows(part)))? {
        return Ok(None);
    }
    let resolved = expr.clone().unalias().transform_up(|part| match part {
        Expr::OuterReferenceColumn(_, column) if outside.has_column(&column) => {
            Ok(Transformed::yes(Expr::Column(column)))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(Some(resolved?.data))
}

/// The plan without orders and limits that let a single row pass.
pub(super) fn without_limit(plan: &LogicalPlan) -> LogicalPlan {
    match plan {
        LogicalPlan::Sort(sort) if sort.fetch != Some(0) => without_limit(&sort.input),
        LogicalPlan::Limit(limit) if keeps_first(limit) => without_limit(&limit.input),
        LogicalPlan::Projection(projection) => {
            let mut projection = projection.clone();
            projection.input = Arc::new(without_limit(&projection.input));
            LogicalPlan::Projection(projection)
        }
        other => other.clone(),
    }
}

fn keeps_first(limit: &Limit) -> bool {
    let all = matches!(limit.get_skip_type(), Ok(SkipType::Literal(0)));
    all && matches!(limit.get_fetch_type(), Ok(FetchType::Literal(fetch)) if fetch != Some(0))
}

/// Whether DataFusion finds the aggregate that it asks for.
fn is_aggregate(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_aggregate(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_aggregate(&alias.input),
        LogicalPlan::Filter(filter) => matches!(&*filter.input, LogicalPlan::Aggregate(_)),
        LogicalPlan::Aggregate(_) => true,
        _ => false,
    }
}

/// The largest of a subquery's values, which is the only one.
pub(super) fn largest(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let (qualifier, field) = plan.schema().qualified_field(0);
    if !has_largest(field.data_type()) {
        return Err(PlanError::unsupported(
            "a correlated subquery for a value of this type",
            "Write a LEFT JOIN with the relation instead.",
        )
        .into());
    }
    let own = Column::from((qualifier, field));
    let max = functions::state().aggregate_functions().get("max").cloned();
    let max = max.ok_or_else(|| DataFusionError::Internal("max is missing".into()))?;
    let call = AggregateFunction::new_udf(max, vec![Expr::Column(own)], false, None, vec![], None);
    let rows = LogicalPlanBuilder::from(plan.clone());
    let aggregated = rows.aggregate(Vec::<Expr>::new(), [Expr::AggregateFunction(call)])?;
    let found = Expr::Column(Column::from(aggregated.schema().qualified_field(0)));
    // The column itself may stand beside it, for a condition that is taken out.
    aggregated.project([found.alias("__one_value")])?.build()
}

fn has_largest(data_type: &DataType) -> bool {
    data_type.is_numeric()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::BinaryView
                | DataType::Date32
                | DataType::Timestamp(..)
                | DataType::Time64(_)
        )
}
