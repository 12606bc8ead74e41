//! Sorts the rows of a batch into slices.

use hashbrown::HashMap;

use super::SliceKey;
use super::input::RowSet;

/// Rows that share a slice, and a time that lies in it.
pub(super) struct Part {
    pub(super) key: SliceKey,
    pub(super) time: i64,
    pub(super) rows: RowSet,
}

/// Collects rows by slice, slices in order of appearance, rows in order.
#[derive(Default)]
pub(super) struct Sorter {
    parts: Vec<Part>,
    at: HashMap<SliceKey, usize>,
    last: usize,
}

impl Sorter {
    pub(super) fn push(&mut self, key: SliceKey, time: i64, row: usize) {
        self.push_run(key, time, row, 1);
    }

    /// Takes neighbours that share a slice; rows come in ascending order.
    pub(super) fn push_run(&mut self, key: SliceKey, time: i64, row: usize, length: usize) {
        if self.parts.get(self.last).is_none_or(|part| part.key != key) {
            self.last = *self.at.entry(key).or_insert(self.parts.len());
            if self.last == self.parts.len() {
                self.parts.push(Part { key, time, rows: RowSet::Range(row, 0) });
            }
        }
        let new = row as u32..(row + length) as u32;
        match &mut self.parts[self.last].rows {
            RowSet::Range(start, known) if *start + *known == row => *known += length,
            RowSet::Range(start, known) => {
                let rows = (*start as u32..(*start + *known) as u32).chain(new);
                self.parts[self.last].rows = RowSet::Scattered(rows.collect());
            }
            RowSet::Scattered(rows) => rows.extend(new),
        }
    }

    pub(super) fn finish(self) -> Vec<Part> {
        self.parts
    }
}
