//! Sorts rows that share a time, and answers MATCH_RECOGNIZE over rows that are all there.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::SortOptions;
use arrow::row::{RowConverter, Rows, SortField};

use super::{MatchRecognize, MatchSpec};
use crate::data::change::{Change, Origin};
use crate::operators::operator::{Emitter, EvalError, Operator, Output, RejectedRow};
use crate::time::EventTime;

/// The order of rows whose times ascend and that are sorted by `ties` where these are equal; nothing
/// where that is the order in which they are.
pub(super) fn sorted_ties(
    times: &[i64],
    batch: &RecordBatch,
    ties: &[(usize, SortOptions)],
) -> Result<Option<UInt32Array>, EvalError> {
    if ties.is_empty() || !times.windows(2).any(|pair| pair[0] == pair[1]) {
        return Ok(None);
    }
    let keys = sort_keys(batch, ties)?;
    let mut order: Vec<u32> = (0..times.len() as u32).collect();
    for run in runs(times) {
        order[run].sort_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
    }
    Ok(Some(UInt32Array::from(order)))
}

/// The ranges of equal times.
fn runs(times: &[i64]) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut first = 0;
    for row in 1..=times.len() {
        if row == times.len() || times[row] != times[first] {
            runs.push(first..row);
            first = row;
        }
    }
    runs
}

fn sort_keys(batch: &RecordBatch, by: &[(usize, SortOptions)]) -> Result<Rows, EvalError> {
    let field = |(column, options): &(usize, SortOptions)| {
        SortField::new_with_options(batch.column(*column).data_type().clone(), *options)
    };
    let columns: Vec<_> = by.iter().map(|(column, _)| Arc::clone(batch.column(*column))).collect();
    Ok(RowConverter::new(by.iter().map(field).collect())?.convert_columns(&columns)?)
}

/// The rows of a batch in an order.
pub fn sorted(batch: &RecordBatch, by: &[(usize, SortOptions)]) -> Result<RecordBatch, EvalError> {
    let order = sorted_ties(&vec![0; batch.num_rows()], batch, by)?;
    Ok(match order {
        Some(order) => arrow::compute::take_record_batch(batch, &order)?,
        None => batch.clone(),
    })
}

/// The answer over rows that are all there, in the order of their log; else the rows that were refused,
/// by their places.
pub fn answer(
    spec: Arc<MatchSpec>,
    rows: RecordBatch,
) -> Result<Result<RecordBatch, RejectedRow>, EvalError> {
    let schema = Arc::clone(&spec.schema);
    let mut operator = MatchRecognize::new(spec)?;
    let mut out = Emitter::default();
    let change = Change { batch: rows, weights: None, origin: Origin::nowhere(), rows: None };
    operator.on_change(0, change, &mut out)?;
    operator.on_watermark(0, EventTime::MAX, &mut out)?;
    if !out.rejected.is_empty() {
        return Ok(Err(out.rejected.swap_remove(0)));
    }
    let batches = out.outputs.into_iter().filter_map(|output| match output {
        Output::Change(change) => Some(change.batch),
        Output::Watermark(_) | Output::Punctuation(_) => None,
    });
    let batches: Vec<RecordBatch> = batches.collect();
    Ok(Ok(arrow::compute::concat_batches(&schema, &batches)?))
}
