//! Creates streams, tables and queries: checks, records, starts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::catalog::definition::{self, QueryOptions, QueryStart};
use crate::catalog::record::{Kind, Record};
use crate::engine::StatementResult;
use crate::engine::adapted::check_shedding;
use crate::engine::late_rows::LateRows;
use crate::engine::lost_rows::first_orphan;
use crate::engine::open::log_options;
use crate::engine::query::{QueryState, Shape};
use crate::engine::registry::Registry;
use crate::engine::retention::kept_directory;
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::Position;
use crate::log::log::{Durability, Log, LogOptions};
use crate::log::recover::must_exist;
use crate::operators::over::OverOrder;
use crate::pipeline::schedule::Work;
use crate::pipeline::source::Readable;
use crate::planner::physical::{Node, PhysicalPlan, SourceSpec};
use crate::planner::plan_continuous;
use crate::planner::relations::{Noting, RelationKind};
use crate::sql::print::{print, quote_name};
use crate::sql::statement::{CreateQuery, CreateStream, CreateTable, Statement};
use crate::views::changelog::{Changelog, Kept, Layout};

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
        let registry = self.registry.read();
        match registry.kind_of(name) {
            None => registry.check_not_awaited(name).map(|()| true),
            Some(existing) if if_not_exists && existing == kind => Ok(false),
            Some(existing) => Err(Error::new(
                SqlState::DUPLICATE_RELATION,
                format!("{} \"{name}\" already exists", existing.noun()),
            )
            .with_hint(format!(
                "Choose another name, or DROP {} {} first.",
                existing.words(),
                quote_name(name)
            ))),
        }
    }

    pub(super) fn record(&self, kind: Kind, name: &str, sql: String) -> Result<Record> {
        Ok(Record::new(self.store.next_id()?, kind, name, sql))
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
        let mut record = self.record(Kind::Stream, &create.name, sql)?;
        // Reports of an earlier stream of that name are not this one's.
        self.reports.write_shed()?;
        record.start = self.reports.ends();
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
            return self.replace(create);
        }
        if !self.name_is_free(&create.name, create.if_not_exists, Kind::Query)? {
            return Ok(done);
        }
        let record = self.record(Kind::Query, &create.name, query_text(create))?;
        let shape = self.shape_of(create, &record)?;
        let query = self.open_query(record, shape, Some(()))?;
        self.reports.reported.lock().forget(&create.name);
        self.start_query(&query)?;
        let record = query.record.lock().clone();
        self.store.put(&record)?;
        self.add_query(Arc::clone(&query));
        query.wake();
        Ok(done)
    }

    /// Makes a query known.
    pub(super) fn add_query(self: &Arc<Engine>, query: Arc<QueryState>) {
        self.listen(query.changelog.log(), query.name());
        let changelog = Arc::clone(&query.changelog);
        self.reports.changelogs.write().insert(query.name().to_string(), changelog);
        let mut registry = self.registry.write();
        ask_for_progress(&registry, &query);
        registry.queries.insert(query.name().to_string(), query);
    }

    /// Opens the changelog of a query; [`start_query`](Self::start_query) lets it run. `fresh`: it
    /// is new and its start is resolved now; else its record says where it began.
    pub(super) fn open_query(
        self: &Arc<Engine>,
        mut record: Record,
        shape: Shape,
        fresh: Option<()>,
    ) -> Result<Arc<QueryState>> {
        let plan = &shape.plan;
        let registry = self.registry.read();
        if fresh.is_some() {
            if matches!(shape.options.start, QueryStart::Time(time) if time > self.clock.now()) {
                let text = "option \"start\" names a time that has not come";
                return Err(Error::new(SqlState::INVALID_PARAMETER, text)
                    .with_hint("Write start = 'latest' for the rows from now on."));
            }
            record.start = start_positions(&registry, plan, &shape.options.start)?;
        }
        let (wanted, former) = (layout_of(plan), former_layout_of(plan));
        if fresh.is_some() && wanted != former {
            record.layout = Some((wanted.weights, wanted.arrivals));
        }
        let layout =
            record.layout.map_or(former, |(weights, arrivals)| Layout { weights, arrivals });
        let durability = durability_of(&registry, plan);
        if durability == Durability::Memory {
            // The changelog is empty again, so nothing in it is given.
            (record.base, record.kept) = (None, None);
        }
        let retention = shape.options.retention;
        let defaults = log_options(&self.settings);
        let segment_micros =
            retention.map_or(defaults.segment_micros, |all| defaults.segment_micros.min(all / 4));
        let options = LogOptions { durability, tail_bytes: TAIL_BYTES, segment_micros, ..defaults };
        let directory = format!("queries/{}", record.id);
        let open = || {
            Log::open(
                Arc::clone(&self.storage),
                &directory,
                layout.log_schema(&plan.schema),
                options,
                Arc::clone(&self.sequencer),
            )
        };
        if fresh.is_none() && durability != Durability::Memory {
            must_exist(&*self.storage, &directory)?;
        }
        let mut log = open()?;
        let (seen, mut cut) = (log.visible().offset, false);
        let given = record.base.as_ref().map_or(0, |base| base.frame + 1);
        if let Some(frame) = first_orphan(&registry, plan, &log, given)? {
            tracing::warn!(query = record.name, "rows were lost: its changelog is cut at {frame}");
            log.cut(frame)?;
            (log, cut) = (open()?, true);
        }
        let changelog = Arc::new(Changelog::new(Arc::new(log), Arc::clone(&plan.schema), layout));
        self.guard_offsets(&changelog, record.id, (seen, cut, fresh.is_some()));
        if let Some((frame, offset)) = record.kept {
            must_exist(&*self.storage, &kept_directory(record.id, frame))?;
            let log = self.kept_log(record.id, frame, &changelog)?;
            changelog.keep(Kept::new(Position { frame, offset }, log));
        }
        let snapshots = Arc::new(self.snapshots_of(&shape.plan, &record));
        drop(registry);
        let query = Arc::new(QueryState::new(record, shape, changelog, snapshots, self));
        let standing = Arc::downgrade(&query);
        query.view.ask(standing);
        let task = self.scheduler.task(&(Arc::clone(&query) as Arc<dyn Work>));
        let waker = Arc::downgrade(&task);
        let room = Arc::clone(&self.room);
        query.snapshots.wake_by(move || {
            waker.upgrade().into_iter().for_each(|task| task.wake());
            room.notify_waiters();
        });
        if query.task.set(task).is_err() {
            unreachable!("the task is set once, here");
        }
        Ok(query)
    }

    /// Plans what a statement says.
    pub(super) fn shape_of(
        self: &Arc<Engine>,
        create: &CreateQuery,
        record: &Record,
    ) -> Result<Shape> {
        let options = definition::query_options(create)?;
        let (plan, named) = self.plan_of(create, &options)?;
        let registry = self.registry.read();
        check_shedding(&registry, &options, &plan)?;
        let logical_time = has_logical_time(&registry, &plan);
        let late_rows = match &create.emit.late_rows_to {
            None => None,
            Some(target) => {
                // After a swap late rows are numbered anew.
                let id = format!("query {} plan {}", record.id, record.swaps);
                Some(LateRows::open(self, &registry, &plan, target, id)?)
            }
        };
        Ok(Shape { options, plan, named, late_rows, logical_time })
    }

    /// The plan of what a statement says, and the relations that its text names.
    pub(super) fn plan_of(
        &self,
        create: &CreateQuery,
        options: &QueryOptions,
    ) -> Result<(PhysicalPlan, BTreeSet<Arc<str>>)> {
        self.planning(|lookup| {
            let noting = Noting::over(lookup, &create.query);
            let bounded = options.require_bounded_state;
            let plan = plan_continuous(&create.query, &create.emit, bounded, &noting)?;
            Ok((plan, noting.named()))
        })
    }
}

/// The queries below write their watermarks from now on.
pub(super) fn ask_for_progress(registry: &Registry, query: &QueryState) {
    for source in query.sources() {
        if let Some(below) = registry.queries.get(&*source) {
            below.write_progress.store(true, Ordering::Relaxed);
            below.wake();
        }
    }
}

/// A query's statement as it is stored: what it is now, however it came to be.
pub(super) fn query_text(create: &CreateQuery) -> String {
    let create = CreateQuery { or_replace: false, if_not_exists: false, ..create.clone() };
    print(&Statement::CreateQuery(Box::new(create)))
}

/// The hidden columns that a plan's changelog needs. Rows that windows have made carry the watermark
/// under which they came about: a query above takes them as they came about, however many a step put into one entry.
pub(super) fn layout_of(plan: &PhysicalPlan) -> Layout {
    let former = former_layout_of(plan);
    let final_rows = plan.facts.append_only && !plan.facts.event_times.is_empty();
    Layout { arrivals: former.arrivals || final_rows, ..former }
}

/// Those of changelogs whose records do not name them: as programs chose them that did not keep the marks of
/// windows' rows.
pub(super) fn former_layout_of(plan: &PhysicalPlan) -> Layout {
    Layout {
        weights: !plan.facts.append_only,
        arrivals: passes_rows_through(plan) && !plan.facts.event_times.is_empty(),
    }
}

/// Whether rows of a source come out one by one, so that each keeps its own arrival watermark.
fn passes_rows_through(plan: &PhysicalPlan) -> bool {
    match &plan.node {
        Node::Source(_) => true,
        Node::FilterProject(_) | Node::Unnest(_) | Node::Union | Node::Join(_) | Node::Delay(_) => {
            plan.inputs.iter().any(passes_rows_through)
        }
        Node::Over(spec) if spec.order == OverOrder::Log => {
            plan.inputs.iter().any(passes_rows_through)
        }
        Node::AsofJoin(_)
        | Node::WindowAssign(_)
        | Node::WindowAggregate(_)
        | Node::SessionAggregate(_)
        | Node::CountWindow(_)
        | Node::PunctuationWindow(_)
        | Node::Aggregate(_)
        | Node::Over(_)
        | Node::OverChanges(_)
        | Node::MatchRecognize(_)
        | Node::Ranking(_) => false,
    }
}

/// Whether event time at the bottom of the plan is a plain integer.
pub(super) fn has_logical_time(registry: &Registry, plan: &PhysicalPlan) -> bool {
    let mut logical = false;
    each_source(plan, &mut |source| {
        let stream = registry.streams.get(&*source.relation);
        logical |= stream.is_some_and(|stream| stream.is_logical());
        if let Some(query) = registry.queries.get(&*source.relation) {
            logical |= query.shape().logical_time;
        }
    });
    logical
}

/// A query's answers are as durable as the most durable of its inputs.
pub(super) fn durability_of(registry: &Registry, plan: &PhysicalPlan) -> Durability {
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

pub(super) fn each_source(plan: &PhysicalPlan, visit: &mut impl FnMut(&SourceSpec)) {
    if let Node::Source(source) = &plan.node {
        visit(source);
    }
    for input in &plan.inputs {
        each_source(input, visit);
    }
}

pub(super) fn readable(
    registry: &Registry,
    spec: &SourceSpec,
) -> Result<(Readable, arrow::datatypes::SchemaRef)> {
    let name = &*spec.relation;
    let missing = || match registry.resting.get(name) {
        Some(resting) => resting.error(),
        None => Error::new(
            SqlState::UNDEFINED_RELATION,
            format!("{} \"{name}\" does not exist", spec.kind.noun()),
        ),
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
pub(super) fn start_positions(
    registry: &Registry,
    plan: &PhysicalPlan,
    start: &QueryStart,
) -> Result<Vec<(u64, u64)>> {
    let mut positions = Vec::new();
    let mut failure = None;
    each_source(plan, &mut |source| {
        let log = match readable(registry, source) {
            Ok((Readable::Stream(_, log), _)) => log,
            Ok((Readable::Changelog(changelog), _)) if changelog.kept().is_some() => {
                let message =
                    format!("continuous query \"{}\" no longer has its history", source.relation);
                failure = Some(
                    Error::new(SqlState::OFFSET_NOT_RETAINED, message)
                        .with_detail(
                            "Its retention has removed changes, so nobody can begin to follow it.",
                        )
                        .with_hint("REBUILD does not bring them back; create a query beside it."),
                );
                return;
            }
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
