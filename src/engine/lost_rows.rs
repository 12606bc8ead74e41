//! Lets a query begin a new epoch where the power took rows that it had answered to.
//!
//! Rows of a stream that is only `written`, and the changelogs that rest on nothing else, may lose their
//! ends, each as the disk happened to write it. A changelog that is left with answers to rows that are gone
//! is cut behind the last entry whose rows are all there; from there on it answers to what comes now, at
//! offsets that nobody has seen: a void frame passes over the others, of which subscribers hear as a gap.
//!
//! That the power went is known from the run of the machine, which the catalog names, and from the lack of
//! an orderly end. A changelog in memory begins an epoch with each start.
//!
//! Sinks read nothing that can be lost ([`crate::engine::sink_source`]), so epochs do not concern them.
//! Nothing else that is durable speaks of rows that are not: snapshots, swaps and durable changelogs
//! sync what is below them first.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::catalog::persist::Run;
use crate::engine::create::{each_source, readable};
use crate::engine::query::QueryState;
use crate::engine::registry::Registry;
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::{FrameKind, Position};
use crate::log::log::{Durability, Log};
use crate::planner::physical::PhysicalPlan;
use crate::views::changelog::Changelog;
use crate::views::entry_meta::EntryMeta;
use crate::views::epochs::Reserve;

/// So many offsets further than what is there may be seen before the catalog has to be told again.
const SHOWN_AHEAD: u64 = 1 << 24;

impl Engine {
    /// Keeps a query's changelog from showing offsets that the catalog does not know of, and plans an epoch
    /// where entries may be gone that somebody has seen. `seen`: the end of the log before it was `cut`.
    pub(super) fn guard_offsets(
        self: &Arc<Engine>,
        changelog: &Changelog,
        id: u64,
        (seen, cut, fresh): (u64, bool, bool),
    ) {
        let durability = changelog.log().durability();
        let known = self.store.shown(id);
        let doubtful = match durability {
            Durability::Durable => false,
            Durability::Written => self.power_lost,
            Durability::Memory => true,
        };
        if !fresh && (cut || doubtful) {
            let below = match durability {
                Durability::Durable => seen,
                _ => known.unwrap_or(seen.saturating_add(SHOWN_AHEAD)).max(seen),
            };
            changelog.plan_epoch(below);
        }
        if durability != Durability::Durable {
            let engine = Arc::downgrade(self);
            let raise: Reserve = Box::new(move |end| {
                let stopped = || Error::new(SqlState::SHUTTING_DOWN, "server is shutting down");
                let below = end.saturating_add(SHOWN_AHEAD);
                let engine = engine.upgrade().ok_or_else(stopped)?;
                engine.note_run()?;
                engine.store.show(id, below)?;
                Ok(below)
            });
            changelog.limit(known.unwrap_or(0), raise);
        }
    }

    /// Begins the epochs that are planned, and then the run. All logs are open, so that sequences are known;
    /// no query has taken a step, so that nothing new is seen before the catalog knows of the run. On a full
    /// disk queries wait for room, and the run is noted before anything new is shown.
    pub(super) fn begin_epochs(&self) -> Result<()> {
        let queries = self.registry.read().queries_in_order();
        for query in &queries {
            match self.begin_epoch_of(query) {
                Err(error) if error.code() == SqlState::DISK_FULL => query.fail(&error),
                begun => begun?,
            }
        }
        match self.note_run() {
            Err(error) if error.code() == SqlState::DISK_FULL => {
                queries.iter().for_each(|query| query.changelog.tell_anew());
                Ok(())
            }
            noted => noted,
        }
    }

    /// Begins the epoch that is planned for a query, if one is.
    pub(super) fn begin_epoch_of(&self, query: &QueryState) -> Result<()> {
        let given = query.record.lock().base.as_ref().map_or(0, |base| base.frame + 1);
        // Where the entry of a swap is missing, recovery writes that first.
        match query.changelog.log().visible().frame >= given {
            true => query.changelog.begin_epoch(&query.start()),
            false => Ok(()),
        }
    }

    /// Notes that a run has begun, once.
    fn note_run(&self) -> Result<()> {
        if !self.run_noted.load(Ordering::Acquire) {
            let run = Run { boot: self.storage.boot(), ended: false };
            self.store.note_run(run, vec![])?;
            self.run_noted.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Notes that everything is on the disk.
    pub(super) fn end_run(&self) -> Result<()> {
        let registry = self.registry.read();
        let loose =
            |query: &&Arc<QueryState>| query.changelog.log().durability() != Durability::Durable;
        let end = |query: &Arc<QueryState>| {
            (query.record.lock().id, query.changelog.log().visible().offset)
        };
        let shown = registry.queries.values().filter(loose).map(end).collect();
        let run = Run { boot: self.storage.boot(), ended: true };
        Ok(self.store.note_run(run, shown)?)
    }
}

/// The first frame of a changelog behind `given` that answers to rows which are gone.
pub(super) fn first_orphan(
    registry: &Registry,
    plan: &PhysicalPlan,
    log: &Log,
    given: u64,
) -> Result<Option<u64>> {
    let ends = ends(registry, plan)?;
    let is_orphan = |meta: &[u8]| {
        let meta = EntryMeta::decode(meta);
        let meta =
            meta.ok_or_else(|| Error::new(SqlState::CORRUPT, "changelog entry has no frontier"))?;
        let places = meta.frontier.iter().zip(&ends);
        Ok::<_, Error>(places.into_iter().any(|(place, end)| place.frame > end.frame))
    };
    // Frontiers never go back: where the last one is covered, all are.
    match log.last_frame()? {
        Some(last) if last.index >= given && is_orphan(&last.meta)? => {}
        _ => return Ok(None),
    }
    let wanted = |kind| matches!(kind, FrameKind::Rows | FrameKind::Progress);
    for entry in log.summaries(wanted)?.iter().filter(|entry| entry.at.frame >= given) {
        if is_orphan(&entry.meta)? {
            return Ok(Some(entry.at.frame));
        }
    }
    Ok(None)
}

/// How far the inputs go now, in the order of the plan.
fn ends(registry: &Registry, plan: &PhysicalPlan) -> Result<Vec<Position>> {
    let mut logs: Vec<Result<Arc<Log>>> = Vec::new();
    each_source(plan, &mut |source| {
        logs.push(readable(registry, source).map(|(readable, _)| Arc::clone(readable.log())));
    });
    logs.into_iter().map(|log| log.map(|log| log.visible())).collect()
}
