//! The facade: execute SQL, take rows in, hand results out. Knows neither HTTP nor answer formats.
//!
//! In reading order: `state` (everything that runs), `registry` (what exists), `stream`, `ingest`, `budget`, `shed` and `producers` (rows in),
//! `query` (a query that runs), `recounts` (figures of streams after a restart), `snapshots` and `snapshot_writing` (its state on the disk), `standing` (its result without its changelog), `start` (how it begins or goes on), `table`, `execute` (statements), `insert`, `copy`, `create`, `alter` (drop, pause), `swap` (replace, rebuild), `late_rows`, `lost_rows` (power loss), `resting` (what is set aside),
//! `select` (one-off answers), `system` (the schema `weir`), `reports`, `report_log`, `report_retention` and `reported` (dead letters, late rows), `adapted` (rows shed for want of memory),
//! `stopped` (answers that are not whole), `timers`, `retention`, `flush`, `sinks`, `explain`, `data_dir`, `open` (startup), `recover`.

mod adapted;
mod alter;
mod alter_options;
mod assign;
mod budget;
mod copy;
mod create;
mod data_dir;
mod exact_numbers;
mod execute;
mod explain;
mod flush;
mod ingest;
mod insert;
mod late_rows;
mod lost_rows;
mod open;
mod producers;
mod punctuation_meta;
mod query;
mod query_progress;
mod recounts;
mod recover;
mod registry;
mod report_log;
mod report_retention;
mod reported;
mod reports;
mod resting;
mod retention;
mod select;
mod select_asof;
mod select_match;
mod select_union;
mod shed;
mod sink_source;
mod sinks;
mod snapshot_writing;
mod snapshots;
mod standing;
mod start;
mod state;
mod stop;
mod stopped;
mod stream;
mod swap;
mod swap_check;
mod system;
mod table;
mod timers;
mod upsert;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::crew::Crew;
use crate::error::{Error, SqlState};
use crate::log::log::LogOptions;
use crate::log::storage::Storage;
use crate::sinks::sink::OpenTarget;
use crate::time::Clock;
pub use crate::views::subscription::{
    Hello, OnSlow, SubscribeRequest, Subscription, SubscriptionFrame,
};

pub use ingest::{IngestOrigin, StreamHandle};
pub use producers::Producer;
pub use state::Engine;

/// More shards than this would be too small.
pub const SHARDS_MAX: usize = 64;
/// Below that tables of keys are quick, and threads cost more than they save.
const SHARDS_FROM: (usize, usize) = (500_000, 4_096);

/// What an engine needs to know before it starts.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Threads that run queries.
    pub query_threads: usize,
    /// Whether a thread of the engine's own drives timers; scripts drive them by hand.
    pub timers: bool,
    /// Memory of one SELECT, in bytes.
    pub select_memory: usize,
    /// Rows of one SELECT's answer.
    pub select_rows: usize,
    /// How long a SELECT may take, in microseconds.
    pub select_time: i64,
    /// Shards into which a GROUP BY of many keys is split; 1: none.
    pub shards: usize,
    /// Keys from which on it is split, and rows from which on a batch goes to several threads.
    pub shards_from: (usize, usize),
    /// Rows that a step of a query takes at most; a frame is never cut.
    pub step_rows: usize,
    /// Least time between two snapshots of a query, microseconds; `i64::MAX`: no snapshots.
    pub snapshot_interval: i64,
    /// Bytes of state that are copied between two steps while a snapshot is under way.
    pub snapshot_portion: usize,
    /// Bytes of a segment of a log, about; a new one is begun then.
    pub segment_bytes: u64,
    /// Rows and bytes that may wait for a stream's writer.
    pub queue: (u64, usize),
    /// Bytes of a report of the server's own: of dead letters, late rows, shed rows.
    pub report_bytes: u64,
}

impl EngineSettings {
    /// The defaults over a data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> EngineSettings {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        EngineSettings {
            data_dir: data_dir.into(),
            query_threads: cores.max(2),
            timers: true,
            select_memory: 256 << 20,
            select_rows: 10_000_000,
            select_time: 60 * crate::time::SECOND,
            shards: 1,
            shards_from: SHARDS_FROM,
            step_rows: 65_536,
            snapshot_interval: 10 * crate::time::SECOND,
            snapshot_portion: 2 << 20,
            segment_bytes: LogOptions::default().segment_bytes,
            queue: (1 << 20, 256 << 20),
            report_bytes: 64 << 20,
        }
    }
}

/// What an engine stands on. A server has a disk, the machine's clock and threads; a simulation has
/// its own of each.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where everything is kept.
    pub storage: Arc<dyn Storage>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Who works.
    pub crew: Crew,
    /// Whom sinks write to; `None`: whomever their options name.
    pub targets: Option<Arc<dyn OpenTarget>>,
}

/// When an append is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AckLevel {
    /// It is in memory only (streams with durability 'memory').
    Memory,
    /// The operating system has it.
    Written,
    /// It is on the disk.
    Durable,
    /// It is kept as the stream asks, and in the results of all running queries.
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

/// What a text of statements answered.
#[derive(Default)]
pub struct Execution {
    /// One per statement that ran.
    pub results: Vec<StatementResult>,
    /// Why the next statement did not run.
    pub error: Option<Error>,
    /// The last statement was SUBSCRIBE, and this is what it answers.
    pub subscription: Option<Subscription>,
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
    pub errors: Vec<(u64, SqlState, String)>,
    /// Bad rows have refused the whole request: nothing of it is stored (`on_error = 'reject'`).
    pub refused: bool,
    /// Rows for which there was no room: ON OVERLOAD has shed them.
    pub shed: u64,
    /// The sequence that its producer sends next.
    pub next_sequence: Option<u64>,
}

impl StatementResult {
    /// A command without rows.
    pub fn command(tag: impl Into<String>) -> StatementResult {
        let schema = std::sync::Arc::new(arrow::datatypes::Schema::empty());
        StatementResult { tag: tag.into(), schema, batches: vec![] }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}
