//! Keeps the least or the greatest value of fixed-width types.
//!
//! Floats compare in total order, as PostgreSQL has it: NaN is greater than every number. Without
//! that the answer would depend on where a NaN stood among the rows. Texts and other types of
//! variable width go through DataFusion's accumulators.

use std::mem;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, AsArray, PrimitiveArray, downcast_primitive,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{ArrowPrimitiveType, DataType};

use crate::operators::aggregates::accumulator::{GroupedAggregate, Rows, cannot_retract};
use crate::operators::operator::EvalError;

/// min(x)
pub(super) fn least(data_type: &DataType) -> Option<Box<dyn GroupedAggregate>> {
    extreme::<false>(data_type)
}

/// max(x)
pub(super) fn greatest(data_type: &DataType) -> Option<Box<dyn GroupedAggregate>> {
    extreme::<true>(data_type)
}

fn extreme<const GREATEST: bool>(data_type: &DataType) -> Option<Box<dyn GroupedAggregate>> {
    if matches!(data_type, DataType::Interval(_)) {
        return None;
    }
    macro_rules! of {
        ($t:ty) => {
            Some(Box::new(Extreme::<$t, GREATEST> {
                best: Vec::new(),
                seen: Vec::new(),
                data_type: data_type.clone(),
            }))
        };
    }
    downcast_primitive! {
        data_type => (of),
        _ => None,
    }
}

/// The least value per group, or the greatest.
struct Extreme<T: ArrowPrimitiveType, const GREATEST: bool> {
    best: Vec<T::Native>,
    /// Whether the group has a value at all.
    seen: Vec<bool>,
    data_type: DataType,
}

impl<T: ArrowPrimitiveType, const GREATEST: bool> Extreme<T, GREATEST> {
    fn grow(&mut self, group_count: usize) {
        if self.best.len() < group_count {
            self.best.resize(group_count, T::Native::default());
            self.seen.resize(group_count, false);
        }
    }

    #[inline]
    fn fold(&mut self, group: usize, value: T::Native) {
        let best = &mut self.best[group];
        let better = if GREATEST { value.is_gt(*best) } else { value.is_lt(*best) };
        if better || !self.seen[group] {
            *best = value;
            self.seen[group] = true;
        }
    }

    fn column(&self, best: Vec<T::Native>, seen: &[bool]) -> ArrayRef {
        let nulls = seen.contains(&false).then(|| NullBuffer::from(seen));
        let column = PrimitiveArray::<T>::new(best.into(), nulls);
        Arc::new(column.with_data_type(self.data_type.clone()))
    }

    fn values<'a>(&self, column: &'a ArrayRef) -> Result<&'a PrimitiveArray<T>, EvalError> {
        column.as_primitive_opt::<T>().ok_or_else(|| {
            EvalError::Broken(format!(
                "min or max over {} was handed {}",
                self.data_type,
                column.data_type()
            ))
        })
    }
}

impl<T: ArrowPrimitiveType, const GREATEST: bool> GroupedAggregate for Extreme<T, GREATEST> {
    fn update(&mut self, values: &[ArrayRef], rows: &Rows<'_>) -> Result<(), EvalError> {
        self.grow(rows.group_count);
        let column = self.values(&values[0])?;
        let numbers = column.values();
        if rows.plain(column.nulls()) {
            for (&group, &value) in rows.groups.iter().zip(numbers.iter()) {
                self.fold(group as usize, value);
            }
            return Ok(());
        }
        let mut retracted = false;
        rows.for_each(column.nulls(), |row, group, weight| {
            retracted |= weight < 0;
            if weight > 0 {
                self.fold(group, numbers[row]);
            }
        });
        if retracted { Err(cannot_retract("min or max")) } else { Ok(()) }
    }

    fn merge(
        &mut self,
        state: &[ArrayRef],
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), EvalError> {
        self.update(state, &Rows::all(groups, group_count))
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn reads_groups(&self) -> bool {
        true
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        Ok(vec![self.column(self.best.clone(), &self.seen)])
    }

    fn state_of(&mut self, groups: &[u32]) -> Result<Vec<ArrayRef>, EvalError> {
        Ok(vec![self.evaluate_of(groups)?])
    }

    fn take_state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ArrayRef, EvalError> {
        let (best, seen) = (mem::take(&mut self.best), mem::take(&mut self.seen));
        Ok(self.column(best, &seen))
    }

    fn take_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        let some = self.evaluate_of(groups);
        self.best.clear();
        self.seen.clear();
        some
    }

    fn evaluate_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        let best = groups.iter().map(|&group| self.best[group as usize]).collect();
        let seen: Vec<bool> = groups.iter().map(|&group| self.seen[group as usize]).collect();
        Ok(self.column(best, &seen))
    }

    fn group_count(&self) -> usize {
        self.best.len()
    }

    fn size(&self) -> usize {
        mem::size_of::<Self>()
            + self.best.capacity() * mem::size_of::<T::Native>()
            + self.seen.capacity()
    }
}
