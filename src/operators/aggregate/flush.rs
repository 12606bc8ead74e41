//! Emits the results of groups that changed, and frees those that are gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Aggregate, COMPACT_MIN, RowError};
use crate::data::change::Change;
use crate::operators::aggregates::fold::Measure;
use crate::operators::emit::Refinement;
use crate::operators::operator::{Emitter, EvalError, RejectedRow};
use crate::operators::touched::Touch;

impl Aggregate {
    /// Forwards the watermark if the results of all rows before it are out.
    pub(super) fn forward_watermark(&mut self, out: &mut Emitter) {
        if self.groups.touched.is_empty()
            && let Some(watermark) = self.watermark.take()
        {
            out.watermark(watermark);
        }
    }

    /// Emits the results of touched groups; of those that `chosen` names, if it is given.
    pub(super) fn flush(
        &mut self,
        chosen: Option<&[bool]>,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let touches = self.groups.touched.take(chosen);
        if touches.is_empty() {
            return Ok(());
        }
        self.save_early(touches.iter().map(|touch| touch.group))?;
        let global = self.is_global();
        let live: Vec<usize> = touches
            .iter()
            .map(|touch| touch.group)
            .filter(|group| global || self.groups.rows[*group] > 0)
            .collect();
        let failed = self.read(&live)?;
        let refinement = self.refinement();
        let mut next_live = 0;
        for touch in &touches {
            let group = touch.group;
            let is_live = global || self.groups.rows[group] > 0;
            let position = next_live;
            next_live += usize::from(is_live);
            if !is_live {
                self.groups.failing[group] = false;
                self.emission.remove(group, refinement);
                self.free(group);
                continue;
            }
            match failed.get(&position) {
                Some(error) => {
                    // What was shown before depends on where steps end; showing nothing does not.
                    self.emission.remove(group, refinement);
                    self.fail(touch, error, out);
                }
                None => {
                    self.groups.failing[group] = false;
                    self.emission.show(group, position, refinement);
                }
            }
            if refinement == Refinement::Discarding {
                // It comes again, most likely; among many, those that do not are worth looking for.
                self.clear(group);
                self.freed += usize::from(self.groups.rows.len() >= COMPACT_MIN);
            }
        }
        let keys = |groups: &[usize]| {
            let ids: Vec<u32> = groups.iter().map(|&group| group as u32).collect();
            self.keys.keys_of(&ids)
        };
        if let Some((batch, weights)) = self.emission.finish(keys)? {
            out.change(Change::derived(batch, weights, &self.origin));
        }
        self.compact()
    }

    /// Reads the results of groups; gives the positions of those that failed.
    fn read(&mut self, live: &[usize]) -> Result<BTreeMap<usize, RowError>, EvalError> {
        let (mut columns, mut failed) = (Vec::with_capacity(self.measures.len()), BTreeMap::new());
        for measure in &mut self.measures {
            let evaluated = measure.fold.evaluate(live)?;
            for (position, code, reason) in evaluated.failed {
                failed.entry(position).or_insert((code, reason));
            }
            columns.push(evaluated.values);
        }
        self.emission.start(columns, live.len())?;
        Ok(failed)
    }

    /// Reports that a group has no result, the first time.
    fn fail(&mut self, touch: &Touch, error: &RowError, out: &mut Emitter) {
        if !std::mem::replace(&mut self.groups.failing[touch.group], true) {
            out.reject(RejectedRow {
                relation: Arc::clone(&touch.relation),
                offset: touch.offset,
                code: error.0,
                reason: error.1.clone(),
            });
        }
    }

    /// Frees a group without rows, unless retractions that came early still wait for insertions.
    fn free(&mut self, group: usize) {
        let empty = |measure: &Measure| measure.fold.is_empty(group);
        if self.groups.rows[group] == 0 && self.measures.iter().all(empty) {
            self.forget(group);
        }
    }

    pub(super) fn forget(&mut self, group: usize) {
        self.freed += 1;
        self.clear(group);
    }

    fn clear(&mut self, group: usize) {
        self.groups.rows[group] = 0;
        self.measures.iter_mut().for_each(|measure| measure.fold.clear(group));
    }

    /// Drops the keys of freed groups when they are more than half of all; of few groups, when all are.
    pub(super) fn compact(&mut self) -> Result<(), EvalError> {
        let count = self.groups.rows.len();
        if self.is_global() || count == 0 || !self.groups.touched.is_empty() {
            return Ok(());
        }
        // Looking costs O(groups), so it waits until as many groups were freed as may be left.
        let enough = match count < COMPACT_MIN {
            true => self.freed >= count,
            false => self.freed * 2 >= count,
        };
        if !enough {
            return Ok(());
        }
        self.freed = 0;
        self.finish_saving()?;
        let used: Vec<usize> = (0..count)
            .filter(|group| {
                self.groups.rows[*group] != 0
                    || self.emission.is_shown(*group)
                    || !self.measures.iter().all(|measure| measure.fold.is_empty(*group))
            })
            .collect();
        let mut kept = vec![false; count];
        used.iter().for_each(|&group| kept[group] = true);
        self.keys.retain(&kept)?;
        self.groups.rows = used.iter().map(|group| self.groups.rows[*group]).collect();
        self.groups.failing = used.iter().map(|group| self.groups.failing[*group]).collect();
        self.groups.touched.renumber(used.len());
        self.emission.keep(&used);
        self.measures.iter_mut().for_each(|measure| measure.fold.keep(&used));
        Ok(())
    }
}
