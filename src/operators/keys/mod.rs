//! Gives every distinct key a small number, and the key back for the number.
//!
//! Numbers are dense from 0 in the order of first appearance, so that state per key can live in
//! plain vectors. Which table finds a number depends on the columns:
//!
//! | key | table |
//! |---|---|
//! | one integer, values close together | [`direct`]: the value is the place |
//! | one text | [`texts`]: short ones as they stand, long ones by their bytes |
//! | anything else | [`hashed`]: columns become machine words, and these are hashed |
//!
//! Both number a key the moment its first row comes by, so numbers never depend on how rows were cut
//! into batches. (DataFusion's `GroupValues` over several columns does not promise that: keys that
//! share a hash come after all others of their batch.) The keys themselves are kept here, in columns
//! that only grow.
//!
//! # Invariants
//! K1. Row `i` of the key columns is the key with number `i`.
//! K2. `order` holds the numbers below its length, by key ascending, nulls last; `rank` inverts it.
//!
//! # State
//! One row of key columns, a table entry and 8 bytes per key, dead keys included until
//! [`KeyDictionary::retain`].

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::kernels::cmp;
use arrow::compute::{self, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::scalar::ScalarValue;

use crate::data::floats::canonical;
use crate::data::punctuation::Pattern;
use crate::operators::compact::compact;
use crate::operators::operator::EvalError;

mod direct;
mod hashed;
mod long_texts;
mod persist;
pub mod ranking;
pub mod spread;
mod texts;

#[cfg(test)]
mod tests;

use direct::DirectIndex;
use hashed::HashedIndex;
use texts::TextIndex;

/// The keys of an operator and their numbers.
pub struct KeyDictionary {
    schema: SchemaRef,
    index: Index,
    /// The keys in order of their numbers, in runs that are joined when they are read.
    runs: Vec<Vec<ArrayRef>>,
    len: usize,
    order: Vec<u32>,
    rank: Vec<u32>,
    /// Keys at which a hash table of integers is looked at again.
    reviewed_at: usize,
    /// Keys for which there is to be room, while a snapshot is read.
    expected: usize,
}

/// How many integers may make it worth to give up a hash table.
const REVIEW_FROM: usize = if cfg!(test) { 8 } else { 65_536 };

/// From key to number.
enum Index {
    /// No key columns: one key.
    Single,
    /// Integers that lie close together.
    Direct(DirectIndex),
    /// One text.
    Text(Box<TextIndex>),
    /// Anything.
    Hashed(HashedIndex),
}

/// Numbers on their way to the rows of a batch.
struct Numbers<'a> {
    /// The number of each row so far.
    ids: &'a mut Vec<u32>,
    /// The rows that brought a key for the first time, ascending.
    firsts: Vec<u32>,
    /// The next number to give.
    next: u32,
}

impl Numbers<'_> {
    /// The number of a key that `row` brings for the first time.
    #[cold]
    fn give(&mut self, row: usize) -> u32 {
        assert!(self.next < u32::MAX, "more keys than numbers");
        self.firsts.push(row as u32);
        self.next += 1;
        self.next - 1
    }
}

/// Which values are the one that a pattern names, where it names one: most promises do, and there may be many
/// of them and many keys.
fn equal_to(column: &ArrayRef, pattern: &Pattern) -> Result<Option<BooleanArray>, EvalError> {
    let Pattern::OneOf(values) = pattern else { return Ok(None) };
    let [value] = values.as_slice() else { return Ok(None) };
    let data_type = column.data_type();
    if value.is_null() || data_type.is_nested() || value.data_type() != *data_type {
        return Ok(None);
    }
    let equal = cmp::eq(column, &value.to_scalar()?)?;
    Ok(Some(match equal.null_count() {
        0 => equal,
        _ => prep_null_mask_filter(&equal),
    }))
}

impl KeyDictionary {
    /// A dictionary for keys of these columns; none at all means one key for all rows.
    pub fn new(schema: SchemaRef) -> Result<KeyDictionary, EvalError> {
        let index = match schema.fields().as_ref() {
            [] => Index::Single,
            [one] if DirectIndex::supports(one.data_type()) => {
                Index::Direct(DirectIndex::default())
            }
            [one] if *one.data_type() == DataType::Utf8View => Index::Text(Box::default()),
            _ => Index::Hashed(HashedIndex::new(&schema)?),
        };
        let (runs, order, rank) = (Vec::new(), Vec::new(), Vec::new());
        let reviewed_at = REVIEW_FROM;
        Ok(KeyDictionary { schema, index, runs, len: 0, order, rank, reviewed_at, expected: 0 })
    }

    /// A dictionary for keys of these types.
    pub fn of_types(types: impl IntoIterator<Item = DataType>) -> Result<KeyDictionary, EvalError> {
        let fields = types.into_iter().enumerate();
        let fields: Vec<Field> =
            fields.map(|(i, t)| Field::new(format!("key{i}"), t, true)).collect();
        KeyDictionary::new(Arc::new(Schema::new(fields)))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        let index = match &self.index {
            Index::Single => 0,
            Index::Direct(direct) => direct.size(),
            Index::Text(texts) => texts.size(),
            Index::Hashed(hashed) => hashed.size(),
        };
        let keys = self.runs.iter().flatten().map(|keys| keys.get_array_memory_size());
        index + keys.sum::<usize>() + 4 * (self.order.capacity() + self.rank.capacity())
    }

    /// The numbers of `rows` keys, into `ids`; new keys get the next numbers.
    pub fn intern(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        ids: &mut Vec<u32>,
    ) -> Result<(), EvalError> {
        ids.clear();
        if rows == 0 {
            return Ok(());
        }
        if let Index::Single = self.index {
            ids.resize(rows, 0);
            self.len = 1;
            return Ok(());
        }
        let keys: Vec<ArrayRef> = keys.iter().map(canonical).collect();
        let firsts = self.number(&keys, rows, ids)?;
        self.remember(&keys, firsts)?;
        self.straighten()
    }

    /// Looks the keys of `rows` rows up in the index; gives the rows whose keys are new there.
    fn number(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        ids: &mut Vec<u32>,
    ) -> Result<Vec<u32>, EvalError> {
        let mut numbers = Numbers { ids, firsts: Vec::new(), next: self.len as u32 };
        if let Index::Direct(direct) = &mut self.index
            && !direct.intern(&keys[0], &mut numbers)?
        {
            numbers.ids.clear();
            numbers = Numbers { firsts: Vec::new(), next: self.len as u32, ..numbers };
            self.index = Index::Hashed(self.hash_all()?);
        }
        match &mut self.index {
            Index::Text(texts) => texts.intern(keys[0].as_string_view(), &mut numbers),
            Index::Hashed(hashed) => hashed.intern(keys, rows, &mut numbers)?,
            Index::Single | Index::Direct(_) => {}
        }
        Ok(numbers.firsts)
    }

    /// Goes over to a plain table once integers that seemed to lie far apart turn out to be many.
    fn straighten(&mut self) -> Result<(), EvalError> {
        let may_be_direct = matches!(self.schema.fields().as_ref(),
            [one] if DirectIndex::supports(one.data_type()));
        if !may_be_direct || !matches!(self.index, Index::Hashed(_)) || self.len < self.reviewed_at
        {
            return Ok(());
        }
        // Looking costs O(keys), so it waits until there are twice as many.
        self.reviewed_at = 2 * self.len;
        let mut direct = DirectIndex::default();
        let mut numbers = Numbers { ids: &mut Vec::new(), firsts: Vec::new(), next: 0 };
        if direct.intern(&self.columns()?[0], &mut numbers)? {
            self.index = Index::Direct(direct);
        }
        Ok(())
    }

    /// Keeps the keys that came for the first time.
    fn remember(&mut self, keys: &[ArrayRef], firsts: Vec<u32>) -> Result<(), EvalError> {
        if firsts.is_empty() {
            return Ok(());
        }
        self.len += firsts.len();
        let new = compute::take_arrays(keys, &UInt32Array::from(firsts), None)?;
        self.runs.push(new.iter().map(compact).collect());
        // A run is joined to the one before unless it is much smaller: that leaves few runs, and
        // copies each key a few times only.
        while let [.., earlier, later] = self.runs.as_slice()
            && later[0].len() * 2 >= earlier[0].len()
        {
            self.join_runs(self.runs.len() - 2)?;
        }
        Ok(())
    }

    /// A hash table of all keys.
    fn hash_all(&mut self) -> Result<HashedIndex, EvalError> {
        let mut hashed = HashedIndex::new(&self.schema)?;
        hashed.reserve(self.expected.max(self.len));
        if self.len > 0 {
            let rows = self.len;
            let keys = self.columns()?.to_vec();
            let mut numbers = Numbers { ids: &mut Vec::new(), firsts: Vec::new(), next: 0 };
            hashed.intern(&keys, rows, &mut numbers)?;
        }
        Ok(hashed)
    }

    /// Joins the runs from `first` on.
    fn join_runs(&mut self, first: usize) -> Result<(), EvalError> {
        let runs = self.runs.split_off(first);
        let joined = (0..self.schema.fields().len())
            .map(|column| {
                let parts: Vec<&dyn Array> = runs.iter().map(|run| run[column].as_ref()).collect();
                compute::concat(&parts).map(|keys| compact(&keys))
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.runs.push(joined);
        Ok(())
    }

    /// All keys, one row per number.
    fn columns(&mut self) -> Result<&[ArrayRef], EvalError> {
        if self.runs.is_empty() {
            let fields = self.schema.fields().iter();
            self.runs =
                vec![fields.map(|f| arrow::array::new_empty_array(f.data_type())).collect()];
        }
        if self.runs.len() > 1 {
            self.join_runs(0)?;
        }
        Ok(&self.runs[0])
    }

    /// The keys in runs of columns, in the order of their numbers.
    pub fn runs(&self) -> &[Vec<ArrayRef>] {
        &self.runs
    }

    /// The key columns of some numbers, in the order asked for.
    pub fn keys_of(&mut self, ids: &[u32]) -> Result<Vec<ArrayRef>, EvalError> {
        if matches!(self.index, Index::Single) {
            return Ok(Vec::new());
        }
        if self.runs.len() > 1 && ids.len() * 4 < self.len {
            return self.few_keys_of(ids);
        }
        let indices = UInt32Array::from(ids.to_vec());
        Ok(compute::take_arrays(self.columns()?, &indices, None)?)
    }

    /// The same without joining the runs, which a few keys are not worth.
    fn few_keys_of(&self, ids: &[u32]) -> Result<Vec<ArrayRef>, EvalError> {
        let mut starts = Vec::with_capacity(self.runs.len());
        let mut next = 0;
        for run in &self.runs {
            starts.push(next);
            next += run[0].len();
        }
        let place = |&id: &u32| {
            let run = starts.partition_point(|&start| start <= id as usize) - 1;
            (run, id as usize - starts[run])
        };
        let places: Vec<(usize, usize)> = ids.iter().map(place).collect();
        let columns = (0..self.schema.fields().len()).map(|column| {
            let parts: Vec<&dyn Array> = self.runs.iter().map(|run| run[column].as_ref()).collect();
            compute::interleave(&parts, &places)
        });
        Ok(columns.collect::<Result<_, _>>()?)
    }

    /// Per key whether it matches all patterns, which are given by column.
    pub fn matching(&mut self, patterns: &[(usize, Pattern)]) -> Result<Vec<bool>, EvalError> {
        let mut matching = vec![true; self.len];
        let columns = self.columns()?;
        for (column, pattern) in patterns {
            if let Some(equal) = equal_to(&columns[*column], pattern)? {
                let both = matching.iter_mut().zip(equal.values());
                both.for_each(|(matches, equal)| *matches &= equal);
                continue;
            }
            for (row, matches) in matching.iter_mut().enumerate().filter(|(_, m)| **m) {
                let value = ScalarValue::try_from_array(&columns[*column], row)?;
                *matches = pattern.matches(&value);
            }
        }
        Ok(matching)
    }

    /// Forgets every key that is not `live`. Gives for each old number the new one, `u32::MAX` for
    /// those forgotten; the others keep their order.
    pub fn retain(&mut self, live: &[bool]) -> Result<Vec<u32>, EvalError> {
        assert_eq!(live.len(), self.len);
        let mut renumbered = vec![u32::MAX; self.len];
        let kept: Vec<u32> = (0..self.len as u32).filter(|&id| live[id as usize]).collect();
        for (new, &old) in kept.iter().enumerate() {
            renumbered[old as usize] = new as u32;
        }
        let keys = self.keys_of(&kept)?;
        let order = self.order.iter().map(|&id| renumbered[id as usize]);
        let order: Vec<u32> = order.filter(|&id| id != u32::MAX).collect();
        let complete = self.order.len() == self.len;
        *self = KeyDictionary::new(Arc::clone(&self.schema))?;
        self.intern(&keys, kept.len(), &mut Vec::new())?;
        if complete {
            self.rank = vec![0; order.len()];
            for (rank, &id) in order.iter().enumerate() {
                self.rank[id as usize] = rank as u32;
            }
            self.order = order;
        }
        Ok(renumbered)
    }
}
