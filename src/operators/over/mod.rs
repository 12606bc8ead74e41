//! Answers OVER: for each row a function of the rows before it in its partition.
//!
//! ```text
//!   rows, in any order      held until the watermark has passed them       answers, in order
//!   5 3 8 4 ... ----------> 3 4 5 | 8      <- watermark 6  ---------------> 3 4 5
//! ```
//!
//! # Method
//! By event time, rows are held in [`Pending`] until the watermark less the allowed lateness
//! has passed them. Then they go on in the order of event times, log order among equals, and every
//! function takes them in that order: partitions by [`keying::Keying`], frames by [`frames::Places`],
//! functions by [`call::Call`]. By log order (`ORDER BY _offset`) they go on at once. A row's answer is
//! final when it is given: frames that reach ahead in time are shown rows as soon as the watermark has
//! passed these, and a row is answered once it has passed all that its frames may hold; `lead` waits
//! for its row ([`lead::Leads`]).
//!
//! Several windows of one SELECT are answered by one operator over one copy of the held rows.
//!
//! # Lateness
//! A row is dropped when its event time is below its arrival watermark less the allowed lateness: its
//! place in the order has been passed.
//!
//! # Punctuations
//! One that ends partitions drops their state and completes their `lead`s; one that the output keeps is
//! forwarded. Both happen once the rows that were held when it came have gone.
//!
//! # State
//! The rows at or above the watermark; per partition what its frames hold: the values in a bounded
//! frame, one result for an unbounded one. Where all frames of a PARTITION BY are RANGEs with a width,
//! partitions go when the watermark has left their last row that far behind.
//!
//! # Invariants
//! 1. Output is append-only; by event time it ascends, by log order it is the input's.
//! 2. What is put out depends on the order of rows alone, not on how they were cut into batches or
//!    watermarks.

mod call;
mod cells;
mod counts;
mod folded;
mod framed;
mod frames;
mod keying;
mod lag;
mod lead;
mod ranks;
mod running;
#[cfg(test)]
mod tests;
mod totals;
mod values;

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::SchemaRef;

pub use self::call::{OverFunction, Shift};
pub use self::frames::Frame;
use self::running::{Failed, Running};
use crate::data::change::{Change, Marks, Origin};
use crate::data::punctuation::Punctuation;
use crate::operators::held_promises::HeldPromises;
use crate::operators::lateness::on_time;
use crate::operators::operator::{Emitter, EvalError, Operator, RejectedRow};
use crate::operators::origin_buffer::{OriginBuffer, RowOrigins};
use crate::operators::pending::Pending;
use crate::operators::state::{StateReader, StateWriter};
use crate::time::EventTime;

/// What is computed over which rows.
#[derive(Debug, Clone)]
pub struct OverSpec {
    /// The order of rows.
    pub order: OverOrder,
    /// How far below its arrival watermark a row may lie, in the time column's units.
    pub lateness: i64,
    /// The functions.
    pub calls: Vec<OverCall>,
    /// How many columns of the input are passed on; those behind only feed the functions.
    pub kept: usize,
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// The columns that are passed on, then one for each function.
    pub schema: SchemaRef,
}

/// The ORDER BY of all functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverOrder {
    /// By this event-time column, then in log order.
    Time(usize),
    /// In log order.
    Log,
}

/// One function with its PARTITION BY.
#[derive(Debug, Clone)]
pub struct OverCall {
    /// Columns whose values have partitions of their own.
    pub partition: Vec<usize>,
    /// A column of these that the watermark bounds, and its delay: partitions end by it.
    pub ends: Option<(usize, i64)>,
    /// What is computed.
    pub function: OverFunction,
}

/// Runs an [`OverSpec`].
pub struct Over {
    spec: Arc<OverSpec>,
    running: Running,
    pending: Pending,
    /// Whether rows may fail, so that it has to be known where they came from.
    may_fail: bool,
    promises: HeldPromises,
    /// Rows taken in log order.
    taken: i64,
    /// The frame that came last; what is put out names it as its cause.
    origin: Arc<Origin>,
}

impl Over {
    /// An operator that has seen nothing.
    pub fn new(spec: Arc<OverSpec>) -> Result<Over, EvalError> {
        assert_eq!(spec.schema.fields().len(), spec.kept + spec.calls.len());
        assert!(spec.lateness >= 0, "allowed lateness is not negative");
        let may_fail = spec.calls.iter().any(|call| call::may_fail(&call.function));
        Ok(Over {
            running: Running::new(&spec)?,
            pending: Pending::new(OriginBuffer::new(&spec.input_schema, may_fail)),
            may_fail,
            promises: HeldPromises::default(),
            taken: 0,
            origin: Origin::nowhere(),
            spec,
        })
    }

    /// Holds rows back, but those that come too late.
    fn hold(&mut self, change: Change, time: usize, out: &mut Emitter) -> Result<(), EvalError> {
        let (change, times) = on_time(change, time, self.spec.lateness, out)?;
        self.pending.push(&change, times.values())
    }

    /// Answers rows in log order.
    fn answer_at_once(&mut self, change: &Change, out: &mut Emitter) -> Result<(), EvalError> {
        let rows = change.batch.num_rows() as i64;
        let times: Vec<i64> = (self.taken..self.taken + rows).collect();
        self.taken += rows;
        let (batch, failed) = self.running.answer(&change.batch, &times)?;
        for (&row, (code, reason)) in &failed {
            let (code, reason) = (*code, reason.clone());
            let relation = Arc::clone(&change.origin.relation);
            out.reject(RejectedRow { relation, offset: change.offset(row), code, reason });
        }
        if let Some(batch) = batch {
            out.change(change.with_batch(batch).filter(&succeeded(&failed, rows as usize))?);
        }
        self.put_out_completed(out)
    }

    /// Shows the rows below `end`, all where there is none, to the frames that reach ahead. Gives the
    /// time below which all that frames may hold is there.
    fn show(&mut self, end: Option<i64>) -> Result<Option<i64>, EvalError> {
        let ahead = self.running.ahead();
        if ahead == 0 {
            return Ok(end);
        }
        loop {
            let due = self.pending.look(end);
            if due.is_empty() {
                break;
            }
            let (times, numbers): (Vec<i64>, Vec<u64>) = due.into_iter().unzip();
            let rows = self.pending.rows.gather(numbers.into_iter())?;
            self.running.enter(&rows, &times)?;
        }
        Ok(end.map(|end| end.saturating_sub(ahead)))
    }

    /// Answers the rows below `end`, and ends partitions between them as their time comes: so the order
    /// of what is put out does not depend on where watermarks stand.
    fn release_in_order(&mut self, end: Option<i64>, out: &mut Emitter) -> Result<(), EvalError> {
        loop {
            let first = self.pending.first_time().filter(|_| self.running.ends_partitions());
            let promise = self.promises.next_time();
            let times = promise.into_iter().chain(self.running.next_ending()).chain(first);
            let next = times.min().filter(|last| end.is_none_or(|end| *last < end));
            let Some(next) = next.filter(|last| *last < i64::MAX) else { break };
            self.release(Some(next + 1), out)?;
            self.running.drop_below(next + 1);
            self.put_out_completed(out)?;
            self.keep_promises(Some(next + 1), out)?;
        }
        self.release(end, out)
    }

    /// Answers the rows below `end`, all where there is none.
    fn release(&mut self, end: Option<i64>, out: &mut Emitter) -> Result<(), EvalError> {
        loop {
            let due = self.pending.take(end);
            if due.is_empty() {
                return Ok(());
            }
            let (times, numbers): (Vec<i64>, Vec<u64>) = due.into_iter().unzip();
            let (rows, origins) = match self.may_fail {
                true => {
                    let (rows, origins) = self.pending.rows.gather_with_origins(&numbers)?;
                    (rows, Some(origins))
                }
                false => (self.pending.rows.gather(numbers.iter().copied())?, None),
            };
            self.pending.rows.release(&numbers)?;
            let (batch, failed) = self.running.answer(&rows, &times)?;
            if let Some(origins) = origins {
                refuse(&origins, &failed, out);
            }
            if let Some(batch) = batch {
                // Each row goes on once the watermark has passed what its frames may hold.
                let reach = self.spec.lateness.saturating_add(self.running.ahead());
                let marks = times.iter().map(|time| time.saturating_add(reach)).collect();
                let change = Change::due(batch, None, &self.origin, Marks::Rows(marks));
                out.change(match failed.is_empty() {
                    true => change,
                    false => change.filter(&succeeded(&failed, times.len()))?,
                });
            }
            self.put_out_completed(out)?;
        }
    }

    /// Puts out rows whose `lead` has come.
    fn put_out_completed(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        if let Some(batch) = self.running.completed()? {
            out.change(Change::derived(batch, None, &self.origin));
        }
        Ok(())
    }

    /// Acts on the punctuations that no held row below `end` stands before any more.
    fn keep_promises(&mut self, end: Option<i64>, out: &mut Emitter) -> Result<(), EvalError> {
        while let Some(punctuation) = self.promises.take_due(end) {
            self.keep_promise(punctuation, out)?;
        }
        Ok(())
    }

    /// Acts on a punctuation that no held row stands before.
    fn keep_promise(
        &mut self,
        punctuation: Punctuation,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        self.running.end_covered(&punctuation)?;
        self.put_out_completed(out)?;
        if punctuation.is_about(&self.spec.input_schema, self.spec.kept) && !self.running.waits() {
            out.punctuation(Arc::new(punctuation));
        }
        Ok(())
    }
}

/// A mask of the rows that did not fail.
fn succeeded(failed: &Failed, rows: usize) -> BooleanArray {
    (0..rows).map(|row| Some(!failed.contains_key(&row))).collect()
}

/// Reports rows without a valid answer.
fn refuse(origins: &RowOrigins, failed: &Failed, out: &mut Emitter) {
    for (&row, (code, reason)) in failed {
        let (relation, offset, _) = origins.of_run(row, 1);
        out.reject(RejectedRow { relation, offset, code: *code, reason: reason.clone() });
    }
}

impl Operator for Over {
    fn name(&self) -> &'static str {
        "Over"
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
            OverOrder::Time(column) => self.hold(change, column, out),
            OverOrder::Log => self.answer_at_once(&change, out),
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
        let end = self.show(end)?;
        match self.spec.order {
            OverOrder::Time(_) => self.release_in_order(end, out)?,
            OverOrder::Log => self.release(end, out)?,
        }
        if is_end {
            self.running.end_all();
            self.put_out_completed(out)?;
        } else if let (OverOrder::Time(_), Some(end)) = (self.spec.order, end) {
            self.running.drop_below(end);
            self.put_out_completed(out)?;
        }
        self.keep_promises(end, out)?;
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
            None => self.keep_promise(punctuation.clone(), out)?,
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.pending.bytes() + self.running.bytes() + self.promises.state_bytes()
    }

    fn held(&self) -> usize {
        self.pending.row_count() + self.running.partitions()
    }

    fn restores_exactly(&self) -> bool {
        self.running.restores_exactly()
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.running.save(out)?;
        self.pending.save(out)?;
        out.put(&self.promises)?;
        out.put(&self.taken)?;
        out.put(&self.origin)
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.running.restore(from)?;
        self.pending.restore(from)?;
        self.promises = from.get()?;
        self.taken = from.get()?;
        self.origin = from.get()?;
        Ok(())
    }
}
