//! Looks back by a fixed number of rows: lag.
//!
//! # State
//! As many values per partition as the call looks back.

use std::collections::VecDeque;

use arrow::array::ArrayRef;

use super::call::{Call, Shift, column};
use super::cells::{Cell, Codec};
use super::frames::Ordered;
use crate::operators::aggregates::fold::Evaluated;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter};

/// A running `lag`.
pub(super) struct LagCall<C: Codec> {
    codec: C,
    argument: usize,
    rows: usize,
    ignore_nulls: bool,
    default: Option<C::Cell>,
    places: Vec<VecDeque<Option<C::Cell>>>,
    held: usize,
}

impl<C: Codec> LagCall<C> {
    pub(super) fn new(shift: &Shift, codec: C) -> Result<LagCall<C>, EvalError> {
        let default = codec.read(&shift.default)?.pop().flatten();
        Ok(LagCall {
            codec,
            argument: shift.argument,
            rows: shift.rows,
            ignore_nulls: shift.ignore_nulls,
            default,
            places: Vec::new(),
            held: 0,
        })
    }
}

fn held<T: Cell>(cell: &Option<T>) -> usize {
    size_of::<Option<T>>() + cell.as_ref().map_or(0, Cell::heap)
}

impl<C: Codec> Call for LagCall<C> {
    fn resize(&mut self, slots: usize) {
        self.places.resize_with(slots.max(self.places.len()), VecDeque::new);
    }

    fn enter(&mut self, _: &[ArrayRef], _: &Ordered<'_>) -> Result<(), EvalError> {
        Ok(())
    }

    fn answer(&mut self, columns: &[ArrayRef], rows: &Ordered<'_>) -> Result<Evaluated, EvalError> {
        let cells = self.codec.read(&column(columns, self.argument))?;
        if self.rows == 0 {
            return Ok(Evaluated::all(column(columns, self.argument)));
        }
        let mut answers = Vec::with_capacity(cells.len());
        for (&slot, cell) in rows.slots.iter().zip(cells) {
            let place = &mut self.places[slot];
            let full = place.len() == self.rows;
            let enters = cell.is_some() || !self.ignore_nulls;
            let added = if enters { held(&cell) } else { 0 };
            let oldest = match full && enters {
                true => place.pop_front().inspect(|gone| self.held -= held(gone)),
                false => place.front().filter(|_| full).cloned(),
            };
            answers.push(oldest.unwrap_or_else(|| self.default.clone()));
            if enters {
                place.push_back(cell);
                self.held += added;
            }
        }
        Ok(Evaluated::all(self.codec.write(answers)?))
    }

    fn forget(&mut self, slot: usize) {
        if let Some(place) = self.places.get_mut(slot) {
            self.held -= place.iter().map(held).sum::<usize>();
            *place = VecDeque::new();
        }
    }

    fn clear(&mut self) {
        (self.places, self.held) = (Vec::new(), 0);
    }

    fn bytes(&self) -> usize {
        self.held + self.places.capacity() * size_of::<VecDeque<Option<C::Cell>>>()
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.put(&self.places)
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.places = from.get()?;
        self.held = self.places.iter().flatten().map(held).sum();
        Ok(())
    }
}
