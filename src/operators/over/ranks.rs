//! Numbers the rows of partitions: row_number, rank, dense_rank.
//!
//! # State
//! Three numbers and a time per partition.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};

use super::call::{Call, OverFunction};
use super::frames::Ordered;
use crate::operators::aggregates::fold::Evaluated;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter};

/// The numbers of a partition's newest row.
#[derive(Debug, Clone, Copy, Default)]
struct Ranks {
    rows: u64,
    rank: u64,
    dense: u64,
    time: i64,
}

/// A numbering.
pub(super) struct RankCall {
    function: OverFunction,
    places: Vec<Ranks>,
}

impl RankCall {
    pub(super) fn new(function: &OverFunction) -> RankCall {
        RankCall { function: function.clone(), places: Vec::new() }
    }
}

impl Call for RankCall {
    fn resize(&mut self, slots: usize) {
        self.places.resize(slots.max(self.places.len()), Ranks::default());
    }

    fn enter(&mut self, _: &[ArrayRef], _: &Ordered<'_>) -> Result<(), EvalError> {
        Ok(())
    }

    fn answer(&mut self, _: &[ArrayRef], rows: &Ordered<'_>) -> Result<Evaluated, EvalError> {
        let mut numbers = Vec::with_capacity(rows.slots.len());
        for (&slot, &time) in rows.slots.iter().zip(rows.times) {
            let place = &mut self.places[slot];
            place.rows += 1;
            if place.rows == 1 || time != place.time {
                (place.rank, place.dense, place.time) = (place.rows, place.dense + 1, time);
            }
            let number = match self.function {
                OverFunction::Rank => place.rank,
                OverFunction::DenseRank => place.dense,
                _ => place.rows,
            };
            numbers.push(number as i64);
        }
        Ok(Evaluated::all(Arc::new(Int64Array::from(numbers))))
    }

    fn forget(&mut self, slot: usize) {
        if let Some(place) = self.places.get_mut(slot) {
            *place = Ranks::default();
        }
    }

    fn clear(&mut self) {
        self.places = Vec::new();
    }

    fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<Ranks>()
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.length(self.places.len());
        self.places.iter().try_for_each(|place| {
            out.put(&(place.rows, place.rank, place.dense))?;
            out.put(&place.time)
        })
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        for _ in 0..from.length()? {
            let (rows, rank, dense) = from.get()?;
            self.places.push(Ranks { rows, rank, dense, time: from.get()? });
        }
        Ok(())
    }
}
