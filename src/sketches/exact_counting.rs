//! Counts every item: as large as there are items, and right.

use super::bytes;
use super::counts::Counts;
use super::items::Items;
use super::table::Table;

/// A running count.
#[derive(Debug, Clone)]
pub struct ExactCounting<I> {
    total: u64,
    table: Table<I>,
    counts: Counts,
}

impl<I: Items> Default for ExactCounting<I> {
    fn default() -> ExactCounting<I> {
        ExactCounting { total: 0, table: Table::default(), counts: Counts::default() }
    }
}

impl<I: Items> ExactCounting<I> {
    /// Counts an item `weight` times at once.
    #[inline]
    pub fn add(&mut self, item: Option<I::Value<'_>>, weight: u64) {
        match self.table.find_or_insert(item) {
            (_, true) => self.counts.push(weight),
            (entry, false) => self.counts.add(entry, weight),
        }
        self.total = self.total.saturating_add(weight);
    }

    /// Adds what another counted over other rows.
    pub fn merge(&mut self, other: &ExactCounting<I>) {
        let total = self.total.saturating_add(other.total);
        for entry in 0..other.counts.len() {
            self.add(other.table.get(entry), other.counts.get(entry));
        }
        self.total = total;
    }

    /// Rows counted, or their weight.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Number of items.
    pub fn entries(&self) -> usize {
        self.counts.len()
    }

    /// The item of an entry.
    pub fn item(&self, entry: usize) -> Option<I::Value<'_>> {
        self.table.get(entry)
    }

    /// How often it came.
    pub fn count(&self, entry: usize) -> u64 {
        self.counts.get(entry)
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.table.size() + self.counts.size()
    }

    /// Writes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        bytes::put(out, self.total);
        self.table.write(out);
        self.counts.write(out);
    }

    /// Reads what [`write`](Self::write) wrote.
    pub fn read(from: &mut &[u8]) -> Option<ExactCounting<I>> {
        let total = bytes::take(from)?;
        let table = Table::read(from)?;
        let counts = Counts::read(from, table.len())?;
        Some(ExactCounting { total, table, counts })
    }
}
