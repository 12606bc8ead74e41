//! Lowers an aggregate call to what operators take, and finds the accumulator that is ours.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use datafusion::physical_expr::expressions::Literal;

use crate::error::SqlState;
use crate::operators::aggregates::bounds;
use crate::operators::aggregates::spec::{AggregateSpec, NativeFunction};
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::translate::Translator;

/// Lowers one aggregate against physical columns named as `names` says.
pub(super) fn lower_aggregate(
    translator: &Translator,
    expr: &Expr,
    names: &DFSchema,
    schema: &Schema,
) -> Result<AggregateSpec, PlanError> {
    let lowered = LoweredAggregateBuilder::new(
        expr,
        names,
        schema,
        &translator.properties,
        &translator.planning,
    )
    .build()
    .map_err(from_datafusion)?;
    bounds::check(&lowered.aggregate).map_err(|message| PlanError::Refused {
        code: SqlState::INVALID_PARAMETER,
        message,
        hint: None,
    })?;
    let native = native_function(&lowered.aggregate, schema);
    Ok(AggregateSpec {
        output: lowered.aggregate.field(),
        native,
        filter: lowered.filter,
        function: lowered.aggregate,
    })
}

/// The accumulator of ours that computes the aggregate, if there is one.
fn native_function(
    function: &Arc<AggregateFunctionExpr>,
    schema: &Schema,
) -> Option<NativeFunction> {
    if function.is_distinct() || !function.order_bys().is_empty() {
        return None;
    }
    let arguments = function.expressions();
    let [argument] = arguments.as_slice() else { return None };
    let input = argument.data_type(schema).ok()?;
    let number = input.is_integer() || input.is_floating();
    match function.fun().name() {
        "count" => {
            let constant = argument.downcast_ref::<Literal>();
            Some(match constant {
                Some(literal) if !literal.value().is_null() => NativeFunction::CountRows,
                _ => NativeFunction::Count,
            })
        }
        "sum" if number || matches!(input, DataType::Decimal128(..)) => Some(NativeFunction::Sum),
        "avg" if number => Some(NativeFunction::Avg),
        "min" => Some(NativeFunction::Min),
        "max" => Some(NativeFunction::Max),
        _ => None,
    }
}
