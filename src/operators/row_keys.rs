//! Numbers the keys of buffered rows, so that rows of a window can be told apart by key at once.
//!
//! EMIT EVERY n ROWS counts the rows of each window and key. A key's number is given up with its
//! last row.
//!
//! # State
//! A number per buffered row, and the bytes of each key that has rows.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;

use crate::data::floats::canonical;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, misfit};

/// Numbers of keys by row.
#[derive(Debug)]
pub struct RowKeys {
    columns: Vec<usize>,
    converter: RowConverter,
    numbers: HashMap<Box<[u8]>, u32>,
    /// The bytes of each key and how many rows have it.
    keys: Vec<(Box<[u8]>, usize)>,
    free: Vec<u32>,
    of_row: HashMap<u64, u32>,
}

impl RowKeys {
    /// No rows yet, by columns of `schema`.
    pub fn new(schema: &SchemaRef, columns: Vec<usize>) -> Result<RowKeys, EvalError> {
        let field = |&column: &usize| SortField::new(schema.field(column).data_type().clone());
        let converter = RowConverter::new(columns.iter().map(field).collect())?;
        Ok(RowKeys {
            columns,
            converter,
            numbers: HashMap::new(),
            keys: Vec::new(),
            free: Vec::new(),
            of_row: HashMap::new(),
        })
    }

    /// Takes the rows of a batch, numbered from `first` on.
    pub fn push(&mut self, batch: &RecordBatch, first: u64) -> Result<(), EvalError> {
        let columns: Vec<ArrayRef> =
            self.columns.iter().map(|&column| canonical(batch.column(column))).collect();
        let rows = self.converter.convert_columns(&columns)?;
        for (row, number) in (0..batch.num_rows()).zip(first..) {
            let bytes = rows.row(row).data();
            let key = match self.numbers.get(bytes) {
                Some(&key) => key,
                None => self.add(bytes),
            };
            self.keys[key as usize].1 += 1;
            self.of_row.insert(number, key);
        }
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) -> u32 {
        let entry = (Box::from(bytes), 0);
        let key = match self.free.pop() {
            Some(key) => {
                self.keys[key as usize] = entry;
                key
            }
            None => {
                self.keys.push(entry);
                self.keys.len() as u32 - 1
            }
        };
        self.numbers.insert(Box::from(bytes), key);
        key
    }

    /// The key of a row that is held.
    pub fn of(&self, row: u64) -> u32 {
        self.of_row.get(&row).copied().unwrap_or_default()
    }

    /// Rows by key, each in the order given.
    pub fn split(&self, rows: &[u64]) -> BTreeMap<u32, Vec<u64>> {
        let mut split: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for &row in rows {
            split.entry(self.of(row)).or_default().push(row);
        }
        split
    }

    /// Gives up rows.
    pub fn release(&mut self, rows: &[u64]) {
        for row in rows {
            let Some(key) = self.of_row.remove(row) else { continue };
            let (bytes, held) = &mut self.keys[key as usize];
            *held -= 1;
            if *held == 0 {
                self.numbers.remove(bytes);
                self.free.push(key);
            }
        }
    }

    /// Writes the keys and which rows have them.
    pub fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.put(&self.keys)?;
        out.put(&self.free)?;
        out.put(&self.of_row.iter().map(|(&row, &key)| (row, key)).collect::<BTreeMap<_, _>>())
    }

    /// Reads what [`save`](Self::save) wrote, where there are no rows yet.
    pub fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.keys = from.get()?;
        self.free = from.get()?;
        self.of_row = from.get::<BTreeMap<u64, u32>>()?.into_iter().collect();
        let held = self.keys.iter().zip(0..).filter(|((_, rows), _)| *rows > 0);
        self.numbers = held.map(|((bytes, _), number)| (bytes.clone(), number)).collect();
        match self.of_row.values().all(|key| (*key as usize) < self.keys.len()) {
            true => Ok(()),
            false => Err(misfit("a row's key is missing")),
        }
    }

    /// Bytes held.
    pub fn state_bytes(&self) -> usize {
        let keys: usize = self.numbers.keys().map(|key| 2 * key.len()).sum();
        keys + self.numbers.allocation_size()
            + self.of_row.allocation_size()
            + self.keys.capacity() * size_of::<(Box<[u8]>, usize)>()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn a_key_keeps_its_number_while_it_has_rows() {
        let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true)]));
        let batch = |keys: Vec<Option<i64>>| {
            let column = Arc::new(Int64Array::from(keys));
            RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap()
        };
        let mut keys = RowKeys::new(&schema, vec![0]).unwrap();
        keys.push(&batch(vec![Some(7), None, Some(7)]), 0).unwrap();
        assert_eq!((keys.of(0), keys.of(1), keys.of(2)), (0, 1, 0));
        assert_eq!(keys.split(&[0, 1, 2]), BTreeMap::from([(0, vec![0, 2]), (1, vec![1])]));
        keys.release(&[0, 1]);
        keys.push(&batch(vec![Some(8), Some(7)]), 3).unwrap();
        assert_eq!((keys.of(3), keys.of(4)), (1, 0));
    }
}
