//! Finds the rows that retractions take back.
//!
//! A retraction equals the row it takes back in every column. Of equal rows it takes the latest; one
//! that comes before its row waits for it.
//!
//! # State
//! The bytes of every held row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, Rows, SortField};
use hashbrown::HashMap;

use crate::data::change::Change;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter};

/// Held rows by their values.
#[derive(Debug)]
pub(super) struct RowIndex {
    converter: RowConverter,
    equal: HashMap<Arc<[u8]>, Equal>,
    of_row: HashMap<u64, Arc<[u8]>>,
    bytes: usize,
}

/// Rows of equal values.
#[derive(Debug, Default)]
struct Equal {
    numbers: Vec<u64>,
    /// Retractions that came before their rows.
    owed: usize,
}

impl RowIndex {
    pub(super) fn new(schema: &SchemaRef) -> Result<RowIndex, EvalError> {
        let fields = schema.fields().iter().map(|f| SortField::new(f.data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        Ok(RowIndex { converter, equal: HashMap::new(), of_row: HashMap::new(), bytes: 0 })
    }

    /// The rows of a batch as bytes.
    pub(super) fn keys(&self, batch: &RecordBatch) -> Result<Rows, EvalError> {
        Ok(self.converter.convert_columns(batch.columns())?)
    }

    /// Writes the rows by their values, in the order of values.
    pub(super) fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        let equal: BTreeMap<&[u8], &Equal> =
            self.equal.iter().map(|(key, equal)| (&key[..], equal)).collect();
        out.length(equal.len());
        equal.into_iter().try_for_each(|(key, equal)| {
            out.raw(key);
            out.put(&equal.numbers)?;
            out.put(&equal.owed)
        })
    }

    /// Reads what [`save`](Self::save) wrote, where there are no rows yet.
    pub(super) fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        for _ in 0..from.length()? {
            let key: Arc<[u8]> = Arc::from(from.raw()?);
            let (numbers, owed): (Vec<u64>, usize) = from.get()?;
            self.bytes += key.len() * numbers.len();
            self.of_row.extend(numbers.iter().map(|&number| (number, Arc::clone(&key))));
            self.equal.insert(key, Equal { numbers, owed });
        }
        Ok(())
    }

    /// Adds a row; false where a retraction has waited for it.
    pub(super) fn add(&mut self, key: &[u8], number: u64) -> bool {
        if let Some(equal) = self.equal.get_mut(key)
            && equal.owed > 0
        {
            equal.owed -= 1;
            self.forget_if_empty(key);
            return false;
        }
        let shared = match self.equal.get_key_value(key) {
            Some((shared, _)) => Arc::clone(shared),
            None => Arc::from(key),
        };
        self.equal.entry(Arc::clone(&shared)).or_default().numbers.push(number);
        self.bytes += key.len();
        self.of_row.insert(number, shared);
        true
    }

    /// Takes the latest row of these values out; `None` where it has not come yet.
    pub(super) fn take(&mut self, key: &[u8]) -> Option<u64> {
        let Some(number) = self.equal.get_mut(key).and_then(|equal| equal.numbers.pop()) else {
            self.equal.entry(Arc::from(key)).or_default().owed += 1;
            return None;
        };
        self.of_row.remove(&number);
        self.bytes -= key.len();
        self.forget_if_empty(key);
        Some(number)
    }

    /// Forgets a row.
    pub(super) fn release(&mut self, number: u64) {
        let Some(key) = self.of_row.remove(&number) else { return };
        self.bytes -= key.len();
        if let Some(equal) = self.equal.get_mut(&key) {
            equal.numbers.retain(|other| *other != number);
        }
        self.forget_if_empty(&key);
    }

    fn forget_if_empty(&mut self, key: &[u8]) {
        if self.equal.get(key).is_some_and(|equal| equal.numbers.is_empty() && equal.owed == 0) {
            self.equal.remove(key);
        }
    }

    /// Bytes held.
    pub(super) fn state_bytes(&self) -> usize {
        self.bytes
            + self.equal.allocation_size()
            + self.of_row.allocation_size()
            + self.of_row.len() * size_of::<u64>()
    }
}

/// The rows of a change as often as they count, without weights, and the sign of each.
pub(super) fn unweighted(change: &Change) -> Result<(Change, Option<Vec<i64>>), EvalError> {
    let Some(weights) = &change.weights else { return Ok((change.clone(), None)) };
    let mut indices = Vec::with_capacity(weights.len());
    for (row, weight) in weights.values().iter().enumerate() {
        indices.extend((0..weight.unsigned_abs()).map(|_| row as u32));
    }
    let signs = indices.iter().map(|&row| weights.value(row as usize).signum()).collect();
    let change = change.take(&UInt32Array::from(indices))?;
    Ok((Change { weights: None, ..change }, Some(signs)))
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn the_latest_of_equal_rows_is_taken_and_an_early_retraction_waits() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, true)]));
        let values = Arc::new(Int64Array::from(vec![Some(1), None]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![values]).unwrap();
        let mut index = RowIndex::new(&schema).unwrap();
        let keys = index.keys(&batch).unwrap();
        let (one, null) = (keys.row(0).data(), keys.row(1).data());
        assert!(index.add(one, 10) && index.add(null, 11) && index.add(one, 12));
        assert_eq!((index.take(one), index.take(one), index.take(one)), (Some(12), Some(10), None));
        assert!(!index.add(one, 13) && index.add(one, 14));
        index.release(14);
        index.release(11);
        assert_eq!(index.take(null), None);
    }
}
