//! Counts distinct values, and set differences of them, from the smallest of their hashes.
//!
//! A bottom-k summary: of all hashes the [`KEPT`] smallest are kept, and the next one is the
//! *threshold*. Hashes spread evenly, so a threshold at the fraction `t` of their range says that the
//! kept ones are about the fraction `t` of all. Up to [`KEPT`] values the count is exact.
//!
//! The summary is a function of the **set** of values: neither order, nor cuts, nor the way in which
//! parts were merged shows, which the update sketches of the crate `datasketches` do not promise.
//! The same hashes serve unions, intersections and differences: what is below the thresholds of all sets is
//! sampled alike in each.
//!
//! The bounds invert Chernoff's inequality for the binomial distribution, on each side with half of
//! [`FAILURE`]. So they hold with at least 99 % for any number of values, small ones included. Where
//! several bounds are combined each has its part of the failure.
//!
//! # State
//!
//! 8 bytes for each of at most 2 × [`KEPT`] hashes.

use super::chernoff::{crossing, unlikeliness};
use super::set_expression::SetExpression;

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
            threshold => bounds(self.hashes.len(), threshold, FAILURE),
        }
    }

    /// How many different values there are for which the expression holds, of the sets that they are in.
    pub fn count_where(sets: &mut [Distinct], expression: &SetExpression) -> CountBounds {
        sets.iter_mut().for_each(Distinct::settle);
        let threshold = sets.iter().map(|set| set.threshold).min().unwrap_or(ALL);
        let sampled = memberships(sets, threshold);
        let chosen = sampled.iter().filter(|members| expression.holds(**members)).count();
        if threshold == ALL {
            return CountBounds::exact(chosen);
        }
        // What holds of one set alone may bound the count far better, where that set is small.
        let is_better = |set: &usize| sets[*set].threshold / 2 >= threshold;
        let (above, below): (Vec<usize>, Vec<usize>) = (
            expression.supersets(sets.len()).filter(is_better).collect(),
            expression.subsets(sets.len()).filter(is_better).collect(),
        );
        let doubtful = |set: &&usize| sets[**set].threshold != ALL;
        let combined = 1 + above.iter().chain(&below).filter(doubtful).count();
        let failure = FAILURE / combined as f64;
        let bounds_of = |set: usize| match sets[set].threshold {
            ALL => CountBounds::exact(sets[set].hashes.len()),
            threshold => bounds(sets[set].hashes.len(), threshold, failure),
        };
        let sampled_of = |set: usize, holds: bool| {
            let fits = |members: &&u64| **members >> set & 1 == u64::from(!holds);
            sampled.iter().filter(fits).filter(|m| expression.holds(**m) == holds).count() as u64
        };
        let found = bounds(chosen, threshold, failure);
        let upper = above.iter().fold(found.upper, |upper, &set| {
            // All of these are in the set, where what was sampled and does not belong here is, too.
            upper.min(bounds_of(set).upper.saturating_sub(sampled_of(set, false)))
        });
        let lower = below.iter().fold(found.lower, |lower, &set| {
            lower.max(bounds_of(set).lower + sampled_of(set, true))
        });
        // The bounds of parts may cross where one of them fails.
        let upper = upper.max(lower);
        CountBounds { estimate: found.estimate.clamp(lower, upper), lower, upper }
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

/// For each hash below the threshold, in which of the sets it is, a bit each.
fn memberships(sets: &[Distinct], threshold: u64) -> Vec<u64> {
    let below = |set: &Distinct| set.hashes.partition_point(|hash| *hash < threshold);
    let all = sets.iter().enumerate().flat_map(|(at, set)| {
        set.hashes[..below(set)].iter().map(move |hash| (*hash, 1_u64 << at))
    });
    let mut all: Vec<(u64, u64)> = all.collect();
    all.sort_unstable();
    let of_one = |run: &[(u64, u64)]| run.iter().fold(0, |members, (_, set)| members | set);
    all.chunk_by(|a, b| a.0 == b.0).map(of_one).collect()
}

/// The bounds of a count of which `sampled` are below the threshold, that fail so often at most.
fn bounds(sampled: usize, threshold: u64, failure: f64) -> CountBounds {
    let share = threshold as f64 / 2_f64.powi(64);
    let sampled = sampled as f64;
    let middle = sampled / share;
    let doubt = (2.0 / failure).ln();
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sketches::hash;
    use crate::sketches::set_expression::SetExpression as E;

    fn of(values: impl IntoIterator<Item = u64>) -> Distinct {
        let mut distinct = Distinct::default();
        values.into_iter().for_each(|value| distinct.add(hash::of_word(value)));
        distinct
    }

    fn except(left: Distinct, right: Distinct) -> CountBounds {
        Distinct::count_where(&mut [left, right], &E::set(0).and(E::set(1).not()))
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
            let left = of((0..20_000 + only).map(value));
            let right = of((0..20_000).chain(1 << 30..(1 << 30) + 10_000).map(value));
            let found = except(left, right);
            cases += 1;
            missed += u64::from(only < found.lower || found.upper < only);
        }
        assert!(missed * 100 <= cases, "{missed} of {cases} missed");
    }

    #[test]
    fn a_difference_of_small_sets_is_exact() {
        assert_eq!(except(of(0..3000), of(1000..4000)), CountBounds::exact(1000));
        assert_eq!(except(of(0..3000), of([])), CountBounds::exact(3000));
        assert_eq!(except(of([]), of(0..100_000)), CountBounds { estimate: 0, lower: 0, upper: 0 });
    }

    /// Every expression over three sets that has a use.
    fn expressions() -> Vec<E> {
        let [a, b, c] = [0, 1, 2].map(E::set);
        vec![
            a.clone(),
            a.clone().or(b.clone()).or(c.clone()),
            a.clone().and(b.clone()).and(c.clone()),
            a.clone().and(b.clone().or(c.clone()).not()),
            a.clone().or(b.clone()).and(c.clone().not()),
            a.clone().and(b.clone()).or(b.clone().and(c.clone())).or(a.clone().and(c.clone())),
            a.clone().or(b.clone().and(c.clone())),
            a.clone().and(b.clone().not()).or(b.and(a.not())).and(c.not().not()),
        ]
    }

    fn truth(sets: &[std::collections::BTreeSet<u64>], expression: &E) -> u64 {
        let all: std::collections::BTreeSet<u64> = sets.iter().flatten().copied().collect();
        let members = |value: &u64| {
            let bit = |(at, set): (usize, &std::collections::BTreeSet<u64>)| {
                u64::from(set.contains(value)) << at
            };
            sets.iter().enumerate().map(bit).sum()
        };
        all.iter().filter(|value| expression.holds(members(value))).count() as u64
    }

    #[test]
    fn bounds_of_set_expressions_hold_in_the_promised_share_of_cases() {
        let (mut cases, mut missed) = (0, 0);
        let mut exact_parts = 0;
        for seed in 0..60_u64 {
            // From equal sets to ones of which the smallest is known exactly.
            let sizes = [[20_000, 20_000, 20_000], [300, 60_000, 9_000], [5_000, 100, 90_000]];
            let sizes = sizes[seed as usize % 3];
            let shared = [0, 50, 4_000][seed as usize / 3 % 3];
            let ranges = [0, 1, 2].map(|at| {
                let from = at as u64 * 200_000;
                let own = from..from + sizes[at];
                own.chain(1_000_000..1_000_000 + shared).map(move |value| value ^ (seed << 40))
            });
            let exact = ranges.clone().map(|range| range.collect());
            for expression in expressions() {
                let mut sets = ranges.clone().map(of);
                let found = Distinct::count_where(&mut sets, &expression);
                let truth = truth(&exact, &expression);
                cases += 1;
                missed += u64::from(truth < found.lower || found.upper < truth);
                assert!(found.lower <= found.estimate && found.estimate <= found.upper);
                exact_parts += u64::from(found.is_exact());
            }
        }
        assert!(missed * 100 <= cases, "{missed} of {cases} missed");
        assert!(exact_parts > 0, "a small set alone is exact, whatever the others");
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
        fn expressions_over_small_sets_are_exact(
            values in prop::collection::vec((0..200_u64, 0..8_u64), 0..400), which in 0..8_usize,
        ) {
            let mut exact: [std::collections::BTreeSet<u64>; 3] = Default::default();
            for (value, members) in values {
                (0..3).filter(|at| members >> at & 1 == 1).for_each(|at| {
                    exact[at].insert(value);
                });
            }
            let mut sets = exact.clone().map(of);
            let expression = &expressions()[which];
            let found = Distinct::count_where(&mut sets, expression);
            let truth = truth(&exact, expression);
            prop_assert_eq!((found.lower, found.estimate, found.upper), (truth, truth, truth));
        }

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
