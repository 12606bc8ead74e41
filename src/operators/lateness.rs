//! Reports rows that come too late or have no event time, and keeps them out of operators to which every row
//! belongs at its place in time.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Int64Array};

use crate::data::change::Change;
use crate::data::schema::shown_name;
use crate::error::SqlState;
use crate::operators::operator::{Emitter, EvalError, LateRow, RejectedRow};
use crate::time::EventTime;
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
            out.late(late_row(&change, row, times.value(row), 1));
        }
        kept.push(times.is_valid(row) && !is_late(row));
    }
    let change = change.filter(&BooleanArray::from(kept))?;
    let times = event_times(change.batch.column(column))?;
    Ok((change, times))
}

/// The report of a row that came after so many of its `windows` were dropped: 1 where it has one place in time.
pub fn late_row(change: &Change, row: usize, time: i64, windows: usize) -> LateRow {
    LateRow {
        relation: Arc::clone(&change.origin.relation),
        offset: change.offset(row),
        event_time: EventTime(time),
        watermark: change.arrival(row),
        windows_dropped: windows,
    }
}

/// The report of a row whose event time is null.
pub fn null_time(change: &Change, row: usize, time_column: usize) -> RejectedRow {
    let schema = change.batch.schema();
    RejectedRow {
        relation: Arc::clone(&change.origin.relation),
        offset: change.offset(row),
        code: SqlState::NOT_NULL_VIOLATION,
        reason: format!(
            "column \"{}\" is the event time and must not be null",
            shown_name(schema.field(time_column))
        ),
    }
}
