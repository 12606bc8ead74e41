//! Counts frequent items with lossy counting (Manku and Motwani, VLDB 2002), weights included.
//!
//! Rows fall in buckets of ⌈1/ε⌉ rows, or of that much weight. An entry is (item, f, Δ): f rows since it
//! came, and at most Δ before. A new entry has Δ = the number of buckets that are over; at the end of
//! bucket b all entries with f + Δ <= b go. So an item that has no entry has come at most b times, and
//! b <= εN.
//!
//! # State
//! At most (1/ε)·log(εN) entries. As long as fewer than ⌈1/ε⌉ rows came, one for each item, exactly.
//!
//! # Invariants
//! L1. f <= true count <= f + Δ for an entry; true count <= `buckets` for an item without.
//! L2. `buckets` = ⌊N/width⌋ after every row, so nothing depends on how rows come in batches.

use super::bytes;
use super::items::Items;
use super::table::Table;

/// A running count.
#[derive(Debug, Clone)]
pub struct LossyCounting<I> {
    width: u64,
    /// Rows, or their weight.
    total: u64,
    /// Buckets that are over.
    buckets: u64,
    /// Where the current bucket ends.
    bucket_end: u64,
    table: Table<I>,
    counts: Vec<u64>,
    deltas: Vec<u64>,
}

impl<I: Items> LossyCounting<I> {
    /// Counts nothing yet; a bucket is `width` rows.
    pub fn new(width: u64) -> LossyCounting<I> {
        assert!(width > 0, "a bucket has rows");
        LossyCounting {
            width,
            total: 0,
            buckets: 0,
            bucket_end: width,
            table: Table::default(),
            counts: Vec::new(),
            deltas: Vec::new(),
        }
    }

    /// Counts an item `weight` times at once.
    #[inline]
    pub fn add(&mut self, item: Option<I::Value<'_>>, weight: u64) {
        match self.table.find_or_insert(item) {
            (_, true) => {
                self.counts.push(weight);
                self.deltas.push(self.buckets);
            }
            (entry, false) => self.counts[entry] = self.counts[entry].saturating_add(weight),
        }
        self.total = self.total.saturating_add(weight);
        if self.total >= self.bucket_end {
            self.end_buckets();
        }
    }

    #[cold]
    fn end_buckets(&mut self) {
        self.buckets = self.total / self.width;
        self.bucket_end = (self.buckets + 1).saturating_mul(self.width);
        self.prune();
    }

    /// Lets go of what came at most `buckets` times.
    fn prune(&mut self) {
        let mut kept = vec![0_u32; self.counts.len()];
        let mut length = 0;
        for (entry, (&count, &delta)) in self.counts.iter().zip(&self.deltas).enumerate() {
            // Written every time and counted or not: no branch to guess.
            kept[length] = entry as u32;
            length += usize::from(count.saturating_add(delta) > self.buckets);
        }
        kept.truncate(length);
        self.keep(&kept);
    }

    fn keep(&mut self, kept: &[u32]) {
        if kept.len() == self.counts.len() {
            return;
        }
        for (place, &entry) in kept.iter().enumerate() {
            self.counts[place] = self.counts[entry as usize];
            self.deltas[place] = self.deltas[entry as usize];
        }
        self.counts.truncate(kept.len());
        self.deltas.truncate(kept.len());
        self.table.keep(kept);
    }

    /// Adds what another counted over other rows. An item that one side lacks came at most as often
    /// there as that side's last pruned bucket says.
    pub fn merge(&mut self, other: &LossyCounting<I>) {
        if other.total == 0 {
            return;
        }
        if self.total == 0 {
            *self = other.clone();
            return;
        }
        let mut seen = vec![false; self.counts.len()];
        for entry in 0..other.counts.len() {
            let item = other.table.get(entry);
            let (count, delta) = (other.counts[entry], other.deltas[entry]);
            match self.table.find_or_insert(item) {
                (own, false) => {
                    self.counts[own] = self.counts[own].saturating_add(count);
                    self.deltas[own] += delta;
                    seen[own] = true;
                }
                (_, true) => {
                    self.counts.push(count);
                    self.deltas.push(delta + self.buckets);
                }
            }
        }
        for (delta, _) in self.deltas.iter_mut().zip(&seen).filter(|(_, seen)| !**seen) {
            *delta += other.buckets;
        }
        self.total = self.total.saturating_add(other.total);
        self.end_buckets();
    }

    /// Rows counted, or their weight.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Number of entries.
    pub fn entries(&self) -> usize {
        self.counts.len()
    }

    /// The item of an entry.
    pub fn item(&self, entry: usize) -> Option<I::Value<'_>> {
        self.table.get(entry)
    }

    /// f of an entry.
    pub fn count(&self, entry: usize) -> u64 {
        self.counts[entry]
    }

    /// Δ of an entry.
    pub fn delta(&self, entry: usize) -> u64 {
        self.deltas[entry]
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.table.size() + 8 * (self.counts.capacity() + self.deltas.capacity())
    }

    /// Writes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        bytes::put(out, self.total);
        self.table.write(out);
        self.counts.iter().chain(&self.deltas).for_each(|&number| bytes::put(out, number));
    }

    /// Reads what [`write`](Self::write) wrote.
    pub fn read(width: u64, from: &mut &[u8]) -> Option<LossyCounting<I>> {
        let total = bytes::take(from)?;
        let table = Table::read(from)?;
        let counts = bytes::take_all(from, table.len())?;
        let deltas = bytes::take_all(from, table.len())?;
        let buckets = total / width;
        let bucket_end = (buckets + 1).saturating_mul(width);
        Some(LossyCounting { width, total, buckets, bucket_end, table, counts, deltas })
    }
}
