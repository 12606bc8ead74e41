//! The facade: execute SQL, take rows in, hand results out. Knows neither HTTP nor JSON answers.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::decode::{DecodeSpecRef, Decoded};
use crate::error::{Error, Result, SqlState};
use crate::sql::statement::SubscribeFrom;

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

/// What a text of statements answered: results in order up to the first error.
#[derive(Debug)]
pub struct Execution {
    /// One for each statement that ran.
    pub results: Vec<StatementResult>,
    /// What stopped the text.
    pub error: Option<Error>,
    /// The answer of SUBSCRIBE, which ends a text.
    pub subscription: Option<Subscription>,
}

/// Who sends rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestOrigin {
    /// `http`, `tcp` …: a producer belongs to one protocol.
    pub protocol: &'static str,
    /// The producer's id and the sequence of this request.
    pub producer: Option<(String, u64)>,
}

/// What happens when a subscriber reads more slowly than the query writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnSlow {
    /// It lags in the changelog, alone.
    #[default]
    Block,
    /// Changes are left out, with a gap frame.
    Drop,
    /// Changes are merged into their net effect.
    Conflate,
}

/// What a subscriber asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubscribeRequest {
    /// Where to begin.
    pub from: SubscribeFrom,
    /// Whether the current result comes first.
    pub snapshot: bool,
    /// What happens when the subscriber is slow.
    pub on_slow: OnSlow,
}

/// What a subscriber learns first.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// The continuous query.
    pub query: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// Whether its changelog holds insertions only.
    pub append_only: bool,
    /// The offset of the next change to come.
    pub offset: u64,
}

/// What a subscriber receives.
#[derive(Debug)]
pub enum SubscriptionFrame {
    /// The current result.
    Snapshot {
        /// Its rows.
        batches: Vec<RecordBatch>,
        /// The offset of the next change to come.
        offset: u64,
    },
    /// Changes.
    Data {
        /// The offset of the first row.
        offset: u64,
        /// The rows.
        batch: RecordBatch,
        /// +1 or -1 for each row; `None`: insertions only.
        ops: Option<Vec<i8>>,
    },
    /// The watermark moved, or nothing happened for a while.
    Progress {
        /// The watermark as it is shown: a time, a number, or null.
        watermark: serde_json::Value,
        /// The offset of the next change to come.
        offset: u64,
    },
    /// Changes that the subscriber will not see.
    Gap {
        /// The first missing offset.
        from: u64,
        /// The offset after the last missing one.
        to: u64,
        /// Why they are missing.
        reason: String,
    },
    /// The subscription ended.
    Error(Error),
}

/// The facade; this declaration stands in until the engine itself is here.
#[derive(Debug, Default)]
pub struct Engine;

/// A stream that takes rows in.
#[derive(Debug)]
pub struct StreamHandle;

/// The changes of a query as they come.
#[derive(Debug)]
pub struct Subscription {
    hello: Hello,
}

fn missing() -> Error {
    Error::new(SqlState::NOT_SUPPORTED, "this build has no engine")
}

impl Engine {
    /// Opens the data directory and starts what was running.
    #[expect(clippy::unused_async, reason = "the declaration of what the engine does")]
    pub async fn open(_data_dir: &std::path::Path) -> Result<Arc<Engine>> {
        Ok(Arc::new(Engine))
    }
    /// Runs statements in order up to the first error.
    #[expect(clippy::unused_async, reason = "the declaration of what the engine does")]
    pub async fn execute(&self, _sql: &str) -> Execution {
        Execution { results: Vec::new(), error: Some(missing()), subscription: None }
    }
    /// A stream by its name.
    pub fn stream(&self, _name: &str) -> Result<Arc<StreamHandle>> {
        Err(missing())
    }
    /// Follows a query.
    #[expect(clippy::unused_async, reason = "the declaration of what the engine does")]
    pub async fn subscribe(&self, _: &str, _: SubscribeRequest) -> Result<Subscription> {
        Err(missing())
    }
    /// Writes down what is in memory and stops.
    #[expect(clippy::unused_async, reason = "the declaration of what the engine does")]
    pub async fn shutdown(&self) {}
}

impl StreamHandle {
    /// The stream's name.
    pub fn name(&self) -> &str {
        ""
    }
    /// How its rows are read.
    pub fn decode_spec(&self) -> DecodeSpecRef {
        Arc::new(crate::decode::DecodeSpec {
            schema: Arc::new(arrow::datatypes::Schema::empty()),
            reject_unknown_fields: false,
            limits: crate::decode::Limits::default(),
        })
    }
    /// The ack that its durability stands for.
    pub fn default_ack(&self) -> AckLevel {
        AckLevel::Durable
    }
    /// Whether one bad row refuses its whole request.
    pub fn rejects_requests(&self) -> bool {
        false
    }
    /// Stores the good rows as one frame, the bad ones as dead letters, and waits for the ack.
    #[expect(clippy::unused_async, reason = "the declaration of what the engine does")]
    pub async fn ingest(
        &self,
        _decoded: Decoded,
        _ack: Option<AckLevel>,
        _origin: IngestOrigin,
    ) -> Result<IngestReceipt> {
        Err(missing())
    }
}

impl Subscription {
    /// What the subscriber learns first.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }
    /// The next frame; `None`: the query is gone.
    #[expect(clippy::unused_async, reason = "the declaration of what the engine does")]
    pub async fn next(&mut self) -> Option<SubscriptionFrame> {
        None
    }
}
