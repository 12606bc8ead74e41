//! Starts, pauses and drops sinks, and lets them read changelogs.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::catalog::persist::{Kind, Record};
use crate::decode::Rejected;
use crate::engine::StatementResult;
use crate::engine::query::QueryState;
use crate::engine::registry::wrong_kind;
use crate::engine::reports::Reports;
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::log::log::Durability;
use crate::planner::physical::PhysicalPlan;
use crate::sinks::options::{self, SinkOptions};
use crate::sinks::run::{ChangelogChunk, ChangelogSource, SinkRunner};
use crate::sinks::sink::{Refused, SinkMode};
use crate::sinks::status::{SinkHandle, SinkState as Doing};
use crate::sql::parse::parse_statement;
use crate::sql::print::print;
use crate::sql::statement::{CreateSink, OptionItem, Statement};
use crate::views::changelog::Changelog;

/// How long FLUSH SINK waits.
const FLUSH_TIME: Duration = Duration::from_secs(60);

/// A sink, running or not.
pub(super) struct SinkState {
    pub record: Mutex<Record>,
    pub name: String,
    /// The query.
    pub from: String,
    /// The kind of target.
    pub into: String,
    mode: SinkMode,
    running: Mutex<Running>,
}

/// One run of a sink.
struct Running {
    handle: SinkHandle,
    bell: Arc<Notify>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A sink's figures as `weir.sinks` shows them.
pub(super) struct SinkFigures {
    pub status: Option<&'static str>,
    pub committed_offset: Option<u64>,
    pub rows_written: Option<u64>,
    pub retries: Option<u64>,
    pub error: Option<String>,
}

impl SinkState {
    pub(super) fn figures(&self) -> SinkFigures {
        let status = self.handle().status();
        let record = self.record.lock();
        let kept = record.failure.as_ref();
        let error = status.last_error.map(|(code, message)| format!("{code}: {message}"));
        SinkFigures {
            status: Some(match status.state {
                _ if record.paused => "paused",
                _ if kept.is_some() => "failed",
                Doing::Starting => "starting",
                Doing::Running => "running",
                Doing::Retrying => "retrying",
                Doing::Stopped => "stopped",
                Doing::Failed => "failed",
            }),
            committed_offset: status.committed,
            rows_written: Some(status.rows_written),
            retries: Some(status.retries),
            error: kept.map(|(code, message)| format!("{code}: {message}")).or(error),
        }
    }

    fn handle(&self) -> SinkHandle {
        self.running.lock().handle.clone()
    }

    /// Up to which offset the target has everything, as far as that is known.
    pub(super) fn committed(&self) -> Option<u64> {
        self.handle().status().committed
    }

    /// Whether it takes no retractions.
    pub(super) fn appends(&self) -> bool {
        self.mode == SinkMode::Append
    }

    /// Ends the sink after the transaction that it is in.
    pub(super) fn stop(&self) {
        let thread = {
            let mut running = self.running.lock();
            running.handle.stop();
            running.bell.notify_waiters();
            running.thread.take()
        };
        if let Some(thread) = thread {
            // The loop catches its own panics, so there is nothing to learn from how it ended.
            drop(thread.join());
        }
    }

    /// The record of the sink once its query's changelog is gone.
    pub(super) fn failed_record(&self, error: &Error) -> Record {
        let failure = Some((error.code().0.to_string(), error.message()));
        Record { failure, ..self.record.lock().clone() }
    }

    /// Ends the sink for good, because its query's changelog is gone.
    pub(super) fn end(&self, error: &Error) {
        self.stop();
        let record = self.failed_record(error);
        *self.record.lock() = record;
    }

    /// Whether the sink would be the same over another plan of its query.
    ///
    /// # Errors
    /// What CREATE SINK would say, and 2BP01 where it would write in another way.
    pub(super) fn check_replaced(&self, plan: &PhysicalPlan) -> Result<()> {
        let create = definition(&self.record.lock())?;
        let facts = &plan.facts;
        let key = facts.unique_key.as_deref();
        let parsed =
            options::parse(&create.into, &create.options, &plan.schema, key, facts.append_only)?;
        if parsed.mode != self.mode {
            let message = format!("sink \"{}\" would write in another mode", self.name);
            return Err(Error::new(SqlState::DEPENDENT_OBJECTS, message)
                .with_hint("Drop the sink first, and create it again afterwards."));
        }
        Ok(())
    }
}

/// The statement that made a sink.
fn definition(record: &Record) -> Result<CreateSink> {
    match parse_statement(&record.sql)? {
        Statement::CreateSink(create) => Ok(create),
        _ => Err(Error::new(SqlState::CORRUPT, "catalog holds no definition")),
    }
}

impl Running {
    /// A sink that does not run.
    fn idle() -> Running {
        let handle = SinkHandle::new();
        handle.update(|status| status.state = Doing::Stopped);
        Running { handle, bell: Arc::new(Notify::new()), thread: None }
    }

    fn start(runner: SinkRunner, bell: Arc<Notify>) -> Result<Running> {
        let handle = runner.handle();
        let thread = runner
            .spawn()
            .map_err(|e| Error::new(SqlState::IO, format!("sink cannot start: {e}")))?;
        Ok(Running { handle, bell, thread: Some(thread) })
    }
}

/// Reads a query's changelog for a sink.
struct Reader {
    query: Arc<QueryState>,
    changelog: Arc<Changelog>,
    bell: Arc<Notify>,
    runtime: tokio::runtime::Runtime,
}

impl ChangelogSource for Reader {
    fn read(&mut self, from: u64, max_rows: usize) -> Result<Option<ChangelogChunk>> {
        let log = self.changelog.log();
        if log.visible().offset == from {
            return Ok(None);
        }
        if let Some(kept) = self.changelog.kept().filter(|kept| from == 0 && kept.at.offset > 0) {
            // A new sink begins with the result that stands for what is gone.
            let batches = kept.batches()?;
            let schema = self.changelog.layout().log_schema(self.changelog.schema());
            let visible: Vec<usize> = (0..self.changelog.schema().fields().len()).collect();
            let schema = Arc::new(schema.project(&visible).map_err(broken)?);
            let batch = arrow::compute::concat_batches(&schema, &batches).map_err(broken)?;
            let next_offset = kept.at.offset;
            return Ok(Some(ChangelogChunk { first_offset: 0, batch, weights: None, next_offset }));
        }
        let position = log.position_of_offset(from)?;
        let frames = self.changelog.read(position, max_rows)?;
        let entries: Vec<_> = frames
            .iter()
            .filter_map(|frame| self.changelog.entry(frame))
            .filter_map(|entry| entry.from_offset(from))
            .collect();
        let Some(first) = entries.first() else { return Ok(None) };
        let schema = first.batch.schema();
        let batch = arrow::compute::concat_batches(&schema, entries.iter().map(|e| &e.batch))
            .map_err(broken)?;
        let weights = (!self.changelog.append_only()).then(|| {
            let rows = entries.iter().flat_map(|e| (0..e.batch.num_rows()).map(|r| e.weight(r)));
            arrow::array::Int64Array::from_iter_values(rows)
        });
        let next_offset = first.first_offset + batch.num_rows() as u64;
        Ok(Some(ChangelogChunk { first_offset: first.first_offset, batch, weights, next_offset }))
    }

    fn wait(&mut self, past: u64, timeout: Duration) {
        let (query, bell) = (Arc::clone(&self.query), Arc::clone(&self.bell));
        self.runtime.block_on(async move {
            let news = query.bell.notified();
            let stop = bell.notified();
            tokio::pin!(news, stop);
            // Armed before looking, so that nothing that happens in between is missed.
            news.as_mut().enable();
            stop.as_mut().enable();
            if query.changelog.log().visible().offset > past {
                return;
            }
            tokio::select! {
                () = news => {}
                () = stop => {}
                () = tokio::time::sleep(timeout) => {}
            }
        });
    }
}

impl Engine {
    /// CREATE SINK.
    pub(super) fn create_sink(self: &Arc<Engine>, create: &CreateSink) -> Result<StatementResult> {
        let done = StatementResult::command("CREATE SINK");
        if !self.name_is_free(&create.name, create.if_not_exists, Kind::Sink)? {
            return Ok(done);
        }
        let sql = print(&Statement::CreateSink(create.clone()));
        let mut record = self.record(Kind::Sink, &create.name, sql)?;
        record.sink_id = Some(format!("weir-{}-{}", self.clock.now(), record.id));
        self.open_sink(record.clone(), create)?;
        self.store.put(&record)?;
        Ok(done)
    }

    /// Makes a sink known, and starts it unless it is paused or its query's changelog is gone.
    pub(super) fn open_sink(self: &Arc<Engine>, record: Record, create: &CreateSink) -> Result<()> {
        let (mode, running) = if record.failure.is_some() {
            (SinkMode::Changelog, Running::idle())
        } else {
            let (query, parsed) = self.sink_options(create)?;
            let running = match record.paused {
                true => Running::idle(),
                false => self.start_sink(&record, create, query, &parsed)?,
            };
            (parsed.mode, running)
        };
        let sink = SinkState {
            record: Mutex::new(record),
            name: create.name.clone(),
            from: create.from.clone(),
            into: create.into.clone(),
            mode,
            running: Mutex::new(running),
        };
        self.registry.write().sinks.insert(create.name.clone(), Arc::new(sink));
        Ok(())
    }

    /// PAUSE of a sink: it stays so over restarts.
    pub(super) fn pause_sink(&self, sink: &SinkState) -> Result<()> {
        sink.stop();
        let mut record = sink.record.lock();
        record.paused = true;
        self.store.put(&record)?;
        Ok(())
    }

    /// RESUME of a sink that is paused, or that an error has stopped.
    pub(super) fn resume_sink(self: &Arc<Engine>, sink: &SinkState) -> Result<()> {
        let mut record = sink.record.lock().clone();
        if let Some((_, message)) = &record.failure {
            return Err(Error::new(SqlState::SNAPSHOT_MISMATCH, message.clone())
                .with_hint("Drop the sink and create it again."));
        }
        let state = sink.handle().status().state;
        if !record.paused && !matches!(state, Doing::Stopped | Doing::Failed) {
            return Ok(());
        }
        record.paused = false;
        let create = definition(&record)?;
        let (query, parsed) = self.sink_options(&create)?;
        sink.stop();
        self.store.put(&record)?;
        *sink.running.lock() = self.start_sink(&record, &create, query, &parsed)?;
        *sink.record.lock() = record;
        Ok(())
    }

    /// Takes a dropped sink's mark out of its target. Where that cannot be reached, the mark stays.
    pub(super) fn forget_sink(&self, sink: &SinkState) {
        let forget = || -> Result<()> {
            let record = sink.record.lock().clone();
            let create = definition(&record)?;
            // The columns do not matter, only where the target is.
            let schema = Arc::new(Schema::new(vec![Field::new("c", DataType::Int64, true)]));
            let given = create.options.iter().filter(|o| o.name != "key" && o.name != "mode");
            let given: Vec<OptionItem> = given.cloned().collect();
            let parsed = options::parse(&create.into, &given, &schema, None, true)?;
            let id = record.sink_id.clone().unwrap_or_default();
            parsed.open().forget(&parsed.plan(&id, &create.name, "", schema))?;
            Ok(())
        };
        if let Err(error) = forget() {
            tracing::warn!(sink = sink.name, "its mark stays in the target: {}", error.message());
        }
    }

    /// The query that a sink follows, and what its options say.
    fn sink_options(&self, create: &CreateSink) -> Result<(Arc<QueryState>, SinkOptions)> {
        let query = {
            let registry = self.registry.read();
            match registry.queries.get(&create.from) {
                Some(query) => Arc::clone(query),
                None => return Err(wrong_kind(&registry, &create.from, Kind::Query)),
            }
        };
        if query.changelog.log().durability() == Durability::Memory {
            return Err(Error::new(
                SqlState::NOT_SUPPORTED,
                format!("sink \"{}\" cannot read from a memory stream", create.name),
            )
            .with_detail("After a restart its offsets would begin again.")
            .with_hint("Create the stream with durability = 'durable' or 'written'."));
        }
        let info = query.info();
        let key = info.unique_key.as_deref();
        let parsed =
            options::parse(&create.into, &create.options, &info.schema, key, info.append_only)?;
        Ok((query, parsed))
    }

    fn start_sink(
        &self,
        record: &Record,
        create: &CreateSink,
        query: Arc<QueryState>,
        parsed: &SinkOptions,
    ) -> Result<Running> {
        let changelog_id = format!("query-{}", query.record.lock().id);
        let id = record.sink_id.clone().unwrap_or_default();
        let schema = Arc::clone(query.changelog.schema());
        let plan = parsed.plan(&id, &create.name, &changelog_id, schema);
        let bell = Arc::new(Notify::new());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|e| Error::new(SqlState::IO, format!("sink cannot start: {e}")))?;
        let reader = Reader {
            changelog: Arc::clone(&query.changelog),
            bell: Arc::clone(&bell),
            query,
            runtime,
        };
        let letters = dead_letters(Arc::clone(&self.reports), create.from.clone());
        let runner = SinkRunner::new(
            plan,
            parsed.open(),
            Box::new(reader),
            Box::new(letters),
            Arc::clone(&self.clock),
        );
        Running::start(runner, bell)
    }

    /// FLUSH SINK: waits until the sink has committed what its query has answered so far.
    pub(super) async fn flush_sink(&self, name: &str) -> Result<()> {
        let (sink, offset) = {
            let registry = self.registry.read();
            let Some(sink) = registry.sinks.get(name) else {
                return Err(wrong_kind(&registry, name, Kind::Sink));
            };
            let query = registry.queries.get(&sink.from);
            let offset = query.map_or(0, |query| query.changelog.log().visible().offset);
            (Arc::clone(sink), offset)
        };
        let waited = tokio::task::spawn_blocking(move || {
            sink.running.lock().bell.notify_waiters();
            sink.handle().wait_committed(offset, FLUSH_TIME)
        });
        match waited.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Error::new(
                SqlState::CANCELLED,
                format!("sink \"{name}\" did not commit everything in time"),
            )
            .with_hint("SELECT * FROM weir.sinks shows what it is doing.")),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::new(SqlState::SHUTTING_DOWN, "server is shutting down")),
        }
    }
}

fn broken(error: arrow::error::ArrowError) -> Error {
    Error::new(SqlState::INTERNAL, format!("changelog cannot be read: {error}"))
}

/// Rows that a target refuses become dead letters of the query.
fn dead_letters(
    reports: Arc<Reports>,
    relation: String,
) -> impl FnMut(&[Refused]) -> Result<()> + Send {
    move |refused: &[Refused]| {
        let rows: Vec<Rejected> = refused
            .iter()
            .map(|row| Rejected {
                line: row.offset,
                code: known_state(&row.code),
                message: row.reason.clone(),
                raw: row.row.clone().into_bytes(),
            })
            .collect();
        reports.dead_letters(&relation, &rows)
    }
}

/// A target's code as one of ours; a code that Weir does not know counts as a bad value.
fn known_state(code: &str) -> SqlState {
    SqlState::ALL.iter().copied().find(|state| state.0 == code).unwrap_or(SqlState::INVALID_TEXT)
}
