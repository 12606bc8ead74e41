//! Writes the groups of an unwindowed GROUP BY for a snapshot, and reads them back.

use super::Aggregate;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter};

impl Aggregate {
    pub(super) fn save_groups(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.keys.save(out)?;
        out.put(&self.groups.rows)?;
        out.put(&self.groups.failing)?;
        self.groups.touched.save(out)?;
        self.emission.save(out)?;
        for measure in &mut self.measures {
            out.piece(|out| measure.fold.save(out))?;
        }
        out.put(&self.origin)?;
        out.put(&self.watermark)?;
        out.put(&self.rows_since)?;
        out.put(&self.due)?;
        out.put(&self.freed)
    }

    pub(super) fn restore_groups(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.keys.restore(from)?;
        self.resize();
        self.groups.rows = from.get()?;
        self.groups.failing = from.get()?;
        self.groups.touched.restore(from)?;
        self.emission.restore(from)?;
        for measure in &mut self.measures {
            from.piece(|from| measure.fold.restore(from))?;
        }
        self.origin = from.get()?;
        self.watermark = from.get()?;
        self.rows_since = from.get()?;
        self.due = from.get()?;
        self.freed = from.get()?;
        Ok(())
    }
}
