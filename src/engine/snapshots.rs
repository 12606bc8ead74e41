//! Decides when a query writes a snapshot, and starts it from the newest one that fits.
//!
//! A snapshot is due when an interval has passed since the last one and rows have come. The interval
//! is at least so long that taking snapshots costs a twentieth of the time, whatever the state's size.
//! The state is copied between two steps; the file is written by a worker that all queries share.
//! Queries also write one when they are paused and when the server stops.
//!
//! Queries over streams that keep nothing on the disk have none, nor have those with an aggregate
//! whose partial results do not survive a copy to the bit: they replay their log.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use parking_lot::Mutex;

use crate::catalog::persist::Record;
use crate::crew::{Crew, Hired, Turn, Worker};
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::log::frame::Position;
use crate::log::log::{Durability, Log};
use crate::pipeline::build::build;
use crate::pipeline::drive::QueryRun;
use crate::pipeline::snapshot::{KEPT, Snapshot, SnapshotFiles};
use crate::planner::explain::explain;
use crate::planner::physical::PhysicalPlan;
use crate::time::Clock;
use crate::views::changelog::Frontier;

/// How much more time than a snapshot takes passes before the next one.
const COST_RATIO: i64 = 20;

/// The directory of all snapshots.
const DIRECTORY: &str = "snapshots";

/// How long a shutdown goes on taking snapshots, microseconds.
const SHUTDOWN_SNAPSHOTS: i64 = 3 * crate::time::SECOND;

type Job = Box<dyn FnOnce() + Send>;

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
            self.settings.snapshot_interval,
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

/// The worker that writes snapshots.
pub(super) struct SnapshotWriter {
    jobs: Mutex<Option<Sender<Job>>>,
    writer: Mutex<Option<Hired>>,
}

/// What is to be written, in order.
struct Jobs(Receiver<Job>);

impl Worker for Jobs {
    fn turn(&mut self, may_sleep: bool) -> Turn {
        let job = match may_sleep {
            true => self.0.recv().map_err(|_| Turn::Ended),
            false => self.0.try_recv().map_err(|none| match none {
                TryRecvError::Empty => Turn::Idle,
                TryRecvError::Disconnected => Turn::Ended,
            }),
        };
        match job {
            Ok(job) => {
                job();
                Turn::Done
            }
            Err(turn) => turn,
        }
    }
}

impl SnapshotWriter {
    /// Takes the worker on.
    pub(super) fn start(crew: &Crew) -> SnapshotWriter {
        let (jobs, incoming) = channel::<Job>();
        let writer = crew
            .start("snapshots", Box::new(Jobs(incoming)))
            .expect("the system gives us a thread");
        SnapshotWriter { jobs: Mutex::new(Some(jobs)), writer: Mutex::new(Some(writer)) }
    }

    fn submit(&self, job: Job) {
        if let Some(jobs) = &*self.jobs.lock() {
            // The writer ends only after the sender is gone.
            drop(jobs.send(job));
        }
    }

    /// Finishes what was submitted and ends the worker.
    pub(super) fn stop(&self) {
        drop(self.jobs.lock().take());
        let writer = self.writer.lock().take();
        writer.into_iter().for_each(Hired::join);
    }
}

/// The snapshots of one query.
pub(super) struct Snapshots {
    files: Mutex<SnapshotFiles>,
    /// The plan in words; state of any other is refused.
    plan: Mutex<String>,
    /// Least time between two, microseconds; `i64::MAX`: there are none.
    interval: i64,
    clock: Arc<dyn Clock>,
    writer: Arc<SnapshotWriter>,
    progress: Mutex<Progress>,
    /// The frontiers of those on the disk, oldest first.
    kept: Mutex<Vec<Frontier>>,
}

/// What the next snapshot waits for.
#[derive(Debug, Default)]
struct Progress {
    last: i64,
    cost: i64,
    rows_since: u64,
    writing: bool,
}

impl Snapshots {
    /// Snapshots of a query with this plan.
    pub(super) fn new(
        files: SnapshotFiles,
        plan: String,
        interval: i64,
        clock: Arc<dyn Clock>,
        writer: Arc<SnapshotWriter>,
    ) -> Snapshots {
        let progress = Progress { last: clock.now(), ..Progress::default() };
        Snapshots {
            files: Mutex::new(files),
            plan: Mutex::new(plan),
            interval,
            clock,
            writer,
            progress: Mutex::new(progress),
            kept: Mutex::default(),
        }
    }

    /// Whether the query can have snapshots at all.
    fn possible(&self, run: &QueryRun) -> bool {
        let on_disk = |durability| durability != Durability::Memory;
        self.interval < i64::MAX
            && run.graph.restores_exactly()
            && on_disk(run.changelog.log().durability())
            && run.inputs.iter().all(|input| on_disk(input.source.log().durability()))
    }

    /// Notes a step of so many rows, and takes a snapshot when one is due.
    pub(super) fn after_step(
        self: &Arc<Snapshots>,
        run: &mut QueryRun,
        rows: u64,
        counts: (u64, u64, u64),
        late: Option<Arc<Log>>,
    ) {
        {
            let mut progress = self.progress.lock();
            progress.rows_since += rows;
            let wait = self.interval.max(progress.cost.saturating_mul(COST_RATIO));
            let due = progress.last.saturating_add(wait) <= self.clock.now();
            let useful = progress.rows_since > 0 || self.would_free(run);
            if !due || !useful || progress.writing || !run.settled() {
                return;
            }
        }
        if !self.possible(run) {
            return;
        }
        let Some(bytes) = self.copy(run, counts) else { return };
        let (snapshots, frontier) = (Arc::clone(self), run.frontier());
        let logs = spoken_of(run, late);
        self.progress.lock().writing = true;
        self.writer.submit(Box::new(move || snapshots.write(&bytes, frontier, &logs)));
    }

    /// Whether the older of two snapshots holds back input that the query has long read.
    fn would_free(&self, run: &QueryRun) -> bool {
        let kept = self.kept.lock();
        kept.len() == 1 || kept.first().is_some_and(|oldest| *oldest != run.frontier())
    }

    /// Takes a snapshot now, if anything came since the last one, and waits until it is written.
    pub(super) fn take_last(
        &self,
        run: &mut QueryRun,
        counts: (u64, u64, u64),
        late: Option<Arc<Log>>,
    ) {
        let idle = self.progress.lock().rows_since == 0;
        if idle || !run.settled() || !self.possible(run) {
            return;
        }
        if let Some(bytes) = self.copy(run, counts) {
            self.write(&bytes, run.frontier(), &spoken_of(run, late));
        }
    }

    /// The bytes of a snapshot; `None`, and said in the log, if there can be none.
    fn copy(&self, run: &mut QueryRun, counts: (u64, u64, u64)) -> Option<Vec<u8>> {
        let began = self.clock.now();
        let bytes = run
            .snapshot(&self.plan.lock(), counts)
            .and_then(|snapshot| snapshot.encode().map_err(Error::from));
        let mut progress = self.progress.lock();
        progress.last = self.clock.now();
        progress.cost = progress.last.saturating_sub(began);
        progress.rows_since = 0;
        bytes.map_err(|error| tracing::error!("no snapshot: {}", error.message())).ok()
    }

    /// Writes a file, once the logs are durable of which it speaks.
    fn write(&self, bytes: &[u8], frontier: Frontier, logs: &[Arc<Log>]) {
        let synced = logs.iter().try_for_each(|log| log.sync().map_err(std::io::Error::other));
        let written = synced.and_then(|()| self.files.lock().write(bytes));
        match written {
            Ok(()) => {
                let mut kept = self.kept.lock();
                kept.push(frontier);
                let extra = kept.len().saturating_sub(KEPT);
                kept.drain(..extra);
            }
            Err(error) => tracing::warn!("snapshot cannot be written: {error}"),
        }
        self.progress.lock().writing = false;
    }

    /// Puts a new run into the state of the newest snapshot that fits; gives that snapshot. Those that
    /// fit no more are removed.
    pub(super) fn restore(
        &self,
        run: &mut QueryRun,
        plan: &PhysicalPlan,
    ) -> Result<Option<Snapshot>> {
        if !self.possible(run) {
            return Ok(None);
        }
        let files = self.files.lock();
        let read = files.read().map_err(|e| unreadable(&e))?;
        let (mut found, mut kept) = (None, Vec::new());
        for (number, snapshot) in read {
            let restored = snapshot.map_err(Error::from).and_then(|snapshot| {
                if snapshot.plan != *self.plan.lock() {
                    return Err(Error::new(
                        crate::error::SqlState::SNAPSHOT_MISMATCH,
                        "snapshot is of another plan",
                    ));
                }
                if found.is_none() {
                    run.restore(&snapshot)?;
                }
                Ok(snapshot)
            });
            match restored {
                Ok(snapshot) => {
                    kept.insert(0, snapshot.frontier.clone());
                    found.get_or_insert(snapshot);
                }
                Err(error) => {
                    tracing::warn!("snapshot {number} is left out: {}", error.message());
                    files.remove(number).map_err(|e| unreadable(&e))?;
                    if found.is_none() {
                        // It may have been read in part.
                        run.graph = build(plan)?.0;
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
        self.kept.lock().clear();
        if let Err(error) = self.files.lock().clear() {
            tracing::warn!("snapshots stay behind: {error}");
        }
    }
}

/// The logs that have to be durable before a snapshot is: its frontier lies in the inputs and in the
/// changelog, and rows that went to `late` do not come again.
fn spoken_of(run: &QueryRun, late: Option<Arc<Log>>) -> Vec<Arc<Log>> {
    let inputs = run.inputs.iter().map(|input| Arc::clone(input.source.log()));
    inputs.chain([Arc::clone(run.changelog.log())]).chain(late).collect()
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::new(crate::error::SqlState::IO, format!("snapshots cannot be read: {error}"))
}
