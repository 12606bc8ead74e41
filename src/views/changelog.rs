//! Keeps a query's (or table's) changes as a log: what a step put out is one frame, whole or not at all.
//!
//! Behind the visible columns a frame may hold two hidden ones, each there or not for the whole log:
//! `__weight` (+n or −n; only where rows can be retracted) and `__arrival` (the row's own stream's
//! watermark when it arrived; only where rows of a watermarked stream pass through one by one, so that a
//! query above still judges lateness row by row).
//!
//! A log without `__weight` can still hold retractions, after its query was replaced by another: their
//! frames carry the signs of their rows in the meta.
//!
//! The frame's meta holds the watermark after the frame and the [`Frontier`]: up to where each input
//! had been read. After a restart the query replays and stops at exactly these frontiers, so it
//! regenerates the same entries, and skips those that are here already. Where entries that were seen may be
//! gone, a void frame passes over their offsets ([`crate::views::epochs`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use parking_lot::RwLock;

use crate::data::change::{Change, Marks};
use crate::error::{Error, Result, SqlState};
use crate::fault;
use crate::log::frame::{Frame, FrameKind, Frames, NewFrame, Position};
use crate::log::log::{Appended, Log};
use crate::views::entry_meta::{EntryMeta, append_signs, new_level, split_signs};
use crate::views::epochs::Epochs;

/// Rows read from a log at a time.
const READ_ROWS: usize = 65_536;
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
    /// Some frame carries signs.
    signed: AtomicBool,
    /// Some entry says how many rows its query keeps from there on.
    adapts: AtomicBool,
    /// What the newest of them says.
    level: AtomicU8,
    /// What stands for the entries that retention has removed.
    kept: RwLock<Option<Kept>>,
    pub(super) epochs: Epochs,
}

/// The result as it stood at a position of a changelog, in a log of its own.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The position.
    pub at: Position,
    log: Arc<Log>,
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

impl Kept {
    /// A result whose rows are in a log with the visible columns.
    pub fn new(at: Position, log: Arc<Log>) -> Kept {
        Kept { at, log }
    }

    /// Its rows.
    ///
    /// # Errors
    /// The log's.
    pub fn batches(&self) -> Result<Vec<RecordBatch>> {
        let mut position = self.log.start();
        let mut batches = Vec::new();
        while position.frame < self.log.visible().frame {
            let frames = self.log.read(position, READ_ROWS)?;
            let Some(last) = frames.last() else { break };
            position = Position { frame: last.index + 1, offset: last.next_offset() };
            batches.extend(frames.iter().filter_map(|frame| frame.batch.clone()));
        }
        Ok(batches)
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
        let (signed, kept) = (AtomicBool::new(false), RwLock::new(None));
        let (adapts, level) = (AtomicBool::new(false), AtomicU8::new(0));
        let epochs = Epochs::default();
        Changelog { log, visible, layout, signed, adapts, level, kept, epochs }
    }

    /// The log underneath.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The visible columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.visible
    }

    /// Which hidden columns there are.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether no row was ever retracted, nor ever will be unless its query is replaced.
    pub fn append_only(&self) -> bool {
        !self.layout.weights && !self.signed.load(Ordering::Acquire)
    }

    /// What stands for the entries that retention has removed, if it has removed any.
    pub fn kept(&self) -> Option<Kept> {
        self.kept.read().clone()
    }

    /// From here on `kept` stands for everything before its position.
    pub fn keep(&self, kept: Kept) {
        *self.kept.write() = Some(kept);
    }

    /// Where the entries begin that `kept` does not stand for.
    pub fn start(&self) -> Position {
        self.kept().map_or_else(|| self.log.start(), |kept| kept.at)
    }

    /// Learns from the meta of a stored frame whether there are signs, and a new level.
    pub fn note(&self, meta: &[u8]) {
        if split_signs(meta).is_some() {
            self.signed.store(true, Ordering::Release);
        }
        new_level(meta).into_iter().for_each(|level| self.note_level(level));
    }

    /// Learns how many rows the query keeps from now on.
    pub fn note_level(&self, level: u8) {
        self.level.store(level, Ordering::Release);
        self.adapts.store(true, Ordering::Release);
    }

    /// How many rows the query keeps of those that it reads next.
    pub fn level(&self) -> u8 {
        self.level.load(Ordering::Acquire)
    }

    /// Whether the query has ever kept less than all rows, as far as that is known.
    pub fn adapts(&self) -> bool {
        self.adapts.load(Ordering::Acquire)
    }

    /// Whether some entry has signs.
    pub fn is_signed(&self) -> bool {
        self.signed.load(Ordering::Acquire)
    }

    /// Learns the same of entries that are not looked at again.
    pub fn note_signed(&self, signed: bool) {
        self.signed.fetch_or(signed, Ordering::AcqRel);
    }

    /// Turns what a step put out into one frame.
    ///
    /// # Errors
    /// When batches do not fit together, which is a broken invariant.
    pub fn frame(&self, changes: &[Change], before: i64, meta: &EntryMeta) -> Result<NewFrame> {
        let schema = self.layout.log_schema(&self.visible);
        let units = changes.iter().map(unit_weights).collect::<Result<Vec<_>, _>>();
        let units = units.map_err(broken)?;
        let batches =
            units.iter().map(|unit| self.columns(unit, &schema)).collect::<Result<Vec<_>>>()?;
        let batch = concat_batches(&schema, &batches).map_err(broken)?;
        let mut meta = meta.encode();
        let retracted =
            |unit: &Change, row| unit.weights.as_ref().is_some_and(|w| w.value(row) < 0);
        if !self.layout.weights && units.iter().any(|unit| unit.weights.is_some()) {
            let rows = |unit: &Change| 0..unit.batch.num_rows();
            let signs: Vec<bool> =
                units.iter().flat_map(|u| rows(u).map(move |row| retracted(u, row))).collect();
            if signs.contains(&true) {
                append_signs(&mut meta, &signs);
                self.signed.store(true, Ordering::Release);
            }
        }
        Ok(NewFrame { meta, ..NewFrame::rows(batch, before) })
    }

    /// A frame that only says how far the query has come.
    pub fn progress(meta: &EntryMeta) -> NewFrame {
        NewFrame::control(FrameKind::Progress, meta.watermark, meta.encode())
    }

    fn columns(&self, change: &Change, schema: &SchemaRef) -> Result<RecordBatch> {
        let rows = change.batch.num_rows();
        let mut columns: Vec<ArrayRef> = change.batch.columns().to_vec();
        if self.layout.weights {
            columns.push(match &change.weights {
                Some(weights) => Arc::new(weights.clone()),
                None => Arc::new(Int64Array::from_value(1, rows)),
            });
        }
        if self.layout.arrivals {
            // Derived rows are never late: what counts is how far the query had come.
            let marks = (0..rows).map(|row| match change.origin.derived {
                true => change.progress(row).0,
                false => change.arrival(row).0,
            });
            columns.push(Arc::new(Int64Array::from_iter_values(marks)));
        }
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(broken)
    }

    /// Appends frames, durably if `sync`.
    pub fn append(&self, frames: Vec<NewFrame>, sync: bool) -> Result<Appended> {
        self.stay_below_the_ceiling(&frames)?;
        fault::at("changelog.append", self.log.name());
        let appended = self.log.append(frames, sync)?;
        fault::at("changelog.appended", self.log.name());
        Ok(appended)
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
        let weights = match self.layout.weights {
            true => Some(hidden(width)),
            false => split_signs(&frame.meta).map(|(_, weights)| weights),
        };
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

    /// The weight of a row.
    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights.value(row))
    }

    /// The arrival watermarks as marks.
    pub fn arrival_marks(&self) -> Marks {
        match &self.arrivals {
            None => Marks::All(i64::MIN),
            Some(arrivals) => Marks::Rows(arrivals.values().clone()),
        }
    }
}

/// The rows of a change, each as often as its weight says.
///
/// # Errors
/// A broken invariant.
pub fn repeated(change: &Change) -> Result<RecordBatch> {
    Ok(unit_weights(change).map_err(broken)?.batch)
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
