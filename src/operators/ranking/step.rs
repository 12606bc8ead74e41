//! Notes which groups a step changes, and what they showed before it.

use std::ops::Range;

use super::group::Group;
use crate::operators::partitions::{Entry, Partitions};

/// The groups of a step.
#[derive(Debug)]
pub(super) struct Step {
    /// Groups know it when they are noted: it is never that of a group that is new, 0.
    number: u64,
    touched: Vec<Touch>,
    before: RowList,
}

/// A group that may have changed.
#[derive(Debug)]
pub(super) struct Touch {
    pub(super) slot: usize,
    birth: u64,
    /// Its rows among those that were shown before.
    pub(super) before: Range<usize>,
}

/// Rows as bytes, one behind the other.
#[derive(Debug, Default)]
pub(super) struct RowList {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl RowList {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn rows(&self, places: Range<usize>) -> impl Iterator<Item = &[u8]> {
        places.map(|place| {
            let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[start..self.ends[place]]
        })
    }
}

impl Default for Step {
    fn default() -> Step {
        Step { number: 1, touched: Vec::new(), before: RowList::default() }
    }
}

impl Step {
    /// Notes what a group shows before it changes, once in a step.
    pub(super) fn note(
        &mut self,
        slot: usize,
        entry: &mut Entry<Group>,
        skip: usize,
        fetch: Option<usize>,
    ) {
        let group = &mut entry.state;
        if group.step == self.number {
            return;
        }
        group.step = self.number;
        let first = self.before.len();
        group.shown(skip, fetch).for_each(|row| self.before.push(row));
        let before = first..self.before.len();
        self.touched.push(Touch { slot, birth: entry.birth, before });
    }

    /// Ends the step: its groups that are still there, in the order of their last change, and the rows
    /// that they showed.
    pub(super) fn end(&mut self, groups: &Partitions<Group>) -> (Vec<Touch>, RowList) {
        self.number += 1;
        // The numbers are fetched once, not at each comparison: groups lie far apart.
        let living = std::mem::take(&mut self.touched).into_iter().filter_map(|touch| {
            let entry = groups.get_born(touch.slot, touch.birth)?;
            Some((entry.state.turn, touch))
        });
        let mut living: Vec<(u64, Touch)> = living.collect();
        living.sort_unstable_by_key(|(turn, _)| *turn);
        let touched = living.into_iter().map(|(_, touch)| touch).collect();
        (touched, std::mem::take(&mut self.before))
    }

    /// Whether no group waits for its end.
    pub(super) fn is_over(&self) -> bool {
        self.touched.is_empty()
    }
}
