//! Assigns windows to rows that are all there: the one-off SELECT, in which every window is closed.
//!
//! Each row comes out once per window that holds it, in log order and within a row by window, with
//! the window's columns beside it. All retained rows count: none is late here. Clocks run by the
//! rows' `_ingest_time`; with ORDER there is no moment at which a row is counted, so TIMEOUT says
//! nothing there.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray, UInt32Array,
};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

use crate::data::floats::canonical;
use crate::windows::assign::Windows;
use crate::windows::columns::{event_times, named_edge, time_column};
use crate::windows::count::{CountedRow, Counter, Filled};
use crate::windows::punctuate::{Delimited, Delimiter, MarkedRow, Reason};
use crate::windows::session::Sessions;
use crate::windows::spec::{CountWindow, PunctuationWindow, SessionWindow, TimeWindow};

/// A window over rows that are all there; columns are given by index.
#[derive(Debug, Clone)]
pub enum BatchWindow {
    /// TUMBLE, HOP, CUMULATE, LANDMARK.
    Time {
        /// The window.
        window: TimeWindow,
        /// Event time.
        time_column: usize,
    },
    /// SESSION.
    Session {
        /// Gap and longest duration.
        window: SessionWindow,
        /// Event time.
        time_column: usize,
        /// Columns whose values have sessions of their own.
        partition: Vec<usize>,
    },
    /// COUNT_WINDOW.
    Count {
        /// Size, slide and the rest.
        window: CountWindow,
        /// Times by which rows are counted.
        times: RowTimes,
        /// Columns whose values have windows of their own.
        partition: Vec<usize>,
    },
    /// PUNCTUATION_WINDOW.
    Punctuation {
        /// Caps and which boundary rows belong.
        window: PunctuationWindow,
        /// Where START holds; `None` without START.
        start: Option<BooleanArray>,
        /// Where END holds.
        end: Option<BooleanArray>,
        /// Times of the rows.
        times: RowTimes,
        /// Columns whose values have windows of their own.
        partition: Vec<usize>,
    },
}

/// Where the times of rows are found.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowTimes {
    /// Event time: the source of window_start and window_end, before `ingest_column`.
    pub time_column: Option<usize>,
    /// `_ingest_time`: the clock of TIMEOUT and IDLE, which do not act without it.
    pub ingest_column: Option<usize>,
}

/// Rows in overlapping windows that are held at once: about 1 GB.
const PAIRS_MAX: usize = 16_000_000;

/// A row in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    row: usize,
    id: u64,
    start: Option<i64>,
    end: Option<i64>,
    reason: Option<Reason>,
}

/// Per row of the result the input row, and the window columns: window_start, window_end, then
/// window_id (count and punctuation windows) and window_reason (punctuation windows).
pub fn assign_batch(
    window: &BatchWindow,
    rows: &RecordBatch,
) -> Result<(UInt32Array, Vec<ArrayRef>), ArrowError> {
    let mut placed = match window {
        BatchWindow::Time { window, time_column } => {
            by_time(&Windows::new(window), &event_times(rows.column(*time_column))?)?
        }
        BatchWindow::Session { window, time_column, partition } => {
            by_session(window, &event_times(rows.column(*time_column))?, &split(rows, partition)?)
        }
        BatchWindow::Count { window, times, partition } => {
            by_count(window, &Times::read(*times, rows)?, &split(rows, partition)?)
        }
        BatchWindow::Punctuation { window, start, end, times, partition } => {
            let marks = Marks { start: start.as_ref(), end: end.as_ref() };
            by_punctuation(window, &marks, &Times::read(*times, rows)?, &split(rows, partition)?)
        }
    };
    placed.sort_unstable();
    let time_type = match window {
        BatchWindow::Time { time_column, .. } | BatchWindow::Session { time_column, .. } => {
            rows.column(*time_column).data_type().clone()
        }
        BatchWindow::Count { times, .. } | BatchWindow::Punctuation { times, .. } => times
            .time_column
            .or(times.ingest_column)
            // Rows without any time have windows without bounds, of the type that the plan says.
            .map_or(DataType::Timestamp(TimeUnit::Microsecond, None), |column| {
                rows.column(column).data_type().clone()
            }),
    };
    let start: Int64Array = placed.iter().map(|row| row.start).collect();
    let end: Int64Array = placed.iter().map(|row| row.end).collect();
    let mut columns = vec![time_column(start, &time_type)?, time_column(end, &time_type)?];
    if matches!(window, BatchWindow::Count { .. } | BatchWindow::Punctuation { .. }) {
        columns.push(Arc::new(Int64Array::from_iter_values(
            placed.iter().map(|row| i64::try_from(row.id).unwrap_or(i64::MAX)),
        )));
    }
    if matches!(window, BatchWindow::Punctuation { .. }) {
        let reasons: StringViewArray =
            placed.iter().map(|row| row.reason.map(Reason::as_str)).collect();
        columns.push(Arc::new(reasons));
    }
    let indices = placed.iter().map(|row| u32::try_from(row.row));
    let indices: Vec<u32> = indices.collect::<Result<_, _>>().map_err(|_| {
        ArrowError::ComputeError("more than 4294967295 rows in one window function".to_owned())
    })?;
    Ok((UInt32Array::from(indices), columns))
}

/// The times of the rows, read once.
struct Times {
    shown: Option<Int64Array>,
    ingest: Option<Int64Array>,
}

impl Times {
    fn read(times: RowTimes, rows: &RecordBatch) -> Result<Times, ArrowError> {
        let read = |column: Option<usize>| {
            column.map(|column| event_times(rows.column(column))).transpose()
        };
        Ok(Times {
            shown: read(times.time_column.or(times.ingest_column))?,
            ingest: read(times.ingest_column)?,
        })
    }

    fn shown(&self, row: usize) -> Option<i64> {
        self.shown.as_ref().filter(|times| times.is_valid(row)).map(|times| times.value(row))
    }

    fn now(&self, row: usize) -> i64 {
        self.ingest.as_ref().map_or(i64::MIN, |times| times.value(row))
    }
}

/// The rows of each partition in log order, partitions in the order of their first rows.
fn split(rows: &RecordBatch, partition: &[usize]) -> Result<Vec<Vec<usize>>, ArrowError> {
    if partition.is_empty() {
        return Ok(vec![(0..rows.num_rows()).collect()]);
    }
    let columns: Vec<ArrayRef> =
        partition.iter().map(|&column| canonical(rows.column(column))).collect();
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone()));
    let keys = RowConverter::new(fields.collect())?.convert_columns(&columns)?;
    let mut places: HashMap<&[u8], usize> = HashMap::new();
    let mut parts: Vec<Vec<usize>> = Vec::new();
    for row in 0..rows.num_rows() {
        let place = *places.entry(keys.row(row).data()).or_insert_with(|| {
            parts.push(Vec::new());
            parts.len() - 1
        });
        parts[place].push(row);
    }
    Ok(parts)
}

fn by_time(windows: &Windows, times: &Int64Array) -> Result<Vec<Placed>, ArrowError> {
    let mut placed = Vec::new();
    for row in (0..times.len()).filter(|&row| times.is_valid(row)) {
        for (start, end) in windows.windows_of(times.value(row)) {
            let (start, end) = (named_edge(start), named_edge(end));
            placed.push(Placed { row, id: 0, start, end, reason: None });
        }
        // As many rows as there are may each be in one window; more is what overlapping costs.
        if placed.len() > PAIRS_MAX.max(times.len()) {
            return Err(ArrowError::MemoryError(format!(
                "rows and the windows that they lie in make more than {PAIRS_MAX} pairs"
            )));
        }
    }
    Ok(placed)
}

fn by_session(window: &SessionWindow, times: &Int64Array, parts: &[Vec<usize>]) -> Vec<Placed> {
    let mut placed = Vec::new();
    for part in parts {
        let mut ascending: Vec<(i64, u64)> = (part.iter())
            .filter(|&&row| times.is_valid(row))
            .map(|&row| (times.value(row), row as u64))
            .collect();
        ascending.sort_unstable();
        let mut sessions = Sessions::default();
        for (time, row) in ascending {
            sessions.insert(window, time, row);
        }
        for session in sessions.all() {
            // A session begins and ends with a row: both are times, at the ends of time, too.
            let (start, end) = (Some(session.start()), Some(session.end(window)));
            placed.extend(session.rows.iter().map(|&(_, row)| Placed {
                row: row as usize,
                id: 0,
                start,
                end,
                reason: None,
            }));
        }
    }
    placed
}

fn by_count(window: &CountWindow, times: &Times, parts: &[Vec<usize>]) -> Vec<Placed> {
    let mut placed = Vec::new();
    for part in parts {
        let mut part = part.clone();
        if window.ordered {
            part.retain(|&row| times.shown(row).is_some());
            part.sort_by_key(|&row| times.shown(row));
        }
        let mut counter = Counter::default();
        let mut filled = Filled::default();
        for &row in &part {
            let now = if window.ordered { i64::MIN } else { times.now(row) };
            while counter.deadline().is_some_and(|deadline| deadline < now) {
                counter.expire_first(window, &mut filled);
            }
            let row = CountedRow { row: row as u64, time: times.shown(row), now };
            counter.count(window, row, &mut filled);
        }
        counter.finish(window, &mut filled);
        for filled in filled.windows {
            placed.extend(filled.rows.iter().map(|&row| Placed {
                row: row as usize,
                id: filled.id,
                start: filled.start,
                end: filled.end,
                reason: None,
            }));
        }
    }
    placed
}

struct Marks<'a> {
    start: Option<&'a BooleanArray>,
    end: Option<&'a BooleanArray>,
}

fn by_punctuation(
    window: &PunctuationWindow,
    marks: &Marks<'_>,
    times: &Times,
    parts: &[Vec<usize>],
) -> Vec<Placed> {
    let holds = |mask: &BooleanArray, row: usize| mask.is_valid(row) && mask.value(row);
    let mut placed = Vec::new();
    for part in parts {
        let mut delimiter = Delimiter::default();
        let mut closed = Delimited::default();
        for &row in part {
            let now = times.now(row);
            if delimiter.deadline(window).is_some_and(|deadline| deadline < now) {
                delimiter.close(window, Reason::Idle, &mut closed);
            }
            let marked = MarkedRow {
                row: row as u64,
                time: times.shown(row),
                now,
                start: marks.start.map(|mask| holds(mask, row)),
                end: marks.end.is_some_and(|mask| holds(mask, row)),
            };
            delimiter.take(window, marked, &mut closed);
        }
        // All windows of a SELECT count as closed; nothing says why this one is.
        let open = delimiter.open().filter(|open| window.is_large_enough(open.rows.len()));
        for closed in closed.windows.into_iter().chain(open.cloned()) {
            placed.extend(closed.rows.iter().map(|&row| Placed {
                row: row as usize,
                id: closed.id,
                start: closed.start,
                end: closed.end,
                reason: closed.reason,
            }));
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use arrow::util::display::array_value_to_string;
    use proptest::prelude::*;

    use super::*;
    use crate::windows::spec::{Include, Span, TimeWindowKind};

    /// Columns: 0 `at`, 1 `k`, 2 `_ingest_time`.
    fn rows(rows: &[(i64, i64, i64)]) -> RecordBatch {
        let column = |of: fn(&(i64, i64, i64)) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(of)))
        };
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let ingest = arrow::compute::cast(&column(|row| row.2), &micros).unwrap();
        let schema = Schema::new(vec![
            Field::new("at", DataType::Int64, false),
            Field::new("k", DataType::Int64, false),
            Field::new("_ingest_time", micros, false),
        ]);
        let columns = vec![column(|row| row.0), column(|row| row.1), ingest];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    /// One line per row of the result: the input row, then the window columns.
    fn check(window: &BatchWindow, input: &[(i64, i64, i64)]) -> Vec<String> {
        let (indices, columns) = assign_batch(window, &rows(input)).unwrap();
        let line = |row: usize| {
            let cells = columns.iter().map(|column| array_value_to_string(column, row).unwrap());
            format!("{} {}", indices.value(row), cells.collect::<Vec<_>>().join(" "))
        };
        (0..indices.len()).map(line).collect()
    }

    fn count(window: CountWindow) -> BatchWindow {
        let times = RowTimes { time_column: Some(0), ingest_column: Some(2) };
        BatchWindow::Count { window, times, partition: vec![1] }
    }

    fn sized(size: u64, slide: u64) -> CountWindow {
        let (partial, ties_together, ordered, timeout) = (false, false, false, None);
        CountWindow { size, slide, partial, ties_together, ordered, timeout }
    }

    fn punctuation(window: PunctuationWindow, end: Vec<Option<bool>>) -> BatchWindow {
        let times = RowTimes { time_column: None, ingest_column: Some(2) };
        let end = Some(BooleanArray::from(end));
        BatchWindow::Punctuation { window, start: None, end, times, partition: vec![] }
    }

    #[test]
    fn a_row_comes_out_once_per_window_that_holds_it() {
        let (slide, size) = (Span::Fixed(5), Span::Fixed(10));
        let window =
            TimeWindow { kind: TimeWindowKind::Hop { slide, size }, offset: 0, timezone: None };
        let hop = BatchWindow::Time { window, time_column: 0 };
        assert_eq!(
            check(&hop, &[(12, 0, 0), (-1, 0, 0)]),
            ["0 5 15", "0 10 20", "1 -10 0", "1 -5 5"]
        );
        let lines = check(&count(sized(2, 1)), &[(10, 1, 0), (11, 1, 0), (5, 2, 0), (12, 1, 0)]);
        assert_eq!(lines, ["0 10 11 0", "1 10 11 0", "1 11 12 1", "3 11 12 1"]);
    }

    #[test]
    fn every_session_is_closed_and_only_full_count_windows_are() {
        let window = SessionWindow { gap: 3, max: None };
        let session = BatchWindow::Session { window, time_column: 0, partition: vec![1] };
        let input = [(10, 1, 0), (11, 2, 0), (14, 1, 0), (12, 1, 0)];
        assert_eq!(check(&session, &input), ["0 10 17", "1 11 14", "2 10 17", "3 10 17"]);
        let ordered = CountWindow { ordered: true, ..sized(2, 2) };
        assert_eq!(check(&count(ordered.clone()), &input), ["0 10 12 0", "3 10 12 0"]);
        let partial = CountWindow { partial: true, ..ordered };
        assert_eq!(
            check(&count(partial), &input),
            ["0 10 12 0", "1 11 11 0", "2 14 14 1", "3 10 12 0"]
        );
    }

    #[test]
    fn the_clock_is_the_ingest_time_of_the_rows() {
        let timed = CountWindow { timeout: Some(5), ..sized(3, 3) };
        let input = [(1, 1, 0), (2, 1, 5), (3, 1, 6)];
        assert_eq!(check(&count(timed), &input), ["0 1 2 0", "1 1 2 0"]);
        let (max_rows, max_duration, min_rows, idle) = (None, None, None, Some(5));
        let window =
            PunctuationWindow { include: Include::Both, max_rows, max_duration, min_rows, idle };
        let input = [(1, 1, 0), (2, 1, 6), (3, 1, 7), (4, 1, 8)];
        let end = vec![None, Some(false), Some(true), Some(false)];
        assert_eq!(
            check(&punctuation(window, end), &input),
            [
                "0 1970-01-01T00:00:00 1970-01-01T00:00:00 0 idle",
                "1 1970-01-01T00:00:00.000006 1970-01-01T00:00:00.000007 1 end",
                "2 1970-01-01T00:00:00.000006 1970-01-01T00:00:00.000007 1 end",
                "3 1970-01-01T00:00:00.000008 1970-01-01T00:00:00.000008 2 ",
            ]
        );
    }

    #[test]
    fn no_rows_give_no_rows() {
        assert_eq!(check(&count(sized(1, 1)), &[]), Vec::<String>::new());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn each_row_is_in_the_session_of_its_neighbours(
            input in prop::collection::vec((-30i64..30, 0i64..3, Just(0i64)), 0..30),
            gap in 1i64..8,
        ) {
            let window = SessionWindow { gap, max: None };
            let session = BatchWindow::Session { window, time_column: 0, partition: vec![1] };
            let mut expected = Vec::new();
            for (row, &(at, k, _)) in input.iter().enumerate() {
                let near = |t: i64, sign: i64| {
                    let others = input.iter().filter(|other| other.1 == k);
                    others.map(|other| other.0).filter(|o| (o - t) * sign > 0 && (o - t).abs() < gap).min_by_key(|o| (o - t).abs())
                };
                let (mut start, mut last) = (at, at);
                while let Some(earlier) = near(start, -1) { start = earlier; }
                while let Some(later) = near(last, 1) { last = later; }
                expected.push(format!("{row} {start} {}", last + gap));
            }
            prop_assert_eq!(check(&session, &input), expected);
        }
    }
}
