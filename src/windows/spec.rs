//! Names every kind of window with its parameters, in the units of the time column.

use std::fmt;

use chrono_tz::Tz;

use crate::windows::calendar::DAY;

/// A width on the time line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Fixed: microseconds, or units of logical time. Always > 0.
    Fixed(i64),
    /// Whole days, by the calendar of the window's time zone: 23 to 25 hours.
    Days(i64),
    /// Whole months by the calendar.
    Months(i64),
}

/// A window over event time whose edges are known from the time line alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeWindow {
    /// Which of the kinds.
    pub kind: TimeWindowKind,
    /// Shift of the alignment, in the time column's units (calendar: microseconds of local time).
    pub offset: i64,
    /// Zone whose midnight and calendar align the windows; `None` is UTC.
    pub timezone: Option<Tz>,
}

/// Kinds of time windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeWindowKind {
    /// Adjacent windows of one size.
    Tumble {
        /// Width.
        size: Span,
    },
    /// Windows of `size` starting every `slide`; they overlap when slide < size and leave gaps when
    /// slide > size.
    Hop {
        /// Distance between starts.
        slide: Span,
        /// Width.
        size: Span,
    },
    /// Windows of several sizes, one of each starting every `slide`. They share their slices.
    Horizons {
        /// Distance between starts.
        slide: Span,
        /// Widths.
        sizes: Sizes,
    },
    /// Windows that grow by `step` up to `size`, then restart.
    Cumulate {
        /// Growth.
        step: Span,
        /// Greatest width; a whole multiple of `step`.
        size: Span,
    },
    /// One window from `since` on, that never closes before the end of time.
    Landmark {
        /// Start, in the time column's units.
        since: i64,
    },
}

/// Widths of windows that start together: one or more, ascending.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Those behind `count` repeat the last one.
    spans: [Span; Sizes::COUNT_MAX],
    count: usize,
}

impl Sizes {
    /// So many sizes at most.
    pub const COUNT_MAX: usize = 8;

    /// Some sizes, in any order. `None` where there are none or too many.
    pub fn new(spans: &[Span]) -> Option<Sizes> {
        let mut ascending = spans.to_vec();
        ascending.sort_by_key(|span| span.about());
        let last = *ascending.last()?;
        if spans.len() > Sizes::COUNT_MAX {
            return None;
        }
        let mut sizes = Sizes { spans: [last; Sizes::COUNT_MAX], count: spans.len() };
        sizes.spans[..spans.len()].copy_from_slice(&ascending);
        Some(sizes)
    }

    /// All of them, ascending.
    pub fn as_slice(&self) -> &[Span] {
        &self.spans[..self.count]
    }

    /// The greatest.
    pub fn widest(&self) -> Span {
        self.spans[Sizes::COUNT_MAX - 1]
    }
}

impl fmt::Debug for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// SESSION: rows of one key belong together while the distance to the next is below `gap`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionWindow {
    /// Distance that starts a new session; `window_end` = last row + gap.
    pub gap: i64,
    /// Longest duration; cut in event-time order.
    pub max: Option<i64>,
}

/// COUNT_WINDOW.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountWindow {
    /// Rows (or distinct ORDER values) per window.
    pub size: u64,
    /// Rows between the starts of neighbouring windows; = size when tumbling.
    pub slide: u64,
    /// Emit windows that are not full as well.
    pub partial: bool,
    /// Count distinct values of the order column instead of rows.
    pub ties_together: bool,
    /// Order by event time once the watermark has passed, instead of log order.
    pub ordered: bool,
    /// Processing time (microseconds) after a window's first row at which it closes though not full.
    pub timeout: Option<i64>,
}

/// Which boundary rows belong to a punctuation window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// Start row and end row.
    Both,
    /// The start row only.
    Start,
    /// The end row only.
    End,
    /// Neither.
    None,
}

/// PUNCTUATION_WINDOW without its predicates, which are expressions of the operator's spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PunctuationWindow {
    /// Which boundary rows belong to the window.
    pub include: Include,
    /// Closes at this many rows.
    pub max_rows: Option<u64>,
    /// Closes when a row lies at least this far (event time) behind the first one.
    pub max_duration: Option<i64>,
    /// Windows with fewer rows are not emitted.
    pub min_rows: Option<u64>,
    /// Closes after this long (processing time, microseconds) without a row.
    pub idle: Option<i64>,
}

impl PunctuationWindow {
    /// Whether a window of so many rows is put out.
    pub fn is_large_enough(&self, rows: usize) -> bool {
        rows as u64 >= self.min_rows.unwrap_or(0).max(1)
    }
}

impl Span {
    /// About how wide it is: days of 24 hours, months of 30 days. At least 1.
    pub fn about(self) -> i64 {
        match self {
            Span::Fixed(width) => width,
            Span::Days(days) => days.saturating_mul(DAY),
            Span::Months(months) => months.saturating_mul(30 * DAY),
        }
        .max(1)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Span::Fixed(width) => write!(f, "{width}"),
            Span::Days(days) => write!(f, "{days} days"),
            Span::Months(months) => write!(f, "{months} months"),
        }
    }
}
