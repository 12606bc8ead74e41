//! Counts frequent items with a fixed number of counters: Space-Saving, as Anderson et al. (IMC 2017)
//! compute it.
//!
//! A row of an item that has no counter takes a free one. Where none is free, the median of all counters
//! is taken from each, and those that come to nothing are free again. What was taken in all is the
//! *offset*: the most by which a counter, or an item without one, is short. Metwally's Space-Saving
//! (ICDT 2005) evicts one counter at a time and answers alike; this costs O(1) a row also with weights,
//! and merges.
//!
//! # State
//! At most 2·⌈1/ε⌉ counters, half of which each sweep frees: so the offset is at most εN.
//!
//! # Invariants
//! S1. counter <= true count <= counter + offset; true count <= offset for an item without a counter.
//! S2. offset · counters / 2 + (sum of counters) <= N.

use super::bytes;
use super::counts::Counts;
use super::items::Items;
use super::table::Table;

/// A running count.
#[derive(Debug, Clone)]
pub struct SpaceSaving<I> {
    counters: usize,
    total: u64,
    offset: u64,
    table: Table<I>,
    counts: Counts,
}

impl<I: Items> SpaceSaving<I> {
    /// Counts nothing yet; the offset stays below 1/`width` of all rows.
    pub fn new(width: u64) -> SpaceSaving<I> {
        // More counters than this could not be numbered, and would never be filled.
        let counters = usize::try_from(width.saturating_mul(2)).unwrap_or(usize::MAX);
        SpaceSaving {
            counters: counters.clamp(2, 1 << 31),
            total: 0,
            offset: 0,
            table: Table::default(),
            counts: Counts::default(),
        }
    }

    /// Counts an item `weight` times at once.
    #[inline]
    pub fn add(&mut self, item: Option<I::Value<'_>>, weight: u64) {
        match self.table.find_or_insert(item) {
            (_, true) => {
                self.counts.push(weight);
                if self.counts.len() > self.counters {
                    self.sweep();
                }
            }
            (entry, false) => self.counts.add(entry, weight),
        }
        self.total = self.total.saturating_add(weight);
    }

    /// Takes the median from all counters.
    #[cold]
    fn sweep(&mut self) {
        let mut sorted: Vec<u64> = self.counts.iter().collect();
        let middle = sorted.len() / 2;
        let (_, &mut median, _) = sorted.select_nth_unstable(middle);
        self.offset = self.offset.saturating_add(median);
        let mut kept = vec![0_u32; self.counts.len()];
        let mut length = 0;
        for (entry, count) in self.counts.iter().enumerate() {
            kept[length] = entry as u32;
            length += usize::from(count > median);
        }
        kept.truncate(length);
        self.counts.keep(&kept);
        for entry in 0..length {
            self.counts.set(entry, self.counts.get(entry) - median);
        }
        self.table.keep(&kept);
    }

    /// Adds what another counted over other rows.
    pub fn merge(&mut self, other: &SpaceSaving<I>) {
        if self.total == 0 {
            *self = other.clone();
            return;
        }
        let total = self.total.saturating_add(other.total);
        for entry in 0..other.counts.len() {
            self.add(other.table.get(entry), other.counts.get(entry));
        }
        self.total = total;
        self.offset = self.offset.saturating_add(other.offset);
    }

    /// Rows counted, or their weight.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What every counter may be short by.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Number of counters in use.
    pub fn entries(&self) -> usize {
        self.counts.len()
    }

    /// The item of a counter.
    pub fn item(&self, entry: usize) -> Option<I::Value<'_>> {
        self.table.get(entry)
    }

    /// The counter.
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
        bytes::put(out, self.offset);
        self.table.write(out);
        self.counts.write(out);
    }

    /// Reads what [`write`](Self::write) wrote.
    pub fn read(width: u64, from: &mut &[u8]) -> Option<SpaceSaving<I>> {
        let mut read = SpaceSaving::new(width);
        read.total = bytes::take(from)?;
        read.offset = bytes::take(from)?;
        read.table = Table::read(from)?;
        read.counts = Counts::read(from, read.table.len())?;
        Some(read)
    }
}
