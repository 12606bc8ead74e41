//! Closes windows in order, emits them, and lets go of what no window needs any more.

use std::ops::Bound;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};

use super::numbering::Numbering;
use super::output::{Answer, Failure};
use super::results::{Failed, Results};
use super::slice::Slice;
use super::{Relation, SliceKey, WindowAggregate, WindowKey};
use crate::error::Report;
use crate::operators::emit::EmitMode;
use crate::operators::operator::{Emitter, EvalError, RejectedRow};
use crate::time::EventTime;

/// Fewer keys than this are not worth forgetting. Tests have few, and want them forgotten.
pub(super) const KEYS_FEW: usize = if cfg!(test) { 2 } else { 1_024 };

impl WindowAggregate {
    /// Emits the windows that end at or before `watermark`, and drops those whose lateness is over.
    pub(super) fn close_up_to(
        &mut self,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        if watermark <= self.watermark {
            return Ok(());
        }
        let closed = WindowKey { end: self.watermark.0, start: i64::MAX };
        let now = WindowKey { end: watermark.0, start: i64::MAX };
        let due = self.open.range((Bound::Excluded(closed), Bound::Included(now)));
        let due: Vec<WindowKey> = due.map(|(&window, _)| window).collect();
        if self.spec.emit.mode == EmitMode::Changes {
            self.emit_changed(watermark.0, out)?;
        } else {
            for window in due {
                self.emit_final(window, out)?;
            }
        }
        self.watermark = watermark;
        self.drop_windows()
    }

    fn emit_final(&mut self, window: WindowKey, out: &mut Emitter) -> Result<(), EvalError> {
        if self.changed.remove(&window)
            && let Some(slice) = self.slices.get_mut(&own_slice(window))
        {
            slice.take_changed();
        }
        if let Some(known) = self.open.get_mut(&window) {
            known.counts = Default::default();
        }
        let results = self.results(window)?;
        self.emit((window, window.end.saturating_sub(1)), None, results, out)
    }

    /// Emits the current row of one key in a window.
    pub(super) fn emit_key(
        &mut self,
        window: WindowKey,
        id: u32,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let results = self.results_of(window, &[id])?;
        if self.collects_changes()
            && let Some(slice) = self.slices.get_mut(&own_slice(window))
        {
            // A correction shows the key at once; nothing of it is left for later.
            slice.take_changed();
            self.changed.remove(&window);
        }
        self.emit((window, self.watermark.0), Some(vec![id]), results, out)
    }

    /// Emits the keys that changed in windows ending at or before `end`.
    pub(super) fn emit_changed(&mut self, end: i64, out: &mut Emitter) -> Result<(), EvalError> {
        while let Some(&window) = self.changed.first().filter(|window| window.end <= end) {
            self.changed.pop_first();
            let Some(slice) = self.slices.get_mut(&own_slice(window)) else { continue };
            let mut ids = slice.take_changed();
            self.keys.sort_ids(&mut ids)?;
            let results = self.results_of(window, &ids)?;
            self.emit((window, self.watermark.0), Some(ids), results, out)?;
        }
        Ok(())
    }

    /// Emits results, which come in the order of keys, as the mode relates them to earlier ones. `mark`
    /// is the watermark under which they go on. `ids` are the keys that were asked for, in the same order; `None` for all.
    fn emit(
        &mut self,
        (window, mark): (WindowKey, i64),
        ids: Option<Vec<u32>>,
        results: Results,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let Results { ids: new, columns, failed } = results;
        if let Some(failed) = failed {
            self.report(window, failed, out)?;
        }
        if self.relation != Relation::Retracts {
            self.emit_rows((window, mark), (&new, columns), None, out)?;
            if self.relation == Relation::Discards
                && let Some(slice) = self.slices.get_mut(&own_slice(window))
            {
                slice.forget(&self.aggregates, &new, self.keys.len())?;
            }
            return Ok(());
        }
        let Some(known) = self.open.get_mut(&window) else { return Ok(()) };
        let candidates = match ids {
            Some(ids) => ids,
            None => {
                let mut all = new.clone();
                known.emitted.for_each_id(|id| all.push(id));
                all.sort_unstable();
                all.dedup();
                self.keys.sort_ids(&mut all)?;
                all
            }
        };
        let refined = known.emitted.replace(&candidates, &new, columns)?;
        let weights = Int64Array::from(refined.weights);
        self.emit_rows((window, mark), (&refined.ids, refined.columns), Some(weights), out)
    }

    fn report(
        &mut self,
        window: WindowKey,
        failed: Failed,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let Failed { error, first, keys } = failed;
        let first = self.keys.keys_of(&[first])?;
        let failure = Failure { window, error, first, keys };
        match &mut self.outbox {
            Some(outbox) => outbox.failures.push(failure),
            None => self.reject(&failure, out),
        }
        Ok(())
    }

    /// Tells of keys that a window cannot show: a dead letter at the frame that made it look.
    pub(super) fn reject(&self, failure: &Failure, out: &mut Emitter) {
        let Failure { window, error, keys, .. } = failure;
        let edge = |at: i64| chrono::DateTime::from_timestamp_micros(at);
        let which = match (&self.spec.time_column, edge(window.start)) {
            (Some(column), Some(start))
                if self.spec.input_schema.field(*column).data_type().is_temporal() =>
            {
                start.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
            }
            _ => window.start.to_string(),
        };
        out.reject(RejectedRow {
            relation: Arc::clone(&self.origin.relation),
            offset: self.origin.first_offset,
            code: error.code(),
            reason: format!("{error}, for {keys} keys of the window that starts at {which}"),
        });
    }

    fn emit_rows(
        &mut self,
        (window, mark): (WindowKey, i64),
        (ids, columns): (&[u32], Vec<ArrayRef>),
        weights: Option<Int64Array>,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        if ids.is_empty() {
            return Ok(());
        }
        let keys = self.keys.keys_of(ids)?;
        let answer = Answer { window, mark, rows: ids.len(), keys, columns, weights };
        match &mut self.outbox {
            Some(outbox) => outbox.answers.push(answer),
            None => out.change(answer.into_change(&self.spec.schema, &self.origin)?),
        }
        Ok(())
    }

    /// The results of all keys of a window that is closing, in the order of keys.
    fn results(&mut self, window: WindowKey) -> Result<Results, EvalError> {
        let members: Vec<SliceKey> =
            if self.shared { self.members(window).collect() } else { vec![own_slice(window)] };
        if let [only] = members.as_slice() {
            let last = self.relation == Relation::Once && self.is_last_over(window, *only);
            if last {
                self.running.forget_those_with(only);
            }
            let Some(slice) = self.slices.get_mut(only) else { return Ok(Results::default()) };
            let results = slice.evaluate(&self.aggregates, &mut self.keys, last)?;
            self.keys_of_slice = results.ids.len();
            return Ok(results);
        }
        if self.aggregates.are_invertible && members.len() > 2 {
            return self.running_results(window, &members);
        }
        let mut merged = self.empty_for(&members)?;
        for key in members {
            let slice = self.slices.get_mut(&key).expect("members are slices in state");
            merged.absorb(&self.aggregates, slice, false, self.keys.len())?;
            self.keys_of_slice = slice.group_count();
        }
        merged.evaluate(&self.aggregates, &mut self.keys, true)
    }

    /// An empty slice that is to hold the merge of others.
    pub(super) fn empty_for(&self, members: &[SliceKey]) -> Result<Slice, EvalError> {
        let groups = |key: &SliceKey| self.slices.get(key).map_or(0, Slice::group_count);
        let most = members.iter().map(groups).max().unwrap_or(0);
        Slice::new(&self.aggregates, self.numbering(most))
    }

    /// The results of some keys of a window, in the order asked for.
    fn results_of(&mut self, window: WindowKey, ids: &[u32]) -> Result<Results, EvalError> {
        let key_count = self.keys.len();
        if !self.shared {
            let Some(slice) = self.slices.get_mut(&own_slice(window)) else {
                return Ok(Results::default());
            };
            return slice.evaluate_of(&self.aggregates, ids, key_count);
        }
        let members: Vec<SliceKey> = self.members(window).collect();
        let mut merged = Slice::new(&self.aggregates, Numbering::own())?;
        for key in members {
            let slice = self.slices.get_mut(&key).expect("members are slices in state");
            for &id in ids {
                merged.absorb_key(&self.aggregates, slice, id, key_count)?;
            }
        }
        merged.evaluate_of(&self.aggregates, ids, key_count)
    }

    /// Whether no later window holds the slice.
    fn is_last_over(&self, window: WindowKey, slice: SliceKey) -> bool {
        let behind = WindowKey { end: window.end, start: slice.start };
        // At the end of time many windows end at once.
        self.expiry.contains(&(window.end, slice))
            && (window.start >= slice.start
                || self
                    .open
                    .range((Bound::Excluded(window), Bound::Included(behind)))
                    .next()
                    .is_none())
    }

    /// The slices of a window, in time order.
    pub(super) fn members(&self, window: WindowKey) -> impl Iterator<Item = SliceKey> + '_ {
        let from = SliceKey { start: window.start, end: i64::MIN, floor: i64::MIN };
        let to = SliceKey { start: window.end, end: i64::MIN, floor: i64::MIN };
        // Only a window without end may hold a slice that starts at the end of time.
        let to = if window.end == i64::MAX { Bound::Unbounded } else { Bound::Excluded(to) };
        let within = self.slices.range((Bound::Included(from), to)).map(|(&key, _)| key);
        within.filter(move |key| key.floor < window.end)
    }

    /// Frees windows whose lateness is over, and slices that no window needs.
    fn drop_windows(&mut self) -> Result<(), EvalError> {
        while let Some((&window, _)) = self.open.first_key_value()
            && self.is_dropped(window.end, self.watermark.0)
        {
            self.open.pop_first();
            self.changed.remove(&window);
        }
        while let Some(&(end, key)) = self.expiry.first()
            && self.is_dropped(end, self.watermark.0)
        {
            self.expiry.pop_first();
            let Some(mut slice) = self.slices.remove(&key) else { continue };
            self.save_dropped(&mut slice)?;
            self.running.take_out(&self.aggregates, &key, &mut slice, self.keys.len())?;
        }
        Ok(())
    }

    /// Rebuilds the dictionary once more than half of its keys are in no slice and no emission.
    /// Never while a batch is on its way through: it carries the dictionary's numbers.
    pub(super) fn forget_dead_keys(&mut self) -> Result<(), EvalError> {
        if self.keys.len() <= 2 * self.keys_live.max(KEYS_FEW) {
            return Ok(());
        }
        let mut live = vec![false; self.keys.len()];
        for slice in self.slices.values() {
            slice.ids().for_each(|id| live[id as usize] = true);
        }
        for window in self.open.values() {
            window.emitted.for_each_id(|id| live[id as usize] = true);
            window.counts.keys().for_each(|&id| live[id as usize] = true);
        }
        self.keys_live = live.iter().filter(|&&live| live).count();
        if self.keys_live * 2 >= self.keys.len() {
            return Ok(());
        }
        self.finish_saving_keys()?;
        let renumbered = self.keys.retain(&live)?;
        self.running.clear();
        for slice in self.slices.values_mut() {
            slice.renumber(&renumbered)?;
        }
        for window in self.open.values_mut() {
            window.emitted.renumber(&renumbered);
            let counts = std::mem::take(&mut window.counts).into_iter();
            window.counts = counts.map(|(id, n)| (renumbered[id as usize], n)).collect();
        }
        Ok(())
    }
}

/// The slice that a window is where windows share none.
pub(super) fn own_slice(window: WindowKey) -> SliceKey {
    SliceKey { start: window.start, end: window.end, floor: i64::MIN }
}
