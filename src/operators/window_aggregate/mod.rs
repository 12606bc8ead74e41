//! Groups rows by key within time windows, and emits one row per key and window.
//!
//! ```text
//! event time ──•──•─•────•──•••──•─────•──▶
//! slices     [----)[--)[----)[--)[----)          a row falls in exactly one
//! windows    [=============)                     a window is the merge of its slices
//!                  [=============)
//! ```
//!
//! # Method
//! Rows fold into slices: one look-up of the key and one addition per aggregate. Closing a window
//! merges its slices, O(slices in the window × keys in them); aggregates that can be taken back
//! exactly (counts, integer and decimal sums) keep a running merge instead, to which each close adds
//! the new slices and from which it takes the old ones, O(slide × keys); one for each size, where windows
//! of several sizes share the slices. Why slices and not a state
//! per window: a row lies in size/slide windows but in one slice (Krishnamurthy et al., SIGMOD 2006;
//! Traub et al., EDBT 2019). Floats fold in log order inside a slice and slices in time order.
//!
//! Every window is a slice of its own where sharing would be wrong (aggregates that depend on the
//! order of rows) or useless (modes that emit before the close, and so evaluate every window that a
//! row changes anyway; rows that carry their window in columns; multisets of arguments, which are kept
//! where rows of the input can be taken back from an aggregate that has no other way).
//! # Lateness
//! A row counts in a window when its own stream's watermark just before it is below the window's
//! end + allowed lateness. A window is emitted when the query's watermark reaches its end, and kept
//! for the allowed lateness: a late row corrects it at once. With several inputs the query's
//! watermark may trail the row's own; a row that is refused for some windows of its slice but not
//! for all goes to a slice beside it, whose *floor* shuts those windows out.
//! # State
//! Per key: one group in each slice of the last size + allowed lateness + watermark delay of event
//! time; with corrections also the last emission per key and window not yet dropped. Nothing after
//! the last watermark.
//! # Invariants
//! W1. Every slice in state belongs to a window that is not yet dropped.
//! W2. A window is emitted as final once, in order of (end, start, key); later come only corrections.
//! W3. A window is closed if and only if its end is at or below `watermark`.
//! W4. A retraction equals the last emission of its window and key.
//! # Not here
//! Slice arithmetic: [`crate::windows`]. Accumulators: [`crate::operators::aggregates`]. Sessions,
//! whose slices merge, have an operator of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use hashbrown::HashMap;

use crate::data::change::{Change, Origin};
use crate::operators::aggregates::spec::AggregateSpec;
use crate::operators::emit::{EmitMode, EmitSpec, Refinement};
use crate::operators::keys::KeyDictionary;
use crate::operators::operator::{Emitter, EvalError, Operator};
use crate::operators::state::{StateReader, StateWriter};
use crate::time::EventTime;
use crate::windows::assign::Windows;
use crate::windows::spec::TimeWindow;

mod close;
mod emitted;
mod fold;
mod input;
mod merging;
mod names;
mod numbering;
mod output;
mod persist;
mod persist_shards;
mod persist_slice;
mod results;
mod routing;
mod running;
mod shards;
mod shares;
mod slice;
mod sorter;
mod times;

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod shards_tests;
#[cfg(test)]
mod tests;

use emitted::Emitted;
use input::Aggregates;
pub use input::shares_slices;
use names::{SliceKey, WindowKey};
use numbering::Numbering;
use output::Outbox;
use running::Runnings;
pub use shards::Shards;
use slice::Slice;

/// Where a row's windows come from.
#[derive(Debug, Clone, PartialEq)]
pub enum WindowSource {
    /// From its event time.
    Time(TimeWindow),
    /// The row carries its one window in two columns.
    Assigned {
        /// Column of the window's start.
        start: usize,
        /// Column of the window's end.
        end: usize,
    },
}

/// What a windowed aggregation computes.
#[derive(Debug, Clone)]
pub struct WindowAggregateSpec {
    /// The windows.
    pub window: WindowSource,
    /// The event-time column; there is one unless windows are assigned.
    pub time_column: Option<usize>,
    /// The key columns of the input.
    pub keys: Vec<usize>,
    /// The aggregates.
    pub aggregates: Vec<AggregateSpec>,
    /// When results appear.
    pub emit: EmitSpec,
    /// Whether rows of the input are never taken back.
    pub input_append_only: bool,
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// Columns of the output: window_start, window_end, keys, aggregates.
    pub schema: SchemaRef,
}

impl fmt::Display for WindowAggregateSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.iter().map(|&key| self.input_schema.field(key).name().as_str());
        let keys: Vec<&str> = keys.collect();
        let aggregates: Vec<String> = self.aggregates.iter().map(|a| a.to_string()).collect();
        write!(f, "keys=[{}] aggregates=[{}]", keys.join(", "), aggregates.join(", "))
    }
}

/// What is known of a window that has rows, beside its slices.
#[derive(Default)]
struct Window {
    emitted: Emitted,
    /// EMIT EVERY n ROWS: rows per key since the last early result. Never walked in hash order.
    counts: HashMap<u32, u64>,
}

/// How what is emitted now relates to what was emitted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// There is nothing before: one row per window and key, ever.
    Once,
    /// The earlier row is retracted.
    Retracts,
    /// The row stands beside the earlier one.
    Accumulates,
    /// The row holds what came since.
    Discards,
}

/// The running operator.
pub struct WindowAggregate {
    spec: Arc<WindowAggregateSpec>,
    /// `None` where windows are assigned.
    windows: Option<Windows>,
    aggregates: Aggregates,
    relation: Relation,
    /// Whether windows share slices; else each is a slice of its own.
    shared: bool,
    keys: KeyDictionary,
    /// Keys found in state when that was last counted.
    keys_live: usize,
    /// Keys in the slice that was read last.
    keys_of_slice: usize,
    slices: BTreeMap<SliceKey, Slice>,
    /// Each slice with the end of its last window.
    expiry: BTreeSet<(i64, SliceKey)>,
    /// Windows that have rows and are not dropped.
    open: BTreeMap<WindowKey, Window>,
    /// Windows with changes that are not emitted yet, in modes that collect them.
    changed: BTreeSet<WindowKey>,
    running: Runnings,
    /// How far windows are closed.
    watermark: EventTime,
    /// The last frame seen, as the cause of what is emitted.
    origin: Arc<Origin>,
    /// EMIT EVERY INTERVAL: the multiple of the interval that processing time has passed.
    boundary: Option<i64>,
    saving: Option<persist::Saving>,
    restoring: Option<persist::Restoring>,
    /// In one of several shards: where answers go to be put together with those of the others.
    outbox: Option<Outbox>,
}

impl WindowAggregate {
    /// An operator without rows.
    pub fn new(spec: Arc<WindowAggregateSpec>) -> Result<WindowAggregate, EvalError> {
        assert!(spec.emit.allowed_lateness >= 0, "allowed lateness is never negative");
        let windows = match &spec.window {
            WindowSource::Time(window) => Some(Windows::new(window)),
            WindowSource::Assigned { .. } => None,
        };
        let relation = match spec.emit.mode {
            EmitMode::OnClose if spec.emit.allowed_lateness == 0 => Relation::Once,
            EmitMode::OnClose | EmitMode::Changes => Relation::Retracts,
            EmitMode::EveryInterval { refinement, .. } | EmitMode::EveryRows { refinement, .. } => {
                match refinement {
                    Refinement::Retracting => Relation::Retracts,
                    Refinement::Accumulating => Relation::Accumulates,
                    Refinement::Discarding => Relation::Discards,
                }
            }
        };
        let aggregates =
            Aggregates::new(&spec.aggregates, &spec.input_schema, spec.input_append_only)?;
        let shared = windows.is_some()
            && input::shares_slices(
                spec.emit.mode,
                &spec.aggregates,
                &spec.input_schema,
                spec.input_append_only,
            )?;
        Ok(WindowAggregate {
            running: Runnings::new(windows.as_ref().map_or(1, Windows::horizon_count)),
            windows,
            relation,
            shared,
            aggregates,
            keys: key_dictionary(&spec)?,
            keys_live: 0,
            keys_of_slice: 0,
            slices: BTreeMap::new(),
            expiry: BTreeSet::new(),
            open: BTreeMap::new(),
            changed: BTreeSet::new(),
            watermark: EventTime::MIN,
            origin: Origin::nowhere(),
            boundary: None,
            saving: None,
            restoring: None,
            outbox: None,
            spec,
        })
    }

    /// Whether changes are collected for a later moment.
    fn collects_changes(&self) -> bool {
        matches!(self.spec.emit.mode, EmitMode::Changes | EmitMode::EveryInterval { .. })
    }

    /// Whether a window that ends at `end` takes no rows any more once the watermark is `watermark`.
    fn is_dropped(&self, end: i64, watermark: i64) -> bool {
        end.saturating_add(self.spec.emit.allowed_lateness) <= watermark
    }

    /// An empty slice that may hold `expected` keys.
    fn empty_slice(&self, key: SliceKey, expected: usize) -> Result<Slice, EvalError> {
        // Rows that were late for some windows may take back what another slice of the same time holds, and
        // rows of a pane what an earlier one told. So a key without rows on balance is not empty here, and is
        // kept: with numbers of its own, none goes.
        let is_rest = key.floor > i64::MIN || self.relation == Relation::Discards;
        let numbering = if is_rest { Numbering::own() } else { self.numbering(expected) };
        Slice::new(&self.aggregates, numbering)
    }

    /// The numbering for a slice that may hold so many keys.
    fn numbering(&self, expected: usize) -> Numbering {
        match self.aggregates.are_dense {
            true => Numbering::fit(expected, self.keys.len()),
            false => Numbering::own(),
        }
    }

    fn check_invariants(&self) {
        debug_assert_eq!(self.slices.len(), self.expiry.len());
        debug_assert!(
            self.expiry.first().is_none_or(|(end, _)| !self.is_dropped(*end, self.watermark.0)),
            "a slice outlived its windows"
        );
        debug_assert!(
            self.open.keys().next().is_none_or(|w| !self.is_dropped(w.end, self.watermark.0)),
            "a window outlived the allowed lateness"
        );
    }
}

fn key_dictionary(spec: &WindowAggregateSpec) -> Result<KeyDictionary, EvalError> {
    let fields: Vec<_> =
        spec.keys.iter().map(|&key| Arc::clone(&spec.input_schema.fields()[key])).collect();
    KeyDictionary::new(Arc::new(Schema::new(fields)))
}

impl Operator for WindowAggregate {
    fn name(&self) -> &'static str {
        "WindowAggregate"
    }

    fn on_change(
        &mut self,
        _port: usize,
        change: Change,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        self.take_rows(&change, out)?;
        self.check_invariants();
        Ok(())
    }

    fn on_watermark(
        &mut self,
        _port: usize,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        self.forget_dead_keys()?;
        self.close_up_to(watermark, out)?;
        let is_empty = self.slices.is_empty() && self.open.is_empty();
        if watermark == EventTime::MAX || (is_empty && self.keys.len() > close::KEYS_FEW) {
            // Nothing names a key: what came to many must not keep their room for ever.
            self.finish_saving_keys()?;
            self.keys = key_dictionary(&self.spec)?;
            self.keys_live = 0;
            self.running.clear();
        }
        self.check_invariants();
        out.watermark(watermark);
        Ok(())
    }

    fn on_tick(&mut self, now: i64, out: &mut Emitter) -> Result<(), EvalError> {
        let EmitMode::EveryInterval { interval, .. } = self.spec.emit.mode else { return Ok(()) };
        let passed = now.div_euclid(interval) * interval;
        if self.boundary.is_some_and(|boundary| boundary < passed) {
            self.emit_changed(i64::MAX, out)?;
        }
        self.boundary = Some(self.boundary.map_or(passed, |boundary| boundary.max(passed)));
        Ok(())
    }

    fn next_tick(&self) -> Option<i64> {
        let EmitMode::EveryInterval { interval, .. } = self.spec.emit.mode else { return None };
        let boundary = self.boundary?;
        (!self.changed.is_empty()).then(|| boundary.saturating_add(interval))
    }

    fn on_step_end(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        if self.spec.emit.mode == EmitMode::Changes {
            self.emit_changed(i64::MAX, out)?;
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let slices: usize = self.slices.values().map(Slice::size).sum();
        let windows = self.open.values();
        let windows: usize =
            windows.map(|w| w.emitted.size() + w.counts.allocation_size() + 128).sum();
        self.keys.size() + slices + windows + self.running.size()
    }

    fn held(&self) -> usize {
        self.slices.len() + self.open.len()
    }

    fn restores_exactly(&self) -> bool {
        self.aggregates.restore_exactly
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.begin_saving(out)?;
        self.go_on_saving(usize::MAX, out).map(|_| ())
    }

    fn save_begin(&mut self, out: &mut StateWriter) -> Result<bool, EvalError> {
        self.begin_saving(out).map(|()| true)
    }

    fn save_more(&mut self, bytes: usize, out: &mut StateWriter) -> Result<bool, EvalError> {
        self.go_on_saving(bytes, out)
    }

    fn save_abandon(&mut self) {
        self.abandon_saving();
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.restore_part(from)
    }

    fn restored(&mut self) -> Result<(), EvalError> {
        self.end_restoring()
    }
}
