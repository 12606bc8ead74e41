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
    parts: Vec<(SliceKey, i64, Vec<u32>)>,
    at: HashMap<SliceKey, usize>,
    last: usize,
}

impl Sorter {
    pub(super) fn push(&mut self, key: SliceKey, time: i64, row: usize) {
        if self.parts.get(self.last).is_none_or(|part| part.0 != key) {
            self.last = *self.at.entry(key).or_insert_with(|| {
                self.parts.push((key, time, Vec::new()));
                self.parts.len() - 1
            });
        }
        self.parts[self.last].2.push(row as u32);
    }

    pub(super) fn finish(self) -> Vec<Part> {
        let part = |(key, time, rows): (SliceKey, i64, Vec<u32>)| {
            let mut rows = RowSet::Scattered(rows);
            rows.sort();
            Part { key, time, rows }
        };
        self.parts.into_iter().map(part).collect()
    }
}
