//! Tells references to rows outside of a subquery the types that they will have.
//!
//! A reference keeps the type that its column had when the query was bound, and types are found later: until then
//! `CASE WHEN a THEN an_int ELSE a_bigint END` has that of its first value. What was said of the reference by then (a
//! comparison, a constant beside it) would be of a type that never comes. Where a reference is wrong, types are found
//! here already, from the outside in; every other query stays as it was bound.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, Result};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;

use crate::planner::before_coercion::BeforeCoercion;
use crate::planner::expressions::{is_correlated, subquery_in};
use crate::planner::functions;

/// How often types may depend on types outside that depend on types outside.
const ROUNDS: usize = 8;

/// A plan whose references have the types of their columns.
pub(super) fn learn(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !refers_outside(&plan)? {
        return Ok(plan);
    }
    // What has no types is refused where they are found for all queries.
    let Ok(found) = typed(plan.clone()) else { return Ok(plan) };
    let mut told = tell(found, &mut vec![])?;
    if !told.transformed {
        return Ok(plan);
    }
    for _ in 0..ROUNDS {
        let Ok(found) = typed(told.data) else { return Ok(plan) };
        told = tell(found, &mut vec![])?;
        if !told.transformed {
            break;
        }
    }
    Ok(told.data)
}

fn refers_outside(plan: &LogicalPlan) -> Result<bool> {
    let mut refers = false;
    plan.apply_with_subqueries(|node| {
        for expr in node.expressions() {
            refers |= is_correlated(&expr)?;
        }
        Ok(if refers { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(refers)
}

fn typed(plan: LogicalPlan) -> Result<LogicalPlan> {
    let options = functions::state().config_options();
    TypeCoercion::new().analyze(BeforeCoercion.analyze(plan, options)?, options)
}

/// Gives references in a plan the types that columns have in the plans `outside`, the nearest last.
fn tell(plan: LogicalPlan, outside: &mut Vec<DFSchema>) -> Result<Transformed<LogicalPlan>> {
    let here = merge_schema(&plan.inputs());
    // What stands in FROM may refer to what stands there before it.
    let beside = matches!(plan, LogicalPlan::Join(_));
    if beside {
        outside.push(here.clone());
    }
    let below = plan.map_children(|input| tell(input, outside));
    if beside {
        outside.pop();
    }
    let told = below?.transform_data(|plan| {
        plan.map_expressions(|expr| {
            expr.transform_up(|mut part| {
                let changed = match &mut part {
                    Expr::OuterReferenceColumn(field, column) => correct(field, column, outside),
                    part => match subquery_in(part) {
                        Some(subquery) => {
                            outside.push(here.clone());
                            let changed = tell_subquery(subquery, outside);
                            outside.pop();
                            changed?
                        }
                        None => false,
                    },
                };
                Ok(Transformed::new_transformed(part, changed))
            })
        })
    })?;
    told.transform_data(|mut plan| {
        if let LogicalPlan::Subquery(subquery) = &mut plan {
            correct_all(&mut subquery.outer_ref_columns, outside);
        }
        Ok(Transformed::no(plan))
    })?
    .map_data(LogicalPlan::recompute_schema)
}

/// Whether a reference in the subquery has another type now.
fn tell_subquery(subquery: &mut Subquery, outside: &mut Vec<DFSchema>) -> Result<bool> {
    let told = tell(LogicalPlan::clone(&subquery.subquery), outside)?;
    correct_all(&mut subquery.outer_ref_columns, outside);
    subquery.subquery = Arc::new(told.data);
    Ok(told.transformed)
}

fn correct_all(references: &mut [Expr], outside: &[DFSchema]) {
    for reference in references {
        if let Expr::OuterReferenceColumn(field, column) = reference {
            correct(field, column, outside);
        }
    }
}

/// Whether the reference was wrong.
fn correct(field: &mut FieldRef, column: &Column, outside: &[DFSchema]) -> bool {
    let mut found = outside.iter().rev().filter_map(|schema| schema.field_from_column(column).ok());
    match found.next() {
        Some(right) if right.data_type() != field.data_type() => {
            let corrected = Field::clone(field).with_data_type(right.data_type().clone());
            *field = Arc::new(corrected);
            true
        }
        _ => false,
    }
}
