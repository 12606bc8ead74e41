//! Counts the rows of one partition into windows of a fixed number of rows, or of distinct values.
//!
//! # Method
//! Each row gets a *position*: its number since the beginning, or, where ties stand together, the
//! number of its value. Window `k` holds the positions `[first, first + size)`, the next one starts
//! at `first + slide`. Positions between windows (slide > size) belong to none.
//! A window closes as soon as its last position is complete: with the row itself, or, with ties,
//! when a row of the next value comes or [`Counter::complete_value`] says that none will.
//!
//! # Timeout
//! A window closes at the processing time of its first row plus the timeout, before any row with a
//! later processing time. If it was the newest window, the next row starts a window: rows are never
//! lost to a grid that a timeout has broken. Otherwise the newer windows go on as they are.
//!
//! # State
//! The rows of open windows, at most `size` positions of them, and size / slide windows.

use std::collections::VecDeque;

use crate::windows::spec::CountWindow;

/// A row as the counter sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedRow {
    /// The row's number, by which its owner finds it again; ascends with the log.
    pub row: u64,
    /// Event time, if there is a time column.
    pub time: Option<i64>,
    /// Processing time at which the row is counted.
    pub now: i64,
}

/// A window and its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilledWindow {
    /// Number of the window in its partition, from 0.
    pub id: u64,
    /// Numbers of the rows, ascending.
    pub rows: Vec<u64>,
    /// Time of the first row counted.
    pub start: Option<i64>,
    /// Time of the last row counted.
    pub end: Option<i64>,
}

/// What a step of the counter brought to an end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Windows that closed, in order.
    pub windows: Vec<FilledWindow>,
    /// Rows that no window will ask for any more.
    pub released: Vec<u64>,
}

#[derive(Debug, Clone)]
struct OpenWindow {
    id: u64,
    first: u64,
    deadline: Option<i64>,
}

#[derive(Debug, Clone)]
struct Positioned {
    position: u64,
    row: u64,
    time: Option<i64>,
}

/// The count windows of one partition.
#[derive(Debug, Clone, Default)]
pub struct Counter {
    /// Ascending by position; the first one belongs to the first open window.
    rows: VecDeque<Positioned>,
    /// Ascending by first position and by deadline.
    open: VecDeque<OpenWindow>,
    next_position: u64,
    /// The position that opens the next window.
    next_start: u64,
    next_id: u64,
    /// With ties: the value whose rows still come.
    value: Option<Option<i64>>,
}

/// A counter taken apart, for whoever keeps it elsewhere for a while.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CounterParts {
    /// Position, number and time of each row that open windows hold.
    pub rows: Vec<(u64, u64, Option<i64>)>,
    /// Number, first position and deadline of each open window.
    pub open: Vec<(u64, u64, Option<i64>)>,
    /// The next position, the position that opens the next window, and its number.
    pub next: (u64, u64, u64),
    /// With ties: the value whose rows still come.
    pub value: Option<Option<i64>>,
}

impl Counter {
    /// Takes the counter apart.
    pub fn parts(&self) -> CounterParts {
        CounterParts {
            rows: self.rows.iter().map(|row| (row.position, row.row, row.time)).collect(),
            open: self.open.iter().map(|open| (open.id, open.first, open.deadline)).collect(),
            next: (self.next_position, self.next_start, self.next_id),
            value: self.value,
        }
    }

    /// Puts a counter together again.
    pub fn from_parts(parts: CounterParts) -> Counter {
        let row = |(position, row, time)| Positioned { position, row, time };
        let open = |(id, first, deadline)| OpenWindow { id, first, deadline };
        let (next_position, next_start, next_id) = parts.next;
        Counter {
            rows: parts.rows.into_iter().map(row).collect(),
            open: parts.open.into_iter().map(open).collect(),
            next_position,
            next_start,
            next_id,
            value: parts.value,
        }
    }

    /// Counts one row.
    pub fn count(&mut self, window: &CountWindow, row: CountedRow, filled: &mut Filled) {
        assert!(window.size > 0 && window.slide > 0, "a count window has a size and a slide");
        let tied = window.ties_together && self.value == Some(row.time);
        if !tied {
            self.complete_value(window, filled);
            if self.next_position == self.next_start {
                let deadline = window.timeout.map(|timeout| row.now.saturating_add(timeout));
                let first = self.next_position;
                self.open.push_back(OpenWindow { id: self.next_id, first, deadline });
                self.next_id += 1;
                self.next_start = first.saturating_add(window.slide);
            }
            self.next_position += 1;
            self.value = Some(row.time);
        }
        if self.open.is_empty() {
            filled.released.push(row.row);
            return;
        }
        let position = self.next_position - 1;
        self.rows.push_back(Positioned { position, row: row.row, time: row.time });
        if !window.ties_together {
            self.complete_value(window, filled);
        }
    }

    /// Learns that no row with the current value follows: windows that hold `size` values close.
    pub fn complete_value(&mut self, window: &CountWindow, filled: &mut Filled) {
        self.value = None;
        while let Some(front) = self.open.front() {
            if front.first.saturating_add(window.size) > self.next_position {
                break;
            }
            self.close_first(window, filled);
        }
    }

    /// The processing time after which the first open window is closed.
    pub fn deadline(&self) -> Option<i64> {
        self.open.front().and_then(|open| open.deadline)
    }

    /// Closes the first open window though it is not full: its time has run out.
    pub fn expire_first(&mut self, window: &CountWindow, filled: &mut Filled) {
        self.close_first(window, filled);
        if self.open.is_empty() {
            self.next_start = self.next_position;
            self.value = None;
        }
    }

    /// Ends the partition: with PARTIAL the open windows close, else they are given up.
    pub fn finish(&mut self, window: &CountWindow, filled: &mut Filled) {
        self.complete_value(window, filled);
        while window.partial && !self.open.is_empty() {
            self.close_first(window, filled);
        }
        self.open.clear();
        filled.released.extend(self.rows.drain(..).map(|row| row.row));
    }

    /// The open windows with the rows they hold so far, the oldest first.
    pub fn open_windows(&self) -> impl Iterator<Item = FilledWindow> {
        self.open.iter().map(|open| {
            let from = self.rows.partition_point(|row| row.position < open.first);
            filled_window(open.id, self.rows.range(from..))
        })
    }

    /// Identity and number of rows of each open window, the oldest first.
    pub fn open_counts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.open.iter().map(|open| {
            let from = self.rows.partition_point(|row| row.position < open.first);
            (open.id, (self.rows.len() - from) as u64)
        })
    }

    /// Bytes held.
    pub fn state_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Positioned>()
            + self.open.capacity() * size_of::<OpenWindow>()
    }

    fn close_first(&mut self, window: &CountWindow, filled: &mut Filled) {
        let closed = self.open.pop_front().expect("a window is open");
        let limit = closed.first.saturating_add(window.size);
        let until = self.rows.partition_point(|row| row.position < limit);
        filled.windows.push(filled_window(closed.id, self.rows.range(..until)));
        let keep_from = self.open.front().map_or(u64::MAX, |open| open.first);
        let gone = self.rows.partition_point(|row| row.position < keep_from);
        filled.released.extend(self.rows.drain(..gone).map(|row| row.row));
    }
}

fn filled_window<'a>(
    id: u64,
    positioned: impl Iterator<Item = &'a Positioned> + Clone,
) -> FilledWindow {
    let start = positioned.clone().next().and_then(|row| row.time);
    let end = positioned.clone().last().and_then(|row| row.time);
    let mut rows: Vec<u64> = positioned.map(|row| row.row).collect();
    rows.sort_unstable();
    FilledWindow { id, rows, start, end }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(size: u64, slide: u64) -> CountWindow {
        CountWindow {
            size,
            slide,
            partial: false,
            ties_together: false,
            ordered: false,
            timeout: None,
        }
    }

    /// Counts rows given as (time, processing time) and writes down `id:rows` in order of closing.
    fn check(window: &CountWindow, rows: &[(i64, i64)]) -> Vec<String> {
        let mut counter = Counter::default();
        let mut filled = Filled::default();
        for (number, &(time, now)) in rows.iter().enumerate() {
            while counter.deadline().is_some_and(|deadline| deadline < now) {
                counter.expire_first(window, &mut filled);
            }
            let row = CountedRow { row: number as u64, time: Some(time), now };
            counter.count(window, row, &mut filled);
        }
        counter.finish(window, &mut filled);
        filled.released.sort_unstable();
        assert!(filled.released.iter().copied().eq(0..rows.len() as u64), "all rows are released");
        filled.windows.iter().map(|w| format!("{}:{:?}", w.id, w.rows)).collect()
    }

    fn rows(count: i64) -> Vec<(i64, i64)> {
        (0..count).map(|i| (i, 0)).collect()
    }

    #[test]
    fn tumbling_windows_close_when_full() {
        assert_eq!(check(&window(2, 2), &rows(5)), ["0:[0, 1]", "1:[2, 3]"]);
    }

    #[test]
    fn a_slide_beyond_the_size_leaves_gaps() {
        assert_eq!(check(&window(2, 3), &rows(6)), ["0:[0, 1]", "1:[3, 4]"]);
    }

    #[test]
    fn partial_windows_come_at_the_end() {
        let partial = CountWindow { partial: true, ..window(3, 2) };
        assert_eq!(check(&partial, &rows(4)), ["0:[0, 1, 2]", "1:[2, 3]"]);
    }

    #[test]
    fn ties_stand_together() {
        let ties = CountWindow { ties_together: true, ..window(2, 2) };
        let rows = [(1, 0), (1, 0), (2, 0), (2, 0), (3, 0)];
        assert_eq!(check(&ties, &rows), ["0:[0, 1, 2, 3]"]);
    }

    #[test]
    fn after_a_timeout_the_next_row_starts_afresh() {
        let timed = CountWindow { timeout: Some(10), ..window(3, 3) };
        let rows = [(0, 0), (1, 10), (2, 11), (3, 12), (4, 13)];
        assert_eq!(check(&timed, &rows), ["0:[0, 1]", "1:[2, 3, 4]"]);
    }

    #[test]
    fn a_timeout_leaves_newer_windows_open() {
        let timed = CountWindow { timeout: Some(10), ..window(4, 2) };
        let rows = [(0, 0), (1, 0), (2, 5), (3, 12), (4, 12), (5, 12)];
        assert_eq!(check(&timed, &rows), ["0:[0, 1, 2]", "1:[2, 3, 4, 5]"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn every_window_holds_its_positions(count in 0u64..60, size in 1u64..7, slide in 1u64..9) {
            let mut expected = Vec::new();
            for id in 0.. {
                let first = id * slide;
                if first + size > count {
                    break;
                }
                expected.push(format!("{id}:{:?}", (first..first + size).collect::<Vec<_>>()));
            }
            prop_assert_eq!(check(&window(size, slide), &rows(count as i64)), expected);
        }
    }
}
