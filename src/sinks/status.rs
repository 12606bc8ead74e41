//! Shows how a sink is doing, stops it, and waits until it has come far enough.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result, SqlState};

/// What a sink is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkState {
    /// Claiming its mark.
    Starting,
    /// Committing, or waiting for rows.
    Running,
    /// Waiting to try again after an error.
    Retrying,
    /// Stopped on request.
    Stopped,
    /// Stopped by an error that trying again cannot mend.
    Failed,
}

/// A sink's figures, as `weir.sinks` shows them.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkStatus {
    /// What it is doing.
    pub state: SinkState,
    /// The changelog offset up to which the target has everything; `None` before the mark is read.
    pub committed: Option<u64>,
    /// Rows inserted, updated or deleted since the start of this run.
    pub rows_written: u64,
    /// Rows refused since the start of this run.
    pub rows_refused: u64,
    /// Transactions since the start of this run.
    pub transactions: u64,
    /// Attempts that failed since the start of this run.
    pub retries: u64,
    /// Code, message and detail of the last error; gone when the sink goes on.
    pub last_error: Option<(SqlState, String)>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl SinkStatus {
    /// The error that has stopped the sink.
    fn failure(&self) -> Option<Error> {
        let (code, message) = self.last_error.as_ref()?;
        let error = Error::new(*code, message.clone());
        let error = match &self.hint {
            Some(hint) => error.with_hint(hint.clone()),
            None => error,
        };
        (self.state == SinkState::Failed).then_some(error)
    }

    /// The sink goes on: what went wrong is over.
    pub(super) fn goes_on(&mut self, committed: u64) {
        self.state = SinkState::Running;
        self.committed = Some(committed);
        (self.last_error, self.hint) = (None, None);
    }
}

#[derive(Debug)]
struct Shared {
    status: SinkStatus,
    stop: bool,
    /// Offsets that somebody waits for: no lingering below the greatest.
    flush: u64,
}

/// The door to a running sink; clones are the same sink.
#[derive(Debug, Clone)]
pub struct SinkHandle {
    shared: Arc<(Mutex<Shared>, Condvar)>,
}

impl SinkHandle {
    /// The door to a sink that has not started.
    pub(crate) fn new() -> SinkHandle {
        let status = SinkStatus {
            state: SinkState::Starting,
            committed: None,
            rows_written: 0,
            rows_refused: 0,
            transactions: 0,
            retries: 0,
            last_error: None,
            hint: None,
        };
        let shared = Shared { status, stop: false, flush: 0 };
        SinkHandle { shared: Arc::new((Mutex::new(shared), Condvar::new())) }
    }

    /// The figures now.
    pub fn status(&self) -> SinkStatus {
        self.shared.0.lock().status.clone()
    }

    /// Asks the loop to end after the transaction that it is in. A loop that waits for rows sees it
    /// when the source's `wait` returns.
    pub fn stop(&self) {
        self.change(|shared| shared.stop = true);
    }

    /// Waits until everything below `offset` is committed. `false`: `timeout` passed before, or the
    /// sink was stopped. An error: the sink has failed.
    pub fn wait_committed(&self, offset: u64, timeout: Duration) -> Result<bool> {
        let (mutex, changed) = &*self.shared;
        let mut shared = mutex.lock();
        shared.flush = shared.flush.max(offset);
        let pending = |shared: &mut Shared| {
            shared.status.committed.is_none_or(|committed| committed < offset)
                && !matches!(shared.status.state, SinkState::Stopped | SinkState::Failed)
        };
        changed.wait_while_for(&mut shared, pending, timeout);
        let status = &shared.status;
        if status.committed.is_some_and(|committed| committed >= offset) {
            return Ok(true);
        }
        status.failure().map_or(Ok(false), Err)
    }

    /// Waits until the sink has looked at its target, or `timeout` has passed. An error: what it
    /// found there makes it fail for good.
    pub fn wait_started(&self, timeout: Duration) -> Result<()> {
        let (mutex, changed) = &*self.shared;
        let mut shared = mutex.lock();
        let pending = |shared: &mut Shared| shared.status.state == SinkState::Starting;
        changed.wait_while_for(&mut shared, pending, timeout);
        shared.status.failure().map_or(Ok(()), Err)
    }

    /// Changes the figures and wakes those who wait for them.
    pub(crate) fn update(&self, update: impl FnOnce(&mut SinkStatus)) {
        self.change(|shared| update(&mut shared.status));
    }

    fn change(&self, change: impl FnOnce(&mut Shared)) {
        change(&mut self.shared.0.lock());
        self.shared.1.notify_all();
    }

    /// Whether a stop was asked for.
    pub(crate) fn stopped(&self) -> bool {
        self.shared.0.lock().stop
    }

    /// Whether somebody waits for an offset past `from`, or for the end.
    pub(crate) fn is_awaited_past(&self, from: u64) -> bool {
        let shared = self.shared.0.lock();
        shared.stop || shared.flush > from
    }

    /// Waits for the end of a delay or a stop.
    pub(crate) fn delay(&self, delay: Duration) {
        let (mutex, changed) = &*self.shared;
        changed.wait_while_for(&mut mutex.lock(), |shared| !shared.stop, delay);
    }

    /// Records an error and what becomes of the sink.
    pub(crate) fn failed(&self, state: SinkState, error: &Error) {
        let message = match error.detail() {
            Some(detail) => format!("{}: {detail}", error.message()),
            None => error.message(),
        };
        self.change(|shared| {
            shared.status.state = state;
            shared.status.last_error = Some((error.code(), message));
            shared.status.hint = error.hint();
            shared.status.retries += u64::from(state == SinkState::Retrying);
        });
    }
}
