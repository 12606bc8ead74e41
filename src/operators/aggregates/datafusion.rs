//! Runs any aggregate of DataFusion behind our own contract.
//!
//! DataFusion's accumulators give their state away: reading it empties them. So every reading that
//! has to leave the aggregate as it was takes the state out, merges it into a fresh accumulator and
//! keeps that one.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt32Array, new_empty_array};
use arrow::compute;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::operators::aggregates::accumulator::{
    GroupedAggregate, Rows, cannot_retract, gather, restores_exactly,
};
use crate::operators::compact::compact;
use crate::operators::operator::EvalError;

/// An aggregate of DataFusion.
pub(super) struct Foreign {
    function: Arc<AggregateFunctionExpr>,
    accumulator: Box<dyn GroupsAccumulator>,
    group_count: usize,
}

/// A fresh accumulator: the function's own for many groups, else one box per group.
pub(super) fn accumulator(
    function: &Arc<AggregateFunctionExpr>,
) -> Result<Box<dyn GroupsAccumulator>, EvalError> {
    if function.groups_accumulator_supported() {
        return Ok(function.create_groups_accumulator()?);
    }
    let of_group = Arc::clone(function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || of_group.create_accumulator())))
}

/// Groups as DataFusion counts them.
fn wide(groups: &[u32]) -> Vec<usize> {
    groups.iter().map(|&group| group as usize).collect()
}

impl Foreign {
    pub(super) fn new(function: Arc<AggregateFunctionExpr>) -> Result<Foreign, EvalError> {
        let accumulator = accumulator(&function)?;
        Ok(Foreign { function, accumulator, group_count: 0 })
    }

    /// Rows with a weight above 1 as often as they count.
    fn repeated(
        &mut self,
        values: &[ArrayRef],
        rows: &Rows<'_>,
        weights: &Int64Array,
    ) -> Result<(), EvalError> {
        let mut indices = Vec::with_capacity(weights.len());
        for (row, &weight) in weights.values().iter().enumerate() {
            if weight < 0 {
                return Err(cannot_retract(self.function.name()));
            }
            indices.extend((0..weight).map(|_| row as u32));
        }
        let groups: Vec<u32> = indices.iter().map(|&row| rows.groups[row as usize]).collect();
        let indices = UInt32Array::from(indices);
        let values = compute::take_arrays(values, &indices, None)?;
        let filter = match rows.filter {
            Some(filter) => Some(compute::take(filter, &indices, None)?),
            None => None,
        };
        let filter = filter.as_ref().map(arrow::array::AsArray::as_boolean);
        let rows = Rows { groups: &groups, filter, weights: None, ..*rows };
        self.update(&values, &rows)
    }
}

impl GroupedAggregate for Foreign {
    fn update(&mut self, values: &[ArrayRef], rows: &Rows<'_>) -> Result<(), EvalError> {
        if let Some(weights) = rows.weights
            && weights.values().iter().any(|&weight| weight != 1)
        {
            return self.repeated(values, rows, weights);
        }
        self.group_count = self.group_count.max(rows.group_count);
        let count = self.group_count;
        Ok(self.accumulator.update_batch(values, &wide(rows.groups), rows.filter, count)?)
    }

    fn merge(
        &mut self,
        state: &[ArrayRef],
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), EvalError> {
        self.group_count = self.group_count.max(group_count);
        Ok(self.accumulator.merge_batch(state, &wide(groups), self.group_count)?)
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        let group_count = self.group_count;
        let state = self.take_state()?;
        if group_count > 0 {
            let groups: Vec<u32> = (0..group_count as u32).collect();
            self.merge(&state, &groups, group_count)?;
        }
        Ok(state)
    }

    fn take_state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        if self.group_count == 0 {
            let fields = self.function.state_fields()?;
            return Ok(fields.iter().map(|field| new_empty_array(field.data_type())).collect());
        }
        let state = self.accumulator.state(EmitTo::All)?.iter().map(compact).collect();
        *self = Foreign::new(Arc::clone(&self.function))?;
        Ok(state)
    }

    fn evaluate(&mut self) -> Result<ArrayRef, EvalError> {
        if self.group_count == 0 {
            return Ok(new_empty_array(self.function.field().data_type()));
        }
        let results = self.accumulator.evaluate(EmitTo::All)?;
        *self = Foreign::new(Arc::clone(&self.function))?;
        Ok(results)
    }

    fn evaluate_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        if groups.is_empty() {
            return Ok(new_empty_array(self.function.field().data_type()));
        }
        let state = gather(&self.state()?, groups)?;
        let mut copy = accumulator(&self.function)?;
        let renumbered: Vec<usize> = (0..groups.len()).collect();
        copy.merge_batch(&state, &renumbered, groups.len())?;
        Ok(copy.evaluate(EmitTo::All)?)
    }

    fn group_count(&self) -> usize {
        self.group_count
    }

    fn size(&self) -> usize {
        self.accumulator.size()
    }

    fn restores_exactly(&self) -> bool {
        restores_exactly(&self.function)
    }
}
