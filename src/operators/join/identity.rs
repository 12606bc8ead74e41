//! Finds the row that a retraction takes back, among all rows of a side.
//!
//! Rows are told apart by a hash of all of their columns, bit by bit, so that `0.0` and `-0.0` are two
//! rows. That a row which was found by its hash is the one that was meant is checked afterwards, for
//! all retractions of a batch at once ([`Identity::check`]). The hash has a seed of its own in every
//! process; nothing of it shows in the output.
//!
//! # State
//! A hash per slot, and a table entry per row.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, Rows, SortField};
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use crate::operators::operator::EvalError;

/// From rows to slots.
pub(super) struct Identity {
    converter: RowConverter,
    hasher: DefaultHashBuilder,
    /// By hash, one slot; others with the same hash follow in `same`.
    table: HashTable<u32>,
    /// By slot.
    hashes: Vec<u64>,
    /// By slot, the next one with the same hash.
    same: Vec<u32>,
    /// The rows of the newest batch, and the slot of the first one.
    newest: Option<(Rows, usize)>,
    /// What was found in the newest batch: the retraction's slot, and the slot taken back.
    found: Vec<(u32, u32)>,
    /// Rows of negative weight: retractions that came before their insertions.
    pub negatives: usize,
}

const NONE: u32 = u32::MAX;

impl Identity {
    pub(super) fn new(schema: &SchemaRef) -> Result<Identity, EvalError> {
        let fields = schema.fields().iter();
        let fields = fields.map(|field| SortField::new(field.data_type().clone())).collect();
        Ok(Identity {
            converter: RowConverter::new(fields)?,
            hasher: DefaultHashBuilder::default(),
            table: HashTable::new(),
            hashes: Vec::new(),
            same: Vec::new(),
            newest: None,
            found: Vec::new(),
            negatives: 0,
        })
    }

    /// Hashes the rows of a batch whose slots begin at `first`.
    pub(super) fn append(&mut self, batch: &RecordBatch, first: usize) -> Result<(), EvalError> {
        debug_assert_eq!(first, self.hashes.len());
        if batch.num_columns() == 0 {
            self.hashes.resize(first + batch.num_rows(), 0);
            self.same.resize(first + batch.num_rows(), NONE);
            return Ok(());
        }
        let rows = self.converter.convert_columns(batch.columns())?;
        let hasher = &self.hasher;
        self.hashes.extend(rows.iter().map(|row| hasher.hash_one(row.data())));
        self.same.resize(self.hashes.len(), NONE);
        self.newest = Some((rows, first));
        Ok(())
    }

    /// Makes a slot's row one that can be found.
    pub(super) fn hold(&mut self, slot: u32) {
        let hash = self.hashes[slot as usize];
        let hashes = &self.hashes;
        let is_same = |other: &u32| hashes[*other as usize] == hash;
        match self.table.entry(hash, is_same, |other| hashes[*other as usize]) {
            Entry::Occupied(entry) => {
                let head = *entry.get() as usize;
                self.same[slot as usize] = self.same[head];
                self.same[head] = slot;
            }
            Entry::Vacant(place) => {
                place.insert(slot);
            }
        }
    }

    /// Makes the rows of all slots ones that can be found.
    pub(super) fn restore_all(&mut self) {
        self.end_batch();
        (0..self.hashes.len() as u32).for_each(|slot| self.hold(slot));
    }

    /// A row that is equal to the one in `slot`, and which `wanted` accepts.
    pub(super) fn find(&mut self, slot: u32, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = self.hashes[slot as usize];
        let hashes = &self.hashes;
        let mut at = *self.table.find(hash, |other| hashes[*other as usize] == hash)?;
        while at != NONE {
            if wanted(at) {
                self.found.push((slot, at));
                return Some(at);
            }
            at = self.same[at as usize];
        }
        None
    }

    /// Takes a slot out of the table: its row is gone.
    pub(super) fn forget(&mut self, slot: u32) {
        let hash = self.hashes[slot as usize];
        let hashes = &self.hashes;
        let is_same = |other: &u32| hashes[*other as usize] == hash;
        let Ok(mut entry) = self.table.find_entry(hash, is_same) else { return };
        let after = self.same[slot as usize];
        let mut at = *entry.get();
        if at == slot {
            match after {
                NONE => drop(entry.remove()),
                after => *entry.get_mut() = after,
            }
            return;
        }
        while at != NONE {
            if self.same[at as usize] == slot {
                self.same[at as usize] = after;
                return;
            }
            at = self.same[at as usize];
        }
    }

    /// Whether any retraction of the newest batch waits to be checked: its slots.
    pub(super) fn unchecked(&self) -> Vec<u32> {
        self.found.iter().map(|(_, slot)| *slot).collect()
    }

    /// Checks that what was found is what was meant; `rows` are the columns of those found.
    pub(super) fn check(&mut self, rows: &[ArrayRef]) -> Result<(), EvalError> {
        let found = std::mem::take(&mut self.found);
        let Some((newest, first)) = &self.newest else { return Ok(()) };
        let rows = self.converter.convert_columns(rows)?;
        for ((retraction, _), row) in found.iter().zip(&rows) {
            if newest.row(*retraction as usize - first) != row {
                let what = "two different rows of a join have the same hash; resume the query";
                return Err(EvalError::Broken(what.into()));
            }
        }
        Ok(())
    }

    /// Forgets the batch that came last.
    pub(super) fn end_batch(&mut self) {
        self.newest = None;
        self.found.clear();
    }

    /// Goes over to new slots: those of `held`, in that order.
    pub(super) fn pack(&mut self, held: &[u32]) {
        self.hashes = held.iter().map(|&slot| self.hashes[slot as usize]).collect();
        self.same = vec![NONE; held.len()];
        self.table.clear();
        let hashes = &self.hashes;
        self.table.shrink_to(held.len(), |slot| hashes[*slot as usize]);
        (0..held.len() as u32).for_each(|slot| self.hold(slot));
    }

    pub(super) fn state_bytes(&self) -> usize {
        let newest = self.newest.as_ref().map_or(0, |(rows, _)| rows.size());
        self.table.allocation_size()
            + self.hashes.capacity() * 8
            + self.same.capacity() * 4
            + newest
    }
}
