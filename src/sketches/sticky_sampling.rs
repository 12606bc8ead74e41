//! Counts frequent items with sticky sampling (Manku and Motwani, VLDB 2002), right but for a failure
//! probability δ. Weights and merged samples included.
//!
//! An item without an entry gets one with probability 1/r; an entry counts every row from then on. The
//! first 2t rows have r = 1, the next 2t r = 2, the next 4t r = 4, and so on, where
//! t = (1/ε)·ln(1/(s·δ)). When r doubles, each entry becomes what it would be had r been so from the start.
//! A row of weight w is w rows in a row: the number of them that pass before the first is sampled is drawn
//! at once.
//!
//! # When the rate doubles
//! The row by which an entry came stays sampled with probability 1/2. If it does not, the rows behind it
//! are tried at the *new* rate. The paper tosses a fair coin for those, too, and says that this gives the state
//! that the new rate would have given; it does not: entries stay that should go, up to once for
//! each of their rows. Over items that come a hundred times in a row that is three times the entries
//! that the paper promises (`entries_are_as_many_as_expected`). This is the rule of Gibbons and Matias' counting
//! samples (SIGMOD 1998), for which the paper's proof holds.
//!
//! # Merging
//! The sample of a union adds up the counts and keeps each part's entries as they are: what an item is short
//! of is the sum of what it is short of in the parts, each at most geometric with a mean below its rate.
//! The rates add up to at most N/t (S2), so with L = εt an item is short by more than
//! εN with probability at most e·L·e^(−L) (Chernoff's bound of a sum of exponential variables
//! with that mean). [`stretch_of_parts`] takes the t for which this is s·δ. Bringing the finer part down to the
//! coarser rate first would lose rows and gain nothing.
//!
//! Coins are a function of a seed, of the place of the row (its offset in the log, where it has one) and of
//! how many rows were counted before it, so that a replay tosses the same ones; when r doubles, entries toss
//! in the order of their items.
//!
//! # State
//! 2t entries are expected for each part, however many rows come.
//!
//! # Invariants
//! S1. count <= true count.
//! S2. `rate` (where it is above 1) + `merged_rates` <= N/t.

use super::bytes;
use super::coins::{self, Coins, failures};
use super::counts::Counts;
use super::items::Items;
use super::table::Table;

/// No rate is above this.
const RATE_MAX: u64 = 1 << 62;

/// A running count.
#[derive(Debug, Clone)]
pub struct StickySampling<I> {
    seed: u64,
    /// 2t.
    stretch: u64,
    rate: u64,
    /// Rates, above 1, of the parts that were merged and take no more rows.
    merged_rates: u64,
    total: u64,
    /// Where the rate doubles.
    stretch_end: u64,
    table: Table<I>,
    counts: Counts,
}

/// 2t for a support, an error and a failure probability.
pub fn stretch(support: f64, error: f64, failure: f64) -> u64 {
    stretch_for(error, (1.0 / (support * failure)).ln())
}

/// 2t where the samples of parts are merged.
pub fn stretch_of_parts(support: f64, error: f64, failure: f64) -> u64 {
    let single = (1.0 / (support * failure)).ln();
    // L − ln L − 1 = ln(1/(s·δ)), found by going there: each step brings it nearer from below.
    let length = (0..100).fold(single + 1.0, |length, _| single + 1.0 + length.ln());
    stretch_for(error, length)
}

fn stretch_for(error: f64, length: f64) -> u64 {
    // A float beyond the integers becomes the greatest one.
    (2.0 * (1.0 / error) * length).ceil().max(1.0) as u64
}

impl<I: Items> StickySampling<I> {
    /// Counts nothing yet.
    pub fn new(seed: u64, stretch: u64) -> StickySampling<I> {
        assert!(stretch > 0, "the first rows are all sampled");
        StickySampling {
            seed,
            stretch,
            rate: 1,
            merged_rates: 0,
            total: 0,
            stretch_end: stretch,
            table: Table::default(),
            counts: Counts::default(),
        }
    }

    /// Counts an item `weight` times at once, in a row that stands at `place`.
    #[inline]
    pub fn add(&mut self, item: Option<I::Value<'_>>, weight: u64, place: u64) {
        let mut rest = weight;
        while rest > 0 {
            if self.total >= self.stretch_end {
                self.double(place);
            }
            let part = match self.stretch_end {
                u64::MAX => rest,
                end => rest.min(end.saturating_sub(self.total)),
            };
            self.count_rows(item, part, place);
            rest -= part;
        }
    }

    /// Counts rows of one item that all have the same rate.
    #[inline]
    fn count_rows(&mut self, item: Option<I::Value<'_>>, rows: u64, place: u64) {
        match self.table.find(item) {
            Some(entry) => self.counts.add(entry, rows),
            None => {
                let word = coins::of_row(self.seed, place, self.total);
                let failed = failures(word, self.rate, rows);
                if failed < rows {
                    self.table.find_or_insert(item);
                    self.counts.push(rows - failed);
                }
            }
        }
        self.total = self.total.saturating_add(rows);
    }

    #[cold]
    fn double(&mut self, place: u64) {
        if self.rate >= RATE_MAX {
            self.stretch_end = u64::MAX;
            return;
        }
        self.rate *= 2;
        self.find_end();
        let mut coins = Coins::new(self.seed, place, self.rate);
        for entry in self.table.in_order() {
            if coins.word() & 1 == 0 {
                let count = self.counts.get(entry as usize);
                let behind = count.saturating_sub(1);
                let left = behind - failures(coins.word(), self.rate, behind);
                self.counts.set(entry as usize, left);
            }
        }
        let kept: Vec<u32> =
            (0..self.counts.len() as u32).filter(|&e| self.counts.get(e as usize) > 0).collect();
        self.counts.keep(&kept);
        self.table.keep(&kept);
    }

    /// The rate doubles where S2 holds with the new one: at t·(2·rate + the merged rates).
    fn find_end(&mut self) {
        let own = u128::from(self.stretch) * u128::from(self.rate);
        let merged = (u128::from(self.stretch) * u128::from(self.merged_rates)).div_ceil(2);
        self.stretch_end = u64::try_from(own.saturating_add(merged)).unwrap_or(u64::MAX);
    }

    /// Adds what another sampled of other rows, by coins of its own. What comes next is sampled at the
    /// coarser rate of both.
    pub fn merge(&mut self, other: &StickySampling<I>) {
        if other.total == 0 {
            return;
        }
        if self.total == 0 {
            let seed = self.seed;
            *self = StickySampling { seed, ..other.clone() };
            return;
        }
        for entry in 0..other.counts.len() {
            let count = other.counts.get(entry);
            match self.table.find_or_insert(other.table.get(entry)) {
                (_, true) => self.counts.push(count),
                (own, false) => self.counts.add(own, count),
            }
        }
        self.total = self.total.saturating_add(other.total);
        // A part of which every row was sampled is short of nothing.
        let finer = match self.rate.min(other.rate) {
            1 => 0,
            finer => finer,
        };
        let merged = self.merged_rates.saturating_add(other.merged_rates);
        self.merged_rates = merged.saturating_add(finer);
        self.rate = self.rate.max(other.rate);
        self.find_end();
    }

    /// Rows counted, or their weight.
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
        self.counts.get(entry)
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.table.size() + self.counts.size()
    }

    /// Writes it.
    pub fn write(&self, out: &mut Vec<u8>) {
        bytes::put(out, self.total);
        bytes::put(out, self.rate);
        bytes::put(out, self.merged_rates);
        self.table.write(out);
        self.counts.write(out);
    }

    /// Reads what [`write`](Self::write) wrote.
    pub fn read(seed: u64, stretch: u64, from: &mut &[u8]) -> Option<StickySampling<I>> {
        let total = bytes::take(from)?;
        let rate = bytes::take(from).filter(|rate| rate.is_power_of_two())?;
        let merged_rates = bytes::take(from)?;
        let table = Table::read(from)?;
        let counts = Counts::read(from, table.len())?;
        let empty = StickySampling::new(seed, stretch);
        let mut read = StickySampling { rate, merged_rates, total, table, counts, ..empty };
        read.find_end();
        Some(read)
    }
}
