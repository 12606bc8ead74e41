//! Writes a slice for a snapshot, whole or in portions, and reads it back.

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute;

use super::SliceKey;
use super::input::Aggregates;
use super::numbering::{NONE, Numbering, OwnNumbers};
use super::persist::{PORTION, headless};
use super::slice::{Partial, Slice};
use crate::operators::aggregates::accumulator::gather;
use crate::operators::compact::compact;
use crate::operators::operator::EvalError;
use crate::operators::portions::{Chosen, Portions};
use crate::operators::state::{StateReader, StateWriter, Stored, misfit};

/// How a slice stands in the head.
const WHOLE: u8 = 0;
const OPEN: u8 = 1;
const SEALED: u8 = 2;

/// A slice of which a snapshot takes portions.
pub(super) struct SliceSaving {
    /// Its place in the head.
    index: usize,
    portions: Portions,
    /// Groups that had partial results at the beginning.
    stated: usize,
    pub(super) early: StateWriter,
}

/// A slice that is being read.
pub(super) struct RestoringSlice {
    pub(super) key: SliceKey,
    sealed: bool,
    stated: usize,
    groups: usize,
    /// Groups that came before their portion; empty if none did.
    early: Vec<bool>,
    /// Partial results of sealed slices, per portion.
    states: Vec<Vec<Vec<ArrayRef>>>,
}

impl Slice {
    /// Writes how large the slice is, or all of it; whether portions of it are to follow.
    pub(super) fn begin_saving(
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
    pub(super) fn stated(&self) -> usize {
        let counts: Vec<usize> = match &self.partial {
            Partial::Open(all) => all.iter().map(|aggregate| aggregate.group_count()).collect(),
            Partial::Sealed(states) => {
                states.iter().map(|s| s.first().map_or(0, |column| column.len())).collect()
            }
        };
        counts.into_iter().fold(self.rows.len(), usize::min)
    }

    /// Writes the next groups; whether any are left.
    pub(super) fn go_on_saving(
        &mut self,
        bytes: usize,
        out: &mut StateWriter,
    ) -> Result<bool, EvalError> {
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
    pub(super) fn restore(
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

    pub(super) fn restore_portion(
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

    pub(super) fn end_restoring(
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
