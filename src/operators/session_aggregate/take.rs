//! Takes rows into sessions and, where the input has retractions, out of them again.

use arrow::array::Array;
use hashbrown::HashSet;

use super::revise::Early;
use super::row_index::unweighted;
use super::{PartitionState, SessionAggregate};
use crate::data::change::Change;
use crate::operators::early::rows_between;
use crate::operators::emit::EmitMode;
use crate::operators::lateness::{late_row, null_time};
use crate::operators::operator::{Emitter, EvalError};
use crate::windows::columns::event_times;
use crate::windows::session::Session;

impl SessionAggregate {
    /// Takes the rows of a change, each at its own watermark.
    pub(super) fn take_change(
        &mut self,
        change: &Change,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let (change, weights) = match self.rows {
            Some(_) => unweighted(change)?,
            None => (change.clone(), None),
        };
        let times = event_times(change.batch.column(self.spec.time_column))?;
        let keys = self.partitions.keys(&change.batch)?;
        let wholes = match &self.rows {
            Some(index) => Some(index.keys(&change.batch)?),
            None => None,
        };
        let first = self.output.push(&change)?;
        for (row, number) in rows_between(first, change.batch.num_rows()) {
            self.advance(change.progress(row));
            if times.is_null(row) {
                self.output.release([number]);
                out.reject(null_time(&change, row, self.spec.time_column));
                continue;
            }
            let time = times.value(row);
            let arrival = change.arrival(row);
            if time < arrival.minus(self.spec.emit.allowed_lateness).0 {
                self.output.release([number]);
                out.late(late_row(&change, row, time, 1));
                continue;
            }
            let slot = self.partitions.slot(&keys, row);
            let is_retraction = weights.as_ref().is_some_and(|weights| weights[row] < 0);
            match (&mut self.rows, &wholes) {
                (Some(index), Some(wholes)) if is_retraction => {
                    self.output.release([number]);
                    if let Some(gone) = index.take(wholes.row(row).data()) {
                        self.give_back_row(slot, time, gone);
                    }
                }
                (Some(index), Some(wholes)) => {
                    if index.add(wholes.row(row).data(), number) {
                        self.take_row(slot, time, number);
                    } else {
                        self.output.release([number]);
                    }
                }
                _ => self.take_row(slot, time, number),
            }
            if self.output.is_full() {
                self.output.flush(out)?;
            }
        }
        self.output.flush(out)
    }

    fn take_row(&mut self, slot: usize, time: i64, row: u64) {
        let window = &self.spec.window;
        let watermark = self.watermark.0;
        let sessions = &mut self.partitions.entry_mut(slot).state.sessions;
        let ended = |session: &Session| session.end(window) <= watermark;
        let reach = sessions.reach(window, time);
        let corrects = sessions.all()[reach].iter().any(ended);
        let changed = sessions.insert(window, time, row);
        let changed = &sessions.all()[changed];
        let earliest = changed.iter().map(|session| session.end(window)).min();
        let corrects = corrects || changed.iter().any(ended);
        self.show_changed(slot, (time, row), corrects);
        self.set_timer(slot, earliest.unwrap_or(i64::MAX));
        if earliest.is_some_and(|end| end <= watermark) {
            self.pass_timers();
        }
    }

    /// Takes back a row that was counted.
    fn give_back_row(&mut self, slot: usize, time: i64, row: u64) {
        let window = &self.spec.window;
        let watermark = self.watermark.0;
        let sessions = &mut self.partitions.entry_mut(slot).state.sessions;
        let (before, changed) = sessions.remove(window, time, row);
        let ends = sessions.all()[changed].iter().map(|session| session.end(window));
        let earliest = ends.chain([time.saturating_add(window.gap)]).min();
        let corrects = before.is_some_and(|end| end <= watermark)
            || earliest.is_some_and(|end| end <= watermark);
        self.partitions.entry_mut(slot).state.gone.push(row);
        self.show_changed(slot, (time, row), corrects);
        self.let_go(slot);
        self.set_timer(slot, earliest.unwrap_or(i64::MAX));
        if earliest.is_some_and(|end| end <= watermark) {
            self.pass_timers();
        }
    }

    /// Releases the rows that were taken back, once nothing that was put out holds them.
    pub(super) fn let_go(&mut self, slot: usize) {
        let state = &mut self.partitions.entry_mut(slot).state;
        if state.gone.is_empty() {
            return;
        }
        let shown: HashSet<u64> =
            state.published.values().flat_map(|published| &published.rows).copied().collect();
        let (kept, free): (Vec<u64>, Vec<u64>) =
            std::mem::take(&mut state.gone).into_iter().partition(|row| shown.contains(row));
        state.gone = kept;
        self.output.release(free);
    }

    /// Puts out at once, or notes for later, what a row has changed; `corrects`: a result that was
    /// or should be final.
    fn show_changed(&mut self, slot: usize, (time, row): (i64, u64), corrects: bool) {
        if corrects {
            self.reconcile(&[slot], Early::Published);
        }
        match self.spec.emit.mode {
            EmitMode::EveryRows { rows, .. } => {
                let key = self.output.key_of(row);
                if self.output.counts(row) && self.count(slot, key, time) >= rows.max(1) {
                    self.partitions.entry_mut(slot).state.counts.remove(&(key, time));
                    self.reconcile(&[slot], Early::At(time, key));
                }
            }
            EmitMode::Changes | EmitMode::EveryInterval { .. } => {
                let birth = self.partitions.entry(slot).birth;
                self.dirty.insert((birth, slot));
            }
            EmitMode::OnClose => {}
        }
    }

    /// Counts a row of a key in the session around a time, where the count then stands.
    fn count(&mut self, slot: usize, key: u32, time: i64) -> u64 {
        let PartitionState { sessions, counts, .. } = &mut self.partitions.entry_mut(slot).state;
        let (start, last) = match sessions.holding(time) {
            Some(session) => (session.start(), session.last()),
            None => (time, time),
        };
        // Sessions that have become one bring their counts together.
        let within: Vec<i64> =
            counts.range((key, start)..=(key, last)).map(|((_, at), _)| *at).collect();
        let sum: u64 = within.iter().filter_map(|&at| counts.remove(&(key, at))).sum();
        counts.insert((key, time), sum + 1);
        sum + 1
    }
}
