//! Says what DISTINCT and ORDER BY mean in the call of an aggregate; one that counts gives BIGINT.
//!
//! *ORDER BY* is kept where the function reads its rows in an order. Elsewhere it changes no answer, and DataFusion
//! hands its columns to functions that do not expect them.
//!
//! *DISTINCT* goes where equal values change nothing (`max(DISTINCT x)`). Where DataFusion passes it over
//! (`covar_pop(DISTINCT x, y)`), refuses it (`stddev(DISTINCT x)`) or answers in the order of a hash table, which
//! differs from run to run (`array_agg(DISTINCT x)`, sums of floats), the aggregate is ours ([`super::different_values`]).

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr,
};
use datafusion::logical_expr::{AggregateUDF, WindowFunctionDefinition};

use crate::operators::aggregates::bounds::DISTINCT_WHERE;
use crate::planner::different_values::of_different_values;
use crate::planner::error::PlanError;
use crate::planner::signed_numbers;

/// The planner of calls.
#[derive(Debug)]
pub(super) struct AggregateCalls;

impl ExprPlanner for AggregateCalls {
    fn plan_aggregate(
        &self,
        mut call: RawAggregateExpr,
    ) -> Result<PlannerResult<RawAggregateExpr>> {
        if !reads_in_order(&call.func) {
            call.order_by.clear();
        }
        if call.distinct && call.order_by.is_empty() {
            (call.func, call.distinct) = distinct(call.func)?;
        }
        Ok(signed_numbers::aggregate(call))
    }

    fn plan_window(&self, mut call: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        if call.distinct
            && let WindowFunctionDefinition::AggregateUDF(function) = &call.func_def
        {
            let (function, is_distinct) = distinct(Arc::clone(function))?;
            call.func_def = WindowFunctionDefinition::AggregateUDF(function);
            call.distinct = is_distinct;
        }
        Ok(signed_numbers::aggregate_over(call))
    }
}

/// Whether ORDER BY in the call has a meaning, or is refused further on.
fn reads_in_order(function: &AggregateUDF) -> bool {
    let by_name = matches!(
        function.name(),
        "array_agg"
            | "string_agg"
            | "first_value"
            | "last_value"
            | "nth_value"
            | "heavy_hitters"
            | DISTINCT_WHERE
    );
    by_name || function.supports_within_group_clause()
}

/// What is called of different values, and whether it has to be told so.
fn distinct(function: Arc<AggregateUDF>) -> Result<(Arc<AggregateUDF>, bool)> {
    Ok(match function.name() {
        "min" | "max" | "bit_and" | "bit_or" | "bool_and" | "bool_or" | "any_value"
        | "approx_distinct" | "first_value" => (function, false),
        "last_value" | "nth_value" => {
            let what = format!("{}() of DISTINCT values", function.name());
            let hint = "Which value is at a place of different ones is not defined; leave DISTINCT away, or ask array_agg(DISTINCT …).";
            return Err(PlanError::unsupported(what, hint).into());
        }
        "sum"
        | "avg"
        | "array_agg"
        | "string_agg"
        | "bit_xor"
        | "var"
        | "var_pop"
        | "stddev"
        | "stddev_pop"
        | "covar_samp"
        | "covar_pop"
        | "corr"
        | "approx_median"
        | "approx_percentile_cont"
        | "approx_percentile_cont_with_weight" => (of_different_values(function), true),
        name if name.starts_with("regr_") => (of_different_values(function), true),
        _ => (function, true),
    })
}
