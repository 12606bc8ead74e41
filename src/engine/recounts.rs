//! Counts again what the reports hold of a stream, so that its figures go on where they stood.
//!
//! A stream that was dropped leaves its reports behind; one that takes its name begins behind them: where
//! the reports ended then is written down when a stream is created.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use crate::catalog::record::Record;
use crate::engine::report_retention::Gone;
use crate::engine::reports::Reports;
use crate::error::Result;
use crate::log::frame::Position;
use crate::log::log::Log;

/// Per relation, frames of a report with the rows that they tell of.
type Told = BTreeMap<String, Vec<(u64, u64)>>;

/// What the reports held at the start.
#[derive(Default)]
pub(super) struct Recounts {
    rejected: (Gone, Told),
    shed: (Gone, Told),
}

/// What a report tells of streams.
#[derive(Debug, Clone, Copy)]
pub(super) enum Counted {
    /// Each row is one that was refused.
    Rejected,
    /// Each row has a number of rows that were shed.
    Shed,
}

impl Counted {
    /// The frame of the report at which a stream's part begins.
    pub(super) fn begin(self, stream: &Record) -> u64 {
        let place = match self {
            Counted::Rejected => 0,
            Counted::Shed => 1,
        };
        stream.start.get(place).map_or(0, |(frame, _)| *frame)
    }

    /// Streams with numbers of rows.
    pub(super) fn each(self, batch: &RecordBatch, mut tell: impl FnMut(&str, u64)) {
        let names = batch.column(0).as_string_view();
        match self {
            Counted::Rejected => {
                let queries = batch.column(7);
                let rows = (0..batch.num_rows()).filter(|row| queries.is_null(*row));
                rows.for_each(|row| tell(names.value(row), 1));
            }
            Counted::Shed => {
                let rows = batch.column(2).as_primitive::<Int64Type>();
                for (stream, rows) in names.iter().zip(rows.values()) {
                    tell(stream.unwrap_or_default(), u64::try_from(*rows).unwrap_or_default());
                }
            }
        }
    }

    fn read(self, report: &Log) -> Result<(Gone, Told)> {
        let (gone, mut told) = (Gone::read(report)?, Told::new());
        each_batch(report, |frame, batch| {
            if frame >= gone.before {
                self.each(batch, |stream, rows| tell(&mut told, stream, frame, rows));
            }
        })?;
        Ok((gone, told))
    }
}

impl Recounts {
    /// Counts rows of streams that were refused, and those that were shed.
    pub(super) fn read(dead_letters: &Log, shed: &Log) -> Result<Recounts> {
        let rejected = Counted::Rejected.read(dead_letters)?;
        Ok(Recounts { rejected, shed: Counted::Shed.read(shed)? })
    }

    /// Rows refused and rows shed of a stream.
    pub(super) fn of(&self, record: &Record) -> (u64, u64) {
        let since = |(gone, told): &(Gone, Told), what: Counted| {
            let begin = what.begin(record);
            let frames = told.get(&record.name).into_iter().flatten();
            let there: u64 =
                frames.filter(|(frame, _)| *frame >= begin).map(|(_, rows)| rows).sum();
            there + gone.of(&record.name, begin)
        };
        (since(&self.rejected, Counted::Rejected), since(&self.shed, Counted::Shed))
    }
}

impl Reports {
    /// Where the reports end that tell of streams.
    pub(super) fn ends(&self) -> Vec<(u64, u64)> {
        let end = |log: &Log| (log.visible().frame, log.visible().offset);
        vec![end(&self.dead_letters), end(&self.shed)]
    }
}

fn tell(told: &mut Told, relation: &str, frame: u64, rows: u64) {
    if !told.contains_key(relation) {
        told.insert(relation.to_owned(), Vec::new());
    }
    let Some(frames) = told.get_mut(relation) else { return };
    match frames.last_mut() {
        Some(last) if last.0 == frame => last.1 += rows,
        _ => frames.push((frame, rows)),
    }
}

/// Calls `each` with every batch of a log and its frame.
pub(super) fn each_batch(log: &Log, mut each: impl FnMut(u64, &RecordBatch)) -> Result<()> {
    let mut position = log.start();
    while position.frame < log.visible().frame {
        let frames = log.read(position, 65_536)?;
        let Some(last) = frames.last() else { break };
        position = Position { frame: last.index + 1, offset: last.next_offset() };
        for frame in &frames {
            frame.batch.iter().for_each(|batch| each(frame.index, batch));
        }
    }
    Ok(())
}
