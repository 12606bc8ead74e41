//! Says when an aggregate puts out results, and how refinements relate: the EMIT clause.

/// When results appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmitSpec {
    /// The mode.
    pub mode: EmitMode,
    /// How long after its end a window still takes corrections, in the time column's units.
    pub allowed_lateness: i64,
}

/// The modes of EMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmitMode {
    /// One final row per window and key, when the watermark passes the window's end.
    OnClose,
    /// Every change as retraction + insertion, coalesced per step.
    Changes,
    /// Early results at intervals of processing time, then the final one.
    EveryInterval {
        /// Microseconds.
        interval: i64,
        /// How an early result relates to the previous one.
        refinement: Refinement,
    },
    /// Early results after so many input rows per window and key, then the final one.
    EveryRows {
        /// Rows.
        rows: u64,
        /// How an early result relates to the previous one.
        refinement: Refinement,
    },
}

/// How a later result of the same window and key relates to an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refinement {
    /// The earlier row is retracted.
    Retracting,
    /// The later row stands beside the earlier one, holding the total.
    Accumulating,
    /// The later row holds only what came since.
    Discarding,
}
