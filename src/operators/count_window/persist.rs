//! Writes the windows being filled for a snapshot, and reads them back.

use super::{CountWindow, PartitionState};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};
use crate::windows::count::{Counter, CounterParts};

impl CountWindow {
    pub(super) fn save_windows(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.partitions.save(out)?;
        self.output.save(out)?;
        self.early.save(out)?;
        self.clock.save(out)?;
        out.put(&self.held)?;
        out.put(&self.deadlines)?;
        out.put(&self.watermark)?;
        out.put(&self.now)
    }

    pub(super) fn restore_windows(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.partitions.restore(from)?;
        self.output.restore(from)?;
        self.early.restore(from)?;
        self.clock.restore(from)?;
        self.held = from.get()?;
        self.deadlines = from.get()?;
        self.watermark = from.get()?;
        self.now = from.get()?;
        Ok(())
    }
}

impl Stored for PartitionState {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        let CounterParts { rows, open, next, value } = self.counter.parts();
        (rows, open).store(out)?;
        (next, value).store(out)?;
        self.armed.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let ((rows, open), (next, value)) = from.get()?;
        let counter = Counter::from_parts(CounterParts { rows, open, next, value });
        Ok(PartitionState { counter, armed: from.get()? })
    }
}
