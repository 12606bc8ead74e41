//! Answers MATCH_RECOGNIZE: a row for each run of rows of a partition that fits a pattern.
//!
//! ```text
//!   rows, in any order   held until the watermark   partitions, in order      matches
//!   5 3 8 4 ... -------> 3 4 5 | 8  <- watermark 6  a: 3 5 ...  b: 4 ... ---> one row each
//! ```
//!
//! # What a match is (ISO/IEC 9075-2, row pattern recognition; explained in ISO/IEC 19075-5)
//! The rows of a partition are ordered. A *word* of the pattern is a sequence of variables; it fits from
//! a row on if each next row satisfies the condition (DEFINE) of the variable to which it is mapped, a
//! variable without one being satisfied always. A condition sees the rows mapped so far, its own row
//! included (*running* semantics). Of the words that fit from a row on, the match is the first in the
//! order of preference, which goes from left to right: of a greedy quantifier one more iteration before
//! none, of a reluctant one none before one more, of alternatives the one written first. It is what a
//! backtracking search finds first. With WITHIN, a row as late as the first row's time plus the width,
//! or later, satisfies nothing.
//!
//! The search goes on from row to row. From a match it goes to where AFTER MATCH SKIP says: behind its
//! last row, to its second row, or to the first or last row of a variable; where the match has no row of
//! that variable, or it is the first row of the match, to the second row, so that it always gets on.
//! Measures see the whole match (*final* semantics).
//!
//! # Method
//! By event time, rows are held in [`Pending`] until the watermark less the allowed lateness has passed
//! them; then they go to their partitions in the order of event times, of the further ORDER BY, and of
//! the log. By log order (`ORDER BY _offset`) they go at once. Conditions that look at a row and those
//! before it (PREV) are evaluated for a batch, the others for each row and way to match. One attempt is
//! under way per partition ([`attempt`]); where it fails the next one goes over the same rows again.
//!
//! A match is put out as soon as no further row can change it. With WITHIN the watermark decides that,
//! too: deadlines take effect in the order of time, between the rows.
//!
//! # Refused rows
//! A row for which a condition that is asked cannot be decided (a division by zero) is a dead letter and
//! no part of any match; PREV still sees it. A match whose measures have no value is refused by its last
//! row.
//!
//! # Punctuations
//! One that ends partitions ends their searches, and is forwarded where it speaks of partition columns
//! alone. Both happen once the rows that were held when it came have gone.
//!
//! # State
//! The rows at or above the watermark; per partition the rows from the first one of the present attempt
//! on, and as many before it as PREV may reach. With WITHIN these are at most as old as its width.
//! Where matches are numbered or PREV may reach before a match, a partition is never forgotten.
//!
//! # Invariants
//! 1. Output is append-only. What is put out, and in which order, depends on the order of rows alone, not
//!    on how they were cut into batches or watermarks.
//! 2. A snapshot has the rows; attempts are made anew of them.

mod attempt;
#[cfg(test)]
mod backtracking;
mod cells;
mod conditions;
mod due;
mod matcher;
mod measures;
mod partition;
pub mod pattern;
mod running;
mod spec;
mod stand;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;

pub use self::cells::{Aggregation, Cell, Place};
use self::matcher::{Matcher, Outlook};
use self::partition::{Held, Partition};
pub use self::running::RunningFunction;
pub use self::spec::{Condition, MatchOrder, MatchSpec, Skip, VARIABLES_MAX};
use self::stand::sorted_ties;
pub use self::stand::{answer, sorted};
use crate::data::change::{Change, Origin};
use crate::data::punctuation::Punctuation;
use crate::operators::held_promises::HeldPromises;
use crate::operators::lateness::on_time;
use crate::operators::operator::{Emitter, EvalError, Operator};
use crate::operators::origin_buffer::OriginBuffer;
use crate::operators::partitions::Partitions;
use crate::operators::pending::Pending;
use crate::operators::state::{StateReader, StateWriter, misfit};
use crate::time::EventTime;

/// Matches whose rows are made together.
const FOUND_MAX: usize = 4_096;

/// Runs a [`MatchSpec`].
pub struct MatchRecognize {
    spec: Arc<MatchSpec>,
    pending: Pending,
    partitions: Partitions<Partition>,
    matcher: Matcher,
    /// When attempts end, with the first row, the partition's slot and birth.
    deadlines: BTreeSet<(i64, u64, usize, u64)>,
    promises: HeldPromises,
    /// Rows taken in log order.
    taken: i64,
    /// Batches that went to partitions.
    batches: u64,
    /// Partitions that were searched and may hold nothing any more.
    searched: Vec<usize>,
    /// Bytes that partitions hold beyond themselves.
    partition_bytes: usize,
    /// The frame that came last; what is put out names it as its cause.
    origin: Arc<Origin>,
}

impl MatchRecognize {
    /// An operator that has seen nothing.
    pub fn new(spec: Arc<MatchSpec>) -> Result<MatchRecognize, EvalError> {
        assert!(spec.lateness >= 0, "allowed lateness is not negative");
        assert!(spec.variables.len() <= VARIABLES_MAX, "variables are bits");
        assert_eq!(spec.variables.len(), spec.conditions.len());
        Ok(MatchRecognize {
            pending: Pending::new(OriginBuffer::new(&spec.input_schema, true)),
            partitions: Partitions::new(&spec.input_schema, &spec.partition)?,
            matcher: Matcher::new(&spec)?,
            deadlines: BTreeSet::new(),
            promises: HeldPromises::default(),
            taken: 0,
            batches: 0,
            searched: Vec::new(),
            partition_bytes: 0,
            origin: Origin::nowhere(),
            spec,
        })
    }

    /// Holds rows back, but those that come too late.
    fn hold(&mut self, change: Change, time: usize, out: &mut Emitter) -> Result<(), EvalError> {
        let (change, times) = on_time(change, time, self.spec.lateness, out)?;
        self.pending.push(&change, times.values())
    }

    /// Takes rows in log order.
    fn take_at_once(&mut self, change: &Change, out: &mut Emitter) -> Result<(), EvalError> {
        let rows = change.batch.num_rows() as i64;
        let places: Vec<i64> = (self.taken..self.taken + rows).collect();
        self.taken += rows;
        self.pending.push(change, &places)?;
        self.release(None, out)
    }

    /// Gives the rows below `end`, all where there is none, to their partitions.
    fn release(&mut self, end: Option<i64>, out: &mut Emitter) -> Result<(), EvalError> {
        loop {
            let due = self.pending.take(end);
            if due.is_empty() {
                break;
            }
            let (times, numbers): (Vec<i64>, Vec<u64>) = due.into_iter().unzip();
            self.feed(&times, numbers, out)?;
        }
        if let (MatchOrder::Time(_), Some(end)) = (self.spec.order, end) {
            self.come_to(end, out)?;
        }
        self.put_out(out)?;
        self.forget();
        Ok(())
    }

    /// Gives rows to their partitions, and searches these after each.
    fn feed(
        &mut self,
        times: &[i64],
        numbers: Vec<u64>,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let batch = self.pending.rows.gather(numbers.iter().copied())?;
        let (batch, numbers) = self.break_ties(times, batch, numbers)?;
        let keys = self.partitions.keys(&batch)?;
        self.batches += 1;
        let reach = self.matcher.definitions.reach;
        let (mut slots, mut before) = (Vec::with_capacity(times.len()), Vec::new());
        for (row, number) in numbers.iter().enumerate() {
            let slot = self.partitions.slot(&keys, row);
            let partition = &mut self.partitions.entry_mut(slot).state;
            partition.arrive(self.batches, *number, reach, &mut before);
            slots.push(slot);
        }
        let judged = self.matcher.definitions.judge(&batch, &before, &self.pending.rows)?;
        for (row, (fits, fails)) in judged.into_iter().enumerate() {
            let (time, number) = (times[row], numbers[row]);
            if matches!(self.spec.order, MatchOrder::Time(_)) {
                self.come_to(time, out)?;
            }
            let held = Held { number, time, fits, fails, refused: false };
            self.partitions.entry_mut(slots[row]).state.rows.push_back(held);
            self.search(slots[row], Outlook::Open)?;
            if self.matcher.found.len() >= FOUND_MAX {
                self.put_out(out)?;
            }
        }
        self.put_out(out)?;
        self.searched.append(&mut slots);
        self.forget();
        Ok(())
    }

    /// Sorts the rows of each time by the further columns.
    fn break_ties(
        &self,
        times: &[i64],
        batch: RecordBatch,
        numbers: Vec<u64>,
    ) -> Result<(RecordBatch, Vec<u64>), EvalError> {
        match sorted_ties(times, &batch, &self.spec.ties)? {
            None => Ok((batch, numbers)),
            Some(order) => {
                let numbers = order.values().iter().map(|row| numbers[*row as usize]).collect();
                Ok((arrow::compute::take_record_batch(&batch, &order)?, numbers))
            }
        }
    }

    /// Searches a partition, and notes when its attempt ends.
    fn search(&mut self, slot: usize, outlook: Outlook) -> Result<(), EvalError> {
        let memory = self.matcher.definitions.layout.memory_bytes();
        let entry = self.partitions.entry_mut(slot);
        let partition = &mut entry.state;
        self.partition_bytes = self.partition_bytes.saturating_sub(partition.bytes);
        self.matcher.search(partition, &self.pending.rows, outlook)?;
        partition.bytes = partition.held_bytes(memory);
        self.partition_bytes += partition.bytes;
        if let Some(within) = self.spec.within
            && partition.is_searching
            && let Some((time, number)) = partition.place()
            && partition.noted != Some(number)
        {
            partition.noted = Some(number);
            self.deadlines.insert((time.saturating_add(within), number, slot, entry.birth));
        }
        Ok(())
    }
}

impl Operator for MatchRecognize {
    fn name(&self) -> &'static str {
        "MatchRecognize"
    }

    fn on_change(
        &mut self,
        _port: usize,
        change: Change,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        debug_assert!(change.weights.is_none(), "the planner lets only append-only input in");
        if change.batch.num_rows() == 0 {
            return Ok(());
        }
        self.origin = Arc::clone(&change.origin);
        match self.spec.order {
            MatchOrder::Time(column) => self.hold(change, column, out),
            MatchOrder::Log => self.take_at_once(&change, out),
        }
    }

    fn on_watermark(
        &mut self,
        _port: usize,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let is_end = watermark == EventTime::MAX;
        let end = (!is_end).then(|| watermark.minus(self.spec.lateness).0);
        self.release(end, out)?;
        if is_end {
            let all = self.partitions.iter().map(|(slot, _)| slot).collect();
            self.finish(all, out)?;
            self.deadlines.clear();
            while let Some(punctuation) = self.promises.take_due(None) {
                self.keep_promise(&punctuation, out)?;
            }
            self.forget();
        }
        out.watermark(watermark);
        Ok(())
    }

    fn on_punctuation(
        &mut self,
        _port: usize,
        punctuation: &Punctuation,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        match self.pending.last_time() {
            Some(last) => self.promises.hold(last, punctuation.clone()),
            None => {
                self.keep_promise(punctuation, out)?;
                self.forget();
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.pending.bytes()
            + self.partitions.state_bytes()
            + self.partition_bytes
            + self.deadlines.len() * size_of::<(i64, u64, usize, u64)>()
            + self.promises.state_bytes()
    }

    fn held(&self) -> usize {
        let partitions = if self.partitions.is_keyed() { self.partitions.len() } else { 0 };
        self.pending.row_count() + partitions
    }

    fn restores_exactly(&self) -> bool {
        true
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.pending.save(out)?;
        self.partitions.save(out)?;
        out.put(&self.promises)?;
        out.put(&self.taken)?;
        out.put(&self.origin)
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.pending.restore(from)?;
        self.partitions.restore(from)?;
        self.promises = from.get()?;
        self.taken = from.get()?;
        self.origin = from.get()?;
        let slots: Vec<usize> = self.partitions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.search(slot, Outlook::Open)?;
        }
        let again = (&self.matcher.found, &self.matcher.refused, &self.matcher.freed);
        match again.0.is_empty() && again.1.is_empty() && again.2.is_empty() {
            true => Ok(()),
            false => Err(misfit("a search that was under way ends")),
        }
    }
}
