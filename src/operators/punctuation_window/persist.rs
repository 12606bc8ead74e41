//! Writes the open windows for a snapshot, and reads them back.

use super::{PartitionState, PunctuationWindow};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};
use crate::windows::punctuate::{DelimitedWindow, Delimiter};

impl PunctuationWindow {
    pub(super) fn save_windows(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.partitions.save(out)?;
        self.output.save(out)?;
        self.early.save(out)?;
        self.clock.save(out)?;
        out.put(&self.deadlines)?;
        out.put(&self.now)
    }

    pub(super) fn restore_windows(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.partitions.restore(from)?;
        self.output.restore(from)?;
        self.early.restore(from)?;
        self.clock.restore(from)?;
        self.deadlines = from.get()?;
        self.now = from.get()?;
        self.expiries.clear();
        let slots: Vec<usize> = self.partitions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.arm_expiry(slot);
        }
        Ok(())
    }
}

/// An open window has no reason yet.
impl Stored for PartitionState {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        let (open, next_id, last_row) = self.delimiter.parts();
        let open = open.map(|open| ((open.id, open.rows.clone()), (open.start, open.end)));
        (open, next_id, last_row).store(out)?;
        self.armed.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        type Open = ((u64, Vec<u64>), (Option<i64>, Option<i64>));
        let (open, next_id, last_row): (Option<Open>, u64, i64) = from.get()?;
        let open = open.map(|((id, rows), (start, end))| DelimitedWindow {
            id,
            rows,
            start,
            end,
            reason: None,
        });
        let delimiter = Delimiter::from_parts(open, next_id, last_row);
        Ok(PartitionState { delimiter, armed: from.get()?, expiry: None })
    }
}
