//! Finds what a subquery refers to in the queries around it, at any depth, and puts columns in its place.
//!
//! DataFusion looks a name up from the inside out, and marks what it finds outside as a reference, without saying how
//! far outside. A reference belongs to the first query around it that has a column of its name.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::planner::expressions::{rewrite_named, subquery_in, subquery_of};

/// A column of a row outside, as an expression refers to it.
pub(super) type Reference = (FieldRef, Column);

/// What a subquery refers to in the queries around it, in the order of appearance.
pub(super) fn references(plan: &LogicalPlan) -> Result<Vec<Reference>> {
    let mut search = Search::default();
    search.plan(plan)?;
    Ok(search.found)
}

/// Whether there is such a reference.
pub(super) fn refers_outside(plan: &LogicalPlan) -> Result<bool> {
    Ok(!references(plan)?.is_empty())
}

/// What an expression over the columns of `own` refers to outside of its query.
pub(super) fn references_in(expr: &Expr, own: &DFSchema) -> Result<Vec<Reference>> {
    let mut search = Search::default();
    search.expr(expr, own)?;
    Ok(search.found)
}

#[derive(Default)]
struct Search {
    found: Vec<Reference>,
    /// The columns of the queries between the first and the one that is looked at.
    between: Vec<DFSchema>,
}

impl Search {
    fn plan(&mut self, plan: &LogicalPlan) -> Result<()> {
        plan.apply(|node| {
            let own = merge_schema(&node.inputs());
            node.apply_expressions(|expr| {
                self.expr(expr, &own)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(())
    }

    fn expr(&mut self, expr: &Expr, own: &DFSchema) -> Result<()> {
        expr.apply(|part| {
            if let Expr::OuterReferenceColumn(field, column) = part {
                let is_between = self.between.iter().any(|schema| schema.has_column(column));
                if !is_between && self.found.iter().all(|(_, other)| other != column) {
                    self.found.push((Arc::clone(field), column.clone()));
                }
            } else if let Some(subquery) = subquery_of(part) {
                self.between.push(own.clone());
                self.plan(&subquery.subquery)?;
                self.between.pop();
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(())
    }
}

/// What to put in the places of references.
pub(super) struct Resolution {
    found: Vec<(Column, Column)>,
    /// The columns of the queries between the one that has the domain and the one that is looked at.
    between: Vec<DFSchema>,
}

impl Resolution {
    /// Each reference with the column that it becomes.
    pub(super) fn of(found: Vec<(Column, Column)>) -> Resolution {
        Resolution { found, between: Vec::new() }
    }

    /// An expression over the columns of `own`, and what is inside its subqueries.
    pub(super) fn expr(&mut self, expr: Expr, own: &DFSchema) -> Result<Expr> {
        let resolved = expr.transform_down(|mut part| {
            if let Expr::OuterReferenceColumn(field, column) = &part {
                let is_between = self.between.iter().any(|schema| schema.has_column(column));
                let found = self.found.iter().find(|(of, _)| of == column && !is_between);
                return Ok(match (found, self.between.is_empty()) {
                    (None, _) => Transformed::no(part),
                    (Some((_, own)), true) => Transformed::yes(Expr::Column(own.clone())),
                    (Some((_, own)), false) => {
                        Transformed::yes(Expr::OuterReferenceColumn(Arc::clone(field), own.clone()))
                    }
                });
            }
            let Some(subquery) = subquery_in(&mut part) else { return Ok(Transformed::no(part)) };
            self.between.push(own.clone());
            let plan = LogicalPlan::clone(&subquery.subquery).transform_down(|node| {
                let own = merge_schema(&node.inputs());
                rewrite_named(node, |expr| Ok(Transformed::yes(self.expr(expr, &own)?)))
            })?;
            self.between.pop();
            subquery.outer_ref_columns = plan.data.all_out_ref_exprs();
            subquery.subquery = Arc::new(plan.data);
            Ok(Transformed::yes(part))
        })?;
        Ok(resolved.data)
    }
}
