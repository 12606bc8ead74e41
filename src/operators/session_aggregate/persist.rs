//! Writes the sessions for a snapshot, and reads them back.

use std::cmp::Reverse;

use super::{PartitionState, Published, SessionAggregate};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};
use crate::windows::session::{Session, Sessions};

impl SessionAggregate {
    pub(super) fn save_sessions(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.partitions.save(out)?;
        self.output.save(out)?;
        if let Some(rows) = &self.rows {
            rows.save(out)?;
        }
        // The heap's order among equals says nothing, so it is written as a list.
        let mut timers: Vec<_> = self.timers.iter().map(|Reverse(timer)| *timer).collect();
        timers.sort_unstable();
        out.put(&timers)?;
        out.put(&self.sharing)?;
        out.put(&self.dirty)?;
        self.clock.save(out)?;
        out.put(&self.watermark)?;
        out.put(&self.now)?;
        out.put(&self.published_rows)
    }

    pub(super) fn restore_sessions(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.partitions.restore(from)?;
        self.output.restore(from)?;
        if let Some(rows) = &mut self.rows {
            rows.restore(from)?;
        }
        let timers: Vec<(i64, usize, u64)> = from.get()?;
        self.timers = timers.into_iter().map(Reverse).collect();
        self.sharing = from.get()?;
        self.dirty = from.get()?;
        self.clock.restore(from)?;
        self.watermark = from.get()?;
        self.output.stand_at(self.watermark, self.watermark);
        self.now = from.get()?;
        self.published_rows = from.get()?;
        Ok(())
    }
}

impl Stored for Published {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.rows.store(out)?;
        self.is_final.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(Published { rows: from.get()?, is_final: from.get()? })
    }
}

impl Stored for PartitionState {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.length(self.sessions.all().len());
        self.sessions.all().iter().try_for_each(|session| session.rows.store(out))?;
        self.published.store(out)?;
        self.gone.store(out)?;
        self.counts.store(out)?;
        self.due.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let sessions = (0..from.length()?).map(|_| Ok(Session { rows: from.get()? }));
        let sessions = Sessions::of(sessions.collect::<Result<_, EvalError>>()?);
        Ok(PartitionState {
            sessions,
            published: from.get()?,
            gone: from.get()?,
            counts: from.get()?,
            due: from.get()?,
        })
    }
}
