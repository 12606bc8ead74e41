//! Counts rows, or the rows whose argument is not null.

use std::mem;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;

use crate::operators::aggregates::accumulator::{GroupedAggregate, Rows};
use crate::operators::operator::EvalError;

/// Net number of rows per group.
pub(super) struct Count {
    counts: Vec<i64>,
    /// Whether rows with a null argument are left out.
    skips_nulls: bool,
}

impl Count {
    /// count(*)
    pub(super) fn rows() -> Count {
        Count { counts: Vec::new(), skips_nulls: false }
    }

    /// count(x)
    pub(super) fn values() -> Count {
        Count { counts: Vec::new(), skips_nulls: true }
    }

    fn grow(&mut self, group_count: usize) {
        if self.counts.len() < group_count {
            self.counts.resize(group_count, 0);
        }
    }
}

impl GroupedAggregate for Count {
    fn update(&mut self, values: &[ArrayRef], rows: &Rows<'_>) -> Result<(), EvalError> {
        self.grow(rows.group_count);
        let nulls = if self.skips_nulls { values[0].logical_nulls() } else { None };
        let counts = self.counts.as_mut_slice();
        if rows.plain(nulls.as_ref()) {
            for &group in rows.groups {
                counts[group as usize] += 1;
            }
        } else {
            rows.for_each(nulls.as_ref(), |_, group, weight| counts[group] += weight);
        }
        Ok(())
    }

    fn merge(
        &mut self,
        state: &[ArrayRef],
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), EvalError> {
        self.grow(group_count);
        let counts = state[0].as_primitive::<Int64Type>().values();
        for (&group, count) in groups.iter().zip(counts) {
            self.counts[group as usize] += count;
        }
        Ok(())
    }

    fn unmerge(&mut self, state: &[ArrayRef], groups: &[u32]) -> Result<(), EvalError> {
        let counts = state[0].as_primitive::<Int64Type>().values();
        for (&group, count) in groups.iter().zip(counts) {
            self.counts[group as usize] -= count;
        }
        Ok(())
    }

    fn is_invertible(&self) -> bool {
        true
    }

    fn is_retractable(&self) -> bool {
        true
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn reads_groups(&self) -> bool {
        true
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        Ok(vec![Arc::new(Int64Array::from(self.counts.clone()))])
    }

    fn state_of(&mut self, groups: &[u32]) -> Result<Vec<ArrayRef>, EvalError> {
        Ok(vec![self.evaluate_of(groups)?])
    }

    fn take_state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ArrayRef, EvalError> {
        Ok(Arc::new(Int64Array::from(mem::take(&mut self.counts))))
    }

    fn take_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        let some = self.evaluate_of(groups)?;
        self.counts.clear();
        Ok(some)
    }

    fn evaluate_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        let counts = groups.iter().map(|&group| self.counts[group as usize]);
        Ok(Arc::new(Int64Array::from_iter_values(counts)))
    }

    fn group_count(&self) -> usize {
        self.counts.len()
    }

    fn size(&self) -> usize {
        mem::size_of::<Count>() + self.counts.capacity() * mem::size_of::<i64>()
    }
}
