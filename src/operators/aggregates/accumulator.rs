//! States what a grouped aggregate is, makes one from its spec, and feeds it from a batch.
//!
//! A grouped aggregate holds one partial result per *group*, and groups are dense numbers from 0:
//! whoever owns the keys hands out the numbers. All work is done a batch at a time, so the price of
//! the dynamic call is paid once per batch and never per row.
//!
//! # Invariants
//! A1. `update` and `merge` leave the aggregate with exactly `group_count` groups, or more when it
//!     had more before.
//! A2. `state`, `state_of` and `evaluate_of` change nothing that a later call could see.
//! A3. The partial result of a group is a function of its rows in the order they came, never of how
//!     they were cut into batches.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::operators::aggregates::avg::Avg;
use crate::operators::aggregates::bounds::is_bounds;
use crate::operators::aggregates::count::Count;
use crate::operators::aggregates::datafusion::Foreign;
use crate::operators::aggregates::first_last::FirstLastFold;
use crate::operators::aggregates::min_max;
use crate::operators::aggregates::mining::{MiningAggregate, miner_of};
use crate::operators::aggregates::moments::MomentsFold;
use crate::operators::aggregates::ordered::Ordered;
use crate::operators::aggregates::retractable::Retractable;
use crate::operators::aggregates::spec::{AggregateSpec, NativeFunction};
use crate::operators::aggregates::sum::Sum;
use crate::operators::operator::EvalError;

/// Which rows an update folds, and into which groups.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// For each row its group.
    pub groups: &'a [u32],
    /// Number of groups there are; every element of `groups` is below it.
    pub group_count: usize,
    /// Rows to fold; null counts as false. `None`: all.
    pub filter: Option<&'a BooleanArray>,
    /// Net number of times each row counts, +n or −n. `None`: once.
    pub weights: Option<&'a Int64Array>,
}

impl<'a> Rows<'a> {
    /// Every row, once.
    pub fn all(groups: &'a [u32], group_count: usize) -> Rows<'a> {
        Rows { groups, group_count, filter: None, weights: None }
    }

    /// How often a row counts: not at all where the filter leaves it out.
    pub(super) fn weight(&self, row: usize) -> i64 {
        match self.filter {
            Some(filter) if filter.is_null(row) || !filter.value(row) => 0,
            _ => self.weights.map_or(1, |weights| weights.value(row)),
        }
    }

    /// Calls `fold(row, group, weight)` for each row that the filter keeps and `nulls` calls valid.
    pub(super) fn for_each(
        &self,
        nulls: Option<&NullBuffer>,
        mut fold: impl FnMut(usize, usize, i64),
    ) {
        let weight = |row: usize| self.weights.map_or(1, |weights| weights.value(row));
        match self.kept(nulls) {
            None => {
                for (row, &group) in self.groups.iter().enumerate() {
                    fold(row, group as usize, weight(row));
                }
            }
            Some(kept) => {
                for row in kept.set_indices() {
                    fold(row, self.groups[row] as usize, weight(row));
                }
            }
        }
    }

    /// Whether every row counts exactly once, so that a loop needs to look at groups alone.
    pub(super) fn plain(&self, nulls: Option<&NullBuffer>) -> bool {
        self.filter.is_none()
            && self.weights.is_none()
            && nulls.is_none_or(|nulls| nulls.null_count() == 0)
    }

    fn kept(&self, nulls: Option<&NullBuffer>) -> Option<BooleanBuffer> {
        let filter = self.filter.map(|filter| match filter.nulls() {
            Some(valid) => filter.values() & valid.inner(),
            None => filter.values().clone(),
        });
        let valid = nulls.filter(|n| n.null_count() > 0).map(|n| n.inner().clone());
        match (filter, valid) {
            (Some(filter), Some(valid)) => Some(&filter & &valid),
            (filter, valid) => filter.or(valid),
        }
    }
}

/// Partial results of one aggregate function, one per group.
pub trait GroupedAggregate: Send {
    /// Folds rows. `values` are the columns that [`arguments`] makes, cut to the rows.
    fn update(&mut self, values: &[ArrayRef], rows: &Rows<'_>) -> Result<(), EvalError>;

    /// Folds partial results that [`state`](Self::state) gave; row `i` goes to `groups[i]`.
    fn merge(
        &mut self,
        state: &[ArrayRef],
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), EvalError>;

    /// Takes partial results out again that were merged before.
    /// Only where [`is_invertible`](Self::is_invertible).
    fn unmerge(&mut self, _state: &[ArrayRef], _groups: &[u32]) -> Result<(), EvalError> {
        Err(EvalError::Broken("this aggregate cannot take partial results out again".to_owned()))
    }

    /// Whether `unmerge` undoes `merge` exactly.
    fn is_invertible(&self) -> bool {
        false
    }

    /// Whether a group without rows costs a few bytes and little time, so that groups may be
    /// numbered with gaps.
    fn is_dense(&self) -> bool {
        false
    }

    /// Whether `update` accepts negative weights.
    fn is_retractable(&self) -> bool {
        false
    }

    /// The partial results of all groups, in columns; the aggregate keeps them.
    fn state(&mut self) -> Result<Vec<ArrayRef>, EvalError>;

    /// Whether [`state_of`](Self::state_of) takes no more time than the groups asked for.
    fn reads_groups(&self) -> bool {
        false
    }

    /// The partial results of some groups, in the order asked for.
    fn state_of(&mut self, groups: &[u32]) -> Result<Vec<ArrayRef>, EvalError> {
        gather(&self.state()?, groups)
    }

    /// The partial results of all groups; the aggregate is empty afterwards.
    fn take_state(&mut self) -> Result<Vec<ArrayRef>, EvalError>;

    /// The results of all groups; the aggregate is empty afterwards.
    fn evaluate(&mut self) -> Result<ArrayRef, EvalError>;

    /// The results of some groups, in the order asked for; the aggregate is empty afterwards.
    fn take_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        let all = self.evaluate()?;
        Ok(compute::take(&all, &UInt32Array::from(groups.to_vec()), None)?)
    }

    /// The results of some groups, in the order asked for; the aggregate keeps all.
    fn evaluate_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError>;

    /// Whether partial results that are merged into nothing are the same to the bit.
    fn restores_exactly(&self) -> bool {
        true
    }

    /// Whether reading may fail for a group alone, which changes nothing.
    fn can_overflow(&self) -> bool {
        false
    }

    /// Number of groups.
    fn group_count(&self) -> usize;

    /// Bytes held.
    fn size(&self) -> usize;
}

/// An empty aggregate that computes the spec.
pub fn make(spec: &AggregateSpec) -> Result<Box<dyn GroupedAggregate>, EvalError> {
    let function = &spec.function;
    let native = match spec.native {
        Some(NativeFunction::CountRows) => Some(Box::new(Count::rows()) as _),
        Some(NativeFunction::Count) => Some(Box::new(Count::values()) as _),
        Some(NativeFunction::Sum) => Sum::for_result(function),
        Some(NativeFunction::Avg) => Avg::for_result(function),
        Some(NativeFunction::Min) => min_max::least(function.field().data_type()),
        Some(NativeFunction::Max) => min_max::greatest(function.field().data_type()),
        None => None,
    };
    if let Some(native) = native {
        return Ok(native);
    }
    if let Some(moments) = MomentsFold::of(function) {
        return Ok(Box::new(moments));
    }
    if let Some(ends) = FirstLastFold::of(function) {
        return Ok(Box::new(ends));
    }
    if let Some(miner) = miner_of(function) {
        return Ok(Box::new(MiningAggregate::new(Arc::clone(miner))?));
    }
    if wants_sorted_input(function) {
        return Ok(Box::new(Ordered::new(Arc::clone(function))));
    }
    Ok(Box::new(Foreign::new(Arc::clone(function))?))
}

/// An empty aggregate that computes the spec where rows of its input can be taken back.
pub fn make_retractable(
    spec: &AggregateSpec,
    input: &SchemaRef,
) -> Result<Box<dyn GroupedAggregate>, EvalError> {
    Ok(Box::new(Retractable::new(spec, input)?))
}

/// Whether the function must see a group's rows in log order, all in one go: its partial results
/// over pieces of the time line do not add up to the result over the whole.
pub fn is_order_sensitive(spec: &AggregateSpec) -> bool {
    let function = &spec.function;
    let by_name = matches!(
        function.fun().name(),
        "array_agg" | "string_agg" | "first_value" | "last_value" | "nth_value" | "any_value"
    );
    by_name
        || miner_of(function).is_some_and(|miner| !miner.merges_slices())
        || (!function.order_bys().is_empty() && !is_ordered_set(function))
}

/// Whether partial results add up to exactly the result over all rows, however they were cut.
pub fn is_exactly_mergeable(spec: &AggregateSpec) -> bool {
    let function = &spec.function;
    if is_order_sensitive(spec) {
        return false;
    }
    let field = function.field();
    let exact_type =
        !matches!(field.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64);
    match function.fun().name() {
        "count"
        | "min"
        | "max"
        | "bit_and"
        | "bit_or"
        | "bit_xor"
        | "bool_and"
        | "bool_or"
        | "approx_distinct"
        | "approx_median"
        | "approx_percentile_cont" => true,
        "sum" => exact_type,
        name if is_bounds(name) => true,
        _ => false,
    }
}

/// Whether the partial results of DataFusion's accumulator, merged into nothing, are the same to the
/// bit. Those of variances over distinct values, of regressions and of weighted quantiles are not: they are
/// computed anew when they are merged. A count of distinct values that goes on from its sketch estimates
/// otherwise than one that saw all values itself.
pub(super) fn restores_exactly(function: &AggregateFunctionExpr) -> bool {
    let name = function.fun().name();
    let computed = [
        "var",
        "stddev",
        "covar",
        "corr",
        "regr_",
        "approx_percentile_cont_with_weight",
        "approx_distinct",
    ];
    !computed.iter().any(|prefix| name.starts_with(prefix))
}

/// Functions whose accumulators expect sorted input, or pick among ties as they please.
fn wants_sorted_input(function: &AggregateFunctionExpr) -> bool {
    !function.order_bys().is_empty()
        && !is_ordered_set(function)
        && !function.groups_accumulator_supported()
        && !matches!(function.fun().name(), "array_agg" | "string_agg")
}

/// `percentile_cont(…) WITHIN GROUP (ORDER BY x)`: the order names the argument, no more.
fn is_ordered_set(function: &AggregateFunctionExpr) -> bool {
    function.fun().supports_within_group_clause()
}

/// The columns that the aggregate folds: its arguments, then what its ORDER BY names.
pub fn arguments(spec: &AggregateSpec, input: &RecordBatch) -> Result<Vec<ArrayRef>, EvalError> {
    if spec.native == Some(NativeFunction::CountRows) {
        return Ok(Vec::new());
    }
    let expressions = spec.function.all_expressions();
    let all = expressions.args.iter().chain(&expressions.order_by_exprs);
    all.map(|expression| column(expression, input)).collect()
}

/// The aggregate's FILTER over the batch, if it has one.
pub fn filter(
    spec: &AggregateSpec,
    input: &RecordBatch,
) -> Result<Option<BooleanArray>, EvalError> {
    let Some(predicate) = &spec.filter else { return Ok(None) };
    let kept = column(predicate, input)?;
    match kept.as_boolean_opt() {
        Some(kept) => Ok(Some(kept.clone())),
        None => Err(EvalError::Broken(format!(
            "the filter of {spec} is of type {}, not boolean",
            kept.data_type()
        ))),
    }
}

fn column(expression: &Arc<dyn PhysicalExpr>, input: &RecordBatch) -> Result<ArrayRef, EvalError> {
    Ok(expression.evaluate(input)?.into_array(input.num_rows())?)
}

/// The rows of `columns` at `groups`.
pub fn gather(columns: &[ArrayRef], groups: &[u32]) -> Result<Vec<ArrayRef>, EvalError> {
    Ok(compute::take_arrays(columns, &UInt32Array::from(groups.to_vec()), None)?)
}

/// The error of an aggregate that was handed a retraction and has no way to take a row back.
pub(super) fn cannot_retract(function: &str) -> EvalError {
    EvalError::Broken(format!("{function} cannot take back a row"))
}
