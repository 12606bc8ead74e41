//! Groups the rows of each partition into sessions and emits one row per session and key.
//!
//! ```text
//!              a b  c            d            gap |---|
//!   ----------+-+--+---|--------+---|--->     session 1 = [a, c + gap), session 2 = [d, d + gap)
//!                      ^ emitted when the watermark gets here
//! ```
//!
//! # Method
//! Rows are buffered in log order; [`Sessions`] keeps, per partition, which row belongs to which
//! session. When the watermark passes a session's end its rows are evaluated in one shot
//! ([`WindowOutput`]). The same goes for a correction: the session as it was put out is evaluated
//! again as a retraction. One timer per partition says when the next of its sessions ends or may be
//! forgotten; timers of sessions that have grown are put off when they come up.
//! Cost per row O(log sessions) in order, O(rows of the chain) for a row in its middle.
//!
//! # Lateness
//! A row is dropped when its event time is below its arrival watermark less the allowed lateness.
//! A kept row joins a session whose last row is less than `gap` before it. So a session whose end
//! (last row + gap) is at or below the watermark less the allowed lateness can change no more and is
//! forgotten. With MAX the next session of the same chain stays cut where it is, because its first
//! row lies before every row that may still come.
//!
//! # Keys
//! Where the keys do not hold every partition column, sessions of several partitions with the same
//! bounds make one group. They end together, so they are put out together; a correction of one takes
//! back and puts out the union.
//!
//! # Retractions
//! Where rows of the input can be taken back, a retraction takes the latest row that equals it out of
//! its session, which may fall apart; what was put out is brought up to date as for any other row.
//!
//! # State
//! Per partition the rows whose session's end + allowed lateness is above the watermark. Nothing
//! after the last watermark.
//!
//! # Invariants
//! 1. A session is put out as final once, when its end <= watermark; later only corrections.
//! 2. `published` holds the sessions as last put out, of those that are not forgotten.
//! 3. Each retraction equals the last insertion of that session and key.

mod persist;
mod revise;
mod row_index;
mod take;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use self::revise::{Early, leave};
use self::row_index::RowIndex;
use crate::data::change::Change;
use crate::data::punctuation::Punctuation;
use crate::operators::early::EarlyClock;
use crate::operators::emit::{EmitMode, EmitSpec};
use crate::operators::operator::{Emitter, EvalError, Operator};
use crate::operators::partitions::Partitions;
use crate::operators::state::{StateReader, StateWriter};
use crate::operators::window_answer::{Content, WindowAnswer};
use crate::operators::window_output::{OutputSpec, WindowColumn, WindowOutput};
use crate::time::EventTime;
use crate::windows::session::Sessions;
use crate::windows::spec::SessionWindow;

/// The window columns of the output.
const LAYOUT: [WindowColumn; 2] = [WindowColumn::Start, WindowColumn::End];

/// What a session aggregate computes.
#[derive(Debug, Clone)]
pub struct SessionAggregateSpec {
    /// Gap and longest duration.
    pub window: SessionWindow,
    /// The event-time column.
    pub time_column: usize,
    /// Columns whose values have sessions of their own.
    pub partition: Vec<usize>,
    /// What is put out.
    pub answer: WindowAnswer,
    /// When results appear.
    pub emit: EmitSpec,
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// Columns of the output: window_start, window_end, keys, aggregates; or those of the input and
    /// then the window's.
    pub schema: SchemaRef,
    /// Whether rows of the input are never taken back.
    pub input_append_only: bool,
}

/// End and start of a session: the order of emission.
type Bounds = (i64, i64);

/// A session, or its rows of one key, as last put out.
#[derive(Debug)]
struct Published {
    rows: Vec<u64>,
    /// Whether the session had ended; else it is an early result.
    is_final: bool,
}

#[derive(Debug, Default)]
struct PartitionState {
    sessions: Sessions,
    /// What was put out, by bounds and number of the key, which is 0 where keys are not told apart.
    published: BTreeMap<(Bounds, u32), Published>,
    /// Rows that were taken back and may still be part of what was put out.
    gone: Vec<u64>,
    /// EMIT EVERY n ROWS: rows since the last early result, by key and a time in their session.
    counts: BTreeMap<(u32, i64), u64>,
    /// The watermark of the earliest timer that is set for this partition.
    due: Option<i64>,
}

/// The running operator.
pub struct SessionAggregate {
    spec: SessionAggregateSpec,
    partitions: Partitions<PartitionState>,
    output: WindowOutput,
    /// Where to find rows that are taken back; kept where rows can be.
    rows: Option<RowIndex>,
    /// Watermark at which a partition has something to do, its slot and birth.
    timers: BinaryHeap<Reverse<(i64, usize, u64)>>,
    /// Partitions that have put out a session with these bounds; kept where keys do not hold every
    /// partition column.
    sharing: Option<BTreeMap<Bounds, BTreeSet<usize>>>,
    /// Partitions with changes that EMIT CHANGES or EMIT EVERY INTERVAL has not put out, with births.
    dirty: BTreeSet<(u64, usize)>,
    clock: EarlyClock,
    watermark: EventTime,
    now: i64,
    published_rows: usize,
}

impl SessionAggregate {
    /// A session aggregate that has seen nothing.
    pub fn new(spec: SessionAggregateSpec) -> Result<SessionAggregate, EvalError> {
        assert!(spec.window.gap > 0, "the gap of a session is positive");
        assert!(spec.window.max.is_none_or(|max| max > 0), "the duration of a session is positive");
        assert!(spec.emit.allowed_lateness >= 0, "allowed lateness is not negative");
        let output = WindowOutput::new(OutputSpec {
            layout: &LAYOUT,
            answer: spec.answer.clone(),
            keys_apart: spec.answer.keys_apart(spec.emit.mode, &spec.partition, &spec.input_schema),
            input_schema: Arc::clone(&spec.input_schema),
            schema: Arc::clone(&spec.schema),
        })?;
        // Rows are put out one by one, whatever other partitions have.
        let shared = matches!(spec.answer.content, Content::Groups { .. })
            && spec.partition.iter().any(|column| !spec.answer.keys().contains(column));
        let rows = match spec.input_append_only {
            true => None,
            false => Some(RowIndex::new(&spec.input_schema)?),
        };
        Ok(SessionAggregate {
            partitions: Partitions::new(&spec.input_schema, &spec.partition)?,
            output,
            rows,
            timers: BinaryHeap::new(),
            sharing: shared.then(BTreeMap::new),
            dirty: BTreeSet::new(),
            clock: EarlyClock::new(spec.emit.mode),
            watermark: EventTime::MIN,
            now: i64::MIN,
            published_rows: 0,
            spec,
        })
    }

    /// Wants to hear of the partition when the watermark comes to `due`.
    fn set_timer(&mut self, slot: usize, due: i64) {
        let entry = self.partitions.entry_mut(slot);
        if entry.state.due.is_none_or(|set| due < set) {
            entry.state.due = Some(due);
            self.timers.push(Reverse((due, slot, entry.birth)));
        }
    }

    fn advance(&mut self, watermark: EventTime) {
        if watermark > self.watermark {
            self.output.stand_at(self.watermark, watermark);
            self.watermark = watermark;
            self.pass_timers();
            self.output.stand_at(watermark, watermark);
        }
    }

    /// Puts out the sessions that have ended and forgets those that nothing can change any more.
    fn pass_timers(&mut self) {
        let watermark = self.watermark.0;
        let mut slots = Vec::new();
        while let Some(&Reverse((due, slot, birth))) = self.timers.peek()
            && due <= watermark
        {
            self.timers.pop();
            let is_set = |state: &PartitionState| state.due == Some(due);
            if self.partitions.get_born(slot, birth).is_some_and(|entry| is_set(&entry.state)) {
                self.partitions.entry_mut(slot).state.due = None;
                slots.push(slot);
            }
        }
        self.reconcile(&slots, Early::Published);
        let dropped = self.watermark.minus(self.spec.emit.allowed_lateness);
        for slot in slots {
            self.forget_until(slot, dropped.0);
            let window = &self.spec.window;
            let state = &self.partitions.entry(slot).state;
            let ends = || state.sessions.all().iter().map(|session| session.end(window));
            let next_end = ends().find(|&end| end > watermark);
            let lateness = self.spec.emit.allowed_lateness;
            let next_drop = ends().next().map(|end| end.saturating_add(lateness));
            // What was put out early goes before the watermark comes to its end.
            let shown = state.published.keys().map(|((end, _), _)| *end);
            let next_shown = shown.filter(|&end| end > watermark).find(|_| self.retracts_early());
            match next_end.into_iter().chain(next_drop).chain(next_shown).min() {
                Some(due) => self.set_timer(slot, due),
                None => {
                    self.partitions.remove(slot);
                }
            }
        }
    }

    /// Forgets the sessions of a partition that end at or below `time`.
    fn forget_until(&mut self, slot: usize, time: i64) {
        let state = &mut self.partitions.entry_mut(slot).state;
        for session in state.sessions.take_ended(&self.spec.window, time) {
            let rows = session.rows.iter().map(|&(_, row)| row);
            if let Some(index) = &mut self.rows {
                rows.clone().for_each(|row| index.release(row));
            }
            self.output.release(rows);
            if !state.counts.is_empty() {
                let ended = session.start()..=session.last();
                state.counts.retain(|(_, at), _| !ended.contains(at));
            }
        }
        let forgotten: Vec<(Bounds, u32)> = (state.published.iter())
            .take_while(|((bounds, _), _)| bounds.0 <= time)
            .filter(|(_, published)| published.is_final)
            .map(|(&name, _)| name)
            .collect();
        for name in forgotten {
            let gone = state.published.remove(&name);
            self.published_rows -= gone.map_or(0, |published| published.rows.len());
            if let Some(sharing) = &mut self.sharing {
                leave(sharing, name.0, slot);
            }
        }
    }

    /// Puts out what EMIT CHANGES or EMIT EVERY INTERVAL has not yet.
    fn put_out_dirty(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        let slots = self.partitions.living(dirty.into_iter().map(|(birth, slot)| (slot, birth)));
        self.reconcile(&slots, Early::All);
    }
}

impl Operator for SessionAggregate {
    fn name(&self) -> &'static str {
        "SessionAggregate"
    }

    fn on_change(
        &mut self,
        _port: usize,
        change: Change,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        self.on_tick(change.origin.ingest_time, out)?;
        self.take_change(&change, out)
    }

    fn on_watermark(
        &mut self,
        _port: usize,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        self.advance(watermark);
        self.output.flush(out)?;
        out.watermark(watermark);
        Ok(())
    }

    fn on_punctuation(
        &mut self,
        _port: usize,
        punctuation: &Punctuation,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let Some(slots) = self.partitions.covered(punctuation)? else { return Ok(()) };
        let watermark = std::mem::replace(&mut self.watermark, EventTime::MAX);
        self.reconcile(&slots, Early::Published);
        self.watermark = watermark;
        for slot in slots {
            self.forget_until(slot, i64::MAX);
            self.partitions.remove(slot);
        }
        self.output.flush(out)?;
        let schemas = (&self.spec.input_schema, &self.spec.schema);
        if let Some(kept) = self.spec.answer.passed_on(punctuation, schemas, LAYOUT.len()) {
            out.punctuation(kept);
        }
        Ok(())
    }

    fn on_tick(&mut self, now: i64, out: &mut Emitter) -> Result<(), EvalError> {
        if self.clock.passes(now) {
            self.put_out_dirty();
            self.output.flush(out)?;
        }
        self.now = self.now.max(now);
        Ok(())
    }

    fn next_tick(&self) -> Option<i64> {
        if self.dirty.is_empty() { None } else { self.clock.due() }
    }

    fn on_step_end(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        if self.spec.emit.mode == EmitMode::Changes {
            self.put_out_dirty();
            self.output.flush(out)?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let sessions: usize =
            self.partitions.iter().map(|(_, entry)| entry.state.sessions.state_bytes()).sum();
        self.output.state_bytes()
            + self.partitions.state_bytes()
            + sessions
            + self.published_rows * size_of::<u64>()
            + self.timers.len() * size_of::<Reverse<(i64, usize, u64)>>()
            + self.rows.as_ref().map_or(0, RowIndex::state_bytes)
    }

    fn held(&self) -> usize {
        self.partitions.len()
    }

    fn restores_exactly(&self) -> bool {
        true
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.save_sessions(out)
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.restore_sessions(from)
    }
}
