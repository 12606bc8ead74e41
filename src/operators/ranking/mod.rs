//! Keeps the first rows of each group in an order: ORDER BY … LIMIT, ROW_NUMBER() <= n, DISTINCT ON.
//!
//! # Method
//! Per group the rows stand in their order, as bytes that compare like them. What is shown of a group
//! is its rows from `skip` on, `fetch` of them, with or without their number. Where nothing is ever
//! taken back only the rows that can still be shown are kept; else all are. A row that is beyond the
//! last kept one costs a comparison.
//!
//! What a group shows is compared with what it showed when the step began, so rows that come and go
//! within a step leave no trace. Groups come in the order of their last change, for the reason that
//! [`Touched`](super::touched::Touched) has. Over the windows of a query below (`close`) a group is put out once,
//! when the watermark passes the end of its window.
//!
//! # Order
//! A total one: behind the columns of ORDER BY the order of the log where the input is append-only;
//! else the values of the whole row, because the order in which changes come says nothing.
//!
//! # State
//! Append-only input: `skip + fetch` rows per group. Else all rows. With `close`, of open windows.
//!
//! # Invariants
//! 1. The changelog of a group sums to what it shows, at the end of every step.
//! 2. A watermark is forwarded when no group waits to be put out.

mod group;
mod order_key;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, Rows, SortField};

use self::group::Group;
pub(super) use self::group::{Difference, differences, weights_of};
use self::step::Step;
use crate::data::change::{Change, Marks, Origin};
use crate::data::punctuation::Punctuation;
use crate::operators::operator::{Emitter, EvalError, Operator};
use crate::operators::partitions::{PartitionKeys, Partitions};
use crate::operators::state::{StateReader, StateWriter};
use crate::operators::window_ends::WindowEnds;
use crate::time::EventTime;
use crate::windows::columns::event_times;

/// Rows whose groups stay in a core's cache while they are worked on.
const ROWS_AT_ONCE: usize = 1024;

/// Which rows of which groups.
#[derive(Debug, Clone)]
pub struct RankingSpec {
    /// Columns whose values have groups of their own.
    pub partition: Vec<usize>,
    /// Columns of the order.
    pub order: Vec<(usize, SortOptions)>,
    /// Rows of each group that are passed over.
    pub skip: usize,
    /// Rows of each group that are shown behind those; `None`: all.
    pub fetch: Option<usize>,
    /// Whether rows are shown with their number. If not, its column holds 0, and nobody reads it.
    pub numbered: bool,
    /// The column with the end of the window that a group belongs to, and how far below the watermark
    /// it must lie for the group to be put out, once. `None`: every change is put out.
    pub close: Option<(usize, i64)>,
    /// Whether rows of the input are never taken back.
    pub input_append_only: bool,
    /// How many columns of the input are passed on; those behind are there for order and groups.
    pub kept: usize,
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// The columns that are passed on, then the number.
    pub schema: SchemaRef,
}

impl RankingSpec {
    /// How many rows of a group can ever matter.
    pub fn reach(&self) -> Option<usize> {
        self.fetch.map(|fetch| self.skip.saturating_add(fetch))
    }
}

/// Runs a [`RankingSpec`].
pub struct Ranking {
    spec: Arc<RankingSpec>,
    partitions: Partitions<Group>,
    /// Of the order; `None` without columns.
    order: Option<RowConverter>,
    /// Of the columns that are passed on; `None` without columns.
    rows: Option<RowConverter>,
    /// Groups that changed in this step.
    step: Step,
    /// With `close`: groups by the end of their windows, with their births.
    ends: WindowEnds,
    /// Taken in and not forwarded yet.
    watermark: Option<EventTime>,
    /// Rows taken: their order where input is append-only.
    taken: u64,
    held: usize,
    origin: Arc<Origin>,
}

impl Ranking {
    /// An operator without rows.
    pub fn new(spec: Arc<RankingSpec>) -> Result<Ranking, EvalError> {
        assert_eq!(spec.schema.fields().len(), spec.kept + 1);
        assert!(spec.close.is_none() || spec.input_append_only, "closed groups do not change");
        let schema = &spec.input_schema;
        let data_type = |column: usize| schema.field(column).data_type().clone();
        let order = spec
            .order
            .iter()
            .map(|(column, options)| SortField::new_with_options(data_type(*column), *options));
        let order: Vec<SortField> = order.collect();
        let rows: Vec<SortField> = (0..spec.kept).map(|c| SortField::new(data_type(c))).collect();
        let converter = |fields: Vec<SortField>| match fields.is_empty() {
            true => Ok(None),
            false => RowConverter::new(fields).map(Some),
        };
        Ok(Ranking {
            partitions: Partitions::new(schema, &spec.partition)?,
            order: converter(order)?,
            rows: converter(rows)?,
            step: Step::default(),
            ends: WindowEnds::default(),
            watermark: None,
            taken: 0,
            held: 0,
            origin: Origin::nowhere(),
            spec,
        })
    }

    /// The group of each row, and the rows that are not beyond what their groups can show.
    fn candidates(
        &mut self,
        keys: &PartitionKeys,
        order: Option<&Rows>,
        rows: usize,
    ) -> (Vec<usize>, Vec<u32>) {
        let reach = self.spec.reach().filter(|_| self.spec.input_append_only);
        let (mut slots, mut chosen) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for row in 0..rows {
            let slot = self.partitions.slot(keys, row);
            slots.push(slot);
            let key = order.map_or(&[][..], |order| order.row(row).data());
            if !self.partitions.entry(slot).state.is_beyond(key, reach) {
                chosen.push(row as u32);
            }
        }
        (slots, chosen)
    }

    /// Takes rows a few at a time: what the first look at a group brings near is still there at the next.
    fn take(&mut self, change: &Change) -> Result<(), EvalError> {
        let rows = change.batch.num_rows();
        for first in (0..rows).step_by(ROWS_AT_ONCE) {
            self.take_some(&change.slice(first, ROWS_AT_ONCE.min(rows - first)))?;
        }
        Ok(())
    }

    fn take_some(&mut self, change: &Change) -> Result<(), EvalError> {
        let keys = self.partitions.keys(&change.batch)?;
        let columns = self.spec.order.iter().map(|(c, _)| Arc::clone(change.batch.column(*c)));
        let columns: Vec<ArrayRef> = columns.collect();
        let order = self.order.as_ref().map(|order| order.convert_columns(&columns)).transpose()?;
        let rows = change.batch.num_rows();
        let (slots, chosen) = self.candidates(&keys, order.as_ref(), rows);
        let ends = match self.spec.close {
            Some((column, _)) => Some(event_times(change.batch.column(column))?),
            None => None,
        };
        let kept: Vec<ArrayRef> = change.batch.columns()[..self.spec.kept].to_vec();
        let kept = match chosen.len() == rows {
            true => kept,
            false => compute::take_arrays(&kept, &UInt32Array::from(chosen.clone()), None)?,
        };
        let lines = self.rows.as_ref().map(|rows| rows.convert_columns(&kept)).transpose()?;
        for (place, &row) in chosen.iter().enumerate() {
            let row = row as usize;
            let slot = slots[row];
            let key = order.as_ref().map_or(&[][..], |order| order.row(row).data());
            let line = lines.as_ref().map_or(&[][..], |lines| lines.row(place).data());
            self.touch(slot, ends.as_ref().map(|ends| ends.value(row)));
            self.put(slot, (key, line), self.taken + row as u64, change.weight(row))?;
        }
        self.taken += rows as u64;
        Ok(())
    }

    /// Notes what a group showed before it changes.
    fn touch(&mut self, slot: usize, end: Option<i64>) {
        let entry = self.partitions.entry_mut(slot);
        match end {
            Some(_) if entry.state.timed => {}
            Some(end) => {
                entry.state.timed = true;
                self.ends.note(end, slot, entry.birth);
            }
            None => self.step.note(slot, entry, self.spec.skip, self.spec.fetch),
        }
    }

    /// Changes a group by one row.
    fn put(
        &mut self,
        slot: usize,
        row: (&[u8], &[u8]),
        number: u64,
        weight: i64,
    ) -> Result<(), EvalError> {
        let reach = self.spec.reach();
        let group = &mut self.partitions.entry_mut(slot).state;
        let before = group.held();
        match self.spec.input_append_only {
            true => group.insert(row, number, reach)?,
            false => group.change(row, number, weight),
        }
        self.held = self.held + group.held() - before;
        Ok(())
    }

    /// Puts out what groups show now against what they showed when the step began.
    fn flush(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        let (changed, shown_before) = self.step.end(&self.partitions);
        let (mut entries, mut gone) = (Vec::new(), Vec::new());
        let (mut before, mut now) = (Vec::new(), Vec::new());
        for touch in changed {
            let group = &self.partitions.entry(touch.slot).state;
            before.clear();
            before.extend(shown_before.rows(touch.before));
            now.clear();
            now.extend(group.shown(self.spec.skip, self.spec.fetch));
            if group.is_empty() {
                gone.push(touch.slot);
            }
            differences(&before, &now, self.spec.skip, self.spec.numbered, &mut entries);
        }
        self.put_out(&entries, i64::MIN, out)?;
        for slot in gone {
            self.partitions.remove(slot);
        }
        Ok(())
    }

    /// Puts out the groups whose windows a watermark closes.
    fn close(
        &mut self,
        watermark: EventTime,
        delay: i64,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        while let Some((end, due)) = self.ends.take_due(watermark, delay) {
            let slots = self.partitions.living(due);
            self.put_out_whole(slots, end.saturating_add(delay).saturating_sub(1), out)?;
        }
        Ok(())
    }

    /// What groups show, which then is final.
    fn put_out_whole(
        &mut self,
        slots: Vec<usize>,
        mark: i64,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let groups: Vec<Group> =
            slots.into_iter().map(|slot| self.partitions.remove(slot).state).collect();
        let mut entries = Vec::new();
        for group in &groups {
            self.held -= group.held();
            let now: Vec<&[u8]> = group.shown(self.spec.skip, self.spec.fetch).collect();
            differences(&[], &now, self.spec.skip, self.spec.numbered, &mut entries);
        }
        self.put_out(&entries, mark, out)
    }

    /// Puts out rows, each with its weight and number, under a watermark.
    fn put_out(
        &self,
        entries: &[Difference<&[u8]>],
        mark: i64,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut columns = match &self.rows {
            Some(rows) => {
                let parser = rows.parser();
                rows.convert_rows(entries.iter().map(|(_, _, row)| parser.parse(row)))?
            }
            None => Vec::new(),
        };
        let numbers = entries.iter().map(|(_, number, _)| *number as i64);
        columns.push(Arc::new(Int64Array::from_iter_values(numbers)));
        let options = RecordBatchOptions::new().with_row_count(Some(entries.len()));
        let schema = Arc::clone(&self.spec.schema);
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        let weights = weights_of(entries);
        out.change(Change::due(batch, weights, &self.origin, Marks::All(mark)));
        Ok(())
    }
}

impl Operator for Ranking {
    fn name(&self) -> &'static str {
        "Ranking"
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
        let Some(slots) = self.partitions.covered(punctuation)? else { return Ok(()) };
        match self.spec.close {
            Some(_) => self.put_out_whole(slots, i64::MIN, out)?,
            None => {
                self.flush(out)?;
                for slot in self.partitions.covered(punctuation)?.unwrap_or_default() {
                    self.held -= self.partitions.remove(slot).state.held();
                }
            }
        }
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
        self.partitions.state_bytes() + self.held + self.ends.state_bytes()
    }

    fn held(&self) -> usize {
        self.partitions.len()
    }

    fn restores_exactly(&self) -> bool {
        true
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        assert!(self.step.is_over(), "the step has ended");
        self.partitions.save(out)?;
        out.put(&self.ends)?;
        out.put(&self.taken)?;
        out.put(&self.origin)
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.partitions.restore(from)?;
        self.held = self.partitions.iter().map(|(_, entry)| entry.state.held()).sum();
        self.ends = from.get()?;
        self.taken = from.get()?;
        self.origin = from.get()?;
        Ok(())
    }
}
