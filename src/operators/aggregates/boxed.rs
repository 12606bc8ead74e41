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
use crate::operators::portions::Chosen;
use crate::operators::state::{StateReader, StateWriter, misfit};

/// An accumulator per group.
pub struct BoxedFold {
    function: Arc<AggregateFunctionExpr>,
    /// `None`: no rows yet.
    accumulators: Vec<Option<Box<dyn Accumulator>>>,
    /// Bytes of all of them, kept up to date because asking each takes time.
    held: usize,
}

impl BoxedFold {
    /// Makes the accumulators of groups of their states, row by row.
    fn rebuild(&mut self, groups: &[usize], states: &[ArrayRef]) -> Result<(), EvalError> {
        for (row, &group) in groups.iter().enumerate() {
            let mut accumulator = self.function.create_accumulator()?;
            let state: Vec<ArrayRef> = states
                .iter()
                .map(|column| (row < column.len()).then(|| compact(&column.slice(row, 1))))
                .collect::<Option<_>>()
                .ok_or_else(|| misfit("the state of a group is missing"))?;
            accumulator.merge_batch(&state)?;
            self.put(group, Some(accumulator));
        }
        Ok(())
    }

    /// Gives a group another accumulator.
    fn put(&mut self, group: usize, accumulator: Option<Box<dyn Accumulator>>) {
        let size = |accumulator: &Option<Box<dyn Accumulator>>| {
            accumulator.as_ref().map_or(0, |accumulator| accumulator.size())
        };
        self.held += size(&accumulator);
        let old = std::mem::replace(&mut self.accumulators[group], accumulator);
        self.held = self.held.saturating_sub(size(&old));
    }

    /// A fold without groups.
    pub fn new(function: Arc<AggregateFunctionExpr>) -> BoxedFold {
        BoxedFold { function, accumulators: Vec::new(), held: 0 }
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
            let group = group_of(&run[0]);
            let is_new = self.accumulators[group].is_none();
            let accumulator = match &mut self.accumulators[group] {
                Some(accumulator) => accumulator,
                empty => empty.insert(self.function.create_accumulator()?),
            };
            let before = if is_new { 0 } else { accumulator.size() };
            accumulator.update_batch(&arguments)?;
            self.held = (self.held + accumulator.size()).saturating_sub(before);
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
        self.put(group, None);
    }

    fn keep(&mut self, groups: &[usize]) {
        self.accumulators = groups.iter().map(|g| self.accumulators[*g].take()).collect();
        self.held = self.accumulators.iter().flatten().map(|a| a.size()).sum();
    }

    fn bytes(&self) -> usize {
        self.accumulators.capacity() * size_of::<Option<Box<dyn Accumulator>>>() + self.held
    }

    fn restores_exactly(&self) -> bool {
        restores_exactly(&self.function)
    }

    fn save(&mut self, chosen: &Chosen, out: &mut StateWriter) -> Result<(), EvalError> {
        let groups = chosen.to_vec();
        let present: Vec<bool> =
            groups.iter().map(|&group| self.accumulators[group].is_some()).collect();
        out.put(&present)?;
        let groups: Vec<usize> =
            groups.into_iter().filter(|&group| self.accumulators[group].is_some()).collect();
        let mut states = Vec::with_capacity(groups.len());
        for &group in &groups {
            let accumulator = self.accumulators[group].as_mut().expect("only those with one");
            states.push(accumulator.state()?);
        }
        let fields = states.first().map_or(0, Vec::len);
        let columns = (0..fields)
            .map(|field| ScalarValue::iter_to_array(states.iter().map(|s| s[field].clone())))
            .collect::<Result<Vec<_>, _>>()?;
        out.columns(&columns)?;
        // Reading its state may empty an accumulator.
        self.rebuild(&groups, &columns)
    }

    fn restore(&mut self, chosen: &Chosen, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        let groups = chosen.to_vec();
        let present: Vec<bool> = from.get()?;
        if present.len() != groups.len() {
            return Err(misfit("the state of a group is missing"));
        }
        groups.iter().for_each(|&group| self.clear(group));
        let groups =
            groups.into_iter().zip(present).filter_map(|(group, there)| there.then_some(group));
        self.rebuild(&groups.collect::<Vec<_>>(), &from.columns()?)
    }
}
