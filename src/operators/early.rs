//! Puts out early results of open windows, and relates later results to them.

use std::collections::{BTreeMap, BTreeSet};

use crate::operators::emit::{EmitMode, Refinement};
use crate::operators::window_output::{Version, WindowOutput, difference, symmetric_difference};

/// How results of a mode relate to each other; the modes without a choice retract.
pub fn refinement(mode: EmitMode) -> Refinement {
    match mode {
        EmitMode::OnClose | EmitMode::Changes => Refinement::Retracting,
        EmitMode::EveryInterval { refinement, .. } | EmitMode::EveryRows { refinement, .. } => {
            refinement
        }
    }
}

/// The rows of a batch with their numbers, the first of which is `first`.
pub fn rows_between(first: u64, rows: usize) -> impl Iterator<Item = (usize, u64)> {
    (0..rows).zip(first..)
}

/// Strikes at the multiples of EMIT EVERY's interval of processing time.
#[derive(Debug)]
pub struct EarlyClock {
    interval: Option<i64>,
    /// The next stroke, once a time is known.
    next: Option<i64>,
}

impl EarlyClock {
    /// The clock of a mode; one that has no interval never strikes.
    pub fn new(mode: EmitMode) -> EarlyClock {
        let interval = match mode {
            EmitMode::EveryInterval { interval, .. } => Some(interval.max(1)),
            EmitMode::OnClose | EmitMode::Changes | EmitMode::EveryRows { .. } => None,
        };
        EarlyClock { interval, next: None }
    }

    /// Moves to `now`; whether a stroke lies at or before it.
    pub fn passes(&mut self, now: i64) -> bool {
        let Some(interval) = self.interval else { return false };
        let strikes = self.next.is_some_and(|next| next <= now);
        if strikes || self.next.is_none() {
            let begun = now.div_euclid(interval).saturating_mul(interval);
            self.next = Some(begun.saturating_add(interval));
        }
        strikes
    }

    /// The next stroke.
    pub fn due(&self) -> Option<i64> {
        self.next
    }
}

/// A window of a partition: the partition's birth and slot, and the window's number in it.
pub type WindowName = (u64, usize, u64);

/// The open windows of an operator as they were put out early, and those that have changed since.
#[derive(Debug)]
pub struct EarlyResults {
    refinement: Refinement,
    published: BTreeMap<WindowName, Version>,
    /// Partitions, by birth and slot, with windows that have changed.
    pub dirty: BTreeSet<(u64, usize)>,
}

impl EarlyResults {
    /// Nothing was put out.
    pub fn new(mode: EmitMode) -> EarlyResults {
        EarlyResults {
            refinement: refinement(mode),
            published: BTreeMap::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// Puts out an open window as it is now.
    pub fn put_out(&mut self, name: WindowName, now: i64, version: Version, to: &mut WindowOutput) {
        let old = self.published.insert(name, version.clone());
        self.relate(old, now, version, to);
    }

    /// Puts out a window that has closed.
    pub fn finish(&mut self, name: WindowName, now: i64, version: Version, to: &mut WindowOutput) {
        let old = self.published.remove(&name);
        self.relate(old, now, version, to);
    }

    /// Takes back a window that has closed and is not to be emitted.
    pub fn give_up(&mut self, name: WindowName, now: i64, to: &mut WindowOutput) {
        if let Some(old) = self.published.remove(&name)
            && self.refinement == Refinement::Retracting
        {
            to.retract(now, old, None);
        }
    }

    /// Bytes held.
    pub fn state_bytes(&self) -> usize {
        let rows: usize = self.published.values().map(|version| version.rows.len()).sum();
        rows * size_of::<u64>() + self.published.len() * size_of::<(WindowName, Version)>()
    }

    fn relate(&self, old: Option<Version>, now: i64, new: Version, to: &mut WindowOutput) {
        let Some(old) = old else {
            to.insert(now, new, None);
            return;
        };
        let same_window = old.columns == new.columns;
        if same_window && old.rows == new.rows {
            return;
        }
        let changed = same_window.then(|| symmetric_difference(&old.rows, &new.rows));
        match self.refinement {
            Refinement::Retracting => {
                to.retract(now, old, changed.clone());
                to.insert(now, new, changed);
            }
            Refinement::Accumulating => to.insert(now, new, changed),
            Refinement::Discarding => {
                let rows = difference(&new.rows, &old.rows);
                to.insert(now, Version { rows, ..new }, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_strikes_once_however_many_strokes_were_missed() {
        let refinement = Refinement::Retracting;
        let mut clock = EarlyClock::new(EmitMode::EveryInterval { interval: 10, refinement });
        let struck: Vec<bool> =
            [-3, -1, 0, 9, 10, 45, 49, 50].into_iter().map(|now| clock.passes(now)).collect();
        assert_eq!(struck, [false, false, true, false, true, true, false, true]);
        assert!(!EarlyClock::new(EmitMode::OnClose).passes(100));
    }
}
