//! Folds any aggregate of DataFusion over append-only input, with one accumulator per group.
//!
//! Reading does not consume: that is the contract of `Accumulator::evaluate`. The rows of a batch are
//! sorted by group first, in log order within a group, so that each accumulator is called once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array, new_empty_array};
use arrow::compute;
use datafusion::logical_expr::Accumulator;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::scalar::ScalarValue;

use super::accumulator::restores_exactly;
use super::extreme::insertion;
use super::fold::{Evaluated, Fold, FoldRows};
use crate::operators::compact::compact;
use crate::operators::expr::row_error;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, misfit};

/// An accumulator per group.
pub struct BoxedFold {
    function: Arc<AggregateFunctionExpr>,
    /// `None`: no rows yet.
    accumulators: Vec<Option<Box<dyn Accumulator>>>,
}

impl BoxedFold {
    /// Makes the accumulators of the groups that are `present` of their states, row by row.
    fn rebuild(&mut self, present: Vec<bool>, states: &[ArrayRef]) -> Result<(), EvalError> {
        let mut row = 0;
        self.accumulators.clear();
        for present in present {
            let made = match present {
                true => {
                    let mut accumulator = self.function.create_accumulator()?;
                    let state: Vec<ArrayRef> = states
                        .iter()
                        .map(|column| (row < column.len()).then(|| compact(&column.slice(row, 1))))
                        .collect::<Option<_>>()
                        .ok_or_else(|| misfit("the state of a group is missing"))?;
                    accumulator.merge_batch(&state)?;
                    row += 1;
                    Some(accumulator)
                }
                false => None,
            };
            self.accumulators.push(made);
        }
        Ok(())
    }

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

    fn restores_exactly(&self) -> bool {
        restores_exactly(&self.function)
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.put(&self.accumulators.iter().map(Option::is_some).collect::<Vec<bool>>())?;
        let states = self.accumulators.iter_mut().flatten().map(|accumulator| accumulator.state());
        let states = states.collect::<Result<Vec<_>, _>>()?;
        let fields = states.first().map_or(0, Vec::len);
        let columns = (0..fields)
            .map(|field| ScalarValue::iter_to_array(states.iter().map(|s| s[field].clone())))
            .collect::<Result<Vec<_>, _>>()?;
        out.columns(&columns)?;
        // Reading its state may empty an accumulator.
        let taken = self.accumulators.iter().map(Option::is_some).collect();
        self.rebuild(taken, &columns)
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        let present: Vec<bool> = from.get()?;
        self.rebuild(present, &from.columns()?)
    }
}
