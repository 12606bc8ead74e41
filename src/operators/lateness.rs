//! Keeps out rows that come too late or have no event time, and reports them, for operators to which every
//! row belongs at its place in time.

use arrow::array::{Array, BooleanArray, Int64Array};

use crate::data::change::Change;
use crate::operators::operator::{Emitter, EvalError};
use crate::operators::partitions::{late_row, null_time};
use crate::windows::columns::event_times;

/// The other rows, with the times of `column`: those at most `lateness` below their arrival watermarks.
pub fn on_time(
    change: Change,
    column: usize,
    lateness: i64,
    out: &mut Emitter,
) -> Result<(Change, Int64Array), EvalError> {
    let times = event_times(change.batch.column(column))?;
    let is_late = |row: usize| times.value(row) < change.arrival(row).minus(lateness).0;
    if times.null_count() == 0 && !(0..times.len()).any(is_late) {
        return Ok((change, times));
    }
    let mut kept = Vec::with_capacity(times.len());
    for row in 0..times.len() {
        if times.is_null(row) {
            out.reject(null_time(&change, row, column));
        } else if is_late(row) {
            out.late(late_row(&change, row, times.value(row)));
        }
        kept.push(times.is_valid(row) && !is_late(row));
    }
    let change = change.filter(&BooleanArray::from(kept))?;
    let times = event_times(change.batch.column(column))?;
    Ok((change, times))
}
