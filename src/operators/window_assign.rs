//! Adds `window_start` and `window_end` to rows: a time window without GROUP BY.
//!
//! A row that lies in several windows is repeated, ascending by window end; one that lies in none (a
//! hop with gaps) is left out. Windows that the row's own watermark had dropped when it arrived get
//! no row; the row is reported as late once, with their number. A row without event time is refused.
//!
//! # State
//!
//! None.
//!
//! # Not here
//!
//! Grouping by window (`window_aggregate`); the arithmetic of windows ([`crate::windows::assign`]).

use std::sync::Arc;

use arrow::array::{Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;

use crate::data::change::Change;
use crate::data::punctuation::Punctuation;
use crate::operators::lateness::{late_row, null_time};
use crate::operators::operator::{Emitter, EvalError};
use crate::operators::stateless::Stateless;
use crate::time::EventTime;
use crate::windows::assign::Windows;
use crate::windows::columns::{event_times, named_edge};
use crate::windows::spec::TimeWindow;

/// Rows that one change of the output holds at most, give or take the windows of one row.
const ROWS_PER_CHANGE: usize = 65_536;

/// Which windows, by which column.
#[derive(Debug, Clone)]
pub struct WindowAssignSpec {
    /// The windows.
    pub window: TimeWindow,
    /// The event-time column of the input: a timestamp in microseconds, or an integer.
    pub time_column: usize,
    /// How long after its end a window still takes rows, in the time column's units.
    pub allowed_lateness: i64,
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// The input's columns, then `window_start` and `window_end`.
    pub schema: SchemaRef,
}

/// Runs a [`WindowAssignSpec`].
#[derive(Debug)]
pub struct WindowAssign {
    spec: Arc<WindowAssignSpec>,
    windows: Windows,
}

/// Pairs of a row and a window, on their way out.
#[derive(Default)]
struct Pairs {
    rows: Vec<u32>,
    starts: Vec<i64>,
    ends: Vec<i64>,
}

impl WindowAssign {
    /// An operator for `spec`.
    pub fn new(spec: Arc<WindowAssignSpec>) -> WindowAssign {
        assert!(spec.time_column < spec.input_schema.fields().len());
        assert_eq!(spec.schema.fields().len(), spec.input_schema.fields().len() + 2);
        assert!(spec.allowed_lateness >= 0);
        let windows = Windows::new(&spec.window);
        WindowAssign { spec, windows }
    }

    /// Adds the pairs of one row; gives how many of its windows were dropped already.
    fn pair(
        &self,
        (row, time): (usize, i64),
        arrival: EventTime,
        found: &mut Vec<(i64, i64)>,
        pairs: &mut Pairs,
    ) -> usize {
        found.clear();
        self.windows.windows_into(time, found);
        let mut dropped = 0;
        for &(start, end) in found.iter() {
            if arrival >= EventTime(end).plus(self.spec.allowed_lateness) {
                dropped += 1;
                continue;
            }
            pairs.rows.push(row as u32);
            pairs.starts.push(start);
            pairs.ends.push(end);
        }
        dropped
    }

    fn emit(&self, change: &Change, pairs: Pairs, out: &mut Emitter) -> Result<(), EvalError> {
        let one_each = pairs.rows.len() == change.batch.num_rows()
            && pairs.rows.iter().zip(0..).all(|(row, i)| *row == i);
        let repeated =
            if one_each { change.clone() } else { change.take(&UInt32Array::from(pairs.rows))? };
        let mut columns = repeated.batch.columns().to_vec();
        for edges in [pairs.starts, pairs.ends] {
            let data_type = self.spec.schema.field(columns.len()).data_type();
            let edges: Int64Array = match self.spec.schema.field(columns.len()).is_nullable() {
                true => edges.into_iter().map(named_edge).collect(),
                false => Int64Array::from(edges),
            };
            columns.push(compute::cast(&edges, data_type)?);
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.spec.schema), columns)?;
        out.change(repeated.with_batch(batch));
        out.check_room()
    }
}

impl Stateless for WindowAssign {
    const NAME: &'static str = "WindowAssign";

    fn pass(&self, change: Change, out: &mut Emitter) -> Result<(), EvalError> {
        let times = event_times(change.batch.column(self.spec.time_column))?;
        let (mut pairs, mut found) = (Pairs::default(), Vec::new());
        for row in 0..change.batch.num_rows() {
            if times.is_null(row) {
                out.reject(null_time(&change, row, self.spec.time_column));
                continue;
            }
            let (time, arrival) = (times.value(row), change.arrival(row));
            let dropped = self.pair((row, time), arrival, &mut found, &mut pairs);
            if dropped > 0 {
                out.late(late_row(&change, row, time, dropped));
            }
            if pairs.rows.len() >= ROWS_PER_CHANGE {
                self.emit(&change, std::mem::take(&mut pairs), out)?;
            }
        }
        self.emit(&change, pairs, out)
    }

    /// The input's columns are the output's too, so every promise still holds.
    fn punctuation(&self, punctuation: &Punctuation) -> Option<Punctuation> {
        Some(punctuation.clone())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, TimestampMicrosecondArray};
    use arrow::buffer::ScalarBuffer;
    use arrow::datatypes::{Field, Schema, TimestampMicrosecondType};

    use super::*;
    use crate::data::change::{Marks, Origin};
    use crate::data::schema::TIMESTAMP;
    use crate::error::SqlState;
    use crate::operators::operator::{Operator, Output};
    use crate::windows::spec::{Span, TimeWindowKind};

    fn hop(slide: i64, size: i64, allowed_lateness: i64) -> WindowAssign {
        let kind = TimeWindowKind::Hop { slide: Span::Fixed(slide), size: Span::Fixed(size) };
        let at = Field::new("at", TIMESTAMP, true);
        let edges = ["window_start", "window_end"].map(|name| Field::new(name, TIMESTAMP, false));
        let [start, end] = edges;
        WindowAssign::new(Arc::new(WindowAssignSpec {
            window: TimeWindow { kind, offset: 0, timezone: None },
            time_column: 0,
            allowed_lateness,
            input_schema: Arc::new(Schema::new(vec![at.clone()])),
            schema: Arc::new(Schema::new(vec![at, start, end])),
        }))
    }

    /// Rows of event time and watermark at arrival.
    fn change(rows: &[(Option<i64>, i64)]) -> Change {
        let at: TimestampMicrosecondArray = rows.iter().map(|row| row.0).collect();
        let batch = RecordBatch::try_from_iter_with_nullable([("at", Arc::new(at) as _, true)]);
        let arrival: ScalarBuffer<i64> = rows.iter().map(|row| row.1).collect();
        let origin = Origin {
            relation: Arc::from("s"),
            first_offset: 50,
            ingest_time: 0,
            arrival: Marks::Rows(arrival.clone()),
            progress: Marks::Rows(arrival),
            derived: false,
        };
        Change { batch: batch.unwrap(), weights: None, origin: Arc::new(origin), rows: None }
    }

    /// Offset, start and end of each row that comes out.
    fn run(op: &mut WindowAssign, input: Change) -> (Vec<(u64, i64, i64)>, Emitter) {
        let mut out = Emitter::default();
        op.on_change(0, input, &mut out).unwrap();
        let mut rows = Vec::new();
        for output in out.outputs.drain(..) {
            let Output::Change(change) = output else { panic!("expected rows") };
            let edge = |column: usize, row: usize| {
                change.batch.column(column).as_primitive::<TimestampMicrosecondType>().value(row)
            };
            rows.extend(
                (0..change.batch.num_rows()).map(|r| (change.offset(r), edge(1, r), edge(2, r))),
            );
        }
        (rows, out)
    }

    const EARLY: i64 = i64::MIN;

    #[test]
    fn a_row_on_the_boundary_belongs_to_the_later_window() {
        let input = change(&[(Some(-1), EARLY), (Some(0), EARLY), (Some(10), EARLY)]);
        let (rows, _) = run(&mut hop(10, 10, 0), input);
        assert_eq!(rows, [(50, -10, 0), (51, 0, 10), (52, 10, 20)]);
    }

    #[test]
    fn a_row_in_several_windows_is_repeated_by_ascending_end() {
        let (rows, _) = run(&mut hop(5, 10, 0), change(&[(Some(7), EARLY), (Some(3), EARLY)]));
        assert_eq!(rows, [(50, 0, 10), (50, 5, 15), (51, -5, 5), (51, 0, 10)]);
    }

    #[test]
    fn a_row_in_a_gap_is_left_out() {
        let (rows, out) = run(&mut hop(10, 4, 0), change(&[(Some(5), EARLY), (Some(13), EARLY)]));
        assert_eq!(rows, [(51, 10, 14)]);
        assert!(out.late.is_empty() && out.rejected.is_empty());
    }

    #[test]
    fn dropped_windows_get_no_row_and_the_row_is_late_once() {
        let input = [(Some(7), 10), (Some(7), 9), (Some(1), 10), (Some(7), i64::MAX)];
        let (rows, out) = run(&mut hop(5, 10, 0), change(&input));
        assert_eq!(rows, [(50, 5, 15), (51, 0, 10), (51, 5, 15)]);
        let late: Vec<_> = out.late.iter().map(|l| (l.offset, l.windows_dropped)).collect();
        assert_eq!(late, [(50, 1), (52, 2), (53, 2)]);
        let first = &out.late[0];
        assert_eq!((first.event_time, first.watermark), (EventTime(7), EventTime(10)));
    }

    #[test]
    fn allowed_lateness_keeps_a_window_that_was_emitted() {
        let (rows, out) = run(&mut hop(10, 10, 5), change(&[(Some(7), 14), (Some(7), 15)]));
        assert_eq!(rows, [(50, 0, 10)]);
        assert_eq!(out.late.len(), 1);
    }

    #[test]
    fn a_row_without_event_time_is_refused() {
        let (rows, out) = run(&mut hop(10, 10, 0), change(&[(None, EARLY), (Some(1), EARLY)]));
        assert_eq!(rows, [(51, 0, 10)]);
        let rejected = &out.rejected[0];
        assert_eq!((rejected.offset, rejected.code), (50, SqlState::NOT_NULL_VIOLATION));
        assert_eq!(rejected.reason, "column \"at\" is the event time and must not be null");
    }

    #[test]
    fn output_is_cut_and_the_ends_of_time_are_no_panic() {
        let rows: Vec<_> = (0..2_000).map(|t| (Some(t), EARLY)).collect();
        let mut out = Emitter::default();
        hop(1, 100, 0).on_change(0, change(&rows), &mut out).unwrap();
        assert_eq!(out.outputs.len(), 4);
        let ends = [(Some(i64::MIN), EARLY), (Some(i64::MAX), EARLY)];
        let (rows, _) = run(&mut hop(10, 10, 0), change(&ends));
        assert_eq!(rows.len(), 2);
    }
}
