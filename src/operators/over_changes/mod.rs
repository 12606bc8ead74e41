//! Answers OVER in any order, over rows that may be taken back, by answering touched partitions anew.
//!
//! # Method
//! All rows of a partition are kept in the order of its windows. At the end of a step every partition
//! that has changed is put into one batch, DataFusion's functions answer for it, and what differs from
//! what was shown is taken back and put out. So each step costs as much as the partitions that it
//! touches hold; it is right for every function and frame. By event time and by log order there is
//! [`crate::operators::over`], which only looks back and costs a few steps per row.
//!
//! Over the windows of a query below (`close`) a partition is answered once, when its window closes.
//!
//! # Order
//! A total one: behind the columns of ORDER BY the order of the log where the input is append-only;
//! else the values of the whole row. Partitions come in the order of their last change, for the reason that
//! [`Touched`](super::touched::Touched) has.
//!
//! # Errors
//! A partition for which a function fails (a sum out of range) shows no rows; the row that came to it
//! last is reported, once, until its answers are valid again.
//!
//! # State
//! All rows, and what is shown of them; with `close`, of open windows.

mod held;

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion::physical_expr::window::WindowExpr;

use self::held::{Held, Shown};
use crate::data::change::{Change, Marks, Origin};
use crate::data::punctuation::Punctuation;
use crate::operators::expr::row_error;
use crate::operators::operator::{Emitter, EvalError, Operator, RejectedRow};
use crate::operators::partitions::Partitions;
use crate::operators::ranking::{Difference, differences, weights_of};
use crate::operators::state::{StateReader, StateWriter};
use crate::operators::window_ends::WindowEnds;
use crate::time::EventTime;
use crate::windows::columns::event_times;

/// What is computed over which rows.
#[derive(Clone)]
pub struct OverChangesSpec {
    /// Columns whose values have partitions of their own.
    pub partition: Vec<usize>,
    /// Columns of the order.
    pub order: Vec<(usize, SortOptions)>,
    /// The functions, over the input's columns.
    pub calls: Vec<Arc<dyn WindowExpr>>,
    /// The column with the end of the window that a partition belongs to, and how far below the
    /// watermark it must lie for the partition to be put out, once.
    pub close: Option<(usize, i64)>,
    /// Whether rows of the input are never taken back.
    pub input_append_only: bool,
    /// How many columns of the input are passed on; those behind only feed the functions.
    pub kept: usize,
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// The columns that are passed on, then one for each function.
    pub schema: SchemaRef,
}

impl fmt::Debug for OverChangesSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls: Vec<&str> = self.calls.iter().map(|call| call.name()).collect();
        f.debug_struct("OverChangesSpec")
            .field("partition", &self.partition)
            .field("order", &self.order)
            .field("calls", &calls)
            .field("close", &self.close)
            .finish_non_exhaustive()
    }
}

/// A partition that changed, and the row that came to it last.
#[derive(Debug)]
struct Touch {
    slot: usize,
    birth: u64,
    relation: Arc<str>,
    offset: u64,
    /// How many rows had come in this step.
    turn: u64,
}

/// Runs an [`OverChangesSpec`].
pub struct OverChanges {
    spec: Arc<OverChangesSpec>,
    partitions: Partitions<Held>,
    order: Option<RowConverter>,
    input: RowConverter,
    output: RowConverter,
    /// Partitions that changed in this step, in the order of their first change.
    touched: Vec<Touch>,
    /// Rows that came in this step.
    turns: u64,
    /// With `close`: partitions by the end of their windows.
    ends: WindowEnds,
    /// Taken in and not forwarded yet.
    watermark: Option<EventTime>,
    taken: u64,
    bytes: usize,
    origin: Arc<Origin>,
}

impl OverChanges {
    /// An operator without rows.
    pub fn new(spec: Arc<OverChangesSpec>) -> Result<OverChanges, EvalError> {
        assert_eq!(spec.schema.fields().len(), spec.kept + spec.calls.len());
        let input = &spec.input_schema;
        let order = spec.order.iter().map(|(column, options)| {
            SortField::new_with_options(input.field(*column).data_type().clone(), *options)
        });
        let order: Vec<SortField> = order.collect();
        let fields = |schema: &SchemaRef| -> Vec<SortField> {
            schema.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect()
        };
        Ok(OverChanges {
            partitions: Partitions::new(input, &spec.partition)?,
            order: if order.is_empty() { None } else { Some(RowConverter::new(order)?) },
            input: RowConverter::new(fields(input))?,
            output: RowConverter::new(fields(&spec.schema))?,
            touched: Vec::new(),
            turns: 0,
            ends: WindowEnds::default(),
            watermark: None,
            taken: 0,
            bytes: 0,
            origin: Origin::nowhere(),
            spec,
        })
    }

    fn take(&mut self, change: &Change) -> Result<(), EvalError> {
        let keys = self.partitions.keys(&change.batch)?;
        let columns = self.spec.order.iter().map(|(c, _)| Arc::clone(change.batch.column(*c)));
        let columns: Vec<ArrayRef> = columns.collect();
        let order = self.order.as_ref().map(|order| order.convert_columns(&columns)).transpose()?;
        let lines = self.input.convert_columns(change.batch.columns())?;
        let ends = match self.spec.close {
            Some((column, _)) => Some(event_times(change.batch.column(column))?),
            None => None,
        };
        for row in 0..change.batch.num_rows() {
            let slot = self.partitions.slot(&keys, row);
            let entry = self.partitions.entry_mut(slot);
            let was_touched = std::mem::replace(&mut entry.state.touched, true);
            match &ends {
                Some(ends) if !was_touched => {
                    self.ends.note(ends.value(row), slot, entry.birth);
                }
                Some(_) => {}
                None => {
                    let (relation, offset) = (&change.origin.relation, change.offset(row));
                    let (birth, turn) = (entry.birth, self.turns);
                    if was_touched {
                        let touch = &mut self.touched[entry.state.place];
                        (touch.offset, touch.turn) = (offset, turn);
                        if !Arc::ptr_eq(&touch.relation, relation) {
                            touch.relation = Arc::clone(relation);
                        }
                    } else {
                        entry.state.place = self.touched.len();
                        let relation = Arc::clone(relation);
                        self.touched.push(Touch { slot, birth, relation, offset, turn });
                    }
                    self.turns += 1;
                }
            }
            let mut key = order.as_ref().map_or(vec![], |order| order.row(row).data().to_vec());
            if self.spec.input_append_only {
                key.extend(self.taken.to_be_bytes());
                self.taken += 1;
            }
            let before = entry.state.bytes;
            entry.state.change(key, lines.row(row).data(), change.weight(row));
            self.bytes = self.bytes + entry.state.bytes - before;
        }
        Ok(())
    }

    /// The answers for a partition's rows; an error is one that its rows cause.
    fn answer(&self, slot: usize) -> Result<Result<Vec<Shown>, RowFailure>, EvalError> {
        let rows = &self.partitions.entry(slot).state.rows;
        let rows = rows.iter().flat_map(|((_, row), weight)| {
            std::iter::repeat_n(row, usize::try_from(*weight).unwrap_or(0))
        });
        let parser = self.input.parser();
        let columns = self.input.convert_rows(rows.map(|row| parser.parse(row)))?;
        let batch = RecordBatch::try_new(Arc::clone(&self.spec.input_schema), columns)?;
        if batch.num_rows() == 0 {
            return Ok(Ok(vec![]));
        }
        let mut columns = batch.columns()[..self.spec.kept].to_vec();
        for call in &self.spec.calls {
            match call.evaluate(&batch) {
                Ok(column) => columns.push(column),
                Err(error) => return Ok(Err(row_error(&error))),
            }
        }
        let answers = self.output.convert_columns(&columns)?;
        Ok(Ok(answers.iter().map(|row| Shown::from(row.data())).collect()))
    }

    /// Puts out what touched partitions answer now against what they showed.
    fn flush(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        let mut entries = Vec::new();
        let mut touched = std::mem::take(&mut self.touched);
        self.turns = 0;
        touched.retain(|touch| self.partitions.get_born(touch.slot, touch.birth).is_some());
        touched.sort_unstable_by_key(|touch| touch.turn);
        for Touch { slot, relation, offset, .. } in touched {
            let answer = self.answer(slot)?;
            let held = &mut self.partitions.entry_mut(slot).state;
            let was_failing = std::mem::replace(&mut held.failing, answer.is_err());
            let now = answer.unwrap_or_else(|(code, reason)| {
                if !was_failing {
                    out.reject(RejectedRow { relation, offset, code, reason });
                }
                vec![]
            });
            held.touched = false;
            let before = std::mem::replace(&mut held.shown, now.clone());
            let old = held.bytes;
            let bytes = |rows: &[Shown]| rows.iter().map(|row| row.len() + SHOWN).sum::<usize>();
            held.bytes = held.bytes + bytes(&now) - bytes(&before);
            self.bytes = self.bytes + held.bytes - old;
            if held.rows.is_empty() {
                self.bytes -= self.partitions.remove(slot).state.bytes;
            }
            differences(&before, &now, 0, false, &mut entries);
        }
        self.put_out(&entries, i64::MIN, out)
    }

    /// Puts out the partitions whose windows a watermark closes.
    fn close(
        &mut self,
        watermark: EventTime,
        delay: i64,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        while let Some((end, due)) = self.ends.take_due(watermark, delay) {
            let mut entries = Vec::new();
            for slot in self.partitions.living(due) {
                self.put_out_whole(slot, &mut entries, out)?;
            }
            self.put_out(&entries, end.saturating_add(delay).saturating_sub(1), out)?;
        }
        Ok(())
    }

    /// What a partition answers, which then is final.
    fn put_out_whole(
        &mut self,
        slot: usize,
        entries: &mut Vec<Difference<Shown>>,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        match self.answer(slot)? {
            Ok(rows) => entries.extend(rows.into_iter().map(|row| (1, 0, row))),
            Err((code, reason)) => {
                let relation = Arc::clone(&self.origin.relation);
                let offset = self.origin.first_offset;
                out.reject(RejectedRow { relation, offset, code, reason });
            }
        }
        self.bytes -= self.partitions.remove(slot).state.bytes;
        Ok(())
    }

    /// Puts out rows, each with its weight, under a watermark.
    fn put_out(
        &self,
        entries: &[Difference<Shown>],
        mark: i64,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        if entries.is_empty() {
            return Ok(());
        }
        let parser = self.output.parser();
        let rows = entries.iter().map(|(_, _, row)| parser.parse(row));
        let columns = self.output.convert_rows(rows)?;
        let batch = RecordBatch::try_new(Arc::clone(&self.spec.schema), columns)?;
        let weights = weights_of(entries);
        out.change(Change::due(batch, weights, &self.origin, Marks::All(mark)));
        Ok(())
    }
}

/// Code and reason of an answer that failed.
type RowFailure = (crate::error::SqlState, String);

/// Bytes of a row that is kept, beside the row itself.
const SHOWN: usize = size_of::<Shown>();

impl Operator for OverChanges {
    fn name(&self) -> &'static str {
        "OverChanges"
    }

    fn on_change(
        &mut self,
        _port: usize,
        change: Change,
        _out: &mut Emitter,
    ) -> Result<(), EvalError> {
        self.origin = Arc::clone(&change.origin);
        self.take(&change)
    }

    fn on_watermark(
        &mut self,
        _port: usize,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        match self.spec.close {
            Some((_, delay)) => {
                self.close(watermark, delay, out)?;
                out.watermark(watermark);
            }
            None => self.watermark = Some(watermark),
        }
        Ok(())
    }

    fn on_punctuation(
        &mut self,
        _port: usize,
        punctuation: &Punctuation,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        if self.spec.close.is_none() {
            self.flush(out)?;
        }
        let Some(slots) = self.partitions.covered(punctuation)? else { return Ok(()) };
        let mut entries = Vec::new();
        for slot in slots {
            match self.spec.close {
                Some(_) => self.put_out_whole(slot, &mut entries, out)?,
                None => self.bytes -= self.partitions.remove(slot).state.bytes,
            }
        }
        self.put_out(&entries, i64::MIN, out)?;
        if punctuation.is_about(&self.spec.input_schema, self.spec.kept) {
            out.punctuation(Arc::new(punctuation.clone()));
        }
        Ok(())
    }

    fn on_step_end(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        self.flush(out)?;
        if let Some(watermark) = self.watermark.take() {
            out.watermark(watermark);
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.partitions.state_bytes() + self.bytes + self.ends.state_bytes()
    }

    fn held(&self) -> usize {
        self.partitions.len()
    }

    fn restores_exactly(&self) -> bool {
        true
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        assert!(self.touched.is_empty(), "the step has ended");
        self.partitions.save(out)?;
        out.put(&self.ends)?;
        out.put(&self.taken)?;
        out.put(&self.bytes)?;
        out.put(&self.origin)
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.partitions.restore(from)?;
        self.ends = from.get()?;
        self.taken = from.get()?;
        self.bytes = from.get()?;
        self.origin = from.get()?;
        Ok(())
    }
}
