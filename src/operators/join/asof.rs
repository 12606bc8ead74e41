//! Joins each row with the newest row of the other side that is not after it: ASOF JOIN.
//!
//! # Method
//!
//! A row of the left side waits until the watermarks show that no row of the right side that could
//! come before it is still to come; then it takes the newest one of its key. So the answer is final,
//! and nothing is retracted. Of rows of one time the one that arrived last is the newest. Rows come
//! out by time, those of one time in the order of their arrival.
//!
//! Of the right side's rows of a key, those go that are older than the newest one that all rows to come
//! may take.
//!
//! # State
//!
//! The left rows that wait. Per key the newest right row that the watermark has passed, and those
//! after it: unbounded where keys are.
//!
//! # Invariants
//!
//! 1. `versions` of a key holds its right rows by (time, slot).
//! 2. No left row that is held is below the bound to which rows have come out.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::side::{NONE, Side, SideNeeds};
use crate::data::change::{Change, Marks, Origin};
use crate::operators::keys::KeyDictionary;
use crate::operators::lateness::on_time;
use crate::operators::operator::{Emitter, EvalError, Operator};
use crate::operators::state::{StateReader, StateWriter, misfit};
use crate::time::EventTime;

/// What to join.
#[derive(Debug, Clone)]
pub struct AsofSpec {
    /// Pairs of columns, left and right, of one type, that must be equal.
    pub keys: Vec<(usize, usize)>,
    /// The event-time columns, left and right.
    pub times: [usize; 2],
    /// Whether a row of the same time is too late to be taken.
    pub strict: bool,
    /// Whether left rows come out that find none.
    pub keeps_left: bool,
    /// By how much each time column trails its watermark.
    pub delays: [i64; 2],
    /// How much later than the watermark a row may be.
    pub allowed_lateness: i64,
    /// Columns of the inputs, which are append-only.
    pub inputs: [SchemaRef; 2],
    /// Columns of both sides.
    pub schema: SchemaRef,
}

/// Runs an [`AsofSpec`].
pub struct AsofJoin {
    spec: Arc<AsofSpec>,
    keys: KeyDictionary,
    sides: [Side; 2],
    /// By key, the right side's rows.
    versions: Vec<Vec<(i64, u32)>>,
    watermarks: [EventTime; 2],
    forwarded: EventTime,
    origin: Arc<Origin>,
}

/// Times in one bucket of those that leave.
const GRANULE: i64 = 1_000_000;

impl AsofJoin {
    /// A join without rows.
    pub fn new(spec: Arc<AsofSpec>) -> Result<AsofJoin, EvalError> {
        let left = |&(left, _): &(usize, usize)| spec.inputs[0].field(left).data_type().clone();
        let keys = KeyDictionary::of_types(spec.keys.iter().map(left))?;
        let needs = SideNeeds { retracts: false, counts_matches: false, granule: Some(GRANULE) };
        let side = |port: usize| Side::new(Arc::clone(&spec.inputs[port]), needs);
        Ok(AsofJoin {
            keys,
            sides: [side(0)?, side(1)?],
            versions: Vec::new(),
            watermarks: [EventTime::MIN; 2],
            forwarded: EventTime::MIN,
            origin: Origin::nowhere(),
            spec,
        })
    }

    /// The number of each row's key, `NONE` where a null keeps it from matching anything.
    fn numbers(&mut self, port: usize, batch: &RecordBatch) -> Result<Vec<u32>, EvalError> {
        let column = |&(left, right): &(usize, usize)| -> ArrayRef {
            Arc::clone(batch.column(if port == 0 { left } else { right }))
        };
        let columns: Vec<ArrayRef> = self.spec.keys.iter().map(column).collect();
        let mut numbers = Vec::new();
        self.keys.intern(&columns, batch.num_rows(), &mut numbers)?;
        for nulls in columns.iter().filter_map(|column| column.logical_nulls()) {
            let rows = numbers.iter_mut().zip(nulls.iter());
            rows.filter(|(_, valid)| !valid).for_each(|(number, _)| *number = NONE);
        }
        self.versions.resize(self.keys.len(), Vec::new());
        Ok(numbers)
    }

    /// The watermark of both sides, less what a row may be late.
    fn bound(&self, delay: i64) -> i64 {
        let watermark = self.watermarks[0].min(self.watermarks[1]);
        watermark.minus(self.spec.allowed_lateness).minus(delay).0
    }

    /// Puts out the left rows whose match is certain, and lets right rows go that none will take.
    fn advance(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        let certain = self.bound(self.spec.delays[1]);
        let reach = self.spec.allowed_lateness.saturating_add(self.spec.delays[1]);
        let (mut left, mut right, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        for (time, slot) in self.due(0, certain) {
            let key = self.sides[0].key[slot as usize];
            let found = if key == NONE { None } else { self.newest(key, time) };
            if found.is_some() || self.spec.keeps_left {
                left.push(slot);
                right.push(found.unwrap_or(NONE));
                marks.push(time.saturating_add(reach));
            }
            self.sides[0].release(slot);
        }
        if !left.is_empty() {
            let batch = self.gather(&left, &right)?;
            out.change(Change::due(batch, None, &self.origin, Marks::Rows(marks.into())));
        }
        let passed = certain.min(self.bound(self.spec.delays[0]));
        for (time, slot) in self.due(1, passed) {
            let versions = &mut self.versions[self.sides[1].key[slot as usize] as usize];
            // All rows to come may take this one: those before it are of no use any more.
            let older = versions.partition_point(|&version| version < (time, slot));
            for (_, gone) in versions.drain(..older) {
                self.sides[1].release(gone);
            }
        }
        self.pack()
    }

    /// Takes out the rows of a side whose time is below a bound, by time.
    fn due(&mut self, port: usize, bound: i64) -> Vec<(i64, u32)> {
        let side = &mut self.sides[port];
        let mut due = side.expiry.as_mut().map_or(vec![], |expiry| expiry.take_below(bound, true));
        due.retain(|(_, slot)| side.weight[*slot as usize] != 0);
        due
    }

    /// The newest right row of a key that a left row of this time may take.
    fn newest(&self, key: u32, time: i64) -> Option<u32> {
        let versions = &self.versions[key as usize];
        let strict = self.spec.strict;
        let before = versions.partition_point(|&(t, _)| if strict { t < time } else { t <= time });
        versions[..before].last().map(|(_, slot)| *slot)
    }

    fn gather(&self, left: &[u32], right: &[u32]) -> Result<RecordBatch, EvalError> {
        let all = |port: usize| 0..self.spec.inputs[port].fields().len();
        let mut columns = self.sides[0].gather(left, all(0))?;
        columns.extend(self.sides[1].gather(right, all(1))?);
        let options = RecordBatchOptions::new().with_row_count(Some(left.len()));
        let schema = Arc::clone(&self.spec.schema);
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }

    /// Gives up the room of rows that are gone, and of keys without rows.
    fn pack(&mut self) -> Result<(), EvalError> {
        let empty = self.sides.iter().all(|side| side.gone == side.len());
        let loose = |side: &Side| side.len() > 0 && (empty || side.is_loose());
        if !self.sides.iter().any(loose) {
            return Ok(());
        }
        for side in &mut self.sides {
            side.pack()?;
        }
        let held: usize = self.sides.iter().map(Side::len).sum();
        if self.keys.len() > 2 * held {
            let mut live = vec![false; self.keys.len()];
            let numbers = self.sides.iter().flat_map(|side| &side.key).filter(|k| **k != NONE);
            numbers.for_each(|&key| live[key as usize] = true);
            let renumbered = self.keys.retain(&live)?;
            let numbers = self.sides.iter_mut().flat_map(|side| &mut side.key);
            numbers.filter(|key| **key != NONE).for_each(|key| *key = renumbered[*key as usize]);
        }
        self.link();
        Ok(())
    }

    /// Sorts the right side's rows into their keys.
    fn link(&mut self) {
        self.versions = vec![Vec::new(); self.keys.len()];
        let side = &self.sides[1];
        for (slot, (&key, &time)) in side.key.iter().zip(&side.time).enumerate() {
            if key != NONE {
                self.versions[key as usize].push((time, slot as u32));
            }
        }
        self.versions.iter_mut().for_each(|versions| versions.sort_unstable());
    }
}

impl Operator for AsofJoin {
    fn name(&self) -> &'static str {
        "AsofJoin"
    }

    fn on_change(
        &mut self,
        port: usize,
        change: Change,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        assert!(change.weights.is_none(), "the planner lets only append-only inputs through");
        let lateness = self.spec.delays[port].saturating_add(self.spec.allowed_lateness);
        let (change, times) = on_time(change, self.spec.times[port], lateness, out)?;
        self.origin = Arc::clone(&change.origin);
        if times.is_empty() {
            return Ok(());
        }
        let keys = self.numbers(port, &change.batch)?;
        let first = self.sides[port].append(&change.batch, &keys, Some(times.values()))?;
        for (slot, (&key, &time)) in (first..).zip(keys.iter().zip(times.values())) {
            if port == 1 && key == NONE {
                continue;
            }
            self.sides[port].hold(slot, 1);
            if port == 1 {
                let versions = &mut self.versions[key as usize];
                let place = versions.partition_point(|&version| version < (time, slot));
                versions.insert(place, (time, slot));
            }
        }
        self.sides[port].tidy()
    }

    fn on_watermark(
        &mut self,
        port: usize,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        self.watermarks[port] = self.watermarks[port].max(watermark);
        let both = self.watermarks[0].min(self.watermarks[1]);
        if both > self.forwarded {
            self.advance(out)?;
            self.forwarded = both;
            out.watermark(both);
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let versions = self.versions.iter().map(Vec::capacity).sum::<usize>();
        self.keys.size()
            + self.sides.iter().map(Side::state_bytes).sum::<usize>()
            + versions * size_of::<(i64, u32)>()
            + self.versions.capacity() * size_of::<Vec<(i64, u32)>>()
    }

    fn held(&self) -> usize {
        self.sides.iter().map(Side::held_rows).sum()
    }

    fn restores_exactly(&self) -> bool {
        true
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.keys.save(out)?;
        for side in &self.sides {
            side.save(out)?;
        }
        out.put(&self.watermarks[0])?;
        out.put(&self.watermarks[1])?;
        out.put(&self.forwarded)?;
        out.put(&self.origin)
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.keys.restore(from)?;
        let known = self.keys.len() as u32;
        for side in &mut self.sides {
            side.restore(from)?;
            if side.key.iter().any(|&key| key != NONE && key >= known) {
                return Err(misfit("a row's key has no number"));
            }
        }
        self.watermarks = [from.get()?, from.get()?];
        self.forwarded = from.get()?;
        self.origin = from.get()?;
        self.link();
        Ok(())
    }
}
