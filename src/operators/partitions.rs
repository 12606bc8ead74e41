//! Finds the state of each partition by the values of its columns, and gives it up again.
//!
//! Values are compared as GROUP BY compares them: nulls are equal, `-0.0` is `0.0`, every NaN is
//! the same. Why not the key dictionary of the aggregates: that one never forgets a key, and
//! partitions come and go.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::scalar::ScalarValue;
use hashbrown::HashMap;

use crate::data::floats::canonical;
use crate::data::punctuation::{Pattern, Punctuation, name_at};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored, misfit};

/// Punctuations that name more keys than this are matched against every partition.
const LOOKUPS_MAX: usize = 64;

/// States by partition. A slot is valid until its partition is removed.
#[derive(Debug)]
pub struct Partitions<T> {
    columns: Vec<usize>,
    names: Vec<String>,
    types: Vec<DataType>,
    /// `None` where there are no partition columns: all rows are one partition.
    converter: Option<RowConverter>,
    slots: HashMap<Box<[u8]>, usize>,
    entries: Vec<Option<Entry<T>>>,
    free: Vec<usize>,
    births: u64,
    key_bytes: usize,
}

/// One partition.
#[derive(Debug)]
pub struct Entry<T> {
    key: Box<[u8]>,
    /// Partitions in the order of their first row have ascending births.
    pub birth: u64,
    /// What the owner keeps.
    pub state: T,
}

/// The partition keys of a batch's rows.
#[derive(Debug)]
pub struct PartitionKeys(Option<Rows>);

impl<T: Default + Stored> Partitions<T> {
    /// Writes all partitions with their slots.
    pub fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.length(self.entries.len());
        for entry in &self.entries {
            out.put(&entry.is_some())?;
            if let Some(Entry { key, birth, state }) = entry {
                out.put(key)?;
                out.put(birth)?;
                out.put(state)?;
            }
        }
        out.put(&self.free)?;
        out.put(&self.births)
    }

    /// Reads what [`save`](Self::save) wrote, where there are no partitions yet.
    pub fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        for slot in 0..from.length()? {
            let entry = match from.get::<bool>()? {
                true => Some(Entry { key: from.get()?, birth: from.get()?, state: from.get()? }),
                false => None,
            };
            if let Some(Entry { key, .. }) = &entry {
                self.slots.insert(key.clone(), slot);
                self.key_bytes += 2 * key.len();
            }
            self.entries.push(entry);
        }
        self.free = from.get()?;
        self.births = from.get()?;
        match self.free.iter().all(|&slot| self.entries.get(slot).is_some_and(Option::is_none)) {
            true => Ok(()),
            false => Err(misfit("a partition's slot is free")),
        }
    }
}

impl<T: Default> Partitions<T> {
    /// No partitions yet, by columns of `schema`.
    pub fn new(schema: &SchemaRef, columns: &[usize]) -> Result<Partitions<T>, EvalError> {
        let types: Vec<DataType> =
            columns.iter().map(|&column| schema.field(column).data_type().clone()).collect();
        let converter = if columns.is_empty() {
            None
        } else {
            Some(RowConverter::new(types.iter().cloned().map(SortField::new).collect())?)
        };
        Ok(Partitions {
            columns: columns.to_vec(),
            names: columns.iter().map(|&column| name_at(schema, column)).collect(),
            types,
            converter,
            slots: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            births: 0,
            key_bytes: 0,
        })
    }

    /// The names that punctuations have for the partition columns, where there are any.
    pub fn rename(&mut self, names: &[String]) {
        if !names.is_empty() {
            assert_eq!(names.len(), self.columns.len(), "one name per partition column");
            self.names = names.to_vec();
        }
    }

    /// The keys of a batch's rows.
    pub fn keys(&self, batch: &RecordBatch) -> Result<PartitionKeys, EvalError> {
        let columns: Vec<ArrayRef> =
            self.columns.iter().map(|&column| canonical(batch.column(column))).collect();
        let rows = match &self.converter {
            Some(converter) => Some(converter.convert_columns(&columns)?),
            None => None,
        };
        Ok(PartitionKeys(rows))
    }

    /// The slot of the partition of a row, which is made where there is none.
    pub fn slot(&mut self, keys: &PartitionKeys, row: usize) -> usize {
        let key = keys.0.as_ref().map_or(&[][..], |rows| rows.row(row).data());
        if let Some(&slot) = self.slots.get(key) {
            return slot;
        }
        let key: Box<[u8]> = key.into();
        let entry = Entry { key: key.clone(), birth: self.births, state: T::default() };
        self.births += 1;
        self.key_bytes += 2 * key.len();
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot] = Some(entry);
                slot
            }
            None => {
                self.entries.push(Some(entry));
                self.entries.len() - 1
            }
        };
        self.slots.insert(key, slot);
        slot
    }

    /// The partition in a slot, if it still is the one of that birth.
    pub fn get_born(&self, slot: usize, birth: u64) -> Option<&Entry<T>> {
        self.entries.get(slot)?.as_ref().filter(|entry| entry.birth == birth)
    }

    /// The slots of those partitions, named by slot and birth, that are still there.
    pub fn living(&self, named: impl IntoIterator<Item = (usize, u64)>) -> Vec<usize> {
        let named = named.into_iter();
        let living = named.filter(|&(slot, birth)| self.get_born(slot, birth).is_some());
        living.map(|(slot, _)| slot).collect()
    }

    /// The partition in a slot.
    pub fn entry(&self, slot: usize) -> &Entry<T> {
        self.entries[slot].as_ref().expect("the slot of a partition is valid until it is removed")
    }

    /// The partition in a slot, to change.
    pub fn entry_mut(&mut self, slot: usize) -> &mut Entry<T> {
        self.entries[slot].as_mut().expect("the slot of a partition is valid until it is removed")
    }

    /// Gives up a partition.
    pub fn remove(&mut self, slot: usize) -> Entry<T> {
        let entry = self.entries[slot].take().expect("a partition is removed once");
        self.key_bytes -= 2 * entry.key.len();
        self.slots.remove(&entry.key);
        self.free.push(slot);
        if self.slots.is_empty() {
            // Nobody holds a slot: all numbers are free, and so is their room.
            (self.entries, self.free) = (Vec::new(), Vec::new());
            self.slots = HashMap::new();
        }
        entry
    }

    /// Every partition with its slot, in the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Entry<T>)> {
        self.entries.iter().enumerate().filter_map(|(slot, entry)| Some((slot, entry.as_ref()?)))
    }

    /// Number of partitions.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are partition columns.
    pub fn is_keyed(&self) -> bool {
        self.converter.is_some()
    }

    /// Whether there is no partition.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes held, without what the states hold beyond themselves.
    pub fn state_bytes(&self) -> usize {
        self.key_bytes
            + self.entries.capacity() * size_of::<Option<Entry<T>>>()
            + self.slots.capacity() * size_of::<(Box<[u8]>, usize)>()
    }

    /// The partitions to which no row can be added after the punctuation, in the order of their
    /// first rows; `None` when it says nothing about whole partitions.
    pub fn covered(&self, punctuation: &Punctuation) -> Result<Option<Vec<usize>>, EvalError> {
        let about_partitions = |(name, _): &(String, Pattern)| self.names.contains(name);
        if !punctuation.columns.iter().all(about_partitions) {
            return Ok(None);
        }
        let mut covered = match self.constants(punctuation) {
            Some(columns) => self.look_up(&columns)?,
            None => self.matching(punctuation)?,
        };
        covered.sort_unstable_by_key(|&slot| self.entry(slot).birth);
        covered.dedup();
        Ok(Some(covered))
    }

    /// The keys that a punctuation names one by one, in columns.
    fn constants(&self, punctuation: &Punctuation) -> Option<Vec<Vec<ScalarValue>>> {
        let mut keys: Vec<Vec<ScalarValue>> = vec![Vec::new()];
        for (name, data_type) in self.names.iter().zip(&self.types) {
            let Some(Pattern::OneOf(values)) = punctuation.pattern(name) else { return None };
            if values.iter().any(|value| value.data_type() != *data_type)
                || keys.len() * values.len() > LOOKUPS_MAX
            {
                return None;
            }
            let with = |key: &Vec<ScalarValue>, value: &ScalarValue| {
                key.iter().chain([value]).cloned().collect()
            };
            keys = keys
                .iter()
                .flat_map(|key| values.iter().map(move |value| with(key, value)))
                .collect();
        }
        keys.retain(|key| key.iter().all(|value| !value.is_null()));
        Some(keys)
    }

    fn look_up(&self, keys: &[Vec<ScalarValue>]) -> Result<Vec<usize>, EvalError> {
        let mut found = Vec::new();
        for key in keys {
            let columns = key
                .iter()
                .map(|value| Ok(canonical(&value.to_array()?)))
                .collect::<Result<Vec<_>, EvalError>>()?;
            let slot = match &self.converter {
                Some(converter) => {
                    self.slots.get(converter.convert_columns(&columns)?.row(0).data())
                }
                None => self.slots.get(&[][..]),
            };
            found.extend(slot);
        }
        Ok(found)
    }

    fn matching(&self, punctuation: &Punctuation) -> Result<Vec<usize>, EvalError> {
        let Some(converter) = &self.converter else {
            return Ok(self.iter().map(|(slot, _)| slot).collect());
        };
        let parser = converter.parser();
        let keys = self.iter().map(|(_, entry)| parser.parse(&entry.key));
        let columns = converter.convert_rows(keys)?;
        let mut found = Vec::new();
        'partitions: for (row, (slot, _)) in self.iter().enumerate() {
            for (name, column) in self.names.iter().zip(&columns) {
                if let Some(pattern) = punctuation.pattern(name)
                    && !pattern.matches(&ScalarValue::try_from_array(column, row)?)
                {
                    continue 'partitions;
                }
            }
            found.push(slot);
        }
        Ok(found)
    }
}

/// The punctuation in the names of an operator's output, if every column it constrains is there.
/// `columns` are pairs of input column and output column.
pub fn renamed(
    punctuation: &Punctuation,
    input: &SchemaRef,
    output: &SchemaRef,
    columns: &[(usize, usize)],
) -> Option<Arc<Punctuation>> {
    let name_of = |name: &str| {
        let (_, to) = columns.iter().find(|&&(from, _)| name_at(input, from) == name)?;
        Some(name_at(output, *to))
    };
    punctuation.renamed(name_of).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn partitions() -> (Partitions<()>, RecordBatch) {
        let schema = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Float64, true),
        ]));
        let a = Int64Array::from(vec![Some(2), Some(1), Some(2), None, None, Some(2)]);
        let b = Float64Array::from(vec![0.0, 0.0, -0.0, f64::NAN, -f64::NAN, 5.0]);
        let batch =
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(a), Arc::new(b)]).unwrap();
        (Partitions::new(&schema, &[0, 1]).unwrap(), batch)
    }

    fn one_of(name: &str, value: impl Into<ScalarValue>) -> (String, Pattern) {
        (name.to_owned(), Pattern::OneOf(vec![value.into()]))
    }

    #[test]
    fn equal_values_share_a_partition_and_slots_are_used_again() {
        let (mut partitions, batch) = partitions();
        let keys = partitions.keys(&batch).unwrap();
        let slots: Vec<usize> = (0..6).map(|row| partitions.slot(&keys, row)).collect();
        assert_eq!(slots, [0, 1, 0, 2, 2, 3]);
        partitions.remove(1);
        assert_eq!(partitions.slot(&keys, 1), 1);
        assert_eq!(partitions.entry(1).birth, 4);
        assert!(partitions.get_born(1, 1).is_none());
    }

    #[test]
    fn a_punctuation_covers_the_partitions_that_it_says_everything_about() {
        let (mut partitions, batch) = partitions();
        let keys = partitions.keys(&batch).unwrap();
        for row in 0..6 {
            partitions.slot(&keys, row);
        }
        let covered = |columns: Vec<_>| partitions.covered(&Punctuation { columns }).unwrap();
        assert_eq!(covered(vec![one_of("a", 2i64)]), Some(vec![0, 3]));
        assert_eq!(covered(vec![one_of("a", 2i64), one_of("b", -0.0f64)]), Some(vec![0]));
        assert_eq!(covered(vec![one_of("a", 7i64), one_of("b", 5.0f64)]), Some(vec![]));
        assert_eq!(covered(vec![one_of("a", 2i64), one_of("other", 1i64)]), None);
        assert_eq!(covered(vec![]), Some(vec![0, 1, 2, 3]));
    }
}
