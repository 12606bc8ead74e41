//! Gives the rows that all groups show at this moment, so that nobody has to sum up the changelog.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;

use super::Aggregate;
use crate::operators::emission::Emission;
use crate::operators::emit::Refinement;
use crate::operators::operator::{Current, EvalError};

/// Rows of a batch.
const BATCH_ROWS: usize = 65_536;

/// What the rows are made of.
struct Copied {
    schema: SchemaRef,
    /// The keys; none where there is one group only.
    runs: Vec<Vec<ArrayRef>>,
    groups: usize,
    emission: Emission,
}

impl Aggregate {
    pub(super) fn current_rows(&self) -> Result<Option<Current>, EvalError> {
        if self.refinement() != Refinement::Retracting || self.has_forgotten {
            return Ok(None);
        }
        let copied = Copied {
            schema: Arc::clone(&self.spec.schema),
            runs: self.keys.runs().to_vec(),
            groups: self.groups.rows.len(),
            emission: self.emission.copy()?,
        };
        Ok(Some(Box::new(move || copied.batches())))
    }
}

impl Copied {
    fn batches(&self) -> Result<Vec<RecordBatch>, EvalError> {
        let mut batches = Vec::new();
        // Without keys there is one group; with keys and without rows there is none.
        if self.runs.is_empty() && self.groups > 0 {
            batches.push(self.batch(&[], 0, 0, self.groups)?);
        }
        let mut first = 0;
        for run in &self.runs {
            let length = run.first().map_or(0, |column| column.len());
            for start in (0..length).step_by(BATCH_ROWS) {
                batches.push(self.batch(run, first, start, BATCH_ROWS.min(length - start))?);
            }
            first += length;
        }
        Ok(batches)
    }

    /// The rows of `length` groups from `start` in a run of keys that begins with group `first`.
    fn batch(
        &self,
        run: &[ArrayRef],
        first: usize,
        start: usize,
        length: usize,
    ) -> Result<RecordBatch, EvalError> {
        let from = first + start;
        let (groups, results) = self.emission.current(from, from + length)?;
        let places = groups.iter().map(|group| (group - first) as u32);
        let places = UInt32Array::from_iter_values(places);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(run.len() + results.len());
        for column in run {
            columns.push(match groups.len() == length {
                true => column.slice(start, length),
                false => compute::take(column, &places, None)?,
            });
        }
        columns.extend(results);
        let options = RecordBatchOptions::new().with_row_count(Some(groups.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}
