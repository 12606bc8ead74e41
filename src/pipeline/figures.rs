//! Says what is known of the operators of a query that runs: for EXPLAIN ANALYZE and `weir.operators`.

/// What is known of an operator that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatorFigures {
    /// Its name.
    pub name: &'static str,
    /// Bytes of its state.
    pub state_bytes: usize,
    /// Into how many shards its keys are split.
    pub shards: usize,
    /// Rows up to the last end of a step.
    pub rows: RowCount,
}

/// Rows through an operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCount {
    /// Rows taken.
    pub rows_in: u64,
    /// Rows put out.
    pub rows_out: u64,
}
