//! Keeps a query's (or table's) changes as a log: what a step put out is one frame, whole or not at all.
//!
//! Behind the visible columns a frame may hold two hidden ones, each there or not for the whole log:
//! `__weight` (+n or −n; only where rows can be retracted) and `__arrival` (the row's own stream's
//! watermark when it arrived; only where rows of a watermarked stream pass through one by one, so that a
//! query above still judges lateness row by row).
//!
//! The frame's meta holds the watermark after the frame and the [`Frontier`]: up to where each input
//! had been read. After a restart the query replays and stops at exactly these frontiers, so it
//! regenerates the same entries, and skips those that are here already.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use crate::data::change::{Change, Marks};
use crate::error::{Error, Result, SqlState};
use crate::log::frame::{Frame, FrameKind, Frames, NewFrame, Position};
use crate::log::log::{Appended, Log};

const WEIGHT: &str = "__weight";
const ARRIVAL: &str = "__arrival";

/// How far each input of a query had been read, in the order of the plan's sources.
pub type Frontier = Vec<Position>;

/// A log of changes.
#[derive(Debug)]
pub struct Changelog {
    log: Arc<Log>,
    visible: SchemaRef,
    layout: Layout,
}

/// Which hidden columns a changelog has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Rows can be retracted.
    pub weights: bool,
    /// Rows carry the watermark that they arrived under.
    pub arrivals: bool,
}

/// The rows of one entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Offset of the first row.
    pub first_offset: u64,
    /// Visible columns.
    pub batch: RecordBatch,
    /// Weight per row; `None`: all +1.
    pub weights: Option<Int64Array>,
    /// Arrival watermark per row; `None`: rows are never late.
    pub arrivals: Option<Int64Array>,
}

/// What an entry says beside its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryMeta {
    /// The query's watermark after the entry.
    pub watermark: i64,
    /// How far its inputs had been read.
    pub frontier: Frontier,
}

impl EntryMeta {
    /// Little-endian: watermark, then frame and offset per input.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.watermark.to_le_bytes().to_vec();
        for position in &self.frontier {
            bytes.extend(position.frame.to_le_bytes());
            bytes.extend(position.offset.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`EntryMeta::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<EntryMeta> {
        let word = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        if bytes.len() < 8 || !(bytes.len() - 8).is_multiple_of(16) {
            return None;
        }
        let watermark = i64::from_le_bytes(bytes[..8].try_into().ok()?);
        let frontier = (8..bytes.len())
            .step_by(16)
            .map(|at| Some(Position { frame: word(at)?, offset: word(at + 8)? }))
            .collect::<Option<_>>()?;
        Some(EntryMeta { watermark, frontier })
    }
}

impl Layout {
    /// The log's schema for these visible columns.
    pub fn log_schema(self, visible: &Schema) -> SchemaRef {
        let mut fields: Vec<Field> =
            visible.fields().iter().map(|field| Field::clone(field).with_nullable(true)).collect();
        if self.weights {
            fields.push(Field::new(WEIGHT, DataType::Int64, false));
        }
        if self.arrivals {
            fields.push(Field::new(ARRIVAL, DataType::Int64, false));
        }
        Arc::new(Schema::new(fields))
    }
}

impl Changelog {
    /// Wraps a log whose schema is `layout.log_schema(visible)`.
    pub fn new(log: Arc<Log>, visible: SchemaRef, layout: Layout) -> Changelog {
        Changelog { log, visible, layout }
    }

    /// The log underneath.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The visible columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.visible
    }

    /// Whether no row is ever retracted.
    pub fn append_only(&self) -> bool {
        !self.layout.weights
    }

    /// Turns what a step put out into one frame.
    ///
    /// # Errors
    /// When batches do not fit together, which is a broken invariant.
    pub fn frame(&self, changes: &[Change], before: i64, meta: &EntryMeta) -> Result<NewFrame> {
        let schema = self.layout.log_schema(&self.visible);
        let batches = changes
            .iter()
            .map(|change| self.columns(change, &schema))
            .collect::<Result<Vec<_>>>()?;
        let batch = concat_batches(&schema, &batches).map_err(broken)?;
        Ok(NewFrame {
            kind: FrameKind::Rows,
            batch: Some(batch),
            watermark: before,
            meta: meta.encode(),
        })
    }

    /// A frame that only says how far the query has come.
    pub fn progress(meta: &EntryMeta) -> NewFrame {
        NewFrame {
            kind: FrameKind::Progress,
            batch: None,
            watermark: meta.watermark,
            meta: meta.encode(),
        }
    }

    fn columns(&self, change: &Change, schema: &SchemaRef) -> Result<RecordBatch> {
        let change = &unit_weights(change).map_err(broken)?;
        let rows = change.batch.num_rows();
        let mut columns: Vec<ArrayRef> = change.batch.columns().to_vec();
        if self.layout.weights {
            columns.push(match &change.weights {
                Some(weights) => Arc::new(weights.clone()),
                None => Arc::new(Int64Array::from_value(1, rows)),
            });
        }
        if self.layout.arrivals {
            let marks = (0..rows).map(|row| change.arrival(row).0);
            columns.push(Arc::new(Int64Array::from_iter_values(marks)));
        }
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(broken)
    }

    /// Appends frames, durably if `sync`.
    pub fn append(&self, frames: Vec<NewFrame>, sync: bool) -> Result<Appended> {
        Ok(self.log.append(frames, sync)?)
    }

    /// Reads frames from a position on.
    pub fn read(&self, from: Position, max_rows: usize) -> Result<Frames> {
        Ok(self.log.read(from, max_rows)?)
    }

    /// The rows of a frame; `None` for control records.
    pub fn entry(&self, frame: &Frame) -> Option<Entry> {
        let batch = frame.batch.as_ref()?;
        let width = self.visible.fields().len();
        let hidden = |index: usize| -> Int64Array {
            batch.column(index).as_primitive::<Int64Type>().clone()
        };
        let weights = self.layout.weights.then(|| hidden(width));
        let arrivals =
            self.layout.arrivals.then(|| hidden(width + usize::from(self.layout.weights)));
        let columns = batch.columns()[..width].to_vec();
        let options =
            arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let schema = self.layout.log_schema(&self.visible).project(&(0..width).collect::<Vec<_>>());
        let schema = Arc::new(schema.expect("the visible columns come first"));
        let visible = RecordBatch::try_new_with_options(schema, columns, &options)
            .expect("the columns are those of the log's schema");
        Some(Entry { first_offset: frame.first_offset, batch: visible, weights, arrivals })
    }
}

impl Entry {
    /// The entry's rows from `offset` on; `None` when none is left.
    pub fn from_offset(self, offset: u64) -> Option<Entry> {
        let rows = self.batch.num_rows();
        let skip = usize::try_from(offset.saturating_sub(self.first_offset)).ok()?;
        if skip == 0 {
            return Some(self);
        }
        if skip >= rows {
            return None;
        }
        Some(Entry {
            first_offset: offset,
            batch: self.batch.slice(skip, rows - skip),
            weights: self.weights.map(|weights| weights.slice(skip, rows - skip)),
            arrivals: self.arrivals.map(|arrivals| arrivals.slice(skip, rows - skip)),
        })
    }

    /// The arrival watermarks as marks.
    pub fn arrival_marks(&self) -> Marks {
        match &self.arrivals {
            None => Marks::All(i64::MIN),
            Some(arrivals) => Marks::Rows(arrivals.values().clone()),
        }
    }
}

/// The same change with weights of +1 and −1 only: a row of weight n stands there n times.
fn unit_weights(change: &Change) -> Result<Change, arrow::error::ArrowError> {
    let Some(weights) = &change.weights else { return Ok(change.clone()) };
    if weights.values().iter().all(|weight| weight.abs() == 1) {
        return Ok(change.clone());
    }
    let repeated =
        weights.values().iter().enumerate().flat_map(|(row, weight)| {
            std::iter::repeat_n(row as u32, weight.unsigned_abs() as usize)
        });
    let indices = arrow::array::UInt32Array::from_iter_values(repeated);
    let mut change = change.take(&indices)?;
    let signs =
        change.weights.iter().flat_map(|weights| weights.values().iter().map(|w| w.signum()));
    change.weights = Some(Int64Array::from_iter_values(signs));
    Ok(change)
}

fn broken(error: arrow::error::ArrowError) -> Error {
    Error::new(SqlState::INTERNAL, format!("changelog entry cannot be built: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meta_of_an_entry_round_trips() {
        let meta = EntryMeta {
            watermark: -5,
            frontier: vec![Position { frame: 1, offset: 2 }, Position { frame: 3, offset: 4 }],
        };
        assert_eq!(EntryMeta::decode(&meta.encode()), Some(meta.clone()));
        for cut in 0..meta.encode().len() {
            let decoded = EntryMeta::decode(&meta.encode()[..cut]);
            assert!(decoded.is_none_or(|other| other != meta));
        }
    }
}
