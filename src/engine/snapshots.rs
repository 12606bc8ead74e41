//! Decides when a query writes a snapshot, and starts it from the newest one that fits.
//!
//! A snapshot is due when an interval has passed since the last one and rows have come, or sooner when
//! replaying what came would take long. It waits at least so long that taking snapshots costs a
//! twentieth of the time, whatever the state's size. The state is that of one moment between two
//! steps, but it is copied in portions, one between two steps each
//! ([`crate::operators::portions`]); the file is written by a worker that all queries share. Queries
//! also write one when they are paused and when the server stops.
//!
//! Queries over streams that keep nothing on the disk have none, nor have those with an aggregate
//! whose partial results do not survive a copy to the bit: they replay their log.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::catalog::record::Record;
use crate::engine::snapshot_writing::{SnapshotWriter, Writing};
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::Position;
use crate::log::log::{Durability, Log};
use crate::pipeline::drive::QueryRun;
use crate::pipeline::graph::Graph;
use crate::pipeline::snapshot::{KEPT, SnapshotFiles};
use crate::pipeline::snapshot_head::Head;
use crate::planner::explain::explain;
use crate::planner::physical::PhysicalPlan;
use crate::time::Clock;
use crate::views::changelog::Frontier;

/// How much more time than a snapshot takes passes before the next one.
const COST_RATIO: i64 = 20;

/// How long a replay may take: a query whose steps took longer than that since the last snapshot takes
/// the next one sooner, microseconds.
const REPLAY_MAX: i64 = crate::time::SECOND;

/// How many times sooner.
const SOONER: i64 = 10;

/// The directory of all snapshots.
pub(super) const DIRECTORY: &str = "snapshots";

/// How long a shutdown goes on taking snapshots, microseconds.
const SHUTDOWN_SNAPSHOTS: i64 = 3 * crate::time::SECOND;

impl Engine {
    /// Takes the snapshots that are due of queries to which nothing comes any more: while rows come,
    /// steps see to it. What a snapshot holds, retention and overload may remove.
    pub fn run_snapshots(&self) {
        let queries: Vec<_> = self.registry.read().queries.values().map(Arc::clone).collect();
        queries.iter().for_each(|query| query.snapshot_if_due());
    }

    /// Lets every query write its state, as long as there is time, so that the next start is quick.
    pub(super) fn take_last_snapshots(&self) {
        let deadline = self.clock.now().saturating_add(SHUTDOWN_SNAPSHOTS);
        self.snapshot_writer.stop();
        for query in self.registry.read().queries_in_order() {
            if self.clock.now() > deadline {
                return;
            }
            query.take_last_snapshot();
        }
    }

    /// Where a query keeps its snapshots.
    pub(super) fn snapshots_of(&self, plan: &PhysicalPlan, record: &Record) -> Snapshots {
        let directory = format!("{DIRECTORY}/{}", record.id);
        Snapshots::new(
            SnapshotFiles::new(Arc::clone(&self.storage), directory),
            plan_text(plan, record),
            (self.settings.snapshot_interval, self.settings.snapshot_portion),
            Arc::clone(&self.clock),
            Arc::clone(&self.snapshot_writer),
        )
    }
}

/// What a snapshot's plan must be to the letter: how often it was swapped, and the plan as EXPLAIN
/// shows it.
pub(super) fn plan_text(plan: &PhysicalPlan, record: &Record) -> String {
    format!("swaps {}\n{}", record.swaps, explain(plan).join("\n"))
}

/// The snapshots of one query.
pub(super) struct Snapshots {
    pub(super) files: Mutex<SnapshotFiles>,
    /// The plan in words; state of any other is refused.
    pub(super) plan: Mutex<String>,
    /// Least time between two, microseconds; `i64::MAX`: there are none.
    pub(super) interval: i64,
    /// Bytes copied between two steps.
    pub(super) portion: usize,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) writer: Arc<SnapshotWriter>,
    pub(super) progress: Mutex<Progress>,
    /// The frontiers of those on the disk, oldest first.
    pub(super) kept: Mutex<Vec<Frontier>>,
    pub(super) figures: Mutex<SnapshotFigures>,
    /// Gives the query a turn.
    pub(super) waker: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// What snapshots of a query have cost.
#[derive(Debug, Clone, Default)]
pub(super) struct SnapshotFigures {
    /// How many were written since the start.
    pub written: u64,
    /// Bytes of the newest one.
    pub bytes: u64,
    /// The longest that a step ever waited for one, microseconds.
    pub pause_max: i64,
    /// What the newest one took, from its moment to the name on the disk, microseconds.
    pub took: i64,
    /// When the newest one was done.
    pub at: i64,
    /// What reading one back took at the start, microseconds.
    pub restore: Option<i64>,
    /// Why one could not be used at the start.
    pub refused: Option<String>,
}

/// What the next snapshot waits for.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) last: i64,
    /// What the last one took of the machine's time, and the one under way so far.
    pub(super) cost: i64,
    pub(super) spent: i64,
    pub(super) rows_since: u64,
    /// Time that steps took since the last one: so long a replay would take.
    pub(super) busy_since: i64,
    /// The one that the operators are still writing.
    pub(super) saving: Option<Arc<Writing>>,
    /// The one begun last, until it is on the disk.
    pub(super) begun: Option<Arc<Writing>>,
    /// Whether one is not on the disk yet.
    pub(super) writing: bool,
    /// Senders wait for what one would let go.
    pub(super) asked: bool,
}

impl Snapshots {
    /// Snapshots of a query with this plan.
    pub(super) fn new(
        files: SnapshotFiles,
        plan: String,
        (interval, portion): (i64, usize),
        clock: Arc<dyn Clock>,
        writer: Arc<SnapshotWriter>,
    ) -> Snapshots {
        let progress = Progress { last: clock.now(), ..Progress::default() };
        Snapshots {
            files: Mutex::new(files),
            plan: Mutex::new(plan),
            interval,
            portion,
            clock,
            writer,
            progress: Mutex::new(progress),
            kept: Mutex::default(),
            figures: Mutex::default(),
            waker: OnceLock::new(),
        }
    }

    /// Says how the query is given a turn.
    pub(super) fn wake_by(&self, waker: impl Fn() + Send + Sync + 'static) {
        if self.waker.set(Box::new(waker)).is_err() {
            unreachable!("the waker is set once, when the query is opened");
        }
    }

    /// The time.
    pub(super) fn now(&self) -> i64 {
        self.clock.now()
    }

    /// Wants the next one as soon as its share of the time allows: senders wait for room.
    pub(super) fn ask(&self) {
        self.progress.lock().asked = true;
    }

    /// What they have cost.
    pub(super) fn figures(&self) -> SnapshotFigures {
        self.figures.lock().clone()
    }

    /// Whether the query can have snapshots at all.
    pub(super) fn possible(&self, run: &QueryRun) -> bool {
        let on_disk = |durability| durability != Durability::Memory;
        self.interval < i64::MAX
            && run.graph.restores_exactly()
            && on_disk(run.changelog.log().durability())
            && run.inputs.iter().all(|input| on_disk(input.source.log().durability()))
    }

    /// Notes a step of so many rows that took so long, and takes a snapshot when one is due, or goes
    /// on with the one under way. Whether it wants another turn for that.
    pub(super) fn after_step(
        self: &Arc<Snapshots>,
        run: &mut QueryRun,
        (rows, time): (u64, i64),
        counts: (u64, u64, u64),
        reported: &[Arc<Log>],
    ) -> bool {
        let began = self.clock.now();
        let saving = {
            let mut progress = self.progress.lock();
            progress.rows_since += rows;
            progress.busy_since = progress.busy_since.saturating_add(time);
            let due = self.is_due(&progress, began);
            let useful = progress.rows_since > 0 || self.would_free(run, progress.asked);
            match &progress.saving {
                Some(writing) => Some(Arc::clone(writing)),
                None if !due || !useful || progress.writing || !run.settled() => return false,
                None => None,
            }
        };
        let (saving, begun) = match saving {
            Some(saving) => (saving, 0),
            None if !self.possible(run) => return false,
            None => match self.begin(run, counts, reported) {
                Some(begun) => begun,
                None => return false,
            },
        };
        let again = self.go_on(run, &saving, begun);
        let pause = self.clock.now().saturating_sub(began);
        self.progress.lock().spent += pause;
        let mut figures = self.figures.lock();
        figures.pause_max = figures.pause_max.max(pause);
        again
    }

    /// Whether it is time: the interval has passed, or a replay would take too long; and the last one
    /// cost no more than its share of the time since.
    fn is_due(&self, progress: &Progress, now: i64) -> bool {
        let wait = match (progress.asked, progress.busy_since >= REPLAY_MAX) {
            (true, _) => 0,
            (false, true) => self.interval / SOONER,
            (false, false) => self.interval,
        };
        let wait = wait.max(progress.cost.saturating_mul(COST_RATIO));
        progress.last.saturating_add(wait) <= now
    }

    /// Whether the older of two snapshots holds back input that the query has long read.
    fn would_free(&self, run: &QueryRun, asked: bool) -> bool {
        let kept = self.kept.lock();
        kept.len() == 1
            || (asked && kept.is_empty())
            || kept.first().is_some_and(|oldest| *oldest != run.frontier())
    }

    /// Puts a new run into the state of the newest snapshot that fits; gives what that says. Those that
    /// fit no more are removed.
    /// `fresh` makes new operators in the place of those that took a part of one.
    pub(super) fn restore(
        &self,
        run: &mut QueryRun,
        fresh: impl Fn() -> Result<Graph>,
    ) -> Result<Option<Head>> {
        self.give_up();
        if !self.possible(run) {
            return Ok(None);
        }
        let began = self.clock.now();
        let files = self.files.lock();
        let read = files.read().map_err(|e| unreadable(&e))?;
        let (mut found, mut kept) = (None, Vec::new());
        for (number, snapshot) in read {
            let restored = snapshot.map_err(Error::from).and_then(|snapshot| {
                if snapshot.head.plan != *self.plan.lock() {
                    return Err(Error::new(
                        SqlState::SNAPSHOT_MISMATCH,
                        "snapshot is of another plan",
                    ));
                }
                if found.is_none() {
                    run.restore(&snapshot)?;
                    let mut figures = self.figures.lock();
                    figures.bytes = snapshot.length();
                    figures.restore = Some(self.clock.now().saturating_sub(began));
                }
                Ok(snapshot.head)
            });
            match restored {
                Ok(head) => {
                    kept.insert(0, head.frontier.clone());
                    found.get_or_insert(head);
                }
                Err(error) => {
                    let detail = error.detail().map_or(String::new(), |d| format!(": {d}"));
                    let reason = format!(
                        "{}: snapshot {number} is left out: {}{detail} (file \"{}\")",
                        error.code(),
                        error.message(),
                        files.path(number)
                    );
                    tracing::warn!("{reason}");
                    self.figures.lock().refused.get_or_insert(reason);
                    if !files.is_newer(number).unwrap_or(false) {
                        files.remove(number).map_err(|e| unreadable(&e))?;
                    }
                    if found.is_none() {
                        // It may have been read in part.
                        run.graph = fresh()?;
                    }
                }
            }
        }
        *self.kept.lock() = kept;
        Ok(found)
    }

    /// From where on the inputs are needed: `None` while only the whole log would do.
    pub(super) fn needed_from(&self) -> Option<Vec<Position>> {
        let kept = self.kept.lock();
        if kept.len() < KEPT { None } else { kept.first().cloned() }
    }

    /// Begins again with another plan: what was written fits it no more.
    pub(super) fn begin_again(&self, plan: String) {
        *self.plan.lock() = plan;
        self.clear();
    }

    /// Removes all files.
    pub(super) fn clear(&self) {
        self.give_up();
        self.kept.lock().clear();
        if let Err(error) = self.files.lock().clear() {
            tracing::warn!("snapshots stay behind: {error}");
        }
    }
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::new(SqlState::IO, format!("snapshots cannot be read: {error}"))
}
