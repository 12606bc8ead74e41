//! Writes buffered rows for a snapshot, and reads them back. Between steps nothing is noted.

use std::collections::BTreeSet;

use super::{Version, WindowColumns, WindowOutput};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored, misfit};
use crate::windows::punctuate::Reason;

impl WindowOutput {
    /// Writes the rows that are held and what is known of them.
    pub fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        if !self.notes.is_empty() || !self.released.is_empty() {
            return Err(EvalError::Broken("output is noted between steps".to_owned()));
        }
        self.buffer.save(out)?;
        if let Some(keys) = &self.keys {
            keys.save(out)?;
        }
        out.put(&self.uncounted.iter().copied().collect::<BTreeSet<u64>>())?;
        out.put(&self.refused.iter().copied().collect::<BTreeSet<u64>>())?;
        out.put(&self.relation)?;
        out.put(&self.first_offset)
    }

    /// Reads what [`save`](Self::save) wrote, where there are no rows yet.
    pub fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.buffer.restore(from)?;
        if let Some(keys) = &mut self.keys {
            keys.restore(from)?;
        }
        self.uncounted = from.get::<BTreeSet<u64>>()?.into_iter().collect();
        self.refused = from.get::<BTreeSet<u64>>()?.into_iter().collect();
        self.relation = from.get()?;
        self.first_offset = from.get()?;
        Ok(())
    }
}

impl Stored for WindowColumns {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        (self.id, self.start, self.end).store(out)?;
        self.reason.map(str::to_owned).store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let (id, start, end) = from.get()?;
        let reason = match from.get::<Option<String>>()? {
            None => None,
            Some(text) => {
                let reason = Reason::of_text(&text).ok_or_else(|| misfit("a reason is unknown"))?;
                Some(reason.as_str())
            }
        };
        Ok(WindowColumns { id, start, end, reason })
    }
}

impl Stored for Version {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.columns.store(out)?;
        self.rows.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(Version { columns: from.get()?, rows: from.get()? })
    }
}
