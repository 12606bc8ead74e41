//! Sums two results up against each other: what to retract and insert to come from one to the other.
//!
//! Rows that both have cancel out as they come, so results that are alike take little memory if they
//! are added side by side. What is left comes out in the order of its values, retractions first.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;

use crate::data::change::{Change, Marks, Origin};
use crate::error::{Error, Result, SqlState};
use crate::log::frame::Position;
use crate::views::changelog::Changelog;

/// Rows read from the changelog at a time.
const READ_ROWS: usize = 65_536;

/// A sum of rows with weights.
pub struct Difference {
    converter: RowConverter,
    schema: SchemaRef,
    weights: HashMap<Box<[u8]>, i64>,
    bytes: usize,
}

impl std::fmt::Debug for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Difference").field("rows", &self.weights.len()).finish_non_exhaustive()
    }
}

impl Difference {
    /// An empty sum of rows of these columns.
    ///
    /// # Errors
    /// When values of a column cannot be compared.
    pub fn new(schema: &Schema) -> Result<Difference> {
        let fields = schema.fields();
        let sort = fields.iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let nullable = fields.iter().map(|field| field.as_ref().clone().with_nullable(true));
        Ok(Difference {
            converter: RowConverter::new(sort).map_err(broken)?,
            schema: Arc::new(Schema::new(nullable.collect::<Vec<_>>())),
            weights: HashMap::new(),
            bytes: 0,
        })
    }

    /// Bytes that the sum takes, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds rows `sign` times their weights.
    ///
    /// # Errors
    /// When the rows have other columns.
    pub fn add(
        &mut self,
        batch: &RecordBatch,
        weights: Option<&Int64Array>,
        sign: i64,
    ) -> Result<()> {
        const ENTRY_BYTES: usize = 48;
        let rows = self.converter.convert_columns(batch.columns()).map_err(broken)?;
        for (index, row) in rows.iter().enumerate() {
            let weight = sign * weights.map_or(1, |weights| weights.value(index));
            let key = row.as_ref();
            let size = key.len() + ENTRY_BYTES;
            match self.weights.get_mut(key) {
                Some(sum) if *sum + weight == 0 => {
                    self.weights.remove(key);
                    self.bytes -= size;
                }
                Some(sum) => *sum += weight,
                None if weight == 0 => {}
                None => {
                    self.weights.insert(key.into(), weight);
                    self.bytes += size;
                }
            }
        }
        Ok(())
    }

    /// Subtracts what stands for the removed entries of a changelog; gives where the others begin.
    ///
    /// # Errors
    /// The log's.
    pub fn subtract_kept(&mut self, old: &Changelog) -> Result<Position> {
        let Some(kept) = old.kept() else { return Ok(old.log().start()) };
        for batch in kept.batches()? {
            self.add(&batch, None, -1)?;
        }
        Ok(kept.at)
    }

    /// Subtracts about `rows` rows of a changelog from a position on; gives where it came to.
    ///
    /// # Errors
    /// The log's.
    pub fn subtract(&mut self, old: &Changelog, from: Position, rows: usize) -> Result<Position> {
        let (mut position, mut left) = (from, rows);
        while left > 0 && position.frame < old.log().visible().frame {
            let frames = old.read(position, left.min(READ_ROWS))?;
            let Some(last) = frames.last() else { break };
            position = Position { frame: last.index + 1, offset: last.next_offset() };
            for entry in frames.iter().filter_map(|frame| old.entry(frame)) {
                left = left.saturating_sub(entry.batch.num_rows());
                self.add(&entry.batch, entry.weights.as_ref(), -1)?;
            }
        }
        Ok(position)
    }

    /// What is left, as a change whose rows arrived under the watermark `arrival`; `None`: nothing.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn finish(self, relation: &str, arrival: i64) -> Result<Option<Change>> {
        let mut rows: Vec<(Box<[u8]>, i64)> = self.weights.into_iter().collect();
        if rows.is_empty() {
            return Ok(None);
        }
        rows.sort_by(|(a, x), (b, y)| (*x > 0, a).cmp(&(*y > 0, b)));
        let parser = self.converter.parser();
        let columns = self
            .converter
            .convert_rows(rows.iter().map(|(row, _)| parser.parse(row)))
            .map_err(broken)?;
        let columns = columns
            .into_iter()
            .zip(self.schema.fields())
            .map(|(column, field)| match column.data_type() == field.data_type() {
                true => Ok(column),
                false => arrow::compute::cast(&column, field.data_type()),
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(broken)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(self.schema, columns, &options);
        let marks = Marks::All(arrival);
        let origin = Origin {
            relation: relation.into(),
            first_offset: 0,
            ingest_time: 0,
            arrival: marks.clone(),
            progress: marks,
            derived: false,
        };
        Ok(Some(Change {
            batch: batch.map_err(broken)?,
            weights: Some(Int64Array::from_iter_values(rows.iter().map(|(_, weight)| *weight))),
            origin: Arc::new(origin),
            rows: None,
        }))
    }
}

fn broken(error: arrow::error::ArrowError) -> Error {
    Error::new(SqlState::INTERNAL, format!("results cannot be compared: {error}"))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray};
    use arrow::datatypes::{DataType, Field, Int64Type};

    use super::*;

    fn rows(values: &[i64]) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    }

    #[test]
    fn equal_rows_cancel_out_and_the_rest_is_in_order_retractions_first() {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        let mut difference = Difference::new(&schema).unwrap();
        difference.add(&rows(&[5, 1, 2, 2]), None, 1).unwrap();
        difference.add(&rows(&[2, 9, 3, 1]), None, -1).unwrap();
        let change = difference.finish("q", 0).unwrap().unwrap();
        let values = change.batch.column(0).as_primitive::<Int64Type>().values().to_vec();
        let weights = change.weights.unwrap().values().to_vec();
        assert_eq!((values, weights), (vec![3, 9, 2, 5], vec![-1, -1, 1, 1]));
        let mut same = Difference::new(&schema).unwrap();
        same.add(&rows(&[1]), None, 1).unwrap();
        same.add(&rows(&[1]), None, -1).unwrap();
        assert_eq!(same.bytes(), 0);
        assert!(same.finish("q", 0).unwrap().is_none());
    }
}
