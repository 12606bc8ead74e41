//! Counts items now and before, and finds those that are much more frequent now.
//!
//! Counts are exact, so the ratio is what it is and its bounds are equal. An item that did not occur
//! before has an infinite ratio. Where nothing at all came before there is nothing to compare with, and
//! no answer.
//!
//! With a *confidence* the counts are taken as what chance made of two rates: rows of an item come
//! independently, so of all its rows in both windows each is of the later one with probability
//! ratio / (1 + ratio). The bounds of that share by [`crate::sketches::chernoff`] give those of the ratio
//! of the rates. An item is reported where the lower one reaches the threshold: one whose rate did not
//! rise so much is with probability (1 − confidence)/2 at most.
//!
//! # State
//!
//! Each different item of both windows, with two counts.

use std::collections::HashMap;

use super::bytes;
use super::chernoff::share_bounds;
use super::fraction::Fraction;

const VERSION: u8 = 1;

/// Counts of items in two windows.
#[derive(Debug, Clone, Default)]
pub struct Trend {
    counts: HashMap<Box<[u8]>, [u64; 2]>,
    rows: [u64; 2],
    item_bytes: usize,
}

/// Which window a row falls in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The window that is compared with.
    Before,
    /// The window that is looked at.
    Now,
}

/// What an item must reach to be reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// The fraction of the rows of the window now.
    pub support: Fraction,
    /// Count now over count before; with a confidence its lower bound.
    pub ratio: f64,
    /// Where counts are taken as what chance made of rates: how sure the bounds of their ratio are.
    pub confidence: Option<Fraction>,
    /// Count now less count before.
    pub difference: i64,
}

/// An item that rises.
#[derive(Debug, Clone, PartialEq)]
pub struct Rising<'a> {
    /// The item.
    pub item: &'a [u8],
    /// Its rows before.
    pub before: u64,
    /// Its rows now.
    pub now: u64,
    /// `now` over `before`, infinite where there were none.
    pub ratio: f64,
    /// The ratio is no less than this.
    pub ratio_lower: f64,
    /// The ratio is no more than this.
    pub ratio_upper: f64,
}

impl<'a> Rising<'a> {
    fn new(item: &'a [u8], [before, now]: [u64; 2], confidence: Option<Fraction>) -> Rising<'a> {
        let ratio = if before == 0 { f64::INFINITY } else { now as f64 / before as f64 };
        let (ratio_lower, ratio_upper) = match confidence {
            Some(confidence) if before > 0 || now > 0 => {
                let (lower, upper) = ratio_bounds(before, now, 1.0 - confidence.as_f64());
                // What is computed may miss what is seen by the last bit.
                (lower.min(ratio), upper.max(ratio))
            }
            _ => (ratio, ratio),
        };
        Rising { item, before, now, ratio, ratio_lower, ratio_upper }
    }
}

/// The bounds of the ratio of two rates of which came what was counted.
fn ratio_bounds(before: u64, now: u64, failure: f64) -> (f64, f64) {
    let (lower, upper) = share_bounds(now as f64, before as f64 + now as f64, failure);
    (lower / (1.0 - lower), upper / (1.0 - upper))
}

impl Trend {
    /// Takes rows with an item.
    pub fn add(&mut self, item: &[u8], when: When, rows: u64) {
        self.rows[when as usize] += rows;
        match self.counts.get_mut(item) {
            Some(counts) => counts[when as usize] += rows,
            None => {
                let mut counts = [0; 2];
                counts[when as usize] = rows;
                self.item_bytes += item.len();
                self.counts.insert(item.into(), counts);
            }
        }
    }

    /// Takes all that another has counted.
    pub fn merge(&mut self, other: &Trend) {
        #[expect(clippy::iter_over_hash_type, reason = "sums do not show the order of their parts")]
        for (item, [before, now]) in &other.counts {
            for (when, rows) in [(When::Before, *before), (When::Now, *now)] {
                if rows > 0 {
                    self.add(item, when, rows);
                }
            }
        }
    }

    /// The items that reach the thresholds, ascending.
    pub fn rising(&self, thresholds: &Thresholds) -> Vec<Rising<'_>> {
        let [before_all, now_all] = self.rows;
        if before_all == 0 {
            return Vec::new();
        }
        let support = thresholds.support.share(Fraction::ZERO, now_all);
        let mut rising: Vec<Rising<'_>> = self
            .counts
            .iter()
            .filter(|(_, [before, now])| {
                let difference = i128::from(*now) - i128::from(*before);
                *now > 0 && difference >= i128::from(thresholds.difference) && *now >= support
            })
            .map(|(item, counts)| Rising::new(item, *counts, thresholds.confidence))
            .filter(|item| item.ratio_lower >= thresholds.ratio)
            .collect();
        rising.sort_unstable_by_key(|item| item.item);
        rising
    }

    /// The bytes, the same for the same counts.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut items: Vec<_> = self.counts.iter().collect();
        items.sort_unstable();
        let mut out = vec![VERSION];
        bytes::put(&mut out, items.len() as u64);
        for (item, [before, now]) in items {
            bytes::put_bytes(&mut out, item);
            bytes::put(&mut out, *before);
            bytes::put(&mut out, *now);
        }
        out
    }

    /// Reads [`Self::to_bytes`]; `None` where the bytes are no summary.
    pub fn from_bytes(mut from: &[u8]) -> Option<Trend> {
        let from = &mut from;
        let mut trend = Trend::default();
        if bytes::byte(from)? != VERSION {
            return None;
        }
        for _ in 0..bytes::take_length(from)? {
            let item = bytes::take_bytes(from)?;
            for when in [When::Before, When::Now] {
                trend.add(item, when, bytes::take(from)?);
            }
        }
        from.is_empty().then_some(trend)
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        let slot = size_of::<(Box<[u8]>, [u64; 2])>() + 1;
        size_of::<Trend>() + self.counts.capacity() * slot + self.item_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWICE: Thresholds =
        Thresholds { support: Fraction::ZERO, ratio: 2.0, confidence: None, difference: 1 };

    fn of(before: &str, now: &str) -> Trend {
        let mut trend = Trend::default();
        before.split_whitespace().for_each(|item| trend.add(item.as_bytes(), When::Before, 1));
        now.split_whitespace().for_each(|item| trend.add(item.as_bytes(), When::Now, 1));
        trend
    }

    fn check(trend: &Trend, thresholds: &Thresholds) -> Vec<String> {
        let line = |item: &Rising<'_>| {
            let name = String::from_utf8_lossy(item.item).into_owned();
            format!("{name} {} {} {}", item.before, item.now, item.ratio)
        };
        trend.rising(thresholds).iter().map(line).collect()
    }

    #[test]
    fn what_doubled_is_reported_and_what_is_new_without_bound() {
        let trend = of("a b b c", "b b b a a d d c");
        assert_eq!(check(&trend, &TWICE), ["a 1 2 2", "d 0 2 inf"]);
        assert_eq!(check(&trend, &Thresholds { difference: 2, ..TWICE }), ["d 0 2 inf"]);
        let support = Fraction::parse("0.3").unwrap();
        assert_eq!(check(&trend, &Thresholds { ratio: 1.0, support, ..TWICE }), ["b 2 3 1.5"]);
    }

    #[test]
    fn without_anything_before_there_is_nothing_to_compare() {
        assert!(check(&of("", "a a a"), &TWICE).is_empty());
        assert!(check(&of("a", ""), &TWICE).is_empty());
    }

    fn share(text: &str) -> Fraction {
        Fraction::parse(text).unwrap()
    }

    #[test]
    fn two_against_one_proves_nothing_and_two_hundred_against_one_hundred_do() {
        let rising = |before: usize, now: usize| {
            let sure = Thresholds { ratio: 1.0, confidence: Some(share("0.95")), ..TWICE };
            let trend = of(&"a ".repeat(before), &"a ".repeat(now));
            let found = trend.rising(&sure).first().map(|a| (a.ratio_lower, a.ratio_upper));
            found.map(|(lower, upper)| format!("{lower:.2} to {upper:.2}"))
        };
        assert_eq!(rising(1, 2), None);
        assert_eq!(rising(100, 200).as_deref(), Some("1.44 to 2.81"));
        assert_eq!(rising(1, 20).as_deref(), Some("2.64 to 2207.67"));
    }

    /// Rows of an item in one window: the sum of many rare chances.
    fn drawn(rate: f64, seed: u64) -> u64 {
        let mut coins = crate::sketches::coins::Coins::new(seed, rate as u64, 0);
        let tries = 40 * rate.ceil() as u64;
        let chance = (rate / tries as f64 * 2_f64.powi(64)) as u64;
        (0..tries).filter(|_| coins.word() < chance).count() as u64
    }

    #[test]
    fn few_items_are_reported_whose_rate_did_not_rise() {
        // Items of every rate, all of which come as often now as before.
        const ITEMS: u64 = 3_000;
        for (confidence, allowed) in [("0.9", 0.05), ("0.99", 0.005)] {
            let mut trend = Trend::default();
            let (mut naive, mut outside) = (0, 0);
            for item in 0..ITEMS {
                let rate = [1.5, 4.0, 12.0, 50.0][item as usize % 4];
                let counts = [drawn(rate, 2 * item), drawn(rate, 2 * item + 1)];
                for (when, rows) in [(When::Before, counts[0]), (When::Now, counts[1])] {
                    trend.add(&item.to_le_bytes(), when, rows);
                }
                naive += u64::from(counts[1] > counts[0]);
                let rising = Rising::new(b"", counts, Some(share(confidence)));
                let doubtful = counts != [0, 0];
                outside +=
                    u64::from(doubtful && (rising.ratio_lower > 1.0 || rising.ratio_upper < 1.0));
            }
            let sure = Thresholds { ratio: 1.0, confidence: Some(share(confidence)), ..TWICE };
            let reported = trend.rising(&sure).len() as f64 / ITEMS as f64;
            assert!(reported <= allowed, "{reported} at {confidence}");
            assert!(outside as f64 <= 2.0 * allowed * ITEMS as f64, "{outside} intervals miss");
            // Without it every other item seems to rise.
            assert!(naive * 5 > ITEMS * 2, "{naive}");
        }
    }

    #[test]
    fn items_that_rose_a_lot_are_reported() {
        let mut trend = Trend::default();
        for item in 0..1_000_u64 {
            trend.add(&item.to_le_bytes(), When::Before, drawn(20.0, 2 * item));
            trend.add(&item.to_le_bytes(), When::Now, drawn(100.0, 2 * item + 1));
        }
        let sure = Thresholds { confidence: Some(share("0.95")), ..TWICE };
        assert!(trend.rising(&sure).len() > 850, "{}", trend.rising(&sure).len());
    }

    #[test]
    fn parts_add_up_and_bytes_come_back() {
        let mut merged = of("a b", "c");
        merged.merge(&of("b c", "a a d d d"));
        assert_eq!(merged.to_bytes(), of("a b b c", "c a a d d d").to_bytes());
        let bytes = merged.to_bytes();
        assert_eq!(Trend::from_bytes(&bytes).unwrap().to_bytes(), bytes);
        assert!((0..bytes.len()).all(|cut| Trend::from_bytes(&bytes[..cut]).is_none()));
    }
}
