//! Writes the groups of an unwindowed GROUP BY for a snapshot, and reads them back.
//!
//! ```text
//! head      number of groups, what changed, times, what belongs to no group
//! portion   which groups; their keys if they are neighbours; rows, failing, shown, partial results
//! ```
//! Portions of neighbours cover all groups, in order; others hold groups as they were when the
//! snapshot began, and win over the neighbours' portion ([`crate::operators::portions`]).

use super::Aggregate;
use crate::operators::operator::EvalError;
use crate::operators::portions::{Chosen, Portions};
use crate::operators::state::{StateReader, StateWriter, Stored, misfit};

/// Kinds of parts.
const HEAD: u8 = 0;
const PORTION: u8 = 1;

/// A snapshot on its way.
pub(super) struct Saving {
    portions: Portions,
    /// Groups that were written before they changed.
    early: StateWriter,
}

/// A snapshot that is being read.
#[derive(Default)]
pub(super) struct Restoring {
    /// Groups whose keys are there.
    groups: usize,
    /// Portions that win over the others.
    early: Vec<Vec<u8>>,
}

impl Aggregate {
    pub(super) fn begin_saving(&mut self, out: &mut StateWriter) -> Result<bool, EvalError> {
        let groups = self.groups.rows.len();
        out.put(&HEAD)?;
        out.put(&groups)?;
        self.groups.touched.save(out)?;
        for measure in &mut self.measures {
            measure.fold.save_head(out)?;
        }
        out.put(&self.origin)?;
        out.put(&self.watermark)?;
        out.put(&self.rows_since)?;
        out.put(&self.due)?;
        out.put(&self.freed)?;
        out.put(&self.has_forgotten)?;
        let portions = Portions::new(groups);
        self.saving = Some(Saving { portions, early: StateWriter::default() });
        Ok(true)
    }

    /// Writes groups until there are `bytes`; whether any are left.
    pub(super) fn go_on_saving(
        &mut self,
        bytes: usize,
        out: &mut StateWriter,
    ) -> Result<bool, EvalError> {
        let Some(mut saving) = self.saving.take() else { return Ok(false) };
        let begin = out.len();
        out.append(std::mem::take(&mut saving.early));
        while out.len() - begin < bytes {
            let left = bytes - (out.len() - begin);
            let Some(run) = saving.portions.advance(left) else { return Ok(false) };
            self.save_portion(&run, out)?;
        }
        self.saving = Some(saving);
        Ok(true)
    }

    /// Writes all groups that are left, before they get other numbers.
    pub(super) fn finish_saving(&mut self) -> Result<(), EvalError> {
        let Some(mut saving) = self.saving.take() else { return Ok(()) };
        while let Some(run) = saving.portions.advance(usize::MAX) {
            self.save_portion(&run, &mut saving.early)?;
        }
        self.saving = Some(saving);
        Ok(())
    }

    /// Writes groups that are about to change, if a snapshot has not come to them yet.
    pub(super) fn save_early(
        &mut self,
        groups: impl IntoIterator<Item = usize>,
    ) -> Result<(), EvalError> {
        let Some(mut saving) = self.saving.take() else { return Ok(()) };
        let claimed = saving.portions.claim(groups);
        if !claimed.is_empty() {
            self.save_portion(&claimed, &mut saving.early)?;
        }
        self.saving = Some(saving);
        Ok(())
    }

    fn save_portion(&mut self, chosen: &Chosen, out: &mut StateWriter) -> Result<(), EvalError> {
        out.put(&PORTION)?;
        chosen.save(out)?;
        out.piece(|out| {
            if let (Chosen::Run(run), false) = (chosen, self.is_global()) {
                self.keys.save_run(run.start, run.end, out)?;
            }
            chosen.put(&self.groups.rows, out)?;
            chosen.put(&self.groups.failing, out)?;
            self.emission.save(chosen, out)?;
            self.measures.iter_mut().try_for_each(|measure| measure.fold.save(chosen, out))
        })
    }

    pub(super) fn restore_part(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        while !from.is_at_end() {
            match u8::load(from)? {
                HEAD => self.restore_head(from)?,
                PORTION => {
                    let groups = self.groups.rows.len();
                    let chosen = Chosen::restore(from, groups)?;
                    let portion = from.raw()?;
                    self.restore_portion(&chosen, portion)?;
                }
                _ => return Err(misfit("a part is of an unknown kind")),
            }
        }
        Ok(())
    }

    fn restore_head(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        let groups: usize = from.get()?;
        if u32::try_from(groups).is_err() || (self.is_global() && groups != 1) {
            return Err(misfit("the number of groups cannot be"));
        }
        self.keys.expect(groups);
        self.resize_to(groups);
        self.groups.touched.restore(from)?;
        for measure in &mut self.measures {
            measure.fold.restore_head(from)?;
        }
        self.origin = from.get()?;
        self.watermark = from.get()?;
        self.rows_since = from.get()?;
        self.due = from.get()?;
        self.freed = from.get()?;
        self.has_forgotten = from.get()?;
        self.restoring = Some(Restoring::default());
        Ok(())
    }

    fn restore_portion(&mut self, chosen: &Chosen, portion: &[u8]) -> Result<(), EvalError> {
        let restoring = self.restoring.as_mut().ok_or_else(|| misfit("a portion has no head"))?;
        let mut from = StateReader::new(portion);
        match chosen {
            Chosen::Run(run) => {
                if run.start != restoring.groups {
                    return Err(misfit("a portion is not the next one"));
                }
                restoring.groups = run.end;
                if !self.is_global() {
                    self.keys.restore_run(run.len(), from.columns()?)?;
                }
                self.restore_groups(chosen, &mut from)
            }
            Chosen::Listed(_) => {
                let mut early = StateWriter::default();
                chosen.save(&mut early)?;
                early.bytes(portion);
                restoring.early.push(early.finish());
                Ok(())
            }
        }
    }

    fn restore_groups(
        &mut self,
        chosen: &Chosen,
        from: &mut StateReader<'_>,
    ) -> Result<(), EvalError> {
        chosen.get(&mut self.groups.rows, from)?;
        chosen.get(&mut self.groups.failing, from)?;
        self.emission.restore(chosen, from)?;
        self.measures.iter_mut().try_for_each(|measure| measure.fold.restore(chosen, from))?;
        from.end()
    }

    pub(super) fn end_restoring(&mut self) -> Result<(), EvalError> {
        let groups = self.groups.rows.len();
        let restoring = self.restoring.take().ok_or_else(|| misfit("the head is missing"))?;
        if restoring.groups != groups {
            return Err(misfit("groups are missing"));
        }
        for early in &restoring.early {
            let mut from = StateReader::new(early);
            let chosen = Chosen::restore(&mut from, groups)?;
            self.restore_groups(&chosen, &mut from)?;
        }
        self.keys.restored()
    }
}
