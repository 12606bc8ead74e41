//! Counts again what the reports hold of a stream, so that its figures go on where they stood.
//!
//! A stream that was dropped leaves its reports behind; one that takes its name begins behind them: where
//! the reports ended then is written down when a stream is created.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use crate::engine::reports::Reports;
use crate::error::Result;
use crate::log::frame::Position;
use crate::log::log::Log;

/// Per relation, frames of a report with the rows that they tell of.
type Told = BTreeMap<String, Vec<(u64, u64)>>;

/// What the reports held at the start.
#[derive(Default)]
pub(super) struct Recounts {
    rejected: Told,
    shed: Told,
}

impl Recounts {
    /// Counts rows of streams that were refused.
    pub(super) fn read(dead_letters: &Log, shed: &Log) -> Result<Recounts> {
        let mut counts = Recounts::default();
        each_batch(dead_letters, |frame, batch| {
            let (relations, queries) = (batch.column(0).as_string_view(), batch.column(7));
            for row in (0..batch.num_rows()).filter(|row| queries.is_null(*row)) {
                tell(&mut counts.rejected, relations.value(row), frame, 1);
            }
        })?;
        each_batch(shed, |frame, batch| {
            let streams = batch.column(0).as_string_view();
            let rows = batch.column(2).as_primitive::<Int64Type>();
            for (stream, rows) in streams.iter().zip(rows.values()) {
                let rows = u64::try_from(*rows).unwrap_or_default();
                tell(&mut counts.shed, stream.unwrap_or_default(), frame, rows);
            }
        })?;
        Ok(counts)
    }

    /// Rows refused and rows shed of a stream whose reports begin at these places.
    pub(super) fn of(&self, stream: &str, begin: &[(u64, u64)]) -> (u64, u64) {
        let since = |told: &Told, place: usize| {
            let first = begin.get(place).map_or(0, |(frame, _)| *frame);
            let frames = told.get(stream).into_iter().flatten();
            frames.filter(|(frame, _)| *frame >= first).map(|(_, rows)| rows).sum()
        };
        (since(&self.rejected, 0), since(&self.shed, 1))
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

fn each_batch(log: &Log, mut each: impl FnMut(u64, &RecordBatch)) -> Result<()> {
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
