//! Says what a log holds: frames, each a batch of rows or a control record, in one order.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Rows.
    Rows = 0,
    /// A punctuation; its JSON text is in `meta`.
    Punctuation = 1,
    /// Processing time has passed; moves timers and idle watermarks.
    Tick = 2,
    /// The watermark or the frontier of a query has moved without rows.
    Progress = 3,
    /// Offsets are passed over: no row has them any more, nor ever will.
    Void = 4,
}

/// A frame before it has its place in the log.
#[derive(Debug, Clone)]
pub struct NewFrame {
    /// What it is.
    pub kind: FrameKind,
    /// The rows, in the log's schema; `None` for control records.
    pub batch: Option<RecordBatch>,
    /// The relation's watermark just before the frame's first row (`i64::MIN`: none yet); for
    /// control records the watermark that they establish.
    pub watermark: i64,
    /// Whatever the log's owner wants to keep with the frame (frontier, punctuation, producer).
    pub meta: Vec<u8>,
    /// Offsets that no row will have; 0 unless the kind is [`FrameKind::Void`].
    pub passed_over: u32,
}

impl NewFrame {
    /// Rows, before which the relation's watermark stood at `watermark`.
    pub fn rows(batch: RecordBatch, watermark: i64) -> NewFrame {
        let meta = Vec::new();
        NewFrame { kind: FrameKind::Rows, batch: Some(batch), watermark, meta, passed_over: 0 }
    }

    /// A control record that establishes `watermark`.
    pub fn control(kind: FrameKind, watermark: i64, meta: Vec<u8>) -> NewFrame {
        NewFrame { kind, batch: None, watermark, meta, passed_over: 0 }
    }

    /// Passes over so many offsets.
    pub fn void(passed_over: u32, watermark: i64, meta: Vec<u8>) -> NewFrame {
        NewFrame { kind: FrameKind::Void, batch: None, watermark, meta, passed_over }
    }

    /// Offsets that it takes.
    pub fn offsets(&self) -> u64 {
        let rows = self.batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
        rows + u64::from(self.passed_over)
    }
}

/// A frame in the log.
#[derive(Debug)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// Position among all frames of this log, from 0, control records included.
    pub index: u64,
    /// Offset of the first row; for control records the offset of the next row to come.
    pub first_offset: u64,
    /// Place in the one order over all logs of the server; strictly increasing.
    pub sequence: u64,
    /// Processing time of the append, microseconds; never goes back along `sequence`.
    pub ingest_time: i64,
    /// See [`NewFrame::watermark`].
    pub watermark: i64,
    /// See [`NewFrame::meta`].
    pub meta: Vec<u8>,
    /// The rows.
    pub batch: Option<RecordBatch>,
    /// The log's columns that `batch` holds, ascending; `None`: all of them.
    pub columns: Option<Arc<[usize]>>,
    /// See [`NewFrame::passed_over`].
    pub passed_over: u32,
}

impl Frame {
    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.batch.as_ref().map_or(0, |batch| batch.num_rows() as u64)
    }
    /// The place in `batch` of a column of the log.
    ///
    /// # Panics
    /// If the frame was read without that column.
    pub fn place_of(&self, column: usize) -> usize {
        self.columns.as_ref().map_or(column, |columns| {
            columns
                .binary_search(&column)
                .expect("the frame was read with all columns that are needed")
        })
    }
    /// Offset of the row after the last one.
    pub fn next_offset(&self) -> u64 {
        self.first_offset + self.rows() + u64::from(self.passed_over)
    }
}

/// A place between two frames of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Index of the next frame.
    pub frame: u64,
    /// Offset of the next row.
    pub offset: u64,
}

/// Frames read from a log, shared with every other reader.
pub type Frames = Vec<Arc<Frame>>;
