//! Remembers which keys a side has promised not to bring any more.
//!
//! A punctuation over key columns of one append-only side closes its keys for that side: rows of the
//! other side with such a key have met all they will ever meet, so they need not be held. Keys that come
//! later are looked up among the promises; of these at most [`PROMISES_MAX`] are kept per side, and to
//! forget the oldest costs state, never an answer. Once both sides have promised a key, no output for it
//! follows, and the promise goes on.
//!
//! # State
//! Two flags per key, and the promises.

use std::collections::VecDeque;

use arrow::array::ArrayRef;
use datafusion::scalar::ScalarValue;
use hashbrown::HashSet;

use crate::data::punctuation::{Pattern, Punctuation};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter};

/// Promises remembered per side.
const PROMISES_MAX: usize = 1_024;

/// What both sides have promised, in terms of key columns.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// Per side.
    made: [Made; 2],
    /// By key, per side whether it brings no more rows of it.
    closed: Vec<[bool; 2]>,
}

#[derive(Debug, Default)]
struct Made {
    /// Columns are numbers of key columns, as texts.
    promises: VecDeque<Punctuation>,
    /// The values of those promises that name values of the only key column.
    values: HashSet<ScalarValue>,
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
        self.made.iter().all(|made| made.promises.is_empty())
    }

    /// Takes a promise of one side, whose keys `matching` are; gives what of it the other side has
    /// promised, too.
    pub(super) fn take(
        &mut self,
        port: usize,
        promise: Punctuation,
        matching: &[bool],
    ) -> Vec<Punctuation> {
        self.closed.resize(matching.len().max(self.closed.len()), [false; 2]);
        for (closed, _) in self.closed.iter_mut().zip(matching).filter(|(_, matches)| **matches) {
            closed[port] = true;
        }
        let both = self.made[1 - port].shared(&promise);
        let made = &mut self.made[port];
        if !made.promises.contains(&promise) {
            if made.promises.len() == PROMISES_MAX
                && let Some(oldest) = made.promises.pop_front()
            {
                for value in values(&oldest) {
                    made.values.remove(value);
                }
            }
            made.values.extend(values(&promise).cloned());
            made.promises.push_back(promise);
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
            self.closed.push([0, 1].map(|port| self.made[port].covers(&key)));
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
        let made = self.made.iter().map(|made| {
            made.promises.len() * size_of::<Punctuation>()
                + made.values.capacity() * size_of::<ScalarValue>()
        });
        self.closed.capacity() * 2 + made.sum::<usize>()
    }

    pub(super) fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        for made in &self.made {
            out.put(&made.promises)?;
        }
        let flags = |port: usize| self.closed.iter().map(|c| c[port]).collect::<Vec<bool>>();
        out.put(&flags(0))?;
        out.put(&flags(1))
    }

    pub(super) fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        for made in &mut self.made {
            made.promises = from.get()?;
            made.values = made.promises.iter().flat_map(values).cloned().collect();
        }
        let (left, right): (Vec<bool>, Vec<bool>) = (from.get()?, from.get()?);
        self.closed = left.into_iter().zip(right).map(|(left, right)| [left, right]).collect();
        Ok(())
    }
}

/// The values of a promise that names values of one column.
fn values(promise: &Punctuation) -> impl Iterator<Item = &ScalarValue> {
    let named = match promise.columns.as_slice() {
        [(_, Pattern::OneOf(values))] => values.as_slice(),
        _ => &[],
    };
    named.iter()
}

impl Made {
    /// The part of a promise of the other side that this side has made, too.
    fn shared(&self, promise: &Punctuation) -> Vec<Punctuation> {
        match promise.columns.as_slice() {
            // A key of several columns is covered by one of them only where that one is named.
            [(column, Pattern::OneOf(values))]
                if self.promises.iter().all(|promise| promise.columns.len() == 1) =>
            {
                let mut shared = values.clone();
                shared.retain(|value| self.covers(std::slice::from_ref(value)));
                let columns = vec![(column.clone(), Pattern::OneOf(shared.clone()))];
                (!shared.is_empty()).then_some(Punctuation { columns }).into_iter().collect()
            }
            _ => promise.and_any(&self.promises),
        }
    }

    fn covers(&self, key: &[ScalarValue]) -> bool {
        if let [only] = key
            && self.values.contains(only)
        {
            return true;
        }
        let by_value = |promise: &Punctuation| key.len() == 1 && values(promise).next().is_some();
        self.promises.iter().filter(|promise| !by_value(promise)).any(|promise| {
            patterns(promise).iter().all(|(column, pattern)| pattern.matches(&key[*column]))
        })
    }
}
