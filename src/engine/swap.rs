//! Puts a query's plan in the place of another: CREATE OR REPLACE and REBUILD.
//!
//! ```text
//!   old run   ── steps go on ──────────────────────▶│ stopped
//!   new run   ── rehearses from its start ─────────▶│ goes on ──▶
//!   changelog ═ old entries ════════════════════════╪ new − old ╪ entries of the new run ═▶
//!                                                    one entry
//! ```
//! The new run answers nothing while it rehearses. Once it has read all that is there the old one is
//! held, and what both have answered is summed up against each other. The catalog learns of the new
//! plan first, with the place of the entry to come; where a crash leaves the entry out, recovery
//! rehearses again and writes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::catalog::record::{Base, Kind, Record};
use crate::engine::StatementResult;
use crate::engine::create::{
    ask_for_progress, durability_of, former_layout_of, layout_of, query_text, start_positions,
};
use crate::engine::execute::texts;
use crate::engine::query::{QueryState, Shape, Status};
use crate::engine::snapshots::plan_text;
use crate::engine::state::Engine;
use crate::engine::swap_check::depended_on;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::Position;
use crate::pipeline::drive::QueryRun;
use crate::sql::parse::parse_statement;
use crate::sql::statement::{CreateQuery, Statement};
use crate::views::difference::Difference;
use crate::views::entry_meta::EntryMeta;

/// Rows of the old changelog that are summed up at a time, beside a step of the new run.
const OLD_ROWS: usize = 65_536;

impl Engine {
    /// CREATE OR REPLACE of a query that exists.
    pub(super) fn replace(self: &Arc<Engine>, create: &CreateQuery) -> Result<StatementResult> {
        const TAG: &str = "CREATE CONTINUOUS QUERY";
        let query = self.query_state(&create.name)?;
        let mut record = query.record.lock().clone();
        record.sql = query_text(create);
        self.check_no_circle(&query, create)?;
        let fresh = Record { swaps: record.swaps + 1, ..record.clone() };
        let shape = self.shape_of(create, &fresh)?;
        let old = query.shape();
        let starved = matches!(&*query.status.lock(),
            Status::Failed { code, .. } if *code == SqlState::OUT_OF_MEMORY);
        if same_plan(&old, &shape) && (starved || query.run.lock().is_some()) {
            let shape = self.shape_of(create, &record)?;
            self.store.put(&record)?;
            *query.record.lock() = record;
            if let Some(run) = &mut *query.run.lock() {
                run.memory_limit = shape.options.memory_limit;
                run.shedding.allowed = shape.options.sheds;
            }
            query.set_shape(shape);
            if starved {
                // It stopped at its limit, which may be another one now.
                self.resume(&create.name)?;
            }
            return Ok(notice(TAG, "the plan is the same: its state was kept".into()));
        }
        let changelog = &query.changelog;
        let same_columns = changelog.schema().fields().len() == shape.plan.schema.fields().len()
            && changelog
                .schema()
                .fields()
                .iter()
                .zip(shape.plan.schema.fields())
                .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
        let registry = self.registry.read();
        let durability = durability_of(&registry, &shape.plan);
        let fits = same_columns
            && [layout_of(&shape.plan), former_layout_of(&shape.plan)]
                .iter()
                .any(|layout| layout.arrivals == changelog.layout().arrivals)
            && durability == changelog.log().durability();
        record.start = start_positions(&registry, &shape.plan, &shape.options.start)?;
        drop(registry);
        if !fits {
            self.begin_anew(&query, create)?;
            let text = "its columns are others: it began a new changelog, at offset 0";
            return Ok(notice(TAG, text.into()));
        }
        self.check_readers(&query, &shape)?;
        let (retracted, inserted) = self.swap(&query, record, shape)?;
        Ok(notice(
            TAG,
            format!(
                "its state could not be kept: it was rebuilt, {retracted} rows retracted and \
                 {inserted} inserted"
            ),
        ))
    }

    /// REBUILD CONTINUOUS QUERY.
    pub(super) fn rebuild(self: &Arc<Engine>, name: &str) -> Result<StatementResult> {
        let query = self.query_state(name)?;
        let mut record = query.record.lock().clone();
        let Statement::CreateQuery(create) = parse_statement(&record.sql)? else {
            return Err(Error::new(SqlState::CORRUPT, "catalog holds no definition"));
        };
        let fresh = Record { swaps: record.swaps + 1, ..record.clone() };
        let shape = self.shape_of(&create, &fresh)?;
        {
            // From where it began, as far as that is still there.
            let registry = self.registry.read();
            let earliest = start_positions(
                &registry,
                &shape.plan,
                &crate::catalog::definition::QueryStart::Earliest,
            )?;
            for (start, earliest) in record.start.iter_mut().zip(earliest) {
                *start = (*start).max(earliest);
            }
        }
        let (retracted, inserted) = self.swap(&query, record, shape)?;
        let text = format!("rebuilt: {retracted} rows retracted and {inserted} inserted");
        Ok(notice("REBUILD CONTINUOUS QUERY", text))
    }

    /// Rehearses the new plan, then swaps. Gives the numbers of retracted and inserted rows.
    fn swap(
        self: &Arc<Engine>,
        query: &Arc<QueryState>,
        mut record: Record,
        shape: Shape,
    ) -> Result<(u64, u64)> {
        let changelog = &query.changelog;
        let mut run = {
            let registry = self.registry.read();
            registry.check_no_reader_rests(query.name())?;
            self.fresh_run(&registry, &shape, &record.start, changelog)?
        };
        let mut difference = Difference::new(changelog.schema())?;
        let mut old = difference.subtract_kept(changelog)?;
        while self.rehearse(&mut run, &mut difference)? {
            old = difference.subtract(changelog, old, OLD_ROWS)?;
        }
        // From here on the old plan takes no step. If it fails, the old one goes on as if nothing was.
        let mut held = query.run.lock();
        while self.rehearse(&mut run, &mut difference)? {}
        difference.subtract(changelog, old, usize::MAX)?;
        run.written_watermark = written_watermark(query)?;
        let late = run.graph.output_watermark().0 < run.written_watermark;
        let change = difference.finish(query.name(), run.written_watermark)?;
        self.registry.read().check_swap(query, &shape, change.as_ref(), late)?;

        // The catalog is going to speak of them.
        run.make_durable()?;
        let position = |place: &Position| (place.frame, place.offset);
        let frontier = run.frontier().iter().map(position).collect();
        record.base = Some(Base { frame: changelog.log().visible().frame, frontier });
        record.swaps += 1;
        let layout = changelog.layout();
        record.layout = Some((layout.weights, layout.arrivals));
        if let Err(error) = self.store.put(&record) {
            // The catalog may speak of the new plan all the same, at this place: nothing may come there from
            // the old one. Running again writes the old record first.
            let error = Error::from(error);
            *held = None;
            drop(held);
            query.fail(&error);
            return Err(error);
        }
        let paused = record.paused;
        query.snapshots.begin_again(plan_text(&shape.plan, &record));
        *query.record.lock() = record;
        query.set_shape(shape);
        run.rest_on_inputs();
        let written = run.append_swap(change);
        *query.processed.lock() = run.frontier();
        query.figures.watermark.store(run.graph.output_watermark().0, Ordering::Relaxed);
        *held = match &written {
            Ok(_) if !paused => Some(run),
            _ => None,
        };
        drop(held);
        match &written {
            Ok(_) if !paused => *query.status.lock() = Status::Running,
            Ok(_) => {}
            Err(error) => query.fail(error),
        }
        ask_for_progress(&self.registry.read(), query);
        query.bell.notify_waiters();
        query.wake();
        written
    }

    fn rehearse(&self, run: &mut QueryRun, difference: &mut Difference) -> Result<bool> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Error::new(SqlState::SHUTTING_DOWN, "server is shutting down"));
        }
        let limit = run.memory_limit;
        let progressed =
            run.rehearse(None, |change| difference.add(&change.batch, change.weights.as_ref(), 1))?;
        if difference.bytes() as u64 > limit {
            return Err(Error::new(
                SqlState::OUT_OF_MEMORY,
                format!("difference of the results exceeds the memory limit of {limit} bytes"),
            )
            .with_hint("Raise memory_limit in WITH (…), or drop the query and create it again."));
        }
        Ok(progressed)
    }

    /// Replaces a query by one with other columns: a new changelog, and the end for all who follow it.
    fn begin_anew(self: &Arc<Engine>, query: &Arc<QueryState>, create: &CreateQuery) -> Result<()> {
        let name = query.name();
        {
            let registry = self.registry.read();
            let readers = registry.readers(name);
            if !readers.is_empty() {
                return Err(depended_on(name, &readers.join(", ")));
            }
        }
        let mut record = self.record(Kind::Query, name, query_text(create))?;
        let old = query.record.lock().clone();
        record.paused = old.paused;
        let shape = self.shape_of(create, &record)?;
        let fresh = self.open_query(record, shape, Some(()))?;
        self.start_query(&fresh)?;
        let record = fresh.record.lock().clone();
        let ended = Error::new(
            SqlState::SNAPSHOT_MISMATCH,
            format!("continuous query \"{name}\" was replaced and has other columns"),
        )
        .with_hint("Drop the sink and create it again.");
        let sinks: Vec<_> = {
            let registry = self.registry.read();
            registry.sinks.values().filter(|sink| sink.from == name).map(Arc::clone).collect()
        };
        let mut written = vec![record];
        written.extend(sinks.iter().map(|sink| sink.failed_record(&ended)));
        self.store.exchange(&written, &[old.id])?;
        for sink in sinks {
            sink.end(&ended);
        }
        query.stop(Status::Replaced);
        if let Some(task) = query.task.get() {
            task.retire();
        }
        query.snapshots.clear();
        self.remove_files("queries", &old.id);
        self.add_query(Arc::clone(&fresh));
        fresh.wake();
        Ok(())
    }
}

/// Whether what one plan holds in memory is what the other would hold.
fn same_plan(old: &Shape, new: &Shape) -> bool {
    let late_rows = |shape: &Shape| shape.late_rows.as_ref().map(|late| late.stream.record.id);
    old.options.start == new.options.start
        && late_rows(old) == late_rows(new)
        && format!("{:?}", old.plan) == format!("{:?}", new.plan)
}

/// The watermark that the changelog's newest frame left.
fn written_watermark(query: &QueryState) -> Result<i64> {
    let last = query.changelog.log().last_frame()?;
    let meta = last.and_then(|frame| EntryMeta::decode(&frame.meta));
    Ok(meta.map_or(i64::MIN, |meta| meta.watermark))
}

/// An answer that says what became of the state.
fn notice(tag: &str, text: String) -> StatementResult {
    texts(tag, &["notice"], vec![vec![text]])
}
