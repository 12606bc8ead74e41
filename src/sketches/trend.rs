//! Counts items now and before, and finds those that are much more frequent now.
//!
//! Counts are exact, so the ratio is what it is and its bounds are equal. An item that did not occur
//! before has an infinite ratio. Where nothing at all came before there is nothing to compare with, and
//! no answer.
//!
//! # State
//!
//! Each different item of both windows, with two counts.

use std::collections::HashMap;

use super::bytes;
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
    /// Count now over count before.
    pub ratio: f64,
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
            .map(|(item, [before, now])| Rising {
                item,
                before: *before,
                now: *now,
                ratio: if *before == 0 { f64::INFINITY } else { *now as f64 / *before as f64 },
            })
            .filter(|item| {
                let difference = item.now as i128 - item.before as i128;
                item.now > 0
                    && item.ratio >= thresholds.ratio
                    && difference >= i128::from(thresholds.difference)
                    && item.now >= support
            })
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

    const TWICE: Thresholds = Thresholds { support: Fraction::ZERO, ratio: 2.0, difference: 1 };

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
