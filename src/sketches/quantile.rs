//! Answers quantiles with bounds that always hold, from counts of values in bins.
//!
//! Up to [`VALUES_MAX`] different values each is counted by itself, and answers are exact. Beyond that
//! values fall into bins, 128 to a power of two, each with its count, its least and its greatest
//! value. The value of a rank lies in the bin in which the counts reach it, between the bin's two ends,
//! so at most 1/128 of itself away from the estimate. Where a bin holds one value the answer is exact again.
//!
//! The summary is a function of the **multiset** of values: neither order, nor cuts, nor the way in
//! which parts were merged shows. That is why it is neither t-digest nor KLL, whose answers depend on
//! the order, and the latter's on coins, too; and why the bounds are certain, not likely.
//!
//! # State
//!
//! 16 bytes a value, or 32 a bin: numbers that span d powers of ten fill at most 3.4 × 128 × d bins.

use std::collections::BTreeMap;

use super::bytes;

/// Different values that are counted one by one.
pub const VALUES_MAX: usize = 1024;
/// Values that wait to be counted together; four times as many once there are bins.
const WAITING_MAX: usize = 1024;
/// 2⁷ bins to a power of two.
const BIN_BITS: u32 = 7;

const VERSION: u8 = 1;

/// What the 64 bits of a value mean. Both orders are that of signed integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// The value is an integer.
    Integers,
    /// The value is what [`from_float`] makes of a floating number.
    Floats,
}

/// A number as a value of [`Scale::Floats`]: NaNs are equal and greatest, zeros are equal.
pub fn from_float(number: f64) -> i64 {
    let number = if number.is_nan() { f64::NAN } else { number + 0.0 };
    let bits = number.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The number that [`from_float`] took.
pub fn to_float(value: i64) -> f64 {
    f64::from_bits((value ^ (((value >> 63) as u64) >> 1) as i64) as u64)
}

/// A signed number as one that is small near zero.
fn folded(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unfolded(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

impl Scale {
    /// The bin of a value; bins ascend with their values.
    fn bin(self, value: i64) -> i64 {
        match self {
            Scale::Floats => value >> (52 - BIN_BITS),
            Scale::Integers if value < 0 => !Scale::Integers.bin(!value),
            Scale::Integers => {
                let doublings = (64 - value.leading_zeros()).saturating_sub(BIN_BITS + 1);
                (i64::from(doublings) << BIN_BITS) + (value >> doublings)
            }
        }
    }

    /// The value at `place` of `last` on the way from one to another.
    fn between(self, low: i64, high: i64, place: u64, last: u64) -> i64 {
        let share = place as f64 / last as f64;
        match self {
            _ if place == 0 => low,
            _ if place == last => high,
            Scale::Integers => {
                let width = (i128::from(high) - i128::from(low)) as f64;
                low.saturating_add((width * share) as i64).min(high)
            }
            Scale::Floats => {
                let (from, to) = (to_float(low), to_float(high));
                from_float(from + (to - from) * share).clamp(low, high)
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bin {
    count: u64,
    least: i64,
    greatest: i64,
}

/// Counts of values, or of bins of values.
#[derive(Debug, Clone)]
pub struct Quantiles {
    scale: Scale,
    count: u64,
    /// Values not counted yet.
    waiting: Vec<i64>,
    counts: Counts,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Counts {
    Values(BTreeMap<i64, u64>),
    Bins(BTreeMap<i64, Bin>),
}

/// A value with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueBounds {
    /// A likely value.
    pub estimate: i64,
    /// No less than this.
    pub lower: i64,
    /// No more than this.
    pub upper: i64,
}

impl Quantiles {
    /// Without values.
    pub fn new(scale: Scale) -> Quantiles {
        let counts = Counts::Values(BTreeMap::new());
        Quantiles { scale, count: 0, waiting: Vec::new(), counts }
    }

    /// Takes a value.
    pub fn add(&mut self, value: i64) {
        self.waiting.push(value);
        let room = if matches!(self.counts, Counts::Bins(_)) { 4 } else { 1 };
        if self.waiting.len() >= room * WAITING_MAX {
            self.settle();
        }
    }

    /// Takes all that another summary has seen.
    pub fn merge(&mut self, other: &Quantiles) {
        other.waiting.iter().for_each(|value| self.add(*value));
        match &other.counts {
            Counts::Values(values) => {
                values.iter().for_each(|(value, count)| self.count_value(*value, *count));
            }
            Counts::Bins(bins) => {
                self.coarsen();
                for (index, bin) in bins {
                    self.count_bin(*index, *bin);
                }
            }
        }
    }

    fn settle(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_unstable();
        let scale = self.scale;
        let mut rest = waiting.as_slice();
        while let (Counts::Values(_), Some(first)) = (&self.counts, rest.first()) {
            let run = rest.partition_point(|value| value == first);
            self.count_value(*first, run as u64);
            rest = &rest[run..];
        }
        for run in rest.chunk_by(|a, b| scale.bin(*a) == scale.bin(*b)) {
            let (least, greatest) = (run[0], run[run.len() - 1]);
            let bin = Bin { count: run.len() as u64, least, greatest };
            self.count_bin(scale.bin(least), bin);
        }
        waiting.clear();
        self.waiting = waiting;
    }

    fn count_value(&mut self, value: i64, count: u64) {
        match &mut self.counts {
            Counts::Values(values) => {
                self.count = self.count.saturating_add(count);
                let entry = values.entry(value).or_default();
                *entry = entry.saturating_add(count);
                if values.len() > VALUES_MAX {
                    self.coarsen();
                }
            }
            Counts::Bins(_) => {
                let bin = Bin { count, least: value, greatest: value };
                self.count_bin(self.scale.bin(value), bin);
            }
        }
    }

    fn count_bin(&mut self, index: i64, more: Bin) {
        let Counts::Bins(bins) = &mut self.counts else { return };
        self.count = self.count.saturating_add(more.count);
        bins.entry(index)
            .and_modify(|bin| {
                bin.count = bin.count.saturating_add(more.count);
                bin.least = bin.least.min(more.least);
                bin.greatest = bin.greatest.max(more.greatest);
            })
            .or_insert(more);
    }

    /// Puts values that are counted one by one into bins.
    fn coarsen(&mut self) {
        let Counts::Values(values) = &mut self.counts else { return };
        let values = std::mem::take(values);
        self.counts = Counts::Bins(BTreeMap::new());
        self.count = 0;
        for (value, count) in values {
            let bin = Bin { count, least: value, greatest: value };
            self.count_bin(self.scale.bin(value), bin);
        }
    }

    /// The least value that at least the fraction `q` of all values do not exceed; `None` without
    /// values.
    pub fn quantile(&mut self, q: f64) -> Option<ValueBounds> {
        let count = self.count();
        let rank = (q * count as f64).ceil() as u64;
        self.ranked(rank.clamp(1, count.max(1)))
    }

    /// How many values there are.
    pub fn count(&mut self) -> u64 {
        self.settle();
        self.count
    }

    /// The value at a rank, from 1; `None` where there are fewer values.
    pub fn ranked(&mut self, rank: u64) -> Option<ValueBounds> {
        self.settle();
        let mut before: u64 = 0;
        let bins: Box<dyn Iterator<Item = Bin>> = match &self.counts {
            Counts::Values(values) => Box::new(values.iter().map(|(value, count)| Bin {
                count: *count,
                least: *value,
                greatest: *value,
            })),
            Counts::Bins(bins) => Box::new(bins.values().copied()),
        };
        for Bin { count, least, greatest } in bins {
            if rank <= before.saturating_add(count) {
                let place = rank - before - 1;
                let last = count - 1;
                let estimate = self.scale.between(least, greatest, place, last);
                // The bin's first and last rank are its ends.
                return Some(match place {
                    0 => ValueBounds { estimate: least, lower: least, upper: least },
                    _ if place == last => {
                        ValueBounds { estimate: greatest, lower: greatest, upper: greatest }
                    }
                    _ => ValueBounds { estimate, lower: least, upper: greatest },
                });
            }
            before = before.saturating_add(count);
        }
        None
    }

    /// The bytes, the same for the same values.
    pub fn to_bytes(&mut self) -> Vec<u8> {
        self.settle();
        let mut out = vec![VERSION];
        match &self.counts {
            Counts::Values(values) => {
                bytes::put(&mut out, 0);
                bytes::put(&mut out, values.len() as u64);
                for (value, count) in values {
                    bytes::put(&mut out, folded(*value));
                    bytes::put(&mut out, *count);
                }
            }
            Counts::Bins(bins) => {
                bytes::put(&mut out, 1);
                bytes::put(&mut out, bins.len() as u64);
                for bin in bins.values() {
                    bytes::put(&mut out, folded(bin.least));
                    bytes::put(&mut out, bin.greatest.wrapping_sub(bin.least) as u64);
                    bytes::put(&mut out, bin.count);
                }
            }
        }
        out
    }

    /// Reads [`Self::to_bytes`]; `None` where the bytes are no summary.
    pub fn from_bytes(scale: Scale, mut from: &[u8]) -> Option<Quantiles> {
        let from = &mut from;
        let mut read = Quantiles::new(scale);
        if bytes::byte(from)? != VERSION {
            return None;
        }
        let binned = bytes::take(from)? != 0;
        let count = bytes::take_length(from)?;
        if binned {
            read.counts = Counts::Bins(BTreeMap::new());
        }
        for _ in 0..count {
            let least = unfolded(bytes::take(from)?);
            let width = if binned { bytes::take(from)? } else { 0 };
            let count = bytes::take(from)?;
            match binned {
                false => read.count_value(least, count),
                true => {
                    let greatest = least.wrapping_add(width as i64);
                    read.count_bin(scale.bin(least), Bin { count, least, greatest });
                }
            }
        }
        from.is_empty().then_some(read)
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        // A tree's nodes are two thirds full or more.
        let counts = match &self.counts {
            Counts::Values(values) => values.len() * 16,
            Counts::Bins(bins) => bins.len() * 32,
        };
        size_of::<Quantiles>() + self.waiting.capacity() * size_of::<i64>() + counts * 3 / 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(scale: Scale, values: &[i64]) -> Quantiles {
        let mut quantiles = Quantiles::new(scale);
        values.iter().for_each(|value| quantiles.add(*value));
        quantiles
    }

    fn truth(values: &[i64], q: f64) -> i64 {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let rank = ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
        sorted[rank - 1]
    }

    #[test]
    fn floats_keep_their_order_and_come_back() {
        let numbers = [
            f64::NEG_INFINITY,
            -1e300,
            -1.5,
            -1e-310,
            0.0,
            1e-310,
            2.5,
            1e300,
            f64::INFINITY,
            f64::NAN,
        ];
        let values = numbers.map(from_float);
        assert!(values.is_sorted_by(|a, b| a < b));
        for (value, number) in values.iter().zip(numbers) {
            assert_eq!(to_float(*value).to_bits(), number.to_bits());
        }
        assert_eq!(from_float(-0.0), from_float(0.0));
        assert_eq!(from_float(-f64::NAN), from_float(f64::NAN));
    }

    #[test]
    fn bins_ascend_and_are_narrow() {
        let ends = [0, 1, 127, 128, 255, 256, 257, 511, 512, 1 << 40, i64::MAX - 1, i64::MAX];
        for scale in [Scale::Integers, Scale::Floats] {
            let mut values: Vec<i64> = ends.iter().flat_map(|v| [*v, -*v, !*v]).collect();
            values.sort_unstable();
            assert!(values.iter().map(|value| scale.bin(*value)).is_sorted());
        }
        for value in 0..100_000 {
            let bin = Scale::Integers.bin(value);
            assert!(Scale::Integers.bin(value + value / 64 + 1) > bin, "{value}");
        }
    }

    #[test]
    fn small_and_empty_inputs_are_exact() {
        assert_eq!(of(Scale::Integers, &[]).quantile(0.5), None);
        let values: Vec<i64> = (0..1000).rev().collect();
        for (q, value) in [(0.0, 0), (0.001, 0), (0.5, 499), (0.99, 989), (1.0, 999)] {
            let exact = ValueBounds { estimate: value, lower: value, upper: value };
            assert_eq!(of(Scale::Integers, &values).quantile(q), Some(exact));
        }
        let ends = [i64::MIN, i64::MAX];
        assert_eq!(of(Scale::Integers, &ends).quantile(1.0).unwrap().estimate, i64::MAX);
    }

    #[test]
    fn state_stays_small() {
        let values: Vec<i64> = (0..1_000_000).map(|i| (i * 7919) % 1_000_003).collect();
        let mut quantiles = of(Scale::Integers, &values);
        assert!(quantiles.size() < 150_000, "{}", quantiles.size());
        let median = quantiles.quantile(0.5).unwrap();
        assert!((median.estimate - 500_000).abs() < 4_000, "{median:?}");
        assert!(median.upper - median.lower < 500_000 / 100);
    }

    proptest! {
        #[test]
        fn bounds_hold_always_and_neither_order_nor_cuts_show(
            values in prop::collection::vec(
                prop_oneof![any::<i64>(), -3000..3000_i64, 0..100_000_000_i64], 1..4000),
            q in 0.0..=1.0_f64,
            cut in 0..4000_usize,
            floats: bool,
        ) {
            let scale = if floats { Scale::Floats } else { Scale::Integers };
            let values: Vec<i64> = match floats {
                true => values.iter().map(|value| from_float(*value as f64 / 7.0)).collect(),
                false => values,
            };
            let mut whole = of(scale, &values);
            let found = whole.quantile(q).unwrap();
            let truth = truth(&values, q);
            prop_assert!(found.lower <= truth && truth <= found.upper);
            prop_assert!(found.lower <= found.estimate && found.estimate <= found.upper);
            if !floats {
                let width = i128::from(found.upper) - i128::from(found.lower);
                prop_assert!(width <= i128::from(truth).abs() / 64 + 1);
            }
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut right = of(scale, right);
            let mut merged = Quantiles::from_bytes(scale, &right.to_bytes()).unwrap();
            merged.merge(&of(scale, left));
            prop_assert_eq!(whole.to_bytes(), merged.to_bytes());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(mut read) = Quantiles::from_bytes(Scale::Floats, &bytes) {
                read.quantile(0.5);
            }
        }
    }
}
