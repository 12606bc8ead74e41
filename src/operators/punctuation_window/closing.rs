//! Closes windows: those of a partition, and those that time ends.

use super::{PunctuationWindow, version};
use crate::time::EventTime;
use crate::windows::punctuate::{Delimited, Reason};

impl PunctuationWindow {
    pub(super) fn settle(&mut self, slot: usize, birth: u64, closed: Delimited, now: i64) {
        for window in closed.windows {
            let name = (birth, slot, window.id);
            self.early.finish(name, now, version(window), &mut self.output);
        }
        for id in closed.discarded {
            self.early.give_up((birth, slot, id), now, &mut self.output);
        }
        self.output.release(closed.released);
    }

    /// Keeps the partition's entry in `expiries` in step with its open window.
    pub(super) fn arm_expiry(&mut self, slot: usize) {
        let entry = self.partitions.entry_mut(slot);
        let expiry = entry.state.delimiter.expiry(&self.spec.window);
        let armed = std::mem::replace(&mut entry.state.expiry, expiry);
        if expiry == armed {
            return;
        }
        if let Some(armed) = armed {
            self.expiries.remove(&(armed, entry.birth, slot));
        }
        if let Some(expiry) = expiry {
            self.expiries.insert((expiry, entry.birth, slot));
        }
    }

    /// Closes the windows to which no row can come under this watermark any more, but late ones.
    pub(super) fn advance_watermark(&mut self, watermark: EventTime) {
        let passed = watermark.minus(self.spec.emit.allowed_lateness).0;
        while let Some(&(expiry, birth, slot)) = self.expiries.first()
            && expiry <= passed
        {
            let mut closed = Delimited::default();
            let delimiter = &mut self.partitions.entry_mut(slot).state.delimiter;
            delimiter.close(&self.spec.window, Reason::MaxDuration, &mut closed);
            self.arm_expiry(slot);
            self.settle(slot, birth, closed, self.now);
        }
    }

    /// Closes the windows that fell idle before `now`, and moves processing time there.
    pub(super) fn advance_time(&mut self, now: i64) {
        while let Some(&(deadline, birth, slot)) = self.deadlines.first()
            && deadline < now
        {
            self.deadlines.pop_first();
            if self.partitions.get_born(slot, birth).is_none() {
                continue;
            }
            let state = &mut self.partitions.entry_mut(slot).state;
            state.armed = false;
            let Some(due) = state.delimiter.deadline(&self.spec.window) else { continue };
            if due > deadline {
                state.armed = true;
                self.deadlines.insert((due, birth, slot));
                continue;
            }
            let mut closed = Delimited::default();
            state.delimiter.close(&self.spec.window, Reason::Idle, &mut closed);
            self.arm_expiry(slot);
            self.settle(slot, birth, closed, due);
        }
        if self.clock.passes(now) {
            self.put_out_dirty();
        }
        self.now = self.now.max(now);
    }
}
