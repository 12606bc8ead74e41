//! Holds the rows of one partition from where the search stands, and where it stands.
//!
//! # State
//! The rows from the one on which the present attempt begins, and before it as many as PREV may reach;
//! the attempt.

use std::collections::VecDeque;

use super::attempt::Attempt;
use super::cells::Memory;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored, misfit};

/// A row of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// Its number among the rows that are held.
    pub number: u64,
    /// Its event time, or place in the log.
    pub time: i64,
    /// Bit by variable: the row alone, with its neighbours, fits.
    pub fits: u64,
    /// Bit by variable: that cannot be decided.
    pub fails: u64,
    /// Whether it was refused, and so is no part of any match.
    pub refused: bool,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Partition {
    /// In their order.
    pub rows: VecDeque<Held>,
    /// Where the attempt begins, or will begin.
    pub start: usize,
    /// Rows from there on that the attempt has seen.
    pub seen: usize,
    /// The search from there.
    pub attempt: Attempt<Memory>,
    /// Whether it has begun.
    pub is_searching: bool,
    /// Matches so far.
    pub matches: i64,
    /// The number of the row with whose attempt a deadline was noted.
    pub noted: Option<u64>,
    /// The numbers of the last rows before the present batch, and of those in it so far.
    pub recent: Vec<u64>,
    /// The batch of which `recent` speaks.
    pub batch: u64,
    /// The bytes that are counted for it.
    pub bytes: usize,
}

impl Default for Partition {
    fn default() -> Partition {
        Partition {
            rows: VecDeque::new(),
            start: 0,
            seen: 0,
            attempt: Attempt::none(),
            is_searching: false,
            matches: 0,
            noted: None,
            recent: Vec::new(),
            batch: 0,
            bytes: 0,
        }
    }
}

impl Partition {
    /// The row that stands so many rows behind the start, or before it.
    pub(super) fn number_at(&self, row: u32, back: usize) -> Option<u64> {
        let index = (self.start + row as usize).checked_sub(back)?;
        self.rows.get(index).map(|held| held.number)
    }

    /// Time and number of the first row of the search: partitions are searched to the end in this order.
    pub(super) fn place(&self) -> Option<(i64, u64)> {
        self.rows.get(self.start).map(|held| (held.time, held.number))
    }

    /// Notes a row that comes, and adds the numbers of the `reach` rows before it, nearest first.
    pub(super) fn arrive(
        &mut self,
        batch: u64,
        number: u64,
        reach: usize,
        out: &mut Vec<Option<u64>>,
    ) {
        if reach == 0 {
            return;
        }
        if self.batch != batch {
            self.batch = batch;
            let first = self.rows.len().saturating_sub(reach);
            self.recent.clear();
            self.recent.extend(self.rows.range(first..).map(|held| held.number));
        }
        let before = |back| Some(self.recent[self.recent.len().checked_sub(back)?]);
        out.extend((1..=reach).map(before));
        self.recent.push(number);
    }

    /// Gives up the rows before the start but the last `reach`.
    pub(super) fn trim(&mut self, reach: usize, freed: &mut Vec<u64>) {
        while self.start > reach {
            freed.extend(self.rows.pop_front().map(|held| held.number));
            self.start -= 1;
        }
        if self.rows.is_empty() && self.rows.capacity() > 64 {
            self.rows = VecDeque::new();
        }
    }

    /// Bytes held beyond itself, where a memory holds so many.
    pub(super) fn held_bytes(&self, memory: usize) -> usize {
        self.rows.capacity() * size_of::<Held>()
            + self.recent.capacity() * size_of::<u64>()
            + self.attempt.bytes(memory)
    }
}

impl Stored for Held {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        (self.number, self.time).store(out)?;
        (self.fits, self.fails, self.refused).store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let ((number, time), (fits, fails, refused)) = (from.get()?, from.get()?);
        Ok(Held { number, time, fits, fails, refused })
    }
}

/// The attempt is not written: it is made anew of its rows.
impl Stored for Partition {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        (self.start, self.matches).store(out)?;
        self.rows.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let ((start, matches), rows): ((usize, i64), VecDeque<Held>) = (from.get()?, from.get()?);
        if start > rows.len() {
            return Err(misfit("a search begins behind its rows"));
        }
        Ok(Partition { rows, start, matches, ..Partition::default() })
    }
}
