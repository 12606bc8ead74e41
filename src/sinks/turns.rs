//! Lets a sink work beside the callers: on a thread of its own, or by hand, an attempt a turn.
//!
//! By hand nobody sleeps: a transaction is begun with whatever rows there are, and after an error the
//! turns are idle until the clock has passed the delay.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::crew::{Turn, Worker};
use crate::error::{Error, SqlState};
use crate::sinks::run::{Begun, SinkRunner, micros};
use crate::sinks::sink::SinkError;
use crate::sinks::status::SinkState;

/// A sink that was taken on.
pub struct SinkWorker {
    /// Gone once it runs on a thread, or has ended.
    runner: Option<SinkRunner>,
    /// Everything below is committed; `None` before the mark is claimed.
    offset: Option<u64>,
    begun: Option<Begun>,
    attempts: u32,
    /// Until then it waits for its target.
    not_before: i64,
}

impl SinkWorker {
    /// A sink that has not looked at its target.
    pub fn new(runner: SinkRunner) -> SinkWorker {
        let (offset, begun) = (None, None);
        SinkWorker { runner: Some(runner), offset, begun, attempts: 0, not_before: i64::MIN }
    }

    /// One attempt at whatever comes next.
    fn attempt(&mut self, runner: &mut SinkRunner) -> Result<Turn, Error> {
        if runner.now() < self.not_before {
            return Ok(Turn::Idle);
        }
        let Some(offset) = self.offset else {
            let claimed = runner.claim();
            self.offset = self.unless_away(runner, claimed)?;
            return Ok(Turn::Done);
        };
        let mut begun = match self.begun.take() {
            Some(begun) => begun,
            None => match runner.gather(offset, false)? {
                Some(chunk) => Begun::new(offset, chunk),
                None => return Ok(Turn::Idle),
            },
        };
        let committed = runner.attempt(&mut begun);
        match self.unless_away(runner, committed)? {
            Some(()) => self.offset = Some(begun.to),
            None => self.begun = Some(begun),
        }
        Ok(Turn::Done)
    }

    /// What an attempt gave; `None` where it is to be made again.
    fn unless_away<T>(
        &mut self,
        runner: &SinkRunner,
        tried: Result<T, SinkError>,
    ) -> Result<Option<T>, Error> {
        match tried {
            Ok(done) => {
                self.attempts = 0;
                Ok(Some(done))
            }
            Err(error) => {
                let delay = runner.delay_after(error, &mut self.attempts)?;
                self.not_before = runner.now().saturating_add(micros(delay));
                Ok(None)
            }
        }
    }
}

impl Worker for SinkWorker {
    fn turn(&mut self, may_sleep: bool) -> Turn {
        let Some(mut runner) = self.runner.take() else { return Turn::Ended };
        if may_sleep {
            // The thread is its own: it sleeps wherever it has to.
            runner.run();
            return Turn::Ended;
        }
        let handle = runner.handle();
        if handle.stopped() {
            handle.update(|status| status.state = SinkState::Stopped);
            return Turn::Ended;
        }
        let tried = catch_unwind(AssertUnwindSafe(|| self.attempt(&mut runner)));
        let broken = |_| Err(Error::new(SqlState::INTERNAL, "sink broke an invariant"));
        match tried.unwrap_or_else(broken) {
            Ok(turn) => {
                self.runner = Some(runner);
                turn
            }
            Err(error) => {
                runner.give_up(&error);
                Turn::Ended
            }
        }
    }
}
