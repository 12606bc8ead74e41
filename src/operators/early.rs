//! Puts out early results of open windows, and relates later results to them.

use std::collections::{BTreeMap, BTreeSet};

use crate::operators::emit::{EmitMode, Refinement};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter};
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

    /// Writes where the clock stands.
    pub fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.put(&self.next)
    }

    /// Reads what [`save`](Self::save) wrote.
    pub fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.next = from.get()?;
        Ok(())
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
    /// EMIT EVERY n ROWS.
    every: Option<u64>,
    /// By window and number of the key, which is 0 where keys are not told apart.
    published: BTreeMap<(WindowName, u32), Version>,
    /// Rows of each window and key since its last early result.
    counts: BTreeMap<(WindowName, u32), u64>,
    /// Partitions, by birth and slot, with windows that have changed.
    pub dirty: BTreeSet<(u64, usize)>,
}

impl EarlyResults {
    /// Nothing was put out.
    pub fn new(mode: EmitMode) -> EarlyResults {
        let every = match mode {
            EmitMode::EveryRows { rows, .. } => Some(rows.max(1)),
            EmitMode::OnClose | EmitMode::Changes | EmitMode::EveryInterval { .. } => None,
        };
        EarlyResults {
            refinement: refinement(mode),
            every,
            published: BTreeMap::new(),
            counts: BTreeMap::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// Writes what was put out, and what is still to be.
    pub fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.put(&self.published)?;
        out.put(&self.counts)?;
        out.put(&self.dirty)
    }

    /// Reads what [`save`](Self::save) wrote.
    pub fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.published = from.get()?;
        self.counts = from.get()?;
        self.dirty = from.get()?;
        Ok(())
    }

    /// Counts a row of an open window; whether an early result of its key is due.
    pub fn count(&mut self, name: WindowName, key: u32) -> bool {
        let Some(every) = self.every else { return false };
        let count = self.counts.entry((name, key)).or_default();
        *count += 1;
        let due = *count >= every;
        if due {
            *count = 0;
        }
        due
    }

    /// Puts out an open window as it is now; with `key`, what of it has that key.
    pub fn put_out(
        &mut self,
        (name, key): (WindowName, Option<u32>),
        now: i64,
        mut version: Version,
        to: &mut WindowOutput,
    ) {
        if let Some(key) = key.filter(|_| to.keys_apart()) {
            version.rows.retain(|row| to.key_of(*row) == key);
        }
        let old = self.published.insert((name, key.unwrap_or_default()), version.clone());
        self.relate(old, now, version, to);
    }

    /// Puts out a window that has closed.
    pub fn finish(&mut self, name: WindowName, now: i64, version: Version, to: &mut WindowOutput) {
        let mut olds = self.take(name);
        if self.refinement == Refinement::Accumulating && to.gives_groups() {
            // Final rows stand beside early ones, equal or not: they tell that no more will come.
            return to.insert(now, version, None);
        }
        if !to.keys_apart() {
            let old = olds.pop().map(|(_, old)| old);
            return self.relate(old, now, version, to);
        }
        let mut keys = to.split(version.rows);
        for (key, old) in olds {
            let is_same = old.columns == version.columns && keys.get(&key) == Some(&old.rows);
            if is_same {
                keys.remove(&key);
                continue;
            }
            match self.refinement {
                Refinement::Retracting => to.retract(now, old, None),
                Refinement::Accumulating => {}
                Refinement::Discarding => {
                    let rows = keys.entry(key).or_default();
                    *rows = difference(rows, &old.rows);
                }
            }
        }
        let mut rows: Vec<u64> = keys.into_values().flatten().collect();
        rows.sort_unstable();
        to.insert(now, Version { rows, columns: version.columns }, None);
    }

    /// Takes back a window that has closed and is not to be emitted.
    pub fn give_up(&mut self, name: WindowName, now: i64, to: &mut WindowOutput) {
        for (_, old) in self.take(name) {
            if self.refinement == Refinement::Retracting {
                to.retract(now, old, None);
            }
        }
    }

    /// Forgets a window: what of it was put out, by key.
    fn take(&mut self, name: WindowName) -> Vec<(u32, Version)> {
        fn taken<T>(map: &mut BTreeMap<(WindowName, u32), T>, name: WindowName) -> Vec<(u32, T)> {
            let keys: Vec<u32> =
                map.range((name, 0)..=(name, u32::MAX)).map(|((_, key), _)| *key).collect();
            keys.into_iter().filter_map(|key| Some((key, map.remove(&(name, key))?))).collect()
        }
        if !self.counts.is_empty() {
            taken(&mut self.counts, name);
        }
        taken(&mut self.published, name)
    }

    /// Bytes held.
    pub fn state_bytes(&self) -> usize {
        let rows: usize = self.published.values().map(|version| version.rows.len()).sum();
        rows * size_of::<u64>()
            + self.published.len() * size_of::<(WindowName, u32, Version)>()
            + self.counts.len() * size_of::<(WindowName, u32, u64)>()
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
