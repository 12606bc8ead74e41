//! Folds any aggregate of DataFusion over append-only input, with one accumulator per group.
//!
//! Reading does not consume: that is the contract of `Accumulator::evaluate`. The rows of a batch are
//! sorted by group first, in log order within a group, so that each accumulator is called once.

use std::sync::Arc;

use arrow::array::{Array, UInt32Array, new_empty_array};
use arrow::compute;
use datafusion::logical_expr::Accumulator;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::scalar::ScalarValue;

use super::extreme::insertion;
use super::fold::{Evaluated, Fold, FoldRows};
use crate::operators::expr::row_error;
use crate::operators::operator::EvalError;

/// An accumulator per group.
pub struct BoxedFold {
    function: Arc<AggregateFunctionExpr>,
    /// `None`: no rows yet.
    accumulators: Vec<Option<Box<dyn Accumulator>>>,
}

impl BoxedFold {
    /// A fold without groups.
    pub fn new(function: Arc<AggregateFunctionExpr>) -> BoxedFold {
        BoxedFold { function, accumulators: Vec::new() }
    }
}

impl Fold for BoxedFold {
    fn resize(&mut self, groups: usize) {
        self.accumulators.resize_with(groups, || None);
    }

    fn update(&mut self, rows: &FoldRows<'_>) -> Result<(), EvalError> {
        let mut order: Vec<u32> = Vec::with_capacity(rows.groups.len());
        for row in 0..rows.groups.len() {
            let weight = rows.weight(row);
            if insertion(weight)? {
                order.extend(std::iter::repeat_n(row as u32, weight as usize));
            }
        }
        let group_of = |row: &u32| rows.groups[*row as usize];
        order.sort_by_key(group_of);
        let indices = UInt32Array::from(order);
        let sorted = rows
            .arguments
            .iter()
            .map(|argument| compute::take(argument, &indices, None))
            .collect::<Result<Vec<_>, _>>()?;
        let mut start = 0;
        for run in indices.values().chunk_by(|a, b| group_of(a) == group_of(b)) {
            let arguments: Vec<_> =
                sorted.iter().map(|argument| argument.slice(start, run.len())).collect();
            start += run.len();
            let accumulator = match &mut self.accumulators[group_of(&run[0])] {
                Some(accumulator) => accumulator,
                empty => empty.insert(self.function.create_accumulator()?),
            };
            accumulator.update_batch(&arguments)?;
        }
        Ok(())
    }

    fn evaluate(&mut self, groups: &[usize]) -> Result<Evaluated, EvalError> {
        let data_type = self.function.field().data_type().clone();
        if groups.is_empty() {
            return Ok(Evaluated::all(new_empty_array(&data_type)));
        }
        let (mut scalars, mut failed) = (Vec::with_capacity(groups.len()), Vec::new());
        for (i, group) in groups.iter().enumerate() {
            let result = match &mut self.accumulators[*group] {
                Some(accumulator) => accumulator.evaluate(),
                None => self.function.create_accumulator()?.evaluate(),
            };
            scalars.push(match result {
                Ok(scalar) => scalar,
                Err(error) => {
                    let (code, reason) = row_error(&error);
                    failed.push((i, code, reason));
                    ScalarValue::try_from(&data_type)?
                }
            });
        }
        Ok(Evaluated { values: ScalarValue::iter_to_array(scalars)?, failed })
    }

    fn is_empty(&self, group: usize) -> bool {
        self.accumulators[group].is_none()
    }

    fn clear(&mut self, group: usize) {
        self.accumulators[group] = None;
    }

    fn keep(&mut self, groups: &[usize]) {
        self.accumulators = groups.iter().map(|g| self.accumulators[*g].take()).collect();
    }

    fn bytes(&self) -> usize {
        self.accumulators.capacity() * size_of::<Option<Box<dyn Accumulator>>>()
            + self.accumulators.iter().flatten().map(|a| a.size()).sum::<usize>()
    }
}
