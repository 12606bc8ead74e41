//! Drops, pauses and resumes what exists.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::catalog::record::{Kind, Record};
use crate::engine::StatementResult;
use crate::engine::query::{QueryState, Status};
use crate::engine::registry::wrong_kind;
use crate::engine::snapshots::DIRECTORY as SNAPSHOTS;
use crate::engine::start::{OnDisk, what_is_missing};
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::sql::print::quote_name;
use crate::sql::statement::ObjectKind;

impl Engine {
    /// DROP.
    pub(super) fn drop_object(
        self: &Arc<Engine>,
        kind: ObjectKind,
        name: &str,
        if_exists: bool,
        cascade: bool,
    ) -> Result<StatementResult> {
        let kind = Kind::from(kind);
        let done = StatementResult::command(format!("DROP {}", kind.words()));
        {
            let registry = self.registry.read();
            match registry.kind_of(name) {
                Some(found) if found == kind => {}
                None if if_exists => return Ok(done),
                _ => return Err(wrong_kind(&registry, name, kind)),
            }
        }
        let doomed = self.doomed(kind, name);
        if doomed.len() > 1 && !cascade {
            let others: Vec<String> = doomed[1..]
                .iter()
                .map(|(kind, name)| format!("{} \"{name}\"", kind.noun()))
                .collect();
            return Err(Error::new(
                SqlState::DEPENDENT_OBJECTS,
                format!("{} \"{name}\" cannot be dropped: others depend on it", kind.noun()),
            )
            .with_detail(format!("Depending on it: {}.", others.join(", ")))
            .with_hint(format!(
                "DROP {} {} CASCADE drops them, too.",
                kind.words(),
                quote_name(name)
            )));
        }
        // Those on top go first, so that nothing ever reads what is gone.
        for (kind, name) in doomed.iter().rev() {
            self.remove(*kind, name)?;
        }
        Ok(done)
    }

    /// The object and everything that depends on it; each after what it depends on.
    fn doomed(&self, kind: Kind, name: &str) -> Vec<(Kind, String)> {
        let registry = self.registry.read();
        let mut doomed = vec![(kind, name.to_string())];
        let mut next = 0;
        while next < doomed.len() {
            for dependant in registry.dependants(&doomed[next].1.clone()) {
                doomed.retain(|other| *other != dependant);
                doomed.push(dependant);
            }
            next += 1;
        }
        doomed
    }

    /// Drops one object. It goes on as before where the catalog cannot forget it: a name that was free
    /// again until the next start only would answer DROP IF EXISTS wrongly.
    fn remove(&self, kind: Kind, name: &str) -> Result<()> {
        let Some(id) = self.registry.read().id_of(kind, name) else { return Ok(()) };
        self.store.remove(&[id])?;
        let mut registry = self.registry.write();
        if registry.resting.remove(name).is_some() {
            drop(registry);
            let directory = match kind {
                Kind::Stream => "streams",
                Kind::Table => "tables",
                Kind::Query | Kind::Sink => "queries",
            };
            self.remove_files(directory, &id);
            self.remove_files(SNAPSHOTS, &id);
            return Ok(());
        }
        match kind {
            Kind::Stream => {
                if let Some(stream) = registry.streams.remove(name) {
                    self.reports.streams.write().remove(name);
                    drop(registry);
                    stream.appender.shut_down();
                    self.room.notify_waiters();
                    self.producers.forget(id);
                    self.remove_files("streams", &id);
                }
            }
            Kind::Table => {
                if registry.tables.remove(name).is_some() {
                    drop(registry);
                    self.remove_files("tables", &id);
                }
            }
            Kind::Query => {
                if let Some(query) = registry.queries.remove(name) {
                    self.reports.changelogs.write().remove(name);
                    drop(registry);
                    query.stop(Status::Dropped);
                    if let Some(task) = query.task.get() {
                        task.retire();
                    }
                    query.snapshots.clear();
                    self.remove_files("queries", &id);
                }
            }
            Kind::Sink => {
                if let Some(sink) = registry.sinks.remove(name) {
                    drop(registry);
                    sink.stop();
                    self.forget_sink(&sink);
                }
            }
        }
        Ok(())
    }

    pub(super) fn remove_files(&self, directory: &str, name: &(impl std::fmt::Display + ?Sized)) {
        // The catalog no longer names them; what stays behind costs only space.
        if let Err(error) = self.storage.remove_dir(&format!("{directory}/{name}")) {
            tracing::warn!("files of a dropped object stay behind: {error}");
        }
    }

    /// PAUSE.
    pub(super) fn pause(&self, name: &str) -> Result<StatementResult> {
        let sink = self.registry.read().sinks.get(name).map(Arc::clone);
        if let Some(sink) = sink {
            self.pause_sink(&sink)?;
            return Ok(StatementResult::command("PAUSE"));
        }
        let query = self.query_state(name)?;
        // One that has failed, too: else it would run again with the next start.
        if *query.status.lock() != Status::Paused {
            query.take_last_snapshot();
            query.stop(Status::Paused);
        }
        // Asked of the record, not of the status: where the catalog did not take it, the next PAUSE tries again.
        let mut record = query.record.lock();
        if !record.paused {
            self.change(&mut record, |record| record.paused = true)?;
        }
        Ok(StatementResult::command("PAUSE"))
    }

    /// Changes a record once the catalog has taken the change: where that refuses, the record is as it was.
    pub(super) fn change<T>(
        &self,
        record: &mut Record,
        change: impl FnOnce(&mut Record) -> T,
    ) -> Result<T> {
        let mut changed = record.clone();
        let told = change(&mut changed);
        self.store.put(&changed)?;
        *record = changed;
        Ok(told)
    }

    /// RESUME: also restarts a query that failed.
    pub(super) fn resume(self: &Arc<Engine>, name: &str) -> Result<StatementResult> {
        let done = StatementResult::command("RESUME");
        let sink = self.registry.read().sinks.get(name).map(Arc::clone);
        if let Some(sink) = sink {
            self.resume_sink(&sink)?;
            return Ok(done);
        }
        let query = self.query_state(name)?;
        if !query.is_running() {
            self.run_again(&query)?;
        }
        Ok(done)
    }

    /// Lets queries go on that wait or have stopped because the disk was full, if it is so no more.
    pub fn run_stopped(&self) {
        let Ok(_no_statement) = self.ddl.try_lock() else { return };
        let stopped = |query: &Arc<QueryState>| {
            matches!(&*query.status.lock(), Status::Failed { code: SqlState::DISK_FULL, .. })
        };
        let queries = self.registry.read().queries_in_order();
        let stalled = |query: &&Arc<QueryState>| query.figures.stalled.load(Ordering::Relaxed);
        queries.iter().filter(stalled).for_each(|query| query.wake());
        for query in queries.iter().filter(|query| stopped(query)) {
            if let Err(error) = self.run_again(query) {
                tracing::warn!(query = query.name, "still stopped: {}", error.message());
            }
        }
    }

    /// Starts a query that is paused or has failed.
    fn run_again(&self, query: &Arc<QueryState>) -> Result<()> {
        self.begin_epoch_of(query)?;
        let registry = self.registry.read();
        let mut record = query.record.lock().clone();
        record.paused = false;
        let shape = query.shape();
        let disk =
            OnDisk { record: &record, changelog: &query.changelog, snapshots: &query.snapshots };
        let (run, counts) = self.run_of(&registry, &shape, &disk)?;
        if let Some(error) = what_is_missing(query, &run) {
            return Err(error);
        }
        self.store.put(&record)?;
        *query.record.lock() = record;
        *query.processed.lock() = run.frontier();
        query.note_shed(&run);
        *query.run.lock() = Some(run);
        *query.status.lock() = Status::Running;
        query.recount(counts);
        query.wake();
        Ok(())
    }
}
