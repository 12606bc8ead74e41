//! Writes keys for a snapshot, and reads them back: the columns as they stand, the index made anew.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute;

use super::direct::DirectIndex;
use super::{Index, KeyDictionary};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, misfit};

/// Fewer keys than this are joined at once.
const JOINED_MAX: usize = 65_536;

impl KeyDictionary {
    /// Writes all keys in the order of their numbers.
    pub fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.put(&self.len)?;
        out.columns(self.columns()?)
    }

    /// Reads what [`save`](Self::save) wrote, into a new dictionary.
    pub fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        let (len, columns): (usize, _) = (from.get()?, from.columns()?);
        self.expect(len);
        self.restore_run(len, columns)?;
        self.restored()
    }

    /// Writes the keys of the numbers `start..end`.
    pub fn save_run(
        &self,
        start: usize,
        end: usize,
        out: &mut StateWriter,
    ) -> Result<(), EvalError> {
        let (mut first, mut parts) = (0, Vec::new());
        for run in &self.runs {
            let length = run.first().map_or(0, |column| column.len());
            let (from, to) = (start.max(first), end.min(first + length));
            if from < to {
                parts.push((run, from - first, to - from));
            }
            first += length;
        }
        let columns = (0..self.schema.fields().len()).map(|column| {
            let slices: Vec<ArrayRef> =
                parts.iter().map(|(run, at, length)| run[column].slice(*at, *length)).collect();
            match slices.as_slice() {
                [] => Ok(arrow::array::new_empty_array(self.schema.field(column).data_type())),
                [one] => Ok(ArrayRef::clone(one)),
                several => {
                    let several: Vec<&dyn Array> = several.iter().map(|s| s.as_ref()).collect();
                    compute::concat(&several)
                }
            }
        });
        out.columns(&columns.collect::<Result<Vec<_>, _>>()?)
    }

    /// Learns that so many keys will come by [`restore_run`](Self::restore_run).
    pub fn expect(&mut self, keys: usize) {
        self.expected = keys;
    }

    /// Makes room for the keys that are expected, so that no table grows step by step.
    fn make_room(&mut self, like: &[ArrayRef]) {
        let keys = std::mem::take(&mut self.expected).saturating_sub(self.len);
        match &mut self.index {
            // Its table grows with the span of the keys, not with their number.
            Index::Direct(_) => self.expected = keys + self.len,
            Index::Single => {}
            Index::Text(texts) => texts.reserve(keys, like[0].as_string_view()),
            Index::Hashed(hashed) => hashed.reserve(keys),
        }
    }

    /// Takes the next keys, none of which is there, in the order of their numbers.
    pub fn restore_run(&mut self, rows: usize, keys: Vec<ArrayRef>) -> Result<(), EvalError> {
        if let Index::Single = self.index {
            self.len = rows;
            return if rows < 2 { Ok(()) } else { Err(misfit("a key stands there twice")) };
        }
        let types = self.schema.fields().iter().map(|field| field.data_type());
        if !types.eq(keys.iter().map(|column| column.data_type()))
            || keys.iter().any(|column| column.len() != rows)
        {
            return Err(misfit("a key column is of another type or length"));
        }
        if rows == 0 {
            return Ok(());
        }
        self.make_room(&keys);
        let firsts = self.number(&keys, rows, &mut Vec::with_capacity(rows))?;
        if firsts.len() != rows {
            return Err(misfit("a key stands there twice"));
        }
        self.len += rows;
        self.runs.push(keys);
        Ok(())
    }

    /// Learns that all keys are there. They stay in the runs in which they came until all are needed:
    /// joining them takes longer than all the rest.
    pub fn restored(&mut self) -> Result<(), EvalError> {
        if self.len < JOINED_MAX {
            if self.runs.len() > 1 {
                self.join_runs(0)?;
            }
            return self.straighten();
        }
        // Integers that seemed far apart in the first run may be close together all in all.
        let ends = self.runs.iter().filter_map(|run| DirectIndex::ends_of(&run[0]));
        let ends = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        if ends.is_some_and(|ends| DirectIndex::reaches(ends, self.len)) {
            return self.straighten();
        }
        self.reviewed_at = self.reviewed_at.max(2 * self.len);
        Ok(())
    }
}
