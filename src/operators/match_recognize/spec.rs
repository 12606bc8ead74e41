//! Says what MATCH_RECOGNIZE looks for, in which rows and in which order.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;

use super::cells::Cell;
use super::pattern::Pattern;

/// Variables that a pattern may have: one bit each.
pub const VARIABLES_MAX: usize = 64;

/// What is looked for in which rows.
#[derive(Debug, Clone)]
pub struct MatchSpec {
    /// Columns whose values have partitions of their own; they are put out.
    pub partition: Vec<usize>,
    /// The order of rows.
    pub order: MatchOrder,
    /// Further columns by which rows of one time are ordered.
    pub ties: Vec<(usize, SortOptions)>,
    /// How far below its arrival watermark a row may lie, in the time column's units.
    pub lateness: i64,
    /// The pattern, over the variables.
    pub pattern: Pattern,
    /// The names of the variables.
    pub variables: Vec<Arc<str>>,
    /// What a row mapped to a variable satisfies, one for each.
    pub conditions: Vec<Condition>,
    /// Where the search goes on behind a match.
    pub skip: Skip,
    /// The width below which a match lies in time.
    pub within: Option<i64>,
    /// The columns of the frame.
    pub cells: Vec<Cell>,
    /// Over these conditions and measures are evaluated.
    pub frame: SchemaRef,
    /// What is put out behind the partition's columns.
    pub measures: Vec<Arc<dyn PhysicalExpr>>,
    /// Rows before an attempt that have to be kept.
    pub reach: usize,
    /// Whether partitions are kept because their matches are numbered.
    pub is_numbered: bool,
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// Partition columns, then measures.
    pub schema: SchemaRef,
}

/// The ORDER BY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchOrder {
    /// By this event-time column first, in log order at last.
    Time(usize),
    /// In log order.
    Log,
}

/// What a row mapped to a variable satisfies: both.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// A condition on the row and those before it.
    pub alone: Option<Arc<dyn PhysicalExpr>>,
    /// A condition that looks back at the match.
    pub looking_back: Option<Arc<dyn PhysicalExpr>>,
}

/// AFTER MATCH SKIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// PAST LAST ROW.
    PastLastRow,
    /// TO NEXT ROW.
    ToNextRow,
    /// TO FIRST variable.
    ToFirst(usize),
    /// TO LAST variable.
    ToLast(usize),
}
