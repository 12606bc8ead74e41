//! Does what is due as time goes on: ends attempts at their deadlines and partitions at punctuations, puts
//! out what was found and gives up what nobody needs.

use super::matcher::Outlook;
use super::partition::Partition;
use super::{FOUND_MAX, MatchRecognize};
use crate::data::change::Change;
use crate::data::punctuation::Punctuation;
use crate::operators::operator::{Emitter, EvalError, RejectedRow};
use crate::operators::partitions::renamed;

impl MatchRecognize {
    /// Does what is due before rows of `now`, in the order of time: ends attempts whose time is over, and
    /// keeps promises that no held row stands before any more.
    pub(super) fn come_to(&mut self, now: i64, out: &mut Emitter) -> Result<(), EvalError> {
        loop {
            let deadline = self.deadlines.first().map(|first| first.0).filter(|time| *time <= now);
            let promise = self.promises.next_time().filter(|last| *last < now);
            match (deadline, promise) {
                (None, None) => return Ok(()),
                (Some(deadline), Some(last)) if deadline <= last => self.keep_deadline(out)?,
                (Some(_), None) => self.keep_deadline(out)?,
                (_, Some(_)) => {
                    if let Some(punctuation) = self.promises.take_due(Some(now)) {
                        self.keep_promise(&punctuation, out)?;
                    }
                }
            }
        }
    }

    /// Ends the attempt whose time is over first.
    fn keep_deadline(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        if let Some((_, number, slot, birth)) = self.deadlines.pop_first() {
            let partition = self.partitions.get_born(slot, birth).map(|entry| &entry.state);
            let is_under_way = |partition: &&Partition| {
                partition.is_searching
                    && partition.place().is_some_and(|(_, first)| first == number)
            };
            if partition.as_ref().is_some_and(is_under_way) {
                self.search(slot, Outlook::AttemptEnds)?;
                self.searched.push(slot);
            }
            if self.matcher.found.len() >= FOUND_MAX {
                self.put_out(out)?;
            }
        }
        Ok(())
    }

    /// Searches partitions to their end, in the order of the rows with which their searches stand.
    pub(super) fn finish(&mut self, slots: Vec<usize>, out: &mut Emitter) -> Result<(), EvalError> {
        let place = |slot: usize| Some((self.partitions.entry(slot).state.place()?, slot));
        let mut open: Vec<((i64, u64), usize)> =
            slots.iter().filter_map(|slot| place(*slot)).collect();
        open.sort_unstable();
        for (_, slot) in open {
            self.search(slot, Outlook::End)?;
            if self.matcher.found.len() >= FOUND_MAX {
                self.put_out(out)?;
            }
        }
        for slot in slots {
            // Rows of the present batch may still name the slot, so the partition goes later.
            let partition = std::mem::take(&mut self.partitions.entry_mut(slot).state);
            self.partition_bytes = self.partition_bytes.saturating_sub(partition.bytes);
            self.matcher.freed.extend(partition.rows.iter().map(|held| held.number));
            self.searched.push(slot);
        }
        self.put_out(out)
    }

    /// Makes the rows of what was found, reports what was refused, and gives up rows.
    pub(super) fn put_out(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        if let Some(batch) = self.matcher.rows(&self.pending.rows)? {
            out.change(Change::derived(batch, None, &self.origin));
        }
        for (number, code, reason) in self.matcher.refused.drain(..) {
            let (relation, offset) = self.pending.rows.origin(number)?;
            out.reject(RejectedRow { relation, offset, code, reason });
        }
        if !self.matcher.freed.is_empty() {
            self.pending.rows.release(&self.matcher.freed)?;
            self.matcher.freed.clear();
        }
        Ok(())
    }

    /// Drops the partitions of which nothing is held.
    pub(super) fn forget(&mut self) {
        let mut slots = std::mem::take(&mut self.searched);
        slots.sort_unstable();
        slots.dedup();
        for slot in slots.drain(..) {
            let partition = &self.partitions.entry(slot).state;
            if partition.rows.is_empty() && (partition.matches == 0 || !self.spec.is_numbered) {
                self.partition_bytes = self.partition_bytes.saturating_sub(partition.bytes);
                self.partitions.remove(slot);
            }
        }
        self.searched = slots;
    }

    /// Acts on a punctuation that no held row stands before.
    pub(super) fn keep_promise(
        &mut self,
        punctuation: &Punctuation,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let columns: Vec<(usize, usize)> =
            self.spec.partition.iter().enumerate().map(|(to, from)| (*from, to)).collect();
        if let Some(covered) = self.partitions.covered(punctuation)? {
            self.finish(covered, out)?;
        }
        let (input, output) = (&self.spec.input_schema, &self.spec.schema);
        if let Some(punctuation) = renamed(punctuation, input, output, &columns) {
            out.punctuation(punctuation);
        }
        Ok(())
    }
}
