//! Keeps the merge of a window's slices for the next window, where slices can be taken out again exactly.
//!
//! There is one merge for each size of windows: between neighbours of one size lie the slices of one
//! slide, between neighbours of two sizes nearly all.

use std::collections::BTreeSet;

use super::close::KEYS_FEW;
use super::input::Aggregates;
use super::results::Results;
use super::slice::Slice;
use super::{SliceKey, WindowAggregate, WindowKey};
use crate::operators::operator::EvalError;

/// The merge of the slices of the window that closed last.
struct Running {
    slice: Slice,
    members: BTreeSet<SliceKey>,
}

/// The merges of the windows that closed last, by size.
pub(super) struct Runnings {
    by_size: Vec<Option<Running>>,
}

impl Runnings {
    /// None yet, for so many sizes.
    pub(super) fn new(sizes: usize) -> Runnings {
        Runnings { by_size: (0..sizes).map(|_| None).collect() }
    }

    /// Lets all of them go.
    pub(super) fn clear(&mut self) {
        self.by_size.fill_with(|| None);
    }

    /// Lets those go that hold a slice, which is about to change.
    pub(super) fn forget_those_with(&mut self, key: &SliceKey) {
        for running in &mut self.by_size {
            if running.as_ref().is_some_and(|running| running.members.contains(key)) {
                *running = None;
            }
        }
    }

    /// Takes a slice that goes out of all of them.
    pub(super) fn take_out(
        &mut self,
        aggregates: &Aggregates,
        key: &SliceKey,
        slice: &mut Slice,
        key_count: usize,
    ) -> Result<(), EvalError> {
        for running in self.by_size.iter_mut().flatten() {
            if running.members.remove(key) {
                running.slice.absorb(aggregates, slice, true, key_count)?;
            }
        }
        Ok(())
    }

    /// How many slices each holds.
    #[cfg(test)]
    pub(super) fn members(&self) -> Vec<usize> {
        self.by_size.iter().flatten().map(|running| running.members.len()).collect()
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.by_size.iter().flatten().map(|running| running.slice.size()).sum()
    }
}

impl WindowAggregate {
    /// Moves the running merge of windows of this size on to the slices of a window, and reads it.
    pub(super) fn running_results(
        &mut self,
        window: WindowKey,
        members: &[SliceKey],
    ) -> Result<Results, EvalError> {
        let key_count = self.keys.len();
        let horizon = self.windows.as_ref().map_or(0, |w| w.horizon_of(window.start, window.end));
        let wanted: BTreeSet<SliceKey> = members.iter().copied().collect();
        let moves = |running: &Running| running.members.symmetric_difference(&wanted).count();
        let mut running = match self.running.by_size[horizon].take() {
            Some(running) if moves(&running) < wanted.len() => running,
            _ => Running { slice: self.empty_for(members)?, members: BTreeSet::new() },
        };
        let (out, new): (Vec<SliceKey>, Vec<SliceKey>) =
            running.members.symmetric_difference(&wanted).partition(|k| !wanted.contains(k));
        for (keys, takes_out) in [(new, false), (out, true)] {
            for key in keys {
                let slice = self.slices.get_mut(&key).expect("members are slices in state");
                running.slice.absorb(&self.aggregates, slice, takes_out, key_count)?;
                self.keys_of_slice = slice.group_count();
            }
        }
        running.members = wanted;
        let results = running.slice.evaluate(&self.aggregates, &mut self.keys, false)?;
        // Keys that the window has left behind cost time at every close: start afresh.
        if running.slice.group_count() < KEYS_FEW.max(4 * results.ids.len()) {
            self.running.by_size[horizon] = Some(running);
        }
        Ok(results)
    }
}
