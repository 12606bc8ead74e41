//! Counts and places are BIGINT, as in PostgreSQL.
//!
//! DataFusion numbers rows, ranks them and measures lists in unsigned numbers. Those beside a BIGINT are
//! NUMERIC(20,0), so that `row_number() OVER (…) - n` would be a text in JSON and no integer in a database.
//! None of them reaches 2^63, so here they have a sign from the start.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::planner::{PlannerResult, RawAggregateExpr, RawWindowExpr};
use datafusion::logical_expr::{
    Cast, Documentation, Expr, LimitEffect, PartitionEvaluator, Signature, WindowUDF, WindowUDFImpl,
};
use datafusion::physical_expr::PhysicalExpr;

/// Functions of lists that count.
pub(super) const OF_LISTS: [&str; 6] = [
    "array_dims",
    "array_length",
    "array_ndims",
    "array_position",
    "array_positions",
    "cardinality",
];

/// A type with a sign; any other type stays as it is.
pub(super) fn signed_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::UInt64 => DataType::Int64,
        DataType::List(item) => DataType::List(signed_field(item)),
        other => other.clone(),
    }
}

/// A field of such a type.
pub(super) fn signed_field(field: &FieldRef) -> FieldRef {
    let signed = Field::clone(field).with_data_type(signed_type(field.data_type()));
    Arc::new(signed)
}

/// The ranking function with numbers that have a sign; `None` where the function makes no such numbers.
pub(super) fn ranking(function: &Arc<WindowUDF>) -> Option<Arc<WindowUDF>> {
    let counts = ["row_number", "rank", "dense_rank", "ntile"].contains(&function.name());
    counts.then(|| Arc::new(WindowUDF::from(Ranking { theirs: Arc::clone(function) })))
}

/// Whether an aggregate's result is a number without a sign.
fn counts(name: &str) -> bool {
    matches!(name, "approx_distinct" | "regr_count")
}

/// The call of an aggregate that counts, as BIGINT; any other call comes back.
pub(super) fn aggregate(call: RawAggregateExpr) -> PlannerResult<RawAggregateExpr> {
    if !counts(call.func.name()) {
        return PlannerResult::Original(call);
    }
    let RawAggregateExpr { func, args, distinct, filter, order_by, null_treatment } = call;
    let call = AggregateFunction::new_udf(func, args, distinct, filter, order_by, null_treatment);
    PlannerResult::Planned(bigint(Expr::AggregateFunction(call)))
}

/// The same of a call with OVER.
pub(super) fn aggregate_over(call: RawWindowExpr) -> PlannerResult<RawWindowExpr> {
    if !counts(call.func_def.name()) {
        return PlannerResult::Original(call);
    }
    let params = WindowFunctionParams {
        args: call.args,
        partition_by: call.partition_by,
        order_by: call.order_by,
        window_frame: call.window_frame,
        filter: call.filter,
        null_treatment: call.null_treatment,
        distinct: call.distinct,
    };
    PlannerResult::Planned(bigint(Expr::from(WindowFunction { fun: call.func_def, params })))
}

fn bigint(call: Expr) -> Expr {
    Expr::Cast(Cast::new(Box::new(call), DataType::Int64))
}

/// A ranking function of DataFusion.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Ranking {
    theirs: Arc<WindowUDF>,
}

impl WindowUDFImpl for Ranking {
    fn name(&self) -> &str {
        self.theirs.name()
    }
    fn aliases(&self) -> &[String] {
        self.theirs.aliases()
    }
    fn signature(&self) -> &Signature {
        self.theirs.signature()
    }
    fn partition_evaluator(
        &self,
        args: PartitionEvaluatorArgs,
    ) -> Result<Box<dyn PartitionEvaluator>> {
        let theirs = self.theirs.partition_evaluator_factory(args)?;
        Ok(Box::new(Numbers { theirs }))
    }
    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(signed_field(&self.theirs.field(args)?))
    }
    fn sort_options(&self) -> Option<SortOptions> {
        self.theirs.sort_options()
    }
    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.theirs.coerce_types(arguments)
    }
    fn documentation(&self) -> Option<&Documentation> {
        self.theirs.documentation()
    }
    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.theirs.inner().limit_effect(args)
    }
}

/// The numbers of a partition.
#[derive(Debug)]
struct Numbers {
    theirs: Box<dyn PartitionEvaluator>,
}

fn signed(numbers: &ArrayRef) -> Result<ArrayRef> {
    Ok(cast(numbers, &DataType::Int64)?)
}

impl PartitionEvaluator for Numbers {
    fn is_causal(&self) -> bool {
        self.theirs.is_causal()
    }
    fn get_range(&self, index: usize, rows: usize) -> Result<Range<usize>> {
        self.theirs.get_range(index, rows)
    }
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        signed(&self.theirs.evaluate_all(values, rows)?)
    }
    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        self.theirs.evaluate(values, range)?.cast_to(&DataType::Int64)
    }
    fn evaluate_all_with_rank(&self, rows: usize, ranks: &[Range<usize>]) -> Result<ArrayRef> {
        signed(&self.theirs.evaluate_all_with_rank(rows, ranks)?)
    }
    fn supports_bounded_execution(&self) -> bool {
        self.theirs.supports_bounded_execution()
    }
    fn uses_window_frame(&self) -> bool {
        self.theirs.uses_window_frame()
    }
    fn include_rank(&self) -> bool {
        self.theirs.include_rank()
    }
}
