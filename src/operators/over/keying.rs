//! Finds the partition of each row under one PARTITION BY, and drops partitions with nothing left.
//!
//! # State
//! Key, number of rows and newest time per partition; where partitions are dropped, a timer for each
//! time at which one had rows and that a frame may still reach.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use crate::data::punctuation::Punctuation;
use crate::operators::operator::EvalError;
use crate::operators::partitions::Partitions;
use crate::operators::state::{StateReader, StateWriter, Stored};
use crate::windows::columns::event_times;

/// What is known of a partition.
#[derive(Debug, Default)]
pub(super) struct Seen {
    rows: i64,
    last: i64,
}

impl Stored for Seen {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        (self.rows, self.last).store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(Seen { rows: from.get()?, last: from.get()? })
    }
}

/// The partitions of one PARTITION BY.
pub(super) struct Keying {
    partitions: Partitions<Seen>,
    /// The widest frame, where all frames are bounded by time: then partitions are dropped.
    width: Option<i64>,
    /// Time of a row, its partition's slot and birth; ascending by time.
    timers: VecDeque<(i64, usize, u64)>,
    /// A partition column that the watermark bounds, and its delay.
    ends: Option<(usize, i64)>,
    /// Partitions with their births by the watermark that ends them.
    ending: BTreeMap<i64, Vec<(usize, u64)>>,
    slots: usize,
}

impl Keying {
    pub(super) fn new(
        schema: &SchemaRef,
        columns: &[usize],
        width: Option<i64>,
        ends: Option<(usize, i64)>,
    ) -> Result<Keying, EvalError> {
        Ok(Keying {
            partitions: Partitions::new(schema, columns)?,
            width,
            timers: VecDeque::new(),
            ends,
            ending: BTreeMap::new(),
            slots: 0,
        })
    }

    /// The slot of each row, and its number in its partition.
    pub(super) fn place(
        &mut self,
        batch: &RecordBatch,
        times: &[i64],
    ) -> Result<(Vec<usize>, Vec<i64>), EvalError> {
        let keys = self.partitions.keys(batch)?;
        let ends = match self.ends {
            Some((column, delay)) => Some((event_times(batch.column(column))?, delay)),
            None => None,
        };
        let (mut slots, mut numbers) =
            (Vec::with_capacity(times.len()), Vec::with_capacity(times.len()));
        for (row, &time) in times.iter().enumerate() {
            let slot = self.partitions.slot(&keys, row);
            self.slots = self.slots.max(slot + 1);
            let entry = self.partitions.entry_mut(slot);
            let seen = &mut entry.state;
            if seen.rows == 0
                && let Some((ends, delay)) = &ends
                && ends.is_valid(row)
            {
                let end = ends.value(row).saturating_add(*delay);
                self.ending.entry(end).or_default().push((slot, entry.birth));
            }
            if self.width.is_some() && (seen.rows == 0 || seen.last != time) {
                self.timers.push_back((time, slot, entry.birth));
            }
            seen.rows += 1;
            seen.last = time;
            slots.push(slot);
            numbers.push(seen.rows);
        }
        Ok((slots, numbers))
    }

    /// Slots that were ever in use.
    pub(super) fn slot_count(&self) -> usize {
        self.slots
    }

    /// Whether there is no partition.
    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Number of partitions; one alone, without columns, is none.
    pub(super) fn len(&self) -> usize {
        if self.partitions.is_keyed() { self.partitions.len() } else { 0 }
    }

    /// Drops the partitions that no frame of a row at or above `time` reaches, and those to which no
    /// row can come any more; gives their slots.
    pub(super) fn drop_below(&mut self, time: i64) -> Vec<usize> {
        let mut dropped = Vec::new();
        while self.ending.first_key_value().is_some_and(|(end, _)| *end < time) {
            let (_, ended) = self.ending.pop_first().expect("it was looked at just above");
            for (slot, birth) in ended {
                if self.partitions.get_born(slot, birth).is_some() {
                    self.partitions.remove(slot);
                    dropped.push(slot);
                }
            }
        }
        let Some(width) = self.width else { return dropped };
        let reached = time.saturating_sub(width);
        while let Some(&(last, slot, birth)) = self.timers.front()
            && last < reached
        {
            self.timers.pop_front();
            let entry = self.partitions.get_born(slot, birth);
            if entry.is_some_and(|entry| entry.state.last == last) {
                self.partitions.remove(slot);
                dropped.push(slot);
            }
        }
        dropped
    }

    /// Drops the partitions that a punctuation ends; gives their slots.
    pub(super) fn drop_covered(
        &mut self,
        punctuation: &Punctuation,
    ) -> Result<Vec<usize>, EvalError> {
        let covered = self.partitions.covered(punctuation)?.unwrap_or_default();
        for &slot in &covered {
            self.partitions.remove(slot);
        }
        Ok(covered)
    }

    pub(super) fn bytes(&self) -> usize {
        let timers = self.timers.len() + self.ending.values().map(Vec::len).sum::<usize>();
        self.partitions.state_bytes() + timers * size_of::<(i64, usize, u64)>()
    }

    pub(super) fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.partitions.save(out)?;
        out.put(&self.timers)?;
        out.put(&self.ending)?;
        out.put(&self.slots)
    }

    pub(super) fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.partitions.restore(from)?;
        self.timers = from.get()?;
        self.ending = from.get()?;
        self.slots = from.get()?;
        Ok(())
    }
}
