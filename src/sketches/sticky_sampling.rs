//! Counts frequent items with sticky sampling (Manku and Motwani, VLDB 2002), right but for a failure
//! probability δ.
//!
//! An item without an entry gets one with probability 1/r; an entry counts every row from then on. The
//! first 2t rows have r = 1, the next 2t r = 2, the next 4t r = 4, and so on, where
//! t = (1/ε)·ln(1/(s·δ)). When r doubles, each entry is diminished by one for every coin that fails until
//! one succeeds, as if it had been sampled at the new rate from the start.
//!
//! Coins are a function of a seed and of the place of the row (its offset in the log, where it has one,
//! else its number in the group), so that a replay tosses the same ones; when r doubles, entries toss in
//! the order of their items.
//!
//! # State
//! 2t entries are expected, however many rows come.

use super::bytes;
use super::coins::{self, Coins};
use super::items::Items;
use super::table::Table;

/// A running count.
#[derive(Debug, Clone)]
pub struct StickySampling<I> {
    seed: u64,
    /// 2t.
    stretch: u64,
    rate: u64,
    total: u64,
    table: Table<I>,
    counts: Vec<u64>,
}

/// 2t for a support, an error and a failure probability.
pub fn stretch(support: f64, error: f64, failure: f64) -> u64 {
    // A float beyond the integers becomes the greatest one.
    (2.0 * (1.0 / error) * (1.0 / (support * failure)).ln()).ceil().max(1.0) as u64
}

impl<I: Items> StickySampling<I> {
    /// Counts nothing yet.
    pub fn new(seed: u64, stretch: u64) -> StickySampling<I> {
        assert!(stretch > 0, "the first rows are all sampled");
        StickySampling {
            seed,
            stretch,
            rate: 1,
            total: 0,
            table: Table::default(),
            counts: Vec::new(),
        }
    }

    /// Counts a row that stands at `place`.
    #[inline]
    pub fn add(&mut self, item: Option<I::Value<'_>>, place: u64) {
        if self.total >= self.stretch.saturating_mul(self.rate) {
            self.double(place);
        }
        self.total = self.total.saturating_add(1);
        match self.table.find(item) {
            Some(entry) => self.counts[entry] += 1,
            None if coins::at(self.seed, place) & (self.rate - 1) == 0 => {
                self.table.find_or_insert(item);
                self.counts.push(1);
            }
            None => {}
        }
    }

    #[cold]
    fn double(&mut self, place: u64) {
        self.rate = self.rate.saturating_mul(2);
        let mut coins = Coins::new(self.seed, place, self.rate);
        for entry in self.table.in_order() {
            let count = &mut self.counts[entry as usize];
            while *count > 0 && !coins.toss() {
                *count -= 1;
            }
        }
        let kept: Vec<u32> =
            (0..self.counts.len() as u32).filter(|&e| self.counts[e as usize] > 0).collect();
        for (to, &from) in kept.iter().enumerate() {
            self.counts[to] = self.counts[from as usize];
        }
        self.counts.truncate(kept.len());
        self.table.keep(&kept);
    }

    /// Takes over another where this one is empty. Two that hold rows cannot be one: gives false.
    pub fn merge(&mut self, other: &StickySampling<I>) -> bool {
        if self.total == 0 {
            *self = other.clone();
        }
        self.total == other.total || other.total == 0
    }

    /// Rows counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether every row was sampled so far, so that counts are exact.
    pub fn is_exact(&self) -> bool {
        self.rate == 1
    }

    /// Number of entries.
    pub fn entries(&self) -> usize {
        self.counts.len()
    }

    /// The item of an entry.
    pub fn item(&self, entry: usize) -> Option<I::Value<'_>> {
        self.table.get(entry)
    }

    /// Rows since it was sampled.
    pub fn count(&self, entry: usize) -> u64 {
        self.counts[entry]
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.table.size() + 8 * self.counts.capacity()
    }

    /// Writes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        bytes::put(out, self.total);
        bytes::put(out, self.rate);
        self.table.write(out);
        self.counts.iter().for_each(|&number| bytes::put(out, number));
    }

    /// Reads what [`write`](Self::write) wrote.
    pub fn read(seed: u64, stretch: u64, from: &mut &[u8]) -> Option<StickySampling<I>> {
        let total = bytes::take(from)?;
        let rate = bytes::take(from).filter(|rate| rate.is_power_of_two())?;
        let table = Table::read(from)?;
        let counts = bytes::take_all(from, table.len())?;
        Some(StickySampling { seed, stretch, rate, total, table, counts })
    }
}
