//! Moves the groups of an operator into others, each group where its key belongs.
//!
//! So the state of one number of shards becomes that of another: after a restart with another setting, and
//! when an operator has grown too large for one. Partial results are merged into nothing, which leaves them
//! as they are to the bit; where it would not, there is one shard for ever.

use std::borrow::Cow;
use std::mem;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute;

use super::input::Aggregates;
use super::slice::Slice;
use super::{SliceKey, WindowAggregate, WindowKey};
use crate::operators::aggregates::accumulator::gather;
use crate::operators::keys::spread;
use crate::operators::operator::EvalError;

/// Where the keys of an operator go.
struct Routes {
    /// For each key its shard, and its number there.
    keys: Vec<(usize, u32)>,
}

impl Routes {
    /// Places of `ids` in the list, for those that go to a shard, with their numbers there.
    fn of(&self, ids: &[u32], shard: usize) -> (Vec<u32>, Vec<u32>) {
        let places = (0..).zip(ids).map(|(place, &id)| (place, self.keys[id as usize]));
        let ours = places.filter(|(_, (target, _))| *target == shard);
        ours.map(|(place, (_, id))| (place, id)).unzip()
    }
}

impl WindowAggregate {
    /// Moves everything into these shards, which hold the keys of other shards at most.
    pub(super) fn route_into(mut self, shards: &mut [WindowAggregate]) -> Result<(), EvalError> {
        let routes = self.routes(shards)?;
        for (key, mut slice) in mem::take(&mut self.slices) {
            for (index, shard) in shards.iter_mut().enumerate() {
                shard.take_groups(key, &mut slice, &routes, index)?;
            }
        }
        for &(end, key) in &self.expiry {
            for shard in shards.iter_mut().filter(|shard| shard.slices.contains_key(&key)) {
                shard.expiry.insert((end, key));
            }
        }
        for (window, known) in mem::take(&mut self.open) {
            let (ids, columns) = known.emitted.live()?;
            for (index, shard) in shards.iter_mut().enumerate() {
                let (places, new) = routes.of(&ids, index);
                let counts = known.counts.iter().map(|(&id, &n)| (routes.keys[id as usize], n));
                let counts: Vec<(u32, u64)> = counts
                    .filter(|((target, _), _)| *target == index)
                    .map(|((_, id), n)| (id, n))
                    .collect();
                if places.is_empty() && counts.is_empty() && shard.members(window).next().is_none()
                {
                    continue;
                }
                let theirs = shard.open.entry(window).or_default();
                theirs.counts.extend(counts);
                theirs.emitted.add(&new, gather(&columns, &places)?);
            }
        }
        for shard in shards.iter_mut() {
            shard.keys_live = shard.keys.len();
            shard.keys_of_slice = shard.keys_of_slice.max(self.keys_of_slice / self.shares(shard));
            shard.watermark = self.watermark;
            shard.origin = Arc::clone(&self.origin);
            shard.boundary = self.boundary;
            shard.check_invariants();
        }
        Ok(())
    }

    /// About how many shards as large as this one hold all keys.
    fn shares(&self, shard: &WindowAggregate) -> usize {
        (self.keys.len() / shard.keys.len().max(1)).max(1)
    }

    /// Gives the keys their numbers where they go.
    fn routes(&mut self, shards: &mut [WindowAggregate]) -> Result<Routes, EvalError> {
        let count = self.keys.len();
        let mut routes = Routes { keys: vec![(0, 0); count] };
        let all: Vec<u32> = (0..count as u32).collect();
        let keys: Vec<ArrayRef> = self.keys.keys_of(&all)?;
        if keys.is_empty() {
            // No key columns: there is one key for all rows, if there was a row.
            if count > 0 {
                shards[0].keys.intern(&keys, 1, &mut Vec::new())?;
            }
            return Ok(routes);
        }
        let spread = match shards.len() {
            1 => vec![all],
            several => spread::spread(&keys, 0..count, several)?,
        };
        for (index, (rows, shard)) in spread.into_iter().zip(shards).enumerate() {
            let theirs = compute::take_arrays(&keys, &UInt32Array::from(rows.clone()), None)?;
            let mut ids = Vec::with_capacity(rows.len());
            shard.keys.intern(&theirs, rows.len(), &mut ids)?;
            for (row, id) in rows.into_iter().zip(ids) {
                routes.keys[row as usize] = (index, id);
            }
        }
        Ok(routes)
    }

    /// Takes the groups of a slice whose keys go to this shard.
    fn take_groups(
        &mut self,
        key: SliceKey,
        from: &mut Slice,
        routes: &Routes,
        shard: usize,
    ) -> Result<(), EvalError> {
        let groups = from.groups_with_keys()?;
        let ids: Vec<u32> = groups.iter().map(|&(_, id)| id).collect();
        let (places, new) = routes.of(&ids, shard);
        if places.is_empty() {
            return Ok(());
        }
        let groups: Vec<u32> = places.iter().map(|&place| groups[place as usize].0).collect();
        if !self.slices.contains_key(&key) {
            let slice = self.empty_slice(key, places.len())?;
            self.slices.insert(key, slice);
        }
        let slice = self.slices.get_mut(&key).expect("the slice was made above");
        let changed = slice.take_over(&self.aggregates, (from, &groups), new, self.keys.len())?;
        if changed {
            self.changed.insert(WindowKey { end: key.end, start: key.start });
        }
        Ok(())
    }
}

impl Slice {
    /// Groups of which anything is known, each with its key.
    fn groups_with_keys(&mut self) -> Result<Vec<(u32, u32)>, EvalError> {
        self.states()?;
        // A group that lost its last row may be gone from the partial results, and its change still to tell.
        let stated = self.stated();
        let known = |&group: &usize| group < stated || self.is_used(group);
        let groups = (0..self.rows.len()).filter(known).map(|group| group as u32);
        Ok(groups.filter_map(|group| Some((group, self.numbering.id_of(group)?))).collect())
    }

    /// Takes groups of another slice over, under the keys `ids`; whether any of them has changes that
    /// are not emitted.
    fn take_over(
        &mut self,
        aggregates: &Aggregates,
        (from, theirs): (&mut Slice, &[u32]),
        ids: Vec<u32>,
        key_count: usize,
    ) -> Result<bool, EvalError> {
        let groups = self.groups_of(Cow::Owned(ids), key_count).into_owned();
        let group_count = self.rows.len();
        let mut has_changed = false;
        for (&group, &other) in groups.iter().zip(theirs) {
            self.rows[group as usize] += from.rows[other as usize];
            if from.is_changed.get(other as usize) == Some(&true) {
                self.is_changed.resize(group_count, false);
                self.is_changed[group as usize] = true;
                self.changed.push(group);
                has_changed = true;
            }
        }
        let stated = from.stated();
        let pairs = groups.into_iter().zip(theirs.iter().copied());
        let (groups, theirs): (Vec<u32>, Vec<u32>) =
            pairs.filter(|&(_, other)| (other as usize) < stated).unzip();
        for (aggregate, state) in self.open(aggregates)?.iter_mut().zip(from.states()?) {
            aggregate.merge(&gather(state, &theirs)?, &groups, group_count)?;
        }
        Ok(has_changed)
    }
}
