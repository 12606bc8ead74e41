//! Refuses what stands where a condition has to, and is none: CASE WHEN and FILTER of a number.
//!
//! DataFusion asks this of WHERE and HAVING only; elsewhere it takes a number for whether it is zero, which
//! PostgreSQL refuses as standard SQL does.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::{Case, Expr, ExprSchemable};

use crate::data::sql_words::in_sql_words;
use crate::error::SqlState;
use crate::planner::error::PlanError;

/// Checks the conditions of one expression, not of those inside.
pub(super) fn check(expr: &Expr, schema: &DFSchema) -> Result<()> {
    match expr {
        Expr::Case(Case { expr: None, when_then_expr, .. }) => {
            when_then_expr.iter().try_for_each(|(when, _)| check_one("CASE/WHEN", when, schema))
        }
        Expr::AggregateFunction(AggregateFunction { params, .. }) => {
            params.filter.iter().try_for_each(|filter| check_one("FILTER", filter, schema))
        }
        Expr::WindowFunction(window) => {
            let WindowFunction { params, .. } = window.as_ref();
            params.filter.iter().try_for_each(|filter| check_one("FILTER", filter, schema))
        }
        _ => Ok(()),
    }
}

/// A text that is written there is read as a boolean, and what has no type here (a column of an outer
/// query, say) is no concern of this.
fn check_one(place: &str, condition: &Expr, schema: &DFSchema) -> Result<()> {
    let found = match condition.get_type(schema) {
        Ok(DataType::Boolean | DataType::Null) | Err(_) => return Ok(()),
        Ok(found) if found.is_string() && matches!(condition, Expr::Literal(..)) => return Ok(()),
        Ok(found) => found,
    };
    let data_type = in_sql_words(&found.to_string()).to_lowercase();
    Err(DataFusionError::from(PlanError::Refused {
        code: SqlState::TYPE_MISMATCH,
        message: format!("argument of {place} must be type boolean, not type {data_type}"),
        hint: Some("Compare it with something.".into()),
    }))
}
