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
use super::counts::Counts;
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
    counts: Counts,
    /// Empty as long as no bucket is over: each Δ is 0.
    deltas: Counts,
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
            counts: Counts::default(),
            deltas: Counts::default(),
        }
    }

    /// Counts an item `weight` times at once.
    #[inline]
    pub fn add(&mut self, item: Option<I::Value<'_>>, weight: u64) {
        match self.table.find_or_insert(item) {
            (_, true) => {
                self.counts.push(weight);
                if self.buckets > 0 {
                    self.deltas.push(self.buckets);
                }
            }
            (entry, false) => self.counts.add(entry, weight),
        }
        self.total = self.total.saturating_add(weight);
        if self.total >= self.bucket_end {
            self.end_buckets();
        }
    }

    #[cold]
    fn end_buckets(&mut self) {
        let is_first = self.buckets == 0;
        self.buckets = self.total / self.width;
        self.bucket_end = (self.buckets + 1).saturating_mul(self.width);
        self.prune();
        if is_first && self.buckets > 0 {
            self.fill_deltas();
        }
    }

    /// Writes down that each Δ so far is 0.
    fn fill_deltas(&mut self) {
        while self.deltas.len() < self.counts.len() {
            self.deltas.push(0);
        }
    }

    /// Lets go of what came at most `buckets` times.
    fn prune(&mut self) {
        let least = self.buckets;
        let kept = match (&self.counts, &self.deltas) {
            (Counts::Narrow(counts), deltas) if deltas.is_empty() => exceeding(counts, least),
            (Counts::Wide(counts), deltas) if deltas.is_empty() => exceeding(counts, least),
            (Counts::Narrow(counts), Counts::Narrow(deltas)) => {
                sums_exceeding(counts, deltas, least)
            }
            (Counts::Narrow(counts), Counts::Wide(deltas)) => sums_exceeding(counts, deltas, least),
            (Counts::Wide(counts), Counts::Narrow(deltas)) => sums_exceeding(counts, deltas, least),
            (Counts::Wide(counts), Counts::Wide(deltas)) => sums_exceeding(counts, deltas, least),
        };
        if kept.len() == self.counts.len() {
            return;
        }
        self.counts.keep(&kept);
        if !self.deltas.is_empty() {
            self.deltas.keep(&kept);
        }
        self.table.keep(&kept);
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
        self.fill_deltas();
        let mut seen = vec![false; self.counts.len()];
        for entry in 0..other.counts.len() {
            let item = other.table.get(entry);
            let (count, delta) = (other.count(entry), other.delta(entry));
            match self.table.find_or_insert(item) {
                (own, false) => {
                    self.counts.add(own, count);
                    self.deltas.add(own, delta);
                    seen[own] = true;
                }
                (_, true) => {
                    self.counts.push(count);
                    self.deltas.push(delta.saturating_add(self.buckets));
                }
            }
        }
        for entry in (0..seen.len()).filter(|&entry| !seen[entry]) {
            self.deltas.add(entry, other.buckets);
        }
        self.total = self.total.saturating_add(other.total);
        self.end_buckets();
        if self.buckets == 0 {
            // Neither had let anything go, so each Δ is still 0.
            self.deltas = Counts::default();
        }
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
        self.counts.get(entry)
    }

    /// Δ of an entry.
    pub fn delta(&self, entry: usize) -> u64 {
        if self.deltas.is_empty() { 0 } else { self.deltas.get(entry) }
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.table.size() + self.counts.size() + self.deltas.size()
    }

    /// Writes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        bytes::put(out, self.total);
        self.table.write(out);
        self.counts.write(out);
        self.deltas.write(out);
    }

    /// Reads what [`write`](Self::write) wrote.
    pub fn read(width: u64, from: &mut &[u8]) -> Option<LossyCounting<I>> {
        let total = bytes::take(from)?;
        let table = Table::read(from)?;
        let buckets = total / width;
        let counts = Counts::read(from, table.len())?;
        let deltas = match buckets {
            0 => Counts::default(),
            _ => Counts::read(from, table.len())?,
        };
        let bucket_end = (buckets + 1).saturating_mul(width);
        Some(LossyCounting { width, total, buckets, bucket_end, table, counts, deltas })
    }
}

/// The entries whose count is above `least`.
fn exceeding<C: Copy + Into<u64>>(counts: &[C], least: u64) -> Vec<u32> {
    chosen(counts.len(), |entry| counts[entry].into() > least)
}

/// The entries whose f + Δ is above `least`.
fn sums_exceeding<C, D>(counts: &[C], deltas: &[D], least: u64) -> Vec<u32>
where
    C: Copy + Into<u64>,
    D: Copy + Into<u64>,
{
    let length = counts.len().min(deltas.len());
    let (counts, deltas) = (&counts[..length], &deltas[..length]);
    chosen(length, |entry| counts[entry].into().saturating_add(deltas[entry].into()) > least)
}

#[inline]
fn chosen(length: usize, is_chosen: impl Fn(usize) -> bool) -> Vec<u32> {
    let mut kept = vec![0_u32; length];
    let mut place = 0;
    for entry in 0..length {
        // Written every time and counted or not: no branch to guess.
        kept[place] = entry as u32;
        place += usize::from(is_chosen(entry));
    }
    kept.truncate(place);
    kept
}
