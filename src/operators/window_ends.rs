//! Remembers which partitions go with which window, for operators over rows of windows below them: what a
//! partition answers is final once the watermark has passed its window's end.
//!
//! # State
//! Per partition of an open window: end, slot and birth.

use std::collections::BTreeMap;

use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};
use crate::time::EventTime;

/// Partitions, as slot and birth, by the end of their windows.
#[derive(Debug, Default)]
pub struct WindowEnds {
    partitions: BTreeMap<i64, Vec<(usize, u64)>>,
}

impl WindowEnds {
    /// Notes the end of a partition's window.
    pub fn note(&mut self, end: i64, slot: usize, birth: u64) {
        self.partitions.entry(end).or_default().push((slot, birth));
    }

    /// Takes out the partitions whose windows end first, with that end, if it is at or below a watermark
    /// that is `delay` ahead of what it closes; at the end of time all are.
    pub fn take_due(
        &mut self,
        watermark: EventTime,
        delay: i64,
    ) -> Option<(i64, Vec<(usize, u64)>)> {
        let until = (watermark != EventTime::MAX).then(|| watermark.minus(delay).0);
        let first = self.partitions.first_entry()?;
        until.is_none_or(|until| *first.key() <= until).then(|| first.remove_entry())
    }

    /// Bytes of state.
    pub fn state_bytes(&self) -> usize {
        let partitions: usize = self.partitions.values().map(Vec::len).sum();
        partitions * size_of::<(i64, usize, u64)>()
    }
}

impl Stored for WindowEnds {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.partitions.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(WindowEnds { partitions: from.get()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_come_out_with_their_windows_and_all_at_the_end() {
        let mut ends = WindowEnds::default();
        for (end, slot) in [(20, 1), (10, 2), (20, 3), (30, 4)] {
            ends.note(end, slot, 7);
        }
        let mut due = |watermark| ends.take_due(watermark, 5);
        assert_eq!(due(EventTime(24)), Some((10, vec![(2, 7)])));
        assert_eq!(due(EventTime(24)), None);
        assert_eq!(due(EventTime(25)), Some((20, vec![(1, 7), (3, 7)])));
        assert_eq!(due(EventTime(25)), None);
        assert_eq!(due(EventTime::MAX), Some((30, vec![(4, 7)])));
        assert_eq!(ends.state_bytes(), 0);
    }
}
