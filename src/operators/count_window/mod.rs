//! Groups the rows of each partition into windows of a fixed number of rows or of distinct times.
//!
//! # Method
//! Rows are buffered in log order; [`Counter`] keeps, per partition, which window they belong to. A
//! window that is full is evaluated in one shot ([`WindowOutput`]). By log order a row is counted
//! when it comes. With ORDER it is held until the watermark less the allowed lateness is above its
//! event time, then counted in the order of event time and, within equal ones, of the log: so a
//! late row that is kept takes its place, and nothing that was counted ever has to be counted again.
//! Windows come out in the order in which they were filled; those that run out of time at one moment
//! in the order of their partitions' first rows.
//!
//! # Timeout
//! Processing time runs from the row that opens a window: its `_ingest_time`, with ORDER the moment
//! at which it is counted. The window closes before any row with a `_ingest_time` above that time
//! plus the timeout, whether or not a tick came in between.
//!
//! # State
//! Per partition the rows of open windows, at most `size` positions, and a counter that stays until a
//! punctuation covers the partition; with ORDER the rows above the watermark less allowed lateness.
//!
//! # Invariants
//! 1. A window is emitted once; nothing emitted is retracted, but early results.
//! 2. Each armed deadline is that of the partition's first open window.

mod early;
mod persist;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::SchemaRef;

use self::early::version;
use crate::data::change::Change;
use crate::data::punctuation::Punctuation;
use crate::operators::early::{EarlyClock, EarlyResults, rows_between};
use crate::operators::emit::{EmitMode, EmitSpec};
use crate::operators::lateness::{late_row, null_time};
use crate::operators::operator::{Emitter, EvalError, Operator};
use crate::operators::partitions::Partitions;
use crate::operators::state::{StateReader, StateWriter};
use crate::operators::window_answer::WindowAnswer;
use crate::operators::window_output::{OutputSpec, WindowColumn, WindowOutput};
use crate::time::EventTime;
use crate::windows::columns::event_times;
use crate::windows::count::{CountedRow, Counter, Filled};
use crate::windows::spec::CountWindow as Window;

/// The window columns of the output.
const LAYOUT: [WindowColumn; 3] = [WindowColumn::Id, WindowColumn::Start, WindowColumn::End];

/// What a count window computes.
#[derive(Debug, Clone)]
pub struct CountWindowSpec {
    /// Size, slide and the rest.
    pub window: Window,
    /// The event-time column; needed with ORDER and with TIES together.
    pub time_column: Option<usize>,
    /// Columns whose values have windows of their own.
    pub partition: Vec<usize>,
    /// What is put out.
    pub answer: WindowAnswer,
    /// When results appear.
    pub emit: EmitSpec,
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// Columns of the output: window_id, window_start, window_end, keys, aggregates; or those of the
    /// input and then the window's.
    pub schema: SchemaRef,
}

#[derive(Debug, Default)]
struct PartitionState {
    counter: Counter,
    /// The entry of this partition in `deadlines`.
    armed: Option<i64>,
}

/// The running operator.
pub struct CountWindow {
    spec: CountWindowSpec,
    partitions: Partitions<PartitionState>,
    output: WindowOutput,
    early: EarlyResults,
    clock: EarlyClock,
    /// With ORDER: rows not yet counted, by event time and number, with the slot of their partition.
    held: BTreeMap<(i64, u64), usize>,
    /// Deadline of each partition's first open window, with the partition's birth and slot.
    deadlines: BTreeSet<(i64, u64, usize)>,
    watermark: EventTime,
    now: i64,
}

impl CountWindow {
    /// A count window that has seen nothing.
    pub fn new(spec: CountWindowSpec) -> Result<CountWindow, EvalError> {
        let window = &spec.window;
        assert!(window.size > 0 && window.slide > 0, "a count window has a size and a slide");
        assert!(!window.ordered || spec.time_column.is_some(), "ORDER names the time column");
        assert!(spec.emit.allowed_lateness >= 0, "allowed lateness is not negative");
        let output = WindowOutput::new(OutputSpec {
            layout: &LAYOUT,
            answer: spec.answer.clone(),
            keys_apart: spec.answer.keys_apart(spec.emit.mode, &spec.partition, &spec.input_schema),
            input_schema: Arc::clone(&spec.input_schema),
            schema: Arc::clone(&spec.schema),
        })?;
        Ok(CountWindow {
            partitions: Partitions::new(&spec.input_schema, &spec.partition)?,
            output,
            early: EarlyResults::new(spec.emit.mode),
            clock: EarlyClock::new(spec.emit.mode),
            held: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            watermark: EventTime::MIN,
            now: i64::MIN,
            spec,
        })
    }

    /// Counts a row in its partition.
    fn count(&mut self, slot: usize, time: Option<i64>, row: u64) {
        let entry = self.partitions.entry_mut(slot);
        let birth = entry.birth;
        let mut filled = Filled::default();
        let counted = CountedRow { row, time, now: self.now };
        entry.state.counter.count(&self.spec.window, counted, &mut filled);
        self.settle(slot, filled, self.now);
        match self.spec.emit.mode {
            // A window that is not full is no result; early ones are asked for with EVERY.
            EmitMode::Changes if self.spec.window.partial => {
                self.early.dirty.insert((birth, slot));
            }
            EmitMode::EveryInterval { .. } => {
                self.early.dirty.insert((birth, slot));
            }
            EmitMode::EveryRows { .. } => self.put_out_every(slot, birth, row),
            EmitMode::Changes | EmitMode::OnClose => {}
        }
    }

    /// Emits what has been filled and keeps the armed deadline in step.
    fn settle(&mut self, slot: usize, filled: Filled, now: i64) {
        let birth = self.partitions.entry(slot).birth;
        for window in filled.windows {
            let name = (birth, slot, window.id);
            self.early.finish(name, now, version(window), &mut self.output);
        }
        self.output.release(filled.released);
        let state = &mut self.partitions.entry_mut(slot).state;
        let deadline = state.counter.deadline();
        if deadline != state.armed {
            let armed = std::mem::replace(&mut state.armed, deadline);
            if let Some(armed) = armed {
                self.deadlines.remove(&(armed, birth, slot));
            }
            if let Some(deadline) = deadline {
                self.deadlines.insert((deadline, birth, slot));
            }
        }
    }

    /// Closes the windows whose deadline lies before `now`, and moves processing time there.
    fn advance_time(&mut self, now: i64) {
        while let Some(&(deadline, _, slot)) = self.deadlines.first()
            && deadline < now
        {
            let mut filled = Filled::default();
            let counter = &mut self.partitions.entry_mut(slot).state.counter;
            counter.expire_first(&self.spec.window, &mut filled);
            self.settle(slot, filled, deadline);
        }
        if self.clock.passes(now) {
            self.put_out_dirty();
        }
        self.now = self.now.max(now);
    }

    /// Counts the held rows that no row can come before any more.
    fn advance(&mut self, watermark: EventTime) {
        if !self.spec.window.ordered || watermark <= self.watermark {
            return;
        }
        self.watermark = watermark;
        let passed = watermark.minus(self.spec.emit.allowed_lateness);
        while let Some((&(time, _), _)) = self.held.first_key_value()
            && (time < passed.0 || passed == EventTime::MAX)
        {
            self.count_held_at(time);
        }
    }

    /// Counts all held rows of one event time; none of that time can follow.
    fn count_held_at(&mut self, time: i64) {
        let mut slots = Vec::new();
        while let Some(first) = self.held.first_entry()
            && first.key().0 == time
        {
            let ((time, row), slot) = first.remove_entry();
            self.count(slot, Some(time), row);
            slots.push(slot);
        }
        if self.spec.window.ties_together {
            let mut seen = BTreeSet::new();
            for slot in slots.into_iter().filter(|&slot| seen.insert(slot)) {
                self.complete_value(slot);
            }
        }
    }

    fn complete_value(&mut self, slot: usize) {
        let mut filled = Filled::default();
        let counter = &mut self.partitions.entry_mut(slot).state.counter;
        counter.complete_value(&self.spec.window, &mut filled);
        self.settle(slot, filled, self.now);
    }

    /// Ends partitions that no row can come to any more.
    fn end_partitions(&mut self, slots: &[usize]) {
        let ending: BTreeSet<usize> = slots.iter().copied().collect();
        let times: BTreeSet<i64> = (self.held.iter())
            .filter(|(_, slot)| ending.contains(slot))
            .map(|(&(time, _), _)| time)
            .collect();
        for time in times {
            let rows = self.held.range((time, 0)..=(time, u64::MAX));
            let due: Vec<(u64, usize)> = rows
                .filter(|(_, slot)| ending.contains(slot))
                .map(|(&(_, row), &slot)| (row, slot))
                .collect();
            for (row, slot) in due {
                self.held.remove(&(time, row));
                self.count(slot, Some(time), row);
            }
        }
        for &slot in slots {
            let entry = self.partitions.entry_mut(slot);
            let birth = entry.birth;
            let open: Vec<u64> = entry.state.counter.open_counts().map(|(id, _)| id).collect();
            let mut filled = Filled::default();
            entry.state.counter.finish(&self.spec.window, &mut filled);
            self.settle(slot, filled, self.now);
            for id in open {
                self.early.give_up((birth, slot, id), self.now, &mut self.output);
            }
            self.partitions.remove(slot);
        }
    }
}

impl Operator for CountWindow {
    fn name(&self) -> &'static str {
        "CountWindow"
    }

    fn on_change(
        &mut self,
        _port: usize,
        change: Change,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        self.advance_time(change.origin.ingest_time);
        let times = match self.spec.time_column {
            Some(column) => Some(event_times(change.batch.column(column))?),
            None => None,
        };
        let keys = self.partitions.keys(&change.batch)?;
        let first = self.output.push(&change)?;
        for (row, number) in rows_between(first, change.batch.num_rows()) {
            self.advance(change.progress(row));
            let time = match &times {
                Some(times) => times.is_valid(row).then(|| times.value(row)),
                None => Some(self.now),
            };
            if self.spec.window.ordered {
                let passed = change.arrival(row).minus(self.spec.emit.allowed_lateness);
                match (time, self.spec.time_column) {
                    (Some(time), _) if time >= passed.0 => {
                        self.held.insert((time, number), self.partitions.slot(&keys, row));
                    }
                    (Some(time), _) => {
                        self.output.release([number]);
                        out.late(late_row(&change, row, time, 1));
                    }
                    (None, column) => {
                        self.output.release([number]);
                        out.reject(null_time(&change, row, column.unwrap_or_default()));
                    }
                }
            } else {
                let slot = self.partitions.slot(&keys, row);
                self.count(slot, time, number);
            }
            if self.output.is_full() {
                self.output.flush(out)?;
            }
        }
        self.output.flush(out)
    }

    fn on_watermark(
        &mut self,
        _port: usize,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        self.advance(watermark);
        self.output.flush(out)?;
        out.watermark(watermark);
        Ok(())
    }

    fn on_punctuation(
        &mut self,
        _port: usize,
        punctuation: &Punctuation,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let Some(slots) = self.partitions.covered(punctuation)? else { return Ok(()) };
        self.end_partitions(&slots);
        self.output.flush(out)?;
        let schemas = (&self.spec.input_schema, &self.spec.schema);
        if let Some(kept) = self.spec.answer.passed_on(punctuation, schemas, LAYOUT.len()) {
            out.punctuation(kept);
        }
        Ok(())
    }

    fn on_tick(&mut self, now: i64, out: &mut Emitter) -> Result<(), EvalError> {
        self.advance_time(now);
        self.output.flush(out)
    }

    fn next_tick(&self) -> Option<i64> {
        let deadline = self.deadlines.first().map(|&(deadline, _, _)| deadline.saturating_add(1));
        let early = self.clock.due().filter(|_| !self.early.dirty.is_empty());
        deadline.into_iter().chain(early).min()
    }

    fn on_step_end(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        if self.spec.emit.mode == EmitMode::Changes {
            self.put_out_dirty();
        }
        self.output.flush(out)
    }

    fn state_bytes(&self) -> usize {
        let counters = self.partitions.iter().map(|(_, entry)| entry.state.counter.state_bytes());
        self.output.state_bytes()
            + self.partitions.state_bytes()
            + self.early.state_bytes()
            + counters.sum::<usize>()
            + self.held.len() * size_of::<((i64, u64), usize)>()
            + self.deadlines.len() * size_of::<(i64, u64, usize)>()
    }

    fn held(&self) -> usize {
        self.partitions.len()
    }

    fn restores_exactly(&self) -> bool {
        true
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.save_windows(out)
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.restore_windows(from)
    }
}
