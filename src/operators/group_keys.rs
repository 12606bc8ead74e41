//! Numbers the keys of GROUP BY densely in the order of their first occurrence, and gives keys back.
//!
//! DataFusion's `GroupValues` finds the number of a key, but can only be read by emptying it. So the
//! key columns are kept beside it: numbers are handed out without gaps, hence new keys of a batch are
//! appended as they come. Runs of keys are merged when the later is not much smaller, which leaves
//! logarithmically many.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use datafusion::scalar::ScalarValue;

use crate::data::punctuation::Pattern;
use crate::operators::compact::compact;
use crate::operators::first_seen::FirstSeen;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, misfit};

/// Keys with their numbers.
pub struct GroupKeys {
    schema: SchemaRef,
    numbers: Box<dyn GroupValues>,
    first_seen: FirstSeen,
    /// The keys, as columns; the first of a run has the number that comes after the run before.
    runs: Vec<Vec<ArrayRef>>,
    count: usize,
}

impl GroupKeys {
    /// No keys yet, of these types. There may be no columns: then nothing is ever interned.
    pub fn new(types: Vec<DataType>) -> Result<GroupKeys, EvalError> {
        let fields = types.into_iter().enumerate();
        let fields: Vec<Field> =
            fields.map(|(i, t)| Field::new(format!("key{i}"), t, true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let numbers = numbers_for(&schema)?;
        Ok(GroupKeys {
            schema,
            numbers,
            first_seen: FirstSeen::default(),
            runs: Vec::new(),
            count: 0,
        })
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Gives the number of each row's key, new ones among them.
    pub fn intern(
        &mut self,
        columns: &[ArrayRef],
        groups: &mut Vec<usize>,
    ) -> Result<(), EvalError> {
        assert!(!columns.is_empty(), "GroupValues panics without columns");
        self.numbers.intern(columns, groups)?;
        let firsts = self.first_seen.renumber(groups, self.count);
        self.count += firsts.len();
        if firsts.is_empty() {
            return Ok(());
        }
        let firsts = UInt32Array::from(firsts);
        let keys =
            columns.iter().map(|column| compute::take(column, &firsts, None).map(|c| compact(&c)));
        self.runs.push(keys.collect::<Result<_, _>>()?);
        self.merge_runs()
    }

    fn merge_runs(&mut self) -> Result<(), EvalError> {
        while let [.., earlier, later] = self.runs.as_slice()
            && later[0].len() * 2 >= earlier[0].len()
        {
            let both = earlier.iter().zip(later);
            let merged = both
                .map(|(a, b)| compute::concat(&[a.as_ref(), b.as_ref()]).map(|c| compact(&c)))
                .collect::<Result<Vec<_>, _>>()?;
            self.runs.truncate(self.runs.len() - 2);
            self.runs.push(merged);
        }
        Ok(())
    }

    /// The keys with these numbers, as columns.
    pub fn columns(&self, groups: &[usize]) -> Result<Vec<ArrayRef>, EvalError> {
        let mut starts = Vec::with_capacity(self.runs.len());
        let mut next = 0;
        for run in &self.runs {
            starts.push(next);
            next += run[0].len();
        }
        let places: Vec<(usize, usize)> = groups
            .iter()
            .map(|group| {
                let run = starts.partition_point(|start| start <= group) - 1;
                (run, group - starts[run])
            })
            .collect();
        (0..self.schema.fields().len())
            .map(|column| {
                let parts: Vec<&dyn Array> =
                    self.runs.iter().map(|run| run[column].as_ref()).collect();
                if parts.is_empty() {
                    let data_type = self.schema.field(column).data_type();
                    return Ok(arrow::array::new_empty_array(data_type));
                }
                Ok(compute::interleave(&parts, &places)?)
            })
            .collect()
    }

    /// Per key whether it matches all patterns, which are given by column.
    pub fn matching(&self, patterns: &[(usize, Pattern)]) -> Result<Vec<bool>, EvalError> {
        let mut matching = vec![true; self.count];
        for (column, pattern) in patterns {
            let values = self.runs.iter().map(|run| &run[*column]);
            let values = values.flat_map(|run| (0..run.len()).map(move |row| (run, row)));
            for (matches, (run, row)) in matching.iter_mut().zip(values) {
                *matches = *matches && pattern.matches(&ScalarValue::try_from_array(run, row)?);
            }
        }
        Ok(matching)
    }

    /// Keeps the keys with these ascending numbers; `groups[i]` becomes `i`.
    pub fn keep(&mut self, groups: &[usize]) -> Result<(), EvalError> {
        let columns = self.columns(groups)?;
        // A new table, because some kinds of `GroupValues` are unsound after they were emptied.
        self.numbers = numbers_for(&self.schema)?;
        self.first_seen = FirstSeen::default();
        self.runs.clear();
        self.count = 0;
        if !groups.is_empty() {
            let mut renumbered = Vec::new();
            self.intern(&columns, &mut renumbered)?;
            debug_assert!(renumbered.iter().enumerate().all(|(i, group)| i == *group));
        }
        Ok(())
    }

    /// Writes all keys in the order of their numbers.
    pub fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.put(&self.count)?;
        out.columns(&self.columns(&(0..self.count).collect::<Vec<_>>())?)
    }

    /// Reads what [`save`](Self::save) wrote.
    pub fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        let (count, columns): (usize, _) = (from.get()?, from.columns()?);
        if count > 0 {
            self.intern(&columns, &mut Vec::new())?;
        }
        if self.count == count { Ok(()) } else { Err(misfit("a key stands there twice")) }
    }

    /// Bytes of state.
    pub fn bytes(&self) -> usize {
        let columns = self.runs.iter().flatten();
        let numbers = self.numbers.size() + self.first_seen.size();
        numbers + columns.map(|c| c.get_array_memory_size()).sum::<usize>()
    }
}

fn numbers_for(schema: &SchemaRef) -> Result<Box<dyn GroupValues>, EvalError> {
    // Without columns the table is never used; any will do.
    let schema = match schema.fields().is_empty() {
        true => Arc::new(Schema::new(vec![Field::new("none", DataType::Int64, true)])),
        false => Arc::clone(schema),
    };
    Ok(new_group_values(schema, &GroupOrdering::None)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringViewArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn keys_are_numbered_by_first_occurrence_and_given_back() {
        let mut keys = GroupKeys::new(vec![DataType::Int64, DataType::Utf8View]).unwrap();
        let mut groups = Vec::new();
        for round in 0..50i64 {
            let a = Int64Array::from(vec![Some(round), None, Some(round / 2)]);
            let b = StringViewArray::from(vec!["x", "y", "x"]);
            keys.intern(&[Arc::new(a), Arc::new(b)], &mut groups).unwrap();
        }
        assert_eq!(keys.len(), 51);
        assert!(keys.runs.len() <= 7, "{} runs", keys.runs.len());
        let columns = keys.columns(&[0, 1, 50]).unwrap();
        let a = columns[0].as_primitive::<Int64Type>();
        assert_eq!(a, &Int64Array::from(vec![Some(0), None, Some(49)]));
    }

    #[test]
    fn keys_that_share_a_hash_are_numbered_by_first_occurrence_too() {
        // Null in one column or in the other: one hash, two keys.
        let a: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(1), Some(2)]));
        let b: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(7), Some(1), Some(2)]));
        let mut keys = GroupKeys::new(vec![DataType::Int64, DataType::Int64]).unwrap();
        let mut groups = Vec::new();
        keys.intern(&[Arc::clone(&a), Arc::clone(&b)], &mut groups).unwrap();
        assert_eq!(groups, [0, 1, 2, 3]);
        assert_eq!(keys.len(), 4);
        let back = keys.columns(&[0, 1, 2, 3]).unwrap();
        assert!(back[0].to_data() == a.to_data() && back[1].to_data() == b.to_data());
    }

    #[test]
    fn keys_that_are_kept_are_renumbered_and_found_again() {
        let mut keys = GroupKeys::new(vec![DataType::Int64]).unwrap();
        let mut groups = Vec::new();
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
        keys.intern(&[Arc::clone(&column)], &mut groups).unwrap();
        keys.keep(&[3, 7]).unwrap();
        assert_eq!(keys.len(), 2);
        keys.intern(&[column], &mut groups).unwrap();
        assert_eq!(groups, [2, 3, 4, 0, 5, 6, 7, 1, 8, 9]);
        keys.keep(&[]).unwrap();
        assert!(keys.is_empty() && keys.columns(&[]).unwrap()[0].is_empty());
    }
}
