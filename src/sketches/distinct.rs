//! Counts distinct values, and set differences of them, from the smallest of their hashes.
//!
//! A bottom-k summary: of all hashes the [`KEPT`] smallest are kept, and the next one is the
//! *threshold*. Hashes spread evenly, so a threshold at the fraction `t` of their range says that the
//! kept ones are about the fraction `t` of all. Up to [`KEPT`] values the count is exact.
//!
//! The summary is a function of the **set** of values: neither order, nor cuts, nor the way in which
//! parts were merged shows, which the update sketches of the crate `datasketches` do not promise.
//! The same hashes serve differences: what is below both thresholds is sampled alike on both sides.
//!
//! The bounds invert Chernoff's inequality for the binomial distribution, on each side with half of
//! [`FAILURE`]. So they hold with at least 99 % for any number of values, small ones included.
//!
//! # State
//!
//! 8 bytes for each of at most 2 × [`KEPT`] hashes.

/// Hashes kept, and the number of values up to which counts are exact.
pub const KEPT: usize = 4096;

/// How often the bounds may miss the truth.
pub const FAILURE: f64 = 0.01;

const VERSION: u8 = 1;
/// No hash was thrown away yet.
const ALL: u64 = u64::MAX;

/// The smallest hashes of a set of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distinct {
    /// The first `sorted` ascend and differ; behind them is what came since.
    hashes: Vec<u64>,
    sorted: usize,
    /// All hashes below it are here.
    threshold: u64,
}

/// A count with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountBounds {
    /// The most likely count.
    pub estimate: u64,
    /// No less than this.
    pub lower: u64,
    /// No more than this.
    pub upper: u64,
}

impl CountBounds {
    /// Whether the bounds leave no doubt.
    pub fn is_exact(&self) -> bool {
        self.lower == self.upper
    }

    fn exact(count: usize) -> CountBounds {
        let count = count as u64;
        CountBounds { estimate: count, lower: count, upper: count }
    }
}

impl Default for Distinct {
    fn default() -> Distinct {
        Distinct { hashes: Vec::new(), sorted: 0, threshold: ALL }
    }
}

impl Distinct {
    /// Takes a value's hash.
    pub fn add(&mut self, hash: u64) {
        let hash = hash.min(ALL - 1);
        if hash < self.threshold {
            self.hashes.push(hash);
            if self.hashes.len() >= (2 * self.sorted).max(32) {
                self.settle();
            }
        }
    }

    /// Takes all that another summary has seen.
    pub fn merge(&mut self, other: &Distinct) {
        self.threshold = self.threshold.min(other.threshold);
        self.hashes.extend_from_slice(&other.hashes);
        self.settle();
    }

    /// Sorts what came, and throws away what is not among the smallest.
    fn settle(&mut self) {
        self.hashes.sort_unstable();
        self.hashes.dedup();
        self.hashes.truncate(self.hashes.partition_point(|hash| *hash < self.threshold));
        if self.hashes.len() > KEPT {
            self.threshold = self.hashes[KEPT];
            self.hashes.truncate(KEPT);
        }
        self.sorted = self.hashes.len();
    }

    /// How many different values there were.
    pub fn count(&mut self) -> CountBounds {
        self.settle();
        match self.threshold {
            ALL => CountBounds::exact(self.hashes.len()),
            threshold => bounds(self.hashes.len(), threshold),
        }
    }

    /// How many of the values are not in `other`.
    pub fn count_except(&mut self, other: &mut Distinct) -> CountBounds {
        self.settle();
        other.settle();
        let threshold = self.threshold.min(other.threshold);
        let mut here = 0;
        let mut shared = 0;
        for hash in self.hashes.iter().take_while(|hash| **hash < threshold) {
            match other.hashes.binary_search(hash) {
                Ok(_) => shared += 1,
                Err(_) => here += 1,
            }
        }
        if threshold == ALL {
            return CountBounds::exact(here);
        }
        let found = bounds(here, threshold);
        // What was not sampled may all be in the other set, or none of it.
        let upper = found.upper.min(self.count().upper.saturating_sub(shared));
        CountBounds { estimate: found.estimate.min(upper), lower: found.lower, upper }
    }

    /// The bytes, the same for the same set.
    pub fn to_bytes(&mut self) -> Vec<u8> {
        self.settle();
        let words = [self.threshold].into_iter().chain(self.hashes.iter().copied());
        [VERSION].into_iter().chain(words.flat_map(u64::to_le_bytes)).collect()
    }

    /// Reads [`Self::to_bytes`]; `None` where the bytes are no summary.
    pub fn from_bytes(bytes: &[u8]) -> Option<Distinct> {
        let (version, words) = bytes.split_first()?;
        let (words, rest) = words.as_chunks::<8>();
        let (threshold, hashes) = words.split_first()?;
        let threshold = u64::from_le_bytes(*threshold);
        let hashes: Vec<u64> = hashes.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let ascend = hashes.is_sorted_by(|a, b| a < b);
        let below = hashes.last().is_none_or(|last| *last < threshold);
        let fits = *version == VERSION && rest.is_empty() && hashes.len() <= KEPT;
        (fits && ascend && below).then_some(Distinct { sorted: hashes.len(), hashes, threshold })
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        size_of::<Distinct>() + self.hashes.capacity() * size_of::<u64>()
    }
}

/// The bounds of a count of which `sampled` are below the threshold.
fn bounds(sampled: usize, threshold: u64) -> CountBounds {
    let share = threshold as f64 / 2_f64.powi(64);
    let sampled = sampled as f64;
    let middle = sampled / share;
    let doubt = (2.0 / FAILURE).ln();
    let lower = if sampled == 0.0 {
        0.0
    } else {
        crossing(|count| unlikeliness(sampled, count, share) <= doubt, sampled, middle)
    };
    // Far enough: twice the doubt and the sample above what was seen.
    let far = (middle + 1.0) + 4.0 * (sampled + doubt) * (1.0 + doubt) / share;
    let upper = crossing(|count| unlikeliness(sampled, count, share) > doubt, middle, far);
    CountBounds {
        estimate: middle.round() as u64,
        lower: lower.floor().max(sampled) as u64,
        upper: upper.ceil() as u64,
    }
}

/// Minus the logarithm of Chernoff's bound of the chance that of `count` values as few, or as many, as
/// `sampled` fall below the threshold.
fn unlikeliness(sampled: f64, count: f64, share: f64) -> f64 {
    let rest = count - sampled;
    let below = if sampled == 0.0 { 0.0 } else { sampled * (sampled / (count * share)).ln() };
    let above = if rest <= 0.0 { 0.0 } else { rest * (rest / (count * (1.0 - share))).ln() };
    below + above
}

/// Where `holds` turns from false at `low` to true at `high`.
fn crossing(holds: impl Fn(f64) -> bool, mut low: f64, mut high: f64) -> f64 {
    if holds(low) {
        return low;
    }
    for _ in 0..100 {
        let middle = low + (high - low) / 2.0;
        if holds(middle) { high = middle } else { low = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sketches::hash;

    fn of(values: impl IntoIterator<Item = u64>) -> Distinct {
        let mut distinct = Distinct::default();
        values.into_iter().for_each(|value| distinct.add(hash::of_word(value)));
        distinct
    }

    #[test]
    fn few_values_are_counted_exactly() {
        assert_eq!(of([]).count(), CountBounds::exact(0));
        let mut few = of((0..100_000).map(|row| row % KEPT as u64));
        assert_eq!(few.count(), CountBounds::exact(KEPT));
        assert!(few.size() < 3 * 8 * KEPT);
        few.add(hash::of_word(KEPT as u64));
        let one_more = few.count();
        assert!(!one_more.is_exact());
        assert!(one_more.lower <= KEPT as u64 + 1 && (KEPT as u64) < one_more.upper);
    }

    #[test]
    fn the_bounds_hold_in_the_promised_share_of_cases() {
        let (mut cases, mut missed, mut widest) = (0, 0, 0.0_f64);
        for seed in 0..400_u64 {
            let count = [5_000, 12_345, 40_000, 150_000][seed as usize % 4];
            let found = of((0..count).map(|value| value ^ (seed << 40))).count();
            cases += 1;
            missed += u64::from(count < found.lower || found.upper < count);
            widest = widest.max((found.upper - found.lower) as f64 / count as f64);
        }
        assert!(missed * 100 <= cases, "{missed} of {cases} missed");
        assert!(widest < 0.12, "{widest}");
    }

    #[test]
    fn bounds_of_differences_hold_in_the_promised_share_of_cases() {
        let (mut cases, mut missed) = (0, 0);
        for seed in 0..500_u64 {
            // A small difference of large sets is the hard case: few of it are sampled.
            let only = [0, 1, 3, 10, 40, 200, 2_000, 30_000][seed as usize % 8];
            let value = |value: u64| value ^ (seed << 40);
            let mut left = of((0..20_000 + only).map(value));
            let mut right = of((0..20_000).chain(1 << 30..(1 << 30) + 10_000).map(value));
            let found = left.count_except(&mut right);
            cases += 1;
            missed += u64::from(only < found.lower || found.upper < only);
        }
        assert!(missed * 100 <= cases, "{missed} of {cases} missed");
    }

    #[test]
    fn a_difference_of_small_sets_is_exact() {
        assert_eq!(of(0..3000).count_except(&mut of(1000..4000)), CountBounds::exact(1000));
        assert_eq!(of(0..3000).count_except(&mut of([])), CountBounds::exact(3000));
        assert_eq!(
            of([]).count_except(&mut of(0..100_000)),
            CountBounds { estimate: 0, lower: 0, upper: 0 }
        );
    }

    #[test]
    fn bytes_of_another_kind_are_refused() {
        let good = of(0..10).to_bytes();
        assert_eq!(Distinct::from_bytes(&good).unwrap().to_bytes(), good);
        for cut in (0..good.len()).filter(|cut| cut % 8 != 1 || *cut == 1) {
            assert!(Distinct::from_bytes(&good[..cut]).is_none());
        }
        let mut swapped = good.clone();
        swapped[9..25].rotate_left(8);
        assert!(Distinct::from_bytes(&swapped).is_none());
    }

    proptest! {
        #[test]
        fn neither_order_nor_cuts_show(
            values in prop::collection::vec(0..20_000_u64, 0..12_000),
            cuts in prop::collection::vec(0..12_000_usize, 0..4),
        ) {
            let whole = of(values.iter().copied()).to_bytes();
            let backwards = of(values.iter().rev().copied()).to_bytes();
            prop_assert_eq!(&whole, &backwards);
            let mut merged = Distinct::default();
            let mut rest = values.as_slice();
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                rest = after;
                let part = of(part.iter().copied()).to_bytes();
                merged.merge(&Distinct::from_bytes(&part).unwrap());
            }
            merged.merge(&of(rest.iter().copied()));
            prop_assert_eq!(whole, merged.to_bytes());
        }
    }
}
