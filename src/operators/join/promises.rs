//! Remembers which keys a side has promised not to bring any more.
//!
//! A punctuation over key columns of one side closes its keys for that side, which neither brings nor takes
//! back a row of them any more: rows of the other side with such a key have met all they will ever meet, so
//! they need not be held. Where the other side takes one of them back, that meets the same rows. Keys that come
//! later are looked up among the promises. Once both sides have promised a key, no output for it
//! follows, and the promise goes on; as neither side brings such a key any more, nobody asks for it, and it
//! is forgotten.
//!
//! # State
//! Two flags per key, and the promises that the other side has not made ([`WaitingPromises`]).

use arrow::array::ArrayRef;
use datafusion::scalar::ScalarValue;

use crate::data::punctuation::{Pattern, Punctuation};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter};
use crate::operators::waiting_promises::WaitingPromises;

/// What both sides have promised, in terms of key columns.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// Per side; columns are numbers of key columns, as texts.
    made: [WaitingPromises; 2],
    /// By key, per side whether it brings no more rows of it.
    closed: Vec<[bool; 2]>,
}

/// A number of a key column as the column of a promise.
pub(super) fn name_of_key(index: usize) -> String {
    index.to_string()
}

/// The patterns of a promise by number of the key column.
pub(super) fn patterns(promise: &Punctuation) -> Vec<(usize, Pattern)> {
    let numbered =
        |(name, pattern): &(String, Pattern)| Some((name.parse().ok()?, pattern.clone()));
    promise.columns.iter().filter_map(numbered).collect()
}

impl Promises {
    /// Whether a side brings no more rows of a key.
    #[inline]
    pub(super) fn is_closed(&self, key: u32, port: usize) -> bool {
        self.closed.get(key as usize).is_some_and(|closed| closed[port])
    }

    /// Whether nothing was promised.
    pub(super) fn is_empty(&self) -> bool {
        self.made.iter().all(WaitingPromises::is_empty)
    }

    /// Takes a promise of one side, whose keys `matching` are; gives what of it the other side has
    /// promised, too.
    pub(super) fn take(
        &mut self,
        port: usize,
        promise: &Punctuation,
        matching: &[bool],
    ) -> Vec<Punctuation> {
        self.closed.resize(matching.len().max(self.closed.len()), [false; 2]);
        for (closed, _) in self.closed.iter_mut().zip(matching).filter(|(_, matches)| **matches) {
            closed[port] = true;
        }
        let both = self.made[1 - port].shared(promise);
        self.made[port].hold(promise);
        for made in &mut self.made {
            both.iter().for_each(|shared| made.release(shared));
        }
        both
    }

    /// Looks up keys that are new, whose numbers begin where the known ones end.
    pub(super) fn add_keys(&mut self, columns: &[ArrayRef], count: usize) -> Result<(), EvalError> {
        for row in 0..count {
            let key: Vec<ScalarValue> = columns
                .iter()
                .map(|column| ScalarValue::try_from_array(column, row))
                .collect::<Result<_, _>>()?;
            let value = |column: &str| key.get(column.parse::<usize>().ok()?);
            self.closed.push([0, 1].map(|port| self.made[port].covers(value)));
        }
        Ok(())
    }

    /// Number of keys that are known.
    pub(super) fn len(&self) -> usize {
        self.closed.len()
    }

    /// Keys have new numbers; `u32::MAX` for those that are forgotten.
    pub(super) fn renumber(&mut self, renumbered: &[u32], count: usize) {
        let mut closed = vec![[false; 2]; count];
        for (old, &new) in self.closed.iter().zip(renumbered) {
            if new != u32::MAX {
                closed[new as usize] = *old;
            }
        }
        self.closed = closed;
    }

    pub(super) fn state_bytes(&self) -> usize {
        let made = self.made.iter().map(WaitingPromises::state_bytes);
        self.closed.capacity() * 2 + made.sum::<usize>()
    }

    pub(super) fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        for made in &self.made {
            out.put(made)?;
        }
        let flags = |port: usize| self.closed.iter().map(|c| c[port]).collect::<Vec<bool>>();
        out.put(&flags(0))?;
        out.put(&flags(1))
    }

    pub(super) fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        for made in &mut self.made {
            *made = from.get()?;
        }
        let (left, right): (Vec<bool>, Vec<bool>) = (from.get()?, from.get()?);
        self.closed = left.into_iter().zip(right).map(|(left, right)| [left, right]).collect();
        Ok(())
    }
}
