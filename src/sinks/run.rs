//! Drives a sink: reads the changelog, commits it in batches, backs off while the target is away.
//!
//! The changelog is the only buffer: rows leave memory when they are committed, and a target that is
//! away costs one batch of memory and a wake-up per delay. A commit is repeated with the same batch
//! and range until it succeeds or fails for good, because only then does a lost reply not count twice.
//!
//! The loop sleeps only on conditions: the source's, for rows; its own, for the end of a delay. By hand,
//! in a simulation, it is cut into turns instead ([`crate::sinks::turns`]).

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result, SqlState};
use crate::fault;
use crate::sinks::chunk::{self, ChangelogChunk};
use crate::sinks::sink::{Refused, SinkBatch, SinkError, SinkPlan, SinkTarget};
use crate::sinks::status::{SinkHandle, SinkState};
use crate::time::Clock;

/// The first delay after an error that is not final.
const DELAY_FIRST: Duration = Duration::from_millis(100);
/// The longest delay.
const DELAY_MAX: Duration = Duration::from_secs(30);
/// How long the source is waited for before the stop flag is looked at again.
const IDLE_WAIT: Duration = Duration::from_millis(250);

/// A changelog as a sink reads it.
pub trait ChangelogSource: Send {
    /// Durable rows from `from` on, ending where an entry of the changelog ends, so that no
    /// transaction shows half of one: `max_rows` is a wish. `None`: there are none yet. An offset
    /// beyond the end of the changelog, or one no longer retained, is an error.
    fn read(&mut self, from: u64, max_rows: usize) -> Result<Option<ChangelogChunk>>;

    /// Returns when there may be rows at or past `past`, and after `timeout` at the latest. May
    /// return early for any reason, such as [`SinkHandle::stop`].
    fn wait(&mut self, past: u64, timeout: Duration);
}

/// Takes refused rows, durably.
pub type DeadLetters = Box<dyn FnMut(&[Refused]) -> Result<()> + Send>;

/// When a transaction is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinkSettings {
    /// As soon as so many rows have come.
    pub batch_rows: usize,
    /// As soon as the rows take about so much memory.
    pub batch_bytes: u64,
    /// So long after the first row of the batch was read.
    pub linger: Duration,
    /// Rows of one entry of an append-only changelog may come in several batches, so that none is larger.
    pub cuts: bool,
}

impl Default for SinkSettings {
    fn default() -> SinkSettings {
        SinkSettings {
            batch_rows: 50_000,
            batch_bytes: 64 << 20,
            linger: Duration::from_millis(20),
            cuts: false,
        }
    }
}

/// What a sink is made of.
pub struct SinkRunner {
    plan: SinkPlan,
    target: Box<dyn SinkTarget>,
    source: Box<dyn ChangelogSource>,
    dead_letters: DeadLetters,
    clock: Arc<dyn Clock>,
    settings: SinkSettings,
    handle: SinkHandle,
}

/// Rows that are to be committed, and the range of offsets that they stand for: each attempt has the same.
pub(super) struct Begun {
    from: u64,
    pub(super) to: u64,
    batch: SinkBatch,
    /// Of the last attempt that got so far: one that finds its transaction counted reports none.
    refused: u64,
}

impl Begun {
    pub(super) fn new(from: u64, chunk: ChangelogChunk) -> Begun {
        let ChangelogChunk { first_offset, batch, weights, next_offset: to } = chunk;
        Begun { from, to, batch: SinkBatch { batch, weights, first_offset }, refused: 0 }
    }
}

/// Why the loop ends: an error, or a stop.
type Ended = ControlFlow<Option<Error>>;

impl SinkRunner {
    /// A sink that is not running yet. The clock measures how long a batch lingers.
    pub fn new(
        plan: SinkPlan,
        target: Box<dyn SinkTarget>,
        source: Box<dyn ChangelogSource>,
        dead_letters: DeadLetters,
        clock: Arc<dyn Clock>,
    ) -> SinkRunner {
        let settings = SinkSettings::default();
        let handle = SinkHandle::new();
        SinkRunner { plan, target, source, dead_letters, clock, settings, handle }
    }

    /// The same sink with other settings.
    pub fn with_settings(self, settings: SinkSettings) -> SinkRunner {
        assert!(settings.batch_rows > 0, "a transaction carries at least one row");
        SinkRunner { settings, ..self }
    }

    /// The door to the sink.
    pub fn handle(&self) -> SinkHandle {
        self.handle.clone()
    }

    /// Runs the sink on a thread of its own.
    pub fn spawn(self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name(self.thread_name()).spawn(move || self.run())
    }

    /// Runs the sink until it is stopped or fails for good; a panic is a failure of this sink alone.
    pub fn run(mut self) {
        let handle = self.handle.clone();
        let ended = catch_unwind(AssertUnwindSafe(|| self.drive()));
        let error = match ended {
            Ok(Some(error)) => error,
            Ok(None) => {
                handle.update(|status| status.state = SinkState::Stopped);
                return;
            }
            Err(_) => {
                let message = format!("sink \"{}\" broke an invariant", self.plan.name);
                Error::new(SqlState::INTERNAL, message)
            }
        };
        self.give_up(&error);
    }

    fn drive(&mut self) -> Option<Error> {
        let mut offset = match self.prepare() {
            ControlFlow::Continue(offset) => offset,
            ControlFlow::Break(ended) => return ended,
        };
        loop {
            let step = self.gather(offset, true).map(|chunk| chunk.map(|c| self.commit(offset, c)));
            offset = match step {
                Err(error) => return Some(error),
                Ok(Some(ControlFlow::Break(ended))) => return ended,
                Ok(Some(ControlFlow::Continue(offset))) => offset,
                Ok(None) => offset,
            };
            if self.handle.stopped() {
                return None;
            }
        }
    }

    fn prepare(&mut self) -> ControlFlow<Option<Error>, u64> {
        let mut attempt = 0;
        loop {
            match self.claim() {
                Ok(offset) => return ControlFlow::Continue(offset),
                Err(error) => self.back_off(error, &mut attempt)?,
            }
        }
    }

    /// Tries once to claim the mark.
    pub(super) fn claim(&mut self) -> Result<u64, SinkError> {
        let offset = self.target.prepare(&self.plan)?;
        self.handle.update(|status| status.goes_on(offset));
        Ok(offset)
    }

    /// One transaction's rows from `from` on; `None`: there are none yet.
    pub(super) fn gather(&mut self, from: u64, may_wait: bool) -> Result<Option<ChangelogChunk>> {
        // What was begun before a crash is done again with the same rows.
        let promised = self.target.promised().filter(|&end| from < end);
        let wanted = match promised {
            Some(end) => usize::try_from(end - from).unwrap_or(usize::MAX),
            None => self.settings.batch_rows,
        };
        let Some(first) = self.source.read(from, wanted)? else {
            if may_wait {
                self.source.wait(from, IDLE_WAIT);
            }
            return Ok(None);
        };
        assert!(from < first.next_offset, "a source that has rows moves on");
        let (mut rows, mut bytes) = (first.batch.num_rows(), first.bytes());
        let mut next = first.next_offset;
        let mut chunks = Vec::from([first]);
        let deadline = self.clock.now().saturating_add(micros(self.settings.linger));
        let room = |bytes| promised.is_some() || bytes < self.settings.batch_bytes;
        // A snapshot's rows have no offsets in a row with what follows, so it stays alone.
        while rows < wanted && room(bytes) && chunks.iter().all(ChangelogChunk::is_contiguous) {
            match self.source.read(next, wanted - rows)? {
                Some(chunk) if chunk.is_contiguous() && chunk.first_offset == next => {
                    assert!(next < chunk.next_offset, "a source that has rows moves on");
                    rows += chunk.batch.num_rows();
                    bytes += chunk.bytes();
                    next = chunk.next_offset;
                    chunks.push(chunk);
                }
                Some(_) => break,
                None if !may_wait => break,
                None => {
                    let left = deadline.saturating_sub(self.clock.now());
                    let hurry = self.handle.is_awaited_past(from);
                    let Some(left) = u64::try_from(left).ok().filter(|&left| left > 0 && !hurry)
                    else {
                        break;
                    };
                    self.source.wait(next, Duration::from_micros(left).min(IDLE_WAIT));
                }
            }
        }
        let chunk = chunk::join(chunks)?;
        Ok(Some(match promised {
            Some(end) => chunk.until(end),
            None if self.settings.cuts => self.cut(chunk),
            None => chunk,
        }))
    }

    /// What of a chunk goes into one batch. Rows that others take back stay together: a part of a change
    /// would be no result that ever was.
    fn cut(&self, chunk: ChangelogChunk) -> ChangelogChunk {
        let (rows, bytes) = (chunk.batch.num_rows() as u64, chunk.bytes().max(1));
        if chunk.weights.is_some() || rows == 0 {
            return chunk;
        }
        let average = bytes.div_ceil(rows);
        let fitting = (self.settings.batch_bytes / average).min(self.settings.batch_rows as u64);
        let end = chunk.first_offset + fitting.max(1);
        chunk.until(end)
    }

    fn commit(&mut self, from: u64, chunk: ChangelogChunk) -> ControlFlow<Option<Error>, u64> {
        let mut attempt = 0;
        let mut batch = Begun::new(from, chunk);
        loop {
            match self.attempt(&mut batch) {
                Ok(()) => return ControlFlow::Continue(batch.to),
                Err(error) => self.back_off(error, &mut attempt)?,
            }
        }
    }

    /// Tries once to commit.
    pub(super) fn attempt(&mut self, begun: &mut Begun) -> Result<(), SinkError> {
        let Begun { from, to, batch, refused } = begun;
        let dead_letters = &mut self.dead_letters;
        let mut refuse = |rows: &[Refused]| {
            *refused = rows.len() as u64;
            dead_letters(rows)
        };
        fault::at("sink.commit", &self.plan.name);
        let written = self.target.commit(batch, *from, *to, &mut refuse)?;
        fault::at("sink.committed", &self.plan.name);
        self.handle.update(|status| {
            status.goes_on(*to);
            status.rows_written += written;
            status.rows_refused += *refused;
            status.transactions += 1;
        });
        Ok(())
    }

    /// Ends the loop for a final error, else waits before the next attempt.
    fn back_off(&self, error: SinkError, attempt: &mut u32) -> Ended {
        match self.delay_after(error, attempt) {
            Err(error) => return ControlFlow::Break(Some(error)),
            Ok(delay) => self.handle.delay(delay),
        }
        if self.handle.stopped() { ControlFlow::Break(None) } else { ControlFlow::Continue(()) }
    }

    /// Notes an error, and says how long to wait before the next attempt; an error where none can help.
    pub(super) fn delay_after(
        &self,
        error: SinkError,
        attempt: &mut u32,
    ) -> Result<Duration, Error> {
        if error.is_final() {
            return Err(error.into());
        }
        let error = Error::from(error);
        tracing::warn!(sink = %self.plan.name, code = %error.code(), "{}", error.message());
        self.handle.failed(SinkState::Retrying, &error);
        *attempt += 1;
        Ok(delay(*attempt - 1))
    }

    /// Ends the sink for good.
    pub(super) fn give_up(&self, error: &Error) {
        let (message, detail) = (error.message(), error.detail().unwrap_or_default());
        tracing::error!(sink = %self.plan.name, code = %error.code(), "{message} {detail}");
        self.handle.failed(SinkState::Failed, error);
    }

    /// What a turn needs to know.
    pub(super) fn now(&self) -> i64 {
        self.clock.now()
    }

    /// The name of its thread.
    pub fn thread_name(&self) -> String {
        format!("sink {}", self.plan.name.replace('\0', ""))
    }
}

/// The delay before attempt number `attempt` + 2: it doubles from the first to the longest.
fn delay(attempt: u32) -> Duration {
    DELAY_FIRST.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(DELAY_MAX)
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
