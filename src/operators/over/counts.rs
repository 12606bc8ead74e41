//! Counts the rows of a frame, or the values of a column in it.
//!
//! # State
//! Per partition a number; of a bounded frame also the position of each row.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array};

use super::call::{Call, column};
use super::frames::{Frame, Gather, Ordered, Places};
use crate::operators::aggregates::fold::Evaluated;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// Rows of a frame.
#[derive(Debug, Default)]
pub(super) struct Count {
    rows: i64,
    positions: VecDeque<i64>,
}

impl Stored for Count {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        (self.rows, self.positions.clone()).store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(Count { rows: from.get()?, positions: from.get()? })
    }
}

impl Gather for Count {
    type Value = bool;
    type Answer = i64;

    fn enter(&mut self, position: i64, _: bool, bounded: bool) {
        self.rows += 1;
        if bounded {
            self.positions.push_back(position);
        }
    }

    fn leave(&mut self, below: i64) {
        while self.positions.front().is_some_and(|at| *at < below) {
            self.positions.pop_front();
            self.rows -= 1;
        }
    }

    fn read(&self) -> i64 {
        self.rows
    }

    fn held(&self) -> usize {
        self.positions.len() * size_of::<i64>()
    }
}

/// A running count of rows, or of the values of a column.
pub(super) struct CountCall {
    argument: Option<usize>,
    places: Places<Count>,
}

impl CountCall {
    pub(super) fn new(argument: Option<usize>, frame: Frame) -> CountCall {
        CountCall { argument, places: Places::new(frame) }
    }
}

impl Call for CountCall {
    fn resize(&mut self, slots: usize) {
        self.places.resize(slots);
    }

    fn enter(&mut self, columns: &[ArrayRef], rows: &Ordered<'_>) -> Result<(), EvalError> {
        let nulls = self.argument.and_then(|index| column(columns, index).logical_nulls());
        let counts = |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)).then_some(true);
        self.places.enter(rows, counts);
        Ok(())
    }

    fn answer(&mut self, columns: &[ArrayRef], rows: &Ordered<'_>) -> Result<Evaluated, EvalError> {
        let nulls = self.argument.and_then(|index| column(columns, index).logical_nulls());
        let mut counts = vec![0; rows.slots.len()];
        self.places.answer(
            rows,
            |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)).then_some(true),
            |row, count| counts[row] = count,
        );
        Ok(Evaluated::all(Arc::new(Int64Array::from(counts))))
    }

    fn forget(&mut self, slot: usize) {
        self.places.forget(slot);
    }
    fn clear(&mut self) {
        self.places.clear();
    }
    fn bytes(&self) -> usize {
        self.places.bytes()
    }
    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.places.save(out)
    }
    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.places.restore(from)
    }
}
