//! Makes columns of what a GROUP BY and its aggregates read: computed keys, and arguments and filters of
//! aggregates.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;

use crate::operators::window_answer::Pairs;
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::grouping::{COMPUTED, Grouping, Part};
use crate::planner::translate::{Built, Translator};
use crate::planner::window_rows::computed_name;

impl Translator {
    /// Sorts out the group expressions; computed keys become columns. What reads the pending window
    /// goes to `computed`, and its key is counted from [`COMPUTED`] on.
    pub(super) fn grouping(
        &self,
        built: &mut Built,
        exprs: &[Expr],
        computed: &mut Vec<Expr>,
    ) -> Result<Grouping, PlanError> {
        let names = built.physical_names()?;
        let width = built.plan.schema.fields().len();
        let mut added: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
        let mut grouping = Grouping { parts: vec![], keys: vec![] };
        for expr in exprs {
            if let Some(column) = built.plain_window(expr) {
                grouping.parts.push(Part::Window(column));
                continue;
            }
            let column = match built.plain_column(expr) {
                Some(column) => column,
                None if built.uses_window(expr) => {
                    computed.push(built.over_pairs(expr)?);
                    COMPUTED + computed.len() - 1
                }
                None => {
                    added.push((self.lower(expr, &names)?, format!("__key_{}", added.len())));
                    width + added.len() - 1
                }
            };
            grouping.parts.push(Part::Key(grouping.keys.len()));
            grouping.keys.push(column);
        }
        if !added.is_empty() {
            let plan = built.plan.clone();
            built.plan = self.append_columns(plan, added, None)?;
        }
        Ok(grouping)
    }

    /// Lets a projection below compute the arguments and filters of aggregates, so that a row on which
    /// one fails is refused alone; the aggregates then read plain columns.
    pub(super) fn compute_arguments(
        &self,
        built: &mut Built,
        exprs: &[Expr],
        computed: &mut Vec<Expr>,
    ) -> Result<Vec<Expr>, PlanError> {
        let names = built.physical_names()?;
        let width = built.plan.schema.fields().len();
        let mut added: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
        // What several read is one column: DISTINCT asks whether its order is that of its argument.
        let mut columns: HashMap<Expr, Expr> = HashMap::new();
        let mut failure = None;
        let mut column_of = |expr: Expr| -> Expr {
            if built.uses_window(&expr) {
                match built.over_pairs(&expr) {
                    Ok(pair) => computed.push(pair),
                    Err(error) => failure = Some(error),
                }
                return Expr::Column(Column::new_unqualified(computed_name(computed.len() - 1)));
            }
            if matches!(expr, Expr::Column(_) | Expr::Literal(..)) {
                return expr;
            }
            if let Some(column) = columns.get(&expr) {
                return column.clone();
            }
            match self.lower(&expr, &names) {
                Ok(physical) => {
                    // The name that `physical_names` gives to a column without a logical one.
                    let name = format!("__column_{}", width + added.len());
                    added.push((physical, name.clone()));
                    let column = Expr::Column(Column::new_unqualified(name));
                    columns.insert(expr, column.clone());
                    column
                }
                Err(error) => {
                    failure = Some(error);
                    expr
                }
            }
        };
        let rewritten: Vec<Expr> =
            exprs.iter().map(|expr| replace_arguments(expr.clone(), &mut column_of)).collect();
        if let Some(error) = failure {
            return Err(error);
        }
        if !added.is_empty() {
            let plan = built.plan.clone();
            built.plan = self.append_columns(plan, added, None)?;
        }
        Ok(rewritten)
    }
}

/// An aggregate call with each argument, filter and sort key as `column_of` has it.
fn replace_arguments(expr: Expr, column_of: &mut impl FnMut(Expr) -> Expr) -> Expr {
    match expr {
        Expr::Alias(mut alias) => {
            alias.expr = Box::new(replace_arguments(*alias.expr, column_of));
            Expr::Alias(alias)
        }
        Expr::AggregateFunction(mut call) => {
            let params = &mut call.params;
            params.args =
                std::mem::take(&mut params.args).into_iter().map(&mut *column_of).collect();
            params.filter = params.filter.take().map(|filter| Box::new(column_of(*filter)));
            for sort in &mut params.order_by {
                sort.expr = column_of(sort.expr.clone());
            }
            Expr::AggregateFunction(call)
        }
        other => other,
    }
}

/// The names and the schema that aggregates are lowered against: the plan's columns, then those
/// that pairs compute.
pub(super) fn wide_names(
    built: &Built,
    pairs: Option<&Pairs>,
) -> Result<(DFSchema, SchemaRef), PlanError> {
    let names = built.physical_names()?;
    let width = built.plan.schema.fields().len();
    let Some(pairs) = pairs.filter(|pairs| !pairs.computed.is_empty()) else {
        return Ok((names, Arc::clone(&built.plan.schema)));
    };
    let mut fields: Vec<_> =
        names.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
    fields.extend(pairs.output.fields()[width..].iter().map(|field| (None, Arc::clone(field))));
    let names = DFSchema::new_with_metadata(fields, Default::default()).map_err(from_datafusion)?;
    Ok((names, Arc::clone(&pairs.output)))
}
