//! Holds rows until the watermark has passed them, and gives them out by event time.
//!
//! Rows that share a time come out in the order in which they went in. What has come since the last
//! watermark is sorted then and merged into the rest from behind: rows that are nearly in order, as
//! they mostly are, cost little more than a copy.
//!
//! # State
//! The rows at or above the watermark.

use std::collections::VecDeque;

use crate::data::change::Change;
use crate::operators::operator::EvalError;
use crate::operators::origin_buffer::OriginBuffer;
use crate::operators::state::{StateReader, StateWriter};

/// Rows given out at once, more only where they share a time.
const ROWS_PER_RELEASE: usize = 32_768;

/// The rows, with their numbers by time.
#[derive(Debug)]
pub struct Pending {
    /// The rows by number; whoever takes numbers releases them.
    pub rows: OriginBuffer,
    /// Time and number, ascending.
    sorted: VecDeque<(i64, u64)>,
    /// What has come since.
    fresh: Vec<(i64, u64)>,
}

impl Pending {
    /// Holds nothing.
    pub fn new(rows: OriginBuffer) -> Pending {
        Pending { rows, sorted: VecDeque::new(), fresh: Vec::new() }
    }

    /// Takes rows with their times.
    pub fn push(&mut self, change: &Change, times: &[i64]) -> Result<(), EvalError> {
        let first = self.rows.push(change)?;
        self.fresh.extend(times.iter().copied().zip(first..));
        Ok(())
    }

    /// The latest time of a row that is held.
    pub fn last_time(&self) -> Option<i64> {
        let fresh = self.fresh.iter().map(|(time, _)| *time).max();
        self.sorted.back().map(|(time, _)| *time).max(fresh)
    }

    /// Times and numbers of the next rows below `end` (`None`: of all), in their order.
    pub fn take(&mut self, end: Option<i64>) -> Vec<(i64, u64)> {
        self.merge();
        let mut taken = Vec::new();
        while let Some(&(time, number)) = self.sorted.front() {
            let is_peer = taken.last().is_some_and(|(last, _)| *last == time);
            let is_due = end.is_none_or(|end| time < end);
            if !is_due || (taken.len() >= ROWS_PER_RELEASE && !is_peer) {
                break;
            }
            taken.push((time, number));
            self.sorted.pop_front();
        }
        taken
    }

    fn merge(&mut self) {
        self.fresh.sort_unstable();
        let Some(&least) = self.fresh.first() else { return };
        // A number is greater than all before it, so pairs are never equal.
        let mut later = Vec::new();
        while self.sorted.back().is_some_and(|last| *last > least) {
            later.extend(self.sorted.pop_back());
        }
        if later.is_empty() {
            self.sorted.extend(self.fresh.drain(..));
            return;
        }
        later.append(&mut self.fresh);
        later.sort_unstable();
        self.sorted.extend(later);
    }

    /// Number of rows.
    pub fn row_count(&self) -> usize {
        self.sorted.len() + self.fresh.len()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        (self.sorted.len() + self.fresh.len()) * size_of::<(i64, u64)>() + self.rows.state_bytes()
    }

    /// Writes all rows that are held.
    pub fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.merge();
        out.put(&self.sorted)?;
        self.rows.save(out)
    }

    /// Reads what [`save`](Self::save) wrote, where nothing is held.
    pub fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.sorted = from.get()?;
        self.rows.restore(from)
    }
}
