//! Starts queries: from their newest snapshot, or from their start, or not at all.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::catalog::record::{Kind, Record};
use crate::engine::create::readable;
use crate::engine::punctuation_meta::read_punctuation;
use crate::engine::query::{QueryState, Shape};
use crate::engine::registry::Registry;
use crate::engine::resting::stops_alone;
use crate::engine::snapshots::Snapshots;
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::Position;
use crate::log::log::Durability;
use crate::pipeline::build::{build, steps_show};
use crate::pipeline::drive::QueryRun;
use crate::pipeline::input::Input;
use crate::pipeline::recorded::Recorded;
use crate::pipeline::shedding::Shedding;
use crate::pipeline::source::Source;
use crate::views::changelog::Changelog;
use crate::views::difference::Difference;

/// Rows of a query's first steps, until it is known how long they take.
const STEP_ROWS_FIRST: usize = 1_024;

/// What is kept of a query, and lets it run again.
pub(super) struct OnDisk<'a> {
    pub record: &'a Record,
    pub changelog: &'a Arc<Changelog>,
    pub snapshots: &'a Snapshots,
}

impl Engine {
    /// Reads the states of all queries back, as many at a time as there are processors.
    pub(super) fn start_queries(&self) -> Result<()> {
        let queries = Mutex::new(self.registry.read().queries_in_order().into_iter());
        let failure = Mutex::new(None);
        let work = || {
            loop {
                let Some(query) = queries.lock().next() else { return };
                let Err(error) = self.start_query(&query) else { continue };
                let error = while_opening(error, Kind::Query, query.name());
                if stops_alone(error.code()) {
                    // It stops alone, and says why.
                    query.fail(&error);
                } else {
                    failure.lock().get_or_insert(error);
                }
            }
        };
        let processors = std::thread::available_parallelism().map_or(1, |threads| threads.get());
        let others = self.settings.query_threads.min(processors).saturating_sub(1);
        std::thread::scope(|scope| {
            for _ in 0..others {
                let thread = std::thread::Builder::new().name("restore".into());
                // Without it the queries are read one after the other, below.
                drop(thread.spawn_scoped(scope, work));
            }
            work();
        });
        failure.into_inner().map_or(Ok(()), Err)
    }

    /// Puts an opened query into the state of its newest snapshot, or at its start. One that can be
    /// put into neither has failed, and says what is missing.
    pub(super) fn start_query(&self, query: &QueryState) -> Result<()> {
        let registry = self.registry.read();
        let record = query.record.lock();
        let disk =
            OnDisk { record: &record, changelog: &query.changelog, snapshots: &query.snapshots };
        let (run, counts) = self.run_of(&registry, &query.shape(), &disk)?;
        drop(record);
        query.recount(counts);
        query.note_shed(&run);
        *query.processed.lock() = run.frontier();
        run.rest_on_inputs();
        if query.is_running()
            && let Some(error) = what_is_missing(query, &run)
        {
            query.fail(&error);
            return Ok(());
        }
        *query.run.lock() = Some(run);
        Ok(())
    }

    /// The pipeline of a query at its newest snapshot or at its start, with the recorded entries
    /// behind that place to regenerate; and what it had counted there.
    pub(super) fn run_of(
        &self,
        registry: &Registry,
        shape: &Shape,
        disk: &OnDisk<'_>,
    ) -> Result<(QueryRun, (u64, u64, u64))> {
        let OnDisk { record, changelog, snapshots } = *disk;
        let mut run = self.fresh_run(registry, shape, &record.start, changelog)?;
        let fresh = || Ok(build(&shape.plan, &self.sharding)?.0);
        let snapshot = snapshots.restore(&mut run, fresh)?;
        let reached = snapshot.as_ref().map_or(0, |snapshot| snapshot.changelog.frame);
        changelog.note_signed(snapshot.as_ref().is_some_and(|snapshot| snapshot.signed));
        let given = record.base.as_ref().map_or(0, |base| base.frame + 1);
        let (replay, before) = Recorded::entries(changelog, reached, given.max(reached))?;
        run.replay = replay;
        if let Some(base) = record.base.as_ref().filter(|_| reached < given) {
            let place = |&(frame, offset): &(u64, u64)| Position { frame, offset };
            run.warm_up = Some(base.frontier.iter().map(place).collect());
            run.written_watermark = match run.replay.front() {
                Some(first) => first.watermark_before(changelog)?,
                None => before,
            };
            if changelog.log().visible().frame < given {
                run.swap = Some(Difference::new(changelog.schema())?);
            }
        }
        Ok((run, snapshot.map_or((0, 0, 0), |snapshot| snapshot.counts)))
    }

    /// The pipeline of a query that has written nothing.
    pub(super) fn fresh_run(
        &self,
        registry: &Registry,
        shape: &Shape,
        start: &[(u64, u64)],
        changelog: &Arc<Changelog>,
    ) -> Result<QueryRun> {
        let (graph, specs) = build(&shape.plan, &self.sharding)?;
        let inputs = specs
            .into_iter()
            .zip(start)
            .map(|(spec, &(frame, offset))| {
                let (readable, schema) = readable(registry, &spec)?;
                let source = Source::new(spec, readable, &schema)?;
                let position = Position { frame, offset };
                Ok(Input::new(source, position, &self.helpers))
            })
            .collect::<Result<Vec<_>>>()?;
        let schemas: Vec<_> = registry
            .streams
            .iter()
            .map(|(name, stream)| (name.clone(), Arc::clone(&stream.definition.schema)))
            .collect();
        let sheds = shape.options.sheds;
        Ok(QueryRun {
            shedding: Shedding::new(sheds, changelog.log().name(), inputs.len()),
            graph,
            inputs,
            replay: VecDeque::new(),
            changelog: Arc::clone(changelog),
            sequencer: Arc::clone(&self.sequencer),
            sync: changelog.log().durability() == Durability::Durable,
            read_punctuation: Arc::new(move |relation, bytes| {
                let (_, schema) = schemas.iter().find(|(name, _)| name == relation)?;
                read_punctuation(schema, bytes)
            }),
            written_watermark: i64::MIN,
            write_progress: false,
            record_steps: steps_show(&shape.plan),
            begins: steps_show(&shape.plan),
            memory_limit: shape.options.memory_limit,
            step_rows: self.settings.step_rows.min(STEP_ROWS_FIRST),
            step_rows_max: self.settings.step_rows,
            warm_up: None,
            swap: None,
            late_rows: 0,
            unwritten: None,
        })
    }
}

/// Why a query cannot go on from where its run stands: an input is no longer retained from there on.
pub(super) fn what_is_missing(query: &QueryState, run: &QueryRun) -> Option<Error> {
    let gaps: Vec<String> = run
        .inputs
        .iter()
        .zip(query.sources())
        .filter(|(input, _)| input.source.log().start().frame > input.position.frame)
        .map(|(input, source)| {
            let (needed, kept) = (input.position.offset, input.source.log().start().offset);
            format!("It needs \"{source}\" from offset {needed} on, which is kept from {kept} on.")
        })
        .collect();
    if gaps.is_empty() {
        return None;
    }
    let refused = query.snapshots.figures().refused;
    let (code, why) = match &refused {
        Some(refused) => (SqlState::SNAPSHOT_MISMATCH, format!(" Of its state, {refused}.")),
        None => (SqlState::OFFSET_NOT_RETAINED, String::new()),
    };
    let message = format!("continuous query \"{}\" cannot go on from its log", query.name());
    Some(
        Error::new(code, message)
            .with_detail(gaps.join(" ") + &why)
            .with_hint("REBUILD it from what is retained, or DROP it and create it again."),
    )
}

/// The error with what was being opened.
pub(super) fn while_opening(error: Error, kind: Kind, name: &str) -> Error {
    let message = format!("{}, while opening {} \"{name}\"", error.message(), kind.noun());
    let mut renamed = Error::new(error.code(), message);
    if let Some(detail) = error.detail() {
        renamed = renamed.with_detail(detail);
    }
    match error.hint() {
        Some(hint) => renamed.with_hint(hint),
        None => renamed,
    }
}
