//! Takes rows in: finds each row's slice, refuses what is too late, folds the rest.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute;

use super::input::{Columns, Input, RowSet};
use super::sorter::{Part, Sorter};
use super::times::{numbers, span};
use super::{SliceKey, WindowAggregate, WindowKey, WindowSource};
use crate::data::change::{Change, Marks};
use crate::operators::aggregates::accumulator::{arguments, filter};
use crate::operators::emit::EmitMode;
use crate::operators::lateness::{late_row, null_time};
use crate::operators::operator::{Emitter, EvalError, LateRow};
use crate::time::EventTime;

/// A batch with what says where its rows belong.
pub(super) struct Arriving<'a> {
    change: &'a Change,
    /// Event times; where windows are assigned, their starts.
    times: ScalarBuffer<i64>,
    /// Ends of assigned windows.
    ends: Option<ScalarBuffer<i64>>,
}

impl WindowAggregate {
    /// Takes a batch: folds it, and emits what its rows make due within it.
    pub(super) fn take_rows(
        &mut self,
        change: &Change,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let change = self.with_times(change, out)?;
        if change.batch.num_rows() == 0 {
            return Ok(());
        }
        self.origin = Arc::clone(&change.origin);
        let arriving = self.arriving(&change)?;
        let columns = self.columns(&change)?;
        let rows = change.batch.num_rows();
        let mut ids = Vec::with_capacity(rows);
        self.keys.intern(&columns.keys, rows, &mut ids)?;
        let input = Input { columns, ids };
        if !self.may_emit_within(&arriving) {
            return self.fold_rows(&arriving, &input, 0..rows, out);
        }
        let mut folded = 0;
        for row in 0..rows {
            let due = self.windows_due_at(&arriving, row, input.ids[row]);
            if due.is_empty() {
                continue;
            }
            // Byte-equal output for any batch cut: what closed before this row goes first.
            self.fold_rows(&arriving, &input, folded..row, out)?;
            self.close_up_to(self.progress(&arriving, row), out)?;
            self.fold_rows(&arriving, &input, row..row + 1, out)?;
            folded = row + 1;
            for window in due {
                self.emit_key(window, input.ids[row], out)?;
            }
        }
        self.fold_rows(&arriving, &input, folded..rows, out)
    }

    /// The rows that have an event time; without one a row belongs to no window.
    pub(super) fn with_times<'a>(
        &self,
        change: &'a Change,
        out: &mut Emitter,
    ) -> Result<Cow<'a, Change>, EvalError> {
        let Some(column) = self.spec.time_column else { return Ok(Cow::Borrowed(change)) };
        let times = change.batch.column(column);
        if self.windows.is_none() || times.null_count() == 0 {
            return Ok(Cow::Borrowed(change));
        }
        let known = compute::is_not_null(times)?;
        for row in (0..times.len()).filter(|row| times.is_null(*row)) {
            out.reject(null_time(change, row, column));
        }
        Ok(Cow::Owned(change.filter(&known)?))
    }

    /// Where the rows of a batch belong.
    pub(super) fn arriving<'a>(&self, change: &'a Change) -> Result<Arriving<'a>, EvalError> {
        let batch = &change.batch;
        let (times, ends) = match (&self.spec.window, self.spec.time_column) {
            (WindowSource::Assigned { start, end }, _) => {
                let start = numbers(batch.column(*start), i64::MIN)?;
                (start, Some(numbers(batch.column(*end), i64::MAX)?))
            }
            (WindowSource::Time(_), Some(column)) => {
                (numbers(batch.column(column), i64::MIN)?, None)
            }
            (WindowSource::Time(_), None) => {
                return Err(EvalError::Broken("a time window has no time column".to_owned()));
            }
        };
        Ok(Arriving { change, times, ends })
    }

    /// What a batch brings to keys and aggregates.
    pub(super) fn columns(&self, change: &Change) -> Result<Columns, EvalError> {
        let batch = &change.batch;
        let specs = self.aggregates.specs();
        let arguments: Vec<Vec<ArrayRef>> =
            specs.iter().map(|spec| arguments(spec, batch)).collect::<Result<_, _>>()?;
        let filters: Vec<Option<BooleanArray>> =
            specs.iter().map(|spec| filter(spec, batch)).collect::<Result<_, _>>()?;
        let weights = change.weights.as_ref().filter(|w| w.values().iter().any(|&w| w != 1));
        let keys = self.spec.keys.iter().map(|&key| Arc::clone(batch.column(key))).collect();
        Ok(Columns { keys, arguments, filters, weights: weights.cloned() })
    }

    /// The row's own stream's watermark. Rows that an operator made know none; for them it is ours.
    fn arrival(&self, arriving: &Arriving<'_>, row: usize) -> i64 {
        arriving.change.arrival(row).max(self.watermark).0
    }

    /// How far the query had come when the row arrived.
    pub(super) fn progress(&self, arriving: &Arriving<'_>, row: usize) -> EventTime {
        arriving.change.progress(row).max(self.watermark)
    }

    fn windows_of(&self, arriving: &Arriving<'_>, row: usize) -> Vec<(i64, i64)> {
        match (&self.windows, &arriving.ends) {
            (Some(windows), _) => windows.windows_of(arriving.times[row]),
            (None, Some(ends)) => vec![(arriving.times[row], ends[row])],
            (None, None) => Vec::new(),
        }
    }

    /// Whether some row of `from..to` lies below its own mark; `first` is the least time of them.
    fn any_below(
        &self,
        arriving: &Arriving<'_>,
        marks: &Marks,
        range: Range<usize>,
        first: i64,
    ) -> bool {
        let (times, ours) = (&arriving.times[range.clone()], self.watermark.0);
        let least = |mark: i64| mark.max(ours);
        match (marks, &arriving.change.rows) {
            (Marks::All(mark), _) => first < least(*mark),
            (Marks::Rows(marks), None) => {
                let mut pairs = times.iter().zip(&marks[range]);
                pairs.any(|(&t, &mark)| t < least(mark))
            }
            (Marks::Rows(marks), Some(rows)) => {
                let mut pairs = times.iter().zip(&rows.values()[range]);
                pairs.any(|(&t, &row)| t < least(marks[row as usize]))
            }
        }
    }

    /// Whether some row of the batch may have to emit at once.
    pub(super) fn may_emit_within(&self, arriving: &Arriving<'_>) -> bool {
        match self.spec.emit.mode {
            EmitMode::EveryRows { .. } => true,
            EmitMode::Changes => false,
            EmitMode::OnClose | EmitMode::EveryInterval { .. } => {
                let (marks, all) = (&arriving.change.origin.progress, 0..arriving.times.len());
                self.spec.emit.allowed_lateness > 0
                    && (arriving.ends.is_some()
                        || self.any_below(arriving, marks, all, span(&arriving.times).0))
            }
        }
    }

    /// The windows that the row changes and that must show it at once: those already closed, and
    /// those for which it is the n-th row of its key.
    pub(super) fn windows_due_at(
        &mut self,
        arriving: &Arriving<'_>,
        row: usize,
        id: u32,
    ) -> Vec<WindowKey> {
        let every = match self.spec.emit.mode {
            EmitMode::EveryRows { rows, .. } => Some(rows.max(1)),
            EmitMode::OnClose | EmitMode::Changes | EmitMode::EveryInterval { .. } => None,
        };
        let (arrival, progress) = (self.arrival(arriving, row), self.progress(arriving, row).0);
        if every.is_none() && arriving.ends.is_none() && arriving.times[row] >= progress {
            return Vec::new();
        }
        let mut due = Vec::new();
        for (start, end) in self.windows_of(arriving, row) {
            let window = WindowKey { end, start };
            if self.is_dropped(end, arrival) {
                continue;
            }
            if end <= progress {
                due.push(window);
            } else if let Some(every) = every {
                let counts = &mut self.open.entry(window).or_default().counts;
                let count = counts.entry(id).or_insert(0);
                *count += 1;
                if *count == every {
                    *count = 0;
                    due.push(window);
                }
            }
        }
        due
    }

    /// Folds some rows of the batch, and reports those that come too late.
    fn fold_rows(
        &mut self,
        arriving: &Arriving<'_>,
        input: &Input,
        range: Range<usize>,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let parts = self.parts(arriving, range, out);
        self.fold_parts(input, parts)
    }

    /// Sorts some rows of the batch into slices, and reports those that come too late.
    pub(super) fn parts(
        &self,
        arriving: &Arriving<'_>,
        range: Range<usize>,
        out: &mut Emitter,
    ) -> Vec<Part> {
        if range.is_empty() {
            return Vec::new();
        }
        let Some(windows) = &self.windows else { return self.parts_by_row(arriving, range, out) };
        let times = &arriving.times[range.clone()];
        let (first, last) = span(times);
        let (start, end) = windows.slice_of(first);
        if self.any_below(arriving, &arriving.change.origin.arrival, range.clone(), first) {
            self.parts_by_row(arriving, range, out)
        } else if last < end {
            let key = SliceKey { start, end, floor: i64::MIN };
            vec![Part { key, time: first, rows: RowSet::Range(range.start, range.len()) }]
        } else {
            self.parts_in_time(times, range.start)
        }
    }

    /// Folds rows that are sorted into slices.
    pub(super) fn fold_parts(&mut self, input: &Input, parts: Vec<Part>) -> Result<(), EvalError> {
        if !self.shared {
            return self.fold_into_windows(input, parts);
        }
        for part in parts {
            self.running.forget_those_with(&part.key);
            self.fold_into(part.key, &part, input)?;
        }
        Ok(())
    }

    /// Sorts rows into slices, none of them late.
    fn parts_in_time(&self, times: &[i64], from: usize) -> Vec<Part> {
        let mut sorter = Sorter::default();
        let Some(windows) = &self.windows else { return Vec::new() };
        let mut row = 0;
        while row < times.len() {
            let time = times[row];
            let (start, end) = windows.slice_of(time);
            let within = |&t: &i64| start <= t && t < end;
            // The row itself belongs, also at the ends of time, where no slice reaches.
            let others = &times[row + 1..];
            let length = 1 + others.iter().position(|t| !within(t)).unwrap_or(others.len());
            let key = SliceKey { start, end, floor: i64::MIN };
            sorter.push_run(key, time, from + row, length);
            row += length;
        }
        sorter.finish()
    }

    /// Sorts rows into slices, each judged by its own arrival.
    fn parts_by_row(
        &self,
        arriving: &Arriving<'_>,
        range: Range<usize>,
        out: &mut Emitter,
    ) -> Vec<Part> {
        let mut sorter = Sorter::default();
        let mut slice = (0, 0);
        for row in range {
            let (time, arrival) = (arriving.times[row], self.arrival(arriving, row));
            match (&self.windows, &arriving.ends) {
                (Some(_), _) if slice.0 <= time && time < slice.1 => {}
                (Some(windows), _) => slice = windows.slice_of(time),
                (None, Some(ends)) => slice = (time, ends[row]),
                (None, None) => continue,
            }
            let mut key = SliceKey { start: slice.0, end: slice.1, floor: i64::MIN };
            if !self.is_dropped(slice.1, arrival) {
                sorter.push(key, time, row);
                continue;
            }
            let windows = self.windows_of(arriving, row);
            let dropped = windows.iter().filter(|w| self.is_dropped(w.1, arrival)).count();
            if dropped > 0 {
                key.floor = windows[dropped - 1].1;
                let late = late_row(arriving.change, row, time, dropped);
                out.late(LateRow { watermark: EventTime(arrival), ..late });
            }
            if dropped < windows.len() {
                sorter.push(key, time, row);
            }
        }
        sorter.finish()
    }

    /// Folds rows into each of their windows, where every window is a slice of its own. A window
    /// sees its rows in log order, whichever slices they came by.
    fn fold_into_windows(&mut self, input: &Input, parts: Vec<Part>) -> Result<(), EvalError> {
        let mut by_window: BTreeMap<WindowKey, Part> = BTreeMap::new();
        for part in parts {
            for window in self.windows_above(part.key, part.time) {
                let (start, end) = (window.start, window.end);
                let key = SliceKey { start, end, floor: i64::MIN };
                by_window
                    .entry(window)
                    .and_modify(|known| known.rows.merge(&part.rows))
                    .or_insert_with(|| Part { key, time: part.time, rows: part.rows.clone() });
            }
        }
        for mut part in by_window.into_values() {
            part.rows.sort();
            self.fold_into(part.key, &part, input)?;
        }
        Ok(())
    }

    /// The windows in which a slice counts, ascending.
    fn windows_above(&self, slice: SliceKey, time: i64) -> Vec<WindowKey> {
        let windows = match &self.windows {
            Some(windows) => windows.windows_of(time),
            None => vec![(slice.start, slice.end)],
        };
        let counts = windows.into_iter().filter(|&(_, end)| end > slice.floor);
        counts.map(|(start, end)| WindowKey { end, start }).collect()
    }

    fn fold_into(&mut self, key: SliceKey, part: &Part, input: &Input) -> Result<(), EvalError> {
        if !self.slices.contains_key(&key) {
            let windows = if self.shared {
                self.windows_above(key, part.time)
            } else {
                vec![WindowKey { end: key.end, start: key.start }]
            };
            let Some(last) = windows.last() else { return Ok(()) };
            self.expiry.insert((last.end, key));
            for window in windows {
                self.open.entry(window).or_default();
            }
            let slice = self.empty_slice(key, self.keys_of_slice.max(part.rows.len()))?;
            self.slices.insert(key, slice);
        }
        let (key_count, marks) = (self.keys.len(), self.collects_changes());
        let slice = self.slices.get_mut(&key).expect("the slice was made above");
        slice.fold(&self.aggregates, input, &part.rows, key_count)?;
        if marks {
            slice.mark_changed(input, &part.rows, key_count);
            self.changed.insert(WindowKey { end: key.end, start: key.start });
        }
        slice.settle(key_count)
    }
}
