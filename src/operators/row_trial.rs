//! Feeds rows to an operator in tests, in pieces between which it is saved and restored.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::data::change::{Change, Marks, Origin};
use crate::operators::operator::{Emitter, LateRow, Operator, Output, RejectedRow};
use crate::operators::state::{StateReader, StateWriter};
use crate::time::EventTime;

/// Rows of a stream from the offset `first` on, with the watermark just before each.
pub(crate) fn arriving(batch: RecordBatch, first: usize, arrivals: &[i64]) -> Change {
    let marks = Marks::Rows(arrivals.to_vec().into());
    let origin = Origin {
        relation: Arc::from("s"),
        first_offset: first as u64,
        ingest_time: 0,
        arrival: marks.clone(),
        progress: marks,
        derived: false,
    };
    Change { batch, weights: None, origin: Arc::new(origin), rows: None }
}

/// The watermark just before each row, and after all, `bound` behind the highest time.
pub(crate) fn watermarks(times: impl Iterator<Item = i64>, bound: i64) -> Vec<i64> {
    let mut marks = vec![i64::MIN];
    let mut highest = i64::MIN;
    for time in times {
        highest = highest.max(time - bound);
        marks.push(highest);
    }
    marks
}

/// An operator after the end of time, and what it has put out.
pub(crate) struct Ran<O> {
    pub(crate) operator: O,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) late: Vec<LateRow>,
    pub(crate) rejected: Vec<RejectedRow>,
}

impl<O> Ran<O> {
    fn take(&mut self, out: Emitter) {
        self.late.extend(out.late);
        self.rejected.extend(out.rejected);
        self.batches.extend(out.outputs.into_iter().filter_map(|output| match output {
            Output::Change(change) => Some(change.batch),
            Output::Watermark(_) | Output::Punctuation(_) => None,
        }));
    }
}

/// Gives an operator the rows in pieces that end at `cuts`, and after each the watermark in `marks`; then it
/// is saved, and a new one goes on.
pub(crate) fn in_pieces<O: Operator>(
    make: impl Fn() -> O,
    piece: impl Fn(Range<usize>) -> Change,
    marks: &[i64],
    cuts: &[usize],
) -> Ran<O> {
    let mut ran =
        Ran { operator: make(), batches: Vec::new(), late: Vec::new(), rejected: Vec::new() };
    let mut first = 0;
    for &end in cuts.iter().chain([&(marks.len() - 1)]) {
        if end <= first {
            continue;
        }
        let mut out = Emitter::default();
        ran.operator.on_change(0, piece(first..end), &mut out).unwrap();
        ran.operator.on_watermark(0, EventTime(marks[end]), &mut out).unwrap();
        ran.take(out);
        let mut saved = StateWriter::default();
        ran.operator.save(&mut saved).unwrap();
        let bytes = saved.finish();
        ran.operator = make();
        let mut from = StateReader::new(&bytes);
        ran.operator.restore(&mut from).unwrap();
        from.end().unwrap();
        first = end;
    }
    let mut out = Emitter::default();
    ran.operator.on_watermark(0, EventTime::MAX, &mut out).unwrap();
    ran.take(out);
    ran
}
