//! Advances one query: reads its inputs, pushes rows through its operators, appends what came out.
//!
//! A *step* takes the next frames of every input, in the order of the server-wide ingest sequence, and
//! ends by appending what came out as one entry of the changelog, with the [`Frontier`] that produced
//! it. Nothing is visible before the entry is as durable as the inputs ask.
//!
//! After a restart the same code replays: it stops at the frontiers that the changelog recorded, so
//! it regenerates the same entries, checks their sizes and skips them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::data::punctuation::Punctuation;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::{NewFrame, Position};
use crate::log::log::Durability;
use crate::log::sequence::Sequencer;
use crate::operators::operator::{LateRow, RejectedRow};
use crate::pipeline::figures::StepOutput;
use crate::pipeline::graph::Graph;
use crate::pipeline::input::Input;
use crate::pipeline::recorded::{Recorded, entry_rows};
use crate::pipeline::shedding::Shedding;
use crate::views::changelog::{Changelog, Frontier};
use crate::views::difference::Difference;
use crate::views::entry_meta::EntryMeta;

/// Reads punctuations back from a frame's meta.
pub type ReadPunctuation = Arc<dyn Fn(&str, &[u8]) -> Option<Punctuation> + Send + Sync>;

/// What a step did.
#[derive(Debug, Default)]
pub struct StepReport {
    /// Whether anything was read or written.
    pub progressed: bool,
    /// Rows taken from inputs.
    pub rows_in: u64,
    /// Rows appended to the changelog.
    pub rows_out: u64,
    /// Rows dropped as too late.
    pub late: Vec<LateRow>,
    /// The number of such rows before.
    pub first_late: u64,
    /// Rows on which an expression failed.
    pub rejected: Vec<RejectedRow>,
}

/// A query that runs.
pub struct QueryRun {
    /// The operators.
    pub graph: Graph,
    /// The inputs, in the order of the graph's sources.
    pub inputs: Vec<Input>,
    /// The answers.
    pub changelog: Arc<Changelog>,
    /// Entries to regenerate before anything new is appended.
    pub replay: VecDeque<Recorded>,
    /// The order over all logs.
    pub sequencer: Arc<Sequencer>,
    /// Whether entries must be on the disk before they are visible.
    pub sync: bool,
    /// Reads punctuations.
    pub read_punctuation: ReadPunctuation,
    /// The watermark of the answers as last written to the changelog.
    pub written_watermark: i64,
    /// Whether watermarks are written even when no rows come out, for queries above this one.
    pub write_progress: bool,
    /// Whether every step is recorded, also one that answered nothing: what an operator passes to
    /// another at the end of a step shows in later answers, so steps have to end there again.
    pub record_steps: bool,
    /// Whether the operators have yet to put out what they answer before any row: where every step is
    /// recorded that comes before the first one, which may be recorded or not.
    pub begins: bool,
    /// Bytes of state at which the query stops, or sheds.
    pub memory_limit: u64,
    /// Rows that a step takes: as many as it can in the time that it may take.
    pub step_rows: usize,
    /// Rows that a step takes at most; enough to make a step's own cost small.
    pub step_rows_max: usize,
    /// Up to here the changelog is given: what comes out is not written, and not compared.
    pub warm_up: Option<Frontier>,
    /// What the changelog lacks at the end of the warm-up: the entry that swaps an old plan for this
    /// one, where a crash came before it was written.
    pub swap: Option<Difference>,
    /// Rows dropped as too late, since the query began.
    pub late_rows: u64,
    /// How many rows it keeps where memory is short, and what it has shed.
    pub shedding: Shedding,
    /// The entry of the last step, while the disk has no room for it.
    pub unwritten: Option<Unwritten>,
}

/// An entry that waits for room on the disk; no other step is taken before it is written.
#[derive(Debug)]
pub struct Unwritten {
    frame: NewFrame,
    watermark: i64,
    rows: u64,
    /// The level from there on, if it is another one.
    level: Option<u8>,
}

impl QueryRun {
    /// Whether the recorded part of the changelog is still being regenerated.
    pub fn replaying(&self) -> bool {
        self.warm_up.is_some() || !self.replay.is_empty()
    }

    /// How far the inputs have been read.
    pub fn frontier(&self) -> Frontier {
        self.inputs.iter().map(|input| input.position).collect()
    }

    /// Takes one step.
    ///
    /// # Errors
    /// What ends the query: a failing operator (its code), the memory limit (53200), a log that cannot be
    /// read or written, a changelog that does not fit the plan (WR006).
    pub fn step(&mut self) -> Result<StepReport> {
        if let Some(until) = self.warm_up.clone() {
            return self.warm_up_step(&until);
        }
        let mut report = StepReport::default();
        if self.stalled() {
            self.write_entry(&mut report)?;
            return Ok(report);
        }
        let until = self.replay.front().map(|recorded| recorded.meta.frontier.clone());
        if let Some(frontier) = &until
            && frontier.len() != self.inputs.len()
        {
            return Err(misfit("the number of inputs is another one"));
        }
        self.take_frames(until.as_deref(), &mut report)?;
        let at_target = until.as_ref().is_some_and(|frontier| self.is_at(frontier));
        if until.is_some() && !at_target {
            if !report.progressed {
                return Err(misfit("an input ends before the changelog does"));
            }
            return Ok(report);
        }
        self.end_step(&mut report)?;
        self.is_short(until.is_some())?;
        Ok(report)
    }

    /// Syncs the inputs, and the changelog too, before something durable speaks of them.
    ///
    /// # Errors
    /// The logs'.
    pub fn make_durable(&self) -> Result<()> {
        self.sync_inputs()?;
        Ok(self.changelog.log().sync()?)
    }

    /// No entry becomes durable before the rows below its frontier are, down to the streams.
    pub(super) fn sync_inputs(&self) -> Result<()> {
        for input in &self.inputs {
            let log = input.source.log();
            if log.durability() == Durability::Written {
                log.sync()?;
            }
        }
        Ok(())
    }

    /// Lets the changelog know what it speaks of.
    pub fn rest_on_inputs(&self) {
        let logs = self.inputs.iter().map(|input| input.source.log());
        let loose = logs.filter(|log| log.durability() != Durability::Durable);
        self.changelog.log().rests_on(loose);
    }

    pub(super) fn is_at(&self, frontier: &[Position]) -> bool {
        let places = self.inputs.iter().zip(frontier);
        places.into_iter().all(|(input, target)| input.position.frame >= target.frame)
    }

    /// Whether the query should shed more rows from here on.
    ///
    /// # Errors
    /// 53200 when the state exceeds the memory limit and nothing may be shed.
    pub(super) fn is_short(&self, replaying: bool) -> Result<bool> {
        let shedding = &self.shedding;
        if shedding.allowed {
            // A replay takes the levels from the entries.
            return Ok(!replaying && self.wanted_level() > shedding.level);
        }
        // While it shed, before it was altered, no look at the memory stopped it.
        if !replaying || shedding.level == 0 {
            self.check_memory()?;
        }
        Ok(false)
    }

    fn wanted_level(&self) -> u8 {
        self.shedding.level_for(self.graph.state_bytes() as u64, self.memory_limit)
    }

    pub(super) fn check_memory(&self) -> Result<()> {
        if self.graph.state_bytes() as u64 > self.memory_limit {
            return Err(Error::new(
                SqlState::OUT_OF_MEMORY,
                format!(
                    "state of the query exceeds its memory limit of {} bytes",
                    self.memory_limit
                ),
            )
            .with_hint("Raise memory_limit in WITH (…), or bound the state by windows."));
        }
        Ok(())
    }

    /// Whether the changelog holds all that the state stands for.
    pub fn settled(&self) -> bool {
        !self.replaying() && !self.stalled()
    }

    /// Whether an entry waits for room on the disk.
    pub fn stalled(&self) -> bool {
        self.unwritten.is_some()
    }

    /// Whether the changelog found no room, and is as it was.
    fn is_full(&self, error: &Error) -> bool {
        error.code() == SqlState::DISK_FULL && self.changelog.log().failure().is_none()
    }

    /// Writes the entry that waits, if there is one. Where the disk has no room it goes on waiting.
    fn write_entry(&mut self, report: &mut StepReport) -> Result<()> {
        let Some(entry) = self.unwritten.take() else { return Ok(()) };
        if self.sync {
            self.sync_inputs()?;
        }
        match self.changelog.append(vec![entry.frame.clone()], self.sync) {
            Err(error) if self.is_full(&error) => {
                self.unwritten = Some(entry);
                return Ok(());
            }
            appended => appended?,
        };
        self.written_watermark = entry.watermark;
        if let Some(level) = entry.level {
            // From here on it acts, and not before.
            self.shedding.level = level;
            self.changelog.note_level(level);
        }
        report.rows_out = entry.rows;
        report.progressed = true;
        Ok(())
    }

    fn end_step(&mut self, report: &mut StepReport) -> Result<()> {
        let output = self.graph.step_end()?;
        let watermark = self.graph.output_watermark().0.max(self.written_watermark);
        let level = match self.replay.front() {
            Some(recorded) => recorded.meta.level,
            None => Some(self.wanted_level()).filter(|level| *level != self.shedding.level),
        };
        let meta = EntryMeta { watermark, frontier: self.frontier(), level };
        let rows: u64 = output.changes.iter().map(entry_rows).sum();
        let StepOutput { changes, late, rejected, .. } = output;
        report.late = distinct(late);
        report.first_late = self.late_rows;
        self.late_rows += report.late.len() as u64;
        report.rejected = rejected;
        if let Some(recorded) = self.replay.pop_front() {
            let (log, before) = (&self.changelog, self.written_watermark);
            if let Some(detail) = recorded.difference(log, &changes, before, &meta)? {
                return Err(misfit(&detail));
            }
            self.written_watermark = recorded.meta.watermark;
            self.shedding.level = level.unwrap_or(self.shedding.level);
            return Ok(());
        }
        let moved = self.write_progress && watermark > self.written_watermark;
        let moved = moved || level.is_some() || (self.record_steps && report.progressed);
        let frame = if rows > 0 {
            self.changelog.frame(&changes, self.written_watermark, &meta)?
        } else if moved {
            Changelog::progress(&meta)
        } else {
            return Ok(());
        };
        self.unwritten = Some(Unwritten { frame, watermark, rows, level });
        self.write_entry(report)
    }
}

/// Each late row once, also where several operators drop it. They all do so when its frame comes, so
/// that the order says nothing of how steps were cut.
pub(super) fn distinct(mut late: Vec<LateRow>) -> Vec<LateRow> {
    let mut seen = hashbrown::HashSet::new();
    late.retain(|row| seen.insert((Arc::clone(&row.relation), row.offset)));
    late
}

pub(super) fn misfit(detail: &str) -> Error {
    Error::new(SqlState::SNAPSHOT_MISMATCH, "changelog does not fit the plan of the query")
        .with_detail(format!("On replay {detail}."))
        .with_hint("Drop the query and create it again to recompute it from the retained log.")
}
