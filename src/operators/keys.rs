//! Gives every distinct key a small number, and the key back for the number.
//!
//! Numbers are dense from 0 in order of first appearance, so that state per key can live in plain
//! vectors. The hash table is DataFusion's `GroupValues`; this is the only module that touches it.
//! It is only ever interned into: reading it means emptying it, and some of its variants are left
//! in an undefined state by that. The keys themselves are kept here, in columns that only grow.
//! A single integer key whose values lie close together needs no hashing: a plain table maps them.
//!
//! # Invariants
//! K1. Row `i` of the key columns is the key with number `i`.
//! K2. `order` holds the numbers below its length, by key ascending, nulls last; `rank` inverts it.
//!
//! # State
//! One row of key columns, a table entry and 8 bytes per key, dead keys included until
//! [`KeyDictionary::retain`].

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, UInt32Array, make_comparator,
};
use arrow::compute::{self, SortOptions};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, SchemaRef,
};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use crate::operators::compact::compact;
use crate::operators::first_seen::FirstSeen;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, misfit};

/// Ascending, nulls behind everything: the order of emissions.
const ASCENDING: SortOptions = SortOptions { descending: false, nulls_first: false };

/// The keys of an operator and their numbers.
pub struct KeyDictionary {
    schema: SchemaRef,
    index: Index,
    first_seen: FirstSeen,
    /// The keys in order of their numbers; joined into one chunk when they are read.
    chunks: Vec<Vec<ArrayRef>>,
    len: usize,
    order: Vec<u32>,
    rank: Vec<u32>,
}

/// From key to number.
enum Index {
    /// No key columns: one key.
    Single,
    /// Integers that lie close together.
    Direct(DirectIndex),
    /// Anything.
    Hashed(Box<dyn GroupValues>),
}

impl KeyDictionary {
    /// A dictionary for keys of these columns; none at all means one key for all rows.
    pub fn new(schema: SchemaRef) -> Result<KeyDictionary, EvalError> {
        let index = match schema.fields().as_ref() {
            [] => Index::Single,
            [one] if DirectIndex::supports(one.data_type()) => {
                Index::Direct(DirectIndex::default())
            }
            _ => Index::Hashed(hashed(&schema)?),
        };
        let (chunks, order, rank) = (Vec::new(), Vec::new(), Vec::new());
        let first_seen = FirstSeen::default();
        Ok(KeyDictionary { schema, index, first_seen, chunks, len: 0, order, rank })
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
            Index::Direct(direct) => direct.table.capacity() * 4,
            Index::Hashed(groups) => groups.size(),
        };
        let keys = self.chunks.iter().flatten().map(|keys| keys.get_array_memory_size());
        let index = index + self.first_seen.size();
        index + keys.sum::<usize>() + 4 * (self.order.capacity() + self.rank.capacity())
    }

    /// The numbers of `rows` keys, into `ids`; new keys get the next numbers.
    pub fn intern(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        ids: &mut Vec<usize>,
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
        if let Index::Direct(direct) = &mut self.index
            && !direct.intern(&keys[0], self.len, ids)?
        {
            self.index = Index::Hashed(self.rehash()?);
        }
        if let Index::Hashed(groups) = &mut self.index {
            groups.intern(&keys, ids)?;
        }
        self.remember_new(&keys, ids)
    }

    /// Appends the keys that `ids` shows for the first time, and numbers them in that order.
    fn remember_new(&mut self, keys: &[ArrayRef], ids: &mut [usize]) -> Result<(), EvalError> {
        let first = self.first_seen.renumber(ids, self.len);
        if first.is_empty() {
            return Ok(());
        }
        self.len += first.len();
        let new = compute::take_arrays(keys, &UInt32Array::from(first), None)?;
        self.chunks.push(new.iter().map(compact).collect());
        Ok(())
    }

    fn rehash(&mut self) -> Result<Box<dyn GroupValues>, EvalError> {
        let mut groups = hashed(&self.schema)?;
        let keys = self.columns()?.to_vec();
        if self.len > 0 {
            let mut ids = Vec::new();
            groups.intern(&keys, &mut ids)?;
            self.first_seen.renumber(&mut ids, 0);
        }
        Ok(groups)
    }

    /// All keys, one row per number.
    fn columns(&mut self) -> Result<&[ArrayRef], EvalError> {
        if self.chunks.len() > 1 {
            let chunks = std::mem::take(&mut self.chunks);
            let joined = (0..self.schema.fields().len())
                .map(|column| {
                    let parts: Vec<&dyn Array> =
                        chunks.iter().map(|chunk| chunk[column].as_ref()).collect();
                    compute::concat(&parts).map(|keys| compact(&keys))
                })
                .collect::<Result<Vec<_>, _>>()?;
            self.chunks = vec![joined];
        }
        Ok(self.chunks.first().map_or(&[], Vec::as_slice))
    }

    /// The key columns of some numbers, in the order asked for.
    pub fn keys_of(&mut self, ids: &[u32]) -> Result<Vec<ArrayRef>, EvalError> {
        if matches!(self.index, Index::Single) {
            return Ok(Vec::new());
        }
        let indices = UInt32Array::from(ids.to_vec());
        if self.is_empty() {
            let fields = self.schema.fields().iter();
            return Ok(fields.map(|f| arrow::array::new_empty_array(f.data_type())).collect());
        }
        Ok(compute::take_arrays(self.columns()?, &indices, None)?)
    }

    /// Writes all keys in the order of their numbers.
    pub fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.put(&self.len)?;
        out.columns(self.columns()?)
    }

    /// Reads what [`save`](Self::save) wrote, into a new dictionary.
    pub fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        let (len, columns): (usize, _) = (from.get()?, from.columns()?);
        self.intern(&columns, len, &mut Vec::new())?;
        if self.len == len { Ok(()) } else { Err(misfit("a key stands there twice")) }
    }

    /// Sorts numbers by their keys, ascending, nulls last.
    pub fn sort_ids(&mut self, ids: &mut Vec<u32>) -> Result<(), EvalError> {
        if ids.len() < 2 {
            return Ok(());
        }
        self.rank_all()?;
        if ids.len() * 8 < self.len {
            ids.sort_unstable_by_key(|&id| self.rank[id as usize]);
            return Ok(());
        }
        // Most keys are asked for: walk all of them in order. Numbers asked for twice stay double.
        let mut wanted = vec![0_u32; self.len];
        for &id in ids.iter() {
            wanted[id as usize] += 1;
        }
        ids.clear();
        for &id in &self.order {
            ids.extend(std::iter::repeat_n(id, wanted[id as usize] as usize));
        }
        Ok(())
    }

    /// Brings `order` and `rank` up to date: sorts what is new and merges it in.
    fn rank_all(&mut self) -> Result<(), EvalError> {
        let known = self.order.len();
        if known == self.len {
            return Ok(());
        }
        let columns = self.columns()?.to_vec();
        let compare = comparator(&columns)?;
        let mut new: Vec<u32> = match columns.as_slice() {
            [one] if !one.data_type().is_nested() => {
                let fresh = one.slice(known, self.len - known);
                let sorted = compute::sort_to_indices(&fresh, Some(ASCENDING), None)?;
                sorted.values().iter().map(|&i| i + known as u32).collect()
            }
            _ => {
                let mut all: Vec<u32> = (known as u32..self.len as u32).collect();
                all.sort_unstable_by(|&a, &b| compare(a as usize, b as usize));
                all
            }
        };
        if known > 0 {
            let old = std::mem::take(&mut self.order);
            let (mut merged, mut rest) = (Vec::with_capacity(self.len), new.iter().peekable());
            for id in old {
                while let Some(&first) =
                    rest.next_if(|&&first| compare(first as usize, id as usize).is_lt())
                {
                    merged.push(first);
                }
                merged.push(id);
            }
            merged.extend(rest);
            new = merged;
        }
        self.order = new;
        self.rank.resize(self.len, 0);
        for (rank, &id) in self.order.iter().enumerate() {
            self.rank[id as usize] = rank as u32;
        }
        Ok(())
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

fn hashed(schema: &SchemaRef) -> Result<Box<dyn GroupValues>, EvalError> {
    Ok(new_group_values(Arc::clone(schema), &GroupOrdering::None)?)
}

/// Compares rows of columns.
fn comparator(columns: &[ArrayRef]) -> Result<impl Fn(usize, usize) -> Ordering, EvalError> {
    let comparators = columns
        .iter()
        .map(|column| make_comparator(column, column, ASCENDING))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(move |a, b| {
        let different = comparators.iter().map(|compare| compare(a, b));
        different.into_iter().find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    })
}

/// One representation per key: -0.0 becomes 0.0, and every NaN the same NaN.
fn canonical(keys: &ArrayRef) -> ArrayRef {
    match keys.data_type() {
        DataType::Float64 => {
            let of = |x: f64| if x.is_nan() { f64::NAN } else { x + 0.0 };
            Arc::new(keys.as_primitive::<Float64Type>().unary::<_, Float64Type>(of))
        }
        DataType::Float32 => {
            let of = |x: f32| if x.is_nan() { f32::NAN } else { x + 0.0 };
            Arc::new(keys.as_primitive::<Float32Type>().unary::<_, Float32Type>(of))
        }
        _ => Arc::clone(keys),
    }
}

/// A table from integer to number, for integers within a span not much larger than their number.
#[derive(Default)]
struct DirectIndex {
    /// The integer of the first entry.
    base: i64,
    /// Number of each integer from `base` on, [`NONE`](Self::NONE) where there is none.
    table: Vec<u32>,
    /// Number of the null key.
    null: Option<u32>,
}

impl DirectIndex {
    const NONE: u32 = u32::MAX;
    /// The largest table, in entries.
    const SPAN_MAX: i128 = 1 << 24;

    fn supports(data_type: &DataType) -> bool {
        matches!(data_type, DataType::Int64 | DataType::Int32 | DataType::Int16)
    }

    /// Interns, or returns false when the keys lie too far apart.
    fn intern(
        &mut self,
        keys: &ArrayRef,
        known: usize,
        ids: &mut Vec<usize>,
    ) -> Result<bool, EvalError> {
        match keys.data_type() {
            DataType::Int64 => Ok(self.intern_typed(keys.as_primitive::<Int64Type>(), known, ids)),
            DataType::Int32 => Ok(self.intern_typed(keys.as_primitive::<Int32Type>(), known, ids)),
            DataType::Int16 => Ok(self.intern_typed(keys.as_primitive::<Int16Type>(), known, ids)),
            other => Err(EvalError::Broken(format!("a key column changed its type to {other}"))),
        }
    }

    fn intern_typed<T>(
        &mut self,
        keys: &PrimitiveArray<T>,
        known: usize,
        ids: &mut Vec<usize>,
    ) -> bool
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i64>,
    {
        if let (Some(least), Some(greatest)) = (compute::min(keys), compute::max(keys))
            && !self.cover(least.into(), greatest.into(), known + keys.len())
        {
            return false;
        }
        let mut next = known as u32;
        let (table, base) = (self.table.as_mut_slice(), self.base);
        let mut number = |key: i64| {
            let entry = &mut table[key.wrapping_sub(base) as usize];
            if *entry == Self::NONE {
                *entry = next;
                next += 1;
            }
            *entry as usize
        };
        if keys.null_count() == 0 {
            ids.extend(keys.values().iter().map(|&key| number(key.into())));
            return true;
        }
        for key in keys {
            let id = match (key, self.null) {
                (Some(key), _) => {
                    let entry = &mut table[key.into().wrapping_sub(base) as usize];
                    if *entry == Self::NONE {
                        *entry = next;
                        next += 1;
                    }
                    *entry
                }
                (None, Some(null)) => null,
                (None, None) => {
                    self.null = Some(next);
                    next += 1;
                    next - 1
                }
            };
            ids.push(id as usize);
        }
        true
    }

    /// Makes the table reach from `least` to `greatest`, unless that is too far.
    fn cover(&mut self, least: i64, greatest: i64, keys: usize) -> bool {
        let (mut low, mut high) = (i128::from(least), i128::from(greatest) + 1);
        if !self.table.is_empty() {
            let base = i128::from(self.base);
            low = low.min(base);
            high = high.max(base + self.table.len() as i128);
        }
        let span = high - low;
        if span == self.table.len() as i128 {
            return true;
        }
        if span > Self::SPAN_MAX || span > 4_096.max(64 * keys as i128) {
            return false;
        }
        let below = if self.table.is_empty() { 0 } else { (i128::from(self.base) - low) as usize };
        let mut table = vec![Self::NONE; span as usize];
        table[below..below + self.table.len()].copy_from_slice(&self.table);
        (self.base, self.table) = (low as i64, table);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{Float64Array, Int64Array, StringViewArray};
    use arrow::datatypes::{Field, Schema};
    use arrow::util::display::array_value_to_string;
    use proptest::prelude::*;

    use super::*;

    fn dictionary(types: &[DataType]) -> KeyDictionary {
        let fields = types.iter().enumerate();
        let fields: Vec<Field> =
            fields.map(|(i, t)| Field::new(format!("k{i}"), t.clone(), true)).collect();
        KeyDictionary::new(Arc::new(Schema::new(fields))).unwrap()
    }

    fn intern(dictionary: &mut KeyDictionary, keys: &[ArrayRef]) -> Vec<usize> {
        let mut ids = Vec::new();
        dictionary.intern(keys, keys[0].len(), &mut ids).unwrap();
        ids
    }

    fn integers(keys: &[Option<i64>]) -> ArrayRef {
        Arc::new(Int64Array::from(keys.to_vec()))
    }

    fn show(columns: &[ArrayRef]) -> Vec<String> {
        (0..columns[0].len())
            .map(|row| {
                let values =
                    columns.iter().map(|column| array_value_to_string(column, row).unwrap());
                values.collect::<Vec<_>>().join(",")
            })
            .collect()
    }

    #[test]
    fn without_key_columns_all_rows_share_one_key() {
        let mut dictionary = dictionary(&[]);
        let mut ids = Vec::new();
        dictionary.intern(&[], 3, &mut ids).unwrap();
        assert_eq!(ids, [0, 0, 0]);
        assert!(dictionary.keys_of(&[0]).unwrap().is_empty());
        assert_eq!(dictionary.retain(&[true]).unwrap(), [0]);
    }

    #[test]
    fn a_null_is_a_key_of_its_own_and_comes_last() {
        let mut dictionary = dictionary(&[DataType::Int64]);
        let ids = intern(&mut dictionary, &[integers(&[Some(7), None, Some(-7), None, Some(7)])]);
        assert_eq!(ids, [0, 1, 2, 1, 0]);
        let mut sorted = vec![0, 1, 2];
        dictionary.sort_ids(&mut sorted).unwrap();
        assert_eq!(sorted, [2, 0, 1]);
    }

    #[test]
    fn zeros_of_both_signs_and_all_nans_are_one_key_each() {
        let other_nan = f64::from_bits(f64::NAN.to_bits() | 1 | 1 << 63);
        let keys: ArrayRef =
            Arc::new(Float64Array::from(vec![-0.0, 0.0, f64::NAN, other_nan, -0.0]));
        let mut dictionary = dictionary(&[DataType::Float64]);
        assert_eq!(intern(&mut dictionary, &[keys]), [0, 0, 1, 1, 0]);
        assert_eq!(show(&dictionary.keys_of(&[0, 1]).unwrap()), ["0.0", "NaN"]);
    }

    #[test]
    fn integers_far_apart_move_to_the_hash_table_and_keep_their_numbers() {
        let mut dictionary = dictionary(&[DataType::Int64]);
        assert_eq!(intern(&mut dictionary, &[integers(&[Some(5), Some(3), None])]), [0, 1, 2]);
        let far = [Some(i64::MAX), Some(3), Some(i64::MIN), None];
        assert_eq!(intern(&mut dictionary, &[integers(&far)]), [3, 1, 4, 2]);
        let all = dictionary.keys_of(&[0, 1, 2, 3, 4]).unwrap();
        assert_eq!(show(&all), ["5", "3", "", "9223372036854775807", "-9223372036854775808"]);
    }

    #[test]
    fn keys_do_not_keep_the_rows_alive_that_brought_them() {
        let long: StringViewArray =
            (0..1_000).map(|i| Some(format!("a text of some length {}", i % 2))).collect();
        let mut dictionary = dictionary(&[DataType::Utf8View]);
        intern(&mut dictionary, &[Arc::new(long)]);
        let keys = dictionary.keys_of(&[0, 1]).unwrap();
        assert!(keys[0].get_array_memory_size() < 2_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn numbers_keys_and_order_match_a_map(
            batches in prop::collection::vec(
                prop::collection::vec((prop::option::of(-5..40_i64), 0..4_u8), 1..30), 1..6),
            two in any::<bool>(), scale in prop::sample::select(vec![1_i64, 1 << 50]),
            drop_one_in in 1..4_usize,
        ) {
            let types = [DataType::Int64, DataType::Utf8View];
            let mut dictionary = dictionary(&types[..1 + usize::from(two)]);
            let mut known: BTreeMap<(bool, i64, String), usize> = BTreeMap::new();
            for (number, batch) in batches.iter().enumerate() {
                let texts: StringViewArray =
                    batch.iter().map(|row| Some(format!("text number {}", row.1))).collect();
                let numbers: Vec<Option<i64>> =
                    batch.iter().map(|row| row.0.map(|n| n * scale)).collect();
                let columns = [integers(&numbers), Arc::new(texts) as ArrayRef];
                let ids = intern(&mut dictionary, &columns[..1 + usize::from(two)]);
                for (row, id) in batch.iter().zip(ids) {
                    let text = if two { format!("text number {}", row.1) } else { String::new() };
                    let key = (row.0.is_none(), row.0.unwrap_or(0), text);
                    let next = known.len();
                    prop_assert_eq!(*known.entry(key).or_insert(next), id);
                }
                let mut sorted: Vec<u32> = (0..known.len() as u32).rev().collect();
                dictionary.sort_ids(&mut sorted).unwrap();
                let expected: Vec<u32> = known.values().map(|&id| id as u32).collect();
                prop_assert_eq!(&sorted, &expected);
                if number % 2 == 1 {
                    let live: Vec<bool> = (0..known.len()).map(|id| id % drop_one_in == 0).collect();
                    let renumbered = dictionary.retain(&live).unwrap();
                    known.retain(|_, id| {
                        *id = renumbered[*id] as usize;
                        *id != u32::MAX as usize
                    });
                    prop_assert_eq!(dictionary.len(), known.len());
                }
            }
        }
    }
}
