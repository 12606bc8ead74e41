//! States what a sink's target promises: rows and progress in one transaction, one writer at a time.
//!
//! # Contract
//! 1. One transaction of the target carries the effect of the changelog rows `[from, to)` and moves
//!    the sink's mark in `weir_progress` from `from` to `to`. Either both are there or neither is.
//! 2. [`SinkTarget::prepare`] claims the mark with a new fence. A writer whose fence is no longer
//!    the one in the table gets [`SinkError::Fenced`] and has written nothing.
//! 3. After an error that is not final, calling [`SinkTarget::commit`] again **with the same batch
//!    and range** is always right, also when nobody knows whether the COMMIT took place: the mark
//!    tells, and a transaction that counted already is not written again.
//! 4. A row that the target refuses is reported before the transaction that passes over it commits.
//!    So a crash may report it twice (same offset), but never zero times.
//! 5. Source of the changelog: the retraction of a key's row never comes in a later batch than the
//!    insertion that replaces it.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Report, SqlState};
use crate::sinks::ddl::TableName;
use crate::sinks::history::History;

/// How changes become rows of the target table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkMode {
    /// Every row is inserted; the input is append-only.
    Append,
    /// The table holds the current row of each key.
    Upsert,
    /// Every change is inserted, with `weir_offset` and `weir_op`.
    Changelog,
}

/// What a target needs to know about its sink.
#[derive(Debug, Clone)]
pub struct SinkPlan {
    /// Minted at CREATE SINK and never used again; progress is keyed by it.
    pub id: String,
    /// The sink's name, for messages.
    pub name: String,
    /// Identity of the changelog that offsets count in: an adopted mark of the same changelog is
    /// continued, one of another changelog says nothing and the sink starts at 0.
    pub changelog: String,
    /// Columns of the query.
    pub schema: SchemaRef,
    /// The target table.
    pub table: TableName,
    /// How changes become rows.
    pub mode: SinkMode,
    /// Columns of the key, in order; empty unless the mode is upsert.
    pub key: Vec<usize>,
    /// Whether a table that carries another sink's progress may be taken over.
    pub adopt: bool,
    /// Whether columns that an existing table lacks are added to it.
    pub add_columns: bool,
    /// The changelog's past, by which a mark is judged; `None`: marks are taken as they are.
    pub history: Option<Arc<dyn History>>,
}

/// Changelog rows of one transaction.
#[derive(Debug, Clone)]
pub struct SinkBatch {
    /// The rows, in the plan's schema.
    pub batch: RecordBatch,
    /// Per row +n or −n; `None`: every row is +1.
    pub weights: Option<Int64Array>,
    /// Changelog offset of row 0; row `i` has `first_offset + i`.
    pub first_offset: u64,
}

impl SinkBatch {
    /// The changelog offset of row `row`.
    pub fn offset(&self, row: usize) -> u64 {
        self.first_offset + row as u64
    }
    /// The weight of row `row`.
    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights.value(row))
    }
}

/// A row that the target would not take.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// Its offset in the changelog.
    pub offset: u64,
    /// The target's SQLSTATE, or the one that fits best.
    pub code: String,
    /// The target's message.
    pub reason: String,
    /// The row as a JSON object.
    pub row: String,
}

/// Takes refused rows, durably, before the transaction that passes over them commits.
pub type Refuse<'a> = &'a mut dyn FnMut(&[Refused]) -> Result<(), Error>;

/// A database that takes a changelog, exactly once.
pub trait SinkTarget: Send {
    /// Connects, creates or checks the table, claims the progress mark with a new fence, and
    /// answers the committed changelog offset to resume from. A mark of another past
    /// ([`SinkPlan::judge`]) is not claimed.
    fn prepare(&mut self, plan: &SinkPlan) -> Result<u64, SinkError>;

    /// Commits the effect of the changelog rows `[from, to)` and the mark `to` in one transaction.
    /// Answers how many rows it inserted, updated or deleted.
    fn commit(
        &mut self,
        batch: &SinkBatch,
        from: u64,
        to: u64,
        refuse: Refuse<'_>,
    ) -> Result<u64, SinkError>;

    /// Where the next commit must end: an earlier run had promised the receiver a range from the mark
    /// to here, and may have delivered it. `None`: anywhere.
    fn promised(&self) -> Option<u64> {
        None
    }

    /// Takes the mark of a sink that is dropped out of the target. The table stays.
    fn forget(&mut self, plan: &SinkPlan) -> Result<(), SinkError>;
}

/// Stands for all targets in a simulation.
pub trait OpenTarget: Send + Sync + std::fmt::Debug {
    /// The target of a plan, not connected yet.
    fn open(&self, plan: &SinkPlan) -> Box<dyn SinkTarget>;
}

/// Why a sink cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Another writer has claimed the mark: this one must stop.
    #[error("sink \"{sink}\" has been taken over by another writer")]
    Fenced {
        /// Name of the sink.
        sink: String,
        /// What the progress row says.
        found: String,
    },
    /// The target's mark does not belong to the changelog that is here.
    #[error("target of sink \"{sink}\" is ahead of this data directory")]
    Ahead {
        /// Name of the sink.
        sink: String,
        /// What the mark and the changelog say.
        detail: String,
    },
    /// The table carries another sink's progress.
    #[error("table \"{table}\" is the target of another sink")]
    InUse {
        /// The table.
        table: String,
        /// Ids of the other sinks.
        others: Vec<String>,
    },
    /// The table, its columns or its key do not fit the sink.
    #[error("{message}")]
    Mismatch {
        /// Code.
        code: SqlState,
        /// Primary message.
        message: String,
        /// Facts.
        detail: String,
        /// Action.
        hint: String,
    },
    /// A retraction came to a sink that only appends.
    #[error("sink \"{sink}\" in append mode got a retraction")]
    Retraction {
        /// Name of the sink.
        sink: String,
        /// The retraction's offset.
        offset: u64,
    },
    /// A weight that no query gives.
    #[error("change at offset {offset} has the weight {weight}")]
    Weight {
        /// The change's offset.
        offset: u64,
        /// Its weight.
        weight: i64,
    },
    /// The target cannot be reached, or the connection was lost.
    #[error("target of sink \"{sink}\" cannot be reached")]
    Unavailable {
        /// Name of the sink.
        sink: String,
        /// What the system says.
        cause: String,
    },
    /// The target refused a statement for a reason that lies in no row.
    #[error("target of sink \"{sink}\" reports: {message}")]
    Target {
        /// Name of the sink.
        sink: String,
        /// The target's own code.
        code: String,
        /// The target's message.
        message: String,
    },
    /// Refused rows could not be recorded.
    #[error("{}", .0.message())]
    Record(Error),
    /// A value cannot be brought into the form that targets take.
    #[error("column values of sink \"{sink}\" cannot be converted")]
    Conversion {
        /// Name of the sink.
        sink: String,
        /// Arrow's message.
        cause: String,
    },
}

impl SinkError {
    /// Whether trying again cannot help.
    pub fn is_final(&self) -> bool {
        match self {
            SinkError::Unavailable { .. } | SinkError::Target { .. } | SinkError::Record(_) => {
                false
            }
            SinkError::Fenced { .. }
            | SinkError::Ahead { .. }
            | SinkError::InUse { .. }
            | SinkError::Mismatch { .. }
            | SinkError::Retraction { .. }
            | SinkError::Weight { .. }
            | SinkError::Conversion { .. } => true,
        }
    }
}

impl Report for SinkError {
    fn code(&self) -> SqlState {
        match self {
            SinkError::Fenced { .. } | SinkError::Ahead { .. } => SqlState::OBJECT_STATE,
            SinkError::InUse { .. } => SqlState::OBJECT_IN_USE,
            SinkError::Mismatch { code, .. } => *code,
            SinkError::Retraction { .. } => SqlState::APPEND_ONLY_REQUIRED,
            SinkError::Weight { .. } => SqlState::INTERNAL,
            SinkError::Unavailable { .. } => SqlState::CONNECTION,
            // A code of the target that Weir raises too keeps its meaning; else it is in the detail.
            SinkError::Target { code, .. } => SqlState::ALL
                .iter()
                .find(|known| known.0 == code)
                .copied()
                .unwrap_or(SqlState::CONNECTION),
            SinkError::Record(error) => error.code(),
            SinkError::Conversion { .. } => SqlState::NUMERIC_RANGE,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            SinkError::Fenced { found, .. } => Some(found.clone()),
            SinkError::Ahead { detail, .. } => Some(detail.clone()),
            SinkError::InUse { others, .. } => {
                Some(format!("weir_progress names the sink {}.", others.join(", ")))
            }
            SinkError::Mismatch { detail, .. } => Some(detail.clone()),
            SinkError::Retraction { offset, .. } => {
                Some(format!("The change at offset {offset} retracts a row."))
            }
            SinkError::Weight { .. } => None,
            SinkError::Unavailable { cause, .. } | SinkError::Conversion { cause, .. } => {
                Some(cause.clone())
            }
            SinkError::Target { code, .. } => Some(format!("The target's code is {code}.")),
            SinkError::Record(error) => error.detail(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            SinkError::Fenced { .. } => {
                Some("Stop the other writer, then create this sink anew with adopt = true.".into())
            }
            SinkError::Ahead { .. } => Some(
                "Start the server on the newer data directory; or drop the sink and what it wrote, and \
                 create it again."
                    .into(),
            ),
            SinkError::InUse { .. } => Some(
                "Name another table, or take this one over from the other sink with adopt = true."
                    .into(),
            ),
            SinkError::Mismatch { hint, .. } => Some(hint.clone()),
            SinkError::Retraction { .. } => {
                Some("Create the sink with mode = 'upsert' or mode = 'changelog'.".into())
            }
            SinkError::Unavailable { .. } => {
                Some("The changelog keeps the rows; the sink tries again by itself.".into())
            }
            SinkError::Record(error) => error.hint(),
            SinkError::Weight { .. } | SinkError::Target { .. } | SinkError::Conversion { .. } => {
                None
            }
        }
    }
}
