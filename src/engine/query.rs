//! Is a continuous query that runs: its plan, its pipeline, its answers and its figures.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::Notify;

use crate::catalog::definition::QueryOptions;
use crate::catalog::record::Record;
use crate::crew::Crew;
use crate::engine::adapted::Sampled;
use crate::engine::late_rows::LateRows;
use crate::engine::reports::Reports;
use crate::engine::snapshots::Snapshots;
use crate::engine::state::Engine;
use crate::engine::stream::StreamState;
use crate::error::{Error, SqlState};
use crate::fault;
use crate::log::frame::Position;
use crate::log::log::Log;
use crate::pipeline::drive::{QueryRun, StepReport};
use crate::pipeline::figures::OperatorFigures;
use crate::pipeline::input::Input;
use crate::pipeline::schedule::{Next, Task, Work};
use crate::planner::physical::{Node, PhysicalPlan};
use crate::planner::relations::{RelationInfo, RelationKind};
use crate::time::SECOND;
use crate::views::changelog::{Changelog, Frontier};
use crate::views::result_view::ResultView;

/// Whether a query runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    /// It takes steps.
    Running,
    /// PAUSE.
    Paused,
    /// It has stopped for a reason of its own.
    Failed { code: SqlState, message: String },
    /// It was dropped.
    Dropped,
    /// Another query took its name, and answers other columns.
    Replaced,
}

/// Live figures, read without a lock.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub rows_in: AtomicU64,
    pub rows_out: AtomicU64,
    pub late_rows: AtomicU64,
    pub rejected_rows: AtomicU64,
    pub state_bytes: AtomicU64,
    pub steps: AtomicU64,
    /// `i64::MIN` while there is none.
    pub watermark: AtomicI64,
    /// An answer waits for room on the disk.
    pub stalled: AtomicBool,
    /// Processing time at which it wants a tick; `i64::MAX`: never.
    pub next_tick: AtomicI64,
}

/// A query that runs.
pub(super) struct QueryState {
    pub record: Mutex<Record>,
    shape: RwLock<Arc<Shape>>,
    pub changelog: Arc<Changelog>,
    pub view: Arc<ResultView>,
    pub run: Mutex<Option<QueryRun>>,
    pub snapshots: Arc<Snapshots>,
    /// Kept results, by the frame behind them, of which the catalog has not said that it knows them.
    pub unrecorded: Mutex<Vec<(u64, Arc<Log>)>>,
    pub task: OnceLock<Arc<Task>>,
    pub status: Mutex<Status>,
    pub figures: Figures,
    pub operators: Mutex<Vec<OperatorFigures>>,
    /// What it keeps of its rows where memory is short.
    pub shed: Mutex<Sampled>,
    /// Rings when a replay has ended, or nothing runs any more.
    pub replayed: Condvar,
    /// Who runs it.
    pub crew: Crew,
    /// How far the inputs are processed and the results visible.
    pub processed: Mutex<Frontier>,
    /// Set when a query or sink above wants to see the watermark in the changelog.
    pub write_progress: AtomicBool,
    /// Rings for subscribers.
    pub bell: Arc<Notify>,
    /// Rings for FLUSH.
    pub stepped: Arc<Notify>,
    /// Rings for senders that wait for room.
    pub room: Arc<Notify>,
    pub reports: Arc<Reports>,
    pub name: String,
}

/// What a query is at this moment; another one when it is replaced.
pub(super) struct Shape {
    pub options: QueryOptions,
    pub plan: PhysicalPlan,
    /// The relations that its text names, also those that the plan never reads.
    pub named: BTreeSet<Arc<str>>,
    /// Where rows go that are dropped as too late.
    pub late_rows: Option<LateRows>,
    /// The watermark is a plain number, not a time.
    pub logical_time: bool,
}

impl QueryState {
    /// A query that has not taken a step.
    pub(super) fn new(
        record: Record,
        shape: Shape,
        changelog: Arc<Changelog>,
        snapshots: Arc<Snapshots>,
        engine: &Engine,
    ) -> QueryState {
        let status = if record.paused { Status::Paused } else { Status::Running };
        QueryState {
            name: record.name.clone(),
            record: Mutex::new(record),
            shape: RwLock::new(Arc::new(shape)),
            view: Arc::new(ResultView::new(Arc::clone(&changelog))),
            processed: Mutex::default(),
            changelog,
            run: Mutex::new(None),
            snapshots,
            unrecorded: Mutex::default(),
            task: OnceLock::new(),
            status: Mutex::new(status),
            figures: Figures {
                watermark: AtomicI64::new(i64::MIN),
                next_tick: AtomicI64::new(i64::MAX),
                ..Figures::default()
            },
            operators: Mutex::default(),
            shed: Mutex::default(),
            replayed: Condvar::new(),
            crew: engine.crew.clone(),
            write_progress: AtomicBool::new(false),
            bell: Arc::new(Notify::new()),
            stepped: Arc::clone(&engine.stepped),
            room: Arc::clone(&engine.room),
            reports: Arc::clone(&engine.reports),
        }
    }

    pub(super) fn shape(&self) -> Arc<Shape> {
        Arc::clone(&self.shape.read())
    }

    pub(super) fn set_shape(&self, shape: Shape) {
        *self.shape.write() = Arc::new(shape);
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Names of the relations at the bottom of the plan, in the order of the inputs.
    pub(super) fn sources(&self) -> Vec<Arc<str>> {
        let mut names = Vec::new();
        sources_of(&self.shape().plan, &mut names);
        names
    }

    /// Where the query began to read each input.
    pub(super) fn start(&self) -> Frontier {
        let position = |&(frame, offset): &(u64, u64)| Position { frame, offset };
        self.record.lock().start.iter().map(position).collect()
    }

    /// The stream that takes its late rows.
    pub(super) fn late_rows_to(&self) -> Option<Arc<StreamState>> {
        self.shape().late_rows.as_ref().map(|late| Arc::clone(&late.stream))
    }

    pub(super) fn reads(&self, relation: &str) -> bool {
        self.sources().iter().any(|name| &**name == relation)
    }

    /// Whether the query's text names a relation: without it, it could not be planned again.
    pub(super) fn names(&self, relation: &str) -> bool {
        self.shape().named.contains(relation)
    }

    pub(super) fn info(&self) -> RelationInfo {
        let shape = self.shape();
        let facts = &shape.plan.facts;
        RelationInfo {
            name: self.name.as_str().into(),
            kind: RelationKind::Query,
            schema: Arc::clone(&shape.plan.schema),
            append_only: facts.append_only && self.changelog.append_only(),
            event_times: facts.event_times.clone(),
            processing_time: false,
            unique_keys: facts.unique_keys.clone(),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        *self.status.lock() == Status::Running
    }

    /// Whether it will read on: also after a failure, for it starts again with the server, or sooner.
    pub(super) fn needs_input(&self) -> bool {
        matches!(&*self.status.lock(), Status::Running | Status::Failed { .. })
    }

    pub(super) fn wake(&self) {
        if let Some(task) = self.task.get() {
            task.wake();
        }
    }

    /// Stops the query for good, or until RESUME; what it held is freed.
    pub(super) fn stop(&self, status: Status) {
        *self.status.lock() = status;
        *self.run.lock() = None;
        self.replayed.notify_all();
        self.figures.state_bytes.store(0, Ordering::Relaxed);
        self.figures.stalled.store(false, Ordering::Relaxed);
        self.figures.next_tick.store(i64::MAX, Ordering::Relaxed);
        self.bell.notify_waiters();
        self.stepped.notify_waiters();
        self.room.notify_waiters();
    }

    pub(super) fn fail(&self, error: &Error) {
        tracing::error!(query = self.name, code = %error.code(), "query stopped: {}", error.message());
        let detail = error.detail().map_or(String::new(), |detail| format!(". {detail}"));
        let message = format!("{}{detail}", error.message());
        self.stop(Status::Failed { code: error.code(), message });
    }

    fn record_step(&self, run: &QueryRun, report: &StepReport) {
        let figures = &self.figures;
        figures.rows_in.fetch_add(report.rows_in, Ordering::Relaxed);
        figures.rows_out.fetch_add(report.rows_out, Ordering::Relaxed);
        figures.late_rows.fetch_add(report.late.len() as u64, Ordering::Relaxed);
        figures.rejected_rows.fetch_add(report.rejected.len() as u64, Ordering::Relaxed);
        figures.steps.fetch_add(1, Ordering::Relaxed);
        let state_bytes = run.graph.state_bytes() as u64;
        figures.state_bytes.store(state_bytes, Ordering::Relaxed);
        figures.watermark.store(run.graph.output_watermark().0, Ordering::Relaxed);
        figures.next_tick.store(wanted_tick(run, &self.shape().plan), Ordering::Relaxed);
        *self.operators.lock() = run.graph.operators().collect();
        self.note_shed(run);
        figures.stalled.store(run.stalled(), Ordering::Relaxed);
        if !run.replaying() {
            self.replayed.notify_all();
        }
        if !run.replaying() && !run.stalled() {
            *self.processed.lock() = run.frontier();
        }
    }

    /// Rows taken, rows that were too late, rows refused.
    fn counts(&self) -> (u64, u64, u64) {
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let figures = &self.figures;
        (read(&figures.rows_in), read(&figures.late_rows), read(&figures.rejected_rows))
    }

    /// Shows the counts of a snapshot that the query goes on from; zeros when it replays.
    pub(super) fn recount(&self, (rows_in, late_rows, rejected_rows): (u64, u64, u64)) {
        self.figures.rows_in.store(rows_in, Ordering::Relaxed);
        self.figures.late_rows.store(late_rows, Ordering::Relaxed);
        self.figures.rejected_rows.store(rejected_rows, Ordering::Relaxed);
        // Offsets count the rows that came out.
        let rows_out = self.changelog.log().visible().offset;
        self.figures.rows_out.store(rows_out, Ordering::Relaxed);
    }

    /// The logs that hold rows which were too late or refused.
    fn reported(&self) -> Vec<Arc<Log>> {
        let reports = [&self.reports.late_rows, &self.reports.dead_letters].map(Arc::clone);
        let late = self.late_rows_to().map(|stream| Arc::clone(&stream.log));
        reports.into_iter().chain(late).collect()
    }

    /// Takes a snapshot if one is due and no step is under way.
    pub(super) fn snapshot_if_due(&self) {
        if let Some(mut run) = self.run.try_lock()
            && let Some(run) = run.as_mut().filter(|_| self.is_running())
            && self.snapshots.after_step(run, (0, 0), self.counts(), &self.reported())
        {
            self.wake();
        }
    }

    /// Writes the state that the query would start again with, if it runs.
    pub(super) fn take_last_snapshot(&self) {
        if let Some(run) = self.run.lock().as_mut().filter(|_| self.is_running()) {
            self.snapshots.take_last(run, self.counts(), &self.reported());
        }
    }

    fn step(&self) -> Next {
        let mut guard = self.run.lock();
        if !self.is_running() {
            return Next::Wait;
        }
        let Some(run) = guard.as_mut() else { return Next::Wait };
        let began = self.snapshots.now();
        fault::at("query.step", &self.name);
        run.write_progress = self.write_progress.load(Ordering::Relaxed);
        let report = match run.step() {
            Ok(report) => report,
            Err(error) => {
                drop(guard);
                self.fail(&error);
                return Next::Wait;
            }
        };
        // Before the figures say that the rows are processed: after FLUSH the reports are there.
        self.reports.late_rows(&self.name, &report.late);
        if !report.late.is_empty()
            && let Some(late_rows) = &self.shape().late_rows
            && let Err(error) = late_rows.append(&run.inputs, &report)
        {
            if late_rows.is_stopping() {
                // The step is taken again after the start: its state is not to be the last snapshot.
                *guard = None;
            } else {
                drop(guard);
                self.fail(&error);
            }
            return Next::Wait;
        }
        self.reports.rejected_rows(&self.name, &report.rejected);
        self.record_step(run, &report);
        let (rows, time) = (report.rows_in, self.snapshots.now().saturating_sub(began));
        let saving = self.snapshots.after_step(run, (rows, time), self.counts(), &self.reported());
        run.pace(rows, time);
        let again = !run.stalled() && (report.progressed || has_more(run) || saving);
        drop(guard);
        self.bell.notify_waiters();
        self.stepped.notify_waiters();
        if again { Next::Again } else { Next::Wait }
    }
}

fn has_more(run: &QueryRun) -> bool {
    run.replaying() || run.inputs.iter().any(Input::has_more)
}

/// When the query wants a tick: timers of its operators, and once a second while windows over the
/// clock hold rows.
fn wanted_tick(run: &QueryRun, plan: &PhysicalPlan) -> i64 {
    let timer = run.graph.next_tick().unwrap_or(i64::MAX);
    let by_clock = run.inputs.iter().any(|input| input.source.processing_time());
    if by_clock && has_window(plan) && run.graph.holds_rows() {
        return timer.min(crate::operators::row_clock::get().saturating_add(SECOND));
    }
    timer
}

fn has_window(plan: &PhysicalPlan) -> bool {
    let here = matches!(
        plan.node,
        Node::WindowAggregate(_)
            | Node::SessionAggregate(_)
            | Node::CountWindow(_)
            | Node::PunctuationWindow(_)
    );
    here || plan.inputs.iter().any(has_window)
}

fn sources_of(plan: &PhysicalPlan, names: &mut Vec<Arc<str>>) {
    if let Node::Source(source) = &plan.node {
        names.push(Arc::clone(&source.relation));
    }
    plan.inputs.iter().for_each(|input| sources_of(input, names));
}

impl Work for QueryState {
    fn turn(&self) -> Next {
        self.step()
    }

    fn panicked(&self, reason: String) {
        let error = Error::new(SqlState::INTERNAL, format!("query broke: {reason}"));
        self.fail(&error);
    }
}

/// Whether a query has come as far as each target, the index of a frame.
pub(super) fn reached(processed: &Frontier, targets: &[u64]) -> bool {
    processed.len() == targets.len()
        && processed.iter().zip(targets).all(|(done, target)| done.frame >= *target)
}
