//! Resolves the EMIT clause: widths and modes instead of expressions and words.

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::sql::planner::PlannerContext;
use datafusion::sql::sqlparser::ast::Expr as SqlExpr;

use crate::error::SqlState;
use crate::operators::emit::{EmitMode, Refinement};
use crate::planner::bind;
use crate::planner::constants;
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::relations::RelationLookup;
pub use crate::planner::translate::EmitRequest;
use crate::sql::statement::{EmitClause, EmitEvery, EmitModeClause, RefinementClause};

/// Resolves the clause. Refinement defaults to RETRACTING.
pub fn resolve(clause: &EmitClause, lookup: &dyn RelationLookup) -> Result<EmitRequest, PlanError> {
    let mode = match &clause.mode {
        None => None,
        Some(EmitModeClause::OnClose) => Some(EmitMode::OnClose),
        Some(EmitModeClause::Changes) => Some(EmitMode::Changes),
        Some(EmitModeClause::Every { every, refinement, .. }) => {
            let refinement = match refinement {
                None | Some(RefinementClause::Retracting) => Refinement::Retracting,
                Some(RefinementClause::Accumulating) => Refinement::Accumulating,
                Some(RefinementClause::Discarding) => Refinement::Discarding,
            };
            Some(match every {
                EmitEvery::Rows(0) => return Err(positive("EMIT EVERY … ROWS")),
                EmitEvery::Rows(rows) => EmitMode::EveryRows { rows: *rows, refinement },
                EmitEvery::Interval(expr) => {
                    let interval = width(expr, lookup)?.filter(|width| *width > 0);
                    let interval = interval.ok_or_else(|| positive("EMIT EVERY"))?;
                    EmitMode::EveryInterval { interval, refinement }
                }
            })
        }
    };
    let (mut allowed_lateness, mut lateness_is_logical) = (0, false);
    if let Some(expr) = &clause.allowed_lateness {
        let value = constant(expr, lookup)?;
        let lateness = value.as_ref().and_then(constants::signed_width).filter(|width| *width >= 0);
        allowed_lateness = lateness.ok_or_else(|| positive("ALLOWED LATENESS"))?;
        lateness_is_logical = value.is_some_and(|value| value.data_type().is_integer());
    }
    Ok(EmitRequest { mode, allowed_lateness, lateness_is_logical })
}

fn width(expr: &SqlExpr, lookup: &dyn RelationLookup) -> Result<Option<i64>, PlanError> {
    Ok(constant(expr, lookup)?.as_ref().and_then(constants::signed_width))
}

fn constant(expr: &SqlExpr, lookup: &dyn RelationLookup) -> Result<Option<ScalarValue>, PlanError> {
    let expr = bind::expression(expr, &DFSchema::empty(), lookup, &mut PlannerContext::new())?;
    constants::fold(expr).map_err(from_datafusion)
}

fn positive(what: &str) -> PlanError {
    PlanError::Window {
        code: SqlState::INVALID_PARAMETER,
        message: format!(
            "{what} must be a constant, positive interval without months or an integer"
        ),
        hint: Some("Write for example INTERVAL '10' SECOND.".into()),
    }
}
