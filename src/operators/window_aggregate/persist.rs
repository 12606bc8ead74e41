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

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute;

use super::emitted::Emitted;
use super::input::Aggregates;
use super::numbering::{NONE, Numbering, OwnNumbers};
use super::slice::{Partial, Slice};
use super::{SliceKey, Window, WindowAggregate, WindowKey};
use crate::operators::aggregates::accumulator::gather;
use crate::operators::compact::compact;
use crate::operators::operator::EvalError;
use crate::operators::portions::{Chosen, Portions};
use crate::operators::state::{StateReader, StateWriter, Stored, misfit};

/// Kinds of parts.
const HEAD: u8 = 0;
const KEYS: u8 = 1;
const PORTION: u8 = 2;

/// How a slice stands in the head.
const WHOLE: u8 = 0;
const OPEN: u8 = 1;
const SEALED: u8 = 2;

/// A snapshot on its way.
pub(super) struct Saving {
    keys: Portions,
    /// Slices that are not written yet.
    slices: VecDeque<SliceKey>,
    /// What was written before it changed or went.
    early: StateWriter,
}

/// A slice of which a snapshot takes portions.
pub(super) struct SliceSaving {
    /// Its place in the head.
    index: usize,
    portions: Portions,
    /// Groups that had partial results at the beginning.
    stated: usize,
    early: StateWriter,
}

/// A snapshot that is being read: its slices in the order of the head.
pub(super) struct Restoring {
    keys: usize,
    slices: Vec<RestoringSlice>,
}

struct RestoringSlice {
    key: SliceKey,
    sealed: bool,
    stated: usize,
    groups: usize,
    /// Groups that came before their portion; empty if none did.
    early: Vec<bool>,
    /// Partial results of sealed slices, per portion.
    states: Vec<Vec<Vec<ArrayRef>>>,
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

fn headless() -> EvalError {
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

impl Slice {
    /// Writes how large the slice is, or all of it; whether portions of it are to follow.
    fn begin_saving(
        &mut self,
        index: usize,
        read_groups: bool,
        out: &mut StateWriter,
    ) -> Result<bool, EvalError> {
        let sealed = matches!(self.partial, Partial::Sealed(_));
        let in_portions = sealed || read_groups;
        let kind = if sealed { SEALED } else { OPEN };
        out.put(if in_portions { &kind } else { &WHOLE })?;
        if !in_portions {
            self.states()?.iter().try_for_each(|state| out.columns(state))?;
        }
        out.put(&!self.numbering.is_shared())?;
        if in_portions {
            let stated = self.stated();
            out.put(&(self.rows.len(), stated))?;
            let portions = Portions::new(self.rows.len());
            self.saving =
                Some(SliceSaving { index, portions, stated, early: StateWriter::default() });
        } else {
            if let Numbering::Own(own) = &self.numbering {
                out.put(&own.ids)?;
            }
            out.put(&self.rows)?;
        }
        out.put(&self.changed)?;
        Ok(in_portions)
    }

    /// Groups that have partial results.
    fn stated(&self) -> usize {
        let counts: Vec<usize> = match &self.partial {
            Partial::Open(all) => all.iter().map(|aggregate| aggregate.group_count()).collect(),
            Partial::Sealed(states) => {
                states.iter().map(|s| s.first().map_or(0, |column| column.len())).collect()
            }
        };
        counts.into_iter().fold(self.rows.len(), usize::min)
    }

    /// Writes the next groups; whether any are left.
    fn go_on_saving(&mut self, bytes: usize, out: &mut StateWriter) -> Result<bool, EvalError> {
        let Some(mut saving) = self.saving.take() else { return Ok(false) };
        out.append(std::mem::take(&mut saving.early));
        let Some(run) = saving.portions.advance(bytes) else { return Ok(false) };
        self.save_portion(&saving, &run, out)?;
        self.saving = Some(saving);
        Ok(true)
    }

    /// Writes the groups that are left, before they are changed all together.
    pub(super) fn finish_saving(&mut self) -> Result<(), EvalError> {
        let Some(mut saving) = self.saving.take() else { return Ok(()) };
        let mut early = std::mem::take(&mut saving.early);
        while let Some(run) = saving.portions.advance(usize::MAX) {
            self.save_portion(&saving, &run, &mut early)?;
        }
        saving.early = early;
        self.saving = Some(saving);
        Ok(())
    }

    /// Writes groups that are about to change.
    pub(super) fn save_early(&mut self, groups: &[u32]) -> Result<(), EvalError> {
        let Some(mut saving) = self.saving.take() else { return Ok(()) };
        let claimed = saving.portions.claim(groups.iter().map(|&group| group as usize));
        if !claimed.is_empty() {
            let mut early = std::mem::take(&mut saving.early);
            self.save_portion(&saving, &claimed, &mut early)?;
            saving.early = early;
        }
        self.saving = Some(saving);
        Ok(())
    }

    fn save_portion(
        &mut self,
        saving: &SliceSaving,
        chosen: &Chosen,
        out: &mut StateWriter,
    ) -> Result<(), EvalError> {
        out.put(&PORTION)?;
        out.put(&saving.index)?;
        chosen.save(out)?;
        if let Numbering::Own(own) = &self.numbering {
            chosen.put(&own.ids, out)?;
        }
        chosen.put(&self.rows, out)?;
        let groups = stated_of(chosen, saving.stated);
        match &mut self.partial {
            Partial::Open(all) => {
                all.iter_mut().try_for_each(|aggregate| out.columns(&aggregate.state_of(&groups)?))
            }
            Partial::Sealed(states) => {
                states.iter().try_for_each(|state| out.columns(&gather(state, &groups)?))
            }
        }
    }

    /// A slice as the head has it.
    fn restore(
        aggregates: &Aggregates,
        key: SliceKey,
        key_count: usize,
        from: &mut StateReader<'_>,
    ) -> Result<(Slice, RestoringSlice), EvalError> {
        let kind: u8 = from.get()?;
        let partial = match kind {
            WHOLE => {
                let states = aggregates.folded.iter().map(|_| from.columns());
                Partial::Sealed(states.collect::<Result<_, _>>()?)
            }
            OPEN => Partial::Open(aggregates.make()?),
            SEALED => Partial::Sealed(Vec::new()),
            _ => return Err(misfit("a slice is of an unknown kind")),
        };
        let is_own: bool = from.get()?;
        let mut ids: Vec<u32> = if is_own && kind == WHOLE { from.get()? } else { Vec::new() };
        let (rows, stated, groups): (Vec<i64>, usize, usize) = if kind == WHOLE {
            let rows: Vec<i64> = from.get()?;
            let count = rows.len();
            (rows, 0, count)
        } else {
            let (count, stated): (usize, usize) = from.get()?;
            if u32::try_from(count).is_err() || stated > count {
                return Err(misfit("the number of groups cannot be"));
            }
            (vec![0; count], stated, 0)
        };
        ids.resize(if is_own { rows.len() } else { 0 }, NONE);
        let numbering = match is_own {
            false => Numbering::Shared { checked: key_count },
            true => Numbering::Own(OwnNumbers::new(ids)),
        };
        let changed: Vec<u32> = from.get()?;
        let mut is_changed = vec![false; if changed.is_empty() { 0 } else { rows.len() }];
        for &group in &changed {
            *is_changed.get_mut(group as usize).ok_or_else(|| misfit("a group is missing"))? = true;
        }
        let (sealed, early, states) = (kind == SEALED, Vec::new(), Vec::new());
        let restoring = RestoringSlice { key, sealed, stated, groups, early, states };
        Ok((Slice { numbering, rows, partial, changed, is_changed, saving: None }, restoring))
    }

    fn restore_portion(
        &mut self,
        aggregates: &Aggregates,
        known: &mut RestoringSlice,
        from: &mut StateReader<'_>,
    ) -> Result<(), EvalError> {
        let count = self.rows.len();
        let chosen = Chosen::restore(from, count)?;
        let mut ids = Vec::new();
        let is_own = !self.numbering.is_shared();
        if is_own {
            ids = vec![0_u32; count.min(chosen.len())];
            u32::load_all(&mut ids, from)?;
        }
        let mut rows = vec![0_i64; chosen.len()];
        i64::load_all(&mut rows, from)?;
        let groups = stated_of(&chosen, known.stated);
        let mut states = aggregates
            .folded
            .iter()
            .map(|_| from.shared_columns())
            .collect::<Result<Vec<_>, _>>()?;
        if states.iter().any(|s| s.first().is_some_and(|column| column.len() != groups.len())) {
            return Err(misfit("a partial result is missing"));
        }
        if let Chosen::Run(run) = &chosen {
            if run.start != known.groups {
                return Err(misfit("a portion is not the next one"));
            }
            known.groups = run.end;
        }
        let is_early = matches!(chosen, Chosen::Listed(_));
        if is_early {
            known.early.resize(count, false);
            if known.sealed {
                // The slice was opened again while the snapshot was under way.
                self.unseal(aggregates, known)?;
            }
        }
        let early = &known.early;
        let fresh = |group: usize| is_early || early.get(group) != Some(&true);
        for (at, group) in chosen.to_vec().into_iter().enumerate().filter(|(_, g)| fresh(*g)) {
            self.rows[group] = rows[at];
            if let (Numbering::Own(own), Some(&id)) = (&mut self.numbering, ids.get(at)) {
                own.ids[group] = id;
            }
        }
        if known.sealed {
            known.states.push(states);
            return Ok(());
        }
        let mut groups = groups;
        if !is_early && !early.is_empty() {
            let kept: Vec<u32> = (0..groups.len() as u32)
                .filter(|&at| fresh(groups[at as usize] as usize))
                .collect();
            states = states.iter().map(|state| gather(state, &kept)).collect::<Result<_, _>>()?;
            groups = kept.iter().map(|&at| groups[at as usize]).collect();
        }
        if is_early {
            groups.iter().for_each(|&group| known.early[group as usize] = true);
        }
        let Partial::Open(all) = &mut self.partial else { return Err(headless()) };
        for (aggregate, state) in all.iter_mut().zip(&states) {
            aggregate.merge(state, &groups, known.stated)?;
        }
        Ok(())
    }

    /// Makes accumulators of the columns of a sealed slice that are there.
    fn unseal(
        &mut self,
        aggregates: &Aggregates,
        known: &mut RestoringSlice,
    ) -> Result<(), EvalError> {
        known.sealed = false;
        let mut all = aggregates.make()?;
        let mut first = 0;
        for states in std::mem::take(&mut known.states) {
            let length = states.first().and_then(|s| s.first()).map_or(0, |column| column.len());
            let groups: Vec<u32> = (first..first + length as u32).collect();
            for (aggregate, state) in all.iter_mut().zip(&states) {
                aggregate.merge(state, &groups, known.stated)?;
            }
            first += length as u32;
        }
        self.partial = Partial::Open(all);
        Ok(())
    }

    fn end_restoring(
        &mut self,
        aggregates: &Aggregates,
        known: RestoringSlice,
    ) -> Result<(), EvalError> {
        if known.groups != self.rows.len() {
            return Err(misfit("groups are missing"));
        }
        if !known.sealed {
            return Ok(());
        }
        if known.states.is_empty() {
            self.partial = Partial::Open(aggregates.make()?);
            return Ok(());
        }
        let mut states = Vec::new();
        for i in 0..aggregates.folded.len() {
            let columns = known.states.first().map_or(0, |portion| portion[i].len());
            let joined = (0..columns).map(|column| {
                let parts: Vec<&dyn Array> =
                    known.states.iter().map(|portion| portion[i][column].as_ref()).collect();
                match parts.as_slice() {
                    // Joining copies; one part by itself still shares its memory with others.
                    [one] => Ok(compact(&compute::take(*one, &all_of(one.len()), None)?)),
                    several => compute::concat(several),
                }
            });
            states.push(joined.collect::<Result<Vec<ArrayRef>, _>>()?);
        }
        self.partial = Partial::Sealed(states);
        Ok(())
    }
}

fn all_of(rows: usize) -> UInt32Array {
    UInt32Array::from_iter_values(0..rows as u32)
}

/// The groups that have partial results.
fn stated_of(chosen: &Chosen, stated: usize) -> Vec<u32> {
    let groups = chosen.to_vec().into_iter();
    groups.filter(|&group| group < stated).map(|group| group as u32).collect()
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
