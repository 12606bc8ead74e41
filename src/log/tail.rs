//! Holds the newest frames in memory, so that readers who keep up share them without decoding.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::log::frame::{Frame, Frames};

/// Bytes that a frame takes besides its meta and rows, roughly.
const FRAME_BYTES: usize = 256;

/// The newest visible frames, without holes up to the newest.
#[derive(Debug)]
pub(crate) struct Tail {
    frames: VecDeque<(Arc<Frame>, usize)>,
    bytes: usize,
    /// The oldest frames leave above this; `None` where the tail is the whole log.
    bytes_max: Option<usize>,
}

impl Tail {
    pub(crate) fn new(bytes_max: Option<usize>) -> Tail {
        Tail { frames: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub(crate) fn push(&mut self, frame: Arc<Frame>) {
        let rows = frame.batch.as_ref().map_or(0, |batch| batch.get_array_memory_size());
        let bytes = rows + frame.meta.len() + FRAME_BYTES;
        self.bytes += bytes;
        self.frames.push_back((frame, bytes));
        while self.bytes_max.is_some_and(|limit| self.bytes > limit) && self.pop().is_some() {}
    }

    /// Takes the oldest frame out.
    pub(crate) fn pop(&mut self) -> Option<Arc<Frame>> {
        let (frame, bytes) = self.frames.pop_front()?;
        self.bytes -= bytes;
        Some(frame)
    }

    pub(crate) fn oldest(&self) -> Option<&Arc<Frame>> {
        self.frames.front().map(|(frame, _)| frame)
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames from index `from` on until they have `rows_max` rows; `None` if it left the tail.
    pub(crate) fn read(&self, from: u64, rows_max: usize) -> Option<Frames> {
        let skipped = usize::try_from(from.checked_sub(self.oldest()?.index)?).ok()?;
        let mut budget = Budget::new(rows_max);
        let found = self.frames.range(skipped.min(self.frames.len())..);
        Some(
            found
                .map_while(|(frame, _)| budget.take(frame.rows()).then(|| Arc::clone(frame)))
                .collect(),
        )
    }

    /// The frame that holds the row at `offset`; `None` if it left the tail or is not there yet.
    pub(crate) fn holding(&self, offset: u64) -> Option<&Arc<Frame>> {
        if self.oldest()?.first_offset > offset {
            return None;
        }
        let passed = self.frames.partition_point(|(frame, _)| frame.next_offset() <= offset);
        self.frames.get(passed).map(|(frame, _)| frame)
    }
}

/// Ends a read once it has enough rows; a control record counts as one.
pub(crate) struct Budget {
    rows_left: u64,
    any: bool,
}

impl Budget {
    pub(crate) fn new(rows_max: usize) -> Budget {
        Budget { rows_left: rows_max as u64, any: false }
    }

    /// Whether a frame of so many rows still belongs to the read; the first one always does.
    pub(crate) fn take(&mut self, rows: u64) -> bool {
        let rows = rows.max(1);
        let fits = !self.any || rows <= self.rows_left;
        self.any = true;
        self.rows_left = if fits { self.rows_left.saturating_sub(rows) } else { 0 };
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::frame::FrameKind;

    fn frame(index: u64) -> Arc<Frame> {
        Arc::new(Frame {
            kind: FrameKind::Tick,
            index,
            first_offset: 0,
            sequence: index + 1,
            ingest_time: 0,
            watermark: 0,
            meta: Vec::new(),
            batch: None,
            columns: None,
            passed_over: 0,
        })
    }

    #[test]
    fn the_oldest_frames_leave_when_the_tail_is_full() {
        let mut tail = Tail::new(Some(3 * FRAME_BYTES));
        assert!(tail.read(0, 10).is_none());
        for index in 0..10 {
            tail.push(frame(index));
        }
        assert_eq!((tail.len(), tail.oldest().map(|f| f.index)), (3, Some(7)));
        assert!(tail.read(6, 10).is_none());
        let read = |from, rows| -> Vec<u64> {
            tail.read(from, rows).unwrap().iter().map(|frame| frame.index).collect()
        };
        assert_eq!(read(7, 10), [7, 8, 9]);
        assert_eq!(read(8, 1), [8]);
        assert_eq!(read(8, 0), [8], "a read always makes progress");
        assert!(read(10, 10).is_empty());
    }
}
