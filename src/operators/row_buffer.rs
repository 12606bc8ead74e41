//! Keeps the rows of open windows in columns, by number, until they are released.
//!
//! # Method
//! A batch becomes a chunk as it is. Small neighbours merge as in a log-structured tree, so that a
//! stream of single rows costs O(log rows) copies of each row and few chunks; a chunk of which three
//! quarters are released is rewritten. Both leave behind what released rows held, text included.
//! Rows are numbered in the order in which they came, and numbers never change.
//!
//! # State
//! At most four times the rows held, plus one batch.

use std::collections::VecDeque;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array,
    new_null_array,
};
use arrow::compute;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::scalar::ScalarValue;
use std::sync::Arc;

use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter};

/// Chunks above this number of rows are not merged.
const MERGED_ROWS_MAX: usize = 4096;

/// Rows by number.
#[derive(Debug)]
pub struct RowBuffer {
    schema: SchemaRef,
    /// Ascending by row number; none is empty of held rows.
    chunks: VecDeque<Chunk>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Chunk {
    /// The number of each row, ascending.
    numbers: Vec<u64>,
    released: Vec<bool>,
    held: usize,
    batch: RecordBatch,
    bytes: usize,
}

impl Chunk {
    fn new(numbers: Vec<u64>, batch: RecordBatch) -> Chunk {
        let bytes = batch.get_array_memory_size() + numbers.len() * (size_of::<u64>() + 1);
        Chunk { released: vec![false; numbers.len()], held: numbers.len(), numbers, batch, bytes }
    }
}

impl RowBuffer {
    /// An empty buffer for rows of `schema`.
    pub fn new(schema: SchemaRef) -> RowBuffer {
        RowBuffer { schema, chunks: VecDeque::new(), next: 0, bytes: 0 }
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Writes the rows that are held.
    pub fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        let held: Vec<u64> = self
            .chunks
            .iter()
            .flat_map(|chunk| chunk.numbers.iter().zip(&chunk.released))
            .filter_map(|(&number, released)| (!released).then_some(number))
            .collect();
        let rows = self.gather(&held)?;
        out.put(&self.next)?;
        out.put(&held)?;
        out.columns(rows.columns())
    }

    /// Reads what [`save`](Self::save) wrote, into an empty buffer.
    pub fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        let (next, numbers): (u64, Vec<u64>) = from.get()?;
        let columns = from.columns()?;
        self.next = next;
        if !numbers.is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(numbers.len()));
            let schema = Arc::clone(&self.schema);
            let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
            let chunk = Chunk::new(numbers, batch);
            self.bytes += chunk.bytes;
            self.chunks.push_back(chunk);
        }
        Ok(())
    }

    /// Takes the rows of a batch; answers with the number of the first one.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<u64, ArrowError> {
        let first = self.next;
        self.next += batch.num_rows() as u64;
        if batch.num_rows() > 0 {
            let chunk = Chunk::new((first..self.next).collect(), batch.clone());
            self.bytes += chunk.bytes;
            self.chunks.push_back(chunk);
            self.merge_small_chunks()?;
        }
        Ok(first)
    }

    /// Gives up rows; each is released once.
    pub fn release(&mut self, numbers: &[u64]) -> Result<(), ArrowError> {
        for &number in numbers {
            let (index, row) = self.locate(number)?;
            let chunk = &mut self.chunks[index];
            if !std::mem::replace(&mut chunk.released[row], true) {
                chunk.held -= 1;
            }
            if chunk.held == 0 {
                self.bytes -= chunk.bytes;
                self.chunks.remove(index);
            } else if chunk.held * 4 < chunk.numbers.len() {
                let mut kept = self.held_rows(&[index])?;
                std::mem::swap(&mut self.chunks[index], &mut kept);
                self.bytes = self.bytes - kept.bytes + self.chunks[index].bytes;
            }
        }
        Ok(())
    }

    /// The rows with these numbers, in this order; a row may be asked for several times.
    pub fn gather(&self, numbers: &[u64]) -> Result<RecordBatch, ArrowError> {
        let places: Vec<(usize, usize)> =
            numbers.iter().map(|&number| self.locate(number)).collect::<Result<_, _>>()?;
        if self.schema.fields().is_empty() || places.is_empty() {
            return self.without_columns(places.len());
        }
        let batches: Vec<&RecordBatch> = self.chunks.iter().map(|chunk| &chunk.batch).collect();
        compute::interleave_record_batch(&batches, &places)
    }

    /// One column of the rows with these numbers, in this order; null where there is no number.
    pub fn gather_column(
        &self,
        column: usize,
        numbers: &[Option<u64>],
    ) -> Result<ArrayRef, ArrowError> {
        let nothing = new_null_array(self.schema.field(column).data_type(), 1);
        let nowhere = (self.chunks.len(), 0);
        let places = numbers
            .iter()
            .map(|number| number.map_or(Ok(nowhere), |number| self.locate(number)))
            .collect::<Result<Vec<_>, _>>()?;
        let columns = self.chunks.iter().map(|chunk| &**chunk.batch.column(column));
        let columns: Vec<&dyn Array> = columns.chain([&*nothing]).collect();
        compute::interleave(&columns, &places)
    }

    /// The value of one column of a row.
    pub fn value(&self, column: usize, number: u64) -> Result<ScalarValue, DataFusionError> {
        let (index, row) = self.locate(number)?;
        ScalarValue::try_from_array(self.chunks[index].batch.column(column), row)
    }

    /// Bytes held.
    pub fn state_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether no row is held.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    fn without_columns(&self, rows: usize) -> Result<RecordBatch, ArrowError> {
        if rows == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), vec![], &options)
    }

    fn locate(&self, number: u64) -> Result<(usize, usize), ArrowError> {
        let ends_before = |chunk: &Chunk| chunk.numbers.last().is_none_or(|&last| last < number);
        let index = self.chunks.partition_point(ends_before);
        let row =
            self.chunks.get(index).and_then(|chunk| chunk.numbers.binary_search(&number).ok());
        let row = row.ok_or_else(|| {
            ArrowError::InvalidArgumentError(format!("row {number} of a window is not held"))
        })?;
        Ok((index, row))
    }

    fn merge_small_chunks(&mut self) -> Result<(), ArrowError> {
        while let [.., before, last] = self.chunks.make_contiguous() {
            let (before_rows, last_rows) = (before.numbers.len(), last.numbers.len());
            if last_rows > MERGED_ROWS_MAX || before_rows > 2 * last_rows {
                break;
            }
            let end = self.chunks.len();
            let merged = self.held_rows(&[end - 2, end - 1])?;
            for gone in self.chunks.drain(end - 2..) {
                self.bytes -= gone.bytes;
            }
            self.bytes += merged.bytes;
            self.chunks.push_back(merged);
        }
        Ok(())
    }

    /// The held rows of some chunks as one chunk that shares no memory with them.
    fn held_rows(&self, indices: &[usize]) -> Result<Chunk, ArrowError> {
        let (mut numbers, mut batches) = (Vec::new(), Vec::new());
        for &index in indices {
            let chunk = &self.chunks[index];
            let held: Vec<usize> =
                (0..chunk.numbers.len()).filter(|&row| !chunk.released[row]).collect();
            numbers.extend(held.iter().map(|&row| chunk.numbers[row]));
            let keep: BooleanArray = chunk.released.iter().map(|&gone| Some(!gone)).collect();
            batches.push(compute::filter_record_batch(&chunk.batch, &keep)?);
        }
        if self.schema.fields().is_empty() {
            let rows = numbers.len();
            return Ok(Chunk::new(numbers, self.without_columns(rows)?));
        }
        let merged = compute::concat_batches(&self.schema, &batches)?;
        let columns = merged.columns().iter().map(compacted).collect::<Result<_, _>>()?;
        Ok(Chunk::new(numbers, RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }
}

/// The same values without the memory that they share with others.
fn compacted(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ if column.offset() == 0 => Arc::clone(column),
        _ => compute::take(column, &UInt32Array::from_iter_values(0..column.len() as u32), None)?,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringViewArray};
    use arrow::datatypes::{Field, Schema};
    use proptest::prelude::*;

    use super::*;

    fn schema() -> SchemaRef {
        let fields =
            vec![Field::new("v", DataType::Int64, true), Field::new("s", DataType::Utf8View, true)];
        Arc::new(Schema::new(fields))
    }

    fn text(value: i64) -> String {
        format!("a text that is longer than twelve bytes: {value}")
    }

    fn batch(values: std::ops::Range<i64>) -> RecordBatch {
        let texts: StringViewArray = values.clone().map(|value| Some(text(value))).collect();
        let numbers = Int64Array::from_iter_values(values);
        RecordBatch::try_new(schema(), vec![Arc::new(numbers), Arc::new(texts)]).unwrap()
    }

    fn check(buffer: &RowBuffer, numbers: &[u64]) {
        let rows = buffer.gather(numbers).unwrap();
        assert_eq!(rows.num_rows(), numbers.len());
        for (row, &number) in numbers.iter().enumerate() {
            let number = number as i64;
            assert_eq!(
                rows.column(0).as_primitive::<arrow::datatypes::Int64Type>().value(row),
                number
            );
            assert_eq!(rows.column(1).as_string_view().value(row), text(number));
        }
        let some: Vec<Option<u64>> = numbers.iter().copied().map(Some).chain([None]).collect();
        let column = buffer.gather_column(0, &some).unwrap();
        assert_eq!(column.slice(0, numbers.len()).to_data(), rows.column(0).to_data());
        assert!(column.is_null(numbers.len()));
        for &number in numbers {
            let value = buffer.value(0, number).unwrap();
            assert_eq!(value, ScalarValue::Int64(Some(number as i64)));
        }
    }

    #[test]
    fn single_rows_merge_into_few_chunks() {
        let mut buffer = RowBuffer::new(schema());
        for value in 0..3000 {
            buffer.push(&batch(value..value + 1)).unwrap();
        }
        assert!(buffer.chunks.len() < 20, "{} chunks", buffer.chunks.len());
        check(&buffer, &[2999, 0, 1234, 0]);
    }

    #[test]
    fn released_rows_leave_no_bytes_behind() {
        let mut buffer = RowBuffer::new(schema());
        buffer.push(&batch(0..1000)).unwrap();
        let full = buffer.state_bytes();
        buffer.release(&(1..1000).collect::<Vec<_>>()).unwrap();
        assert!(buffer.state_bytes() < full / 20);
        check(&buffer, &[0]);
        buffer.release(&[0]).unwrap();
        assert_eq!((buffer.is_empty(), buffer.state_bytes()), (true, 0));
        assert!(buffer.gather(&[0]).is_err());
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let mut buffer = RowBuffer::new(Arc::new(Schema::empty()));
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        for _ in 0..5 {
            let row =
                RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options);
            buffer.push(&row.unwrap()).unwrap();
        }
        buffer.release(&[1]).unwrap();
        assert_eq!(buffer.gather(&[0, 2, 4]).unwrap().num_rows(), 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn what_is_held_can_be_gathered(
            steps in prop::collection::vec((0usize..9, prop::collection::vec(any::<u16>(), 0..9)), 0..40),
        ) {
            let mut buffer = RowBuffer::new(schema());
            let mut held: Vec<u64> = Vec::new();
            for (rows, releases) in steps {
                let first = buffer.next as i64;
                prop_assert_eq!(buffer.push(&batch(first..first + rows as i64)).unwrap(), first as u64);
                held.extend(first as u64..first as u64 + rows as u64);
                for release in releases.iter().take(held.len()) {
                    let gone = held.swap_remove(usize::from(*release) % held.len());
                    buffer.release(&[gone]).unwrap();
                }
                check(&buffer, &held);
            }
            buffer.release(&held).unwrap();
            prop_assert_eq!(buffer.state_bytes(), 0);
        }
    }
}
