//! Is what a graph gives at the end of a step, and what it tells of its operators.

use std::sync::Arc;

use crate::data::change::Change;
use crate::data::punctuation::Punctuation;
use crate::operators::operator::{LateRow, RejectedRow};
use crate::time::EventTime;

/// Rows through an operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCount {
    /// Rows taken.
    pub rows_in: u64,
    /// Rows put out.
    pub rows_out: u64,
}

/// What is known of an operator that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatorFigures {
    /// What EXPLAIN calls it.
    pub name: &'static str,
    /// Bytes of state.
    pub state_bytes: usize,
    /// Rows, groups, windows or partitions that it holds.
    pub held: usize,
    /// Into how many shards its keys are split.
    pub shards: usize,
    /// Rows up to the last end of a step.
    pub rows: RowCount,
}

/// What came out of a graph.
#[derive(Debug)]
pub struct StepOutput {
    /// Rows, in order.
    pub changes: Vec<Change>,
    /// Bytes of those rows, as [`bytes_of`](crate::operators::operator::bytes_of) counts them.
    pub bytes: u64,
    /// The output's watermark.
    pub watermark: EventTime,
    /// Punctuations that hold for the output.
    pub punctuations: Vec<Arc<Punctuation>>,
    /// Rows that were dropped as too late.
    pub late: Vec<LateRow>,
    /// Rows that were refused.
    pub rejected: Vec<RejectedRow>,
    /// Per operator, by its index in the graph.
    pub rows: Vec<RowCount>,
}

impl Default for StepOutput {
    fn default() -> StepOutput {
        StepOutput {
            changes: Vec::new(),
            bytes: 0,
            watermark: EventTime::MIN,
            punctuations: Vec::new(),
            late: Vec::new(),
            rejected: Vec::new(),
            rows: Vec::new(),
        }
    }
}
