//! Says to which of several shards a key belongs.
//!
//! The hash is ours and never changes ([`crate::sketches::hash`]): a snapshot names the [`METHOD`] by which
//! its keys were spread, and a state that was spread otherwise is spread anew. It takes the high bits of
//! a hash that no table of keys uses, so that a shard's table is as even as that of all keys.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    BinaryType, BinaryViewType, DataType, Decimal128Type, LargeBinaryType, LargeUtf8Type,
    StringViewType, Utf8Type,
};

use super::hashed::fill_fixed;
use crate::data::floats::canonical;
use crate::operators::operator::EvalError;
use crate::sketches::hash;

/// The number of this way to spread keys; another way gets another.
pub const METHOD: u32 = 1;
/// Stands for a null.
const NULL: u64 = 0x6e75_6c6c;

/// Whether keys of this type can be spread.
pub fn is_spreadable(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
    match data_type {
        DataType::Boolean | DataType::Decimal128(..) => true,
        Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView => true,
        other => matches!(other.primitive_width(), Some(1 | 2 | 4 | 8)),
    }
}

/// The rows of `range` by the shard that their keys belong to, ascending. There is a key column at least.
pub fn spread(
    keys: &[ArrayRef],
    range: Range<usize>,
    shards: usize,
) -> Result<Vec<Vec<u32>>, EvalError> {
    let count = range.len();
    let mut hashes: Vec<u64> = Vec::new();
    for (column, keys) in keys.iter().enumerate() {
        let keys = canonical(&keys.slice(range.start, count));
        let (mut words, is_hashed) = words(&keys)?;
        if let Some(nulls) = keys.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
            let valid = words.iter_mut().zip(nulls.iter());
            valid.filter(|(_, valid)| !valid).for_each(|(word, _)| *word = NULL);
        }
        if column == 0 {
            if !is_hashed {
                words.iter_mut().for_each(|word| *word = hash::of_word(*word));
            }
            hashes = words;
        } else {
            let both = hashes.iter_mut().zip(words);
            both.for_each(|(hash, word)| *hash = hash::of_word(hash.rotate_left(23) ^ word));
        }
    }
    // Places for all, so that no list grows while it is filled.
    let mut rows = vec![vec![0_u32; count]; shards];
    let mut next = vec![0; shards];
    for (row, hash) in (range.start as u32..).zip(hashes) {
        let shard = shard_of(hash, shards);
        rows[shard][next[shard]] = row;
        next[shard] += 1;
    }
    rows.iter_mut().zip(next).for_each(|(rows, length)| rows.truncate(length));
    Ok(rows)
}

fn shard_of(hash: u64, shards: usize) -> usize {
    ((u128::from(hash) * shards as u128) >> 64) as usize
}

/// A word for each row, equal for equal keys; whether it is a hash already.
fn words(keys: &ArrayRef) -> Result<(Vec<u64>, bool), EvalError> {
    let mut words = Vec::with_capacity(keys.len());
    macro_rules! texts {
        ($texts:expr) => {{
            let texts = $texts;
            words.extend((0..texts.len()).map(|row| match texts.is_null(row) {
                true => NULL,
                false => hash::of_bytes(AsRef::<[u8]>::as_ref(texts.value(row))),
            }));
        }};
    }
    match keys.data_type() {
        DataType::Utf8 => texts!(keys.as_bytes::<Utf8Type>()),
        DataType::LargeUtf8 => texts!(keys.as_bytes::<LargeUtf8Type>()),
        DataType::Binary => texts!(keys.as_bytes::<BinaryType>()),
        DataType::LargeBinary => texts!(keys.as_bytes::<LargeBinaryType>()),
        DataType::Utf8View => texts!(keys.as_byte_view::<StringViewType>()),
        DataType::BinaryView => texts!(keys.as_byte_view::<BinaryViewType>()),
        DataType::Decimal128(..) => {
            let values = keys.as_primitive::<Decimal128Type>().values().iter();
            words.extend(values.map(|&v| hash::of_word(v as u64) ^ (v >> 64) as u64));
            return Ok((words, false));
        }
        _ => {
            fill_fixed(keys, &mut words)?;
            return Ok((words, false));
        }
    }
    Ok((words, true))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Float64Array, Int64Array, StringArray, StringViewArray};

    use super::*;

    fn shards(keys: &[ArrayRef], count: usize) -> Vec<usize> {
        let rows = keys[0].len();
        let mut shards = vec![usize::MAX; rows];
        for cut in [0, rows / 3, rows] {
            // However the rows are cut.
            let parts = [0..cut, cut..rows].map(|range| spread(keys, range, count).unwrap());
            for (shard, row) in parts.iter().flat_map(|p| {
                p.iter().enumerate().flat_map(|(shard, rows)| rows.iter().map(move |r| (shard, *r)))
            }) {
                let known = std::mem::replace(&mut shards[row as usize], shard);
                assert!(known == shard || known == usize::MAX);
            }
            assert!(parts.iter().flatten().all(|rows| rows.is_sorted()));
        }
        shards
    }

    #[test]
    fn equal_keys_go_to_one_shard_and_all_shards_have_work() {
        let integers: ArrayRef =
            Arc::new(Int64Array::from_iter_values((0..4_000).map(|i| i % 1_000)));
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values(
            (0..4_000).map(|i| format!("key {}", i % 1_000)),
        ));
        let decimals: ArrayRef =
            Arc::new(Decimal128Array::from_iter_values((0..4_000).map(|i| i % 1_000 - 500)));
        for keys in [vec![Arc::clone(&integers)], vec![texts], vec![decimals, integers]] {
            for count in [1, 2, 3, 7] {
                let shards = shards(&keys, count);
                assert!((0..4_000).all(|row| shards[row] == shards[row % 1_000]));
                for shard in 0..count {
                    let share = shards.iter().filter(|s| **s == shard).count();
                    assert!(share * count * 4 > 4_000 * 3, "{share} of 4000 in one of {count}");
                }
            }
        }
    }

    #[test]
    fn what_is_one_key_for_sql_is_one_key_here() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![
            Some(0.0),
            Some(-0.0),
            Some(f64::NAN),
            Some(-f64::NAN),
            None,
            None,
        ]));
        for count in 2..20 {
            let shards = shards(&[Arc::clone(&floats)], count);
            assert!(shards[0] == shards[1] && shards[2] == shards[3] && shards[4] == shards[5]);
        }
        let nulls: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>; 3]));
        let shards = shards(&[nulls], 16);
        assert!(shards.iter().all(|shard| *shard == shards[0]));
    }

    #[test]
    fn the_way_is_the_one_that_snapshots_name() {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..12));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values([
            "a",
            "b",
            "c",
            "",
            "long enough for two words",
        ]));
        assert_eq!(METHOD, 1, "another way to spread keys has another number");
        assert_eq!(shards(&[keys], 4), [0, 2, 3, 2, 0, 2, 2, 0, 3, 2, 0, 1]);
        assert_eq!(shards(&[texts], 4), [3, 1, 2, 3, 2]);
    }
}
