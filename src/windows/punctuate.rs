//! Delimits the windows of one partition by its rows: start rows, end rows, caps, silence.
//!
//! # Rules
//! * Without START a window opens at the first row after the previous one closed; with START only a
//!   start row opens one, and rows before it belong to none.
//! * An end row closes the open window. Whether start and end rows belong to it says INCLUDE; an end
//!   row that does not belong opens nothing, unless it is a start row too.
//! * A start row closes the window before it (`start`). A row that is both start and end is one
//!   window alone; the window before it closes as before any start row.
//! * A row at least MAX_DURATION (event time) behind the first row of the window closes it first, then counts
//!   like any row that comes while no window is open. No other row comes once the watermark is there: the
//!   window's owner asks for its expiry, and closes it then. The MAX_ROWS-th row closes its window.
//! * A window with fewer rows than MIN_ROWS, or none, keeps its number and is not emitted.
//! * After IDLE of processing time without a row the window closes, before any row with a later
//!   processing time.

use std::fmt;

use crate::windows::spec::{Include, PunctuationWindow};

/// Why a window closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// An end row.
    End,
    /// A punctuation that covers the partition.
    Punctuation,
    /// MAX_ROWS.
    MaxRows,
    /// MAX_DURATION.
    MaxDuration,
    /// IDLE.
    Idle,
    /// The start row of the next window.
    Start,
}

impl Reason {
    /// The reason with this text.
    pub fn of_text(text: &str) -> Option<Reason> {
        use Reason::{End, Idle, MaxDuration, MaxRows, Punctuation, Start};
        let all = [End, Punctuation, MaxRows, MaxDuration, Idle, Start];
        all.into_iter().find(|reason| reason.as_str() == text)
    }

    /// The text in column `window_reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::End => "end",
            Reason::Punctuation => "punctuation",
            Reason::MaxRows => "max_rows",
            Reason::MaxDuration => "max_duration",
            Reason::Idle => "idle",
            Reason::Start => "start",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A row as the delimiter sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkedRow {
    /// The row's number, by which its owner finds it again; ascends with the log.
    pub row: u64,
    /// Event time, if there is a time column.
    pub time: Option<i64>,
    /// Processing time of the row.
    pub now: i64,
    /// Whether START holds; `None` where the window has no START.
    pub start: Option<bool>,
    /// Whether END holds.
    pub end: bool,
}

/// A window and its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelimitedWindow {
    /// Number of the window in its partition, from 0.
    pub id: u64,
    /// Numbers of the rows, ascending.
    pub rows: Vec<u64>,
    /// Time of the first row.
    pub start: Option<i64>,
    /// Time of the last row.
    pub end: Option<i64>,
    /// Why it closed; `None` while it is open.
    pub reason: Option<Reason>,
}

/// What a step brought to an end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delimited {
    /// Windows that closed and are to be emitted, in order.
    pub windows: Vec<DelimitedWindow>,
    /// Rows that no window will ask for any more.
    pub released: Vec<u64>,
    /// Windows that closed without being emitted.
    pub discarded: Vec<u64>,
}

/// The punctuation windows of one partition.
#[derive(Debug, Clone, Default)]
pub struct Delimiter {
    open: Option<DelimitedWindow>,
    next_id: u64,
    /// Processing time of the last row while a window was open.
    last_row: i64,
}

impl Delimiter {
    /// The open window, the number of the next one, and the processing time of the last row.
    pub fn parts(&self) -> (Option<&DelimitedWindow>, u64, i64) {
        (self.open.as_ref(), self.next_id, self.last_row)
    }

    /// Puts a delimiter together of its [`parts`](Self::parts).
    pub fn from_parts(open: Option<DelimitedWindow>, next_id: u64, last_row: i64) -> Delimiter {
        Delimiter { open, next_id, last_row }
    }

    /// Takes one row.
    pub fn take(&mut self, window: &PunctuationWindow, row: MarkedRow, closed: &mut Delimited) {
        let expiry = self.expiry(window);
        if row.time.is_some_and(|time| expiry.is_some_and(|expiry| expiry <= time)) {
            self.close(window, Reason::MaxDuration, closed);
        }
        self.last_row = row.now;
        let starts = row.start == Some(true);
        let has_start_row = matches!(window.include, Include::Both | Include::Start);
        let has_end_row = matches!(window.include, Include::Both | Include::End);
        if starts {
            if self.open.is_some() {
                self.close(window, Reason::Start, closed);
            }
            self.open_window();
        } else if self.open.is_none() {
            if row.start.is_some() || (row.end && !has_end_row) {
                closed.released.push(row.row);
                return;
            }
            self.open_window();
        }
        let belongs = match (starts, row.end) {
            (true, true) => has_start_row || has_end_row,
            (true, false) => has_start_row,
            (false, true) => has_end_row,
            (false, false) => true,
        };
        let open = self.open.as_mut().expect("a window was open or has just been opened");
        if belongs {
            if open.rows.is_empty() {
                open.start = row.time;
            }
            open.rows.push(row.row);
            open.end = row.time;
        } else {
            closed.released.push(row.row);
        }
        let count = open.rows.len() as u64;
        if row.end {
            self.close(window, Reason::End, closed);
        } else if window.max_rows.is_some_and(|max| count >= max) {
            self.close(window, Reason::MaxRows, closed);
        }
    }

    /// The window that is open.
    pub fn open(&self) -> Option<&DelimitedWindow> {
        self.open.as_ref()
    }

    /// The processing time after which the open window is idle.
    pub fn deadline(&self, window: &PunctuationWindow) -> Option<i64> {
        let idle = window.idle?;
        self.open.as_ref().map(|_| self.last_row.saturating_add(idle))
    }

    /// The event time from which on no row belongs to the open window any more.
    pub fn expiry(&self, window: &PunctuationWindow) -> Option<i64> {
        let first = self.open.as_ref()?.start?;
        Some(first.saturating_add(window.max_duration?))
    }

    /// Closes the open window, if there is one.
    pub fn close(&mut self, window: &PunctuationWindow, reason: Reason, closed: &mut Delimited) {
        let Some(mut open) = self.open.take() else { return };
        closed.released.extend_from_slice(&open.rows);
        if !window.is_large_enough(open.rows.len()) {
            closed.discarded.push(open.id);
            return;
        }
        open.reason = Some(reason);
        closed.windows.push(open);
    }

    /// Bytes held.
    pub fn state_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.rows.capacity() * size_of::<u64>())
    }

    fn open_window(&mut self) {
        let id = self.next_id;
        self.next_id += 1;
        self.open =
            Some(DelimitedWindow { id, rows: Vec::new(), start: None, end: None, reason: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(include: Include) -> PunctuationWindow {
        PunctuationWindow {
            include,
            max_rows: None,
            max_duration: None,
            min_rows: None,
            idle: None,
        }
    }

    /// Rows as letters: `s` start, `e` end, `b` both, `.` neither; row `i` is at time `i`.
    /// `starts`: whether the window has a START.
    fn check(window: &PunctuationWindow, starts: bool, rows: &str) -> Vec<String> {
        let mut delimiter = Delimiter::default();
        let mut closed = Delimited::default();
        for (number, letter) in rows.chars().enumerate() {
            let row = MarkedRow {
                row: number as u64,
                time: Some(number as i64),
                now: 0,
                start: starts.then_some(matches!(letter, 's' | 'b')),
                end: matches!(letter, 'e' | 'b'),
            };
            delimiter.take(window, row, &mut closed);
        }
        let text = |w: &DelimitedWindow| {
            format!("{}:{:?} {}", w.id, w.rows, w.reason.expect("it is closed"))
        };
        closed.windows.iter().map(text).collect()
    }

    #[test]
    fn without_start_every_row_belongs_to_a_window() {
        let windows = check(&window(Include::Both), false, "..e.ee.");
        assert_eq!(windows, ["0:[0, 1, 2] end", "1:[3, 4] end", "2:[5] end"]);
    }

    #[test]
    fn an_end_row_outside_opens_nothing() {
        let windows = check(&window(Include::None), false, "..e.ee.e");
        assert_eq!(windows, ["0:[0, 1] end", "1:[3] end", "2:[6] end"]);
    }

    #[test]
    fn with_start_rows_before_a_start_row_belong_to_none() {
        let windows = check(&window(Include::Both), true, "..s.e.s.s.e");
        assert_eq!(windows, ["0:[2, 3, 4] end", "1:[6, 7] start", "2:[8, 9, 10] end"]);
        let windows = check(&window(Include::None), true, "..s.e.s.s.e");
        assert_eq!(windows, ["0:[3] end", "1:[7] start", "2:[9] end"]);
    }

    #[test]
    fn a_row_that_is_start_and_end_is_a_window_alone() {
        let windows = check(&window(Include::Both), true, "s.b.e");
        assert_eq!(windows, ["0:[0, 1] start", "1:[2] end"]);
        assert_eq!(check(&window(Include::None), true, "s.b"), ["0:[1] start"]);
    }

    #[test]
    fn the_caps_close_windows() {
        let capped = PunctuationWindow { max_rows: Some(2), ..window(Include::Both) };
        assert_eq!(check(&capped, false, "...e"), ["0:[0, 1] max_rows", "1:[2, 3] end"]);
        let capped = PunctuationWindow { max_duration: Some(3), ..window(Include::Both) };
        assert_eq!(check(&capped, false, "....e"), ["0:[0, 1, 2] max_duration", "1:[3, 4] end"]);
    }

    #[test]
    fn small_windows_keep_their_number_and_are_not_emitted() {
        let least = PunctuationWindow { min_rows: Some(2), ..window(Include::Both) };
        assert_eq!(check(&least, false, "e.e"), ["1:[1, 2] end"]);
    }
}
