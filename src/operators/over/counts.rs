//! Counts the rows of a frame, or the values of a column in it.
//!
//! # State
//! Per partition a number; of a bounded frame also the position of each row.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array};

use super::call::column;
use super::framed::{FrameFunction, FramedCall, Values};
use super::frames::{Frame, Gather};
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

/// Counts rows, or the values of a column.
pub(super) struct CountFunction {
    argument: Option<usize>,
}

impl CountFunction {
    pub(super) fn over(argument: Option<usize>, frame: Frame) -> FramedCall<CountFunction> {
        FramedCall::new(CountFunction { argument }, frame)
    }
}

impl FrameFunction for CountFunction {
    type State = Count;

    fn values(&self, columns: &[ArrayRef], rows: usize) -> Result<Values<Count>, EvalError> {
        let nulls = self.argument.and_then(|index| column(columns, index).logical_nulls());
        Ok(match nulls {
            Some(nulls) => nulls.iter().map(|valid| valid.then_some(true)).collect(),
            None => vec![Some(true); rows],
        })
    }

    fn write(&self, answers: Vec<i64>) -> Result<Evaluated, EvalError> {
        Ok(Evaluated::all(Arc::new(Int64Array::from(answers))))
    }
}
