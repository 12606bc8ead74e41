//! Asks any of the counting summaries which items are frequent, and what is sure about each.
//!
//! | summary | lower | upper | answers without false negatives |
//! |---|---|---|---|
//! | lossy counting | f | f + Δ | f >= (s−ε)N |
//! | sticky sampling | f | f + εN, with probability 1 − δ | f >= (s−ε)N, with probability 1 − δ |
//! | Space-Saving | counter | counter + offset | counter + offset >= sN |
//! | exact | count | count | count >= sN |
//!
//! An answer is *guaranteed* where lower >= sN. Without false positives only those are answers. In
//! either mode no answer came less than (s−ε)N times.

use super::bytes;
use super::coins;
use super::exact_counting::ExactCounting;
use super::fraction::Fraction;
use super::items::Items;
use super::lossy_counting::LossyCounting;
use super::space_saving::SpaceSaving;
use super::sticky_sampling::{StickySampling, stretch, stretch_of_parts};

/// The first byte of a summary's bytes.
const VERSION: u8 = 2;

/// How items are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// [`LossyCounting`].
    LossyCounting,
    /// [`StickySampling`].
    StickySampling,
    /// [`SpaceSaving`].
    SpaceSaving,
    /// [`ExactCounting`].
    Exact,
}

/// Which way an answer may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every frequent item is an answer.
    NoFalseNegatives,
    /// Every answer is a frequent item.
    NoFalsePositives,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Question {
    /// An item is frequent that has at least this share of the rows.
    pub support: Fraction,
    /// Counts are short by at most this share of the rows.
    pub error: Fraction,
    /// How items are counted.
    pub algorithm: Algorithm,
    /// Which way an answer may be wrong.
    pub mode: Mode,
    /// Probability with which sticky sampling may be wrong otherwise.
    pub failure: Fraction,
    /// What the coins of sticky sampling depend on beside the rows.
    pub seed: u64,
    /// Whether rows are counted in parts whose summaries are merged.
    pub in_parts: bool,
}

/// A frequent item, by its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Its entry.
    pub entry: usize,
    /// It came at least so often.
    pub lower: u64,
    /// It came about so often.
    pub estimate: u64,
    /// It came at most so often.
    pub upper: u64,
    /// Whether it is frequent for sure.
    pub guaranteed: bool,
}

/// Any of the summaries.
#[derive(Debug, Clone)]
pub enum Summary<I> {
    /// Lossy counting.
    Lossy(LossyCounting<I>),
    /// Sticky sampling.
    Sticky(StickySampling<I>),
    /// Space-Saving.
    Saving(SpaceSaving<I>),
    /// Exact counting.
    Exact(ExactCounting<I>),
}

/// Calls the same method of whichever summary it is.
macro_rules! each {
    ($summary:expr, $inner:ident => $call:expr) => {
        match $summary {
            Summary::Lossy($inner) => $call,
            Summary::Sticky($inner) => $call,
            Summary::Saving($inner) => $call,
            Summary::Exact($inner) => $call,
        }
    };
}

impl<I: Items> Summary<I> {
    /// A summary of no rows. `part` tells the parts apart whose summaries are merged: their coins differ.
    pub fn new(question: &Question, part: i64) -> Summary<I> {
        match question.algorithm {
            Algorithm::LossyCounting => {
                Summary::Lossy(LossyCounting::new(question.error.reciprocal()))
            }
            Algorithm::StickySampling => {
                Summary::Sticky(StickySampling::new(question.seed_of(part), question.stretch()))
            }
            Algorithm::SpaceSaving => {
                Summary::Saving(SpaceSaving::new(question.error.reciprocal()))
            }
            Algorithm::Exact => Summary::Exact(ExactCounting::default()),
        }
    }

    /// Adds a summary of other rows to the same question. False where it is of another algorithm.
    #[must_use]
    pub fn merge(&mut self, other: &Summary<I>) -> bool {
        match (self, other) {
            (Summary::Lossy(own), Summary::Lossy(other)) => own.merge(other),
            (Summary::Saving(own), Summary::Saving(other)) => own.merge(other),
            (Summary::Exact(own), Summary::Exact(other)) => own.merge(other),
            (Summary::Sticky(own), Summary::Sticky(other)) => own.merge(other),
            _ => return false,
        }
        true
    }

    /// Rows, or their weight.
    pub fn total(&self) -> u64 {
        each!(self, summary => summary.total())
    }

    /// Number of entries.
    pub fn entries(&self) -> usize {
        each!(self, summary => summary.entries())
    }

    /// The item of an entry.
    pub fn item(&self, entry: usize) -> Option<I::Value<'_>> {
        each!(self, summary => summary.item(entry))
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        size_of::<Self>() + each!(self, summary => summary.size())
    }

    /// The frequent items: those that came most often first, equal ones in the order of the items.
    pub fn answers(&self, question: &Question) -> Vec<Answer> {
        let total = self.total();
        let frequent = question.support.share(Fraction::ZERO, total);
        let nearly = question.support.share(question.error, total);
        let slack = question.error.share_at_most(total);
        let mut answers: Vec<Answer> = (0..self.entries())
            .filter_map(|entry| {
                let (lower, estimate, upper) = self.bounds(entry, slack);
                let guaranteed = lower >= frequent;
                let answers = match (question.mode, self) {
                    (Mode::NoFalsePositives, _) => guaranteed,
                    (_, Summary::Lossy(_) | Summary::Sticky(_)) => lower >= nearly,
                    (_, Summary::Saving(_) | Summary::Exact(_)) => upper >= frequent,
                };
                answers.then_some(Answer { entry, lower, estimate, upper, guaranteed })
            })
            .collect();
        answers.sort_unstable_by(|a, b| {
            b.estimate
                .cmp(&a.estimate)
                .then_with(|| I::order(self.item(a.entry), self.item(b.entry)))
        });
        answers
    }

    fn bounds(&self, entry: usize, slack: u64) -> (u64, u64, u64) {
        match self {
            Summary::Lossy(lossy) => {
                let count = lossy.count(entry);
                (count, count, count.saturating_add(lossy.delta(entry)))
            }
            Summary::Sticky(sticky) => {
                let count = sticky.count(entry);
                let slack = if sticky.is_exact() { 0 } else { slack };
                (count, count, count.saturating_add(slack).min(sticky.total()))
            }
            Summary::Saving(saving) => {
                let upper = saving.count(entry).saturating_add(saving.offset());
                (saving.count(entry), upper, upper)
            }
            Summary::Exact(exact) => {
                let count = exact.count(entry);
                (count, count, count)
            }
        }
    }

    /// Writes the summary, its version first.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        each!(self, summary => summary.write(out));
    }

    /// Reads what a summary of the same question and part wrote.
    pub fn read(question: &Question, part: i64, from: &mut &[u8]) -> Option<Summary<I>> {
        if bytes::byte(from)? != VERSION {
            return None;
        }
        let width = question.error.reciprocal();
        Some(match question.algorithm {
            Algorithm::LossyCounting => Summary::Lossy(LossyCounting::read(width, from)?),
            Algorithm::StickySampling => {
                let seed = question.seed_of(part);
                Summary::Sticky(StickySampling::read(seed, question.stretch(), from)?)
            }
            Algorithm::SpaceSaving => Summary::Saving(SpaceSaving::read(width, from)?),
            Algorithm::Exact => Summary::Exact(ExactCounting::read(from)?),
        })
    }
}

impl Question {
    /// Entries that sticky sampling is expected to hold at most, in each part: 2t.
    pub fn expected_entries(&self) -> u64 {
        self.stretch()
    }

    fn stretch(&self) -> u64 {
        let stretch = if self.in_parts { stretch_of_parts } else { stretch };
        stretch(self.support.as_f64(), self.error.as_f64(), self.failure.as_f64())
    }

    fn seed_of(&self, part: i64) -> u64 {
        coins::at(self.seed, part as u64)
    }
}

#[cfg(test)]
mod tests;
