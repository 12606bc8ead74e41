//! The facade: execute SQL, take rows in, hand results out. Knows neither HTTP nor JSON answers.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

/// When an append is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AckLevel {
    /// It is in memory only (streams with durability 'memory').
    Memory,
    /// The operating system has it.
    Written,
    /// It is on the disk.
    Durable,
    /// It is durable as the stream asks and in the results of all running queries.
    Processed,
}

/// What one statement answered.
#[derive(Debug, Clone)]
pub struct StatementResult {
    /// PostgreSQL's command tag: `CREATE STREAM`, `INSERT 0 3`, `SELECT 10` …
    pub tag: String,
    /// Columns of the answer; empty for commands.
    pub schema: SchemaRef,
    /// Rows of the answer.
    pub batches: Vec<RecordBatch>,
}

/// What became of the rows of one ingest request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IngestReceipt {
    /// Rows stored.
    pub accepted: u64,
    /// Rows refused.
    pub rejected: u64,
    /// Offset of the first stored row (the next offset when none was stored).
    pub first_offset: u64,
    /// The offset after the last stored row.
    pub next_offset: u64,
    /// The refused rows: line from 1, code, message. At most 1,000; `rejected` counts them all.
    pub errors: Vec<(u64, crate::error::SqlState, String)>,
}

/// A shared reference to a column list.
pub type Columns = Arc<[String]>;
