//! Writes the slices and open windows for a snapshot, and reads them back.
//!
//! Left out is what can be made again: the running merge, which is exact wherever there is one.

use std::collections::BTreeMap;

use super::emitted::Emitted;
use super::input::Aggregates;
use super::numbering::{Numbering, OwnNumbers};
use super::slice::{Partial, Slice};
use super::{SliceKey, Window, WindowAggregate, WindowKey};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored, misfit};

impl WindowAggregate {
    pub(super) fn save_windows(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.keys.save(out)?;
        out.put(&self.keys_live)?;
        out.length(self.slices.len());
        for (key, slice) in &mut self.slices {
            out.put(key)?;
            slice.save(out)?;
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
        out.put(&self.boundary)
    }

    pub(super) fn restore_windows(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.keys.restore(from)?;
        self.keys_live = from.get()?;
        for _ in 0..from.length()? {
            let key = from.get()?;
            let slice = Slice::restore(&self.aggregates, self.keys.len(), from)?;
            self.slices.insert(key, slice);
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
        self.check_invariants();
        Ok(())
    }
}

impl Slice {
    /// Writes the partial results; the slice is sealed by it.
    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.states()?.iter().try_for_each(|state| out.columns(state))?;
        out.put(&match &self.numbering {
            Numbering::Shared { .. } => None,
            Numbering::Own(own) => Some(own.ids.clone()),
        })?;
        out.put(&self.rows)?;
        out.put(&self.changed)
    }

    fn restore(
        aggregates: &Aggregates,
        key_count: usize,
        from: &mut StateReader<'_>,
    ) -> Result<Slice, EvalError> {
        let states = aggregates.folded.iter().map(|_| from.columns());
        let partial = Partial::Sealed(states.collect::<Result<_, _>>()?);
        let numbering = match from.get::<Option<Vec<u32>>>()? {
            None => Numbering::Shared { checked: key_count },
            Some(ids) => Numbering::Own(OwnNumbers::new(ids)),
        };
        let (rows, changed): (Vec<i64>, Vec<u32>) = from.get()?;
        let mut is_changed = vec![false; if changed.is_empty() { 0 } else { rows.len() }];
        for &group in &changed {
            *is_changed.get_mut(group as usize).ok_or_else(|| misfit("a group is missing"))? = true;
        }
        Ok(Slice { numbering, rows, partial, changed, is_changed })
    }
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
