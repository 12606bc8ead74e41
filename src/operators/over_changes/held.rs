//! Holds the rows of one partition in the order of its windows.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// A row as bytes.
pub(super) type Shown = Arc<[u8]>;

/// The rows of a partition.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// By order, with their weights, which are negative while a retraction came before its insertion.
    pub(super) rows: BTreeMap<(Box<[u8]>, Shown), i64>,
    pub(super) shown: Vec<Shown>,
    /// Whether it changed in this step; with `close`, whether it has a timer.
    pub(super) touched: bool,
    /// Where it is among those that changed in this step.
    pub(super) place: usize,
    pub(super) failing: bool,
    pub(super) bytes: usize,
}

impl Stored for Held {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.rows.store(out)?;
        self.shown.store(out)?;
        self.touched.store(out)?;
        self.failing.store(out)?;
        self.bytes.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(Held {
            rows: from.get()?,
            shown: from.get()?,
            touched: from.get()?,
            place: 0,
            failing: from.get()?,
            bytes: from.get()?,
        })
    }
}

impl Stored for Shown {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.raw(self);
        Ok(())
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(Shown::from(from.raw()?))
    }
}

impl Held {
    /// Adds a row `weight` times.
    pub(super) fn change(&mut self, key: Vec<u8>, row: &[u8], weight: i64) {
        let bytes = size_of::<(Box<[u8]>, Shown, i64)>() + key.len() + row.len();
        let name = (key.into_boxed_slice(), Shown::from(row));
        let count = self.rows.entry(name.clone()).or_insert(0);
        if *count == 0 {
            self.bytes += bytes;
        }
        *count += weight;
        if *count == 0 {
            self.rows.remove(&name);
            self.bytes -= bytes;
        }
    }
}
