//! Brings snapshots of queries to the disk: portion by portion, on a thread that all queries share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use parking_lot::Mutex;

use crate::crew::{Crew, Hired, Turn, Worker};
use crate::engine::snapshots::Snapshots;
use crate::error::{Error, Result, SqlState};
use crate::log::log::Log;
use crate::pipeline::drive::QueryRun;
use crate::pipeline::graph_state::Section;
use crate::pipeline::snapshot::{Draft, KEPT, SnapshotFiles};
use crate::views::changelog::Frontier;

/// Bytes that may wait for the disk before the operators write more.
const WAITING_MAX: usize = 64 << 20;

type Job = Box<dyn FnOnce() + Send>;

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

/// A snapshot on its way to the disk.
pub(super) struct Writing {
    draft: Mutex<Option<Draft>>,
    began: i64,
    /// How far the inputs had been read.
    frontier: Frontier,
    /// The logs that have to be durable before it is.
    logs: Vec<Arc<Log>>,
    /// Bytes that wait to be written.
    waiting: AtomicUsize,
    /// It failed, or is not wanted any more.
    given_up: AtomicBool,
}

impl Snapshots {
    /// Begins a snapshot of this moment, and says how many bytes were copied; `None`, and said in the
    /// log, if there can be none.
    pub(super) fn begin(
        self: &Arc<Snapshots>,
        run: &mut QueryRun,
        counts: (u64, u64, u64),
        reported: &[Arc<Log>],
    ) -> Option<(Arc<Writing>, usize)> {
        let now = self.clock.now();
        let begun = run.snapshot(&self.plan.lock(), counts);
        let mut progress = self.progress.lock();
        (progress.last, progress.spent) = (now, 0);
        (progress.rows_since, progress.busy_since, progress.asked) = (0, 0, false);
        let begun = begun.map_err(|error| tracing::error!("no snapshot: {}", error.message()));
        let (head, sections) = begun.ok()?;
        let writing = Arc::new(Writing {
            draft: Mutex::new(None),
            began: now,
            frontier: head.frontier.clone(),
            logs: spoken_of(run, reported),
            waiting: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
        });
        progress.saving = Some(Arc::clone(&writing));
        progress.begun = Some(Arc::clone(&writing));
        progress.writing = true;
        drop(progress);
        self.submit(&writing, move |files, draft| {
            *draft = Some(files.begin(&head)?);
            Ok(())
        });
        let copied = sections.iter().map(|section| section.state.len()).sum();
        sections.into_iter().for_each(|section| self.submit_section(&writing, section));
        Some((writing, copied))
    }

    /// Copies a portion; whether it wants another turn.
    pub(super) fn go_on(
        self: &Arc<Snapshots>,
        run: &mut QueryRun,
        writing: &Arc<Writing>,
        begun: usize,
    ) -> bool {
        let mut copied = begun;
        while copied < self.portion {
            if writing.given_up.load(Ordering::Acquire) {
                run.graph.save_abandon();
                self.progress.lock().saving = None;
                return false;
            }
            if writing.waiting.load(Ordering::Acquire) > WAITING_MAX {
                // The writer wakes the query when it has caught up.
                return false;
            }
            match run.graph.save_more(self.portion) {
                Ok(Some(section)) => {
                    copied += section.state.len().max(1);
                    self.submit_section(writing, section);
                }
                Ok(None) => {
                    self.progress.lock().saving = None;
                    self.submit_finish(writing);
                    return false;
                }
                Err(error) => {
                    tracing::error!("no snapshot: {error}");
                    writing.given_up.store(true, Ordering::Release);
                    self.progress.lock().writing = false;
                }
            }
        }
        true
    }

    /// Lets the writer do something with the draft, unless the snapshot is given up.
    fn submit(
        self: &Arc<Snapshots>,
        writing: &Arc<Writing>,
        job: impl FnOnce(&SnapshotFiles, &mut Option<Draft>) -> std::io::Result<()> + Send + 'static,
    ) {
        let (snapshots, writing) = (Arc::clone(self), Arc::clone(writing));
        self.writer.submit(Box::new(move || {
            let files = snapshots.files.lock();
            if writing.given_up.load(Ordering::Acquire) {
                return;
            }
            let began = snapshots.clock.now();
            if let Err(error) = job(&files, &mut writing.draft.lock()) {
                tracing::warn!("snapshot cannot be written: {error}");
                writing.given_up.store(true, Ordering::Release);
                snapshots.progress.lock().writing = false;
            }
            snapshots.progress.lock().spent += snapshots.clock.now().saturating_sub(began);
        }));
    }

    fn submit_section(self: &Arc<Snapshots>, writing: &Arc<Writing>, section: Section) {
        let bytes = section.state.len();
        let before = writing.waiting.fetch_add(bytes, Ordering::AcqRel);
        debug_assert!(before <= usize::MAX - bytes);
        let (state, snapshots) = (Arc::clone(writing), Arc::clone(self));
        self.submit(writing, move |_, draft| {
            let written = draft.as_mut().map_or(Ok(()), |draft| draft.section(&section));
            let waited = state.waiting.fetch_sub(bytes, Ordering::AcqRel);
            if waited > WAITING_MAX && waited - bytes <= WAITING_MAX {
                snapshots.waker.get().into_iter().for_each(|wake| wake());
            }
            written
        });
    }

    /// Lets the writer end the file, once the logs are durable of which it speaks.
    fn submit_finish(self: &Arc<Snapshots>, writing: &Arc<Writing>) {
        let (state, snapshots) = (Arc::clone(writing), Arc::clone(self));
        self.submit(writing, move |files, draft| {
            let synced = state.logs.iter().try_for_each(|log| log.sync());
            synced.map_err(std::io::Error::other)?;
            if let Some(draft) = draft.take() {
                let bytes = files.finish(draft)?;
                snapshots.note_written(bytes, state.frontier.clone(), state.began);
                // Senders may wait for what it lets go, or for the next one.
                snapshots.waker.get().into_iter().for_each(|wake| wake());
            }
            Ok(())
        });
    }

    fn note_written(&self, bytes: u64, frontier: Frontier, began: i64) {
        {
            let mut kept = self.kept.lock();
            kept.push(frontier);
            let extra = kept.len().saturating_sub(KEPT);
            kept.drain(..extra);
        }
        let mut progress = self.progress.lock();
        progress.cost = progress.spent;
        (progress.writing, progress.begun) = (false, None);
        drop(progress);
        let (mut figures, now) = (self.figures.lock(), self.clock.now());
        figures.written += 1;
        (figures.bytes, figures.at) = (bytes, now);
        figures.took = now.saturating_sub(began);
    }

    /// Gives up the snapshot under way.
    pub(super) fn give_up(&self) {
        let mut progress = self.progress.lock();
        (progress.writing, progress.saving) = (false, None);
        // Also where only the writer is behind: it must not bring back what is cleared.
        if let Some(writing) = progress.begun.take() {
            writing.given_up.store(true, Ordering::Release);
        }
    }

    /// Takes a snapshot now, if anything came since the last one, and waits until it is written.
    pub(super) fn take_last(
        &self,
        run: &mut QueryRun,
        counts: (u64, u64, u64),
        reported: &[Arc<Log>],
    ) {
        let (idle, saving) = {
            let progress = self.progress.lock();
            (progress.rows_since == 0, progress.saving.is_some())
        };
        if (idle && !saving) || !run.settled() || !self.possible(run) {
            return;
        }
        self.give_up();
        let began = self.clock.now();
        let logs = spoken_of(run, reported);
        let synced = logs.iter().try_for_each(|log| log.sync()).map_err(Error::from);
        match synced.and_then(|()| self.write_all(run, counts)) {
            Ok(bytes) => self.note_written(bytes, run.frontier(), began),
            Err(error) => tracing::warn!("no snapshot: {}", error.message()),
        }
        let mut progress = self.progress.lock();
        progress.last = self.clock.now();
        (progress.rows_since, progress.busy_since) = (0, 0);
    }

    /// Writes a snapshot of this moment; gives its bytes.
    fn write_all(&self, run: &mut QueryRun, counts: (u64, u64, u64)) -> Result<u64> {
        let files = self.files.lock();
        let (head, sections) = run.snapshot(&self.plan.lock(), counts)?;
        let mut draft = files.begin(&head).map_err(|e| unwritable(&e))?;
        for section in sections {
            draft.section(&section).map_err(|e| unwritable(&e))?;
        }
        while let Some(section) = run.graph.save_more(self.portion)? {
            draft.section(&section).map_err(|e| unwritable(&e))?;
        }
        files.finish(draft).map_err(|e| unwritable(&e))
    }
}

fn unwritable(error: &std::io::Error) -> Error {
    Error::new(SqlState::IO, format!("snapshot cannot be written: {error}"))
}

/// The logs that have to be durable before a snapshot is: its frontier lies in the inputs and in the
/// changelog, and rows that were reported, as late or refused, do not come again.
fn spoken_of(run: &QueryRun, reported: &[Arc<Log>]) -> Vec<Arc<Log>> {
    let inputs = run.inputs.iter().map(|input| input.source.log());
    inputs.chain([run.changelog.log()]).chain(reported).map(Arc::clone).collect()
}
