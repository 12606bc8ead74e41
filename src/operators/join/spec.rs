//! Says what a join joins: the kind, the keys, the condition, the bound on time.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;

use crate::time::EventTime;

/// Which rows come out. What SQL calls RIGHT is LEFT with the sides swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// Pairs that match.
    Inner,
    /// And rows of the left side that match none, with nulls.
    Left,
    /// And those of the right side.
    Full,
    /// Rows of the left side that match.
    Semi,
    /// Rows of the left side that match none.
    Anti,
    /// All rows of the left side, with a column that says whether they match.
    Mark,
}

impl JoinKind {
    /// Whether pairs come out.
    pub fn shows_pairs(self) -> bool {
        matches!(self, JoinKind::Inner | JoinKind::Left | JoinKind::Full)
    }

    /// Whether rows of that side come out when they match nothing.
    pub fn shows_unmatched(self, port: usize) -> bool {
        match self {
            JoinKind::Left | JoinKind::Anti => port == 0,
            JoinKind::Full => true,
            JoinKind::Inner | JoinKind::Semi | JoinKind::Mark => false,
        }
    }

    /// Whether matches of that side's rows have to be counted.
    pub fn counts_matches(self, port: usize) -> bool {
        self.shows_unmatched(port) || (matches!(self, JoinKind::Semi | JoinKind::Mark) && port == 0)
    }
}

/// What to join.
#[derive(Debug, Clone)]
pub struct JoinSpec {
    /// Which rows come out.
    pub kind: JoinKind,
    /// Pairs of columns, left and right, of one type, that must be equal.
    pub keys: Vec<(usize, usize)>,
    /// Whether nulls of the keys are equal.
    pub nulls_match: bool,
    /// What else must hold, over the columns of the left side followed by those of the right.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Rows of the left side meet the right side as it is when they come, and nothing corrects them.
    pub as_of_now: bool,
    /// How far apart the event times may be.
    pub within: Option<Within>,
    /// Columns of the inputs.
    pub inputs: [SchemaRef; 2],
    /// Whether no retraction ever comes in, per input.
    pub append_only: [bool; 2],
    /// Whether both sides read the same log, so that rows of one frame come on both.
    pub shares_input: bool,
    /// Columns of both sides, all nullable: what `filter` reads.
    pub joined: SchemaRef,
    /// Columns of the output: of both sides, or of the left one; of a mark join with the mark behind.
    pub schema: SchemaRef,
}

impl JoinSpec {
    /// Whether rows without a match wait until the watermark proves that none will come, so that
    /// nothing ever has to be retracted.
    pub fn defers(&self) -> bool {
        let leaves = |port: usize| {
            !self.kind.shows_unmatched(port)
                || self.within.as_ref().is_some_and(|within| within.leaves(port))
        };
        !self.as_of_now
            && (self.kind.shows_unmatched(0) || self.kind.shows_unmatched(1))
            && self.append_only == [true; 2]
            && leaves(0)
            && leaves(1)
    }

    /// Whether nothing that came out is ever retracted.
    pub fn is_append_only(&self) -> bool {
        if self.as_of_now {
            return self.append_only[0];
        }
        let grows = match self.kind {
            JoinKind::Inner | JoinKind::Semi => true,
            JoinKind::Left | JoinKind::Full | JoinKind::Anti => self.defers(),
            // A match may come at any time, and changes what was said of the row.
            JoinKind::Mark => false,
        };
        grows && self.append_only == [true; 2]
    }
}

/// A bound on the distance of two rows in event time: `low <= left - right <= high`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within {
    /// The columns, left and right: event times that a watermark bounds.
    pub times: [usize; 2],
    /// The least distance.
    pub low: Option<i64>,
    /// The greatest distance.
    pub high: Option<i64>,
    /// By how much each column trails its watermark.
    pub delays: [i64; 2],
    /// The columns are bounds of windows: none is expected at the watermark itself any more.
    pub windows: bool,
    /// How much later than the watermark a row may be.
    pub allowed_lateness: i64,
    /// Width of the buckets in which rows leave.
    pub granule: i64,
}

impl Within {
    /// Whether rows of that side ever leave.
    pub fn leaves(&self, port: usize) -> bool {
        if port == 0 { self.low.is_some() } else { self.high.is_some() }
    }

    /// How much later than a row of that side its last match may be, where that is bounded.
    pub fn distance(&self, port: usize) -> i64 {
        let distance = if port == 0 { self.low.map(i64::saturating_neg) } else { self.high };
        distance.unwrap_or(i64::MAX)
    }

    /// Rows of that side whose time is below this can match nothing that still comes.
    pub fn bound(&self, port: usize, watermark: EventTime) -> Option<i64> {
        let distance = if port == 0 { self.low? } else { self.high?.checked_neg()? };
        Some(match watermark {
            EventTime::MIN => return None,
            EventTime::MAX => i64::MAX,
            EventTime(watermark) => watermark
                .saturating_sub(self.allowed_lateness)
                .saturating_sub(self.delays[1 - port])
                .saturating_add(distance)
                .saturating_add(i64::from(self.windows)),
        })
    }

    /// Whether the times of two rows are near enough.
    #[inline]
    pub fn holds(&self, left: i64, right: i64) -> bool {
        let distance = i128::from(left) - i128::from(right);
        self.low.is_none_or(|low| i128::from(low) <= distance)
            && self.high.is_none_or(|high| distance <= i128::from(high))
    }
}
