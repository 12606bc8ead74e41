//! Searches partitions: begins an attempt at each row in turn, and says what was found.
//!
//! An attempt takes the rows from its first one on until nothing can change its answer: no way to match
//! is left, no row can come any more, or the time of WITHIN is over. If it matched, the next one begins
//! where AFTER MATCH SKIP says; else at the next row. Rows before the present attempt are given up.

use std::sync::Arc;

use super::attempt::{Attempt, Next, Stopped};
use super::cells::Memory;
use super::conditions::{Definitions, Look, Undecided};
use super::measures::{Found, Measures, Refused};
use super::partition::Partition;
use super::pattern::Program;
use super::{MatchSpec, Skip};
use crate::operators::operator::EvalError;
use crate::operators::origin_buffer::OriginBuffer;

/// What is known to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    /// More rows may.
    Open,
    /// None that the present attempt may take.
    AttemptEnds,
    /// Nothing.
    End,
}

/// Searches partitions.
pub(super) struct Matcher {
    spec: Arc<MatchSpec>,
    program: Program,
    pub definitions: Definitions,
    measures: Measures,
    next: Next<Memory>,
    /// Matches whose rows are still to be made.
    pub found: Vec<Found>,
    /// Rows that were refused.
    pub refused: Vec<Refused>,
    /// Rows that nobody needs any more, once the rows of `found` are made.
    pub freed: Vec<u64>,
}

impl Matcher {
    pub(super) fn new(spec: &Arc<MatchSpec>) -> Result<Matcher, EvalError> {
        let program = Program::compile(&spec.pattern)
            .ok_or_else(|| EvalError::Broken("the pattern is too large".into()))?;
        Ok(Matcher {
            program,
            definitions: Definitions::new(spec)?,
            measures: Measures::new(spec)?,
            spec: Arc::clone(spec),
            next: Next::new(),
            found: Vec::new(),
            refused: Vec::new(),
            freed: Vec::new(),
        })
    }

    /// Searches as far as the rows that are there allow.
    pub(super) fn search(
        &mut self,
        partition: &mut Partition,
        rows: &OriginBuffer,
        mut outlook: Outlook,
    ) -> Result<(), EvalError> {
        let mut attempt = std::mem::replace(&mut partition.attempt, Attempt::none());
        while self.begin(partition, &mut attempt, rows) {
            if !self.attempt(partition, &mut attempt, rows)? {
                continue;
            }
            if !attempt.is_over() && outlook == Outlook::Open {
                break;
            }
            if outlook == Outlook::AttemptEnds {
                outlook = Outlook::Open;
            }
            self.conclude(partition, &attempt);
            attempt.end();
            partition.is_searching = false;
        }
        partition.attempt = attempt;
        partition.trim(self.spec.reach, &mut self.freed);
        Ok(())
    }

    /// Begins an attempt if none is under way; `false` if there is no row to begin with.
    fn begin(
        &mut self,
        partition: &mut Partition,
        attempt: &mut Attempt<Memory>,
        rows: &OriginBuffer,
    ) -> bool {
        if partition.is_searching {
            return true;
        }
        let first = self.definitions.first;
        while let Some(held) = partition.rows.get(partition.start)
            && (held.refused || (held.fits | held.fails) & first == 0)
        {
            partition.start += 1;
        }
        if partition.start == partition.rows.len() {
            return false;
        }
        let look = Look { definitions: &self.definitions, partition, rows };
        attempt.begin(&self.program, &look, &mut self.next);
        (partition.seen, partition.is_searching) = (0, true);
        true
    }

    /// Shows the attempt the rows that it has not seen; `false` if its first row was refused, so that
    /// there is none any more.
    fn attempt(
        &mut self,
        partition: &mut Partition,
        attempt: &mut Attempt<Memory>,
        rows: &OriginBuffer,
    ) -> Result<bool, EvalError> {
        while !attempt.is_over() && partition.start + partition.seen < partition.rows.len() {
            let row = partition.seen;
            partition.seen += 1;
            if partition.rows[partition.start + row].refused {
                continue;
            }
            let place = u32::try_from(row).ok().filter(|place| *place != u32::MAX);
            let place = place.ok_or_else(too_many)?;
            let mut look = Look { definitions: &self.definitions, partition, rows };
            match attempt.take(&self.program, place, &mut look, &mut self.next) {
                Ok(()) => {}
                Err(Stopped::TooManyThreads) => return Err(too_many()),
                Err(Stopped::Condition(Undecided::Broken(error))) => return Err(error),
                Err(Stopped::Condition(Undecided::Row(code, reason))) => {
                    let held = &mut partition.rows[partition.start + row];
                    held.refused = true;
                    self.refused.push((held.number, code, reason));
                    if row == 0 {
                        partition.is_searching = false;
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Takes down the match, if there is one, and moves to where the next attempt begins.
    fn conclude(&mut self, partition: &mut Partition, attempt: &Attempt<Memory>) {
        let Some(rows) = attempt.best() else {
            partition.start += 1;
            return;
        };
        partition.matches += 1;
        self.found.extend(self.measures.note(&self.spec, partition, &rows));
        let of = |variable: usize| move |&&(_, other): &&(u32, usize)| other == variable;
        let next = match self.spec.skip {
            Skip::PastLastRow => rows.last().map(|(row, _)| row + 1),
            Skip::ToNextRow => None,
            Skip::ToFirst(variable) => rows.iter().find(of(variable)).map(|(row, _)| *row),
            Skip::ToLast(variable) => rows.iter().rev().find(of(variable)).map(|(row, _)| *row),
        };
        partition.start += next.map_or(1, |next| next.max(1)) as usize;
    }

    /// Makes the rows of what was found, and what is refused for it.
    pub(super) fn rows(
        &mut self,
        held: &OriginBuffer,
    ) -> Result<Option<arrow::array::RecordBatch>, EvalError> {
        if self.found.is_empty() {
            return Ok(None);
        }
        let found = std::mem::take(&mut self.found);
        let (batch, refused) = self.measures.rows(&self.spec, &found, held)?;
        self.refused.extend(refused);
        Ok(Some(batch))
    }
}

fn too_many() -> EvalError {
    EvalError::TooLarge(
        "MATCH_RECOGNIZE follows more than 10000 ways to match at once from one row".into(),
    )
}
