//! Remembers what a window emitted last for each key, so that a correction can take it back.
//!
//! # Invariants
//! E1. A retraction equals, column by column, the last insertion for its key: both are read from the
//!     same stored row.

use arrow::array::{Array, ArrayRef, make_comparator};
use arrow::compute::{SortOptions, interleave};
use hashbrown::HashMap;

use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter};

/// The rows that stand for a window, one per key.
#[derive(Default)]
pub(super) struct Emitted {
    /// Where the row of a key is: chunk and row in it. Only looked up, never walked in its order.
    at: HashMap<u32, (u32, u32)>,
    /// Aggregate columns of past emissions.
    chunks: Vec<Vec<ArrayRef>>,
    /// Rows in all chunks.
    rows: usize,
}

/// What to put out: keys, weights and aggregate columns, row by row.
pub(super) struct Refinement {
    pub(super) ids: Vec<u32>,
    pub(super) weights: Vec<i64>,
    pub(super) columns: Vec<ArrayRef>,
}

impl Emitted {
    /// Replaces the rows of `candidates` (in the order of emission) by the new ones: row `i` of
    /// `columns` is the new row of `new[i]`; candidates that are not in `new` have none any more.
    pub(super) fn replace(
        &mut self,
        candidates: &[u32],
        new: &[u32],
        columns: Vec<ArrayRef>,
    ) -> Result<Refinement, EvalError> {
        if self.at.is_empty() {
            return self.remember_first(new, columns);
        }
        let new_at: HashMap<u32, usize> = new.iter().enumerate().map(|(i, &id)| (id, i)).collect();
        let old: Vec<(u32, (u32, u32))> =
            candidates.iter().filter_map(|&id| Some((id, *self.at.get(&id)?))).collect();
        let old_columns = self.rows_at(&old, &columns)?;
        let same = row_equality(&old_columns, &columns)?;
        let mut picks = Vec::new();
        let mut out = Refinement { ids: Vec::new(), weights: Vec::new(), columns: Vec::new() };
        let (mut next_old, chunk) = (0, self.chunks.len() as u32);
        for &id in candidates {
            let before = old.get(next_old).filter(|(old_id, _)| *old_id == id).map(|_| next_old);
            next_old += usize::from(before.is_some());
            let after = new_at.get(&id).copied();
            if let (Some(before), Some(after)) = (before, after)
                && same(before, after)
            {
                continue;
            }
            if let Some(before) = before {
                out.ids.push(id);
                out.weights.push(-1);
                picks.push((0, before));
                self.at.remove(&id);
            }
            if let Some(after) = after {
                out.ids.push(id);
                out.weights.push(1);
                picks.push((1, after));
                self.at.insert(id, (chunk, after as u32));
            }
        }
        out.columns = columns
            .iter()
            .zip(&old_columns)
            .map(|(new, old)| interleave(&[old.as_ref(), new.as_ref()], &picks))
            .collect::<Result<_, _>>()?;
        drop(same);
        self.rows += new.len();
        self.chunks.push(columns);
        self.compact()?;
        Ok(out)
    }

    fn remember_first(
        &mut self,
        new: &[u32],
        columns: Vec<ArrayRef>,
    ) -> Result<Refinement, EvalError> {
        self.at = new.iter().enumerate().map(|(row, &id)| (id, (0, row as u32))).collect();
        self.chunks = vec![columns.clone()];
        self.rows = new.len();
        Ok(Refinement { ids: new.to_vec(), weights: vec![1; new.len()], columns })
    }

    /// The stored rows, in the order asked for; `like` gives the types when there are none.
    fn rows_at(
        &self,
        rows: &[(u32, (u32, u32))],
        like: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, EvalError> {
        let picks: Vec<(usize, usize)> =
            rows.iter().map(|&(_, (chunk, row))| (chunk as usize, row as usize)).collect();
        (0..like.len())
            .map(|column| {
                let chunks: Vec<&dyn Array> =
                    self.chunks.iter().map(|chunk| chunk[column].as_ref()).collect();
                Ok(interleave(&chunks, &picks)?)
            })
            .collect()
    }

    /// Lets go of rows that were replaced, once they are most of what is stored.
    fn compact(&mut self) -> Result<(), EvalError> {
        if self.rows < 2 * self.at.len() + 1_024 && self.chunks.len() < 64 {
            return Ok(());
        }
        let (ids, columns) = self.live()?;
        self.remember_first(&ids, columns)?;
        Ok(())
    }

    /// Takes rows of other keys in.
    pub(super) fn add(&mut self, ids: &[u32], columns: Vec<ArrayRef>) {
        if ids.is_empty() {
            return;
        }
        let chunk = self.chunks.len() as u32;
        self.at.extend((0..).zip(ids).map(|(row, &id)| (id, (chunk, row))));
        self.chunks.push(columns);
        self.rows += ids.len();
    }

    /// The rows that stand, by key.
    pub(super) fn live(&self) -> Result<(Vec<u32>, Vec<ArrayRef>), EvalError> {
        let mut live: Vec<(u32, (u32, u32))> = self.at.iter().map(|(&id, &at)| (id, at)).collect();
        live.sort_unstable();
        let like = self.chunks.first().cloned().unwrap_or_default();
        Ok((live.iter().map(|&(id, _)| id).collect(), self.rows_at(&live, &like)?))
    }

    /// Writes the rows that stand.
    pub(super) fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        let (ids, columns) = self.live()?;
        out.put(&ids)?;
        if ids.is_empty() { Ok(()) } else { out.columns(&columns) }
    }

    /// Reads what [`save`](Self::save) wrote.
    pub(super) fn restore(from: &mut StateReader<'_>) -> Result<Emitted, EvalError> {
        let ids: Vec<u32> = from.get()?;
        let mut emitted = Emitted::default();
        if !ids.is_empty() {
            emitted.remember_first(&ids, from.columns()?)?;
        }
        Ok(emitted)
    }

    /// Takes over new numbers of the dictionary.
    pub(super) fn renumber(&mut self, renumbered: &[u32]) {
        let old = std::mem::take(&mut self.at);
        self.at = old.into_iter().map(|(id, at)| (renumbered[id as usize], at)).collect();
    }

    /// Calls `see` for each key, in no particular order.
    pub(super) fn for_each_id(&self, mut see: impl FnMut(u32)) {
        self.at.keys().for_each(|&id| see(id));
    }

    pub(super) fn size(&self) -> usize {
        let columns = self.chunks.iter().flatten();
        let columns: usize = columns.map(|column| column.get_array_memory_size()).sum();
        columns + self.at.allocation_size()
    }
}

/// Whether a row of `left` equals a row of `right`: nulls equal nulls, NaN equals NaN.
fn row_equality(
    left: &[ArrayRef],
    right: &[ArrayRef],
) -> Result<impl Fn(usize, usize) -> bool, EvalError> {
    let comparators = left
        .iter()
        .zip(right)
        .map(|(left, right)| make_comparator(left, right, SortOptions::default()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(move |a, b| comparators.iter().all(|compare| compare(a, b).is_eq()))
}
