//! Creates streams, tables and queries: checks, records, starts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::catalog::definition::{self, QueryStart};
use crate::catalog::persist::{Kind, Record};
use crate::engine::StatementResult;
use crate::engine::query::{Figures, QueryState, Status};
use crate::engine::registry::Registry;
use crate::engine::reports::read_punctuation;
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::{FrameKind, Position};
use crate::log::log::{Durability, Log, LogOptions};
use crate::pipeline::build::build;
use crate::pipeline::drive::{Input, QueryRun};
use crate::pipeline::schedule::Work;
use crate::pipeline::source::{Readable, Source};
use crate::planner::physical::{Node, PhysicalPlan, SourceSpec};
use crate::planner::plan_continuous;
use crate::planner::relations::RelationKind;
use crate::sql::print::{print, quote_name};
use crate::sql::statement::{CreateQuery, CreateStream, CreateTable, Statement};
use crate::views::changelog::{Changelog, EntryMeta, Layout};
use crate::views::result_view::ResultView;

/// Bytes of a changelog's newest entries that are kept in memory; there may be many changelogs.
const TAIL_BYTES: usize = 8 << 20;

impl Engine {
    /// Whether the name is free; `Ok(false)` when it is taken and IF NOT EXISTS says that is fine.
    pub(super) fn name_is_free(&self, name: &str, if_not_exists: bool, kind: Kind) -> Result<bool> {
        if name.starts_with("weir.") || name.contains('.') {
            return Err(Error::new(
                SqlState::SYNTAX,
                format!("name \"{name}\" cannot hold a full stop"),
            ));
        }
        match self.registry.read().kind_of(name) {
            None => Ok(true),
            Some(existing) if if_not_exists && existing == kind => Ok(false),
            Some(existing) => Err(Error::new(
                SqlState::DUPLICATE_RELATION,
                format!("{} \"{name}\" already exists", existing.noun()),
            )
            .with_hint(format!(
                "Choose another name, or DROP {} {} first.",
                drop_word(existing),
                quote_name(name)
            ))),
        }
    }

    pub(super) fn record(&self, kind: Kind, name: &str, sql: String) -> Result<Record> {
        let id = self.store.next_id()?;
        Ok(Record { id, kind, name: name.into(), sql, paused: false, sink_id: None, start: vec![] })
    }

    /// CREATE STREAM.
    pub(super) fn create_stream(
        self: &Arc<Engine>,
        create: &CreateStream,
    ) -> Result<StatementResult> {
        let done = StatementResult::command("CREATE STREAM");
        if !self.name_is_free(&create.name, create.if_not_exists, Kind::Stream)? {
            return Ok(done);
        }
        let definition = self.planning(|lookup| definition::stream(create, lookup))?;
        let sql = print(&Statement::CreateStream(create.clone()));
        let record = self.record(Kind::Stream, &create.name, sql)?;
        let stream = self.open_stream(record.clone(), definition)?;
        self.store.put(&record)?;
        self.add_stream(stream);
        Ok(done)
    }

    /// CREATE TABLE.
    pub(super) fn create_table(
        self: &Arc<Engine>,
        create: &CreateTable,
    ) -> Result<StatementResult> {
        let done = StatementResult::command("CREATE TABLE");
        if !self.name_is_free(&create.name, create.if_not_exists, Kind::Table)? {
            return Ok(done);
        }
        let definition = definition::table(create)?;
        let sql = print(&Statement::CreateTable(create.clone()));
        let record = self.record(Kind::Table, &create.name, sql)?;
        let table = self.open_table(record.clone(), definition)?;
        self.store.put(&record)?;
        self.registry.write().tables.insert(create.name.clone(), table);
        Ok(done)
    }

    /// CREATE CONTINUOUS QUERY.
    pub(super) fn create_query(
        self: &Arc<Engine>,
        create: &CreateQuery,
    ) -> Result<StatementResult> {
        let done = StatementResult::command("CREATE CONTINUOUS QUERY");
        if create.or_replace && self.registry.read().queries.contains_key(&create.name) {
            return Err(Error::new(
                SqlState::NOT_SUPPORTED,
                "CREATE OR REPLACE of an existing continuous query is not supported yet",
            )
            .with_hint(format!("DROP CONTINUOUS QUERY {} and create it again.", create.name)));
        }
        if !self.name_is_free(&create.name, create.if_not_exists, Kind::Query)? {
            return Ok(done);
        }
        if create.emit.late_rows_to.is_some() {
            return Err(Error::new(SqlState::NOT_SUPPORTED, "LATE ROWS TO is not supported yet")
                .with_hint("SELECT … FROM weir.late_rows shows late rows."));
        }
        let sql = print(&Statement::CreateQuery(Box::new(create.clone())));
        let record = self.record(Kind::Query, &create.name, sql)?;
        let query = self.open_query(record, create.clone(), Some(()))?;
        let record = query.record.lock().clone();
        self.store.put(&record)?;
        self.add_query(Arc::clone(&query));
        query.wake();
        Ok(done)
    }

    /// Makes a query known.
    pub(super) fn add_query(self: &Arc<Engine>, query: Arc<QueryState>) {
        self.listen(query.changelog.log(), query.name());
        let mut registry = self.registry.write();
        for source in query.sources() {
            if let Some(below) = registry.queries.get(&*source) {
                below.write_progress.store(true, Ordering::Relaxed);
                below.wake();
            }
        }
        registry.queries.insert(query.name().to_string(), query);
    }

    /// Plans a query and opens its changelog. `fresh`: it is new and its start is resolved now; else
    /// its record says where it began.
    pub(super) fn open_query(
        self: &Arc<Engine>,
        mut record: Record,
        create: CreateQuery,
        fresh: Option<()>,
    ) -> Result<Arc<QueryState>> {
        let options = definition::query_options(&create)?;
        let plan = self.planning(|lookup| {
            plan_continuous(&create.query, &create.emit, options.require_bounded_state, lookup)
        })?;
        let registry = self.registry.read();
        if fresh.is_some() {
            record.start = start_positions(&registry, &plan, &options.start)?;
        }
        let layout = Layout {
            weights: !plan.facts.append_only,
            arrivals: passes_rows_through(&plan) && !plan.facts.event_times.is_empty(),
        };
        let durability = durability_of(&registry, &plan);
        let log = Log::open(
            Arc::clone(&self.storage),
            &format!("queries/{}", record.id),
            layout.log_schema(&plan.schema),
            LogOptions { durability, tail_bytes: TAIL_BYTES, ..LogOptions::default() },
            Arc::clone(&self.sequencer),
        )?;
        let changelog = Arc::new(Changelog::new(Arc::new(log), Arc::clone(&plan.schema), layout));
        let run = self.run_of(&registry, &plan, &record, &changelog)?;
        let logical_time = has_logical_time(&registry, &plan);
        drop(registry);
        let run = QueryRun { memory_limit: options.memory_limit, ..run };
        let status = if record.paused { Status::Paused } else { Status::Running };
        let query = Arc::new(QueryState {
            name: record.name.clone(),
            logical_time,
            record: Mutex::new(record),
            options,
            view: Arc::new(ResultView::new(Arc::clone(&changelog))),
            processed: Mutex::new(run.frontier()),
            plan,
            changelog,
            run: Mutex::new(Some(run)),
            task: OnceLock::new(),
            status: Mutex::new(status),
            figures: Figures {
                watermark: AtomicI64::new(i64::MIN),
                next_tick: AtomicI64::new(i64::MAX),
                ..Figures::default()
            },
            operators: Mutex::default(),
            write_progress: AtomicBool::new(false),
            bell: Arc::new(Notify::new()),
            stepped: Arc::clone(&self.stepped),
            reports: Arc::clone(&self.reports),
        });
        let task = self.scheduler.task(Arc::clone(&query) as Arc<dyn Work>);
        if query.task.set(task).is_err() {
            unreachable!("the task is set once, here");
        }
        Ok(query)
    }

    /// The pipeline of a plan at the query's start, with the recorded entries to regenerate.
    pub(super) fn run_of(
        &self,
        registry: &Registry,
        plan: &PhysicalPlan,
        record: &Record,
        changelog: &Arc<Changelog>,
    ) -> Result<QueryRun> {
        let (graph, specs) = build(plan)?;
        let inputs = specs
            .into_iter()
            .zip(&record.start)
            .map(|(spec, &(frame, offset))| {
                let (readable, schema) = readable(registry, &spec)?;
                let source = Source::new(spec, readable, &schema)?;
                let position = Position { frame, offset };
                Ok(Input { source, position, ready: VecDeque::new() })
            })
            .collect::<Result<Vec<_>>>()?;
        let schemas: Vec<_> = registry
            .streams
            .iter()
            .map(|(name, stream)| (name.clone(), Arc::clone(&stream.definition.schema)))
            .collect();
        Ok(QueryRun {
            graph,
            inputs,
            replay: recorded_entries(changelog)?,
            changelog: Arc::clone(changelog),
            sequencer: Arc::clone(&self.sequencer),
            sync: changelog.log().durability() == Durability::Durable,
            read_punctuation: Arc::new(move |relation, bytes| {
                let (_, schema) = schemas.iter().find(|(name, _)| name == relation)?;
                read_punctuation(schema, bytes)
            }),
            written_watermark: i64::MIN,
            write_progress: false,
            memory_limit: u64::MAX,
            step_rows: self.settings.step_rows,
        })
    }
}

fn drop_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Stream => "STREAM",
        Kind::Table => "TABLE",
        Kind::Query => "CONTINUOUS QUERY",
        Kind::Sink => "SINK",
    }
}

/// Entries that a replay has to regenerate, with their numbers of rows.
fn recorded_entries(changelog: &Changelog) -> Result<VecDeque<(EntryMeta, u64)>> {
    let mut entries = VecDeque::new();
    let wanted = |kind| matches!(kind, FrameKind::Rows | FrameKind::Progress);
    for entry in changelog.log().summaries(wanted)? {
        let meta = EntryMeta::decode(&entry.meta)
            .ok_or_else(|| Error::new(SqlState::CORRUPT, "changelog entry has no frontier"))?;
        entries.push_back((meta, entry.rows));
    }
    Ok(entries)
}

/// Whether rows of a source come out one by one, so that each keeps its own arrival watermark.
fn passes_rows_through(plan: &PhysicalPlan) -> bool {
    match &plan.node {
        Node::Source(_) => true,
        Node::FilterProject(_) | Node::Unnest(_) | Node::Union | Node::Delay(_) => {
            plan.inputs.iter().any(passes_rows_through)
        }
        Node::WindowAssign(_)
        | Node::WindowAggregate(_)
        | Node::SessionAggregate(_)
        | Node::CountWindow(_)
        | Node::PunctuationWindow(_)
        | Node::Aggregate(_) => false,
    }
}

/// Whether event time at the bottom of the plan is a plain integer.
fn has_logical_time(registry: &Registry, plan: &PhysicalPlan) -> bool {
    let mut logical = false;
    each_source(plan, &mut |source| {
        if let Some(stream) = registry.streams.get(&*source.relation)
            && let Some(watermark) = &stream.definition.watermark
        {
            let field = stream.definition.schema.field(watermark.column);
            logical |= field.data_type().is_integer();
        }
        if let Some(query) = registry.queries.get(&*source.relation) {
            logical |= query.logical_time;
        }
    });
    logical
}

/// A query's answers are as durable as the most durable of its inputs.
fn durability_of(registry: &Registry, plan: &PhysicalPlan) -> Durability {
    let rank = |durability: Durability| match durability {
        Durability::Memory => 0,
        Durability::Written => 1,
        Durability::Durable => 2,
    };
    let mut highest = Durability::Memory;
    each_source(plan, &mut |source| {
        let here = match source.kind {
            RelationKind::Stream => registry
                .streams
                .get(&*source.relation)
                .map_or(Durability::Durable, |stream| stream.definition.durability),
            RelationKind::Query => registry
                .queries
                .get(&*source.relation)
                .map_or(Durability::Durable, |query| query.changelog.log().durability()),
            RelationKind::Table | RelationKind::System => Durability::Durable,
        };
        if rank(here) > rank(highest) {
            highest = here;
        }
    });
    highest
}

fn each_source(plan: &PhysicalPlan, visit: &mut impl FnMut(&SourceSpec)) {
    if let Node::Source(source) = &plan.node {
        visit(source);
    }
    for input in &plan.inputs {
        each_source(input, visit);
    }
}

fn readable(
    registry: &Registry,
    spec: &SourceSpec,
) -> Result<(Readable, arrow::datatypes::SchemaRef)> {
    let name = &*spec.relation;
    let missing = || {
        Error::new(
            SqlState::UNDEFINED_RELATION,
            format!("{} \"{name}\" does not exist", spec.kind.noun()),
        )
    };
    Ok(match spec.kind {
        RelationKind::Stream => {
            let stream = registry.streams.get(name).ok_or_else(missing)?;
            let readable =
                Readable::Stream(Arc::clone(&stream.definition), Arc::clone(&stream.log));
            (readable, Arc::clone(&stream.full_schema))
        }
        RelationKind::Table => {
            let table = registry.tables.get(name).ok_or_else(missing)?;
            let schema = Arc::clone(table.changelog.schema());
            (Readable::Changelog(Arc::clone(&table.changelog)), schema)
        }
        RelationKind::Query => {
            let query = registry.queries.get(name).ok_or_else(missing)?;
            let schema = Arc::clone(query.changelog.schema());
            (Readable::Changelog(Arc::clone(&query.changelog)), schema)
        }
        RelationKind::System => return Err(missing()),
    })
}

/// Where each input begins, resolved once and recorded.
fn start_positions(
    registry: &Registry,
    plan: &PhysicalPlan,
    start: &QueryStart,
) -> Result<Vec<(u64, u64)>> {
    let mut positions = Vec::new();
    let mut failure = None;
    each_source(plan, &mut |source| {
        let log = match readable(registry, source) {
            Ok((Readable::Stream(_, log), _)) => log,
            Ok((Readable::Changelog(changelog), _)) => Arc::clone(changelog.log()),
            Err(error) => {
                failure = Some(error);
                return;
            }
        };
        match start_in(&log, start, source.kind) {
            Ok(position) => positions.push((position.frame, position.offset)),
            Err(error) => failure = Some(error),
        }
    });
    match failure {
        None => Ok(positions),
        Some(error) => Err(error),
    }
}

fn start_in(log: &Log, start: &QueryStart, kind: RelationKind) -> Result<Position> {
    // A table's content is its whole changelog, wherever the streams beside it begin.
    if kind == RelationKind::Table {
        return Ok(log.start());
    }
    Ok(match start {
        QueryStart::Earliest => log.start(),
        QueryStart::Latest => log.visible(),
        // The offset may lie inside a frame; its rows before are then skipped.
        QueryStart::Offset(offset) => {
            Position { frame: log.position_of_offset(*offset)?.frame, offset: *offset }
        }
        QueryStart::Time(time) => log.position_of_time(*time)?,
    })
}
