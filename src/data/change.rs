//! Carries rows between operators: a batch of columns, a weight per row, and where each row came from.
//!
//! A change is a Z-set in columns: `+1` inserts a row, `-1` retracts an equal one. Where the planner
//! knows that an edge is append-only there are no weights at all.
//!
//! Each row also remembers its [`Origin`]: the frame of the log that brought it, and its position in
//! it. So an operator deep in a pipeline can judge lateness by *the row's own stream's* watermark at
//! the row's place in that log, and can name the row's offset when it has to drop it.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute;
use arrow::error::ArrowError;

use crate::time::EventTime;

/// One value per row, or one for all.
#[derive(Debug, Clone)]
pub enum Marks {
    /// The same value for every row.
    All(i64),
    /// Row by row.
    Rows(ScalarBuffer<i64>),
}

impl Marks {
    /// The value at `row`.
    pub fn at(&self, row: usize) -> i64 {
        match self {
            Marks::All(value) => *value,
            Marks::Rows(values) => values[row],
        }
    }
    /// The same, so far behind.
    pub fn held_back(&self, width: i64) -> Marks {
        let shift = |mark: i64| EventTime(mark).minus(width).0;
        match self {
            Marks::All(mark) => Marks::All(shift(*mark)),
            Marks::Rows(marks) => Marks::Rows(marks.iter().map(|mark| shift(*mark)).collect()),
        }
    }
}

/// The frame of a log that brought rows, as the rows' memory of it.
#[derive(Debug)]
pub struct Origin {
    /// Name of the stream, table or query whose log it was.
    pub relation: Arc<str>,
    /// Offset of the frame's first row; row `i` of the frame has `first_offset + i`.
    pub first_offset: u64,
    /// Processing time at which the frame was appended, microseconds.
    pub ingest_time: i64,
    /// Per row of the frame, its own stream's watermark just before the row.
    /// `i64::MIN` where rows cannot be late.
    pub arrival: Marks,
    /// Per row of the frame, the minimum of `arrival` and the watermarks of the query's other
    /// inputs: how far the query as a whole has come. Closing follows this one.
    pub progress: Marks,
    /// Whether an operator made the rows: they stand for no row of the frame, which only caused them,
    /// and their marks say which watermark made them due: the next one.
    pub derived: bool,
}

impl Origin {
    /// Whether rows of two changes that one frame led to are judged by the same watermarks.
    pub fn is_judged_as(&self, other: &Origin) -> bool {
        let same = |a: &Marks, b: &Marks| match (a, b) {
            (Marks::All(a), Marks::All(b)) => a == b,
            (Marks::Rows(a), Marks::Rows(b)) => a == b,
            _ => false,
        };
        std::ptr::eq(self, other)
            || (self.derived == other.derived
                && same(&self.arrival, &other.arrival)
                && same(&self.progress, &other.progress))
    }

    /// That of rows that come from no log.
    pub fn nowhere() -> Arc<Origin> {
        Arc::new(Origin {
            relation: Arc::from(""),
            first_offset: 0,
            ingest_time: 0,
            arrival: Marks::All(i64::MIN),
            progress: Marks::All(i64::MIN),
            derived: true,
        })
    }
}

/// The watermark of a log which one that trails it by so much stands for.
pub fn ahead(watermark: EventTime, trail: i64) -> EventTime {
    match watermark {
        EventTime::MIN => EventTime::MIN,
        EventTime(mark) => EventTime(mark.saturating_add(trail)),
    }
}

/// When a row of one log's frame came about, among all that the frame led to, whatever was made of it
/// on the way. It does not tell how the log was cut into frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Turn {
    /// The greatest watermark that did not make it due yet; of a row of the log, the one under which it
    /// arrived.
    pub mark: i64,
    /// What a watermark makes due comes after all rows that arrive under the one before.
    pub is_derived: bool,
    /// The row's offset, or 0.
    pub offset: u64,
}

/// Rows on their way through a pipeline.
#[derive(Debug, Clone)]
pub struct Change {
    /// The columns.
    pub batch: RecordBatch,
    /// Per row +n or −n; `None` on append-only edges, where every row is +1.
    pub weights: Option<Int64Array>,
    /// The frame that the rows came from.
    pub origin: Arc<Origin>,
    /// For each row its position in the frame; `None`: row `i` is the frame's row `i`.
    pub rows: Option<UInt32Array>,
}

impl Change {
    /// Rows that an operator made: they belong to no log position and are never late.
    pub fn derived(batch: RecordBatch, weights: Option<Int64Array>, cause: &Origin) -> Change {
        Change::due(batch, weights, cause, Marks::All(i64::MIN))
    }

    /// Rows that an operator made; the mark of each is the greatest watermark that did not make it due yet,
    /// under which it goes on. However far a watermark jumps, an operator above that takes rows at their
    /// marks does so as if it had come step by step.
    pub fn due(
        batch: RecordBatch,
        weights: Option<Int64Array>,
        cause: &Origin,
        marks: Marks,
    ) -> Change {
        let origin = Origin {
            relation: Arc::clone(&cause.relation),
            first_offset: cause.first_offset,
            ingest_time: cause.ingest_time,
            progress: marks.clone(),
            arrival: marks,
            derived: true,
        };
        Change { batch, weights, origin: Arc::new(origin), rows: None }
    }

    /// Where the marks of row `row` stand; of rows of a log, their position in the frame.
    pub fn place(&self, row: usize) -> usize {
        self.rows.as_ref().map_or(row, |rows| rows.value(row) as usize)
    }

    /// The offset of row `row` in its log; of derived rows, that of the frame which caused them.
    pub fn offset(&self, row: usize) -> u64 {
        let place = if self.origin.derived { 0 } else { self.place(row) as u64 };
        self.origin.first_offset + place
    }

    /// When row `row` came about, where its marks trail those of the log by so much.
    pub fn turn(&self, row: usize, trail: i64) -> Turn {
        let is_derived = self.origin.derived;
        let offset = if is_derived { 0 } else { self.offset(row) };
        Turn { mark: ahead(self.arrival(row), trail).0, is_derived, offset }
    }

    /// The row's own stream's watermark when it arrived.
    pub fn arrival(&self, row: usize) -> EventTime {
        EventTime(self.origin.arrival.at(self.place(row)))
    }

    /// The watermark of the whole query when the row arrived.
    pub fn progress(&self, row: usize) -> EventTime {
        EventTime(self.origin.progress.at(self.place(row)))
    }

    /// The weight of row `row`.
    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights.value(row))
    }

    /// The same rows with other columns; `batch` has as many rows as before.
    pub fn with_batch(&self, batch: RecordBatch) -> Change {
        assert_eq!(batch.num_rows(), self.batch.num_rows());
        Change {
            batch,
            weights: self.weights.clone(),
            origin: Arc::clone(&self.origin),
            rows: self.rows.clone(),
        }
    }

    /// The rows for which `keep` is true; null counts as false.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Change, ArrowError> {
        let kept = keep.true_count();
        if kept == self.batch.num_rows() {
            return Ok(self.clone());
        }
        let positions = match &self.rows {
            Some(rows) => compute::filter(rows, keep)?,
            None => {
                let all = UInt32Array::from_iter_values(0..self.batch.num_rows() as u32);
                compute::filter(&all, keep)?
            }
        };
        let weights = match &self.weights {
            Some(weights) => Some(
                compute::filter(weights, keep)?
                    .as_any()
                    .downcast_ref::<Int64Array>()
                    .expect("filter keeps the type")
                    .clone(),
            ),
            None => None,
        };
        Ok(Change {
            batch: compute::filter_record_batch(&self.batch, keep)?,
            weights,
            origin: Arc::clone(&self.origin),
            rows: Some(
                positions
                    .as_any()
                    .downcast_ref::<UInt32Array>()
                    .expect("filter keeps the type")
                    .clone(),
            ),
        })
    }

    /// The rows at `indices`, in that order; a row may be taken several times.
    pub fn take(&self, indices: &UInt32Array) -> Result<Change, ArrowError> {
        let rows = UInt32Array::from_iter_values(
            indices.values().iter().map(|&i| self.place(i as usize) as u32),
        );
        let weights = self.weights.as_ref().map(|w| {
            Int64Array::from_iter_values(indices.values().iter().map(|&i| w.value(i as usize)))
        });
        let columns = self.batch.columns().iter().map(|c| compute::take(c, indices, None));
        // A batch without columns still has rows.
        let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
        let columns = columns.collect::<Result<_, _>>()?;
        Ok(Change {
            batch: RecordBatch::try_new_with_options(self.batch.schema(), columns, &options)?,
            weights,
            origin: Arc::clone(&self.origin),
            rows: Some(rows),
        })
    }

    /// `length` rows from `start` on, without copying.
    pub fn slice(&self, start: usize, length: usize) -> Change {
        let rows = match &self.rows {
            Some(rows) => rows.slice(start, length),
            None => UInt32Array::from_iter_values(start as u32..(start + length) as u32),
        };
        Change {
            batch: self.batch.slice(start, length),
            weights: self.weights.as_ref().map(|w| w.slice(start, length)),
            origin: Arc::clone(&self.origin),
            rows: Some(rows),
        }
    }
}
