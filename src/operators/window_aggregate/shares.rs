//! Cuts what a batch brings into the share of each shard: its rows, and its slices in the numbers of these.

use arrow::array::UInt32Array;

use super::WindowAggregate;
use super::input::{Columns, Input, RowSet};
use super::sorter::Part;
use crate::operators::operator::EvalError;

/// Rows of a batch by shard: in pieces of the batch, one behind the other.
pub(super) type Spread = Vec<Vec<Vec<u32>>>;

impl WindowAggregate {
    /// What some rows of a batch bring, with the numbers of their keys.
    pub(super) fn share(
        &mut self,
        columns: &Columns,
        rows: &UInt32Array,
    ) -> Result<Input, EvalError> {
        let columns = columns.at(rows)?;
        let mut ids = Vec::with_capacity(rows.len());
        self.keys.intern(&columns.keys, rows.len(), &mut ids)?;
        Ok(Input { columns, ids })
    }
}

/// The rows of a shard, ascending.
pub(super) fn rows_of(spread: &Spread, shard: usize) -> UInt32Array {
    let pieces: Vec<&[u32]> = spread.iter().map(|piece| &piece[shard][..]).collect();
    UInt32Array::from(pieces.concat())
}

/// Parts of a batch in the numbers of some of its rows; those without any are left out.
pub(super) fn local(parts: &[Part], rows: &[u32]) -> Vec<Part> {
    let mut places = Vec::new();
    let mut localised = Vec::with_capacity(parts.len());
    for Part { key, time, rows: part } in parts {
        let found = match part {
            RowSet::Range(start, length) => {
                let before = |end: usize| rows.partition_point(|&row| (row as usize) < end);
                let (from, to) = (before(*start), before(start + length));
                RowSet::Range(from, to - from)
            }
            RowSet::Scattered(part) if part.len() * 16 < rows.len() => {
                let place = |row: &u32| rows.binary_search(row).ok().map(|at| at as u32);
                RowSet::Scattered(part.iter().filter_map(place).collect())
            }
            RowSet::Scattered(part) => {
                if places.is_empty() {
                    places = vec![u32::MAX; rows.last().map_or(0, |&last| last as usize + 1)];
                    (0..).zip(rows).for_each(|(at, &row)| places[row as usize] = at);
                }
                let place = |&row: &u32| places.get(row as usize).copied();
                let ours = part.iter().filter_map(place).filter(|&place| place != u32::MAX);
                RowSet::Scattered(ours.collect())
            }
        };
        if found.len() > 0 {
            localised.push(Part { key: *key, time: *time, rows: found });
        }
    }
    localised
}
