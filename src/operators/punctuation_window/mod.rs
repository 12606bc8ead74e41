//! Groups the rows of each partition into windows delimited by its rows, its caps and punctuations.
//!
//! # Method
//! Rows are buffered in log order; [`Delimiter`] keeps, per partition, the open window and says when
//! it closes (its file states the rules). A window that closes is evaluated in one shot
//! ([`WindowOutput`]). Windows come out in the order in which they close; those that one punctuation
//! closes, or that fall idle at one moment, in the order of their partitions' first rows.
//!
//! # Duration
//! Event time runs from the first row of a window. The window closes at a row of its partition that far
//! behind it, or once the watermark less the allowed lateness is there and no such row is needed to know
//! that nothing else will come. A row that comes later than that still counts: its window is over at once.
//!
//! A row on which START or END fails is refused alone and belongs to no window.
//!
//! # State
//! Per partition the rows of its open window, and a counter that stays until a punctuation covers the
//! partition.
//!
//! # Invariants
//! 1. A window is emitted once; nothing emitted is retracted, but early results.
//! 2. With IDLE, a partition with an open window has one entry in `deadlines`, not after the true
//!    deadline; entries that come up too early are put off.
//! 3. With MAX_DURATION, a partition with an open window that has rows has one entry in `expiries`, at its
//!    expiry.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;

use crate::data::change::Change;
use crate::data::punctuation::Punctuation;
use crate::operators::early::{EarlyClock, EarlyResults, rows_between};
use crate::operators::emit::{EmitMode, EmitSpec};
use crate::operators::expr::{RowFailure, evaluate_in_pieces, evaluate_mask};
use crate::operators::operator::{Emitter, EvalError, Operator, RejectedRow};
use crate::operators::partitions::Partitions;
use crate::operators::state::{StateReader, StateWriter};
use crate::operators::window_answer::WindowAnswer;
use crate::operators::window_output::{
    OutputSpec, Version, WindowColumn, WindowColumns, WindowOutput,
};
use crate::time::EventTime;
use crate::windows::columns::event_times;
use crate::windows::punctuate::{Delimited, DelimitedWindow, Delimiter, MarkedRow, Reason};
use crate::windows::spec::PunctuationWindow as Window;

/// The window columns of the output.
const LAYOUT: [WindowColumn; 4] =
    [WindowColumn::Id, WindowColumn::Start, WindowColumn::End, WindowColumn::Reason];

/// What a punctuation window computes.
#[derive(Debug, Clone)]
pub struct PunctuationWindowSpec {
    /// Caps and which boundary rows belong.
    pub window: Window,
    /// START.
    pub start: Option<Arc<dyn PhysicalExpr>>,
    /// END.
    pub end: Option<Arc<dyn PhysicalExpr>>,
    /// The event-time column.
    pub time_column: Option<usize>,
    /// Columns whose values have windows of their own.
    pub partition: Vec<usize>,
    /// The names of the partition columns in punctuations, where they differ from the input's.
    pub partition_names: Vec<String>,
    /// What is put out.
    pub answer: WindowAnswer,
    /// When results appear.
    pub emit: EmitSpec,
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// Columns of the output: window_id, window_start, window_end, window_reason, keys, aggregates; or
    /// those of the input and then the window's.
    pub schema: SchemaRef,
}

/// The running operator.
pub struct PunctuationWindow {
    spec: PunctuationWindowSpec,
    partitions: Partitions<PartitionState>,
    output: WindowOutput,
    early: EarlyResults,
    clock: EarlyClock,
    /// When the open window of a partition may fall idle, with the partition's birth and slot.
    deadlines: BTreeSet<(i64, u64, usize)>,
    /// The event time that ends the open window of a partition, with the partition's birth and slot.
    expiries: BTreeSet<(i64, u64, usize)>,
    now: i64,
}

#[derive(Debug, Default)]
struct PartitionState {
    delimiter: Delimiter,
    /// Whether `deadlines` has an entry, not after the true deadline.
    armed: bool,
    /// The entry of this partition in `expiries`.
    expiry: Option<i64>,
}

/// Whether START and END hold, row by row.
struct Boundaries {
    start: Option<BooleanArray>,
    end: Option<BooleanArray>,
    /// Ascending by row.
    failures: Vec<RowFailure>,
}

impl PunctuationWindow {
    /// A punctuation window that has seen nothing.
    pub fn new(spec: PunctuationWindowSpec) -> Result<PunctuationWindow, EvalError> {
        let output = WindowOutput::new(OutputSpec {
            layout: &LAYOUT,
            answer: spec.answer.clone(),
            keys_apart: spec.answer.keys_apart(spec.emit.mode, &spec.partition, &spec.input_schema),
            input_schema: Arc::clone(&spec.input_schema),
            schema: Arc::clone(&spec.schema),
        })?;
        let mut partitions = Partitions::new(&spec.input_schema, &spec.partition)?;
        partitions.rename(&spec.partition_names);
        Ok(PunctuationWindow {
            partitions,
            output,
            early: EarlyResults::new(spec.emit.mode),
            clock: EarlyClock::new(spec.emit.mode),
            deadlines: BTreeSet::new(),
            expiries: BTreeSet::new(),
            now: i64::MIN,
            spec,
        })
    }

    /// Evaluates START and END; a row fails if one of them does.
    fn boundaries(&self, batch: &RecordBatch) -> Boundaries {
        let mask = |predicate: &Option<Arc<dyn PhysicalExpr>>, piece: &RecordBatch| {
            predicate.as_ref().map(|predicate| evaluate_mask(predicate, piece)).transpose()
        };
        let (pieces, failures) = evaluate_in_pieces(batch, |piece| {
            Ok((mask(&self.spec.start, piece)?, mask(&self.spec.end, piece)?))
        });
        let (mut start, mut end) = (Vec::new(), Vec::new());
        for piece in pieces {
            let (starts, ends) = piece.value;
            start.extend(starts.map(|mask| (piece.start, mask)));
            end.extend(ends.map(|mask| (piece.start, mask)));
        }
        let rows = batch.num_rows();
        Boundaries {
            start: self.spec.start.as_ref().map(|_| spread(rows, &start)),
            end: self.spec.end.as_ref().map(|_| spread(rows, &end)),
            failures,
        }
    }

    fn take(&mut self, slot: usize, row: MarkedRow) {
        let entry = self.partitions.entry_mut(slot);
        let birth = entry.birth;
        let mut closed = Delimited::default();
        entry.state.delimiter.take(&self.spec.window, row, &mut closed);
        if let Some(deadline) = entry.state.delimiter.deadline(&self.spec.window)
            && !std::mem::replace(&mut entry.state.armed, true)
        {
            self.deadlines.insert((deadline, birth, slot));
        }
        self.arm_expiry(slot);
        self.settle(slot, birth, closed, self.now);
        match self.spec.emit.mode {
            EmitMode::Changes | EmitMode::EveryInterval { .. } => {
                self.early.dirty.insert((birth, slot));
            }
            EmitMode::EveryRows { .. } => self.put_out_every(slot, birth, row.row),
            EmitMode::OnClose => {}
        }
    }

    /// The early result of a partition's open window; with `key`, of that key.
    fn put_out(&mut self, slot: usize, birth: u64, key: Option<u32>) {
        let Some(entry) = self.partitions.get_born(slot, birth) else { return };
        let Some(open) = entry.state.delimiter.open() else { return };
        if self.spec.window.is_large_enough(open.rows.len()) {
            let (name, version) = ((birth, slot, open.id), version(open.clone()));
            self.early.put_out((name, key), self.now, version, &mut self.output);
        }
    }

    /// The early result of the key of the row just taken, where there are enough rows.
    fn put_out_every(&mut self, slot: usize, birth: u64, row: u64) {
        let Some(open) = self.partitions.entry(slot).state.delimiter.open() else { return };
        if open.rows.last() != Some(&row) || !self.output.counts(row) {
            return;
        }
        let key = self.output.key_of(row);
        if self.early.count((birth, slot, open.id), key) {
            self.put_out(slot, birth, Some(key));
        }
    }

    fn put_out_dirty(&mut self) {
        for (birth, slot) in std::mem::take(&mut self.early.dirty) {
            self.put_out(slot, birth, None);
        }
    }
}

/// Masks of pieces as one mask of all rows; rows without a piece are false.
fn spread(rows: usize, pieces: &[(usize, BooleanArray)]) -> BooleanArray {
    let mut whole = BooleanBufferBuilder::new(rows);
    for (start, mask) in pieces {
        whole.append_n(start - whole.len(), false);
        whole.append_buffer(mask.values());
    }
    whole.append_n(rows - whole.len(), false);
    BooleanArray::new(whole.finish(), None)
}

fn version(window: DelimitedWindow) -> Version {
    let columns = WindowColumns {
        id: i64::try_from(window.id).ok(),
        start: window.start,
        end: window.end,
        reason: window.reason.map(Reason::as_str),
    };
    Version { columns, rows: window.rows }
}

impl Operator for PunctuationWindow {
    fn name(&self) -> &'static str {
        "PunctuationWindow"
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
        let Boundaries { start, end, failures } = self.boundaries(&change.batch);
        let mut failures = failures.into_iter().peekable();
        let keys = self.partitions.keys(&change.batch)?;
        let first = self.output.push(&change)?;
        for (row, number) in rows_between(first, change.batch.num_rows()) {
            let progress = change.progress(row);
            self.advance_watermark(progress);
            if let Some(failure) = failures.next_if(|failure| failure.row == row) {
                self.output.release([number]);
                out.reject(RejectedRow {
                    relation: Arc::clone(&change.origin.relation),
                    offset: change.offset(row),
                    code: failure.code,
                    reason: failure.reason,
                });
                continue;
            }
            let time = match &times {
                Some(times) => times.is_valid(row).then(|| times.value(row)),
                None => Some(self.now),
            };
            let marked = MarkedRow {
                row: number,
                time,
                now: self.now,
                start: start.as_ref().map(|start| start.value(row)),
                end: end.as_ref().is_some_and(|end| end.value(row)),
            };
            let slot = self.partitions.slot(&keys, row);
            self.take(slot, marked);
            self.advance_watermark(progress);
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
        self.advance_watermark(watermark);
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
        for slot in slots {
            let mut closed = Delimited::default();
            let mut entry = self.partitions.remove(slot);
            if let Some(expiry) = entry.state.expiry {
                self.expiries.remove(&(expiry, entry.birth, slot));
            }
            entry.state.delimiter.close(&self.spec.window, Reason::Punctuation, &mut closed);
            self.settle(slot, entry.birth, closed, self.now);
        }
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
        let deadline = self.deadlines.first().map(|&(deadline, ..)| deadline.saturating_add(1));
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
        let delimiters =
            self.partitions.iter().map(|(_, entry)| entry.state.delimiter.state_bytes());
        self.output.state_bytes()
            + self.partitions.state_bytes()
            + self.early.state_bytes()
            + delimiters.sum::<usize>()
            + (self.deadlines.len() + self.expiries.len()) * size_of::<(i64, u64, usize)>()
    }

    /// Partitions, which are kept for their numbers; without PARTITION the rows of the open window.
    fn held(&self) -> usize {
        match self.partitions.is_keyed() {
            true => self.partitions.len(),
            false => {
                let open =
                    |state: &PartitionState| state.delimiter.open().map_or(0, |w| w.rows.len());
                self.partitions.iter().map(|(_, entry)| open(&entry.state)).sum()
            }
        }
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

mod closing;
mod persist;
#[cfg(test)]
mod tests;
