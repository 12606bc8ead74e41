//! Reads a relation's log frame by frame and makes changes of it, as one source of a plan sees them.
//!
//! Here, and only here, lateness is judged: against the row's own stream's watermark at its place in the
//! log, a running maximum inside the frame. So no answer depends on how rows were cut into frames or
//! on what other inputs did.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::array::{RecordBatchOptions, TimestampMicrosecondArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::SchemaRef;

use crate::catalog::definition::{StreamDefinition, Watermark};
use crate::data::change::{Change, Marks, Origin};
use crate::error::{Error, Result, SqlState};
use crate::log::frame::{Frame, Frames, Position};
use crate::log::log::Log;
use crate::planner::physical::SourceSpec;
use crate::views::changelog::Changelog;
use crate::views::entry_meta::EntryMeta;
use crate::windows::columns;

/// A log that a plan can read.
#[derive(Debug, Clone)]
pub enum Readable {
    /// A stream's.
    Stream(Arc<StreamDefinition>, Arc<Log>),
    /// A query's or a table's.
    Changelog(Arc<Changelog>),
}

impl Readable {
    /// The log itself.
    pub fn log(&self) -> &Arc<Log> {
        match self {
            Readable::Stream(_, log) => log,
            Readable::Changelog(changelog) => changelog.log(),
        }
    }
}

/// Rows read from a log at a time.
const READ_ROWS: usize = 65_536;

/// Reads the frames of a source's log, with the columns that it needs.
#[derive(Debug, Clone)]
pub struct Reader {
    log: Arc<Log>,
    /// Columns of the log that changes are made of; `None`: all.
    needed: Option<Arc<[usize]>>,
}

impl Reader {
    /// Frames of the log from a position on, as [`Log::read`] gives them.
    pub fn read(&self, from: Position) -> Result<Frames> {
        Ok(self.log.read_columns(from, READ_ROWS, self.needed.as_ref())?)
    }
}

/// Makes changes of frames for one source of a plan.
#[derive(Debug)]
pub struct Source {
    spec: SourceSpec,
    readable: Readable,
    schema: SchemaRef,
    reader: Reader,
}

/// Event times as plain numbers: microseconds, or logical units.
pub fn event_times(column: &ArrayRef) -> Result<Int64Array> {
    columns::event_times(column).map_err(broken)
}

/// The watermark before each row, and after the last one, when it stands at `before` at first.
/// Unless marks are wanted for each row, rows that are not late share one.
pub fn arrival_marks(times: &Int64Array, bound: i64, before: i64, each_row: bool) -> (Marks, i64) {
    let mut mark = before;
    let mut any_late = false;
    for &time in times.values() {
        any_late |= time < mark;
        mark = mark.max(time.saturating_sub(bound));
    }
    if !any_late && !each_row {
        // Nothing is below the watermark, so nobody will ask where exactly it stood.
        return (Marks::All(before), mark);
    }
    let mut running = before;
    let marks: ScalarBuffer<i64> = times
        .values()
        .iter()
        .map(|&time| {
            let here = running;
            running = running.max(time.saturating_sub(bound));
            here
        })
        .collect();
    (Marks::Rows(marks), mark)
}

/// The watermark after a batch of a stream that stands at `before`.
pub fn watermark_after(batch: &RecordBatch, watermark: &Watermark, before: i64) -> Result<i64> {
    let times = event_times(batch.column(watermark.column))?;
    let highest = arrow::compute::max(&times).map(|time| time.saturating_sub(watermark.bound));
    Ok(highest.map_or(before, |highest| highest.max(before)))
}

impl Source {
    /// A source of a plan over the log of its relation.
    pub fn new(spec: SourceSpec, readable: Readable, full_schema: &SchemaRef) -> Result<Source> {
        let schema = Arc::new(full_schema.project(&spec.columns).map_err(broken)?);
        let log = Arc::clone(readable.log());
        let reader = Reader { log, needed: needed(&spec, &readable) };
        Ok(Source { spec, readable, schema, reader })
    }

    /// What reads the frames that [`Source::change`] takes.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The log.
    pub fn log(&self) -> &Arc<Log> {
        self.readable.log()
    }

    /// The relation's name.
    pub fn relation(&self) -> &Arc<str> {
        &self.spec.relation
    }

    /// Whether windows close by the clock, so that ticks are wanted while rows wait.
    pub fn processing_time(&self) -> bool {
        self.spec.processing_time
    }

    /// All visible columns of the rows of a frame that was read whole.
    pub fn visible_rows(&self, frame: &Frame) -> Option<RecordBatch> {
        match &self.readable {
            Readable::Stream(..) => frame.batch.clone(),
            Readable::Changelog(changelog) => changelog.entry(frame).map(|entry| entry.batch),
        }
    }

    /// The rows of a frame as a change, and the source's watermark after the frame.
    pub fn change(&self, frame: &Frame) -> Result<(Option<Change>, i64)> {
        match &self.readable {
            Readable::Stream(definition, _) => self.stream_change(definition, frame),
            Readable::Changelog(changelog) => self.changelog_change(changelog, frame),
        }
    }

    fn stream_change(
        &self,
        definition: &StreamDefinition,
        frame: &Frame,
    ) -> Result<(Option<Change>, i64)> {
        let Some(batch) = &frame.batch else {
            let now =
                if definition.watermark.is_none() { frame.ingest_time } else { frame.watermark };
            return Ok((None, now));
        };
        let (arrival, after) = match &definition.watermark {
            None => (Marks::All(i64::MIN), frame.ingest_time),
            Some(watermark) => {
                let times = event_times(batch.column(frame.place_of(watermark.column)))?;
                arrival_marks(&times, watermark.bound, frame.watermark, self.spec.row_marks)
            }
        };
        let columns = self
            .spec
            .columns
            .iter()
            .map(|&column| stream_column(definition, batch, frame, column, &arrival))
            .collect::<Result<Vec<_>>>()?;
        let change = Change {
            batch: self.batch(columns, batch.num_rows())?,
            weights: None,
            origin: self.origin(frame, arrival),
            rows: None,
        };
        Ok((Some(change), after))
    }

    fn changelog_change(
        &self,
        changelog: &Changelog,
        frame: &Frame,
    ) -> Result<(Option<Change>, i64)> {
        let after = EntryMeta::decode(&frame.meta).map_or(i64::MIN, |meta| meta.watermark);
        let Some(entry) = changelog.entry(frame) else { return Ok((None, after)) };
        let columns =
            self.spec.columns.iter().map(|&c| Arc::clone(entry.batch.column(c))).collect();
        let change = Change {
            batch: self.batch(columns, entry.batch.num_rows())?,
            origin: self.origin(frame, entry.arrival_marks()),
            weights: entry.weights,
            rows: None,
        };
        Ok((Some(change), after))
    }

    fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(broken)
    }

    fn origin(&self, frame: &Frame, arrival: Marks) -> Arc<Origin> {
        Arc::new(Origin {
            relation: Arc::clone(&self.spec.relation),
            first_offset: frame.first_offset,
            ingest_time: frame.ingest_time,
            progress: arrival.clone(),
            arrival,
            derived: false,
        })
    }
}

/// The columns of a stream's log that a source needs, with the one that moves its watermark. Changelogs are
/// read whole: their columns are what somebody asked for.
fn needed(spec: &SourceSpec, readable: &Readable) -> Option<Arc<[usize]>> {
    let Readable::Stream(definition, _) = readable else { return None };
    let visible = definition.schema.fields().len();
    let watermark = definition.watermark.iter().map(|watermark| watermark.column);
    let columns: BTreeSet<usize> =
        spec.columns.iter().copied().filter(|&column| column < visible).chain(watermark).collect();
    (columns.len() < visible).then(|| columns.into_iter().collect())
}

/// Visible column, or one of the hidden ones behind them.
fn stream_column(
    definition: &StreamDefinition,
    batch: &RecordBatch,
    frame: &Frame,
    column: usize,
    arrival: &Marks,
) -> Result<ArrayRef> {
    let (visible, rows) = (definition.schema.fields().len(), batch.num_rows());
    if column < visible {
        return Ok(Arc::clone(batch.column(frame.place_of(column))));
    }
    Ok(match column - visible {
        0 => {
            let first = frame.first_offset as i64;
            Arc::new(Int64Array::from_iter_values(first..first + rows as i64))
        }
        1 => Arc::new(TimestampMicrosecondArray::from_value(frame.ingest_time, rows)),
        _ => Arc::new(late_column(definition, batch, frame, arrival)?),
    })
}

/// `_late`: whether each row's event time was below the watermark when it arrived.
fn late_column(
    definition: &StreamDefinition,
    batch: &RecordBatch,
    frame: &Frame,
    arrival: &Marks,
) -> Result<BooleanArray> {
    let rows = batch.num_rows();
    match (&definition.watermark, arrival) {
        (Some(watermark), Marks::Rows(marks)) => {
            let times = event_times(batch.column(frame.place_of(watermark.column)))?;
            Ok(times
                .values()
                .iter()
                .zip(marks.iter())
                .map(|(time, mark)| Some(time < mark))
                .collect())
        }
        _ => Ok(BooleanArray::from(vec![false; rows])),
    }
}

/// The rows of a stream's frame with all columns, visible and hidden, for SELECT.
pub fn full_rows(
    definition: &StreamDefinition,
    schema: &SchemaRef,
    frame: &Frame,
) -> Result<Option<RecordBatch>> {
    let Some(batch) = &frame.batch else { return Ok(None) };
    let arrival = match &definition.watermark {
        None => Marks::All(i64::MIN),
        Some(watermark) => {
            let times = event_times(batch.column(frame.place_of(watermark.column)))?;
            arrival_marks(&times, watermark.bound, frame.watermark, false).0
        }
    };
    let columns = (0..schema.fields().len())
        .map(|column| stream_column(definition, batch, frame, column, &arrival))
        .collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map(Some).map_err(broken)
}

fn broken(error: arrow::error::ArrowError) -> Error {
    Error::new(SqlState::INTERNAL, format!("frame does not fit its relation: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(times: &[i64], bound: i64, before: i64) -> (Vec<i64>, i64) {
        let (marks, after) = arrival_marks(&Int64Array::from(times.to_vec()), bound, before, false);
        ((0..times.len()).map(|row| marks.at(row)).collect(), after)
    }

    #[test]
    fn each_row_meets_the_watermark_of_the_rows_before_it() {
        assert_eq!(marks(&[10, 30, 15, 40], 5, i64::MIN), (vec![i64::MIN, 5, 25, 25], 35));
    }

    #[test]
    fn rows_that_are_not_late_share_one_mark() {
        let (marks, after) = arrival_marks(&Int64Array::from(vec![10, 12, 11]), 5, 3, false);
        assert!(matches!(marks, Marks::All(3)));
        assert_eq!(after, 7);
    }

    #[test]
    fn times_at_the_ends_of_the_range_do_not_overflow() {
        assert_eq!(marks(&[i64::MIN, i64::MAX], 5, i64::MIN).1, i64::MAX - 5);
    }
}
