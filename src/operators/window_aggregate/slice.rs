//! Holds the partial aggregates of one slice: its rows by key, and one accumulator per aggregate.
//!
//! Keys come as the dictionary's numbers; [`Numbering`] says which group of the slice each has. The
//! slice counts the rows of every group itself: a group without rows is none. Once merged from, a
//! slice is *sealed*: its partial results stay as columns, cheap to read, and the accumulators go
//! until a late row opens it again.

use std::borrow::Cow;
use std::mem;

use arrow::array::ArrayRef;

use super::input::{Aggregates, Input, RowSet};
use super::numbering::{NONE, Numbering, OwnNumbers};
use super::persist_slice::SliceSaving;
use super::results::Results;
use crate::operators::aggregates::accumulator::{GroupedAggregate, Rows, gather};
use crate::operators::keys::KeyDictionary;
use crate::operators::operator::EvalError;

/// A sealed slice of fewer groups is not worth making smaller; in tests all are.
const GROUPS_FEW: usize = if cfg!(test) { 1 } else { 64 };

/// Partial results: being folded, or at rest.
pub(super) enum Partial {
    Open(Vec<Box<dyn GroupedAggregate>>),
    Sealed(Vec<Vec<ArrayRef>>),
}

/// The partial aggregates of a piece of the time line.
pub(super) struct Slice {
    pub(super) numbering: Numbering,
    /// Net number of rows of each group.
    pub(super) rows: Vec<i64>,
    pub(super) partial: Partial,
    /// Groups that took rows since [`take_changed`](Self::take_changed), each once.
    pub(super) changed: Vec<u32>,
    pub(super) is_changed: Vec<bool>,
    /// While a snapshot is under way that has not come to all groups.
    pub(super) saving: Option<SliceSaving>,
}

impl Slice {
    pub(super) fn new(aggregates: &Aggregates, numbering: Numbering) -> Result<Slice, EvalError> {
        Ok(Slice {
            numbering,
            rows: Vec::new(),
            partial: Partial::Open(aggregates.make()?),
            changed: Vec::new(),
            is_changed: Vec::new(),
            saving: None,
        })
    }

    /// The keys of all groups.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        let kept = |&group: &usize| !self.numbering.is_shared() || self.is_used(group);
        let groups = (0..self.rows.len()).filter(kept);
        groups.filter_map(|group| self.numbering.id_of(group as u32))
    }

    /// Number of groups, those without rows included.
    pub(super) fn group_count(&self) -> usize {
        self.rows.len()
    }

    /// Whether anything would be lost with the group.
    pub(super) fn is_used(&self, group: usize) -> bool {
        self.rows[group] != 0 || self.is_changed.get(group) == Some(&true)
    }

    fn used_count(&self) -> usize {
        (0..self.rows.len()).filter(|&group| self.is_used(group)).count()
    }

    pub(super) fn groups_of<'a>(
        &mut self,
        ids: Cow<'a, [u32]>,
        key_count: usize,
    ) -> Cow<'a, [u32]> {
        let groups = self.numbering.groups_of(ids, key_count);
        let count = self.numbering.group_count(key_count).max(self.rows.len());
        self.rows.resize(count, 0);
        groups
    }

    /// The group of a key, if it has one.
    fn group_of(&mut self, id: u32, key_count: usize) -> Option<u32> {
        let group = self.numbering.group_of(id, key_count)?;
        ((group as usize) < self.rows.len()).then_some(group)
    }

    pub(super) fn open(
        &mut self,
        aggregates: &Aggregates,
    ) -> Result<&mut Vec<Box<dyn GroupedAggregate>>, EvalError> {
        if matches!(self.partial, Partial::Sealed(_)) && !aggregates.read_groups {
            // Columns can be read in portions, these accumulators cannot.
            self.finish_saving()?;
        }
        if let Partial::Sealed(states) = &self.partial {
            let mut all = aggregates.make()?;
            for (aggregate, state) in all.iter_mut().zip(states) {
                // Keys may have been added since the slice was sealed. They are not merged: an
                // aggregate of DataFusion takes every group that it is told of here for one with
                // values.
                let sealed = state.first().map_or(0, |column| column.len());
                let groups: Vec<u32> = (0..sealed as u32).collect();
                aggregate.merge(state, &groups, sealed)?;
            }
            self.partial = Partial::Open(all);
        }
        match &mut self.partial {
            Partial::Open(all) => Ok(all),
            Partial::Sealed(_) => unreachable!("it was opened above"),
        }
    }

    /// Folds rows of a batch.
    pub(super) fn fold(
        &mut self,
        aggregates: &Aggregates,
        input: &Input,
        rows: &RowSet,
        key_count: usize,
    ) -> Result<(), EvalError> {
        let groups = self.groups_of(rows.of(&input.ids), key_count);
        self.save_early(&groups)?;
        let group_count = self.rows.len();
        let columns = &input.columns;
        let weights = columns.weights.as_ref().map(|weights| rows.typed(weights)).transpose()?;
        match &weights {
            None => groups.iter().for_each(|&group| self.rows[group as usize] += 1),
            Some(weights) => {
                for (&group, weight) in groups.iter().zip(weights.values()) {
                    self.rows[group as usize] += weight;
                }
            }
        }
        let plain = Rows { weights: weights.as_ref(), ..Rows::all(&groups, group_count) };
        for (aggregate, &i) in self.open(aggregates)?.iter_mut().zip(&aggregates.folded) {
            let values = columns.arguments[i]
                .iter()
                .map(|column| rows.column(column))
                .collect::<Result<Vec<_>, _>>()?;
            let filter =
                columns.filters[i].as_ref().map(|filter| rows.typed(filter)).transpose()?;
            aggregate.update(&values, &Rows { filter: filter.as_ref(), ..plain })?;
        }
        Ok(())
    }

    /// Sees whether its numbers still suit a slice that was folded into. What changed is marked by then: a
    /// group whose rows cancel out is used for that alone.
    pub(super) fn settle(&mut self, key_count: usize) -> Result<(), EvalError> {
        let used = self.rows.as_slice();
        if self.numbering.is_outgrown(key_count, || used.iter().filter(|&&n| n != 0).count()) {
            self.turn_own()?;
        }
        Ok(())
    }

    /// Gives the slice numbers of its own, and places for the groups that are used only.
    fn turn_own(&mut self) -> Result<(), EvalError> {
        if !self.numbering.is_shared() {
            return Ok(());
        }
        self.finish_saving()?;
        let kept: Vec<u32> =
            (0..self.rows.len() as u32).filter(|&group| self.is_used(group as usize)).collect();
        let states: Result<_, EvalError> = match &mut self.partial {
            Partial::Open(all) => all.iter_mut().map(|a| a.state_of(&kept)).collect(),
            Partial::Sealed(states) => states.iter().map(|s| gather(s, &kept)).collect(),
        };
        self.partial = Partial::Sealed(states?);
        self.keep(&kept);
        self.numbering = Numbering::Own(OwnNumbers::new(kept));
        Ok(())
    }

    /// Group `kept[i]` becomes `i`; the others go.
    fn keep(&mut self, kept: &[u32]) {
        self.rows = kept.iter().map(|&group| self.rows[group as usize]).collect();
        let changed = |group: &u32| self.is_changed.get(*group as usize) == Some(&true);
        self.is_changed = kept.iter().map(changed).collect();
        let changed = self.is_changed.iter().enumerate().filter(|(_, changed)| **changed);
        self.changed = changed.map(|(group, _)| group as u32).collect();
    }

    /// Notes which groups the rows change that were just folded.
    pub(super) fn mark_changed(&mut self, input: &Input, rows: &RowSet, key_count: usize) {
        let groups = self.groups_of(rows.of(&input.ids), key_count);
        self.is_changed.resize(self.rows.len(), false);
        for &group in groups.iter() {
            if !mem::replace(&mut self.is_changed[group as usize], true) {
                self.changed.push(group);
            }
        }
    }

    /// The keys that changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<u32> {
        let changed = mem::take(&mut self.changed);
        self.is_changed.fill(false);
        changed.iter().filter_map(|&group| self.numbering.id_of(group)).collect()
    }

    /// Seals the slice and shows its partial results, one row per group.
    pub(super) fn states(&mut self) -> Result<&[Vec<ArrayRef>], EvalError> {
        if let Partial::Open(all) = &mut self.partial {
            let states =
                all.iter_mut().map(|a| a.take_state()).collect::<Result<Vec<_>, EvalError>>()?;
            self.partial = Partial::Sealed(states);
            self.numbering.rest();
            if self.rows.len() > GROUPS_FEW && self.used_count() * 2 < self.rows.len() {
                self.turn_own()?;
            }
        }
        match &self.partial {
            Partial::Sealed(states) => Ok(states),
            Partial::Open(_) => unreachable!("it was sealed above"),
        }
    }

    /// Merges another slice into this one, or takes it out again.
    pub(super) fn absorb(
        &mut self,
        aggregates: &Aggregates,
        other: &mut Slice,
        out: bool,
        key_count: usize,
    ) -> Result<(), EvalError> {
        other.states()?;
        if !self.numbering.is_shared() {
            other.turn_own()?;
        }
        let ids: Cow<'_, [u32]> = match &other.numbering {
            Numbering::Shared { .. } => (0..other.rows.len() as u32).collect(),
            Numbering::Own(own) => Cow::Borrowed(&own.ids),
        };
        let groups = self.groups_of(ids, key_count);
        for (&group, &rows) in groups.iter().zip(&other.rows) {
            self.rows[group as usize] += if out { -rows } else { rows };
        }
        let Partial::Sealed(states) = &other.partial else { unreachable!("it was sealed above") };
        let group_count = self.rows.len();
        for (aggregate, state) in self.open(aggregates)?.iter_mut().zip(states) {
            if out {
                aggregate.unmerge(state, &groups)?;
            } else {
                aggregate.merge(state, &groups, group_count)?;
            }
        }
        Ok(())
    }

    /// Merges one key of another slice into this one.
    pub(super) fn absorb_key(
        &mut self,
        aggregates: &Aggregates,
        other: &mut Slice,
        id: u32,
        key_count: usize,
    ) -> Result<(), EvalError> {
        let Some(group) = other.group_of(id, key_count) else { return Ok(()) };
        let groups = self.groups_of(Cow::Owned(vec![id]), key_count);
        self.rows[groups[0] as usize] += other.rows[group as usize];
        let group_count = self.rows.len();
        for (i, aggregate) in self.open(aggregates)?.iter_mut().enumerate() {
            let state = match &mut other.partial {
                Partial::Open(others) => others[i].state_of(&[group])?,
                Partial::Sealed(states) => gather(&states[i], &[group])?,
            };
            aggregate.merge(&state, &groups, group_count)?;
        }
        Ok(())
    }

    /// The results of all keys that have rows, in the order of the keys. If these are the last ones
    /// asked for, the slice may be empty afterwards.
    pub(super) fn evaluate(
        &mut self,
        aggregates: &Aggregates,
        keys: &mut KeyDictionary,
        last: bool,
    ) -> Result<Results, EvalError> {
        if last {
            self.finish_saving()?;
        }
        let ranking = keys.ranking()?;
        let rows = &self.rows;
        match &self.numbering {
            Numbering::Shared { .. } => {
                let there = |id: &u32| rows.get(*id as usize).is_some_and(|&rows| rows > 0);
                let ids: Vec<u32> = ranking.0.iter().copied().filter(there).collect();
                self.read(aggregates, ids.clone(), &ids, last)
            }
            Numbering::Own(own) => {
                let (ids, groups) = own.in_order(ranking, |group| rows[group as usize] > 0);
                self.read(aggregates, ids, &groups, last)
            }
        }
    }

    /// The results of some keys: those that have rows, in the order asked for.
    pub(super) fn evaluate_of(
        &mut self,
        aggregates: &Aggregates,
        keys: &[u32],
        key_count: usize,
    ) -> Result<Results, EvalError> {
        let (mut ids, mut groups) = (Vec::new(), Vec::new());
        for &id in keys {
            if let Some(group) = self.group_of(id, key_count)
                && self.rows[group as usize] > 0
            {
                ids.push(id);
                groups.push(group);
            }
        }
        self.read(aggregates, ids, &groups, false)
    }

    /// Empties the groups of some keys.
    pub(super) fn forget(
        &mut self,
        aggregates: &Aggregates,
        keys: &[u32],
        key_count: usize,
    ) -> Result<(), EvalError> {
        self.finish_saving()?;
        self.turn_own()?;
        let Numbering::Own(own) = &mut self.numbering else {
            unreachable!("it has numbers of its own since the line above")
        };
        keys.iter().for_each(|&id| own.forget(id, key_count));
        if !own.is_hollow() {
            return Ok(());
        }
        // Most groups are dead: free their accumulators.
        let groups = 0..own.ids.len() as u32;
        let (kept, ids): (Vec<u32>, Vec<u32>) =
            groups.zip(own.ids.iter().copied()).filter(|&(_, id)| id != NONE).unzip();
        if kept.is_empty() {
            let saving = self.saving.take();
            *self = Slice { saving, ..Slice::new(aggregates, Numbering::own())? };
            return Ok(());
        }
        let states = self.open(aggregates)?.iter_mut().map(|a| a.state_of(&kept));
        self.partial = Partial::Sealed(states.collect::<Result<_, _>>()?);
        self.keep(&kept);
        self.numbering = Numbering::Own(OwnNumbers::new(ids));
        Ok(())
    }

    /// Takes over new numbers of the dictionary.
    pub(super) fn renumber(&mut self, renumbered: &[u32]) -> Result<(), EvalError> {
        self.finish_saving()?;
        self.turn_own()?;
        if let Numbering::Own(own) = &mut self.numbering {
            own.renumber(renumbered);
        }
        Ok(())
    }

    pub(super) fn size(&self) -> usize {
        let partial: usize = match &self.partial {
            Partial::Open(all) => all.iter().map(|aggregate| aggregate.size()).sum(),
            Partial::Sealed(states) => {
                states.iter().flatten().map(|column| column.get_array_memory_size()).sum()
            }
        };
        let groups = 8 * self.rows.capacity() + 4 * self.changed.capacity();
        let flags = self.is_changed.capacity();
        mem::size_of::<Slice>() + self.numbering.size() + partial + groups + flags
    }
}
