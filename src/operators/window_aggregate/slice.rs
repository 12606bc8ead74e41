//! Holds the partial aggregates of one slice: its keys, and one accumulator per aggregate.
//!
//! Keys come as the dictionary's numbers; inside a slice they get dense numbers of their own, so that
//! it is as large as the keys it saw. Once read, a slice is *sealed*: its partial results stay as
//! columns, cheap to merge from, and the accumulators go until a late row opens it again.

use std::mem;

use arrow::array::{ArrayRef, AsArray, UInt32Array};
use arrow::compute;
use arrow::datatypes::Int64Type;
use hashbrown::HashMap;

use super::input::{Aggregates, Input, RowSet};
use crate::operators::aggregates::accumulator::{GroupedAggregate, Rows};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, misfit};

/// Marks a key that is not there.
const NONE: u32 = u32::MAX;

/// Partial results: being folded, or at rest.
enum Partial {
    Open(Vec<Box<dyn GroupedAggregate>>),
    Sealed(Vec<Vec<ArrayRef>>),
}

/// From the dictionary's number of a key to the slice's own.
enum LocalIndex {
    /// Built when needed.
    Absent,
    /// For slices that hold a good part of all keys.
    Dense(Vec<u32>),
    /// For slices that hold few of many.
    Sparse(HashMap<u32, u32>),
}

/// The partial aggregates of a piece of the time line.
pub(super) struct Slice {
    /// The key of each group; [`NONE`] for groups that were forgotten.
    ids: Vec<u32>,
    forgotten: usize,
    index: LocalIndex,
    partial: Partial,
    /// Groups that took rows since [`take_changed`](Self::take_changed), each once.
    changed: Vec<u32>,
    is_changed: Vec<bool>,
}

impl Slice {
    pub(super) fn new(aggregates: &Aggregates) -> Result<Slice, EvalError> {
        Ok(Slice {
            ids: Vec::new(),
            forgotten: 0,
            index: LocalIndex::Absent,
            partial: Partial::Open(aggregates.make()?),
            changed: Vec::new(),
            is_changed: Vec::new(),
        })
    }

    /// The keys of all groups.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.ids.iter().copied().filter(|&id| id != NONE)
    }

    /// Number of groups, forgotten ones included.
    pub(super) fn group_count(&self) -> usize {
        self.ids.len()
    }

    fn ready_index(&mut self, key_count: usize) {
        let dense = key_count < 65_536 || self.ids.len() * 16 >= key_count;
        match (&mut self.index, dense) {
            (LocalIndex::Dense(table), _) => {
                if table.len() < key_count {
                    table.resize(key_count, NONE);
                }
                return;
            }
            (LocalIndex::Sparse(_), false) => return,
            (LocalIndex::Absent | LocalIndex::Sparse(_), _) => {}
        }
        let groups = self.ids.iter().enumerate().filter(|(_, id)| **id != NONE);
        self.index = if dense {
            let mut table = vec![NONE; key_count];
            groups.for_each(|(group, &id)| table[id as usize] = group as u32);
            LocalIndex::Dense(table)
        } else {
            LocalIndex::Sparse(groups.map(|(group, &id)| (id, group as u32)).collect())
        };
    }

    /// The group of each key; keys that are new here get the next groups.
    fn groups_of(&mut self, keys: impl Iterator<Item = usize>, key_count: usize) -> Vec<usize> {
        self.ready_index(key_count);
        let ids = &mut self.ids;
        let mut add = |id: usize| {
            ids.push(id as u32);
            ids.len() as u32 - 1
        };
        match &mut self.index {
            LocalIndex::Dense(table) => keys
                .map(|id| {
                    let entry = &mut table[id];
                    if *entry == NONE {
                        *entry = add(id);
                    }
                    *entry as usize
                })
                .collect(),
            LocalIndex::Sparse(map) => {
                keys.map(|id| *map.entry(id as u32).or_insert_with(|| add(id)) as usize).collect()
            }
            LocalIndex::Absent => unreachable!("the index was made ready above"),
        }
    }

    fn groups_of_rows(&mut self, input: &Input, rows: &RowSet, key_count: usize) -> Vec<usize> {
        let ids = &input.ids;
        match rows {
            RowSet::Range(start, len) => {
                self.groups_of(ids[*start..start + len].iter().copied(), key_count)
            }
            RowSet::Scattered(rows) => {
                self.groups_of(rows.iter().map(|&row| ids[row as usize]), key_count)
            }
        }
    }

    /// The group of a key, if it has one.
    fn group_of(&mut self, id: u32, key_count: usize) -> Option<u32> {
        self.ready_index(key_count);
        match &self.index {
            LocalIndex::Dense(table) => {
                table.get(id as usize).copied().filter(|&group| group != NONE)
            }
            LocalIndex::Sparse(map) => map.get(&id).copied(),
            LocalIndex::Absent => None,
        }
    }

    fn open(
        &mut self,
        aggregates: &Aggregates,
    ) -> Result<&mut Vec<Box<dyn GroupedAggregate>>, EvalError> {
        if let Partial::Sealed(states) = &self.partial {
            let mut all = aggregates.make()?;
            for (aggregate, state) in all.iter_mut().zip(states) {
                // Keys may have been added since the slice was sealed.
                let groups: Vec<usize> = (0..state.first().map_or(0, |s| s.len())).collect();
                aggregate.merge(state, &groups, self.ids.len())?;
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
        let groups = self.groups_of_rows(input, rows, key_count);
        let group_count = self.ids.len();
        let weights = input.weights.as_ref().map(|weights| rows.typed(weights)).transpose()?;
        let plain = Rows { weights: weights.as_ref(), ..Rows::all(&groups, group_count) };
        let specs = aggregates.specs.len();
        for (i, aggregate) in self.open(aggregates)?.iter_mut().enumerate() {
            if i == specs {
                aggregate.update(&[], &plain)?;
                continue;
            }
            let values = input.arguments[i]
                .iter()
                .map(|column| rows.column(column))
                .collect::<Result<Vec<_>, _>>()?;
            let filter = input.filters[i].as_ref().map(|filter| rows.typed(filter)).transpose()?;
            aggregate.update(&values, &Rows { filter: filter.as_ref(), ..plain })?;
        }
        Ok(())
    }

    /// Notes which groups the rows change.
    pub(super) fn mark_changed(&mut self, input: &Input, rows: &RowSet, key_count: usize) {
        let groups = self.groups_of_rows(input, rows, key_count);
        self.is_changed.resize(self.ids.len(), false);
        for group in groups {
            if !mem::replace(&mut self.is_changed[group], true) {
                self.changed.push(group as u32);
            }
        }
    }

    /// The keys that changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<u32> {
        let changed = mem::take(&mut self.changed);
        self.is_changed.fill(false);
        changed.iter().map(|&g| self.ids[g as usize]).filter(|&id| id != NONE).collect()
    }

    /// Seals the slice and shows its partial results, one row per group.
    pub(super) fn states(&mut self) -> Result<&[Vec<ArrayRef>], EvalError> {
        if let Partial::Open(all) = &mut self.partial {
            let states =
                all.iter_mut().map(|a| a.take_state()).collect::<Result<Vec<_>, EvalError>>()?;
            self.partial = Partial::Sealed(states);
            self.index = LocalIndex::Absent;
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
        let groups = self.groups_of(other.ids.iter().map(|&id| id as usize), key_count);
        let group_count = self.ids.len();
        for (aggregate, state) in self.open(aggregates)?.iter_mut().zip(other.states()?) {
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
        let groups = self.groups_of(std::iter::once(id as usize), key_count);
        let group_count = self.ids.len();
        let all = self.open(aggregates)?;
        for (i, aggregate) in all.iter_mut().enumerate() {
            let state = match &mut other.partial {
                Partial::Open(others) => others[i].state_of(&[group as usize])?,
                Partial::Sealed(states) => {
                    states[i].iter().map(|column| column.slice(group as usize, 1)).collect()
                }
            };
            aggregate.merge(&state, &groups, group_count)?;
        }
        Ok(())
    }

    /// The results of all keys that have rows: keys, and a column per aggregate. The slice is
    /// empty afterwards.
    pub(super) fn evaluate(
        &mut self,
        aggregates: &Aggregates,
    ) -> Result<(Vec<u32>, Vec<ArrayRef>), EvalError> {
        let rows_at = aggregates.rows_at;
        let columns = self
            .open(aggregates)?
            .iter_mut()
            .map(|aggregate| aggregate.evaluate())
            .collect::<Result<Vec<_>, EvalError>>()?;
        let ids = mem::take(&mut self.ids);
        *self = Slice::new(aggregates)?;
        present(ids, columns, rows_at, aggregates)
    }

    /// The results of some keys, or all: those that have rows. The slice keeps them.
    pub(super) fn evaluate_of(
        &mut self,
        aggregates: &Aggregates,
        keys: Option<&[u32]>,
        key_count: usize,
    ) -> Result<(Vec<u32>, Vec<ArrayRef>), EvalError> {
        let groups: Vec<usize> = match keys {
            Some(keys) => {
                let found = keys.iter().filter_map(|&id| self.group_of(id, key_count));
                found.map(|group| group as usize).collect()
            }
            None => (0..self.ids.len()).filter(|&group| self.ids[group] != NONE).collect(),
        };
        let ids = groups.iter().map(|&group| self.ids[group]).collect();
        let rows_at = aggregates.rows_at;
        let columns = self
            .open(aggregates)?
            .iter_mut()
            .map(|aggregate| aggregate.evaluate_of(&groups))
            .collect::<Result<Vec<_>, EvalError>>()?;
        present(ids, columns, rows_at, aggregates)
    }

    /// Empties the groups of some keys.
    pub(super) fn forget(
        &mut self,
        aggregates: &Aggregates,
        keys: &[u32],
        key_count: usize,
    ) -> Result<(), EvalError> {
        for &id in keys {
            let Some(group) = self.group_of(id, key_count) else { continue };
            self.ids[group as usize] = NONE;
            self.forgotten += 1;
            match &mut self.index {
                LocalIndex::Dense(table) => table[id as usize] = NONE,
                LocalIndex::Sparse(map) => {
                    map.remove(&id);
                }
                LocalIndex::Absent => {}
            }
        }
        if self.forgotten * 2 > self.ids.len() {
            self.compact(aggregates)?;
        }
        Ok(())
    }

    /// Frees the accumulators of forgotten groups.
    fn compact(&mut self, aggregates: &Aggregates) -> Result<(), EvalError> {
        let kept: Vec<usize> =
            (0..self.ids.len()).filter(|&group| self.ids[group] != NONE).collect();
        let mut fresh = Slice::new(aggregates)?;
        fresh.ids = kept.iter().map(|&group| self.ids[group]).collect();
        fresh.is_changed = vec![false; kept.len()];
        for (new, &old) in kept.iter().enumerate() {
            if self.is_changed.get(old) == Some(&true) {
                fresh.is_changed[new] = true;
                fresh.changed.push(new as u32);
            }
        }
        let renumbered: Vec<usize> = (0..kept.len()).collect();
        if !kept.is_empty() {
            let states = self.open(aggregates)?.iter_mut().map(|a| a.state_of(&kept));
            let states = states.collect::<Result<Vec<_>, EvalError>>()?;
            for (aggregate, state) in fresh.open(aggregates)?.iter_mut().zip(&states) {
                aggregate.merge(state, &renumbered, kept.len())?;
            }
        }
        *self = fresh;
        Ok(())
    }

    /// Takes over new numbers of the dictionary.
    pub(super) fn renumber(&mut self, renumbered: &[u32]) {
        for id in self.ids.iter_mut().filter(|id| **id != NONE) {
            *id = renumbered[*id as usize];
        }
        self.index = LocalIndex::Absent;
    }

    /// Writes the partial results; the slice is sealed by it.
    pub(super) fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.states()?.iter().try_for_each(|state| out.columns(state))?;
        out.put(&self.ids)?;
        out.put(&self.forgotten)?;
        out.put(&self.changed)
    }

    /// Reads what [`save`](Self::save) wrote.
    pub(super) fn restore(
        aggregates: &Aggregates,
        from: &mut StateReader<'_>,
    ) -> Result<Slice, EvalError> {
        let states = (0..aggregates.count()).map(|_| from.columns()).collect::<Result<_, _>>()?;
        let (ids, forgotten, changed): (Vec<u32>, _, Vec<u32>) = from.get()?;
        let mut is_changed = vec![false; if changed.is_empty() { 0 } else { ids.len() }];
        for &group in &changed {
            *is_changed.get_mut(group as usize).ok_or_else(|| misfit("a group is missing"))? = true;
        }
        let (index, partial) = (LocalIndex::Absent, Partial::Sealed(states));
        Ok(Slice { ids, forgotten, index, partial, changed, is_changed })
    }

    pub(super) fn size(&self) -> usize {
        let index = match &self.index {
            LocalIndex::Absent => 0,
            LocalIndex::Dense(table) => table.capacity() * 4,
            LocalIndex::Sparse(map) => map.allocation_size(),
        };
        let partial: usize = match &self.partial {
            Partial::Open(all) => all.iter().map(|aggregate| aggregate.size()).sum(),
            Partial::Sealed(states) => {
                states.iter().flatten().map(|column| column.get_array_memory_size()).sum()
            }
        };
        let groups = 4 * (self.ids.capacity() + self.changed.capacity());
        mem::size_of::<Slice>() + index + partial + groups + self.is_changed.capacity()
    }
}

/// Leaves out keys without rows, and the column that counts them unless it was asked for.
fn present(
    mut ids: Vec<u32>,
    mut columns: Vec<ArrayRef>,
    rows_at: usize,
    aggregates: &Aggregates,
) -> Result<(Vec<u32>, Vec<ArrayRef>), EvalError> {
    let counts = columns[rows_at].as_primitive::<Int64Type>().values().clone();
    columns.truncate(aggregates.specs.len());
    let there = |row: usize| counts[row] > 0 && ids[row] != NONE;
    if !(0..ids.len()).all(there) {
        let kept: Vec<u32> = (0..ids.len()).filter(|&row| there(row)).map(|r| r as u32).collect();
        ids = kept.iter().map(|&row| ids[row as usize]).collect();
        columns = compute::take_arrays(&columns, &UInt32Array::from(kept), None)?;
    }
    Ok((ids, columns))
}
