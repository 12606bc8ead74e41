//! Keeps rows of open windows and, where they are wanted again one by one, where they came from.
//!
//! # State
//! The rows ([`RowBuffer`]); with origins 12 bytes more per row.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use datafusion::scalar::ScalarValue;

use crate::data::change::Change;
use crate::operators::operator::EvalError;
use crate::operators::row_buffer::RowBuffer;
use crate::operators::state::{StateReader, StateWriter};

/// Rows by number, with their origins if asked for.
#[derive(Debug)]
pub struct OriginBuffer {
    rows: RowBuffer,
    /// The columns of the rows themselves; two more stand behind them where origins are kept.
    width: usize,
    /// The rows' columns and those of the origins.
    with_origins: Option<SchemaRef>,
    /// The relations that origins name by number.
    relations: Vec<Arc<str>>,
}

/// Where some rows came from.
#[derive(Debug)]
pub struct RowOrigins {
    names: Vec<Arc<str>>,
    relations: Int32Array,
    offsets: Int64Array,
}

impl OriginBuffer {
    /// An empty buffer for rows of `schema`.
    pub fn new(schema: &SchemaRef, origins: bool) -> OriginBuffer {
        let mut fields: Vec<_> = schema.fields().iter().map(Arc::clone).collect();
        let width = fields.len();
        if origins {
            fields.push(Arc::new(Field::new("__relation", DataType::Int32, false)));
            fields.push(Arc::new(Field::new("__offset", DataType::Int64, false)));
        }
        let held: SchemaRef =
            if origins { Arc::new(Schema::new(fields)) } else { Arc::clone(schema) };
        let with_origins = origins.then(|| Arc::clone(&held));
        OriginBuffer { rows: RowBuffer::new(held), width, with_origins, relations: Vec::new() }
    }

    /// Takes the rows of a change; answers with the number of the first one.
    pub fn push(&mut self, change: &Change) -> Result<u64, EvalError> {
        let Some(schema) = &self.with_origins else { return Ok(self.rows.push(&change.batch)?) };
        let relation = &change.origin.relation;
        let known = self.relations.iter().position(|other| other == relation);
        let number = known.unwrap_or_else(|| {
            self.relations.push(Arc::clone(relation));
            self.relations.len() - 1
        });
        let rows = change.batch.num_rows();
        let offsets = (0..rows).map(|row| change.offset(row) as i64);
        let mut columns: Vec<ArrayRef> = change.batch.columns().to_vec();
        columns.push(Arc::new(Int32Array::from_value(number as i32, rows)));
        columns.push(Arc::new(Int64Array::from_iter_values(offsets)));
        Ok(self.rows.push(&RecordBatch::try_new(Arc::clone(schema), columns)?)?)
    }

    /// Gives up rows; each is released once.
    pub fn release(&mut self, numbers: &[u64]) -> Result<(), EvalError> {
        Ok(self.rows.release(numbers)?)
    }

    /// The rows with these numbers, in this order; a row may be asked for several times.
    pub fn gather(&self, numbers: impl Iterator<Item = u64>) -> Result<RecordBatch, EvalError> {
        let numbers: Vec<u64> = numbers.collect();
        let rows = self.rows.gather(&numbers)?;
        if self.with_origins.is_none() {
            return Ok(rows);
        }
        let own: Vec<usize> = (0..self.width).collect();
        Ok(rows.project(&own)?)
    }

    /// One column of the rows with these numbers, in this order; null where there is no number.
    pub fn gather_column(
        &self,
        column: usize,
        numbers: &[Option<u64>],
    ) -> Result<ArrayRef, EvalError> {
        Ok(self.rows.gather_column(column, numbers)?)
    }

    /// The value of one column of a row.
    pub fn value(&self, column: usize, number: u64) -> Result<ScalarValue, EvalError> {
        Ok(self.rows.value(column, number)?)
    }

    /// The same with the origins. Only where they are kept.
    pub fn gather_with_origins(
        &self,
        numbers: &[u64],
    ) -> Result<(RecordBatch, RowOrigins), EvalError> {
        let rows = self.rows.gather(numbers)?;
        let origins = RowOrigins {
            names: self.relations.clone(),
            relations: rows.column(self.width).as_primitive::<Int32Type>().clone(),
            offsets: rows.column(self.width + 1).as_primitive::<Int64Type>().clone(),
        };
        let own: Vec<usize> = (0..self.width).collect();
        Ok((rows.project(&own)?, origins))
    }

    /// The relation and offset of a row. Only where origins are kept.
    pub fn origin(&self, number: u64) -> Result<(Arc<str>, u64), EvalError> {
        let (_, origins) = self.gather_with_origins(&[number])?;
        let (relation, offset, _) = origins.of_run(0, 1);
        Ok((relation, offset))
    }

    /// Writes the rows that are held, with their origins if these are kept.
    pub fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.put(&self.relations)?;
        self.rows.save(out)
    }

    /// Reads what [`save`](Self::save) wrote, into an empty buffer.
    pub fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.relations = from.get()?;
        self.rows.restore(from)
    }

    /// Bytes held.
    pub fn state_bytes(&self) -> usize {
        self.rows.state_bytes()
    }
}

impl RowOrigins {
    /// Whether two rows came from one relation.
    pub fn same(&self, a: usize, b: usize) -> bool {
        self.relations.value(a) == self.relations.value(b)
    }

    /// The relation of neighbouring rows that share one, their least offset, and how far each row's
    /// lies above it.
    pub fn of_run(&self, first: usize, rows: usize) -> (Arc<str>, u64, Vec<u32>) {
        let relation = Arc::clone(&self.names[self.relations.value(first) as usize]);
        let offsets = self.offsets.slice(first, rows);
        let least = offsets.values().iter().copied().min().unwrap_or_default();
        let above = |offset: &i64| u32::try_from(offset - least).unwrap_or(u32::MAX);
        (relation, least as u64, offsets.values().iter().map(above).collect())
    }
}
