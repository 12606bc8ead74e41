//! Writes the slices and open windows for a snapshot, and reads them back.
//!
//! ```text
//! head      times, open windows with what they emitted, and per slice: its size, or all of it
//! keys      the next keys
//! portion   which groups of which slice; their keys' numbers, rows and partial results
//! ```
//! A slice whose accumulators cannot be read group by group is written whole, at once. Of another,
//! groups that change before their portion is written go first, as they were
//! ([`crate::operators::portions`]); the reader leaves them out of the portion that follows.
//!
//! Left out is what can be made again: the running merge, which is exact wherever there is one.

use std::collections::{BTreeMap, VecDeque};

use super::emitted::Emitted;
use super::persist_slice::RestoringSlice;
use super::slice::Slice;
use super::{SliceKey, Window, WindowAggregate, WindowKey};
use crate::operators::operator::EvalError;
use crate::operators::portions::{Chosen, Portions};
use crate::operators::state::{StateReader, StateWriter, Stored, misfit};

/// Kinds of parts.
const HEAD: u8 = 0;
const KEYS: u8 = 1;
pub(super) const PORTION: u8 = 2;

/// A snapshot on its way.
pub(super) struct Saving {
    keys: Portions,
    /// Slices that are not written yet.
    slices: VecDeque<SliceKey>,
    /// What was written before it changed or went.
    early: StateWriter,
}

/// A snapshot that is being read: its slices in the order of the head.
pub(super) struct Restoring {
    keys: usize,
    slices: Vec<RestoringSlice>,
}

impl WindowAggregate {
    pub(super) fn begin_saving(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.abandon_saving();
        out.put(&HEAD)?;
        out.put(&self.keys.len())?;
        out.put(&self.keys_live)?;
        out.length(self.slices.len());
        let mut slices = VecDeque::new();
        for (index, (key, slice)) in self.slices.iter_mut().enumerate() {
            out.put(key)?;
            if slice.begin_saving(index, self.aggregates.read_groups, out)? {
                slices.push_back(*key);
            }
        }
        out.put(&self.expiry)?;
        out.length(self.open.len());
        for (key, window) in &self.open {
            out.put(key)?;
            window.emitted.save(out)?;
            out.put(
                &window.counts.iter().map(|(&id, &rows)| (id, rows)).collect::<BTreeMap<_, _>>(),
            )?;
        }
        out.put(&self.changed)?;
        out.put(&self.watermark)?;
        out.put(&self.origin)?;
        out.put(&self.boundary)?;
        let keys = Portions::new(self.keys.len());
        self.saving = Some(Saving { keys, slices, early: StateWriter::default() });
        Ok(())
    }

    /// Writes keys and groups until there are `bytes`; whether any are left.
    pub(super) fn go_on_saving(
        &mut self,
        bytes: usize,
        out: &mut StateWriter,
    ) -> Result<bool, EvalError> {
        let Some(saving) = &mut self.saving else { return Ok(false) };
        let begin = out.len();
        out.append(std::mem::take(&mut saving.early));
        while out.len() - begin < bytes {
            let left = bytes - (out.len() - begin);
            if let Some(Chosen::Run(run)) = saving.keys.advance(left) {
                save_keys(&self.keys, run, out)?;
                continue;
            }
            let Some(key) = saving.slices.front() else {
                self.saving = None;
                return Ok(false);
            };
            // A slice that was dropped was written then.
            let more = match self.slices.get_mut(key) {
                Some(slice) => slice.go_on_saving(left, out)?,
                None => false,
            };
            if !more {
                saving.slices.pop_front();
            }
        }
        Ok(true)
    }

    pub(super) fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    pub(super) fn abandon_saving(&mut self) {
        self.saving = None;
        self.slices.values_mut().for_each(|slice| slice.saving = None);
    }

    /// Writes the keys that are left, before they get other numbers.
    pub(super) fn finish_saving_keys(&mut self) -> Result<(), EvalError> {
        let Some(saving) = &mut self.saving else { return Ok(()) };
        while let Some(Chosen::Run(run)) = saving.keys.advance(usize::MAX) {
            save_keys(&self.keys, run, &mut saving.early)?;
        }
        Ok(())
    }

    /// Writes what is left of a slice that goes.
    pub(super) fn save_dropped(&mut self, slice: &mut Slice) -> Result<(), EvalError> {
        slice.finish_saving()?;
        if let (Some(saving), Some(saved)) = (&mut self.saving, slice.saving.take()) {
            saving.early.append(saved.early);
        }
        Ok(())
    }

    pub(super) fn restore_part(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        while !from.is_at_end() {
            match u8::load(from)? {
                HEAD => self.restore_head(from)?,
                KEYS => {
                    let (start, end): (usize, usize) = from.get()?;
                    let columns = from.columns()?;
                    let restoring = self.restoring.as_mut().ok_or_else(headless)?;
                    if start != restoring.keys || end < start {
                        return Err(misfit("keys are not the next ones"));
                    }
                    restoring.keys = end;
                    self.keys.restore_run(end - start, columns)?;
                }
                PORTION => self.restore_portion(from)?,
                _ => return Err(misfit("a part is of an unknown kind")),
            }
        }
        Ok(())
    }

    fn restore_head(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        let keys: usize = from.get()?;
        self.keys.expect(keys);
        self.keys_live = from.get()?;
        let mut slices = Vec::new();
        for _ in 0..from.length()? {
            let key = from.get()?;
            let (slice, restoring) = Slice::restore(&self.aggregates, key, keys, from)?;
            self.slices.insert(key, slice);
            slices.push(restoring);
        }
        self.expiry = from.get()?;
        for _ in 0..from.length()? {
            let key = from.get()?;
            let emitted = Emitted::restore(from)?;
            let counts = from.get::<BTreeMap<u32, u64>>()?.into_iter().collect();
            self.open.insert(key, Window { emitted, counts });
        }
        self.changed = from.get()?;
        self.watermark = from.get()?;
        self.origin = from.get()?;
        self.boundary = from.get()?;
        self.restoring = Some(Restoring { keys: 0, slices });
        Ok(())
    }

    fn restore_portion(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        let index: usize = from.get()?;
        let restoring = self.restoring.as_mut().ok_or_else(headless)?;
        let known = restoring.slices.get_mut(index).ok_or_else(headless)?;
        let slice = self.slices.get_mut(&known.key).ok_or_else(headless)?;
        slice.restore_portion(&self.aggregates, known, from)
    }

    pub(super) fn end_restoring(&mut self) -> Result<(), EvalError> {
        let restoring = self.restoring.take().ok_or_else(headless)?;
        for known in restoring.slices {
            let slice = self.slices.get_mut(&known.key).ok_or_else(headless)?;
            slice.end_restoring(&self.aggregates, known)?;
        }
        self.keys.restored()?;
        if self.keys.len() != restoring.keys {
            return Err(misfit("keys are missing"));
        }
        self.check_invariants();
        Ok(())
    }
}

pub(super) fn headless() -> EvalError {
    misfit("a portion belongs to no slice")
}

fn save_keys(
    keys: &crate::operators::keys::KeyDictionary,
    run: std::ops::Range<usize>,
    out: &mut StateWriter,
) -> Result<(), EvalError> {
    out.put(&KEYS)?;
    out.put(&(run.start, run.end))?;
    keys.save_run(run.start, run.end, out)
}

impl Stored for WindowKey {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        (self.end, self.start).store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(WindowKey { end: from.get()?, start: from.get()? })
    }
}

impl Stored for SliceKey {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        (self.start, self.end, self.floor).store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(SliceKey { start: from.get()?, end: from.get()?, floor: from.get()? })
    }
}
