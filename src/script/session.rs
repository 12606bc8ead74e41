//! Is the data base that the runner of scripts talks to: an engine with a clock that the script moves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use parking_lot::Mutex;
use sqllogictest::{DB, DBOutput, DefaultColumnType};

use crate::decode::{Format, decoder};
use crate::engine::{
    Engine, EngineSettings, IngestOrigin, StatementResult, SubscribeRequest, SubscriptionFrame,
};
use crate::error::{Error, Result, SqlState};
use crate::script::feed::{self, Line};
use crate::script::mode::{Cutter, Mode};
use crate::script::{show, validate};
use crate::sql::statement::SubscribeFrom;
use crate::time::{Clock, VirtualClock};

/// 2026-01-01 00:00:00, where the clock of a script begins.
const BEGIN: i64 = 1_767_225_600_000_000;
/// Timers may set off others, through queries over queries; so many rounds are enough for any script.
const TIMER_ROUNDS: usize = 8;

/// An error as the runner wants it.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct StatementError {
    code: SqlState,
    text: String,
}

impl From<Error> for StatementError {
    fn from(error: Error) -> StatementError {
        StatementError { code: error.code(), text: error.to_string() }
    }
}

/// The runner's end of a session.
pub(super) struct Handle(pub(super) Arc<Mutex<Session>>);

impl DB for Handle {
    type Error = StatementError;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, text: &str) -> Result<DBOutput<DefaultColumnType>, StatementError> {
        Ok(self.0.lock().statement(text)?)
    }

    fn engine_name(&self) -> &str {
        "weir"
    }

    fn error_sql_state(error: &StatementError) -> Option<String> {
        Some(error.code.0.to_string())
    }
}

/// One run of a script.
pub(super) struct Session {
    mode: Mode,
    cutter: Cutter,
    runtime: tokio::runtime::Runtime,
    clock: Arc<VirtualClock>,
    directory: PathBuf,
    /// Always there but while it is restarted.
    engine: Option<Arc<Engine>>,
    /// Per query the next offset that `emissions` shows.
    shown: BTreeMap<String, u64>,
    /// How often the engine was opened.
    opened: u64,
}

impl Session {
    /// Opens an engine over an empty directory.
    pub(super) fn begin(mode: Mode) -> Result<Session> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-script-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let io = |error: std::io::Error| Error::new(SqlState::IO, error.to_string());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(io)?;
        std::fs::create_dir_all(&directory).map_err(io)?;
        let mut session = Session {
            mode,
            cutter: Cutter::new(mode),
            runtime,
            clock: Arc::new(VirtualClock::new(BEGIN)),
            directory,
            engine: None,
            shown: BTreeMap::new(),
            opened: 0,
        };
        session.open()?;
        Ok(session)
    }

    fn open(&mut self) -> Result<()> {
        let settings = EngineSettings {
            timers: false,
            query_threads: 1,
            shards: self.mode.shards(self.opened),
            // Every key, and every row, may be in another shard.
            shards_from: (0, 0),
            step_rows: self.mode.step_rows(),
            snapshot_interval: self.mode.snapshot_interval(self.opened),
            // One group at a time: many steps come between the begin and the end of a snapshot.
            snapshot_portion: 1,
            ..EngineSettings::new(&self.directory)
        };
        let clock: Arc<dyn Clock> = Arc::<VirtualClock>::clone(&self.clock);
        self.engine = Some(Engine::open(settings, clock)?);
        self.opened += 1;
        self.flush()
    }

    fn close(&mut self) {
        if let Some(engine) = self.engine.take() {
            self.runtime.block_on(engine.shutdown());
        }
    }

    /// Stops the engine and removes its files.
    pub(super) fn end(&mut self) {
        self.close();
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::warn!("files of a script stay behind: {error}");
        }
    }

    pub(super) fn engine(&self) -> Arc<Engine> {
        Arc::clone(self.engine.as_ref().expect("it is open between statements"))
    }

    pub(super) fn flush(&self) -> Result<()> {
        let engine = self.engine();
        self.runtime.block_on(engine.flush())
    }

    fn statement(&mut self, text: &str) -> Result<DBOutput<DefaultColumnType>> {
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let mut words = first.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let argument = words.collect::<Vec<_>>().join(" ");
        let output = match verb {
            "feed" => self.feed(&argument, rest)?,
            "emissions" => return self.emissions(&argument),
            "advance" => {
                self.advance(feed::duration_of(&argument).map_err(syntax)?)?;
                DBOutput::StatementComplete(0)
            }
            "restart" => {
                self.restart()?;
                DBOutput::StatementComplete(0)
            }
            _ => output(self.sql(text)?),
        };
        self.flush()?;
        Ok(output)
    }

    /// Executes SQL and gives the answer of its last statement.
    pub(super) fn sql(&mut self, text: &str) -> Result<StatementResult> {
        let engine = self.engine();
        let execution = self.runtime.block_on(engine.execute(text));
        if let Some(error) = execution.error {
            return Err(error);
        }
        if text.trim_start().get(..4).is_some_and(|word| word.eq_ignore_ascii_case("drop")) {
            // A query that is created again under the name begins at offset 0.
            self.shown
                .retain(|query, _| engine.subscribe(query, SubscribeRequest::default()).is_ok());
        }
        Ok(execution.results.into_iter().last().unwrap_or_else(|| StatementResult::command("")))
    }

    fn restart(&mut self) -> Result<()> {
        self.close();
        self.open()
    }

    /// Moves the clock and runs timers until none is due.
    pub(super) fn advance(&mut self, micros: i64) -> Result<()> {
        self.clock.advance(micros);
        let engine = self.engine();
        for _ in 0..TIMER_ROUNDS {
            if engine.run_timers()? == 0 {
                break;
            }
            self.flush()?;
        }
        Ok(())
    }

    fn feed(&mut self, stream: &str, text: &str) -> Result<DBOutput<DefaultColumnType>> {
        let schema = Arc::clone(&self.engine().stream(stream)?.decode_spec().schema);
        let lines = feed::lines(text.lines(), &schema).map_err(syntax)?;
        let mut accepted = 0;
        for part in lines.split_inclusive(|line| matches!(line, Line::Tick(_))) {
            let rows: Vec<&str> = part
                .iter()
                .filter_map(|line| match line {
                    Line::Send(row) => Some(row.as_str()),
                    Line::Tick(_) => None,
                })
                .collect();
            let mut begin = 0;
            for length in if rows.is_empty() { vec![] } else { self.cutter.cut(rows.len()) } {
                accepted += self.request(stream, &rows[begin..begin + length])?;
                begin += length;
            }
            if let Some(Line::Tick(micros)) = part.last() {
                self.flush()?;
                self.advance(*micros)?;
            }
        }
        if self.mode == Mode::RestartAfterFeeds {
            self.flush()?;
            self.restart()?;
        }
        Ok(DBOutput::StatementComplete(accepted))
    }

    /// Sends rows in one request. Refused rows are dead letters; where the stream refuses whole
    /// requests, the first of them is an error.
    fn request(&mut self, stream: &str, rows: &[&str]) -> Result<u64> {
        let handle = self.engine().stream(stream)?;
        let mut decoder = decoder(Format::NdJson, handle.decode_spec());
        let decoded = decoder.decode(rows.join("\n").as_bytes(), 1);
        let ingest = handle.ingest(decoded, None, IngestOrigin::default());
        let receipt = self.runtime.block_on(ingest)?;
        match receipt.errors.into_iter().next() {
            Some((_, code, message)) if receipt.refused => Err(Error::new(code, message)),
            _ => Ok(receipt.accepted),
        }
    }

    /// The changes since the last time.
    fn emissions(&mut self, query: &str) -> Result<DBOutput<DefaultColumnType>> {
        self.flush()?;
        let engine = self.engine();
        let from = self.shown.get(query).copied().unwrap_or(0);
        let request =
            SubscribeRequest { from: SubscribeFrom::Offset(from), ..SubscribeRequest::default() };
        let mut subscription = engine.subscribe(query, request)?;
        let mut rows = Vec::new();
        if self.mode.cuts_feeds() && !self.is_exact(query)? {
            rows.push(vec![validate::NET.to_string()]);
        }
        let mut next = from;
        // Everything is there after FLUSH: a frame that is not ready is one that does not come.
        let ready = |subscription: &mut crate::engine::Subscription| {
            self.runtime.block_on(async { subscription.next().now_or_never() }).flatten()
        };
        while let Some(frame) = ready(&mut subscription) {
            match frame {
                SubscriptionFrame::Data { offset, batch, ops } => {
                    next = offset + batch.num_rows() as u64;
                    for (index, row) in show::rows(&batch).into_iter().enumerate() {
                        let retracted = ops.as_ref().is_some_and(|ops| ops[index] < 0);
                        let sign = if retracted { "-" } else { "+" };
                        rows.push(std::iter::once(sign.to_string()).chain(row).collect());
                    }
                }
                SubscriptionFrame::Error(error) => return Err(error),
                SubscriptionFrame::Snapshot { .. }
                | SubscriptionFrame::Progress { .. }
                | SubscriptionFrame::Gap { .. } => {}
            }
        }
        self.shown.insert(query.to_string(), next);
        Ok(DBOutput::Rows { types: vec![], rows })
    }

    /// Whether the changelog is the same, byte for byte, however feeds are cut: it is append-only, or
    /// nothing in the plan coalesces changes.
    fn is_exact(&mut self, query: &str) -> Result<bool> {
        let plan = self.sql(&format!("EXPLAIN {query}"))?;
        let lines: Vec<String> =
            plan.batches.iter().flat_map(show::rows).filter_map(|mut row| row.pop()).collect();
        let append_only = lines
            .iter()
            .find_map(|line| line.trim_start().strip_prefix("output "))
            .is_some_and(|output| output.starts_with("append-only"));
        let coalesces = lines.iter().any(|line| {
            ["emit changes", "emit every", "Source: table", "Source: continuous query"]
                .iter()
                .any(|mark| line.contains(mark))
        });
        Ok(append_only || !coalesces)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A script that broke off in a panic leaves no files behind either.
        if self.engine.is_some() {
            self.end();
        }
    }
}

fn output(result: StatementResult) -> DBOutput<DefaultColumnType> {
    if result.schema.fields().is_empty() {
        let count = result.tag.rsplit(' ').next().and_then(|word| word.parse().ok());
        return DBOutput::StatementComplete(count.unwrap_or(0));
    }
    let rows = result.batches.iter().flat_map(show::rows).collect();
    DBOutput::Rows { types: vec![DefaultColumnType::Any; result.schema.fields().len()], rows }
}

fn syntax(message: String) -> Error {
    Error::new(SqlState::SYNTAX, message)
}
