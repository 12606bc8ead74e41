//! Starts, pauses and drops sinks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::catalog::record::{Kind, Record};
use crate::crew::{Crew, Hired, Worker};
use crate::engine::StatementResult;
use crate::engine::query::QueryState;
use crate::engine::registry::wrong_kind;
use crate::engine::sink_source::{Reader, dead_letters};
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::log::log::Durability;
use crate::planner::physical::PhysicalPlan;
use crate::sinks::history::History;
use crate::sinks::options::{self, SinkOptions};
use crate::sinks::run::SinkRunner;
use crate::sinks::sink::{SinkMode, SinkPlan, SinkTarget};
use crate::sinks::status::{SinkHandle, SinkState as Doing};
use crate::sinks::turns::SinkWorker;
use crate::sql::parse::parse_statement;
use crate::sql::print::print;
use crate::sql::statement::{CreateSink, OptionItem, Statement};

/// How long CREATE SINK waits for the first look at the target.
const START_TIME: Duration = Duration::from_secs(3);

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
    worker: Option<Hired>,
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
    /// A sink that cannot run, because its query is set aside.
    pub(super) fn failed(record: Record, create: &CreateSink, error: &Error) -> SinkState {
        let running = Running::idle();
        running.handle.failed(Doing::Failed, error);
        SinkState {
            record: Mutex::new(record),
            name: create.name.clone(),
            from: create.from.clone(),
            into: create.into.clone(),
            mode: SinkMode::Changelog,
            running: Mutex::new(running),
        }
    }

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

    /// Whether it can never go on, because its query's changelog is gone: then it reads nothing.
    pub(super) fn is_over(&self) -> bool {
        self.record.lock().failure.is_some()
    }

    /// Waits until everything below an offset is committed; `false`: it was not in time.
    pub(super) fn wait_committed(&self, offset: u64, time: Duration) -> Result<bool> {
        self.running.lock().bell.notify_waiters();
        self.handle().wait_committed(offset, time)
    }

    /// Why it commits nothing, if somebody has to do something about that.
    pub(super) fn at_rest(&self) -> Result<()> {
        let record = self.record.lock();
        let name = &self.name;
        if let Some((code, message)) = &record.failure {
            let text = format!("sink \"{name}\" has failed");
            return Err(Error::new(SqlState::OBJECT_STATE, text)
                .with_detail(format!("{code}: {message}."))
                .with_hint("Drop the sink and create it again."));
        }
        if record.paused {
            let message = format!("sink \"{name}\" is paused");
            return Err(Error::new(SqlState::OBJECT_STATE, message)
                .with_hint(format!("RESUME {name} lets it go on.")));
        }
        Ok(())
    }

    /// Lets the sink end after the transaction that it is in, without waiting for that.
    pub(super) fn ask_to_stop(&self) {
        let running = self.running.lock();
        running.handle.stop();
        running.bell.notify_waiters();
    }

    /// Ends the sink after the transaction that it is in.
    pub(super) fn stop(&self) {
        self.ask_to_stop();
        let worker = self.running.lock().worker.take();
        worker.into_iter().for_each(Hired::join);
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
        let keys = &facts.unique_keys;
        let parsed =
            options::parse(&create.into, &create.options, &plan.schema, keys, facts.append_only)?;
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
        Running { handle, bell: Arc::new(Notify::new()), worker: None }
    }

    fn start(crew: &Crew, runner: SinkRunner, bell: Arc<Notify>) -> Result<Running> {
        let (handle, name) = (runner.handle(), runner.thread_name());
        let mut worker = Box::new(SinkWorker::new(runner));
        if let Crew::ByHand(_) = crew {
            // Nobody else would: who creates a sink waits for its first look at the target.
            worker.turn(false);
        }
        let worker = crew
            .start(&name, worker)
            .map_err(|e| Error::new(SqlState::IO, format!("sink cannot start: {e}")))?;
        Ok(Running { handle, bell, worker: Some(worker) })
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
        self.reports.reported.lock().forget_sink(&create.name);
        self.open_sink(record.clone(), create)?;
        let sink = self.registry.read().sinks.get(&create.name).map(Arc::clone);
        // A target that is away is waited for; one that cannot take the rows is told of now.
        let started = sink.as_ref().map_or(Ok(()), |sink| sink.handle().wait_started(START_TIME));
        if let Err(error) = started.and_then(|()| Ok(self.store.put(&record)?)) {
            self.registry.write().sinks.remove(&create.name);
            sink.iter().for_each(|sink| sink.stop());
            return Err(error);
        }
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
        self.change(&mut sink.record.lock(), |record| record.paused = true)
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
            let parsed = options::parse(&create.into, &given, &schema, &[], true)?;
            let id = record.sink_id.clone().unwrap_or_default();
            let plan = parsed.plan(&id, &create.name, "", schema);
            self.target(&parsed, &plan).forget(&plan)?;
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
        let keys = &info.unique_keys;
        let parsed =
            options::parse(&create.into, &create.options, &info.schema, keys, info.append_only)?;
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
        let mut plan = parsed.plan(&id, &create.name, &changelog_id, schema);
        plan.history = Some(Arc::clone(&query.changelog) as Arc<dyn History>);
        let bell = Arc::new(Notify::new());
        let reader = Reader::new(query, Arc::clone(&bell))?;
        let letters = dead_letters(&self.reports, &create.name, &create.from);
        let target = self.target(parsed, &plan);
        let runner = SinkRunner::new(
            plan,
            target,
            Box::new(reader),
            Box::new(letters),
            Arc::clone(&self.clock),
        )
        .with_settings(parsed.settings());
        Running::start(&self.crew, runner, bell)
    }

    /// Whom a sink writes to.
    fn target(&self, parsed: &SinkOptions, plan: &SinkPlan) -> Box<dyn SinkTarget> {
        match &self.targets {
            Some(targets) => targets.open(plan),
            None => parsed.open(&self.sink_marks()),
        }
    }

    /// The folder for marks of sinks whose targets cannot hold one.
    fn sink_marks(&self) -> PathBuf {
        self.settings.data_dir.join("sinks")
    }
}
